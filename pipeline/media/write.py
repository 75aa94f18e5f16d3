"""Frames and sound -> an mp4 file (H.264 and AAC).

In: frames one after another and, if there is any, the whole sound. Out: one file, whole or not at all.
Knows nothing about models, datasets or what is to be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer

SOUND_CHUNK = 1024  # samples, the length of an AAC frame


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float | Fraction,
    sound: np.ndarray | None = None,
    sound_rate: int = 16000,
    quality: int = 18,
    keyframe_seconds: float = 2.0,
) -> int:
    """Write frames uint8 (H, W, 3) RGB, shown `fps` a second, and mono float32 sound (N,) in [-1, 1]; return how many frames.

    An odd width or height grows by one repeated pixel, for yuv420p has none. `quality` is x264's crf: smaller is better and
    larger in bytes. The file appears under its name when it is whole; after an error nothing stays.
    Raises ValueError for frames of a wrong or changing shape, for sound of a wrong shape, and when there are no frames.
    """
    path = Path(path)
    if sound is not None and sound.ndim != 1:
        raise ValueError(
            f"The sound has the shape {sound.shape}. It must be mono, (N,). Take the mean over its channels."
        )
    partial = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            num_frames = encode(
                container, frames, Fraction(fps).limit_denominator(65535), sound, sound_rate, quality, keyframe_seconds
            )
        if num_frames == 0:
            raise ValueError(f"There are no frames to write to {path.name}. A video needs one or more.")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_frames


def encode(
    container: OutputContainer,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    sound: np.ndarray | None,
    sound_rate: int,
    quality: int,
    keyframe_seconds: float,
) -> int:
    """Both streams side by side, so that a long video is never held in memory."""
    options = {
        "crf": str(quality),
        "preset": "veryfast",
        "g": str(max(1, round(keyframe_seconds * fps))),
        "bf": "0",
        "threads": "1",
    }
    picture = container.add_stream("libx264", rate=fps, options=options)
    picture.codec_context.thread_count = 1
    picture.pix_fmt = "yuv420p"
    picture.codec_context.time_base = 1 / fps
    voice = None
    if sound is not None:
        voice = container.add_stream("aac", rate=sound_rate, layout="mono", options={"aac_coder": "fast"})
        voice.codec_context.time_base = Fraction(1, sound_rate)
    num_frames, num_samples, shape = 0, 0, None
    for frame in frames:
        shape = shape or frame.shape
        check_frame(frame, shape, num_frames)
        if num_frames == 0:
            picture.height, picture.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        if shape[0] % 2 or shape[1] % 2:
            frame = np.pad(frame, [(0, shape[0] % 2), (0, shape[1] % 2), (0, 0)], mode="edge")
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image.pts, image.time_base = num_frames, 1 / fps
        container.mux(picture.encode(image))
        num_frames += 1
        if voice is not None and sound is not None:
            num_samples = encode_sound(container, voice, sound, num_samples, int(num_frames / fps * sound_rate))
    if num_frames == 0:
        return 0
    container.mux(picture.encode(None))
    if voice is not None and sound is not None:
        encode_sound(container, voice, sound, num_samples, len(sound) + SOUND_CHUNK)
        container.mux(voice.encode(None))
    return num_frames


def encode_sound(container, voice, sound: np.ndarray, start: int, end: int) -> int:
    """Encode the chunks of the sound from `start` that are over by `end`; return where the next one starts."""
    while start < len(sound) and start + SOUND_CHUNK <= end:
        chunk = av.AudioFrame.from_ndarray(
            sound[None, start : start + SOUND_CHUNK].astype(np.float32), format="fltp", layout="mono"
        )
        chunk.sample_rate, chunk.pts, chunk.time_base = (
            voice.codec_context.sample_rate,
            start,
            voice.codec_context.time_base,
        )
        container.mux(voice.encode(chunk))
        start += SOUND_CHUNK
    return start


def check_frame(frame: np.ndarray, shape: tuple[int, ...], index: int) -> None:
    """Raises ValueError for a frame that cannot be encoded beside the others."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"Frame {index} is {frame.dtype} {frame.shape}. A frame must be uint8 (height, width, 3) in RGB. Convert it first."
        )
    if frame.shape != shape:
        raise ValueError(
            f"Frame {index} has the shape {frame.shape}, the first one {shape}. "
            "All frames of a video must be alike. Resize them."
        )
