"""Frames and sound -> an mp4 file (H.264 and AAC).

In: frames one after another, and the whole sound if there is any. Out: one file, written atomically.
Knows nothing about models, datasets or the content of the frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from pipeline.atomic import open_atomic

AUDIO_CHUNK = 1024  # samples, the length of an AAC frame


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
    """Write frames uint8 (H, W, 3) RGB at `fps` frames a second, and mono float32 sound (N,) in [-1, 1].

    An odd width or height grows by one repeated pixel, because yuv420p needs even sizes. `quality` is the crf of x264:
    a smaller value is better and gives a larger file. The file appears under its name when it is complete; after an
    error no file is left. Returns the number of frames.

    Raises ValueError for frames of a wrong or changing shape, for sound of a wrong shape, and when there are no frames.
    """
    path = Path(path)
    if sound is not None and sound.ndim != 1:
        raise ValueError(
            f"The sound has the shape {sound.shape}. It must be mono, (N,). Take the mean over its channels."
        )
    rate = Fraction(fps).limit_denominator(65535)
    with open_atomic(path) as partial:
        with av.open(str(partial), "w", format="mp4") as container:
            num_frames = encode(container, frames, rate, sound, sound_rate, quality, keyframe_seconds)
        if num_frames == 0:
            raise ValueError(f"There are no frames to write to {path.name}. A video needs one or more.")
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
    """Encode both streams side by side, so that a long video is never in memory. Returns the number of frames."""
    video = add_video_stream(container, fps, quality, keyframe_seconds)
    audio: AudioStream | None = None
    if sound is not None:
        audio = container.add_stream("aac", rate=sound_rate, layout="mono", options={"aac_coder": "fast"})
        audio.codec_context.time_base = Fraction(1, sound_rate)
    num_frames, num_samples, shape = 0, 0, None
    for frame in frames:
        shape = shape or frame.shape
        check_frame(frame, shape, num_frames)
        if num_frames == 0:
            video.height, video.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        if shape[0] % 2 or shape[1] % 2:
            frame = np.pad(frame, [(0, shape[0] % 2), (0, shape[1] % 2), (0, 0)], mode="edge")
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image.pts, image.time_base = num_frames, 1 / fps
        container.mux(video.encode(image))
        num_frames += 1
        if audio is not None and sound is not None:
            num_samples = encode_sound(container, audio, sound, num_samples, int(num_frames / fps * sound_rate))
    if num_frames == 0:
        return 0
    container.mux(video.encode(None))
    if audio is not None and sound is not None:
        encode_sound(container, audio, sound, num_samples, len(sound) + AUDIO_CHUNK)
        container.mux(audio.encode(None))
    return num_frames


def add_video_stream(container: OutputContainer, fps: Fraction, quality: int, keyframe_seconds: float) -> VideoStream:
    """An H.264 stream without B-frames, encoded by one thread."""
    options = {
        "crf": str(quality),
        "preset": "veryfast",
        "g": str(max(1, round(keyframe_seconds * fps))),
        "bf": "0",
        "threads": "1",
    }
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.codec_context.thread_count = 1
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = 1 / fps
    return stream


def encode_sound(container: OutputContainer, audio: AudioStream, sound: np.ndarray, start: int, end: int) -> int:
    """Encode the whole chunks of the sound from sample `start` that end by sample `end`. Returns the next start."""
    while start < len(sound) and start + AUDIO_CHUNK <= end:
        samples = sound[None, start : start + AUDIO_CHUNK].astype(np.float32)
        chunk = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        context = audio.codec_context
        chunk.sample_rate, chunk.pts, chunk.time_base = context.sample_rate, start, context.time_base
        container.mux(audio.encode(chunk))
        start += AUDIO_CHUNK
    return start


def check_frame(frame: np.ndarray, shape: tuple[int, ...], index: int) -> None:
    """Raises ValueError for a frame that cannot be encoded after the others. shape: that of the first frame."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"Frame {index} is {frame.dtype} {frame.shape}. A frame must be uint8 (height, width, 3) in RGB. "
            "Convert it first."
        )
    if frame.shape != shape:
        raise ValueError(
            f"Frame {index} has the shape {frame.shape}, the first one {shape}. "
            "All frames of a video must have the same shape. Resize them."
        )
