"""The size of a proof: full, or a toy that does the same work on tiny data with tiny models.

In: the environment variable that `show.py --toy` sets, so that child processes have it too. Out: a `Size`, which
the proofs ask for their numbers. A toy decides nothing: it shows that a proof runs from its first line to its last.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.config.heads import HeadSection
from pipeline.config.run import Config

VARIABLE = "UNREEL_TOY_FOLDER"
"""The working folder of a toy. Where it is not set, the size is full."""
Number = TypeVar("Number")


class WithoutToy(NamedTuple):
    """A promise that has no toy size, and the reason."""

    name: str
    reason: str


WITHOUT_TOY = (
    WithoutToy("fresh-clone", "it is `make demo` and `make test` of a clone, which CI runs itself"),
    WithoutToy("same-numbers", "it compares two commits of the whole repository"),
    WithoutToy("api", "tests/test_docs.py runs the same blocks"),
    WithoutToy("readme", "it runs `make test` in a clone"),
    WithoutToy("demo-time", "it runs the demo of two commits, four times"),
    WithoutToy("silent", "its data are tiny, and .ci/run runs it as it is"),
    WithoutToy("no-leak", "it draws its own small data"),
    WithoutToy("any-cpu", "it runs tests, and .ci/run runs it as it is"),
    WithoutToy("cases", "its inputs are tiny, and its scripts need ffmpeg"),
    WithoutToy("first-hour", "it types the commands of a new user, without a setting that makes them small"),
)
"""Promises about the whole repository, or whose data are tiny anyway."""


def reason_without_toy(name: str) -> str | None:
    """Why a promise has no toy size, or None where it has one."""
    return next((one.reason for one in WITHOUT_TOY if one.name == name), None)


@dataclass(frozen=True)
class Size:
    """The size of this run of a proof, and its working folder."""

    toy: bool = False
    work: Path = Path("runs/show")

    @classmethod
    def from_environment(cls) -> Size:
        """The size that `show.py` was asked for."""
        folder = os.environ.get(VARIABLE)
        return cls(toy=True, work=Path(folder)) if folder else cls()

    def pick(self, full: Number, toy: Number) -> Number:
        """The first, or the second in a toy."""
        return toy if self.toy else full

    def some(self, values: Sequence[Number], count: int = 1) -> Sequence[Number]:
        """All values, or the first `count` in a toy."""
        return values[:count] if self.toy else values

    def settings(self, config: Config) -> list[str]:
        """Settings that make a training of this config tiny; none for the full size."""
        if not self.toy:
            return []
        settings = ["training.epochs=1", "training.threads=1", "training.precision=float32", "training.log_every=1"]
        settings.append("evaluation.cross_calibrate=false")
        if config.core.cell != "mean":
            settings.append("core.hidden=16")
        encoder = config.encoder
        if encoder.kind == "frames" and encoder.backbone != "pixels":
            settings += ["encoder.size=64", "encoder.runtime=torch", "encoder.grid=1"]
        if encoder.kind != "tokens" and encoder.project > 16:
            settings.append("encoder.project=16")
        if encoder.kind == "tokens" and encoder.pretrained_vectors is None and encoder.embedding > 32:
            settings.append("encoder.embedding=32")
        return [*settings, *(line for name, head in config.heads.items() for line in _head_settings(name, head))]


def _head_settings(name: str, head: HeadSection) -> list[str]:
    """Settings that make a head tiny."""
    place = f"heads.{name}"
    if head.kind == "caption":
        return [f"{place}.hidden=16", f"{place}.embedding=16", f"{place}.beam=2", f"{place}.max_length=12"]
    if head.kind == "transcribe":
        return [f"{place}.beam=2"]
    if head.kind == "generate":
        critic = [f"{place}.critic.hidden=16", f"{place}.embedding=16"]
        return [*critic, f"{place}.channels=8"] if head.makes == "frames" else critic
    return []
