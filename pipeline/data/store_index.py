"""The index of the feature store: which file on the disk has which content, so that a warm store opens no video.

In: videos with size, time of change, SHA-256 and the file of their features. Out: the SHA-256 again, for a video that
has not changed. It is an SQLite file beside the features, which several jobs share. It is a cache: it may be deleted at
any time, and one that is damaged is begun again. Knows nothing of features.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INDEX = "index.sqlite"
VERSION = 1
BUSY_SECONDS = 30.0
"""How long a job waits for another one."""
SETTLED_SECONDS = 2.0
"""A file may change twice within the resolution of its time of change (2 s on FAT), so it is known only if it was older
than this when it was read.
"""
FLUSH_SECONDS = 0.5
"""How long new entries wait to be written together."""
TABLE = """
CREATE TABLE IF NOT EXISTS videos (
    path BLOB, size INTEGER, mtime_ns INTEGER, content TEXT, file TEXT, looks INTEGER, warnings TEXT,
    PRIMARY KEY (path, file)
) WITHOUT ROWID
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True)
class FileContent:
    """What a file held when it was read. sha256: in hexadecimal. read_at: when reading began, in seconds since 1970."""

    sha256: str
    size: int
    mtime_ns: int
    read_at: float

    @property
    def is_settled(self) -> bool:
        """Whether a later change of the file would also have changed its time."""
        return self.read_at - self.mtime_ns / 1e9 >= SETTLED_SECONDS


class StoreIndex:
    """The index in a folder. It never raises: what it cannot read or write, it does not know.

    Threads may share it, and each process opens a connection of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._waiting: list[tuple[object, ...]] = []
        self._last_flush = 0.0

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.path = state["path"]
        self._reset()

    def content(self, video: str | Path, size: int, mtime_ns: int) -> str | None:
        """The SHA-256 of a file of this size and time of change; None where it is not known."""
        values = (_key(video), size, mtime_ns)
        found = self._execute("SELECT content FROM videos WHERE path = ? AND size = ? AND mtime_ns = ? LIMIT 1", values)
        return found[0][0] if found else None

    def add(self, video: str | Path, content: FileContent, file: str, looks: int, warnings: Sequence[str]) -> None:
        """Add a video whose features are in `file`. `flush` writes it, or a later call."""
        if not content.is_settled:
            return
        entry = (_key(video), content.size, content.mtime_ns, content.sha256, file, looks, json.dumps(list(warnings)))
        with self._lock:
            self._waiting.append(entry)
        if time.monotonic() - self._last_flush >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the entries that wait, in one transaction."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._last_flush = time.monotonic()
            if waiting:
                self._execute("INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?, ?, ?, ?)", waiting)

    def _execute(self, statement: str, values: tuple[object, ...] | list[tuple[object, ...]]) -> list[tuple[str, ...]]:
        """The rows of a query, or of none where the file cannot be used. A list of values is one transaction."""
        is_writing = isinstance(values, list)
        with self._lock:
            try:
                connection = self._open(is_writing)
                if connection is None:
                    return []
                if not is_writing:
                    return connection.execute(statement, values).fetchall()
                with connection:
                    connection.executemany(statement, values)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    self._connection = None
                    self.path.unlink(missing_ok=True)
        return []

    def _open(self, is_writing: bool) -> sqlite3.Connection | None:
        """The connection of this process; None where there is no file to read."""
        if self._process != os.getpid():  # a fork: the parent's connection must not be used here
            self._reset()
        if self._connection is None:
            if not is_writing and not self.path.is_file():
                return None
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
            if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                with connection:
                    connection.execute("DROP TABLE IF EXISTS videos")
                    connection.execute(TABLE)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
            self._connection = connection
        return self._connection


def _key(video: str | Path) -> bytes:
    return os.fsencode(os.path.abspath(video))
