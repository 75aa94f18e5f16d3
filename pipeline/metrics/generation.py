"""How near generated sequences come to real ones: distances of distributions, diversity, content.

In: sets of clips. A set is a list of arrays or tensors (T_i, D), or one (N, T, D): the features of every step by a
frozen network that took no part in the training. Out: numbers, computed in float64. Knows nothing of generators, pixels
or seconds. All functions are pure.

A Frechet distance of few samples is biased upwards, the more so the fewer they are. So compare only distances between
sets of about the same sizes. Read each through `share_of_the_way`, between real against real and noise against real,
and beside the controls of `negative_controls.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Clips = Any  # a sequence of arrays or tensors (T_i, D), or one (N, T, D)

MAX_PCA_STEPS = 2000  # evenly spaced among all steps: the eigenproblem then takes a second or two


def as_clips(clips: Clips, min_steps: int = 1) -> list[np.ndarray]:
    """The clips as a list of float64 (T_i, D), copies on the CPU.

    ValueError for no clips, and for a clip with fewer than `min_steps` steps, with another D, or with NaN or infinity.
    """
    arrays = [_array(clip) for clip in clips]
    if not arrays:
        raise ValueError("There is no clip to measure. Give at least one.")
    for number, clip in enumerate(arrays):
        if clip.ndim != 2 or clip.shape[1] != arrays[0].shape[-1] or not clip.shape[1]:
            raise ValueError(
                f"Clip {number} has the shape {clip.shape}, the first {arrays[0].shape}. Give every clip as (T, D) "
                "with one D."
            )
        if len(clip) < min_steps:
            raise ValueError(
                f"Clip {number} has {len(clip)} steps, and this measure needs {min_steps} steps. Leave it out."
            )
        if not np.isfinite(clip).all():
            raise ValueError(
                f"Clip {number} has NaN or infinity, and scores need finite numbers. Check the run that generated it."
            )
    return arrays


def pooled(clips: Clips) -> np.ndarray:
    """The mean over time of each clip: (N, D). It ignores motion: a frozen frame scores well on it."""
    return np.stack([clip.mean(0) for clip in as_clips(clips)])


def differences(clips: Clips) -> np.ndarray:
    """How each clip changes, T >= 3: (N, 5 D - 1), in the units of the features, and 0 for a frozen clip.

    Of d_t = x_{t+1} - x_t it gives: the mean (drift, which changes its sign when time is reversed); the mean of |d_t|;
    the root mean square; the signed root of the mean of d_t d_{t+1} (smoothness, negative in shuffled time); and the
    signed root of the area that coordinates i and i + 1 enclose per step, mean (x_i d_j - x_j d_i) / 2 around the
    clip's mean. This is the area of a path's signature, and its sign says which way round the path goes (Chevyrev &
    Kormilitzin 2016, arXiv 1603.03788). A motion along a line, evenly back and forth, looks the same backwards.
    """
    rows = []
    for clip in as_clips(clips, 3):
        step = np.diff(clip, axis=0)
        place = clip[:-1] - clip.mean(0)
        area = (place[:, :-1] * step[:, 1:] - place[:, 1:] * step[:, :-1]).mean(0) / 2
        smooth = (step[:-1] * step[1:]).mean(0)
        rows.append(
            np.concatenate(
                [step.mean(0), abs(step).mean(0), np.sqrt((step**2).mean(0)), _signed_root(smooth), _signed_root(area)]
            )
        )
    return np.stack(rows)


@dataclass(frozen=True)
class Space:
    """The K directions in which real features vary most, and the K in which they change most.

    So a step has few numbers, which suits few clips. The length of what lies outside these directions is one coordinate
    more, so that noise outside them counts.
    """

    mean: np.ndarray  # (D,)
    basis: np.ndarray  # (D, K) principal directions of the features of single steps
    change_basis: np.ndarray  # (D, K) principal directions of the differences between steps, around no change
    change_scale: float  # the median length of a real difference

    @classmethod
    def fit(cls, clips: Clips, size: int | None = None) -> Space:
        """Fit to REAL clips, T >= 2; for probes, to clips that neither side contains.

        size: K. None takes half the number of clips, but 16 to 32. It is at most D, and at most the number of changes.
        """
        arrays = as_clips(clips, 2)
        steps, changes = np.concatenate(arrays), np.concatenate([np.diff(clip, axis=0) for clip in arrays])
        size = min(32, max(16, len(arrays) // 2)) if size is None else size
        if size < 1:
            raise ValueError(f"The size is {size}. A space needs directions. Give a size of at least 1.")
        size = min(size, steps.shape[1], len(changes))
        scale = float(np.median(np.linalg.norm(changes, axis=1)))
        if scale == 0:
            raise ValueError("At least half of the steps of the real clips change nothing. Give clips that move.")
        mean = steps.mean(0)
        return cls(mean, _directions(steps - mean, size), _directions(changes, size), scale)

    def features(self, clips: Clips) -> list[np.ndarray]:
        """Each clip as (T_i, K + 1). The last coordinate is the length of what lies outside the K directions."""
        return [_project(clip - self.mean, self.basis) for clip in as_clips(clips)]

    def changes(self, clips: Clips) -> list[np.ndarray]:
        """Each clip's differences as (T_i - 1, K + 1), T >= 2. The last coordinate is the length outside."""
        return [_project(np.diff(clip, axis=0), self.change_basis) for clip in as_clips(clips, 2)]

    def pairs(self, clips: Clips) -> np.ndarray:
        """[u_t, u_{t+1}] of all steps of all clips, T >= 3: (sum of T_i - 2, 2 K + 2), with u = d / (|d| +
        change_scale).

        The length of u lies between 0 (frozen) and 1 (a jump), and is a half at a usual real step. So standing still is
        as wrong as jumping. On plain d a frozen clip is near smooth real clips, because noise is so far from them.
        """
        rows = []
        for change in self.changes(as_clips(clips, 3)):
            soft = change / (np.linalg.norm(change, axis=1, keepdims=True) + self.change_scale)
            rows.append(np.concatenate([soft[:-1], soft[1:]], 1))
        return np.concatenate(rows)


