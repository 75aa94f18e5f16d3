"""The ledger of a folder job: every input with its status and its answer, in one SQLite file.

In: inputs, then their answers. Out: the inputs that are to be done, and the rows again, also after the process was
killed at any moment. The status of an input and its row are written in one transaction. It knows nothing of models,
and imports nothing heavy.

The file has a rollback journal and is synced at every commit. (A write-ahead log needs a shared mapping, which network
file systems lack.) Inside one process only its connections may open it: closing any other descriptor of the file would
drop SQLite's locks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.inference.job_plan import PlannedFile, Stored
from pipeline.media.search import InputFile

VERSION = 1
"""The version of the tables."""
COMMIT_SECONDS = 0.5
"""The shortest time between two transactions; a commit takes about 20 ms."""
BUSY_SECONDS = 60.0
"""How long a connection waits for another one, such as that of `unreel status`."""
PAGE = 1000
"""Rows that are read at once."""
TABLES = """
CREATE TABLE job (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inputs (
    id BLOB PRIMARY KEY,      -- the relative path as bytes, because names need not be UTF-8
    position INTEGER,         -- its place among the inputs of the last command; NULL: not among them
    path BLOB NOT NULL,       -- where it was found
    size INTEGER,
    mtime_ns INTEGER,
    content TEXT,             -- SHA-256 of what was read, where it was computed
    status TEXT,              -- NULL: not answered yet
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,             -- from its opening to its answer
    answered REAL,            -- when, in seconds since 1970
    answer TEXT,              -- the row as JSON
    checksum TEXT             -- SHA-256 of id, status and answer
) WITHOUT ROWID;
CREATE INDEX inputs_position ON inputs (position, id);
"""
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class LedgerError(ValueError):
    """A folder has no ledger, a damaged one, or one of another job."""


@dataclass(frozen=True)
class Job:
    """What all answers of a ledger have in common.

    fingerprint: everything besides the inputs that shapes the answers, by name. options: those of the command that
    shape the rows. columns: the columns of the answers, by head. formats: those to write. model: the folder of the
    model. shard: "i/n", or None.
    """

    fingerprint: Mapping[str, Any]
    options: Mapping[str, Any]
    columns: Mapping[str, Sequence[str]]
    formats: Sequence[str]
    model: str
    shard: str | None = None


@dataclass(frozen=True)
class Recorded:
    """One input with its answer, as the ledger keeps it. answer: the row as JSON; None: not answered yet."""

    id: str
    position: int
    path: str
    size: int | None
    mtime_ns: int | None
    content: str | None
    status: str | None
    answer: str | None
    checksum: str | None

    @property
    def row(self) -> dict[str, Any]:
        """The row as plain values."""
        return json.loads(self.answer or "{}")

    @property
    def is_intact(self) -> bool:
        """Whether the row is the one that was written."""
        return self.status is None or self.checksum == _checksum(self.id, self.status, self.answer)


class Ledger:
    """One ledger. `record` may be called from any thread; one thread inside writes.

    before_commit is called before each transaction with answers, to write what must be on the disk before them. Raises
    LedgerError, and OSError with the name of the file, also from `record` and `close` where the thread could not write.
    """

    def __init__(self, path: Path, *, is_new: bool = False, before_commit: Callable[[], None] = lambda: None) -> None:
        self.path, self._before_commit = path, before_commit
        if not is_new and not path.is_file():
            raise LedgerError(f"'{path.parent}' holds no ledger ({path.name}). Give the --out of `unreel predict`.")
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None
        with self._errors():
            uri = f"{path.absolute().as_uri()}?mode={'rwc' if is_new else 'rw'}"
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise LedgerError(
                f"'{self.path}' has version {version}, and this unreel writes version {VERSION}. Use the unreel that "
                "wrote it, or another --out."
            )
        self._connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            self._connection.execute("PRAGMA journal_mode = DELETE")
            with self._transaction():
                for statement in TABLES.split(";\n"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def job(self) -> Job | None:
        """The job of this ledger; None where it has just been made."""
        values = dict(self._read("SELECT key, value FROM job"))
        return Job(**json.loads(values["job"])) if "job" in values else None

    def begin(self, job: Job, *, started: float, is_fresh: bool) -> None:
        """Write the job and when its last command started. is_fresh: forget all answers."""
        values = {"job": json.dumps(asdict(job), sort_keys=True), "started": json.dumps(started)}
        with self._lock, self._transaction():
            if is_fresh:
                self._connection.execute("DELETE FROM inputs")
            self._connection.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", values.items())

    def started(self) -> float:
        """When the last command started, in seconds since 1970."""
        return json.loads(dict(self._read("SELECT key, value FROM job")).get("started", "0"))

    def stored(self) -> dict[str, Stored]:
        """What the ledger knows of every input, by id."""
        found = self._read("SELECT id, size, mtime_ns, content, status FROM inputs")
        return {_text(id): Stored(*rest) for id, *rest in found}

    def write_plan(self, files: Sequence[PlannedFile]) -> None:
        """Make these the inputs, in their order; those that are to be done lose their old answer, the others keep it.

        Answers of inputs that are not among them stay in the ledger, and no view has them.
        """
        kept = [(one.position, _bytes(one.file.name)) for one in files if not one.is_todo]
        todo = [
            (_bytes(f.file.name), f.position, _bytes(str(f.file.path)), f.size, f.mtime_ns) for f in files if f.is_todo
        ]
        with self._lock, self._transaction():
            self._connection.execute("UPDATE inputs SET position = NULL")
            self._connection.executemany("UPDATE inputs SET position = ? WHERE id = ?", kept)
            self._connection.executemany(
                "INSERT INTO inputs (id, position, path, size, mtime_ns) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET position = excluded.position, path = excluded.path, "
                "size = excluded.size, mtime_ns = excluded.mtime_ns, content = NULL, status = NULL, seconds = NULL, "
                "answered = NULL, answer = NULL, checksum = NULL",
                todo,
            )

    def record(
        self,
        file: InputFile,
        row: Mapping[str, Any],
        *,
        seconds: float,
        size: int | None,
        mtime_ns: int | None,
        content: str | None,
    ) -> None:
        """Keep the row of an input. It is on the disk within about half a second, or when `close` returns."""
        self._raise_error()
        answer = json.dumps(row, ensure_ascii=True)  # also names that are not UTF-8
        checksum = _checksum(file.name, row["status"], answer)
        values = (size, mtime_ns, content, row["status"], seconds, time.time(), answer, checksum, _bytes(file.name))
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="unreel-ledger")
            self._writer.start()
        self._waiting.put(values)

    def _write(self) -> None:
        """The writing thread: everything that waits in one transaction, at most one each half second."""
        is_open, last = True, 0.0
        while is_open:
            batch = [self._waiting.get()]
            while batch[-1] is not None and (left := last + COMMIT_SECONDS - time.monotonic()) > 0:
                try:
                    batch.append(self._waiting.get(timeout=left))
                except queue.Empty:
                    break
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            is_open = None not in batch
            try:
                self._before_commit()
                with self._lock, self._transaction():
                    self._connection.executemany(
                        "UPDATE inputs SET size = ?, mtime_ns = ?, content = ?, status = ?, seconds = ?, answered = ?, "
                        "answer = ?, checksum = ?, attempts = attempts + 1 WHERE id = ?",
                        [values for values in batch if values is not None],
                    )
            except Exception as error:  # raised again where rows are recorded
                self._error = error
                return
            last = time.monotonic()

    def recorded(self) -> Iterator[Recorded]:
        """All inputs with their answers, in order. What `record` has got before is among them."""
        self._join()
        last: tuple[int, bytes] = (-1, b"")
        while True:
            page = self._read(
                "SELECT id, position, path, size, mtime_ns, content, status, answer, checksum FROM inputs "
                f"WHERE position IS NOT NULL AND (position, id) > (?, ?) ORDER BY position, id LIMIT {PAGE}",
                last,
            )
            for id, position, path, *rest in page:
                yield Recorded(_text(id), position, _text(path), *rest)
            if len(page) < PAGE:
                return
            last = (page[-1][1], page[-1][0])

    def counts(self) -> dict[str | None, int]:
        """The number of inputs by status; None: not answered yet."""
        return dict(self._read("SELECT status, count(*) FROM inputs WHERE position IS NOT NULL GROUP BY status"))

    def unanswered(self, limit: int) -> list[str]:
        """The first inputs that are not answered yet, in order."""
        query = "SELECT id FROM inputs WHERE position IS NOT NULL AND status IS NULL ORDER BY position, id LIMIT ?"
        return [_text(id) for (id,) in self._read(query, (limit,))]

    def answered_since(self, time_: float) -> tuple[int, float]:
        """How many answers are newer than this time, and when the last of them was given."""
        found = self._read("SELECT count(*), coalesce(max(answered), 0) FROM inputs WHERE answered >= ?", (time_,))
        return found[0]

    def num_others(self) -> int:
        """How many answers belong to no input of the last command."""
        query = "SELECT count(*) FROM inputs WHERE position IS NULL AND status IS NOT NULL"
        return self._read(query)[0][0]

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file; empty where it is sound."""
        return [text for (text,) in self._read("PRAGMA integrity_check") if text != "ok"]

    def close(self) -> None:
        """Write what waits, and close the file. Raises the error of the writing thread."""
        try:
            self._join()
        finally:
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _join(self) -> None:
        """Wait until all that was recorded is on the disk."""
        if self._writer is not None:
            self._waiting.put(None)
            self._writer.join()
            self._writer = None
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock, self._errors():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite as OSError with the name of the file, or as LedgerError where the file is damaged."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
            if code in _DAMAGED:
                raise LedgerError(
                    f"'{self.path}' is damaged: {error}. Delete it to answer for all inputs again, or give another "
                    "--out."
                ) from error
            number = _ERRNO.get(code)
            text = f"the ledger: {error}" if number is None else os.strerror(number)
            raise OSError(number or errno.EIO, text, str(self.path)) from error


def check_same_job(ledger: Ledger, job: Job) -> None:
    """Raise LedgerError where the ledger holds answers of another model or with other options: they are never mixed."""
    held = ledger.job()
    if held is None:
        return
    pairs = [("", held.fingerprint, job.fingerprint), ("--", held.options, job.options)]
    for prefix, old, new in pairs:
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                raise LedgerError(
                    f"'{ledger.path.parent}' holds answers made with {prefix}{key} = {old.get(key)}, and now it is "
                    f"{new.get(key)}. Such answers are never mixed. Give another --out, or answer for all inputs again "
                    "with --reprocess."
                )


def _checksum(id: str, status: str | None, answer: str | None) -> str:
    return hashlib.sha256(b"\0".join([_bytes(id), _bytes(status or ""), _bytes(answer or "")])).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
