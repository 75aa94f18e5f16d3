"""Streams: cut anyhow they say the same, and what the whole says; their state goes on in another process."""

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
from streaming import CPU, LATE, NAMES, RATE, SEGMENT, made, values

from pipeline.checkpoint import ModelError, load_model, save_model
from pipeline.inference.events import HOLE_SECONDS, Events
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import Stream
from pipeline.inference.watch import Latency
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.transform import Transform
from pipeline.models.forward_backward import forward_backward
from pipeline.padded import Padded, stack
from pipeline.recipe import Recipe


def said(stream: Stream, x: np.ndarray, times: np.ndarray, cuts: list[int]) -> list[dict[str, Any]]:
    """The events of x cut at `cuts`."""
    parts = [stream.follow(a, t) for a, t in zip(np.split(x, cuts), np.split(times, cuts), strict=True)]
    return [*(e for part in parts for e in part), *stream.finish()]


# events


def test_events_are_the_runs_of_labels():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(-1, 3, 40), rng.integers(1, 6, 40))
    scores = rng.uniform(0.3, 1, len(labels))
    events = Events("action", period=0.25, update_seconds=1.0, threshold=0.0)
    found = [
        e for i, n in enumerate(labels) for e in events.see(i / 4, NAMES[n] if n >= 0 else None, scores[i], i / 4 + 1)
    ]
    before = events.state()
    found += events.finish(len(labels) / 4)
    assert events.state() == before  # asking for the end does not end it
    runs = [(n, [i for i, _ in run]) for n, run in groupby(enumerate(labels), key=lambda p: p[1])]
    wanted = [
        (round(i[0] / 4, 3), round((i[-1] + 1) / 4, 3), NAMES[n], round(float(np.mean(scores[i])), 6))
        for n, i in runs
        if n >= 0
    ]
    assert [(e["start"], e["end"], e["label"], e["score"]) for e in found if e["event"] == "end"] == wanted
    assert [e["start"] for e in found if e["event"] == "start"] == [start for start, *_ in wanted]
    updates = [e for e in found if e["event"] == "update"]
    assert len(updates) == sum((len(i) - 1) // 4 for n, i in runs if n >= 0)
    assert all(e["time"] == pytest.approx(e["end"] - 0.25 + 1) for e in updates)


def test_nothing_goes_on_through_a_hole_or_below_the_threshold():
    events = Events("action", period=0.25, update_seconds=0, threshold=0.5)
    assert [e["event"] for e in events.see(0.0, "sit", 0.9, 0.0)] == ["start"]
    later = 0.25 + HOLE_SECONDS
    assert [(e["event"], e.get("end")) for e in events.see(later, "sit", 0.9, later)] == [
        ("end", 0.25),
        ("start", None),
    ]
    assert [e["event"] for e in events.see(later + 0.25, "sit", 0.4, later)] == ["end"]
    assert events.finish(later) == []
    slow = Events("action", period=10.0, update_seconds=0, threshold=0.0)  # one look in ten seconds is no hole
    assert [e["event"] for t in (0.0, 10.0, 20.0) for e in slow.see(t, "sit", 0.9, t)] == ["start"]


# streams


@pytest.mark.parametrize(("cell", "head"), [("gru", None), ("lstm", SEGMENT), ("rnn_tanh", SEGMENT), ("gru", LATE)])
def test_how_a_stream_is_cut_changes_nothing_to_the_last_bit(cell, head):
    checkpoint, (x, times) = made(core={"cell": cell}, head=head), values()
    whole = said(Stream(checkpoint, CPU, probabilities=True), x, times, [])
    assert len({e["label"] for e in whole if "label" in e}) > 1
    rng = np.random.default_rng(1)
    cuts = [list(range(1, 60)), list(range(7, 60, 7)), sorted(rng.integers(0, 61, 9).tolist())]
    for one in cuts:
        assert said(Stream(checkpoint, CPU, probabilities=True), x, times, one) == whole


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
def test_the_answer_is_that_of_the_whole(pool):
    torch.manual_seed(0)
    base, (x, times) = made(), values()
    recipe = Recipe.model_validate({**base.recipe.model_dump(), "heads": {"action": {"pool": pool}}})
    checkpoint = replace(base, model=recipe.build(base.vocabularies, input_size=3).eval(), recipe=recipe)
    answer = said(Stream(checkpoint, CPU), x, times, [13])[-1]
    predictions, _ = Predictor(checkpoint, CPU)._fold("series", iter([x]))
    wanted = predictions["action"].row(5)
    assert answer["event"] == "answer" and answer["label"] == wanted["label"]
    assert [t["score"] for t in answer["top"]] == pytest.approx([t["score"] for t in wanted["top"]], abs=1e-5)


def test_scores_are_those_of_the_mean_of_the_last_looks():
    checkpoint, (x, times) = made(), values()
    told = said(Stream(checkpoint, CPU, smooth_seconds=1.5, probabilities=True, top=9), x, times, [])
    looks = [e for e in told if e["event"] == "probabilities"]
    with torch.no_grad():
        head: Any = checkpoint.model.head("action")
        logits = head.step_logits(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}))[0]
    assert [e["look"] for e in looks] == times.tolist()
    for i, event in enumerate(looks):
        wanted = logits[max(0, i - 5) : i + 1].mean(0).softmax(0)
        found = {one["label"]: one["score"] for one in event["top"]}
        assert [found[name] for name in NAMES] == pytest.approx(wanted.tolist(), abs=1e-5)
        assert event["label"] == NAMES[int(wanted.argmax())]


