"""Trust in the answer: what scaling may not change, what the threshold keeps, and that the unknown is never learned."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoint import load_model
from pipeline.config import load_config
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.classify import Classify, Evidence
from pipeline.heads.trust import Trust
from pipeline.metrics.calibration import auroc, negative_log_likelihood
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack
from pipeline.prepare import prepare
from pipeline.run import predict, train
from pipeline.section import ConfigError
from pipeline.training.calibrate import calibrate, unknown_metrics
from pipeline.training.evaluate import judge
from pipeline.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
NAMES = Vocabulary(("bend", "clap", "wave"))
D, P = 5, 4


def make(pool: str = "mean") -> Classify:
    torch.manual_seed(0)
    return Classify(name="action", input_size=D, vocabulary=NAMES, watched_size=P, pool=pool).eval()  # type: ignore[arg-type]


def evidence(
    count: int, sharpness: float = 4.0, right: float = 0.7, seed: int = 0, shift: float = 0.0
) -> list[Evidence]:
    """Features around the axis of each class; logits that are right so often, and as sure as asked."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for n in range(count):
        label = n % 3
        said = label if float(torch.rand((), generator=random)) < right else (label + 1) % 3
        logits = sharpness * torch.eye(3)[said] + torch.rand(3, generator=random)
        features = 3 * torch.eye(P)[label] + 0.5 * torch.randn(P, generator=random) + shift
        found.append(Evidence(logits, label, features, logits[None], 0))
    return found


def table(found: list[Evidence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.stack([e.logits for e in found]),
        torch.stack([e.features for e in found]),
        torch.tensor([e.label for e in found]),
    )


def fitted(held: list[Evidence]) -> Trust:
    trust = Trust(num_classes=3, size=P)
    trust.fit_familiar(*table(evidence(90, seed=1))[1:])
    trust.fit_held_out(*table(held))
    return trust


held_out = pytest.mark.parametrize(
    "held",
    [evidence(40), evidence(40, sharpness=0.3), evidence(3, right=1.0), evidence(60, sharpness=30, right=1.0), evidence(31, right=0.2)],
    ids=["too sure", "too shy", "three, all right", "sure and right", "mostly wrong"],
)  # fmt: skip


@held_out
def test_a_temperature_changes_no_ranking_and_makes_validation_no_worse(held):
    logits, _, labels = table(held)
    scaled = fitted(held).scaled(logits)
    assert torch.equal(scaled.argsort(dim=-1, stable=True), logits.argsort(dim=-1, stable=True))
    assert negative_log_likelihood(scaled, labels) <= negative_log_likelihood(logits, labels)


def test_who_is_too_sure_becomes_shyer_and_the_other_way_round():
    assert float(fitted(evidence(40)).get_buffer("temperature")) > 1.2
    assert float(fitted(evidence(40, sharpness=0.3, right=1.0)).get_buffer("temperature")) < 0.8


@held_out
def test_the_threshold_keeps_the_known_validation_clips(held):
    trust = fitted(held)
    kept = [trust.is_unknown(d) is False for d in trust.distance(table(held)[1]).tolist()]
    assert len(held) * 0.95 <= sum(kept) < len(held) * 0.95 + 1


def test_what_lies_elsewhere_is_unknown_and_nothing_is_said_before_anything_is_fitted():
    trust, far = fitted(evidence(40)), table(evidence(30, shift=3.0, seed=2))[1]
    assert all(trust.is_unknown(d) for d in trust.distance(far).tolist())
    new = Trust(num_classes=3, size=P)
    assert new.distance(far).isnan().all() and new.is_unknown(0.0) is None and new.is_unknown(math.nan) is None
    assert float(new.get_buffer("temperature")) == 1.0
    assert trust.is_unknown(math.nan) is None


def test_a_head_calibrates_itself_and_says_so_or_says_by_name_what_is_missing():
    head = make()
    said = head.calibrate(evidence(90, seed=1), [])
    assert said.startswith("action: no validation part, so no calibration: temperature 1, and no threshold")
    assert head.trust.nearest.is_fitted and head.trust.get_buffer("threshold").isnan()
    assert head.calibrate(evidence(90, seed=1), evidence(40)).startswith("action: on 40 validation clips, temperature ")
    found = head.metrics(evidence(50, seed=3))
    assert found["ece"] < found["ece_unscaled"] and found["accuracy"] == head.metrics(evidence(50, seed=3))["accuracy"]


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_windows_one_after_another_are_as_far_away_as_the_whole(pool, cuts):
    head = make(pool)
    head.calibrate(evidence(90, seed=1), evidence(40))
    lengths = (9, 4, 1, 6)
    steps, inputs = stack([torch.randn(n, D) for n in lengths]), stack([torch.randn(n, P) for n in lengths])
    whole = head.answer(head.observe(Seen(steps, (), inputs=inputs)))
    memory = None
    for a, b in itertools.pairwise([0, *cuts, 9]):
        if b > a:
            parts = [Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)) for x in (steps, inputs)]
            memory = head.observe(Seen(parts[0], (), inputs=parts[1]), memory)
    assert memory is not None
    for one, other, row in zip(whole, head.answer(memory), inputs.unpad(), strict=True):
        assert one.distance == pytest.approx(other.distance, rel=1e-5)  # type: ignore[attr-defined]
        assert one.distance == pytest.approx(float(head.trust.distance(row.mean(0)[None])), rel=1e-4)  # type: ignore[attr-defined]
        assert one.is_unknown == other.is_unknown  # type: ignore[attr-defined]


