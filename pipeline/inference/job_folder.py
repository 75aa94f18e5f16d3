"""The folder of a folder job: where its ledgers lie, and the rows of all of them together.

In: OUT of `unreel predict`. Out: OUT/ledger.sqlite, or OUT/shards/i-of-n/ledger.sqlite of a job in parts. Knows nothing
of models, and imports nothing heavy.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.inference.job_plan import Shard
from pipeline.inference.ledger import Job, Ledger, LedgerError, Recorded

LEDGER = "ledger.sqlite"
SHARDS = "shards"


def ledger_folder(out: Path, shard: Shard | None) -> Path:
    """The folder of a ledger and its lock."""
    return out if shard is None else out / SHARDS / shard.folder


def shards_in(out: Path) -> list[Shard]:
    """The parts that have a ledger, in order."""
    names = (path.parent.name for path in (out / SHARDS).glob(f"*/{LEDGER}"))
    matches = (re.fullmatch(r"(\d+)-of-(\d+)", name) for name in names)
    shards = (Shard(int(match[1]), int(match[2])) for match in matches if match)
    return sorted(shards, key=lambda shard: (shard.count, shard.index))


def check_shards(out: Path, shard: Shard | None) -> None:
    """Raise LedgerError where OUT holds a job in other parts than this one."""
    others = [other for other in shards_in(out) if shard is None or other.count != shard.count]
    if others or (shard is not None and (out / LEDGER).is_file()):
        held = f"a job in {others[0].count} parts" if others else "a job that is not in parts"
        asked = f"part {shard}" if shard else "a job that is not in parts"
        raise LedgerError(
            f"'{out}' holds {held}, and this is {asked}. Use the same --shard i/n for all parts, or another --out."
        )


@contextmanager
def open_ledgers(out: Path) -> Iterator[list[Ledger]]:
    """The ledgers of a job, one for each part that has begun. Raises LedgerError where there are none."""
    shards = shards_in(out)
    check_shards(out, shards[0] if shards else None)
    with ExitStack() as stack:
        paths = [ledger_folder(out, shard) / LEDGER for shard in shards] or [out / LEDGER]
        yield [stack.enter_context(Ledger(path)) for path in paths]


def job_of(ledgers: Sequence[Ledger]) -> Job:
    """The job of all ledgers. Raises LedgerError where they do not belong together."""
    jobs = [ledger.job() for ledger in ledgers]
    known = [replace(job, shard=None) for job in jobs if job is not None]
    if not known:
        raise LedgerError(f"'{ledgers[0].path}' is empty: `unreel predict` was ended before it began. Run it again.")
    for ledger, job in zip(ledgers, known, strict=False):
        if (job.fingerprint, job.options, job.columns) != (known[0].fingerprint, known[0].options, known[0].columns):
            raise LedgerError(
                f"'{ledger.path.parent}' and '{ledgers[0].path.parent}' hold answers of different models or options. "
                "Run the parts again with one model, with --reprocess."
            )
    return known[0]


def missing_shards(ledgers: Sequence[Ledger], out: Path) -> list[Shard]:
    """The parts that have not begun."""
    shards = shards_in(out)
    return [s for s in (Shard(i, shards[0].count) for i in range(shards[0].count)) if s not in shards] if shards else []


def check_whole(ledgers: Sequence[Ledger], out: Path) -> list[str]:
    """A sentence for each part that has not begun, and for each input that is in a part where it does not belong."""
    faults = [
        f"part {shard} has not begun: run `unreel predict` with --shard {shard}"
        for shard in missing_shards(ledgers, out)
    ]
    for shard, ledger in zip(shards_in(out), ledgers, strict=False):
        wrong = [one.id for one in ledger.recorded() if not shard.has(one.id)]
        faults += [f"{name}: it is in part {shard}, where it does not belong" for name in wrong]
    return faults


def all_recorded(ledgers: Sequence[Ledger]) -> Iterator[Recorded]:
    """The inputs of all parts in their order, also those that are not answered yet."""
    return heapq.merge(*(ledger.recorded() for ledger in ledgers), key=lambda one: (one.position, one.id))
