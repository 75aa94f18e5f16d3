"""The command as people use it: every verb end to end, with its files, its output and its exit code."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from commands import call, unreel
from conftest import REPOSITORY, TINY
from made_videos import make_sound, make_video

from pipeline.arguments import parser
from pipeline.cli import VERBS, _parse, main
from pipeline.config.describe import settings_markdown
from pipeline.config.run import Config, load_config

QUICK = ["encoder.project=0", "core.hidden=8", "training.epochs=2", "tracking.wandb=off", "data.validation_share=0"]


@pytest.fixture
def series(tmp_path) -> Path:
    """A manifest of 20 short series in 2 classes, with groups and splits. Training on it takes about a second."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(20):
        label, split = "up" if n % 2 else "down", "test" if n >= 14 else "train"
        np.save(tmp_path / f"{n}.npy", rng.normal(size=(6, 3)) + np.linspace(-1, 1, 6)[:, None] * (1 if n % 2 else -1))
        rows.append({"path": f"{n}.npy", "split": split, "group": f"g{n // 2}", "label": label})
    path = tmp_path / "series.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.yaml").write_text(f"data: {{path: {path}}}\nencoder: {{kind: series}}\n")
    return path


@pytest.fixture
def series_run(series, tmp_path) -> Path:
    assert call("train", tmp_path / "c.yaml", *QUICK, f"run={tmp_path / 'run'}", "evaluation.baselines=false") == 0
    return tmp_path / "run"


# help and usage


def test_the_help_of_every_verb_imports_no_heavy_library():
    script = (
        "import contextlib, io, sys\nimport pipeline.cli as cli\n"
        f"for verb in {[[], *([v] for v in VERBS)]!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):\n"
        "        cli.main([*verb, '--help'])\n"
        "    assert 'usage: unreel' in printed.getvalue(), verb\n"
        "heavy = {'torch', 'numpy', 'cv2', 'av', 'yaml', 'pydantic', 'timm', 'wandb'}\n"
        "print(sorted({module.split('.')[0] for module in sys.modules} & heavy))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert result.stdout == "[]\n" and not result.stderr


def test_a_usage_error_has_exit_code_2():
    assert unreel().returncode == 2
    result = unreel("predict", "x", "--model", "m", "--out", "o", "--top", "0")
    assert result.returncode == 2 and "'0' is no whole number of 1 or more" in result.stderr
    assert "unreel 0." in unreel("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "c.yaml", "--fresh", "a.b=1", "c=2"],
        ["train", "c.yaml", "a.b=1", "--fresh", "c=2"],
        ["train", "--fresh", "c.yaml", "a.b=1", "c=2"],
    ],
)
def test_settings_and_paths_may_precede_and_follow_options(arguments):
    options = _parse(arguments)
    assert (options.source, options.settings, options.fresh) == ("c.yaml", ["a.b=1", "c=2"], True)
    assert _parse(["predict", "a", "--model", "m", "--out", "o", "b"]).paths == ["a", "b"]
    assert _parse(["predict", "--model", "m", "--out", "o", "--", "-a.mp4"]).paths == ["-a.mp4"]
    assert _parse(["train", "c.yaml"]).settings == [] and parser().parse_args(["train", "c.yaml"]).settings == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "c.yaml", "--frsh"], "--frsh is no option of train. Did you mean '--fresh'? `unreel train -h`"),
        (["train", "c.yaml", "a=1", "--lr", "3"], "--lr is no option of train. Settings have no dashes, and stand"),
        (["train", "--epochs", "3", "c.yaml"], "stand after their section: training.epochs=3."),
        (["extract", "c.yaml", "--batch-size=8"], "stand after their section: training.batch_size=8."),
        (["train", "c.yaml", "--out", "runs/x"], "stand after their section: run=runs/x."),
        (["predict", "a", "--model", "m", "--out", "o", "--hidden", "3"], "--hidden is no option of predict. `unre"),
    ],
)
def test_an_unknown_option_is_named(arguments, sentence, capsys):
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_one_path_too_many_is_named(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", "a", "b"])
    assert caught.value.code == 2 and "unrecognized arguments: b" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_words_and_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "-h"])
    text = capsys.readouterr().out
    described = text.split("positional arguments:")[0].split("options:")[0].split("\n\n", 1)[1]
    assert caught.value.code == 0 and f"  unreel {verb} " in text and len(described.split()) >= 8, described


