"""`unreel watch`: the events of a file, a camera, an address or a pipe, while they happen.

In: a source as people write it, and a model folder. Out: events to `emit`; optionally a saved state, an overlay video
and a window on the screen. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pipeline.checkpoint import Checkpoint, load_model
from pipeline.inference.events import Event
from pipeline.inference.live_stream import live_events, resume
from pipeline.inference.predictor import answering_threads
from pipeline.inference.stream import Stream, check_can_stream
from pipeline.media.live import LiveSource
from pipeline.media.stream_source import StreamSource, parse_source
from pipeline.training.distributed import distributed
from pipeline.training.stop_signal import StopSignal
from pipeline.writers.overlay import Overlay, OverlayFile, OverlayWindow


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
    log: Callable[[str], None] = lambda line: None,
) -> tuple[str, int | None]:
    """Emit the events of a source until it ends: (its status, the signal that ended it or None).

    The options are those of `unreel watch --help`. Raises ModelError for a model that cannot stream, ValueError for
    options that are impossible.
    """
    stream_source = parse_source(source, size=size, fps=fps)
    checkpoint = load_model(model)
    check_can_stream(checkpoint, needs_frames=True)
    outputs = _open_outputs(stream_source, checkpoint, overlay, window)
    with distributed(device, answering_threads(checkpoint)) as context, StopSignal() as stop, ExitStack() as stack:
        for output in outputs:
            stack.callback(output.close)
        stream = Stream(
            checkpoint,
            context.device,
            lag_seconds=lag,
            smooth_seconds=smooth,
            update_seconds=update,
            threshold=threshold,
            top=top,
            probabilities=probabilities or bool(outputs),
        )
        if omitted := [name for name in stream.model.heads if name not in stream.heads]:
            log(f"heads without events in a stream: {', '.join(omitted)} (unreel predict gives their answers)")
        live = open_live(stream_source, stream, state=state, batch=batch, patience=patience, give_up=give_up)
        draw = Overlay(list(stream.heads), [output.put for output in outputs])
        event: Event = {}
        for event in live_events(
            stack.enter_context(live),
            stream,
            batch=batch,
            state=state,
            on_window=lambda clip, events: draw(clip.times, clip.frames, events) if outputs else None,
            is_stopping=lambda: stop.number is not None,
        ):
            if event["event"] != "probabilities" or probabilities:
                emit(event)
        return event["status"], stop.number  # the last event is "closed"


def _open_outputs(
    source: StreamSource, checkpoint: Checkpoint, overlay: Path | None, window: bool
) -> list[OverlayFile | OverlayWindow]:
    """Where frames with the answers drawn on them go. Raises ValueError for what cannot be opened."""
    outputs: list[OverlayFile | OverlayWindow] = [OverlayWindow(source.display_name)] if window else []
    return outputs + ([OverlayFile(overlay, fps=checkpoint.architecture.clock.rate)] if overlay else [])


def open_live(
    source: str | StreamSource,
    stream: Stream,
    *,
    state: Path | None = None,
    batch: int = 64,
    patience: float = 20.0,
    give_up: float = 300.0,
) -> LiveSource:
    """The frames of a source, from where a saved state of the stream ends. The decoder starts in its `with` block.

    source: a file, the index of a camera, an address or "-", as text or parsed. batch: most looks of one window.
    patience, give_up: seconds, as in `LiveSource`. Raises ValueError for a source or a state that cannot be used.
    """
    if isinstance(source, str):
        source = parse_source(source)
    encoder = stream.checkpoint.architecture.encoder
    assert encoder.kind == "frames", "check_can_stream lets only models of frames pass"
    start, elapsed = resume(stream, state, source.display_name)
    return LiveSource(
        source,
        clock=stream.clock,
        transform=stream.transform,
        backend=encoder.decoder,
        capacity=2 * batch,
        patience=patience,
        give_up=give_up,
        start=start,
        elapsed=elapsed,
        is_known=stream.looks > 0,
    )
