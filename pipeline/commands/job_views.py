"""The files that people read, written from the ledgers of a job, and the summary that is printed.

In: ledgers. Out: files, counts and sentences. `predict` and `merge` share it. It imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.inference.job_folder import all_recorded
from pipeline.inference.ledger import Ledger, Recorded
from pipeline.media.clip import ANSWERED
from pipeline.writers import SPAN_FORMATS, Format
from pipeline.writers.table_rows import Heads
from pipeline.writers.views import write_views

Log = Callable[[str], None]
SHOWN = 5


@dataclass
class Summary:
    """The inputs of a job. counts: ok, partial, failed, missing (not answered yet). failed: by status, the inputs.

    first: by status, the sentence about the first of them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, list[str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, one: Recorded) -> None:
        """Count one input."""
        kind = one.status if one.status in ANSWERED else "failed" if one.status else "missing"
        self.counts[kind] += 1
        if kind == "failed" and one.status is not None:
            self.failed.setdefault(one.status, []).append(one.id)
            self.first.setdefault(one.status, f"  {one.id}: {one.status}: {one.row['error']}")

    def log_failures(self, log: Log) -> None:
        """Say the first failure of each status, and how many there are."""
        for status, sentence in self.first.items():
            count = len(self.failed[status])
            log(sentence + (f" ({count} inputs have this status.)" if count > 1 else ""))


def summarise(recorded: Iterable[Recorded], log: Log) -> Summary:
    """Count the inputs, and say why some failed."""
    summary = Summary()
    for one in recorded:
        summary.add(one)
    summary.log_failures(log)
    return summary


def write_job_views(
    ledgers: Sequence[Ledger], out: Path, formats: Sequence[Format], columns: Heads, log: Log
) -> Counter[str]:
    """Write the files of all formats. Returns the counts of `Summary`. The caller holds the lock of `out`."""
    summary = Summary()

    def rows() -> Iterator[dict[str, Any]]:
        for one in all_recorded(ledgers):
            summary.add(one)
            if one.status is not None:
                yield one.row

    files, num_unwritten = write_views(rows(), out, formats, columns, log)
    counts = summary.counts
    log(
        f"{counts.total()} inputs: {counts['ok']} ok, {counts['partial']} partial, {counts['failed']} failed"
        f"{', ' + str(counts['missing']) + ' not answered yet' if counts['missing'] else ''}; "
        f"written to {', '.join(map(str, files))}"
    )
    summary.log_failures(log)
    failed = [name for names in summary.failed.values() for name in names]
    if failed and (span_formats := [kind for kind in formats if kind in SPAN_FORMATS]):
        listed = ", ".join(failed[:SHOWN]) + (f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else "")
        log(f"{', '.join(span_formats)} hold nothing about inputs that failed: {listed}")
    counts["failed"] += num_unwritten
    return counts
