"""The one section that makes a recurrent core: the one that watches, the one that moves a generator, the one that judges.

In: validated settings. Out: a core. Knows nothing of who reads it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.models.core import GATED, MINIMAL, Core, DropMask
from pipeline.models.mean import MeanCore
from pipeline.section import Fraction, Positive, Section


class CoreSection(Section):
    """The recurrent core, or the mean as the baseline that is blind to order."""

    cell: Annotated[
        Literal["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm", "mean"],
        Field(description="`mean` with layers 0 is mean-pooling, with 1 an MLP on it"),
    ] = "gru"
    hidden: Positive = 128
    layers: Annotated[int, Field(ge=0, le=16)] = 1
    bidirectional: bool = False
    residual: bool = False
    layer_norm: Annotated[bool, Field(description="of what goes into each layer but the first")] = False
    input_dropout: Fraction = 0.2
    recurrent_dropout: Annotated[Fraction, Field(description="on h_{t-1}, constant in time")] = 0.0
    recurrent_mask: Annotated[
        DropMask,
        Field(description="one mask on h_{t-1} for the batch (fused kernels), or one a sequence (a slower loop)"),
    ] = "batch"
    memory_steps: Annotated[
        int, Field(ge=0, description="a gated cell starts out remembering up to so many steps; 0: forget bias 1")
    ] = 0

    @model_validator(mode="after")
    def _fits(self) -> CoreSection:
        if self.cell != "mean" and self.layers == 0:
            raise ValueError(f"cell {self.cell} needs layers of 1 or more; only cell mean may have 0")
        if self.cell == "mean" and (self.bidirectional or self.residual or self.layer_norm or self.recurrent_dropout):
            raise ValueError(
                "cell mean has neither directions, residual connections, layer norm nor recurrent dropout; leave them out"
            )
        if self.cell in MINIMAL and self.recurrent_dropout:
            raise ValueError(
                f"cell {self.cell} has no recurrent weights, so there is nothing to drop h_{{t-1}} from; "
                "leave core.recurrent_dropout at 0, or use core.input_dropout"
            )
        if self.memory_steps and (self.cell not in GATED or self.memory_steps < 3):
            raise ValueError(
                f"memory_steps is {self.memory_steps} and cell is {self.cell}; it would be 3 or more, for one of "
                f"{', '.join(GATED)}. Leave it at 0, or choose such a cell"
            )
        if self.layer_norm and self.layers < 2:
            raise ValueError("layer_norm stands between layers; give layers of 2 or more, or leave it out")
        return self

    def build(self, input_size: int) -> Core | MeanCore:
        """The core for inputs of this width."""
        if self.cell == "mean":
            return MeanCore(input_size=input_size, hidden=self.hidden, layers=self.layers, dropout=self.input_dropout)
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
            memory_steps=self.memory_steps,
        )
