"""ETTh1: only training hours shape the scale, each channel is a row, and a wrong table is an error."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.manifest import read_manifest

SPEC = importlib.util.spec_from_file_location(
    "ett_prepare", Path(__file__).parents[2] / "datasets" / "ett" / "prepare.py"
)
assert SPEC is not None and SPEC.loader is not None
ett = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ett)


def table(folder: Path, hours: np.ndarray) -> Path:
    lines = ["date," + ",".join(ett.CHANNELS)]
    lines += [f"{i}," + ",".join(map(repr, row)) for i, row in enumerate(hours.tolist())]
    folder.mkdir(exist_ok=True)
    (folder / "ETTh1.csv").write_text("\n".join(lines) + "\n")
    return folder / "ETTh1.csv"


def test_only_training_hours_shape_the_scale_and_later_splits_start_with_their_context(tmp_path):
    hours = np.random.default_rng(0).normal(3.0, 2.0, size=(14500, 7))
    changed = hours.copy()
    changed[8640:] *= 100
    for name, values in (("one", hours), ("two", changed)):
        read = ett.read_hours(table(tmp_path / name, values))
        ett.write_series(read, tmp_path / name, context=96)
    assert (tmp_path / "one/scale.json").read_bytes() == (tmp_path / "two/scale.json").read_bytes()
    mean, deviation = hours[:8640].mean(0), hours[:8640].std(0)
    lengths = {"train": 8640, "val": 2976, "test": 2976}
    starts = {"train": 0, "val": 8640 - 96, "test": 11520 - 96}
    for i, channel in enumerate(ett.CHANNELS):
        for split, length in lengths.items():
            series = np.load(tmp_path / "one" / split / f"{channel}.npy")
            start = starts[split]
            assert series.shape == (length, 1)
            expected = (hours[start : start + length, i] - mean[i]) / deviation[i]
            np.testing.assert_allclose(series[:, 0], expected, rtol=1e-4, atol=1e-5)
        both = [np.load(tmp_path / name / "train" / f"{channel}.npy") for name in ("one", "two")]
        np.testing.assert_array_equal(*both)
    assert not len(list((tmp_path / "one").glob("manifest*")))  # main() writes it


def test_the_manifest_has_a_row_per_channel_and_split(tmp_path, monkeypatch, capsys):
    table(tmp_path, np.random.default_rng(0).normal(size=(14400, 7)))
    monkeypatch.setattr("sys.argv", ["prepare.py", "--folder", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ett.main() == 0, capsys.readouterr().err
    rows = read_manifest(tmp_path / "out/manifest.jsonl").rows
    assert {(r.split, Path(r.path).stem) for r in rows} == {(s, c) for s in ett.SPLIT_HOURS for c in ett.CHANNELS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no ETTh1.csv in .* It is the dataset. Correct --folder."),
        (
            "date,OT\n1,2\n",
            "'ETTh1.csv' is not the table of the dataset .* It has numbers in the columns HUFL.* Download it",
        ),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,nan\n" * 14400,
            "values that are not numbers.*Download it",
        ),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,1\n" * 9,
            "has 9 hours.* Its 20 months need at least 14,400 complete hours",
        ),
    ],
)
def test_a_wrong_table_is_an_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "ETTh1.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        ett.read_hours(tmp_path / "ETTh1.csv")
