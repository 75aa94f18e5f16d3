"""Promises about sentences that are said of what was watched: captions, one-pass, transcribe.

Each does the work afresh, prints its tables and returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import proof
import torch
from proof import pick

from pipeline.checkpoint import load_model
from pipeline.config import load_config
from pipeline.data.dataset import Order
from pipeline.data.manifest import Row
from pipeline.measure import split_dataset
from pipeline.metrics.captions import captions, tokenize
from pipeline.metrics.sequence import word_error_rate
from pipeline.prepare import prepare
from pipeline.training.evaluate import judge
from pipeline.training.runtime import runtime

sys.path.insert(0, str(proof.REPOSITORY / "datasets/puppets"))
from captions import parse  # type: ignore[attr-defined]

Answer = tuple[str, bool | None]
REFERENCES = 4  # of the five sentences of each video; the fifth is judged like a model's


PERSON = "a held-out reference"


class Said(NamedTuple):
    """A sentence a test video, in the order of `rows`."""

    rows: list[Row]
    sentences: list[str]


def sentences_of(run: Path, order: Order = "forward") -> Said:
    """What a finished run's caption head says about each video of its test part."""
    config, checkpoint = load_config(run / "config.yaml"), load_model(run)
    with runtime("cpu", 1) as place:
        prepared = prepare(config, place, lambda text: None)
        dataset = split_dataset(config, prepared, checkpoint.model, "test", order=order)
        judged = judge(checkpoint.model, dataset, batch_size=config.training.batch_size, device=torch.device("cpu"))
    return Said(dataset.rows, [e.said for e in judged.evidence["caption"]])


def score(rows: Sequence[Row], sentences: Sequence[str]) -> dict[str, float]:
    """CIDEr-D, BLEU-4, ROUGE-L against four people's sentences, and whether the right actions are told in the right order.

    actions: the share of videos whose sentence tells just the actions that happened, each as often, whatever their order. order: of
    the videos with several different actions, the share of those of which it tells two or more that happened, all of them in their
    order. exact: of the same videos, the share of those told without any mistake.
    """
    written = [[tokenize(text) for text in row.captions[:REFERENCES]] for row in rows]
    found = captions([tokenize(text) for text in sentences], written)
    told = [(parse(text), [span.label for span in row.spans]) for text, row in zip(sentences, rows, strict=True)]
    several = [(said, true) for said, true in told if len(set(true)) > 1]
    return {
        **{name: found[name] for name in ("cider_d", "bleu_4", "rouge_l")},
        "actions": float(np.mean([Counter(said) == Counter(true) for said, true in told])),
        "order": float(np.mean([_is_in_order(said, true) for said, true in several])) if several else float("nan"),
        "exact": float(np.mean([said == true for said, true in several])) if several else float("nan"),
    }


def _is_in_order(said: Sequence[str], true: Sequence[str]) -> bool:
    """Whether two or more of the actions that happened are told, and those in the order in which they happened."""
    both = sum((Counter(said) & Counter(true)).values())
    longest = [0] * (len(true) + 1)  # of a common subsequence of what was said so far with each beginning of the truth
    for one in said:
        before = list(longest)
        for i, other in enumerate(true):
            longest[i + 1] = before[i] + 1 if one == other else max(before[i + 1], longest[i])
    return both >= 2 and longest[-1] == both


