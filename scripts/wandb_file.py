"""Reads the binary file of an offline W&B run, with wandb's own message classes.

In: run-ID.wandb. Out: its records, and what they say in plain types. The file is a log in LevelDB's format: a header of
7 bytes, then blocks of 32 KiB that hold chunks of (CRC-32, length, kind, data). Not part of the product: wandb's own
reader is no longer Python, and what a run left on the disk should be looked at by other code than wrote it.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

messages: Any = wandb_internal_pb2  # its classes are made at run time
_BLOCK, _HEAD = 32_768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class Told:
    """What an offline file holds: the config, the logged rows in order, artifacts by name, files, run and summary."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    name: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    exit_code: int | None = None


def records(path: Path) -> Iterator[Any]:
    """Every record of the file. Raises ValueError where a checksum is wrong; a cut end just ends."""
    data = path.read_bytes()
    if not data:  # begun just now
        return
    if data[:4] != b":W&B" or data[4:6] != b"\xe1\xbe":
        raise ValueError(f"'{path}' is no offline file of W&B: it begins with {data[:7]!r}.")
    at, parts = _HEAD, b""
    while at + _HEAD <= len(data):
        room = _BLOCK - at % _BLOCK
        if room < _HEAD:  # what no head fits into is padding
            at += room
            continue
        checksum, length, kind = (int.from_bytes(data[at + a : at + b], "little") for a, b in ((0, 4), (4, 6), (6, 7)))
        chunk = data[at + _HEAD : at + _HEAD + length]
        if len(chunk) < length:
            return
        if zlib.crc32(bytes([kind]) + chunk) != checksum:
            raise ValueError(f"'{path}' is damaged at byte {at}: the checksum of a record is wrong.")
        at += _HEAD + length
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            record = messages.Record()
            record.ParseFromString(parts)
            yield record


def read(path: Path, *, patience_seconds: float = 20.0) -> Told:
    """The file of an ended run as plain types; W&B writes its end a moment after `finish` has returned."""
    deadline = time.monotonic() + patience_seconds
    while (told := _told(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return told


def _told(path: Path) -> Told:
    told = Told()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            told.name, told.project, told.tags = run.display_name, run.project, tuple(run.tags)
            told.config |= _items(run.config.update)
        elif kind == "config":
            told.config |= _items(record.config.update)
        elif kind == "history":
            told.history.append(_items(record.history.item))
        elif kind == "summary":
            told.summary |= _items(record.summary.update)
        elif kind == "artifact":
            told.artifacts.append((record.artifact.name, record.artifact.type))
        elif kind == "files":
            told.files += [f.path for f in record.files.files]
        elif kind == "exit":
            told.exit_code = record.exit.exit_code
    return told


def _items(items: Any) -> dict[str, Any]:
    found = {}
    for item in items:
        key = item.key or ".".join(item.nested_key)
        found[key] = json.loads(item.value_json)
    return found