def actions(events: list[dict[str, Any]]) -> list[tuple[float, float, str]]:
    return [(e["start"], e["end"], e["label"]) for e in events if e["event"] == "end"]


@pytest.mark.parametrize("head", [SEGMENT, LATE])
def test_with_a_lag_of_the_whole_the_actions_are_the_timeline_of_the_whole(head):
    checkpoint, (x, times) = made(head=head), values()
    found = said(Stream(checkpoint, CPU, lag_seconds=99), x, times, [13])
    wanted = Predictor(checkpoint, CPU)._fold("series", iter([x]))[0]["action"].row(5)["spans"]
    assert len(wanted) > 5 and actions(found) == [(s["start"], s["end"], s["label"]) for s in wanted]
    scores = [e["score"] for e in found if e["event"] == "end"]
    assert scores == pytest.approx([s["score"] for s in wanted], abs=1e-5)


@pytest.mark.parametrize("lag", [0, 3])
def test_a_label_is_settled_a_lag_behind_as_the_path_of_a_stream(lag):
    checkpoint, (x, times) = made(head=SEGMENT), values()
    head: Any = checkpoint.model.head("action")
    with torch.no_grad():
        emissions = head.emissions(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}).steps)
        head.lag_steps = lag
        path = head.lagged(emissions).data[0].numpy()
    told = said(Stream(checkpoint, CPU, lag_seconds=lag / RATE, probabilities=True, top=9), x, times, [30])
    looks = [e for e in told if e["event"] == "probabilities"]
    assert [e["label"] for e in looks] == [None if NAMES[n] == "rise" else NAMES[n] for n in path]
    assert actions(told) == [s[:3] for s in head.spans(path, np.ones((60, 4)))]
    assert all(e["time"] == min(e["look"] + lag / RATE, times[-1]) for e in looks)  # never later, never taken back
    for i, event in enumerate(looks):  # what is known then: the posterior given all up to the lag
        crf, part = head.crf, emissions.data[:, : i + lag + 1]
        end = crf.end_transitions if i + lag >= 60 else torch.zeros(4)
        with torch.no_grad():
            known = forward_backward(
                Padded(part, torch.tensor([part.shape[1]])), crf.transitions, crf.start_transitions, end
            )
        found = {one["label"]: one["score"] for one in event["top"]}
        assert [found[name] for name in NAMES] == pytest.approx(known.labels[0, i].tolist(), abs=2e-5)


@pytest.mark.parametrize("lag", [3, 5])
def test_a_delay_is_part_of_the_lag(lag):
    checkpoint, (x, times) = made(head=LATE), values()
    head: Any = checkpoint.model.head("action")
    with torch.no_grad():
        emissions = head.emissions(checkpoint.model.watch({"series": stack([torch.from_numpy(x)])}).steps)
        head.lag_steps = lag
        path = head.lagged(emissions).data[0].numpy()
    told = said(Stream(checkpoint, CPU, lag_seconds=lag / RATE, probabilities=True), x, times, [2, 30])
    looks = [e for e in told if e["event"] == "probabilities"]
    assert [e["label"] for e in looks] == [None if NAMES[n] == "rise" else NAMES[n] for n in path]
    assert all(e["time"] == min(e["look"] + lag / RATE, times[-1]) for e in looks)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_stream_shorter_than_the_delay_says_what_the_whole_does(count):
    checkpoint, (x, times) = made(head=LATE), values(count)
    found = said(Stream(checkpoint, CPU), x, times, [])
    wanted = Predictor(checkpoint, CPU)._fold("series", iter([x]))[0]["action"].row(5)["spans"] if count else []
    assert actions(found) == [(s["start"], s["end"], s["label"]) for s in wanted]


def test_a_lag_shorter_than_the_delay_is_said():
    with pytest.raises(
        ValueError, match=r"lag is 0.5 seconds, and 'action' was trained to say a label 0.75 seconds later"
    ):
        Stream(made(head=LATE), CPU, lag_seconds=0.5)


@pytest.mark.parametrize("late", [{}, {"delay_seconds": 0.75}])
def test_without_a_crf_a_timeline_is_judged_look_by_look(late):
    checkpoint, (x, times) = made(head={**SEGMENT, "crf": False, **late}, seed=3), values()
    found = said(Stream(checkpoint, CPU), x, times, [20])
    wanted = Predictor(checkpoint, CPU)._fold("series", iter([x]))[0]["action"].row(5)["spans"]
    assert actions(found) == [(s["start"], s["end"], s["label"]) for s in wanted]


