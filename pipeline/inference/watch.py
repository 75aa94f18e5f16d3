"""A source and a stream -> events, until the source ends or somebody says stop.

In: a `Live` source and a `Stream`. Out: events to `emit`, windows to `show`, states to a file. Knows nothing of terminals
or formats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.inference.events import Event
from pipeline.inference.stream import Stream
from pipeline.media.clip import Clip
from pipeline.media.live import Live, Looks, Note

SAVE_SECONDS = 3.0  # between two states on disk
TURN_SECONDS = 0.2  # how soon a signal is heard while nothing comes


@dataclass
class Latency:
    """How long looks waited from their arrival to their events: a histogram of constant size, 5 % wide steps from 0.1 ms."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(400, np.int64))

    def add(self, seconds: np.ndarray) -> None:
        """Some looks'."""
        bins = np.log(np.maximum(seconds, 1e-4) / 1e-4) / np.log(1.05)
        np.add.at(self.counts, np.clip(np.ceil(bins).astype(int), 0, len(self.counts) - 1), 1)

    def percentiles(self) -> dict[str, float]:
        """{"p50", "p90", "p99"} in milliseconds, to within 5 %; empty when nothing was seen."""
        if not self.counts.any():
            return {}
        share = self.counts.cumsum() / self.counts.sum()
        return {f"p{p}": round(0.1 * 1.05 ** float(np.searchsorted(share, p / 100)), 1) for p in (50, 90, 99)}


def follow(
    live: Live,
    stream: Stream,
    *,
    batch: int,
    emit: Callable[[Event], None],
    show: Callable[[Clip, list[Event]], None],
    is_stopping: Callable[[], bool],
    state: Path | None = None,
) -> str:
    """Emit every event; the last one is "closed". Returns its status: ok, partial, interrupted or failed:<reason>.

    batch: looks that the CNN takes at once, at most. state: written every SAVE_SECONDS and at the end, always of a moment
    whose events were emitted. show: told each window with its events.
    """
    notes = {"source": live.source.shown}
    latency, saved, skipped = Latency(), time.monotonic(), stream.looks
    closed: Note | None = None

    def save() -> None:
        if state is not None:
            stream.save_state(state, {**notes, "wall": time.time()})

    while closed is None and not is_stopping():
        item = live.take(batch, TURN_SECONDS)
        if isinstance(item, Looks):
            events = stream.watch(item.clip)
            for event in events:
                emit(event)
            latency.add(time.monotonic() - item.arrived)
            show(item.clip, events)
        elif isinstance(item, Note) and item.kind == "closed":
            closed = item
        elif isinstance(item, Note):
            emit(about_source(item, stream, live))
        if state is not None and time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
    if stream.looks > skipped:
        save()  # not after an error: events that nobody got must come again
    for event in stream.finish(is_interrupted=closed is None):
        emit(event)
    facts = closed.facts if closed else {"status": "interrupted", "error": "", "warnings": []}
    emit({
        "event": "closed", "time": _rounded(stream), "source": live.source.shown, "status": facts["status"],
        "seconds": round(stream.time + 1 / stream.clock.rate, 3) if stream.looks else 0.0, "looks": stream.looks,
        "dropped": live.dropped, "reconnects": live.reconnects, "latency_ms": latency.percentiles(),
        "warnings": facts["warnings"], "error": facts["error"],
    })  # fmt: skip
    return facts["status"]


def resume(stream: Stream, state: Path | None, source: str) -> tuple[float, float]:
    """Go on from a state on disk, if there is one: (seconds of the next look, seconds that passed since it was saved).
    Raises ValueError for a state of another model, of other settings or of another source, and for no place to save one.
    """
    if state is not None and not state.absolute().parent.is_dir():
        raise ValueError(f"--state {state} stands in a folder that is not there. Make '{state.parent}' first.")
    if state is None or not state.exists():
        return 0.0, 0.0
    notes = stream.load_state(state)
    if notes.get("source") != source:
        raise ValueError(
            f"'{state}' is the state of {notes.get('source')!r}, and this source is {source!r}. Give another file for "
            "each source."
        )
    return stream.time + 1 / stream.clock.rate, max(0.0, time.time() - float(notes.get("wall", time.time())))


def about_source(note: Note, stream: Stream, live: Live) -> Event:
    """A note as an event."""
    where = {"source": live.source.shown} if note.kind == "opened" else {}
    return {"event": note.kind, "time": _rounded(stream), **where, **note.facts}


def _rounded(stream: Stream) -> float:
    return round(max(0.0, stream.time), 3)
