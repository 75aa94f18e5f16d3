"""Features for training: decode each video once, run the frozen CNN once, store the features.

In: videos and a feature store. Out: the filled store, and the videos that could not be read, with their reasons. Knows
nothing of labels or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.feature_store import Features, FeatureStore
from pipeline.encoders.cnn_runtime import FeatureExtractor
from pipeline.media.clock import Clock
from pipeline.media.damage import add_damage, damages_of
from pipeline.media.decode import Backend, decode
from pipeline.media.sniff import MediaError, sniff
from pipeline.media.transform import Transform


@dataclass
class Extraction:
    """The result of an extraction.

    num_stored: videos whose features were in the store before. num_extracted, num_looks: videos extracted now, and
    their looks. failed: video -> (status, sentence). damaged: video -> what is cut or damaged in it; the store has what
    could be decoded.
    """

    num_stored: int = 0
    num_extracted: int = 0
    num_looks: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    damaged: dict[str, tuple[str, ...]] = field(default_factory=dict)


def extract(
    videos: Sequence[Path],
    store: FeatureStore,
    build_extractor: Callable[[], FeatureExtractor],
    *,
    clock: Clock,
    transform: Transform,
    backend: Backend,
    on_video: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Fill the store.

    build_extractor is called once, when the first video needs it. on_video(done, total) is called after each video.
    """
    result = Extraction()
    extractor: FeatureExtractor | None = None
    for index, video in enumerate(videos):
        try:
            sniff(video)  # before the store hashes a file that may be a pipe or no video
            if store.length(video) is not None:
                result.num_stored += 1
            else:
                extractor = extractor or build_extractor()
                features = extract_one(video, extractor, clock, transform, backend)
                store.write(video, features)
                result.num_extracted += 1
                result.num_looks += len(features.times)
            if damages := damages_of(store.warnings(video)):
                result.damaged[str(video)] = damages
        except MediaError as error:
            result.failed[str(video)] = (error.status, str(error))
        except OSError as error:
            if error.filename is None or Path(error.filename) != video:
                raise  # an error of the store's disk, not of the video
            result.failed[str(video)] = ("failed:unreadable", f"'{video}' cannot be read: {error.strerror}.")
        on_video(index + 1, len(videos))
    return result


def extract_one(
    video: Path, extractor: FeatureExtractor, clock: Clock, transform: Transform, backend: Backend
) -> Features:
    """The features of one video: float16 (T, D), its look times (T,) and warnings. Raises MediaError."""
    values, times, warnings = [], [], ()
    for clip in decode(video, clock=clock, transform=transform, backend=backend):
        values.append(extractor(clip.frames))
        times.append(clip.times)
        warnings = clip.warnings
    warnings = add_damage(video, warnings)
    return Features(np.concatenate(values).astype(np.float16), np.concatenate(times), warnings)
