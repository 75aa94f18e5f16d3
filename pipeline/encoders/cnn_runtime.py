"""Runtimes of the frozen CNN.

In: pixels uint8 (N, S, S, 3). Out: features float32 (N, D). On a CPU, OpenVINO is several times faster than eager
torch. On a GPU, torch runs the CNN. Knows nothing of videos or time.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, Protocol

import numpy as np
import torch

from pipeline.encoders.backbone import Backbone
from pipeline.encoders.converted_cnn import converted_model
from pipeline.encoders.torch_requests import TorchRequests
from pipeline.libraries import import_openvino, openvino_core

CnnRuntime = Literal["auto", "torch", "openvino"]
CnnPrecision = Literal["auto", "float32", "bf16"]
OnDone = Callable[[np.ndarray], None]
"""Called with the features float32 (n, D) of the n frames of a request."""


class FeatureExtractor(Protocol):
    """The frozen CNN as a function."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> float32 (N, D)."""
        ...


class FeatureRequests(Protocol):
    """The frozen CNN as requests of one fixed shape, several at a time. One thread submits them and waits.

    request_size: the largest number of frames of a request. output_size: D. Neither the place of a frame in its request
    nor the frames beside it change a bit of its features on a CPU.
    """

    request_size: int
    output_size: int

    def submit(self, frames: Sequence[np.ndarray] | np.ndarray, on_done: OnDone) -> None:
        """Copy 1 to request_size frames uint8 (S, S, 3) into a free request and start it. Waits until one is free.

        The frames may be changed once this returns. on_done runs on a thread of the runtime, or on this one, and
        requests may end in another order than they started. Raises what an earlier request or on_done raised.
        """
        ...

    def wait(self) -> None:
        """Wait until all requests are done. Raises what a request or on_done raised."""
        ...


CHUNK_SIZE = 8
"""Frames per call of the CNN. It is fixed, because the last bits of the features depend on the number of frames."""
CUDA_REQUEST_SIZE = 256
"""Frames per request of a folder job on a GPU."""

WITHOUT_BF16 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
"""The values of ONEDNN_MAX_CPU_ISA with which OpenVINO cannot compute in bf16."""


def runtime_name(runtime: CnnRuntime, device: torch.device, precision: CnnPrecision = "auto") -> str:
    """The runtime and precision that `build_feature_extractor` uses: "torch-float32", "torch-bf16", "openvino-f32" or
    "openvino-bf16".

    runtime: auto means OpenVINO on a CPU where it is installed, else torch. precision: auto means bf16 by OpenVINO
    where the processor computes in it, else float32. Raises ValueError where runtime or precision cannot run.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device.type != "cpu" or not has_openvino):
        raise ValueError(
            f"runtime: openvino needs the openvino package and a CPU. This device is {device.type}, and the package is "
            f"{'' if has_openvino else 'not '}installed. Use runtime: torch."
        )
    if runtime == "torch" or device.type != "cpu" or not has_openvino:
        if precision == "bf16" and device.type == "cpu":
            raise ValueError(
                "precision: bf16 is slower than float32 where torch runs the CNN on a CPU. Use precision: auto, or "
                "runtime: openvino."
            )
        return "torch-bf16" if precision == "bf16" else "torch-float32"
    if precision == "bf16" and _openvino_precision() != "bf16":
        raise ValueError("precision: bf16 needs a processor that computes in it, and this one does not. Use auto.")
    return "openvino-f32" if precision == "float32" else f"openvino-{_openvino_precision()}"


def build_feature_extractor(
    backbone: Backbone, runtime: CnnRuntime, device: torch.device, precision: CnnPrecision = "auto"
) -> FeatureExtractor:
    """A function from pixels uint8 (N, S, S, 3) to features float32 (N, D). Raises ValueError as `runtime_name`."""
    return _RequestsExtractor(_build_requests(backbone, runtime_name(runtime, device, precision), device, CHUNK_SIZE))


def build_feature_requests(
    backbone: Backbone, runtime: CnnRuntime, device: torch.device, precision: CnnPrecision = "auto"
) -> FeatureRequests:
    """The CNN for a folder job, where requests are filled across videos. Raises ValueError as `runtime_name`."""
    size = CUDA_REQUEST_SIZE if device.type == "cuda" else CHUNK_SIZE
    return _build_requests(backbone, runtime_name(runtime, device, precision), device, size)


def _build_requests(backbone: Backbone, name: str, device: torch.device, size: int) -> FeatureRequests:
    """name: see `runtime_name`."""
    library, _, precision = name.partition("-")
    if library == "openvino":
        return OpenVinoRequests(backbone, precision)
    return TorchRequests(backbone, device, size, is_bf16=precision == "bf16")


@lru_cache(maxsize=1)
def _openvino_precision() -> str:
    """bf16 where the processor computes in it, else f32.

    OpenVINO asks the processor, also where its oneDNN is held to a smaller instruction set; bf16 then crashes it.
    """
    limits = {os.environ.get(name, "").upper() for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")}
    if limits & WITHOUT_BF16:
        return "f32"
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


class _RequestsExtractor:
    """Requests as a function."""

    def __init__(self, requests: FeatureRequests) -> None:
        self.requests = requests

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        features = np.empty((len(pixels), self.requests.output_size), dtype=np.float32)
        for start in range(0, len(pixels), self.requests.request_size):
            frames = pixels[start : start + self.requests.request_size]
            self.requests.submit(frames, partial(np.copyto, features[start : start + len(frames)]))
        self.requests.wait()
        return features


class OpenVinoRequests:
    """Requests of OpenVINO, which computes several at a time. See `FeatureRequests`.

    precision: "f32" or "bf16". hint: OpenVINO's THROUGHPUT or LATENCY. num_requests: how many at a time; 0: as many as
    OpenVINO wants for the hint.
    """

    request_size = CHUNK_SIZE

    def __init__(self, backbone: Backbone, precision: str, *, hint: str = "THROUGHPUT", num_requests: int = 0) -> None:
        ov = import_openvino()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # decoders share the cores
        }
        compiled = openvino_core().compile_model(converted_model(backbone, CHUNK_SIZE), "CPU", settings)
        self.output_size = backbone.output_size
        self._queue = ov.AsyncInferQueue(compiled, num_requests)
        self._errors: list[Exception] = []
        self._queue.set_callback(partial(_deliver, self._errors))

    def submit(self, frames: Sequence[np.ndarray] | np.ndarray, on_done: OnDone) -> None:
        """See `FeatureRequests`."""
        assert 1 <= len(frames) <= CHUNK_SIZE, "a request takes 1 to request_size frames"
        request = self._queue[self._queue.get_idle_request_id()]
        self._raise_error()
        pixels = request.input_tensors[0].data
        for i, frame in enumerate(frames):
            pixels[i] = frame
        pixels[len(frames) :] = 0
        self._queue.start_async(userdata=(len(frames), on_done))  # the request that was idle, with what it holds now

    def wait(self) -> None:
        """See `FeatureRequests`."""
        self._queue.wait_all()
        self._raise_error()

    def _raise_error(self) -> None:
        """Raise the first error of a delivery, once."""
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error


def _deliver(errors: list[Exception], request: Any, job: tuple[int, OnDone]) -> None:
    """Hand the features of a finished request over."""
    count, on_done = job
    try:
        on_done(request.output_tensors[0].data[:count].astype(np.float32))  # a copy: the request is used again
    except Exception as error:  # an error that leaves this function would end the process when it is raised twice
        errors.append(error)
