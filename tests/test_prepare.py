"""What is chosen for a manifest that comes without a config."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.data.manifest import Row, write_manifest
from pipeline.prepare import defaults_for, read_rows, split_rows


def chosen_parts(folder: Path, splits: list[str]) -> dict[str, int]:
    rows = [Row(path=f"{i}.npy", split=s, group=f"g{i}", label="ab"[i % 2]) for i, s in enumerate(splits)]
    write_manifest(rows, folder / "manifest.jsonl")
    base, said = defaults_for(folder / "manifest.jsonl")
    config = load_config(None, base=base)
    split = split_rows(config, read_rows(config, said.append), said.append)
    return {part: len(split.select(part).rows) for part in ("train", "val", "test")}  # type: ignore[arg-type]


@pytest.mark.parametrize("copies", [1, 30])
def test_a_manifest_keeps_its_own_validation_rows(tmp_path: Path, copies: int) -> None:
    splits = (["train"] * 8 + ["val"] * 4 + ["test"] * 4) * copies
    assert chosen_parts(tmp_path, splits) == {"train": 8 * copies, "val": 4 * copies, "test": 4 * copies}


def test_few_videos_without_a_validation_part_all_learn(tmp_path: Path) -> None:
    assert chosen_parts(tmp_path, ["train"] * 12 + ["test"] * 4) == {"train": 12, "val": 0, "test": 4}
