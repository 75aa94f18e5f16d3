"""The sections of critics, and of the head that makes sequences.

In: validated settings, and what a head stands in (`Around`). Out: heads. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.around import Around
from pipeline.cores import CoreSection
from pipeline.data.manifest import Row
from pipeline.data.words import START
from pipeline.heads.generate import Generate
from pipeline.heads.judged_forecast import JudgedForecast
from pipeline.models.adversary import Game
from pipeline.models.bank import Bank
from pipeline.models.core import Core
from pipeline.models.critic import Critic, looker
from pipeline.models.directions import Directions
from pipeline.models.generator import FeatureMaker, FrameGenerator, Generator, Makes, Motion, TokenGenerator
from pipeline.models.mover import FeatureGenerator
from pipeline.models.onward import OnwardGenerator
from pipeline.models.painter import FrameMaker, Onward
from pipeline.models.reader import Reader
from pipeline.section import Positive, Section

BELONGS: dict[str, tuple[Makes, ...]] = {
    "motion": ("frames",), "channels": ("frames",), "pose_size": ("frames",), "remake": ("frames",), "surprise": ("frames",), "free": ("frames",),
    "pictures": ("frames",), "first_frame": ("frames",), "guidance": ("frames",), "content_size": ("frames", "tokens"),
    "directions": ("features",), "manner_size": ("features",),
    "hidden": ("frames", "features"), "disguise": ("frames", "features"), "later": ("frames", "features"),
    "alone": ("frames", "features"), "temperature": ("tokens",),
}  # fmt: skip
"""What each setting of `generate` is good for, where that is not everything."""


class CriticSection(Section):
    """Who judges what a generator makes."""

    core: Annotated[
        CoreSection | None,
        Field(description="a recurrent judge; by default convolutions over [x, delta x], which train better"),
    ] = None
    hidden: Positive = 128
    channels: Annotated[int, Field(gt=0, description="of its first look at a frame")] = 32
    spectral: Annotated[bool, Field(description="spectral norm on its layers; without it set a penalty")] = True

    def check_held(self, penalty: float) -> None:
        """Raises ValueError where neither spectral norm nor a penalty bounds its slope."""
        if not self.spectral and not penalty:
            raise ValueError("critic.spectral is false and penalty is 0, so nothing holds the critic; set one of them")

    def build(self, width: int, size: int, classes: int) -> Critic:
        """The critic of sequences (B, T, width) and, where size is not 0, of pictures of so many pixels a side."""
        core = None
        if self.core is not None:
            core = self.core.build(Critic.core_input(width))
            assert isinstance(core, Core), "a critic's core is recurrent"
        return Critic(
            width=width,
            classes=classes,
            hidden=self.hidden,
            channels=self.channels,
            size=size,
            core=core,
            spectral=self.spectral,
        )


class AdversarySection(Section):
    """A critic of forecasts, beside their error."""

    weight: Annotated[float, Field(gt=0, description="of what the critic says; the error counts 1")] = 0.1
    critic: CriticSection = CriticSection()
    directions: Annotated[
        int, Field(ge=0, description="in which values vary most: what it sees of them. 0: every channel by itself")
    ] = 0
    game: Annotated[Game, Field(description="hinge (with spectral norm), or relativistic (with a penalty)")] = "hinge"
    penalty: Annotated[float, Field(ge=0, description="weight of R1 and R2, the critic's slope")] = 0.0

    @model_validator(mode="after")
    def _is_held(self) -> AdversarySection:
        self.critic.check_held(self.penalty)
        return self

    def build(self, width: int, settings: Mapping[str, Any]) -> JudgedForecast:
        """The head of these settings, and its critic. width: D of the sequence."""
        directions = Directions(width, self.directions)
        critic = self.critic.build(len(directions.get_buffer("deviation")), 0, 0)
        return JudgedForecast(
            critic=critic, directions=directions, weight=self.weight, game=self.game, gamma=self.penalty, **settings
        )


class GenerateSection(Section):
    """What could have happened: makes sequences, against a critic."""

    kind: Literal["generate"] = "generate"
    columns: ClassVar[tuple[str, ...]] = ()
    makes: Annotated[
        Makes,
        Field(
            description="frames (data.read: pixels), features (stored ones, or a series) or tokens (of an encoder of tokens)"
        ),
    ] = "features"
    labels: Annotated[bool, Field(description="the class is a wish that it is given")] = True
    core: Annotated[CoreSection | None, Field(description="what moves; by default one like the model's own")] = None
    motion: Annotated[
        Motion, Field(description="independent puts noise in place of the core, to see what the core is good for")
    ] = "core"
    content_size: Annotated[
        int, Field(gt=0, description="of frames and tokens: numbers that say what is shown, the same at every step")
    ] = 64
    motion_size: Annotated[
        int,
        Field(
            gt=0, description="numbers of noise a step that become the movement; with first_frame they are pose_size"
        ),
    ] = 16
    embedding: Annotated[int, Field(gt=0, description="width of a class's vector, and of a word's")] = 32
    hidden: Annotated[int, Field(gt=0, description="of what makes frames' movements, and features")] = 256
    channels: Annotated[
        int, Field(gt=0, multiple_of=4, description="of the last layer but one of what makes frames")
    ] = 32
    critic: CriticSection = CriticSection()
    game: Annotated[Game, Field(description="hinge (with spectral norm), or relativistic (with a penalty)")] = "hinge"
    penalty: Annotated[
        float, Field(ge=0, description="weight of R1 and R2, the critic's slope at real and at made ones")
    ] = 0.0
    penalty_share: Annotated[float, Field(gt=0, le=1, description="on which part of the steps it is paid (lazily)")] = (
        0.25
    )
    averaging: Annotated[float, Field(ge=0, lt=1, description="of the generator's weights, a step")] = 0.999
    disguise: Annotated[
        float, Field(ge=0, le=1, description="strength of what is done alike to real and made ones")
    ] = 0.0
    temperature: Annotated[float, Field(gt=0, description="of the words that are drawn (Gumbel-softmax)")] = 1.0
    first_frame: Annotated[
        bool,
        Field(description="of frames: go on from a given first one, pose after pose, learned by likelihood as well"),
    ] = False
    guidance: Annotated[
        float,
        Field(
            ge=1, description="with first_frame: how much farther than it was learned a wish leads from what is likely"
        ),
    ] = 1.0
    pose_size: Annotated[
        int, Field(gt=0, description="of frames: numbers that say how a frame differs from others of its clip")
    ] = 32
    remake: Annotated[
        float,
        Field(gt=0, description="of frames: weight of the distance between real ones and those painted of their codes"),
    ] = 20.0
    surprise: Annotated[
        float, Field(ge=0, description="of frames: weight of what the codes of real ones say, a nat")
    ] = 0.0005
    free: Annotated[
        float,
        Field(
            ge=0, description="of frames: nats that the codes of real ones may say at no price, lest they say nothing"
        ),
    ] = 0.0
    pictures: Annotated[
        float, Field(ge=0, description="of frames: weight of the critic of single pictures; 0: none")
    ] = 0.0
    later: Annotated[
        int,
        Field(ge=0, description="windows that may go by before the one that is judged: for clips longer than those"),
    ] = 0

    directions: Annotated[
        int,
        Field(
            ge=0,
            description="of features: make as many numbers a step, along the directions in which real ones vary most. 0: every channel by itself",
        ),
    ] = 0
    manner_size: Annotated[int, Field(gt=0, description="of features: numbers that say how a sequence moves")] = 32
    alone: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="part of the training in which nobody judges: reader and painter of frames learn alone, then stand still, and the game "
            "is played over their codes; what makes features learns by likelihood alone. Learning rates begin anew. 0: all at once",
        ),
    ] = 0.0

    @property
    def wants(self) -> str | None:
        """A label, where it is a wish."""
        return "label" if self.labels else None

    @model_validator(mode="after")
    def _fits(self) -> GenerateSection:
        for core in (self.core, self.critic.core):
            if core is not None and core.cell == "mean":
                raise ValueError("cell mean neither moves nor judges; use gru, lstm or another recurrent cell")
        if self.core is not None and self.core.bidirectional:
            raise ValueError("a movement goes one way, and its core is bidirectional; set bidirectional: false")
        self.critic.check_held(self.penalty)
        for setting, kinds in BELONGS.items():
            value = getattr(self, setting)
            if self.makes not in kinds and value != type(self).model_fields[setting].default:
                raise ValueError(
                    f"{setting} is of {' and '.join(kinds)}, and makes is {self.makes}; leave {setting}: {value} out, or set makes: {kinds[0]}"
                )
        if self.guidance != 1.0 and not self.first_frame:
            raise ValueError(
                f"guidance is of what goes on from a frame, and first_frame is false; leave guidance: {self.guidance:g} out"
            )
        if self.guidance != 1.0 and not self.labels:
            raise ValueError(f"guidance is of wishes, and labels is false; leave guidance: {self.guidance:g} out")
        if self.first_frame and self.motion == "independent":
            raise ValueError(
                "with first_frame every pose is told from the one before, by a core, and motion is independent; leave it out"
            )
        if self.first_frame and self.motion_size != type(self).model_fields["motion_size"].default:
            raise ValueError(
                f"with first_frame a step's noise is as wide as a pose, pose_size {self.pose_size}; leave motion_size: {self.motion_size} out"
            )
        return self

    def classes(self, row: Row) -> tuple[str, ...]:
        """The wish that a row teaches."""
        return (row.label,) if self.labels and row.label is not None else ()

    def build(self, name: str, around: Around, vocabulary: Any, counts: Mapping[str, int] | None) -> Generate:
        """Generator, critic and the head of both."""
        classes = len(vocabulary.names)
        section = self.core or around.core
        assert section is not None, "the recipe says what its own core is"
        reads = self.hidden if self.first_frame else Generator.input_size(self.motion_size, self.embedding)
        directions = Directions(around.width, self.directions) if self.makes == "features" else None
        if directions is not None:
            reads = len(directions.get_buffer("deviation"))
        core = section.build(reads + (self.embedding if self.makes == "tokens" else 0))
        assert isinstance(core, Core), "the recipe has looked that the core is recurrent"
        shape = {"classes": classes, "content_size": self.content_size, "motion_size": self.motion_size}
        shape |= {"embedding": self.embedding}
        words = around.words
        if self.makes == "tokens":
            assert words is not None, "the recipe has looked that the encoder is of tokens"
            width = len(words)
            generator: Generator = TokenGenerator(
                core=core, vocabulary=width, size=self.embedding, start=START, temperature=self.temperature, **shape
            )
        elif self.makes == "features":
            width = 2 * reads
            generator = FeatureGenerator(
                core=core, width=reads, manner_size=self.manner_size, motion_size=self.motion_size, hidden=self.hidden,
                classes=classes, embedding=self.embedding,
            )  # fmt: skip
        else:
            width = self.content_size + self.pose_size
            generator = self._frames(core, around.size, classes)
        return Generate(
            name=name,
            makes=self.makes,
            sense=around.sense,
            vocabulary=vocabulary,
            generator=generator,
            critic=self.critic.build(width, around.size if self._has_pictures else 0, classes),
            directions=directions,
            bank=None if directions is None else Bank(width=around.width, manner_size=self.manner_size),
            words=words if self.makes == "tokens" else None,
            game=self.game,
            gamma=self.penalty,
            penalty_share=self.penalty_share,
            averaging=self.averaging,
            strength=self.disguise,
            first_frame=self.first_frame,
            reader=self._reader(around.size) if self.makes == "frames" else None,
            remake=self.remake,
            surprise=self.surprise,
            free=self.free,
            pictures=self.pictures if self._has_pictures else 0.0,
            later=self.later,
            alone=self.alone,
        )

    @property
    def _has_pictures(self) -> bool:
        return self.makes == "frames" and self.pictures > 0

    def _frames(self, core: Core, size: int, classes: int) -> FrameGenerator:
        """Who makes frames of `size` pixels a side."""
        shape = {"content_size": self.content_size, "motion_size": self.pose_size, "size": size}
        if self.first_frame:
            return OnwardGenerator(
                core=core,
                painter=Onward(channels=self.channels, **shape),
                content_size=self.content_size,
                pose_size=self.pose_size,
                hidden=self.hidden,
                classes=classes,
                embedding=self.embedding,
                guidance=self.guidance,
            )
        moves = FeatureMaker(
            content_size=self.content_size + self.embedding,
            motion_size=core.output_size,
            width=self.pose_size,
            hidden=self.hidden,
        )
        return FrameGenerator(
            core=core,
            maker=moves,
            painter=FrameMaker(channels=self.channels, **shape),
            drawn_size=self.content_size,
            painted_size=self.content_size,
            hidden=self.hidden,
            classes=classes,
            motion_size=self.motion_size,
            embedding=self.embedding,
            motion=self.motion,
        )

    def _reader(self, size: int) -> Reader:
        """Who finds the codes of frames of `size` pixels a side."""
        look = looker(3, self.channels, size, self.hidden)
        return Reader(
            look=look, width=self.hidden, content_size=self.content_size, moves_size=self.pose_size,
            by_first=self.first_frame,
        )  # fmt: skip
