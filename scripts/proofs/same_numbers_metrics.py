"""What the metrics say of fixed predictions, for the promise same-numbers: one function a module of `pipeline.metrics`.

In: the tree under test. Out: results by name, the same for the same tree. All predictions come from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from same_numbers_tree import Tree

Results = dict[str, Any]
CLASSES, COUNT = 7, 40
GROUPS = [f"g{number // 3}" for number in range(COUNT)]
SAID = ["a man runs down", "the dog sat", "two men meet", "a", "the dog runs down the hill"]
WRITTEN = [
    ["a man runs down the hill", "the man runs"],
    ["the dog sat down", "a dog sits"],
    ["two men meet", "men meet in a room", "they meet"],
    ["a cat", "one cat sleeps"],
    ["a dog runs down a hill", "the dog runs down the hill"],
]


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng([7, seed])


def _scores(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, C) and labels (N,) that are right more often than by chance."""
    labels = torch.from_numpy(_random(seed).integers(0, CLASSES, COUNT))
    logits = torch.from_numpy(_random(seed + 1).normal(size=(COUNT, CLASSES))).float()
    return logits + 1.5 * torch.nn.functional.one_hot(labels, CLASSES), labels


def _clips(seed: int, shift: float = 0.0) -> list[np.ndarray]:
    """Smooth sequences (T, 6) with noise."""
    random = _random(seed)
    steps = [int(random.integers(8, 15)) for _ in range(16)]
    return [random.normal(shift, 1.0, (n, 6)).cumsum(0) / 2 + random.normal(size=(n, 6)) / 4 for n in steps]


