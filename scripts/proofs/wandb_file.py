"""A reader of the binary file of an offline W&B run, with the message classes of wandb.

In: run-ID.wandb. Out: its records, and their content as plain types. The file is a log in the format of LevelDB: a
header of 7 bytes, then blocks of 32 KiB with chunks of (CRC-32, length, kind, data). It is not part of the product. It
exists because wandb's own reader is no Python code any more, and because a check of the file must not use the code that
wrote it.
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

messages: Any = wandb_internal_pb2  # its classes are created at import
_BLOCK, _HEADER = 32_768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """The content of an offline file: config, logged rows in order, summary, artifacts as (name, type), files, name."""

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
    """Every record of the file. Raises ValueError where a checksum is wrong. An incomplete last record is left out."""
    data = path.read_bytes()
    if not data:  # the file was just created
        return
    if data[:4] != b":W&B" or data[4:6] != b"\xe1\xbe":
        raise ValueError(f"'{path}' is no offline file of W&B: it starts with {data[:7]!r}.")
    position, parts = _HEADER, b""
    while position + _HEADER <= len(data):
        space = _BLOCK - position % _BLOCK
        if space < _HEADER:  # the end of a block that is too short for a header is padding
            position += space
            continue
        checksum, length, kind = (
            int.from_bytes(data[position + a : position + b], "little") for a, b in ((0, 4), (4, 6), (6, 7))
        )
        chunk = data[position + _HEADER : position + _HEADER + length]
        if len(chunk) < length:
            return
        if zlib.crc32(bytes([kind]) + chunk) != checksum:
            raise ValueError(f"'{path}' is damaged at byte {position}: the checksum of a record is wrong.")
        position += _HEADER + length
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            record = messages.Record()
            record.ParseFromString(parts)
            yield record


def read(path: Path, *, timeout_seconds: float = 20.0) -> WandbRun:
    """The content of the file of a finished run. W&B writes the last record a moment after `finish` has returned."""
    deadline = time.monotonic() + timeout_seconds
    while (wandb_run := _read_run(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return wandb_run


def _read_run(path: Path) -> WandbRun:
    wandb_run = WandbRun()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            wandb_run.name, wandb_run.project, wandb_run.tags = run.display_name, run.project, tuple(run.tags)
            wandb_run.config |= _items(run.config.update)
        elif kind == "config":
            wandb_run.config |= _items(record.config.update)
        elif kind == "history":
            wandb_run.history.append(_items(record.history.item))
        elif kind == "summary":
            wandb_run.summary |= _items(record.summary.update)
        elif kind == "artifact":
            wandb_run.artifacts.append((record.artifact.name, record.artifact.type))
        elif kind == "files":
            wandb_run.files += [f.path for f in record.files.files]
        elif kind == "exit":
            wandb_run.exit_code = record.exit.exit_code
    return wandb_run


def _items(items: Any) -> dict[str, Any]:
    values = {}
    for item in items:
        key = item.key or ".".join(item.nested_key)
        values[key] = json.loads(item.value_json)
    return values
