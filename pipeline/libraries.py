"""Libraries that would send data or write files unasked, imported so that they do not.

In: nothing. Out: modules, and the folder of everything that is kept between runs. Nothing leaves a machine unasked, and
nothing is written into a user's home but the cache. This module alone imports openvino, timm and wandb. Environment
variables of the user have precedence. Knows nothing of what the libraries are used for.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any


def cache_folder() -> Path:
    """The folder that is kept between runs: $UNREEL_CACHE, else `unreel` in the user's cache folder."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("UNREEL_CACHE") or os.path.join(user_cache, "unreel")).expanduser()


def keep_torch_quiet() -> None:
    """torch._inductor creates its cache folder when it is imported: in the cache, not in the temporary folder."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torchinductor"))


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry, which would ask an analytics host and write into the user's home.

    The telemetry is a package of its own, which OpenVINO replaces by a stub where it cannot be imported. Where another
    program has imported it before us, OpenVINO's modules get the stub now.
    """
    telemetry = sys.modules.get("openvino_telemetry")
    if telemetry is None:
        sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]
    openvino = importlib.import_module("openvino")
    if telemetry is not None:
        stub = importlib.import_module("openvino.tools.ovc.telemetry_stub")
        for name, module in list(sys.modules.items()):
            if name.startswith("openvino.") and vars(module).get("tm") is telemetry:
                vars(module)["tm"] = stub
    return openvino


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """The `openvino.Core` of this process, which is never destroyed.

    On processors with AVX-512 its CPU plugin gives the thread that creates it another stack for signals, and frees it
    with the core. Where another thread does that, the next signal to the first one ends the process (SIGSEGV).
    """
    return import_openvino().Core()


def import_timm() -> ModuleType:
    """Timm. It imports the client of a model hub, which reads only then whether it may send telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return importlib.import_module("timm")


def import_wandb() -> ModuleType:
    """W&B without reports of errors; its log files and copies of artifacts go into the cache.

    Raises ImportError where it cannot be imported.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_CACHE_DIR", str(cache_folder() / "wandb"))
    os.environ.setdefault("WANDB_DATA_DIR", str(cache_folder() / "wandb"))
    return importlib.import_module("wandb")
