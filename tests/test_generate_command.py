"""Making sequences from the command: files, seeds, first frames, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from commands import call
from made_videos import make_video
from toy_training import CPU, make_toy

from pipeline.config import Config
from pipeline.data.dataset import RowDataset
from pipeline.makings import BELONGS
from pipeline.recipe import FramesSection, Recipe
from pipeline.section import ConfigError, validate

# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos in which a square goes left or right, and a model that makes such clips, hardly trained."""
    folder = tmp_path_factory.mktemp("clips")
    lines = ["path,label,split"]
    for number in range(8):
        label = ("left", "right")[number % 2]
        frames = []
        for t in range(12):
            frame = np.full((48, 64, 3), 20 * number, np.uint8)
            x = 2 + 4 * t if label == "right" else 50 - 4 * t
            frame[20:30, x : x + 10] = 255
            frames.append(frame)
        make_video(folder / f"{number}.mp4", frames)
        lines.append(f"{number}.mp4,{label},{'train' if number < 4 else 'test'}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    assert call("train", "puppets/generate.yaml", *_small(folder)) == 0
    return folder


def _small(folder: Path, *more: str) -> list[str]:
    return [
        f"data.path={folder}/clips.csv", f"run={folder}/run", "tracking.wandb=off", "clock.rate=10", "encoder.size=16",
        "training.epochs=2", "training.batch_size=4", "core.hidden=8", "heads.clip.channels=8", "heads.clip.critic.channels=8",
        "training.show_every=2", *more,
    ]  # fmt: skip


def test_train_writes_a_report_and_samples(clips: Path) -> None:
    report = json.loads((clips / "run/report.json").read_text())
    (row,) = report["rows"]
    assert row["head"] == "clip" and row["count"] == 4 and {"closeness", "closeness_pooled", "diversity"} <= set(row)
    sheet = cv2.imread(str(clips / "run/samples/clip_0000002.png"))
    assert sheet is not None and sheet.shape == (4 * 16, 16 * 16, 3)


def test_reader_and_painter_learn_alone_and_then_stand_still(clips: Path, tmp_path: Path) -> None:
    where = [
        f"run={tmp_path}/run",
        "training.epochs=8",
        "training.log_every=1",
        "training.save_every=4",
        "heads.clip.alone=0.5",
    ]
    assert call("train", "puppets/generate.yaml", *_small(clips, *where, "training.warmup=0")) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["part"] == "train"]
    assert [("loss/clip_remake" in row, "loss/clip" in row) for row in rows] == [(True, False)] * 4 + [
        (False, True)
    ] * 4
    assert ["loss/clip_critic" in row for row in rows] == [False] * 4 + [True] * 4
    rates = [row["lr"] for row in rows]
    assert rates[:4] == rates[4:] and rates[0] > rates[3], "they begin anew with the game"
    sheet = cv2.imread(str(tmp_path / "run/samples/clip_0000004.png"))
    assert sheet is not None and sheet.shape == (8 * 16, 4 * 16, 3), "clips above their remakes, before the game"


def test_generate_writes_clips_sheets_and_the_same_again(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--model",
        clips / "run",
        "--label",
        "left",
        "--count",
        "3",
        "--seed",
        "4",
        "--length",
        "70",
        "--format",
        "mp4",
        "gif",
        "png",
    ]
    assert call("generate", *asked, "--out", tmp_path / "one") == 0
    assert "3 sequences" in capsys.readouterr().err
    assert call("generate", *asked, "--out", tmp_path / "two") == 0
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == sorted([f"left_seed4_{n:03d}.{kind}" for n in range(3) for kind in ("mp4", "gif")] + ["sheet.png"])
    sheet = cv2.imread(str(tmp_path / "one/sheet.png"))
    assert sheet is not None and sheet.shape == (3 * 16, 70 * 16, 3)
    assert (tmp_path / "one/sheet.png").read_bytes() == (tmp_path / "two/sheet.png").read_bytes()
    for kind in ("mp4", "gif"):
        with av.open(str(tmp_path / f"one/left_seed4_000.{kind}")) as file:
            assert sum(1 for _ in file.decode(video=0)) == 70


