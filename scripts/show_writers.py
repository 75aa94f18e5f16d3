"""The promise of the writers: one run in every format, each read back by a parser that is not ours.

In: nothing but what the puppets draw. Out: a table of cues per format, and where one says anything else than predictions.jsonl.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import proof
from timed_readers import READERS, Read, read_with_ffmpeg

NAMES = {
    "plain.avi": ("plain", "plain"),
    "plain.mp4": ("plain.mp4", "plain.mp4"),
    "deep/er/plain.mp4": ("deep/er/plain", "deep/er/plain"),
    "two\nlines ünï 视频.mp4": ("two_lines ünï 视频", "two\nlines ünï 视频"),
    os.fsdecode(b"bytes\xff & <b> -->.mp4"): ("bytes_udcff & _b_ --_", "bytes\\udcff & <b> -->"),
}
"""What the videos are called -> (their files without the ending, their ids for ActivityNet)."""
ODD = {
    "walk": 'walk --> <i>{}</i> & "on"',
    "raise": "hoch {} 视频 🎥",
    "lower": "<00:00:01.000>{}",
    "barbell": "00:00:01,000 --> 00:00:02,000 {}",
}
"""Labels that a format could stumble over, in the place of those with such a word: odd on purpose."""
PARSERS = {"srt": "srt", "vtt": "webvtt-py", "elan": "pympi-ling"}
"""Format of one file a video -> the package that reads it."""


def writers(data: Path, seeds: int) -> tuple[str, bool]:
    """Train on puppets tiny, answer for its long videos in all formats, read all of them back."""
    work = proof.fresh("writers")
    proof.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    manifest = work / "puppets/long.jsonl"
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    for row in rows:
        for span in row["spans"]:
            span[2] = next((text.format(span[2]) for word, text in ODD.items() if word in span[2]), span[2])
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = ["data.split=none", "data.validation=0", "training.epochs=30", "training.batch_size=4", "core.hidden=64",
                "encoder.project=64", "evaluation.baselines=false", "tracking.wandb=off"]  # fmt: skip
    config = proof.REPOSITORY / "configs/puppets/timeline.yaml"
    common = [f"data.path={manifest}", f"data.features={work}/features", f"run={work}/run"]
    proof.unreel("train", config, *settings, *common)
    videos = work / "videos"
    for row, name in zip([*rows, rows[0]], NAMES, strict=True):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "puppets" / row["path"], videos / name)
    (videos / "broken.mp4").write_text("an error page\n")
    result = proof.unreel(
        "predict", videos, "--model", work / "run", "--out", work / "out", "--format", "jsonl", *READERS, code=1
    )
    print(result.stderr, end="")
    answers = [json.loads(line) for line in (work / "out/predictions.jsonl").read_text("utf-8").splitlines()]
    problems, counts = compared(work / "out", answers)
    problems += refused(work)
    spans = sum(len(row["timeline"]["spans"]) for row in answers if "timeline" in row)
    odd = sum(not s["label"].isidentifier() for row in answers for s in row.get("timeline", {"spans": []})["spans"])
    print(f"\npredictions.jsonl: {len(answers)} rows, {spans} spans, {odd} of them with odd labels")
    for kind, (parser, files, cues) in counts.items():
        print(f"  {kind:<12} read by {parser:<12} {files} videos, {cues} cues")
    print(
        "\n".join(["", *problems])
        if problems
        else "every time to the millisecond and every text as in predictions.jsonl (an arrow --> is → in SubRip, which has no escapes)"
    )
    figure = f"{spans} spans of {len(answers) - 1} videos in {len(counts)} readings, {len(problems)} differ"
    return figure, not problems and spans > 0 and odd > 0


def compared(out: Path, answers: list[dict[str, Any]]) -> tuple[list[str], dict[str, tuple[str, int, int]]]:
    """Where a reading says something else than the rows; and by reading (parser, videos, cues)."""
    readings = {kind: (parser, READERS[kind](out / kind)) for kind, parser in PARSERS.items()}
    readings["activitynet"] = ("json", READERS["activitynet"](out / "predictions.activitynet.json"))
    for kind in ("srt", "vtt"):
        files = {
            p.relative_to(out / kind).as_posix().removesuffix(f".{kind}"): p for p in (out / kind).rglob(f"*.{kind}")
        }
        readings[f"{kind} again"] = ("FFmpeg", {name: read_with_ffmpeg(path) for name, path in files.items()})
    called = {name.encode("utf-8", "backslashreplace").decode(): both for name, both in NAMES.items()}
    problems = []
    for kind, (_, found) in readings.items():
        expected = {called[r["path"]][kind == "activitynet"]: wanted(r, kind) for r in answers if "timeline" in r}
        problems += [
            f"{kind}: {name!r} is {found.get(name)}, not {expected.get(name)}"
            for name in sorted(found | expected)
            if found.get(name) != expected.get(name)
        ]
    return problems, {
        kind: (parser, len(found), sum(map(len, found.values()))) for kind, (parser, found) in readings.items()
    }


def wanted(row: dict[str, Any], kind: str) -> Read:
    """A row's spans as a format spells them: SubRip has no arrows, and FFmpeg shows WebVTT's escapes as they stand."""
    spelt = {
        "srt": [("-->", "→")],
        "srt again": [("-->", "→")],
        "vtt again": [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")],
    }
    found = []
    for span in row["timeline"]["spans"]:
        text = span["label"]
        for plain, other in spelt.get(kind, []):
            text = text.replace(plain, other)
        found.append((round(1000 * span["start"]), round(1000 * span["end"]), text))
    return found


def refused(work: Path) -> list[str]:
    """A model that only classifies has no times: it says so and makes nothing."""
    settings = [
        "training.epochs=1",
        "encoder.size=64",
        "encoder.runtime=torch",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        f"data.features={work}/features",
    ]
    proof.unreel("train", work / "puppets/clips.jsonl", *settings, f"run={work}/classify")
    asked = [
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
    result = proof.unreel(*asked, code=2)
    print(f"\n$ unreel predict videos --model classify --out none --format jsonl srt\n{result.stderr.strip()}")
    return ["the refused run made a folder"] if (work / "none").exists() else []
