"""Show that the official splits of UCF101 and HMDB51 are those that were published, and that a random split is refused.

In: DATA/splits/ucf101 and DATA/splits/hmdb51 with the official lists. Out: a table. A folder gets one small video (by
hard links) under every listed name. Both prepare.py commands run on it, and their manifests are compared with the
lists, which are read here by other code. It takes about 15 seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from pipeline.data.manifest import read_manifest
from pipeline.data.split import LeakError, apply_split

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
PUBLISHED = {("ucf101", 1): (9537, 3783), **{("hmdb51", split): (3570, 1530) for split in (1, 2, 3)}}
"""Published numbers of training and test videos."""


def ucf101_lists(lists: Path, split: int) -> dict[str, str]:
    """Path -> train or test."""
    split_of: dict[str, str] = {}
    for name in ("train", "test"):
        text = (lists / f"{name}list0{split}.txt").read_text()
        split_of.update(dict.fromkeys(re.findall(r"^(\S+\.avi)", text, re.MULTILINE), name))
    return split_of


def hmdb51_lists(lists: Path, split: int) -> dict[str, str]:
    """Path -> train, test or unused."""
    names = {"0": "unused", "1": "train", "2": "test"}
    split_of: dict[str, str] = {}
    for file in lists.glob(f"*_test_split{split}.txt"):
        label = re.sub(rf"_test_split{split}\.txt$", "", file.name)
        for name, mark in re.findall(r"^(.+\.avi) ([012]) *$", file.read_text(), re.MULTILINE):
            split_of[f"{label}/{name}"] = names[mark]
    return split_of


def make_videos(root: Path, paths: Iterable[str]) -> None:
    """A real video of two frames under every path."""
    video = root.parent / "made.mp4"
    if not video.exists():
        with av.open(str(video), "w") as container:
            stream = container.add_stream("mpeg4", rate=25, width=32, height=32)
            for value in (60, 180):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(video, target)


def manifest_path(root: Path, split: int) -> Path:
    """The path of the manifest of one split: beside the folder of videos, not in it."""
    return root.with_name(f"{root.name}_split{split}.jsonl")


def run_prepare(name: str, root: Path, lists: Path, split: int) -> tuple[dict[str, str], str]:
    """The manifest that the command writes, path -> split, and the output of the command."""
    out = manifest_path(root, split)
    command = [sys.executable, str(DATASETS / name / "prepare.py"), "--videos", str(root), "--lists", str(lists)]
    command += ["--split", str(split), "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {}, result.stderr
    rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    return {row["path"]: row["split"] for row in rows}, result.stdout


def refusal_message(root: Path) -> str:
    """The error of a random split of these videos, or "" if there is none."""
    try:
        apply_split(read_manifest(manifest_path(root, 1), root).rows, "random", seed=0)
    except LeakError as error:
        return str(error)
    return ""


def splits(data: Path, seeds: int) -> tuple[str, bool]:
    """Print the table. Returns the result, and whether every video has the split of its list and both refusals came."""
    num_correct = num_listed = 0
    holds = True
    notes: list[str] = []
    print(f"{'dataset':8} {'split':>5} {'videos':>7} {'train':>6} {'test':>6} {'unused':>6}  as listed")
    with tempfile.TemporaryDirectory() as folder:
        for name, read_lists in (("ucf101", ucf101_lists), ("hmdb51", hmdb51_lists)):
            lists, root = data / "splits" / name, Path(folder) / name
            listed = {split: read_lists(lists, split) for split in (1, 2, 3)}
            make_videos(root, set().union(*listed.values()))
            for split, split_of in listed.items():
                manifest, output = run_prepare(name, root, lists, split)
                counts = Counter(split_of.values())
                is_correct = [manifest.get(path, "unused") == row_split for path, row_split in split_of.items()]
                correct = sum(is_correct) if manifest else 0
                published = PUBLISHED.get((name, split), (counts["train"], counts["test"]))
                row_holds = correct == len(split_of) and manifest.keys() <= split_of.keys()
                row_holds &= published == (counts["train"], counts["test"])
                figures = f"{len(split_of):>7,} {counts['train']:>6,} {counts['test']:>6,} {counts['unused']:>6,}"
                print(f"{name:8} {split:>5} {figures}  {'yes' if row_holds else 'NO'}")
                lines = [line for line in output.splitlines() if not line.startswith(("Wrote ", "Its paths"))]
                notes += [f"{name} {split}: {line}" for line in lines]
                num_correct, num_listed = num_correct + correct, num_listed + len(split_of)
                holds = holds and row_holds
            message = refusal_message(root) if holds else ""
            holds &= "groups into both train and test" in message
            notes.append(f"{name}, random split: {message or 'NOT REFUSED'}")
    print("\n".join(notes))
    result = (
        f"{num_correct:,} of {num_listed:,} listed videos have the split of their list; random splits refused: {holds}"
    )
    return result, holds
