"""Running the frozen CNN fast.

In: pixels uint8 (N, S, S, 3). Out: features float32 (N, D). On a CPU OpenVINO is several times faster than eager torch;
on a GPU torch runs. Knows nothing of files or time.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from pipeline.encoders.backbone import Backbone

Runtime = Literal["auto", "torch", "openvino"]


class Look(Protocol):
    """The frozen CNN as a function."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> float32 (N, D)."""
        ...


CHUNK = 8  # pictures a request: fixed, because the last bits of a picture's features depend on how many go together


def runtime_name(runtime: Runtime, device: torch.device) -> str:
    """Which runtime and precision `build_look` would choose: "torch-float32", "openvino-f32" or "openvino-bf16".

    auto: OpenVINO on a CPU where it is installed, else torch. Raises ValueError where the runtime cannot run.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device.type != "cpu" or not has_openvino):
        raise ValueError(
            f"runtime: openvino needs the openvino package and a CPU, and this is {device.type} "
            f"{'with' if has_openvino else 'without'} it. Use runtime: torch."
        )
    if runtime == "torch" or device.type != "cpu" or not has_openvino:
        return "torch-float32"
    return f"openvino-{_precision()}"


def build_look(backbone: Backbone, runtime: Runtime, device: torch.device) -> Look:
    """A function from pixels uint8 (N, S, S, 3) to features float32 (N, D)."""
    if runtime_name(runtime, device).startswith("openvino"):
        return _OpenVinoLook(backbone)
    return _TorchLook(backbone, device)


@lru_cache(maxsize=1)
def _precision() -> str:
    """bf16 where the processor computes in it."""
    import openvino as ov

    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


class _TorchLook:
    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        self.backbone, self.device = backbone.to(device).eval(), device

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(
                [
                    self.backbone(torch.from_numpy(part).to(self.device)).float().cpu().numpy()[:n]
                    for part, n in _chunks(pixels)
                ]
            )


class _OpenVinoLook:
    """OpenVINO in its throughput mode with a queue of requests; bf16 where the processor computes in it."""

    def __init__(self, backbone: Backbone) -> None:
        import openvino as ov

        core = ov.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": _precision()}
        compiled = core.compile_model(str(_converted(backbone)), "CPU", settings)
        self.size = backbone.output_size
        self.queue = ov.AsyncInferQueue(compiled)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        out = np.empty((len(pixels), self.size), dtype=np.float32)

        def keep(request: Any, place: tuple[int, int]) -> None:
            start, n = place
            out[start : start + n] = request.get_output_tensor(0).data[:n]

        self.queue.set_callback(keep)
        for index, (part, n) in enumerate(_chunks(pixels)):
            self.queue.start_async({0: part}, (index * CHUNK, n))
        self.queue.wait_all()
        return out


def _chunks(pixels: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Chunks of a fixed size, the last one filled up with zeros, each with its count of real images."""
    parts = []
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK]
        n = len(part)
        if n < CHUNK:
            part = np.concatenate([part, np.zeros((CHUNK - n, *part.shape[1:]), dtype=np.uint8)])
        parts.append((np.ascontiguousarray(part), n))
    return parts


def cache_folder() -> Path:
    """Where converted networks are kept: $UNREEL_CACHE, else the user's cache folder."""
    given = os.environ.get("UNREEL_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "unreel")
    return Path(given).expanduser()


def _converted(backbone: Backbone) -> Path:
    """The network in OpenVINO's format, converted once for each fingerprint and version."""
    import openvino as ov

    path = cache_folder() / "openvino" / f"{backbone.name}-{backbone.fingerprint()}-{ov.__version__.split('-')[0]}.xml"
    if path.is_file() and path.with_suffix(".bin").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.zeros((CHUNK, backbone.size, backbone.size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch's tracer, which OpenVINO calls
        model = ov.convert_model(backbone.eval().cpu(), example_input=example, input=list(example.shape))
    partial = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    ov.save_model(model, partial, compress_to_fp16=False)
    os.replace(partial.with_suffix(".bin"), path.with_suffix(".bin"))  # the .xml last: it is what makes the pair whole
    os.replace(partial, path)
    return path
