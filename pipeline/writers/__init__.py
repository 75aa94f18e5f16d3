"""Rows -> files, one small class a format. Each takes rows one at a time and finishes whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.writers.activitynet import ActivityNetWriter
from pipeline.writers.csv import CsvWriter
from pipeline.writers.cues import timed
from pipeline.writers.elan import eaf
from pipeline.writers.flat import Heads
from pipeline.writers.jsonl import JsonlWriter
from pipeline.writers.parquet import ParquetWriter
from pipeline.writers.per_video import PerVideoWriter
from pipeline.writers.subtitles import srt, webvtt

Format = Literal["jsonl", "csv", "parquet", "srt", "vtt", "elan", "activitynet"]


class Writer(Protocol):
    """What the folder job needs of a format."""

    def write(self, row: dict[str, Any]) -> None:
        """Take one row."""
        ...

    def close(self) -> Path:
        """Finish, and tell where it lies: a file, or the folder of one file a video."""
        ...


WRITERS: Mapping[Format, tuple[str, Callable[[Path, Heads], Writer]]] = {
    "jsonl": ("predictions.jsonl", JsonlWriter),
    "csv": ("predictions.csv", CsvWriter),
    "parquet": ("predictions.parquet", ParquetWriter),
    "srt": ("srt", partial(PerVideoWriter, suffix=".srt", render=srt)),
    "vtt": ("vtt", partial(PerVideoWriter, suffix=".vtt", render=webvtt)),
    "elan": ("elan", partial(PerVideoWriter, suffix=".eaf", render=eaf)),
    "activitynet": ("predictions.activitynet.json", ActivityNetWriter),
}
"""Format -> the name of what it makes in the folder of the answers, and its writer."""

TIMED: tuple[Format, ...] = ("srt", "vtt", "elan", "activitynet")
"""Formats of times: they hold spans, and rows that have some."""


def open_writer(kind: Format, folder: Path, heads: Mapping[str, Sequence[str]]) -> Writer:
    """A writer of a format in a folder, for rows with these heads; by head the parts of its answers.

    Raises ValueError for a format of times where no head answers with spans.
    """
    check_formats([kind], heads)
    name, make = WRITERS[kind]
    return make(folder / name, heads)


def check_formats(kinds: Sequence[Format], heads: Heads) -> None:
    """Raises ValueError where a format cannot hold anything that these heads answer."""
    wanted = _listed([kind for kind in TIMED if kind in kinds])
    if wanted and not timed(heads):
        answers = ", ".join(f"{head}: {' '.join(parts)}" for head, parts in heads.items())
        raise ValueError(
            f"Format {wanted} holds spans of time, and no head of this model answers with any ({answers}). A head of kind "
            "segment does: train one (heads: {timeline: {kind: segment}}), or ask for jsonl, csv or parquet."
        )


def left_out(kinds: Sequence[Format], heads: Heads) -> str:
    """A sentence about the heads that the formats of times do not hold; nothing where they hold all."""
    wanted = _listed([kind for kind in TIMED if kind in kinds])
    others = [head for head in heads if head not in timed(heads)]
    if not wanted or not others:
        return ""
    return f"{wanted}: only what {_listed(timed(heads))} says; {_listed(others)} has no times"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