# every verb, end to end


def test_train_on_a_config_writes_a_run_with_its_report(tiny_run):
    files = {p.name for p in tiny_run.iterdir()}
    assert files >= {"config.yaml", "metrics.jsonl", "model", "report.json", "report.txt"} and "wandb" not in files
    report = json.loads((tiny_run / "report.json").read_text())
    assert [(r["model"], r["order"]) for r in report["rows"]] == [
        ("gru", o) for o in ("forward", "reversed", "shuffled")
    ]
    manifest = (tiny_run.parent / "puppets_tiny/clips.jsonl").read_text().splitlines()
    test_rows = [json.loads(line) for line in manifest if '"test"' in line]
    assert all(r["count"] == len(test_rows) for r in report["rows"]) and not report["failed"]
    metrics = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert {r["split"] for r in metrics} >= {"val", "test", "test_reversed", "test_shuffled"}
    assert load_config(tiny_run / "config.yaml").run == str(tiny_run)
    assert not list(tiny_run.rglob("*.partial")) and not list(tiny_run.glob(".*"))


def test_train_on_a_folder_of_class_folders_prints_its_defaults_and_predicts(puppets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in (puppets / "clips.jsonl").read_text().splitlines()]
    labels = [r["label"] for r in rows]
    for row in rows:
        if labels.count(row["label"]) >= 2:
            (tmp_path / "clips" / row["label"]).mkdir(parents=True, exist_ok=True)
            os.link(puppets / row["path"], tmp_path / "clips" / row["label"] / Path(row["path"]).name)
    assert call("train", "clips", *TINY, "training.epochs=2") == 0
    printed = capsys.readouterr()
    assert "data.split=random: no groups are known" in printed.err
    assert "clock.rate=" in printed.err
    assert "  training.epochs=2: your setting\n" in printed.err and "10 to 60 epochs" not in printed.err
    assert "  run=runs/clips: the default; another by run=DIR\n" in printed.err
    assert "mean-pool linear" in printed.out and "mean-pool MLP" in printed.out
    assert "next:  unreel predict PATH ... --model runs/clips --out DIR" in printed.out
    videos = sorted((tmp_path / "clips").glob("*/*.mp4"))[:2]
    assert call("predict", *videos, "--model", "runs/clips", "--out", "answers", "--format", "jsonl") == 0
    answers = [json.loads(line) for line in (tmp_path / "answers/predictions.jsonl").read_text().splitlines()]
    assert [a["path"] for a in answers] == [p.name for p in videos] and all(a["status"] == "ok" for a in answers)
    assert sorted(os.listdir(tmp_path / "answers")) == ["ledger.sqlite", "predictions.jsonl"]


