"""Targets: every head's is a small object without modules, and processes that load samples give the same samples."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from every_head import (
    FRAME_HEADS,
    SERIES_HEADS,
    TEXT_HEADS,
    frames_model,
    make_rows,
    series_model,
    series_source,
    text_model,
    text_source,
)
from torch.utils.data import DataLoader

from pipeline.config.heads import HeadSection
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import DecodedFrames, RowDataset, StoredFeatures
from pipeline.data.feature_store import Features, FeatureStore
from pipeline.data.manifest_rows import Row
from pipeline.media.clock import Clock
from pipeline.media.transform import Transform
from pipeline.models.model import Model
from pipeline.padded import Padded

ROWS = make_rows()
LARGEST_TARGET = 300_000  # bytes: a tokenizer of 2,000 words; a caption head has megabytes


def models() -> list[Model]:
    return [series_model(ROWS), text_model(ROWS)[0], frames_model(ROWS)]


def test_every_kind_of_head_is_tried() -> None:
    kinds = {head["kind"] for head in (*SERIES_HEADS.values(), *TEXT_HEADS.values(), *FRAME_HEADS.values())}
    (union, _), sections = get_args(HeadSection), []
    for section in get_args(union):
        sections += get_args(get_args(section)[0]) if get_args(section) else [section]
    assert kinds == {section.model_fields["kind"].default for section in sections}


def test_every_target_is_small_and_holds_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = models()

    def refuse(self: object, protocol: object = None) -> None:
        raise AssertionError(f"a target holds a {type(self).__name__}")

    monkeypatch.setattr(torch.nn.Module, "__reduce_ex__", refuse)
    monkeypatch.setattr(torch.Tensor, "__reduce_ex__", refuse)
    times = np.arange(12) / 10.0
    for model in tried:
        for name in model.heads:
            target = model.head(name).target
            expected = target(ROWS[0], times)  # what it computes for itself is not copied
            data = pickle.dumps(target)
            assert len(data) < LARGEST_TARGET, name
            copy = pickle.loads(data)(ROWS[0], times)
            assert expected is not None and copy is not None and torch.equal(copy, expected)


def equal(a: torch.Tensor | Padded, b: torch.Tensor | Padded) -> bool:
    if isinstance(a, Padded) and isinstance(b, Padded):
        return torch.equal(a.data, b.data) and torch.equal(a.lengths, b.lengths)
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)


def load(dataset: RowDataset, workers: int) -> list[Batch]:
    batches = [[(0, i) for i in range(start, start + 4)] for start in (0, 4)]
    context = "spawn" if workers else None
    sampler: object = batches
    return list(
        DataLoader(
            dataset,
            batch_sampler=sampler,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context=context,
        )
    )


@pytest.mark.parametrize("sense", ["series", "tokens"])
def test_two_processes_load_the_samples_of_every_head(sense: str, tmp_path: Path) -> None:
    if sense == "series":
        model, source = series_model(ROWS), series_source(tmp_path, ROWS)
        heads = [model.head(name) for name in model.heads] + [frames_model(ROWS).head("generate_frames")]
        targets = {str(i): head.target for i, head in enumerate(heads)}
    else:
        model, tokenizer = text_model(ROWS)
        source = text_source(ROWS, tokenizer)
        targets = {name: model.head(name).target for name in model.heads}
    dataset = RowDataset(ROWS, source, targets, window=9)
    for alone, together in zip(load(dataset, 0), load(dataset, 2), strict=True):
        assert alone.sources == together.sources and alone.targets.keys() == together.targets.keys() == targets.keys()
        assert equal(alone.raw[sense], together.raw[sense])
        assert all(equal(alone.targets[name], together.targets[name]) for name in targets)


def test_a_copy_of_a_source_has_no_cached_rows(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"content")
    store = FeatureStore(tmp_path / "store", {"cnn": "x"})
    store.write(video, Features(np.ones((500, 400)), np.arange(500.0)))
    features = StoredFeatures(tmp_path, store)
    assert len(features.read(Row("a.mp4"), 0, 500)[0]) == 500
    frames = DecodedFrames(tmp_path, Clock(1), Transform(size=32), "pyav")
    frames._cache["a.mp4"] = np.zeros((99, 32, 32, 3), np.uint8), np.zeros(99)
    texts = text_source(ROWS, text_model(ROWS)[1])
    texts.length(Row("long", text="word0001 " * 100_000))
    for source in (features, frames, texts):
        assert len(pickle.dumps(source)) < 150_000
    copy = pickle.loads(pickle.dumps(features))
    assert torch.equal(copy.read(Row("a.mp4"), 3, 9)[0], features.read(Row("a.mp4"), 3, 9)[0])
