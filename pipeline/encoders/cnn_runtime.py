"""Runtimes of the frozen CNN.

In: pixels uint8 (N, S, S, 3). Out: features float32 (N, D). On a CPU, OpenVINO is several times faster than eager
torch. On a GPU, torch runs the CNN. Knows nothing of videos or time.
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

from pipeline.atomic import open_atomic
from pipeline.encoders.backbone import Backbone, exact_float32
from pipeline.libraries import cache_folder, import_openvino

CnnRuntime = Literal["auto", "torch", "openvino"]


class FeatureExtractor(Protocol):
    """The frozen CNN as a function."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> float32 (N, D)."""
        ...


CHUNK_SIZE = 8
"""Frames per call of the CNN. It is fixed, because the last bits of the features depend on the number of frames."""

WITHOUT_BF16 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
"""The values of ONEDNN_MAX_CPU_ISA with which OpenVINO cannot compute in bf16."""


def runtime_name(runtime: CnnRuntime, device: torch.device) -> str:
    """The runtime and precision that `build_feature_extractor` uses: "torch-float32", "openvino-f32" or
    "openvino-bf16".

    auto means OpenVINO on a CPU where it is installed, else torch. Raises ValueError where the runtime cannot run.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device.type != "cpu" or not has_openvino):
        raise ValueError(
            f"runtime: openvino needs the openvino package and a CPU. This device is {device.type}, and the package is "
            f"{'' if has_openvino else 'not '}installed. Use runtime: torch."
        )
    if runtime == "torch" or device.type != "cpu" or not has_openvino:
        return "torch-float32"
    return f"openvino-{_openvino_precision()}"


def build_feature_extractor(backbone: Backbone, runtime: CnnRuntime, device: torch.device) -> FeatureExtractor:
    """A function from pixels uint8 (N, S, S, 3) to features float32 (N, D). Raises ValueError as `runtime_name`."""
    if runtime_name(runtime, device).startswith("openvino"):
        return _OpenVinoExtractor(backbone)
    return _TorchExtractor(backbone, device)


@lru_cache(maxsize=1)
def _openvino_precision() -> str:
    """bf16 where the processor computes in it, else f32.

    OpenVINO asks the processor, also where its oneDNN is held to a smaller instruction set; bf16 then crashes it.
    """
    limits = {os.environ.get(name, "").upper() for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")}
    if limits & WITHOUT_BF16:
        return "f32"
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


class _TorchExtractor:
    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        self.backbone, self.device = backbone.to(device).eval(), device

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), exact_float32(self.device):
            return np.concatenate(
                [
                    self.backbone(torch.from_numpy(chunk).to(self.device)).float().cpu().numpy()[:count]
                    for chunk, count in _chunks(pixels)
                ]
            )


class _OpenVinoExtractor:
    """OpenVINO in its throughput mode, with a queue of requests."""

    def __init__(self, backbone: Backbone) -> None:
        ov = import_openvino()
        core = ov.Core()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _openvino_precision(),
        }
        compiled = core.compile_model(str(_convert(backbone)), "CPU", settings)
        self.output_size = backbone.output_size
        self.queue = ov.AsyncInferQueue(compiled)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        features = np.empty((len(pixels), self.output_size), dtype=np.float32)

        def store_result(request: Any, place: tuple[int, int]) -> None:
            start, count = place
            features[start : start + count] = request.get_output_tensor(0).data[:count]

        self.queue.set_callback(store_result)
        for index, (chunk, count) in enumerate(_chunks(pixels)):
            self.queue.start_async({0: chunk}, (index * CHUNK_SIZE, count))
        self.queue.wait_all()
        return features


def _chunks(pixels: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Chunks of CHUNK_SIZE frames, the last one filled with zeros, each with its number of real frames."""
    chunks = []
    for start in range(0, len(pixels), CHUNK_SIZE):
        chunk = pixels[start : start + CHUNK_SIZE]
        count = len(chunk)
        if count < CHUNK_SIZE:
            chunk = np.concatenate([chunk, np.zeros((CHUNK_SIZE - count, *chunk.shape[1:]), dtype=np.uint8)])
        chunks.append((np.ascontiguousarray(chunk), count))
    return chunks


def _convert(backbone: Backbone) -> Path:
    """The path of the network in OpenVINO's format, converted once for each fingerprint and version of OpenVINO."""
    ov = import_openvino()
    version = ov.__version__.split("-")[0]
    path = cache_folder() / "openvino" / f"{backbone.name}-{backbone.fingerprint()}-{version}.xml"
    weights_path = path.with_suffix(".bin")
    if path.is_file() and weights_path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.zeros((CHUNK_SIZE, backbone.size, backbone.size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch's tracer, which OpenVINO calls
        model = ov.convert_model(backbone.eval().cpu(), example_input=example, input=list(example.shape))
    # The inner block ends first: the .bin is replaced before the .xml, so an .xml always has its weights beside it.
    with open_atomic(path) as partial, open_atomic(weights_path) as partial_weights:
        ov.save_model(model, partial, compress_to_fp16=False)
        os.replace(partial.with_suffix(".bin"), partial_weights)
    return path