def frechet(a: Any, b: Any, shrinkage: float = 0.0) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of the Gaussians fitted to samples (N, K) and (M, K); N, M >=
    2.

    It is the squared distance, as in Heusel et al. 2017 (arXiv 1706.08500). The roots come from eigh of each
    covariance, and the last trace is the sum of the singular values of A^1/2 B^1/2. This is the same number, and it is
    exact also for singular covariances (N <= K). shrinkage: s in 0..1; covariances become (1 - s) C + s tr(C) / K I
    (the target of Ledoit & Wolf 2004). About 0.1 helps with few samples.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"The shrinkage is {shrinkage}. Give 0 (none) to 1 (the same variance in all directions).")
    first, second = _array(a), _array(b)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"The samples have the shapes {first.shape} and {second.shape}. Samples are rows; give (N, K) and (M, K), "
            "N and M >= 2."
        )
    root_a, trace_a = _root_covariance(first, shrinkage)
    root_b, trace_b = _root_covariance(second, shrinkage)
    shift = ((first.mean(0) - second.mean(0)) ** 2).sum()
    return max(0.0, float(shift + trace_a + trace_b - 2 * np.linalg.svd(root_a @ root_b, compute_uv=False).sum()))


def frechet_pooled(real: Clips, generated: Clips, space: Space | None = None, shrinkage: float = 0.0) -> float:
    """Frechet distance between the clips' means over time, in `space` (None: that of `real`). It ignores motion, and is
    shown for contrast.
    """
    space = Space.fit(real) if space is None else space
    return frechet(pooled(space.features(real)), pooled(space.features(generated)), shrinkage)


def frechet_time(real: Clips, generated: Clips, space: Space | None = None, shrinkage: float = 0.0) -> float:
    """Frechet distance between pairs of successive differences (`Space.pairs`) in `space` (None: that of `real`).

    T >= 3. Each step is a sample. Order counts, because each difference stands beside the next one. So frozen frames,
    still means, shuffled clips and noise are far away, and so are reversed clips where the real ones turn one way
    round. Positions and appearance do not count.
    """
    space = Space.fit(real) if space is None else space
    return frechet(space.pairs(real), space.pairs(generated), shrinkage)


def share_of_the_way(score: float, floor: float, ceiling: float) -> float:
    """(ceiling - score) / (ceiling - floor): 1 is real against real (floor), 0 is noise against real (ceiling).

    It can be above 1 (better than another real set: chance or a copy) and below 0 (worse than noise).
    """
    if not ceiling > floor:
        raise ValueError(
            f"Noise scores {ceiling:g} and real {floor:g}, so this score cannot tell them apart. Noise must score "
            "higher. Give more clips, or leave the score out."
        )
    return (ceiling - score) / (ceiling - floor)


def nearest(generated: Clips, train: Clips, steps: int = 16) -> np.ndarray:
    """The distance of each generated clip to its nearest training clip: (N,). 0 is a copy. Compare with real test
    clips.

    Clips are resampled to `steps` over their whole length; a distance is the root of the mean over time of squared
    distances.
    """
    return _distances(_flat(generated, steps), _flat(train, steps)).min(1)


