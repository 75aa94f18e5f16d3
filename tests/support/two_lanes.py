"""One rank of two that tests/training/test_tbptt.py runs under torchrun: a language model whose lanes end at different
steps. Usage: two_lanes.py FOLDER; writes FOLDER/rankN.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from every_head import WORDS, text_model, text_source
from toy_training import SETTINGS

from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import Row
from pipeline.data.sampler import TbpttSampler
from pipeline.training.distributed import distributed, seed_step
from pipeline.training.fit import Session, fit
from pipeline.training.tracking import Tracker

ROWS = [Row(str(i), "train", text=" ".join(WORDS[:length])) for i, length in enumerate((3, 30))]
TBPTT = SETTINGS.model_copy(update={"tbptt": True, "batch_size": 2, "epochs": 2})

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with distributed("cpu", 1) as context:
        seed_step(0, -1, 0)
        model, tokenizer = text_model(ROWS, "language")
        dataset = RowDataset(ROWS, text_source(ROWS, tokenizer), {"language": model.head("language").target}, window=4)
        windows = [key[-1] for keys in TbpttSampler(dataset.full_lengths, 4, 2, 0, context.rank, 2) for key in keys]
        with Tracker(
            folder / "run",
            {},
            mode="off",
            project="-",
            name=None,
            tags=(),
            from_step=None,
            log=lambda text: None,
            is_active=context.is_first,
        ) as tracker:
            progress = fit(Session(model, TBPTT, context, tracker, lambda text: None), dataset, None, 0)
        weights = [float(p.detach().double().sum()) for p in model.parameters()]
        result = {"windows": windows, "steps": progress.step, "weights": weights, "finite": True}
        result["finite"] = all(bool(torch.isfinite(p).all()) for p in model.parameters())
        (folder / f"rank{context.rank}.json").write_text(json.dumps(result))
