"""Probes: small networks that learn to tell generated sequences from real ones, or to predict real ones from generated
ones.

These are the two scores of TimeGAN (Yoon et al. 2019, NeurIPS, "Time-series Generative Adversarial Networks").

In: real and generated clips, each a list of (T_i, D) or (N, T, D), of a few dozen dimensions (project features by
`Space.features` first). The generator must not have seen the real clips. Out: numbers, the same for the same seed on
one machine. Knows nothing of generators.

A probe that fails to learn gives the score of perfect sequences. So trust a probe only after it has rejected every
control of `probe_controls` (`trusted`).

Every probe is trained on one thread, from a seed, and leaves the caller's random state as it is. 200 clips of each kind
of 24 x 32 take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.metrics.generation import Clips, as_clips
from pipeline.metrics.negative_controls import half_the_modes, mean_plus_noise, noise, shuffled

Probe = Literal["weak", "strong"]

MIN_CLIPS = 12
MIN_STEPS = 4
BATCH = 64
EPOCHS = {"weak": 60, "strong": 25}
"""The weak probe learns order late. With more epochs the strong one learns clips by heart."""

NOISE = 0.1
"""Noise on the input in training, in standard deviations: with few clips a probe learns them by heart without it."""

MARGIN = 0.1
"""How much worse than real clips a control must score: 60 of 100 clips are told correctly where chance tells 50."""


def discriminative_score(
    real: Clips,
    generated: Clips,
    probe: Probe = "strong",
    *,
    groups: Sequence[Hashable] | None = None,
    generated_groups: Sequence[Hashable] | None = None,
    labels: Sequence[Hashable] | None = None,
    generated_labels: Sequence[Hashable] | None = None,
    folds: int = 3,
    epochs: int | None = None,
    seed: int = 0,
) -> float:
    """|balanced accuracy - 0.5| of a probe on held-out clips: 0 where it cannot tell them apart (or is weak), 0.5 where
    it always can.

    Every clip is held out once, and the accuracy is over all clips of `folds` probes. With 200 clips of each kind,
    chance alone gives about 0.02. Both probes read standardised [x, delta x] of the first steps of all clips, as many
    as the shortest clip has, so that lengths tell nothing. At least 12 clips of each kind and 4 steps.

    probe: "weak" is a GRU whose last state is read, as in TimeGAN (which reads x alone, and accepts shuffled clips);
    "strong" has convolutions, and means and maxima over time. groups, generated_groups: the person or video of each
    clip (generated_groups where the second set is real as well). Whole groups are held out, because a probe that has
    seen other clips of a person knows the set by the person. labels, generated_labels: the class of each clip, which a
    probe of conditional sequences is told. It enters by projection, starting from how frequent each class is in either
    set. epochs: None takes those of `EPOCHS`. Features must come from a space that was fitted to neither set (such as
    the training clips): otherwise what lies outside the space tells the sets apart.
    """
    first, second = as_clips(real, MIN_STEPS), as_clips(generated, MIN_STEPS)
    _check_width(first, second)
    if min(len(first), len(second)) < MIN_CLIPS:
        raise ValueError(
            f"There are {len(first)} real and {len(second)} generated clips. A probe needs {MIN_CLIPS} each. Give more."
        )
    if probe not in EPOCHS:
        raise ValueError(f"There is no probe {probe!r}. Choose 'weak' or 'strong'.")
    if not 2 <= folds <= MIN_CLIPS:
        raise ValueError(f"folds is {folds}. Each fold holds clips out and trains on others; give 2 to {MIN_CLIPS}.")
    steps = min(len(clip) for clip in first + second)
    x = torch.from_numpy(np.stack([clip[:steps] for clip in first + second])).float()
    y = torch.cat([torch.ones(len(first)), torch.zeros(len(second))])
    c = _class_indices(first, second, labels, generated_labels)
    with _isolated(seed):
        fold_of_group: dict[Hashable, int] = {}
        fold = _folds(first, groups, folds, fold_of_group)
        has_groups = groups is not None and generated_groups is not None  # then both sets may have clips of one group
        fold = torch.cat([fold, _folds(second, generated_groups, folds, fold_of_group if has_groups else {})])
        if any(len(set(y[fold != held].tolist())) < 2 for held in range(folds)):
            raise ValueError(
                f"All groups of one set are in one of {folds} folds, so a probe would learn from the other set alone. "
                "Give clips of more groups."
            )
        is_correct = torch.empty(len(y))
        for held in range(folds):
            train, test = fold != held, fold == held
            network = _classifier(probe, x[train], c[train], y[train], EPOCHS[probe] if epochs is None else epochs)
            with torch.no_grad():
                is_correct[test] = ((network(x[test], c[test]) > 0) == (y[test] > 0.5)).float()
    accuracy = (is_correct[y == 1].mean() + is_correct[y == 0].mean()) / 2
    return abs(float(accuracy) - 0.5)


def predictive_score(generated: Clips, real: Clips, *, epochs: int = 60, seed: int = 0) -> float:
    """The mean absolute error of a GRU that predicts the next step, in real standard deviations; it is trained on
    generated clips and tested on real ones.

    Compare it with training on other real clips and with `persistence_error`. It predicts all dimensions, as changes
    from the last step, so a probe that learned no motion repeats the last step. TimeGAN predicts the last dimension
    only.
    """
    train, test = as_clips(generated, MIN_STEPS), as_clips(real, MIN_STEPS)
    _check_width(train, test)
    mean, deviation = _statistics(test)
    with _isolated(seed):
        network = _Forecaster(test[0].shape[1])
        clips = [torch.from_numpy((clip - mean) / deviation).float().clamp(-10, 10) for clip in train]
        steps = min(len(clip) for clip in clips)
        x = torch.stack([clip[:steps] for clip in clips])
        _train(network, lambda rows: (network(x[rows][:, :-1]) - x[rows][:, 1:]).abs().mean(), len(x), epochs)
        with torch.no_grad():
            errors = [_forecast_error(network, (clip - mean) / deviation) for clip in test]
    return float(np.concatenate(errors).mean())


def persistence_error(real: Clips) -> float:
    """The error of `predictive_score` for the prediction that nothing changes."""
    clips = as_clips(real, 2)
    _, deviation = _statistics(clips)
    return float(np.concatenate([abs(np.diff(clip / deviation, axis=0)).mean(1) for clip in clips]).mean())


def probe_controls(
    real: Clips, random: np.random.Generator, labels: Sequence[Hashable] | None = None
) -> dict[str, list[np.ndarray]]:
    """The controls that a probe must reject, from real clips: {name: clips}. labels: of the clips, for
    `half_the_modes`.
    """
    return {
        "noise": noise(real, random),
        "shuffled": shuffled(real, random),
        "mean + noise": mean_plus_noise(real, random),
        "half the modes": half_the_modes(real, labels),
    }


def trusted(scores: Mapping[str, float], margin: float = MARGIN) -> bool:
    """Whether a probe can be trusted: each control scores worse than real clips by `margin`.

    scores: of other real clips ("real"), and of every control from those clips.
    """
    return all(scores[name] >= scores["real"] + margin for name in scores if name != "real")


class _WeakProbe(nn.Module):
    """Standardised [x, delta x] (B, T, 2 D) -> (B, H): the last state of a GRU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = max(16, width // 2)
        self.core = nn.GRU(2 * width, self.size, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0][:, -1]


class _StrongProbe(nn.Module):
    """Standardised [x, delta x] (B, T, 2 D) -> (B, H): convolutions, then means and maxima over time."""

    def __init__(self, width: int, channels: int = 16) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(2 * width, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.LeakyReLU(0.2),
        )
        self.size, self.dropout = 2 * channels, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolutions(x.transpose(1, 2))  # (B, C, T)
        return self.dropout(torch.cat([x.mean(2), x.amax(2)], 1))


class _Discriminator(nn.Module):
    """Standardises [x, delta x] by the clips of the training, channel by channel, and scores them by the network.

    A class enters by projection, as in the critic: w.h + v_class.h + b_class. prior (classes,): the initial b_class.
    """

    def __init__(self, network: _WeakProbe | _StrongProbe, x: Tensor, prior: Tensor) -> None:
        super().__init__()
        self.network = network
        rows = _with_differences(x).flatten(0, 1)
        self.mean, self.deviation = rows.mean(0), rows.std(0)
        self.deviation = torch.where(self.deviation > 1e-6 * self.deviation.max(), self.deviation, torch.inf)
        self.linear = nn.Linear(network.size, 1)
        class_weights = nn.functional.pad(prior[:, None], (network.size, 0))
        self.class_weights = nn.Embedding.from_pretrained(class_weights, freeze=False)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        # clamped, so that a few extreme values do not dominate
        standard = ((_with_differences(x) - self.mean) / self.deviation).clamp(-10, 10)
        features = self.network(standard + NOISE * torch.randn_like(standard) if self.training else standard)
        weights, bias = self.class_weights(c).split([features.shape[1], 1], dim=1)
        return self.linear(features)[:, 0] + (weights * features).sum(1) + bias[:, 0]


def _with_differences(x: Tensor) -> Tensor:
    """(B, T, D) -> [x, delta x] (B, T - 1, 2 D)."""
    return torch.cat([x[:, 1:], x.diff(dim=1)], 2)


class _Forecaster(nn.Module):
    """(B, T, D) -> the next step after each step, (B, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.core = nn.GRU(width, 64, batch_first=True)
        self.change = nn.Linear(64, width)
        nn.init.zeros_(self.change.weight)  # at first it repeats the last step
        nn.init.zeros_(self.change.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(self.core(x)[0])


def _classifier(probe: Probe, x: Tensor, c: Tensor, y: Tensor, epochs: int) -> nn.Module:
    """The trained probe of clips x (B, T, D) with classes c (B,) and y (B,), 1 for real clips."""
    network = _Discriminator(
        _StrongProbe(x.shape[2]) if probe == "strong" else _WeakProbe(x.shape[2]), x, _log_odds(c, y)
    )
    weight = torch.where(y > 0.5, 0.5 / y.mean(), 0.5 / (1 - y).mean())  # sets of different sizes count the same

    def loss(rows: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(network(x[rows], c[rows]), y[rows], weight[rows])

    _train(network, loss, len(x), epochs)
    return network.eval()


def _class_indices(
    first: list[np.ndarray],
    second: list[np.ndarray],
    labels: Sequence[Hashable] | None,
    generated_labels: Sequence[Hashable] | None,
) -> Tensor:
    """The index of each clip's class (N,); 0 where no classes are given."""
    if labels is None or generated_labels is None:
        return torch.zeros(len(first) + len(second), dtype=torch.int64)
    if (len(labels), len(generated_labels)) != (len(first), len(second)):
        raise ValueError(
            f"There are {len(first)} real and {len(second)} generated clips, and {len(labels)} and "
            f"{len(generated_labels)} classes. Give one for each clip."
        )
    names = list(dict.fromkeys([*labels, *generated_labels]))
    return torch.tensor([names.index(name) for name in [*labels, *generated_labels]])


def _log_odds(c: Tensor, y: Tensor) -> Tensor:
    """The log of how much more frequent each class is among real clips, (classes,).

    Half a clip is added to the count of every class (Jeffreys).
    """
    one_hot = nn.functional.one_hot(c).float()
    real, generated = (one_hot[y == kind].sum(0) + 0.5 for kind in (1, 0))
    return (real / real.sum()).log() - (generated / generated.sum()).log()


def _folds(
    clips: list[np.ndarray],
    groups: Sequence[Hashable] | None,
    folds: int,
    fold_of_group: dict[Hashable, int],
) -> Tensor:
    """The fold (N,) in which each clip is held out: whole groups, in random order, about as many in each fold.

    fold_of_group: the groups that have a fold already; new ones are added.
    """
    names = range(len(clips)) if groups is None else groups
    if len(names) != len(clips) or len(set(names)) < folds:
        raise ValueError(
            f"There are {len(names)} groups, {len(set(names))} of them different, for {len(clips)} clips. Give each "
            f"clip a group, at least {folds} different ones."
        )
    new = [name for name in dict.fromkeys(names) if name not in fold_of_group]
    fold_of_group |= dict(zip(new, (torch.randperm(len(new)) % folds).tolist(), strict=True))
    return torch.tensor([fold_of_group[name] for name in names])


def _train(network: nn.Module, loss: Callable[[Tensor], Tensor], count: int, epochs: int) -> None:
    """Train a probe on `count` clips. loss: of the clips with these indices."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.05)
    steps = epochs * -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(count).split(BATCH):
            optimizer.zero_grad()
            loss(rows).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def _forecast_error(network: nn.Module, clip: np.ndarray) -> np.ndarray:
    """The mean absolute error of each predicted step, (T - 1,)."""
    x = torch.from_numpy(clip).float()[None]
    return (network(x[:, :-1]) - x[:, 1:]).abs().mean(2)[0].numpy()


def _statistics(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) over all steps. A dimension that never changes has an infinite deviation, so it counts
    nothing.
    """
    rows = np.concatenate(clips)
    deviation = rows.std(0)
    return rows.mean(0), np.where(deviation > 1e-6 * deviation.max(), deviation, np.inf)


def _check_width(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    if first[0].shape[1] != second[0].shape[1]:
        raise ValueError(
            f"One set has D = {first[0].shape[1]}, the other {second[0].shape[1]}. Measure both in one space."
        )


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Within it there is one thread, a seed, and gradients; afterwards all is as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
