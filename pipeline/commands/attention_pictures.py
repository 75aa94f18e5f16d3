"""Images of the attention weights of captions, beside the answers.

In: answers, one at a time. Out: a PNG for each video and caption head. It decodes the video again, for the few frames
that the image shows. Knows nothing of rows or formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.atomic import write_atomic
from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.inference.answer import Answer
from pipeline.media.decode import Backend, decode
from pipeline.media.folder import InputFile
from pipeline.media.transform import Transform
from pipeline.models.prediction import Description
from pipeline.writers.attention_image import CELL_SIZE, draw_attention, group_looks
from pipeline.writers.output_names import UniqueNames, file_system_key, safe_path


class AttentionPictures:
    """Writes `folder/<video>.<head>.png` for each answer. The names depend on the inputs, not on the order of answers.

    Raises ModelError for a model that reads no frames, or has no caption head.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint, files: Sequence[InputFile]) -> None:
        encoder = checkpoint.architecture.encoder
        kinds = [head.kind for head in checkpoint.architecture.heads.values()]
        if encoder.kind != "frames" or "caption" not in kinds:
            raise ModelError(
                f"There is no attention to draw: this model reads {encoder.kind} and has heads of kind "
                f"{', '.join(kinds)}. Use a model that reads frames and has a head of kind caption."
            )
        self.folder, self._clock = folder, checkpoint.architecture.clock.build()
        self._backend: Backend = encoder.decoder
        self._transform = Transform(2 * CELL_SIZE, encoder.resize)
        names = UniqueNames(file_system_key)
        self._names = {file.name: names.assign(safe_path(file.name, reserved=(".png",))) for file in files}

    def __call__(self, file: InputFile, answer: Answer) -> None:
        """Draw the attention weights of one video's sentences."""
        name = self._names[file.name]
        for head, prediction in answer.predictions.items():
            if not isinstance(prediction, Description) or not prediction.weights or not prediction.weights[0]:
                continue
            middle_looks = [int(looks[len(looks) // 2]) for looks in group_looks(len(prediction.weights[0]))]
            image = draw_attention(self._frames(file.path, middle_looks), prediction.tokens, prediction.weights)
            path = self.folder / f"{name}.{head}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())

    def _frames(self, path: Path, looks: list[int]) -> np.ndarray:
        """The frames (N, S, S, 3) of these looks, which are in increasing order."""
        frames, first = [], 0
        for clip in decode(path, clock=self._clock, transform=self._transform, backend=self._backend):
            frames += [clip.frames[look - first] for look in looks if first <= look < first + len(clip.frames)]
            first += len(clip.frames)
        return np.stack(frames)
