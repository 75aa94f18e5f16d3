"""A folder that holds a model: weights.safetensors and model.json.

In: a model and its architecture, or such a folder. Out: the other one. model.json holds the architecture (with clock
and preprocessing), the vocabularies, and digests of the training rows. Loading runs no code of the folder. Knows
nothing of training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipeline import __version__
from pipeline.atomic import write_atomic
from pipeline.config.architecture import TOKENS, Architecture
from pipeline.config.base import ConfigError, retired_settings, validate
from pipeline.config.retired import KEYS, SINCE
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.training_record import TrainingRecord
from pipeline.data.vocabulary import Vocabulary
from pipeline.media.similar_paths import did_you_mean_path
from pipeline.models.model import Model

FORMAT = 3
"""Formats 1 and 2 are those of unreel 0.1, whose settings and weights had other names."""
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
OLD_ARCHITECTURE = next(old for old, new in KEYS.items() if new == "architecture")
"""The key of the architecture in a model.json of unreel 0.1."""


class ModelError(ValueError):
    """A folder holds no model, or parts that do not belong together, or a model that cannot do what is asked."""


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
    if checkpoint.training_record is not None:
        description["training_record"] = checkpoint.training_record.as_json()
    weights = {key: value.detach().cpu().contiguous() for key, value in checkpoint.model.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(weights))
    write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False))


def find_model(folder: str | Path) -> Path:
    """The model folder itself, or `model/` inside a run folder. Raises ModelError where neither is one."""
    folder = Path(folder)
    for candidate in (folder, folder / "model"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    similar = "" if folder.exists() else did_you_mean_path(folder)
    raise ModelError(
        f"'{folder}' is no model: it holds no {DESCRIPTION}.{similar} Give the folder of a finished run, or the "
        "model folder inside it."
    )


def load_model(folder: str | Path) -> Checkpoint:
    """Read a model folder, or a run folder that holds one. Raises ModelError that names the field that is wrong."""
    folder = find_model(folder)
    path = folder / DESCRIPTION
    description = _read_description(path)
    if description.get("format") != FORMAT:
        raise ModelError(_other_format(folder, description))
    input_size, notes = description.get("input_size"), description.get("notes", {})
    try:
        architecture = validate(Architecture, description.get("architecture"), f"the architecture in '{path}'")
        vocabularies = _read_vocabularies(description.get("vocabularies"), architecture)
        model = _without_pretrained(architecture).build(vocabularies, input_size=input_size)
    except ConfigError as error:
        raise ModelError(str(error)) from None
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"'{path}' is damaged: {error}. Copy the model folder again.") from None
    _load_weights(model, folder / WEIGHTS)
    return Checkpoint(model.eval(), architecture, vocabularies, input_size, notes, _read_record(description, path))


def _read_record(description: Mapping[str, Any], path: Path) -> TrainingRecord | None:
    """What the model was trained on, if the folder says it. Raises ModelError for a damaged record."""
    if "training_record" not in description:
        return None
    try:
        return TrainingRecord.from_json(description["training_record"])
    except ValueError as error:
        raise ModelError(f"The training_record in '{path}' is damaged: {error}. Copy the model folder again.") from None


def _read_description(path: Path) -> dict[str, Any]:
    """model.json as plain values. Raises ModelError."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Copy the model folder again.") from None
    return description


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


def _load_weights(model: Model, path: Path) -> None:
    """Fill a model from a file of weights. Raises ModelError where the file and the model do not fit together."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Copy the model folder again.") from None
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
