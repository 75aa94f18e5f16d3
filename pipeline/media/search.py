"""The files below a folder, by one rule for every verb.

In: a folder, the suffixes that are wanted. Out: an `InputFile` for each file, and a `LeftOut` with all the rest. Knows
nothing of labels and nothing of the content of the files.

The rule: hidden names (".x", "._x.mp4") and folders of operating systems ("__MACOSX") are left out. A link that stays
inside the folder is followed. A link that leads out of it is followed with follow_links only. Loops of links end.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SUFFIXES = """
    3g2 3gp 264 265 asf avi divx dv f4v flv h264 h265 hevc ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts
    mxf nut ogm ogv rm rmvb ts vob webm wmv xvid y4m
"""
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""How the names of video files end, in lower case, with the dot."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "$recycle.bin", "recycler", "system volume information", "@eadir", "#recycle", "lost+found"}
)
"""Folders that macOS, Windows, Linux and network disks make, in lower case. What lies in them is no one's video."""
NUM_SHOWN = 5


@dataclass(frozen=True)
class InputFile:
    """One video or line of text to read.

    name: its name in the results, a relative posix path, unique among all inputs. problem: empty, or "code: sentence"
    for an input that cannot be read (missing, unreadable, not_regular_file, no_videos, no_series, no_texts,
    link_outside). text: the line, where the input is a line of a text.
    """

    path: Path
    name: str
    problem: str = ""
    text: str | None = None


@dataclass(frozen=True)
class FrameFolder:
    """A folder of images, as some datasets store a clip. first: the name of its first image. count: its images."""

    path: Path
    first: str
    count: int

    def advice(self) -> str:
        """What to do with it: the command that makes a video of it."""
        number = re.fullmatch(r"(.*?)(\d+)(\.\w+)", self.first)
        if number:
            pattern = f"{number[1].replace('%', '%%')}%0{len(number[2])}d{number[3]}"
            source = f"-start_number {int(number[2])} -i {shlex.quote(str(self.path / pattern))}"
        else:
            source = f"-pattern_type glob -i {shlex.quote(str(self.path / ('*' + os.path.splitext(self.first)[1])))}"
        video = shlex.quote(f"{self.path}.mp4")
        return f"Make a video of it: ffmpeg -framerate 25 {source} -pix_fmt yuv420p {video}"


@dataclass
class LeftOut:
    """What a search did not take, as paths relative to the folder that was searched.

    outside: links that lead out of the folder, where the caller gives them no row of their own.
    """

    hidden: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    frame_folders: list[FrameFolder] = field(default_factory=list)

    def add(self, other: LeftOut) -> None:
        """Add what another search left out."""
        self.hidden += other.hidden
        self.links += other.links
        self.others += other.others
        self.outside += other.outside
        self.frame_folders += other.frame_folders

    def sentences(self) -> list[str]:
        """One line about hidden files, other files and links, one about folders of images; none for nothing."""
        kinds = (
            (self.hidden, "hidden or system files and folders"),
            (self.others, "other files"),
            (self.links, "links to folders that are read anyway"),
        )
        parts = [f"{len(names):,} {noun} ({listed(names)})" for names, noun in kinds if names]
        lines = [f"left out: {'; '.join(parts)}"] if parts else []
        if self.outside:
            count = f"{len(self.outside):,} links that lead out of the folder ({listed(self.outside)})"
            lines.append(f"left out: {count}. With --follow-links (data.follow_links=true) they are followed.")
        return lines + ([frame_folders_sentence(self.frame_folders)] if self.frame_folders else [])


def frame_folders_sentence(folders: Sequence[FrameFolder]) -> str:
    """What folders of images are, and what to do with them."""
    shown = listed([str(folder.path) for folder in folders])
    first = folders[0]
    return (
        f"{len(folders):,} folders hold images, not videos ({shown}; {first.count:,} images such as {first.first!r}). "
        f"A clip that is a folder of frames is not read. {first.advice()}"
    )


