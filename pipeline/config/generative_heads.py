"""The sections of heads that generate frames, features or tokens against a critic.

In: validated settings, and the `HeadContext` of a head. Out: heads. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Fraction, Section
from pipeline.config.core import CoreSection
from pipeline.config.critic import CriticSection, GanLossSetting, PenaltySetting
from pipeline.config.head_context import HeadContext
from pipeline.data.manifest_rows import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.models.choices import Motion
from pipeline.models.recurrent.core import Core

if TYPE_CHECKING:  # a module of a head is imported when one is built
    from pipeline.heads.adversarial_training import AdversarialLoss
    from pipeline.heads.generate_features import GenerateFeatures
    from pipeline.heads.generate_frames import GenerateFrames
    from pipeline.heads.generate_tokens import GenerateTokens
    from pipeline.models.gan.frame_generator import FrameGenerator
    from pipeline.models.gan.image_to_video import ImageToVideoGenerator

MotionSize = Annotated[int, Field(gt=0, description="numbers of noise at every step, which become motion")]
ContentSize = Annotated[int, Field(gt=0, description="numbers that say what is shown, the same at every step")]
DiffAugment = Annotated[
    float, Field(ge=0, le=1, description="strength of the augmentation of real and generated sequences for the critic")
]
MaxSkip = Annotated[
    int,
    Field(
        ge=0,
        description="windows left out, at most, before the one that the critic sees; for more than a window",
    ),
]


class GeneratorSection(Section):
    """The settings that all heads of kind generate have."""

    kind: Literal["generate"] = "generate"
    columns: ClassVar[tuple[str, ...]] = ()
    class_conditional: Annotated[bool, Field(description="generate by class, which needs the rows' labels")] = True
    core: Annotated[CoreSection | None, Field(description="core of the generator; by default like the model's")] = None
    embedding: Annotated[int, Field(gt=0, description="width of a class's vector, and of a token's")] = 32
    critic: CriticSection = CriticSection()
    gan_loss: GanLossSetting = "hinge"
    gradient_penalty: PenaltySetting = 0.0
    gradient_penalty_share: Annotated[
        float, Field(gt=0, le=1, description="share of the steps with a gradient penalty (lazy regularisation)")
    ] = 0.25
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="decay per step of the moving average of the generator's weights")
    ] = 0.999

    @property
    def requires(self) -> str | None:
        """A label, where it generates by class."""
        return "label" if self.class_conditional else None

    @model_validator(mode="after")
    def _check_cores(self) -> GeneratorSection:
        for core in (self.core, self.critic.core):
            if core is not None and core.cell == "mean":
                raise ValueError(
                    "cell mean can be the core of neither a generator nor a critic; use gru or another recurrent cell"
                )
        if self.core is not None and self.core.bidirectional:
            raise ValueError("a generator's core has one direction, and core.bidirectional is true; set it to false")
        self.critic.check_bounded(self.gradient_penalty)
        return self

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """The class that a row teaches."""
        return (row.label,) if self.class_conditional and row.label is not None else ()


class GenerateFramesSection(GeneratorSection):
    """Generates clips: codes of frames against a critic, and a decoder of frames."""

    makes: Annotated[Literal["frames"], Field(description="frames; needs data.read: pixels")] = "frames"
    motion: Annotated[
        Motion, Field(description="independent replaces the core by noise, to measure what the core contributes")
    ] = "core"
    content_size: ContentSize = 64
    motion_size: MotionSize = 16
    pose_size: Annotated[
        int, Field(gt=0, description="numbers that say how a frame differs from the others of its clip")
    ] = 32
    hidden: Annotated[int, Field(gt=0, description="units of each layer of generator and frame encoder")] = 256
    channels: Annotated[
        int, Field(gt=0, multiple_of=4, description="channels of the frame decoder's last layer but one")
    ] = 32
    first_frame: Annotated[
        bool, Field(description="continue a given first frame; learned by the likelihood of real poses as well")
    ] = False
    guidance: Annotated[
        float,
        Field(ge=1, description="with first_frame: classifier-free guidance, how much the class counts; 1: as learned"),
    ] = 1.0
    reconstruction_weight: Annotated[
        float, Field(gt=0, description="weight of the distance between real and reconstructed frames")
    ] = 20.0
    kl_weight: Annotated[
        float, Field(ge=0, description="weight of the KL divergence of the codes of real clips, in nats")
    ] = 0.0005
    free_nats: Annotated[
        float, Field(ge=0, description="nats of the KL divergence without cost, so that the codes do not stay empty")
    ] = 0.0
    image_critic_weight: Annotated[float, Field(ge=0, description="weight of a critic of single images; 0: none")] = 0.0
    diff_augment: DiffAugment = 0.0
    max_skip: MaxSkip = 0
    pretrain_share: Annotated[
        Fraction,
        Field(
            description="share of the training in which frame encoder and decoder learn alone, without a critic; then "
            "they are frozen, the generator learns against the critic, and learning rates start again. 0: all together"
        ),
    ] = 0.0

    @model_validator(mode="after")
    def _check_first_frame(self) -> GenerateFramesSection:
        if self.guidance != 1.0 and not self.first_frame:
            raise ValueError(
                f"guidance needs first_frame: true, and first_frame is false; leave guidance: {self.guidance:g} out"
            )
        if self.guidance != 1.0 and not self.class_conditional:
            raise ValueError(
                "guidance needs class_conditional: true, and class_conditional is false; leave guidance: "
                f"{self.guidance:g} out"
            )
        if self.first_frame and self.motion == "independent":
            raise ValueError(
                "with first_frame a core predicts every pose from the one before, and motion is independent; leave "
                "motion out"
            )
        if self.first_frame and self.motion_size != type(self).model_fields["motion_size"].default:
            raise ValueError(
                f"with first_frame the noise of a step has the size of a pose, pose_size {self.pose_size}; leave "
                f"motion_size: {self.motion_size} out"
            )
        return self

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> GenerateFrames:
        """The head with its generator, critic and frame encoder."""
        from pipeline.heads.generate_frames import GenerateFrames
        from pipeline.models.gan.critic import image_encoder
        from pipeline.models.gan.frame_encoder import FrameEncoder
        from pipeline.models.gan.generator import Generator

        classes, size = len(vocabulary.names), context.frame_size
        core_input = self.hidden if self.first_frame else Generator.core_input(self.motion_size, self.embedding)
        core = _build_core(self, context, core_input)
        build_generator = self._build_image_to_video if self.first_frame else self._build_generator
        has_image_critic = self.image_critic_weight > 0
        return GenerateFrames(
            name=name,
            sense=context.sense,
            vocabulary=vocabulary,
            generator=build_generator(core, size, classes),
            critic=self.critic.build(self.content_size + self.pose_size, size if has_image_critic else 0, classes),
            frame_encoder=FrameEncoder(
                image_encoder=image_encoder(3, self.channels, size, self.hidden),
                width=self.hidden,
                content_size=self.content_size,
                pose_size=self.pose_size,
                uses_first_frame=self.first_frame,
            ),
            adversarial_loss=_build_loss(
                self, name, diff_augment=self.diff_augment, image_weight=self.image_critic_weight
            ),
            ema_decay=self.ema_decay,
            reconstruction_weight=self.reconstruction_weight,
            kl_weight=self.kl_weight,
            free_nats=self.free_nats,
            has_image_critic=has_image_critic,
            max_skip=self.max_skip,
            pretrain_share=self.pretrain_share,
        )

    def _build_generator(self, core: Core, size: int, classes: int) -> FrameGenerator:
        """The generator from noise, of frames with sides of `size` pixels. The order of its parts decides their
        weights.
        """
        from pipeline.models.gan.frame_decoder import FrameDecoder
        from pipeline.models.gan.frame_generator import FrameGenerator
        from pipeline.models.gan.generator import FeatureDecoder, Generator

        pose_decoder = FeatureDecoder(
            content_size=self.content_size + self.embedding,
            motion_size=core.output_size,
            width=self.pose_size,
            hidden=self.hidden,
        )
        frame_decoder = FrameDecoder(
            content_size=self.content_size, pose_size=self.pose_size, size=size, channels=self.channels
        )
        pose_generator = Generator(
            core=core,
            decoder=pose_decoder,
            classes=classes,
            content_size=self.content_size,
            motion_size=self.motion_size,
            embedding=self.embedding,
            motion=self.motion,
        )
        return FrameGenerator(
            pose_generator=pose_generator,
            frame_decoder=frame_decoder,
            content_size=self.content_size,
            hidden=self.hidden,
        )

    def _build_image_to_video(self, core: Core, size: int, classes: int) -> ImageToVideoGenerator:
        """The generator that continues a first frame with sides of `size` pixels."""
        from pipeline.models.gan.frame_decoder import FirstFrameDecoder
        from pipeline.models.gan.image_to_video import ImageToVideoGenerator

        frame_decoder = FirstFrameDecoder(
            content_size=self.content_size, pose_size=self.pose_size, size=size, channels=self.channels
        )
        return ImageToVideoGenerator(
            core=core,
            frame_decoder=frame_decoder,
            content_size=self.content_size,
            pose_size=self.pose_size,
            hidden=self.hidden,
            classes=classes,
            embedding=self.embedding,
            guidance=self.guidance,
        )


class GenerateFeaturesSection(GeneratorSection):
    """Generates sequences of features: drawn step by step from predicted Gaussians, against a critic."""

    makes: Annotated[Literal["features"], Field(description="stored features, or a series (the default)")] = "features"
    motion_size: Annotated[
        int, Field(gt=0, description="rank of the covariance of a step: directions in which its numbers vary together")
    ] = 16
    hidden: Annotated[int, Field(gt=0, description="units of the layer that predicts the Gaussian of a step")] = 256
    pca_components: Annotated[
        int, Field(ge=0, description="principal components that are generated; 0: every channel by itself")
    ] = 0
    style_size: Annotated[int, Field(gt=0, description="numbers that say how a sequence moves")] = 32
    diff_augment: DiffAugment = 0.0
    max_skip: MaxSkip = 0
    pretrain_share: Annotated[
        Fraction,
        Field(
            description="share of the training by likelihood alone, without a critic; then learning rates start again. "
            "0: both from the start"
        ),
    ] = 0.0

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> GenerateFeatures:
        """The head with its generator and critic."""
        from pipeline.heads.generate_features import GenerateFeatures
        from pipeline.models.gan.autoregressive_features import AutoregressiveFeatureGenerator
        from pipeline.models.gan.content_bank import ContentBank
        from pipeline.models.gan.pca import FeaturePCA

        classes, pca = len(vocabulary.names), FeaturePCA(context.width, self.pca_components)
        generator = AutoregressiveFeatureGenerator(
            core=_build_core(self, context, pca.output_size),
            width=pca.output_size,
            style_size=self.style_size,
            motion_size=self.motion_size,
            hidden=self.hidden,
            classes=classes,
            embedding=self.embedding,
        )
        return GenerateFeatures(
            name=name,
            sense=context.sense,
            vocabulary=vocabulary,
            generator=generator,
            critic=self.critic.build(2 * pca.output_size, 0, classes),
            pca=pca,
            content_bank=ContentBank(width=context.width, style_size=self.style_size),
            adversarial_loss=_build_loss(self, name, diff_augment=self.diff_augment),
            ema_decay=self.ema_decay,
            max_skip=self.max_skip,
            pretrain_share=self.pretrain_share,
        )


class GenerateTokensSection(GeneratorSection):
    """Generates texts: tokens drawn by Gumbel-softmax, against a critic."""

    makes: Annotated[Literal["tokens"], Field(description="tokens; needs encoder.kind: tokens")] = "tokens"
    content_size: ContentSize = 64
    motion_size: MotionSize = 16
    temperature: Annotated[float, Field(gt=0, description="temperature of the Gumbel-softmax")] = 1.0

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> GenerateTokens:
        """The head with its generator and critic."""
        from pipeline.heads.generate_tokens import GenerateTokens
        from pipeline.models.gan.token_generator import TokenGenerator

        classes, tokenizer = len(vocabulary.names), context.tokenizer
        assert tokenizer is not None, "the architecture checks that the encoder reads tokens"
        generator = TokenGenerator(
            core=_build_core(self, context, TokenGenerator.core_input(self.motion_size, self.embedding)),
            vocabulary_size=len(tokenizer),
            classes=classes,
            content_size=self.content_size,
            motion_size=self.motion_size,
            embedding=self.embedding,
            temperature=self.temperature,
        )
        return GenerateTokens(
            name=name,
            sense=context.sense,
            vocabulary=vocabulary,
            tokenizer=tokenizer,
            generator=generator,
            critic=self.critic.build(len(tokenizer), 0, classes),
            adversarial_loss=_build_loss(self, name),
            ema_decay=self.ema_decay,
        )


GenerateHeadSection = Annotated[
    GenerateFramesSection | GenerateFeaturesSection | GenerateTokensSection, Field(discriminator="makes")
]
"""The section of a head of kind generate, chosen by `makes`."""


def _build_core(section: GeneratorSection, context: HeadContext, input_size: int) -> Core:
    """The generator's core."""
    chosen = section.core or context.core_section
    assert chosen is not None, "the architecture gives the section of its core"
    core = chosen.build(input_size)
    assert isinstance(core, Core), "the architecture checks that the core is recurrent"
    return core


def _build_loss(
    section: GeneratorSection, name: str, diff_augment: float = 0.0, image_weight: float = 0.0
) -> AdversarialLoss:
    """The loss terms of both players of the head `name`."""
    from pipeline.heads.adversarial_training import AdversarialLoss

    return AdversarialLoss(
        name=name,
        gan_loss=section.gan_loss,
        penalty_weight=section.gradient_penalty,
        penalty_share=section.gradient_penalty_share,
        diff_augment=diff_augment,
        image_weight=image_weight,
    )
