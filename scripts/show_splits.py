"""Show that the official splits of UCF101 and HMDB51 come out as published, and that a random split is refused.

DATA/splits/ucf101 and DATA/splits/hmdb51 hold the official lists. Under every listed name a tree gets one and the same
made video (hard links); both prepare.py commands run on it; the manifests are compared with the lists, which are read
here once more, by other code. Takes about 15 seconds.
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

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
PUBLISHED = {("ucf101", 1): (9537, 3783), **{("hmdb51", split): (3570, 1530) for split in (1, 2, 3)}}


def ucf101_lists(lists: Path, split: int) -> dict[str, str]:
    """Path -> train or test."""
    sides: dict[str, str] = {}
    for side in ("train", "test"):
        text = (lists / f"{side}list0{split}.txt").read_text()
        sides.update(dict.fromkeys(re.findall(r"^(\S+\.avi)", text, re.MULTILINE), side))
    return sides


def hmdb51_lists(lists: Path, split: int) -> dict[str, str]:
    """Path -> train, test or unused."""
    meaning = {"0": "unused", "1": "train", "2": "test"}
    sides: dict[str, str] = {}
    for file in lists.glob(f"*_test_split{split}.txt"):
        label = re.sub(rf"_test_split{split}\.txt$", "", file.name)
        for name, mark in re.findall(r"^(.+\.avi) ([012]) *$", file.read_text(), re.MULTILINE):
            sides[f"{label}/{name}"] = meaning[mark]
    return sides


def make_tree(root: Path, paths: Iterable[str]) -> None:
    """A real video of two frames under every path."""
    video = root.parent / "made.mp4"
    if not video.exists():
        with av.open(str(video), "w") as container:
            stream = container.add_stream("mpeg4", rate=25, width=32, height=32)
            for value in (60, 180):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(video, target)


def manifest_of(root: Path, split: int) -> Path:
    """Where the manifest of one split is written: beside the tree, not in it."""
    return root.with_name(f"{root.name}_split{split}.jsonl")


def prepared(name: str, root: Path, lists: Path, split: int) -> tuple[dict[str, str], str]:
    """What the command's manifest says, path -> split, and what the command printed."""
    out = manifest_of(root, split)
    command = [sys.executable, str(DATASETS / name / "prepare.py"), "--videos", str(root), "--lists", str(lists)]
    command += ["--split", str(split), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {}, done.stderr
    rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    return {row["path"]: row["split"] for row in rows}, done.stdout


def refusal(root: Path) -> str:
    """What a random split of the tree's videos is refused with, or "" if it is not."""
    try:
        apply_split(read_manifest(manifest_of(root, 1), root).rows, "random", seed=0)
    except LeakError as error:
        return str(error)
    return ""


def splits(data: Path, seeds: int) -> tuple[str, bool]:
    """Print the table; the figure, and whether every video landed where its list says and both refusals came."""
    right = wanted = 0
    holds = True
    said: list[str] = []
    print(f"{'dataset':8} {'split':>5} {'videos':>7} {'train':>6} {'test':>6} {'unused':>6}  as listed")
    with tempfile.TemporaryDirectory() as folder:
        for name, read in (("ucf101", ucf101_lists), ("hmdb51", hmdb51_lists)):
            lists, root = data / "splits" / name, Path(folder) / name
            listed = {split: read(lists, split) for split in (1, 2, 3)}
            make_tree(root, set().union(*listed.values()))
            for split, sides in listed.items():
                found, text = prepared(name, root, lists, split)
                counts = Counter(sides.values())
                agree = sum(found.get(path, "unused") == side for path, side in sides.items()) if found else 0
                published = PUBLISHED.get((name, split), (counts["train"], counts["test"]))
                row_holds = agree == len(sides) and found.keys() <= sides.keys()
                row_holds &= published == (counts["train"], counts["test"])
                figures = f"{len(sides):>7,} {counts['train']:>6,} {counts['test']:>6,} {counts['unused']:>6,}"
                print(f"{name:8} {split:>5} {figures}  {'yes' if row_holds else 'NO'}")
                said += [
                    f"{name} {split}: {line}"
                    for line in text.splitlines()
                    if not line.startswith(("Wrote ", "Its paths"))
                ]
                right, wanted, holds = right + agree, wanted + len(sides), holds and row_holds
            message = refusal(root) if holds else ""
            holds &= "groups on both sides" in message
            said.append(f"{name}, random split: {message or 'NOT REFUSED'}")
    print("\n".join(said))
    return f"{right:,} of {wanted:,} listed videos land where the list says; random splits refused: {holds}", holds
