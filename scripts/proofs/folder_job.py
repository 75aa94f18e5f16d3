"""Proof `folder`: a folder of real clips and broken files gives a row for every input, the same in every format.

In: the folder of sample clips. Out: a table of the rows, and every difference from what is expected.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import proof_tools
import pyarrow.parquet as pq

from pipeline.media.write import write_video

Row = dict[str, Any]
READABLE = ("ok", "partial")


def folder(data: Path, seeds: int) -> tuple[str, bool]:
    """Train a small model, predict on sample clips and broken files, compare the three table formats."""
    work = proof_tools.fresh_folder("folder")
    proof_tools.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    settings = [
        "training.epochs=5",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        f"data.feature_store={work}/features",
    ]
    proof_tools.unreel("train", work / "puppets/clips.jsonl", *settings, f"run={work}/run")
    clips = work / "clips"
    clips.mkdir()
    statuses: dict[str, tuple[str, ...]] = {}
    for path in sorted((data / "sample_clips").iterdir()):
        shutil.copyfile(path, clips / path.name)
        statuses[path.name] = ("ok",)
    statuses |= break_files(clips, clips / "mmaction2_demo_k400.mp4", clips / "paddlevideo_example.avi")
    statuses |= {"missing.mp4": ("failed:missing",)}
    stopwatch = proof_tools.Stopwatch()
    environment = {**os.environ, "PYTHONPATH": str(proof_tools.REPOSITORY)}
    result = proof_tools.unreel(
        "predict", "clips", "missing.mp4", "--model", "run", "--out", "out", code=None, cwd=work, env=environment
    )
    seconds = stopwatch.seconds
    rows = [json.loads(line) for line in (work / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    row_of = {row["path"].removeprefix("clips/"): row for row in rows}
    problems = [f"{name!r} has no row" for name in statuses.keys() - row_of.keys()]
    problems += [f"{name!r} has a row and is no input" for name in row_of.keys() - statuses.keys()]
    problems += [f"{len(rows)} rows for {len(statuses)} inputs"] if len(rows) != len(statuses) else []
    problems += [text for name, row in row_of.items() for text in row_problems(name, row, statuses.get(name, READABLE))]
    problems += [f"exit code {result.returncode}, not 1"] if result.returncode != 1 else []
    problems += ["a traceback"] if "Traceback" in result.stderr + result.stdout else []
    problems += format_differences(work / "out", rows)
    print_rows(row_of)
    print("\n".join(["", *problems]) if problems else "\nJSONL, CSV and Parquet have the same rows.")
    failed = sum(row["status"].startswith("failed") for row in rows)
    figure = (
        f"{len(rows)} rows for {len(statuses)} inputs ({failed} failed by name), exit code {result.returncode}, "
        f"{seconds:.0f} s, {len(problems)} problems"
    )
    return figure, not problems


def break_files(clips: Path, mp4: Path, avi: Path) -> dict[str, tuple[str, ...]]:
    """Write broken and odd files into a folder. Returns name -> the statuses that its row may have."""
    content = mp4.read_bytes()
    image = cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    files = {
        "empty.mp4": b"",
        "one_byte.mp4": b"x",
        "text.mp4": b"an error page\n",
        "random.mp4": np.random.default_rng(0).bytes(10_000),
        "picture.mp4": image,
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
        "no_index.mp4": without_index(content),
        "cut_60.mp4": content[: len(content) * 6 // 10],
        "cut_60.avi": avi.read_bytes()[: avi.stat().st_size * 6 // 10],
        "zeroed_tail.avi": avi.read_bytes()[: avi.stat().st_size // 2] + bytes(avi.stat().st_size // 2),
        "@SUM(A1).mp4": b"no video",
    }
    for name, data in files.items():
        (clips / name).write_bytes(data)
    statuses: dict[str, tuple[str, ...]] = dict.fromkeys(files, ("failed:not_a_video",))
    statuses |= {"playlist.mp4": ("failed:playlist_refused",), "no_index.mp4": ("failed:truncated_header",)}
    statuses |= {
        "cut_60.mp4": ("partial", "failed:corrupt", "failed:truncated_header")
    }  # depends on where its index is
    statuses |= dict.fromkeys(("cut_60.avi", "zeroed_tail.avi"), ("partial",))
    sound_only(clips / "sound_only.mp4")
    (clips / "folder.mp4").mkdir()
    os.mkfifo(clips / "pipe.mp4")
    (clips / "loop.mp4").symlink_to("loop.mp4")
    statuses |= {"sound_only.mp4": ("failed:no_video_stream",), "folder.mp4": ("failed:not_regular_file",)}
    statuses |= {"pipe.mp4": ("failed:not_regular_file",), "loop.mp4": ("failed:unreadable",)}
    locked = clips / "locked.mp4"
    locked.write_bytes(content)
    locked.chmod(0)
    statuses |= {
        "locked.mp4": ("failed:unreadable",) if not os.access(locked, os.R_OK) else ("ok",)
    }  # root can read all files
    for name in ("=1+1.mp4", "-rf.mp4", "two\nlines ünï 视频.mp4", "%03d,\"'.mp4", os.fsdecode(b"bytes\xff.mp4")):
        write_video(clips / name, np.zeros((10, 48, 64, 3), np.uint8), fps=10)
        statuses[name.encode("utf-8", "backslashreplace").decode()] = ("ok",)
    return statuses


def without_index(content: bytes) -> bytes:
    """An MP4 without its moov box: its frames are in the file and cannot be located."""
    assert content.rindex(b"moov") > len(content) // 2, "its index is at the end"
    return content[: content.rindex(b"moov") - 4]


def sound_only(path: Path) -> None:
    """Half a second of silence in an MP4."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("aac", rate=44100)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def row_problems(name: str, row: Row, statuses: tuple[str, ...]) -> list[str]:
    """What is wrong with a row."""
    problems = [] if row["status"] in statuses else [f"{name!r}: {row['status']}, not {' or '.join(statuses)}"]
    is_answered = row["status"] in READABLE
    if not is_answered == ("action" in row) == (row["looks"] > 0) == (not row["error"]):
        problems.append(f"{name!r}: an answer without a video, or a failure without a sentence")
    return problems


