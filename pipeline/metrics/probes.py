"""Small networks trained to tell made sequences from real ones, or to foretell real ones from made ones: TimeGAN's two scores.

In: real and made clips, each a list of (T_i, D) or (N, T, D), of a few dozen dimensions (project features by `Space.features` first).
Out: numbers, the same for the same seed on one machine. Knows nothing of generators. The real clips must be ones that the generator
never saw.

Yoon et al. 2019 (NeurIPS, "Time-series Generative Adversarial Networks"). A probe that fails to learn also says "cannot be told
apart": believe one only after it has rejected every control of `probe_controls` (`trusted`).

Every training is on one thread, from a seed, and leaves the caller's random state alone; 200 clips a side of 24 x 32 take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.metrics.controls import half_the_modes, mean_plus_noise, noise, shuffled
from pipeline.metrics.generation import Clips, as_clips

Probe = Literal["weak", "strong"]

LEAST_CLIPS = 12
LEAST_STEPS = 4
BATCH = 64
EPOCHS = {
    "weak": 60,
    "strong": 25,
}  # the weak one learns order late; the strong one learns clips by heart if it goes on
NOISE = 0.1  # in standard deviations
REJECTED = 0.1  # 0.1 beyond real halves: 60 of 100 clips told rightly where chance tells 50


def discriminative_score(
    real: Clips,
    made: Clips,
    probe: Probe = "strong",
    *,
    groups: Sequence[Hashable] | None = None,
    made_groups: Sequence[Hashable] | None = None,
    labels: Sequence[Hashable] | None = None,
    made_labels: Sequence[Hashable] | None = None,
    folds: int = 3,
    epochs: int | None = None,
    seed: int = 0,
) -> float:
    """|balanced accuracy - 0.5| of a probe on held-out clips: 0 if it cannot tell them apart (or is weak), 0.5 if it always can.

    Every clip is held out once: the accuracy is over all clips of `folds` probes. At 200 clips a side, luck alone gives about 0.02.
    Both read standardised [x, delta x]. "weak": a GRU, its last state read, as TimeGAN's (which reads x alone, and lets shuffled time
    pass). "strong": convolutions, means and maxima over time read. labels, made_labels: the class of each clip, which a probe of conditional
    sequences is told: it counts by projection, from how frequent each class is on either side. All clips are cut to the first steps of the shortest, so that lengths tell
    nothing. groups, made_groups: the person or video of each clip (made_groups where real ones stand for made): whole groups are
    held out, for a probe that has seen a person's other clips knows the side by the person. Features come from a space fitted to
    neither side (the training clips), or what lies outside it tells. At least 12 clips a side and 4 steps. epochs: None takes those of `EPOCHS`.
    """
    first, second = as_clips(real, LEAST_STEPS), as_clips(made, LEAST_STEPS)
    _same_width(first, second)
    if min(len(first), len(second)) < LEAST_CLIPS:
        raise ValueError(
            f"{len(first)} real and {len(second)} made clips: a probe needs {LEAST_CLIPS} of each. Give more."
        )
    if probe not in EPOCHS:
        raise ValueError(f"There is no probe {probe!r}. Choose 'weak' or 'strong'.")
    if not 2 <= folds <= LEAST_CLIPS:
        raise ValueError(f"folds={folds}: give 2 to {LEAST_CLIPS}, so that each holds clips out and trains on some.")
    steps = min(len(clip) for clip in first + second)
    x = torch.from_numpy(np.stack([clip[:steps] for clip in first + second])).float()
    y = torch.cat([torch.ones(len(first)), torch.zeros(len(second))])
    c = _classes(first, second, labels, made_labels)
    with _alone(seed):
        place: dict[Hashable, int] = {}
        fold = _folds(first, groups, folds, place)
        named = groups is not None and made_groups is not None  # then a group may stand on both sides
        fold = torch.cat([fold, _folds(second, made_groups, folds, place if named else {})])
        if any(len(set(y[fold != held].tolist())) < 2 for held in range(folds)):
            raise ValueError(
                f"All groups of one side fall into one of {folds} folds, so a probe would learn from the other alone. Give clips of more groups."
            )
        right = torch.empty(len(y))
        for held in range(folds):
            train, test = fold != held, fold == held
            network = _classifier(probe, x[train], c[train], y[train], EPOCHS[probe] if epochs is None else epochs)
            with torch.no_grad():
                right[test] = ((network(x[test], c[test]) > 0) == (y[test] > 0.5)).float()
    accuracy = (right[y == 1].mean() + right[y == 0].mean()) / 2
    return abs(float(accuracy) - 0.5)


def predictive_score(made: Clips, real: Clips, *, epochs: int = 60, seed: int = 0) -> float:
    """Train on made, test on real: mean absolute error of a GRU that foretells the next step, in real standard deviations.

    Put it between training on (other) real clips and `persistence_error`. All dimensions are foretold, as a change from
    the step before: a probe that learned nothing of motion repeats the last step. TimeGAN foretells the last dimension only.
    """
    train, test = as_clips(made, LEAST_STEPS), as_clips(real, LEAST_STEPS)
    _same_width(train, test)
    mean, deviation = _statistics(test)
    with _alone(seed):
        network = _Forecaster(test[0].shape[1])
        clips = [torch.from_numpy((clip - mean) / deviation).float().clamp(-10, 10) for clip in train]
        steps = min(len(clip) for clip in clips)
        x = torch.stack([clip[:steps] for clip in clips])
        _train(network, lambda rows: (network(x[rows][:, :-1]) - x[rows][:, 1:]).abs().mean(), len(x), epochs)
        with torch.no_grad():
            errors = [_forecast_error(network, (clip - mean) / deviation) for clip in test]
    return float(np.concatenate(errors).mean())


def persistence_error(real: Clips) -> float:
    """The error of `predictive_score` for foretelling that nothing changes."""
    found = as_clips(real, 2)
    _, deviation = _statistics(found)
    return float(np.concatenate([abs(np.diff(clip / deviation, axis=0)).mean(1) for clip in found]).mean())


def probe_controls(
    real: Clips, random: np.random.Generator, labels: Sequence[Hashable] | None = None
) -> dict[str, list[np.ndarray]]:
    """What a probe must reject before it may speak, made from real clips: {name: clips}. labels: of the clips, for half the modes."""
    return {
        "noise": noise(real, random),
        "shuffled": shuffled(real, random),
        "mean + noise": mean_plus_noise(real, random),
        "half the modes": half_the_modes(real, labels),
    }


def trusted(scores: Mapping[str, float], margin: float = REJECTED) -> bool:
    """Whether its scores of other real clips ("real") and of every control, made from those, let a probe speak: each control scores
    `margin` worse than real.
    """
    return all(scores[name] >= scores["real"] + margin for name in scores if name != "real")


class _Weak(nn.Module):
    """(B, T, 2 D) standardised [x, delta x] -> (B, H): a GRU's last state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = max(16, width // 2)
        self.core = nn.GRU(2 * width, self.size, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0][:, -1]


