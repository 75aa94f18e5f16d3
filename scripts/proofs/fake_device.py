"""A GPU that is not there: tensors on `cuda` without values, and a count of what would cross to it and back.

In: code that makes its tensors on `cuda`. Out: the copies to the device, the values read from it, and the tensors that
were forgotten on the CPU, each with its place in the code. What lies on the CPU is computed for real, and what lies on
the device has shapes only (torch's FakeTensorMode). Knows nothing of models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
Argument = object
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_CTC, _CTC_BACKWARD = _aten._ctc_loss.Tensor, _aten._ctc_loss_backward.Tensor
"""They take the lengths on the CPU, as their kernels do, and have no fake ones."""
_VALUES = (_aten._local_scalar_dense.default, _aten.equal.default, _aten.is_nonzero.default)
_COUNTS = (_aten.nonzero.default, _aten.masked_select.default, _aten._unique2.default, _aten.unique_dim.default)


class Operator(Protocol):
    """An operator of torch, as a dispatch mode gets it."""

    def __call__(self, *args: Argument, **kwargs: Argument) -> Argument:
        """Run it."""
        ...


@dataclass
class Traffic:
    """What crossed between CPU and device: the operator and its place in the package, one text each.

    copies: to the device. reads: from it, for which the CPU waits. strays: tensors on the CPU that an operator of the
    device got.
    """

    copies: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


class FakeCuda(TorchDispatchMode):
    """Within it tensors on `cuda` have no values, and `traffic` counts."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(
        self,
        func: Operator,
        types: Sequence[type],
        args: tuple[Argument, ...] = (),
        kwargs: Mapping[str, Argument] | None = None,
    ) -> Argument:
        """Run one operator."""
        keywords = dict(kwargs or {})
        if func is torch.ops.prim.device.default:  # autograd asks: for `cuda` it would start a thread of the driver
            return torch.device("meta") if isinstance(args[0], FakeTensor) else _device_of(args[0])
        tensors = [leaf for leaf in tree_leaves((args, keywords)) if isinstance(leaf, Tensor)]
        on_device = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        to_device = "device" in keywords and torch.device(str(keywords["device"])).type in ("cuda", "meta")
        if to_device:
            keywords["device"] = CUDA
        if func in (_aten._pin_memory.default, _aten.is_pinned.default):
            return False if func is _aten.is_pinned.default else args[0]
        if not on_device and not to_device:
            with no_dispatch():
                return func(*args, **keywords)
        if "generator" in keywords:
            keywords["generator"] = None
        return self._on_device(func, args, keywords, on_device, tensors)

    def _on_device(
        self,
        func: Operator,
        args: tuple[Argument, ...],
        keywords: dict[str, Argument],
        on_device: Sequence[Tensor],
        tensors: Sequence[Tensor],
    ) -> Argument:
        """Run an operator that makes or takes tensors of the device."""
        if func in _COPIES and len(on_device) < len(tensors):
            self.traffic.copies.append(_place(func))
        elif func is _aten._to_copy.default and on_device and _is_cpu(keywords.get("device")):
            self.traffic.reads.append(_place(func))
            return _invented(on_device[0], keywords.get("dtype"))
        elif func in _VALUES:
            self.traffic.reads.append(_place(func))
            return bool(on_device[0].dtype == torch.bool) or (1.0 if on_device[0].is_floating_point() else 1)
        elif func in _COUNTS:
            self.traffic.reads.append(_place(func))
            return self._all_true(func, on_device[0])
        elif func in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default):
            args = (args[0], self._without_masks(args[1], func), *args[2:])
        elif func in (_CTC, _CTC_BACKWARD):
            return _ctc_result(func, on_device)
        if func not in _COPIES:
            args, keywords = tree_map(lambda leaf: self._found(func, leaf), (args, keywords))
        return func(*args, **keywords)

    def _found(self, func: Operator, leaf: Argument) -> Argument:
        """A tensor that was forgotten on the CPU, on the device; numbers without dimensions go with the call."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, FakeTensor):
            return leaf
        if leaf.ndim:
            self.traffic.strays.append(_place(func))
        return torch.empty(leaf.shape, dtype=leaf.dtype, device=CUDA)

    def _without_masks(self, indices: Argument, func: Operator) -> list[Tensor | None]:
        """Indices without boolean masks on the device, whose true values must be counted: as if all were true."""
        assert isinstance(indices, list | tuple)
        plain: list[Tensor | None] = []
        for index in indices:
            if isinstance(index, FakeTensor) and index.dtype in (torch.bool, torch.uint8):
                self.traffic.reads.append(_place(func))
                count = torch.empty(index.numel(), dtype=torch.int64, device=CUDA)
                plain += [count] * index.ndim
            else:
                plain.append(index)
        return plain

    def _all_true(self, func: Operator, x: Tensor) -> Argument:
        """The result of an operator whose size depends on the values: as if all values were true, and different."""
        if func is _aten.nonzero.default:
            return torch.empty((x.numel(), x.ndim), dtype=torch.int64, device=CUDA)
        if func is _aten.masked_select.default:
            return torch.empty(x.numel(), dtype=x.dtype, device=CUDA)
        index = torch.empty(x.numel(), dtype=torch.int64, device=CUDA)
        return torch.empty(x.numel(), dtype=x.dtype, device=CUDA), index, index


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """Within it `cuda` exists, as `FakeCuda` describes. Only one thread may use it."""
    generator = torch.Generator

    def without_device(device: torch.device | str = "cpu") -> torch.Generator:
        return generator("cpu")

    def tolist(tensor: FakeTensor) -> object:
        return tensor.cpu().tolist()  # torch's own reads number by number

    mode = FakeCuda()
    patches = mock.patch.object(torch, "Generator", without_device), mock.patch.object(FakeTensor, "tolist", tolist)
    with FakeTensorMode(allow_non_fake_inputs=True), mode, patches[0], patches[1]:
        yield mode


def to_fake_cuda(module: nn.Module) -> None:
    """Move the weights and buffers of a module to the device that is not there. Call it within `fake_cuda`."""
    moved: dict[Tensor, Tensor] = {}

    def move(tensor: Tensor) -> Tensor:
        if tensor not in moved:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)
            is_weight = isinstance(tensor, nn.Parameter)
            moved[tensor] = nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
        return moved[tensor]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is not None:
                    tensors[name] = move(tensor)  # type: ignore[assignment]


def _invented(x: Tensor, dtype: Argument) -> Tensor:
    """Values for a tensor that is read: zeros on the CPU."""
    with no_dispatch():
        return torch.zeros(tuple(x.shape), dtype=dtype if isinstance(dtype, torch.dtype) else x.dtype)


def _ctc_result(func: Operator, tensors: Sequence[Tensor]) -> Argument:
    """What CTC returns: losses (B,) and the scores of its paths (B, T, 2 L + 1); or the gradient (T, B, C)."""
    if func is _CTC_BACKWARD:
        return torch.empty_like(tensors[1])
    log_probabilities, targets = tensors[:2]
    steps, rows, _ = log_probabilities.shape
    return log_probabilities.new_empty(rows), log_probabilities.new_empty((rows, steps, 2 * targets.shape[1] + 1))


def _is_cpu(device: Argument) -> bool:
    return device is not None and torch.device(str(device)).type == "cpu"


def _device_of(tensor: Argument) -> torch.device:
    assert isinstance(tensor, Tensor)
    with no_dispatch():
        return tensor.device


def _place(func: Operator) -> str:
    """The operator, and the line of the package that called it; of the backward pass the line that began it."""
    frame, root = sys._getframe(1), Path(__file__).resolve().parents[2] / "pipeline"
    while frame is not None and not frame.f_code.co_filename.startswith(str(root)):
        frame = frame.f_back
    line = f"{Path(frame.f_code.co_filename).relative_to(root)}:{frame.f_lineno}" if frame else "outside the package"
    return f"{func} at {line}"