def show(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    """A line for each way to a sentence."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<46}" + "".join(f"{c.replace('_', ' '):>10}" for c in columns))
    for name, found in rows.items():
        print(f"  {name:<44}" + "".join(f"{found[c]:>10.3f}" for c in columns))
    print(f"  {note}", flush=True)


def caption(data: Path, seeds: int) -> Answer:
    """Puppets full, unseen actors: soft attention over spans beside their mean, people and chance."""
    work, watch = proof.fresh("captions"), proof.Stopwatch()
    chosen = _drawn(work)
    common = [
        f"data.path={work}/some.jsonl", f"data.root={work}/puppets", f"data.features={work}/features",
        "evaluation.orders=false",
    ]  # fmt: skip
    config = "puppets/everything.yaml"
    proof.unreel("extract", proof.REPOSITORY / "configs" / config, *common[:3])
    looked = watch.seconds
    common += ["evaluation.baselines=false"]
    ways = {"soft": [], "mean": ["heads.caption.attention=mean"]}
    jobs = [
        [*common, *more, f"training.seed={s}", f"run={work}/{way}_{s}"]
        for way, more in ways.items()
        for s in range(seeds)
    ]
    reports = proof.train_all(config, jobs)
    trained = watch.seconds
    longer = [f"training.start={work}/soft_0", "training.epochs=2", "training.lr=0.00005"]
    critic = ["heads.caption.self_critical=true", *longer]
    proof.train_all(config, [[*common, *critic, f"run={work}/critic"], [*common, *longer, f"run={work}/longer"]])
    said = {way: [sentences_of(work / f"{way}_{s}") for s in range(seeds)] for way in ways}
    rows = said["soft"][0].rows
    everyone = [json.loads(line) for line in chosen]
    most = Counter(text for row in everyone if row["split"] == "train" for text in row["captions"]).most_common(1)[0][0]
    other = random.Random(0).sample(rows, len(rows))
    table = {
        "soft attention": _mean([score(one.rows, one.sentences) for one in said["soft"]]),
        "their mean in place of attention": _mean([score(one.rows, one.sentences) for one in said["mean"]]),
        "soft attention, frames shuffled": score(rows, sentences_of(work / "soft_0", "shuffled").sentences),
        "soft attention, two more epochs": score(rows, sentences_of(work / "longer").sentences),
        "soft attention, two self-critical epochs": score(rows, sentences_of(work / "critic").sentences),
        PERSON: score(rows, [row.captions[REFERENCES] for row in rows]),
        "a sentence of a random other video": score(rows, [row.captions[0] for row in other]),
        "the most frequent sentence": score(rows, [most] * len(rows)),
    }
    long = [row for row in rows if len(row.spans) > 1]
    note = (
        f"all against the same {REFERENCES} sentences a video; split by actor; {seeds} seeds; videos that could not be read: "
        f"{proof.failed_count(reports)}; {looked:.0f} s to draw and look, {trained - looked:.0f} s to train the two, {watch.seconds:.0f} s in all"
    )
    show(f"puppets full, {len(rows)} videos ({len(long)} of several actions), actors never seen", table, note)
    for row, text in [(r, t) for r, t in zip(rows, said["soft"][0].sentences, strict=True) if len(r.spans) > 2][:3]:
        print(f"  {row.path}: {text}\n    ({row.captions[0]})")
    gain = (
        table["soft attention, two self-critical epochs"]["cider_d"]
        - table["soft attention, two more epochs"]["cider_d"]
    )
    ours, mean = table["soft attention"], table["their mean in place of attention"]
    figure = (
        f"CIDEr-D {ours['cider_d']:.3f} (mean-pool {mean['cider_d']:.3f}, person {table[PERSON]['cider_d']:.3f}), "
        f"actions {ours['actions']:.3f}, order {ours['order']:.3f} (bars 0.90), several actions without a mistake {ours['exact']:.3f}; self-critical {gain:+.3f} CIDEr-D"
    )
    return figure, ours["actions"] >= 0.90 and ours["order"] >= 0.90 and ours["cider_d"] > mean["cider_d"]


def _drawn(work: Path) -> list[str]:
    """The lines of work/some.jsonl: looking at all 2,708 videos would take a quarter of an hour alone. All long videos, a sixth of
    the clips, of the test part a third.
    """
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    lines = {name: (work / f"puppets/{name}.jsonl").read_text().splitlines() for name in ("clips", "long")}
    tests = [line for line in lines["clips"] if json.loads(line)["split"] == "test"]
    learnt = [line for line in lines["clips"] if json.loads(line)["split"] != "test"]
    chosen = [*learnt[::6], *tests[::3], *lines["long"]]
    (work / "some.jsonl").write_text("".join(f"{line}\n" for line in chosen))
    return chosen


def _mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}


def one_pass(data: Path, seeds: int) -> Answer:
    """Label, spans and sentences of each video from one decode and one run of the CNN, in one row and one .vtt."""
    work = proof.fresh("one-pass")
    proof.prepare_dataset("puppets", "--size", "small", "--out", work / "puppets")
    run = work / "run"
    proof.unreel(
        "train", proof.REPOSITORY / "configs/puppets/everything.yaml", "heads.action.kind=classify",
        f"data.path={work}/puppets/clips.jsonl", f"data.features={work}/features", f"run={run}", "tracking.wandb=off",
        "training.epochs=10", "evaluation.orders=false", "evaluation.baselines=false",
    )  # fmt: skip
    videos = sorted((work / "puppets/long").glob("*.mp4"))[:3]
    counts = _counted(run, videos)
    formats = ["--format", "jsonl", "vtt"]
    proof.unreel("predict", *videos, "--model", run, "--out", work / "said", *formats)
    rows = proof.json_lines(work / "said/predictions.jsonl")
    agree = True
    for row in rows:
        (subtitles,) = (work / "said/vtt").rglob(Path(row["path"]).with_suffix(".vtt").name)
        cues = re.findall(r"(?m)^\S+ --> \S+.*\n(.+)$", subtitles.read_text(encoding="utf-8"))
        wanted = [s["label"] for head in ("timeline", "caption") for s in row[head]["spans"]]
        agree &= sorted(_bare(c) for c in cues) == sorted(_bare(w) for w in wanted) and bool(row["action"]["label"])
        print(f"\n{row['path']}: {row['action']['label']}; {row['caption']['sentence']}")
        print(subtitles.read_text(encoding="utf-8").strip())
    figure = f"{len(rows)} videos: {counts['decoded']} decodes, looks run through the CNN {counts['looks']} of {counts['due']}, one row and one .vtt each agree: {agree}"
    return figure, agree and counts["decoded"] == len(videos) and counts["looks"] == counts["due"]


def _bare(text: str) -> str:
    """A cue without the name of its head."""
    return re.sub(r"<[^>]*>", "", text).split(": ")[-1].strip()


def _counted(run: Path, videos: Sequence[Path]) -> dict[str, int]:
    """How often files are decoded and how many frames the CNN sees while these videos are answered."""
    from unittest.mock import patch

    from pipeline.inference import predictor

    found = {"decoded": 0, "looks": 0, "due": 0}
    one = predictor.Predictor(load_model(run), torch.device("cpu"))
    look, decode = one.look, predictor.decode

    def counted_look(pixels: Any) -> Any:
        found["looks"] += len(pixels)
        return look(pixels)

    def counted_decode(*args: Any, **more: Any) -> Any:
        found["decoded"] += 1
        return decode(*args, **more)

    one.look = counted_look
    with patch.object(predictor, "decode", counted_decode):
        for video in videos:
            found["due"] += one.watch(video).looks
    return found


def _known_words(folder: Path) -> float:
    """Write the rows of cut words that a classifier can answer, known.jsonl; returns which share of the test words that is."""
    rows = [json.loads(line) for line in (folder / "words.jsonl").read_text().splitlines()]
    taught = {row["label"] for row in rows if row["split"] == "train"}
    kept = [row for row in rows if row["label"] in taught]
    (folder / "known.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    counts = [sum(row["split"] == "test" for row in some) for some in (kept, rows)]
    print(f"{counts[1] - counts[0]} of {counts[1]} test words never occur in training and count as errors")
    return counts[0] / counts[1]


def transcribe(data: Path, seeds: int) -> Answer:
    """asl_hands, official split: word error rate from uncut sequences, beside words that somebody has cut."""
    work, watch = proof.fresh("transcribe"), proof.Stopwatch()
    proof.prepare_dataset("asl_hands", "--folder", data / "asl_hands/data", "--out", work / "set")
    jobs = [
        [f"data.path={work}/set/sentences.jsonl", f"training.seed={s}", f"run={work}/seed{s}"] for s in range(seeds)
    ]
    reports = [pick(r) for r in proof.train_all("asl_hands/transcribe.yaml", jobs)]
    share = _known_words(work / "set")
    cut = [
        "heads={words: {kind: classify}}", f"data.path={work}/set/known.jsonl", "training.epochs=60",
        "evaluation.baselines=true",
    ]  # fmt: skip
    stages = [[*cut, f"training.seed={s}", f"run={work}/words{s}"] for s in range(seeds)]
    words = proof.train_all("asl_hands/transcribe.yaml", stages)
    rows = [json.loads(line) for line in (work / "set/sentences.jsonl").read_text().splitlines()]
    train, test = ([r["captions"][0].split() for r in rows if r["split"] == part] for part in ("train", "test"))
    common = Counter(map(tuple, train)).most_common(1)[0][0]
    known = sum(s in train for s in test)
    table = [
        ("uncut, beam with the language model", [r["word_error_rate"] for r in reports]),
        ("uncut, beam without it", [r["bare_word_error_rate"] for r in reports]),
        ("uncut, best path", [r["greedy_word_error_rate"] for r in reports]),
        ("cut by hand, each word classified", [1 - share * pick(r)["accuracy"] for r in words]),
        *(
            (f"cut by hand, {m}", [1 - share * pick(r, m)["accuracy"] for r in words])
            for m in ("mean-pool linear", "mean-pool MLP")
        ),
        (
            "the most frequent training sentence",
            [float(word_error_rate([common] * len(test), test)["word_error_rate"])],
        ),
    ]
    proof.show_table(
        f"asl_hands, official split, {len(test)} test sentences of {sum(map(len, test))} words: word error rate",
        table,
        f"the same three signers in both parts; {known} of the test sentences stand word for word in training, which the "
        f"language model has read; {watch.seconds:.0f} s",
    )
    return (
        f"word error rate {np.mean(table[0][1]):.3f} with the language model, {np.mean(table[1][1]):.3f} without (aim 0.60)",
        None,
    )
