"""The training section: the settings of the training loop and of the augmentation.

In: plain values. Out: validated settings, and the augmentation that they describe. Knows nothing of models or data.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Fraction, Positive, Section
from pipeline.data.augment import ClipAugment, SeriesMirror

Channel = Annotated[int, Field(ge=0)]


class MirrorSection(Section):
    """What a mirror does to the channels of a series, counted from 0. By default it does nothing."""

    swap: Annotated[
        tuple[tuple[Channel, Channel], ...],
        Field(description="pairs of channels that change places, [[left, right], ...]"),
    ] = ()
    negate: Annotated[
        tuple[Channel, ...], Field(description="channels that change sign, such as horizontal coordinates")
    ] = ()

    @property
    def is_active(self) -> bool:
        """Whether a mirror changes anything."""
        return bool(self.swap or self.negate)

    @model_validator(mode="after")
    def _check_involution(self) -> MirrorSection:
        """A mirror applied twice gives the series again."""
        for name, channels in (("swap", [c for pair in self.swap for c in pair]), ("negate", list(self.negate))):
            repeated = sorted(c for c, count in Counter(channels).items() if count > 1)
            if repeated:
                raise ValueError(f"{name} names channel {repeated[0]} twice; name each channel once")
        for first, second in self.swap:
            if (first in self.negate) != (second in self.negate):
                raise ValueError(
                    f"channels {first} and {second} change places and one of them alone changes sign, so a mirror's "
                    "mirror would not be the series again; negate both or neither"
                )
        return self


class AugmentSection(Section):
    """Random changes to training samples, drawn once per clip or series.

    Pixels are changed where the CNN learns (encoder.train_blocks > 0). Series are changed where a mirror is given.
    """

    crop: Annotated[
        float,
        Field(gt=0, le=1, description="pixels: smallest side of a random crop, as a share of the frame; 1: no crop"),
    ] = 0.85
    flip: Annotated[
        bool, Field(description="pixels: mirror half of the clips; wrong where left and right are different classes")
    ] = False
    colour: Annotated[
        float, Field(ge=0, le=1, description="pixels: strength of the changes in brightness, contrast and saturation")
    ] = 0.2
    mirror: Annotated[MirrorSection, Field(description="mirrors half of the series")] = MirrorSection()

    def build(self) -> ClipAugment:
        """The augmentation of pixels; it changes all frames of a clip alike."""
        return ClipAugment(crop=self.crop, flip=self.flip, colour=self.colour)

    def build_series(self, width: int) -> SeriesMirror | None:
        """The augmentation of series (T, width), or None where no mirror is given."""
        if not self.mirror.is_active:
            return None
        return SeriesMirror(width=width, swap=self.mirror.swap, negate=self.mirror.negate)


class TrainingSection(Section):
    """The settings of the training loop."""

    init_from: Annotated[
        str | None,
        Field(description="a finished run or model folder whose weights and vocabularies training starts from"),
    ] = None
    epochs: Annotated[Positive, Field(description="passes over the training rows")] = 30
    batch_size: Annotated[int, Field(gt=0, description="samples of a step, over all processes together")] = 16
    lr: Annotated[float, Field(gt=0, description="the largest learning rate of AdamW")] = 1e-3
    backbone_lr_factor: Annotated[float, Field(gt=0, description="factor on lr for the weights of the CNN")] = 0.1
    weight_decay: Annotated[float, Field(ge=0, description="weight decay of AdamW")] = 0.01
    warmup: Annotated[
        Fraction, Field(description="share of all steps in which lr rises linearly; a cosine to zero follows")
    ] = 0.1
    grad_clip: Annotated[float, Field(gt=0, description="largest norm of the gradient")] = 1.0
    betas: Annotated[
        tuple[Fraction, Fraction],
        Field(description="decay of Adam's averages of the gradient and of its square; [0, 0.99] for a GAN"),
    ] = (0.9, 0.999)
    critic_lr_factor: Annotated[float, Field(gt=0, description="factor on lr for the weights of a critic")] = 1.0
    sample_every: Annotated[
        int, Field(gt=0, description="steps between the samples that a generate head writes during training")
    ] = 200
    tbptt: Annotated[
        bool,
        Field(description="truncated back-propagation through time: read each row in windows and carry the state"),
    ] = False
    precision: Annotated[
        Literal["auto", "float32", "bf16"], Field(description="auto: bf16 on a GPU that supports it, else float32")
    ] = "auto"
    patience: Annotated[
        Positive | None, Field(description="stop after so many epochs without a better validation score; null: never")
    ] = None
    monitor: Annotated[
        str | None,
        Field(
            pattern="^[^/]+/[^/]+$",
            description="head/metric that chooses the best epoch; null: the metric that the first head monitors",
        ),
    ] = None
    save_every: Annotated[int, Field(gt=0, description="steps between saved states to resume from")] = 200
    keep_state: Annotated[
        bool, Field(description="keep resume.pt, which is large, when the run has finished; nothing needs it then")
    ] = False
    log_every: Annotated[int, Field(gt=0, description="steps between rows of metrics.jsonl")] = 10
    threads: Annotated[int, Field(ge=0, description="CPU threads; 0: one where the CNN is frozen, else all")] = 0
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1, ...")] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**31, description="seed of all random numbers of the training")] = 0
    augment: AugmentSection = AugmentSection()
