"""Small generators, a small model that generates features beside a classifier, and its training, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from toy_training import make_toy

from pipeline.config.architecture import Architecture
from pipeline.config.core import CoreSection
from pipeline.config.encoders import SeriesSection
from pipeline.config.generative_heads import GenerateFeaturesSection
from pipeline.config.heads import ClassifySection
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.generate_features import GenerateFeatures
from pipeline.models.gan.generator import FeatureDecoder, Generator
from pipeline.models.gan.token_generator import TokenGenerator
from pipeline.models.model import Model
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded
from pipeline.training.distributed import seed_step

NAMES = Vocabulary.of(["down", "up"])


def small_generator(motion: Any = "core") -> Generator:
    """A generator of sequences (B, T, 5) of two classes."""
    core = Core(cell="gru", input_size=Generator.core_input(4, 3), hidden=8)
    decoder = FeatureDecoder(content_size=9, motion_size=8, width=5, hidden=16)
    return Generator(core=core, decoder=decoder, classes=2, content_size=6, motion_size=4, embedding=3, motion=motion)


def small_token_generator() -> TokenGenerator:
    """A generator of texts of 11 different tokens, of two classes."""
    core = Core(cell="gru", input_size=TokenGenerator.core_input(4, 3), hidden=8)
    return TokenGenerator(core=core, vocabulary_size=11, classes=2, content_size=6, motion_size=4, embedding=3)


def features_model(width: int = 5, seed: int = 0, **head: Any) -> Model:
    """A model of series with a generate head `clip` and a classifier `action`; `head` adds settings to the first."""
    architecture = Architecture(
        encoder=SeriesSection(project=0, normalise="none"),
        core=CoreSection(hidden=8, input_dropout=0.0),
        heads={"clip": GenerateFeaturesSection(hidden=16, **head), "action": ClassifySection()},
    )
    seed_step(seed, -1, 0)
    return architecture.build({"clip": NAMES, "action": NAMES}, input_size=width)


def features_head(model: Model) -> GenerateFeatures:
    """The generate head of such a model."""
    head = model.head("clip")
    assert isinstance(head, GenerateFeatures)
    return head


def features_batch(lengths: tuple[int, ...] = (6, 4, 5), width: int = 5) -> Batch:
    """Random series of these lengths, of both classes in turn."""
    count = len(lengths)
    data = torch.randn(count, max(lengths), width)
    labels = torch.arange(count) % 2
    return Batch({"series": Padded(data, torch.tensor(lengths))}, {"clip": labels, "action": labels}, ("x",) * count)


class GenerateToy:
    """The toy training with a generate head beside the classifier."""

    def __init__(self, folder: Path) -> None:
        self.toy = make_toy(folder)
        for dataset in (self.toy.train, self.toy.val, self.toy.test):
            dataset.targets["clip"] = dataset.targets["action"]

    def model(self, seed: int = 0, pretrain_share: float = 0.0) -> Model:
        """A new model, its weights drawn from the seed."""
        width = self.toy.train.source.read(self.toy.train.rows[0], 0, 1)[0].shape[1]
        head = {"diff_augment": 0.5, "gradient_penalty": 1.0, "gradient_penalty_share": 0.5}
        return features_model(width, seed, **head, pretrain_share=pretrain_share)


def state_bytes(model: Model) -> dict[str, bytes]:
    """Every tensor of a model's state dict as bytes."""
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
