"""Cues -> SubRip (.srt) and WebVTT (.vtt), for players, editors and browsers.

In: the cues of a video. Out: the text of a file. Where several heads have spans, a cue begins with its head: `head:
label`. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.writers.cues import Cue


def to_srt(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """SubRip: numbered cues, an empty text where there are none.

    SubRip has no escapes. Players read <b> as bold, and an arrow --> in a text as the times of a new cue, so --> is
    written as an arrow character.
    """
    blocks = [
        f"{number}\n{timecode(cue.start, ',')} --> {timecode(cue.end, ',')}\n{text.replace('-->', '→')}\n"
        for number, (cue, text) in enumerate(_with_head_names(cues, heads), start=1)
    ]
    return "\n".join(blocks)


def to_webvtt(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """WebVTT (W3C): the header, then the cues. Markup characters are escaped, so any text is read back as it was."""
    blocks = [
        f"{timecode(cue.start, '.')} --> {timecode(cue.end, '.')}\n{_escape(text)}\n"
        for cue, text in _with_head_names(cues, heads)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def timecode(milliseconds: int, point: str) -> str:
    """hours:minutes:seconds and thousandths after `point`; hours have two digits or more."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{thousandths:03d}"


def _with_head_names(cues: Sequence[Cue], heads: Sequence[str]) -> Iterator[tuple[Cue, str]]:
    for cue in cues:
        yield cue, f"{cue.head}: {cue.text}" if len(heads) > 1 else cue.text


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
