"""Labels that are probably one class, and folders that are probably splits.

In: rows of a manifest. Out: findings. Knows nothing of files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from pipeline.data.class_folders import looks_like_split
from pipeline.data.finding import Finding
from pipeline.data.manifest_rows import Row, examples


def similar_labels(rows: Sequence[Row]) -> list[Finding]:
    """Labels that are equal but for case, accents, or the blanks and marks between words."""
    counts = Counter(row.label for row in rows if row.label is not None)
    counts.update(span.label for row in rows for span in row.spans)
    by_key: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        by_key[_plain(label)].append(label)
    findings = []
    for labels in by_key.values():
        if len(labels) > 1:
            shown = ", ".join(f"{label!r} ({counts[label]:,})" for label in labels)
            paths = tuple(row.path for row in rows if row.label in labels or any(s.label in labels for s in row.spans))
            text = f"{len(labels)} labels differ only in case, accents or blanks: {shown}."
            findings.append(Finding("similar_labels", f"{text} Write them alike if they are one class.", paths))
    return findings


def _plain(label: str) -> str:
    """A label without case, accents and what separates words. A label of other signs only stays as it is."""
    decomposed = unicodedata.normalize("NFKD", label.casefold())
    letters = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    return re.sub(r"[\s_\-.]+", " ", letters).strip() or label


def split_folders(rows: Sequence[Row]) -> list[Finding]:
    """Folders of the paths that look like splits, though the rows say that they are none or another one."""
    parts = [(row, row.path.split("/")[:-1]) for row in rows if row.text is None]
    tops = {folders[0] for _, folders in parts if folders}
    has_inner = {folders[0] for _, folders in parts if len(folders) > 1}
    named = sorted(top for top in tops if looks_like_split(top))
    suspects = {top for top in named if len(named) > 1 or top in has_inner}
    found = [(row, folders[0]) for row, folders in parts if folders and folders[0] in suspects and row.label]
    wrong = [(row, top) for row, top in found if row.label == top and row.split is None]
    inner = [
        (row, "/".join(folders[:2]))
        for row, folders in parts
        if len(folders) > 1 and row.split is None and row.label == folders[0] and looks_like_split(folders[1])
    ]
    findings = []
    for pairs, what in ((wrong, "were taken for classes"), (inner, "lie inside class folders and were not read")):
        if pairs:
            folders = sorted({folder for _, folder in pairs})
            text = (
                f"{len(folders):,} folders look like splits and {what}: {examples(folders)}. Splits are the top "
                "folders train, val and test alone, each with the class folders in it. Rename or move the folders."
            )
            findings.append(Finding("split_folder", text, tuple(row.path for row, _ in pairs)))
    return findings
