"""Requests of the frozen CNN by torch: one after another on a CPU, double-buffered on a GPU.

In: frames uint8 (S, S, 3), up to a fixed number at a time. Out: features float32 (n, D), handed to a function. Knows
nothing of videos or time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from pipeline.encoders.backbone import Backbone, exact_float32


@dataclass(frozen=True)
class _Slot:
    """The buffers of one request. host and outcome: memory of the host. done: the features are in `outcome`."""

    host: Tensor
    pixels: Tensor
    outcome: Tensor
    done: torch.Event


class TorchRequests:
    """Requests of a fixed shape on any device. See `cnn_runtime.FeatureRequests`.

    Two requests take turns. On a GPU one is computed while the other one is filled and copied from page-locked memory,
    on a stream of its own; on a CPU a request is computed before `submit` returns. A thread hands features over, so the
    thread that submits never waits for a GPU while a request is free.

    is_bf16: compute under autocast in bfloat16 instead of float32. is_compiled: by torch.compile with CUDA graphs.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        request_size: int,
        *,
        is_bf16: bool = False,
        is_compiled: bool = False,
    ) -> None:
        self.request_size, self.output_size = request_size, backbone.output_size
        self.device, self.is_bf16 = device, is_bf16
        backbone.build_network()
        backbone = backbone.to(device).eval()
        self._compute = torch.compile(backbone, mode="reduce-overhead", fullgraph=True) if is_compiled else backbone
        self._module = torch.get_device_module(device)
        self._copies, self._computations = self._module.Stream(), self._module.Stream()
        self._idle: SimpleQueue[_Slot] = SimpleQueue()
        for _ in range(2):
            self._idle.put(self._make_slot(backbone.size))
        self._deliveries: list[Future[None]] = []
        self._thread = ThreadPoolExecutor(1, "cnn-features")
        self._module.synchronize()  # the weights are there, whichever stream reads them

    def _make_slot(self, size: int) -> _Slot:
        host = torch.zeros((self.request_size, size, size, 3), dtype=torch.uint8)
        outcome = torch.zeros((self.request_size, self.output_size))
        if self.device.type == "cuda":
            host, outcome = host.pin_memory(), outcome.pin_memory()
        return _Slot(host, host.to(self.device), outcome, self._module.Event())

    def submit(self, frames: Sequence[np.ndarray] | np.ndarray, on_done: Callable[[np.ndarray], None]) -> None:
        """See `cnn_runtime.FeatureRequests`."""
        slot = self._idle.get()
        try:
            self._raise_errors([delivery for delivery in self._deliveries if delivery.done()])
            _fill(slot.host.numpy(), frames)
            self._start(slot)
        except BaseException:
            self._idle.put(slot)
            raise
        self._deliveries.append(self._thread.submit(self._deliver, slot, len(frames), on_done))

    def _start(self, slot: _Slot) -> None:
        """Copy the frames to the device, compute, and copy the features back. On a GPU nothing of it is waited for."""
        with self._module.stream(self._copies):
            slot.pixels.copy_(slot.host, non_blocking=True)
        self._computations.wait_stream(self._copies)
        with self._module.stream(self._computations), torch.inference_mode():
            slot.outcome.copy_(self._features(slot.pixels), non_blocking=True)
            slot.done.record()

    def _features(self, pixels: Tensor) -> Tensor:
        """uint8 (N, S, S, 3) -> (N, D), in bfloat16 or in exact float32."""
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.is_bf16 else exact_float32(self.device)
        with precision:
            return self._compute(pixels)

    def _deliver(self, slot: _Slot, count: int, on_done: Callable[[np.ndarray], None]) -> None:
        slot.done.synchronize()
        features = slot.outcome[:count].numpy().copy()
        self._idle.put(slot)
        on_done(features)

    def _raise_errors(self, deliveries: list[Future[None]]) -> None:
        """Wait for deliveries, forget them, and raise what one of them raised."""
        self._deliveries = [delivery for delivery in self._deliveries if delivery not in deliveries]
        for delivery in deliveries:
            delivery.result()

    def wait(self) -> None:
        """See `cnn_runtime.FeatureRequests`."""
        self._raise_errors(self._deliveries)


def _fill(pixels: np.ndarray, frames: Sequence[np.ndarray] | np.ndarray) -> None:
    """Copy the frames to the start of pixels (N, S, S, 3); zeros behind them."""
    assert 1 <= len(frames) <= len(pixels), "a request takes 1 to request_size frames"
    for i, frame in enumerate(frames):
        pixels[i] = frame
    pixels[len(frames) :] = 0
