"""Sequences that no generator made and that weak scores let pass: a score may speak once it rejects these.

In: real clips, a list of (T_i, D) or (N, T, D), and a numpy Generator. Out: as many clips as came, a list of float64 (T_i, D), but for
`half_the_modes`. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from pipeline.metrics.generation import Clips, as_clips, resample


def frozen(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """One real step of each clip, drawn, repeated: perfect looks, no motion."""
    return [np.repeat(clip[random.integers(len(clip))][None], len(clip), 0) for clip in as_clips(clips)]


def still_mean(clips: Clips) -> list[np.ndarray]:
    """Each clip's mean over time, repeated: exactly real on anything pooled over time."""
    return [np.repeat(clip.mean(0, keepdims=True), len(clip), 0) for clip in as_clips(clips)]


def shuffled(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """Each clip's steps in random order: every step is real, time is not."""
    return [random.permutation(clip) for clip in as_clips(clips)]


def noise(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """Each step drawn by itself from a Gaussian with the mean and the deviation of each dimension over all steps of all clips."""
    found = as_clips(clips)
    steps = np.concatenate(found)
    return [random.normal(steps.mean(0), steps.std(0), clip.shape) for clip in found]


def correlated_noise(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """Each step drawn by itself from the Gaussian of all steps of all clips, with their whole covariance: the stricter ceiling.

    Where D is large, `noise` lies mostly in directions that real clips never take, and beside it shuffled time looks nearly real.
    """
    found = as_clips(clips)
    steps = np.concatenate(found)
    centred = (steps - steps.mean(0)) / np.sqrt(len(steps))
    return [steps.mean(0) + random.normal(size=(len(clip), len(steps))) @ centred for clip in found]


def mean_plus_noise(clips: Clips, random: np.random.Generator, scale: float = 0.001) -> list[np.ndarray]:
    """The mean of all clips (the shorter and longer ones resampled to each length) + noise of `scale`, the same for all dimensions.

    It is the garbage that the published probe lets pass on data scaled to 0..1.
    """
    found = as_clips(clips)
    longest = max(len(clip) for clip in found)
    mean = np.mean([resample(clip, longest) for clip in found], 0)
    return [resample(mean, len(clip)) + random.normal(0, scale, clip.shape) for clip in found]


def copied(train: Clips, count: int, random: np.random.Generator) -> list[np.ndarray]:
    """`count` training clips, drawn without replacement while there are any: real in all but being new."""
    found = as_clips(train)
    rounds = [random.permutation(len(found)) for _ in range(-(-count // len(found)))]
    return [found[i].copy() for i in np.concatenate([np.empty(0, np.int64), *rounds])[:count]]


def half_the_modes(clips: Clips, labels: Sequence[Hashable] | None = None) -> list[np.ndarray]:
    """The real clips of every other label (sorted), about half as many clips: good ones, but the rest is missing.

    Without labels: those on one side of the median of the first principal component of the clips' means over time.
    """
    found = as_clips(clips)
    if labels is not None:
        kept = set(sorted(set(labels), key=str)[::2])
        return [clip for clip, label in zip(found, labels, strict=True) if label in kept]
    means = np.stack([clip.mean(0) for clip in found])
    place = np.linalg.svd(means - means.mean(0), full_matrices=False)[0][:, 0]
    return [clip for clip, at in zip(found, place, strict=True) if at >= np.median(place)]
