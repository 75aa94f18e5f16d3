"""One file between its opening and its answer: its looks come in order, the features of its pictures in any order.

In: looks, and the features of pictures. Out: windows of features float16 in order. A picture that is shown at several
looks has its features once. Knows nothing of workers, networks or threads: who adds or takes holds a lock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.data.feature_store import Features
from pipeline.data.store_index import FileContent
from pipeline.inference.answer import Answer
from pipeline.inference.feature_part import FeaturePart
from pipeline.inference.predictor import WINDOW, SequencePredictor
from pipeline.media.folder import InputFile


@dataclass(frozen=True)
class FileAnswer:
    """The answer for one file.

    seconds: from its opening to its answer. size, mtime_ns: of the file that was read; 0 where none was. content_hash:
    SHA-256 of its content, where a worker computed it. is_stored: its features came from the feature store. features:
    where they are wanted and no store has them.
    """

    file: InputFile
    answer: Answer
    seconds: float = 0.0
    size: int = 0
    mtime_ns: int = 0
    content_hash: str | None = None
    is_stored: bool = False
    features: Features | None = None


@dataclass(eq=False)
class OpenVideo:
    """A video that is being read.

    sequence: what reads its windows; None where no core answers. is_wanted: its features are wanted as a whole, unless
    they are stored. size, mtime_ns, content_hash: of the file, as the worker found it. error: what core or heads
    raised. is_opened: a worker has opened it. is_stored: its features came from the feature store. is_known: its answer
    is known, so the looks that still come are not read. is_complete: all looks are known. is_finishing: the core has
    all of it. is_dropped: it needs nothing more. part: what is kept of its features on the disk while it is read; None
    where nothing is. unsaved: the windows that are not in the part yet.
    """

    file: InputFile
    sequence: SequencePredictor | None
    is_wanted: bool
    started: float = field(default_factory=time.monotonic)
    read_at: float = field(default_factory=time.time)
    size: int = 0
    mtime_ns: int = 0
    content_hash: str | None = None
    warnings: tuple[str, ...] = ()
    times: list[np.ndarray] = field(default_factory=list)
    windows: list[np.ndarray] = field(default_factory=list)
    error: str = ""
    part: FeaturePart | None = None
    unsaved: list[np.ndarray] = field(default_factory=list)
    num_saved: int = 0  # looks
    is_opened: bool = False
    is_stored: bool = False
    is_known: bool = False
    is_complete: bool = False
    is_finishing: bool = False
    is_dropped: bool = False
    _bytes_taken: int = 0  # two counters, because two threads count
    _bytes_forgotten: int = 0
    _num_pictures: int = 0
    _first_picture: int = 0  # those before it are in no later window
    _looks: list[int] = field(default_factory=list)  # the picture of each look that is in no window yet
    _features: dict[int, np.ndarray] = field(default_factory=dict)

    def file_answer(self, answer: Answer, features: Features | None = None) -> FileAnswer:
        """The answer, with what is known of the file."""
        seconds = time.monotonic() - self.started
        facts = (self.size, self.mtime_ns, self.content_hash, self.is_stored)
        return FileAnswer(self.file, answer, seconds, *facts, features)

    def features(self) -> Features:
        """Those of the whole video, where they are kept."""
        return Features(np.concatenate(self.windows), np.concatenate(self.times), self.warnings)

    @property
    def content(self) -> FileContent | None:
        """What the file held, where a worker has hashed it."""
        if self.content_hash is None:
            return None
        return FileContent(self.content_hash, self.size, self.mtime_ns, self.read_at)

    @property
    def keeps_features(self) -> bool:
        """Whether its windows are kept until the end."""
        return self.is_wanted and not self.is_stored

    def add_looks(self, times: np.ndarray, is_repeat: Sequence[bool]) -> list[int]:
        """Take the next looks. Returns the numbers of their new pictures, one for each look that is no repeat."""
        new = []
        for repeats in is_repeat:
            if not repeats:
                new.append(self._num_pictures)
                self._num_pictures += 1
            self._looks.append(self._num_pictures - 1)
        self.times.append(times)
        return new

    def add_features(self, picture: int, features: np.ndarray) -> None:
        """Take the features (D,) of a picture, by its number."""
        self._features[picture] = features
        self._bytes_taken += features.nbytes

    def take_windows(self) -> list[np.ndarray]:
        """The next windows (WINDOW, D) whose features are all here; the last one of a video may be shorter."""
        windows = []
        while self._looks and (len(self._looks) >= WINDOW or self.is_complete):
            pictures = self._looks[:WINDOW]
            if not all(picture in self._features for picture in pictures):
                break
            windows.append(np.stack([self._features[picture] for picture in pictures]))
            self._bytes_taken += windows[-1].nbytes
            del self._looks[:WINDOW]
            for picture in range(self._first_picture, pictures[-1]):  # the last one may be shown again
                self._bytes_taken -= self._features.pop(picture).nbytes
            self._first_picture = pictures[-1]
        return windows

    def forget(self, window: np.ndarray) -> None:
        """Count a window no longer, because it was read."""
        self._bytes_forgotten += window.nbytes

    def save(self, window: np.ndarray, min_looks: int) -> None:
        """Keep a window for the part, and append to the part where there are min_looks."""
        if self.part is None or len(window) < WINDOW:  # the last window of a video is not kept
            return
        self.unsaved.append(window)
        num_looks = len(self.unsaved) * WINDOW
        if num_looks >= min_looks:
            times = np.concatenate(self.times)[self.num_saved : self.num_saved + num_looks]
            self.part.append(times, np.concatenate(self.unsaved))
            self.unsaved, self.num_saved = [], self.num_saved + num_looks

    @property
    def num_bytes(self) -> int:
        """What its features take in memory."""
        return self._bytes_taken - self._bytes_forgotten

    @property
    def is_memory_kept(self) -> bool:
        """Whether its windows stay in memory until the end, for the feature store or for a bidirectional core."""
        return self.keeps_features or (self.sequence is not None and self.sequence.window is None)

    @property
    def is_ready(self) -> bool:
        """Whether all windows were taken."""
        return self.is_complete and not self._looks
