"""A few small grey frames of a video, to see which videos look alike.

In: a file. Out: NUM_FRAMES frames, at the same fractions of every video. Knows nothing of datasets.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from pipeline.media.clock import Clock
from pipeline.media.damage import length_by_packets
from pipeline.media.decode import decode
from pipeline.media.probe import probe
from pipeline.media.transform import Transform

NUM_FRAMES = 4
"""Frames of each video."""
FRAME_SIZE = 72
"""Their height and width in pixels: eight for each cell of the difference hash in height, and nine in width."""


def small_frames(path: Path) -> list[np.ndarray]:
    """NUM_FRAMES small grey frames (H, W), at the same fractions of every video. Raises MediaError.

    At most one frame besides these is in memory. The length of a video whose header has none is that of its packets.
    """
    file = probe(path)
    seconds = file.seconds or length_by_packets(path) or 1.0
    clock = Clock(max(1e-4, NUM_FRAMES / seconds))
    clips = decode(path, clock=clock, transform=Transform(FRAME_SIZE, "squash"), window=1)
    frames = [clip.frames[0] for clip in islice(clips, NUM_FRAMES)]
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
