"""Promise [cases]: small inputs as people have them, through the verbs.

The scripts of the folder `cases` beside the DATA folder write the inputs; they need ffmpeg. A table says what must come
and whether it came. It is not part of the product.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from proof_tools import fresh_folder, read_json_lines, run_command, unreel

from pipeline.commands.prepare_data import read_rows, split_rows
from pipeline.config.base import validate
from pipeline.config.run import Config
from pipeline.data.feature_store import content_hash

FAST = ("training.epochs=1", "evaluation.baselines=false", "tracking.wandb=off")
WAITING = {
    "02_stamp_jump.py": "stamps hours away",
    "03_late_picture.sh": "picture 3 s after the sound",
    "17_sound_longer.sh": "sound 8 s longer",
}
"""Scripts whose right answers belong to a later issue."""

Lines = Iterator[tuple[str, bool]]
"""(what must come, whether it came)."""


class Place(NamedTuple):
    """Where a case works. inputs: the files of the scripts. runs: an empty folder for what the verbs write."""

    inputs: Path
    runs: Path

    def verb(self, *arguments: str | Path) -> tuple[int, str]:
        """Run a verb: its exit code, and all that it printed."""
        result = unreel(*arguments, code=None)
        return result.returncode, result.stdout + result.stderr

    def train(self, data: Path, *settings: str) -> tuple[int, str]:
        """Train for one epoch."""
        folder = self.runs / f"run_{len(list(self.runs.iterdir()))}"
        store = f"data.feature_store={self.runs / 'store'}"
        return self.verb("train", data, *FAST, f"run={folder}", store, *settings)

    def predict(self, *inputs: str | Path) -> tuple[int, list[dict[str, object]], str]:
        """Predict by the model of case 04: exit code, rows, and all that was printed."""
        out = self.runs / f"out_{len(list(self.runs.iterdir()))}"
        code, text = self.verb("predict", *inputs, "--model", self.runs / "model", "--out", out, "--format", "jsonl")
        return code, read_json_lines(out / "predictions.jsonl"), text


def capital_splits(place: Place) -> Lines:
    """04: Train/ and Test/. Its model answers in the other cases."""
    store = f"data.feature_store={place.runs / 'store'}"
    code, text = place.verb("train", place.inputs / "04_set", *FAST, f"run={place.runs / 'model'}", store)
    yield "2 classes, 6 train, 2 test", code == 0 and "rows: 6 train, 0 validation, 2 test; 2 classes" in text
    code, text = place.verb("check", place.inputs / "04_set")
    yield "check finds nothing", code == 0 and "nothing found" in text


def equal_files(place: Place) -> Lines:
    """05: the same content under several names."""
    folder = place.inputs / "05_set"
    groups = ("'sit/1.mp4' (sit) = 'sit/1_again.mp4'", "'walk/2.mp4' (walk) = 'walk/2_again.mp4'", "'walk/3_also.mp4'")
    code, text = place.verb("check", folder)
    yield "3 groups named, one with two labels", code == 1 and "of 3 groups" in text and all(g in text for g in groups)
    code, text = place.train(folder)
    yield "training names them", code == 0 and "WITH DIFFERENT LABELS" in text and all(g in text for g in groups)
    both = 0
    for seed in range(20):
        data = {"path": str(folder), "split": "random", "test_share": 0.2 + 0.02 * seed, "validation_share": 0.0}
        config = validate(Config, {"data": data, "training": {"seed": seed}}, "cases")
        rows = split_rows(config, read_rows(config, lambda line: None), lambda line: None).rows
        splits: dict[str, set[str | None]] = {}
        for row in rows:
            path = folder / row.path
            splits.setdefault(content_hash(str(path), path.stat().st_size, 0), set()).add(row.split)
        both += sum(len(found) > 1 for found in splits.values())
    yield "20 drawn splits: no copy on both sides", both == 0


def cut_files(place: Place) -> Lines:
    """06: downloads that broke off."""
    folder = place.inputs / "06_set"
    code, text = place.verb("check", folder, "--contents")
    yield "check --contents names both", code == 1 and "damaged: sit/1.mkv" in text and "damaged: walk/0.mp4" in text
    yield "and no other", text.count("damaged: ") == 2
    code, text = place.train(folder)
    names = text.count("cut or damaged: ")
    yield "training counts and names both", code == 0 and "2 videos are cut or damaged" in text and names >= 2
    yield "and says what data.on_error does", "data.on_error=skip" in text
    code, text = place.train(folder, "data.on_error=stop")
    yield "data.on_error=stop stops", code == 2 and "2 videos are cut or damaged, and data.on_error = stop" in text


def mac_stick(place: Place) -> Lines:
    """07: AppleDouble files, __MACOSX and .Trashes."""
    folder = place.inputs / "07_stick"
    code, rows, text = place.predict(folder)
    left_out = [line for line in text.splitlines() if "left out: 4 hidden or system" in line]
    yield "predict: 2 rows, exit 0, the rest in one line", code == 0 and len(rows) == 2 and len(left_out) == 1
    for verb in (("check",), ("extract", f"data.feature_store={place.runs / 'store'}")):
        code, text = place.verb(verb[0], folder, *verb[1:])
        is_named = text.count("left out: 4 hidden or system") == 1
        yield f"{verb[0]}: the same", code == 0 and is_named and ("2 rows" in text or "features: 2 videos" in text)


def labels(place: Place) -> Lines:
    """08: blanks, case and decomposed accents."""
    table = place.inputs / "08/m.csv"
    code, text = place.verb("check", table)
    finding = "2 labels differ only in case, accents or blanks: 'Lève' (1), 'lève' (4)"
    yield "3 classes, and a finding", code == 1 and "3 classes" in text and f"similar_labels: {finding}" in text
    code, text = place.train(table)
    yield "training says it", code == 0 and f"note: {finding}" in text


def hash_names(place: Place) -> Lines:
    """10: names that begin with #."""
    folder = place.inputs / "10/clap"
    for name, source in (("list", folder / "list.txt"), ("folder", folder), ("glob", folder / "*.mp4")):
        code, rows, _ = place.predict(source)
        yield f"{name}: 4 rows", code == 0 and len(rows) == 4
    lines = (folder / "list.txt").read_text("utf-8")
    (folder / "utf16.txt").write_text("# a comment\n" + lines, "utf-16")
    code, rows, text = place.predict(folder / "utf16.txt")
    is_counted = "1 lines of lists begin with # and name no file" in text
    yield "list in UTF-16 with a comment: 4 rows, 1 comment counted", code == 0 and len(rows) == 4 and is_counted


