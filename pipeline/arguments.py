"""The arguments of every verb.

In: nothing. Out: the argument parser. It imports nothing heavy, so that --help answers at once. Knows nothing of what
the verbs do.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.commands.help_texts import EPILOG, GENERATE, HELP, WATCH

FORMATS = ["jsonl", "csv", "parquet", "srt", "vtt", "elan", "activitynet"]


def parser() -> argparse.ArgumentParser:
    """The parser of the command, with every verb."""
    top = argparse.ArgumentParser(
        prog="unreel",
        description="What happens in a folder of videos, and when: a CNN extracts features of frames, one recurrent "
        "core reads them in order, heads answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"unreel {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    _add_train_and_evaluate(verbs)
    _add_predict(verbs)
    _add_job_verbs(verbs)
    _add_watch(verbs)
    _add_generate(verbs)
    _add_dataset_verbs(verbs)
    config = _add_verb(verbs, "config", "list every setting, or print a config with its defaults written out")
    config.add_argument("config", nargs="?", metavar="CONFIG|MANIFEST|FOLDER")
    config.add_argument("settings", nargs="*", metavar="key=value")
    _add_follow_links(config)
    config.add_argument("--markdown", action="store_true", help="list the settings as Markdown (docs/config.md)")
    return top


def _add_verb(verbs: Any, name: str, short: str) -> argparse.ArgumentParser:
    """The parser of a verb with its words and examples. short: its line in the list of verbs."""
    description, examples = HELP[name]
    return verbs.add_parser(
        name,
        help=short,
        description=textwrap.fill(description, 100),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def options_of(verb: str) -> list[str]:
    """The options of a verb, such as --model."""
    verbs = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return [text for action in verbs.choices[verb]._actions for text in action.option_strings]


def _add_follow_links(verb: argparse.ArgumentParser) -> None:
    """The option about links, the same for every verb that searches folders."""
    verb.add_argument(
        "--follow-links",
        action="store_true",
        help="also read what links in a folder lead to outside of it (as in caches of Hugging Face, DVC, git-annex)",
    )


def _add_train_and_evaluate(verbs: Any) -> None:
    train = _add_verb(verbs, "train", "train a model: CONFIG.yaml, a manifest, or a folder of class folders")
    train.add_argument("source", metavar="CONFIG|MANIFEST|FOLDER")
    train.add_argument("settings", nargs="*", metavar="key=value")
    _add_follow_links(train)
    train.add_argument("--fresh", action="store_true", help="start over where the run's folder holds a run already")

    evaluate = _add_verb(verbs, "evaluate", "measure a run's model on its test split, or on other data")
    evaluate.add_argument("run", metavar="RUN", type=Path)
    evaluate.add_argument("settings", nargs="*", metavar="key=value")
    _add_follow_links(evaluate)


def _add_predict(verbs: Any) -> None:
    predict = _add_verb(verbs, "predict", "answer for files, folders, globs and lists of videos")
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="for models of texts: text files, one answer per line, or -"
    )
    predict.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    predict.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder of the ledger and of predictions.*"
    )
    predict.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=FORMATS[:3],
        dest="formats",
        help="jsonl, csv, parquet (default: these three) hold every answer; srt, vtt, elan (one file per video) and "
        "activitynet hold spans of time",
    )
    predict.add_argument("--top", type=_positive, default=5, metavar="K", help="how many classes to list (default 5)")
    predict.add_argument(
        "--attention", action="store_true", help="draw the attention weights of captions, in DIR/attention"
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")
    _add_job(predict)
    _add_follow_links(predict)


def _add_job(predict: argparse.ArgumentParser) -> None:
    """The options of `predict` about what is done again, and where."""
    predict.add_argument(
        "--store", type=Path, metavar="DIR", help="keep the features of videos here, and use those that are here"
    )
    predict.add_argument(
        "--shard",
        type=_shard,
        metavar="i/n",
        help="only part i of n (0/4 to 3/4); the parts may run at once on machines that share DIR, and "
        "`unreel merge DIR` writes the files",
    )
    predict.add_argument("--retry-failed", action="store_true", help="also answer again for every input that failed")
    predict.add_argument("--reprocess", action="store_true", help="answer again for all inputs, such as by a new model")
    predict.add_argument("--dry-run", action="store_true", help="say what would be done, open no input, write nothing")
    predict.add_argument(
        "--deadline",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="how long a video may give no new picture until it fails with `timeout`; so does one that takes longer in "
        "all than this and a time for its size (default 30)",
    )


def _add_job_verbs(verbs: Any) -> None:
    status = _add_verb(verbs, "status", "say how far a `predict` job is, also while it runs")
    verify = _add_verb(verbs, "verify", "check that a `predict` job is complete and undamaged")
    merge = _add_verb(verbs, "merge", "write the files of a `predict` job from its ledger")
    for verb in (status, verify, merge):
        verb.add_argument("out", type=Path, metavar="OUT", help="the --out of `unreel predict`")
    verify.add_argument(
        "--sample",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="answer again for such a share of the inputs, as 5%% or 0.05, and compare the rows",
    )
    merge.add_argument(
        "--format", nargs="+", choices=FORMATS, default=[], dest="formats", help="by default those of `predict`"
    )


def _add_dataset_verbs(verbs: Any) -> None:
    extract = _add_verb(verbs, "extract", "fill the feature store for a config, and do nothing else")
    extract.add_argument("config", metavar="CONFIG|MANIFEST|FOLDER")
    extract.add_argument("settings", nargs="*", metavar="key=value")
    extract.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write the features of each video, as DIR/NAME.npy (looks, features)",
    )
    _add_follow_links(extract)

    check = _add_verb(verbs, "check", "find problems of a dataset: leaks, missing and broken files, unequal classes")
    check.add_argument("dataset", metavar="MANIFEST|FOLDER")
    check.add_argument("--root", metavar="DIR", help="folder that the manifest's paths start from")
    _add_follow_links(check)
    check.add_argument(
        "--contents", action="store_true", help="read all packets of the files: find broken, cut and damaged ones"
    )
    check.add_argument(
        "--near-duplicates", action="store_true", help="decode a few frames: find near duplicates in two splits"
    )


def _add_watch(verbs: Any) -> None:
    watch = verbs.add_parser(
        "watch",
        help="print events while they happen: a file, a camera, an address or a pipe",
        description="Print what happens while it happens, as lines of JSON.",
        epilog=WATCH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument(
        "source", metavar="SOURCE", help="a file, a camera's index (0), rtsp:// or http://..., or - for a pipe"
    )
    watch.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    watch.add_argument(
        "--lag", type=float, default=1.0, metavar="S", help="a segment head decides a label so much later (default 1)"
    )
    watch.add_argument(
        "--smooth",
        type=float,
        default=2.0,
        metavar="S",
        help="a classify head averages scores over so long (default 2)",
    )
    watch.add_argument(
        "--update",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds between the updates of an open action; 0: none (default 1)",
    )
    watch.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="P",
        help="a look whose best class is less probable shows no action (default 0)",
    )
    watch.add_argument("--probabilities", action="store_true", help="also print the best classes of every look")
    watch.add_argument("--top", type=_positive, default=5, metavar="K", help="how many classes to list (default 5)")
    watch.add_argument(
        "--state", type=Path, metavar="FILE", help="continue from this file, if it exists, and keep it up to date"
    )
    watch.add_argument(
        "--overlay", type=Path, metavar="FILE.mp4", help="write a video of the frames with the answers drawn on it"
    )
    watch.add_argument("--window", action="store_true", help="show the same in a window (needs OpenCV with windows)")
    _add_reading(watch)
    watch.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")


def _add_reading(watch: argparse.ArgumentParser) -> None:
    """The options of `watch` about reading the source."""
    watch.add_argument("--size", metavar="WxH", help="the pipe holds raw rgb24 frames of this size")
    watch.add_argument("--fps", type=float, metavar="F", help="the pipe holds so many frames a second")
    watch.add_argument(
        "--batch",
        type=_positive,
        default=64,
        metavar="N",
        help="most looks that the CNN processes at once (default 64)",
    )
    watch.add_argument(
        "--patience",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds without a frame after which the decoder is killed; no limit for a pipe (default 20)",
    )
    watch.add_argument(
        "--give-up",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds after which a camera or address that does not answer is given up (default 300)",
    )


MADE = ["mp4", "gif", "png", "npz", "txt"]


def _add_generate(verbs: Any) -> None:
    generate = verbs.add_parser(
        "generate",
        help="generate sequences (with a generate head), or continue a text (with a language head)",
        description="Make new sequences with the generate head of a model, or continue a text.",
        epilog=GENERATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generate.add_argument("--model", required=True, type=Path, metavar="DIR", help="a run's folder or its model folder")
    generate.add_argument(
        "--prompt", default="", metavar="TEXT", help="the text to continue; without it a new text begins"
    )
    generate.add_argument(
        "--length",
        type=_positive,
        metavar="N",
        help="the most tokens of a text (default 200), or the steps of a sequence (default 16)",
    )
    generate.add_argument("--count", "--samples", type=_positive, default=1, metavar="K", help="how many (default 1)")
    generate.add_argument("--label", metavar="CLASS", help="the class of the sequences; by default all classes in turn")
    generate.add_argument("--out", type=Path, metavar="DIR", help="the folder for sequences")
    generate.add_argument(
        "--format",
        nargs="+",
        choices=MADE,
        default=[],
        help="mp4, gif and png for frames, npz for features, txt for texts",
    )
    generate.add_argument(
        "--content-seed", type=int, metavar="S", help="seed of the content; the motion comes from --seed"
    )
    generate.add_argument(
        "--towards", type=int, metavar="S", help="lead from the codes of --seed to those of this seed"
    )
    generate.add_argument(
        "--image", type=Path, metavar="FILE", help="the first frame: an image, or the first of a video"
    )
    generate.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="factor on the codes, 0 to 1: smaller ones give more usual sequences with less variety (default 1)",
    )
    generate.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="below 1 gives more probable tokens, above 1 less probable ones (default 0.8)",
    )
    generate.add_argument("--top-k", type=_positive, metavar="K", help="only the K most probable tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="only the most probable tokens that make up P")
    generate.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same seed gives the same result (default 0)"
    )
    generate.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, such as 30")
    return seconds


def _share(text: str) -> float:
    """5% or 0.05 -> 0.05."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; it is above 0 and at most 1, such as 5% or 0.05")
    return share


def _shard(text: str) -> object:
    from pipeline.inference.job_plan import Shard

    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
