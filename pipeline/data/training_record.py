"""What a model was trained on, as digests of rows, groups and classes.

In: rows with their files, and the record of the model that a training starts from. Out: a `TrainingRecord`, and which
of other rows are in it. A model carries its record, so a chain of trainings that start from one another forgets no row.
Knows nothing of models, splits or training.

The digest of a row is one of its content: of the bytes of its file, or of its text without regard to white space. So a
copy under another name and a folder with another name give the same digest, and a video that was encoded again does
not. Groups are compared by name, because other files of one person, recording or film leak too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.feature_store import content_hash
from pipeline.data.manifest_rows import Row
from pipeline.data.texts import text_of

DIGEST_BYTES = 8
"""With a million rows the chance that one of a million others has the digest of one of them is 1 in 18 million."""
_FIELDS = ("rows", "groups", "labels", "validation_rows")


@dataclass(frozen=True)
class TrainingRecord:
    """Digests of everything that a model has learned from, its ancestors included.

    rows: the training rows. groups, labels: of the training rows. validation_rows: those that chose the epoch. A set
    holds digests of 8 bytes. is_complete: whether every ancestor had a record.
    """

    rows: frozenset[bytes] = frozenset()
    groups: frozenset[bytes] = frozenset()
    labels: frozenset[bytes] = frozenset()
    validation_rows: frozenset[bytes] = frozenset()
    is_complete: bool = True

    @classmethod
    def of(cls, rows: Iterable[Row], root: Path, *, is_text: bool = False) -> TrainingRecord:
        """The record of a training on the rows whose split is train, chosen on those whose split is val.

        is_text: whether a row without a text names a text file.
        """
        rows = list(rows)
        train = [row for row in rows if row.split == "train"]
        return cls(
            frozenset(row_digest(row, root, is_text=is_text) for row in train),
            frozenset(name_digest(row.group) for row in train if row.group is not None),
            frozenset(name_digest(row.label) for row in train if row.label is not None),
            frozenset(row_digest(row, root, is_text=is_text) for row in rows if row.split == "val"),
        )

    def joined(self, earlier: TrainingRecord | None) -> TrainingRecord:
        """The record together with that of the model that the training started from; None: that model has no record."""
        if earlier is None:
            return TrainingRecord(self.rows, self.groups, self.labels, self.validation_rows, is_complete=False)
        sets = [getattr(self, name) | getattr(earlier, name) for name in _FIELDS]
        return TrainingRecord(*sets, is_complete=self.is_complete and earlier.is_complete)

    def as_json(self) -> dict[str, str | bool]:
        """The record as JSON has it: each set is the base64 text of its digests, in order."""
        sets = {name: base64.b64encode(b"".join(sorted(getattr(self, name)))).decode() for name in _FIELDS}
        return {**sets, "is_complete": self.is_complete}

    @classmethod
    def from_json(cls, value: object) -> TrainingRecord:
        """The record again. Raises ValueError for what `as_json` has not written."""
        if not isinstance(value, Mapping):
            raise ValueError("it is not an object")
        return cls(*(_digests(value.get(name), name) for name in _FIELDS), is_complete=value.get("is_complete") is True)


def row_digest(row: Row, root: Path, *, is_text: bool = False) -> bytes:
    """The digest of the content of a row. A file that cannot be read has the digest of its path."""
    if row.text is not None or is_text:
        return _digest(f"text {' '.join(text_of(row, root).split())}")
    path = root / row.path
    try:
        stat = path.stat()
        return _digest(f"file {content_hash(str(path), stat.st_size, stat.st_mtime_ns)}")
    except OSError:
        return _digest(f"path {row.path}")


def content_digest(rows: Iterable[Row], root: Path, record: TrainingRecord, *, is_text: bool = False) -> str:
    """One digest of the content of the training rows, in order, and of all that the model will have learned from."""
    digest = hashlib.blake2b(json.dumps(record.as_json()).encode(), digest_size=16)
    for row in rows:
        if row.split == "train":
            digest.update(row_digest(row, root, is_text=is_text))
    return digest.hexdigest()


def name_digest(name: str) -> bytes:
    """The digest of the name of a group or of a class."""
    return _digest(f"name {name}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _digests(value: object, name: str) -> frozenset[bytes]:
    """A set of digests from its base64 text. Raises ValueError."""
    try:
        data = base64.b64decode(value if isinstance(value, str) else "-", validate=True)
    except binascii.Error:
        raise ValueError(f"its {name} are no digests") from None
    if len(data) % DIGEST_BYTES:
        raise ValueError(f"its {name} hold {len(data)} bytes, which is no multiple of {DIGEST_BYTES}")
    return frozenset(data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES))