def late_spans(place: Place) -> Lines:
    """11: spans that run past the end of the video, or lie behind it."""
    manifest = place.inputs / "11/m.jsonl"
    texts = ("1 of 8 spans end after the end", "3 of 8 spans lie wholly behind the end", "have no look of training")
    code, text = place.verb("check", manifest)
    yield (
        "findings, and 'wave' without a look",
        code == 1 and all(t in text for t in texts) and "second: 'wave'" in text,
    )
    code, text = place.train(manifest)
    yield "training says the same", code == 0 and all(t in text for t in texts)


def frame_folders(place: Place) -> Lines:
    """22: a folder of JPEGs a clip."""
    folder = place.inputs / "22"
    for verb in ("check", "train", "extract"):
        code, text = place.verb(verb, folder)
        yield (
            f"{verb} names them",
            code == 2 and "4 folders hold images, not videos" in text and "ffmpeg -frame" in text,
        )
    code, rows, _ = place.predict(folder)
    yield "predict names them in a row", code == 1 and "4 folders hold images, not videos" in str(rows[0]["error"])


def linked_store(place: Place) -> Lines:
    """25: every video is a link that leads out of the folder."""
    folder = place.inputs / "25/datasets--me--clips/snapshots/0a1b"
    store = f"data.feature_store={place.runs / 'store'}"
    for verb, *settings in (("check",), ("train",), ("extract", store)):
        code, text = place.verb(verb, folder, *settings)
        yield (
            f"{verb} names the links and the option",
            code == 2 and "All 4 videos" in text and "--follow-links" in text,
        )
    code, rows, text = place.predict(folder)
    yield "predict: 4 rows that name it", code == 1 and len(rows) == 4 and "--follow-links" in str(rows[0]["error"])
    code, text = place.verb("check", folder, "--follow-links")
    yield "check --follow-links: 4 rows", "4 rows under" in text
    code, text = place.verb("extract", folder, store, "--follow-links")
    yield "extract --follow-links: 4 videos", code == 0 and "features: 4 videos" in text
    code, text = place.train(folder, "--follow-links")
    yield "train --follow-links: 4 rows", code == 0 and "rows: 3 train, 0 validation, 1 test" in text
    code, rows, _ = place.predict(folder, "--follow-links")
    yield "predict --follow-links: 4 answers", code == 0 and len(rows) == 4


CASES: dict[str, Callable[[Place], Lines]] = {
    "04_capital_splits.sh": capital_splits,
    "05_same_file_twice.sh": equal_files,
    "06_cut_download.sh": cut_files,
    "07_mac_stick.sh": mac_stick,
    "08_label_spaces.py": labels,
    "10_hash_names.sh": hash_names,
    "11_spans_too_late.sh": late_spans,
    "22_frame_folders.sh": frame_folders,
    "25_linked_store.sh": linked_store,
}
"""The scripts, in order: the first one trains the model that the others predict with."""


def cases(data: Path, seeds: int) -> tuple[str, bool]:
    """Run every script and the verbs on what it wrote; print the table."""
    scripts = data.resolve().parent / "cases"
    if shutil.which("ffmpeg") is None:
        raise SystemExit("The scripts of the cases need ffmpeg. Install it (apt-get install ffmpeg).")
    folder = fresh_folder("cases").resolve()
    place = Place(folder / "inputs", folder / "runs")
    place.inputs.mkdir()
    place.runs.mkdir()
    right = total = 0
    for script, check in CASES.items():
        run_command(sys.executable if script.endswith(".py") else "bash", scripts / script, place.inputs)
        for must, is_right in check(place):
            print(f"  {script:<22} {must:<58} {'right' if is_right else 'WRONG'}", flush=True)
            right, total = right + is_right, total + 1
    for script, kind in WAITING.items():
        print(f"  {script:<22} {kind:<58} waiting for the issue about time stamps")
    return f"{right} of {total} right, {len(WAITING)} scripts waiting", right == total
