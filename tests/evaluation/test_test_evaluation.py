"""The rows of the table: what the model saw for each order of the steps, and intervals by group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_training import WIDTH, make_series

from pipeline.checkpoint import Checkpoint
from pipeline.config.run import Config, load_config
from pipeline.data.dataset import StoredSeries
from pipeline.data.manifest import read_manifest
from pipeline.data.run_data import RunData
from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation.test_evaluation import evaluate_test_split
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.models.model import Model
from pipeline.padded import Padded

ORDERS = ("forward", "reversed", "shuffled")


def parts_of(folder: Path, *settings: str) -> tuple[Config, RunData, Checkpoint]:
    """Series in groups of 5, of which 10 to 14 steps are long, and a model with random weights."""
    path = make_series(folder, 100, shortest=10, longest=14)
    base = [f"data.path={path}", "encoder.kind=series", "encoder.project=0", "core.hidden=8", "training.batch_size=8"]
    config = load_config(None, [*base, *settings])
    manifest = read_manifest(path)
    labels = {"action": Vocabulary.of(row.label for row in manifest.rows if row.label)}
    torch.manual_seed(0)
    model = config.architecture.build(labels, input_size=WIDTH).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(0.0 if "logits.bias" in name else 3.0)  # so that the answers differ
    data = RunData(manifest, StoredSeries(manifest.root, 10.0), {}, WIDTH)
    return config, data, Checkpoint(model, config.architecture, labels, WIDTH, {})


def measure(parts: tuple[Config, RunData, Checkpoint]) -> list[dict[str, Any]]:
    return evaluate_test_split(*parts, torch.device("cpu"), name="gru")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every sequence that a model watches, in order."""
    sequences: list[np.ndarray] = []
    watch = Model.watch

    def watch_and_keep(model: Model, raw: Mapping[str, Padded], *rest: Any) -> Any:
        sequences.extend(row.numpy().copy() for row in raw["series"].unpad())
        return watch(model, raw, *rest)

    monkeypatch.setattr(Model, "watch", watch_and_keep)
    return sequences


def test_the_model_sees_every_test_row_forward_reversed_and_shuffled(tmp_path: Path, seen: list[np.ndarray]) -> None:
    parts = parts_of(tmp_path)
    rows = measure(parts)
    assert [row["order"] for row in rows] == list(ORDERS)
    stored = {row.path: np.load(tmp_path / row.path) for row in parts[1].rows("test")}
    assert len(stored) == 20 and len(seen) == 3 * len(stored)
    passes = {order: seen[n * len(stored) : (n + 1) * len(stored)] for n, order in enumerate(ORDERS)}
    for order, sequences in passes.items():
        found: dict[str, np.ndarray] = {}
        for sequence in sequences:
            (path,) = [p for p, v in stored.items() if sorted(v[:, 0].tolist()) == sorted(sequence[:, 0].tolist())]
            found[path] = sequence
        assert found.keys() == stored.keys(), "every row once"
        for path, sequence in found.items():
            forward = stored[path]
            steps = [int(np.flatnonzero((forward == step).all(1))[0]) for step in sequence]
            count = len(forward)
            if order == "forward":
                assert steps == list(range(count))
            elif order == "reversed":
                assert steps == list(range(count))[::-1]
            else:
                jumps = {(b - a) % count for a, b in pairwise(steps)}
                assert sorted(steps) == list(range(count)) and len(jumps) > 1, "neither shifted nor reversed"


def test_each_row_has_what_was_predicted_for_its_order(tmp_path: Path) -> None:
    config, data, checkpoint = parts_of(tmp_path, "heads.action.pool=last")
    rows = {row["order"]: row["predicted"] for row in measure((config, data, checkpoint))}
    model, head = checkpoint.model, checkpoint.model.head("action")
    for order, flip in (("forward", False), ("reversed", True)):
        expected = []
        for row in data.rows("test"):
            values = torch.from_numpy(np.load(tmp_path / row.path))[None]
            values = values.flip(1) if flip else values
            with torch.inference_mode():
                output = model.watch({"series": Padded(values, torch.tensor([values.shape[1]]))})
                expected.append(int(head.pooled(head.observe(output)).argmax()))  # type: ignore[attr-defined]
        assert rows[order] == expected
    assert len({json.dumps(predicted) for predicted in rows.values()}) > 1


def test_only_forward_rows_where_order_controls_are_off(tmp_path: Path) -> None:
    rows = measure(parts_of(tmp_path, "evaluation.order_controls=false"))
    assert [row["order"] for row in rows] == ["forward"]


def test_the_interval_is_by_group_and_stands_in_the_forward_row(tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    forward, *others = measure(parts)
    groups = [row.group for row in parts[1].rows("test")]
    assert len(set(groups)) == 4 < len(groups)
    correct = [float(right) for right in forward["correct"]]
    assert 0 < sum(correct) < len(correct)
    assert forward["confidence_interval"] == pytest.approx(ratio_interval(correct, None, groups))
    assert forward["confidence_interval"] != pytest.approx(ratio_interval(correct, None, None))
    assert not any("confidence_interval" in row for row in others)
