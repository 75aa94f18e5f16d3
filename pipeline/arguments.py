"""What the command takes: every verb with its arguments, and the help that explains them.

Knows nothing of what the verbs do. It imports nothing heavy, so that --help answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline import __version__

EPILOG = """\
a first run:
  unreel train videos/                      one folder a class; says what it chose
  unreel predict clips/ --model runs/videos --out answers/
settings are key=value after the config, such as core.cell=lstm; `unreel config` lists them all.
"""
FORMATS = ["jsonl", "csv", "parquet", "srt", "vtt", "elan", "activitynet"]


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    top = argparse.ArgumentParser(
        prog="unreel",
        description="What happens in a folder of videos, and when: a CNN looks, "
        "a recurrent core watches, heads answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"unreel {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    train = verbs.add_parser("train", help="train a model: CONFIG.yaml, a manifest, or a folder of class folders")
    train.add_argument("source", metavar="CONFIG|MANIFEST|FOLDER")
    train.add_argument("settings", nargs="*", metavar="key=value")
    train.add_argument("--fresh", action="store_true", help="start over where the run's folder holds a run")

    evaluate = verbs.add_parser("evaluate", help="measure a run's model on its test part, or on other data")
    evaluate.add_argument("run", metavar="RUN", type=Path)
    evaluate.add_argument("settings", nargs="*", metavar="key=value")

    predict = verbs.add_parser("predict", help="answer for files, folders, globs and lists of videos")
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="for models of texts: text files, a line an answer, or -"
    )
    predict.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    predict.add_argument("--out", required=True, type=Path, metavar="DIR", help="where predictions.* go")
    predict.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=FORMATS[:3],
        help="jsonl, csv, parquet (default: these three) for every answer; srt, vtt, elan (a file a video) and activitynet for spans",
    )
    predict.add_argument("--top", type=_positive, default=5, metavar="K", help="how many classes to list (default 5)")
    predict.add_argument(
        "--attention", action="store_true", help="pictures of what each word of a caption looked at, in DIR/attention"
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")

    _add_watch(verbs)
    _add_generate(verbs)

    extract = verbs.add_parser("extract", help="fill the feature store for a config, and nothing more")
    extract.add_argument("config", metavar="CONFIG|MANIFEST|FOLDER")
    extract.add_argument("settings", nargs="*", metavar="key=value")

    check = verbs.add_parser("check", help="what is wrong with a dataset: leaks, missing and broken files, odd classes")
    check.add_argument("dataset", metavar="MANIFEST|FOLDER")
    check.add_argument("--root", metavar="DIR", help="where the manifest's paths start")
    check.add_argument(
        "--contents", action="store_true", help="read the files: identical ones across splits, broken ones"
    )
    check.add_argument("--alike", action="store_true", help="decode a few frames: videos that look alike across splits")

    config = verbs.add_parser("config", help="list every setting, or print a config with its defaults written out")
    config.add_argument("config", nargs="?", metavar="CONFIG")
    config.add_argument("settings", nargs="*", metavar="key=value")
    return top


WATCH = """\
One JSON object a line on standard output, times in seconds since the first picture:
  opened         the source answers; is_live says whether it goes on by itself
  start, update, end      an action begins, goes on, is over: head, label, start, end, score
  probabilities  of each look, on request
  answer         about the whole, at its end, as `unreel predict` gives it
  reconnect, dropped      a reader started again; looks left out
  closed         always the last: status, seconds, looks, dropped, reconnects, latency_ms
Files, recordings behind an address and pipes wait for the model: nothing is left out. Cameras and live addresses
do not wait: when the model is slower, the oldest looks that wait (16 at most) are dropped, counted and told.
After a signal the running actions end with "interrupted": true, and --state goes on from there; after kill -9 the
events since the last saved state (3 s) come again.
examples:
  unreel watch match.mp4 --model runs/x --overlay seen.mp4
  unreel watch rtsp://camera/1 --model runs/x --state camera1.state >> events.jsonl
  arecorder | unreel watch - --model runs/x             (MPEG-TS, Matroska, Y4M)
  painter | unreel watch - --size 320x240 --fps 25 --model runs/x     (raw rgb24, top row first)
