"""UCF101 with one of its official splits -> a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.dataset_tools import run_preparer
from pipeline.data.readers import read_ucf101, write_and_describe


def make(options: argparse.Namespace) -> str:
    rows = read_ucf101(options.videos, options.lists, options.split, log=print)
    return write_and_describe(rows, options.videos, options.out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder with <Class>/v_<Class>_gNN_cNN.avi")
    lists = "folder with classInd.txt, trainlist0k.txt, testlist0k.txt"
    parser.add_argument("--lists", type=Path, required=True, help=lists)
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="official split (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write, .jsonl or .csv")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
