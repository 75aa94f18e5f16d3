"""Names <-> numbers.

In: names. Out: their indices, and back. Stored with the model as a plain list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pipeline.section import near


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of names; the index of a name is its place."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Vocabulary:
        """The sorted set of some names."""
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """The place of a name. Raises ValueError for an unknown one."""
        if name not in self._index:
            raise ValueError(
                f"The class '{name}' is not one of the {len(self)} that this model knows."
                f"{near(name, list(self.names))} Use a model trained with it, or correct the label."
            )
        return self._index[name]
