"""Rows -> files, one small class for each format. Each takes rows one at a time and finishes its file atomically."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.writers.activitynet import ActivityNetWriter
from pipeline.writers.csv import CsvWriter
from pipeline.writers.cues import heads_with_spans
from pipeline.writers.elan import to_eaf
from pipeline.writers.jsonl import JsonlWriter
from pipeline.writers.per_video import PerVideoWriter
from pipeline.writers.subtitles import to_srt, to_webvtt
from pipeline.writers.table_rows import Heads

Format = Literal["jsonl", "csv", "parquet", "srt", "vtt", "elan", "activitynet"]


class Writer(Protocol):
    """What the folder job needs of a format."""

    def write(self, row: dict[str, Any]) -> None:
        """Add one row."""
        ...

    def close(self) -> Path:
        """Finish. Returns the path of the file, or of the folder with one file a video."""
        ...


def _open_parquet(path: Path, heads: Heads) -> Writer:
    """The writer of Parquet, whose library takes long to import."""
    from pipeline.writers.parquet import ParquetWriter

    return ParquetWriter(path, heads)


WRITERS: Mapping[Format, tuple[str, Callable[[Path, Heads], Writer]]] = {
    "jsonl": ("predictions.jsonl", JsonlWriter),
    "csv": ("predictions.csv", CsvWriter),
    "parquet": ("predictions.parquet", _open_parquet),
    "srt": ("srt", partial(PerVideoWriter, suffix=".srt", render=to_srt)),
    "vtt": ("vtt", partial(PerVideoWriter, suffix=".vtt", render=to_webvtt)),
    "elan": ("elan", partial(PerVideoWriter, suffix=".eaf", render=to_eaf)),
    "activitynet": ("predictions.activitynet.json", ActivityNetWriter),
}
"""Format -> the name of its file or folder in the output folder, and its writer."""

SPAN_FORMATS: tuple[Format, ...] = ("srt", "vtt", "elan", "activitynet")
"""The formats that contain only spans of time."""


def open_writer(kind: Format, folder: Path, heads: Heads) -> Writer:
    """A writer of a format in a folder. heads: the fields of the answers, by head.

    Raises ValueError for a format of spans where no head answers with spans.
    """
    check_formats([kind], heads)
    name, make_writer = WRITERS[kind]
    return make_writer(folder / name, heads)


def check_formats(kinds: Sequence[Format], heads: Heads) -> None:
    """Raises ValueError for a format that can contain nothing of the answers of these heads."""
    span_formats = _join_words([kind for kind in SPAN_FORMATS if kind in kinds])
    if span_formats and not heads_with_spans(heads):
        answers = ", ".join(f"{head}: {' '.join(fields)}" for head, fields in heads.items())
        raise ValueError(
            f"Format {span_formats} contains spans of time, and no head of this model answers with spans ({answers}). "
            "A head of kind segment does: train one (heads: {timeline: {kind: segment}}), or use jsonl, csv or parquet."
        )


def omission_message(kinds: Sequence[Format], heads: Heads) -> str:
    """A sentence about the heads that the span formats leave out; empty where they leave out none."""
    span_formats = _join_words([kind for kind in SPAN_FORMATS if kind in kinds])
    written = heads_with_spans(heads)
    omitted = [head for head in heads if head not in written]
    if not span_formats or not omitted:
        return ""
    verb = "has" if len(omitted) == 1 else "have"
    return (
        f"{span_formats}: only the spans of {_join_words(written)} are written; {_join_words(omitted)} {verb} no spans"
    )


def _join_words(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
