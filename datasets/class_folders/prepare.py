"""A folder of class folders -> a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.readers import read_class_folders, write_and_describe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder that holds <class>/**/video")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write, .jsonl or .csv")
    options = parser.parse_args()
    try:
        rows = read_class_folders(options.videos, say=print)
        print(write_and_describe(rows, options.videos, options.out))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
