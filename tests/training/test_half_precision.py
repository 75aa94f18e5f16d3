"""What training in bf16 must not round: counts of steps, sums over them, the truth, and the frozen CNN. bfloat16 cannot
hold 257, 259, ... nor most values of a series.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from every_head import make_rows, series_model
from torch import Tensor, nn

from pipeline.config.architecture import Architecture
from pipeline.config.core import CoreSection
from pipeline.config.encoders import SeriesSection
from pipeline.config.heads import ClassifySection, ForecastSection
from pipeline.config.training import TrainingSection
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.adapter import Adapter
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.cnn_runtime import build_feature_extractor
from pipeline.encoders.frames import FramesEncoder
from pipeline.heads.classify import Classify, Pool
from pipeline.heads.forecast import Forecast
from pipeline.models.gan.pooling import masked_mean
from pipeline.padded import Padded, stack
from pipeline.training import train_step
from pipeline.training.distributed import DistributedContext

CPU = torch.device("cpu")
BF16 = torch.autocast("cpu", torch.bfloat16)
STEPS = (601, 257, 3)


def mean_model() -> tuple[Classify, Forecast, nn.Module]:
    torch.manual_seed(0)
    model = Architecture(
        encoder=SeriesSection(project=0, normalise="none"),
        core=CoreSection(cell="mean", layers=1, hidden=8, input_dropout=0.0),
        heads={"action": ClassifySection(pool="last"), "next": ForecastSection(horizon=2)},
    ).build({"action": Vocabulary.of(["a", "b"]), "next": Vocabulary(())}, input_size=5)
    classify, forecast = model.head("action"), model.head("next")
    assert isinstance(classify, Classify) and isinstance(forecast, Forecast)
    return classify, forecast, model.eval()


def sequences() -> Padded:
    torch.manual_seed(1)
    return stack([torch.randn(steps, 5) for steps in STEPS])


def test_the_truth_of_a_forecast_beside_the_mean_baseline_is_not_rounded() -> None:
    _, forecast, model = mean_model()
    raw = sequences()
    with BF16:
        output = model.watch({"series": raw})  # type: ignore[operator]
        _, last, target, row = forecast._origins(output)
    assert output.steps.data.dtype == target.dtype == torch.float32
    assert torch.equal(target[0], raw.data[0, 1:3]) and torch.equal(last[0], raw.data[0, 0])
    assert len(row) == sum(max(0, steps - 2) for steps in STEPS)


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_a_classifier_counts_every_step(pool: Pool) -> None:
    model = series_model(make_rows(), "classify_attention" if pool == "attention" else "classify").eval()
    (head,) = map(model.head, model.heads)
    assert isinstance(head, Classify)
    with torch.no_grad(), BF16:
        output = model.watch({"series": sequences()})
        half = head.observe(output)
        assert {value.dtype for value in half} == {torch.float32}
        assert half.num_features[:, 0].tolist() == list(STEPS)
        if pool == "mean":
            assert half.weight_sum[:, 0].tolist() == list(STEPS)
            logits = head.step_logits(output).double()
            means = torch.stack([row[:steps].mean(0) for row, steps in zip(logits, STEPS, strict=True)])
            assert torch.allclose(head.pooled(half).double(), means, atol=1e-6), "the sum is in float32"


def test_a_mean_over_steps_counts_every_step() -> None:
    x = torch.ones(1, 601, 2, dtype=torch.bfloat16)
    x[:, 257:] = 0
    mask = torch.arange(601)[None] < 257
    assert torch.equal(masked_mean(x, mask), torch.ones(1, 2))


class Seen(nn.Module):
    """A CNN that keeps what the settings of precision were when it ran."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.net, self.num_features, self.pretrained_cfg = backbone.net, backbone.net.num_features, {}
        self.settings: list[tuple[bool, bool, torch.dtype]] = []

    def forward_features(self, x: Tensor) -> Tensor:
        features = self.net.forward_features(x)
        self.settings.append((torch.is_autocast_enabled("cpu"), torch.backends.cudnn.allow_tf32, features.dtype))
        return features


def test_a_frozen_cnn_inside_autocast_gives_the_numbers_of_the_store(tmp_path: Path) -> None:
    backbone = Backbone(size=64)
    rows = [np.random.default_rng(i).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8) for i, n in enumerate((9, 3))]
    extract = build_feature_extractor(backbone, "torch", CPU)
    stored = stack([torch.from_numpy(extract(row).astype(np.float16)) for row in rows])
    adapter = Adapter(input_size=backbone.output_size, project=4, normalise="layer", dropout=0.0)
    encoder = FramesEncoder(backbone=backbone, adapter=adapter).eval()
    backbone.net = seen = Seen(backbone)
    pixels = stack([torch.from_numpy(row) for row in rows])
    with BF16:
        features = encoder.extract_features(pixels)
        assert torch.equal(encoder({"frames": pixels}).data, encoder({"frames": stored}).data)
    assert torch.equal(features.data, stored.data.float())
    extract(rows[0])
    assert set(seen.settings) == {(False, False, torch.float32)}
    assert torch.backends.cudnn.allow_tf32, "only for the frozen CNN"


def test_precision_auto_is_bf16_only_where_the_device_computes_in_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSection(precision="auto")
    context = DistributedContext(torch.device("cuda"))
    for emulates, expected in ((True, False), (False, True)):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, e=emulates: including_emulation or not e
        )
        assert train_step._is_bf16(settings, context) is expected
