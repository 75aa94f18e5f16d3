"""Made sequences -> files: clips as .mp4 or .gif, sheets of film as .png, features as .npz, sentences as .txt.

In: arrays and sentences with names. Out: files, each whole or not at all. Knows nothing of who made them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.media.write import write_video
from pipeline.whole import write_whole
from pipeline.writers.names import safe

WIDEST = 60_000  # pixels of a sheet

FOR_FRAMES, FOR_FEATURES, FOR_TEXTS = ("mp4", "gif", "png"), ("npz",), ("txt",)


def check_made_formats(formats: Sequence[str], makes: str) -> tuple[str, ...]:
    """The formats that will be written; by default the first of what suits. Raises ValueError for one that cannot hold it."""
    fitting = {"frames": FOR_FRAMES, "features": FOR_FEATURES, "tokens": FOR_TEXTS}[makes]
    wrong = [f for f in formats if f not in fitting]
    if wrong:
        raise ValueError(f"'{wrong[0]}' cannot hold {makes}, which this model makes. Use --format {' '.join(fitting)}.")
    return tuple(formats) or (("mp4", "png") if makes == "frames" else fitting)


def write_made(
    out: Path, formats: Sequence[str], names: Sequence[str], values: Sequence[np.ndarray | str], rate: float
) -> list[Path]:
    """One .mp4 or .gif a clip; one sheet.png of all, a row a clip; one made.npz of all, by name; one made.txt, a line a sentence."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    names = [_as_file(name) for name in names]
    for kind in formats:
        if kind in ("mp4", "gif"):
            for name, clip in zip(names, values, strict=True):
                assert isinstance(clip, np.ndarray)
                path = out / f"{name}.{kind}"
                if kind == "mp4":
                    write_video(path, clip, fps=rate, quality=8)
                else:
                    write_whole(path, _gif(clip, rate))
                written.append(path)
        else:
            path = out / {"png": "sheet.png", "npz": "made.npz", "txt": "made.txt"}[kind]
            write_whole(path, _together(kind, names, values))
            written.append(path)
    return written


def _as_file(name: str) -> str:
    """CLASS_seed0_000 -> a name that is no path; of a long class its beginning."""
    kind, mark, number = name.rpartition("_seed")
    return safe(kind.replace("/", "_").encode()[:140].decode(errors="ignore")) + mark + number


def _together(kind: str, names: Sequence[str], values: Sequence[np.ndarray | str]) -> bytes:
    if kind == "txt":
        return "".join(f"{text}\n" for text in values).encode()
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **dict(zip(names, arrays, strict=True)))
        return file.getvalue()
    sheet = np.concatenate([np.concatenate(list(clip[: on_sheet(clip)]), axis=1) for clip in arrays])
    is_done, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not is_done:
        raise ValueError(
            f"A sheet of {len(sheet)} x {sheet.shape[1]} pixels is too large for a .png. Make fewer clips, or --format mp4."
        )
    return data.tobytes()


def on_sheet(clip: np.ndarray) -> int:
    """How many looks of a clip (T, S, S, 3) a sheet has room for."""
    return min(len(clip), WIDEST // clip.shape[2])


def _gif(clip: np.ndarray, rate: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="gif") as container:
        stream = container.add_stream("gif", rate=Fraction(rate).limit_denominator(100))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "rgb8"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
