"""Promises about sentences from videos and series: captions, one-pass, transcribe.

Each function does the work afresh, prints its tables and returns (result as text, whether the bar holds).
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import proof_tools
import torch
from proof_tools import report_row

from pipeline.checkpoint import load_model
from pipeline.commands.prepare_data import prepare
from pipeline.config.run import load_config
from pipeline.data.dataset import Order
from pipeline.data.manifest_rows import Row
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.evaluation.test_evaluation import split_dataset
from pipeline.inference.engine import answer_files
from pipeline.inference.predictor import Predictor
from pipeline.media.decode_pool import DecodePool, DecodeTask
from pipeline.media.folder import InputFile
from pipeline.metrics.captions import captions, tokenize
from pipeline.metrics.sequence import word_error_rate
from pipeline.training.distributed import distributed

sys.path.insert(0, str(proof_tools.REPOSITORY / "datasets/puppets"))
from captions import parse  # type: ignore[attr-defined]

Answer = tuple[str, bool | None]
NUM_REFERENCES = 4
"""Of the five sentences of each video. The fifth is scored like a prediction."""
CONFIG = "puppets/everything.yaml"
SOFT, MEAN, FIFTH = "soft attention", "mean in place of attention", "the fifth reference"
LONGER, CRITICAL = "soft attention, two more epochs", "soft attention, two self-critical epochs"


class Predicted(NamedTuple):
    """The predicted sentence of each row of the test split."""

    rows: list[Row]
    sentences: list[str]


def predicted_sentences(run: Path, order: Order = "forward") -> Predicted:
    """The sentences of a finished run's caption head for its test split."""
    config, checkpoint = load_config(run / "config.yaml"), load_model(run)
    with distributed("cpu", 1) as context:
        data = prepare(config, context, lambda text: None)
        dataset = split_dataset(config, data, checkpoint.model, "test", order=order)
        batch_size, device = config.training.batch_size, torch.device("cpu")
        evaluation = evaluate_dataset(checkpoint.model, dataset, batch_size=batch_size, device=device)
    return Predicted(dataset.rows, [result.sentence for result in evaluation.results["caption"]])


def score(rows: Sequence[Row], sentences: Sequence[str]) -> dict[str, float]:
    """CIDEr-D, BLEU-4 and ROUGE-L against the references, and how well the actions are named.

    actions: the share of videos whose sentence names exactly the actions that happen, in any order. order: of the
    videos with several different actions, the share whose sentence names at least two of them, and all that it names
    correctly are in the true order. exact: of the same videos, the share whose sentence names all actions in the true
    order and no other.
    """
    references = [[tokenize(text) for text in row.captions[:NUM_REFERENCES]] for row in rows]
    metrics = captions([tokenize(text) for text in sentences], references)
    pairs = [(parse(text), [span.label for span in row.spans]) for text, row in zip(sentences, rows, strict=True)]
    several = [(named, true) for named, true in pairs if len(set(true)) > 1]
    return {
        **{name: metrics[name] for name in ("cider_d", "bleu_4", "rouge_l")},
        "actions": float(np.mean([Counter(named) == Counter(true) for named, true in pairs])),
        "order": float(np.mean([_is_in_order(named, true) for named, true in several])) if several else float("nan"),
        "exact": float(np.mean([named == true for named, true in several])) if several else float("nan"),
    }


def _is_in_order(named: Sequence[str], true: Sequence[str]) -> bool:
    """Whether two or more of the true actions are named, and those in the true order."""
    num_correct = sum((Counter(named) & Counter(true)).values())
    longest = [0] * (len(true) + 1)  # common subsequence of the named actions so far with each prefix of the true ones
    for action in named:
        before = list(longest)
        for i, other in enumerate(true):
            longest[i + 1] = before[i] + 1 if action == other else max(before[i + 1], longest[i])
    return num_correct >= 2 and longest[-1] == num_correct


