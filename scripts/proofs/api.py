"""Promise `api`: the Python blocks of README and docs run on a freshly trained model, and `import unreel` is fast."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import proof_tools
from doc_blocks import Block, blocks_of, documents, run_python
from reader_files import make_reader_files

HEAVY = ("torch", "numpy", "pydantic", "av", "cv2")
RATIO = 4.0
"""`import unreel` may take so many times as long as `python -c pass`."""
ROUNDS = 11


def api_promise(data: Path, seeds: int) -> tuple[str, bool]:
    """Train the model of the pages, run every Python block, time the import."""
    work = proof_tools.fresh_folder("api")
    proof_tools.prepare_dataset("puppets", "--size", "small", "--out", work / "puppets")
    prepare_pages(work / "puppets", work / "pages")
    failures, ran, left_out = run_pages(work / "pages")
    for failure in failures:
        print(failure)
    ratio, loaded = import_time()
    print(f"import unreel: {ratio:.2f} times `python -c pass`; heavy modules after it: {', '.join(loaded) or 'none'}")
    figure = (
        f"{ran - len(failures)} of {ran} Python blocks run with the output that the page shows, {left_out} left out "
        f"(they need data, docker or a GPU); import unreel {ratio:.2f}x python -c pass (bar {RATIO:g})"
    )
    return figure, not failures and ratio <= RATIO and not loaded


def prepare_pages(puppets: Path, folder: Path, *, most: int | None = None) -> None:
    """The working folder of the pages: the reader's files, and the run that `unreel train videos/` makes."""
    folder.mkdir(parents=True, exist_ok=True)
    make_reader_files(puppets, folder, most=most)
    proof_tools.unreel("train", "videos", "tracking.wandb=off", cwd=folder)


def run_pages(folder: Path) -> tuple[list[str], int, int]:
    """Run the Python blocks of every page: the failures, how many blocks ran, how many were left out."""
    failures: list[str] = []
    python: list[Block] = []
    for page in documents(proof_tools.REPOSITORY):
        blocks = [block for block in blocks_of(page, proof_tools.REPOSITORY) if block.language == "python"]
        python += blocks
        failures += run_python(blocks, folder)
    left_out = sum(bool(block.needs) for block in python)
    return failures, len(python) - left_out, left_out


def import_time() -> tuple[float, list[str]]:
    """The time of `import unreel` over that of `pass`, and the heavy modules that it loads.

    Both times are medians of alternating runs.
    """
    seconds: dict[str, list[float]] = {"pass": [], "import unreel": []}
    for _ in range(ROUNDS):
        for code, times in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, cwd=proof_tools.REPOSITORY)
            times.append(time.perf_counter() - started)
    shown = f"import sys, unreel; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", shown], check=True, text=True, capture_output=True, cwd=proof_tools.REPOSITORY
    )
    return statistics.median(seconds["import unreel"]) / statistics.median(seconds["pass"]), done.stdout.split()