def test_one_movement_with_another_content_and_from_one_to_another(clips: Path, tmp_path: Path) -> None:
    common = ["generate", "--model", clips / "run", "--label", "left", "--format", "png"]
    assert call(*common, "--count", "2", "--content-seed", "9", "--out", tmp_path / "other") == 0
    assert call(*common, "--count", "2", "--out", tmp_path / "first") == 0
    assert call(*common, "--count", "5", "--towards", "9", "--out", tmp_path / "between") == 0
    first, other, between = (cv2.imread(str(tmp_path / name / "sheet.png")) for name in ("first", "other", "between"))
    assert first is not None and other is not None and between is not None
    assert not np.array_equal(first, other)
    assert np.abs(first[:16].astype(int) - between[:16]).max() <= 2, "it begins where the seed is, but for rounding"
    steps = [np.abs(between[16 * a : 16 * a + 16].astype(int) - between[:16]).mean() for a in range(5)]
    assert steps == sorted(steps) and steps[0] == 0 < steps[1], "and goes away from it, step by step"


def test_truncated_codes_lie_nearer_to_what_is_usual(clips: Path, tmp_path: Path) -> None:
    found = {}
    for psi in ("1", "0.5", "0.01"):
        where = ["--count", "6", "--format", "png", "--out", tmp_path / psi, "--truncation", psi]
        assert call("generate", "--model", clips / "run", "--label", "left", *where) == 0
        sheet = cv2.imread(str(tmp_path / psi / "sheet.png"))
        assert sheet is not None
        found[psi] = sheet.astype(float).reshape(6, -1).std(0).mean()
    assert found["1"] > found["0.5"] > found["0.01"] >= 0
    assert (
        call(
            "generate",
            "--model",
            clips / "run",
            "--label",
            "left",
            "--count",
            "6",
            "--format",
            "png",
            "--out",
            tmp_path / "as",
        )
        == 0
    )
    assert (tmp_path / "as/sheet.png").read_bytes() == (tmp_path / "1/sheet.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "lefd"], "'lefd' is no class of this model. Did you mean 'left'?"),
        (["--format", "npz"], "'npz' cannot hold frames"),
        (["--prompt", "To be"], "--prompt is not for this model, which makes sequences"),
        (["--top-k", "3"], "--top-k is not for this model, which makes sequences"),
        (["--image", "a.png"], "trained to draw its content"),
        (["--truncation", "0"], "truncation is 0. Give a number above 0 and at most 1"),
        (["--truncation", "1.5"], "truncation is 1.5. Give a number above 0 and at most 1"),
        (["--length", "500000", "--count", "3"], "1,500,000 steps, and at most 1,000,000 are made at a time"),
        (["--count", "100000000000"], "at most 1,000,000 are made at a time"),
    ],
)
def test_a_wish_that_cannot_be_is_a_sentence(
    clips: Path, tmp_path: Path, capsys: Any, options: list[str], sentence: str
) -> None:
    assert call("generate", "--model", clips / "run", "--out", tmp_path / "out", *options) in (2, 3)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sheet_without_room_for_a_clip_says_so(clips: Path, tmp_path: Path, capsys: Any) -> None:
    asked = ["--model", clips / "run", "--format", "png", "--out", tmp_path]
    assert call("generate", *asked, "--length", "3800") == 0
    assert "has room for the first 3,750 of 3,800 looks" in capsys.readouterr().err
    assert call("generate", *asked, "--length", "20") == 0
    assert "has room" not in capsys.readouterr().err


def test_a_seed_may_be_as_long_as_the_clock_in_nanoseconds(clips: Path, tmp_path: Path) -> None:
    asked = ["--model", clips / "run", "--seed", "1795694400123456789", "--content-seed", "1795694400123456788"]
    assert call("generate", *asked, "--format", "png", "--out", tmp_path) == 0


def test_sequences_need_a_folder(clips: Path, capsys: Any) -> None:
    assert call("generate", "--model", clips / "run") == 2
    assert "--out DIR" in capsys.readouterr().err


