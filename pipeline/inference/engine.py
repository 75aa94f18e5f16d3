"""Files -> answers, with decoding, CNN and core at work at the same time.

In: files, and a predictor or a feature store. Out: one `FileAnswer` for each file, as soon as it is known. Knows
nothing of rows, formats or ledgers.

    workers (processes)  open and decode files, resize their pictures          media/decode_pool
    feeder (thread)      gives files to workers and their pictures to the CNN  inference/feeder
    CNN (its threads)    computes features, of several videos in one request   encoders/cnn_runtime
    core (thread)        reads the features of one video at a time, answers    inference/core_thread
    caller               takes the answers; while it takes none, all wait
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config.encoders import FramesSection
from pipeline.data.feature_store import FeatureStore
from pipeline.inference.answer import Answer
from pipeline.inference.core_thread import CoreThread
from pipeline.inference.engine_settings import EngineSettings
from pipeline.inference.feeder import FeatureSource, Feeder
from pipeline.inference.open_video import FileAnswer
from pipeline.inference.predictor import Predictor
from pipeline.media.decode_pool import DecodePool, DecodeSettings
from pipeline.media.folder import InputFile

STOP_SECONDS = 3.0
"""How long files that are open may still finish after `stop`."""


def no_log(line: str) -> None:
    """Drop the line."""


class FileAnswers:
    """The answers of a folder job, in the order in which they are known; each file has one.

    It is an iterator. An error of the CNN or of a disk is raised from it and ends the job; an error about one file is
    the answer of that file.
    """

    def __init__(self, core: CoreThread, feeder: Feeder) -> None:
        self._core, self._feeder = core, feeder
        self._is_closed = False

    def __iter__(self) -> FileAnswers:
        return self

    def __next__(self) -> FileAnswer:
        item = None if self._is_closed else self._core.answers.get()
        if isinstance(item, FileAnswer):
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def stop(self) -> None:
        """Open no more files. The iterator goes on with those that finish within STOP_SECONDS, and ends."""
        self._feeder.stop(STOP_SECONDS)

    def close(self) -> None:
        """End the job at once: no thread and no process is left. What was not taken is lost."""
        self._is_closed = True
        self._core.abort()
        self._feeder.stop(0.0)
        self._feeder.join(STOP_SECONDS)
        self._core.join(STOP_SECONDS)

    def __enter__(self) -> FileAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def answer_files(
    files: Sequence[InputFile],
    predictor: Predictor,
    settings: EngineSettings = EngineSettings(),  # noqa: B008
    store: FeatureStore | None = None,
    *,
    pool: DecodePool | None = None,
    parts: Path | None = None,
    log: Callable[[str], None] = no_log,
) -> FileAnswers:
    """The answers for videos, stored series, texts and inputs with a problem.

    store: features that it has are not computed again, and new ones are written to it. pool: workers that were started
    before, with the settings of `decode_settings`; they end with the job. parts: a folder in which long videos keep
    their features while they are read, so that a job that was killed need not compute them again. It may be deleted
    when the answers are kept. log: takes a line about the use of the machine. Raises ValueError for wrong settings.
    """
    section = predictor.checkpoint.architecture.encoder
    has_frames = isinstance(section, FramesSection)
    source = feature_source(predictor, section, hash_content=store is not None) if has_frames else None
    plan = settings.plan(len(files))
    made_by = predictor.checkpoint.features_made_by(predictor.device) if parts else None
    core = CoreThread(predictor, predictor.clock.rate, store)
    kept = (parts, json.dumps(made_by, sort_keys=True)) if parts and made_by else None
    return FileAnswers(core, Feeder(files, source, core, plan, pool, kept, log))


def answer_file(path: Path, predictor: Predictor) -> Answer:
    """The answer for one file, by a worker of its own."""
    with answer_files([InputFile(path, str(path))], predictor) as answers:
        return next(answers).answer


def extract_files(
    files: Sequence[InputFile],
    source: FeatureSource,
    store: FeatureStore | None,
    settings: EngineSettings = EngineSettings(),  # noqa: B008
    *,
    log: Callable[[str], None] = no_log,
) -> FileAnswers:
    """The same for videos, without core and heads: the answers have no predictions.

    store: gets the features; without one the answers have them.
    """
    plan = settings.plan(len(files))
    core = CoreThread(None, source.decode.rate, store)
    parts = None if store is None else (store.folder / "parts", store.made_by)
    return FileAnswers(core, Feeder(files, source, core, plan, None, parts, log))


def feature_source(predictor: Predictor, section: FramesSection, *, hash_content: bool = False) -> FeatureSource:
    """How a predictor turns videos into features. section: its encoder."""
    decode = decode_settings(section, predictor.clock.rate, hash_content=hash_content)
    return FeatureSource(decode, predictor.take_requests, predictor.give_requests_back)


def decode_settings(section: FramesSection, rate: float, *, hash_content: bool) -> DecodeSettings:
    """How workers decode for a model. hash_content: also hash the files, for the feature store."""
    return DecodeSettings(rate, section.size, section.resize, section.decoder, hash_content)
