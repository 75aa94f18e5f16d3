"""A trained model and one video, series or text -> its answer.

In: a checkpoint, and features, a series or a text. Out: an `Answer`. The model reads a video in bounded windows and
carries the state of the core from one to the next, so the length does not matter. Knows nothing of workers, folders or
formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config.architecture import TOKENS
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import Tokenizer
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.cnn_runtime import FeatureExtractor, FeatureRequests, runtime_name
from pipeline.encoders.frames import FramesEncoder
from pipeline.inference.answer import Answer
from pipeline.media.clip import is_partial
from pipeline.models.head import SpanDescriber
from pipeline.models.prediction import Prediction, Timeline
from pipeline.models.recurrent.core import State
from pipeline.padded import stack

WINDOW = 64
"""Looks of a video that the core reads at once. Windows begin at its multiples, so no bit of an answer depends on how
the features arrive: one by one, in batches, or from the feature store."""


class Predictor:
    """Answers for stored series and texts, and for videos from their features; `engine.answer_files` decodes videos.

    A model that reads frames has a frozen CNN: `extractor` as a function, `take_requests` for a folder job.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint, self.device = checkpoint, device
        self.model = checkpoint.model.to(device).eval()
        architecture = checkpoint.architecture
        self.answering_heads = [name for name, fields in architecture.columns().items() if fields]
        self.clock = architecture.clock.build()
        self._idle_requests: list[FeatureRequests] = []

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The frozen CNN as a function: pixels uint8 (N, S, S, 3) -> features float32 (N, D)."""
        return self.checkpoint.architecture.build_feature_extractor(self.device, self._backbone)

    def take_requests(self) -> FeatureRequests:
        """The frozen CNN for a folder job, which has it alone until `give_requests_back`."""
        if self._idle_requests:
            return self._idle_requests.pop()
        return self.checkpoint.architecture.build_feature_requests(self.device, self._backbone)

    def give_requests_back(self, requests: FeatureRequests) -> None:
        """The job needs the CNN no longer; the next job need not compile it again."""
        self._idle_requests.append(requests)

    @property
    def _backbone(self) -> Backbone:
        encoder = self.model.encoder
        assert isinstance(encoder, FramesEncoder), "only an encoder of frames has a CNN"
        return encoder.backbone

    def predict_text(self, text: str) -> Answer:
        """The answer for a text. A token counts as a second."""
        section, tokenizer = self.checkpoint.architecture.encoder, self.checkpoint.vocabularies[TOKENS]
        assert section.kind == "tokens" and isinstance(tokenizer, Tokenizer)
        tokens = encode_text(text, tokenizer, section.add_bos_eos)
        return Answer("ok", float(len(tokens)), len(tokens), self.predict_sequence("tokens", tokens))

    def predict_sequence(self, sense: str, values: np.ndarray) -> dict[str, Prediction]:
        """The predictions of all heads for one whole sequence (T, ...), read at once."""
        sequence = SequencePredictor(self, sense, None)
        sequence.add(values)
        return sequence.finish()

    def predict_series(self, path: Path) -> Answer:
        """The answer for a stored series (.npy). A file that holds none gives a failed answer."""
        if self.checkpoint.architecture.encoder.kind != "series":
            sentence = f"'{path}' was given as a video, and this model reads texts."
            return Answer("failed:not_a_text", error=sentence, path=str(path))
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return Answer("failed:not_a_series", error=f"'{path}' is no .npy file: {error}.", path=str(path))
        width = self.checkpoint.input_size
        if values.ndim != 2 or values.shape[1] != width or values.dtype.kind not in "fiu":
            sentence = f"'{path}' has {values.dtype} {values.shape}. This model reads numbers of shape (T, {width})."
            return Answer("failed:wrong_shape", error=sentence, path=str(path))
        predictions = self.predict_sequence("series", values.astype(np.float32))
        return Answer("ok", len(values) / self.clock.rate, len(values), predictions, path=str(path))

    def video_answer(
        self, sequence: SequencePredictor, last_look: float, warnings: tuple[str, ...], path: str
    ) -> Answer:
        """The answer for a video whose features were all added. last_look: its time in seconds."""
        predictions = sequence.finish()
        status = "partial" if is_partial(warnings) else "ok"
        return Answer(status, last_look + 1.0 / self.clock.rate, sequence.looks, predictions, warnings, path=path)


class SequencePredictor:
    """Reads the features of one sequence in order, and ends with the predictions of all heads.

    The core reads windows of a fixed length that begin at its multiples, whatever the lengths of the pieces that are
    added. A bidirectional core reads the end first, so it reads all at once in `finish`, and the features of the whole
    sequence are kept until then: 10 KB a look for 5,120 numbers, 0.4 GB for 3 hours at 4 looks a second.

    window: looks a window; None: the whole sequence is one.
    """

    def __init__(self, predictor: Predictor, sense: str, window: int | None = WINDOW) -> None:
        self.predictor, self.sense = predictor, sense
        self.window = window if predictor.model.core.is_causal else None
        self.looks = 0
        self._state: State | None = None
        self._memories: dict[str, Any] = {}
        self._pieces: list[np.ndarray] = []  # what no window has yet
        self._num_pending = 0

    def add(self, features: np.ndarray) -> None:
        """Read the next looks (T, ...), T of any length."""
        self.looks += len(features)
        self._pieces.append(features)
        self._num_pending += len(features)
        if self.window is None or self._num_pending < self.window:
            return
        pending = self._take_pending()
        whole = len(pending) - len(pending) % self.window
        for start in range(0, whole, self.window):
            self._observe(pending[start : start + self.window])
        if whole < len(pending):
            self._pieces, self._num_pending = [pending[whole:]], len(pending) - whole

    def finish(self) -> dict[str, Prediction]:
        """The predictions of all heads; none where nothing was added."""
        if self._pieces:
            self._observe(self._take_pending())
        with _one_thread(self.predictor.device):
            return self._answer()

    def _take_pending(self) -> np.ndarray:
        pieces, self._pieces, self._num_pending = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _observe(self, window: np.ndarray) -> None:
        """Pass one window through the model. Updates the state and the memories."""
        model = self.predictor.model
        with torch.inference_mode(), _one_thread(self.predictor.device):
            raw = {self.sense: stack([torch.from_numpy(window)]).to(self.predictor.device)}
            output = model.watch(raw, self._state)
            for name in self.predictor.answering_heads:
                self._memories[name] = model.head(name).observe(output, self._memories.get(name))
            self._state = output.state if model.core.is_causal else None

    @torch.inference_mode()
    def _answer(self) -> dict[str, Prediction]:
        """The prediction of every head; those that describe the spans of another head come after it."""
        memories, predictions = self._memories, dict[str, Prediction]()
        for name in sorted(memories, key=self._describes_spans):  # stable: False before True
            head = self.predictor.model.head(name)
            if isinstance(head, SpanDescriber) and head.segment_head is not None:
                timeline = predictions[head.segment_head]
                assert isinstance(timeline, Timeline)
                predictions[name] = head.describe(memories[name], timeline.spans)
            else:
                predictions[name] = head.answer(memories[name])[0]
        return {name: predictions[name] for name in memories}

    def _describes_spans(self, name: str) -> bool:
        head = self.predictor.model.head(name)
        return isinstance(head, SpanDescriber) and head.segment_head is not None


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU torch runs core and heads on one thread: two wait for each other at every step, and the last bits of a
    result depend on their number. The caller's number is put back.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answering_threads(checkpoint: Checkpoint) -> int:
    """How many CPU threads torch uses to answer; 0: all.

    One where torch runs the core alone: on a busy machine two threads wait for each other at every step, which is 4
    times slower. All where torch runs the CNN on the CPU.
    """
    encoder = checkpoint.architecture.encoder
    is_torch_cnn = encoder.kind == "frames" and runtime_name(encoder.runtime, torch.device("cpu")).startswith("torch")
    return 0 if is_torch_cnn else 1
