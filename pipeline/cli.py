"""The command: verbs, thin. Everything heavy is imported inside a verb, so that --help answers at once.

Exit codes: 0 all well; 1 finished, some videos failed; 2 usage or configuration; 3 model; 4 environment (disk, device);
130 / 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__

if TYPE_CHECKING:
    from pipeline.run import Finished

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
    predict.add_argument("paths", nargs="+", metavar="PATH")
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
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")

    _add_watch(verbs)

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
    watch.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; a user's mistake becomes a sentence on stderr and an exit code."""
    options = _parsed(arguments)
    _calm_libraries()
    try:
        return VERBS[options.verb](options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        print(
            f"unreel: {error.strerror or error}{where}. Check that the disk has room and that the path is yours.",
            file=sys.stderr,
        )
        return 4
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        _say(f"unreel: {error}")
        return code


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; settings and paths may stand behind an option too, where argparse alone would not know them."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    listed: list[str] | None = getattr(options, "settings", getattr(options, "paths", None))
    if rest and (listed is None or any(text.startswith("-") for text in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if listed is not None:
        listed += rest
    return options


def _code_of(error: Exception) -> int | None:
    """The exit code of a mistake that the user can mend; None for a mistake of ours."""
    from pipeline.checkpoint import ModelError
    from pipeline.training.runtime import Interrupted

    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, ModelError):
        return 3
    if isinstance(error, FloatingPointError):
        return 1
    return 2 if isinstance(error, ValueError) else None


def _train(options: argparse.Namespace) -> int:
    from pipeline.run import train

    config = _config(options.source, options.settings)
    progress = _Progress("looking at videos")
    finished = train(config, _say, progress, fresh=options.fresh)
    if int(os.environ.get("RANK", "0")) == 0:
        _show(finished)
        print(
            f"\nmodel: {finished.folder / 'model'}\nnext:  unreel predict PATH ... --model {finished.folder} --out DIR"
        )
    return 1 if finished.report["failed"] else 0


def _evaluate(options: argparse.Namespace) -> int:
    from pipeline.run import evaluate

    finished = evaluate(options.run, options.settings, _say, _Progress("looking at videos"))
    _show(finished)
    return 1 if finished.report["failed"] else 0


def _predict(options: argparse.Namespace) -> int:
    from pipeline.run import predict

    counts = predict(
        options.paths,
        options.model,
        options.out,
        formats=options.format,
        top=options.top,
        device=options.device,
        say=_say,
        on_row=_RowPrinter(),
    )
    return 1 if counts["failed"] else 0


def _watch(options: argparse.Namespace) -> int:
    import json

    from pipeline.watch import watch

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=True), flush=True)

    wishes = {k: v for k, v in vars(options).items() if k not in ("verb", "source", "model")}
    status, number = watch(options.source, options.model, emit=emit, say=_say, **wishes)
    if number is not None:
        return 128 + number
    return 1 if status.startswith("failed") else 0


def _extract(options: argparse.Namespace) -> int:
    from pipeline.run import extract_features

    failed = extract_features(_config(options.config, options.settings), _say, _Progress("looking at videos"))
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    from pipeline.check import check

    return 1 if check(options.dataset, options.root, contents=options.contents, alike=options.alike, say=print) else 0


def _list_config(options: argparse.Namespace) -> int:
    from pipeline.config import describe_settings, dump_config

    print(dump_config(_config(options.config, options.settings)) if options.config else describe_settings(), end="")
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "watch": _watch,
    "extract": _extract,
    "check": _check,
    "config": _list_config,
}


def _config(source: str, settings: Sequence[str]) -> Any:
    """A YAML config; or the defaults for a manifest or a folder of class folders, saying what was chosen."""
    from pipeline.config import load_config
    from pipeline.prepare import defaults_for

    path = Path(source)
    if path.suffix in (".yaml", ".yml") or not path.exists():
        return load_config(path, settings)
    base, chosen = defaults_for(path)
    for line in chosen:
        _say(line)
    return load_config(None, settings, base=base)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of classes; give 1 or more")
    return int(text)


def _say(text: str) -> None:
    """A line on stderr, or some; names of files in it cannot steer the terminal."""
    from pipeline.inference.batch import one_line

    print("\n".join(map(one_line, text.split("\n"))), file=sys.stderr, flush=True)


def _show(finished: Finished) -> None:
    from pipeline.training.report import table

    if finished.report["rows"]:
        print(table(finished.report))
        print(f"\nreport: {finished.folder / 'report.json'} and report.txt (confusion matrix)")
    else:
        print("no test part: nothing was measured (data.split gives one)")


def _calm_libraries() -> None:
    """Libraries talk to their developers; we talk to the user."""
    import logging
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, value in (
        ("OPENCV_LOG_LEVEL", "ERROR"),
        ("OPENCV_FFMPEG_LOGLEVEL", "-8"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger().setLevel(logging.ERROR)


class _Progress:
    """One line that moves on a terminal; nothing elsewhere."""

    def __init__(self, what: str) -> None:
        import time

        self.what, self.clock, self.started, self.shown = what, time.monotonic, time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if not sys.stderr.isatty() or (now - self.shown < 0.1 and done < total):
            return
        self.shown = now
        speed = done / max(1e-9, now - self.started)
        text = f"{self.what}: {done}/{total}   {speed:.1f} videos/s   {(total - done) / max(1e-9, speed):.0f} s left"
        print(f"\r\033[K{text}" + ("\n" if done == total else ""), end="", file=sys.stderr, flush=True)


class _RowPrinter:
    """A line of the table for each answered video, and the speed."""

    def __init__(self) -> None:
        import time

        self.clock, self.started = time.monotonic, time.monotonic()

    def __call__(self, row: dict[str, Any], done: int, total: int) -> None:
        from pipeline.inference.batch import headline, one_line

        speed = done / max(1e-9, self.clock() - self.started)
        left = f"{(total - done) / max(1e-9, speed):.0f} s left" if done < total else "done"
        print(
            f"{one_line(row['path'])[:44]:<44}  {headline(row):<44}  {done}/{total}  {speed:.1f} videos/s  {left}",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
