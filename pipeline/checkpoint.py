"""A folder that holds a model: weights.safetensors and model.json.

In: a model and its architecture, or such a folder. Out: the other one. model.json holds the architecture (with clock
and preprocessing), the vocabularies, and digests of the training rows. Loading runs no code of the folder. Knows
nothing of training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline import __version__
from pipeline.atomic import write_atomic
from pipeline.config.architecture import LOOKS, TOKENS, Architecture
from pipeline.config.base import ConfigError, retired_settings, validate
from pipeline.config.model_json import DESCRIPTION, FORMAT, ModelError, find_model, read_description
from pipeline.config.retired import KEYS, SINCE
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.training_record import TrainingRecord
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.backbone import PIXELS, Backbone, CnnFacts, StoredCnn
from pipeline.encoders.converted_cnn import is_converted
from pipeline.encoders.frames import FramesEncoder
from pipeline.models.model import Model

WEIGHTS = "weights.safetensors"
CNN = "encoder.backbone.net."
"""What the names of the CNN's weights begin with."""
OLD_ARCHITECTURE = next(old for old, new in KEYS.items() if new == "architecture")
"""The key of the architecture in a model.json of unreel 0.1."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it.

    vocabularies: by head the names of its classes, or its tokenizer; under "tokens" the encoder's tokenizer, if it has
    one. input_size: the width of series, else None. notes: facts about the training, for people. training_record: what
    the model was trained on; None where it is not known.
    """

    model: Model
    architecture: Architecture
    vocabularies: Mapping[str, Vocabulary | Tokenizer]
    input_size: int | None
    notes: Mapping[str, Any]
    training_record: TrainingRecord | None = None

    def fingerprint(self) -> str:
        """A hash of everything that its answers depend on: architecture, vocabularies and weights."""
        names = {name: _as_json(vocabulary) for name, vocabulary in self.vocabularies.items()}
        text = json.dumps([self.architecture.model_dump(mode="json"), names, self.input_size], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def features_made_by(self, device: torch.device) -> dict[str, Any] | None:
        """What shapes stored features, for the feature store; None for a model without a CNN of frames."""
        encoder = self.model.encoder
        return self.architecture.made_by(device, encoder.backbone) if isinstance(encoder, FramesEncoder) else None

    def made_by(self, device: torch.device) -> dict[str, Any]:
        """Everything besides the input that shapes an answer: the model, what shapes its features, and the device."""
        shaped = self.features_made_by(device) or {"looks": LOOKS}
        return {"model": self.fingerprint(), "device": device.type, **shaped}


def save_model(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder. Each file is replaced in one step. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "format": FORMAT,
        "unreel": __version__,
        "architecture": checkpoint.architecture.model_dump(mode="json"),
        "vocabularies": {name: _as_json(vocabulary) for name, vocabulary in checkpoint.vocabularies.items()},
        "input_size": checkpoint.input_size,
        "notes": dict(checkpoint.notes),
    }
    if isinstance(encoder := checkpoint.model.encoder, FramesEncoder):
        description["cnn"] = asdict(encoder.backbone.facts)
    if checkpoint.training_record is not None:
        description["training_record"] = checkpoint.training_record.as_json()
    weights = {key: value.detach().cpu().contiguous() for key, value in checkpoint.model.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(weights))
    write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False))


def load_model(folder: str | Path) -> Checkpoint:
    """Read a model folder, or a run folder that holds one. Raises ModelError that names the field that is wrong."""
    folder = find_model(folder)
    path = folder / DESCRIPTION
    description = read_description(path)
    if description.get("format") != FORMAT:
        raise ModelError(_other_format(folder, description))
    input_size, notes = description.get("input_size"), description.get("notes", {})
    weights = _read_weights(folder / WEIGHTS)
    try:
        architecture = validate(Architecture, description.get("architecture"), f"the architecture in '{path}'")
        vocabularies = _read_vocabularies(description.get("vocabularies"), architecture)
        backbone = _stored_backbone(architecture, description, weights)
        model = _without_pretrained(architecture).build(vocabularies, input_size=input_size, backbone=backbone)
    except ConfigError as error:
        raise ModelError(str(error)) from None
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Copy the model folder again.") from None
    _load_weights(model, weights, folder / WEIGHTS)
    return Checkpoint(model.eval(), architecture, vocabularies, input_size, notes, _read_record(description, path))


