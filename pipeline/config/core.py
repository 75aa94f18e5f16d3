"""The section of a recurrent core: that of the model, that of a generator, or that of a critic.

In: validated settings. Out: a core. Knows nothing of what uses the core's output.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Fraction, Positive, Section
from pipeline.models.recurrent.core import GATED_CELLS, MINIMAL_CELLS, Core, RecurrentMask
from pipeline.models.recurrent.mean_pool import MeanPoolCore


class CoreSection(Section):
    """The recurrent core, or mean pooling, the baseline that ignores the order of the steps."""

    cell: Annotated[
        Literal["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm", "mean"],
        Field(description="the recurrent cell; mean with layers 0 is mean pooling, with layers 1 an MLP on the mean"),
    ] = "gru"
    hidden: Annotated[Positive, Field(description="units of each layer and direction")] = 128
    layers: Annotated[int, Field(ge=0, le=16, description="number of layers")] = 1
    bidirectional: Annotated[
        bool, Field(description="also read from the end to the start; such a core cannot stream")
    ] = False
    residual: Annotated[bool, Field(description="residual connections between layers")] = False
    layer_norm: Annotated[bool, Field(description="layer normalisation of the input of each layer but the first")] = (
        False
    )
    input_dropout: Annotated[Fraction, Field(description="dropout on x_t, one mask per sequence")] = 0.2
    recurrent_dropout: Annotated[Fraction, Field(description="dropout on h_{t-1}, one mask for all steps")] = 0.0
    recurrent_mask: Annotated[
        RecurrentMask,
        Field(description="one mask on h_{t-1} per batch (fused kernels), or one per sequence (slower loop)"),
    ] = "batch"
    chrono_steps: Annotated[
        int,
        Field(
            ge=0,
            description="chrono initialisation: forget biases for a memory of so many steps; 0: a forget bias of 1",
        ),
    ] = 0

    @model_validator(mode="after")
    def _check_cell(self) -> CoreSection:
        if self.cell != "mean" and self.layers == 0:
            raise ValueError(f"cell {self.cell} needs layers of 1 or more; only cell mean may have 0")
        if self.cell == "mean" and (self.bidirectional or self.residual or self.layer_norm or self.recurrent_dropout):
            raise ValueError(
                "cell mean has neither directions, residual connections, layer norm nor recurrent dropout; leave them "
                "out"
            )
        if self.cell in MINIMAL_CELLS and self.recurrent_dropout:
            raise ValueError(
                f"cell {self.cell} has no recurrent weights, so there is nothing to drop h_{{t-1}} from; "
                "leave core.recurrent_dropout at 0, or use core.input_dropout"
            )
        if self.chrono_steps and (self.cell not in GATED_CELLS or self.chrono_steps < 3):
            raise ValueError(
                f"chrono_steps is {self.chrono_steps} and cell is {self.cell}; it would be 3 or more, for one of "
                f"{', '.join(GATED_CELLS)}. Leave it at 0, or choose such a cell"
            )
        if self.layer_norm and self.layers < 2:
            raise ValueError("layer_norm stands between layers; give layers of 2 or more, or leave it out")
        return self

    def build(self, input_size: int) -> Core | MeanPoolCore:
        """The core for inputs (B, T, input_size)."""
        if self.cell == "mean":
            return MeanPoolCore(
                input_size=input_size, hidden=self.hidden, layers=self.layers, dropout=self.input_dropout
            )
        return Core(
            cell=self.cell,
            input_size=input_size,
            hidden=self.hidden,
            layers=self.layers,
            bidirectional=self.bidirectional,
            residual=self.residual,
            layer_norm=self.layer_norm,
            input_dropout=self.input_dropout,
            recurrent_dropout=self.recurrent_dropout,
            recurrent_mask=self.recurrent_mask,
            chrono_steps=self.chrono_steps,
        )
