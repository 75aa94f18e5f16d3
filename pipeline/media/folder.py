"""Inputs as people write them -> the videos or texts to read.

In: files, folders, globs, lists of paths. Out: one InputFile for each video or line of text. An input that gives none
becomes an InputFile with a problem, so every input has a row. Knows nothing about the content of the files.
"""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_SUFFIXES = """
    3g2 3gp 264 265 asf avi divx dv f4v flv h264 h265 hevc ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts
    mxf nut ogm ogv rm rmvb ts vob webm wmv xvid y4m
"""
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""How the names of video files end, in lower case, with the dot."""


@dataclass(frozen=True)
class InputFile:
    """One video or line of text to read.

    name: its name in the results, a relative posix path, unique among all inputs. problem: empty, or "code: sentence"
    for an input that cannot be read (missing, unreadable, not_regular_file, no_videos, no_texts, link_outside). text:
    the line, where the input is a line of a text.
    """

    path: Path
    name: str
    problem: str = ""
    text: str | None = None


def find_videos(inputs: Sequence[str], follow_links: bool = False) -> list[InputFile]:
    """Files (kept whatever their suffix), folders (all videos in them by suffix, at any depth, sorted), globs ("**"
    at any depth), and lists ("@list" or a .txt file: one path a line, relative to the list's folder, # for comments).

    The names of the videos of a single folder are relative to it. With other inputs they begin with the name of the
    folder, so that names stay the same when files are added. A path that is reached twice occurs once. A link that
    leads out of its folder is a problem unless follow_links; loops of links end. Nothing raises: an input that cannot
    be read is an InputFile with a problem.
    """
    files: dict[str, InputFile] = {}
    for text in inputs:
        for file in expand(text, follow_links, is_alone=len(inputs) == 1):
            files.setdefault(os.path.abspath(file.path), file)
    return unique_names(list(files.values()))


def find_texts(inputs: Sequence[str]) -> list[InputFile]:
    """Text files, folders of them (.txt), globs, and "-" for standard input.

    One InputFile for each line that is not blank; its name is FILE:LINE. Nothing raises: an input that cannot be read
    is an InputFile with a problem.
    """
    lines: list[InputFile] = []
    for text in inputs:
        paths = [Path(text)]
        if os.path.isdir(text):
            paths = sorted(Path(text).rglob("*.txt"))
        elif glob.has_magic(text) and not os.path.lexists(text):
            paths = [Path(match) for match in sorted(glob.glob(text, recursive=True)) if os.path.isfile(match)]
        if not paths:
            lines.append(problem(Path(text), "no_texts", "There is no text file", "Texts are files that end in .txt"))
        for path in paths:
            lines += read_lines(path)
    return unique_names(lines)


def read_lines(path: Path) -> Iterator[InputFile]:
    """The lines of one text file, or of standard input."""
    name = "-" if str(path) == "-" else relative_name(path)
    try:
        text = sys.stdin.read() if name == "-" else path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"The text cannot be read: {getattr(error, 'strerror', None) or error}"
        yield problem(path, "unreadable", reason, "A text is a file of UTF-8 lines")
        return
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    if not any(line for _, line in lines):
        yield problem(path, "no_texts", "The file is empty", "A text has at least one line")
    yield from (InputFile(path / str(number), f"{name}:{number}", text=line) for number, line in lines if line)


def expand(text: str, follow_links: bool, is_alone: bool) -> Iterator[InputFile]:
    """The videos of one input."""
    if text.startswith("@") and not os.path.lexists(text):
        yield from read_list(Path(text[1:]), follow_links)
    elif text.lower().endswith(".txt") and os.path.isfile(text):
        yield from read_list(Path(text), follow_links)
    else:
        yield from expand_path(text, follow_links, is_alone)


def expand_path(text: str, follow_links: bool, is_alone: bool) -> Iterator[InputFile]:
    """The videos of a file, a folder or a glob."""
    path = Path(text)
    if "\0" in text or not text:
        shown = Path(text.replace("\0", "\\0"))
        yield problem(shown, "missing", "This is no path", "A path is not empty and has no NUL character")
    elif os.path.isdir(path):
        yield from search_folder(path, follow_links, is_alone)
    elif os.path.lexists(path):
        yield InputFile(path, relative_name(path))
    elif glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        is_any_suffix = glob.has_magic(Path(text).suffix) or not Path(text).suffix
        videos = [match for match in matches if not os.path.isdir(match) and (is_video(match) or not is_any_suffix)]
        if not videos:
            yield problem(path, "missing", "The pattern matches no video", "A pattern is like 'videos/**/*.mp4'")
        yield from (InputFile(Path(video), relative_name(Path(video))) for video in videos)
    else:
        yield problem(path, "missing", "There is no file or folder of this name", "An input exists on the disk")


def search_folder(folder: Path, follow_links: bool, is_alone: bool) -> Iterator[InputFile]:
    """All videos below the folder, sorted; a problem for each part that cannot be read."""
    count = 0
    for file in walk(folder, os.path.realpath(folder), set(), follow_links):
        count += 1
        inner = file.path.relative_to(folder)
        name = relative_name(folder) if file.path == folder else inner.as_posix() if is_alone else None
        yield replace(file, name=name or (Path(relative_name(folder)) / inner).as_posix())
    if not count:
        correct = "Videos are recognised by their suffix (.mp4, .avi, ...)"
        yield problem(folder, "no_videos", "The folder has no video", correct)


def walk(folder: Path, root: str, visited: set[tuple[int, int]], follow_links: bool) -> Iterator[InputFile]:
    """The videos below a folder, depth first, by name.

    root: the real path that links may not leave. visited: (device, inode) of the folders so far.
    """
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield problem(folder, "unreadable", f"The folder cannot be read: {error.strerror}", "A folder is readable")
        return
    for entry in entries:
        path = folder / entry.name
        is_folder = os.path.isdir(path)  # entry.is_dir() raises for a link to itself
        if not is_folder and not is_video(entry.name):
            continue
        is_inside = (os.path.realpath(path) + os.sep).startswith(root.rstrip(os.sep) + os.sep)
        if entry.is_symlink() and not follow_links and not is_inside:
            yield problem(path, "link_outside", "The link leads out of the folder", "Only links inside it are followed")
        elif is_folder:
            count = 0
            for file in walk(path, root, visited, follow_links):
                count += 1
                yield file
            if not count and is_video(entry.name):
                yield problem(path, "not_regular_file", "It is a folder with the name of a video", "A video is a file")
        else:
            yield InputFile(path, "")


def read_list(path: Path, follow_links: bool) -> Iterator[InputFile]:
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


def problem(path: Path, code: str, reason: str, correct: str) -> InputFile:
    """An InputFile for an input that gives no video. reason: what is wrong. correct: what would be right."""
    sentence = f"{reason} ({str(path)!r}). {correct}. Correct the input or leave it out."
    return InputFile(path, relative_name(path), f"{code}: {sentence}")


def is_video(name: str) -> bool:
    """Whether a file has the suffix of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def relative_name(path: Path) -> str:
    """A relative path without ".." as it was given, of any other path the last part."""
    return path.name or str(path) if path.is_absolute() or ".." in path.parts else path.as_posix()


def unique_names(files: list[InputFile]) -> list[InputFile]:
    """The same files with unique names: equal names get the folders above them, one by one, until they differ."""
    parts = [Path(os.path.abspath(file.path)).parts[1:] for file in files]
    names = [file.name for file in files]
    while True:
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        clashes = [index for group in groups.values() if len(group) > 1 for index in group]
        longer = {i: "/".join(parts[i][-min(names[i].count("/") + 2, len(parts[i])) :]) for i in clashes}
        if all(names[i] == name for i, name in longer.items()):
            return [replace(file, name=name) for file, name in zip(files, names, strict=True)]
        for i, name in longer.items():
            names[i] = name