def _stored_backbone(
    architecture: Architecture, description: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Backbone | None:
    """The CNN without its network, where its converted form is in the cache: then timm, which takes seconds to import,
    is needed only if torch has to run the CNN. Else None. Raises ValueError for facts that are damaged.
    """
    section = architecture.encoder
    if section.kind != "frames" or section.backbone == PIXELS or "cnn" not in description:
        return None
    own = {key.removeprefix(CNN): value for key, value in weights.items() if key.startswith(CNN)}
    backbone = section.stored_backbone(StoredCnn(CnnFacts.from_json(description["cnn"]), own))
    return backbone if is_converted(backbone) else None


def _read_record(description: Mapping[str, Any], path: Path) -> TrainingRecord | None:
    """What the model was trained on, if the folder says it. Raises ModelError for a damaged record."""
    if "training_record" not in description:
        return None
    try:
        return TrainingRecord.from_json(description["training_record"])
    except ValueError as error:
        raise ModelError(f"The training_record in '{path}' is damaged: {error}. Copy the model folder again.") from None


def _other_format(folder: Path, description: Mapping[str, Any]) -> str:
    """The sentence about a model of another version; for one of version 0.1 with the new names of its settings."""
    number = description.get("format")
    if number not in (1, 2):
        return (
            f"'{folder}' has format {number!r}; this version reads {FORMAT}. Use the unreel that wrote it, or train "
            "again."
        )
    settings = description.get(OLD_ARCHITECTURE)
    retired = retired_settings(settings) if isinstance(settings, Mapping) else {}
    names = "; ".join(f"{old} is called {new}" for old, new in retired.items())
    return (
        f"'{folder}' was written by unreel {description.get('unreel', '0.1')} (format {number}); this version reads "
        f"format {FORMAT}, in which settings and weights have other names."
        f"{f' Since {SINCE} {names}.' if names else ''} Train the model again from its config, or use unreel 0.1."
    )


def _as_json(vocabulary: Vocabulary | Tokenizer) -> list[str] | dict[str, Any]:
    """A vocabulary as JSON has it: a list of classes, or a tokenizer with its rules."""
    return vocabulary.as_json() if isinstance(vocabulary, Tokenizer) else list(vocabulary.names)


def _read_vocabularies(values: object, architecture: Architecture) -> dict[str, Vocabulary | Tokenizer]:
    """The classes or the tokenizer of each head. Raises ValueError that says which head's are wrong."""
    values = values if isinstance(values, dict) else {}
    vocabularies: dict[str, Vocabulary | Tokenizer] = {}
    with_tokenizer = [name for name, section in architecture.heads.items() if section.kind == "caption"]
    for name in with_tokenizer + ([TOKENS] if architecture.encoder.kind == "tokens" else []):
        try:
            vocabularies[name] = Tokenizer.from_json(values.get(name))
        except ValueError as error:
            raise ValueError(f"vocabularies.{name} is no tokenizer: {error}") from None
    for head, section in architecture.heads.items():
        if head in vocabularies:
            continue
        names = values.get(head)
        if (
            not isinstance(names, list)
            or (not names and section.requires is not None)
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)
        ):
            raise ValueError(f"vocabularies.{head} is no list of different names")
        vocabularies[head] = Vocabulary(tuple(names))
    return vocabularies


def _without_pretrained(architecture: Architecture) -> Architecture:
    """The architecture without pretrained weights or word vectors: the checkpoint holds them."""
    if architecture.encoder.kind == "series":
        return architecture
    empty = {"weights": "none"} if architecture.encoder.kind == "frames" else {"pretrained_vectors": None}
    return architecture.model_copy(update={"encoder": architecture.encoder.model_copy(update=empty)})


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The weights by name. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Copy the model folder again.") from None


def _load_weights(model: Model, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill a model with weights, which were read from `path`. Raises ModelError where they do not fit together."""
    expected = model.state_dict()
    problems = [f"'{key}' is missing" for key in expected if key not in weights]
    problems += [f"'{key}' is not part of the architecture" for key in weights if key not in expected]
    problems += [
        f"'{key}' has shape {tuple(weights[key].shape)}, the architecture wants {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        raise ModelError(
            f"'{path}' and {DESCRIPTION} disagree: {problems[0]}"
            f"{f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''}. They must come from one run."
        )
    model.load_state_dict(weights)
