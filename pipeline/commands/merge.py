"""`unreel merge`: write the files of a folder job from its ledgers, at any time.

In: OUT of `unreel predict`, also of one in parts. Out: one file or folder for each format. It imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.atomic import lock_folder
from pipeline.commands.job_views import write_job_views
from pipeline.inference.job_folder import check_whole, job_of, open_ledgers
from pipeline.writers import Format, check_formats

ADVICE = "Wait for its end; it writes the files itself. `unreel status` shows how far it is."


def merge(out: Path, formats: Sequence[Format], log: Callable[[str], None]) -> Counter[str]:
    """Write the files. Returns how many inputs are ok, partial, failed and missing (not answered yet).

    formats: empty for those of `predict`. Raises LedgerError, FolderLocked, ValueError for a format that cannot hold
    the answers, OSError that names the file.
    """
    with open_ledgers(out) as ledgers, lock_folder(out, ADVICE):
        job = job_of(ledgers)
        chosen: Sequence[Format] = formats or job.formats  # type: ignore[assignment]
        check_formats(chosen, job.columns)
        counts = write_job_views(ledgers, out, chosen, job.columns, log)
        problems = check_whole(ledgers, out)
        for sentence in problems:
            log(sentence)
        counts["missing"] += len(problems)
        return counts
