"""The sections of a critic, and of the critic of a forecast.

In: validated settings. Out: a critic, or a head with one. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from pipeline.config.base import Positive, Section
from pipeline.config.core import CoreSection
from pipeline.models.choices import GanLoss
from pipeline.models.recurrent.core import Core

if TYPE_CHECKING:  # a module of a head is imported when one is built
    from pipeline.heads.adversarial_forecast import AdversarialForecast
    from pipeline.models.gan.critic import Critic

GanLossSetting = Annotated[
    GanLoss, Field(description="hinge (with spectral_norm), or relativistic (with gradient_penalty)")
]
PenaltySetting = Annotated[
    float, Field(ge=0, description="weight of R1 and R2, the critic's squared gradient at real and generated sequences")
]


class CriticSection(Section):
    """The critic, which tells real sequences from generated ones."""

    core: Annotated[
        CoreSection | None,
        Field(description="a recurrent critic; by default convolutions over [x, delta x], which train better"),
    ] = None
    hidden: Annotated[Positive, Field(description="units of each layer")] = 128
    channels: Annotated[Positive, Field(description="channels of the first layer for images")] = 32
    spectral_norm: Annotated[bool, Field(description="spectral norm on every layer; false needs gradient_penalty")] = (
        True
    )

    def check_bounded(self, gradient_penalty: float) -> None:
        """Raise ValueError where neither spectral norm nor a penalty bounds the critic's gradient."""
        if not self.spectral_norm and not gradient_penalty:
            raise ValueError(
                "critic.spectral_norm is false and gradient_penalty is 0, so nothing bounds the critic's gradient; set "
                "critic.spectral_norm: true, or gradient_penalty: 1"
            )

    def build(self, width: int, size: int, classes: int) -> Critic:
        """The critic of sequences (B, T, width) and, where size is not 0, of images with sides of `size` pixels."""
        from pipeline.models.gan.critic import Critic

        core = None
        if self.core is not None:
            core = self.core.build(Critic.core_input(width))
            assert isinstance(core, Core), "the section checks that a critic's core is recurrent"
        return Critic(
            width=width,
            classes=classes,
            hidden=self.hidden,
            channels=self.channels,
            size=size,
            core=core,
            spectral_norm=self.spectral_norm,
        )


class AdversarialSection(Section):
    """A critic of forecasts, beside their error."""

    weight: Annotated[float, Field(gt=0, description="weight of the critic's loss; that of the error is 1")] = 0.1
    critic: CriticSection = CriticSection()
    pca_components: Annotated[
        int, Field(ge=0, description="principal components of the values that the critic sees; 0: every channel")
    ] = 0
    gan_loss: GanLossSetting = "hinge"
    gradient_penalty: PenaltySetting = 0.0

    @model_validator(mode="after")
    def _check_critic(self) -> AdversarialSection:
        self.critic.check_bounded(self.gradient_penalty)
        return self

    def build(self, width: int, settings: Mapping[str, Any]) -> AdversarialForecast:
        """The head with its critic. width: D of the sequence. settings: arguments of `Forecast`."""
        from pipeline.heads.adversarial_forecast import AdversarialForecast
        from pipeline.heads.adversarial_training import AdversarialLoss
        from pipeline.models.gan.pca import FeaturePCA

        pca = FeaturePCA(width, self.pca_components)
        return AdversarialForecast(
            critic=self.critic.build(pca.output_size, 0, 0),
            pca=pca,
            weight=self.weight,
            adversarial_loss=AdversarialLoss(
                name=settings["name"], gan_loss=self.gan_loss, penalty_weight=self.gradient_penalty
            ),
            **settings,
        )
