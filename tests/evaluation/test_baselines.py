"""The baselines of a config: mean pooling, and the heads that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.run import Config, load_config
from pipeline.evaluation.baselines import BASELINES, baseline_configs


def config_of(tmp_path: Path, **sections: Any) -> Config:
    data = {"path": str(tmp_path / "manifest.jsonl"), "window": None}
    base = {"data": data, "encoder": {"kind": "series"}, **sections}
    return load_config(None, base=base)


def test_a_baseline_pools_by_the_mean_on_the_same_data(tmp_path: Path) -> None:
    messages: list[str] = []
    config = config_of(tmp_path, heads={"action": {"kind": "classify", "pool": "attention"}})
    baselines = baseline_configs(config, messages.append)
    assert list(baselines) == list(BASELINES) and messages == []
    for baseline in baselines.values():
        assert baseline.core.cell == "mean" and baseline.encoder.model_dump()["project"] == 0
        assert baseline.heads["action"].model_dump()["pool"] == "last"
        assert (baseline.data, baseline.training) == (config.data, config.training)


def test_heads_without_a_baseline_are_named(tmp_path: Path) -> None:
    messages: list[str] = []
    heads = {"action": {"kind": "classify"}, "words": {"kind": "caption"}}
    baselines = baseline_configs(config_of(tmp_path, heads=heads), messages.append)
    assert all(list(baseline.heads) == ["action"] for baseline in baselines.values()) and baselines
    assert messages == ["baselines: none for words, which generate texts or sequences"]


def test_a_trained_cnn_has_no_baselines(tmp_path: Path) -> None:
    messages: list[str] = []
    encoder = {"kind": "frames", "train_blocks": 1}
    assert baseline_configs(config_of(tmp_path, encoder=encoder), messages.append) == {}
    assert messages[0].startswith("baselines: none, because the CNN is trained")
