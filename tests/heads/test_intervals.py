"""The confidence interval of every head is by group: copies within a group do not make it narrower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_head import SERIES_HEADS, TEXT_HEADS, make_rows, series_model, series_source, text_model, text_source

from pipeline.data.dataset import RowDataset
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.heads.caption import CaptionResult
from pipeline.heads.segment import SegmentResult
from pipeline.heads.transcribe import TranscribeResult
from pipeline.models.head import Head, Result

MEASURED = [name for name in (*SERIES_HEADS, *TEXT_HEADS) if not name.startswith("generate")]
"""Generated sequences are compared all together, and have no interval."""


def results_of(name: str, folder: Path) -> tuple[Head, list[Result]]:
    """A head with random weights, and its results on eight rows."""
    rows = make_rows()
    torch.manual_seed(0)
    if name in TEXT_HEADS:
        model, tokenizer = text_model(rows, name)
        source = text_source(rows, tokenizer)
    else:
        model = series_model(rows, *(("segment", name) if name == "caption_spans" else (name,)))
        source = series_source(folder, rows)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0)  # so that the answers differ
    dataset = RowDataset(rows, source, {head: model.head(head).target for head in model.heads})
    evaluation = evaluate_dataset(model, dataset, batch_size=8, device=torch.device("cpu"))
    results = [corrected(one) if number % 3 else one for number, one in enumerate(evaluation.results[name])]
    return evaluation.heads[name], results


def corrected(result: Result) -> Result:
    """A result whose answer is right, of the heads that are never right by chance."""
    if isinstance(result, CaptionResult):
        return result._replace(sentence=result.references[0])
    if isinstance(result, SegmentResult):
        return replace(result, path=result.target)
    return replace(result, hypothesis=result.reference) if isinstance(result, TranscribeResult) else result


@pytest.mark.parametrize("name", MEASURED)
def test_an_interval_is_that_of_groups(name: str, tmp_path: Path) -> None:
    head, results = results_of(name, tmp_path)
    groups = list("aaabbccd")
    low, high = head.confidence_interval(results, groups)
    assert low < high
    renamed = [{"a": "x", "b": "b", "c": "y", "d": "a"}[group] for group in groups]
    assert head.confidence_interval(results, renamed) == pytest.approx((low, high)), "names do not matter"
    assert head.confidence_interval(results, list("abcdefgh")) != pytest.approx((low, high)), "items are no groups"
    if not name.startswith("caption"):  # CIDEr-D weighs words by how many of the texts have them
        assert head.confidence_interval(results * 3, groups * 3) == pytest.approx((low, high)), "copies do not count"
