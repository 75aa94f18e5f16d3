"""Truncated back-propagation through time: the carried state is that of the whole row, and resumes are bit-equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchrun import torchrun
from toy_training import CPU, SETTINGS, SignalAt, Toy, make_series, make_toy, metric_rows

from pipeline.config.base import ConfigError
from pipeline.config.run import load_config
from pipeline.data.batch import collate
from pipeline.data.sampler import Key, TbpttSampler
from pipeline.padded import stack
from pipeline.training.resume import saved_step
from pipeline.training.stop_signal import Interrupted

TBPTT = SETTINGS.model_copy(update={"tbptt": True, "batch_size": 4})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = make_toy(tmp_path_factory.mktemp("series"))
    toy.train.window = 4
    return toy


def test_the_carried_state_is_that_of_the_whole_row(toy: Toy) -> None:
    model = toy.model(dropout=0.0).eval()
    state, last_states = None, {}
    for keys in TbpttSampler(toy.train.full_lengths, 4, 4, 0):
        batch = collate([toy.train[key] for key in keys])
        _, state = model(batch, "model", state)
        last_states |= {key[1]: state[0][lane] for lane, key in enumerate(keys) if key[2] >= 0}
    assert len(last_states) == len(toy.train)
    for index, last_state in last_states.items():
        output = model.watch({"series": stack([toy.train.source.read(toy.train.rows[index], 0, 99)[0]])})
        assert torch.allclose(last_state, output.state[0][0], atol=1e-5)


def test_an_interrupted_and_resumed_training_is_bit_equal(toy: Toy, tmp_path: Path) -> None:
    whole = toy.model()
    toy.fit(whole, tmp_path / "whole", TBPTT)
    with pytest.raises(Interrupted):
        toy.fit(toy.model(), tmp_path / "interrupted", TBPTT, train=SignalAt(toy.train, 50))
    step = saved_step(tmp_path / "interrupted")
    batches = len(TbpttSampler(toy.train.full_lengths, 4, 4, 0))
    assert step and step % batches != 0, "in the middle of an epoch, with a core state"
    resumed = toy.model(seed=9)
    toy.fit(resumed, tmp_path / "interrupted", TBPTT, from_step=step)
    for expected, parameter in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, parameter)
    assert len(metric_rows(tmp_path / "whole", "val")) == TBPTT.epochs


def test_a_state_of_another_number_of_processes_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.fit(toy.model(), tmp_path, TBPTT, train=SignalAt(toy.train, 50))
    with pytest.raises(ValueError, match="holds the core states of 1 processes, and this run has 2.*--fresh"):
        toy.fit(toy.model(), tmp_path, TBPTT, context=replace(CPU, world_size=2))


def test_the_lanes_are_laid_out_once_an_epoch_and_once_to_count_its_steps(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out: list[int] = []
    lanes_of = TbpttSampler._lanes

    def count(self: TbpttSampler) -> list[list[Key]]:
        laid_out.append(self.epoch)
        return lanes_of(self)

    monkeypatch.setattr(TbpttSampler, "_lanes", count)
    toy.fit(toy.model(), tmp_path, TBPTT)
    assert sorted(laid_out) == sorted([*range(TBPTT.epochs)] * 2)


def test_two_processes_whose_lanes_end_at_different_steps_train_a_language_model(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torchrun("two_lanes.py", tmp_path)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert sorted(rank["windows"].count(-1) for rank in ranks) == [0, 6], "one rank has nothing to read at the end"
    assert ranks[0]["weights"] == ranks[1]["weights"] and ranks[0]["finite"] and ranks[0]["steps"] == 2 * 8


def test_tbptt_needs_windows_and_one_direction(tmp_path: Path) -> None:
    manifest = str(make_series(tmp_path, 8, noise=0.2, longest=12))
    base = {"data": {"path": manifest}, "encoder": {"kind": "series"}, "training": {"tbptt": True}}
    with pytest.raises(ConfigError, match=r"data\.window is null; set for example 256"):
        load_config(None, ["data.window=null"], base=base)
    with pytest.raises(ConfigError, match=r"set core\.bidirectional: false"):
        load_config(None, ["core.bidirectional=true"], base=base)
