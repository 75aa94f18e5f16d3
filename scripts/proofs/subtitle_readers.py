"""Independent readers of the span formats: srt, webvtt-py, pympi-ling, FFmpeg, json.

In: the output of a writer. Out: {name: [(start, end, text)]} in whole milliseconds. The proof `writers` and the tests
of the writers use them.
"""

from __future__ import annotations

import html
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pympi
import srt
import webvtt

Cues = list[tuple[int, int, str]]
"""(start, end, text) of each cue, in milliseconds."""


def read_srt(path: Path) -> Cues:
    """The cues of a .srt; their numbers must be 1, 2, ..."""
    with path.open(encoding="utf-8", newline="") as file:
        cues = list(srt.parse(file.read(), ignore_errors=False))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    return [(ms(cue.start.total_seconds()), ms(cue.end.total_seconds()), cue.content) for cue in cues]


def read_vtt(path: Path) -> Cues:
    """As a browser shows them: without tags, and with the escapes decoded."""
    text = path.read_text("utf-8")
    assert text.startswith("WEBVTT\n")
    cues = webvtt.from_string(text, strict=True)
    return [(cue.start_time.in_milliseconds(), cue.end_time.in_milliseconds(), html.unescape(cue.text)) for cue in cues]


def read_eaf(path: Path) -> Cues:
    """All tiers together."""
    return sorted(cue for tier in read_tiers(path).values() for cue in tier)


def read_tiers(path: Path) -> dict[str, Cues]:
    """The annotations of each tier of a .eaf."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning about an unknown version is an error
        eaf = pympi.Eaf(str(path))
    return {name: [tuple(cue) for cue in eaf.get_annotation_data_for_tier(name)] for name in eaf.get_tier_names()}


def read_with_ffmpeg(path: Path) -> Cues:
    """The packets of a .srt or .vtt: the times, and the text as in the file."""
    if not path.stat().st_size:
        return []
    cues = []
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                assert packet.pts is not None and packet.duration is not None and packet.time_base is not None
                start, length = packet.pts * packet.time_base, packet.duration * packet.time_base
                cues.append((ms(float(start)), ms(float(start + length)), bytes(packet).decode().rstrip("\n")))
    return cues


def in_folder(read: Callable[[Path], Cues], suffix: str) -> Callable[[Path], dict[str, Cues]]:
    """A reader of every file below a folder. Each file must have the suffix."""

    def read_all(folder: Path) -> dict[str, Cues]:
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        assert {path.suffix for path in files} <= {suffix}
        return {path.relative_to(folder).as_posix().removesuffix(suffix): read(path) for path in files}

    return read_all


def read_activitynet(path: Path) -> dict[str, Cues]:
    """The detections of a file, which must have the layout of the challenge's files."""
    content = json.loads(path.read_text("utf-8"), object_pairs_hook=with_unique_keys)
    assert set(content) == {"version", "results", "external_data"} and isinstance(content["version"], str)
    cues: dict[str, Cues] = {}
    for video, entries in content["results"].items():
        for entry in entries:
            start, end = entry["segment"]
            assert 0 <= start <= end and isinstance(entry["label"], str) and 0 <= entry["score"] <= 1
        cues[video] = [(ms(entry["segment"][0]), ms(entry["segment"][1]), entry["label"]) for entry in entries]
    return cues


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys."""
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def ms(seconds: float) -> int:
    """Whole milliseconds."""
    return round(1000 * seconds)


READERS: dict[str, Callable[[Path], dict[str, Cues]]] = {
    "srt": in_folder(read_srt, ".srt"),
    "vtt": in_folder(read_vtt, ".vtt"),
    "elan": in_folder(read_eaf, ".eaf"),
    "activitynet": read_activitynet,
}
