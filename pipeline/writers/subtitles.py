"""Cues -> SubRip (.srt) and WebVTT (.vtt), for players, editors and browsers.

Where several heads have times, a cue says whose it is: `head: label`. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.writers.cues import Cue


def srt(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """SubRip: numbered cues, nothing at all where there are none. It has no escapes: players take <b> for bold, and an
    arrow of times in a text for a new cue, so --> is written as an arrow character.
    """
    blocks = [
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{text.replace('-->', '→')}\n"
        for number, (cue, text) in enumerate(_said(cues, heads), start=1)
    ]
    return "\n".join(blocks)


def webvtt(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """WebVTT (W3C): the header, then cues; what would be markup is escaped, so any text comes back as it is."""
    blocks = [
        f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{_escaped(text)}\n" for cue, text in _said(cues, heads)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def clock(milliseconds: int, point: str) -> str:
    """hours:minutes:seconds and thousandths; hours have two digits or more."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{thousandths:03d}"


def _said(cues: Sequence[Cue], heads: Sequence[str]) -> Iterator[tuple[Cue, str]]:
    for cue in cues:
        yield cue, f"{cue.head}: {cue.text}" if len(heads) > 1 else cue.text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
