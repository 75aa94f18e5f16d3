"""A folder with one folder per class -> a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.class_folders import read_class_folders
from pipeline.data.dataset_tools import run_preparer
from pipeline.data.readers import write_and_describe


def make(options: argparse.Namespace) -> str:
    rows = read_class_folders(options.videos, log=print, follow_links=options.follow_links)
    return write_and_describe(rows, options.videos, options.out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder with <class>/**/video")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write, .jsonl or .csv")
    parser.add_argument("--follow-links", action="store_true", help="also read what links lead to outside of it")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
