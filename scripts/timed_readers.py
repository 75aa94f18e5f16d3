"""Readers of the formats of times that know nothing of our writers: srt, webvtt-py, pympi-ling, FFmpeg, json.

In: what a writer made. Out: {name: [(start, end, text)]}, whole milliseconds. The promise [writers] and the tests read with them.
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

Read = list[tuple[int, int, str]]


def read_srt(path: Path) -> Read:
    with path.open(encoding="utf-8", newline="") as file:
        found = list(srt.parse(file.read(), ignore_errors=False))
    assert [one.index for one in found] == list(range(1, len(found) + 1))
    return [(ms(one.start.total_seconds()), ms(one.end.total_seconds()), one.content) for one in found]


def read_vtt(path: Path) -> Read:
    """As a browser shows them: without tags, then with the escapes read."""
    text = path.read_text("utf-8")
    assert text.startswith("WEBVTT\n")
    found = webvtt.from_string(text, strict=True)
    return [
        (one.start_time.in_milliseconds(), one.end_time.in_milliseconds(), html.unescape(one.text)) for one in found
    ]


def read_eaf(path: Path) -> Read:
    """All tiers together."""
    return sorted(one for tier in read_tiers(path).values() for one in tier)


def read_tiers(path: Path) -> dict[str, Read]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a version it does not know
        eaf = pympi.Eaf(str(path))
    return {tier: [tuple(one) for one in eaf.get_annotation_data_for_tier(tier)] for tier in eaf.get_tier_names()}


def read_with_ffmpeg(path: Path) -> Read:
    """The packets of a .srt or .vtt: its times, and the text as it stands in the file."""
    if not path.stat().st_size:
        return []
    found = []
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                assert packet.pts is not None and packet.duration is not None and packet.time_base is not None
                start, length = packet.pts * packet.time_base, packet.duration * packet.time_base
                found.append((ms(float(start)), ms(float(start + length)), bytes(packet).decode().rstrip("\n")))
    return found


def in_folder(read: Callable[[Path], Read], suffix: str) -> Callable[[Path], dict[str, Read]]:
    """Every file below a folder; each must be of the format."""

    def read_all(folder: Path) -> dict[str, Read]:
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        assert {path.suffix for path in files} <= {suffix}
        return {path.relative_to(folder).as_posix().removesuffix(suffix): read(path) for path in files}

    return read_all


def read_activitynet(path: Path) -> dict[str, Read]:
    """Checked against the layout of the challenge's files."""
    given = json.loads(path.read_text("utf-8"), object_pairs_hook=unrepeated)
    assert set(given) == {"version", "results", "external_data"} and isinstance(given["version"], str)
    found: dict[str, Read] = {}
    for video, entries in given["results"].items():
        for one in entries:
            start, end = one["segment"]
            assert 0 <= start <= end and isinstance(one["label"], str) and 0 <= one["score"] <= 1
        found[video] = [(ms(one["segment"][0]), ms(one["segment"][1]), one["label"]) for one in entries]
    return found


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says nothing twice."""
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def ms(seconds: float) -> int:
    return round(1000 * seconds)


READERS: dict[str, Callable[[Path], dict[str, Read]]] = {
    "srt": in_folder(read_srt, ".srt"),
    "vtt": in_folder(read_vtt, ".vtt"),
    "elan": in_folder(read_eaf, ".eaf"),
    "activitynet": read_activitynet,
}