def test_the_padding_of_what_the_core_was_given_is_no_part_of_it_and_nothing_seen_is_not_unknown():
    head = make()
    head.calibrate(evidence(90, seed=1), evidence(40))
    steps, inputs = stack([torch.randn(3, D), torch.randn(0, D)]), stack([torch.randn(3, P), torch.randn(0, P)])
    found = []
    for filler in (0.0, math.nan):
        dirty = Padded(torch.where(inputs.mask[:, :, None], inputs.data, filler), inputs.lengths)
        found.append(head.answer(head.observe(Seen(steps, (), inputs=dirty))))
    assert found[0] == found[1]
    assert found[0][1].distance is None and found[0][1].row(1)["unknown"] is None  # type: ignore[attr-defined]


def test_the_numbers_of_the_unknown_are_those_of_plain_counting():
    head = make()
    head.calibrate(evidence(90, seed=1), evidence(40))
    known, near, far = evidence(30, seed=4), evidence(9, seed=5, shift=0.3), evidence(12, seed=6, shift=1.0)
    found = unknown_metrics(head, known, {"near": near, "far": far})
    distances = head.distances([*known, *near, *far]).tolist()
    assert found["auroc"] == auroc(distances, [False] * 30 + [True] * 21)
    assert found["per_class"]["far"] == auroc(distances[:30] + distances[39:], [False] * 30 + [True] * 12)
    threshold = float(head.trust.get_buffer("threshold"))
    assert found["kept"] == pytest.approx(np.mean([d <= threshold for d in distances[:30]]))
    assert found["refused"] == pytest.approx(np.mean([d > threshold for d in distances[30:]]))
    assert found["count"] == 21 and 0 <= found["auroc_energy"] <= 1 and 0 <= found["auroc_max_logit"] <= 1
    silent = unknown_metrics(make(), known, {"far": far})
    assert silent["auroc"] is None and silent["kept"] is None and silent["refused"] is None