def _timelines(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predicted and true labels of videos; some steps are unknown."""
    random = _random(seed)
    truths = [np.repeat(random.integers(-1, 4, 6), random.integers(1, 6, 6)) for _ in range(8)]
    said = [
        np.where(random.random(len(truth)) < 0.7, truth.clip(0), random.integers(0, 4, len(truth))) for truth in truths
    ]
    return said, truths


def bootstrap(tree: Tree) -> Results:
    """Intervals of means, of ratios and of a median, by groups and without."""
    module = "pipeline.metrics.bootstrap"
    values, whole = _random(1).random(COUNT), _random(2).random(COUNT) + 1
    ratio, grouped = tree.get(f"{module}:ratio_interval"), tree.get(f"{module}:grouped_interval")
    sums = tree.get(f"{module}:sums_interval")
    return {
        "mean": [ratio(values, None, groups) for groups in (None, GROUPS)],
        "ratio": ratio(values, whole, GROUPS, repeats=200, level=0.9, seed=3),
        "median": grouped(lambda drawn: float(np.median(drawn)), values, GROUPS, repeats=300),
        "sums": sums(lambda rows: rows[:, 0] - rows[:, 1], np.stack([values, whole], 1), GROUPS),
    }


def calibration(tree: Tree) -> Results:
    """Temperatures, calibration errors, coverage and risk, AUROC, thresholds."""
    logits, labels = _scores(4)
    names = (
        "fit_temperature",
        "negative_log_likelihood",
        "expected_calibration_error",
        "coverage_risk",
        "max_logit",
        "expected_calibration_error_interval",
        "area_under_coverage_risk",
        "auroc",
        "auroc_interval",
        "energy",
        "threshold_at",
    )
    of = {name: tree.get(f"pipeline.metrics.calibration:{name}") for name in names}
    shares, sure = logits.softmax(1), logits.softmax(1).amax(1)
    is_right, unknown = logits.argmax(1) == labels, labels > 4
    curve = of["coverage_risk"](sure, is_right)
    return {
        "temperature": [of["fit_temperature"](logits, labels, smoothing=s) for s in (0.0, 0.05)],
        "nll": of["negative_log_likelihood"](logits, labels, 1.3),
        "ece": [of["expected_calibration_error"](shares, labels, bins) for bins in (5, 15)],
        "ece_interval": of["expected_calibration_error_interval"](shares, labels, GROUPS),
        "curve": curve,
        "aurc": of["area_under_coverage_risk"](curve),
        "unknown": [of["max_logit"](logits), of["energy"](logits, 0.7)],
        "auroc": of["auroc"](of["energy"](logits), unknown),
        "auroc_interval": of["auroc_interval"](of["energy"](logits), unknown, GROUPS),
        "threshold": of["threshold_at"](sure, 0.8),
    }


def captions(tree: Tree) -> Results:
    """BLEU, ROUGE-L and CIDEr-D of a few sentences."""
    module = "pipeline.metrics.captions"
    tokenize = tree.get(f"{module}:tokenize")
    said = [tokenize(text) for text in SAID]
    written = [[tokenize(text) for text in texts] for texts in WRITTEN]
    known = tree.get(f"{module}:document_frequencies")(written[:4])
    return {
        "words": [tokenize(text) for text in ("Don't run -- it's 3.5 km, isn't it?", "The man's t-shirt.")],
        "captions": [tree.get(f"{module}:captions")(said, written, f) for f in (None, known)],
        "bleu": tree.get(f"{module}:bleu")(said, written),
        "rouge": tree.get(f"{module}:rouge_l")(said, written),
        "cider": tree.get(f"{module}:CiderD")(written).scores(said),
        "common": tree.get(f"{module}:longest_common_subsequence")(said[0], written[0][0]),
    }


def classification(tree: Tree) -> Results:
    """Accuracies and the confusion matrix."""
    module = "pipeline.metrics.classification"
    logits, labels = _scores(5)
    return {
        "all": tree.get(f"{module}:classification")(logits, labels),
        "pairs": tree.get(f"{module}:paired_accuracy")(logits, labels, [(0, 1), (3, 4)]),
    }


def early_recognition(tree: Tree) -> Results:
    """How soon answers are right and stay."""
    module = "pipeline.metrics.early_recognition"
    logits = [torch.from_numpy(_random(number).normal(size=(5 + number, 3)).cumsum(0)) for number in range(6)]
    labels = [0, 1, 2, 0, 1, 2]
    return {
        "curve": tree.get(f"{module}:early_curve")(logits, labels),
        "decision": tree.get(f"{module}:mean_time_to_decision")(logits, labels),
        "decide": tree.get(f"{module}:decide_at")(logits, labels, 0.7, 1.5),
    }


def generation(tree: Tree) -> Results:
    """Distances between real and made clips, diversity, copies, and the report of a head that makes sequences."""
    module = "pipeline.metrics.generation"
    real, made, train = _clips(6), _clips(7, 0.3), _clips(8)
    space = tree.get(f"{module}:Space").fit(real, 4)
    report = "pipeline.metrics.generation_report"
    return {
        "space": space,
        "pairs": space.pairs(made),
        "frechet": [tree.get(f"{module}:{n}")(real, made, space, 0.1) for n in ("frechet_pooled", "frechet_time")],
        "nearest": tree.get(f"{module}:nearest")(made, train),
        "copied": tree.get(f"{module}:copied_share")(made, train, real, 0.2),
        "diversity": tree.get(f"{module}:diversity_ratio")(made, real),
        "differences": tree.get(f"{module}:differences")(made),
        "modes": tree.get(f"{module}:modes")([0, 1, 1, 3], 5),
        "content": tree.get(f"{module}:content_distance")(made),
        "sequences": tree.get(f"{report}:scores_of_sequences")(real, made),
        "texts": tree.get(f"{report}:scores_of_texts")([t.split() for t in SAID], [t[0].split() for t in WRITTEN]),
    }


def generation_probes(tree: Tree) -> Results:
    """The scores of small networks that are trained for a few epochs."""
    module = "pipeline.metrics.generation_probes"
    real, made = _clips(9), _clips(10, 0.5)
    tells = tree.get(f"{module}:discriminative_score")
    return {
        "discriminative": [tells(real, made, kind, epochs=3) for kind in ("weak", "strong")],
        "predictive": tree.get(f"{module}:predictive_score")(made, real, epochs=3),
        "persistence": tree.get(f"{module}:persistence_error")(real),
        "controls": tree.get(f"{module}:probe_controls")(real, _random(11)),
    }


def negative_controls(tree: Tree) -> Results:
    """The clips that a score must reject."""
    module, real = "pipeline.metrics.negative_controls", _clips(12)
    names = ("frozen", "shuffled", "noise", "correlated_noise", "mean_plus_noise")
    found: Results = {name: tree.get(f"{module}:{name}")(real, _random(13)) for name in names}
    found["still_mean"] = tree.get(f"{module}:still_mean")(real)
    found["copied"] = tree.get(f"{module}:copied")(real, 20, _random(14))
    return {**found, "half": tree.get(f"{module}:half_the_modes")(real)}


def quantile_loss(tree: Tree) -> Results:
    """The pinball loss."""
    random = torch.Generator().manual_seed(15)
    quantiles, truth = torch.randn(4, 5, 2, 3, generator=random), torch.randn(4, 5, 2, generator=random)
    levels = torch.tensor([0.1, 0.5, 0.9])
    return {"pinball": tree.get("pipeline.metrics.quantile_loss:pinball")(quantiles, truth, levels)}


def segmentation(tree: Tree) -> Results:
    """Frame accuracy, edit score, F1 and average precision of timelines."""
    module = "pipeline.metrics.segmentation"
    said, truth = _timelines(16)
    scores = [_random(17 + number).random((len(one), 4)) for number, one in enumerate(truth)]
    return {
        "all": [tree.get(f"{module}:segmentation")(said, truth, background) for background in (None, 0)],
        "counts": [tree.get(f"{module}:f1_counts")(s, t, 0.25, 0) for s, t in zip(said, truth, strict=True)],
        "runs": [tree.get(f"{module}:runs")(one, 0) for one in truth],
        "map": [tree.get(f"{module}:online_per_frame_map")(scores, truth, background) for background in (None, 0)],
    }


def sequence(tree: Tree) -> Results:
    """Word error rates, span F1, token accuracy and perplexities."""
    module = "pipeline.metrics.sequence"
    tags = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "I-LOC", "I-LOC"], ["B-PER", "B-PER"]]
    said = [["B-PER", "O", "O", "B-LOC"], ["O", "B-LOC", "I-LOC"], ["B-PER", "I-PER"]]
    words, written = [text.split() for text in SAID], [texts[0].split() for texts in WRITTEN]
    return {
        "words": tree.get(f"{module}:word_error_rate")(words, written),
        "spans": [tree.get(f"{module}:span_f1")(said, tags, strict) for strict in (True, False)],
        "tokens": tree.get(f"{module}:token_accuracy")(said, tags),
        "perplexity": tree.get(f"{module}:perplexity")(12.3, 7),
        "bits": tree.get(f"{module}:bits_per_character")(12.3, 31),
    }


METRICS: tuple[Callable[[Tree], Results], ...] = (
    bootstrap,
    calibration,
    captions,
    classification,
    early_recognition,
    generation,
    generation_probes,
    negative_controls,
    quantile_loss,
    segmentation,
    sequence,
)
