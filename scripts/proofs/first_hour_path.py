"""The second part of the promise `first-hour`: a folder of one's own -> `unknown` for a foreign video -> a verdict.

In: the clips of yoga6 and foreign clips. Out: the figure and whether it holds. The commands are typed in a fresh folder
as README and the program itself say them, without a setting; the clips of three persons are kept back and are new.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import proof_tools

KEPT_BACK = ("2", "9", "16")
"""Persons whose clips the model never sees."""
FOREIGN = "sample_clips"
TIMEOUT = 900
"""Seconds for a command."""
PANCAKE = "flipping_a_pancake.mkv"


def first_hour_path(data: Path, folder: Path) -> tuple[str, bool]:
    """Train, predict and evaluate as a new user does. Returns the figure and whether it holds."""
    put_clips(data / "yoga6", folder)
    said = typed("unreel train clips", folder)
    following = next(line for line in said.splitlines() if line.startswith("next:")).removeprefix("next:").strip()
    calibration = [line for line in said.splitlines() if line.startswith("action: ")]
    verdict = said[said.index("verdict on action:") :] if "verdict on action:" in said else ""
    (folder / "foreign").symlink_to((data / FOREIGN).resolve())
    foreign = answers(following, "foreign/*", "foreign_answers", folder)
    new = answers(following, "new", "new_answers", folder)
    evaluated = typed("unreel evaluate runs/clips data.path=new", folder)
    pancake = next(answer for path, answer in foreign.items() if path.endswith(PANCAKE))
    num_refused = sum(answer["unknown"] is True for answer in foreign.values())
    num_kept = sum(answer["unknown"] is False for answer in new.values())
    print(f"  pancakes: {pancake['label']} {pancake['score']:.2f}, unknown {pancake['unknown']}", flush=True)
    holds = (
        pancake["unknown"] is True
        and num_refused == len(foreign)
        and num_kept >= 0.6 * len(new)
        and any("`unknown` is on" in line and "known kept" in line for line in calibration)
        and any("strangers refused" in line for line in calibration)
        and any("calibrated on" in line and "not calibrated" not in line for line in calibration)
        and "next: " in verdict
        and f"tested on {len(new)} test items" in evaluated
    )
    return (
        f"own folder: {num_refused} of {len(foreign)} foreign videos are unknown, pancakes among them, "
        f"{num_kept} of {len(new)} clips of new persons are kept; the verdict is {'there' if verdict else 'MISSING'}"
    ), holds


def put_clips(source: Path, folder: Path) -> None:
    """The clips in class folders: clips/ to train on, and new/ with the persons that are kept back."""
    with (source / "clips.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        place = folder / ("new" if row["person"] in KEPT_BACK else "clips") / row["class"]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "small" / row["file"], place)


def answers(command: str, inputs: str, out: str, folder: Path) -> dict[str, dict[str, object]]:
    """Type the command that the training has said, with inputs and a folder for the answers: path -> answer."""
    typed(command.replace("PATH ...", inputs).replace("--out DIR", f"--out {out}"), folder)
    lines = (folder / out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows: Iterable[dict[str, dict[str, object]]] = map(json.loads, lines)
    return {str(row["path"]): row["action"] for row in rows}


def typed(command: str, folder: Path) -> str:
    """Type a command in the folder, with an empty cache; what it printed. Raises SystemExit where it fails."""
    print(f"  $ {command}", flush=True)
    arguments = shlex.split(command)
    assert arguments[0] == "unreel", command
    variables = {"PYTHONPATH": str(proof_tools.REPOSITORY), "UNREEL_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments[1:]],
        cwd=folder,
        env={**os.environ, **variables, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise SystemExit(f"{command}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    for line in (done.stdout + done.stderr).splitlines():
        if "`unknown`" in line or "strangers" in line or line.strip().startswith("next:"):
            print(f"    {line.strip()[:220]}", flush=True)
    return done.stdout + done.stderr
