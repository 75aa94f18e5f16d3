"""Files of generated sequences: clips as .mp4 or .gif, contact sheets as .png, features as .npz, sentences as .txt.

In: arrays and sentences with names. Out: files; each is written completely or not at all. Knows nothing of generators.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.atomic import write_atomic
from pipeline.media.write import write_video
from pipeline.writers.output_names import safe_path

MAX_SHEET_WIDTH = 60_000  # pixels

FORMATS = {"frames": ("mp4", "gif", "png"), "features": ("npz",), "tokens": ("txt",)}
"""The formats that can hold each kind of sequence."""
DEFAULT_FORMATS = {"frames": ("mp4", "png"), "features": ("npz",), "tokens": ("txt",)}
FILE_NAMES = {"png": "sheet.png", "npz": "generated.npz", "txt": "generated.txt"}
"""The file that holds all sequences."""


def check_formats(formats: Sequence[str], makes: str) -> tuple[str, ...]:
    """The formats to write; where none are asked for, the usual ones. makes: frames, features or tokens.

    Raises ValueError for a format that cannot hold such sequences.
    """
    allowed = FORMATS[makes]
    wrong = [f for f in formats if f not in allowed]
    if wrong:
        raise ValueError(
            f"'{wrong[0]}' cannot hold {makes}, which this model generates. Use --format {' '.join(allowed)}."
        )
    return tuple(formats) or DEFAULT_FORMATS[makes]


def write_sequences(
    out: Path, formats: Sequence[str], names: Sequence[str], values: Sequence[np.ndarray | str], rate: float
) -> list[Path]:
    """Write generated sequences into the folder `out`; the paths of the files.

    One .mp4 or .gif for each clip; one sheet.png with a row for each clip; one generated.npz with all arrays by name;
    one generated.txt with a line for each sentence. values: frames uint8 (T, S, S, 3), features (T, D) or sentences.
    rate: frames a second.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [_file_name(name) for name in names]
    written: list[Path] = []
    for kind in formats:
        if kind in FILE_NAMES:
            written.append(out / FILE_NAMES[kind])
            write_atomic(written[-1], _all_in_one(kind, names, values))
            continue
        for name, clip in zip(names, values, strict=True):
            assert isinstance(clip, np.ndarray)
            written.append(out / f"{name}.{kind}")
            if kind == "mp4":
                write_video(written[-1], clip, fps=rate, quality=8)
            else:
                write_atomic(written[-1], _gif(clip, rate))
    return written


def _file_name(name: str) -> str:
    """CLASS_seed0_000 as a file name, without slashes; a long class is cut."""
    label, mark, number = name.rpartition("_seed")
    return safe_path(label.replace("/", "_").encode()[:140].decode(errors="ignore")) + mark + number


def _all_in_one(kind: str, names: Sequence[str], values: Sequence[np.ndarray | str]) -> bytes:
    """The contents of the one file with all sequences."""
    if kind == "txt":
        return "".join(f"{text}\n" for text in values).encode()
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **dict(zip(names, arrays, strict=True)))
        return file.getvalue()
    sheet = np.concatenate([np.concatenate(list(clip[: num_frames_on_sheet(clip)]), axis=1) for clip in arrays])
    is_done, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not is_done:
        raise ValueError(
            f"A sheet of {len(sheet)} x {sheet.shape[1]} pixels is too large for a .png. Generate fewer clips, or use "
            "--format mp4."
        )
    return data.tobytes()


def num_frames_on_sheet(clip: np.ndarray) -> int:
    """How many frames of a clip (T, S, S, 3) fit into a row of a sheet."""
    return min(len(clip), MAX_SHEET_WIDTH // clip.shape[2])


def _gif(clip: np.ndarray, rate: float) -> bytes:
    """A clip uint8 (T, S, S, 3) as a GIF of `rate` frames a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="gif") as container:
        stream = container.add_stream("gif", rate=Fraction(rate).limit_denominator(100))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "rgb8"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
