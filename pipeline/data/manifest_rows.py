"""One row of a manifest: what it may hold, and the messages about what is wrong with it.

In: records (dictionaries from JSON or CSV) with their line numbers. Out: valid `Row`s. Knows nothing of files and
formats (manifest.py).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
COLUMNS = ("path", "split", "group", "label", "spans", "captions", "text")
_BLANKS = r"[\s\u200b-\u200f\u2060\ufeff]"
ELSEWHERE = {
    **dict.fromkeys(("file", "files", "filename", "file_name", "filepath", "video", "videos", "clip", "name"), "path"),
    **dict.fromkeys(("video_path", "video_name", "video_id", "clip_path", "url", "id"), "path"),
    **dict.fromkeys(("class", "classes", "class_name", "category", "action", "target", "y", "tag"), "label"),
    **dict.fromkeys(("set", "subset", "partition", "part", "usage"), "split"),
    **dict.fromkeys(("subject", "person", "actor", "speaker", "participant", "session", "recording", "match"), "group"),
    **dict.fromkeys(("segments", "annotations", "events", "intervals"), "spans"),
    **dict.fromkeys(("sentence", "sentences", "description", "caption"), "captions"),
    **dict.fromkeys(("training", "learn"), "train"),
    **dict.fromkeys(("valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("testing", "holdout"), "test"),
}
"""What other tables call a column or a split -> what it is called here."""
MAX_LISTED = 20
"""How many mistakes of a file are listed."""


class ManifestError(ValueError):
    """All mistakes of one manifest with their line numbers. The first 20 are listed, the others are counted."""


@dataclass(frozen=True, slots=True)
class Span:
    """`label` happens from `start` to `end`, in seconds of the video."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One video, one file of stored features, or one text. `None` and `()` mean unknown.

    path: relative to the root of the manifest, or absolute, with forward slashes. For a text in `text` only a name.
    group: what must not be in two splits: a person, a recording, a film, a match.
    spans: in order, without overlap. Spans of a video are in seconds, spans of a text count tokens from 0.
    text: the text of a text row. A text row without it is the file at `path`.
    """

    path: str
    split: Split | None = None
    group: str | None = None
    label: str | None = None
    spans: tuple[Span, ...] = ()
    captions: tuple[str, ...] = ()
    text: str | None = None


class Mistakes:
    """Collects messages about one file. It lists the first ones and counts all of them.

    source: the name of the file. unit: what the numbers count, such as "line".
    """

    def __init__(self, source: str, unit: str) -> None:
        self.source, self.unit = source, unit
        self.listed: list[str] = []
        self.count = 0

    def add(self, number: int | None, message: str) -> None:
        """Add one mistake. `number` is its line or row, or None for the whole file."""
        self.count += 1
        if self.count <= MAX_LISTED:
            self.listed.append(message if number is None else f"{self.unit} {number}: {message}")

    def raise_if_any(self) -> None:
        """Raise ManifestError with the mistakes, if there are any."""
        if not self.count:
            return
        noun = "mistake" if self.count == 1 else "mistakes"
        more = [f"... and {self.count - MAX_LISTED:,} more."] if self.count > MAX_LISTED else []
        raise ManifestError("\n  ".join([f"{self.source!r} has {self.count:,} {noun}:", *self.listed, *more]))


def parse_rows(records: Iterable[tuple[int, dict[str, object]]], mistakes: Mistakes) -> list[Row]:
    """The rows of the valid records. What is wrong with the other records is added to `mistakes`."""
    rows: list[Row] = []
    first_numbers: dict[str, int] = {}
    for number, record in records:
        messages: list[str] = []
        row = _parse_row(record, messages)
        for message in messages:
            mistakes.add(number, message)
        if row is None:
            continue
        first = first_numbers.setdefault(row.path, number)
        if first != number:
            mistakes.add(
                number,
                f"the path {row.path!r} is already in {mistakes.unit} {first}. A file has one row. Remove one of them; "
                "several actions in one video are spans of its row.",
            )
        rows.append(row)
    if not rows and not mistakes.count:
        mistakes.add(None, "it has no rows. A manifest has one row per video. Write at least one.")
    return rows


def _parse_row(record: dict[str, object], messages: list[str]) -> Row | None:
    """The row of one record, or None with at least one message added."""
    before = len(messages)
    path = _parse_path(record.get("path"), messages)
    split = record.get("split")
    if split is not None and split not in SPLITS:
        messages.append(f"split is {shortened(split)}. {valid_names(split, SPLITS)}")
    group = _parse_text("group", record.get("group"), messages)
    label = _parse_text("label", record.get("label"), messages)
    spans = _parse_spans(record.get("spans"), messages)
    items = _parse_list("captions", record.get("captions"), messages)
    captions = [_parse_text("a caption", item, messages) or "" for item in items]
    text = record.get("text")
    text = None if text is None else _parse_text("text", text, messages)
    if len(messages) > before:
        return None
    valid_split: Split | None = next((name for name in SPLITS if name == split), None)
    return Row(path, valid_split, group, label, spans, tuple(captions), text)


def _parse_path(value: object, messages: list[str]) -> str:
    """A normalised path, relative or absolute, or "" with a message added."""
    if not isinstance(value, str) or not value:
        messages.append(f"path is {shortened(value)}. Every row has the path of a file, like clips/x.mp4. Add it.")
        return ""
    if "\0" in value:
        problem = "has a NUL character"
    elif value[0] == "\\" or re.match(r"[A-Za-z]:[/\\]", value):
        problem = "is one of Windows"
    elif ".." in re.split(r"[/\\]", value):
        problem = "leaves its folder (..)"
    elif not (plain := "/".join(part for part in value.split("/") if part not in ("", "."))):
        problem = "is the folder itself"
    else:
        return f"/{plain}" if value[0] == "/" else plain
    messages.append(
        f"the path {shortened(value)} {problem}. A path is relative to the root, like clips/x.mp4, or begins with /. "
        "Correct it, or give another root (data.root, or --root of check)."
    )
    return ""


def _parse_text(name: str, value: object, messages: list[str]) -> str | None:
    if value is None and name != "a caption":
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        messages.append(
            f"{name} is {shortened(value)}. It must be a text that is not empty and has no NUL. Quote it or leave it "
            "out."
        )
        return None
    value = normalised_name(value) if name in ("label", "group") else value
    if not value:
        messages.append(f"{name} is only blanks. It must be a text that is not empty. Write it or leave it out.")
        return None
    return sys.intern(value)  # a million rows share a few labels and groups


def _parse_list(name: str, value: object, messages: list[str]) -> list[object]:
    if value is None or isinstance(value, list):
        return value or []
    messages.append(f"{name} is {shortened(value)}. It must be a list. Put it between [ and ].")
    return []


def _parse_spans(value: object, messages: list[str]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for item in _parse_list("spans", value, messages):
        label = item[2] if isinstance(item, list) and len(item) == 3 else None
        label = normalised_name(label) if isinstance(label, str) else label
        if not isinstance(item, list) or not isinstance(label, str) or not label or "\0" in label:
            messages.append(
                f'the span {shortened(item)} is not [start, end, label]. Write it like [0.4, 1.6, "sit_down"].'
            )
        elif not all(isinstance(time, int | float) and not isinstance(time, bool) for time in item[:2]):
            messages.append(f"the span {shortened(item)} has times that are not numbers. Write seconds, like 0.4.")
        elif not 0 <= item[0] < item[1] <= sys.float_info.max:  # false for NaN as well
            messages.append(
                f"the span {shortened(item)} has wrong times. It must start at 0 or later and end after its start, at "
                "a "
                "finite time. Correct its seconds."
            )
        else:
            spans.append(Span(float(item[0]), float(item[1]), sys.intern(label)))
    spans.sort(key=lambda span: span.start)
    for earlier, later in pairwise(spans):
        if later.start < earlier.end:
            messages.append(
                f"the spans [{earlier.start}, {earlier.end}, {earlier.label!r}] and [{later.start}, {later.end}, "
                f"{later.label!r}] overlap. Spans of one row must not overlap. Shorten one of them."
            )
    return tuple(spans)


def record_of(row: Row) -> dict[str, object]:
    """The known values of a row as JSON types, in the order of COLUMNS."""
    record: dict[str, object] = {"path": row.path, "split": row.split, "group": row.group, "label": row.label}
    record["spans"] = [[_seconds(span.start), _seconds(span.end), span.label] for span in row.spans] or None
    record["captions"] = list(row.captions) or None
    record["text"] = row.text
    return {name: value for name, value in record.items() if value is not None}


def _seconds(value: object) -> object:
    """A time as a float, because 1 and 1.0 must give one fingerprint. What is not a number fails in `parse_rows`."""
    return float(value) if isinstance(value, int | float) else value


def normalised_name(text: str) -> str:
    """A label or group without blanks and invisible marks around it, in Unicode's composed form (NFC).

    Tables typed by hand have blanks behind names, and macOS writes names of files in the decomposed form.
    """
    return unicodedata.normalize("NFC", re.sub(rf"^{_BLANKS}+|{_BLANKS}+$", "", text))


def meant_name(value: object, names: tuple[str, ...]) -> str | None:
    """The valid name that means the same as `value` or is most similar, or None."""
    word = str(value).strip().lower()
    same = ELSEWHERE.get(re.sub(r"[\s-]+", "_", word))
    matches = [same] if same in names else get_close_matches(word, names, n=1, cutoff=0.5)
    return matches[0] if matches else None


def valid_names(value: object, names: tuple[str, ...]) -> str:
    """A sentence with the valid names, and the name that was probably meant by `value`."""
    meant = meant_name(value, names)
    hint = f"Did you mean {meant!r}?" if meant else "Use one of them."
    return f"Valid names are {', '.join(names)}. {hint}"


def shortened(value: object) -> str:
    """A value in a message: at most 80 characters, special characters escaped."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def examples(names: Sequence[str]) -> str:
    """The first five names, and the number of the others."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
