"""The model: an encoder looks, one core watches, heads answer.

In: raw senses. Out: `Seen`, and loss terms by name. Knows nothing of files, optimisers or devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch, Raw
from pipeline.models.core import State, Watcher
from pipeline.models.head import Contest, Head
from pipeline.models.seen import Seen
from pipeline.padded import Padded


class Encoder(Protocol):
    """From raw senses to one sequence (B, T, D); every encoder is an nn.Module as well."""

    output_size: int

    def __call__(self, raw: Raw) -> Padded:
        """The sequence that the core watches."""
        ...


class Model(nn.Module):
    """encoder -> core -> heads, with the state of the core in the caller's hands.

    state = None
    for window in windows:
        seen = model.watch(window, state)
        state = seen.state
        memory = head.observe(seen, memory)
    """

    def __init__(self, encoder: Encoder, core: Watcher, heads: Mapping[str, Head]) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module) and isinstance(core, nn.Module)
        self.encoder, self.core = encoder, core
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if isinstance(head, nn.Module)})
        assert len(self.heads) == len(heads), "heads are modules"

    def head(self, name: str) -> Head:
        """A head by its name in the config."""
        return self.heads[name]  # type: ignore[return-value]

    def watch(self, raw: Raw, state: State | None = None) -> Seen:
        """What the core knows after these windows, going on from `state`."""
        inputs = self.encoder(raw)
        steps, state = self.core(inputs, state)
        return Seen(steps, state, inputs=inputs, raw=raw)

    def forward(
        self, batch: Batch, player: str = "model", state: State | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """The loss terms of every head (of an opponent's own head, where that plays), one pass of encoder and core for all of
        them, and the state after it. From a `state` a row goes on where its window is not its first.
        """
        if state is not None:
            state = self.reset(state, [start == 0 for start in batch.starts])
        heads = [self.head(name) for name in ([player] if player in self.heads else self.heads)]
        if all(isinstance(head, Contest) and head.is_blind for head in heads):
            seen = _unseen(batch.raw, self.core.initial_state(len(batch.sources)))
        else:
            seen = self.watch(batch.raw, state)
        terms = {term: value for head in heads for term, value in head.loss(seen, batch, player).items()}
        return terms, seen.state

    def reset(self, state: State, rows: Sequence[bool]) -> State:
        """The state with some rows as before anything was seen."""
        new = self.core.initial_state(len(rows))
        mask = torch.tensor(rows, device=state[0].device)
        return tuple(
            torch.where(mask.reshape(-1, *[1] * (old.ndim - 1)), first, old)
            for old, first in zip(state, new, strict=True)
        )

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Who plays in training: the model itself, and the opponent of each head that has one."""
        opponents = {
            name: list(head.opponent.parameters())
            for name in self.heads
            if (head := self.head(name)).opponent is not None
        }
        taken = {id(p) for parameters in opponents.values() for p in parameters}
        return {"model": [p for p in self.parameters() if p.requires_grad and id(p) not in taken], **opponents}


def _unseen(raw: Raw, state: State) -> Seen:
    """What was there to watch, and was not watched."""
    rows = len(state[0])
    return Seen(Padded(torch.zeros(rows, 1, 0), torch.ones(rows, dtype=torch.int64)), state, raw=raw)
