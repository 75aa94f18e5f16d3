"""HMDB51 and one of its official splits -> a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.readers import read_hmdb51, write_and_describe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder that holds <class>/<source>_<class>_*.avi")
    parser.add_argument("--lists", type=Path, required=True, help="folder of <class>_test_split<k>.txt")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="official split (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write, .jsonl or .csv")
    options = parser.parse_args()
    try:
        rows = read_hmdb51(options.videos, options.lists, options.split, say=print)
        print(write_and_describe(rows, options.videos, options.out))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
