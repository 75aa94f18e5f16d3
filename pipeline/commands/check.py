"""`unreel check`: what is wrong with a dataset, in sentences, before a day of training on it.

In: a manifest or a folder of class folders. Out: counts and findings, one a line. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from pipeline.commands.prepare_data import length_of, read_rows
from pipeline.config.run import load_config
from pipeline.data.finding import Finding
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest
from pipeline.data.span_findings import span_findings
from pipeline.media.damage import damage
from pipeline.media.small_frames import small_frames
from pipeline.media.sniff import MediaError


def check(
    dataset: str,
    root: str | None,
    *,
    contents: bool,
    near_duplicates: bool,
    log: Callable[[str], None],
    follow_links: bool = False,
) -> list[Finding]:
    """Log the counts and every finding; returns the findings.

    contents: read all packets of the files, to find those that are broken, cut or damaged. near_duplicates: decode some
    frames, to find videos of two splits, or without a split, that look alike. Both take longer. follow_links: also read
    what links in a folder lead to outside of it. Raises ConfigError, ManifestError.
    """
    settings = [f"data.path={dataset}", *([f"data.root={root}"] if root else [])]
    settings += ["data.follow_links=true"] if follow_links else []
    config = load_config(None, settings)
    manifest = read_rows(config, log)
    for line in _counts(manifest):
        log(line)
    findings = check_leaks(manifest, read_frames=small_frames if near_duplicates else None)
    findings += span_findings(manifest, length_of, config.clock.rate)
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
    """Videos that cannot be opened, and videos that are cut or damaged, by all their packets."""
    findings = []
    for row in manifest.rows:
        path = manifest.path_of(row)
        if path.suffix == ".npy" or row.text is not None or not path.is_file():
            continue
        try:
            if damages := damage(path):
                findings.append(Finding("damaged", f"{row.path}: {' '.join(damages)}", (row.path,)))
        except (MediaError, OSError) as error:
            status = error.status if isinstance(error, MediaError) else "failed:unreadable"
            findings.append(Finding("unreadable", f"{row.path}: {status}: {error}", (row.path,)))
    return findings
