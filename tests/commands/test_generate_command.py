"""`unreel generate`: files, seeds, first frames, and sentences for what does not fit."""

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
from toy_training import make_series

from pipeline.config.architecture import Architecture
from pipeline.config.base import ConfigError, validate
from pipeline.config.encoders import FramesSection
from pipeline.config.generative_heads import GenerateFeaturesSection
from pipeline.config.run import Config


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos in which a square goes left or right, and a run of a model that generates such clips, hardly trained."""
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
    """Settings for a small model and a short training."""
    return [
        f"data.path={folder}/clips.csv",
        f"run={folder}/run",
        "tracking.wandb=off",
        "clock.rate=10",
        "encoder.size=16",
        "training.epochs=2",
        "training.batch_size=4",
        "core.hidden=8",
        "heads.clip.channels=8",
        "heads.clip.critic.channels=8",
        "training.sample_every=2",
        *more,
    ]


def read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_train_writes_a_report_and_samples(clips: Path) -> None:
    report = json.loads((clips / "run/report.json").read_text())
    (row,) = report["rows"]
    assert row["head"] == "clip" and row["count"] == 4
    assert {"frechet_change_score", "frechet_mean_score", "diversity"} <= set(row)
    assert read_image(clips / "run/samples/clip_0000002.png").shape == (4 * 16, 16 * 16, 3)


def test_the_autoencoder_learns_alone_and_then_is_frozen(clips: Path, tmp_path: Path) -> None:
    settings = [
        f"run={tmp_path}/run",
        "training.epochs=8",
        "training.log_every=1",
        "training.save_every=4",
        "training.warmup=0",
        "heads.clip.pretrain_share=0.5",
    ]
    assert call("train", "puppets/generate.yaml", *_small(clips, *settings)) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"]
    has_terms = [("loss/clip_reconstruction" in row, "loss/clip" in row, "loss/clip_critic" in row) for row in rows]
    assert has_terms == [(True, False, False)] * 4 + [(False, True, True)] * 4
    rates = [row["lr"] for row in rows]
    assert rates[:4] == rates[4:] and rates[0] > rates[3], "the schedule restarts with the critic"
    sheet = read_image(tmp_path / "run/samples/clip_0000004.png")
    assert sheet.shape == (8 * 16, 4 * 16, 3), "before that it shows clips above their reconstructions"


def test_generate_writes_clips_and_sheets_and_the_same_again(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--label", "left", "--count", "3", "--seed", "4", "--length", "70", "--format", "mp4", "gif", "png"]
    command = ["generate", "--model", clips / "run", *options]
    assert call(*command, "--out", tmp_path / "one") == 0
    assert "3 sequences" in capsys.readouterr().err
    assert call(*command, "--out", tmp_path / "two") == 0
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == sorted([f"left_seed4_{n:03d}.{kind}" for n in range(3) for kind in ("mp4", "gif")] + ["sheet.png"])
    assert read_image(tmp_path / "one/sheet.png").shape == (3 * 16, 70 * 16, 3)
    assert (tmp_path / "one/sheet.png").read_bytes() == (tmp_path / "two/sheet.png").read_bytes()
    for kind in ("mp4", "gif"):
        with av.open(str(tmp_path / f"one/left_seed4_000.{kind}")) as file:
            assert sum(1 for _ in file.decode(video=0)) == 70


def test_content_seed_keeps_the_motion_and_towards_leads_from_one_seed_to_another(clips: Path, tmp_path: Path) -> None:
    command = ["generate", "--model", clips / "run", "--label", "left", "--format", "png"]
    assert call(*command, "--count", "2", "--content-seed", "9", "--out", tmp_path / "other") == 0
    assert call(*command, "--count", "2", "--out", tmp_path / "first") == 0
    assert call(*command, "--count", "5", "--towards", "9", "--out", tmp_path / "between") == 0
    first, other, between = (read_image(tmp_path / name / "sheet.png") for name in ("first", "other", "between"))
    assert not np.array_equal(first, other)
    assert np.abs(first[:16].astype(int) - between[:16]).max() <= 2, "it begins at --seed, except for rounding"
    distances = [np.abs(between[16 * a : 16 * a + 16].astype(int) - between[:16]).mean() for a in range(5)]
    assert distances == sorted(distances) and distances[0] == 0 < distances[1], "and moves away step by step"


def test_a_label_is_normalised_as_the_labels_of_the_rows_are(clips: Path, tmp_path: Path) -> None:
    command = ["generate", "--model", clips / "run", "--out", tmp_path / "o", "--format", "png", "--label"]
    assert call(*command, " left\u200b ") == 0


def test_truncated_codes_give_less_variety(clips: Path, tmp_path: Path) -> None:
    command = ["generate", "--model", clips / "run", "--label", "left", "--count", "6", "--format", "png"]
    variety = {}
    for psi in ("1", "0.5", "0.01"):
        assert call(*command, "--out", tmp_path / psi, "--truncation", psi) == 0
        variety[psi] = read_image(tmp_path / psi / "sheet.png").astype(float).reshape(6, -1).std(0).mean()
    assert variety["1"] > variety["0.5"] > variety["0.01"] >= 0
    assert call(*command, "--out", tmp_path / "default") == 0
    assert (tmp_path / "default/sheet.png").read_bytes() == (tmp_path / "1/sheet.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "lefd"], "'lefd' is no class of this model. Did you mean 'left'?"),
        (["--format", "npz"], "'npz' cannot hold frames"),
        (["--prompt", "To be"], "--prompt is not for this model, which generates sequences"),
        (["--top-k", "3"], "--top-k is not for this model, which generates sequences"),
        (["--image", "a.png"], "draws its content from noise"),
        (["--truncation", "0"], "truncation is 0. Give a number above 0 and at most 1"),
        (["--truncation", "1.5"], "truncation is 1.5. Give a number above 0 and at most 1"),
        (["--length", "500000", "--count", "3"], "1,500,000 steps, and at most 1,000,000 are generated at a time"),
        (["--count", "100000000000"], "at most 1,000,000 are generated at a time"),
    ],
)
def test_an_option_that_does_not_fit_gives_a_sentence(
    clips: Path, tmp_path: Path, capsys: Any, options: list[str], sentence: str
) -> None:
    assert call("generate", "--model", clips / "run", "--out", tmp_path / "out", *options) in (2, 3)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sheet_without_room_for_a_whole_clip_says_so(clips: Path, tmp_path: Path, capsys: Any) -> None:
    asked = ["--model", clips / "run", "--format", "png", "--out", tmp_path]
    assert call("generate", *asked, "--length", "3800") == 0
    assert "has room for the first 3,750 of 3,800 looks" in capsys.readouterr().err
    assert call("generate", *asked, "--length", "20") == 0
    assert "has room" not in capsys.readouterr().err


def test_a_seed_may_be_a_time_in_nanoseconds(clips: Path, tmp_path: Path) -> None:
    asked = ["--model", clips / "run", "--seed", "1795694400123456789", "--content-seed", "1795694400123456788"]
    assert call("generate", *asked, "--format", "png", "--out", tmp_path) == 0


def test_sequences_need_a_folder(clips: Path, capsys: Any) -> None:
    assert call("generate", "--model", clips / "run") == 2
    assert "--out DIR" in capsys.readouterr().err


def test_a_first_frame_gives_the_content(clips: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    settings = ["heads.clip.first_frame=true", "heads.clip.guidance=2", f"run={run}"]
    assert call("train", "puppets/generate.yaml", *_small(clips, *settings)) == 0
    command = ["generate", "--model", run, "--format", "png"]
    assert call(*command, "--out", tmp_path / "no") == 2
    assert "--image" in capsys.readouterr().err
    for number in (4, 7):
        assert call(*command, "--image", clips / f"{number}.mp4", "--out", tmp_path / str(number)) == 0
    dark, bright = (read_image(tmp_path / str(n) / "sheet.png") for n in (4, 7))
    assert not np.array_equal(dark, bright)
    with av.open(str(clips / "7.mp4")) as file:
        next(file.decode(video=0)).to_image().save(tmp_path / "first.png")
    assert call(*command, "--image", tmp_path / "first.png", "--out", tmp_path / "picture") == 0
    same = read_image(tmp_path / "picture/sheet.png")
    assert np.abs(same.astype(int) - bright).max() <= 2, "an image gives the same as a video's first frame"


def test_a_broken_or_empty_image_gives_a_sentence(clips: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    assert call("train", "puppets/generate.yaml", *_small(clips, "heads.clip.first_frame=true", f"run={run}")) == 0
    whole = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for name, data, sentence in (("broken.png", whole[:20], "The file is an image"), ("empty.png", b"", "empty")):
        (tmp_path / name).write_bytes(data)
        capsys.readouterr()
        assert call("generate", "--model", run, "--image", tmp_path / name, "--out", tmp_path / "no") != 0
        assert sentence in (error := capsys.readouterr().err) and "Traceback" not in error


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"core": {"cell": "mean", "layers": 0}}, "generates by a core of one direction"),
        ({"core": {"bidirectional": True}}, "generates by a core of one direction"),
        ({"heads": {"clip": {"kind": "generate", "makes": "tokens"}}}, "it would be tokens"),
        (
            {"encoder": {"kind": "frames", "size": 48}, "heads": {"clip": {"kind": "generate", "makes": "frames"}}},
            "power of two",
        ),
        (
            {"heads": {"clip": {"kind": "generate", "critic": {"spectral_norm": False}}}},
            "nothing bounds the critic's gradient",
        ),
        (
            {"encoder": {"kind": "tokens"}, "heads": {"clip": {"kind": "generate", "makes": "tokens"}}},
            "texts that begin and end, and encoder.add_bos_eos is false",
        ),
        (
            {"heads": {"clip": {"kind": "generate", "core": {"bidirectional": True}}}},
            "a generator's core has one direction",
        ),
        (
            {"heads": {"clip": {"kind": "generate", "critic": {"core": {"cell": "mean", "layers": 0}}}}},
            "cell mean can be the core of neither a generator nor a critic",
        ),
    ],
)
def test_an_architecture_that_cannot_generate_gives_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validate(
            Architecture, {"encoder": {"kind": "series"}, "heads": {"clip": {"kind": "generate"}}, **settings}, "x"
        )


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
                "heads": {"next": {"kind": "forecast", "horizon": 3, "adversarial": {}}},
                "encoder": {"kind": "frames", "train_blocks": 1},
            },
            "encoder.train_blocks = 1 changes them",
        ),
        (
            {"heads": {"next": {"kind": "generate"}}, "training": {"tbptt": True}, "data": {"path": "x", "window": 4}},
            "training.tbptt reads the windows of a row one after another",
        ),
    ],
)
def test_a_critic_needs_features_that_do_not_change_and_single_windows(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validate(Config, {"encoder": {"kind": "series"}, "data": {"path": "x"}, **settings}, "x")


def test_pixels_are_a_backbone_without_a_cnn() -> None:
    backbone = FramesSection(backbone="pixels", size=16, grid=2).build_backbone()
    picture = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    picture[:, :8, :8] = 255
    features = backbone(picture)[0].view(3, 2, 2)
    assert backbone.output_size == 12
    assert features[:, 0, 0] == pytest.approx(1.0) and features[:, 1, 1] == pytest.approx(-1.0)


def test_a_model_that_also_generates_still_predicts(tmp_path: Path) -> None:
    manifest, run = make_series(tmp_path / "series", 70, noise=0.2, longest=12), tmp_path / "run"
    settings = [
        "heads={clip: {kind: generate}, action: {kind: classify}}",
        "encoder={kind: series}",
        "clock.rate=10",
        "core.hidden=8",
        f"data.path={manifest}",
        "data.read=features",
        "data.validation_share=0",
        f"run={run}",
        "training.epochs=1",
        "tracking.wandb=off",
        "evaluation={baselines: false, order_controls: false}",
    ]
    (tmp_path / "c.yaml").write_text("heads: {action: {kind: classify}}\ndata: {path: x}\n")
    assert call("train", tmp_path / "c.yaml", *settings) == 0
    series = next(iter((tmp_path / "series").rglob("*.npy")))
    assert call("predict", series, "--model", run, "--out", tmp_path / "answers", "--format", "jsonl") == 0
    row = json.loads((tmp_path / "answers/predictions.jsonl").read_text())
    assert row["status"] == "ok" and "action" in row and "clip" not in row
    assert call("generate", "--model", run, "--count", "2", "--out", tmp_path / "made") == 0
    with np.load(tmp_path / "made/generated.npz") as file:
        assert len(file.files) == 2 and all(file[name].shape[0] == 16 for name in file.files)


def test_samples_are_logged_to_wandb_as_well(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    settings = [
        s
        for s in _small(clips, "training.epochs=1", "training.sample_every=1")
        if not s.startswith(("run=", "tracking."))
    ]
    assert call("train", "puppets/generate.yaml", *settings, f"run={run}", "tracking.wandb=offline") == 0
    sent = [p for p in (run / "wandb").rglob("*.png") if "samples" in p.as_posix()]
    assert sent and sent[0].read_bytes() in [p.read_bytes() for p in (run / "samples").glob("*.png")]


def test_an_unfinished_run_without_newer_settings_is_resumed(clips: Path, tmp_path: Path, capsys: Any) -> None:
    """Settings that its config lacks have their defaults. A run of another config is still refused."""
    run = tmp_path / "run"
    settings = [s for s in _small(clips, f"run={run}", "training.keep_state=true") if "sample_every" not in s]
    assert call("train", "puppets/generate.yaml", *settings) == 0
    (run / "report.json").unlink()
    lines = (run / "config.yaml").read_text().splitlines(keepends=True)
    older = [line for line in lines if "sample_every" not in line and "critic_lr_factor" not in line]
    assert len(older) == len(lines) - 2
    (run / "config.yaml").write_text("".join(older))
    assert call("train", "puppets/generate.yaml", *settings) == 0
    assert "resuming from step 2" in capsys.readouterr().err
    (run / "report.json").unlink()
    assert call("train", "puppets/generate.yaml", *settings, "training.lr=0.1") == 2
    assert "holds an unfinished run of another config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("makes", "setting", "owners"),
    [
        ("features", "channels", "makes: frames"),
        ("features", "first_frame", "makes: frames"),
        ("features", "content_size", "makes: frames, makes: tokens"),
        ("tokens", "diff_augment", "makes: features, makes: frames"),
        ("tokens", "pretrain_share", "makes: features, makes: frames"),
        ("tokens", "pca_components", "makes: features"),
        ("frames", "style_size", "makes: features"),
        ("frames", "temperature", "makes: tokens"),
    ],
)
def test_a_setting_of_another_kind_is_refused_and_its_kind_is_named(makes: str, setting: str, owners: str) -> None:
    heads = {"clip": {"kind": "generate", "makes": makes, setting: 1}}
    with pytest.raises(ConfigError, match=f"heads.clip.{setting} is not a setting. It is a setting of {owners}. Known"):
        validate(Architecture, {"heads": heads}, "x")
    heads = {"clip": {"kind": "classify", "makes": "frames"}}
    with pytest.raises(
        ConfigError, match="heads.clip.makes is not a setting. It is a setting of kind: generate. Known"
    ):
        validate(Architecture, {"heads": heads}, "x")


def test_a_wrong_kind_of_sequence_and_a_wrong_inner_setting_give_sentences() -> None:
    with pytest.raises(ConfigError, match="heads.clip.makes = 'frame' is not known. Did you mean 'frames'"):
        validate(Architecture, {"heads": {"clip": {"kind": "generate", "makes": "frame"}}}, "x")
    critic = {"kind": "generate", "makes": "frames", "critic": {"hiden": 3}}
    with pytest.raises(ConfigError, match="heads.clip.critic.hiden is not a setting. Did you mean 'hidden'"):
        validate(Architecture, {"heads": {"clip": critic}}, "x")


def test_without_makes_a_generate_head_makes_features() -> None:
    heads = {"clip": {"kind": "generate"}}
    head = validate(Architecture, {"encoder": {"kind": "series"}, "heads": heads}, "x").heads["clip"]
    assert isinstance(head, GenerateFeaturesSection)


def test_the_list_of_settings_describes_each_kind_of_generate(capsys: Any) -> None:
    assert call("config") == 0
    text = capsys.readouterr().out
    for makes, own in (("frames", "channels"), ("features", "style_size"), ("tokens", "temperature")):
        description = text.split(f"\nheads.NAME (kind: generate, makes: {makes}): ")[1].split("\nheads.NAME (kind:")[0]
        assert f"  heads.NAME.{own} " in description and "  heads.NAME.ema_decay " in description
