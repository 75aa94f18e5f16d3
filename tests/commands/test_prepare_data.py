"""The rows of a run and their splits."""

from pathlib import Path

import pytest

from pipeline.commands.prepare_data import read_rows, split_rows
from pipeline.config.base import validate
from pipeline.config.run import Config
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row


@pytest.mark.parametrize("split", ["group", "random", "folds"])
def test_the_test_split_does_not_depend_on_the_seed_of_the_training(tmp_path: Path, split: str) -> None:
    groups = [None if split == "random" else f"g{i}" for i in range(24)]
    rows = [Row(path=f"{i}.npy", split=None, group=group, label="ab"[i % 2]) for i, group in enumerate(groups)]
    write_manifest(rows, tmp_path / "rows.jsonl")
    test_paths = set()
    for seed in range(3):
        data = {"path": str(tmp_path / "rows.jsonl"), "split": split}
        config = validate(Config, {"encoder": {"kind": "series"}, "data": data, "training": {"seed": seed}}, "x")
        manifest = split_rows(config, read_rows(config, lambda line: None), lambda line: None)
        test_paths.add(tuple(row.path for row in manifest.select("test").rows))
    assert len(test_paths) == 1 and test_paths.pop()
