"""The configuration of a run: the architecture of the model, data, training, tracking and evaluation.

In: a YAML file and `key=value` overrides. Out: a `Config`, or a `ConfigError` that lists every mistake in sentences.
Knows nothing of how training or evaluation work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from pipeline.config.architecture import Architecture
from pipeline.config.base import Section, validate
from pipeline.config.data import DataSection
from pipeline.config.training import TrainingSection
from pipeline.config.yaml_files import apply_override, read_yaml
from pipeline.data.manifest_rows import normalised_name


class TrackingSection(Section):
    """Tracking with Weights & Biases, beside metrics.jsonl, which is always written."""

    wandb: Annotated[
        Literal["auto", "online", "offline", "off"],
        Field(description="auto: online when logged in and the server answers, else offline"),
    ] = "auto"
    project: Annotated[str, Field(min_length=1, description="project of W&B")] = "unreel"
    name: Annotated[str | None, Field(description="name of the run in W&B; null: the name of the run's folder")] = None
    tags: Annotated[tuple[str, ...], Field(description="tags of the run in W&B")] = ()
    upload_model: Annotated[bool, Field(description="also send the weights to W&B, as an artifact")] = False

    @field_validator("wandb", mode="before")
    @classmethod
    def _read_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false


class EvaluationSection(Section):
    """What is measured on the test split, for the table at the end of a run."""

    baselines: Annotated[bool, Field(description="also train and measure mean-pool baselines on the same features")] = (
        True
    )
    cross_calibrate: Annotated[
        bool,
        Field(
            description="without 10 validation rows, train three more models, each without a third of the groups, to "
            "calibrate heads of kind classify; false: their temperature is then 1"
        ),
    ] = True
    order_controls: Annotated[bool, Field(description="also measure with the steps reversed and shuffled")] = True
    pairs: Annotated[
        tuple[tuple[str, str], ...],
        Field(description="pairs of classes whose two-way accuracy is measured, [[a, b], ...]"),
    ] = ()
    unknown_classes: Annotated[
        tuple[str, ...],
        Field(
            description="classes that are not trained; measures whether their test rows are found unknown, [a, b, ...]"
        ),
    ] = ()

    @field_validator("pairs", "unknown_classes")
    @classmethod
    def _normalise_names(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        """Names as the labels of the rows are: without blanks around them, in Unicode's composed form."""
        return tuple(normalised_name(n) if isinstance(n, str) else tuple(map(normalised_name, n)) for n in names)


class Config(Architecture):
    """A run: the sections of `Architecture` make the model; the others say how it is trained and measured."""

    data: DataSection
    training: TrainingSection = TrainingSection()
    tracking: TrackingSection = TrackingSection()
    evaluation: EvaluationSection = EvaluationSection()
    run: Annotated[
        str | None,
        Field(description="folder of the run; null: runs/<data>-<config>, with fold and seed where they are not 0"),
    ] = None

    @model_validator(mode="after")
    def _check_tbptt(self) -> Config:
        if not self.training.tbptt:
            return self
        window = self.data.window
        if window is None:
            raise ValueError(
                "training.tbptt reads windows one after another, and data.window is null; set for example 256"
            )
        if self.core.bidirectional:
            raise ValueError(
                "training.tbptt carries the state from window to window, and a bidirectional core has no such state; "
                "set core.bidirectional: false"
            )
        if self.data.stride is not None:
            raise ValueError(
                "training.tbptt reads the windows of a row one after another, and data.stride makes each a sample by "
                "itself; leave one of them out"
            )
        if self.encoder.kind == "series" and window % self.encoder.patch:
            raise ValueError(
                f"data.window = {window} is no multiple of encoder.patch = {self.encoder.patch}, so carried windows "
                f"would lose steps; use {window // self.encoder.patch * self.encoder.patch or self.encoder.patch}"
            )
        return self

    @model_validator(mode="after")
    def _check_monitor(self) -> Config:
        name = (self.training.monitor or "").partition("/")[0]
        if name and name not in self.heads:
            raise ValueError(
                f"training.monitor = {self.training.monitor} names the head '{name}', which is none of this model; "
                f"the heads are {', '.join(self.heads)}"
            )
        return self

    @model_validator(mode="after")
    def _check_augmentation(self) -> Config:
        if self.encoder.kind != "series" and self.training.augment.mirror.is_active:
            raise ValueError(
                f"training.augment.mirror is for series, and encoder.kind = {self.encoder.kind} reads none; leave it "
                "out (crop, flip and colour change pixels)"
            )
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> Config:
        window = self.data.window
        if self.data.stride is not None and window is None:
            raise ValueError(
                f"data.stride = {self.data.stride} places windows, and data.window is null; give data.window as well"
            )
        for name, head in self.heads.items():
            if head.kind in ("caption", "transcribe") and window is not None:
                raise ValueError(
                    f"data.window = {window} is a part of a row, and the sentences of the head '{name}' are about the "
                    "whole row; set data.window: null"
                )
            if head.kind == "forecast" and window is not None and window < head.context + head.horizon:
                raise ValueError(
                    f"data.window = {window} holds no forecast of the head '{name}': its context of {head.context} and "
                    f"the {head.horizon} steps after it are {head.context + head.horizon}; give at least that"
                )
        return self

    @model_validator(mode="after")
    def _check_adversarial_heads(self) -> Config:
        trained_blocks = self.encoder.train_blocks if self.encoder.kind == "frames" else 0
        for name, head in self.heads.items():
            has_feature_critic = (head.kind == "generate" and head.makes == "features") or (
                head.kind == "forecast" and head.adversarial is not None
            )
            if trained_blocks and has_feature_critic:
                raise ValueError(
                    f"the head '{name}' has a critic of stored features, and encoder.train_blocks = {trained_blocks} "
                    "changes them; set encoder.train_blocks: 0"
                )
            if head.kind == "generate" and self.training.tbptt:
                raise ValueError(
                    "training.tbptt reads the windows of a row one after another, and the head "
                    f"'{name}' learns from single windows; leave it out"
                )
            if head.kind == "generate" and (head.makes == "frames") != (self.data.read == "pixels"):
                raise ValueError(
                    f"the head '{name}' makes {head.makes}, and data.read is {self.data.read}; frames are learned from "
                    "data.read: pixels, features and tokens from what is stored"
                )
        return self

    @property
    def architecture(self) -> Architecture:
        """The part that is stored with the model."""
        return Architecture(clock=self.clock, encoder=self.encoder, core=self.core, heads=self.heads)


def load_config(path: str | Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> Config:
    """The config in a YAML file (or `base`) with `key.sub=value` overrides, whose values are YAML too.

    Raises ConfigError.
    """
    values = dict(base or {})
    source = "the command line"
    if path is not None:
        source = str(path)
        values = read_yaml(find_config(Path(path)))
    for override in overrides:
        apply_override(values, override)
    return validate(Config, values, source)


def find_config(path: Path) -> Path:
    """The path itself where it exists, else the config of that name that comes with the package.

    The name may start with configs/ or not: "yoga6/action.yaml".
    """
    if path.exists():
        return path
    package = Path(__file__).resolve().parents[1]
    name = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for folder in (package.parent / "configs", package / "share" / "configs"):
        if (folder / name).is_file():
            return folder / name
    return path


def dump_config(config: Config) -> str:
    """The whole config as YAML, defaults written out; loading it gives the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
