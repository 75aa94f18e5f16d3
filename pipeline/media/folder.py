"""What people name -> the videos to read. In: files, folders, globs, lists of paths. Out: one Found for each, or a
problem.

Every input has a row, also when nothing is there. Knows nothing about what is inside the files.
"""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SUFFIXES = (
    "3g2 3gp 264 265 asf avi divx dv f4v flv h264 h265 hevc ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts "
    "mxf nut ogm ogv rm rmvb ts vob webm wmv xvid y4m"
)
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in SUFFIXES.split())


@dataclass(frozen=True)
class Found:
    """One video to read: path; name: what results call it, a relative posix path, unique among all that were found;
    problem: empty, or "code: sentence" for an input that cannot be read (missing, unreadable, not_regular_file, no_videos,
    link_outside); text: what it says, where a line of a text is the input.
    """

    path: Path
    name: str
    problem: str = ""
    text: str | None = None


def find_videos(inputs: Sequence[str], follow_links: bool = False) -> list[Found]:
    """Files (kept whatever their suffix), folders (all videos in them by suffix, at any depth, sorted), globs ("**"
    at any depth), and lists ("@list" or a .txt file: one path a line, relative to the list's folder, # for comments).

    One folder alone names its videos relative to itself; beside other inputs its own name goes before them, so that
    names stay the same when files are added. A path that is reached twice comes once. Links that lead out of their
    folder become a problem unless follow_links; loops of links end. Nothing raises: what cannot be read is a Found
    with a problem.
    """
    found: dict[str, Found] = {}
    for text in inputs:
        for entry in expand(text, follow_links, is_alone=len(inputs) == 1):
            found.setdefault(os.path.abspath(entry.path), entry)
    return unique(list(found.values()))


def find_texts(inputs: Sequence[str]) -> list[Found]:
    """Text files, folders of them (.txt) and globs, and - for standard input: one Found for each line that is not blank,
    named FILE:LINE. Nothing raises: what cannot be read is a Found with a problem.
    """
    found: list[Found] = []
    for one in inputs:
        paths = [Path(one)]
        if os.path.isdir(one):
            paths = sorted(Path(one).rglob("*.txt"))
        elif glob.has_magic(one) and not os.path.lexists(one):
            paths = [Path(hit) for hit in sorted(glob.glob(one, recursive=True)) if os.path.isfile(hit)]
        if not paths:
            found.append(problem(Path(one), "no_texts", "There is no text file", "Texts are files that end in .txt"))
        for path in paths:
            found += read_lines(path)
    return unique(found)


def read_lines(path: Path) -> Iterator[Found]:
    """The lines of one text file, or of standard input."""
    name = "-" if str(path) == "-" else relative_name(path)
    try:
        text = sys.stdin.read() if name == "-" else path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = f"The text cannot be read: {getattr(error, 'strerror', None) or error}"
        yield problem(path, "unreadable", what, "A text is a file of UTF-8 lines")
        return
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    if not any(line for _, line in lines):
        yield problem(path, "no_texts", "The file is empty", "A text has at least one line")
    yield from (Found(path / str(number), f"{name}:{number}", text=line) for number, line in lines if line)


def expand(text: str, follow_links: bool, is_alone: bool) -> Iterator[Found]:
    """One input -> its videos."""
    if text.startswith("@") and not os.path.lexists(text):
        yield from read_list(Path(text[1:]), follow_links)
    elif text.lower().endswith(".txt") and os.path.isfile(text):
        yield from read_list(Path(text), follow_links)
    else:
        yield from expand_path(text, follow_links, is_alone)


