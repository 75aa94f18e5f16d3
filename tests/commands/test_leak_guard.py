"""A model is not tested on what it has learned from, not even through other models, names and folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_splits import coin_rows, series_config, write_data, write_series

from pipeline.checkpoint import ModelError, load_model
from pipeline.commands.evaluate import evaluate
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.split import LeakError
from pipeline.training import fit as fit_module
from pipeline.training.stop_signal import Interrupted

GROUPS = ("ann", "bob", "cid", "dee")


def quiet(text: str) -> None:
    """No log."""


@pytest.fixture
def rows() -> list[Row]:
    """ann, bob and cid for training, dee for the test."""
    return [*coin_rows(GROUPS[:3], "train"), *coin_rows(GROUPS[3:], "test")]


@pytest.fixture
def trained(tmp_path: Path, rows: list[Row]) -> Path:
    """A run on these rows."""
    return train(series_config(write_data(tmp_path / "data", rows), tmp_path / "first"), quiet).folder


def other_fold(rows: list[Row]) -> list[Row]:
    """The rows with ann for the test and the others for training."""
    return [replace(row, split="test" if row.group == "ann" else "train") for row in rows]


def start_from(tmp_path: Path, start: Path, rows: list[Row], *overrides: str, name: str = "second") -> Path:
    """Train on rows, from the weights of another run."""
    data = write_data(tmp_path / "data", rows, name)
    return train(series_config(data, tmp_path / name, f"training.init_from={start}", *overrides), quiet).folder


def test_a_start_from_another_fold_is_refused_by_name(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    with pytest.raises(LeakError) as error:
        start_from(tmp_path, trained, other_fold(rows))
    text = str(error.value)
    assert f"training.init_from = '{trained}'" in text and "4 of the 4 test rows: 'ann_0.npy'" in text
    assert "Split the rows as that run did" in text
    assert not (tmp_path / "second").exists(), "nothing is left behind"


def test_a_start_with_the_same_split_is_no_leak(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    run = start_from(tmp_path, trained, rows)
    assert load_model(run).training_record == load_model(trained).training_record


def test_a_chain_of_starts_forgets_nothing(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    between = [*coin_rows(["eve"], "train"), *coin_rows(["fay"], "test")]
    second = start_from(tmp_path, trained, between)
    third = start_from(tmp_path, second, between, name="third")
    with pytest.raises(LeakError, match=r"4 of the 4 test rows: 'ann_0\.npy'"):
        start_from(tmp_path, third, other_fold(rows), name="fourth")


def test_a_start_knows_copies_and_renamed_folders(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    data, renamed = tmp_path / "data", tmp_path / "renamed"
    copies = coin_rows(["new"], "test")
    for number, copy in enumerate(copies):
        shutil.copy(data / f"ann_{number}.npy", data / copy.path)
    trained.rename(renamed)
    data.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", data)
    with pytest.raises(LeakError, match=r"4 of the 4 test rows: 'new_0\.npy'"):
        start_from(tmp_path, renamed, [*coin_rows(["eve"], "train"), *copies])


def test_other_rows_of_a_group_are_refused(tmp_path: Path, trained: Path) -> None:
    others = [*coin_rows(["eve"], "train"), *coin_rows(["ann", "bob"], "test", start=10)]
    with pytest.raises(LeakError, match="trained on other rows of 2 test groups: 'ann', 'bob'"):
        start_from(tmp_path, trained, others)


def test_validation_rows_that_the_start_knows_are_refused(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    changed = [replace(row, split="val") if row.group == "cid" else row for row in rows]
    with pytest.raises(LeakError, match=r"4 of the 4 validation rows: 'cid_0\.npy'.* With data\.validation_share=0 no"):
        start_from(tmp_path, trained, changed, "data.validation_share=0.2")
    assert start_from(tmp_path, trained, changed).is_dir(), "the advice helps"


def test_test_rows_that_chose_the_epoch_of_the_start_are_refused(tmp_path: Path, rows: list[Row]) -> None:
    chosen = [replace(row, split="val") if row.group == "dee" else row for row in rows[:-4]] + [
        replace(row, split="val") for row in rows[-4:]
    ]
    data = write_data(tmp_path / "data", chosen, "first")
    first = train(series_config(data, tmp_path / "first", "data.validation_share=0.2"), quiet).folder
    with pytest.raises(LeakError, match=r"Its best epoch was chosen on 4 of the 4 test rows: 'dee_0\.npy'"):
        start_from(tmp_path, first, rows)


def test_classes_that_are_held_out_must_be_unknown_to_the_start(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    three = [*rows, *(replace(row, label="edge") for row in coin_rows(["gus"], "train"))]
    three = [*three, *(replace(row, label="edge") for row in coin_rows(["hal"], "test"))]
    held_out = "evaluation.unknown_classes=[edge]"
    knows = train(series_config(write_data(tmp_path / "data", three, "three"), tmp_path / "knows"), quiet).folder
    with pytest.raises(LeakError, match=r"trained on edge, which evaluation\.unknown_classes holds out"):
        start_from(tmp_path, knows, three, held_out)
    run = start_from(tmp_path, trained, three, held_out)
    lines: list[str] = []
    without = write_data(tmp_path / "other", coin_rows(["ivy"]), seed=5)
    assert evaluate(run, [f"data.path={without}"], lines.append).report["rows"][0]["count"] == 4
    assert f"evaluation.unknown_classes: '{without}' has no row of 'edge'" in lines


def test_what_the_own_split_leaks_is_not_the_fault_of_the_start(tmp_path: Path, rows: list[Row]) -> None:
    leaking = [*rows, *coin_rows(["dee"], "train", start=4)]
    first = train(series_config(write_data(tmp_path / "data", leaking), tmp_path / "first"), quiet).folder
    assert start_from(tmp_path, first, leaking).is_dir()


def test_texts_are_known_word_for_word(tmp_path: Path) -> None:
    def data(name: str, rows: list[Row]) -> Path:
        return write_data(tmp_path / name, rows)

    settings = ("encoder.kind=tokens", "encoder.min_count=1", "clock.rate=1")
    one = [Row("a", "train", label="x", text="a good film"), Row("b", "train", label="y", text="a bad film")]
    first = train(series_config(data("one", one), tmp_path / "first", *settings), quiet).folder
    two = [
        *(replace(row, path=f"{row.path}2", text=f"{row.text} again") for row in one),
        Row("c", "test", label="x", text="a  good film"),
    ]
    with pytest.raises(LeakError, match="1 of the 1 test rows: 'c'"):
        train(series_config(data("two", two), tmp_path / "two", *settings, f"training.init_from={first}"), quiet)


def test_a_start_without_a_record_is_named_in_the_report_and_through_chains(tmp_path: Path, rows: list[Row], trained):
    path = trained / "model/model.json"
    description = json.loads(path.read_text())
    record = description.pop("training_record")
    path.write_text(json.dumps(description))
    second = start_from(tmp_path, trained, rows)
    assert f"'{trained}' does not say what it was trained on" in (second / "report.txt").read_text()
    third = start_from(tmp_path, second, rows, name="third")
    assert f"A model that '{second}' started from does not say" in (third / "report.txt").read_text()
    path.write_text(json.dumps({**description, "training_record": {**record, "rows": "?"}}))
    with pytest.raises(ModelError, match="training_record in .* is damaged: its rows are no digests"):
        load_model(trained)


def test_baselines_say_that_they_do_not_start_from_the_model(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    run = start_from(tmp_path, trained, rows, "evaluation.baselines=true")
    warnings = json.loads((run / "report.json").read_text())["warnings"]
    assert any("the baselines have other layers and started from random weights" in text for text in warnings)


def interrupted(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    """Run a training until its first saved state."""

    def stop(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise Interrupted(15)

    save = fit_module.save_state
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "save_state", stop)
        with pytest.raises(Interrupted):
            train(config, quiet)


def exchange_files(folder: Path) -> None:
    """Give the file of one training row to a row of the other label."""
    one, other = (np.load(folder / f"ann_{number}.npy") for number in (0, 1))
    np.save(folder / "ann_0.npy", other)
    np.save(folder / "ann_1.npy", one)


@pytest.mark.parametrize("change", ["labels", "spans", "captions", "group", "path", "files"])
def test_a_run_does_not_go_on_with_other_rows(tmp_path: Path, rows: list[Row], monkeypatch, change: str) -> None:
    data = write_data(tmp_path / "data", rows)
    config = series_config(data, tmp_path / "run", "training.save_every=1", "training.batch_size=4")
    interrupted(monkeypatch, config)
    changed = {
        "labels": lambda row: replace(row, label="heads" if row.label == "tails" else "tails"),
        "spans": lambda row: replace(row, spans=(Span(0.0, 0.5, "a"),)),
        "captions": lambda row: replace(row, captions=("a coin",)),
        "group": lambda row: replace(row, group=f"{row.group}x"),
        "path": lambda row: replace(row, path=row.path.replace("ann", "new")),
        "files": lambda row: row,
    }[change]
    write_data(tmp_path / "data", [changed(row) if row.split == "train" else row for row in rows], seed=1)
    if change == "files":
        exchange_files(tmp_path / "data")
    with pytest.raises(ValueError, match="saved by a training on other rows or of other weights"):
        train(config, quiet)
    write_data(tmp_path / "data", rows)
    if change == "files":
        exchange_files(tmp_path / "data")
    assert train(config, quiet).report["rows"], "with its own rows it goes on"


def test_a_run_does_not_go_on_from_another_start(tmp_path: Path, rows: list[Row], trained: Path, monkeypatch) -> None:
    data = write_data(tmp_path / "data", rows)
    settings = ("training.save_every=1", "training.batch_size=4", f"training.init_from={trained}")
    config = series_config(data, tmp_path / "run", *settings)
    interrupted(monkeypatch, config)
    first = trained.rename(tmp_path / "kept")
    train(series_config(write_data(tmp_path / "data", coin_rows(["eve"], "train"), "eve"), trained), quiet)
    with pytest.raises(ValueError, match="saved by a training on other rows or of other weights"):
        train(config, quiet)
    shutil.rmtree(trained)
    first.rename(trained)
    assert train(config, quiet).report["rows"]


def test_a_model_of_videos_knows_their_content(tiny_run: Path, config_file: Path, tmp_path: Path) -> None:
    record = load_model(tiny_run).training_record
    counts = json.loads((tiny_run / "report.json").read_text())["counts"]
    assert record is not None and (len(record.rows), len(record.validation_rows)) == (counts["train"], counts["val"])
    other = ["data.split=folds", "data.fold=1", f"training.init_from={tiny_run}", f"run={tmp_path / 'run'}"]
    with pytest.raises(LeakError, match="It was trained on .* test rows"):
        train(load_config(config_file, other), quiet)


def test_all_rows_of_a_folder_are_test_rows(tmp_path: Path, trained: Path) -> None:
    for label in ("heads", "tails"):
        write_series(tmp_path / "folder" / label, [f"{label}{number}" for number in range(3)], seed=9)
    report = evaluate(trained, [f"data.path={tmp_path / 'folder'}"], quiet).report
    assert report["counts"] == {"test": 6} and report["rows"][0]["count"] == 6 and report["warnings"] == []


def test_all_rows_of_other_data_are_test_rows(tmp_path: Path, trained: Path) -> None:
    other = write_data(tmp_path / "other", [*coin_rows(["ivy"], "train"), *coin_rows(["jon"], None)], seed=5)
    lines: list[str] = []
    report = evaluate(trained, [f"data.path={other}"], lines.append).report
    assert report["counts"] == {"test": 8} and report["rows"][0]["count"] == 8
    assert report["split"] == "all rows are test rows" and report["warnings"] == []
    assert any("is not the data of the run" in line and "all its rows are test rows" in line for line in lines)
    own = evaluate(trained, [], quiet).report
    assert own["counts"] == {"train": 12, "test": 4} and own["rows"][0]["count"] == 4
    assert any("give data.split=manifest" in line for line in lines)
    with pytest.raises(ValueError, match="4 of 8 rows have no split"):
        evaluate(trained, [f"data.path={other}", "data.split=manifest"], quiet)


def test_training_rows_among_other_data_are_named(tmp_path: Path, rows: list[Row], trained: Path) -> None:
    mixed = [*coin_rows(["kim"]), *coin_rows(["bob"], start=8), *(row for row in rows if row.group == "ann")]
    lines: list[str] = []
    report = evaluate(trained, [f"data.path={write_data(tmp_path / 'data', mixed, 'mixed')}"], lines.append).report
    (warning,) = report["warnings"]
    assert "trained on 4 of the 12 test rows: 'ann_0.npy'" in warning and "other rows of 1 test group: 'bob'" in warning
    assert warning in (trained / "evaluation/report.txt").read_text() and any(warning in line for line in lines)


def test_rows_that_chose_the_epoch_are_named(tmp_path: Path, rows: list[Row]) -> None:
    chosen = [replace(row, split="val") if row.group == "cid" else row for row in rows]
    data = write_data(tmp_path / "data", chosen)
    run = train(series_config(data, tmp_path / "run", "data.validation_share=0.2"), quiet).folder
    other = write_data(tmp_path / "data", [row for row in rows if row.group == "cid"], "other")
    (warning,) = evaluate(run, [f"data.path={other}"], quiet).report["warnings"]
    assert "the best epoch of the model was chosen on 4 of the 4 test rows: 'cid_0.npy'" in warning


def test_a_class_that_the_model_does_not_know_is_named(tmp_path: Path, trained: Path) -> None:
    strange = [replace(row, label="tail") for row in coin_rows(["leo"], size=3)]
    other = write_data(tmp_path / "other", [*coin_rows(["ivy"]), *strange], seed=5)
    with pytest.raises(ConfigError) as error:
        evaluate(trained, [f"data.path={other}"], quiet)
    text = str(error.value)
    assert "has 1 class that the head 'action' of the model does not know: 'tail' (3 rows)." in text
    assert "Did you mean 'tails'? It knows: heads, tails." in text
    assert "evaluation.unknown_classes=[tail]" in text
    report = evaluate(trained, [f"data.path={other}", "evaluation.unknown_classes=[tail]"], quiet).report
    assert report["rows"][0]["count"] == 4 and report["rows"][0]["open_set"]["count"] == 3
