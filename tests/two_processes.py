"""What test_training.py runs under torchrun: one rank of two. Usage: two_processes.py FOLDER; writes FOLDER/rankN.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from toy_training import SignalAt, make_toy

from pipeline.training.runtime import Interrupted, runtime

folder = Path(sys.argv[1])
with runtime("cpu", 1) as place:
    found: dict[str, object] = {
        "mean": place.mean({"a": float(place.rank), "b": 4.0}),
        "largest": place.largest(place.rank + 5),
        "agree": place.agree(float(place.rank + 7)),
    }
    place.check_equal([torch.ones(3), torch.zeros(())], 1)
    try:
        place.check_equal([torch.ones(3), torch.full((), 1e-7 * place.rank)], 2)
    except RuntimeError as error:
        found["unequal"] = str(error)
    toy = make_toy(folder / f"series{place.rank}")
    model = toy.model(dropout=0.0, seed=place.rank)  # DDP gives both the weights of rank 0
    said: list[str] = []
    toy.fit(model, folder / "two", place=place, say=said.append)
    found["said"] = said
    found["weights"] = [p.detach().flatten().tolist() for p in model.parameters()]
    samples = SignalAt(toy.train, 30) if place.rank == 1 else toy.train  # one rank is asked to stop, both have to
    try:
        toy.fit(toy.model(), folder / "stopped", train=samples, place=place)
    except Interrupted as stop:
        found["stopped"] = stop.exit_code
    (folder / f"rank{place.rank}.json").write_text(json.dumps(found))
