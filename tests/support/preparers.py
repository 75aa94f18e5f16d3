"""Runs the prepare.py of a dataset in this process, and writes and reads the files around it."""

from __future__ import annotations

import importlib.util
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from pipeline.data.manifest import read_manifest
from pipeline.data.manifest_rows import Row

DATASETS = Path(__file__).parents[2] / "datasets"


def run(name: str, *options: object) -> tuple[int, str, str]:
    """The exit code, the output and the error output of the command."""
    spec = importlib.util.spec_from_file_location(f"{name}_prepare", DATASETS / name / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    output, errors = io.StringIO(), io.StringIO()
    with patch.dict(sys.modules, {spec.name: module}), redirect_stdout(output), redirect_stderr(errors):
        spec.loader.exec_module(module)
        with patch.object(sys, "argv", ["prepare.py", *map(str, options)]):
            code = module.main()
    return code, output.getvalue(), errors.getvalue()


def write(path: Path, text: str | bytes) -> Path:
    """Write a file and the folders above it; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def by_path(path: Path) -> dict[str, Row]:
    """The rows of a manifest file by their paths."""
    return {row.path: row for row in read_manifest(path).rows}
