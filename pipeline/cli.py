"""The command `unreel`: it parses the arguments, calls a verb of `pipeline.commands`, prints, and returns an exit code.

Everything heavy is imported inside a function, so that --help answers at once. Knows nothing of how a verb works.

Exit codes: 0 success; 1 finished, but some videos failed; 2 usage or configuration; 3 model; 4 environment (disk,
device); 5 the run's folder or --out is in use by another process; 130 / 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pipeline.arguments import options_of, parser
from pipeline.commands.terminal import Progress, TrainingLog
from pipeline.libraries import keep_torch_quiet

if TYPE_CHECKING:
    from pipeline.commands.train import FinishedRun


EXTRACTING = "extracting features"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb. A mistake of the user becomes a sentence on stderr and an exit code."""
    _silence_libraries()
    try:
        options = _parse(arguments)
        return VERBS[options.verb](options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        path = f" '{error.filename}'" if error.filename else ""
        text = f"unreel: {error.strerror or error}{path}. Check that the disk has room and that the path is yours."
        print(text, file=sys.stderr)  # without _log: it imports, and the disk may be the problem
        return 4
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        _log(f"unreel: {error}")
        return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options. Settings and paths may follow an option too, which argparse alone does not accept.

    Raises ValueError for an option that does not exist.
    """
    top = parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    options, rest = top.parse_known_args(arguments)
    positional: list[str] | None = getattr(options, "settings", getattr(options, "paths", None))
    if flags := [text for text in rest if text.startswith("-")]:
        raise ValueError(_unknown_option(options.verb, flags[0], arguments))
    if rest and positional is None:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if positional is not None:
        positional += rest
    if getattr(options, "follow_links", False) and hasattr(options, "settings"):
        options.settings.append("data.follow_links=true")
    return options


def _unknown_option(verb: str, flag: str, arguments: Sequence[str]) -> str:
    """The sentence about an option that a verb does not have; a setting is shown as it is written here."""
    from pipeline.data.vocabulary import did_you_mean

    name, equals, value = flag.partition("=")
    if not equals:
        value = next(iter(arguments[arguments.index(flag) + 1 :]), "")
        value = value if value and not value.startswith("-") else "VALUE"
    similar = did_you_mean(name.strip("-"), [option.strip("-") for option in options_of(verb)]).replace("'", "'--", 1)
    places = _settings_like(name) if verb in ("train", "evaluate", "extract", "config") else []
    if places and not similar:
        written = " or ".join(f"{place}={value}" for place in places)
        return f"{name} is no option of {verb}. Settings have no dashes, and stand after their section: {written}."
    return f"{name} is no option of {verb}.{similar} `unreel {verb} -h` lists its options."


def _settings_like(name: str) -> list[str]:
    """The settings that resemble a name."""
    from pipeline.config.run import Config
    from pipeline.config.setting_names import settings_like

    return settings_like(Config, name)


def _exit_code(error: Exception) -> int | None:
    """The exit code of a mistake that the user can correct; None for a bug."""
    from pipeline.atomic import FolderLocked
    from pipeline.config.model_json import ModelError
    from pipeline.training.stop_signal import Interrupted

    if isinstance(error, FolderLocked):
        return 5
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, ModelError):
        return 3
    if isinstance(error, FloatingPointError):
        return 1
    return 2 if isinstance(error, ValueError) else None


def _train(options: argparse.Namespace) -> int:
    from pipeline.commands.config import training_config
    from pipeline.commands.train import train

    config = training_config(options.source, options.settings, _log)
    log = TrainingLog(_log)
    try:
        finished = train(config, log, Progress(EXTRACTING), fresh=options.fresh)
    finally:
        log.close()
    if int(os.environ.get("RANK", "0")) == 0:
        _print_report(finished)
        print(f"\nmodel: {finished.folder / 'model'}")
        print(f"next:  unreel predict PATH ... --model {shlex.quote(str(finished.folder))} --out DIR")
    return 1 if finished.report["failed"] else 0


def _evaluate(options: argparse.Namespace) -> int:
    from pipeline.commands.evaluate import evaluate

    finished = evaluate(options.run, options.settings, _log, Progress(EXTRACTING))
    _print_report(finished)
    return 1 if finished.report["failed"] else 0


def _predict(options: argparse.Namespace) -> int:
    from pipeline.training.stop_signal import StopSignal

    with StopSignal() as stop:  # before the heavy imports: the first process of a container has no other handler
        from pipeline.commands.predict import PredictOptions, predict

        values = {field.name: getattr(options, field.name) for field in fields(PredictOptions)}
        printer = _RowPrinter()
        counts = predict(
            options.paths, options.model, options.out, PredictOptions(**values), log=_log, on_row=printer, stop=stop
        )
    return 1 if counts["failed"] else 0


def _status(options: argparse.Namespace) -> int:
    from pipeline.commands.status import status

    for line in status(options.out):
        print(line, flush=True)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from pipeline.commands.verify import verify

    faults = verify(options.out, options.sample, _log)
    for fault in faults:
        print(fault, flush=True)
    if not faults:
        print("every input has exactly one row, no row is damaged, and the files hold the rows")
    return 1 if faults else 0


def _merge(options: argparse.Namespace) -> int:
    from pipeline.commands.merge import merge

    counts = merge(options.out, options.formats, _log)
    return 1 if counts["failed"] or counts["missing"] else 0


def _watch(options: argparse.Namespace) -> int:
    import json

    from pipeline.commands.watch import watch

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=True), flush=True)

    settings = {name: value for name, value in vars(options).items() if name not in ("verb", "source", "model")}
    status, signal_number = watch(options.source, options.model, emit=emit, log=_log, **settings)
    if signal_number is not None:
        return 128 + signal_number
    return 1 if status.startswith(("failed", "timeout", "crashed")) else 0


def _generate(options: argparse.Namespace) -> int:
    from pipeline.commands.generate import generate

    settings = {name: value for name, value in vars(options).items() if name not in ("verb", "model")}
    for text in generate(options.model, log=_log, **settings):
        print(text, flush=True)
    return 0


def _extract(options: argparse.Namespace) -> int:
    from pipeline.commands.config import config_of
    from pipeline.commands.extract import extract_features

    config = config_of(options.config, options.settings, _log)
    failed = extract_features(config, _log, Progress(EXTRACTING), options.out)
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    from pipeline.commands.check import check

    findings = check(
        options.dataset,
        options.root,
        contents=options.contents,
        near_duplicates=options.near_duplicates,
        follow_links=options.follow_links,
        log=print,
    )
    return 1 if findings else 0


def _print_config(options: argparse.Namespace) -> int:
    from pipeline.commands.config import config_text

    print(config_text(options.config, options.settings, _log, markdown=options.markdown), end="")
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "status": _status,
    "verify": _verify,
    "merge": _merge,
    "watch": _watch,
    "generate": _generate,
    "extract": _extract,
    "check": _check,
    "config": _print_config,
}


def _log(text: str) -> None:
    """Lines on stderr. Control characters in names of files are escaped, so they have no effect on the terminal."""
    from pipeline.inference.answer import escape_unprintable

    print("\n".join(map(escape_unprintable, text.split("\n"))), file=sys.stderr, flush=True)


def _print_report(finished: FinishedRun) -> None:
    from pipeline.evaluation.report import table

    if finished.report["rows"]:
        print(table(finished.report))
        print(f"\nreport: {finished.folder / 'report.json'} and report.txt (confusion matrix)")
    else:
        print("no test split: nothing was measured (data.split gives one)")


def _silence_libraries() -> None:
    """Hide the warnings of libraries: they are for developers. Environment variables of the user have precedence."""
    import logging
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_torch_quiet()
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("unreel").setLevel(logging.WARNING)


class _RowPrinter:
    """Prints a line for each answered input, with the speed."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, row: dict[str, Any], done: int, total: int) -> None:
        from pipeline.inference.answer import escape_unprintable, headline

        speed = done / max(1e-9, time.monotonic() - self.start)
        left = f"{(total - done) / max(1e-9, speed):.0f} s left" if done < total else "done"
        columns = f"{escape_unprintable(row['path'])[:44]:<44}  {headline(row):<44}"
        print(f"{columns}  {done}/{total}  {speed:.1f} videos/s  {left}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
