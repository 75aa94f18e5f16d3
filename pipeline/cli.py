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

from pipeline.arguments import parser

if TYPE_CHECKING:
    from pipeline.run import Finished


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
        attention=options.attention,
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


def _generate(options: argparse.Namespace) -> int:
    from pipeline.generate import generate

    wishes = {k: v for k, v in vars(options).items() if k not in ("verb", "model")}
    for text in generate(options.model, say=_say, **wishes):
        print(text, flush=True)
    return 0


def _extract(options: argparse.Namespace) -> int:
    from pipeline.run import extract_features

    failed = extract_features(_config(options.config, options.settings), _say, _Progress("looking at videos"))
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    from pipeline.check import check

    return 1 if check(options.dataset, options.root, contents=options.contents, alike=options.alike, say=print) else 0


def _list_config(options: argparse.Namespace) -> int:
    from pipeline.config import Config, dump_config
    from pipeline.section import describe_settings

    print(
        dump_config(_config(options.config, options.settings)) if options.config else describe_settings(Config), end=""
    )
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "watch": _watch,
    "generate": _generate,
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
