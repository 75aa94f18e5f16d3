"""`unreel status`: how far a folder job is, read from its ledger, also while it runs.

In: OUT of `unreel predict`. Out: lines of text. Nothing is written. It imports no torch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.atomic import folder_owner
from pipeline.inference.job_folder import job_of, missing_shards, open_ledgers
from pipeline.inference.ledger import Ledger
from pipeline.media.clip import ANSWERED
from pipeline.training.epoch_line import duration

SHOWN = 5


def status(out: Path) -> list[str]:
    """The lines: counts, rate and time left, failures by reason, inputs without a result. Raises LedgerError."""
    with open_ledgers(out) as ledgers:
        job = job_of(ledgers)
        counts: Counter[str | None] = Counter()
        for ledger in ledgers:
            counts.update(ledger.counts())
        left = counts[None]
        done = counts.total() - left
        lines = [f"{out}: {done:,} of {counts.total():,} inputs are answered, by {job.model}"]
        failed = {name: count for name, count in counts.items() if name is not None and name not in ANSWERED}
        lines.append(f"  {counts['ok']:,} ok, {counts['partial']:,} partial, {sum(failed.values()):,} failed")
        lines += [f"    {count:,} {name}" for name, count in sorted(failed.items(), key=lambda pair: -pair[1])]
        lines += _running(ledgers, left)
        if left:
            lines.append(f"  {left:,} inputs without a result: {_names(ledgers, left)}")
        if missing := missing_shards(ledgers, out):
            listed = ", ".join(str(shard) for shard in missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
            lines.append(f"  {len(missing)} parts have not begun: {listed}")
        if others := sum(ledger.num_others() for ledger in ledgers):
            lines.append(f"  {others:,} answers of inputs that the last command did not name")
    return lines


def _running(ledgers: Sequence[Ledger], left: int) -> list[str]:
    """Who works on the job, how fast, and for how long; or that nobody does."""
    lines, speed, now = [], 0.0, time.time()
    for ledger in ledgers:
        owner = folder_owner(ledger.path.parent)
        if owner is None:
            continue
        started = ledger.started()
        count, _ = ledger.answered_since(started)
        speed += count / max(1e-3, now - started)
        lines.append(f"  running: {owner}, {count:,} answers since then")
    if lines and speed:
        lines.append(f"  {speed:.2f} inputs/s, about {duration(left / speed)} left")
    if not lines:
        lines.append("  nobody works on it" + ("; the same `unreel predict` command goes on with it" if left else ""))
    return lines


def _names(ledgers: Sequence[Ledger], left: int) -> str:
    """The first inputs that are not answered yet."""
    names = [name for ledger in ledgers for name in ledger.unanswered(SHOWN)][:SHOWN]
    return ", ".join(names) + (", ..." if left > len(names) else "")
