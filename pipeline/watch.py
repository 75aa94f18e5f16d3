"""A source of pictures -> events as they happen: `unreel watch`.

In: what a user typed. Out: events to `emit`, and by wish a state, an overlay video, a window on the screen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pipeline.checkpoint import load_model
from pipeline.inference.events import Event
from pipeline.inference.predictor import answering_threads
from pipeline.inference.stream import Stream, check_can_stream
from pipeline.inference.watch import follow, resume
from pipeline.media.decode import Backend
from pipeline.media.live import Live
from pipeline.media.source import Source, parse_source
from pipeline.training.runtime import StopSignal, runtime
from pipeline.writers.overlay import Overlay, OverlayFile, Screen


def watch(
    source: str,
    model: Path,
    *,
    emit: Callable[[Event], None],
    device: str = "auto",
    lag: float = 1.0,
    smooth: float = 2.0,
    update: float = 1.0,
    threshold: float = 0.0,
    top: int = 5,
    probabilities: bool = False,
    batch: int = 64,
    patience: float = 20.0,
    give_up: float = 300.0,
    size: str | None = None,
    fps: float | None = None,
    state: Path | None = None,
    overlay: Path | None = None,
    window: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[str, int | None]:
    """Emit the events of a source until it ends: (its status, the signal that ended it). See `unreel watch --help`."""
    what = parse_source(source, size=size, fps=fps)
    checkpoint = load_model(model)
    check_can_stream(checkpoint, is_seen=True)
    encoder, rate = checkpoint.recipe.encoder, checkpoint.recipe.clock.rate
    assert encoder.kind == "frames", "it looks at pictures"
    screens = [*([Screen(what.shown)] if window else []), *([OverlayFile(overlay, fps=rate)] if overlay else [])]
    with runtime(device, answering_threads(checkpoint)) as place, StopSignal() as stop, ExitStack() as ends:
        for screen in screens:
            ends.callback(screen.close)
        stream = Stream(
            checkpoint,
            place.device,
            lag_seconds=lag,
            smooth_seconds=smooth,
            update_seconds=update,
            threshold=threshold,
            top=top,
            probabilities=probabilities or bool(screens),
        )
        if silent := [name for name in stream.model.heads if name not in stream.heads]:
            say(f"silent in a stream: {', '.join(silent)} (unreel predict asks them)")
        live = _live(what, stream, state, backend=encoder.decoder, batch=batch, patience=patience, give_up=give_up)
        paint = Overlay(list(stream.heads), [screen.put for screen in screens])
        status = follow(
            ends.enter_context(live),
            stream,
            batch=batch,
            state=state,
            emit=lambda event: None if event["event"] == "probabilities" and not probabilities else emit(event),
            show=lambda clip, events: paint(clip.times, clip.frames, events) if screens else None,
            is_stopping=lambda: stop.number is not None,
        )
        return status, stop.number


def _live(
    what: Source, stream: Stream, state: Path | None, *, backend: Backend, batch: int, patience: float, give_up: float
) -> Live:
    """The source, from where a saved state of the stream stands."""
    start, elapsed = resume(stream, state, what.shown)
    return Live(
        what,
        clock=stream.clock,
        transform=stream.transform,
        backend=backend,
        capacity=2 * batch,
        patience=patience,
        give_up=give_up,
        start=start,
        elapsed=elapsed,
        is_known=stream.looks > 0,
    )
