"""`unreel predict`: answer for files, folders and lists of videos, texts or series, and write the answers.

In: paths and a model folder. Out: one file or folder for each format. Knows nothing of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
) -> Counter[str]:
    """Answer for every input, in order. Returns how many were ok, partial and failed.

    Writes one file or folder for each format into `out`; with `attention` also images of the attention weights of
    captions. Raises ModelError, and ValueError for a format that cannot hold the answers of this model, before any
    video is decoded.
    """
    checkpoint = load_model(model)
    columns = checkpoint.architecture.columns()
    check_formats(formats, columns)
    if message := omission_message(formats, columns):
        log(message)
    inputs = find_texts(paths) if checkpoint.architecture.encoder.kind == "tokens" else find_videos(paths)
    out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    failed: list[str] = []
    with distributed(device, answering_threads(checkpoint)) as context:
        predictor = Predictor(checkpoint, context.device)
        writers = [open_writer(kind, out, columns) for kind in formats]
        options = {"on_answer": AttentionPictures(out / "attention", checkpoint)} if attention else {}
        for done, row in enumerate(predict_all(inputs, predictor, top=top, **options), start=1):
            for writer in writers:
                writer.write(row)
            counts[row["status"].partition(":")[0]] += 1
            failed += [row["path"]] if row["status"].startswith("failed") else []
            on_row(row, done, len(inputs))
        files = [str(writer.close()) for writer in writers]
    log(
        f"{counts.total()} inputs: {counts['ok']} ok, {counts['partial']} partial, {counts['failed']} failed; "
        f"written to {', '.join(files)}"
    )
    if failed and (span_formats := [kind for kind in formats if kind in SPAN_FORMATS]):
        listed = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        log(f"{', '.join(span_formats)} hold nothing about inputs that failed: {listed}")
    return counts
