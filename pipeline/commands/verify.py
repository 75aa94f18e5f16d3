"""`unreel verify`: check that a folder job is complete and undamaged, and answer again for a sample.

In: OUT of `unreel predict`. Out: a sentence for everything that is wrong. Nothing in OUT is changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import FolderLocked, folder_owner
from pipeline.inference.job_folder import all_recorded, check_whole, job_of, open_ledgers
from pipeline.inference.job_plan import content_of, stat_of
from pipeline.inference.ledger import Job, LedgerError, Recorded
from pipeline.media.folder import read_lines
from pipeline.media.search import InputFile
from pipeline.writers import WRITERS, Format
from pipeline.writers.views import write_views

TOLERANCE = 1e-4
"""How far a number of an answer that is given again may be from the first one: CUDA rounds by the batch."""
Log = Callable[[str], None]


def verify(out: Path, sample: float, log: Log) -> list[str]:
    """A sentence for each fault; none where every input has exactly one intact row, and the files hold these rows.

    sample: the share of the inputs that are answered again, 0 to 1; their rows are compared. Raises LedgerError, and
    FolderLocked where a job is running.
    """
    with open_ledgers(out) as ledgers:
        for ledger in ledgers:
            if owner := folder_owner(ledger.path.parent):
                raise FolderLocked(f"'{ledger.path.parent}' is in use by {owner}. Wait for its end, then verify.")
        job = job_of(ledgers)
        faults = [f"{ledger.path}: {text}" for ledger in ledgers for text in ledger.damage()]
        faults += check_whole(ledgers, out)
        recorded = list(all_recorded(ledgers))
        faults += [f"{one.id}: its row is damaged: its checksum differs" for one in recorded if not one.is_intact]
        faults += [f"{one.id}: it has no result yet" for one in recorded if one.status is None]
        faults += _compare_views(recorded, out, job, log)
        log(f"{len(recorded):,} inputs, {sum(one.status is not None for one in recorded):,} rows")
        if sample:
            faults += _compare_sample(_sample(recorded, sample), job, log)
    return faults


def _compare_views(recorded: Sequence[Recorded], out: Path, job: Job, log: Log) -> list[str]:
    """Write the files once more, elsewhere, and compare their bytes."""
    faults = []
    formats: Sequence[Format] = job.formats  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        rows: Iterator[dict[str, Any]] = (one.row for one in recorded if one.status is not None)
        write_views(rows, Path(folder), formats, job.columns, log)
        for kind in formats:
            name = WRITERS[kind][0]
            expected = Path(folder) / name
            files = [path for path in expected.rglob("*") if path.is_file()] if expected.is_dir() else [expected]
            for file in files:
                written = out / file.relative_to(folder)
                if not written.is_file() or written.read_bytes() != file.read_bytes():
                    faults.append(f"{written}: it does not hold the answers of the ledger; `unreel merge {out}`")
                    break
    return faults


def _sample(recorded: Sequence[Recorded], share: float) -> list[Recorded]:
    """The inputs to answer again: those with the smallest hashes, so the same ones each time."""
    answered = [one for one in recorded if one.status is not None]
    order = sorted(answered, key=lambda one: hashlib.sha256(one.id.encode("utf-8", "surrogateescape")).digest())
    return order[: math.ceil(share * len(order))]


def _compare_sample(sample: Sequence[Recorded], job: Job, log: Log) -> list[str]:
    """Answer again, and compare the rows. What has changed on the disk since then is left out, by name."""
    from pipeline.checkpoint import load_model
    from pipeline.inference.engine import answer_files
    from pipeline.inference.predictor import Predictor, answering_threads
    from pipeline.training.distributed import distributed

    checkpoint = load_model(job.model)
    find = _find_text if checkpoint.architecture.encoder.kind == "tokens" else _find_file
    files = {}
    for one in sample:
        file = find(one)
        if file is None:
            log(f"{one.id}: not answered again: it has changed since, or is not at '{one.path}'")
        else:
            files[one.id] = (file, one)
    faults = []
    with distributed(job.fingerprint["device"], answering_threads(checkpoint)) as context:
        made_by = checkpoint.made_by(context.device)
        if made_by != job.fingerprint:
            raise LedgerError(
                f"'{job.model}' is another model than the one of these answers, or would answer in another way: "
                f"{', '.join(key for key in made_by if made_by[key] != job.fingerprint.get(key))} differ. Put "
                "the model back, or verify without --sample."
            )
        predictor = Predictor(checkpoint, context.device)
        for answer in answer_files([file for file, _ in files.values()], predictor):
            before = files[answer.file.name][1].row
            row = json.loads(json.dumps(answer.answer.to_dict(job.options["top"])))
            if not _is_close(row, before):
                keys = [key for key in {**row, **before} if not _is_close(row.get(key), before.get(key))]
                faults.append(f"{answer.file.name}: answered again it gets another {', '.join(keys)}")
    log(f"{len(files):,} inputs were answered again: {len(faults)} differ")
    return faults


def _find_file(one: Recorded) -> InputFile | None:
    """The input on the disk, where it is the one that was answered."""
    file = InputFile(Path(one.path), one.id)
    return file if one.size is not None and stat_of(file) == (one.size, one.mtime_ns) else None


def _find_text(one: Recorded) -> InputFile | None:
    """The line of a text, where it is the one that was answered. Its path is that of the file and its number."""
    path = Path(one.path).parent
    lines = read_lines(path) if path.is_file() else []
    return next((line for line in lines if str(line.path) == one.path and content_of(line) == one.content), None)


def _is_close(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, numbers within TOLERANCE."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_close(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(other))
    return one == other
