"""A small model that generates frames, and its batches, for tests."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config.architecture import Architecture
from pipeline.config.base import validate
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.generate_frames import GenerateFrames
from pipeline.models.model import Model
from pipeline.padded import Padded


def frames_model(size: int = 16, **head: Any) -> Model:
    """A model in training mode with a generate head `clip`; `head` adds settings to it."""
    clip = {
        "kind": "generate",
        "makes": "frames",
        "channels": 8,
        "hidden": 16,
        "content_size": 6,
        "pose_size": 4,
        "critic": {"hidden": 12, "channels": 8},
    }
    settings = {
        "clock": {"rate": 2},
        "encoder": {"kind": "frames", "backbone": "pixels", "size": size, "project": 0},
        "core": {"hidden": 8, "input_dropout": 0},
        "heads": {"clip": {**clip, **head}},
    }
    return validate(Architecture, settings, "x").build({"clip": Vocabulary.of(["down", "up"])}).train()


def frames_head(model: Model) -> GenerateFrames:
    """The head of such a model."""
    head = model.head("clip")
    assert isinstance(head, GenerateFrames)
    return head


def frames_batch(lengths: tuple[int, ...] = (6, 4, 5), size: int = 16) -> Batch:
    """Random clips of these lengths, of both classes in turn."""
    data = torch.randint(0, 256, (len(lengths), max(lengths), size, size, 3), dtype=torch.uint8)
    labels = torch.arange(len(lengths)) % 2
    return Batch({"frames": Padded(data, torch.tensor(lengths))}, {"clip": labels}, ("x",) * len(lengths))
