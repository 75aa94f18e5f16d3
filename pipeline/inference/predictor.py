"""A trained model and one video (or text) -> what it says.

In: a checkpoint, a path. Out: an `Answer`: status, predictions, warnings. The video is watched in bounded windows with
the core's state carried from one to the next, so its length does not matter. Knows nothing of folders or formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.data.text import cut
from pipeline.data.words import Words
from pipeline.encoders.runtime import runtime_name
from pipeline.media.decode import decode
from pipeline.media.probe import MediaError
from pipeline.models.core import State
from pipeline.models.head import Describer
from pipeline.models.prediction import Prediction, Timeline
from pipeline.padded import stack
from pipeline.recipe import TOKENS

_PARTIAL = ("packet_errors", "truncated", "damaged_frames")


@dataclass(frozen=True)
class Answer:
    """status: ok, partial or failed:<reason>; seconds: watched; predictions: one a head, empty for a failure."""

    status: str
    seconds: float = 0.0
    looks: int = 0
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_failed(self) -> bool:
        """True where there is no answer."""
        return self.status.startswith("failed")


class Predictor:
    """Answers about videos and stored series (`watch`) or texts (`read`), one at a time."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint, self.device = checkpoint, device
        self.model = checkpoint.model.to(device).eval()
        recipe = checkpoint.recipe
        self.answering = [name for name, columns in recipe.columns().items() if columns]
        self.clock = recipe.clock.build()
        if recipe.encoder.kind == "frames":
            self.look = recipe.build_look(device, self.model.encoder.backbone)  # type: ignore[arg-type]

    def watch(self, path: Path) -> Answer:
        """Decode, look and answer. A file that cannot be read gives a failed answer, not an exception."""
        recipe = self.checkpoint.recipe
        section = recipe.encoder
        if section.kind == "tokens":
            return Answer("failed:not_a_text", error=f"'{path}' was given as a video, and this model reads texts.")
        if section.kind != "frames":
            return self._series(path)
        warnings: tuple[str, ...] = ()
        last = 0.0

        def windows() -> Iterator[np.ndarray]:
            nonlocal warnings, last
            for clip in decode(path, clock=self.clock, transform=section.transform(), backend=section.decoder):
                warnings, last = clip.warnings, float(clip.times[-1])
                yield self.look(clip.frames).astype(np.float16)  # as stored for training

        try:
            predictions, looks = self._fold("frames", windows())
        except MediaError as error:
            return Answer(error.status, error=str(error))
        except OSError as error:
            return Answer("failed:unreadable", error=f"'{path}' cannot be read: {error.strerror or error}.")
        status = "partial" if any(w.startswith(_PARTIAL) for w in warnings) else "ok"
        return Answer(status, last + 1.0 / self.clock.rate, looks, predictions, warnings)

    def _series(self, path: Path) -> Answer:
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return Answer("failed:not_a_series", error=f"'{path}' is no .npy file: {error}.")
        wanted = self.checkpoint.input_size
        if values.ndim != 2 or values.shape[1] != wanted or values.dtype.kind not in "fiu":
            return Answer(
                "failed:wrong_shape",
                error=f"'{path}' holds {values.dtype} {values.shape}. This model wants numbers of shape (T, {wanted}).",
            )
        predictions, looks = self._fold("series", iter([values.astype(np.float32)]))
        return Answer("ok", looks / self.clock.rate, looks, predictions)

    def read(self, text: str) -> Answer:
        """Answer about a text, whose tokens count as seconds."""
        section, words = self.checkpoint.recipe.encoder, self.checkpoint.vocabularies[TOKENS]
        assert section.kind == "tokens" and isinstance(words, Words)
        predictions, looks = self._fold("tokens", iter([cut(text, words, section.ends)]))
        return Answer("ok", float(looks), looks, predictions)

    @torch.inference_mode()
    def _fold(self, sense: str, windows: Iterator[np.ndarray]) -> tuple[dict[str, Prediction], int]:
        state: State | None = None
        memories: dict[str, Any] = {}
        kept: list[np.ndarray] = []
        looks = 0
        for window in windows if self.model.core.is_causal else ():
            state = self._observe(sense, window, state, memories)
            looks += len(window)
        if not self.model.core.is_causal:  # it reads the end first: features of the whole, not pixels, are kept
            kept = list(windows)
            looks = sum(map(len, kept))
            self._observe(sense, np.concatenate(kept), None, memories)
        return self._answers(memories), looks

    def _answers(self, memories: Mapping[str, Any]) -> dict[str, Prediction]:
        """What every head says; those that describe the spans of another one come after it."""
        found = {
            name: self.model.head(name).answer(memory)[0] for name, memory in memories.items() if not self._waits(name)
        }
        for name in (name for name in memories if self._waits(name)):
            head = self.model.head(name)
            assert isinstance(head, Describer) and head.describes is not None
            spans = found[head.describes]
            assert isinstance(spans, Timeline)
            found[name] = head.describe(memories[name], spans.spans)
        return {name: found[name] for name in memories}

    def _waits(self, name: str) -> bool:
        head = self.model.head(name)
        return isinstance(head, Describer) and head.describes is not None

    def _observe(self, sense: str, window: np.ndarray, state: State | None, memories: dict[str, Any]) -> State:
        seen = self.model.watch({sense: stack([torch.from_numpy(window)]).to(self.device)}, state)
        for name in self.answering:
            memories[name] = self.model.head(name).observe(seen, memories.get(name))
        return seen.state


def answering_threads(checkpoint: Checkpoint) -> int:
    """One for the core alone (two wait for each other at every step: 4 times slower on a busy machine), all of them where
    torch runs the CNN on the CPU.
    """
    encoder = checkpoint.recipe.encoder
    is_cnn_ours = encoder.kind == "frames" and runtime_name(encoder.runtime, torch.device("cpu")).startswith("torch")
    return 0 if is_cnn_ours else 1
