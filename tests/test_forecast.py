"""Forecasting: the truth is the future and nothing of it leaks, quantiles never cross, windows equal the whole."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from pipeline.checkpoint import load_model
from pipeline.config import Config, load_config
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.manifest import Row, Span, read_manifest, write_manifest
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.adapt import Adapter
from pipeline.encoders.series import SeriesEncoder
from pipeline.heads.anticipate import UNKNOWN, Anticipate
from pipeline.heads.forecast import Forecast
from pipeline.metrics.quantile import pinball
from pipeline.models.core import Core
from pipeline.models.model import Model
from pipeline.models.prediction import Anticipation, SeriesForecast
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack
from pipeline.run import predict, train
from pipeline.section import ConfigError

SPEC = importlib.util.spec_from_file_location(
    "ett_prepare", Path(__file__).parents[1] / "datasets" / "ett" / "prepare.py"
)
assert SPEC is not None and SPEC.loader is not None
ett = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ett)

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


# the data


def table(folder: Path, hours: np.ndarray) -> Path:
    lines = ["date," + ",".join(ett.CHANNELS)]
    lines += [f"{i}," + ",".join(map(repr, row)) for i, row in enumerate(hours.tolist())]
    folder.mkdir(exist_ok=True)
    (folder / "ETTh1.csv").write_text("\n".join(lines) + "\n")
    return folder / "ETTh1.csv"


def test_scaling_knows_the_training_part_only_and_later_parts_begin_with_their_context(tmp_path):
    hours = np.random.default_rng(0).normal(3.0, 2.0, size=(14500, 7))
    changed = hours.copy()
    changed[8640:] *= 100
    for name, values in (("one", hours), ("two", changed)):
        read = ett.read_hours(table(tmp_path / name, values))
        ett.write_series(read, tmp_path / name, context=96)
    assert (tmp_path / "one/scale.json").read_bytes() == (tmp_path / "two/scale.json").read_bytes()
    mean, deviation = hours[:8640].mean(0), hours[:8640].std(0)
    lengths = {"train": 8640, "val": 2976, "test": 2976}
    starts = {"train": 0, "val": 8640 - 96, "test": 11520 - 96}
    for i, channel in enumerate(ett.CHANNELS):
        for part, length in lengths.items():
            found = np.load(tmp_path / "one" / part / f"{channel}.npy")
            start = starts[part]
            assert found.shape == (length, 1)
            wanted = (hours[start : start + length, i] - mean[i]) / deviation[i]
            np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)
        both = [np.load(tmp_path / name / "train" / f"{channel}.npy") for name in ("one", "two")]
        np.testing.assert_array_equal(*both)
    assert not len(list((tmp_path / "one").glob("manifest*")))  # main() writes it


def test_a_prepared_table_is_a_manifest_of_a_row_a_channel(tmp_path, monkeypatch, capsys):
    table(tmp_path, np.random.default_rng(0).normal(size=(14400, 7)))
    monkeypatch.setattr("sys.argv", ["prepare.py", "--folder", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ett.main() == 0, capsys.readouterr().err
    rows = read_manifest(tmp_path / "out/manifest.jsonl").rows
    assert {(r.split, Path(r.path).stem) for r in rows} == {(p, c) for p in ett.PARTS for c in ett.CHANNELS}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "There is no ETTh1.csv in .* It is the dataset. Check --folder."),
        ("date,OT\n1,2\n", "'ETTh1.csv' is not the dataset's table .* It has columns HUFL.* Fetch it again."),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,nan\n" * 14400,
            "values that are no numbers.*Fetch it",
        ),
        (
            "date," + ",".join(ett.CHANNELS) + "\n" + "1,1,1,1,1,1,1,1\n" * 9,
            "has 9 hours.* At least 14,400 whole hours",
        ),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "ETTh1.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        ett.read_hours(tmp_path / "ETTh1.csv")


# anticipation

NAMES = Vocabulary(("background", "clap", "sit"))
SAT = Row("x.mp4", spans=(Span(1.0, 2.0, "sit"), Span(2.5, 4.0, "clap")))


def anticipate() -> Anticipate:
    torch.manual_seed(0)
    return Anticipate(name="soon", input_size=H, vocabulary=NAMES, leads=(0.5, 1.0)).eval()


def test_the_target_is_the_label_of_each_moment_ahead_and_unknown_behind_the_end():
    times = np.arange(0, 4.75, 0.25)
    found = anticipate().target(SAT, times)
    assert found is not None
    for t, row in zip(times, found.tolist(), strict=True):
        for lead, index in zip((0.0, 0.5, 1.0), row, strict=True):
            at = t + lead
            inside = [span.label for span in SAT.spans if span.start <= at < span.end]
            assert index == (UNKNOWN if at > 4.5 else NAMES.index(inside[0] if inside else "background"))
    window = anticipate().target(SAT, np.array([1.0, 1.5]))  # a window knows what its row says of later moments
    assert window is not None and window.tolist() == [[2, 2, 0], [2, 0, 1]]
    assert anticipate().target(Row("x.mp4"), times) is None


def test_the_loss_of_anticipation_by_hand_and_its_padding_is_inert():
    head = anticipate()
    targets = [torch.tensor([[0, 1, UNKNOWN], [2, 2, 1]]), torch.tensor([[1, UNKNOWN, UNKNOWN]])]
    steps = stack([torch.randn(2, H), torch.randn(1, H)])
    batch = Batch({}, {"soon": stack(targets)}, ("a", "b"))
    each = []
    for outputs, truth in zip(steps.unpad(), targets, strict=True):
        for output, row in zip(outputs, truth.tolist(), strict=True):
            logs = (head.logits.weight @ output + head.logits.bias).reshape(3, 3).log_softmax(-1)
            each += [-logs[i, c] for i, c in enumerate(row) if c != UNKNOWN]
    same(head.loss(Seen(steps, ()), batch, "model")["soon"], torch.stack(each).mean())
    garbled = Padded(torch.where(steps.mask[:, :, None], steps.data, torch.nan), steps.lengths)
    same(head.loss(Seen(garbled, ()), batch, "model")["soon"], torch.stack(each).mean())


def test_anticipation_is_judged_step_by_step():
    head = anticipate()
    rng = torch.Generator().manual_seed(3)
    steps = stack([torch.randn(n, H, generator=rng) for n in (40, 7, 25)])
    targets = [torch.randint(-1, 3, (n, 3), generator=rng) for n in (40, 7, 25)]
    for truth in targets:  # what is now is known where anything is
        truth[:, 0] = truth[:, 0].clamp(min=0)
    evidence = head.evidence(Seen(steps, ()), Batch({}, {"soon": stack(targets)}, ("a", "b", "c")))
    found = head.metrics(evidence)
    said = torch.cat([head.step_logits(row).argmax(-1) for row in steps.unpad()])
    truth = torch.cat(targets)
    for i, lead in enumerate(("0", "0.5", "1")):
        known = truth[:, i] != UNKNOWN
        then, answer, now = truth[known, i], said[known, i], truth[known, 0]
        assert found[f"accuracy_{lead}"] == pytest.approx(float((then == answer).float().mean()))
        assert found[f"same_as_now_{lead}"] == pytest.approx(float((then == now).float().mean()))
        assert found[f"most_frequent_{lead}"] == pytest.approx(float(then.bincount().max()) / len(then))
        recall = [float((answer[then == c] == c).float().mean()) for c in then.unique()]
        assert found[f"mean_class_accuracy_{lead}"] == pytest.approx(np.mean(recall))
        if i:
            changed = then != now
            assert found[f"changed_{lead}"] == pytest.approx(float((then == answer)[changed].float().mean()))
    assert found["count"] == 72
    known = truth[:, 1:] != UNKNOWN
    assert found["accuracy"] == pytest.approx(float((said == truth)[:, 1:][known].float().mean()))
    low, high = head.interval(evidence, ["a", "b", "c"])
    assert low <= found["accuracy"] <= high
    assert head.interval(evidence[:1] * 3, ["a", "b", "c"]) == pytest.approx(
        [head.metrics(evidence[:1])["accuracy"]] * 2
    )


def test_rows_without_a_known_future_are_a_sentence():
    head = anticipate()
    batch = Batch({}, {"soon": torch.full((1, 2, 3), UNKNOWN)}, ("a",))
    batch = Batch({}, {"soon": Padded(torch.full((1, 2, 3), UNKNOWN), torch.tensor([2]))}, ("a",))
    with pytest.raises(ValueError, match="No step can be judged for 'soon'.* Give rows with spans that last longer"):
        head.metrics(head.evidence(Seen(stack([torch.randn(2, H)]), ()), batch))


@pytest.mark.parametrize("cuts", [[4], [0, 2, 2, 7]])
def test_anticipation_after_windows_is_that_of_the_whole_and_becomes_a_row(cuts):
    head, x = anticipate(), stack([torch.randn(n, H) for n in (9, 3, 0)])
    memory = None
    for a, b in zip([0, *cuts], [*cuts, 9], strict=True):
        memory = head.observe(Seen(Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)), ()), memory)
    assert memory is not None
    answers = head.answer(memory)
    assert answers == head.answer(head.observe(Seen(x, ())))
    for answer, outputs in zip(answers[:2], x.unpad(), strict=False):
        assert isinstance(answer, Anticipation)
        probabilities = head.step_logits(outputs[-1]).softmax(-1)
        row = answer.row(2)
        assert [a["seconds"] for a in row["ahead"]] == [0.0, 0.5, 1.0]
        for said, p in zip(row["ahead"], probabilities, strict=True):
            assert said["label"] == NAMES.names[int(p.argmax())] and said["score"] == pytest.approx(
                float(p.detach().max()), abs=1e-5
            )
            assert len(said["top"]) == 2
    nothing = answers[2]
    assert isinstance(nothing, Anticipation)
    assert [s for _, ranked in nothing.ahead for _, s in ranked] == pytest.approx([1 / 3] * 9)


@each_mode
def test_nothing_strays_from_the_device_of_the_weights(mode):
    head = head_of(3, **mode).to("meta").train()
    x = Padded(torch.empty(4, 21, D, device="meta"), torch.tensor([21, 0, 7, 9]))
    seen = Seen(Padded(torch.empty(4, 7, H, device="meta"), torch.tensor([7, 0, 2, 3])), (), raw={"series": x})
    memory = head.observe(seen, head.observe(seen))
    batch = Batch({"series": x}, {}, ())
    assert {t.device.type for t in (*memory, *head.forecast(*memory[:2]))} == {"meta"}
    assert {t.device.type for t in head.loss(seen, batch, "model").values()} == {"meta"}
    soon = anticipate().to("meta")
    batch = Batch(
        {}, {"soon": Padded(torch.empty(4, 7, 3, device="meta", dtype=torch.int64), torch.tensor([7, 0, 2, 3]))}, ()
    )
    assert {t.device.type for t in (*soon.loss(seen, batch, "model").values(), *soon.observe(seen))} == {"meta"}


def test_samples_of_a_dataset_reach_the_head(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, D)).astype(np.float32))
    head = head_of(3, steps=6, context=6)
    dataset = RowDataset([Row("a.npy")], StoredSeries(tmp_path, 1.0), {"next": head.target}, window=12, stride=1)
    batch = collate([dataset[0, i] for i in range(len(dataset))])
    evidence = head.evidence(model_of(head).watch(batch.raw), batch)
    assert head.metrics(evidence)["count"] == len(dataset) == 29


# by config

SERIES = [
    "encoder={kind: series, patch: 2, from_last: true, project: 8}",
    "core={hidden: 8}",
    "data.path=x/manifest.jsonl",
]
NEXT = "heads={next: {kind: forecast, steps: 4, context: 4, quantiles: [0.2, 0.8]}}"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([NEXT, "core.bidirectional=true"], "the head 'next' says what comes next, .* core.bidirectional: false"),
        ([NEXT, "data.window=7"], "data.window = 7 holds no forecast of the head 'next': .* are 8; give at least that"),
        (
            [NEXT, "data.window=null", "data.stride=1"],
            "data.stride = 1 places windows, and data.window is none; give data.w",
        ),
        (
            [NEXT, "data.window=8", "data.stride=1", "training.carry=true"],
            "data.stride makes each a sample.* leave one of",
        ),
        ([NEXT, "data.window=9", "training.carry=true"], "data.window = 9 is no multiple of encoder.patch = 2.* use 8"),
        ([NEXT, "heads.next.quantiles=[0.8, 0.2]"], "quantiles rise and differ; write \\[0.2, 0.8\\]"),
        (
            ["heads={soon: {kind: anticipate}}"],
            "'soon' needs a step of the core for each look, and encoder.patch = 2 .*patch: 1",
        ),
    ],
)
def test_settings_that_cannot_be_are_sentences(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(None, [*SERIES, *overrides])


def waves(folder: Path) -> Config:
    """Series whose next half wave is the last one upside down."""
    rows, rng = [], np.random.default_rng(0)
    for i in range(16):
        steps = np.arange(60) * (np.pi / 4) + rng.uniform(0, 6)
        np.save(folder / f"{i}.npy", np.stack([np.sin(steps), np.cos(steps)], 1).astype(np.float32))
        part = "train" if i < 10 else "val" if i < 13 else "test"
        rows.append(Row(f"{i}.npy", split=part, spans=(Span(0, 10, "calm"), Span(10, 30, "wild"))))
    write_manifest(rows, folder / "manifest.jsonl")
    more = [
        f"data.path={folder}/manifest.jsonl",
        "data.window=16",
        "data.stride=2",
        "training={epochs: 12, lr: 0.01}",
        "tracking.wandb=off",
        "evaluation={baselines: false, orders: false}",
        f"run={folder}/run",
    ]
    return load_config(None, [*SERIES, *more, NEXT])


def test_a_config_trains_a_forecast_that_beats_repeating_and_answers_from_its_folder(tmp_path):
    config = waves(tmp_path)
    row = train(config, lambda text: None).report["rows"][0]
    assert row["count"] == 3 * (1 + (60 - 16) // 2) * 5  # windows of 16 steps of 3 rows; in each 5 places fit 4 + 4
    assert row["mse"] < 0.1 * row["repeat_last_mse"]
    checkpoint = load_model(tmp_path / "run")
    assert checkpoint.vocabularies["next"].names == ()
    counts = predict(
        [str(tmp_path / "15.npy")],
        tmp_path / "run",
        tmp_path / "out",
        formats=("jsonl", "csv", "parquet"),
        top=5,
        device="cpu",
        say=lambda text: None,
        on_row=lambda row, done, total: None,
    )
    assert counts == {"ok": 1}
    answer = json.loads((tmp_path / "out/predictions.jsonl").read_text())["next"]
    assert answer["times"] == [15.0, 15.25, 15.5, 15.75]  # 60 steps at 4 a second were seen
    values = np.load(tmp_path / "15.npy")
    np.testing.assert_allclose(answer["values"], -values[56:60], atol=0.4)
    (table_row,) = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert {part: table_row[f"next_{part}"] for part in answer} == answer


def test_a_config_trains_anticipation(tmp_path):
    config = waves(tmp_path)
    values = {**config.model_dump(mode="json"), "heads": {"soon": {"kind": "anticipate", "leads": [1.0]}}}
    values["encoder"] |= {"patch": 1, "from_last": False}
    values["data"] |= {"window": None, "stride": None}
    row = train(load_config(None, base=values), lambda text: None).report["rows"][0]
    assert row["count"] == 180 and 0 <= row["accuracy_1"] <= 1
    assert row["same_as_now_1"] == pytest.approx(168 / 180)  # in each row 4 looks before the one change


def test_forecasts_of_stored_features_know_their_width():
    config = load_config(None, ["data.path=x", "encoder={weights: none, grid: 1}", NEXT, "core={hidden: 8}"])
    model = config.recipe.build({"next": Vocabulary(())})
    head = model.head("next")
    assert isinstance(head, Forecast) and (head.sense, head.width) == ("frames", 1280)
    seen = model.watch({"frames": Padded(torch.randn(2, 9, 1280, dtype=torch.float16), torch.tensor([9, 8]))})
    assert head.observe(seen)[1].shape == (2, 1280)
    assert head.metrics(head.evidence(seen, Batch({}, {}, ())))["count"] == 3
