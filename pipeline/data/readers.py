"""Datasets as they lie on disk -> rows of a manifest.

Comes in: a folder of videos and, where there are some, the lists that came with it. Goes out: rows, paths sorted.
Knows nothing about what is inside a video. `say` is told, in a sentence, whatever is left out.

Groups of UCF101 count within a class: `v_Archery_g01_c03.avi` is clip 3 of recording 1 of Archery, and recording 1 of
another class has nothing to do with it. So the group is `Archery_g01`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest, write_manifest
from pipeline.data.rows import MAX_LISTED, SPLITS, Row, Split

Say = Callable[[str], None]
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".vob", ".webm", ".wmv", ".npy",  # the last: stored features
))  # fmt: skip


def read_class_folders(root: str | Path, say: Say = warnings.warn) -> tuple[Row, ...]:
    """`root/<class>/**/file`: the label is the class folder; a name with `_gNN_cNN` (UCF style) gives a group.

    `root/<train|val|test>/<class>/**/file` (or training, validation, ...) gives the split as well. Other files, hidden
    ones, linked folders and files in no class folder are left out and said. Raises ValueError where no video is left.
    """
    root = _folder(root, "videos")
    names = list(_videos(root, say))
    tops = {name.split("/")[0] for name in names if "/" in name}
    has_splits = bool(tops) and tops <= set(SPLIT_FOLDERS)
    depth = 2 if has_splits else 1
    loose = [name for name in names if name.count("/") < depth]
    if loose:
        say(f"{len(loose):,} videos lie in no class folder and are left out: {_some(loose)}.")
    rows = []
    for name in names:
        parts = name.split("/")
        if len(parts) > depth:
            label = parts[depth - 1]
            rows.append(Row(name, SPLIT_FOLDERS[parts[0]] if has_splits else None, _ucf_group(label, parts[-1]), label))
    if not rows:
        raise ValueError(
            f"No video lies in a class folder of {str(root)!r}. They would lie like root/run/1.mp4. "
            f"Make a folder a class; known suffixes are {' '.join(sorted(SUFFIXES))}."
        )
    return tuple(rows)


def read_ucf101(
    root: str | Path, lists_dir: str | Path, split: Literal[1, 2, 3], say: Say = warnings.warn
) -> tuple[Row, ...]:
    """UCF101 (`root/<Class>/v_<Class>_gNN_cNN.avi`) with one of its three official splits.

    Reads classInd.txt, trainlist0k.txt and testlist0k.txt. Every listed video must exist; ValueError names all mistakes
    at once. Videos in no list are left out and said.
    """
    root, lists = _folder(root, "videos"), _folder(lists_dir, "lists")
    _require_split(split)
    mistakes: list[str] = []
    classes: dict[str, str] = {}
    for _, line in _lines(lists / "classInd.txt"):
        index, _, name = _last_word(line)
        classes[name] = index
    rows: dict[str, Row] = {}
    sides: tuple[tuple[str, Split], ...] = ((f"trainlist0{split}.txt", "train"), (f"testlist0{split}.txt", "test"))
    for file, side in sides:
        for number, line in _lines(lists / file):
            name, _, index = _last_word(line) if side == "train" else (line, "", "")
            label, _, video = name.partition("/")
            where = f"{file} line {number}: {line!r}"
            if not video or "/" in video or label not in classes:
                mistakes.append(f"{where} is no Class/video.avi of a class in classInd.txt.")
            elif side == "train" and index != classes[label]:
                mistakes.append(f"{where} has class {index}, but classInd.txt has {classes[label]}.")
            elif name in rows:
                mistakes.append(f"{where} is listed twice.")
            else:
                rows[name] = Row(name, side, _ucf_group(label, video), label)
    _raise(mistakes, "the UCF101 lists", "Take classInd.txt and the train and test lists as they were published.")
    return _as_listed(rows.values(), set(rows), root, say)


def read_hmdb51(
    root: str | Path, lists_dir: str | Path, split: Literal[1, 2, 3], say: Say = warnings.warn
) -> tuple[Row, ...]:
    """HMDB51 (`root/<class>/<source>_<class>_*.avi`) with one of its three official splits.

    Reads `<class>_test_split<k>.txt`, lines `name.avi 1|2|0`: 1 trains, 2 tests, and 0 is used by neither side of this
    split, so that it becomes no row; their number is said. The group is the source (a film, an upload), whatever the
    class: the official splits keep a source on one side within each class, not across classes. Every listed video must
    exist, also those marked 0.
    """
    root, lists = _folder(root, "videos"), _folder(lists_dir, "lists")
    _require_split(split)
    ending = f"_test_split{split}.txt"
    files = sorted(file for file in lists.iterdir() if file.name.endswith(ending))
    if not files:
        raise ValueError(
            f"No file *{ending} lies in {str(lists)!r}. HMDB51 has one a class. Point at its split folder."
        )
    mistakes: list[str] = []
    rows: dict[str, Row] = {}
    unused: set[str] = set()
    for file in files:
        label = file.name.removesuffix(ending)
        for number, line in _lines(file):
            name, _, mark = _last_word(line)
            path = f"{label}/{name}"
            source, found, _ = name.rpartition(f"_{label}_")  # the last one: a title may name the class too
            if mark not in ("0", "1", "2") or not found or "/" in name:
                mistakes.append(f"{file.name} line {number}: {line!r} is no SOURCE_{label}_*.avi with 1, 2 or 0.")
            elif path in rows or path in unused:
                mistakes.append(f"{file.name} line {number}: {name!r} is listed twice.")
            elif mark == "0":
                unused.add(path)
            else:
                rows[path] = Row(path, "train" if mark == "1" else "test", source or None, label)
    _raise(mistakes, "the HMDB51 lists", "Take the files of one split as they were published.")
    if unused:
        say(f"{len(unused):,} of {len(unused) + len(rows):,} listed videos are used by neither side of split {split}.")
    return _as_listed(rows.values(), unused | set(rows), root, say)


def read_path_label_list(
    list_file: str | Path,
    root: str | Path,
    *,
    split: Split | None = None,
    label_map: str | Path | None = None,
    separator: Literal["auto", "space", "comma"] = "auto",
    skip_missing: bool = False,
    say: Say = warnings.warn,
) -> tuple[Row, ...]:
    """A list of `path label` lines (Kinetics, mmaction2, SlowFast) or `path,label`.

    The label is what follows the last white space, or the last comma where `separator` is `comma` or where, in every
    line, a comma follows the suffix of a file. `label_map` has one class name a line; a label that is a whole number is
    then the index of a name (from 0), and others must be one of the names. Absolute paths must lie under `root`.
    Missing videos are a ValueError, or left out and said with `skip_missing`.
    """
    root, list_file = _folder(root, "videos"), Path(list_file)
    lines = list(_lines(list_file))
    names = [line for _, line in _lines(Path(label_map))] if label_map is not None else []
    if separator == "auto":
        commas = all(re.search(r'\.\w+"?\s*,', line) for _, line in lines)
        separator = "comma" if commas else "space"
    mistakes: list[str] = []
    rows: dict[str, Row] = {}
    for number, line in lines:
        path, _, label = line.rpartition(",") if separator == "comma" else _last_word(line)
        path, label = path.strip().strip('"'), label.strip().strip('"')
        if path.startswith("/"):
            path = os.path.relpath(path, root.absolute()).replace(os.sep, "/")
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
        where = f"line {number}: {line!r}"
        if not path or not label:
            mistakes.append(f"{where} is no path and label with a {separator} between them.")
        elif ".." in path.split("/"):
            mistakes.append(f"{where} lies outside {str(root)!r}.")
        elif path in rows:
            mistakes.append(f"{where} is listed twice.")
        elif names and label.isdecimal() and int(label) >= len(names):
            mistakes.append(
                f"{where} has label {label}, but the label map has {len(names)} names, 0 to {len(names) - 1}."
            )
        elif names and not label.isdecimal() and label not in names:
            mistakes.append(f"{where} has label {label!r}, which is no name of the label map.")
        else:
            label = names[int(label)] if names and label.isdecimal() else label
            rows[path] = Row(path, split, None, label)
    _raise(mistakes, repr(list_file.name), "Every line is the path of a video under the root and its label.")
    missing = [path for path in rows if not (root / path).is_file()]
    if skip_missing and missing:
        say(f"{len(missing):,} of {len(rows):,} listed videos are missing and left out: {_some(missing)}.")
        rows = {path: row for path, row in rows.items() if path not in set(missing)}
    _require_files(rows, root)
    return tuple(rows[path] for path in sorted(rows))


def write_and_describe(rows: Sequence[Row], root: str | Path, out: str | Path) -> str:
    """Write a manifest of files under `root` and say, in lines, what is in it, what leaks and how to pass its root."""
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
    known = f"{len(manifest.labels):,} classes, {len(groups):,} groups"
    if manifest.span_labels:
        known += f", {sum(len(row.spans) for row in rows):,} spans of {len(manifest.span_labels):,} kinds"
    text = [f"Wrote {str(out)!r}: {len(rows):,} rows ({sizes}), {known}."]
    text += [f"Note: {finding.message}" for finding in check_leaks(manifest)]
    if out.parent.resolve() != root.resolve() and any(row.text is None for row in rows):
        text.append(f"Its paths start from the videos, not from its own folder. Pass data.root={root} with it.")
    return "\n".join(text)


def _as_listed(rows: Iterable[Row], listed: set[str], root: Path, say: Say) -> tuple[Row, ...]:
    """The rows by path, after a look at the tree: no listed video is missing, and others are said."""
    _require_files(listed, root)
    others = [name for name in _videos(root, say) if name not in listed]
    if others:
        say(f"{len(others):,} videos are in no list and are left out: {_some(others)}.")
    return tuple(sorted(rows, key=lambda row: row.path))


def _require_files(paths: Iterable[str], root: Path) -> None:
    paths = sorted(paths)
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        count = f"{len(missing):,} of {len(paths):,} listed videos are missing under {str(root)!r}"
        raise ValueError(f"{count}: {_some(missing)}. All would be there. Check the folder, or fetch what is missing.")
    if not paths:
        raise ValueError(
            f"No video is left under {str(root)!r}. A dataset has at least one. Check the list and the folder."
        )


def _require_split(split: int) -> None:
    if split not in (1, 2, 3):
        raise ValueError(f"Official split {split} is asked for. There are 1, 2 and 3. Choose one of them.")


def _ucf_group(label: str, name: str) -> str | None:
    match = re.search(r"_(g\d{2})_c\d{2}", name)
    return f"{label}_{match[1]}" if match else None


def _videos(root: Path, say: Say) -> Iterator[str]:
    """Relative posix paths of the videos under `root`, sorted; what else lies there is said once."""
    found: list[str] = []
    others: list[str] = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        base = Path(folder).relative_to(root).as_posix() + "/"
        base = "" if base == "./" else base
        others += [f"{base}{name}/ (a link)" for name in links]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            is_video = os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
            (found if is_video else others).append(base + name)
    if others:
        say(f"{len(others):,} other files and links under the videos are left out: {_some(sorted(others))}.")
    yield from sorted(found)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered, stripped lines that are not empty; any line end, with or without BOM."""
    if not path.is_file():
        raise ValueError(
            f"There is no list {path.name!r} in {str(path.parent)!r}. It came with the dataset. Check the path."
        )
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"The list {path.name!r} is no UTF-8 text (byte {error.start})"
        raise ValueError(f"{what}. Lists are plain text. Save it again as UTF-8.") from error
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _last_word(line: str) -> tuple[str, str, str]:
    words = line.rsplit(None, 1)
    return (words[0], " ", words[1]) if len(words) == 2 else (line, "", "")


def _folder(path: str | Path, what: str) -> Path:
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"There is no folder {str(path)!r} of {what}. It would be one. Check the path.")
    return path


def _raise(mistakes: Sequence[str], where: str, advice: str) -> None:
    if mistakes:
        more = [f"... and {len(mistakes) - MAX_LISTED:,} more."] if len(mistakes) > MAX_LISTED else []
        lines = "\n  ".join([*mistakes[:MAX_LISTED], *more])
        raise ValueError(f"{len(mistakes):,} mistakes in {where}:\n  {lines}\n{advice}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
