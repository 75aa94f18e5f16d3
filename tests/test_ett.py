"""ETTh1: scaling knows the training part only, a channel is a row, a wrong table is a sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.manifest import read_manifest

SPEC = importlib.util.spec_from_file_location(
    "ett_prepare", Path(__file__).parents[1] / "datasets" / "ett" / "prepare.py"
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


def test_scaling_knows_the_training_part_only_and_later_parts_begin_with_their_context(tmp_path):
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
        for part, length in lengths.items():
            found = np.load(tmp_path / "one" / part / f"{channel}.npy")
            start = starts[part]
            assert found.shape == (length, 1)
            wanted = (hours[start : start + length, i] - mean[i]) / deviation[i]
            np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)
        both = [np.load(tmp_path / name / "train" / f"{channel}.npy") for name in ("one", "two")]
        np.testing.assert_array_equal(*both)
    assert not len(list((tmp_path / "one").glob("manifest*")))  # main() writes it


def test_a_prepared_table_is_a_manifest_of_a_row_a_channel(tmp_path, monkeypatch, capsys):
    table(tmp_path, np.random.default_rng(0).normal(size=(14400, 7)))
    monkeypatch.setattr("sys.argv", ["prepare.py", "--folder", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ett.main() == 0, capsys.readouterr().err
    rows = read_manifest(tmp_path / "out/manifest.jsonl").rows
    assert {(r.split, Path(r.path).stem) for r in rows} == {(p, c) for p in ett.PARTS for c in ett.CHANNELS}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "There is no ETTh1.csv in .* It is the dataset. Check --folder."),
        ("date,OT\n1,2\n", "'ETTh1.csv' is not the dataset's table .* It has columns HUFL.* Fetch it again."),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,nan\n" * 14400,
            "values that are no numbers.*Fetch it",
        ),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,1\n" * 9,
            "has 9 hours.* At least 14,400 whole hours",
        ),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "ETTh1.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        ett.read_hours(tmp_path / "ETTh1.csv")
