"""Inputs as people write them -> the videos or texts to read.

In: files, folders, globs, lists of paths. Out: one InputFile for each video, stored series or line of text. An input
that gives none becomes an InputFile with a problem, so every input has a row. Knows nothing about the content of the
files.
"""

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.media.search import (
    VIDEO_SUFFIXES,
    InputFile,
    LeftOut,
    frame_folders_sentence,
    has_suffix,
    is_hidden,
    problem,
    relative_name,
    walk,
)
from pipeline.media.similar_paths import did_you_mean_path
from pipeline.media.text_file import read_lines_of

__all__ = ["FINDERS", "VIDEO_SUFFIXES", "Find", "InputFile", "find_series", "find_texts", "find_videos"]

Log = Callable[[str], None]
Find = Callable[[Sequence[str], bool, Log], list[InputFile]]
"""A function that finds inputs: see `find_videos`."""
SERIES_SUFFIXES = frozenset({".npy"})


def _no_log(line: str) -> None:
    """Drop the line: the caller does not want to know what is left out."""


@dataclass
class _Find:
    """How inputs are searched. suffixes: of the files that folders are searched for. noun: what such a file is called.
    left_out: what the searches so far did not take. comments: lines of lists.
    """

    follow_links: bool
    suffixes: frozenset[str] = VIDEO_SUFFIXES
    noun: str = "video"
    left_out: LeftOut = field(default_factory=LeftOut)
    comments: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """A line for each kind of what was left out."""
        lines = self.left_out.sentences()
        if self.comments:
            shown = ", ".join(repr(line) for line in self.comments[:3])
            lines.append(f"{len(self.comments):,} lines of lists begin with # and name no file: comments ({shown})")
        return lines


def find_videos(inputs: Sequence[str], follow_links: bool = False, log: Log = _no_log) -> list[InputFile]:
    """Files (kept whatever their suffix), folders (all videos in them by suffix, at any depth, sorted), globs ("**"
    at any depth), and lists ("@list" or a .txt file: one path a line, relative to the list's folder; a line that
    begins with # and names no file is a comment).

    The names of the videos of a single folder are relative to it. With other inputs they begin with the name of the
    folder, so that names stay the same when files are added. A path that is reached twice occurs once. Hidden files
    and folders of operating systems are left out, unless they are inputs themselves. A link that leads out of its
    folder is a problem unless follow_links; loops of links end. Nothing raises: an input that cannot be read is an
    InputFile with a problem. `log` takes a line for each kind of what is left out.
    """
    return _find_files(inputs, _Find(follow_links), log)


def find_series(inputs: Sequence[str], follow_links: bool = False, log: Log = _no_log) -> list[InputFile]:
    """Stored series (.npy files), found as videos are found by find_videos."""
    return _find_files(inputs, _Find(follow_links, SERIES_SUFFIXES, "series"), log)


def _find_files(inputs: Sequence[str], find: _Find, log: Log) -> list[InputFile]:
    files: dict[str, InputFile] = {}
    for text in inputs:
        for file in expand(text, find, is_alone=len(inputs) == 1):
            files.setdefault(os.path.abspath(file.path), file)
    for line in find.sentences():
        log(line)
    return unique_names(list(files.values()))


def find_texts(inputs: Sequence[str], follow_links: bool = False, log: Log = _no_log) -> list[InputFile]:
    """Text files, folders of them (.txt), globs, and "-" for standard input.

    One InputFile for each line that is not blank; its name is FILE:LINE. Folders are searched as by find_videos.
    Nothing raises: an input that cannot be read is an InputFile with a problem.
    """
    lines: list[InputFile] = []
    left_out = LeftOut()
    for text in inputs:
        files = [InputFile(Path(text), "")]
        if os.path.isdir(text):
            files = list(walk(Path(text), frozenset({".txt"}), follow_links, left_out))
        elif glob.has_magic(text) and not os.path.lexists(text):
            matches = sorted(glob.glob(text, recursive=True))
            files = [InputFile(Path(match), "") for match in matches if os.path.isfile(match)]
        if not files:
            lines.append(problem(Path(text), "no_texts", "There is no text file", "Texts are files that end in .txt"))
        for file in files:
            lines += [file] if file.problem else read_lines(file.path)
    for line in left_out.sentences():
        log(line)
    return unique_names(lines)


