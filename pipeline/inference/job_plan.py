"""What a folder job has to do: which inputs are new, changed, unfinished, or failed by a reason that may have passed.

In: inputs, and what the ledger knows of them. Out: each input with the reason why it is done, or without one. No file
is opened: size and time of change say whether it has changed. Knows nothing of models, and imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.media.clip import ANSWERED
from pipeline.media.search import InputFile

Reason = Literal["new", "changed", "unfinished", "passing", "failed"]
"""Why an input is to be done. passing: it failed by a reason that may have passed. failed: --retry-failed."""
PASSING = frozenset({"failed:changed", "failed:unreadable", "failed:out_of_memory", "failed:missing"})
"""The failures that may have passed when a job runs again. All others, and a timeout, are final."""


@dataclass(frozen=True)
class Stored:
    """What a ledger knows of an input. size, mtime_ns: of the file that was read. content: SHA-256 of a text."""

    size: int | None
    mtime_ns: int | None
    content: str | None
    status: str | None


@dataclass(frozen=True)
class PlannedFile:
    """An input with its place among all inputs, its size and time of change, and why it is to be done; None: it is
    done already.
    """

    file: InputFile
    position: int
    size: int | None
    mtime_ns: int | None
    reason: Reason | None

    @property
    def is_todo(self) -> bool:
        """Whether it is to be done."""
        return self.reason is not None


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`: the inputs whose id has SHA-256 mod count = index, whatever else is in the folder."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n". Raises ValueError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise ValueError(
                f"--shard {text} is no part of a job. It is i/n with i from 0 to n - 1, such as 0/4, 1/4, 2/4 and 3/4."
            )
        return cls(int(match[1]), int(match[2]))

    def has(self, id: str) -> bool:
        """Whether an input belongs to this part."""
        digest = hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    @property
    def folder(self) -> str:
        """The name of its folder in OUT/shards."""
        return f"{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def plan(
    files: Sequence[InputFile], stored: Mapping[str, Stored], *, shard: Shard | None = None, retry_failed: bool = False
) -> list[PlannedFile]:
    """Every input of the shard, in order, with what is to be done. stored: by id, from the ledger."""
    planned = []
    for position, file in enumerate(files):
        if shard is None or shard.has(file.name):
            size, mtime_ns = stat_of(file)
            reason = _reason(file, size, mtime_ns, stored.get(file.name), retry_failed)
            planned.append(PlannedFile(file, position, size, mtime_ns, reason))
    return planned


def stat_of(file: InputFile) -> tuple[int | None, int | None]:
    """The size and the time of change of an input; None for a text, and for one that is not there."""
    if file.text is not None or file.problem:
        return None, None
    try:
        stat = os.stat(file.path)
    except (OSError, ValueError):
        return None, None
    return stat.st_size, stat.st_mtime_ns


def content_of(file: InputFile) -> str | None:
    """SHA-256 of a text; None for a file."""
    return None if file.text is None else hashlib.sha256(file.text.encode("utf-8", "surrogateescape")).hexdigest()


def _reason(
    file: InputFile, size: int | None, mtime_ns: int | None, stored: Stored | None, retry_failed: bool
) -> Reason | None:
    if stored is None:
        return "new"
    if stored.status is None:
        return "unfinished"
    if stored.status in PASSING or file.problem:
        return "passing"
    is_same_text = file.text is None or stored.content == content_of(file)
    if (stored.size, stored.mtime_ns) != (size, mtime_ns) or not is_same_text:
        return "changed"
    return "failed" if retry_failed and stored.status not in ANSWERED else None
