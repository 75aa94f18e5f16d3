"""Forecasting: the truth is the future and nothing of it leaks, quantiles never cross, windows equal the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.manifest import Row
from pipeline.encoders.adapt import Adapter
from pipeline.encoders.series import SeriesEncoder
from pipeline.heads.forecast import Forecast
from pipeline.metrics.quantile import pinball
from pipeline.models.core import Core
from pipeline.models.model import Model
from pipeline.models.prediction import SeriesForecast
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack

D, H = 2, 6
MODES = [{}, {"mode": "recursive", "segment": 2}, {"quantiles": (0.1, 0.5, 0.9)}, {"from_last": False}]
PATCHES = [(1, False), (3, False), (3, True)]
each_mode = pytest.mark.parametrize("mode", MODES, ids=str)
each_patch = pytest.mark.parametrize(("patch", "from_last"), PATCHES)


def same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def head_of(patch: int = 1, steps: int = 5, **settings) -> Forecast:
    torch.manual_seed(0)
    return Forecast(name="next", input_size=H, width=D, steps=steps, patch=patch, **settings).eval()


def model_of(head: Forecast, from_last: bool = False, normalise: str = "none") -> Model:
    torch.manual_seed(1)
    wide = SeriesEncoder.patch_size(D, head.patch, from_last)
    adapter = Adapter(input_size=wide, project=4, normalise=normalise, dropout=0.0)  # type: ignore[arg-type]
    encoder = SeriesEncoder(adapter=adapter, patch=head.patch, from_last=from_last)
    return Model(encoder, Core(cell="gru", input_size=4, hidden=H), {"next": head}).eval()


def series(lengths=(17, 9, 21, 2)) -> Padded:
    torch.manual_seed(2)
    return stack([torch.randn(n, D).cumsum(0) for n in lengths])


def batch_of(x: Padded) -> Batch:
    return Batch({"series": x}, {"next": torch.zeros(len(x.lengths))}, tuple(map(str, range(len(x.lengths)))))


# what it learns from


@each_patch
@pytest.mark.parametrize("context", [1, 6])
def test_truths_are_exactly_the_future_values_and_no_place_is_left_out(patch, from_last, context):
    head = head_of(patch, context=context)
    x = series()
    _, last, truth, row = head._places(model_of(head, from_last).watch({"series": x}))
    wanted = [
        (b, values[t], values[t + 1 : t + 6])
        for b, values in enumerate(x.unpad())
        for t in range(patch - 1, len(values), patch)
        if t + 1 >= context and t + 5 < len(values)
    ]
    assert len(wanted) > 3
    assert row.tolist() == [b for b, _, _ in wanted]
    same(last, torch.stack([value for _, value, _ in wanted]))
    same(truth, torch.stack([future for _, _, future in wanted]))


@each_mode
@each_patch
def test_changing_the_future_changes_no_forecast(mode, patch, from_last):
    head = head_of(patch, **mode)
    model = model_of(head, from_last)
    x = series((21,)).data
    for t in range(patch - 1, 16, patch):
        garbled = x.clone()
        garbled[:, t + 1 :] = 1e3
        found = []
        for values in (x, garbled):
            output, last, _, _ = head._places(model.watch({"series": Padded(values, torch.tensor([21]))}))
            at = t // patch
            found.append(head.forecast(output[at : at + 1], last[at : at + 1]))
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
        alone = model.watch({"series": Padded(x[:, : t + 1], torch.tensor([t + 1]))})
        same(head.forecast(*head.observe(alone)[:2]), found[0])


@each_mode
@each_patch
@pytest.mark.parametrize("garbage", [float("nan"), 1e30])
def test_garbage_in_the_padding_changes_neither_loss_nor_gradients(mode, patch, from_last, garbage):
    head = head_of(patch, **mode)
    model, x, found = model_of(head, from_last), series(), []
    for filler in (0.0, garbage):
        data = torch.where(x.mask[:, :, None], x.data, filler)
        model.zero_grad()
        terms, _ = model(batch_of(Padded(data, x.lengths)))
        torch.stack(list(terms.values())).sum().backward()
        found.append((terms, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert all(torch.isfinite(g).all() for g in found[1][1] if g is not None)


@each_patch
@pytest.mark.parametrize("point", ["mean", "median"])
def test_the_loss_by_hand(patch, from_last, point):
    head = head_of(patch, quantiles=(0.25, 0.75), point=point)
    seen = model_of(head, from_last).watch({"series": series()})
    errors, pins = [], []
    for outputs, values in zip(seen.steps.unpad(), series().unpad(), strict=True):
        for s, output in enumerate(outputs):
            t = (s + 1) * patch - 1
            if t + 5 >= len(values):
                continue
            change = (head.change.weight @ output + head.change.bias).reshape(5, D, 3)
            said = values[t][None, :, None] + change
            truth = values[t + 1 : t + 6]
            errors.append((said[..., 0] - truth) ** 2 if point == "mean" else (said[..., 0] - truth).abs())
            low, high = said[..., 1:].amin(-1), said[..., 1:].amax(-1)
            for level, quantile in ((0.25, low), (0.75, high)):
                miss = truth - quantile
                pins.append(torch.where(miss > 0, level * miss, (level - 1) * miss))
    terms = head.loss(seen, batch_of(series()), "model")
    same(terms["next"], torch.stack(errors).mean())
    same(terms["next_quantiles"], torch.stack(pins).mean())


def test_a_batch_of_too_short_rows_teaches_nothing_and_still_has_a_gradient():
    head = head_of(quantiles=(0.5,))
    model = model_of(head)
    terms, _ = model(batch_of(series((3, 5, 0))))
    assert [float(t.detach()) for t in terms.values()] == [0.0, 0.0]
    torch.stack(list(terms.values())).sum().backward()
    assert head.change.weight.grad is not None and not head.change.weight.grad.any()


# what it answers


def test_recursive_equals_direct_where_one_segment_is_the_whole():
    for steps in (1, 4):
        direct = head_of(steps=steps, quantiles=(0.2, 0.8))
        recursive = head_of(steps=steps, quantiles=(0.2, 0.8), mode="recursive", segment=steps)
        assert recursive.again is None
        recursive.load_state_dict(direct.state_dict())
        output, last = torch.randn(7, H), torch.randn(7, D)
        torch.testing.assert_close(direct.forecast(output, last), recursive.forecast(output, last), rtol=0, atol=0)


@pytest.mark.parametrize("from_last", [True, False])
def test_recursive_is_the_loop_that_it_says(from_last):
    head = head_of(steps=5, mode="recursive", segment=2, from_last=from_last)
    output, last = torch.randn(3, H), torch.randn(3, D)
    assert head.again is not None
    state, base, said = output, last, []
    for _ in range(3):
        part = head.change(state).reshape(3, 2, D)
        said.append(part + base[:, None] if from_last else part)
        base = said[-1][:, -1]
        state = head.again.step(part.reshape(3, -1), (state[:, None],))[1][0][:, 0]
    same(head.forecast(output, last)[0], torch.cat(said, 1)[:, :5])


def test_a_shifted_series_shifts_the_forecast_from_the_same_output():
    head = head_of(quantiles=(0.1, 0.9))
    output, last = torch.randn(3, H), torch.randn(3, D)
    for plain, shifted in zip(head.forecast(output, last), head.forecast(output, last + 7.0), strict=True):
        same(plain + 7.0, shifted)


@pytest.mark.parametrize("mode", ["direct", "recursive"])
def test_quantiles_never_cross(mode):
    head = head_of(quantiles=(0.05, 0.25, 0.5, 0.75, 0.95), mode=mode, segment=2)
    _, quantiles = head.forecast(10 * torch.randn(50, H), torch.randn(50, D))
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_pinball_is_least_at_the_quantile():
    truth = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=4001))
    levels = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    grid = torch.linspace(0, 6, 601, dtype=torch.float64)
    losses = torch.stack([pinball(g.expand(len(truth), 3), truth, levels).mean(0) for g in grid])
    best = grid[losses.argmin(0)]
    torch.testing.assert_close(best, truth.quantile(levels), rtol=0, atol=0.011)
    one = pinball(torch.tensor([[1.0, 1.0]]), torch.tensor([3.0]), torch.tensor([0.1, 0.9]))
    same(one, torch.tensor([[0.2, 1.8]]))


@each_mode
@each_patch
@pytest.mark.parametrize("cuts", [[9], [3, 6], [0, 3, 3, 12]])
def test_the_answer_after_windows_is_that_of_the_whole(mode, patch, from_last, cuts):
    head = head_of(patch, **mode)
    model, x = model_of(head, from_last), series()
    memory = state = None
    for a, b in zip([0, *cuts], [*cuts, 21], strict=True):
        window = Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a))
        seen = model.watch({"series": window}, state)
        state, memory = seen.state, head.observe(seen, memory)
    whole = head.observe(model.watch({"series": x}))
    same(memory, whole)
    assert whole[2].tolist() == [n // patch * patch for n in x.lengths.tolist()]


def test_an_answer_stands_at_its_seconds_and_becomes_a_row():
    head = head_of(steps=3, rate=2.0, quantiles=(0.1, 0.9))
    memory = head.observe(model_of(head).watch({"series": series((8, 0))}))
    one, nothing = head.answer(memory)
    assert isinstance(one, SeriesForecast) and isinstance(nothing, SeriesForecast)
    assert one.times == (4.0, 4.5, 5.0)  # the eighth step, at 3.5 s, was the last that was seen
    row = json.loads(json.dumps(one.row(5)))
    point, quantiles = head.forecast(*memory[:2])
    assert row["values"] == pytest.approx(np.array(point[0].tolist()), rel=1e-5)
    assert row["quantiles"][1]["values"] == pytest.approx(np.array(quantiles[0, ..., 1].tolist()), rel=1e-5)
    assert nothing.row(5) == {"times": [], "values": [], "quantiles": []}


# how it is judged


@each_patch
def test_metrics_over_any_batches_are_those_of_all_forecasts_at_once(patch, from_last):
    head = head_of(patch, quantiles=(0.2, 0.9))
    model = model_of(head, from_last)
    rows = series().unpad()
    found = []
    for parts in ([rows], [[r] for r in rows]):
        evidence: list[Tensor] = []
        for part in parts:
            x = stack(part)
            evidence += head.evidence(model.watch({"series": x}), batch_of(x))
        assert len(evidence) == len(rows)
        found.append(head.metrics(evidence))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    output, last, truth, _ = head._places(model.watch({"series": series()}))
    point, quantiles = head.forecast(output, last)
    wanted = {
        "count": len(truth),
        "mse": float((point - truth).detach().square().mean()),
        "mae": float((point - truth).detach().abs().mean()),
        "repeat_last_mse": float((last[:, None] - truth).square().mean()),
        "repeat_last_mae": float((last[:, None] - truth).abs().mean()),
        "skill": 1 - float((point - truth).detach().square().mean() / (last[:, None] - truth).square().mean()),
        "mse_first_step": float((point - truth).detach()[:, 0].square().mean()),
        "mse_last_step": float((point - truth).detach()[:, -1].square().mean()),
        "pinball": float(pinball(quantiles, truth, torch.tensor([0.2, 0.9])).detach().mean()),
        "below_0.2": float((truth <= quantiles[..., 0]).float().mean()),
        "below_0.9": float((truth <= quantiles[..., 1]).float().mean()),
    }
    assert found[0] == pytest.approx(wanted, rel=1e-4)
    evidence = head.evidence(model.watch({"series": series()}), batch_of(series()))
    low, high = head.interval(evidence[:3], ["a", "b", "c"])
    assert low <= head.metrics(evidence[:3])["skill"] <= high
    assert head.interval(evidence[:1] * 3, ["a", "b", "c"]) == pytest.approx([head.metrics(evidence[:1])["skill"]] * 2)


def test_sequences_too_short_to_judge_by_are_a_sentence():
    head = head_of(context=4)
    x = series((8, 3))
    evidence = head.evidence(model_of(head).watch({"series": x}), batch_of(x))
    with pytest.raises(
        ValueError, match="No sequence holds a forecast for 'next'.* 4 steps before and 5 behind. Give lon"
    ):
        head.metrics(evidence)


def test_pixels_cannot_be_forecast_and_say_so():
    head = head_of(sense="frames")
    seen = Seen(series(), (), raw={"frames": Padded(torch.zeros(4, 21, 2, 2, 3, dtype=torch.uint8), series().lengths)})
    with pytest.raises(
        ValueError, match=r"'next' forecasts numbers \(B, T, D\), and 'frames' is torch.uint8 .*stored feat"
    ):
        head.observe(seen)


# patches and windows


def test_a_patch_is_its_form_and_its_level():
    encoder = SeriesEncoder(
        adapter=Adapter(input_size=8, project=0, normalise="none", dropout=0.0), patch=3, from_last=True
    )
    x = Padded(torch.arange(14.0).reshape(1, 7, 2), torch.tensor([7]))
    found = encoder({"series": x})
    assert found.lengths.tolist() == [2]
    assert found.data[0].tolist() == [[-4, -4, -2, -2, 0, 0, 4, 5], [-4, -4, -2, -2, 0, 0, 10, 11]]


def test_statistics_of_patches_come_from_the_sequences_given():
    encoder = SeriesEncoder(adapter=Adapter(input_size=6, project=0, normalise="fitted", dropout=0.0), patch=3)
    rows = series((9, 21)).unpad()
    encoder.fit(rows)
    patches = torch.cat([row.reshape(-1, 6) for row in rows])
    same(encoder.adapter.get_buffer("mean"), patches.mean(0))
    same(encoder.adapter.get_buffer("deviation"), patches.std(0, correction=0))


@pytest.mark.parametrize("stride", [1, 3, 50])
def test_a_stride_gives_every_window_and_nothing_else(tmp_path, stride):
    arrays = {
        name: np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32) for name, n in (("a", 30), ("b", 5))
    }
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", values)
    rows = [Row("a.npy"), Row("b.npy")]
    dataset = RowDataset(rows, StoredSeries(tmp_path, 1.0), {}, window=12, stride=stride)
    wanted = [arrays["a"][s : s + 12] for s in range(0, 19, stride)] + [arrays["b"]]
    assert len(dataset) == len(wanted) and dataset.lengths == [len(w) for w in wanted]
    for index, values in enumerate(wanted):
        np.testing.assert_array_equal(dataset[0, index].raw["series"], values)
        np.testing.assert_array_equal(dataset[3, index].raw["series"], values)


@each_mode
def test_nothing_strays_from_the_device_of_the_weights(mode):
    head = head_of(3, **mode).to("meta").train()
    x = Padded(torch.empty(4, 21, D, device="meta"), torch.tensor([21, 0, 7, 9]))
    seen = Seen(Padded(torch.empty(4, 7, H, device="meta"), torch.tensor([7, 0, 2, 3])), (), raw={"series": x})
    memory = head.observe(seen, head.observe(seen))
    batch = Batch({"series": x}, {}, ())
    assert {t.device.type for t in (*memory, *head.forecast(*memory[:2]))} == {"meta"}
    assert {t.device.type for t in head.loss(seen, batch, "model").values()} == {"meta"}


def test_samples_of_a_dataset_reach_the_head(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, D)).astype(np.float32))
    head = head_of(3, steps=6, context=6)
    dataset = RowDataset([Row("a.npy")], StoredSeries(tmp_path, 1.0), {"next": head.target}, window=12, stride=1)
    batch = collate([dataset[0, i] for i in range(len(dataset))])
    evidence = head.evidence(model_of(head).watch(batch.raw), batch)
    assert head.metrics(evidence)["count"] == len(dataset) == 29
