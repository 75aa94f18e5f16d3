"""Proof `stream`: watch and predict give the same answers, for every batch size and runtime.

In: nothing; the puppets are made. Out: the differences between the events of watch and the answers of predict.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
import torch

from pipeline.checkpoint import load_model, save_model
from pipeline.commands.watch import watch
from pipeline.heads.segment import Segment
from pipeline.inference.answer import Answer
from pipeline.inference.engine import answer_file
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import Stream
from pipeline.media.decode import decode
from pipeline.padded import stack

Event = dict[str, Any]
BATCHES = proof_tools.SIZE.pick((1, 7, 64), (1, 64))
EVERY = 5
"""Looks from one compared answer on the way to the next."""
RUNTIMES = proof_tools.SIZE.pick(("openvino", "torch"), ("torch",))
SIZE = "small"
QUICK = ["tracking.wandb=off", "evaluation.baselines=false", "evaluation.order_controls=false", "encoder.size=96"]


def stream(data: Path, seeds: int) -> tuple[str, bool]:
    """Compare watch with predict: two heads, videos of unseen actors, three batch sizes, two runtimes."""
    work = proof_tools.fresh_folder("stream")
    proof_tools.prepare_dataset("puppets", "--size", SIZE, "--out", work / "puppets")
    common = ["clock.rate=6", "core.input_dropout=0", "core.hidden=256", "encoder.project=256", "training.lr=0.002"]
    long = ["training.epochs=60", "training.batch_size=8", "data.window=256", "heads={timeline: {kind: segment}}"]
    for head, (manifest, *settings) in {
        "action": ["clips.jsonl", "training.epochs=15", "heads={action: {kind: classify}}"],
        "timeline": ["long.jsonl", *long],
    }.items():
        proof_tools.unreel(
            "train",
            work / "puppets" / manifest,
            *QUICK,
            f"data.feature_store={work}/features",
            f"run={work}/{head}",
            *common,
            *settings,
        )
    rows = [json.loads(line) for line in (work / "puppets/long.jsonl").read_text().splitlines()]
    videos = [work / "puppets" / r["path"] for r in rows if r["split"] == "test"][:3]
    problems: list[str] = []
    num_events = 0
    for head, comparison in {"action": compare_answers, "timeline": compare_timelines}.items():
        for runtime in RUNTIMES:
            folder = with_runtime(work, head, runtime)
            print(f"\n{head}, {runtime}: batches of {', '.join(map(str, BATCHES))} looks", flush=True)
            for video in videos:
                differences, count = comparison(folder, video)
                problems += [f"{head}, {runtime}, {video.name}: {difference}" for difference in differences]
                num_events += count
    print("\n" + ("\n".join(problems) if problems else "All events agree."))
    cases = f"2 heads, {len(RUNTIMES)} runtimes, {len(videos)} videos, batches of {BATCHES}"
    return f"{num_events} events compared ({cases}), {len(problems)} differences", not problems and num_events > 0


def with_runtime(work: Path, head: str, runtime: str) -> Path:
    """A copy of a model with another runtime of the CNN."""
    checkpoint = load_model(work / head)
    encoder = checkpoint.architecture.encoder.model_copy(update={"runtime": runtime})
    architecture = checkpoint.architecture.model_copy(update={"encoder": encoder})
    folder = work / f"{head}_{runtime}"
    save_model(
        folder, type(checkpoint)(checkpoint.model, architecture, checkpoint.vocabularies, None, checkpoint.notes)
    )
    return folder


def watch_events(
    model: Path, source: Path, *, batch: int = 64, lag: float = 1.0, probabilities: bool = False, top: int = 5
) -> list[Event]:
    """The events of `unreel watch`, in this process, without the latency (it differs from run to run)."""
    events: list[Event] = []
    emit = events.append
    watch(str(source), model, emit=emit, device="cpu", batch=batch, lag=lag, probabilities=probabilities, top=top)
    return [{k: v for k, v in e.items() if k != "latency_ms"} for e in events]


def events_by_batch(folder: Path, video: Path, answer: Answer) -> tuple[dict[int, list[Event]], list[str]]:
    """The events by batch size, and what differs between them or from the status of predict."""
    events = {b: watch_events(folder, video, batch=b, probabilities=True, top=99) for b in BATCHES}
    first = events[BATCHES[0]]
    problems = [f"batches of {b} give other events" for b in BATCHES if events[b] != first]
    if (first[-1]["status"], first[-1]["looks"]) != (answer.status, answer.looks):
        problems.append(f"predict read {answer.looks} looks ({answer.status}), watch {first[-1]['looks']}")
    return events, problems


def compare_answers(folder: Path, video: Path) -> tuple[list[str], int]:
    """The differences in the answer about the whole, and how many events were compared."""
    predictor = Predictor(load_model(folder), torch.device("cpu"))
    answer = answer_file(video, predictor)
    row = answer.predictions["action"].row(99)
    events, problems = events_by_batch(folder, video, answer)
    first = events[BATCHES[0]]
    last = next(e for e in first if e["event"] == "answer")
    difference = max_score_difference(last["top"], row["top"])
    if last["label"] != row["label"] or difference > 1e-5:
        problems.append(f"the answers differ by {difference:.1e}")
    on_the_way = answers_on_the_way(predictor, video)
    worst = max(max_score_difference(a["top"], b["top"]) for a, b in on_the_way)
    labels = [b["label"] for _, b in on_the_way]
    if [a["label"] for a, _ in on_the_way] != labels or worst > 1e-5 or len(on_the_way) < 2:
        problems.append(
            f"{len(on_the_way)} answers on the way differ by {worst:.1e} from those of the same looks at once"
        )
    print(
        f"  {video.name}: {len(first)} events; the answer is that of predict ({row['label']}), scores within "
        f"{difference:.0e}; {len(on_the_way)} answers on the way ({len(set(labels))} labels) within {worst:.0e}",
        flush=True,
    )
    return problems, sum(map(len, events.values())) + 1 + len(on_the_way)


def answers_on_the_way(predictor: Predictor, video: Path) -> list[tuple[Event, Event]]:
    """After each fifth look the answer of a stream that could end there, and that of the model for the same looks at
    once. Both are computed from the same features.
    """
    section = predictor.checkpoint.architecture.encoder
    assert section.kind == "frames", "the proof trains on frames"
    clips = list(decode(video, clock=predictor.clock, transform=section.transform(), backend=section.decoder))
    features = np.concatenate([predictor.extractor(c.frames).astype(np.float16) for c in clips])
    times = np.concatenate([c.times for c in clips])
    stream, head, pairs = Stream(predictor.checkpoint, torch.device("cpu"), top=99), predictor.model.head("action"), []
    for end in range(1, len(times) + 1):
        stream.watch_features(features[end - 1 : end], times[end - 1 : end])
        if end % EVERY == 0 or end == len(times):
            with torch.inference_mode():
                output = predictor.model.watch({"frames": stack([torch.from_numpy(features[:end])])})
                at_once = head.answer(head.observe(output))[0].row(99)
            pairs.append((next(e for e in stream.finish() if e["event"] == "answer"), at_once))
    return pairs


def compare_timelines(folder: Path, video: Path) -> tuple[list[str], int]:
    """The differences with a lag of the whole and with a lag of 1 s, and how many events were compared."""
    predictor = Predictor(load_model(folder), torch.device("cpu"))
    answer = answer_file(video, predictor)
    row = answer.predictions["timeline"].row(99)
    events, problems = events_by_batch(folder, video, answer)
    first = events[BATCHES[0]]
    whole = {b: watch_events(folder, video, batch=b, lag=answer.seconds + 1) for b in BATCHES}
    for b in BATCHES:
        ended = actions(whole[b])
        differences = [abs(a["score"] - s["score"]) for a, s in zip(ended, row["spans"], strict=False)]
        if spans(ended) != spans(row["spans"]) or max(differences, default=0.0) > 1e-4:
            problems.append(f"with a lag of the whole, batches of {b} give other actions than predict")
    looks = [e for e in first if e["event"] == "probabilities"]
    if [e["label"] for e in looks] != fixed_lag_path(predictor, "timeline", video):
        problems.append("the labels are not those of fixed-lag Viterbi over the features of predict")
    delay = max(e["time"] - e["look"] for e in looks)
    problems += [f"a label came {delay:.2f} s after its look"] if delay > 1.0 + 1e-3 else []
    lagged, expected = spans(actions(first)), spans(row["spans"])
    problems += [] if expected and lagged else ["there is no action to compare"]
    near = sum(any(is_near(a, e, 1 + 1 / predictor.clock.rate) for e in expected) for a in lagged)
    print(
        f"  {video.name}: {len(first)} events; with a lag of the whole the {len(expected)} actions are those of "
        f"predict; at 1 s {near} of {len(lagged)} are within 1 s of one of them, and a label comes at most "
        f"{delay:.2f} s late",
        flush=True,
    )
    return problems, sum(map(len, [*events.values(), *whole.values()]))


def actions(events: list[Event]) -> list[Event]:
    """The ended actions of the head `timeline`."""
    return [e for e in events if e["event"] == "end" and e["head"] == "timeline"]


def spans(events: list[Event]) -> list[tuple[float, float, str]]:
    """Start, end and label of each."""
    return [(e["start"], e["end"], e["label"]) for e in events]


def is_near(a: tuple[float, float, str], b: tuple[float, float, str], seconds: float) -> bool:
    """Whether the labels are equal and both ends differ by at most `seconds`."""
    return a[2] == b[2] and abs(a[0] - b[0]) <= seconds and abs(a[1] - b[1]) <= seconds


def max_score_difference(a: list[Event], b: list[Event]) -> float:
    """The largest difference between the scores of a label in two lists of all labels."""
    scores = {item["label"]: item["score"] for item in b}
    return max(abs(item["score"] - scores[item["label"]]) for item in a)


def fixed_lag_path(predictor: Predictor, name: str, video: Path) -> list[str | None]:
    """The labels of fixed-lag Viterbi (1 s) over the features of the whole video, computed offline."""
    section = predictor.checkpoint.architecture.encoder
    assert section.kind == "frames", "the proof trains on frames"
    clips = decode(video, clock=predictor.clock, transform=section.transform(), backend=section.decoder)
    features = np.concatenate([predictor.extractor(c.frames).astype(np.float16) for c in clips])
    head = predictor.model.head(name)
    assert isinstance(head, Segment)
    head.lag_steps = round(predictor.clock.rate)
    with torch.inference_mode():
        output = predictor.model.watch({"frames": stack([torch.from_numpy(features)])})
        labels = head.lagged(head.emissions(output.steps)).data[0].tolist()
    names = [head.vocabulary.names[n] for n in labels]
    return [None if n == head.background else n for n in names]
