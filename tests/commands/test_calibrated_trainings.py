"""Which rows a calibration holds out together: those of a group, and those that look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_videos import make_video

from pipeline.commands.calibration import known_rows
from pipeline.config.run import load_config
from pipeline.data.dataset import DecodedFrames
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row
from pipeline.data.run_data import RunData
from pipeline.media.clock import Clock
from pipeline.media.transform import Transform

CONFIG = load_config(None, ["data.path=x.csv"])


def data_of(folder: Path, rows: list[Row]) -> RunData:
    source = DecodedFrames(folder, Clock(1.0), Transform(32, "squash"), "pyav")
    return RunData(Manifest(tuple(rows), folder), source, {})


def test_videos_without_a_group_share_one_where_they_look_alike(tmp_path: Path) -> None:
    shapes = np.random.default_rng(0).integers(0, 255, (4, 6, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    for number, name in enumerate("acde"):
        make_video(tmp_path / f"{name}.mp4", [shapes[number]] * 20)
    make_video(tmp_path / "b.mp4", [shapes[0]] * 24)  # a, encoded again
    splits = {"a": "train", "b": "val", "c": "train", "d": "train", "e": "test"}
    rows = [Row(f"{name}.mp4", split, label="x") for name, split in splits.items()]  # type: ignore[arg-type]
    lines: list[str] = []
    known = known_rows(CONFIG, data_of(tmp_path, rows), lines.append)
    assert [row.path for row in known.rows] == ["a.mp4", "c.mp4", "d.mp4", "b.mp4"]
    a, c, d, b = known.groups
    assert a == b
    assert len({a, c, d}) == 3
    assert not known.has_groups
    assert lines == ["calibration: comparing 4 videos without a group; those alike share one"]


def test_rows_with_groups_are_not_compared(tmp_path: Path) -> None:
    rows = [Row(f"{name}.mp4", "train", label="x", group=f"p{name}") for name in "abc"]
    lines: list[str] = []
    known = known_rows(CONFIG, data_of(tmp_path, rows), lines.append)
    assert known.groups == ["group pa", "group pb", "group pc"]
    assert known.has_groups
    assert lines == []
    captions = load_config(None, ["data.path=x.csv", "data.window=null"], base={"heads": {"text": {"kind": "caption"}}})
    known_rows(captions, data_of(tmp_path, [Row("a.mp4", "train", captions=("x",))]), lines.append)
    assert lines == []