def test_a_first_frame_sets_the_content(clips: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    assert (
        call(
            "train",
            "puppets/generate.yaml",
            *_small(clips, "heads.clip.first_frame=true", "heads.clip.guidance=2", f"run={run}"),
        )
        == 0
    )
    assert call("generate", "--model", run, "--out", tmp_path / "no") == 2
    assert "--image" in capsys.readouterr().err
    for number in (4, 7):
        assert (
            call(
                "generate",
                "--model",
                run,
                "--image",
                clips / f"{number}.mp4",
                "--format",
                "png",
                "--out",
                tmp_path / str(number),
            )
            == 0
        )
    dark, bright = (cv2.imread(str(tmp_path / str(n) / "sheet.png")) for n in (4, 7))
    assert dark is not None and bright is not None and not np.array_equal(dark, bright)
    with av.open(str(clips / "7.mp4")) as file:
        next(file.decode(video=0)).to_image().save(tmp_path / "first.png")
    picture = ["--image", tmp_path / "first.png", "--format", "png", "--out", tmp_path / "picture"]
    assert call("generate", "--model", run, *picture) == 0
    same = cv2.imread(str(tmp_path / "picture/sheet.png"))
    assert same is not None and np.abs(same.astype(int) - bright).max() <= 2, "a picture is as good as a video's first"
    (tmp_path / "broken.png").write_bytes((tmp_path / "first.png").read_bytes()[:20])
    capsys.readouterr()
    assert call("generate", "--model", run, "--image", tmp_path / "broken.png", "--out", tmp_path / "no") != 0
    assert "The file is a picture" in (told := capsys.readouterr().err) and "Traceback" not in told
    (tmp_path / "empty.png").write_bytes(b"")
    assert call("generate", "--model", run, "--image", tmp_path / "empty.png", "--out", tmp_path / "no") != 0
    assert "empty" in (told := capsys.readouterr().err) and "Traceback" not in told


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"core": {"cell": "mean", "layers": 0}}, "moves by a core of one direction"),
        ({"core": {"bidirectional": True}}, "moves by a core of one direction"),
        ({"heads": {"clip": {"kind": "generate", "makes": "tokens"}}}, "it would be tokens"),
        (
            {"encoder": {"kind": "frames", "size": 48}, "heads": {"clip": {"kind": "generate", "makes": "frames"}}},
            "power of two",
        ),
        ({"heads": {"clip": {"kind": "generate", "critic": {"spectral": False}}}}, "nothing holds the critic"),
        (
            {"encoder": {"kind": "tokens"}, "heads": {"clip": {"kind": "generate", "makes": "tokens"}}},
            "texts that begin and end, and encoder.ends is false",
        ),
        ({"heads": {"clip": {"kind": "generate", "core": {"bidirectional": True}}}}, "a movement goes one way"),
        (
            {"heads": {"clip": {"kind": "generate", "critic": {"core": {"cell": "mean", "layers": 0}}}}},
            "neither moves nor judges",
        ),
    ],
)
def test_a_recipe_that_cannot_generate_says_why(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validate(Recipe, {"encoder": {"kind": "series"}, "heads": {"clip": {"kind": "generate"}}, **settings}, "x")


def test_frames_are_learned_from_pixels_and_features_from_what_is_stored(tmp_path: Path, capsys: Any) -> None:
    assert call("config", "puppets/generate.yaml", "data.read=features") == 2
    assert "frames are learned from data.read: pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"heads": {"next": {"kind": "generate"}}, "encoder": {"kind": "frames", "train_blocks": 1}},
            "encoder.train_blocks = 1 changes them",
        ),
        (
            {
                "heads": {"next": {"kind": "forecast", "steps": 3, "adversary": {}}},
                "encoder": {"kind": "frames", "train_blocks": 1},
            },
            "encoder.train_blocks = 1 changes them",
        ),
        (
            {"heads": {"next": {"kind": "generate"}}, "training": {"carry": True}, "data": {"path": "x", "window": 4}},
            "training.carry reads the windows of a row one after another",
        ),
    ],
)
def test_a_critic_needs_features_that_stay_and_samples_of_their_own(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validate(Config, {"encoder": {"kind": "series"}, "data": {"path": "x"}, **settings}, "x")


def test_no_cnn_is_a_backbone_too() -> None:
    backbone = FramesSection(backbone="pixels", size=16, grid=2).build_backbone()
    picture = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    picture[:, :8, :8] = 255
    found = backbone(picture)[0].view(3, 2, 2)
    assert backbone.output_size == 12 and found[:, 0, 0] == pytest.approx(1.0) and found[:, 1, 1] == pytest.approx(-1.0)


def test_a_model_that_makes_something_beside_a_recogniser_still_predicts(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "series").train
    assert isinstance(toy, RowDataset) and CPU.is_first
    path = str(toy.source.root / "manifest.jsonl") if hasattr(toy.source, "root") else ""
    run = tmp_path / "run"
    manifest = next((tmp_path / "series").glob("*.jsonl"), None) or next((tmp_path / "series").glob("*.csv"))
    settings = [
        "heads={clip: {kind: generate}, action: {kind: classify}}", "encoder={kind: series}", "clock.rate=10", "core.hidden=8",
        f"data.path={manifest}", "data.read=features", f"run={run}", "training.epochs=1", "tracking.wandb=off",
        "evaluation.baselines=false", "evaluation.orders=false", "data.validation=0",
    ]  # fmt: skip
    (tmp_path / "c.yaml").write_text("heads: {action: {kind: classify}}\ndata: {path: x}\n")
    assert call("train", tmp_path / "c.yaml", *settings) == 0
    series = next(iter((tmp_path / "series").rglob("*.npy")))
    assert call("predict", series, "--model", run, "--out", tmp_path / "said", "--format", "jsonl") == 0
    row = json.loads((tmp_path / "said/predictions.jsonl").read_text())
    assert row["status"] == "ok" and "action" in row and "clip" not in row and path is not None
    assert call("generate", "--model", run, "--count", "2", "--out", tmp_path / "made") == 0
    with np.load(tmp_path / "made/made.npz") as file:
        assert len(file.files) == 2 and all(file[name].shape[0] == 16 for name in file.files)


def test_samples_go_to_weights_and_biases_as_well(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    settings = [
        s
        for s in _small(clips, "training.epochs=1", "training.show_every=1")
        if not s.startswith(("run=", "tracking."))
    ]
    assert call("train", "puppets/generate.yaml", *settings, f"run={run}", "tracking.wandb=offline") == 0
    sent = [p for p in (run / "wandb").rglob("*.png") if "samples" in p.as_posix()]
    assert sent and sent[0].read_bytes() in [p.read_bytes() for p in (run / "samples").glob("*.png")]


def test_an_unfinished_run_of_an_older_version_goes_on(clips: Path, tmp_path: Path, capsys: Any) -> None:
    """Its config lacks the settings that came later: they count as their defaults. Another config is still refused."""
    run = tmp_path / "run"
    begun = [*_small(clips, f"run={run}"), "training.opponent_lr=1"]
    assert call("train", "puppets/generate.yaml", *begun) == 0
    (run / "report.json").unlink()
    config = run / "config.yaml"
    text = config.read_text()
    older = "".join(
        line for line in text.splitlines(keepends=True) if "show_every" not in line and "opponent_lr" not in line
    )
    assert older != text
    config.write_text(older)
    settings = [s for s in begun if "show_every" not in s]
    assert call("train", "puppets/generate.yaml", *settings) == 0
    assert "going on from step 2" in capsys.readouterr().err
    (run / "report.json").unlink()
    assert call("train", "puppets/generate.yaml", *settings, "training.lr=0.1") == 2
    assert "holds an unfinished run of another config" in capsys.readouterr().err


@pytest.mark.parametrize("makes", ["frames", "features", "tokens"])
def test_a_setting_that_would_change_nothing_is_refused(makes: str) -> None:
    """Every one that is named in `BELONGS` is tried with a value that is not its default."""
    encoder = {
        "frames": {"kind": "frames", "size": 32},
        "features": {"kind": "series"},
        "tokens": {"kind": "tokens", "ends": True},
    }
    others = {
        "motion": "independent",
        "channels": 16,
        "alone": 0.5,
        "disguise": 0.5,
        "temperature": 2.0,
        "first_frame": True,
    }
    for setting, kinds in BELONGS.items():
        head = {"kind": "generate", "makes": makes, setting: others.get(setting, 8)}
        if setting == "guidance" and makes in kinds:
            head["first_frame"] = True
        settings = {"encoder": encoder[makes], "heads": {"clip": head}}
        if makes in kinds:
            validate(Recipe, settings, "x")
        else:
            with pytest.raises(ConfigError, match=f"{setting} is of {' and '.join(kinds)}, and makes is {makes}"):
                validate(Recipe, settings, "x")
