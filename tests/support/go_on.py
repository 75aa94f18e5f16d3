"""A second process that continues from a saved state: python go_on.py FOLDER.

FOLDER holds for each case <name>.json (the core's settings), <name>.safetensors (its weights), <name>.state.safetensors
(the state, x and lengths). The process writes <name>.out.safetensors: the outputs and the state after them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded


def save_case(folder: Path, name: str, settings: dict, core: Core, state: State, x: Padded) -> None:
    (folder / f"{name}.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(core.state_dict(), folder / f"{name}.safetensors")
    parts = {f"state{i}": s.contiguous() for i, s in enumerate(state)}
    save_file({**parts, "x": x.data.contiguous(), "lengths": x.lengths}, folder / f"{name}.state.safetensors")


def load_outputs(folder: Path, name: str) -> tuple[torch.Tensor, State]:
    tensors = load_file(folder / f"{name}.out.safetensors")
    return tensors.pop("y"), tuple(tensors[key] for key in sorted(tensors))


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        core = Core(**json.loads(path.read_text(encoding="utf-8")))
        core.load_state_dict(load_file(path.with_suffix(".safetensors")))
        saved = load_file(path.with_suffix(".state.safetensors"))
        x = Padded(saved.pop("x"), saved.pop("lengths"))
        with torch.no_grad():
            y, state = core(x, tuple(saved[key] for key in sorted(saved)))
        final = {f"state{i}": s.contiguous() for i, s in enumerate(state)}
        save_file({"y": y.data.contiguous(), **final}, path.with_suffix(".out.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the process that has saved the state
    main(Path(sys.argv[1]))
