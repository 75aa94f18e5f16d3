"""What is wrong with a dataset, in sentences, before a day of training on it.

In: a manifest or a folder of class folders. Out: counts and findings, said one a line. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.config import load_config
from pipeline.data.leaks import Finding, check_leaks
from pipeline.data.manifest import Manifest
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.probe import MediaError, probe
from pipeline.prepare import read_rows


def check(dataset: str, root: str | None, *, contents: bool, alike: bool, say: Callable[[str], None]) -> list[Finding]:
    """Say the counts and every finding; returns the findings. `contents` and `alike` read the files, which takes longer."""
    settings = [f"data.path={dataset}", *([f"data.root={root}"] if root else [])]
    manifest = read_rows(load_config(None, settings), say)
    for line in _counts(manifest):
        say(line)
    findings = check_leaks(manifest, contents=contents, frame_of=_frames if alike else None)
    if contents:
        findings += _broken(manifest)
    for finding in findings:
        say(f"{finding.kind}: {finding.message}")
    say("nothing found" if not findings else f"{len(findings)} findings")
    return findings


def _counts(manifest: Manifest) -> list[str]:
    rows = manifest.rows
    splits = Counter(r.split or "no split" for r in rows)
    groups = len({r.group for r in rows if r.group is not None})
    spans, captions = sum(bool(r.spans) for r in rows), sum(bool(r.captions) for r in rows)
    texts = sum(r.text is not None for r in rows)
    labels = Counter(r.label for r in rows if r.label is not None)
    lines = [
        f"{len(rows)} rows under {manifest.root}: " + ", ".join(f"{n} {s}" for s, n in splits.most_common()),
        f"{len(labels)} classes, {groups} groups, {spans} rows with spans, {captions} with captions"
        + (f", {texts} with texts" if texts else ""),
    ]
    return lines + [f"  {label:<32}{count:>6}" for label, count in sorted(labels.items())]


def _broken(manifest: Manifest) -> list[Finding]:
    """Videos that cannot be opened."""
    findings = []
    for row in manifest.rows:
        path = manifest.path_of(row)
        if path.suffix == ".npy" or not path.is_file():
            continue
        try:
            probe(path)
        except (MediaError, OSError) as error:
            findings.append(
                Finding(
                    "unreadable", f"{row.path}: {getattr(error, 'status', 'failed:unreadable')}: {error}", (row.path,)
                )
            )
    return findings


def _frames(path: Path) -> list[np.ndarray]:
    """Four gray frames, at the same shares of every video."""
    seconds = probe(path).seconds or 1.0
    clips = decode(path, clock=Clock(max(0.01, 4.0 / seconds)), transform=None)
    frames = [frame for clip in clips for frame in clip.frames][:4]
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
