"""The thread of a folder job that gives files to workers, and their pictures to the CNN.

In: files. Out: windows of features, given to the `CoreThread`. Requests of the CNN are filled across videos; a picture
that is shown again is not sent again. Knows nothing of core, heads or answers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.feature_store import Features
from pipeline.encoders.cnn_runtime import FeatureRequests
from pipeline.inference.answer import Answer
from pipeline.inference.core_thread import CoreThread
from pipeline.inference.engine_settings import SLOTS_A_WORKER, EnginePlan
from pipeline.inference.feature_part import part_of
from pipeline.inference.open_video import OpenVideo
from pipeline.inference.predictor import WINDOW, SequencePredictor
from pipeline.media.decode_pool import (
    DecodePool,
    DecodeSettings,
    DecodeTask,
    Failed,
    Looks,
    Message,
    Opened,
    Slot,
)
from pipeline.media.folder import InputFile

POLL_SECONDS = 0.1
FILL_SECONDS = 1.0
"""How long a request of the CNN waits for more pictures while files are being decoded."""


@dataclass(frozen=True)
class FeatureSource:
    """How a video becomes features.

    decode: how it is decoded. take_requests: gives the CNN, when the first picture comes. give_back: takes the CNN when
    the job has ended well.
    """

    decode: DecodeSettings
    take_requests: Callable[[], FeatureRequests]
    give_back: Callable[[FeatureRequests], None] = lambda requests: None


class Feeder:
    """Reads the files by a pool of workers, which ends with the thread.

    pool: workers that were started before; None: they are started when the first file needs them. parts: the folder in
    which long videos keep their features while they are read, and all that shapes features besides the video.
    """

    def __init__(
        self,
        files: Sequence[InputFile],
        source: FeatureSource | None,
        core: CoreThread,
        plan: EnginePlan,
        pool: DecodePool | None,
        parts: tuple[Path, str] | None,
        log: Callable[[str], None],
    ) -> None:
        self.source, self.core, self.plan, self.pool, self.parts, self.log = source, core, plan, pool, parts, log
        self.stop_at = float("inf")
        self._is_stopping = threading.Event()
        self._files: Iterator[InputFile] = iter(files)
        self._next = next(self._files, None)
        self._requests: FeatureRequests | None = None
        self._lock = threading.Lock()  # of the videos: their features come on threads of the CNN
        self._decoding: dict[str, OpenVideo] = {}  # by the id of their task, until its last message
        self._unfinished: list[OpenVideo] = []
        self._pending: list[tuple[OpenVideo, int, Slot]] = []  # (video, picture, slot) that no request has yet
        self._last_request = time.monotonic()
        self._num_tasks = 0
        self._unknown: InputFile | None = None  # the next file, where the store does not know it
        self._torch_threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="unreel-feeder", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Open no more files. What is not finished after so many seconds is given up."""
        self.stop_at = min(self.stop_at, time.monotonic() + seconds)
        self._is_stopping.set()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(timeout)

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)  # of a CNN that torch computes on this thread
        try:
            self._feed()
            self._submit_pending()
            if self._requests is not None and self.source is not None:
                self._requests.wait()
                self.source.give_back(self._requests)
        except BaseException as error:  # of the CNN, of the workers' start, or of this program: the caller gets it
            self.core.fail(error)
        finally:
            if self.pool is not None:
                self.pool.close()
            self.core.end()

    def _feed(self) -> None:
        """Until all files are read, or the job is stopped."""
        while not self._must_end():
            is_more = self._open_files()
            if not self._decoding:
                if self._next is None:
                    return
                self._submit_pending()  # what holds the memory that the next file waits for
                time.sleep(0.0 if is_more else 0.005)
                continue
            assert self.pool is not None, "what is decoded has a pool"
            messages = self.pool.wait(0.0 if is_more else POLL_SECONDS)
            for message in messages:
                self._handle(message)
            if not messages and not is_more and self._is_request_due():
                self._submit_pending()

    def _must_end(self) -> bool:
        """Whether the job is given up. A stopped job ends when all files that are open are read."""
        if self._is_stopping.is_set():
            self._next = None
        if time.monotonic() > self.stop_at:
            self.core.abort()
        return self.core.is_aborted.is_set()

    def _is_request_due(self) -> bool:
        """Whether the pictures so far should not wait for more: a ring may be full of them, or decoding is slow."""
        is_old = time.monotonic() - self._last_request > FILL_SECONDS
        return len(self._pending) >= SLOTS_A_WORKER // 2 or is_old

    # files

    def _open_files(self) -> bool:
        """Open the next file, or all until one must wait where nothing is decoded. Returns whether it may go on."""
        while self._next is not None and not self._must_end():
            if not self._open(self._next):
                return False
            self._next = next(self._files, None)
            if self._decoding:
                return True
        return False

    def _open(self, file: InputFile) -> bool:
        """Give a file to whom it concerns. Returns False where it must wait."""
        self.core.wait_for_space()
        if file.problem or self.source is None:
            self.core.answer_input(file)
            return True
        if self._unknown is not file and self._open_stored(file):
            return True
        self._unknown = file
        if self.pool is None:
            self.pool = self._start_pool()
        if not self.pool.can_accept() or not self._has_memory(self.pool):
            return False
        self._num_tasks += 1  # names may occur twice
        video = self._new_video(file)
        looks = self._resume(video, None)
        task = DecodeTask(str(self._num_tasks), file.path, looks / self.core.rate)
        self._decoding[task.id] = video
        self._unfinished.append(video)
        self.pool.submit(task)
        return True

    def _resume(self, video: OpenVideo, max_looks: int | None) -> int:
        """Give the features of a video's part to the core, if there are any. Returns the number of their looks.

        max_looks: that number where the looks after it are being decoded already.
        """
        if self.parts is None:
            return 0
        folder, made_by = self.parts
        video.part = part_of(folder, video.file.path, video.size, video.mtime_ns, made_by)
        for times, values in video.part.read(self.core.rate, max_looks):
            self.core.wait_for_space()
            video.times.append(times)
            video.num_saved += len(times)
            for start in range(0, len(times), WINDOW):
                self.core.read(video, values[start : start + WINDOW], is_new=False)
        return video.num_saved

    def _new_video(self, file: InputFile) -> OpenVideo:
        predictor, store = self.core.predictor, self.core.store
        sequence = None if predictor is None else SequencePredictor(predictor, "frames")
        video = OpenVideo(file, sequence, is_wanted=store is not None or predictor is None)
        with suppress(OSError):
            stat = os.stat(file.path)
            video.size, video.mtime_ns = stat.st_size, stat.st_mtime_ns
        return video

    def _open_stored(self, file: InputFile) -> bool:
        """Answer from stored features. Returns False where the store does not know the file."""
        store = self.core.store
        if store is None:
            return False
        video = self._new_video(file)
        if self.core.predictor is not None:
            return self._read_stored(video, store.read_known(file.path))
        described = store.describe_known(file.path)
        if described is None:
            return False
        looks, video.warnings = described
        video.is_stored = True
        video.times = [np.arange(looks) / self.core.rate]
        self.core.finish(video)
        return True

    def _read_stored(self, video: OpenVideo, features: Features | None) -> bool:
        """Give stored features to the core. Returns False where there are none."""
        if features is None:
            return False
        video.is_stored = video.is_known = True
        video.times, video.warnings = [features.times], features.warnings
        for start in range(0, len(features.times), WINDOW):
            self.core.read(video, features.values[start : start + WINDOW], is_new=False)
        self.core.finish(video)
        return True

    def _start_pool(self) -> DecodePool:
        assert self.source is not None, "only videos have workers"
        pool = DecodePool(self.plan.workers, self.source.decode, self.plan.limits, slots_a_worker=SLOTS_A_WORKER)
        self.log(self.plan.line(pool.ring_bytes))
        return pool

    def _has_memory(self, pool: DecodePool) -> bool:
        """Whether one more video may be opened: rings, features and requests are below the limit, or none is open."""
        self._unfinished = [video for video in self._unfinished if not video.is_dropped]
        size = self.source.decode.size if self.source else 0
        request_size = 0 if self._requests is None else self._requests.request_size
        num_bytes = pool.ring_bytes + request_size * size * size * 3 * self.plan.cores
        num_bytes += sum(video.num_bytes for video in self._unfinished)
        return not self._unfinished or num_bytes < self.plan.memory_mb * 2**20

    # messages of the workers

    def _handle(self, message: Message) -> None:
        """Take one message about a file."""
        video = self._decoding[message.task.id]
        if isinstance(message, Opened):
            self._take_opened(video, message)
            return
        if isinstance(message, Looks):
            self._take_looks(video, message)
            return
        del self._decoding[message.task.id]
        if video.is_known:
            return
        if isinstance(message, Failed):
            self._fail(video, message.status, message.error)
            return
        with self._lock:
            video.warnings, video.is_complete = message.warnings, True
            self._advance(video)

    def _take_opened(self, video: OpenVideo, message: Opened) -> None:
        if video.is_known:
            return
        if video.is_opened:  # a worker died, and the file is tried once more
            video.is_dropped = True
            video = self._decoding[message.task.id] = self._new_video(video.file)
            self._unfinished.append(video)
            self._resume(video, round(message.task.start * self.core.rate))
        if video.num_saved and (message.size, message.mtime_ns) != (video.size, video.mtime_ns):
            self._fail(video, "failed:changed", "The file was changed when it was opened. Run again.")
            return
        video.is_opened, video.content_hash = True, message.content_hash
        video.size, video.mtime_ns = message.size, message.mtime_ns
        if self.core.store is not None and video.content is not None and not video.num_saved:
            # a copy may be known under another name
            self._read_stored(video, self.core.store.read_hashed(video.file.path, video.content))

    def _fail(self, video: OpenVideo, status: str, error: str) -> None:
        """Answer that a video could not be read."""
        video.is_dropped = video.is_known = True
        self.core.put(video.file_answer(Answer(status, error=error, path=video.file.name)))

    def _take_looks(self, video: OpenVideo, message: Looks) -> None:
        new = [slot for slot, repeats in zip(message.slots, message.is_repeat, strict=True) if not repeats]
        if video.is_known:
            assert self.pool is not None, "who has looks has a pool"
            self.pool.release(new)
            return
        self.core.wait_for_space()
        with self._lock:
            pictures = video.add_looks(message.times, message.is_repeat)
            self._advance(video)
        self._pending += [(video, picture, slot) for picture, slot in zip(pictures, new, strict=True)]
        request_size = self._get_requests().request_size
        while len(self._pending) >= request_size:
            self._submit(request_size)

    # the CNN

    def _get_requests(self) -> FeatureRequests:
        if self._requests is None:
            assert self.source is not None, "who has pictures has a CNN"
            self._requests = self.source.take_requests()
        return self._requests

    def _submit_pending(self) -> None:
        """Send the pictures that wait, in a request that is not full."""
        while self._pending and not self.core.is_aborted.is_set():
            self._submit(self._get_requests().request_size)

    def _submit(self, count: int) -> None:
        """Send the first pictures that wait to the CNN, and free their slots."""
        assert self.pool is not None, "who has pictures has a pool"
        batch, self._pending = self._pending[:count], self._pending[count:]
        wanted = [(video, picture, slot) for video, picture, slot in batch if not video.is_dropped]
        if wanted:
            places = [(video, picture) for video, picture, _ in wanted]
            frames = [self.pool.pixels(slot) for _, _, slot in wanted]
            self._get_requests().submit(frames, partial(self._take_features, places))
        self.pool.release([slot for _, _, slot in batch])
        self._last_request = time.monotonic()

    def _take_features(self, places: Sequence[tuple[OpenVideo, int]], features: np.ndarray) -> None:
        """The features (n, D) of a request, on a thread of the CNN."""
        rounded = features.astype(np.float16)  # as stored for training
        with self._lock:
            for (video, picture), row in zip(places, rounded, strict=True):
                video.add_features(picture, row)
            for video in dict.fromkeys(video for video, _ in places):
                self._advance(video)

    def _advance(self, video: OpenVideo) -> None:
        """Give the core what it can read of a video. The caller holds the lock."""
        if video.is_dropped or video.is_finishing:
            return
        for window in video.take_windows():
            self.core.read(video, window, is_new=True)
        if video.is_ready:
            video.is_finishing = True
            self.core.finish(video)
