"""What a stream's heads say, drawn on what the CNN sees: a video file, or a window on the screen.

In: looks with their times, and events of the kind "probabilities". Out: pictures. Knows nothing of models.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.media.write import write_video

SIDE = 480  # pixels: smaller pictures are enlarged
BAR = 34  # pixels of one head's line
GRAY, WHITE, GREEN = (60, 60, 60), (240, 240, 240), (70, 170, 90)

Line = tuple[str, str | None, float]
"""(head, label or None where nothing happens, its score)."""


def draw(frame: np.ndarray, time: float, lines: Sequence[Line], moment: float) -> np.ndarray:
    """A look uint8 (S, S, 3) -> (H, W, 3): the picture, below it a line with a bar of the score for each head, and the
    time. moment: in [0, 1], how much of a turn of the minute hand of the time bar is done.
    """
    scale = max(1, -(-SIDE // frame.shape[0]))
    picture = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    width = picture.shape[1]
    panel = np.full((BAR * (len(lines) + 1), width, 3), 20, np.uint8)
    for row, (head, label, score) in enumerate(lines):
        top = row * BAR
        cv2.rectangle(panel, (0, top + 3), (width, top + BAR - 3), GRAY, -1)
        if label is not None:
            cv2.rectangle(panel, (0, top + 3), (round(width * min(1.0, max(0.0, score))), top + BAR - 3), GREEN, -1)
        text = f"{head}: {label} {score:.2f}" if label is not None else f"{head}: -"
        cv2.putText(panel, text.encode("ascii", "replace").decode(), (8, top + 23), 0, 0.6, WHITE, 1, cv2.LINE_AA)
    top = len(lines) * BAR
    cv2.rectangle(panel, (0, top + BAR - 6), (round(width * moment), top + BAR), WHITE, -1)
    clock = f"{int(time // 3600)}:{int(time // 60 % 60):02d}:{time % 60:05.2f}"
    cv2.putText(panel, clock, (8, top + 22), 0, 0.6, WHITE, 1, cv2.LINE_AA)
    return np.concatenate([picture, panel])


class Overlay:
    """Pairs looks with what was decided about them and hands each drawn picture to all of `puts`, in order. A look waits
    until all heads have spoken, so it comes as late as the lag.
    """

    def __init__(self, heads: Sequence[str], puts: Sequence[Callable[[np.ndarray], None]]) -> None:
        self.heads, self.puts = tuple(heads), tuple(puts)
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._said: dict[float, dict[str, Line]] = {}

    def __call__(self, times: np.ndarray, frames: np.ndarray, events: Sequence[dict[str, Any]]) -> None:
        """Some looks (T,) and (T, S, S, 3), and the events that came with them."""
        self._frames += zip(times.tolist(), frames, strict=True)
        for event in events:
            if event["event"] == "probabilities":
                score = next((p["score"] for p in event["top"] if p["label"] == event["label"]), 0.0)
                self._said.setdefault(event["look"], {})[event["head"]] = (event["head"], event["label"], score)
        while self._frames and len(said := self._said.get(round(self._frames[0][0], 3), {})) == len(self.heads):
            time, frame = self._frames.popleft()
            del self._said[round(time, 3)]
            picture = draw(frame, time, [said[head] for head in self.heads], time % 60 / 60)
            for put in self.puts:
                put(picture)


class OverlayFile:
    """An mp4 of pictures that come one by one, written beside the watching. It appears when it is closed."""

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path = path
        self._pictures: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=16)
        self._error: BaseException | None = None
        self._count = 0
        self._thread = threading.Thread(target=self._write, args=(fps,), daemon=True)
        self._thread.start()

    def put(self, picture: np.ndarray) -> None:
        """One more. Raises OSError or ValueError when the file cannot be written."""
        while True:
            self._check()
            try:
                self._pictures.put(picture, timeout=0.5)
                self._count += 1
                return
            except queue.Full:
                continue

    def close(self) -> None:
        """Finish the file; no pictures, no file."""
        while self._thread.is_alive():
            try:
                self._pictures.put(None, timeout=0.5)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self._count:
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self, fps: float) -> None:
        try:
            write_video(self.path, self._until_closed(), fps=fps)
        except BaseException as error:
            self._error = error

    def _until_closed(self) -> Iterator[np.ndarray]:
        while (picture := self._pictures.get()) is not None:
            yield picture


class Screen:
    """A window. Raises ValueError where this OpenCV has none."""

    def __init__(self, title: str) -> None:
        self.title = title
        if not has_windows():
            raise ValueError(
                "--window needs an OpenCV with windows, and this one (opencv-python-headless) has none. Install "
                "opencv-python in its place, or use --overlay FILE.mp4."
            )

    def put(self, picture: np.ndarray) -> None:
        """Show it now."""
        cv2.imshow(self.title, np.ascontiguousarray(picture[:, :, ::-1]))
        cv2.waitKey(1)

    def close(self) -> None:
        """Take the window away."""
        cv2.destroyAllWindows()


def has_windows() -> bool:
    """Whether this OpenCV was built with a graphical interface."""
    line = next(
        (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "GUI: NONE"
    )
    return "NONE" not in line.upper()
