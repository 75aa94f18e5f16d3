"""The probe of the promise same-numbers: trains and measures inside one tree, old or new, and writes all numbers down.

In: a tree, the names that it speaks, an empty folder. Out: a .json for each case in that folder, and an .npz where the
case has tensors. A case that fails is written down with its error, and the next one runs. By hand, for some cases:

    python scripts/proofs/same_numbers_probe.py --tree /tmp/base --names old --out /tmp/numbers --only 'cell_|crf'
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}

import argparse
import hashlib
import json
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from same_numbers_cases import cases
from same_numbers_data import make_data
from same_numbers_metrics import METRICS
from same_numbers_outputs import OUTPUTS
from same_numbers_tree import Tree, arrays

Result = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What goes into the .json and what goes into the .npz of a case."""


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tree", type=Path, required=True, help="the folder that holds the package pipeline")
    parser.add_argument("--names", choices=("old", "new"), required=True, help="which names that tree speaks")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the numbers; its own old contents go")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--only", default="", help="a regular expression over the names of the cases")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tree = Tree(asked.tree, asked.names)
    out = _empty(asked.out.resolve())
    os.chdir(out)
    started = time.monotonic()
    seconds = dict(_run_all(tree, out, asked.seed, asked.only))
    failed = [path.stem for path in sorted(out.glob("*.json")) if json.loads(path.read_text()).get("error")]
    about = {"names": asked.names, "tree": str(tree.folder), "seconds": seconds, "torch": torch.__version__}
    (out / "probe.json").write_text(json.dumps(about, indent=1))
    said = ", ".join(failed) or "all well"
    print(f"{len(seconds)} cases, {len(failed)} failed, {time.monotonic() - started:.0f} s: {said}")


def _empty(out: Path) -> Path:
    """The folder, emptied where it is one of the probe's own. Raises SystemExit for a folder of something else."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / "data/series").is_dir():
            raise SystemExit(f"{out} holds something else than a probe's numbers; give another folder")
        shutil.rmtree(out)
    (out / "data").mkdir(parents=True, exist_ok=True)
    return out


def _run_all(tree: Tree, out: Path, seed: int, only: str) -> Iterator[tuple[str, float]]:
    """The name and the seconds of every case; its files are written."""
    jobs: dict[str, Callable[[], Result]] = {"data": lambda: _data(tree)}
    jobs |= {name: lambda config=config: _trained(tree, config) for name, config in cases(seed).items()}
    for function in (*OUTPUTS, *METRICS):
        jobs[f"{function.__module__.removeprefix('same_numbers_')}_{function.__name__}"] = lambda function=function: (
            {},
            arrays(function(tree)),
        )
    for name, job in jobs.items():
        if name != "data" and not re.search(only, name):
            continue
        started = time.monotonic()
        try:
            found, tensors = job()
        except Exception as error:
            found, tensors = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}, {}
            print(f"{name} failed: {found['error']}", flush=True)
        (out / f"{name}.json").write_text(json.dumps(found, indent=1))
        if tensors:
            np.savez(out / f"{name}.npz", **tensors)  # type: ignore[arg-type]
        yield name, round(time.monotonic() - started, 2)


def _data(tree: Tree) -> Result:
    """Make the data; what of it went into files counts too."""
    make_data(Path("data"), tree.get("pipeline.media.write:write_video"))
    return {"files": _digests(Path("data"))}, {}


def _trained(tree: Tree, settings: dict[str, Any]) -> Result:
    """One training through the tree's own `train`, all that it left, and what its model answers."""
    torch.manual_seed(12345)
    folder = Path(settings["run"])
    train, load = tree.get("pipeline.commands.train:train"), tree.get("pipeline.checkpoint:load_model")
    train(tree.config(settings), lambda text: None)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    state = torch.load(folder / "resume.pt", weights_only=True)
    players = state.get("optimizers") or state.get("movers") or {}
    checkpoint = load(folder)
    tensors = {f"best/{name}": value.numpy() for name, value in checkpoint.model.state_dict().items()}
    tensors |= {f"last/{name}": value.numpy() for name, value in state["model"].items()}
    found = {
        "report": json.loads((folder / "report.json").read_text(encoding="utf-8")),
        "metrics": rows,
        "samples": _digests(folder / "samples"),
        "optimizers": {player: sorted(_state_digests(one)) for player, one in players.items()},
    }
    answers = arrays(_answers(tree, checkpoint, settings))
    return found, tensors | {f"answers/{name}": value for name, value in answers.items()}


def _answers(tree: Tree, checkpoint: Any, settings: dict[str, Any]) -> Any:
    """What a trained model says about two test items, and to a stream; or what it makes."""
    kinds = {head["kind"]: head for head in settings["heads"].values()}
    device, encoder = torch.device("cpu"), settings["encoder"]
    if "generate" in kinds:
        return _made(tree, checkpoint, kinds["generate"], device)
    predictor = tree.get("pipeline.inference.predictor:Predictor")(checkpoint, device)
    manifest = Path(settings["data"]["path"])
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()][-2:]
    if encoder["kind"] == "tokens":
        found = {"texts": [tree.member(predictor, "predict_text")(row["text"]) for row in rows]}
        if "language" in kinds:
            go_on = tree.get("pipeline.inference.generate_text:continue_text")
            wishes = {"length": 6, "samples": 2, "temperature": 0.8, "top_k": 5}
            found["goes_on"] = [go_on(checkpoint, device, prompt="Ann", seed=seed, **wishes) for seed in (0, 1)]
        return found
    found = {"files": [tree.answer_file(predictor, manifest.parent / row["path"]) for row in rows]}
    core, is_series = settings["core"], encoder["kind"] == "series"
    if is_series and core["cell"] != "mean" and not core.get("bidirectional") and {"classify", "segment"} & set(kinds):
        stream = tree.get("pipeline.inference.stream:Stream")(checkpoint, device, lag_seconds=0.5, smooth_seconds=0.4)
        values = np.load(manifest.parent / rows[0]["path"])
        told = tree.member(stream, "watch_features")(values, np.arange(len(values)) / settings["clock"]["rate"])
        found["stream"] = [told, stream.finish()]
    return found


def _made(tree: Tree, checkpoint: Any, head: dict[str, Any], device: torch.device) -> Any:
    """Sequences that a trained generator makes."""
    make = tree.get("pipeline.inference.generate_sequences:generate_sequences")
    wishes: list[dict[str, Any]] = [{}, {"content_seed": 5}, {"towards": 3}]
    if head["makes"] != "tokens":
        wishes.append({"truncation": 0.5})
    start = {"image": sorted(Path("data/clips").glob("*.mp4"))[0]} if head.get("first_frame") else {}
    return [make(checkpoint, device, count=3, length=9, seed=2, **start, **wish) for wish in wishes]


def _digests(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _state_digests(value: Any) -> Iterator[str]:
    """A hash of every tensor of an optimiser's state, in whatever order."""
    if isinstance(value, torch.Tensor):
        yield hashlib.sha256(value.numpy().tobytes()).hexdigest()[:16]
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _state_digests(inner)


if __name__ == "__main__":
    main()
