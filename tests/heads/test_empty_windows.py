"""Windows without steps, which truncated BPTT gives where a lane has ended, and windows of one step: they teach nothing
that is not theirs, and a batch of them still has a gradient for every parameter (DDP waits for all of them).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from every_head import SERIES_HEADS, TEXT_HEADS, make_rows, series_model, series_source, text_model, text_source

from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import Key
from pipeline.models.head import FitsRows, FitsSequences
from pipeline.models.model import Model

ROWS = make_rows()
EMPTY: Key = (0, 0, -1)
HEADS = [name for name in (*SERIES_HEADS, *TEXT_HEADS) if not name.startswith("generate")]  # they refuse tbptt
NEEDS_SEGMENT = {"caption_spans": ("segment",)}


def dataset_of(name: str, folder: Path, window: int) -> tuple[Model, RowDataset]:
    torch.manual_seed(0)
    if name in TEXT_HEADS:
        model, tokenizer = text_model(ROWS, name)
        source = text_source(ROWS, tokenizer)
    else:
        model, source = series_model(ROWS, *NEEDS_SEGMENT.get(name, ()), name), series_source(folder, ROWS)
    for head in map(model.head, model.heads):
        if isinstance(head, FitsRows):
            head.fit_rows(ROWS)
        if isinstance(head, FitsSequences):
            head.fit_sequences([source.read(row, 0, 99)[0] for row in ROWS])
    return model, RowDataset(ROWS, source, {n: model.head(n).target for n in model.heads}, window=window)


def batch_of(dataset: RowDataset, *keys: Key) -> Batch:
    return collate([dataset[key] for key in keys])


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_of_empty_windows_has_no_loss_and_a_gradient_for_every_parameter(name: str, tmp_path: Path) -> None:
    model, dataset = dataset_of(name, tmp_path, 4)
    model.train()
    terms, _ = model(batch_of(dataset, EMPTY, EMPTY), "model")
    assert all(value == 0 for value in terms.values()), terms
    torch.stack(list(terms.values())).sum().backward()
    missing = [key for key, p in model.named_parameters() if p.grad is None and ".opponent." not in key]
    assert not missing
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_whose_longest_window_is_one_step_has_a_gradient_for_every_parameter(name: str, tmp_path: Path) -> None:
    model, dataset = dataset_of(name, tmp_path, 1)
    terms, _ = model.train()(batch_of(dataset, (0, 1, 3), EMPTY), "model")
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for key, p in model.named_parameters() if ".opponent." not in key)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "forecast_critic"])  # it draws windows at random
def test_an_empty_window_changes_no_loss(name: str, tmp_path: Path) -> None:
    model, dataset = dataset_of(name, tmp_path, 6)
    model.eval()
    alone, _ = model(batch_of(dataset, (0, 1, 0), (0, 3, 6)), "model")
    beside, _ = model(batch_of(dataset, (0, 1, 0), EMPTY, (0, 3, 6), EMPTY), "model")
    assert any(value != 0 for value in alone.values()) or name == "transcribe"  # its sentences are too long for a path
    for term, value in alone.items():
        assert torch.allclose(beside[term], value, atol=1e-6), term
