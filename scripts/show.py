"""Prints the list of promises, or measures one.

`make show` prints the list. `make show P=name DATA=folder` measures one promise from the beginning, prints the result
last, and exits with 0 only if the bar holds.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "proofs"))
from promises import PROMISES
from run_promise import Asked, run_promise


def main() -> int:
    """Print the list, or measure one promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="the name of a promise")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the real data sets")
    parser.add_argument("--seeds", type=int, help="the number of seeds, instead of that of the table")
    parser.add_argument(
        "--toy", action="store_true", help="the same work on tiny data: it must run, and decides nothing"
    )
    options = parser.parse_args()
    asked = Asked(options.data.resolve(), options.seeds, options.toy)
    if not options.name:
        for promise in PROMISES:
            print(f"{promise.name:<14} {promise.promise}\n{'':<14} bar: {promise.bar}")
        return 0
    promises = {promise.name: promise for promise in PROMISES}
    if options.name not in promises:
        print(f"'{options.name}' is no promise. Use one of: {', '.join(promises)}.", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    os.environ.setdefault("WANDB_SILENT", "true")
    promise = promises[options.name]
    print(f"[{promise.name}] {promise.promise}; bar: {promise.bar}", flush=True)
    return run_promise(promise.name, promise.where, promise.seeds, asked)


if __name__ == "__main__":
    sys.exit(main())
