"""The tree under test, old or new, as the probe of same-numbers reaches into it; and what it returns as plain arrays.

In: new names. Out: the objects of the tree that is imported as `pipeline`, and results as numpy arrays by path.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from same_numbers_names import MEMBERS, MODULES, OBJECTS, PARAMETERS, old_settings

Names = Literal["old", "new"]


class Tree:
    """One tree of the package `pipeline`, and which of the two sets of names it speaks.

    Raises SystemExit where another `pipeline` than that of the folder is imported: the environment has one installed.
    """

    def __init__(self, folder: Path, names: Names) -> None:
        self.folder, self.names = folder.resolve(), names
        sys.path.insert(0, str(self.folder))
        package = importlib.import_module("pipeline")
        lies = Path(str(package.__file__)).resolve()
        if not lies.is_relative_to(self.folder):
            raise SystemExit(f"pipeline was imported from {lies}, which is not below {self.folder}")

    def get(self, place: str) -> Any:
        """An object by its new place, module:name. Raises ImportError or AttributeError where the tree has none."""
        module, name = place.split(":")
        if self.names == "old":
            module, name = MODULES.get(module, module), OBJECTS.get(name, name)
        return getattr(importlib.import_module(module), name)

    def member(self, owner: Any, name: str) -> Any:
        """A method of an object by its new name. The new tree may have kept an old one."""
        others = MEMBERS.get(name, ())
        for known in (*others, name) if self.names == "old" else (name, *others):
            if hasattr(owner, known):
                return getattr(owner, known)
        raise AttributeError(f"{type(owner).__name__} has none of {', '.join((name, *others))}")

    def call(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """The result of a function, each parameter by whichever of its names the function knows."""
        known = inspect.signature(function).parameters
        found: dict[str, Any] = {}
        for name, value in named.items():
            place = next((n for n in (name, *PARAMETERS.get(name, ())) if n in known), None)
            if place is None:
                raise TypeError(f"{function} has no parameter {name}; it has {', '.join(known)}")
            found[place] = value
        return function(*given, **found)

    def answer_file(self, predictor: Any, path: Path) -> Any:
        """The answer for one file: by a method of the old predictor, by the engine of a new tree."""
        if any(hasattr(predictor, name) for name in MEMBERS["predict_file"]):
            return self.member(predictor, "predict_file")(path)
        return self.get("pipeline.inference.engine:answer_file")(path, predictor)

    def config(self, settings: Mapping[str, Any]) -> Any:
        """A config of new names, checked by the tree."""
        values = dict(settings) if self.names == "new" else old_settings(settings)
        return self.get("pipeline.config.run:load_config")(None, (), values)


def arrays(value: Any, path: str = "") -> dict[str, np.ndarray]:
    """Every number and text in a result as an array, by its path. Fields of classes have their order for a name."""
    if isinstance(value, torch.Tensor):
        return {path: value.detach().cpu().numpy()}
    if isinstance(value, np.ndarray | np.generic | bool | int | float | str):
        return {path: np.asarray(value)}
    if value is None:
        return {path: np.asarray("nothing")}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "path"]  # an Answer has it now
        value = [getattr(value, name) for name in names]
    if isinstance(value, Mapping):
        inner = [(str(key), one) for key, one in value.items()]
    else:
        value = list(value)
        if value and all(isinstance(one, float) for one in value):
            return {path: np.asarray(value)}
        inner = [(str(place), one) for place, one in enumerate(value)]
    found = {path: np.asarray(len(inner))}
    for key, one in inner:
        found |= arrays(one, f"{path}/{key}" if path else key)
    return found