def test_evaluate_gives_the_numbers_of_the_training(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert call("evaluate", run) == 0
    again, first = (json.loads((p / "report.json").read_text()) for p in (run / "evaluation", tiny_run))
    assert again["rows"] == first["rows"]
    printed = capsys.readouterr()
    assert "accuracy" in printed.out and "may have been trained" not in printed.err
    assert call("evaluate", run, "evaluation.order_controls=false") == 0
    assert len(json.loads((run / "evaluation/report.json").read_text())["rows"]) == 1
    config = (run / "config.yaml").read_text()
    assert "split: manifest" in config
    (run / "config.yaml").write_text(config.replace("split: manifest", "split: group"))
    capsys.readouterr()
    assert call("evaluate", run) == 0
    assert "may have been trained on rows that are tested now" in capsys.readouterr().err


@pytest.fixture(scope="module")
def mixed(puppets, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with good, odd and broken files, and the status of each."""
    folder = tmp_path_factory.mktemp("mixed")
    good = sorted((puppets / "clips").glob("*.mp4"))[:2]
    content = good[0].read_bytes()
    for path in good:
        shutil.copy(path, folder)
    whole = make_video(folder / "whole.avi", 60, codec="mpeg4", options={"qscale": "1"})
    files = {
        "empty.mp4": b"",
        "one_byte.mp4": b"x",
        "text.mp4": b"hello\n" * 50,
        "random.mp4": os.urandom(5000),
        "picture.mp4": b"\xff\xd8\xff\xe0" + b"\0" * 500,
        "playlist.mp4": b"#EXTM3U\nhttp://127.0.0.1/x.ts\n",
        "no_index.mp4": content[: content.rindex(b"moov") - 8],
        "cut.avi": whole.read_bytes()[: whole.stat().st_size * 7 // 10],
        "two\nlines.mp4": content,
        "=1+1 ünï.mp4": content,
        "@SUM.mp4": b"no video",
        "-rf.mp4": content,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    odd = os.fsencode(folder) + b"/bytes\xff.mp4"
    Path(os.fsdecode(odd)).write_bytes(content)
    shutil.move(make_sound(folder / "sound.m4a", "aac"), folder / "sound.mp4")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    readable = [*(p.name for p in good), "whole.avi", "two\nlines.mp4", "=1+1 ünï.mp4", "-rf.mp4", "bytes\\udcff.mp4"]
    no_videos = ["empty.mp4", "one_byte.mp4", "text.mp4", "random.mp4", "picture.mp4", "@SUM.mp4"]
    statuses = dict.fromkeys(readable, "ok") | dict.fromkeys(no_videos, "failed:not_a_video")
    statuses |= {
        "playlist.mp4": "failed:playlist_refused",
        "no_index.mp4": "failed:truncated_header",
        "cut.avi": "partial",
        "sound.mp4": "failed:no_video_stream",
        "folder.mp4": "failed:not_regular_file",
        "pipe.mp4": "failed:not_regular_file",
        "gone.mp4": "failed:missing",
    }
    return folder, statuses


def test_predict_gives_every_input_a_row_in_every_format(tiny_run, mixed, tmp_path):
    folder, statuses = mixed
    result = unreel(
        "predict", folder, folder / "gone.mp4", "--model", tiny_run, "--out", tmp_path / "out", "--top", "3"
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr + result.stdout
    assert "\x1b" not in result.stderr
    lines = result.stderr.splitlines()
    failures = {status for status in statuses.values() if status.startswith("failed")}
    assert len([line for line in lines if " videos/s " in line]) == len(statuses)
    reasons = [line for line in lines if line.startswith("  ")]
    assert len(reasons) == len(failures) and all(any(f": {one}: " in line for line in reasons) for one in failures)
    assert len([line for line in lines if " workers decode, " in line]) == 1
    others = [line for line in lines if not line.startswith("note: ") and " workers decode, " not in line]
    assert len(others) == len(statuses) + 1 + len(failures)  # a line for each row, the counts, and why some failed
    rows = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    answered = {row["path"].removeprefix(f"{folder.name}/"): row for row in rows}
    assert {name: row["status"] for name, row in answered.items()} == statuses and len(rows) == len(statuses)
    for name, row in answered.items():
        is_answered = statuses[name] in ("ok", "partial")
        assert is_answered == ("action" in row) == (row["looks"] > 0) == (not row["error"]), name
        if is_answered:
            scores = [one["score"] for one in row["action"]["top"]]
            assert len(scores) == 3 and scores == sorted(scores, reverse=True) and row["action"]["score"] == scores[0]
        else:
            assert row["error"].count(". ") >= 1 and row["error"].endswith("."), row["error"]
    copies = ("two\nlines.mp4", "=1+1 ünï.mp4", "-rf.mp4", "bytes\\udcff.mp4")
    assert all(answered[name]["action"] == answered[copies[0]]["action"] for name in copies)

    table = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file, strict=True))
    assert len(table) == len(cells) == len(rows)
    for row, typed, texts in zip(rows, table, cells, strict=True):
        answer = row.get("action") or dict.fromkeys(("label", "score", "top", "unknown", "distance"))
        flat = {k: row[k] for k in ("path", "status", "seconds", "looks", "warnings", "error")}
        flat |= {f"action_{k}": v for k, v in answer.items()}
        assert typed == flat
        plain = {k: v.removeprefix("'") if v[:2] in ("'=", "'@", "'-", "'+") else v for k, v in texts.items()}
        assert plain == {
            k: "" if v is None else json.dumps(v, ensure_ascii=False) if isinstance(v, list) else str(v)
            for k, v in flat.items()
        }


def test_predict_on_stored_series(series_run, tmp_path, capsys):
    inputs = [tmp_path / name for name in ("0.npy", "1.npy", "wide.npy", "text.npy")]
    np.save(tmp_path / "wide.npy", np.zeros((4, 9)))
    (tmp_path / "text.npy").write_text("no")
    assert call("predict", *inputs, "--model", series_run, "--out", tmp_path / "out", "--format", "jsonl") == 1
    rows = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [r["status"] for r in rows] == ["ok", "ok", "failed:wrong_shape", "failed:not_a_series"]
    assert "This model reads numbers of shape (T, 3)." in rows[2]["error"]


def test_predict_writes_spans_as_subtitles_and_logs_what_they_omit(series, tmp_path, capsys):
    rows = [json.loads(line) for line in series.read_text().splitlines()]
    series.write_text(
        "".join(json.dumps({**r, "spans": [[0, 0.75, r["label"]], [0.75, 1.5, "rest"]]}) + "\n" for r in rows)
    )
    (tmp_path / "c.yaml").write_text(
        f"data: {{path: {series}}}\nencoder: {{kind: series}}\nclock: {{rate: 4}}\n"
        "heads: {action: {kind: classify}, timeline: {kind: segment}}\n"
    )
    assert call("train", tmp_path / "c.yaml", *QUICK, f"run={tmp_path / 'run'}", "evaluation.baselines=false") == 0
    (tmp_path / "text.npy").write_text("no")
    capsys.readouterr()
    inputs = [tmp_path / "0.npy", tmp_path / "text.npy", tmp_path / "1.npy"]
    command = ["predict", *inputs, "--model", tmp_path / "run", "--out", tmp_path / "out"]
    assert call(*command, "--format", "jsonl", "srt", "vtt", "elan", "activitynet") == 1
    printed = capsys.readouterr().err
    assert "srt, vtt, elan and activitynet: only the spans of timeline are written; action has no spans" in printed
    assert "srt, vtt, elan, activitynet hold nothing about inputs that failed: text.npy" in printed
    answers = {r["path"]: r for r in map(json.loads, (tmp_path / "out/predictions.jsonl").read_text().splitlines())}
    assert set(answers) == {"0.npy", "1.npy", "text.npy"} and "timeline" not in answers["text.npy"]
    for kind, suffix in (("srt", "srt"), ("vtt", "vtt"), ("elan", "eaf")):
        files = {p.name for p in (tmp_path / "out" / kind).iterdir()}
        assert files == {f"0.{suffix}", f"1.{suffix}"}
    results = json.loads((tmp_path / "out/predictions.activitynet.json").read_text())["results"]
    assert results == {
        name: [
            {"label": s["label"], "score": s["score"], "segment": [s["start"], s["end"]]}
            for s in answers[f"{name}.npy"]["timeline"]["spans"]
        ]
        for name in ("0", "1")
    }
    capsys.readouterr()
    assert call(*command, "--format", "jsonl") == 1
    printed = capsys.readouterr().err
    assert "only the spans" not in printed and "hold nothing" not in printed


def test_check_finds_a_planted_leak_and_a_broken_file(puppets, tmp_path, capsys):
    rows = []
    for n, (label, split) in enumerate((s, t) for t in ("train", "test") for s in ("a", "b")):
        shutil.copy(sorted((puppets / "clips").glob("*.mp4"))[n], tmp_path / f"{n}.mp4")
        rows.append({"path": f"{n}.mp4", "split": split, "group": f"{split}{n}", "label": label})
    manifest = tmp_path / "m.jsonl"

    def write() -> None:
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write()
    assert call("check", manifest, "--contents") == 0
    assert "nothing found" in capsys.readouterr().out
    shutil.copy(tmp_path / "0.mp4", tmp_path / "again.mp4")
    (tmp_path / "broken.mp4").write_text("no video")
    rows.extend(
        {"path": name, "split": "test", "group": "train0", "label": "a"} for name in ("again.mp4", "broken.mp4")
    )
    write()
    assert call("check", manifest, "--contents") == 1
    printed = capsys.readouterr().out
    assert "identical: 1 of 1 groups of equal files under several names, in two splits: '0.mp4' (a) = 'again" in printed
    assert "group: 1 of 4 groups are in both train and test" in printed
    assert "unreadable: broken.mp4: failed:not_a_video" in printed and "3 findings" in printed


def test_config_lists_the_settings_or_prints_a_config_with_its_defaults(config_file, capsys):
    assert call("config") == 0
    assert "core.cell" in capsys.readouterr().out
    assert call("config", config_file, "core.cell=lstm") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert load_config(None, base=printed) == load_config(config_file, ["core.cell=lstm"])


def test_config_prints_the_settings_as_markdown_or_refuses_a_config_beside(config_file, capsys):
    assert call("config", "--markdown") == 0
    assert capsys.readouterr().out == settings_markdown(Config)
    assert call("config", config_file, "--markdown") == 2
    assert "--markdown lists all settings, and the config " in capsys.readouterr().err


def test_config_prints_the_defaults_for_a_manifest(series, capsys):
    assert call("config", series, "encoder.kind=series", "core.hidden=8") == 0
    printed = capsys.readouterr()
    assert "data.split=manifest: the manifest has a test split" in printed.err
    config = load_config(None, base=yaml.safe_load(printed.out))
    assert (config.data.path, config.core.hidden) == (str(series), 8)


# resuming, and starting over


def test_a_finished_run_is_not_changed_without_fresh(series_run, tmp_path, capsys):
    command = ["train", str(tmp_path / "c.yaml"), *QUICK, f"run={series_run}", "evaluation.baselines=false"]
    before = {p: p.read_bytes() for p in series_run.rglob("*") if p.is_file()}
    assert call(*command) == 2
    assert (
        f"'{series_run}' holds a finished run. Choose another folder with run=DIR, or start over with --fresh."
        in capsys.readouterr().err
    )
    assert {p: p.read_bytes() for p in series_run.rglob("*") if p.is_file()} == before
    (series_run / "mine.txt").write_text("keep")
    assert call(*command, "--fresh", "training.epochs=1") == 0
    assert load_config(series_run / "config.yaml").training.epochs == 1 and (series_run / "mine.txt").exists()


def test_a_failed_start_does_not_prevent_the_next(series, tmp_path, capsys):
    command = ["train", str(tmp_path / "c.yaml"), *QUICK, f"run={tmp_path / 'run'}", "evaluation.baselines=false"]
    assert call(*command, "data.path=typo.jsonl") == 2
    assert call(*command) == 0
    assert json.loads((tmp_path / "run/report.json").read_text())["rows"]
