"""A folder of class folders -> rows.

In: a folder of videos. Out: rows with labels, and with splits where the folders name them. Knows nothing of the content
of videos. A callable `log` takes a line for everything that is left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipeline.data.manifest_rows import Row, Split, examples, normalised_name
from pipeline.media.search import VIDEO_SUFFIXES, LeftOut, frame_folders_sentence, walk

Log = Callable[[str], None]
ROW_SUFFIXES = VIDEO_SUFFIXES | {".npy"}
"""How the files of rows end: videos, and .npy for stored features."""
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "devel": "val",
    "development": "val",
    "eval": "test",
    "evaluation": "test",
    "test": "test",
    "testing": "test",
}
"""Names of folders that are splits, in any case. `eval` is a validation split where there is a test folder too."""


def read_class_folders(root: str | Path, log: Log = warnings.warn, *, follow_links: bool = False) -> tuple[Row, ...]:
    """`root/<class>/**/file`: the label is the class folder; a name with `_gNN_cNN` (as in UCF101) gives a group.

    `root/<split>/<class>/**/file` gives the split as well, where all top folders have names of SPLIT_FOLDERS. Other
    files, hidden files, links that lead out of `root` (unless follow_links) and files outside the class folders are
    left out and logged. Raises ValueError where no video is left.
    """
    root = require_folder(root, "videos")
    left_out = LeftOut()
    names = list(video_names(root, log, follow_links, left_out))
    splits = splits_of_folders(name.split("/")[0] for name in names if "/" in name)
    depth = 2 if splits else 1
    outside = [name for name in names if name.count("/") < depth]
    rows = []
    for name in names:
        parts = name.split("/")
        if len(parts) > depth:
            label = normalised_name(parts[depth - 1])
            rows.append(Row(name, splits.get(parts[0]), ucf_group(label, parts[-1]), label))
    if not rows:
        raise ValueError(_no_rows(root, names, bool(splits), left_out))
    if outside:
        log(f"{len(outside):,} videos are in no class folder and are left out: {examples(outside)}.")
    if splits:
        log("folders as splits: " + ", ".join(f"{folder} is {split}" for folder, split in sorted(splits.items())))
    return tuple(rows)


def splits_of_folders(folders: Iterable[str]) -> dict[str, Split]:
    """The split of each top folder, or nothing where one of them has no name of a split."""
    names = {folder: normalised_name(folder).casefold() for folder in folders}
    if not set(names.values()) <= set(SPLIT_FOLDERS):
        return {}
    has_test = any(name in ("test", "testing") for name in names.values())
    splits: dict[str, Split] = {}
    for folder, name in names.items():
        splits[folder] = "val" if has_test and name.startswith("eval") else SPLIT_FOLDERS[name]
    return splits


def looks_like_split(folder: str) -> bool:
    """Whether one of the words of a folder's name is that of a split: Train, test_set, 01-val, trainset."""
    words = re.findall(r"[a-z]+", normalised_name(folder).casefold())
    return any(word in SPLIT_FOLDERS or re.sub("(set|split|data)$", "", word) in SPLIT_FOLDERS for word in words)


def _no_rows(root: Path, names: list[str], has_splits: bool, left_out: LeftOut) -> str:
    """Why a folder gives no rows."""
    if left_out.frame_folders:
        return f"No video is in {str(root)!r}. {frame_folders_sentence(left_out.frame_folders)}"
    if left_out.outside:
        return (
            f"All {len(left_out.outside):,} videos of {str(root)!r} are links that lead out of it "
            f"({examples(left_out.outside)}). Follow them with --follow-links (data.follow_links=true)."
        )
    text = f"No video is in a class folder of {str(root)!r}. Make one folder per class, as in root/run/1.mp4."
    if has_splits and names:
        text = (
            f"The folders of {str(root)!r} have names of splits, and {len(names):,} videos lie directly in them "
            f"({examples(names)}). Make one folder per class in each, as in root/train/run/1.mp4."
        )
    return f"{text} Known suffixes are {' '.join(sorted(ROW_SUFFIXES))}."


def ucf_group(label: str, name: str) -> str | None:
    """The recording of a clip whose name has it as in UCF101, or None."""
    match = re.search(r"_(g\d{2})_c\d{2}", name)
    return f"{label}_{match[1]}" if match else None


def video_names(root: Path, log: Log, follow_links: bool = False, left_out: LeftOut | None = None) -> Iterator[str]:
    """Relative posix paths of the videos under `root`, sorted. What else is under it is logged, in one line a kind."""
    left_out = LeftOut() if left_out is None else left_out
    videos: list[str] = []
    for file in walk(root, ROW_SUFFIXES, follow_links, left_out):
        name = file.path.relative_to(root).as_posix()
        if file.problem.startswith("link_outside: "):
            left_out.outside.append(name)
        elif file.problem:
            log(f"left out: {file.problem}")
        else:
            videos.append(name)
    for line in left_out.sentences() if videos else ():  # without videos the caller raises with these sentences
        log(line)
    yield from sorted(videos)


def require_folder(path: str | Path, content: str) -> Path:
    """The path of a folder that exists. Raises ValueError. content: what it should hold."""
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"There is no folder {str(path)!r} of {content}. Correct the path.")
    return path
