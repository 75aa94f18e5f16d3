"""A file that is there whole or not at all.

In: a path and what it shall hold. Out: the file under its name, on the disk. Knows nothing of what it holds.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: a reader sees the old one or the new one, also when the power fails; text is UTF-8.

    Raises OSError; nothing half-written stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
