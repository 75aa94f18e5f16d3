"""`make demo`: the main functions of unreel, with the commands that a user would type.

It draws the puppets, trains a model on them, and measures it on unseen actors. Then it predicts the classes of a folder
of unseen videos with two broken files, watches a longer video as a stream, and predicts captions. All files are in
runs/demo. It takes about three minutes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORK = Path("runs/demo")
CLIPS, LONG = WORK / "puppets/clips.jsonl", WORK / "puppets/long.jsonl"
UNREEL = [sys.executable, "-m", "pipeline.cli"]


def step(title: str, shown: str, command: list[str], exit_code: int = 0) -> None:
    """Print the title and the command, and run it. The demo stops where the exit code is another one."""
    print(f"\n\033[1m{title}\033[0m\n$ {shown}" if sys.stdout.isatty() else f"\n{title}\n$ {shown}", flush=True)
    started = time.monotonic()
    environment = {**os.environ, "WANDB_MODE": os.environ.get("WANDB_MODE", "offline")}
    code = subprocess.run(command, env=environment).returncode
    if code != exit_code:
        sys.exit(f"the demo stopped: exit code {code}")
    print(f"({time.monotonic() - started:.0f} s)", flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_unseen_folder() -> Path:
    """A folder with one video of the test actors for each class, and two files that are broken as real files are."""
    folder = WORK / "unseen"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    test_rows = [row for row in read_rows(CLIPS) if row["split"] == "test"]
    first_of_label = {row["label"]: row for row in reversed(test_rows)}
    for row in first_of_label.values():
        shutil.copy(WORK / "puppets" / row["path"], folder)
    content = (WORK / "puppets" / test_rows[0]["path"]).read_bytes()
    (folder / "upload_cut_short.mp4").write_bytes(content[: len(content) // 3])
    (folder / "not_a_video.mp4").write_text("this was an error page once\n")
    return folder


def unseen_long_video() -> Path:
    """The path of a longer video of a test actor."""
    return WORK / "puppets" / next(row["path"] for row in read_rows(LONG) if row["split"] == "test")


def print_predictions() -> None:
    """Print the predicted classes beside the true ones."""
    labels = {Path(row["path"]).name: row["label"] for row in read_rows(CLIPS)}
    with open(WORK / "predictions/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(f"\n{'video':<32}{'status':<28}{'prediction':<20}{'score':>6}   truth")
    for row in rows:
        score = f"{float(row['action_score']):.2f}" if row["action_score"] else ""
        truth = labels.get(row["path"], "-")
        print(f"{row['path']:<32}{row['status']:<28}{row['action_label']:<20}{score:>6}   {truth}")
    known = [row for row in rows if row["path"] in labels]
    correct = sum(row["action_label"] == labels[row["path"]] for row in known)
    print(f"{correct} of {len(known)} correct; {len(rows) - len(known)} broken files, each with a row of its own")


def print_captions() -> None:
    """Print some predicted captions beside those of a person."""
    captions = {Path(row["path"]).name: row["captions"][0] for row in read_rows(CLIPS)}
    rows = [row for row in read_rows(WORK / "captions/predictions.jsonl") if row["path"] in captions]
    for row in rows[:6]:
        print(f"{row['path']}\n    model    {row['caption']['sentence']}\n    person   {captions[row['path']]}")


def main() -> None:
    """Run the demo."""
    started = time.monotonic()
    step(
        "1. Draw a data set: stick figures, 14 actions in pairs that differ only in their order",
        f"python datasets/puppets/prepare.py --size small --out {WORK}/puppets",
        [sys.executable, "datasets/puppets/prepare.py", "--size", "small", "--out", f"{WORK}/puppets"],
    )
    step(
        "2. Extract the features of every video, train a GRU, and measure it on unseen actors, beside mean pooling",
        "unreel train configs/puppets/action.yaml",
        [*UNREEL, "train", "configs/puppets/action.yaml", f"run={WORK}/run", "--fresh"],
    )
    folder = make_unseen_folder()
    step(
        "3. Predict a folder of unseen videos. Two of the files are broken, so the exit code is 1",
        f"unreel predict {folder} --model {WORK}/run --out {WORK}/predictions",
        [*UNREEL, "predict", str(folder), "--model", f"{WORK}/run", "--out", f"{WORK}/predictions"],
        exit_code=1,
    )
    print_predictions()
    video = unseen_long_video()
    step(
        "4. Watch a longer unseen video as a stream of events. A classifier predicts an action at all times; a model\n"
        "   with a segment head, configs/puppets/timeline.yaml, also detects that nothing happens",
        f"unreel watch {video} --model {WORK}/run",
        [*UNREEL, "watch", str(video), "--model", f"{WORK}/run"],
    )
    step(
        "5. Train another head, for captions, from the core that was just trained and from the same features",
        f"unreel train configs/puppets/words.yaml training.init_from={WORK}/run",
        [
            *UNREEL,
            "train",
            "configs/puppets/words.yaml",
            f"training.init_from={WORK}/run",
            f"run={WORK}/words",
            "--fresh",
        ],
    )
    step(
        "   Predict the captions of the unseen videos",
        f"unreel predict {folder} --model {WORK}/words --out {WORK}/captions",
        [*UNREEL, "predict", str(folder), "--model", f"{WORK}/words", "--out", f"{WORK}/captions"],
        exit_code=1,
    )
    print_captions()
    print(f"""
videos          {WORK}/puppets/clips, {WORK}/puppets/long
trained model   {WORK}/run/model
measurements    {WORK}/run/report.txt, report.json, metrics.jsonl
W&B run         {WORK}/run/wandb (offline; `wandb sync` sends it)
predictions     {WORK}/predictions/predictions.jsonl, .csv, .parquet; captions: {WORK}/captions
finished in {time.monotonic() - started:.0f} s. Next: unreel train FOLDER_OF_CLASS_FOLDERS""")


if __name__ == "__main__":
    main()
