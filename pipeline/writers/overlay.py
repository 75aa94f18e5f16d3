"""The answers of a stream's heads, drawn on the frames that the CNN sees: a video file or a window on the screen.

In: looks with their times, and events of the kind "probabilities". Out: images. Knows nothing of models.
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

MIN_SIDE = 480  # pixels: smaller frames are enlarged
LINE_HEIGHT = 34  # pixels
GRAY, WHITE, GREEN = (60, 60, 60), (240, 240, 240), (70, 170, 90)

Line = tuple[str, str | None, float]
"""(head, label or None for no action, its score)."""


def draw_overlay(frame: np.ndarray, time: float, lines: Sequence[Line], progress: float) -> np.ndarray:
    """A look uint8 (S, S, 3) -> (H, W, 3): the frame, below it a line with a score bar for each head, and the time.

    progress: the length of the white bar at the bottom, a share of the width in [0, 1].
    """
    scale = max(1, -(-MIN_SIDE // frame.shape[0]))
    image = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    width = image.shape[1]
    panel = np.full((LINE_HEIGHT * (len(lines) + 1), width, 3), 20, np.uint8)
    for row, (head, label, score) in enumerate(lines):
        top, bottom = row * LINE_HEIGHT + 3, (row + 1) * LINE_HEIGHT - 3
        cv2.rectangle(panel, (0, top), (width, bottom), GRAY, -1)
        if label is not None:
            cv2.rectangle(panel, (0, top), (round(width * min(1.0, max(0.0, score))), bottom), GREEN, -1)
        text = f"{head}: {label} {score:.2f}" if label is not None else f"{head}: -"
        cv2.putText(panel, text.encode("ascii", "replace").decode(), (8, top + 20), 0, 0.6, WHITE, 1, cv2.LINE_AA)
    top = len(lines) * LINE_HEIGHT
    cv2.rectangle(panel, (0, top + LINE_HEIGHT - 6), (round(width * progress), top + LINE_HEIGHT), WHITE, -1)
    clock = f"{int(time // 3600)}:{int(time // 60 % 60):02d}:{time % 60:05.2f}"
    cv2.putText(panel, clock, (8, top + 22), 0, 0.6, WHITE, 1, cv2.LINE_AA)
    return np.concatenate([image, panel])


class Overlay:
    """Joins looks with the labels that were decided for them, and gives each image to all `outputs`, in order.

    A look waits until every head has decided, so its image comes as late as the lag.
    """

    def __init__(self, heads: Sequence[str], outputs: Sequence[Callable[[np.ndarray], None]]) -> None:
        self.heads, self.outputs = tuple(heads), tuple(outputs)
        self._looks: deque[tuple[float, np.ndarray]] = deque()
        self._lines: dict[float, dict[str, Line]] = {}  # look time, in thousandths -> head -> line

    def __call__(self, times: np.ndarray, frames: np.ndarray, events: Sequence[dict[str, Any]]) -> None:
        """Add looks (T,) and (T, S, S, 3), and the events of their window."""
        self._looks += zip(times.tolist(), frames, strict=True)
        for event in events:
            if event["event"] == "probabilities":
                score = next((p["score"] for p in event["top"] if p["label"] == event["label"]), 0.0)
                self._lines.setdefault(event["look"], {})[event["head"]] = (event["head"], event["label"], score)
        while self._looks and len(lines := self._lines.get(round(self._looks[0][0], 3), {})) == len(self.heads):
            time, frame = self._looks.popleft()
            del self._lines[round(time, 3)]
            image = draw_overlay(frame, time, [lines[head] for head in self.heads], time % 60 / 60)
            for output in self.outputs:
                output(image)


class OverlayFile:
    """An mp4 of images that come one by one. A thread encodes it. The file appears when it is closed."""

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path = path
        self._images: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=16)
        self._error: BaseException | None = None
        self._count = 0
        self._thread = threading.Thread(target=self._write, args=(fps,), daemon=True)
        self._thread.start()

    def put(self, image: np.ndarray) -> None:
        """Add one image. Raises OSError or ValueError when the file cannot be written."""
        while True:
            self._raise_error()
            try:
                self._images.put(image, timeout=0.5)
                self._count += 1
                return
            except queue.Full:
                continue

    def close(self) -> None:
        """Finish the file. Without images there is no file."""
        while self._thread.is_alive():
            try:
                self._images.put(None, timeout=0.5)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self._count:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self, fps: float) -> None:
        try:
            write_video(self.path, self._until_closed(), fps=fps)
        except BaseException as error:
            self._error = error

    def _until_closed(self) -> Iterator[np.ndarray]:
        while (image := self._images.get()) is not None:
            yield image


class OverlayWindow:
    """A window on the screen. Raises ValueError where this OpenCV was built without windows."""

    def __init__(self, title: str) -> None:
        self.title = title
        if not has_windows():
            raise ValueError(
                "--window needs an OpenCV with windows, and this one (opencv-python-headless) has none. Install "
                "opencv-python in its place, or use --overlay FILE.mp4."
            )

    def put(self, image: np.ndarray) -> None:
        """Show an image in place of the one before."""
        cv2.imshow(self.title, np.ascontiguousarray(image[:, :, ::-1]))
        cv2.waitKey(1)

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def has_windows() -> bool:
    """Whether this OpenCV was built with a graphical interface."""
    line = next(
        (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "GUI: NONE"
    )
    return "NONE" not in line.upper()