def print_scores(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    """A line of scores for each source of sentences."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<46}" + "".join(f"{column.replace('_', ' '):>10}" for column in columns))
    for name, scores in rows.items():
        print(f"  {name:<44}" + "".join(f"{scores[column]:>10.3f}" for column in columns))
    print(f"  {note}", flush=True)


def caption(data: Path, seeds: int) -> Answer:
    """Puppets full, unseen actors: soft attention over spans beside their mean, references and chance."""
    work, watch = proof_tools.fresh_folder("captions"), proof_tools.Stopwatch()
    train_captions = _write_subset(work)
    paths = [f"data.path={work}/subset.jsonl", f"data.root={work}/puppets", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs" / CONFIG, *paths)
    extracted = watch.seconds
    common = [*paths, "evaluation.order_controls=false", "evaluation.baselines=false"]
    reports = _train_captions(common, work, seeds)
    trained = watch.seconds
    soft, mean = ([predicted_sentences(work / f"{name}_{s}") for s in range(seeds)] for name in ("soft", "mean"))
    rows, example = soft[0]
    most_frequent = Counter(train_captions).most_common(1)[0][0]
    other_rows = random.Random(0).sample(rows, len(rows))
    table = {
        SOFT: _mean_scores([score(*predicted) for predicted in soft]),
        MEAN: _mean_scores([score(*predicted) for predicted in mean]),
        "soft attention, frames shuffled": score(rows, predicted_sentences(work / "soft_0", "shuffled").sentences),
        LONGER: score(rows, predicted_sentences(work / "longer").sentences),
        CRITICAL: score(rows, predicted_sentences(work / "critical").sentences),
        FIFTH: score(rows, [row.captions[NUM_REFERENCES] for row in rows]),
        "a reference of a random other video": score(rows, [row.captions[0] for row in other_rows]),
        "the most frequent training sentence": score(rows, [most_frequent] * len(rows)),
    }
    num_long = sum(len(row.spans) > 1 for row in rows)
    note = (
        f"all against the same {NUM_REFERENCES} references a video; split by actor; {seeds} seeds; unreadable videos: "
        f"{proof_tools.count_failed(reports)}; {extracted:.0f} s to draw the videos and extract features, "
        f"{trained - extracted:.0f} s to train, {watch.seconds:.0f} s in all"
    )
    print_scores(f"puppets full, {len(rows)} videos ({num_long} of several actions), unseen actors", table, note)
    for row, text in [(r, t) for r, t in zip(rows, example, strict=True) if len(r.spans) > 2][:3]:
        print(f"  {row.path}: {text}\n    (reference: {row.captions[0]})")
    ours, gain = table[SOFT], table[CRITICAL]["cider_d"] - table[LONGER]["cider_d"]
    result = (
        f"all actions, in order, none too many: {ours['exact']:.3f} of {num_long} videos with several actions "
        f"(reported); CIDEr-D {ours['cider_d']:.3f} (mean-pool {table[MEAN]['cider_d']:.3f}, reference "
        f"{table[FIFTH]['cider_d']:.3f}), actions in any order {ours['actions']:.3f}, two or more "
        f"of them in order {ours['order']:.3f} (bars 0.90); self-critical {gain:+.3f} CIDEr-D"
    )
    is_better = ours["cider_d"] > table[MEAN]["cider_d"]
    return result, ours["actions"] >= 0.90 and ours["order"] >= 0.90 and is_better


def _train_captions(common: Sequence[str], work: Path, seeds: int) -> list[dict[str, Any]]:
    """Train soft attention and its mean with each seed, then continue the first run with and without the new loss.

    Returns the reports of the runs that start afresh.
    """
    kinds = {"soft": [], "mean": ["heads.caption.attention=mean"]}
    jobs = [
        [*common, *settings, f"training.seed={seed}", f"run={work}/{name}_{seed}"]
        for name, settings in kinds.items()
        for seed in range(seeds)
    ]
    reports = proof_tools.train_all(CONFIG, jobs)
    longer = [*common, f"training.init_from={work}/soft_0", "training.epochs=2", "training.lr=0.00005"]
    critical = [*longer, "heads.caption.self_critical=true", f"run={work}/critical"]
    proof_tools.train_all(CONFIG, [critical, [*longer, f"run={work}/longer"]])
    return reports


def _write_subset(work: Path) -> list[str]:
    """Write subset.jsonl: all long videos, a sixth of the training clips, a third of the test clips. Features of all
    2,708 videos would take a quarter of an hour alone. Returns the captions of its training rows.
    """
    proof_tools.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    clips, long_videos = (proof_tools.read_json_lines(work / f"puppets/{name}.jsonl") for name in ("clips", "long"))
    test = [row for row in clips if row["split"] == "test"]
    train = [row for row in clips if row["split"] != "test"]
    subset = [*train[:: proof_tools.SIZE.pick(6, 1)], *test[::3], *long_videos]
    (work / "subset.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in subset))
    return [text for row in subset if row["split"] == "train" for text in row["captions"]]


def _mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}


def one_pass(data: Path, seeds: int) -> Answer:
    """Label, spans and sentences of each video from one decoding and one run of the CNN, in one row and one .vtt."""
    work = proof_tools.fresh_folder("one-pass")
    proof_tools.prepare_dataset("puppets", "--size", "small", "--out", work / "puppets")
    run = work / "run"
    settings = [
        "heads.action.kind=classify",
        f"data.path={work}/puppets/clips.jsonl",
        f"data.feature_store={work}/features",
        f"run={run}",
        "tracking.wandb=off",
        "training.epochs=10",
        "evaluation.order_controls=false",
        "evaluation.baselines=false",
    ]
    proof_tools.unreel("train", proof_tools.REPOSITORY / "configs" / CONFIG, *settings)
    videos = sorted((work / "puppets/long").glob("*.mp4"))[:3]
    counts = _count_work(run, videos)
    formats = ["--format", "jsonl", "vtt"]
    proof_tools.unreel("predict", *videos, "--model", run, "--out", work / "predicted", *formats)
    rows = proof_tools.read_json_lines(work / "predicted/predictions.jsonl")
    agree, num_spans = True, 0
    for row in rows:
        (path,) = (work / "predicted/vtt").rglob(Path(row["path"]).with_suffix(".vtt").name)
        subtitles = path.read_text(encoding="utf-8")
        cues = re.findall(r"(?m)^\S+ --> \S+.*\n(.+)$", subtitles)
        labels = [span["label"] for head in ("timeline", "caption") for span in row[head]["spans"]]
        num_spans += len(labels)
        agree &= sorted(map(_cue_text, cues)) == sorted(map(_cue_text, labels)) and bool(row["action"]["label"])
        print(f"\n{row['path']}: {row['action']['label']}; {row['caption']['sentence']}")
        print(subtitles.strip())
    result = (
        f"{len(rows)} rows with {num_spans} spans for {len(videos)} videos: decoded {counts['decoded']} times, "
        f"{counts['extracted']} pictures through the CNN for {counts['looks']} looks, the row and the .vtt of each "
        f"agree: {agree}"
    )
    has_all = len(rows) == len(videos) > 0 and num_spans > 0 and counts["looks"] > 0
    is_one_pass = counts["decoded"] == len(videos) and 0 < counts["extracted"] <= counts["looks"]
    return result, agree and has_all and is_one_pass


def _cue_text(text: str) -> str:
    """A cue without tags and without the name of its head."""
    return re.sub(r"<[^>]*>", "", text).split(": ")[-1].strip()


def _count_work(run: Path, videos: Sequence[Path]) -> dict[str, int]:
    """How often files are decoded and how many frames pass the CNN while these videos are predicted."""
    counts = {"decoded": 0, "extracted": 0, "looks": 0}
    predictor = Predictor(load_model(run), torch.device("cpu"))
    requests, give_file = predictor.take_requests(), DecodePool.submit
    compute = requests.submit

    def count_frames(frames: Sequence[np.ndarray], on_done: Callable[[np.ndarray], None]) -> None:
        counts["extracted"] += len(frames)
        compute(frames, on_done)

    def count_file(pool: DecodePool, task: DecodeTask) -> None:
        counts["decoded"] += 1
        give_file(pool, task)

    predictor.give_requests_back(requests)
    with patch.object(requests, "submit", count_frames), patch.object(DecodePool, "submit", count_file):
        for one in answer_files([InputFile(video, video.name) for video in videos], predictor):
            counts["looks"] += one.answer.looks
    return counts


def transcribe(data: Path, seeds: int) -> Answer:
    """asl_hands, official split: word error rate on uncut sequences, beside words that were cut by hand."""
    work, watch = proof_tools.fresh_folder("transcribe"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("asl_hands", "--folder", data / "asl_hands/data", "--out", work / "set")
    jobs = [
        [f"data.path={work}/set/sentences.jsonl", f"training.seed={s}", f"run={work}/seed{s}"] for s in range(seeds)
    ]
    uncut = [report_row(report) for report in proof_tools.train_all("asl_hands/transcribe.yaml", jobs)]
    known_share = _write_known_words(work / "set")
    settings = ["heads={words: {kind: classify}}", f"data.path={work}/set/known.jsonl", "training.epochs=60"]
    settings += ["evaluation.baselines=true"]
    jobs = [[*settings, f"training.seed={s}", f"run={work}/words{s}"] for s in range(seeds)]
    cut = proof_tools.train_all("asl_hands/transcribe.yaml", jobs)

    def cut_error_rates(model: str | None = None) -> list[float]:
        return [1 - known_share * report_row(report, model)["accuracy"] for report in cut]

    rows = proof_tools.read_json_lines(work / "set/sentences.jsonl")
    train, test = ([row["captions"][0].split() for row in rows if row["split"] == split] for split in ("train", "test"))
    most_frequent = Counter(map(tuple, train)).most_common(1)[0][0]
    constant = word_error_rate([most_frequent] * len(test), test)["word_error_rate"]
    table = [
        ("uncut, beam search with language model", [row["word_error_rate"] for row in uncut]),
        ("uncut, beam search without it", [row["bare_word_error_rate"] for row in uncut]),
        ("uncut, best path", [row["greedy_word_error_rate"] for row in uncut]),
        ("cut by hand, each word classified", cut_error_rates()),
        *((f"cut by hand, {model}", cut_error_rates(model)) for model in ("mean-pool linear", "mean-pool MLP")),
        ("the most frequent training sentence", [float(constant)]),
    ]
    num_in_training = sum(sentence in train for sentence in test)
    proof_tools.print_table(
        f"asl_hands, official split, {len(test)} test sentences of {sum(map(len, test))} words: word error rate",
        table,
        f"the same three signers in both splits; {num_in_training} of the test sentences are also training sentences, "
        f"to which the language model was fitted; {watch.seconds:.0f} s",
    )
    with_lm, without_lm = np.mean(table[0][1]), np.mean(table[1][1])
    return f"word error rate {with_lm:.3f} with the language model, {without_lm:.3f} without (aim 0.60)", None


def _write_known_words(folder: Path) -> float:
    """Write known.jsonl: the cut words whose label is in the training split. Returns their share of the test words."""
    rows = proof_tools.read_json_lines(folder / "words.jsonl")
    labels = {row["label"] for row in rows if row["split"] == "train"}
    known = [row for row in rows if row["label"] in labels]
    (folder / "known.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in known))
    num_known, num_test = (sum(row["split"] == "test" for row in some) for some in (known, rows))
    print(f"{num_test - num_known} of {num_test} test words do not occur in training and count as errors")
    return num_known / num_test