def frame_folder(folder: str | os.PathLike[str]) -> FrameFolder | None:
    """The folder as a FrameFolder, or None where it has fewer than two images or has videos too."""
    names = sorted(entry.name for entry in os.scandir(folder) if not is_hidden(entry.name))
    return _frames_of(Path(folder), names)


def _frames_of(folder: Path, names: Sequence[str]) -> FrameFolder | None:
    images = [name for name in names if has_suffix(name, IMAGE_SUFFIXES)]
    has_video = any(is_video(name) for name in names)
    return FrameFolder(folder, images[0], len(images)) if len(images) > 1 and not has_video else None


def walk(folder: Path, suffixes: frozenset[str], follow_links: bool, left_out: LeftOut) -> Iterator[InputFile]:
    """The files below a folder, in order of their paths; a problem for each part that cannot be read.

    What is not taken is added to left_out. The names of the results are empty.
    """
    search = _Search(folder, os.path.realpath(folder), suffixes, follow_links, left_out)
    yield from sorted(search.walk(folder), key=lambda file: file.path.parts)


@dataclass
class _Search:
    """One search. root: the real path that links may not leave. visited: (device, inode) of the folders so far."""

    folder: Path
    root: str
    suffixes: frozenset[str]
    follow_links: bool
    left_out: LeftOut
    visited: set[tuple[int, int]] = field(default_factory=set)

    def walk(self, folder: Path) -> Iterator[InputFile]:
        """Depth first, folders before links, so that a folder is found under its own name and not under a link's."""
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in self.visited:
                self.left_out.links.append(self._inner(folder))
                return
            self.visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            yield problem(folder, "unreadable", f"The folder cannot be read: {error.strerror}", "A folder is readable")
            return
        frames = _frames_of(folder, sorted(entry.name for entry in entries if not is_hidden(entry.name)))
        if frames:
            self.left_out.frame_folders.append(frames)
        for entry in entries:
            path = folder / entry.name
            is_folder = os.path.isdir(path)  # entry.is_dir() raises for a link to itself
            if is_hidden(entry.name):
                self.left_out.hidden.append(self._inner(path) + "/" * is_folder)
            elif is_folder or has_suffix(entry.name, self.suffixes):
                yield from self._enter(path, entry.is_symlink(), is_folder)
            elif not (frames and has_suffix(entry.name, IMAGE_SUFFIXES)):
                self.left_out.others.append(self._inner(path))

    def _enter(self, path: Path, is_link: bool, is_folder: bool) -> Iterator[InputFile]:
        """A file, or the files of a folder."""
        is_inside = (os.path.realpath(path) + os.sep).startswith(self.root.rstrip(os.sep) + os.sep)
        if is_link and not self.follow_links and not is_inside:
            correct = "Only links inside it are followed, and with --follow-links all links"
            yield problem(path, "link_outside", "The link leads out of the folder", correct)
        elif is_folder:
            count = 0
            for file in self.walk(path):
                count += 1
                yield file
            if not count and is_video(path.name):
                yield problem(path, "not_regular_file", "It is a folder with the name of a video", "A video is a file")
        else:
            yield InputFile(path, "")

    def _inner(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def problem(path: Path, code: str, reason: str, correct: str) -> InputFile:
    """An InputFile for an input that gives no video. reason: what is wrong. correct: what would be right."""
    end = "" if correct.endswith("?") else "."
    sentence = f"{reason} ({str(path)!r}). {correct}{end} Correct the input or leave it out."
    return InputFile(path, relative_name(path), f"{code}: {sentence}")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or a folder of an operating system. name: without the folders above it."""
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


def is_video(name: str) -> bool:
    """Whether a file has the suffix of a video."""
    return has_suffix(name, VIDEO_SUFFIXES)


def has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a name ends in one of the suffixes, in any case."""
    return os.path.splitext(name)[1].lower() in suffixes


def relative_name(path: Path) -> str:
    """A relative path without ".." as it was given, of any other path the last part."""
    return path.name or str(path) if path.is_absolute() or ".." in path.parts else path.as_posix()


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - NUM_SHOWN:,} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(repr(name) for name in sorted(names)[:NUM_SHOWN]) + more
