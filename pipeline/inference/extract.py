"""Features for training: decode each video once, run the frozen CNN once, keep what it said.

In: videos and a store. Out: the store filled, and the videos that could not be read, by name with the reason. Knows
nothing of labels or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.features import Features, FeatureStore
from pipeline.encoders.runtime import Look
from pipeline.media.clock import Clock
from pipeline.media.decode import Backend, decode
from pipeline.media.probe import MediaError
from pipeline.media.sniff import sniff
from pipeline.media.transform import Transform


@dataclass
class Extraction:
    """kept: videos whose features were there; made: looked at now; failed: video -> (status, sentence)."""

    kept: int = 0
    made: int = 0
    looks: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)


def extract(
    videos: Sequence[Path],
    store: FeatureStore,
    look: Callable[[], Look],
    *,
    clock: Clock,
    transform: Transform,
    backend: Backend,
    on_video: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Fill the store. `look` is called once, when the first video needs it; on_video(done, total) after each."""
    found = Extraction()
    ready: Look | None = None
    for index, video in enumerate(videos):
        try:
            sniff(video)  # before the store hashes what may be a pipe or no video at all
            if store.length(video) is not None:
                found.kept += 1
            else:
                ready = ready or look()
                features = look_at(video, ready, clock, transform, backend)
                store.write(video, features)
                found.made, found.looks = found.made + 1, found.looks + len(features.times)
        except MediaError as error:
            found.failed[str(video)] = (error.status, str(error))
        except OSError as error:
            if error.filename is None or Path(error.filename) != video:
                raise  # the store's disk, not the video
            found.failed[str(video)] = ("failed:unreadable", f"'{video}' cannot be read: {error.strerror}.")
        on_video(index + 1, len(videos))
    return found


def look_at(video: Path, look: Look, clock: Clock, transform: Transform, backend: Backend) -> Features:
    """The features of one video. Raises MediaError."""
    values, times, warnings = [], [], ()
    for clip in decode(video, clock=clock, transform=transform, backend=backend):
        values.append(look(clip.frames))
        times.append(clip.times)
        warnings = clip.warnings
    return Features(np.concatenate(values).astype(np.float16), np.concatenate(times), warnings)
