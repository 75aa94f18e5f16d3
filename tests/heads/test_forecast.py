"""The forecast head: no forecast depends on the future, quantiles never cross, windows equal the whole."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.manifest_rows import Row
from pipeline.encoders.adapter import Adapter
from pipeline.encoders.series import SeriesEncoder
from pipeline.heads.forecast import Forecast
from pipeline.metrics.quantile_loss import pinball
from pipeline.models.core_output import CoreOutput
from pipeline.models.model import Model
from pipeline.models.prediction import SeriesForecast
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded, stack

D, H = 2, 6
MODES = [{}, {"mode": "recursive", "segment_steps": 2}, {"quantiles": (0.1, 0.5, 0.9)}, {"subtract_last": False}]
PATCHES = [(1, False), (3, False), (3, True)]
each_mode = pytest.mark.parametrize("mode", MODES, ids=str)
each_patch = pytest.mark.parametrize(("patch", "subtract_last"), PATCHES)


def assert_close(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def make_head(patch: int = 1, horizon: int = 5, **settings) -> Forecast:
    torch.manual_seed(0)
    return Forecast(name="next", input_size=H, width=D, horizon=horizon, patch=patch, **settings).eval()


def make_model(head: Forecast, subtract_last: bool = False, normalise: str = "none") -> Model:
    torch.manual_seed(1)
    patch_size = SeriesEncoder.patch_size(D, head.patch, subtract_last)
    adapter = Adapter(input_size=patch_size, project=4, normalise=normalise, dropout=0.0)  # type: ignore[arg-type]
    encoder = SeriesEncoder(adapter=adapter, patch=head.patch, subtract_last=subtract_last)
    return Model(encoder, Core(cell="gru", input_size=4, hidden=H), {"next": head}).eval()


def random_series(lengths=(17, 9, 21, 2)) -> Padded:
    torch.manual_seed(2)
    return stack([torch.randn(n, D).cumsum(0) for n in lengths])


def batch_of(series: Padded) -> Batch:
    count = len(series.lengths)
    return Batch({"series": series}, {"next": torch.zeros(count)}, tuple(map(str, range(count))))


# training


@each_patch
@pytest.mark.parametrize("context", [1, 6])
def test_targets_are_exactly_the_future_values_of_every_origin(patch, subtract_last, context):
    head = make_head(patch, context=context)
    series = random_series()
    _, last, target, row = head._origins(make_model(head, subtract_last).watch({"series": series}))
    expected = [
        (i, values[step], values[step + 1 : step + 6])
        for i, values in enumerate(series.unpad())
        for step in range(patch - 1, len(values), patch)
        if step + 1 >= context and step + 5 < len(values)
    ]
    assert len(expected) > 3
    assert row.tolist() == [i for i, _, _ in expected]
    assert_close(last, torch.stack([value for _, value, _ in expected]))
    assert_close(target, torch.stack([future for _, _, future in expected]))


@each_mode
@each_patch
def test_no_forecast_depends_on_the_future(mode, patch, subtract_last):
    head = make_head(patch, **mode)
    model = make_model(head, subtract_last)
    series = random_series((21,)).data
    for step in range(patch - 1, 16, patch):
        other = series.clone()
        other[:, step + 1 :] = 1e3
        forecasts = []
        for values in (series, other):
            step_output, last, _, _ = head._origins(model.watch({"series": Padded(values, torch.tensor([21]))}))
            origin = slice(step // patch, step // patch + 1)
            forecasts.append(head.forecast(step_output[origin], last[origin]))
        torch.testing.assert_close(forecasts[0], forecasts[1], rtol=0, atol=0)
        past = model.watch({"series": Padded(series[:, : step + 1], torch.tensor([step + 1]))})
        assert_close(head.forecast(*head.observe(past)[:2]), forecasts[0])


@each_mode
@each_patch
@pytest.mark.parametrize("garbage", [float("nan"), 1e30])
def test_garbage_in_the_padding_changes_neither_loss_nor_gradients(mode, patch, subtract_last, garbage):
    head = make_head(patch, **mode)
    model, series, outcomes = make_model(head, subtract_last), random_series(), []
    for filler in (0.0, garbage):
        data = torch.where(series.mask[:, :, None], series.data, filler)
        model.zero_grad()
        terms, _ = model(batch_of(Padded(data, series.lengths)))
        torch.stack(list(terms.values())).sum().backward()
        outcomes.append((terms, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)
    assert all(torch.isfinite(gradient).all() for gradient in outcomes[1][1] if gradient is not None)


@each_patch
@pytest.mark.parametrize("point", ["mean", "median"])
def test_the_loss_equals_the_one_by_hand(patch, subtract_last, point):
    head = make_head(patch, quantiles=(0.25, 0.75), point=point)
    output = make_model(head, subtract_last).watch({"series": random_series()})
    errors, pinball_losses = [], []
    for outputs, values in zip(output.steps.unpad(), random_series().unpad(), strict=True):
        for step, step_output in enumerate(outputs):
            last = (step + 1) * patch - 1
            if last + 5 >= len(values):
                continue
            change = (head.output_layer.weight @ step_output + head.output_layer.bias).reshape(5, D, 3)
            forecast = values[last][None, :, None] + change
            target = values[last + 1 : last + 6]
            error = forecast[..., 0] - target
            errors.append(error**2 if point == "mean" else error.abs())
            low, high = forecast[..., 1:].amin(-1), forecast[..., 1:].amax(-1)
            for level, quantile in ((0.25, low), (0.75, high)):
                difference = target - quantile
                pinball_losses.append(torch.where(difference > 0, level * difference, (level - 1) * difference))
    terms = head.loss(output, batch_of(random_series()), "model")
    assert_close(terms["next"], torch.stack(errors).mean())
    assert_close(terms["next_quantiles"], torch.stack(pinball_losses).mean())


def test_a_batch_of_too_short_rows_has_loss_and_gradient_zero():
    head = make_head(quantiles=(0.5,))
    terms, _ = make_model(head)(batch_of(random_series((3, 5, 0))))
    assert [float(term.detach()) for term in terms.values()] == [0.0, 0.0]
    torch.stack(list(terms.values())).sum().backward()
    assert head.output_layer.weight.grad is not None
    assert not head.output_layer.weight.grad.any()


# answers


def test_recursive_equals_direct_with_one_segment():
    for horizon in (1, 4):
        direct = make_head(horizon=horizon, quantiles=(0.2, 0.8))
        recursive = make_head(horizon=horizon, quantiles=(0.2, 0.8), mode="recursive", segment_steps=horizon)
        assert recursive.decoder_core is None
        recursive.load_state_dict(direct.state_dict())
        inputs = torch.randn(7, H), torch.randn(7, D)
        torch.testing.assert_close(direct.forecast(*inputs), recursive.forecast(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("subtract_last", [True, False])
def test_recursive_feeds_each_segment_to_the_decoder_core(subtract_last):
    head = make_head(horizon=5, mode="recursive", segment_steps=2, subtract_last=subtract_last)
    step_output, last = torch.randn(3, H), torch.randn(3, D)
    assert head.decoder_core is not None
    state, base, segments = step_output, last, []
    for _ in range(3):
        segment = head.output_layer(state).reshape(3, 2, D)
        segments.append(segment + base[:, None] if subtract_last else segment)
        base = segments[-1][:, -1]
        state = head.decoder_core.step(segment.reshape(3, -1), (state[:, None],))[1][0][:, 0]
    assert_close(head.forecast(step_output, last)[0], torch.cat(segments, 1)[:, :5])


def test_a_shift_of_the_last_value_shifts_the_forecast():
    head = make_head(quantiles=(0.1, 0.9))
    step_output, last = torch.randn(3, H), torch.randn(3, D)
    shifted = head.forecast(step_output, last + 7.0)
    for plain, moved in zip(head.forecast(step_output, last), shifted, strict=True):
        assert_close(plain + 7.0, moved)


@pytest.mark.parametrize("mode", ["direct", "recursive"])
def test_quantiles_never_cross(mode):
    head = make_head(quantiles=(0.05, 0.25, 0.5, 0.75, 0.95), mode=mode, segment_steps=2)
    _, quantiles = head.forecast(10 * torch.randn(50, H), torch.randn(50, D))
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_the_pinball_loss_is_smallest_at_the_quantile():
    target = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=4001))
    levels = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    grid = torch.linspace(0, 6, 601, dtype=torch.float64)
    losses = torch.stack([pinball(value.expand(len(target), 3), target, levels).mean(0) for value in grid])
    best = grid[losses.argmin(0)]
    torch.testing.assert_close(best, target.quantile(levels), rtol=0, atol=0.011)
    loss = pinball(torch.tensor([[1.0, 1.0]]), torch.tensor([3.0]), torch.tensor([0.1, 0.9]))
    assert_close(loss, torch.tensor([[0.2, 1.8]]))


@each_mode
@each_patch
@pytest.mark.parametrize("cuts", [[9], [3, 6], [0, 3, 3, 12]])
def test_the_memory_after_windows_is_that_of_the_whole(mode, patch, subtract_last, cuts):
    head = make_head(patch, **mode)
    model, series = make_model(head, subtract_last), random_series()
    memory = state = None
    for start, stop in zip([0, *cuts], [*cuts, 21], strict=True):
        window = Padded(series.data[:, start:stop], (series.lengths - start).clamp(0, stop - start))
        output = model.watch({"series": window}, state)
        state, memory = output.state, head.observe(output, memory)
    whole = head.observe(model.watch({"series": series}))
    assert_close(memory, whole)
    assert whole[2].tolist() == [n // patch * patch for n in series.lengths.tolist()]


def test_an_answer_has_times_in_seconds_and_becomes_a_row():
    head = make_head(horizon=3, rate=2.0, quantiles=(0.1, 0.9))
    memory = head.observe(make_model(head).watch({"series": random_series((8, 0))}))
    answer, empty = head.answer(memory)
    assert isinstance(answer, SeriesForecast)
    assert answer.times == (4.0, 4.5, 5.0)  # the last of 8 values was at 3.5 s
    row = json.loads(json.dumps(answer.row(5)))
    point, quantiles = head.forecast(*memory[:2])
    assert row["values"] == pytest.approx(np.array(point[0].tolist()), rel=1e-5)
    assert row["quantiles"][1]["values"] == pytest.approx(np.array(quantiles[0, ..., 1].tolist()), rel=1e-5)
    assert empty.row(5) == {"times": [], "values": [], "quantiles": []}


# evaluation


@each_patch
def test_metrics_over_any_batches_are_those_of_all_forecasts(patch, subtract_last):
    head = make_head(patch, quantiles=(0.2, 0.9))
    model = make_model(head, subtract_last)
    rows = random_series().unpad()
    metrics = []
    for batches in ([rows], [[row] for row in rows]):
        results: list[Tensor] = []
        for batch_rows in batches:
            series = stack(batch_rows)
            results += head.results(model.watch({"series": series}), batch_of(series))
        assert len(results) == len(rows)
        metrics.append(head.metrics(results))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)
    with torch.no_grad():
        step_output, last, target, _ = head._origins(model.watch({"series": random_series()}))
        point, quantiles = head.forecast(step_output, last)
        pinball_loss = pinball(quantiles, target, torch.tensor([0.2, 0.9])).mean()
    error, naive_error = point - target, last[:, None] - target
    expected = {
        "count": len(target),
        "mse": float(error.square().mean()),
        "mae": float(error.abs().mean()),
        "repeat_last_mse": float(naive_error.square().mean()),
        "repeat_last_mae": float(naive_error.abs().mean()),
        "skill": 1 - float(error.square().mean() / naive_error.square().mean()),
        "mse_first_step": float(error[:, 0].square().mean()),
        "mse_last_step": float(error[:, -1].square().mean()),
        "pinball": float(pinball_loss),
        "below_0.2": float((target <= quantiles[..., 0]).float().mean()),
        "below_0.9": float((target <= quantiles[..., 1]).float().mean()),
    }
    assert metrics[0] == pytest.approx(expected, rel=1e-4)


def test_the_confidence_interval_contains_the_skill():
    head = make_head()
    series = random_series()
    results = head.results(make_model(head).watch({"series": series}), batch_of(series))
    low, high = head.confidence_interval(results[:3], ["a", "b", "c"])
    assert low <= head.metrics(results[:3])["skill"] <= high
    assert math.isnan(head.confidence_interval(results[:1] * 3, ["a", "b", "c"])[0]), "alike: no spread is known"


def test_metrics_of_too_short_sequences_raise():
    head = make_head(context=4)
    series = random_series((8, 3))
    results = head.results(make_model(head).watch({"series": series}), batch_of(series))
    message = "evaluate the head 'next': it needs 4 steps before a forecast and 5 after it. Give longer sequences"
    with pytest.raises(ValueError, match=message):
        head.metrics(results)


def test_a_forecast_of_pixels_raises():
    head, series = make_head(sense="frames"), random_series()
    pixels = Padded(torch.zeros(4, 21, 2, 2, 3, dtype=torch.uint8), series.lengths)
    message = r"'next' forecasts numbers \(B, T, D\), and 'frames' is torch.uint8 .*stored features"
    with pytest.raises(ValueError, match=message):
        head.observe(CoreOutput(series, (), raw={"frames": pixels}))


# patches and windows


def test_a_patch_is_its_differences_from_the_last_value_and_that_value():
    adapter = Adapter(input_size=8, project=0, normalise="none", dropout=0.0)
    encoder = SeriesEncoder(adapter=adapter, patch=3, subtract_last=True)
    patches = encoder({"series": Padded(torch.arange(14.0).reshape(1, 7, 2), torch.tensor([7]))})
    assert patches.lengths.tolist() == [2]
    assert patches.data[0].tolist() == [[-4, -4, -2, -2, 0, 0, 4, 5], [-4, -4, -2, -2, 0, 0, 10, 11]]


def test_statistics_of_patches_come_from_the_training_sequences():
    encoder = SeriesEncoder(adapter=Adapter(input_size=6, project=0, normalise="fitted", dropout=0.0), patch=3)
    rows = random_series((9, 21)).unpad()
    encoder.fit_sequences(rows)
    patches = torch.cat([row.reshape(-1, 6) for row in rows])
    assert_close(encoder.adapter.get_buffer("mean"), patches.mean(0))
    assert_close(encoder.adapter.get_buffer("deviation"), patches.std(0, correction=0))


@pytest.mark.parametrize("stride", [1, 3, 50])
def test_a_stride_gives_every_window_and_no_other(tmp_path, stride):
    rng = np.random.default_rng(0)
    for name, n in (("a", 30), ("b", 5)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(n, 2)).astype(np.float32))
    dataset = RowDataset([Row("a.npy"), Row("b.npy")], StoredSeries(tmp_path, 1.0), {}, window=12, stride=stride)
    a, b = (np.load(tmp_path / f"{name}.npy") for name in "ab")
    expected = [*(a[start : start + 12] for start in range(0, 19, stride)), b]
    assert len(dataset) == len(expected)
    assert dataset.lengths == [len(window) for window in expected]
    for index, window in enumerate(expected):
        np.testing.assert_array_equal(dataset[0, index].raw["series"], window)
        np.testing.assert_array_equal(dataset[3, index].raw["series"], window)


@each_mode
def test_every_tensor_is_on_the_device_of_the_weights(mode):
    head = make_head(3, **mode).to("meta").train()
    series = Padded(torch.empty(4, 21, D, device="meta"), torch.tensor([21, 0, 7, 9]))
    steps = Padded(torch.empty(4, 7, H, device="meta"), torch.tensor([7, 0, 2, 3]))
    output = CoreOutput(steps, (), raw={"series": series})
    memory = head.observe(output, head.observe(output))
    assert {t.device.type for t in (*memory, *head.forecast(*memory[:2]))} == {"meta"}
    terms = head.loss(output, Batch({"series": series}, {}, ()), "model")
    assert {t.device.type for t in terms.values()} == {"meta"}


def test_every_window_of_a_dataset_gives_a_forecast(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, D)).astype(np.float32))
    head = make_head(3, horizon=6, context=6)
    dataset = RowDataset([Row("a.npy")], StoredSeries(tmp_path, 1.0), {"next": head.target}, window=12, stride=1)
    batch = collate([dataset[0, i] for i in range(len(dataset))])
    results = head.results(make_model(head).watch(batch.raw), batch)
    assert head.metrics(results)["count"] == len(dataset) == 29
