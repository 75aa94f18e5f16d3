"""Atomic file writes, and the lock of a folder.

In: a path and its new content. Out: the file with this content, synced to the disk: a reader sees the old file or the
new one, never a part of it. In: a folder. Out: its lock, which one process holds. Knows nothing of the content.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = ".lock"
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{12}(\.[^.]*)?")
"""The names of the temporary files of `open_atomic`."""


class FolderLocked(RuntimeError):
    """Another process uses the folder. The text names the process and its machine."""


@contextmanager
def open_atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`. Write the content there; it replaces `path` when the block ends without an error.

    The temporary name is unique among processes, machines and containers that share the folder. The data are synced to
    the disk before the replacement, so the old file or the new one survives a power failure.

    Raises OSError that names `path`, also where the disk is full; the temporary file is removed after any error.
    """
    partial = _partial(path)
    try:
        with naming(path):
            yield partial
            _sync(partial)
            os.replace(partial, path)
            _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError that names no file, as of a full disk while writing, the name of the file that was written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{path.suffix}")


def remove_partial_files(folder: Path, *, is_deep: bool = False) -> None:
    """Remove the temporary files that killed processes left in a folder; is_deep: also in the folders below it.

    The caller holds the lock of the folder.
    """
    for path in folder.rglob(".*") if is_deep else folder.glob(".*"):
        if _PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def check_output_folder(folder: Path, option: str) -> None:
    """Raise ValueError where a file has the name of a folder that is to be made. option: such as "--out"."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"{option} '{folder}' is a file, and several files are written into a folder. Nothing was changed. Give "
            "another name."
        )


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace the content of a file in one step; text is written as UTF-8. Raises OSError as `open_atomic`."""
    with open_atomic(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


class AtomicFile:
    """A file that is written in many steps and gets its name when the writer commits it.

    Write the content to `partial`, which has a unique name as in `open_atomic`. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, _partial(path)

    def commit(self) -> Path:
        """Give the finished file its name, in one step after a sync to the disk. Returns the path."""
        with naming(self.path):
            _sync(self.partial)
            os.replace(self.partial, self.path)
            _sync_folder(self.path.parent)
        return self.path


@contextmanager
def lock_folder(folder: Path, advice: str) -> Iterator[None]:
    """Hold the lock of a folder. The system releases it when the process ends, also after kill -9.

    The file `.lock` names the owner: process, machine, and since when. A file system without locks has none. advice:
    what to do where another process holds it. Raises FolderLocked with the owner and the advice, and OSError.
    """
    path = folder / LOCK_FILE
    descriptor = -1
    while descriptor < 0:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise FolderLocked(f"'{folder}' is in use by {owner}. Only one may write into a folder. {advice}") from None
        except OSError:
            break
        if not _is_file_of(descriptor, path):  # its last owner has removed it meanwhile
            os.close(descriptor)
            descriptor = -1
    try:
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def folder_owner(folder: Path) -> str | None:
    """Who holds the lock of a folder: process, machine, and since when; None where nobody does. Writes nothing."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        return _owner(descriptor) if error.errno in (errno.EAGAIN, errno.EACCES) else None
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "an unknown process"


def _is_file_of(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the file at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync the name of a new file too, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
