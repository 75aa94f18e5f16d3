"""Streams: any windows give the same events, and the answers of the whole; a saved state continues elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from streaming import CPU, DELAYED, NAMES, RATE, SEGMENT, make_checkpoint, make_series

from pipeline.checkpoint import ModelError, load_model, save_model
from pipeline.config.architecture import Architecture
from pipeline.inference.engine import answer_file
from pipeline.inference.events import MAX_GAP_SECONDS, EventBuilder
from pipeline.inference.live_stream import LatencyHistogram
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import Stream
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.transform import Transform
from pipeline.models.crf.forward_backward import forward_backward
from pipeline.padded import Padded, stack


def all_events(stream: Stream, x: np.ndarray, times: np.ndarray, cuts: list[int]) -> list[dict[str, Any]]:
    """The events of x in windows that begin at `cuts`."""
    windows = zip(np.split(x, cuts), np.split(times, cuts), strict=True)
    return [*(event for values, t in windows for event in stream.watch_features(values, t)), *stream.finish()]


# events


def test_events_are_the_runs_of_labels():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(-1, 3, 40), rng.integers(1, 6, 40))
    scores = rng.uniform(0.3, 1, len(labels))
    tracker = EventBuilder("action", period=0.25, update_seconds=1.0, threshold=0.0)
    events = []
    for i, n in enumerate(labels):
        events += tracker.add_look(i / 4, NAMES[n] if n >= 0 else None, scores[i], i / 4 + 1)
    before = tracker.state()
    events += tracker.finish(len(labels) / 4)
    assert tracker.state() == before  # `finish` changes nothing
    runs = [(n, [i for i, _ in run]) for n, run in groupby(enumerate(labels), key=lambda p: p[1])]
    expected = [
        (round(i[0] / 4, 3), round((i[-1] + 1) / 4, 3), NAMES[n], round(float(np.mean(scores[i])), 6))
        for n, i in runs
        if n >= 0
    ]
    assert [(e["start"], e["end"], e["label"], e["score"]) for e in events if e["event"] == "end"] == expected
    assert [e["start"] for e in events if e["event"] == "start"] == [start for start, *_ in expected]
    updates = [e for e in events if e["event"] == "update"]
    assert len(updates) == sum((len(i) - 1) // 4 for n, i in runs if n >= 0)
    assert all(e["time"] == pytest.approx(e["end"] - 0.25 + 1) for e in updates)


def test_an_action_ends_at_a_gap_and_below_the_threshold():
    tracker = EventBuilder("action", period=0.25, update_seconds=0, threshold=0.5)
    assert [e["event"] for e in tracker.add_look(0.0, "sit", 0.9, 0.0)] == ["start"]
    later = 0.25 + MAX_GAP_SECONDS
    events = tracker.add_look(later, "sit", 0.9, later)
    assert [(e["event"], e.get("end")) for e in events] == [("end", 0.25), ("start", None)]
    assert [e["event"] for e in tracker.add_look(later + 0.25, "sit", 0.4, later)] == ["end"]
    assert tracker.finish(later) == []
    slow = EventBuilder("action", period=10.0, update_seconds=0, threshold=0.0)  # one look in ten seconds is no gap
    assert [e["event"] for t in (0.0, 10.0, 20.0) for e in slow.add_look(t, "sit", 0.9, t)] == ["start"]


# streams


@pytest.mark.parametrize(("cell", "head"), [("gru", None), ("lstm", SEGMENT), ("rnn_tanh", SEGMENT), ("gru", DELAYED)])
def test_all_windows_of_a_stream_give_bit_equal_events(cell, head):
    checkpoint, (x, times) = make_checkpoint(core={"cell": cell}, head=head), make_series()
    whole = all_events(Stream(checkpoint, CPU, probabilities=True), x, times, [])
    assert len({e["label"] for e in whole if "label" in e}) > 1
    rng = np.random.default_rng(1)
    for cuts in [list(range(1, 60)), list(range(7, 60, 7)), sorted(rng.integers(0, 61, 9).tolist())]:
        assert all_events(Stream(checkpoint, CPU, probabilities=True), x, times, cuts) == whole


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
def test_the_answer_at_the_end_equals_that_of_the_whole(pool):
    torch.manual_seed(0)
    base, (x, times) = make_checkpoint(), make_series()
    architecture = Architecture.model_validate({**base.architecture.model_dump(), "heads": {"action": {"pool": pool}}})
    checkpoint = replace(
        base, model=architecture.build(base.vocabularies, input_size=3).eval(), architecture=architecture
    )
    answer = all_events(Stream(checkpoint, CPU), x, times, [13])[-1]
    predictions = Predictor(checkpoint, CPU).predict_sequence("series", x)
    expected = predictions["action"].row(5)
    assert answer["event"] == "answer" and answer["label"] == expected["label"]
    assert [t["score"] for t in answer["top"]] == pytest.approx([t["score"] for t in expected["top"]], abs=1e-5)


def test_scores_come_from_the_mean_logits_of_the_last_looks():
    checkpoint, (x, times) = make_checkpoint(), make_series()
    events = all_events(Stream(checkpoint, CPU, smooth_seconds=1.5, probabilities=True, top=9), x, times, [])
    looks = [e for e in events if e["event"] == "probabilities"]
    with torch.no_grad():
        head: Any = checkpoint.model.head("action")
        logits = head.step_logits(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}))[0]
    assert [e["look"] for e in looks] == times.tolist()
    for i, event in enumerate(looks):
        expected = logits[max(0, i - 5) : i + 1].mean(0).softmax(0)
        scores = {item["label"]: item["score"] for item in event["top"]}
        assert [scores[name] for name in NAMES] == pytest.approx(expected.tolist(), abs=1e-5)
        assert event["label"] == NAMES[int(expected.argmax())]


def actions(events: list[dict[str, Any]]) -> list[tuple[float, float, str]]:
    return [(e["start"], e["end"], e["label"]) for e in events if e["event"] == "end"]


@pytest.mark.parametrize("head", [SEGMENT, DELAYED])
def test_with_a_lag_of_the_whole_the_actions_equal_the_timeline_of_the_whole(head):
    checkpoint, (x, times) = make_checkpoint(head=head), make_series()
    events = all_events(Stream(checkpoint, CPU, lag_seconds=99), x, times, [13])
    expected = Predictor(checkpoint, CPU).predict_sequence("series", x)["action"].row(5)["spans"]
    assert len(expected) > 5 and actions(events) == [(s["start"], s["end"], s["label"]) for s in expected]
    scores = [e["score"] for e in events if e["event"] == "end"]
    assert scores == pytest.approx([s["score"] for s in expected], abs=1e-5)


@pytest.mark.parametrize("lag", [0, 3])
def test_a_label_is_decided_a_lag_later_and_equals_the_fixed_lag_path(lag):
    checkpoint, (x, times) = make_checkpoint(head=SEGMENT), make_series()
    head: Any = checkpoint.model.head("action")
    with torch.no_grad():
        emissions = head.emissions(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}).steps)
        head.lag_steps = lag
        path = head.lagged(emissions).data[0].numpy()
    events = all_events(Stream(checkpoint, CPU, lag_seconds=lag / RATE, probabilities=True, top=9), x, times, [30])
    looks = [e for e in events if e["event"] == "probabilities"]
    assert [e["label"] for e in looks] == [None if NAMES[n] == "rise" else NAMES[n] for n in path]
    assert actions(events) == [s[:3] for s in head.spans(path, np.ones((60, 4)))]
    assert all(e["time"] == min(e["look"] + lag / RATE, times[-1]) for e in looks)  # never later, and never revised
    for i, event in enumerate(looks):  # its scores: the posterior given the looks up to the lag
        crf, part = head.crf, emissions.data[:, : i + lag + 1]
        end = crf.end_transitions if i + lag >= 60 else torch.zeros(4)
        with torch.no_grad():
            posterior = forward_backward(
                Padded(part, torch.tensor([part.shape[1]])), crf.transitions, crf.start_transitions, end
            )
        scores = {item["label"]: item["score"] for item in event["top"]}
        assert [scores[name] for name in NAMES] == pytest.approx(posterior.labels[0, i].tolist(), abs=2e-5)


@pytest.mark.parametrize("lag", [3, 5])
def test_the_lag_includes_the_delay_of_the_head(lag):
    checkpoint, (x, times) = make_checkpoint(head=DELAYED), make_series()
    head: Any = checkpoint.model.head("action")
    with torch.no_grad():
        emissions = head.emissions(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}).steps)
        head.lag_steps = lag
        path = head.lagged(emissions).data[0].numpy()
    events = all_events(Stream(checkpoint, CPU, lag_seconds=lag / RATE, probabilities=True), x, times, [2, 30])
    looks = [e for e in events if e["event"] == "probabilities"]
    assert [e["label"] for e in looks] == [None if NAMES[n] == "rise" else NAMES[n] for n in path]
    assert all(e["time"] == min(e["look"] + lag / RATE, times[-1]) for e in looks)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_stream_shorter_than_the_delay_gives_the_actions_of_the_whole(count):
    checkpoint, (x, times) = make_checkpoint(head=DELAYED), make_series(count)
    events = all_events(Stream(checkpoint, CPU), x, times, [])
    expected = Predictor(checkpoint, CPU).predict_sequence("series", x)["action"].row(5)["spans"] if count else []
    assert actions(events) == [(s["start"], s["end"], s["label"]) for s in expected]


def test_a_lag_shorter_than_the_delay_is_refused():
    with pytest.raises(
        ValueError, match=r"lag is 0.5 seconds, and 'action' was trained to label a look 0.75 seconds later"
    ):
        Stream(make_checkpoint(head=DELAYED), CPU, lag_seconds=0.5)


@pytest.mark.parametrize("delay", [{}, {"delay_seconds": 0.75}])
def test_without_a_crf_the_actions_of_a_stream_equal_the_timeline(delay):
    checkpoint, (x, times) = make_checkpoint(head={**SEGMENT, "crf": False, **delay}, seed=3), make_series()
    events = all_events(Stream(checkpoint, CPU), x, times, [20])
    expected = Predictor(checkpoint, CPU).predict_sequence("series", x)["action"].row(5)["spans"]
    assert actions(events) == [(s["start"], s["end"], s["label"]) for s in expected]


@pytest.mark.parametrize("head", [None, SEGMENT, DELAYED])
def test_finish_changes_nothing(head):
    checkpoint, (x, times) = make_checkpoint(head=head), make_series()
    finished, other = Stream(checkpoint, CPU), Stream(checkpoint, CPU)
    for i in range(0, 60, 6):
        window = x[i : i + 6], times[i : i + 6]
        assert finished.watch_features(*window) == other.watch_features(*window)
        assert all(e["interrupted"] for e in finished.finish(is_interrupted=True))
    assert finished.finish() == other.finish()


@pytest.mark.parametrize("head", [None, SEGMENT])
def test_a_saved_state_continues_bit_equal_in_another_process(head, tmp_path):
    checkpoint, (x, times) = make_checkpoint(core={"cell": "lstm", "layers": 2}, head=head), make_series()
    save_model(tmp_path / "model", checkpoint)
    np.save(tmp_path / "x.npy", x)
    stream = Stream(checkpoint, CPU, probabilities=True)
    stream.watch_features(x[:23], times[:23])
    stream.save_state(tmp_path / "s", {"source": "here"})
    script = (
        "import json, sys\nimport numpy as np, torch\ntorch.set_num_threads(1)\n"
        "from pathlib import Path\nfrom pipeline.checkpoint import load_model\n"
        "from pipeline.inference.stream import Stream\n"
        "f = Path(sys.argv[1])\ns = Stream(load_model(f / 'model'), torch.device('cpu'), probabilities=True)\n"
        "assert s.load_state(f / 's') == {'source': 'here'} and s.looks == 23\n"
        "x = np.load(f / 'x.npy')\n"
        "print(json.dumps(s.watch_features(x[23:], np.arange(23, 60) / 4) + s.finish()))\ns.save_state(f / 'other')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == stream.watch_features(x[23:], times[23:]) + stream.finish()
    stream.save_state(tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("head", [None, SEGMENT])
def test_the_size_of_the_state_is_constant(head, tmp_path):
    checkpoint, (x, times) = make_checkpoint(head=head), make_series(400)
    stream = Stream(checkpoint, CPU)
    sizes = []
    for i in range(0, 400, 40):
        stream.watch_features(x[i : i + 40], times[i : i + 40])
        stream.save_state(tmp_path / "s")
        sizes.append((tmp_path / "s").stat().st_size)
    assert max(sizes) - min(sizes) < 200  # the digits of numbers
    assert os.listdir(tmp_path) == ["s"]


def test_the_state_of_another_stream_is_refused_in_a_sentence(tmp_path):
    (x, times), path = make_series(5), tmp_path / "s"
    stream = Stream(make_checkpoint(), CPU)
    stream.watch_features(x, times)
    stream.save_state(path)
    for other, sentence in (
        (Stream(make_checkpoint(seed=1), CPU), "is the state of another model"),
        (
            Stream(make_checkpoint(), CPU, lag_seconds=2),
            "saved with a lag of 4 looks, and now it is 8. Give the same --lag",
        ),
        (
            Stream(make_checkpoint(), CPU, smooth_seconds=1),
            "smoothed over 8 looks, and now it is 4. Give the same --smooth",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            other.load_state(path)
    data = path.read_bytes()
    for content in (b"", b"no state", data[:200], data.replace(b"format", b"farmat")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no saved state|is a state of format None"):
            stream.load_state(path)
    path.write_bytes(data.replace(b'\\"looks\\"', b'\\"lookz\\"'))
    with pytest.raises(ValueError, match="is a damaged state .* Delete it to begin anew"):
        stream.load_state(path)


def test_a_model_that_cannot_stream_is_refused():
    with pytest.raises(
        ModelError, match="core is bidirectional: it reads the end of a video first, so it cannot stream"
    ):
        Stream(make_checkpoint(core={"bidirectional": True}), CPU)
    with pytest.raises(ValueError, match="lag is -1 seconds. It is a number of seconds, 0 or more"):
        Stream(make_checkpoint(), CPU, lag_seconds=-1)
    stream, (x, times) = Stream(make_checkpoint(), CPU), make_series(3)
    stream.watch_features(x, times)
    with pytest.raises(ValueError, match="A look at 0.000 s came after one at 0.500 s. Looks come in order"):
        stream.watch_features(x, times)


def test_the_answer_about_a_video_equals_that_of_predict(watcher, film):
    checkpoint = load_model(watcher)
    answers = []
    for window in (1, 7, 64):
        stream = Stream(checkpoint, CPU, probabilities=True)
        answers.append(list(stream(decode(film, clock=stream.clock, transform=stream.transform, window=window))))
    assert answers[0] == answers[1] == answers[2]
    expected = answer_file(film, Predictor(checkpoint, CPU)).predictions["action"].row(5)
    assert [t["score"] for t in answers[0][-1]["top"]] == pytest.approx([t["score"] for t in expected["top"]], abs=1e-5)
    clip = next(decode(film, clock=Clock(RATE), transform=Transform(48)))
    with pytest.raises(ValueError, match=r"This model reads uint8 frames of shape \(32, 32, 3\). Resize them"):
        Stream(checkpoint, CPU).watch(clip)


def test_percentiles_of_the_latency_histogram():
    latency, seconds = LatencyHistogram(), np.random.default_rng(0).lognormal(-3, 1, 5000)
    assert latency.percentiles() == {}
    for part in np.split(seconds, 10):
        latency.add(part)
    for name, value in latency.percentiles().items():
        assert value == pytest.approx(1e3 * np.percentile(seconds, int(name[1:])), rel=0.06)
