"""Names <-> indices.

In: names, such as those of classes. Out: their indices, and names again. A model stores them as a plain list. Knows
nothing of what has the names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of names. The index of a name is its position."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Vocabulary:
        """The vocabulary of these names, sorted, without duplicates."""
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """The index of a name. Raises ValueError for an unknown one."""
        if name not in self._index:
            raise ValueError(
                f"The class '{name}' is not one of the {len(self)} classes of this model."
                f"{did_you_mean(name, self.names)} Use a model that was trained with it, or correct the label."
            )
        return self._index[name]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The sentence " Did you mean 'name'?" for the most similar name, or "" where no name is similar."""
    matches = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""
