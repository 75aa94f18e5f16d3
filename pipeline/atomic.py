"""Atomic file writes: a reader sees the old file or the new one, never a part of it.

In: a path and its new content. Out: the file with this content, synced to the disk. Knows nothing of the content.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def open_atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`. Write the content there; it replaces `path` when the block ends without an error.

    The temporary name is unique among processes, machines and containers that share the folder. The data are synced to
    the disk before the replacement, so the old file or the new one survives a power failure.

    Raises OSError; the temporary file is removed after any error.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    """A file that is written during a whole job and gets its name when the job commits it.

    Write the content to `partial`, `<name>.<12 hex digits>.partial`; the digits make it unique as in `open_atomic`.
    Until the commit a symbolic link `<name>.partial` leads to it, so people can read the rows so far under a known
    name. Where two jobs write the same file, the link leads to the file of the later job, and each job keeps its own. A
    file system without symbolic links has no such link. The partial file of a job that died stays on the disk.

    Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        unique = uuid.uuid4().hex[:12]
        self.path, self.partial = path, path.with_name(f"{path.name}.{unique}.partial")
        self._link = path.with_name(f"{path.name}.partial")
        self.partial.touch()
        new_link = path.with_name(f".{path.name}.{unique}.link")
        try:
            new_link.symlink_to(self.partial.name)
            os.replace(new_link, self._link)  # in one step, also over the link of another job
        except (OSError, NotImplementedError):
            new_link.unlink(missing_ok=True)

    def commit(self) -> Path:
        """Give the finished file its name, in one step after a sync to the disk. Returns the path."""
        _sync(self.partial)
        os.replace(self.partial, self.path)
        with suppress(OSError):  # no link, or a file that is none
            if os.readlink(self._link) == self.partial.name:
                self._link.unlink()
        return self.path


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
