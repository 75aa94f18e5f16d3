"""One of two processes of test_distributed.py, by torchrun. Usage: two_processes.py FOLDER writes FOLDER/rankN.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from toy_training import SignalAt, make_toy

from pipeline.training.distributed import distributed
from pipeline.training.stop_signal import Interrupted

folder = Path(sys.argv[1])
with distributed("cpu", 1) as context:
    results: dict[str, object] = {
        "mean": context.mean({"a": float(context.rank), "b": 4.0}),
        "max": context.max(context.rank + 5),
        "broadcast": context.broadcast(float(context.rank + 7)),
    }
    context.check_equal([torch.ones(3), torch.zeros(())], 1)
    try:
        context.check_equal([torch.ones(3), torch.full((), 1e-7 * context.rank)], 2)
    except RuntimeError as error:
        results["unequal"] = str(error)
    toy = make_toy(folder / f"series{context.rank}")
    model = toy.model(dropout=0.0, seed=context.rank)  # DDP gives both the weights of rank 0
    messages: list[str] = []
    toy.fit(model, folder / "two", context=context, log=messages.append)
    results["messages"] = messages
    results["weights"] = [p.detach().flatten().tolist() for p in model.parameters()]
    samples = SignalAt(toy.train, 30) if context.rank == 1 else toy.train  # a signal to one rank stops both
    try:
        toy.fit(toy.model(), folder / "stopped", train=samples, context=context)
    except Interrupted as stop:
        results["stopped"] = stop.exit_code
    (folder / f"rank{context.rank}.json").write_text(json.dumps(results))
