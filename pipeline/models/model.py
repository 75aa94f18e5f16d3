"""The model: one encoder, one core, several heads.

In: raw sequences by sense. Out: `CoreOutput`, and loss terms by name. Knows nothing of files, optimizers or devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch, Raw
from pipeline.models.core_output import CoreOutput
from pipeline.models.head import AdversarialHead, Head
from pipeline.models.recurrent.core import CoreProtocol, State
from pipeline.padded import Padded


class Encoder(Protocol):
    """From the raw senses to one sequence (B, T, D). Every encoder is an nn.Module as well."""

    feature_size: int
    output_size: int

    @property
    def has_frozen_features(self) -> bool:
        """Whether nothing that learns makes the features, so no label has shaped them."""
        ...

    def features(self, raw: Raw) -> Padded:
        """Normalised features (B, T, feature_size)."""
        ...

    def project(self, features: Padded) -> Padded:
        """Features -> the input of the core (B, T, output_size)."""
        ...


@runtime_checkable
class FittedEncoder(Protocol):
    """An encoder that can take the mean and standard deviation of each channel from the training sequences."""

    @property
    def is_fitted_on_training(self) -> bool:
        """Whether its settings ask for that."""
        ...

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit means and standard deviations to the training sequences (T, D)."""
        ...


class Model(nn.Module):
    """encoder -> core -> heads. The caller keeps the state of the core.

    state = None
    for window in windows:
        output = model.watch(window, state)
        state = output.state
        memory = head.observe(output, memory)
    """

    def __init__(self, encoder: Encoder, core: CoreProtocol, heads: Mapping[str, Head]) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module) and isinstance(core, nn.Module)
        self.encoder, self.core = encoder, core
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if isinstance(head, nn.Module)})
        assert len(self.heads) == len(heads), "heads are modules"

    def head(self, name: str) -> Head:
        """A head by its name in the config."""
        return self.heads[name]  # type: ignore[return-value]

    def watch(self, raw: Raw, state: State | None = None) -> CoreOutput:
        """The output of the core for these windows. state: after the windows before them; None at the start."""
        features = self.encoder.features(raw)
        steps, state = self.core(self.encoder.project(features), state)
        return CoreOutput(steps, state, features=features, raw=raw)

    def forward(
        self, batch: Batch, player: str = "model", state: State | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """The loss terms, and the state after the batch.

        All heads share one pass of encoder and core. player: "model" for the terms of every head; the name of a head
        with a critic for the terms of that critic alone, which trains neither encoder nor core. state: rows whose
        window is not their first continue from it.
        """
        if state is not None:
            state = self.reset(state, [start == 0 for start in batch.starts])
        heads = [self.head(name) for name in ([player] if player in self.heads else self.heads)]
        if all(isinstance(head, AdversarialHead) and head.skips_core for head in heads):
            output = _output_without_core(batch.raw, self.core.initial_state(len(batch.sources)))
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and player not in self.heads):
                output = self.watch(batch.raw, state)
        terms = {term: value for head in heads for term, value in head.loss(output, batch, player).items()}
        return terms, output.state

    def reset(self, state: State, rows: Sequence[bool]) -> State:
        """The state with the initial state in some rows."""
        initial = self.core.initial_state(len(rows))
        mask = torch.tensor(rows, device=state[0].device)
        return tuple(
            torch.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(state, initial, strict=True)
        )

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each player: of the model itself, and of the critic of each head that has one. Each player
        has an optimizer of its own.
        """
        critics = {
            name: list(head.opponent.parameters())
            for name in self.heads
            if (head := self.head(name)).opponent is not None
        }
        critic_ids = {id(p) for parameters in critics.values() for p in parameters}
        return {"model": [p for p in self.parameters() if p.requires_grad and id(p) not in critic_ids], **critics}


def _output_without_core(raw: Raw, state: State) -> CoreOutput:
    """The raw data, with empty outputs of the core, for heads that do not read them."""
    rows = len(state[0])
    return CoreOutput(Padded(torch.zeros(rows, 1, 0), torch.ones(rows, dtype=torch.int64)), state, raw=raw)
