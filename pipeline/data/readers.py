"""The files of a dataset -> rows of a manifest.

In: a folder of videos and, where there are some, the lists that came with it. Out: rows, sorted by path. Knows nothing
of the content of videos. A callable `log` takes a line for everything that is left out.

Groups of UCF101 count within a class: `v_Archery_g01_c03.avi` is clip 3 of recording 1 of Archery, and recording 1 of
another class is another video. So the group is `Archery_g01`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pipeline.data.class_folders import require_folder, ucf_group, video_names
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest, write_manifest
from pipeline.data.manifest_rows import MAX_LISTED, SPLITS, Row, Split, examples
from pipeline.media.text_file import read_lines_of

Log = Callable[[str], None]
Separator = Literal["auto", "space", "comma"]


def read_ucf101(
    root: str | Path, lists_dir: str | Path, split: Literal[1, 2, 3], log: Log = warnings.warn
) -> tuple[Row, ...]:
    """UCF101 (`root/<Class>/v_<Class>_gNN_cNN.avi`) with one of its three official splits.

    Reads classInd.txt, trainlist0k.txt and testlist0k.txt. Videos in no list are left out and logged. Raises ValueError
    with all mistakes of the lists, or with the listed videos that are missing.
    """
    root, lists = require_folder(root, "videos"), require_folder(lists_dir, "lists")
    _require_official_split(split)
    mistakes: list[str] = []
    class_numbers: dict[str, str] = {}
    for _, line in _numbered_lines(lists / "classInd.txt"):
        number, name = _split_last_word(line)
        class_numbers[name] = number
    rows: dict[str, Row] = {}
    files: tuple[tuple[str, Split], ...] = ((f"trainlist0{split}.txt", "train"), (f"testlist0{split}.txt", "test"))
    for file, row_split in files:
        for line_number, line in _numbered_lines(lists / file):
            name, class_number = _split_last_word(line) if row_split == "train" else (line, "")
            label, _, video = name.partition("/")
            place = f"{file} line {line_number}: {line!r}"
            if not video or "/" in video or label not in class_numbers:
                mistakes.append(f"{place} is not Class/video.avi with a class of classInd.txt.")
            elif row_split == "train" and class_number != class_numbers[label]:
                mistakes.append(f"{place} has class {class_number}, but classInd.txt has {class_numbers[label]}.")
            elif name in rows:
                mistakes.append(f"{place} is listed twice.")
            else:
                rows[name] = Row(name, row_split, ucf_group(label, video), label)
    _raise_if_any(mistakes, "the UCF101 lists", "Use classInd.txt and the train and test lists as published.")
    return _rows_of_lists(rows.values(), set(rows), root, log)


def read_hmdb51(
    root: str | Path, lists_dir: str | Path, split: Literal[1, 2, 3], log: Log = warnings.warn
) -> tuple[Row, ...]:
    """HMDB51 (`root/<class>/<source>_<class>_*.avi`) with one of its three official splits.

    Reads `<class>_test_split<k>.txt`, lines `name.avi 1|2|0`: 1 is train, 2 is test, and 0 means that this split does
    not use the video. A video with 0 becomes no row; their number is logged. The group is the source (a film, an
    upload), whatever the class: the official splits keep a source in one split within each class, but not across
    classes. Raises ValueError as `read_ucf101`; a video with 0 must exist too.
    """
    root, lists = require_folder(root, "videos"), require_folder(lists_dir, "lists")
    _require_official_split(split)
    ending = f"_test_split{split}.txt"
    files = sorted(file for file in lists.iterdir() if file.name.endswith(ending))
    if not files:
        raise ValueError(
            f"There is no file *{ending} in {str(lists)!r}. HMDB51 has one per class. Give the folder of its split "
            "lists."
        )
    mistakes: list[str] = []
    rows: dict[str, Row] = {}
    unused: set[str] = set()
    for file in files:
        label = file.name.removesuffix(ending)
        for number, line in _numbered_lines(file):
            name, mark = _split_last_word(line)
            path = f"{label}/{name}"
            source, class_part, _ = name.rpartition(f"_{label}_")  # the last one: a title may contain the class too
            if mark not in ("0", "1", "2") or not class_part or "/" in name:
                mistakes.append(f"{file.name} line {number}: {line!r} is not SOURCE_{label}_*.avi with 1, 2 or 0.")
            elif path in rows or path in unused:
                mistakes.append(f"{file.name} line {number}: {name!r} is listed twice.")
            elif mark == "0":
                unused.add(path)
            else:
                rows[path] = Row(path, "train" if mark == "1" else "test", source or None, label)
    _raise_if_any(mistakes, "the HMDB51 lists", "Use the files of one split as published.")
    if unused:
        log(f"Split {split} does not use {len(unused):,} of {len(unused) + len(rows):,} listed videos.")
    return _rows_of_lists(rows.values(), unused | set(rows), root, log)


def read_path_label_list(
    list_file: str | Path,
    root: str | Path,
    *,
    split: Split | None = None,
    label_map: str | Path | None = None,
    separator: Separator = "auto",
    skip_missing: bool = False,
    log: Log = warnings.warn,
) -> tuple[Row, ...]:
    """A list of `path label` lines (Kinetics, mmaction2, SlowFast) or `path,label`.

    Args:
        list_file: the list.
        root: the folder that the paths are relative to. Absolute paths must be inside it.
        split: the split of all rows.
        label_map: a file with one class name per line. A label that is a whole number is then the index of a name, from
            0; any other label must be one of the names.
        separator: the label follows the last white space, or the last comma where `separator` is `comma`. `auto` means
            comma where a comma follows the suffix of a file in every line, else white space.
        skip_missing: leave missing videos out and log them, instead of raising.
        log: takes a line about what is left out.

    Raises ValueError with all mistakes of the list, or with the missing videos.
    """
    root, list_file = require_folder(root, "videos"), Path(list_file)
    class_names = [line for _, line in _numbered_lines(Path(label_map))] if label_map is not None else []
    labels = _parse_path_label_lines(_numbered_lines(list_file), root, class_names, separator, list_file.name)
    missing = [path for path in labels if not (root / path).is_file()]
    if skip_missing and missing:
        log(f"{len(missing):,} of {len(labels):,} listed videos are missing and left out: {examples(missing)}.")
        labels = {path: label for path, label in labels.items() if path not in set(missing)}
    _require_files(labels, root)
    return tuple(Row(path, split, None, labels[path]) for path in sorted(labels))


def _parse_path_label_lines(
    lines: list[tuple[int, str]], root: Path, class_names: Sequence[str], separator: Separator, list_name: str
) -> dict[str, str]:
    """Labels by path. Raises ValueError with all mistakes."""
    if separator == "auto":
        has_commas = all(re.search(r'\.\w+"?\s*,', line) for _, line in lines)
        separator = "comma" if has_commas else "space"
    mistakes: list[str] = []
    labels: dict[str, str] = {}
    for number, line in lines:
        path, label = _split_at_comma(line) if separator == "comma" else _split_last_word(line)
        path, label = path.strip().strip('"'), label.strip().strip('"')
        if path.startswith("/"):
            path = os.path.relpath(path, root.absolute()).replace(os.sep, "/")
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
        place = f"line {number}: {line!r}"
        if not path or not label:
            mistakes.append(f"{place} is not a path and a label with a {separator} between them.")
        elif ".." in path.split("/"):
            mistakes.append(f"{place} is outside {str(root)!r}.")
        elif path in labels:
            mistakes.append(f"{place} is listed twice.")
        elif class_names and label.isdecimal() and int(label) >= len(class_names):
            names = f"{len(class_names)} names, 0 to {len(class_names) - 1}"
            mistakes.append(f"{place} has label {label}, but the label map has {names}.")
        elif class_names and not label.isdecimal() and label not in class_names:
            mistakes.append(f"{place} has label {label!r}, which is not a name of the label map.")
        else:
            labels[path] = class_names[int(label)] if class_names and label.isdecimal() else label
    _raise_if_any(mistakes, repr(list_name), "Every line is the path of a video under the root and its label.")
    return labels


def write_and_describe(rows: Sequence[Row], root: str | Path, out: str | Path) -> str:
    """Write a manifest of files under `root`, and describe it in lines: its content, its leaks, how to pass its root.

    Raises ValueError where the manifest cannot be written.
    """
    root, out = Path(root), Path(out)
    try:
        write_manifest(rows, out)
    except OSError as error:
        raise ValueError(
            f"The manifest {str(out)!r} cannot be written ({error.strerror}). Choose another --out."
        ) from error
    counts = Counter(row.split or "no split" for row in rows)
    groups = {row.group for row in rows} - {None}
    sizes = ", ".join(f"{counts[name]:,} {name}" for name in (*SPLITS, "no split") if counts[name])
    manifest = Manifest(tuple(rows), root)
    content = f"{len(manifest.labels):,} classes, {len(groups):,} groups"
    if manifest.span_labels:
        content += f", {sum(len(row.spans) for row in rows):,} spans of {len(manifest.span_labels):,} labels"
    lines = [f"Wrote {str(out)!r}: {len(rows):,} rows ({sizes}), {content}."]
    lines += [f"Note: {finding.message}" for finding in check_leaks(manifest)]
    if out.parent.resolve() != root.resolve() and any(row.text is None for row in rows):
        lines.append(f"Its paths are relative to the videos, not to its own folder. Set data.root={root} with it.")
    return "\n".join(lines)


def _rows_of_lists(rows: Iterable[Row], listed: set[str], root: Path, log: Log) -> tuple[Row, ...]:
    """The rows by path. Raises ValueError for listed videos that are missing; logs videos that are not listed."""
    _require_files(listed, root)
    unlisted = [name for name in video_names(root, log) if name not in listed]
    if unlisted:
        log(f"{len(unlisted):,} videos are in no list and are left out: {examples(unlisted)}.")
    return tuple(sorted(rows, key=lambda row: row.path))


def _require_files(paths: Iterable[str], root: Path) -> None:
    paths = sorted(paths)
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        count = f"{len(missing):,} of {len(paths):,} listed videos are missing under {str(root)!r}"
        raise ValueError(f"{count}: {examples(missing)}. Correct the folder, or download what is missing.")
    if not paths:
        raise ValueError(
            f"No video is left under {str(root)!r}. A dataset has at least one. Correct the list or the folder."
        )


def _require_official_split(split: int) -> None:
    if split not in (1, 2, 3):
        raise ValueError(f"There is no official split {split}. The splits are 1, 2 and 3. Choose one of them.")


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered, stripped lines that are not empty; any line end, with or without a byte order mark."""
    if not path.is_file():
        raise ValueError(
            f"There is no list {path.name!r} in {str(path.parent)!r}. It is part of the dataset. Correct the path."
        )
    try:
        lines = read_lines_of(path)
    except UnicodeDecodeError as error:
        problem = f"The list {path.name!r} is not UTF-8 text (byte {error.start})"
        raise ValueError(f"{problem}. Lists are plain text. Save it again as UTF-8.") from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _split_last_word(line: str) -> tuple[str, str]:
    """What precedes the last white space, and the word after it; "" where there is no white space."""
    words = line.rsplit(None, 1)
    return (words[0], words[1]) if len(words) == 2 else (line, "")


def _split_at_comma(line: str) -> tuple[str, str]:
    """What precedes the last comma, and what follows it; ("", line) where there is no comma."""
    before, _, after = line.rpartition(",")
    return before, after


def _raise_if_any(mistakes: Sequence[str], source: str, advice: str) -> None:
    if mistakes:
        more = [f"... and {len(mistakes) - MAX_LISTED:,} more."] if len(mistakes) > MAX_LISTED else []
        listed = "\n  ".join([*mistakes[:MAX_LISTED], *more])
        raise ValueError(f"{len(mistakes):,} mistakes in {source}:\n  {listed}\n{advice}")
