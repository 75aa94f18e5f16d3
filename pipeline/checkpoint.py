"""A folder that is a model: weights.safetensors + model.json.

In: a model and its recipe, or such a folder. Out: the other. model.json holds the recipe (with clock and
preprocessing) and the vocabularies; loading runs no code from the folder. Knows nothing of training.
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
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import Words
from pipeline.models.model import Model
from pipeline.recipe import TOKENS, Recipe
from pipeline.section import ConfigError, validate
from pipeline.whole import write_whole

FORMAT = 2
READABLE = (1, 2)
"""1 knew no calibration: such a model answers with temperature 1, and calls nothing unknown."""
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


class ModelError(ValueError):
    """A folder is no model of ours, or its parts do not fit together."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it. vocabularies: by head the names of its classes, or its words, and under
    "tokens" the encoder's words where it has some. notes: free facts about its training, for people.
    """

    model: Model
    recipe: Recipe
    vocabularies: Mapping[str, Vocabulary | Words]
    input_size: int | None
    notes: Mapping[str, Any]

    def fingerprint(self) -> str:
        """A hash of all that its answers depend on: recipe, vocabularies and weights."""
        names = {name: _plain(v) for name, v in self.vocabularies.items()}
        text = json.dumps([self.recipe.model_dump(mode="json"), names, self.input_size], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def save_model(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "format": FORMAT,
        "unreel": __version__,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "vocabularies": {name: _plain(v) for name, v in checkpoint.vocabularies.items()},
        "input_size": checkpoint.input_size,
        "notes": dict(checkpoint.notes),
    }
    weights = {k: v.detach().cpu().contiguous() for k, v in checkpoint.model.state_dict().items()}
    write_whole(folder / WEIGHTS, save(weights))
    write_whole(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False).encode())


def find_model(folder: str | Path) -> Path:
    """The model folder itself, or `model/` inside a run folder. Raises ModelError where there is neither."""
    folder = Path(folder)
    for place in (folder, folder / "model"):
        if (place / DESCRIPTION).is_file():
            return place
    raise ModelError(
        f"'{folder}' is no model: it holds no {DESCRIPTION}. Give the folder of a finished run, or the "
        "model folder inside it."
    )


def load_model(folder: str | Path) -> Checkpoint:
    """Read a model folder (or a run folder that holds one). Raises ModelError that names the field that is wrong."""
    folder = find_model(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{folder / DESCRIPTION}' cannot be read: {error}. Copy the model folder again.") from None
    if description.get("format") not in READABLE:
        raise ModelError(
            f"'{folder}' has format {description.get('format')!r}; this version reads {' and '.join(map(str, READABLE))}. "
            "Use the unreel that wrote it, or train again."
        )
    try:
        recipe = validate(Recipe, description.get("recipe"), f"the recipe in '{folder / DESCRIPTION}'")
        vocabularies = _vocabularies(description.get("vocabularies"), recipe)
        model = _without_weights(recipe).build(vocabularies, input_size=description.get("input_size"))
    except ConfigError as error:
        raise ModelError(str(error)) from None
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"'{folder / DESCRIPTION}' is damaged: {error}. Copy the model folder again.") from None
    _load_weights(model, folder / WEIGHTS, is_calibrated=description["format"] > 1)
    return Checkpoint(model.eval(), recipe, vocabularies, description.get("input_size"), description.get("notes", {}))


def _plain(names: Vocabulary | Words) -> list[str] | dict[str, Any]:
    """As JSON has it: a list of classes, or words with the rule that cuts texts into them."""
    return names.as_json() if isinstance(names, Words) else list(names.names)


def _vocabularies(given: object, recipe: Recipe) -> dict[str, Vocabulary | Words]:
    """The names of each head's classes, or its words. Raises ValueError that says whose are wrong."""
    given = given if isinstance(given, dict) else {}
    found: dict[str, Vocabulary | Words] = {}
    of_words = [name for name, section in recipe.heads.items() if section.kind == "caption"]
    for name in of_words + ([TOKENS] if recipe.encoder.kind == "tokens" else []):
        try:
            found[name] = Words.from_json(given.get(name))
        except ValueError as error:
            raise ValueError(f"vocabularies.{name} are no words: {error}") from None
    for head, section in recipe.heads.items():
        if head in found:
            continue
        names = given.get(head)
        if (
            not isinstance(names, list)
            or (not names and section.wants is not None)
            or not all(isinstance(n, str) for n in names)
            or len(set(names)) < len(names)
        ):
            raise ValueError(f"vocabularies.{head} is no list of different names")
        found[head] = Vocabulary(tuple(names))
    return found


def _without_weights(recipe: Recipe) -> Recipe:
    """The recipe with an empty CNN, or untaught vectors of words: their weights come from the checkpoint."""
    if recipe.encoder.kind == "series":
        return recipe
    empty = {"weights": "none"} if recipe.encoder.kind == "frames" else {"vectors": None}
    return recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update=empty)})


def _load_weights(model: Model, path: Path, is_calibrated: bool) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Copy the model folder again.") from None
    wanted = model.state_dict()
    if not is_calibrated:
        weights |= {k: v for k, v in wanted.items() if ".trust." in k and k not in weights}
    wrong = [f"'{k}' is missing" for k in wanted if k not in weights]
    wrong += [f"'{k}' is not part of the recipe" for k in weights if k not in wanted]
    wrong += [
        f"'{k}' has shape {tuple(weights[k].shape)}, the recipe wants {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in weights and weights[k].shape != v.shape
    ]
    if wrong:
        raise ModelError(
            f"'{path}' and {DESCRIPTION} disagree: {wrong[0]}"
            f"{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}. They must come from one run."
        )
    model.load_state_dict(weights)
