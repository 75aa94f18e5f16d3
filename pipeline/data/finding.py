"""One problem of a dataset, in a sentence.

In: what a check found. Out: a `Finding`. Knows nothing of the checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "group",
    "identical",
    "near_duplicate",
    "missing_class",
    "missing_file",
    "unreadable",
    "damaged",
    "imbalance",
    "similar_labels",
    "split_folder",
    "span",
    "no_look",
]


@dataclass(frozen=True)
class Finding:
    """One problem of a dataset, and the paths of all rows that have it (none for `imbalance`)."""

    kind: Kind
    message: str
    paths: tuple[str, ...] = ()
