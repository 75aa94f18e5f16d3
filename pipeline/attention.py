"""Pictures of what the words of captions looked at, beside the answers.

In: answers, one at a time. Out: a PNG for each video and head that captions. It decodes the video again, for the few frames that the
picture shows. Knows nothing of rows or formats.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.inference.predictor import Answer
from pipeline.media.decode import Backend, decode
from pipeline.media.folder import Found
from pipeline.media.transform import Transform
from pipeline.models.prediction import Description
from pipeline.whole import write_whole
from pipeline.writers.attention import CELL, attention_picture, columns
from pipeline.writers.names import Names, as_file, safe


class AttentionPictures:
    """`folder/<video>.<head>.png`. Raises ModelError for a model that has no videos to look at, or no head that captions."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        encoder = checkpoint.recipe.encoder
        if encoder.kind != "frames" or not any(h.kind == "caption" for h in checkpoint.recipe.heads.values()):
            kinds = ", ".join(h.kind for h in checkpoint.recipe.heads.values())
            raise ModelError(
                f"There is no attention to draw: this model reads {encoder.kind} and has heads of kind {kinds}. It takes frames "
                "and a head of kind caption."
            )
        self.folder, self._clock = folder, checkpoint.recipe.clock.build()
        self._backend: Backend = encoder.decoder
        self._transform = Transform(2 * CELL, encoder.fit)
        self._names = Names(as_file)

    def __call__(self, one: Found, answer: Answer) -> None:
        """Draw one video's sentences."""
        name = self._names.of(safe(one.name, reserved=(".png",)))
        for head, said in answer.predictions.items():
            if not isinstance(said, Description) or not said.weights or not said.weights[0]:
                continue
            wanted = [int(part[len(part) // 2]) for part in columns(len(said.weights[0]))]
            picture = attention_picture(self._frames(one.path, wanted), said.tokens, said.weights)
            path = self.folder / f"{name}.{head}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())

    def _frames(self, path: Path, wanted: list[int]) -> np.ndarray:
        """The looks of these numbers."""
        kept, first = [], 0
        for clip in decode(path, clock=self._clock, transform=self._transform, backend=self._backend):
            kept += [clip.frames[i - first] for i in wanted if first <= i < first + len(clip.frames)]
            first += len(clip.frames)
        return np.stack(kept)
