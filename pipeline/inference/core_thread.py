"""The thread of a folder job that reads features and answers.

In: windows of features, in order for each video. Out: a `FileAnswer` for each file, in a queue of bounded length. Knows
nothing of workers, pictures or networks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import Full, Queue, SimpleQueue

import numpy as np

from pipeline.data.feature_store import FeatureStore
from pipeline.inference.answer import Answer
from pipeline.inference.open_video import FileAnswer, OpenVideo
from pipeline.inference.predictor import WINDOW, Predictor
from pipeline.media.clip import is_partial
from pipeline.media.folder import InputFile

MAX_ANSWERS = 256
"""Answers that wait for the caller. Where there are more, the core waits."""
MAX_BACKLOG = 64
"""Windows that wait for the core. Where there are more, the feeder waits."""
PART_SECONDS = 300.0
"""Seconds of footage after which the features of an unfinished video are appended to its part."""
POLL_SECONDS = 0.1


class CoreThread:
    """Runs core and heads for one video at a time; without a predictor it only keeps the features.

    Other threads put work into its queue. An exception of core or heads makes the answer of that video a failed one;
    any other error ends the job and is raised where the answers are taken.
    """

    def __init__(self, predictor: Predictor | None, rate: float, store: FeatureStore | None) -> None:
        self.predictor, self.rate, self.store = predictor, rate, store
        self.part_looks = math.ceil(PART_SECONDS * rate / WINDOW) * WINDOW
        self.answers: Queue[FileAnswer | BaseException | None] = Queue(MAX_ANSWERS)
        self.is_aborted = threading.Event()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="unreel-core", daemon=True)
        self._thread.start()

    def read(self, video: OpenVideo, window: np.ndarray, *, is_new: bool) -> None:
        """Read the next window (T, D) of a video, in the thread. is_new: it is not from a disk."""
        self._work.put(partial(self._read, video, window, is_new))

    def finish(self, video: OpenVideo) -> None:
        """Answer for a video whose windows were all given to `read`, in the thread."""
        self._work.put(partial(self._finish, video))

    def answer_input(self, file: InputFile) -> None:
        """Answer for a text, a stored series or an input that cannot be read, in the thread."""
        self._work.put(partial(self._answer_input, file))

    def put(self, answer: FileAnswer) -> None:
        """Pass an answer on, in the thread, after the work that waits."""
        self._work.put(partial(self._put, answer))

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        self._work.put(partial(self._put, error))

    def end(self) -> None:
        """End the thread, after the work that waits."""
        self._work.put(None)

    def wait_for_space(self) -> None:
        """Wait while too many windows wait for the core, unless the job is aborted."""
        while self._work.qsize() > MAX_BACKLOG and not self.is_aborted.is_set():
            time.sleep(0.002)

    def abort(self) -> None:
        """Do no more work, and put no more answers."""
        self.is_aborted.set()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                if not self.is_aborted.is_set():
                    work()
        except BaseException as error:  # of the store's disk, or of this program: the caller gets it
            self._put(error)
            self.abort()
        if self.store is not None:
            self.store.flush()
        self._put(None)

    def _put(self, answer: FileAnswer | BaseException | None) -> None:
        """Into the queue of the caller; waits while that is full."""
        while not self.is_aborted.is_set() or answer is None:
            try:
                self.answers.put(answer, timeout=POLL_SECONDS)
                return
            except Full:
                if self.is_aborted.is_set():
                    return

    def _read(self, video: OpenVideo, window: np.ndarray, is_new: bool) -> None:
        if video.is_dropped:
            return
        if is_new:
            video.save(window, self.part_looks)
        if video.keeps_features:
            video.windows.append(window)
        if video.sequence is not None and not video.error:
            try:
                video.sequence.add(window)
            except Exception as error:  # one bad file must not stop the job; its row has the error
                video.error = f"{type(error).__name__}: {error}"
        if is_new and not video.is_memory_kept:
            video.forget(window)

    def _finish(self, video: OpenVideo) -> None:
        if video.is_dropped:
            return
        answer = self._answer(video)
        features = video.features() if video.keeps_features else None
        video.is_dropped = True
        if self.store is not None and features is not None:
            self.store.write(video.file.path, features, video.content)
            features = None
            if video.part is not None:
                video.part.delete()
        self._put(video.file_answer(answer, features))

    def _answer(self, video: OpenVideo) -> Answer:
        """The answer for a video; without a predictor one without predictions."""
        path, last_look = video.file.name, float(video.times[-1][-1]) if video.times else 0.0
        if not video.error:
            try:
                if video.sequence is not None:
                    assert self.predictor is not None, "who has sequences has a predictor"
                    return self.predictor.video_answer(video.sequence, last_look, video.warnings, path)
                status = "partial" if is_partial(video.warnings) else "ok"
                looks = sum(map(len, video.times))
                return Answer(status, last_look + 1.0 / self.rate, looks, warnings=video.warnings, path=path)
            except Exception as error:  # one bad file must not stop the job; its row has the error
                video.error = f"{type(error).__name__}: {error}"
        return Answer("failed:error", error=video.error, path=path)

    def _answer_input(self, file: InputFile) -> None:
        started = time.monotonic()
        if file.problem:
            code, _, sentence = file.problem.partition(": ")
            answer = Answer(f"failed:{code}", error=sentence)
        else:
            assert self.predictor is not None, "only videos have features"
            try:
                if file.text is None:
                    answer = self.predictor.predict_series(file.path)
                else:
                    answer = self.predictor.predict_text(file.text)
            except Exception as error:  # one bad file must not stop the job; its row has the error
                answer = Answer("failed:error", error=f"{type(error).__name__}: {error}")
        self._put(FileAnswer(file, replace(answer, path=file.name), time.monotonic() - started))