class _Strong(nn.Module):
    """(B, T, 2 D) standardised [x, delta x] -> (B, H): convolutions, then means and maxima over time."""

    def __init__(self, width: int, channels: int = 16) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv1d(2 * width, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.LeakyReLU(0.2),
        )
        self.size, self.drop = 2 * channels, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.look(x.transpose(1, 2))  # (B, C, T)
        return self.drop(torch.cat([seen.mean(2), seen.amax(2)], 1))


class _Judge(nn.Module):
    """Standardises [x, delta x] by what it was made from, channel by channel, and asks the network; a class counts by projection, as in
    the critic's: w.h + v_class.h + b_class. prior (classes,): b_class to begin with.
    """

    def __init__(self, network: _Weak | _Strong, x: Tensor, prior: Tensor) -> None:
        super().__init__()
        self.network = network
        rows = _widened(x).flatten(0, 1)
        self.mean, self.deviation = rows.mean(0), rows.std(0)
        self.deviation = torch.where(self.deviation > 1e-6 * self.deviation.max(), self.deviation, torch.inf)
        self.answer = nn.Linear(network.size, 1)
        self.of_class = nn.Embedding.from_pretrained(nn.functional.pad(prior[:, None], (network.size, 0)), freeze=False)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        # a few wild values must not hide the rest from the network
        standard = ((_widened(x) - self.mean) / self.deviation).clamp(-10, 10)
        # noise while it trains: with few clips it would learn them by heart and miss what holds for all
        found = self.network(standard + NOISE * torch.randn_like(standard) if self.training else standard)
        weights, bias = self.of_class(c).split([found.shape[1], 1], dim=1)
        return self.answer(found)[:, 0] + (weights * found).sum(1) + bias[:, 0]


