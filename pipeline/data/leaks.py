"""Problems of a split, in sentences: leaks between splits, missing classes and files.

In: a manifest with splits. Out: findings. Nothing is refused here, because official splits leak too. Knows nothing of
decoders: the frames of a video come from a function that the caller passes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

from pipeline.data.copies import Copies, copies_findings, equal_files
from pipeline.data.finding import Finding
from pipeline.data.label_findings import similar_labels, split_folders
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import SPLITS, Row, examples
from pipeline.data.near_duplicates import MAX_DISTANCE, ReadFrames, near_duplicate_findings
from pipeline.media.search import frame_folder, frame_folders_sentence

SPLIT_PAIRS = tuple(combinations(SPLITS, 2))


def check_leaks(
    manifest: Manifest,
    *,
    copies: Sequence[Copies] | None = None,
    read_frames: ReadFrames | None = None,
    max_distance: int = MAX_DISTANCE,
) -> list[Finding]:
    """The problems that make a test score misleading; an empty list where there are none.

    Always checked: groups in two splits, equal texts in two splits, equal files under several names, classes that are
    only in train or only in test, labels that differ only in case or accents, folders that look like splits, missing
    files, very unequal classes.

    Args:
        manifest: rows with splits.
        copies: the rows with equal files, where they are known already (see `equal_files`).
        read_frames: also find near duplicates in two splits, and among the rows without a split (`near_duplicates`).
            Videos of a still camera in one room can look alike too, so check the pairs. A file for which `read_frames`
            raises ValueError or OSError becomes a finding.
        max_distance: the most bits in which two frames that look alike differ.
    """
    rows = manifest.rows
    files = [row for row in rows if row.text is None]
    missing = [row.path for row in files if not manifest.path_of(row).is_file()]
    findings = _shared_groups(rows) + _unshared_classes(rows) + _shared_texts(rows)
    findings += similar_labels(rows) + split_folders(rows)
    findings += copies_findings(equal_files(manifest) if copies is None else copies)
    if missing:
        text = (
            f"{len(missing):,} of {len(files):,} files are missing under {str(manifest.root)!r}: {examples(missing)}."
        )
        findings.append(Finding("missing_file", f"{text} Correct the root, or remove their rows.", tuple(missing)))
    findings += _frame_folders(manifest, missing)
    missing_paths = set(missing)
    present = [row for row in files if row.path not in missing_paths]
    if read_frames is not None:
        findings += near_duplicate_findings(present, manifest, read_frames, max_distance)
    return findings + _imbalance(rows)


def _frame_folders(manifest: Manifest, paths: Sequence[str]) -> list[Finding]:
    """Rows that name a folder of images, not a file."""
    found = {path: frame_folder(manifest.root / path) for path in paths if (manifest.root / path).is_dir()}
    folders = [folder for folder in found.values() if folder is not None]
    if not folders:
        return []
    return [Finding("unreadable", frame_folders_sentence(folders), tuple(path for path in found if found[path]))]


def _shared_groups(rows: Sequence[Row]) -> list[Finding]:
    paths: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.group is not None and row.split is not None:
            paths[row.group][row.split].append(row.path)
    findings = []
    for first, second in SPLIT_PAIRS:
        shared = sorted(group for group, by_split in paths.items() if by_split.keys() >= {first, second})
        if shared:
            affected = tuple(path for group in shared for split in (first, second) for path in paths[group][split])
            count = sum(len(paths[group][second]) for group in shared)
            text = (
                f"{len(shared):,} of {len(paths):,} groups are in both {first} and {second} ({count:,} {second} rows)"
            )
            findings.append(
                Finding("group", f"{text}: {examples(shared)}. The {second} score is too optimistic.", affected)
            )
    return findings


def _shared_texts(rows: Sequence[Row]) -> list[Finding]:
    """Texts of val or test that are also in another split. White space between words does not count."""
    texts: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in SPLITS}
    for row in rows:
        if row.text is not None and row.split is not None:
            texts[row.split][" ".join(row.text.split())].append(row.path)
    findings = []
    for first, second in SPLIT_PAIRS:
        paths = tuple(path for text, own in texts[second].items() if text in texts[first] for path in own)
        if paths:
            total = sum(map(len, texts[second].values()))
            message = (
                f"{len(paths):,} of {total:,} {second} texts are also in {first}, word for word: {examples(paths)}"
            )
            findings.append(Finding("identical", f"{message}. Report the score without them as well.", paths))
    return findings


def _unshared_classes(rows: Sequence[Row]) -> list[Finding]:
    labels = {split: {row.label for row in rows if row.split == split and row.label is not None} for split in SPLITS}
    findings = []
    for present, absent, consequence in (
        ("train", "test", "No test row belongs to them"),
        ("test", "train", "A model cannot learn them"),
        ("val", "train", "A model cannot learn them"),
    ):
        unshared = sorted(label for label in labels[present] - labels[absent] if label is not None)
        if unshared and labels[absent]:
            paths = tuple(row.path for row in rows if row.split == present and row.label in set(unshared))
            text = (
                f"{len(unshared):,} classes are in {present} but not in {absent}: {examples(unshared)}. {consequence}."
            )
            findings.append(Finding("missing_class", text, paths))
    return findings


def _imbalance(rows: Sequence[Row]) -> list[Finding]:
    counts = Counter(row.label for row in rows if row.split in ("train", None) and row.label is not None).most_common()
    if not counts or counts[0][1] < 10 * counts[-1][1]:
        return []
    (largest, most), (smallest, fewest) = counts[0], counts[-1]
    text = f"The classes are unequal in training: {largest!r} has {most:,} rows, {smallest!r} has {fewest:,}"
    return [Finding("imbalance", f"{text}. Read the mean over classes, not only the accuracy.")]
