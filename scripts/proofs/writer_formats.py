"""Proof `writers`: the answers of one run in every span format, each read by an independent parser.

In: nothing; the puppets are made. Out: a table of the cues of each format, and every difference from predictions.jsonl.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import proof_tools
from subtitle_readers import READERS, Cues, read_with_ffmpeg

NAMES = {
    "plain.avi": ("plain", "plain"),
    "plain.mp4": ("plain.mp4", "plain.mp4"),
    "deep/er/plain.mp4": ("deep/er/plain", "deep/er/plain"),
    "two\nlines ünï 视频.mp4": ("two_lines ünï 视频", "two\nlines ünï 视频"),
    os.fsdecode(b"bytes\xff & <b> -->.mp4"): ("bytes_udcff & _b_ --_", "bytes\\udcff & <b> -->"),
}
"""Path of a video -> (its output files without the suffix, its id for ActivityNet)."""
ODD_LABELS = {
    "walk": 'walk --> <i>{}</i> & "on"',
    "raise": "hoch {} 视频 🎥",
    "lower": "<00:00:01.000>{}",
    "barbell": "00:00:01,000 --> 00:00:02,000 {}",
}
"""Word -> the label that replaces the labels with this word; each is hard for some format."""
PARSERS = {"srt": "srt", "vtt": "webvtt-py", "elan": "pympi-ling"}
"""Format with one file a video -> the package that reads it."""


def writers(data: Path, seeds: int) -> tuple[str, bool]:
    """Train on puppets tiny, predict its long videos in all formats, read all of them."""
    work = proof_tools.fresh_folder("writers")
    proof_tools.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    manifest = work / "puppets/long.jsonl"
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    for row in rows:
        for span in row["spans"]:
            span[2] = next((text.format(span[2]) for word, text in ODD_LABELS.items() if word in span[2]), span[2])
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = [
        "data.split=none",
        "data.validation_share=0",
        "training.epochs=30",
        "training.batch_size=4",
        "core.hidden=64",
        "encoder.project=64",
        "evaluation.baselines=false",
        "tracking.wandb=off",
    ]
    config = proof_tools.REPOSITORY / "configs/puppets/timeline.yaml"
    common = [f"data.path={manifest}", f"data.feature_store={work}/features", f"run={work}/run"]
    proof_tools.unreel("train", config, *settings, *common)
    videos = work / "videos"
    for row, name in zip([*rows, rows[0]], NAMES, strict=True):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "puppets" / row["path"], videos / name)
    (videos / "broken.mp4").write_text("an error page\n")
    result = proof_tools.unreel(
        "predict", videos, "--model", work / "run", "--out", work / "out", "--format", "jsonl", *READERS, code=1
    )
    print(result.stderr, end="")
    answers = [json.loads(line) for line in (work / "out/predictions.jsonl").read_text("utf-8").splitlines()]
    problems, counts = compare(work / "out", answers)
    problems += check_refusal(work)
    spans = sum(len(row["timeline"]["spans"]) for row in answers if "timeline" in row)
    odd = sum(not s["label"].isidentifier() for row in answers for s in row.get("timeline", {"spans": []})["spans"])
    print(f"\npredictions.jsonl: {len(answers)} rows, {spans} spans, {odd} of them with an odd label")
    for kind, (parser, files, cues) in counts.items():
        print(f"  {kind:<12} read by {parser:<12} {files} videos, {cues} cues")
    agreement = (
        "Every time (in milliseconds) and every text is as in predictions.jsonl (an arrow --> is → in SubRip, which "
        "has no escapes)."
    )
    print("\n".join(["", *problems]) if problems else agreement)
    figure = f"{spans} spans of {len(answers) - 1} videos in {len(counts)} readings, {len(problems)} differ"
    return figure, not problems and spans > 0 and odd > 0


def compare(out: Path, answers: list[dict[str, Any]]) -> tuple[list[str], dict[str, tuple[str, int, int]]]:
    """The differences between the readings and the rows; and for each reading (parser, videos, cues)."""
    readings = {kind: (parser, READERS[kind](out / kind)) for kind, parser in PARSERS.items()}
    readings["activitynet"] = ("json", READERS["activitynet"](out / "predictions.activitynet.json"))
    for kind in ("srt", "vtt"):
        files = {
            p.relative_to(out / kind).as_posix().removesuffix(f".{kind}"): p for p in (out / kind).rglob(f"*.{kind}")
        }
        readings[f"{kind} again"] = ("FFmpeg", {name: read_with_ffmpeg(path) for name, path in files.items()})
    names = {name.encode("utf-8", "backslashreplace").decode(): both for name, both in NAMES.items()}
    problems = []
    for kind, (_, cues) in readings.items():
        expected = {names[r["path"]][kind == "activitynet"]: expected_cues(r, kind) for r in answers if "timeline" in r}
        problems += [
            f"{kind}: {name!r} is {cues.get(name)}, not {expected.get(name)}"
            for name in sorted(cues | expected)
            if cues.get(name) != expected.get(name)
        ]
    counts = {kind: (parser, len(cues), sum(map(len, cues.values()))) for kind, (parser, cues) in readings.items()}
    return problems, counts


def expected_cues(row: dict[str, Any], kind: str) -> Cues:
    """The spans of a row as a format writes them: SubRip has no arrows, and FFmpeg does not decode WebVTT's escapes."""
    replacements = {
        "srt": [("-->", "→")],
        "srt again": [("-->", "→")],
        "vtt again": [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")],
    }
    cues = []
    for span in row["timeline"]["spans"]:
        text = span["label"]
        for old, new in replacements.get(kind, []):
            text = text.replace(old, new)
        cues.append((round(1000 * span["start"]), round(1000 * span["end"]), text))
    return cues


def check_refusal(work: Path) -> list[str]:
    """A model that only classifies has no spans: the command must refuse the format and write nothing."""
    settings = [
        "training.epochs=1",
        "encoder.size=64",
        "encoder.runtime=torch",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        f"data.feature_store={work}/features",
    ]
    proof_tools.unreel("train", work / "puppets/clips.jsonl", *settings, f"run={work}/classify")
    arguments = [
        "predict",
        work / "videos",
        "--model",
        work / "classify",
        "--out",
        work / "none",
        "--format",
        "jsonl",
        "srt",
    ]
    result = proof_tools.unreel(*arguments, code=2)
    print(f"\n$ unreel predict videos --model classify --out none --format jsonl srt\n{result.stderr.strip()}")
    return ["the refused command made a folder"] if (work / "none").exists() else []
