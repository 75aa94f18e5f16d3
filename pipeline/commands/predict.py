"""`unreel predict`: answer for files, folders and lists of videos, texts or series, and write the answers.

In: paths and a model folder. Out: one file or folder for each format. Knows nothing of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import check_output_folder
from pipeline.checkpoint import load_model
from pipeline.commands.attention_pictures import AttentionPictures
from pipeline.commands.prepare_data import Log
from pipeline.inference.predict_folder import predict_all
from pipeline.inference.predictor import Predictor, answering_threads
from pipeline.media.folder import find_texts, find_videos
from pipeline.training.distributed import distributed
from pipeline.writers import SPAN_FORMATS, Format, check_formats, omission_message, open_writer

OnRow = Callable[[dict[str, Any], int, int], None]
"""Called with (row, done, total) after each input."""


def predict(
    paths: Sequence[str],
    model: Path,
    out: Path,
    *,
    formats: Sequence[Format],
    top: int,
    device: str,
    log: Log,
    on_row: OnRow,
    attention: bool = False,
    follow_links: bool = False,
) -> Counter[str]:
    """Answer for every input, in order. Returns how many were ok, partial and failed.

    Writes one file or folder for each format into `out`; with `attention` also images of the attention weights of
    captions; with `follow_links` links that lead out of a folder are followed. Raises ModelError, and ValueError for a
    format that cannot hold the answers of this model, before any video is decoded.
    """
    check_output_folder(out, "--out")
    checkpoint = load_model(model)
    columns = checkpoint.architecture.columns()
    check_formats(formats, columns)
    if message := omission_message(formats, columns):
        log(message)
    find = find_texts if checkpoint.architecture.encoder.kind == "tokens" else find_videos
    inputs = find(paths, follow_links, log)
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    reasons: dict[str, str] = {}
    with distributed(device, answering_threads(checkpoint)) as context:
        predictor = Predictor(checkpoint, context.device)
        out.mkdir(parents=True, exist_ok=True)
        writers = [open_writer(kind, out, columns) for kind in formats]
        options = {"on_answer": AttentionPictures(out / "attention", checkpoint)} if attention else {}
        for done, row in enumerate(predict_all(inputs, predictor, top=top, **options), start=1):
            for writer in writers:
                writer.write(row)
            counts[row["status"].partition(":")[0]] += 1
            if row["status"].startswith("failed"):
                failed[row["path"]] = row["status"]
                reasons.setdefault(row["status"], f"  {row['path']}: {row['status']}: {row['error']}")
            on_row(row, done, len(inputs))
        files = [str(writer.close()) for writer in writers]
    log(
        f"{counts.total()} inputs: {counts['ok']} ok, {counts['partial']} partial, {counts['failed']} failed; "
        f"written to {', '.join(files)}"
    )
    for status, reason in reasons.items():
        count = sum(one == status for one in failed.values())
        log(reason + (f" ({count} inputs have this status.)" if count > 1 else ""))
    if failed and (span_formats := [kind for kind in formats if kind in SPAN_FORMATS]):
        listed = ", ".join(list(failed)[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        log(f"{', '.join(span_formats)} hold nothing about inputs that failed: {listed}")
    return counts
