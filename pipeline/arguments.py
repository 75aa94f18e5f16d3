"""The arguments of every verb, and their help texts.

In: nothing. Out: the argument parser. It imports nothing heavy, so that --help answers at once. Knows nothing of what
the verbs do.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from pipeline import __version__

EPILOG = """\
a first run:
  unreel train videos/                      one folder per class; prints the settings it chose
  unreel predict clips/ --model runs/videos --out answers/
settings are key=value after the config, such as core.cell=lstm; `unreel config` lists them all.
"""
HELP = {
    "train": (
        "Train a model. A folder with one folder of videos for each class, or a manifest, needs no config: settings "
        "are chosen and printed. The same command goes on with an interrupted training.",
        """\
  unreel train videos/                                    a folder of class folders; the run lies in runs/videos
  unreel train videos/ core.cell=lstm training.epochs=40  with settings; `unreel config` lists them all
  unreel train configs/puppets/action.yaml training.seed=1
""",
    ),
    "evaluate": (
        "Measure the model of a finished run again, on its own test split or on other data. The table lies in "
        "RUN/evaluation.",
        """\
  unreel evaluate runs/videos
  unreel evaluate runs/videos data.path=other/manifest.csv
""",
    ),
    "predict": (
        "Answer for files, folders, globs and lists of videos with a trained model. Each input gets one row, also a "
        "broken one: its row says what is wrong.",
        """\
  unreel predict clips/ --model runs/videos --out answers/
  unreel predict a.mp4 'more/**/*.avi' @list.txt --model runs/videos --out answers/ --format csv
""",
    ),
    "extract": (
        "Compute the features of all videos of a config, a manifest or a folder, and store them, so that every later "
        "training starts at once.",
        """\
  unreel extract videos/
  unreel extract configs/puppets/action.yaml encoder.size=160
""",
    ),
    "check": (
        "Find what is wrong with a dataset before you train on it. The exit code is 1 where something is found.",
        """\
  unreel check videos/
  unreel check videos/manifest.csv --contents
""",
    ),
    "config": (
        "List every setting with its type, default and meaning; or print a config, with its defaults written out.",
        """\
  unreel config
  unreel config videos/ core.cell=lstm > mine.yaml
""",
    ),
}
"""What a verb does, and examples."""
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
    predict.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of predictions.*")
    predict.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=FORMATS[:3],
        help="jsonl, csv, parquet (default: these three) hold every answer; srt, vtt, elan (one file per video) and "
        "activitynet hold spans of time",
    )
    predict.add_argument("--top", type=_positive, default=5, metavar="K", help="how many classes to list (default 5)")
    predict.add_argument(
        "--attention", action="store_true", help="draw the attention weights of captions, in DIR/attention"
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")
    _add_follow_links(predict)


def _add_dataset_verbs(verbs: Any) -> None:
    extract = _add_verb(verbs, "extract", "fill the feature store for a config, and do nothing else")
    extract.add_argument("config", metavar="CONFIG|MANIFEST|FOLDER")
    extract.add_argument("settings", nargs="*", metavar="key=value")
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


WATCH = """\
One JSON object per line on standard output, times in seconds since the first frame:
  opened         the source is open; is_live says whether it is a camera or a live address
  start, update, end      an action starts, continues, ends: head, label, start, end, score
  probabilities  the best classes of each look, with --probabilities
  answer         the answer for the whole source, at its end, as `unreel predict` gives it
  reconnect, dropped      the decoder was started again; looks were left out
  closed         always the last event: status, seconds, looks, dropped, reconnects, latency_ms
Files, recordings behind an address and pipes wait for the model, so no look is left out. Cameras and live addresses
do not wait: when the model is slower, the oldest waiting looks (of 16 at most) are dropped, counted and reported.
After a signal the open actions end with "interrupted": true, and --state continues from there. After kill -9 the
events since the last saved state (3 s) are repeated.
examples:
  unreel watch match.mp4 --model runs/x --overlay overlay.mp4
  unreel watch rtsp://camera/1 --model runs/x --state camera1.state >> events.jsonl
  arecorder | unreel watch - --model runs/x             (MPEG-TS, Matroska, Y4M)
  program | unreel watch - --size 320x240 --fps 25 --model runs/x     (raw rgb24, top row first)
"""


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
GENERATE = """\
examples:
  unreel generate --model runs/clips --label walk_left --count 8 --out made/        8 clips of a class, and a sheet
  unreel generate --model runs/clips --length 64 --out made/                        longer than in training
  unreel generate --model runs/clips --count 8 --towards 7 --out made/              from one clip to another
  unreel generate --model runs/text --prompt "ROMEO:"                               continue a text
"""


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
