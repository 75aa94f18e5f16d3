"""The frozen CNN in OpenVINO's format, kept in the cache under the fingerprint of its weights.

In: a backbone. Out: OpenVINO's model of it, for requests of a fixed number of frames. A file has the SHA-256 of its
content in front: a damaged one is made again. Where nothing can be written, the model is converted for this process
alone, and the log says so. Knows nothing of videos.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import open_atomic
from pipeline.encoders.backbone import Backbone
from pipeline.libraries import cache_folder, import_openvino, openvino_core

_SUFFIX = ".openvino"
_DIGEST_SIZE = hashlib.sha256().digest_size


def is_converted(backbone: Backbone) -> bool:
    """Whether the cache has this CNN. It is not read, so the file may be damaged."""
    path = _path(backbone)
    return path is not None and path.is_file()


def converted_model(backbone: Backbone, num_frames: int) -> Any:
    """The `openvino.Model` of the backbone: uint8 (num_frames, S, S, 3) -> float32 (num_frames, D)."""
    path = _path(backbone)
    assert path is not None, "OpenVINO is installed"
    if (parts := _read(path)) is not None:
        return openvino_core().read_model(*parts)
    model = _convert(backbone, num_frames)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = _serialise(model, path.parent)
        with open_atomic(path) as partial:
            partial.write_bytes(_with_digest(*parts))
    except OSError as error:
        logging.getLogger("unreel").warning(
            f"The converted CNN cannot be kept in '{path.parent}' ({error.strerror}), so every start converts it "
            "again, which takes seconds. Set UNREEL_CACHE to a folder that can be written."
        )
        parts = _serialise(model, Path(tempfile.gettempdir()))
    return openvino_core().read_model(*parts)  # what every later start reads


def _path(backbone: Backbone) -> Path | None:
    """The file of the converted CNN; None where OpenVINO is not installed."""
    try:
        release = version("openvino")
    except PackageNotFoundError:
        return None
    return cache_folder() / "openvino" / f"{backbone.name}-{backbone.fingerprint()}-{release}{_SUFFIX}"


def _with_digest(description: bytes, weights: bytes) -> bytes:
    """SHA-256 of the rest, length of the description, description, weights."""
    content = len(description).to_bytes(8, "little") + description + weights
    return hashlib.sha256(content).digest() + content


def _read(path: Path) -> tuple[bytes, bytes] | None:
    """The description (XML) and the weights; None where the file is missing, unreadable or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = memoryview(data)[_DIGEST_SIZE:]
    if len(content) < 8 or hashlib.sha256(content).digest() != data[:_DIGEST_SIZE]:
        return None
    length = int.from_bytes(content[:8], "little")
    return bytes(content[8 : 8 + length]), bytes(content[8 + length :])


def _convert(backbone: Backbone, num_frames: int) -> Any:
    """Trace the backbone. It is built by timm here, if it was not yet."""
    backbone.build_network()
    example = torch.zeros((num_frames, backbone.size, backbone.size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch's tracer, which OpenVINO calls
        return import_openvino().convert_model(backbone.eval().cpu(), example_input=example, input=list(example.shape))


def _serialise(model: Any, folder: Path) -> tuple[bytes, bytes]:
    """OpenVINO's two files of a model. They are written into a temporary folder inside `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".converting-") as temporary:
        path = Path(temporary) / "cnn.xml"
        import_openvino().save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
