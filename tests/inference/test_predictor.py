"""Answers: their properties work for every kind of head, and files that cannot be read give failed answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from streaming import CPU, RATE, SEGMENT, make_checkpoint, make_series

from pipeline.checkpoint import load_model
from pipeline.inference.answer import Answer, escape_unprintable, headline, prediction_text
from pipeline.inference.engine import answer_file, answer_files
from pipeline.inference.predictor import WINDOW, Predictor, SequencePredictor
from pipeline.media.folder import find_videos
from pipeline.models.prediction import (
    Anticipation,
    Classification,
    Description,
    Likelihood,
    Prediction,
    SeriesForecast,
    Timeline,
    Transcript,
)

SPANS = ((0.25, 1.5, "wave", 0.75), (2.0, 3.0, "bow", 0.5))
CLASSIFICATION = Classification((("sit_down", 0.93), ("wave", 0.07)))


def answer_with(*predictions: Prediction) -> Answer:
    named = {f"head{n}": prediction for n, prediction in enumerate(predictions)}
    return Answer("ok", 2.4, 10, named, path="clip.mp4")


# the properties of an answer


@pytest.mark.parametrize(
    ("prediction", "label", "score", "spans", "caption"),
    [
        (CLASSIFICATION, "sit_down", 0.93, (), None),
        (Timeline(SPANS), None, None, SPANS, None),
        (Timeline(()), None, None, (), None),
        (Description("A man sits down.", -2.5), None, None, (), "A man sits down."),
        (Description("A man sits down.", -2.5, spans=SPANS), None, None, SPANS, "A man sits down."),
        (Transcript(("sit", "down"), -1.0, SPANS), None, None, SPANS, "sit down"),
        (SeriesForecast((0.5,), ((1.0, 2.0),), {}), None, None, (), None),
        (Anticipation(((1.0, (("wave", 0.8),)),)), None, None, (), None),
        (Likelihood(-10.0, 4), None, None, (), None),
    ],
)
def test_the_properties_of_an_answer_with_one_head(prediction, label, score, spans, caption):
    answer = answer_with(prediction)
    assert (answer.label, answer.score, answer.spans, answer.caption) == (label, score, spans, caption)
    assert not answer.is_failed


def test_the_properties_of_a_failed_answer_are_empty():
    answer = Answer("failed:not_a_video", error="The file is text.", path="a.mp4")
    assert answer.is_failed
    assert (answer.label, answer.score, answer.spans, answer.caption) == (None, None, (), None)


def test_with_several_heads_the_first_that_fits_counts():
    described = Description("A man.", -1.0, spans=((0.0, 1.0, "A man waves.", 0.5),))
    transcript = Transcript(("w",), -1.0, ((0.0, 1.0, "w", 0.5),))
    other = Classification((("sad", 1.0),))
    answer = answer_with(transcript, described, CLASSIFICATION, other, Timeline(SPANS))
    assert (answer.label, answer.score, answer.caption) == ("sit_down", 0.93, "A man.")
    assert answer.spans == SPANS  # a timeline before described spans and words
    assert answer_with(transcript, described).spans == transcript.spans


def test_an_answer_becomes_a_row_of_plain_values():
    row = answer_with(CLASSIFICATION, Timeline(SPANS)).to_dict(top=1)
    assert list(row) == ["path", "status", "seconds", "looks", "head0", "head1", "warnings", "error"]
    assert row == json.loads(json.dumps(row))
    assert row["head0"]["top"] == [{"label": "sit_down", "score": 0.93}]
    assert [row[key] for key in ("path", "status", "seconds", "looks", "error")] == ["clip.mp4", "ok", 2.4, 10, ""]
    assert len(answer_with(CLASSIFICATION).to_dict()["head0"]["top"]) == 2


def test_an_answer_is_shown_in_one_line():
    answer = Answer("ok", 2.4, 10, {"action": CLASSIFICATION}, path="clip.mp4")
    assert repr(answer) == "Answer('clip.mp4': ok, action = sit_down 0.93, 2.4 s)"
    timeline = Answer("partial", 9.0, 9, {"timeline": Timeline(())}, path="a.mp4")
    assert repr(timeline) == "Answer('a.mp4': partial, timeline = nothing, 9.0 s)"
    failed = Answer("failed:not_a_video", error="The file is text.", path="a.mp4")
    assert repr(failed) == "Answer('a.mp4': failed:not_a_video, The file is text.)"
    assert repr(Answer("ok", 1.0, 1)) == "Answer(ok, 1.0 s)"
    nasty = Answer("ok", 1.0, 1, {"caption": Description("two\nlines\x1b[31m", -1.0)}, path="a\nb\udcff.mp4")
    assert "\n" not in repr(nasty) and "\x1b" not in repr(nasty) and repr(nasty).encode()


def test_the_headline_of_a_row_is_one_safe_line():
    first = Classification((("=sum", 0.7), ("x", 0.3)))
    spans = Timeline(((0.25, 1.5, "=wave, \n", 0.75), (2.0, 3.0, "x", 0.5)))
    assert headline(answer_with(first, spans).to_dict()) == "=sum 0.70, 0.2 s =wave, \\n, 2.0 s x"
    many = Timeline(tuple((float(i), i + 1.0, "x", 1.0) for i in range(9)))
    assert headline(answer_with(many).to_dict()) == "0.0 s x, 1.0 s x, 2.0 s x, and 6 more"
    assert headline(answer_with(Timeline(())).to_dict()) == "nothing"
    assert headline(Answer("failed:not_a_video").to_dict()) == "failed:not_a_video"
    nasty = Answer("partial", 1, 1, {"h": Classification((("\x1b[31m\n", 1.0),))}).to_dict()
    assert headline(nasty) == "\\x1b[31m\\n 1.00 (partial)"
    assert escape_unprintable("ümlaut 视频 🎥\t\u2028") == "ümlaut 视频 🎥\\t\\u2028"


@pytest.mark.parametrize("status", ["failed:corrupt", "timeout", "crashed:SIGSEGV"])
def test_an_answer_with_no_prediction_has_failed_whatever_its_status(status: str) -> None:
    answer = Answer(status, error="A sentence.")
    assert answer.is_failed and headline(answer.to_dict()) == status and "A sentence." in repr(answer)
    assert not Answer("partial").is_failed


# predictions


@pytest.mark.parametrize("bidirectional", [False, True])
def test_features_in_pieces_of_any_length_give_the_same_bits(bidirectional):
    predictor = Predictor(make_checkpoint(core={"bidirectional": bidirectional}, head=SEGMENT), CPU)
    values, _ = make_series(3 * WINDOW + 11)
    answers = []
    for length in (1, 7, WINDOW, WINDOW + 1, len(values)):
        sequence = SequencePredictor(predictor, "series")
        for start in range(0, len(values), length):
            sequence.add(values[start : start + length])
        assert sequence.looks == len(values)
        answers.append(sequence.finish())
    assert all(answer == answers[0] for answer in answers) and len(answers[0]["action"].spans) > 20
    if bidirectional:
        assert answers[0] == predictor.predict_sequence("series", values)


def test_a_series_is_answered_with_its_path_and_length(tmp_path):
    values, _ = make_series()
    np.save(tmp_path / "x.npy", values)
    answer = answer_file(tmp_path / "x.npy", Predictor(make_checkpoint(), CPU))
    assert (answer.status, answer.looks, answer.seconds) == ("ok", 60, 60 / RATE)
    assert answer.path == str(tmp_path / "x.npy") and answer.label is not None and 0 < (answer.score or 0) <= 1
    timeline = answer_file(tmp_path / "x.npy", Predictor(make_checkpoint(head=SEGMENT), CPU))
    assert timeline.label is None and len(timeline.spans) > 5


def test_files_that_cannot_be_read_give_failed_answers(watcher, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    np.save(tmp_path / "wide.npy", np.zeros((5, 4), np.float32))
    (tmp_path / "text.npy").write_text("no array")
    video, series = Predictor(load_model(watcher), CPU), Predictor(make_checkpoint(), CPU)
    for predictor, name, status, sentence in (
        (video, "text.mp4", "failed:not_a_video", "The file is text"),
        (video, "gone.mp4", "failed:unreadable", "The file cannot be read"),
        (series, "gone.npy", "failed:not_a_series", "is no .npy file"),
        (series, "text.npy", "failed:not_a_series", "is no .npy file"),
        (series, "wide.npy", "failed:wrong_shape", "This model reads numbers of shape (T, 3)"),
    ):
        answer = answer_file(tmp_path / name, predictor)
        assert answer.is_failed and answer.status == status and sentence in answer.error, answer
        assert answer.path == str(tmp_path / name) and not answer.predictions


def test_every_input_of_a_folder_has_a_row_and_an_answer(watcher, film, tmp_path):
    (tmp_path / "a.ts").write_bytes(film.read_bytes())
    (tmp_path / "cut.ts").write_bytes(film.read_bytes()[:20_000])
    (tmp_path / "text.mp4").write_text("no video")
    files = find_videos([str(tmp_path), "gone.mp4"])
    answers = {one.file: one.answer for one in answer_files(files, Predictor(load_model(watcher), CPU))}
    assert set(answers) == set(files) and all(file.name == answer.path for file, answer in answers.items())
    rows = [answer.to_dict(2) for answer in answers.values()]
    statuses = {row["path"].rpartition("/")[2]: row["status"] for row in rows}
    assert statuses["a.ts"] == "ok" and statuses["text.mp4"] == "failed:not_a_video"
    assert statuses["gone.mp4"] == "failed:missing"


def test_the_text_of_an_answer_of_a_new_kind_lists_its_plain_values():
    assert prediction_text({"value": 3.2, "unit": "m", "parts": [1, 2]}) == "value 3.2, unit m"
