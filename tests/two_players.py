"""What test_generate.py runs under torchrun: one rank of two. Usage: two_players.py FOLDER; writes FOLDER/rankN.json."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from test_generate import _bytes, _Toy
from toy_training import PLAN

from pipeline.training.runtime import runtime

folder = Path(sys.argv[1])
with runtime("cpu", 1) as place:
    made = _Toy(folder / f"series{place.rank}")
    model = made.model(seed=place.rank)  # DDP gives both the weights of rank 0
    now = made.toy.fit(model, folder / "run", replace(PLAN, betas=(0.0, 0.99)), val=False, place=place)
    digest = hashlib.sha256()
    for name, value in sorted(_bytes(model).items()):
        digest.update(name.encode() + value)
    (folder / f"rank{place.rank}.json").write_text(json.dumps({"digest": digest.hexdigest(), "steps": now.step}))
