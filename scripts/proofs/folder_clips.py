"""Clips for the proofs about folder jobs: cut from yoga6, mirrored, and encoded again, each another one.

In: the folder of the real data. Out: files in the working folder of a proof. Nothing of them is kept in the repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
from proof_tools import SIZE

WIDTH, HEIGHT, FPS = 320, 240, 30


def cut_clips(data: Path, folder: Path, count: int, seconds: float) -> list[Path]:
    """`count` clips of so many seconds, half of them H.264 in MP4 and half XviD with B-frames in AVI.

    Clips of two such folders differ too, where their lengths differ. Those that lie there are kept.
    """
    sources = sorted((data / "yoga6/small").glob("*.mp4"))
    if not sources:
        raise SystemExit(f"'{data / 'yoga6/small'}' has no videos. Give the folder of the real data with DATA=folder.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip{number:04d}.{'mp4' if number % 2 == 0 else 'avi'}" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    cut = partial(_cut, sources=sources, paths=paths, seconds=seconds)
    if SIZE.toy:
        list(map(cut, missing))
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            list(pool.map(cut, missing, chunksize=4))
    return paths


def _cut(number: int, *, sources: list[Path], paths: list[Path], seconds: float) -> None:
    """Clip `number`: from a place of its own of a video, every second round mirrored, a little brighter each round."""
    turn, index = divmod(number, len(sources))
    count = round(seconds * FPS)
    frames = _frames(sources[index], skip=turn * 11, is_mirrored=turn % 2 == 1, light=turn * 3)
    path = paths[number]
    partial_path = path.with_name(f"{path.stem}.partial{path.suffix}")
    with av.open(str(partial_path), "w") as file:
        name, options = ("libx264", {"preset": "veryfast", "threads": "1"})
        if path.suffix == ".avi":
            name, options = "mpeg4", {"bf": "2", "qscale": "4", "vtag": "XVID"}
        stream = file.add_stream(name, rate=FPS, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p", options=options)
        stream.codec_context.time_base = Fraction(1, FPS)
        if path.suffix == ".avi":
            stream.codec_context.max_b_frames = 2
            stream.codec_context.codec_tag = "XVID"
            stream.codec_context.bit_rate = 1_500_000
        for place, frame in zip(range(count), frames, strict=False):
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            image.pts, image.time_base = place, Fraction(1, FPS)
            file.mux(stream.encode(image))
        file.mux(stream.encode(None))
    partial_path.rename(path)


def _frames(source: Path, *, skip: int, is_mirrored: bool, light: int) -> Iterator[np.ndarray]:
    """Frames of a video, forwards and then backwards for ever: (240, 320, 3)."""
    with av.open(str(source)) as file:
        pictures = [_fit(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    order = [*range(len(pictures)), *range(len(pictures) - 1, -1, -1)]
    place = skip
    while True:
        picture = pictures[order[place % len(order)]]
        picture = picture[:, ::-1] if is_mirrored else picture
        yield np.ascontiguousarray(np.clip(picture.astype(np.int16) + light, 0, 255).astype(np.uint8))
        place += 1


def _fit(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, at 320x240."""
    height, width = picture.shape[:2]
    side = min(width, height * WIDTH // HEIGHT)
    left = (width - side) // 2
    return cv2.resize(picture[:, left : left + side], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