def _widened(x: Tensor) -> Tensor:
    return torch.cat([x[:, 1:], x.diff(dim=1)], 2)


class _Forecaster(nn.Module):
    """(B, T, D) -> the next step after each, (B, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.core = nn.GRU(width, 64, batch_first=True)
        self.answer = nn.Linear(64, width)
        nn.init.zeros_(self.answer.weight)  # it begins by repeating the last step
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.answer(self.core(x)[0])


def _classifier(probe: Probe, x: Tensor, c: Tensor, y: Tensor, epochs: int) -> nn.Module:
    """Clips x (B, T, D), classes c (B,), y (B,) 1 for real: the trained probe, ready to judge."""
    network = _Judge(_Strong(x.shape[2]) if probe == "strong" else _Weak(x.shape[2]), x, _log_odds(c, y))
    weight = torch.where(y > 0.5, 0.5 / y.mean(), 0.5 / (1 - y).mean())  # sides of different sizes count the same

    def loss(rows: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(network(x[rows], c[rows]), y[rows], weight[rows])

    _train(network, loss, len(x), epochs)
    return network.eval()


def _classes(
    first: list[np.ndarray],
    second: list[np.ndarray],
    labels: Sequence[Hashable] | None,
    made_labels: Sequence[Hashable] | None,
) -> Tensor:
    """(N,) the number of each clip's class; 0 where none are given."""
    if labels is None or made_labels is None:
        return torch.zeros(len(first) + len(second), dtype=torch.int64)
    if (len(labels), len(made_labels)) != (len(first), len(second)):
        raise ValueError(
            f"{len(first)} real and {len(second)} made clips, and {len(labels)} and {len(made_labels)} classes. Give one for each clip."
        )
    names = list(dict.fromkeys([*labels, *made_labels]))
    return torch.tensor([names.index(name) for name in [*labels, *made_labels]])


def _log_odds(c: Tensor, y: Tensor) -> Tensor:
    """(classes,) log of how much more frequent each class is on the real side; every class counts as seen half a time more than it was (Jeffreys)."""
    one_hot = nn.functional.one_hot(c).float()
    real, made = (one_hot[y == side].sum(0) + 0.5 for side in (1, 0))
    return (real / real.sum()).log() - (made / made.sum()).log()


def _folds(
    clips: list[np.ndarray], groups: Sequence[Hashable] | None, folds: int, place: dict[Hashable, int]
) -> Tensor:
    """The fold (N,) that each clip is held out in: whole groups, in random order, about as many in each. place: of the groups so far; new ones
    come into it.
    """
    names = range(len(clips)) if groups is None else groups
    if len(names) != len(clips) or len(set(names)) < folds:
        raise ValueError(
            f"{len(names)} groups, {len(set(names))} different, for {len(clips)} clips: give each clip's, at least {folds} different."
        )
    different = [name for name in dict.fromkeys(names) if name not in place]
    place |= dict(zip(different, (torch.randperm(len(different)) % folds).tolist(), strict=True))
    return torch.tensor([place[name] for name in names])


def _train(network: nn.Module, loss: Callable[[Tensor], Tensor], count: int, epochs: int) -> None:
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
    x = torch.from_numpy(clip).float()[None]
    return (network(x[:, :-1]) - x[:, 1:]).abs().mean(2)[0].numpy()


def _statistics(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) over all steps; a dimension that never changes has the deviation infinity, and counts nothing."""
    rows = np.concatenate(clips)
    deviation = rows.std(0)
    return rows.mean(0), np.where(deviation > 1e-6 * deviation.max(), deviation, np.inf)


def _same_width(real: list[np.ndarray], made: list[np.ndarray]) -> None:
    if real[0].shape[1] != made[0].shape[1]:
        raise ValueError(
            f"One set has D = {real[0].shape[1]}, the other {made[0].shape[1]}. Measure both in one space."
        )


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """One thread, a seed and gradients, and everything as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
