"""The loader refuses what would make its workers fail in silence."""

from __future__ import annotations

import os
import tempfile
from typing import cast

import pytest

from pipeline.config.base import ConfigError
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import EpochSampler
from pipeline.training.loader import MAX_TEMPORARY_PATH, make_loader


def test_workers_in_a_temporary_folder_with_a_long_path_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, rows = EpochSampler([1, 1], 1, 0), cast(RowDataset, [])
    folder = tempfile.mkdtemp(prefix="x" * (MAX_TEMPORARY_PATH + 1 - len("/tmp/") - 8), dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    try:
        with pytest.raises(ConfigError, match="whose path is too long.* at most 71 bytes.*Set TMPDIR.*data.workers=0"):
            make_loader(rows, sampler, 1)
        make_loader(rows, sampler, 0)
        monkeypatch.setattr(tempfile, "tempdir", folder[:MAX_TEMPORARY_PATH])
        make_loader(rows, sampler, 1)
    finally:
        os.rmdir(folder)
