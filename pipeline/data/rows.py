"""One row of a manifest: what it may say, and every sentence about what is wrong with it.

Comes in: records (dictionaries out of JSON or CSV) with their line numbers. Goes out: checked `Row`s.
Knows nothing about files and formats (manifest.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
COLUMNS = ("path", "split", "group", "label", "spans", "captions", "text")
MAX_LISTED = 20


class ManifestError(ValueError):
    """Every mistake of one manifest with its line number; the first 20 are listed, the others counted."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end`, in seconds of the video, `label` happens."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One video (or one file of stored features, or one text); `None` and `()` mean that nothing is known.

    `path` is relative to the manifest's root and has forward slashes. `group` names what must not stand on both
    sides of a split: a person, a recording, a film, a match. `spans` are in order and never overlap; those of a text count
    tokens from 0 where those of a video count seconds. `text`: what a text row holds; its `path` is then only its name. A
    text row without it is the file at `path`.
    """

    path: str
    split: Split | None = None
    group: str | None = None
    label: str | None = None
    spans: tuple[Span, ...] = ()
    captions: tuple[str, ...] = ()
    text: str | None = None


class Mistakes:
    """Collects sentences about one file: lists the first ones, counts them all."""

    def __init__(self, source: str, unit: str) -> None:
        self.source, self.unit = source, unit
        self.listed: list[str] = []
        self.count = 0

    def add(self, number: int | None, sentence: str) -> None:
        """Note one mistake; `number` is its line or row, None for the whole file."""
        self.count += 1
        if self.count <= MAX_LISTED:
            self.listed.append(sentence if number is None else f"{self.unit} {number}: {sentence}")

    def raise_if_any(self) -> None:
        """Raise ManifestError with all that was noted."""
        if not self.count:
            return
        noun = "mistake" if self.count == 1 else "mistakes"
        more = [f"... and {self.count - MAX_LISTED:,} more."] if self.count > MAX_LISTED else []
        raise ManifestError("\n  ".join([f"{self.source!r} has {self.count:,} {noun}:", *self.listed, *more]))


def checked(records: Iterable[tuple[int, dict[str, object]]], mistakes: Mistakes) -> list[Row]:
    """Rows of the records that are right; what is wrong with the others goes into `mistakes`."""
    rows: list[Row] = []
    first_seen: dict[str, int] = {}
    for number, record in records:
        wrong: list[str] = []
        row = _row(record, wrong)
        for sentence in wrong:
            mistakes.add(number, sentence)
        if row is None:
            continue
        seen = first_seen.setdefault(row.path, number)
        if seen != number:
            already = f"the path {row.path!r} already stands in {mistakes.unit} {seen}"
            mistakes.add(
                number, f"{already}. A file has one row. Remove one; several actions of one video are its spans."
            )
        rows.append(row)
    if not rows and not mistakes.count:
        mistakes.add(None, "it has no rows. A manifest has one row a video. Write at least one.")
    return rows


def _row(record: dict[str, object], wrong: list[str]) -> Row | None:
    """The row of one record, or None with at least one sentence added to `wrong`."""
    before = len(wrong)
    path = _path(record.get("path"), wrong)
    split = record.get("split")
    if split is not None and split not in SPLITS:
        wrong.append(f"split is {short(split)}. {known(split, SPLITS)}")
    group = _text("group", record.get("group"), wrong)
    label = _text("label", record.get("label"), wrong)
    spans = _spans(record.get("spans"), wrong)
    captions = [_text("a caption", item, wrong) or "" for item in _list("captions", record.get("captions"), wrong)]
    text = record.get("text")
    text = None if text is None else _text("text", text, wrong)
    if len(wrong) > before:
        return None
    named: Split | None = next((name for name in SPLITS if name == split), None)
    return Row(path, named, group, label, spans, tuple(captions), text)


def _path(value: object, wrong: list[str]) -> str:
    if not isinstance(value, str) or not value:
        wrong.append(f"path is {short(value)}. Every row has the path of a file, like clips/x.mp4. Add it.")
        return ""
    if "\0" in value:
        problem = "holds a NUL character"
    elif value[0] in "/\\" or re.match(r"[A-Za-z]:[/\\]", value):
        problem = "is absolute"
    elif ".." in re.split(r"[/\\]", value):
        problem = "climbs out of its folder (..)"
    elif not (plain := "/".join(part for part in value.split("/") if part not in ("", "."))):
        problem = "names the folder itself"
    else:
        return plain
    wrong.append(f"the path {short(value)} {problem}. Paths are relative to the root, like clips/x.mp4. Move the root.")
    return ""


def _text(name: str, value: object, wrong: list[str]) -> str | None:
    if value is None and name != "a caption":
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        wrong.append(f"{name} is {short(value)}. It would be a text without NUL, not empty. Quote it or leave it out.")
        return None
    return sys.intern(value)  # a million rows share a few labels and groups


def _list(name: str, value: object, wrong: list[str]) -> list[object]:
    if value is None or isinstance(value, list):
        return value or []
    wrong.append(f"{name} is {short(value)}. It would be a list. Put it between [ and ].")
    return []


def _spans(value: object, wrong: list[str]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for item in _list("spans", value, wrong):
        label = item[2] if isinstance(item, list) and len(item) == 3 else None
        if not isinstance(item, list) or not isinstance(label, str) or not label or "\0" in label:
            wrong.append(f'the span {short(item)} is no [start, end, label]. Write it like [0.4, 1.6, "sit_down"].')
        elif not all(isinstance(time, int | float) and not isinstance(time, bool) for time in item[:2]):
            wrong.append(f"the span {short(item)} has times that are no numbers. Write seconds, like 0.4.")
        elif not 0 <= item[0] < item[1] <= sys.float_info.max:  # false for NaN as well
            wrong.append(
                f"the span {short(item)} does not run from 0 or later to a later, finite end. Mend its seconds."
            )
        else:
            spans.append(Span(float(item[0]), float(item[1]), sys.intern(label)))
    spans.sort(key=lambda span: span.start)
    for earlier, later in pairwise(spans):
        if later.start < earlier.end:
            wrong.append(
                f"the spans [{earlier.start}, {earlier.end}, {earlier.label!r}] and [{later.start}, {later.end}, "
                f"{later.label!r}] overlap. One thing happens at a time. Cut one of them."
            )
    return tuple(spans)


def record_of(row: Row) -> dict[str, object]:
    """What is known of a row, in JSON's types and the order of COLUMNS."""
    record: dict[str, object] = {"path": row.path, "split": row.split, "group": row.group, "label": row.label}
    record["spans"] = [[_second(span.start), _second(span.end), span.label] for span in row.spans] or None
    record["captions"] = list(row.captions) or None
    record["text"] = row.text
    return {name: value for name, value in record.items() if value is not None}


def _second(value: object) -> object:
    """1 and 1.0 are the same time and get one fingerprint; what is no number is left for the check to name."""
    return float(value) if isinstance(value, int | float) else value


def known(value: object, names: tuple[str, ...]) -> str:
    """What would be right, and the nearest of it."""
    near = get_close_matches(str(value).lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else " Use one of them."
    return f"Known are {', '.join(names)}.{hint}"


def short(value: object) -> str:
    """A value in a sentence: at most 80 characters, special ones escaped."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