@pytest.mark.parametrize("head", [None, SEGMENT, LATE])
def test_asking_for_the_end_ends_nothing(head):
    checkpoint, (x, times) = made(head=head), values()
    asked, left = Stream(checkpoint, CPU), Stream(checkpoint, CPU)
    for i in range(0, 60, 6):
        assert asked.follow(x[i : i + 6], times[i : i + 6]) == left.follow(x[i : i + 6], times[i : i + 6])
        assert all(e["interrupted"] for e in asked.finish(is_interrupted=True))
    assert asked.finish() == left.finish()


@pytest.mark.parametrize("head", [None, SEGMENT])
def test_a_state_goes_on_in_another_process_to_the_last_bit(head, tmp_path):
    checkpoint, (x, times) = made(core={"cell": "lstm", "layers": 2}, head=head), values()
    save_model(tmp_path / "model", checkpoint)
    np.save(tmp_path / "x.npy", x)
    stream = Stream(checkpoint, CPU, probabilities=True)
    stream.follow(x[:23], times[:23])
    stream.save_state(tmp_path / "s", {"source": "here"})
    script = (
        "import json, sys\nimport numpy as np, torch\ntorch.set_num_threads(1)\n"
        "from pathlib import Path\nfrom pipeline.checkpoint import load_model\nfrom pipeline.inference.stream import Stream\n"
        "f = Path(sys.argv[1])\ns = Stream(load_model(f / 'model'), torch.device('cpu'), probabilities=True)\n"
        "assert s.load_state(f / 's') == {'source': 'here'} and s.looks == 23\n"
        "x = np.load(f / 'x.npy')\n"
        "print(json.dumps(s.follow(x[23:], np.arange(23, 60) / 4) + s.finish()))\ns.save_state(f / 'other')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == stream.follow(x[23:], times[23:]) + stream.finish()
    stream.save_state(tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("head", [None, SEGMENT])
def test_the_state_does_not_grow(head, tmp_path):
    checkpoint, (x, times) = made(head=head), values(400)
    stream = Stream(checkpoint, CPU)
    sizes = []
    for i in range(0, 400, 40):
        stream.follow(x[i : i + 40], times[i : i + 40])
        stream.save_state(tmp_path / "s")
        sizes.append((tmp_path / "s").stat().st_size)
    assert max(sizes) - min(sizes) < 200  # digits of numbers
    assert os.listdir(tmp_path) == ["s"]


def test_states_that_do_not_belong_here_are_refused_in_sentences(tmp_path):
    (x, times), path = values(5), tmp_path / "s"
    stream = Stream(made(), CPU)
    stream.follow(x, times)
    stream.save_state(path)
    for other, sentence in (
        (Stream(made(seed=1), CPU), "is the state of another model"),
        (Stream(made(), CPU, lag_seconds=2), "saved with a lag of 4 looks, and now it is 8. Give the same --lag"),
        (Stream(made(), CPU, smooth_seconds=1), "smoothed over 8 looks, and now it is 4. Give the same --smooth"),
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


def test_what_cannot_stream_says_so():
    with pytest.raises(
        ModelError, match="core is bidirectional: it reads the end of a video first, so it cannot stream"
    ):
        Stream(made(core={"bidirectional": True}), CPU)
    with pytest.raises(ValueError, match="lag is -1 seconds. It is a number of seconds, 0 or more"):
        Stream(made(), CPU, lag_seconds=-1)
    stream, (x, times) = Stream(made(), CPU), values(3)
    stream.follow(x, times)
    with pytest.raises(ValueError, match="A look at 0.000 s came after one at 0.500 s. Looks come in order"):
        stream.follow(x, times)


def test_windows_of_frames_as_predict_reads_them(watcher, film):
    checkpoint = load_model(watcher)
    answers = []
    for window in (1, 7, 64):
        stream = Stream(checkpoint, CPU, probabilities=True)
        answers.append(list(stream(decode(film, clock=stream.clock, transform=stream.transform, window=window))))
    assert answers[0] == answers[1] == answers[2]
    wanted = Predictor(checkpoint, CPU).watch(film).predictions["action"].row(5)
    assert [t["score"] for t in answers[0][-1]["top"]] == pytest.approx([t["score"] for t in wanted["top"]], abs=1e-5)
    clip = next(decode(film, clock=Clock(RATE), transform=Transform(48)))
    with pytest.raises(ValueError, match=r"This model looks at uint8 pictures of shape \(32, 32, 3\). Resize them"):
        Stream(checkpoint, CPU).watch(clip)


def test_percentiles_of_a_histogram():
    latency, seconds = Latency(), np.random.default_rng(0).lognormal(-3, 1, 5000)
    assert latency.percentiles() == {}
    for part in np.split(seconds, 10):
        latency.add(part)
    for name, value in latency.percentiles().items():
        assert value == pytest.approx(1e3 * np.percentile(seconds, int(name[1:])), rel=0.06)
