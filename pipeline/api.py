"""The Python API: load a model, answer for files and streams, read features, train.

In: paths, arrays and settings as plain values. Out: `Answer`s, rows, events and arrays. It prints nothing; a `log`
function gets the lines that the command line would print. Knows nothing of the command line.

    import unreel
    model = unreel.load("runs/videos")
    answer = model("clip.mp4")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint, load_model
from pipeline.commands import evaluate as evaluate_command
from pipeline.commands import train as train_command
from pipeline.commands.config import training_config
from pipeline.commands.watch import open_live
from pipeline.config.encoders import FramesSection
from pipeline.inference.answer import Answer
from pipeline.inference.engine import answer_files, extract_files, feature_source
from pipeline.inference.events import Event
from pipeline.inference.live_stream import live_events
from pipeline.inference.predictor import Predictor, answering_threads
from pipeline.inference.stream import Stream, check_can_stream
from pipeline.media.folder import FINDERS, Find, InputFile
from pipeline.media.sniff import MediaError
from pipeline.training.distributed import device_of

AnyPath = str | PathLike[str]
Log = Callable[[str], None]


def _no_log(line: str) -> None:
    """Drop the line."""


def load(path: AnyPath, *, device: str = "auto") -> Recogniser:
    """Load a trained model from the folder of its run, or from the model folder inside it. No code of the folder runs.

    device: "auto" (a CUDA device where there is one), "cpu", "cuda" or "cuda:1". Raises ModelError (a ValueError) for a
    folder that holds no model, or a damaged one; ConfigError (a ValueError) for a device that does not exist here.
    """
    return Recogniser(load_model(Path(path)), device_of(device))


class Recogniser:
    """A trained model that answers for videos, stored series or texts. Made by `load`.

    device, rate, heads, classes, settings and module say what it is. It is called with a path: see `__call__`.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self._predictor = Predictor(checkpoint, device)
        self._threads = answering_threads(checkpoint)

    @property
    def device(self) -> str:
        """The device as text, such as "cpu" or "cuda:0"."""
        return str(self._predictor.device)

    @property
    def rate(self) -> float:
        """Looks a second: how many frames of each second the model sees."""
        return self._checkpoint.architecture.clock.rate

    @property
    def heads(self) -> dict[str, str]:
        """The kind of each head by its name, such as {"action": "classify"}."""
        return {name: section.kind for name, section in self._checkpoint.architecture.heads.items()}

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The class names of each head that has classes."""
        from pipeline.data.vocabulary import Vocabulary

        known = self._checkpoint.vocabularies.items()
        return {name: names.names for name, names in known if isinstance(names, Vocabulary) and names.names}

    @property
    def settings(self) -> dict[str, Any]:
        """The architecture of the model as plain values: clock, encoder, core and heads."""
        return self._checkpoint.architecture.model_dump(mode="json")

    @property
    def module(self) -> torch.nn.Module:
        """The `Model` (encoder, core and heads) in evaluation mode, for those who work with torch."""
        return self._predictor.model

    def __call__(self, source: AnyPath) -> Answer:
        """The answer for one file; for a model of texts, the answer for this text.

        A file that cannot be read gives an answer with `is_failed` and `error`, not an exception. Raises ValueError for
        a folder: `predict` answers for many files.
        """
        if self._reads_texts:
            with _threads(self._threads):
                return self._predictor.predict_text(fspath(source))
        files = self._find([fspath(source)], False, _no_log)
        if len(files) != 1:
            raise ValueError(
                f"'{fspath(source)}' holds {len(files)} files, and a call answers for one. Use model.predict for "
                "folders, globs and lists."
            )
        file = replace(files[0], name=fspath(source))
        with _threads(self._threads), answer_files([file], self._predictor) as answers:
            return next(answers).answer

    def predict(
        self,
        sources: AnyPath | Sequence[AnyPath],
        *,
        top: int = 5,
        follow_links: bool = False,
        log: Log = _no_log,
    ) -> Iterator[dict[str, Any]]:
        """A row (plain values) for every file in folders, globs, lists and files, in order.

        Several files are read at the same time, so the rows come as soon as all files before them are answered.
        For a model of texts the sources are text files; each line gives a row. top: how many classes a row lists.
        follow_links: also read what links in a folder lead to outside of it. log: takes a line about what is left out.
        """
        listed = [sources] if isinstance(sources, str | PathLike) else list(sources)
        files = self._find([fspath(one) for one in listed], follow_links, log)
        early: dict[str, Answer] = {}  # answers that are known before those of the files before them
        with _threads(self._threads):
            answers = answer_files(files, self._predictor)
        with answers:
            for file in files:
                while file.name not in early:
                    one = next(answers)
                    early[one.file.name] = one.answer
                yield early.pop(file.name).to_dict(top)

    def features(self, path: AnyPath) -> tuple[np.ndarray, np.ndarray]:
        """What the frozen CNN computes for a video: times (T,) in seconds and features (T, D) float32.

        Raises ValueError for a model that reads no frames; MediaError (a ValueError) for a file that cannot be decoded.
        """
        section = self._checkpoint.architecture.encoder
        if not isinstance(section, FramesSection):
            raise ValueError(
                f"This model reads {section.kind}, and features are computed from frames. Load a model whose "
                "encoder.kind is frames."
            )
        file, source = InputFile(Path(path), fspath(path)), feature_source(self._predictor, section)
        with _threads(self._threads), extract_files([file], source, None) as answers:
            one = next(answers)
        if one.features is None:
            raise MediaError(one.answer.status, one.answer.error)
        return one.features.times, one.features.values.astype(np.float32)

    def stream(
        self,
        source: AnyPath | int,
        *,
        lag_seconds: float = 1.0,
        smooth_seconds: float = 2.0,
        update_seconds: float = 1.0,
        threshold: float = 0.0,
        probabilities: bool = False,
        top: int = 5,
    ) -> Iterator[Event]:
        """The events of a file, a camera (its index) or an address, while they happen; see `unreel watch --help`.

        The source is decoded in another process, which ends with the iterator. Raises ModelError for a model that
        cannot stream: a bidirectional core reads the end first, and some heads answer only about the whole.
        """
        check_can_stream(self._checkpoint, needs_frames=True)
        stream = Stream(
            self._checkpoint,
            self._predictor.device,
            lag_seconds=lag_seconds,
            smooth_seconds=smooth_seconds,
            update_seconds=update_seconds,
            threshold=threshold,
            top=top,
            probabilities=probabilities,
        )
        with open_live(str(source) if isinstance(source, int) else fspath(source), stream) as live:
            events = live_events(live, stream)
            while True:
                with _threads(self._threads):
                    event = next(events, None)
                if event is None:
                    return
                yield event

    @property
    def _find(self) -> Find:
        """How the inputs of this model are found."""
        return FINDERS[self._checkpoint.architecture.encoder.kind]

    @property
    def _reads_texts(self) -> bool:
        return self._checkpoint.architecture.encoder.kind == "tokens"

    def __repr__(self) -> str:
        architecture = self._checkpoint.architecture
        core = architecture.core
        direction = ", both directions" if core.bidirectional else ""
        layers = f"{core.layers} layer{'s' if core.layers != 1 else ''}"
        lines = [
            f"Recogniser on {self.device}",
            f"  encoder: {architecture.encoder.kind}, {self.rate:g} looks a second",
            f"  core:    {core.cell}, {layers} of {core.hidden} units{direction}",
        ]
        for name, kind in self.heads.items():
            names = self.classes.get(name, ())
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            lines.append(f"  head:    {name} ({kind})" + (f", {len(names)} classes: {shown}" if names else ""))
        return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """A finished run. folder: where its files lie. report: what was measured (report.json as plain values)."""

    folder: Path
    report: dict[str, Any]

    def load(self, *, device: str = "auto") -> Recogniser:
        """The trained model of this run."""
        return load(self.folder, device=device)

    def __repr__(self) -> str:
        first = next((row for row in self.report["rows"] if row["order"] == "forward"), None)
        if first is None:
            return f"Run({str(self.folder)!r}: nothing was measured, because there is no test split)"
        name, value = next((key, value) for key, value in first.items() if isinstance(value, float))
        return f"Run({str(self.folder)!r}: {name} {value:.3f} on {first['count']} test rows)"


def train(source: AnyPath, *overrides: str, fresh: bool = False, log: Log = _no_log) -> Run:
    """Train by a config, a manifest or a folder of class folders, as `unreel train` does; an interrupted run goes on.

    overrides: settings as "key=value", such as "core.cell=lstm". fresh: start over where the run's folder holds a run.
    log: gets the lines that the command would print. Raises ConfigError, ManifestError, LeakError (all are ValueErrors)
    for what the user can correct; FolderLocked (a RuntimeError) where another training uses the run's folder.
    """
    with _threads(torch.get_num_threads()):
        finished = train_command.train(training_config(fspath(source), overrides, log), log, fresh=fresh)
    return Run(finished.folder, finished.report)


def evaluate(run: AnyPath, *overrides: str, log: Log = _no_log) -> Run:
    """Measure the model of a run again, on its own test split or, by overrides, on other data (`unreel evaluate`)."""
    with _threads(torch.get_num_threads()):
        finished = evaluate_command.evaluate(Path(run), list(overrides), log)
    return Run(finished.folder, finished.report)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads (0: as many as before), and put the caller's number back."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
