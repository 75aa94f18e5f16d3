"""A trained model and one video, series or text -> its answer.

In: a checkpoint, a path or a text. Out: an `Answer`. The model reads the input in bounded windows and carries the state
of the core from one to the next, so the length does not matter. Knows nothing of folders or formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config.architecture import TOKENS
from pipeline.config.encoders import FramesSection
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import Tokenizer
from pipeline.encoders.cnn_runtime import runtime_name
from pipeline.inference.answer import Answer
from pipeline.media.clip import is_partial
from pipeline.media.decode import decode
from pipeline.media.sniff import MediaError
from pipeline.models.head import SpanDescriber
from pipeline.models.prediction import Prediction, Timeline
from pipeline.models.recurrent.core import State
from pipeline.padded import stack


class Predictor:
    """Answers for videos and stored series (`predict_file`) or for texts (`predict_text`), one at a time.

    extractor: the frozen CNN, pixels uint8 (N, S, S, 3) -> features float32 (N, D), of a model that reads frames.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint, self.device = checkpoint, device
        self.model = checkpoint.model.to(device).eval()
        architecture = checkpoint.architecture
        self.answering_heads = [name for name, fields in architecture.columns().items() if fields]
        self.clock = architecture.clock.build()
        if architecture.encoder.kind == "frames":
            backbone = self.model.encoder.backbone
            self.extractor = architecture.build_feature_extractor(device, backbone)  # type: ignore[arg-type]

    def predict_file(self, path: Path) -> Answer:
        """The answer for a video or a stored series (.npy). A file that cannot be read gives a failed answer."""
        section = self.checkpoint.architecture.encoder
        if section.kind == "frames":
            return self._predict_video(path, section)
        if section.kind == "series":
            return self._predict_series(path)
        sentence = f"'{path}' was given as a video, and this model reads texts."
        return Answer("failed:not_a_text", error=sentence, path=str(path))

    def predict_text(self, text: str) -> Answer:
        """The answer for a text. A token counts as a second."""
        section, tokenizer = self.checkpoint.architecture.encoder, self.checkpoint.vocabularies[TOKENS]
        assert section.kind == "tokens" and isinstance(tokenizer, Tokenizer)
        predictions, looks = self._predict("tokens", iter([encode_text(text, tokenizer, section.add_bos_eos)]))
        return Answer("ok", float(looks), looks, predictions)

    def _predict_video(self, path: Path, section: FramesSection) -> Answer:
        warnings: tuple[str, ...] = ()
        last_look = 0.0

        def windows() -> Iterator[np.ndarray]:
            nonlocal warnings, last_look
            for clip in decode(path, clock=self.clock, transform=section.transform(), backend=section.decoder):
                warnings, last_look = clip.warnings, float(clip.times[-1])
                yield self.extractor(clip.frames).astype(np.float16)  # as stored for training

        try:
            predictions, looks = self._predict("frames", windows())
        except MediaError as error:
            return Answer(error.status, error=str(error), path=str(path))
        except OSError as error:
            sentence = f"'{path}' cannot be read: {error.strerror or error}."
            return Answer("failed:unreadable", error=sentence, path=str(path))
        status = "partial" if is_partial(warnings) else "ok"
        return Answer(status, last_look + 1.0 / self.clock.rate, looks, predictions, warnings, path=str(path))

    def _predict_series(self, path: Path) -> Answer:
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return Answer("failed:not_a_series", error=f"'{path}' is no .npy file: {error}.", path=str(path))
        width = self.checkpoint.input_size
        if values.ndim != 2 or values.shape[1] != width or values.dtype.kind not in "fiu":
            sentence = f"'{path}' has {values.dtype} {values.shape}. This model reads numbers of shape (T, {width})."
            return Answer("failed:wrong_shape", error=sentence, path=str(path))
        predictions, looks = self._predict("series", iter([values.astype(np.float32)]))
        return Answer("ok", looks / self.clock.rate, looks, predictions, path=str(path))

    @torch.inference_mode()
    def _predict(self, sense: str, windows: Iterator[np.ndarray]) -> tuple[dict[str, Prediction], int]:
        """The predictions of all heads after windows (T, ...) of one sequence, and the number of looks."""
        state: State | None = None
        memories: dict[str, Any] = {}
        looks = 0
        if not self.model.core.is_causal:  # it reads the end first, so the features of the whole video are kept
            windows = iter([np.concatenate(list(windows))])
        for window in windows:
            state = self._observe(sense, window, state, memories)
            looks += len(window)
        return self._answer(memories), looks

    def _observe(self, sense: str, window: np.ndarray, state: State | None, memories: dict[str, Any]) -> State:
        """Pass one window through the model. Updates the memories and returns the state after it."""
        output = self.model.watch({sense: stack([torch.from_numpy(window)]).to(self.device)}, state)
        for name in self.answering_heads:
            memories[name] = self.model.head(name).observe(output, memories.get(name))
        return output.state

    def _answer(self, memories: Mapping[str, Any]) -> dict[str, Prediction]:
        """The prediction of every head; those that describe the spans of another head come after it."""
        predictions: dict[str, Prediction] = {}
        for name in sorted(memories, key=self._describes_spans):  # stable: False before True
            head = self.model.head(name)
            if isinstance(head, SpanDescriber) and head.segment_head is not None:
                timeline = predictions[head.segment_head]
                assert isinstance(timeline, Timeline)
                predictions[name] = head.describe(memories[name], timeline.spans)
            else:
                predictions[name] = head.answer(memories[name])[0]
        return {name: predictions[name] for name in memories}

    def _describes_spans(self, name: str) -> bool:
        head = self.model.head(name)
        return isinstance(head, SpanDescriber) and head.segment_head is not None


def answering_threads(checkpoint: Checkpoint) -> int:
    """How many CPU threads torch uses to answer; 0: all.

    One where torch runs the core alone: on a busy machine two threads wait for each other at every step, which is 4
    times slower. All where torch runs the CNN on the CPU.
    """
    encoder = checkpoint.architecture.encoder
    is_torch_cnn = encoder.kind == "frames" and runtime_name(encoder.runtime, torch.device("cpu")).startswith("torch")
    return 0 if is_torch_cnn else 1
