"""The whole run on one page: recipe, data, training, tracking.

In: a YAML file and `key=value` overrides. Out: a `Config`, or a `ConfigError` that lists every mistake in sentences.
Knows nothing of how any of it is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from pipeline.recipe import Recipe
from pipeline.section import ConfigError, Fraction, Positive, Section, near, validate
from pipeline.training.augment import ClipAugment, SeriesMirror
from pipeline.training.fit import Plan

Channel = Annotated[int, Field(ge=0)]


class DataSection(Section):
    """Which videos, and which of them train, choose and test."""

    path: Annotated[str, Field(min_length=1, description="a manifest (.csv, .jsonl) or a folder of class folders")]
    root: Annotated[str | None, Field(description="where the manifest's paths start; its own folder by default")] = None
    split: Annotated[
        Literal["manifest", "group", "folds", "random", "random_ignoring_groups", "none"],
        Field(description="where the test part comes from, the same for every seed; none trains on all rows"),
    ] = "manifest"
    test: Annotated[Fraction, Field(description="share of the test part for group and random splits")] = 0.25
    folds: Annotated[int, Field(ge=2)] = 4
    fold: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[
        Fraction, Field(description="share of the training groups that chooses the best epoch; 0 keeps the last")
    ] = 0.15
    window: Annotated[
        Positive | None, Field(description="training sees at most so many looks of a video at a time")
    ] = 64
    stride: Annotated[
        Positive | None,
        Field(
            description="each window that starts at a multiple of it is a sample, in testing too; none draws one a row"
        ),
    ] = None
    read: Annotated[
        Literal["auto", "features", "pixels"],
        Field(description="auto: stored features where the CNN is frozen, else pixels"),
    ] = "auto"
    features: Annotated[str, Field(description="the feature store's folder")] = "runs/features"
    workers: Annotated[int, Field(ge=0, description="processes that load samples")] = 0
    failed: Annotated[
        Literal["skip", "stop"],
        Field(description="what a video that cannot be read does to training; skipped ones are named"),
    ] = "skip"


class MirrorSection(Section):
    """What a mirror does to the channels of a series, counted from 0; nothing by default."""

    swap: Annotated[
        tuple[tuple[Channel, Channel], ...], Field(description="channels that change places, [[left, right], ...]")
    ] = ()
    negate: Annotated[
        tuple[Channel, ...], Field(description="channels that change sign: what counts to the left or to the right")
    ] = ()

    @property
    def changes_something(self) -> bool:
        """Whether a mirror is asked for."""
        return bool(self.swap or self.negate)

    @model_validator(mode="after")
    def _twice_is_once_more(self) -> MirrorSection:
        for what, channels in (("swap", [c for pair in self.swap for c in pair]), ("negate", list(self.negate))):
            twice = sorted(c for c, count in Counter(channels).items() if count > 1)
            if twice:
                raise ValueError(f"{what} names channel {twice[0]} twice; name each channel once")
        for one, other in self.swap:
            if (one in self.negate) != (other in self.negate):
                raise ValueError(
                    f"channels {one} and {other} change places and one of them alone changes sign, so a mirror's mirror "
                    "would not be the series again; negate both or neither"
                )
        return self


class AugmentSection(Section):
    """Changes to training samples, drawn once a clip or a series: to pixels where the CNN learns (encoder.train_blocks > 0),
    and to series.
    """

    crop: Annotated[
        float, Field(gt=0, le=1, description="pixels: smallest side of a random crop, as a share; 1 is off")
    ] = 0.85
    flip: Annotated[bool, Field(description="pixels: mirror half of the clips; wrong where left and right matter")] = (
        False
    )
    colour: Annotated[
        float, Field(ge=0, le=1, description="pixels: strength of brightness, contrast and saturation changes")
    ] = 0.2
    mirror: Annotated[MirrorSection, Field(description="series: half of them are mirrored")] = MirrorSection()

    def build(self) -> ClipAugment:
        """The clip-consistent augmentation of pixels."""
        return ClipAugment(crop=self.crop, flip=self.flip, colour=self.colour)

    def build_series(self, width: int) -> SeriesMirror | None:
        """The augmentation of series of this width, or None where none is asked for."""
        if not self.mirror.changes_something:
            return None
        return SeriesMirror(width=width, swap=self.mirror.swap, negate=self.mirror.negate)


class TrainingSection(Section):
    """How the weights move."""

    start: Annotated[
        str | None, Field(description="a finished run or model folder whose weights (and vocabularies) it begins from")
    ] = None
    epochs: Positive = 30
    batch_size: Annotated[int, Field(gt=0, description="over all processes together")] = 16
    lr: Annotated[float, Field(gt=0)] = 1e-3
    backbone_lr: Annotated[float, Field(gt=0, description="factor on lr for the CNN's own weights")] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[Fraction, Field(description="share of all steps in which lr rises; a cosine to zero follows")] = (
        0.1
    )
    clip: Annotated[float, Field(gt=0, description="largest norm of the gradient")] = 1.0
    betas: Annotated[
        tuple[Fraction, Fraction],
        Field(description="of Adam: how long it remembers slopes and their squares; [0, 0.99] for a GAN"),
    ] = (0.9, 0.999)
    opponent_lr: Annotated[float, Field(gt=0, description="factor on lr for the critic of a generate head")] = 1.0
    show_every: Annotated[int, Field(gt=0, description="steps between the samples that a generate head shows")] = 200
    carry: Annotated[
        bool, Field(description="read rows window after window (data.window) and carry the state: truncated BPTT")
    ] = False
    precision: Annotated[Literal["auto", "float32", "bf16"], Field(description="auto: bf16 on a GPU that has it")] = (
        "auto"
    )
    patience: Annotated[
        Positive | None, Field(description="epochs without a better validation score before it stops")
    ] = None
    save_every: Annotated[int, Field(gt=0, description="steps between states to resume from")] = 200
    log_every: Annotated[int, Field(gt=0, description="steps between rows of metrics.jsonl")] = 10
    threads: Annotated[int, Field(ge=0, description="CPU threads; 0: one where the CNN is frozen, else all")] = 0
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1, ...")] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    augment: AugmentSection = AugmentSection()

    def build(self, workers: int) -> Plan:
        """The plan of the loop."""
        return Plan(workers=workers, **self.model_dump(include={f.name for f in fields(Plan)} - {"workers"}))


class TrackingSection(Section):
    """Weights & Biases beside metrics.jsonl, which is always written."""

    wandb: Annotated[
        Literal["auto", "online", "offline", "off"], Field(description="auto: online when logged in, else offline")
    ] = "auto"
    project: Annotated[str, Field(min_length=1)] = "unreel"
    name: str | None = None
    tags: tuple[str, ...] = ()

    @field_validator("wandb", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false


class EvaluationSection(Section):
    """What the table at the end compares."""

    baselines: Annotated[bool, Field(description="train mean-pool baselines on the same features")] = True
    orders: Annotated[bool, Field(description="also test with the steps reversed and shuffled")] = True
    pairs: Annotated[
        tuple[tuple[str, str], ...], Field(description="classes to tell apart two by two, [[a, b], ...]")
    ] = ()
    unknown: Annotated[
        tuple[str, ...],
        Field(description="classes never learned: their test rows are to be found unknown, [a, b, ...]"),
    ] = ()


class Config(Recipe):
    """A run. The fields of the recipe make the model; the rest says what it learns from, and how."""

    data: DataSection
    training: TrainingSection = TrainingSection()
    tracking: TrackingSection = TrackingSection()
    evaluation: EvaluationSection = EvaluationSection()
    run: Annotated[str | None, Field(description="the run's folder; runs/<name of the config> by default")] = None

    @model_validator(mode="after")
    def _can_carry(self) -> Config:
        if self.training.carry and self.data.window is None:
            raise ValueError(
                "training.carry reads windows one after another, and data.window is null; set for example 256"
            )
        if self.training.carry and self.core.bidirectional:
            raise ValueError(
                "training.carry hands the state from window to window, and a bidirectional core cannot go on from one; "
                "set core.bidirectional: false"
            )
        return self

    @model_validator(mode="after")
    def _augments_what_it_reads(self) -> Config:
        if self.encoder.kind != "series" and self.training.augment.mirror.changes_something:
            raise ValueError(
                f"training.augment.mirror is for series, and encoder.kind = {self.encoder.kind} reads none; leave it out "
                "(crop, flip and colour change pixels)"
            )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Config:
        window = self.data.window
        if self.data.stride is not None and window is None:
            raise ValueError(
                f"data.stride = {self.data.stride} places windows, and data.window is none; give data.window as well"
            )
        if self.data.stride is not None and self.training.carry:
            raise ValueError(
                "training.carry reads the windows of a row one after another, and data.stride makes each a sample of its "
                "own; leave one of them out"
            )
        if self.training.carry and window is not None and self.encoder.kind == "series" and window % self.encoder.patch:
            raise ValueError(
                f"data.window = {window} is no multiple of encoder.patch = {self.encoder.patch}, so carried windows would "
                f"lose steps; use {window // self.encoder.patch * self.encoder.patch or self.encoder.patch}"
            )
        moving = self.encoder.train_blocks if self.encoder.kind == "frames" else 0
        for name, head in self.heads.items():
            if moving and (
                (head.kind == "generate" and head.makes == "features")
                or (head.kind == "forecast" and head.adversary is not None)
            ):
                raise ValueError(
                    f"the head '{name}' has a critic of stored features, and encoder.train_blocks = {moving} changes them; "
                    "set encoder.train_blocks: 0"
                )
            if head.kind == "generate" and self.training.carry:
                raise ValueError(
                    f"training.carry reads the windows of a row one after another, and the head '{name}' learns from each by itself; leave it out"
                )
            if head.kind == "generate" and (head.makes == "frames") != (self.data.read == "pixels"):
                raise ValueError(
                    f"the head '{name}' makes {head.makes}, and data.read is {self.data.read}; frames are learned from "
                    "data.read: pixels, the rest from what is stored"
                )
            if head.kind in ("caption", "transcribe") and window is not None:
                raise ValueError(
                    f"data.window = {window} shows a part of a row, and the sentences of the head '{name}' are about the whole; "
                    "set data.window: null"
                )
            if head.kind == "forecast" and window is not None and window < head.context + head.steps:
                raise ValueError(
                    f"data.window = {window} holds no forecast of the head '{name}': its context of {head.context} and "
                    f"{head.steps} steps behind it are {head.context + head.steps}; give at least that"
                )
        return self

    @property
    def recipe(self) -> Recipe:
        """What of this is stored with the model."""
        return Recipe(clock=self.clock, encoder=self.encoder, core=self.core, heads=self.heads)


def load_config(path: str | Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> Config:
    """The config in a YAML file (or `base`) with `key.sub=value` overrides, whose values are YAML too.

    Raises ConfigError.
    """
    values = dict(base or {})
    source = "the command line"
    if path is not None:
        source = str(path)
        values = _read(find_config(Path(path)))
    for override in overrides:
        _override(values, override)
    return validate(Config, values, source)


def find_config(path: Path) -> Path:
    """The path itself, or the config of that name that comes with the package: yoga6/action.yaml, with or without configs/."""
    if path.exists():
        return path
    here = Path(__file__).resolve().parent
    name = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for folder in (here.parent / "configs", here / "share" / "configs"):
        if (folder / name).is_file():
            return folder / name
    return path


def dump_config(config: Config) -> str:
    """The whole config as YAML, defaults written out; loading it gives the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse(text: str) -> Any:
    """YAML of plain values. Raises YAMLError or ValueError, also for what YAML allows and a config never needs: aliases
    (a few of them unfold to gigabytes), deep nests, one key twice (the last would silently count).
    """
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("it uses an alias (*name); write the values out")
        opens = isinstance(
            token,
            yaml.FlowSequenceStartToken
            | yaml.FlowMappingStartToken
            | yaml.BlockSequenceStartToken
            | yaml.BlockMappingStartToken,
        )
        closes = isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken | yaml.BlockEndToken)
        depth += opens - closes
        if depth > 20:
            raise ValueError("it nests deeper than 20 levels")
    return yaml.load(text, _OnceLoader)


class _OnceLoader(yaml.SafeLoader):
    """Builds plain values only, and takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys all differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"'{key.value}' stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        nearby = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"The config '{path}' does not exist.{near(str(path), nearby)} Give the path of a YAML file.")
    if path.stat().st_size > 1 << 20:
        raise ConfigError(f"'{path}' is {path.stat().st_size:,} bytes; a config is a page of text. Give another file.")
    try:
        values = _parse(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"'{path}' is no YAML for us: {' '.join(str(error).split())}. Correct it at that place."
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' holds {type(values).__name__}, not settings. Begin with lines such as `data:`.")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"'{override}' is no override. Write key=value, such as core.cell=lstm or training.lr=3e-4.")
    try:
        value = _parse(text)
    except (yaml.YAMLError, ValueError) as error:
        shown = override if len(override) <= 80 else override[:77] + "..."
        raise ConfigError(f"The value of '{shown}' is no YAML for us: {' '.join(str(error).split())}.") from None
    place = values
    *parents, last = key.strip().split(".")
    for depth, part in enumerate(parents):
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"'{override}': {'.'.join(parents[: depth + 1])} is {inner!r}, so it has nothing inside. "
                "Name a setting of a section."
            )
        place[part] = place = dict(inner)
    place[last] = value