def print_rows(row_of: dict[str, Row]) -> None:
    """Print a table of all rows."""
    print(f"{'input':<36}{'status':<26}{'looks':>6}  answer or error")
    for name, row in row_of.items():
        text = f"{row['action']['label']} {row['action']['score']:.2f}" if "action" in row else row["error"]
        text = "; ".join([text, *row["warnings"]])
        line = f"{name[:34]!r:<36}{row['status']:<26}{row['looks']:>6}  {text[:100]}"
        print("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line))


def format_differences(out: Path, rows: list[Row]) -> list[str]:
    """Where a cell of the CSV or a value of the Parquet differs from the JSONL."""
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        csv_rows = list(csv.DictReader(file, strict=True))
    parquet_rows = pq.read_table(out / "predictions.parquet").to_pylist()
    if not len(rows) == len(csv_rows) == len(parquet_rows):
        return [f"{len(rows)}, {len(csv_rows)}, {len(parquet_rows)} rows in JSONL, CSV, Parquet"]
    problems = []
    for row, cells, values in zip(rows, csv_rows, parquet_rows, strict=True):
        answer = row.get("action", dict.fromkeys(("label", "score", "top", "unknown", "distance")))
        flat = {k: v for k, v in row.items() if k != "action"} | {f"action_{k}": v for k, v in answer.items()}
        texts = {k: re.sub(r"^'('*[=+\-@\t\r])", r"\1", v) for k, v in cells.items()}  # without the formula guard
        problems += [f"{row['path']!r} in Parquet: {values}"] if values != flat else []
        problems += [f"{row['path']!r} in CSV: {cells}"] if texts != {k: as_cell(v) for k, v in flat.items()} else []
    return problems


def as_cell(value: Any) -> str:
    """A value as the text of a cell: lists as JSON, None as an empty text."""
    return "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