"""


def _add_watch(verbs: Any) -> None:
    watch = verbs.add_parser(
        "watch",
        help="say what happens while it happens: a file, a camera, an address or a pipe",
        epilog=WATCH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument(
        "source", metavar="SOURCE", help="a file, a camera's index (0), rtsp:// or http://..., or - for a pipe"
    )
    watch.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    watch.add_argument(
        "--lag", type=float, default=1.0, metavar="S", help="how much later a timeline settles a label (default 1)"
    )
    watch.add_argument(
        "--smooth", type=float, default=2.0, metavar="S", help="over how long a class's scores are averaged (default 2)"
    )
    watch.add_argument(
        "--update",
        type=float,
        default=1.0,
        metavar="S",
        help="how often a running action is told; 0: never (default 1)",
    )
    watch.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="P",
        help="looks below this probability show no action (default 0)",
    )
    watch.add_argument("--probabilities", action="store_true", help="tell the best classes of every look too")
    watch.add_argument("--top", type=_positive, default=5, metavar="K", help="how many classes to list (default 5)")
    watch.add_argument(
        "--state", type=Path, metavar="FILE", help="go on from this file, if it is there, and keep it up to date"
    )
    watch.add_argument(
        "--overlay", type=Path, metavar="FILE.mp4", help="write what the CNN sees, with the answers drawn on it"
    )
    watch.add_argument("--window", action="store_true", help="show the same on the screen (needs OpenCV with windows)")
    _add_reading(watch)
    watch.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")


def _add_reading(watch: argparse.ArgumentParser) -> None:
    """How the source is read."""
    watch.add_argument("--size", metavar="WxH", help="the pipe brings raw rgb24 frames of this size")
    watch.add_argument("--fps", type=float, metavar="F", help="and so many of them a second")
    watch.add_argument(
        "--batch",
        type=_positive,
        default=64,
        metavar="N",
        help="looks that the CNN takes at once, at most (default 64)",
    )
    watch.add_argument(
        "--patience",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds without a picture until the reader is killed; a pipe may take its time (default 20)",
    )
    watch.add_argument(
        "--give-up",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds without a camera or address until it is given up (default 300)",
    )


MADE = ["mp4", "gif", "png", "npz", "txt"]
GENERATE = """\
examples:
  unreel generate --model runs/clips --label walk_left --count 8 --out made/        clips and a sheet of film
  unreel generate --model runs/clips --length 64 --out made/                        four times longer than trained
  unreel generate --model runs/clips --count 8 --towards 7 --out made/              from one to another
  unreel generate --model runs/text --prompt "ROMEO:"                               a text goes on
"""


def _add_generate(verbs: Any) -> None:
    generate = verbs.add_parser(
        "generate",
        help="make sequences (a generate head), or go on with a text (a language head)",
        epilog=GENERATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generate.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    generate.add_argument("--prompt", default="", metavar="TEXT", help="what comes before; empty begins a new text")
    generate.add_argument(
        "--length",
        type=_positive,
        metavar="N",
        help="tokens at most (default 200), or steps of a sequence (default 16)",
    )
    generate.add_argument("--count", "--samples", type=_positive, default=1, metavar="K", help="how many (default 1)")
    generate.add_argument("--label", metavar="CLASS", help="the wish; by default all classes in turn")
    generate.add_argument("--out", type=Path, metavar="DIR", help="where sequences go")
    generate.add_argument(
        "--format",
        nargs="+",
        choices=MADE,
        default=[],
        help="mp4, gif and png for frames, npz for features, txt for texts",
    )
    generate.add_argument(
        "--content-seed", type=int, metavar="S", help="what is shown comes from this seed, the movement from --seed"
    )
    generate.add_argument(
        "--towards", type=int, metavar="S", help="the sequences lead from --seed's codes to this seed's"
    )
    generate.add_argument("--image", type=Path, metavar="FILE", help="the first frame: a picture, or a video's first")
    generate.add_argument(
        "--truncation", type=float, metavar="PSI", help="below 1 what is usual: surer, less various (default 1)"
    )
    generate.add_argument(
        "--temperature", type=float, metavar="T", help="below 1 is safer, above 1 wilder (default 0.8)"
    )
    generate.add_argument("--top-k", type=_positive, metavar="K", help="only the K most probable tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="only the most probable tokens that make up P")
    generate.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed says the same (default 0)")
    generate.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)
