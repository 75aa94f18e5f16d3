"""Lists of `path label` lines, one per split -> a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.dataset_tools import run_preparer
from pipeline.data.readers import read_path_label_list, write_and_describe


def make(options: argparse.Namespace) -> str:
    lists = {None: options.list, "train": options.train, "val": options.val, "test": options.test}
    if not any(lists.values()):
        raise ValueError("No list is given. Give at least one of --list, --train, --val and --test.")
    rows = []
    for split, list_file in lists.items():
        if list_file is not None:
            rows += read_path_label_list(
                list_file,
                options.videos,
                split=split,
                label_map=options.label_map,
                separator=options.separator,
                skip_missing=options.skip_missing,
                log=print,
            )
    return write_and_describe(rows, options.videos, options.out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder that the paths of the lists are relative to")
    parser.add_argument("--list", type=Path, help="list of rows without a split")
    for split in ("train", "val", "test"):
        parser.add_argument(f"--{split}", type=Path, help=f"list of the {split} rows")
    parser.add_argument("--label-map", type=Path, help="class names, one per line, for labels that are indices from 0")
    parser.add_argument("--separator", choices=("auto", "space", "comma"), default="auto")
    parser.add_argument("--skip-missing", action="store_true", help="leave missing videos out instead of stopping")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write, .jsonl or .csv")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
