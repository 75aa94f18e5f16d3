"""Words by the commands: models of texts train, answer line by line and go on with a prompt; one pass answers every question."""

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
from pipeline.data.manifest import Row, write_manifest
from pipeline.data.rows import Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import Words
from pipeline.inference import predictor
from pipeline.media.folder import find_texts
from pipeline.recipe import Recipe
from pipeline.writers.attention import CELL, MARGIN, ROW, attention_picture, columns

SMALL = ("tracking.wandb=off", "core.hidden=16", "encoder.embedding=12", "evaluation.orders=false", "data.window=null")


def rows(count: int = 60) -> list[Row]:
    """Three splits of sentences that are kind or unkind, with their parts of speech and a translation."""
    made = []
    for i in range(count):
        mood, sign = (("good", "kind"), ("bad", "unkind"))[i % 2]
        text = f"a {mood} film {'indeed' if i % 3 else ''}".strip()
        spans = tuple(Span(n, n + 1, t) for n, t in enumerate(["DET", "ADJ", "NOUN", "ADV"][: len(text.split())]))
        split = ("train", "train", "val", "test")[(i // 2) % 4]
        made.append(Row(f"t/{i}", split, label=sign, spans=spans, captions=(f"un {mood} cine",), text=text))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "manifest.jsonl"
    write_manifest(rows(), path)
    return path


def train(manifest: Path, folder: Path, *settings: str) -> Path:
    config = folder / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"encoder: {{kind: tokens}}\ndata: {{path: {manifest}}}\ntraining: {{epochs: 12, lr: 0.02}}\n")
    assert call("train", config, f"run={folder / 'run'}", *SMALL, *settings) == 0
    return folder / "run"


def test_sentiment_trains_beside_a_bag_of_words_and_answers_every_line(manifest, tmp_path):
    run = train(manifest, tmp_path, "heads.mood.kind=classify", "evaluation.baselines=true")
    report = json.loads((run / "report.json").read_text())
    assert [r["model"] for r in report["rows"]] == ["gru", "mean-pool linear", "mean-pool MLP"]
    assert report["rows"][0]["accuracy"] == 1.0
    (tmp_path / "in.txt").write_text("a bad film\n\na good film indeed\n")
    assert call("predict", tmp_path / "in.txt", "--model", run, "--out", tmp_path / "out") == 0
    said = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [(r["path"], r["mood"]["label"]) for r in said] == [("in.txt:1", "unkind"), ("in.txt:3", "kind")]


def test_tags_translation_and_their_table(manifest, tmp_path, capsys):
    heads = "heads={tags: {kind: segment, scheme: each, background: null}, spanish: {kind: caption, level: word, hidden: 16, embedding: 16, beam: 2}}"
    run = train(manifest, tmp_path, heads, "evaluation.baselines=true", "encoder.characters=4")
    assert "baselines: none for spanish, which say or make something" in capsys.readouterr().err
    (tmp_path / "in.txt").write_text("a good film")
    assert call("predict", tmp_path / "in.txt", "--model", run, "--out", tmp_path / "out") == 0
    (row,) = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [s["label"] for s in row["tags"]["spans"]] == ["DET", "ADJ", "NOUN"]
    assert row["spanish"]["sentence"] == "un good cine" and row["spanish"]["log_probability"] < 0


def test_a_language_model_goes_on_by_the_command(manifest, tmp_path, capsys):
    run = train(manifest, tmp_path, "heads.next.kind=language", "encoder.ends=true", "core.input_dropout=0")
    capsys.readouterr()
    assert call("generate", "--model", run, "--prompt", "a", "--top-k", "1") == 0
    assert capsys.readouterr().out.strip().split()[0] == "a"
    assert call("generate", "--model", run, "--samples", "3", "--length", "2", "--seed", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert call("generate", "--model", run, "--temperature", "0") == 2
    assert "temperature=0.0: it divides the logits" in capsys.readouterr().err


def test_an_interrupted_text_model_is_evaluated_with_its_own_words(manifest, tmp_path):
    run = train(manifest, tmp_path, "heads.mood.kind=classify")
    other = tmp_path / "other.jsonl"
    write_manifest(
        [Row("x", "test", label="kind", text="a good zzz"), Row("y", "train", label="unkind", text="qqq bad")], other
    )
    before = load_model(run).vocabularies["tokens"]
    assert call("evaluate", run, f"data.path={other}", "data.validation=0") == 0
    assert json.loads((run / "evaluation/report.json").read_text())["rows"][0]["accuracy"] == 1.0
    assert load_model(run).vocabularies["tokens"] == before


def test_training_begins_from_another_runs_weights(manifest, tmp_path, capsys):
    first = train(manifest, tmp_path / "a", "heads.mood.kind=classify")
    capsys.readouterr()
    settings = (f"training.start={first}", "training.epochs=1", "training.lr=1e-9")
    again = train(manifest, tmp_path / "b", "heads={mood: {kind: classify}, next: {kind: language}}", *settings)
    assert "begins from trained weights; anew: heads.next" in capsys.readouterr().err
    one, two = (load_model(r).model.state_dict() for r in (first, again))
    for name, value in one.items():
        if ".trust." not in name:
            torch.testing.assert_close(two[name], value, atol=1e-6, rtol=0)


def test_texts_to_read_and_what_is_none(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    found = find_texts([str(tmp_path)])
    assert [(f.name, f.text) for f in found if f.text] == [("a.txt:1", "one"), ("a.txt:3", "two")]
    problems = {
        f.path.name: f.problem
        for f in [*found, *find_texts([str(tmp_path / "none.txt"), str(tmp_path / "*.md")])]
        if f.problem
    }
    assert "no_texts: The file is empty" in problems["empty.txt"] and "unreadable: The text" in problems["bad.txt"]
    assert "unreadable" in problems["none.txt"] and "no_texts: There is no text file" in problems["*.md"]


def test_a_file_of_words_in_a_folder_of_videos_is_refused(tmp_path, manifest):
    run = train(manifest, tmp_path, "heads.mood.kind=classify", "training.epochs=1")
    checkpoint = load_model(run)
    answer = predictor.Predictor(checkpoint, torch.device("cpu")).watch(Path("x.mp4"))
    assert answer.status == "failed:not_a_text"


@pytest.fixture(scope="module")
def all_heads(tmp_path_factory) -> Path:
    """A model that classifies, segments and captions, with random weights."""
    names = {"action": Vocabulary(("run", "sit")), "timeline": Vocabulary(("background", "run", "sit"))}
    words = Words.learn(["someone runs", "a person sits down"])
    recipe = Recipe.model_validate(
        {
            "encoder": {"size": 32, "runtime": "torch", "weights": "none", "project": 8, "grid": 1},
            "core": {"hidden": 8, "bidirectional": True},
            "heads": {
                "action": {},
                "timeline": {"kind": "segment"},
                "caption": {"kind": "caption", "hidden": 8, "embedding": 8, "max_length": 6, "describes": "timeline"},
            },
        }
    )
    torch.manual_seed(3)
    vocabularies = {**names, "caption": words}
    model = recipe.build(vocabularies).eval()
    with torch.no_grad():
        model.get_parameter("heads.timeline.emit.weight").mul_(30)
        model.get_parameter("heads.timeline.emit.bias")[0] = -50  # something happens all the time
    folder = tmp_path_factory.mktemp("all")
    save_model(folder, Checkpoint(model, recipe, vocabularies, None, {}))
    return folder


def test_label_spans_and_sentences_come_from_one_decode_and_one_run_of_the_cnn(all_heads, tmp_path):
    film = make_video(tmp_path / "film.mp4", 90)
    one = predictor.Predictor(load_model(all_heads), torch.device("cpu"))
    seen, calls, look, decode = 0, 0, one.look, predictor.decode

    def looked(pixels):
        nonlocal seen
        seen += len(pixels)
        return look(pixels)

    def decoded(*args, **more):
        nonlocal calls
        calls += 1
        return decode(*args, **more)

    one.look = looked
    with patch.object(predictor, "decode", decoded):
        answer = one.watch(film)
    assert calls == 1 and seen == answer.looks > 5
    assert set(answer.predictions) == {"action", "timeline", "caption"}


def test_all_of_it_lies_in_one_row_and_one_vtt(all_heads, tmp_path):
    make_video(tmp_path / "film.mp4", 90)
    assert (
        call(
            "predict",
            tmp_path / "film.mp4",
            "--model",
            all_heads,
            "--out",
            tmp_path / "o",
            "--format",
            "jsonl",
            "vtt",
            "parquet",
        )
        == 0
    )
    (row,) = [json.loads(line) for line in (tmp_path / "o/predictions.jsonl").read_text().splitlines()]
    spans, told = row["timeline"]["spans"], row["caption"]["spans"]
    assert spans and [(s["start"], s["end"]) for s in spans] == [(s["start"], s["end"]) for s in told]
    assert row["action"]["label"] in ("run", "sit") and row["caption"]["sentence"] is not None
    (subtitles,) = (tmp_path / "o/vtt").rglob("*.vtt")
    assert subtitles.read_text().count("-->") == 2 * len(spans)


def test_what_the_words_looked_at_is_drawn(all_heads, tmp_path, manifest, capsys):
    make_video(tmp_path / "film.mp4", 90)
    assert call("predict", tmp_path / "film.mp4", "--model", all_heads, "--out", tmp_path / "o", "--attention") == 0
    picture = cv2.imread(str(tmp_path / "o/attention/film.caption.png"))
    (row,) = [json.loads(line) for line in (tmp_path / "o/predictions.jsonl").read_text().splitlines()]
    assert picture is not None
    tall, wide = (picture.shape[0] - CELL) / ROW, (picture.shape[1] - MARGIN) / CELL
    assert wide == min(32, row["looks"]) and 1 <= tall <= 6  # words, the end among them
    run = train(manifest, tmp_path, "heads.mood.kind=classify", "training.epochs=1")
    capsys.readouterr()
    assert call("predict", "x.txt", "--model", run, "--out", tmp_path / "p", "--attention") == 3
    assert "There is no attention to draw: this model reads tokens" in capsys.readouterr().err


def test_the_brightest_cell_is_where_a_token_looked_most():
    weights = np.zeros((2, 70))
    weights[0, 40], weights[1, :10] = 1.0, 0.1
    picture = attention_picture(np.zeros((32, 8, 8, 3), np.uint8), ["_over", "</s>"], weights.tolist())
    cells = [[int(picture[CELL + ROW * r + 9, MARGIN + CELL * c + 40, 0]) for c in range(32)] for r in range(2)]
    place = next(i for i, part in enumerate(columns(70)) if 40 in part)
    assert cells[0][place] == 255 and sum(cells[0]) == 255
    assert max(cells[1][:4]) == 255 and sum(cells[1][5:]) == 0