def copied_share(generated: Clips, train: Clips, test: Clips, quantile: float = 0.05, steps: int = 16) -> float:
    """The share of generated clips that are nearer to a training clip than all but `quantile` of the real test clips.

    Without copies it is about `quantile`.
    """
    return float((nearest(generated, train, steps) < np.quantile(nearest(test, train, steps), quantile)).mean())


def diversity(clips: Clips, steps: int = 16) -> float:
    """The mean distance between two different clips of a set, N >= 2, each resampled to `steps`; 0 if all are equal."""
    flat = _flat(clips, steps)
    if len(flat) < 2:
        raise ValueError("There is one clip, and diversity compares clips. Give at least two.")
    return float(_distances(flat, flat)[np.triu_indices(len(flat), 1)].mean())


def diversity_ratio(generated: Clips, real: Clips, steps: int = 16) -> float:
    """Diversity of the generated clips / that of the real ones: 1 as diverse, 0 all the same. Noise scores high, so
    read it beside other scores.
    """
    return diversity(generated, steps) / diversity(real, steps)


def modes(labels: Sequence[int] | np.ndarray, count: int) -> dict[str, float | int]:
    """How many classes generated clips have, by a classifier's labels 0..count-1.

    `covered`: how many classes occur. `effective`: exp(entropy). `count`: how many there are.
    """
    numbers = np.asarray(labels, dtype=np.int64)
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= count:
        raise ValueError(
            f"Labels {numbers.tolist()[:8]} are not all in 0..{count - 1}. Give one label for each clip, at least one."
        )
    shares = np.bincount(numbers, minlength=count) / len(numbers)
    present = shares[shares > 0]
    return {"covered": len(present), "effective": float(np.exp(-(present * np.log(present)).sum())), "count": count}


def content_distance(clips: Clips) -> float:
    """Average content distance: of content features (D,) from their clip's mean, averaged over steps, then over clips.

    After the ACD of Tulyakov et al. 2018 (MoCoGAN, arXiv 1707.04993), who average over pairs of frames. A frozen clip
    has 0, so compare with real clips, and read it beside `frechet_time`.
    """
    return float(np.mean([np.linalg.norm(clip - clip.mean(0), axis=1).mean() for clip in as_clips(clips)]))


def resample(clip: np.ndarray, steps: int) -> np.ndarray:
    """(T, D) -> (steps, D), linear between the steps; the first and the last step stay."""
    if steps < 1:
        raise ValueError(f"A clip cannot be resampled to {steps} steps. Give at least 1.")
    place = np.linspace(0, len(clip) - 1, steps)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, len(clip) - 1)
    share = (place - low)[:, None]
    return clip[low] * (1 - share) + clip[high] * share


def _array(values: Any) -> np.ndarray:
    """Values as a float64 copy on the CPU."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.array(values, dtype=np.float64)


def _signed_root(values: np.ndarray) -> np.ndarray:
    """The root of the size of each value, with the value's sign."""
    return np.sign(values) * np.sqrt(abs(values))


def _directions(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (M, D) -> (D, K): the principal directions, from the smaller one of the (D, D) and the (M, M) problem."""
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_PCA_STEPS)).round().astype(np.int64)]
    if rows.shape[1] <= len(rows):
        return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :size]
    vectors = np.linalg.eigh(rows @ rows.T)[1][:, ::-1][:, :size]
    return np.linalg.qr(rows.T @ vectors)[0]  # orthonormal also for an eigenvalue of 0


def _project(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Rows (M, D) -> (M, K + 1): along the basis, and the length of what lies outside."""
    inside = rows @ basis
    outside = np.linalg.norm(rows - inside @ basis.T, axis=1, keepdims=True)
    return np.concatenate([inside, outside], 1)


def _root_covariance(samples: np.ndarray, shrinkage: float) -> tuple[np.ndarray, float]:
    """The symmetric root of the unbiased covariance (K, K), and the trace of the covariance."""
    covariance = np.atleast_2d(np.cov(samples, rowvar=False))
    trace = float(np.trace(covariance))
    target = np.eye(len(covariance)) * trace / len(covariance)
    values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * target)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T, trace


def _flat(clips: Clips, steps: int) -> np.ndarray:
    """Clips as rows (N, steps * D) / sqrt(steps), so that Euclidean distances are root mean squares over time."""
    return np.stack([resample(clip, steps).ravel() for clip in as_clips(clips)]) / np.sqrt(steps)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, E), (M, E) -> (N, M). By differences, not by products, so that a copy has exactly 0."""
    return np.stack([np.linalg.norm(b - row, axis=1) for row in a])