def read_lines(path: Path) -> Iterator[InputFile]:
    """The lines of one text file, or of standard input."""
    name = "-" if str(path) == "-" else relative_name(path)
    try:
        texts = sys.stdin.read().splitlines() if name == "-" else read_lines_of(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = f"The text cannot be read: {getattr(error, 'strerror', None) or error}"
        yield problem(path, "unreadable", reason, "A text is a file of UTF-8 lines")
        return
    lines = [(number, line.strip()) for number, line in enumerate(texts, start=1)]
    if not any(line for _, line in lines):
        yield problem(path, "no_texts", "The file is empty", "A text has at least one line")
    yield from (InputFile(path / str(number), f"{name}:{number}", text=line) for number, line in lines if line)


def expand(text: str, find: _Find, is_alone: bool) -> Iterator[InputFile]:
    """The videos of one input."""
    if text.startswith("@") and not os.path.lexists(text):
        yield from read_list(Path(text[1:]), find)
    elif text.lower().endswith(".txt") and os.path.isfile(text):
        yield from read_list(Path(text), find)
    else:
        yield from expand_path(text, find, is_alone)


def expand_path(text: str, find: _Find, is_alone: bool) -> Iterator[InputFile]:
    """The videos of a file, a folder or a glob."""
    path = Path(text)
    if "\0" in text or not text:
        shown = Path(text.replace("\0", "\\0"))
        yield problem(shown, "missing", "This is no path", "A path is not empty and has no NUL character")
    elif os.path.isdir(path):
        yield from search_folder(path, find, is_alone)
    elif os.path.lexists(path):
        yield InputFile(path, relative_name(path))
    elif glob.has_magic(text):
        yield from expand_glob(text, find)
    else:
        similar = did_you_mean_path(path)
        correct = "An input exists on the disk" + (f".{similar}" if similar else "")
        yield problem(path, "missing", "There is no file or folder of this name", correct)


def expand_glob(text: str, find: _Find) -> Iterator[InputFile]:
    """The videos that a pattern names. A folder of the pattern that exists is itself, also with [ ] in its name."""
    path = Path(text)
    above = next((parent for parent in path.parents if os.path.isdir(parent)), Path())
    inner = os.path.relpath(text, above) if above != Path() else text
    pattern = os.path.join(glob.escape(str(above)), inner) if above != Path() else text
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(match)]
    is_any_suffix = glob.has_magic(path.suffix) or not path.suffix
    videos = [match for match in matches if has_suffix(match.name, find.suffixes) or not is_any_suffix]
    hidden = {match for match in videos if any(map(is_hidden, match.relative_to(above).parts[:-1]))}
    find.left_out.hidden += [match.as_posix() for match in videos if match in hidden]
    if not set(videos) - hidden:
        example = "videos/**/*.mp4" if find.noun == "video" else "series/**/*.npy"
        yield problem(path, "missing", f"The pattern matches no {find.noun}", f"A pattern is like '{example}'")
    yield from (InputFile(video, relative_name(video)) for video in videos if video not in hidden)


def search_folder(folder: Path, find: _Find, is_alone: bool) -> Iterator[InputFile]:
    """All videos below the folder, sorted; a problem for each part that cannot be read."""
    count = 0
    left_out = LeftOut()
    for file in walk(folder, find.suffixes, find.follow_links, left_out):
        count += 1
        inner = file.path.relative_to(folder)
        name = relative_name(folder) if file.path == folder else inner.as_posix() if is_alone else None
        yield replace(file, name=name or (Path(relative_name(folder)) / inner).as_posix())
    if not count:
        frames = left_out.frame_folders
        is_video = find.noun == "video"
        reason = frame_folders_sentence(frames) if frames and is_video else f"The folder has no {find.noun}"
        correct = "Videos are recognised by their suffix (.mp4, .avi, ...)" if is_video else "Series are .npy files"
        yield problem(folder, "no_videos" if is_video else "no_series", reason, correct)
        left_out.frame_folders = []
    find.left_out.add(left_out)


def read_list(path: Path, find: _Find) -> Iterator[InputFile]:
    """The inputs in a list, relative to its folder. A line that names a file is that file, whatever it begins with."""
    try:
        lines = read_lines_of(path, errors="surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"The list cannot be read: {getattr(error, 'strerror', None) or error}"
        yield problem(path, "unreadable", reason, "A list is a readable text file")
        return
    count = 0
    for line in lines:
        text = next((name for name in (line, line.strip()) if name and _exists(path.parent, name)), line.strip())
        if not text.strip():
            continue
        if text.startswith("#") and not _exists(path.parent, text):
            find.comments.append(text)
            continue
        count += 1
        yield from expand_path(os.path.join(path.parent, text), find, is_alone=False)
    if not count:
        yield problem(path, "no_videos", "The list is empty", "A list has one path a line")


def _exists(folder: Path, name: str) -> bool:
    return "\0" not in name and os.path.lexists(os.path.join(folder, name))


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


FINDERS: dict[str, Find] = {
    "frames": find_videos,
    "series": find_series,
    "tokens": find_texts,
}
"""How the inputs of a model are found, by the kind of its encoder."""
