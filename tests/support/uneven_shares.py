"""The gradients of every head, of some rows of a batch: one rank of two that tests/models/test_process_mean.py runs
under torchrun.

Usage: uneven_shares.py FOLDER; writes FOLDER/rankN.pt. Nothing is drawn at random, so that the shares of a batch can be
compared with the whole batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from every_head import SERIES_HEADS, TEXT_HEADS, WIDTH, WORDS, build, text_source
from torch import Tensor, nn

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset, RowSource, StoredSeries
from pipeline.data.manifest_rows import Row, Span
from pipeline.training.distributed import distributed, seed_step

STEPS = [10, 4, 10, 10, 5, 6, 9, 3]
"""Steps of the rows. A forecast of 2 steps with a context of 8 has one place in a row of 10 steps, none in others."""
SHARES = ((0, 1, 4, 7), (2, 3, 5, 6))
"""The rows of each rank."""
EMPTY = 7
"""The row whose window is empty, as that of a lane that has ended."""
HEADS = {**SERIES_HEADS, **TEXT_HEADS} | {
    "forecast_critic": {"kind": "forecast", "horizon": 2, "context": 8, "adversarial": {}}
}


def make_rows() -> list[Row]:
    """Rows with 1 to 4 words."""
    return [
        Row(
            f"{i}.npy",
            "train",
            label=("down", "up")[i % 2],
            spans=(Span(0.0, 0.2, "down"), Span(0.2, 0.3, "up")),
            captions=(" ".join(WORDS[: 1 + i % 4]),),
            text=" ".join(WORDS[: steps - 2]),
        )
        for i, steps in enumerate(STEPS)
    ]


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within it random numbers are zeros and permutations are the identity."""

    def zeros(*shape: object, **options: object) -> Tensor:
        options.pop("generator", None)
        return torch.zeros(*shape, **options)  # type: ignore[arg-type]

    with (
        patch("torch.rand", zeros),
        patch("torch.randn", zeros),
        patch("torch.randn_like", torch.zeros_like),
        patch("torch.randperm", torch.arange),
    ):
        yield


def gradients(name: str, folder: Path, share: Sequence[int]) -> dict[str, Tensor]:
    """The gradients and the loss terms of both players of a head, for these rows."""
    rows = make_rows()
    is_text = name in TEXT_HEADS
    encoder = (
        {"kind": "tokens", "add_bos_eos": True, "embedding": 8, "dropout": 0}
        if is_text
        else {"kind": "series", "project": 0, "normalise": "none", "dropout": 0}
    )
    heads = {name: HEADS[name] if HEADS[name]["kind"] == "generate" else {**HEADS[name], "dropout": 0}}
    if name == "caption_spans":
        heads["segment"] = {"kind": "segment", "dropout": 0}
    seed_step(0, -1, 0)
    model, tokenizer = build(encoder, heads, rows)
    source: RowSource = text_source(rows, tokenizer) if is_text else StoredSeries(folder, 10.0)
    dataset = RowDataset(rows, source, {n: model.head(n).target for n in model.heads}, window=12)
    batch = collate([dataset[(0, i, -1 if i == EMPTY else 0)] for i in share])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found: dict[str, Tensor] = {}
    with nothing_drawn():
        for player, parameters in model.players().items():
            model.train().zero_grad()
            terms, _ = model(batch, player)
            torch.stack(list(terms.values())).sum().backward()
            names = {id(p): key for key, p in model.named_parameters()}
            found |= {f"{player} {key}": value.detach() for key, value in terms.items()}
            found |= {f"{player} {names[id(p)]}": p.grad for p in parameters if p.grad is not None}
    return found


def write_series(folder: Path) -> None:
    """The files of the rows."""
    rng = np.random.default_rng(0)
    for row, steps in zip(make_rows(), STEPS, strict=True):
        np.save(folder / row.path, rng.standard_normal((steps, WIDTH)).astype(np.float32))


if __name__ == "__main__":
    shared = Path(sys.argv[1])
    with distributed("cpu", 1) as context:
        own = {name: gradients(name, shared, SHARES[context.rank]) for name in HEADS}
        torch.save(own, shared / f"rank{context.rank}.pt")
