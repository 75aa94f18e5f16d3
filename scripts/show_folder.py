"""The promise of a folder: real clips and broken files, a row for every input, formats that agree."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import proof
import pyarrow.parquet as pq

from pipeline.media.write import write_video


def folder(data: Path, seeds: int) -> tuple[str, bool]:
    """Train small, predict on sample_clips plus broken files, compare the three formats."""
    work = proof.fresh("folder")
    proof.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    proof.unreel(
        "train",
        work / "puppets/clips.jsonl",
        "training.epochs=3",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        f"data.features={work}/features",
        f"run={work}/run",
    )
    clips = work / "clips"
    shutil.copytree(data / "sample_clips", clips)
    broken = break_files(clips, next(clips.glob("*.mp4")))
    num_inputs = len(list(clips.iterdir())) + 1
    result = proof.unreel(
        "predict", clips, work / "missing.mp4", "--model", work / "run", "--out", work / "out", code=None
    )
    print(result.stderr)
    rows = [json.loads(line) for line in (work / "out/predictions.jsonl").read_text().splitlines()]
    answered = {Path(r["path"]).name: r["status"] for r in rows}
    real = [p.name for p in (data / "sample_clips").iterdir()]
    problems = [f"{name}: {answered.get(name)}" for name in real if answered.get(name) not in ("ok", "partial")]
    problems += [
        f"{name}: {answered.get(name)}" for name in broken if not str(answered.get(name)).startswith(broken[name])
    ]
    if result.returncode != 1:
        problems.append(f"exit code {result.returncode}, not 1")
    if "Traceback" in result.stderr + result.stdout:
        problems.append("a traceback")
    if len(rows) != num_inputs:
        problems.append(f"{len(rows)} rows for {num_inputs} inputs")
    problems += disagreements(work / "out", rows)
    print("\n".join(problems))
    failed = sum(r["status"].startswith("failed") for r in rows)
    figure = f"{len(rows)} rows for {num_inputs} inputs ({failed} failed by name), exit code {result.returncode}, {len(problems)} problems"
    return figure, not problems


def break_files(clips: Path, whole: Path) -> dict[str, str | tuple[str, ...]]:
    """Files as people have them; name -> how its status must begin."""
    content = whole.read_bytes()
    (clips / "empty.mp4").write_bytes(b"")
    (clips / "text.mp4").write_text("an error page\n")
    (clips / "cut_60.mp4").write_bytes(content[: len(content) * 6 // 10])
    picture = cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1]
    (clips / "picture.mp4").write_bytes(picture.tobytes())
    (clips / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")
    frames = np.zeros((10, 48, 64, 3), np.uint8)
    write_video(clips / "=cmd ünï\ncode.mp4", frames, fps=10)
    return {
        "empty.mp4": "failed:not_a_video", "text.mp4": "failed:not_a_video", "picture.mp4": "failed:not_a_video",
        "playlist.mp4": "failed:playlist_refused", "cut_60.mp4": ("failed", "partial"), "=cmd ünï\ncode.mp4": "ok",
        "missing.mp4": "failed:missing",
    }  # fmt: skip


def disagreements(out: Path, rows: list[dict]) -> list[str]:
    """Where CSV or Parquet say something else than JSONL."""
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        by_csv = list(csv.DictReader(file))
    by_parquet = pq.read_table(out / "predictions.parquet").to_pylist()
    if not len(rows) == len(by_csv) == len(by_parquet):
        return [f"{len(rows)}, {len(by_csv)}, {len(by_parquet)} rows in JSONL, CSV, Parquet"]
    found = []
    for one, cells, typed in zip(rows, by_csv, by_parquet, strict=True):
        answer = one.get("action") or {}
        wanted = (one["path"], one["status"], answer.get("label"), answer.get("score"))
        said = (typed["path"], typed["status"], typed["action_label"], typed["action_score"])
        score = float(cells["action_score"]) if cells["action_score"] else None
        path = cells["path"][1:] if cells["path"].startswith("'") else cells["path"]
        listed = (path, cells["status"], cells["action_label"] or None, score)
        found += [f"{one['path']!r}: {wanted} {said} {listed}"] if not wanted == said == listed else []
    return found
