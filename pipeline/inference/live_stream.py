"""A live source and a stream -> events, until the source ends or a caller stops it.

In: a `LiveSource` and a `Stream`. Out: events, windows to a callback, states to a file. Knows nothing of terminals or
formats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.inference.events import Event
from pipeline.inference.stream import Stream
from pipeline.media.clip import Clip
from pipeline.media.live import LiveSource, LiveWindow, SourceEvent

SAVE_SECONDS = 3.0  # between two states on the disk
POLL_SECONDS = 0.2  # how often is_stopping is asked while nothing arrives


@dataclass
class LatencyHistogram:
    """The time from the arrival of a look to its events: a histogram of constant size, 5 % wide bins from 0.1 ms on."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(400, np.int64))

    def add(self, seconds: np.ndarray) -> None:
        """Add the latencies of some looks."""
        bins = np.log(np.maximum(seconds, 1e-4) / 1e-4) / np.log(1.05)
        np.add.at(self.counts, np.clip(np.ceil(bins).astype(int), 0, len(self.counts) - 1), 1)

    def percentiles(self) -> dict[str, float]:
        """{"p50", "p90", "p99"} in milliseconds, to within 5 %; empty without looks."""
        if not self.counts.any():
            return {}
        share = self.counts.cumsum() / self.counts.sum()
        return {f"p{p}": round(0.1 * 1.05 ** float(np.searchsorted(share, p / 100)), 1) for p in (50, 90, 99)}


def live_events(
    live: LiveSource,
    stream: Stream,
    *,
    batch: int = 64,
    on_window: Callable[[Clip, list[Event]], None] = lambda clip, events: None,
    is_stopping: Callable[[], bool] = lambda: False,
    state: Path | None = None,
) -> Iterator[Event]:
    """Every event of a source. The last one is "closed"; its status is ok, partial, interrupted or failed:<reason>.

    batch: the most looks that the CNN takes at once. on_window is called with each window after its events. state: a
    file that is written every SAVE_SECONDS and at the end; the events before a saved moment have all been taken.
    """
    notes = {"source": live.source.display_name}
    latency, last_save, first_looks = LatencyHistogram(), time.monotonic(), stream.looks
    closed: SourceEvent | None = None

    def save() -> None:
        if state is not None:
            stream.save_state(state, {**notes, "wall": time.time()})

    while closed is None and not is_stopping():
        item = live.take(batch, POLL_SECONDS)
        if isinstance(item, LiveWindow):
            events = stream.watch(item.clip)
            yield from events
            latency.add(time.monotonic() - item.arrival_times)
            on_window(item.clip, events)
        elif isinstance(item, SourceEvent) and item.kind == "closed":
            closed = item
        elif isinstance(item, SourceEvent):
            yield source_event(item, stream, live)
        if state is not None and time.monotonic() - last_save > SAVE_SECONDS:
            save()
            last_save = time.monotonic()
    if stream.looks > first_looks:
        save()  # not after an error, because events that nobody took must come again
    yield from stream.finish(is_interrupted=closed is None)
    yield closed_event(closed, stream, live, latency)


def resume(stream: Stream, state: Path | None, source: str) -> tuple[float, float]:
    """Continue from a state on the disk, if there is one.

    Returns the seconds of the next look, and the seconds that passed since the state was saved. Raises ValueError for a
    state of another model, of other settings or of another source, and for a folder that does not exist.
    """
    if state is not None and not state.absolute().parent.is_dir():
        raise ValueError(f"The folder of --state {state} does not exist. Make '{state.parent}' first.")
    if state is None or not state.exists():
        return 0.0, 0.0
    notes = stream.load_state(state)
    if notes.get("source") != source:
        raise ValueError(
            f"'{state}' is the state of {notes.get('source')!r}, and this source is {source!r}. Give another file for "
            "each source."
        )
    return stream.time + 1 / stream.clock.rate, max(0.0, time.time() - float(notes.get("wall", time.time())))


def source_event(event: SourceEvent, stream: Stream, live: LiveSource) -> Event:
    """An event of the source as a row of plain values."""
    source = {"source": live.source.display_name} if event.kind == "opened" else {}
    return {"event": event.kind, "time": _latest_time(stream), **source, **event.details}


def closed_event(closed: SourceEvent | None, stream: Stream, live: LiveSource, latency: LatencyHistogram) -> Event:
    """The last event. closed: the end of the source, None where the caller stopped it."""
    details = closed.details if closed else {"status": "interrupted", "error": "", "warnings": []}
    return {
        "event": "closed",
        "time": _latest_time(stream),
        "source": live.source.display_name,
        "status": details["status"],
        "seconds": round(stream.time + 1 / stream.clock.rate, 3) if stream.looks else 0.0,
        "looks": stream.looks,
        "dropped": live.dropped,
        "reconnects": live.reconnects,
        "latency_ms": latency.percentiles(),
        "warnings": details["warnings"],
        "error": details["error"],
    }


def _latest_time(stream: Stream) -> float:
    return round(max(0.0, stream.time), 3)
