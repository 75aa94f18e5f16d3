"""make demo: the main job from nothing, with the commands a user would type.

Draws the puppets, trains on them, measures on actors never seen, answers for a folder of unseen videos with two broken
files among them, watches a longer one as it runs, and says in words what happens. Everything lies under runs/demo.
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

PLACE = Path("runs/demo")
UNREEL = [sys.executable, "-m", "pipeline.cli"]


def step(title: str, shown: str, command: list[str], codes: tuple[int, ...] = (0,)) -> None:
    """Say what comes, show the command, run it."""
    print(f"\n\033[1m{title}\033[0m\n$ {shown}" if sys.stdout.isatty() else f"\n{title}\n$ {shown}", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, env={**os.environ, "WANDB_MODE": os.environ.get("WANDB_MODE", "offline")}).returncode
    if code not in codes:
        sys.exit(f"the demo stopped: exit code {code}")
    print(f"({time.monotonic() - started:.0f} s)", flush=True)


def unseen_folder() -> Path:
    """Videos of the test actors, and two files that are broken as real ones are."""
    folder = PLACE / "unseen"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = [json.loads(line) for line in (PLACE / "puppets/clips.jsonl").read_text().splitlines()]
    tests = [r for r in rows if r["split"] == "test"]
    first = {r["label"]: r for r in reversed(tests)}
    for row in first.values():
        shutil.copy(PLACE / "puppets" / row["path"], folder)
    whole = (PLACE / "puppets" / tests[0]["path"]).read_bytes()
    (folder / "upload_cut_short.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "not_a_video.mp4").write_text("this was an error page once\n")
    return folder


def unseen_long() -> Path:
    """A longer video of an actor never seen."""
    rows = [json.loads(line) for line in (PLACE / "puppets/long.jsonl").read_text().splitlines()]
    return PLACE / "puppets" / next(row["path"] for row in rows if row["split"] == "test")


def compare(folder: Path) -> None:
    """The answers beside the truth."""
    rows = [json.loads(line) for line in (PLACE / "puppets/clips.jsonl").read_text().splitlines()]
    truth = {Path(r["path"]).name: r["label"] for r in rows}
    with open(PLACE / "answers/predictions.csv", newline="", encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    print(f"\n{'video':<32}{'status':<28}{'answer':<20}{'score':>6}   truth")
    for row in answers:
        score = f"{float(row['action_score']):.2f}" if row["action_score"] else ""
        print(
            f"{row['path']:<32}{row['status']:<28}{row['action_label']:<20}{score:>6}   {truth.get(row['path'], '-')}"
        )
    answered = [r for r in answers if r["path"] in truth]
    right = sum(r["action_label"] == truth[r["path"]] for r in answered)
    print(f"{right} of {len(answered)} right; {len(answers) - len(answered)} broken files named, none lost")


def read_aloud() -> None:
    """Some sentences beside a person's."""
    rows = [json.loads(line) for line in (PLACE / "puppets/clips.jsonl").read_text().splitlines()]
    person = {Path(r["path"]).name: r["captions"][0] for r in rows}
    told = [json.loads(line) for line in (PLACE / "words_answers/predictions.jsonl").read_text().splitlines()]
    for row in [r for r in told if r["path"] in person][:6]:
        print(f"{row['path']}\n    the model   {row['caption']['sentence']}\n    a person    {person[row['path']]}")


def main() -> None:
    """The demo."""
    started = time.monotonic()
    step(
        "1. Draw a data set: stick figures, 14 actions in pairs that differ only in their order",
        f"python datasets/puppets/prepare.py --size small --out {PLACE}/puppets",
        [sys.executable, "datasets/puppets/prepare.py", "--size", "small", "--out", f"{PLACE}/puppets"],
    )
    step(
        "2. Look at every video once, train a GRU, measure it on actors it never saw, beside mean-pooling",
        "unreel train configs/puppets/action.yaml",
        [*UNREEL, "train", "configs/puppets/action.yaml", f"run={PLACE}/run", "--fresh"],
    )
    folder = unseen_folder()
    step(
        "3. Answer for a folder of unseen videos; two of the files are broken, so the exit code is 1",
        f"unreel predict {folder} --model {PLACE}/run --out {PLACE}/answers",
        [*UNREEL, "predict", str(folder), "--model", f"{PLACE}/run", "--out", f"{PLACE}/answers"],
        codes=(1,),
    )
    compare(folder)
    long = unseen_long()
    step(
        "4. Watch a longer unseen video as it runs: events, a second apart (a classifier names some action at all times; a\n"
        "   timeline, configs/puppets/timeline.yaml, also knows when nothing happens)",
        f"unreel watch {long} --model {PLACE}/run",
        [*UNREEL, "watch", str(long), "--model", f"{PLACE}/run"],
    )
    step(
        "5. Another head on the core that was just trained, from the same looks: the unseen videos in words",
        f"unreel train configs/puppets/words.yaml training.start={PLACE}/run",
        [
            *UNREEL,
            "train",
            "configs/puppets/words.yaml",
            f"training.start={PLACE}/run",
            f"run={PLACE}/words",
            "--fresh",
        ],
    )
    step(
        "   and what it says (beside it, what a person says)",
        f"unreel predict {folder} --model {PLACE}/words --out {PLACE}/words_answers",
        [*UNREEL, "predict", str(folder), "--model", f"{PLACE}/words", "--out", f"{PLACE}/words_answers"],
        codes=(1,),
    )
    read_aloud()
    print(f"""
the videos        {PLACE}/puppets/clips, long
the trained model {PLACE}/run/model
the measurements  {PLACE}/run/report.txt, report.json, metrics.jsonl
the W&B run       {PLACE}/run/wandb (offline; `wandb sync` sends it)
the answers       {PLACE}/answers/predictions.jsonl, .csv, .parquet; in words: {PLACE}/words_answers
done in {time.monotonic() - started:.0f} s; next: unreel train YOUR_FOLDER_OF_CLASS_FOLDERS""")


if __name__ == "__main__":
    main()
