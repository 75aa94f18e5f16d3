"""`unreel predict` with a model of several heads: one pass over the video, one row, subtitles, attention images."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from commands import call
from made_videos import make_video

from pipeline.checkpoint import Checkpoint, load_model, save_model
from pipeline.commands import attention_pictures
from pipeline.config.architecture import Architecture
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.inference.engine import answer_file
from pipeline.inference.predictor import Predictor
from pipeline.media.decode_pool import DecodePool
from pipeline.writers.attention_image import CELL_SIZE, MARGIN_WIDTH, ROW_HEIGHT, draw_attention, group_looks


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A model that classifies, segments and captions, with random weights."""
    heads = {
        "action": {},
        "timeline": {"kind": "segment"},
        "caption": {"kind": "caption", "hidden": 8, "embedding": 8, "max_length": 6, "segment_head": "timeline"},
    }
    architecture = Architecture.model_validate(
        {
            "encoder": {"size": 32, "runtime": "torch", "weights": "none", "project": 8, "grid": 1},
            "core": {"hidden": 8, "bidirectional": True},
            "heads": heads,
        }
    )
    vocabularies = {
        "action": Vocabulary(("run", "sit")),
        "timeline": Vocabulary(("background", "run", "sit")),
        "caption": Tokenizer.train(["someone runs", "a person sits down"]),
    }
    torch.manual_seed(3)
    model = architecture.build(vocabularies).eval()
    with torch.no_grad():
        model.get_parameter("heads.timeline.emission.weight").mul_(30)
        model.get_parameter("heads.timeline.emission.bias")[0] = -50  # never the background
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, Checkpoint(model, architecture, vocabularies, None, {}))
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "film.mp4", 90)


def test_all_heads_answer_after_one_decode_and_one_pass_of_the_cnn(model_folder, video):
    predictor = Predictor(load_model(model_folder), torch.device("cpu"))
    requests, num_frames, num_files = predictor.take_requests(), [], []
    compute, give_file = requests.submit, DecodePool.submit

    def count_frames(frames, on_done):
        num_frames.append(len(frames))
        compute(frames, on_done)

    def count_file(pool, task):
        num_files.append(1)
        give_file(pool, task)

    predictor.give_requests_back(requests)
    with patch.object(requests, "submit", count_frames), patch.object(DecodePool, "submit", count_file):
        answer = answer_file(video, predictor)
    assert len(num_files) == 1 and sum(num_frames) == answer.looks > 5
    assert set(answer.predictions) == {"action", "timeline", "caption"}


def test_all_answers_are_in_one_row_and_in_one_vtt(model_folder, video, tmp_path):
    command = ["predict", video, "--model", model_folder, "--out", tmp_path / "o"]
    assert call(*command, "--format", "jsonl", "vtt", "parquet") == 0
    (row,) = [json.loads(line) for line in (tmp_path / "o/predictions.jsonl").read_text().splitlines()]
    spans, described = row["timeline"]["spans"], row["caption"]["spans"]
    assert spans and [(s["start"], s["end"]) for s in spans] == [(s["start"], s["end"]) for s in described]
    assert row["action"]["label"] in ("run", "sit") and row["caption"]["sentence"] is not None
    (subtitles,) = (tmp_path / "o/vtt").rglob("*.vtt")
    assert subtitles.read_text().count("-->") == 2 * len(spans)


def test_the_attention_weights_of_a_caption_are_drawn(model_folder, video, tmp_path):
    assert call("predict", video, "--model", model_folder, "--out", tmp_path / "o", "--attention") == 0
    image = cv2.imread(str(tmp_path / "o/attention/film.caption.png"))
    (row,) = [json.loads(line) for line in (tmp_path / "o/predictions.jsonl").read_text().splitlines()]
    assert image is not None
    num_tokens, num_columns = (image.shape[0] - CELL_SIZE) / ROW_HEIGHT, (image.shape[1] - MARGIN_WIDTH) / CELL_SIZE
    assert num_columns == min(32, row["looks"]) and 1 <= num_tokens <= 6


def test_a_picture_that_cannot_be_drawn_costs_its_row_and_not_the_job(model_folder, video, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of the picture")

    other = make_video(tmp_path / "other.mp4", 40)
    whole = attention_pictures.draw_attention
    drawn = iter([broken, whole, whole])
    monkeypatch.setattr(attention_pictures, "draw_attention", lambda *parts: next(drawn)(*parts))
    job = ["predict", video, other, "--model", model_folder, "--out", tmp_path / "o", "--attention"]
    assert call(*job) == 1
    rows = [json.loads(line) for line in (tmp_path / "o/predictions.jsonl").read_text().splitlines()]
    assert sorted(row["status"] for row in rows) == ["failed:error", "ok"]
    assert "The picture of its attention: RuntimeError: a bug of the picture" in [row["error"] for row in rows]
    assert call(*job, "--retry-failed") == 0 and len(list((tmp_path / "o/attention").iterdir())) == 2


def test_a_model_without_captions_has_no_attention_to_draw(watcher, video, tmp_path, capsys):
    assert call("predict", video, "--model", watcher, "--out", tmp_path / "p", "--attention") == 3
    assert "There is no attention to draw: this model reads frames and has heads of kind" in capsys.readouterr().err


def test_the_brightest_cell_is_the_look_with_the_largest_weight():
    weights = np.zeros((2, 70))
    weights[0, 40], weights[1, :10] = 1.0, 0.1
    image = draw_attention(np.zeros((32, 8, 8, 3), np.uint8), ["_over", "</s>"], weights.tolist())
    cells = [
        [
            int(image[CELL_SIZE + ROW_HEIGHT * row + 9, MARGIN_WIDTH + CELL_SIZE * column + 40, 0])
            for column in range(32)
        ]
        for row in range(2)
    ]
    brightest = next(i for i, looks in enumerate(group_looks(70)) if 40 in looks)
    assert cells[0][brightest] == 255 and sum(cells[0]) == 255
    assert max(cells[1][:4]) == 255 and sum(cells[1][5:]) == 0


def test_the_deadline_of_the_command_is_that_of_the_workers(monkeypatch):
    from pipeline.commands import predict as command

    made = []
    monkeypatch.setattr(command, "DecodePool", lambda *arguments, **settings: made.append(arguments))
    encoder = {"size": 8, "resize": "fit", "decoder": "pyav"}
    command._start_workers({"encoder": encoder, "clock": {"rate": 4}}, 1, command.PredictOptions((), deadline=7.0))
    assert (made[0][2].idle_seconds, made[0][2].base_seconds) == (7.0, 7.0)
    from pipeline.cli import main

    with pytest.raises(SystemExit, match="2"):
        main(["predict", "a.mp4", "--model", "m", "--out", "o", "--deadline", "0"])
