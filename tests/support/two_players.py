"""One rank of two that tests/training/test_adversarial.py runs under torchrun: it trains a GAN.

Usage: two_players.py FOLDER; writes FOLDER/rankN.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from toy_generate import GenerateToy, state_bytes
from toy_training import SETTINGS

from pipeline.training.distributed import distributed

folder = Path(sys.argv[1])
with distributed("cpu", 1) as context:
    toy = GenerateToy(folder / f"series{context.rank}")
    model = toy.model(seed=context.rank)  # DDP gives both the weights of rank 0
    settings = SETTINGS.model_copy(update={"betas": (0.0, 0.99)})
    progress = toy.toy.fit(model, folder / "run", settings, val=False, context=context)
    digest = hashlib.sha256()
    for name, value in sorted(state_bytes(model).items()):
        digest.update(name.encode() + value)
    result = {"digest": digest.hexdigest(), "steps": progress.step}
    (folder / f"rank{context.rank}.json").write_text(json.dumps(result))
