"""Models of texts by the commands: they train, answer line by line, and continue a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call

from pipeline.checkpoint import load_model
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Span
from pipeline.inference.engine import answer_file
from pipeline.inference.predictor import Predictor
from pipeline.media.folder import find_texts

SMALL = (
    "tracking.wandb=off",
    "core.hidden=16",
    "encoder.embedding=12",
    "evaluation.order_controls=false",
    "data.window=null",
)


def rows(count: int = 60) -> list[Row]:
    """Sentences in three splits with a sentiment ("kind" or "unkind"), parts of speech and a translation."""
    sentences = []
    for i in range(count):
        mood, label = (("good", "kind"), ("bad", "unkind"))[i % 2]
        text = f"a {mood} film {'indeed' if i % 3 else ''}".strip()
        spans = tuple(Span(n, n + 1, t) for n, t in enumerate(["DET", "ADJ", "NOUN", "ADV"][: len(text.split())]))
        split: Any = ("train", "train", "val", "test")[(i // 2) % 4]
        captions = (f"un {mood} cine",)
        sentences.append(Row(f"t/{i}", split, label=label, spans=spans, captions=captions, text=text))
    return sentences


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "manifest.jsonl"
    write_manifest(rows(), path)
    return path


def train(manifest: Path, folder: Path, *settings: str) -> Path:
    """The run of a model of texts in folder/run."""
    config = folder / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"encoder: {{kind: tokens}}\ndata: {{path: {manifest}}}\ntraining: {{epochs: 12, lr: 0.02}}\n")
    assert call("train", config, f"run={folder / 'run'}", *SMALL, *settings) == 0
    return folder / "run"


def test_a_sentiment_model_trains_beside_its_baselines_and_answers_every_line(manifest, tmp_path):
    run = train(manifest, tmp_path, "heads.mood.kind=classify", "evaluation.baselines=true")
    report = json.loads((run / "report.json").read_text())
    assert [r["model"] for r in report["rows"]] == ["gru", "mean-pool linear", "mean-pool MLP"]
    assert report["rows"][0]["accuracy"] == 1.0
    (tmp_path / "in.txt").write_text("a bad film\n\na good film indeed\n")
    assert call("predict", tmp_path / "in.txt", "--model", run, "--out", tmp_path / "out") == 0
    answers = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [(r["path"], r["mood"]["label"]) for r in answers] == [("in.txt:1", "unkind"), ("in.txt:3", "kind")]


def test_a_model_tags_words_and_translates(manifest, tmp_path, capsys):
    tags = "heads.tags={kind: segment, scheme: each, background: null}"
    spanish = "heads.spanish={kind: caption, level: word, hidden: 16, embedding: 16, beam: 2}"
    run = train(manifest, tmp_path, tags, spanish, "evaluation.baselines=true", "encoder.character_hidden=4")
    assert "baselines: none for spanish" in capsys.readouterr().err
    (tmp_path / "in.txt").write_text("a good film")
    assert call("predict", tmp_path / "in.txt", "--model", run, "--out", tmp_path / "out") == 0
    (row,) = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [s["label"] for s in row["tags"]["spans"]] == ["DET", "ADJ", "NOUN"]
    assert row["spanish"]["sentence"] == "un good cine" and row["spanish"]["log_probability"] < 0


def test_a_language_model_continues_a_prompt(manifest, tmp_path, capsys):
    run = train(manifest, tmp_path, "heads.next.kind=language", "encoder.add_bos_eos=true", "core.input_dropout=0")
    capsys.readouterr()
    assert call("generate", "--model", run, "--prompt", "a", "--top-k", "1") == 0
    assert capsys.readouterr().out.strip().split()[0] == "a"
    assert call("generate", "--model", run, "--samples", "3", "--length", "2", "--seed", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert call("generate", "--model", run, "--temperature", "0") == 2
    assert "temperature=0.0: it divides the logits" in capsys.readouterr().err


def test_a_model_of_texts_is_evaluated_with_its_own_tokenizer(manifest, tmp_path):
    run = train(manifest, tmp_path, "heads.mood.kind=classify")
    other = tmp_path / "other.jsonl"
    write_manifest(
        [Row("x", "test", label="kind", text="a good zzz"), Row("y", "train", label="unkind", text="qqq bad")], other
    )
    before = load_model(run).vocabularies["tokens"]
    assert call("evaluate", run, f"data.path={other}", "data.validation_share=0") == 0
    assert json.loads((run / "evaluation/report.json").read_text())["rows"][0]["accuracy"] == 1.0
    assert load_model(run).vocabularies["tokens"] == before


def test_training_starts_from_the_weights_of_another_run(manifest, tmp_path, capsys):
    first = train(manifest, tmp_path / "a", "heads.mood.kind=classify")
    capsys.readouterr()
    settings = (f"training.init_from={first}", "training.epochs=1", "training.lr=1e-9")
    again = train(manifest, tmp_path / "b", "heads={mood: {kind: classify}, next: {kind: language}}", *settings)
    assert "starting from trained weights; initialised randomly: heads.next" in capsys.readouterr().err
    weights, initial = (load_model(run).model.state_dict() for run in (again, first))
    for name, value in initial.items():
        if ".confidence." not in name:
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=0)


def test_text_files_are_read_line_by_line_and_problems_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    files = find_texts([str(tmp_path)])
    assert [(f.name, f.text) for f in files if f.text] == [("a.txt:1", "one"), ("a.txt:3", "two")]
    files += find_texts([str(tmp_path / "none.txt"), str(tmp_path / "*.md")])
    problems = {f.path.name: f.problem for f in files if f.problem}
    assert "no_texts: The file is empty" in problems["empty.txt"] and "unreadable: The text" in problems["bad.txt"]
    assert "unreadable" in problems["none.txt"] and "no_texts: There is no text file" in problems["*.md"]


def test_a_model_of_texts_refuses_a_video(tmp_path, manifest):
    run = train(manifest, tmp_path, "heads.mood.kind=classify", "training.epochs=1")
    checkpoint = load_model(run)
    answer = answer_file(Path("x.mp4"), Predictor(checkpoint, torch.device("cpu")))
    assert answer.status == "failed:not_a_text"
