"""Promise `strangers`: what two new readers found in the repository, without knowledge of the code.

The trial is done by readers who see nothing but the repository, so the command prints what is committed in
docs/strangers.md: the tasks, the answers and the misses. The bar is at least 9 right of 10 for each reader.
"""

from __future__ import annotations

import re
from pathlib import Path

import proof_tools

LEAST_RIGHT, TASKS = 9, 10


def strangers(data: Path, seeds: int) -> tuple[str, bool]:
    """Print the committed trial and count the answers that were right."""
    text = (proof_tools.REPOSITORY / "docs/strangers.md").read_text(encoding="utf-8")
    print(text)
    counts = right_answers(text)
    listed = ", ".join(f"{name}: {right} of {total}" for name, (right, total) in counts.items())
    holds = len(counts) >= 2 and all(total == TASKS and right >= LEAST_RIGHT for right, total in counts.values())
    return f"{listed or 'no trial'} right (bar {LEAST_RIGHT} of {TASKS}, two readers)", holds


def right_answers(text: str) -> dict[str, tuple[int, int]]:
    """For each section `## Reader ...`: how many of its table rows say `right`, and how many rows there are."""
    counts: dict[str, tuple[int, int]] = {}
    for section in re.split(r"(?m)^## ", text)[1:]:
        title, _, body = section.partition("\n")
        rows = re.findall(r"(?m)^\| *\d+ *\|.*\| *(right|wrong) *\|", body)
        if title.startswith("Reader") and rows:
            counts[title.strip()] = rows.count("right"), len(rows)
    return counts
