"""Negative controls: sequences without a generator that weak scores take for good. A score counts only if it rejects
these.

In: real clips, a list of (T_i, D) or (N, T, D), and a numpy Generator. Out: as many clips, a list of float64 (T_i, D);
`half_the_modes` gives about half as many. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from pipeline.metrics.generation import Clips, as_clips, resample


def frozen(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """A random real step of each clip, repeated: perfect appearance, no motion."""
    return [np.repeat(clip[random.integers(len(clip))][None], len(clip), 0) for clip in as_clips(clips)]


def still_mean(clips: Clips) -> list[np.ndarray]:
    """The mean over time of each clip, repeated: exactly real for every score that is pooled over time."""
    return [np.repeat(clip.mean(0, keepdims=True), len(clip), 0) for clip in as_clips(clips)]


def shuffled(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """The steps of each clip in random order: every step is real, their order is not."""
    return [random.permutation(clip) for clip in as_clips(clips)]


def noise(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """Independent steps from a Gaussian with the mean and deviation of each dimension over all steps of all clips."""
    arrays = as_clips(clips)
    steps = np.concatenate(arrays)
    return [random.normal(steps.mean(0), steps.std(0), clip.shape) for clip in arrays]


def correlated_noise(clips: Clips, random: np.random.Generator) -> list[np.ndarray]:
    """Independent steps from the Gaussian of all steps of all clips, with their whole covariance: a stricter ceiling.

    For large D, `noise` lies mostly in directions without real clips, and compared with it shuffled clips seem nearly
    real.
    """
    arrays = as_clips(clips)
    steps = np.concatenate(arrays)
    centred = (steps - steps.mean(0)) / np.sqrt(len(steps))
    return [steps.mean(0) + random.normal(size=(len(clip), len(steps))) @ centred for clip in arrays]


def mean_plus_noise(clips: Clips, random: np.random.Generator, scale: float = 0.001) -> list[np.ndarray]:
    """The mean of all clips, resampled to each length, plus noise of the deviation `scale` in all dimensions.

    The published probe accepts it on data that is scaled to 0..1.
    """
    arrays = as_clips(clips)
    longest = max(len(clip) for clip in arrays)
    mean = np.mean([resample(clip, longest) for clip in arrays], 0)
    return [resample(mean, len(clip)) + random.normal(0, scale, clip.shape) for clip in arrays]


def copied(train: Clips, count: int, random: np.random.Generator) -> list[np.ndarray]:
    """`count` training clips, drawn without replacement while there are any: real, but not new."""
    arrays = as_clips(train)
    rounds = [random.permutation(len(arrays)) for _ in range(-(-count // len(arrays)))]
    return [arrays[i].copy() for i in np.concatenate([np.empty(0, np.int64), *rounds])[:count]]


def half_the_modes(clips: Clips, labels: Sequence[Hashable] | None = None) -> list[np.ndarray]:
    """The real clips of every second label, sorted: good clips, but the other labels are missing.

    Without labels: the clips on one side of the median of the first principal component of the means over time.
    """
    arrays = as_clips(clips)
    if labels is not None:
        kept = set(sorted(set(labels), key=str)[::2])
        return [clip for clip, label in zip(arrays, labels, strict=True) if label in kept]
    means = np.stack([clip.mean(0) for clip in arrays])
    place = np.linalg.svd(means - means.mean(0), full_matrices=False)[0][:, 0]
    return [clip for clip, at in zip(arrays, place, strict=True) if at >= np.median(place)]
