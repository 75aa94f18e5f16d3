"""The promise of a folder: real clips and broken files, a row for every input, formats that agree."""

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
import proof
import pyarrow.parquet as pq

from pipeline.media.write import write_video

Row = dict[str, Any]
PLAYABLE = ("ok", "partial")


def folder(data: Path, seeds: int) -> tuple[str, bool]:
    """Train small, predict on sample_clips plus broken files, compare the three formats."""
    work = proof.fresh("folder")
    proof.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    settings = [
        "training.epochs=5",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        f"data.features={work}/features",
    ]
    proof.unreel("train", work / "puppets/clips.jsonl", *settings, f"run={work}/run")
    clips = work / "clips"
    clips.mkdir()
    wanted: dict[str, tuple[str, ...]] = {}
    for path in sorted((data / "sample_clips").iterdir()):
        shutil.copyfile(path, clips / path.name)
        wanted[path.name] = ("ok",)
    wanted |= break_files(clips, clips / "mmaction2_demo_k400.mp4", clips / "paddlevideo_example.avi")
    wanted |= {"missing.mp4": ("failed:missing",)}
    watch = proof.Stopwatch()
    here = {**os.environ, "PYTHONPATH": str(proof.REPOSITORY)}
    result = proof.unreel(
        "predict", "clips", "missing.mp4", "--model", "run", "--out", "out", code=None, cwd=work, env=here
    )
    seconds = watch.seconds
    rows = [json.loads(line) for line in (work / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    answered = {row["path"].removeprefix("clips/"): row for row in rows}
    problems = [f"{name!r} has no row" for name in wanted.keys() - answered.keys()]
    problems += [f"{name!r} has a row that nobody asked for" for name in answered.keys() - wanted.keys()]
    problems += [f"{len(rows)} rows for {len(wanted)} inputs"] if len(rows) != len(wanted) else []
    problems += [text for name, row in answered.items() for text in wrongs(name, row, wanted.get(name, PLAYABLE))]
    problems += [f"exit code {result.returncode}, not 1"] if result.returncode != 1 else []
    problems += ["a traceback"] if "Traceback" in result.stderr + result.stdout else []
    problems += disagreements(work / "out", rows)
    show(answered)
    print("\n".join(["", *problems]) if problems else "\nJSONL, CSV and Parquet hold the same rows.")
    failed = sum(row["status"].startswith("failed") for row in rows)
    figure = f"{len(rows)} rows for {len(wanted)} inputs ({failed} failed by name), exit code {result.returncode}, {seconds:.0f} s, {len(problems)} problems"
    return figure, not problems


def break_files(clips: Path, mp4: Path, avi: Path) -> dict[str, tuple[str, ...]]:
    """Files as people have them; name -> what its status may be."""
    content = mp4.read_bytes()
    files = {
        "empty.mp4": b"", "one_byte.mp4": b"x", "text.mp4": b"an error page\n", "random.mp4": np.random.default_rng(0).bytes(10_000),
        "picture.mp4": cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes(),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", "no_index.mp4": without_index(content),
        "cut_60.mp4": content[: len(content) * 6 // 10], "cut_60.avi": avi.read_bytes()[: avi.stat().st_size * 6 // 10],
        "zeroed_tail.avi": avi.read_bytes()[: avi.stat().st_size // 2] + bytes(avi.stat().st_size // 2),
        "@SUM(A1).mp4": b"no video",
    }  # fmt: skip
    for name, data in files.items():
        (clips / name).write_bytes(data)
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(files, ("failed:not_a_video",))
    wanted |= {"playlist.mp4": ("failed:playlist_refused",), "no_index.mp4": ("failed:truncated_header",)}
    wanted |= {"cut_60.mp4": ("partial", "failed:corrupt", "failed:truncated_header")}  # by where its index lies
    wanted |= dict.fromkeys(("cut_60.avi", "zeroed_tail.avi"), ("partial",))
    sound_only(clips / "sound_only.mp4")
    (clips / "folder.mp4").mkdir()
    os.mkfifo(clips / "pipe.mp4")
    (clips / "loop.mp4").symlink_to("loop.mp4")
    wanted |= {"sound_only.mp4": ("failed:no_video_stream",), "folder.mp4": ("failed:not_regular_file",)}
    wanted |= {"pipe.mp4": ("failed:not_regular_file",), "loop.mp4": ("failed:unreadable",)}
    locked = clips / "locked.mp4"
    locked.write_bytes(content)
    locked.chmod(0)
    wanted |= {"locked.mp4": ("failed:unreadable",) if not os.access(locked, os.R_OK) else ("ok",)}  # root reads all
    for name in ("=1+1.mp4", "-rf.mp4", "two\nlines ünï 视频.mp4", "%03d,\"'.mp4", os.fsdecode(b"bytes\xff.mp4")):
        write_video(clips / name, np.zeros((10, 48, 64, 3), np.uint8), fps=10)
        wanted[name.encode("utf-8", "backslashreplace").decode()] = ("ok",)
    return wanted


def without_index(content: bytes) -> bytes:
    """An MP4 cut before its moov box: its frames are there and cannot be found."""
    assert content.rindex(b"moov") > len(content) // 2, "its index stands at the end"
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


def wrongs(name: str, row: Row, statuses: tuple[str, ...]) -> list[str]:
    """What is wrong with a row."""
    found = [] if row["status"] in statuses else [f"{name!r}: {row['status']}, not {' or '.join(statuses)}"]
    is_answered = row["status"] in PLAYABLE
    if not is_answered == ("action" in row) == (row["looks"] > 0) == (not row["error"]):
        found.append(f"{name!r}: an answer without a video, or a failure without a sentence")
    return found


def show(answered: dict[str, Row]) -> None:
    """The table."""
    print(f"{'input':<36}{'status':<26}{'looks':>6}  answer, or what was wrong")
    for name, row in answered.items():
        text = f"{row['action']['label']} {row['action']['score']:.2f}" if "action" in row else row["error"]
        text = "; ".join([text, *row["warnings"]])
        line = f"{name[:34]!r:<36}{row['status']:<26}{row['looks']:>6}  {text[:100]}"
        print("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line))


def disagreements(out: Path, rows: list[Row]) -> list[str]:
    """Where a cell of the CSV or a value of the Parquet says something else than the JSONL."""
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        by_csv = list(csv.DictReader(file, strict=True))
    by_parquet = pq.read_table(out / "predictions.parquet").to_pylist()
    if not len(rows) == len(by_csv) == len(by_parquet):
        return [f"{len(rows)}, {len(by_csv)}, {len(by_parquet)} rows in JSONL, CSV, Parquet"]
    found = []
    for row, cells, typed in zip(rows, by_csv, by_parquet, strict=True):
        answer = row.get("action", dict.fromkeys(("label", "score", "top", "unknown", "distance")))
        flat = {k: v for k, v in row.items() if k != "action"} | {f"action_{k}": v for k, v in answer.items()}
        plain = {k: re.sub(r"^'('*[=+\-@\t\r])", r"\1", v) for k, v in cells.items()}  # the guard against formulas
        found += [f"{row['path']!r} in Parquet: {typed}"] if typed != flat else []
        found += [f"{row['path']!r} in CSV: {cells}"] if plain != {k: as_cell(v) for k, v in flat.items()} else []
    return found


def as_cell(value: Any) -> str:
    """A value as the text of a cell: lists as JSON, nothing as nothing."""
    return "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