# the whole road


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Stored series of four classes, each around its own axis; persons and splits known."""
    folder, random, rows = tmp_path_factory.mktemp("series"), np.random.default_rng(0), []
    for n in range(96):
        label, person = n % 4, n // 8
        values = 2 * np.eye(6)[label] + random.normal(0, 0.3, (int(random.integers(3, 9)), 6))
        np.save(folder / f"{n}.npy", values.astype(np.float32))
        split = "test" if person >= 9 else "val" if person >= 7 else "train"
        rows.append(
            {
                "path": f"{n}.npy",
                "split": split,
                "group": f"p{person}",
                "label": ("bend", "clap", "jump", "wave")[label],
            }
        )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(series: Path, *more: str):
    base = {"data": {"path": str(series / "manifest.jsonl")}, "encoder": {"kind": "series", "project": 0}}
    quick = [
        "core.hidden=8",
        "training.epochs=3",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        "evaluation.orders=false",
    ]
    return load_config(None, [*quick, *more], base=base)


@pytest.fixture(scope="module")
def run(series, tmp_path_factory) -> Path:
    folder, said = tmp_path_factory.mktemp("run"), []
    train(config_of(series, "evaluation.unknown=[jump]", f"run={folder}"), said.append)
    assert any("unknown: jump: 18 rows left out of training and validation, 6 in the test part" in s for s in said)
    assert any(s.startswith("action: on 12 validation clips, temperature ") for s in said)
    return folder


def test_rows_of_an_unknown_class_reach_neither_training_nor_validation(series):
    prepared = prepare(config_of(series, "evaluation.unknown=[jump, wave]"), CPU, lambda text: None)
    for part in ("train", "val", "test"):
        assert prepared.rows(part) and {r.label for r in prepared.rows(part)} == {"bend", "clap"}
    assert {(r.label, r.split) for r in prepared.strangers()} == {("jump", "test"), ("wave", "test")}
    assert not [r for r in prepared.manifest.rows if r.label in ("jump", "wave") and r.split != "test"]
    plain = prepare(config_of(series), CPU, lambda text: None)
    assert {r.path for r in prepared.rows("test") + prepared.strangers()} == {r.path for r in plain.rows("test")}


def test_an_unknown_class_that_does_not_exist_is_named(series):
    with pytest.raises(
        ConfigError, match="evaluation.unknown names 'jumps', which is no label of .* Did you mean 'jump'?"
    ):
        prepare(config_of(series, "evaluation.unknown=[jumps]"), CPU, lambda text: None)


def test_a_run_reports_how_the_unknown_is_told_apart(run):
    report = json.loads((run / "report.json").read_text())
    row = report["rows"][0]
    assert report["classes"]["action"] == ["bend", "clap", "wave"]
    assert row["count"] == 18 and row["unknown"]["count"] == 6
    assert (
        row["auroc_unknown"] == row["unknown"]["auroc"] == row["unknown"]["per_class"]["jump"] == 1.0
    )  # an axis of its own
    assert row["unknown"]["refused"] == 1.0 and row["unknown"]["kept"] >= 0.6
    assert "unknown: AUROC 1.000 over 6 clips of classes never learned" in (run / "report.txt").read_text()


def test_a_stored_model_keeps_its_calibration_and_answers_unknown_in_its_rows(run, series, tmp_path):
    checkpoint = load_model(run)
    head = checkpoint.model.head("action")
    assert isinstance(head, Classify) and head.trust.nearest.is_fitted
    prepared = prepare(config_of(series, "evaluation.unknown=[jump]"), CPU, lambda text: None)
    held = RowDataset(prepared.rows("val"), prepared.source, {"action": head.target})
    again = make_again(checkpoint)
    calibrate(
        again,
        RowDataset(prepared.rows("train"), prepared.source, {"action": again.head("action").target}),
        held, batch_size=16, device=CPU.device, say=lambda text: None,
    )  # fmt: skip
    fresh = again.head("action").trust.state_dict()  # type: ignore[attr-defined]
    for name, stored in head.trust.state_dict().items():
        torch.testing.assert_close(stored, fresh[name])
    rows = [*prepared.rows("test")[:3], *prepared.strangers()[:3]]
    paths = [str(series / row.path) for row in rows]
    predict(
        paths,
        run,
        tmp_path,
        formats=["jsonl", "csv", "parquet"],
        top=2,
        device="cpu",
        say=print,
        on_row=lambda *a: None,
    )
    answers = [json.loads(line)["action"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    dataset = RowDataset(rows, prepared.source, {"action": lambda row, times: torch.tensor(-1)})
    known = judge(checkpoint.model, dataset, batch_size=2, device=CPU.device, has_loss=False).evidence["action"]
    for answer, one, far in zip(answers, known, head.distances(known).tolist(), strict=True):
        assert answer["distance"] == pytest.approx(far, rel=1e-4) and answer["unknown"] is head.trust.is_unknown(far)
        assert answer["score"] == pytest.approx(float(head.trust.scaled(one.logits).softmax(-1).max()), abs=1e-5)
        assert answer["label"] in NAMES.names
    assert all(a["unknown"] for a in answers[3:])


def make_again(checkpoint):
    """The same weights, nothing calibrated."""
    model = checkpoint.recipe.build(checkpoint.vocabularies, input_size=checkpoint.input_size).eval()
    kept = {k: v for k, v in checkpoint.model.state_dict().items() if ".trust." not in k}
    assert all(".trust." in k for k in model.load_state_dict(kept, strict=False).missing_keys)
    return model


def test_a_model_folder_from_before_calibration_still_answers(run, tmp_path):
    description = json.loads((run / "model/model.json").read_text())
    weights = {k: v for k, v in load_file(run / "model/weights.safetensors").items() if ".trust." not in k}
    (tmp_path / "model.json").write_text(json.dumps(description | {"format": 1}))
    save_file(weights, tmp_path / "weights.safetensors")
    head = load_model(tmp_path).model.head("action")
    assert isinstance(head, Classify) and float(head.trust.get_buffer("temperature")) == 1.0
    assert head.trust.is_unknown(1e9) is None and not head.trust.nearest.is_fitted


def test_without_a_validation_part_nothing_is_called_unknown_and_it_is_said_once(series, tmp_path):
    said = []
    finished = train(
        config_of(series, "data.validation=0", "evaluation.unknown=[jump]", f"run={tmp_path}"), said.append
    )
    assert sum("no validation part, so no calibration" in s for s in said) == 1
    found = finished.report["rows"][0]
    assert (
        found["auroc_unknown"] == 1.0 and found["unknown"]["refused"] is None and found["ece"] == found["ece_unscaled"]
    )


def test_what_is_familiar_is_asked_of_evenly_many_rows_of_each_label(series, monkeypatch):
    from pipeline.training import calibrate as module

    monkeypatch.setattr(module, "MOST", 12)
    rows = StoredSeries(series, 4.0), prepare(config_of(series), CPU, lambda text: None).rows("train")
    kept = module._evenly(rows[1])
    assert [sum(r.label == name for r in kept) for name in ("bend", "clap", "jump", "wave")] == [3] * 4


def test_a_handful_of_validation_clips_fits_nothing_and_says_so():
    head = make()
    said = head.calibrate(evidence(90, seed=1), evidence(9))
    assert "only 9 validation clips of 10, so no calibration" in said
    assert float(head.trust.get_buffer("temperature")) == 1 and head.trust.get_buffer("threshold").isnan()