def expand_path(text: str, follow_links: bool, is_alone: bool) -> Iterator[Found]:
    """A file, a folder or a glob -> its videos."""
    path = Path(text)
    if "\0" in text or not text:
        yield problem(
            Path(text.replace("\0", "\\0")), "missing", "This is no path", "A path has no NUL and is not empty"
        )
    elif os.path.isdir(path):
        yield from search_folder(path, follow_links, is_alone)
    elif os.path.lexists(path):
        yield Found(path, relative_name(path))
    elif glob.has_magic(text):
        hits = sorted(glob.glob(text, recursive=True))
        is_any_suffix = glob.has_magic(Path(text).suffix) or not Path(text).suffix
        videos = [hit for hit in hits if not os.path.isdir(hit) and not (is_any_suffix and not is_video(hit))]
        if not videos:
            yield problem(path, "missing", "The pattern fits no video", "A pattern like 'videos/**/*.mp4' fits some")
        yield from (Found(Path(hit), relative_name(Path(hit))) for hit in videos)
    else:
        yield problem(path, "missing", "There is no file or folder of this name", "An input exists")


def search_folder(folder: Path, follow_links: bool, is_alone: bool) -> Iterator[Found]:
    """All videos below the folder, sorted; problems for what may not be read."""
    count = 0
    for entry in walk(folder, os.path.realpath(folder), set(), follow_links):
        count += 1
        inner = entry.path.relative_to(folder)
        name = relative_name(folder) if entry.path == folder else inner.as_posix() if is_alone else None
        yield replace(entry, name=name or (Path(relative_name(folder)) / inner).as_posix())
    if not count:
        yield problem(
            folder, "no_videos", "The folder holds no video", "Videos are known by their suffix (.mp4, .avi, ...)"
        )


def walk(folder: Path, root: str, seen: set[tuple[int, int]], follow_links: bool) -> Iterator[Found]:
    """Depth first, by name. root: the real path that links may not leave; seen: (device, inode) of the folders
    visited.
    """
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield problem(folder, "unreadable", f"The folder cannot be read: {error.strerror}", "A folder is readable")
        return
    for entry in entries:
        path = folder / entry.name
        is_folder = os.path.isdir(path)  # entry.is_dir() raises for a link to itself
        if not is_folder and not is_video(entry.name):
            continue
        inside = (os.path.realpath(path) + os.sep).startswith(root.rstrip(os.sep) + os.sep)
        if entry.is_symlink() and not follow_links and not inside:
            yield problem(path, "link_outside", "The link leads out of the folder", "Only links inside it are followed")
        elif is_folder:
            count = 0
            for found in walk(path, root, seen, follow_links):
                count += 1
                yield found
            if not count and is_video(entry.name):
                yield problem(path, "not_regular_file", "It is a folder with the name of a video", "A video is a file")
        else:
            yield Found(path, "")


def read_list(path: Path, follow_links: bool) -> Iterator[Found]:
    """The inputs in a list, relative to its folder."""
    try:
        lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        yield problem(
            path, "unreadable", f"The list cannot be read: {error.strerror}", "A list is a readable text file"
        )
        return
    inputs = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not inputs:
        yield problem(path, "no_videos", "The list is empty", "A list has one path a line")
    for line in inputs:
        yield from expand_path(os.path.join(path.parent, line), follow_links, is_alone=False)


def problem(path: Path, code: str, what: str, right: str) -> Found:
    """The row of an input that gives no video."""
    return Found(
        path, relative_name(path), f"{code}: {what} ({str(path)!r}). {right}. Correct the input or leave it out."
    )


def is_video(name: str) -> bool:
    """Whether the suffix is a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def relative_name(path: Path) -> str:
    """The path as it was given where it is relative and stays below, else only its last part."""
    return path.name or str(path) if path.is_absolute() or ".." in path.parts else path.as_posix()


def unique(found: list[Found]) -> list[Found]:
    """Names that occur twice get the folders above them, one after the other, until they differ."""
    parts = [Path(os.path.abspath(entry.path)).parts[1:] for entry in found]
    names = [entry.name for entry in found]
    while True:
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        clashes = [index for group in groups.values() if len(group) > 1 for index in group]
        longer = {i: "/".join(parts[i][-min(names[i].count("/") + 2, len(parts[i])) :]) for i in clashes}
        if all(names[i] == name for i, name in longer.items()):
            return [replace(entry, name=name) for entry, name in zip(found, names, strict=True)]
        for i, name in longer.items():
            names[i] = name
