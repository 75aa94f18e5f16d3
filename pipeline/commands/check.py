"""`unreel check`: what is wrong with a dataset, in sentences, before a day of training on it.

In: a manifest or a folder of class folders. Out: counts and findings, one a line. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.commands.prepare_data import read_rows
from pipeline.config.run import load_config
from pipeline.data.leaks import Finding, check_leaks
from pipeline.data.manifest import Manifest
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.probe import probe
from pipeline.media.sniff import MediaError

NUM_FRAMES = 4
"""Frames of each video that are compared to find near duplicates."""


def check(
    dataset: str, root: str | None, *, contents: bool, near_duplicates: bool, log: Callable[[str], None]
) -> list[Finding]:
    """Log the counts and every finding; returns the findings.

    contents: read the files, to find identical and broken ones. near_duplicates: decode some frames, to find videos
    that look alike. Both take longer. Raises ConfigError, ManifestError.
    """
    settings = [f"data.path={dataset}", *([f"data.root={root}"] if root else [])]
    manifest = read_rows(load_config(None, settings), log)
    for line in _counts(manifest):
        log(line)
    findings = check_leaks(manifest, contents=contents, read_frames=_grey_frames if near_duplicates else None)
    if contents:
        findings += _unreadable(manifest)
    for finding in findings:
        log(f"{finding.kind}: {finding.message}")
    log("nothing found" if not findings else f"{len(findings)} findings")
    return findings


def _counts(manifest: Manifest) -> list[str]:
    """The numbers of rows, classes, groups and annotations, one line for each kind and one for each class."""
    rows = manifest.rows
    splits = Counter(row.split or "no split" for row in rows)
    groups = len({row.group for row in rows if row.group is not None})
    spans, captions = sum(bool(row.spans) for row in rows), sum(bool(row.captions) for row in rows)
    texts = sum(row.text is not None for row in rows)
    labels = Counter(row.label for row in rows if row.label is not None)
    lines = [
        f"{len(rows)} rows under {manifest.root}: " + ", ".join(f"{n} {split}" for split, n in splits.most_common()),
        f"{len(labels)} classes, {groups} groups, {spans} rows with spans, {captions} with captions"
        + (f", {texts} with texts" if texts else ""),
    ]
    return lines + [f"  {label:<32}{count:>6}" for label, count in sorted(labels.items())]


def _unreadable(manifest: Manifest) -> list[Finding]:
    """Videos that cannot be opened."""
    findings = []
    for row in manifest.rows:
        path = manifest.path_of(row)
        if path.suffix == ".npy" or not path.is_file():
            continue
        try:
            probe(path)
        except (MediaError, OSError) as error:
            status = error.status if isinstance(error, MediaError) else "failed:unreadable"
            findings.append(Finding("unreadable", f"{row.path}: {status}: {error}", (row.path,)))
    return findings


def _grey_frames(path: Path) -> list[np.ndarray]:
    """NUM_FRAMES grey frames (H, W), at the same fractions of every video. Raises MediaError."""
    seconds = probe(path).seconds or 1.0
    clips = decode(path, clock=Clock(max(0.01, NUM_FRAMES / seconds)), transform=None)
    frames = [frame for clip in clips for frame in clip.frames][:NUM_FRAMES]
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
