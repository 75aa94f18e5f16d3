"""Default settings for a manifest or a folder of class folders that comes without a config.

In: a path. Out: settings as plain values, and a line for each that says why it was chosen. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.data.class_folders import read_class_folders
from pipeline.data.manifest import read_manifest
from pipeline.data.manifest_rows import Row
from pipeline.media.probe import probe
from pipeline.media.sniff import MediaError

REASONS = {
    "manifest": "the manifest has a test split",
    "group": "groups are known, so whole groups are held out",
    "random": "no groups are known, so videos are held out at random: if one person or scene is in several of them, "
    "the score is too good (give a manifest with groups to avoid that)",
}
MIN_ROWS_FOR_VALIDATION = 400
MAX_PROBED = 40


def defaults_for(path: Path, *, follow_links: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The settings for a manifest or a folder of class folders, and a line for each that says why.

    Raises ManifestError, ValueError for a folder without videos.
    """
    if path.is_dir():
        rows = read_class_folders(path, lambda line: None, follow_links=follow_links)
        name = path.resolve().name
    else:
        rows = read_manifest(path).rows
        name = path.resolve().parent.name
    data, training, reasons = _split_and_epochs(path, rows)
    settings: dict[str, Any] = {"data": data, "training": training, "run": f"runs/{name}"}
    labels = {row.label for row in rows if row.label is not None}
    reasons.insert(0, f"{path}: {len(rows)} videos in {len(labels)} classes")
    settings["heads"], reason = _default_head(rows)
    reasons.append(f"  heads={next(iter(settings['heads']))}: {reason}")
    if any(head["kind"] == "caption" for head in settings["heads"].values()):
        settings["data"]["window"] = None
    if all(row.text is not None for row in rows):
        settings["encoder"] = {"kind": "tokens", "add_bos_eos": "next" in settings["heads"]}
        settings["data"]["window"] = None
        return settings, [*reasons, "  encoder.kind=tokens: the rows are texts"]
    seconds = _median_seconds(path if path.is_dir() else path.parent, rows)
    if seconds is not None:
        rate = min(8.0, max(1.0, float(round(16 / seconds))))
        settings["clock"] = {"rate": rate}
        reasons.append(f"  clock.rate={rate:g}: about 16 looks at a video of {seconds:.1f} s, the median")
    return settings, reasons


def _split_and_epochs(path: Path, rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The data section, the training section, and a line for each setting.

    The fewer the rows, the more epochs. A validation split is cut off only where enough rows stay for training.
    """
    has_groups = any(row.group is not None for row in rows)
    has_splits = any(row.split == "test" for row in rows)
    split = "manifest" if has_splits else "group" if has_groups else "random"
    epochs = max(10, min(60, round(3000 / max(1, len(rows)))))
    has_validation = has_splits and any(row.split == "val" for row in rows)
    validation_share = 0.15 if has_validation or len(rows) >= MIN_ROWS_FOR_VALIDATION else 0.0
    reason = "too few videos to hold some out; the last epoch is kept"
    if validation_share:
        source = "of the manifest's own validation split" if has_validation else "of a part cut from training"
        reason = f"the best epoch {source} is kept"
    data = {"path": str(path), "split": split, "validation_share": validation_share}
    lines = [
        f"  data.split={split}: {REASONS[split]}",
        f"  training.epochs={epochs}: about 3,000 training samples in all, 10 to 60 epochs",
        f"  data.validation_share={validation_share}: {reason}",
    ]
    return data, {"epochs": epochs}, lines


def _default_head(rows: Sequence[Row]) -> tuple[dict[str, dict[str, Any]], str]:
    """The head that most rows can teach, and why."""
    counts = {
        "label": sum(row.label is not None for row in rows),
        "span": sum(bool(row.spans) for row in rows),
        "caption": sum(bool(row.captions) for row in rows),
    }
    target = max(counts, key=lambda name: counts[name])
    heads = {"label": ("action", "classify"), "span": ("timeline", "segment"), "caption": ("caption", "caption")}
    name, kind = heads[target]
    is_text = all(row.text is not None for row in rows)
    if not counts[target] and is_text:
        return {"next": {"kind": "language"}}, "there are texts without labels, so the next word is learned"
    head: dict[str, Any] = {"kind": kind}
    if target == "span" and is_text:
        tags_every_word = all(
            len(row.spans) == len((row.text or "").split()) and all(span.end - span.start == 1 for span in row.spans)
            for row in rows
        )
        head |= {"scheme": "each", "background": None} if tags_every_word else {"scheme": "iob2", "background": "O"}
    return {name: head}, f"{counts[target]} of {len(rows)} rows have a {target}"


def _median_seconds(root: Path, rows: Sequence[Row]) -> float | None:
    """The median duration of up to MAX_PROBED of the videos, or None where none can be read."""
    durations = []
    for row in rows[:: max(1, len(rows) // MAX_PROBED)]:
        try:
            durations.append(probe(root / row.path).seconds)
        except (MediaError, OSError):
            continue  # extraction names it
    known = sorted(seconds for seconds in durations if seconds)
    return known[len(known) // 2] if known else None
