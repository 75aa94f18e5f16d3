"""Labels of looks, one after another -> events: an action starts, goes on, ends.

In: (time, label, score) of every look, in order. Out: events as plain values, in seconds and names. Remembers the action
that goes on and nothing more, whatever the length of the stream. Knows nothing of models, tensors or video.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Event = dict[str, Any]
"""{"event": kind, "time": when it was decided, ...}, in seconds since the first frame; one line of JSON."""

HOLE_SECONDS = 5.0  # between two looks (and 2.5 periods): nobody watched, so nothing went on


@dataclass(frozen=True)
class Action:
    """What goes on: its name, its first look, the sum and number of its looks' scores, when it was last spoken of."""

    label: str
    start: float
    total: float
    looks: int
    told: float


class Events:
    """The events of one head.

    period: seconds from look to look; update_seconds: how often an action that goes on is told, 0 for never; threshold:
    a look whose best class scores below it shows no action.

    An action is a run of looks with one label. It starts at its first look and ends where the next label's first look is,
    or one period after its last look where the stream ends or has a hole.
    """

    def __init__(self, head: str, *, period: float, update_seconds: float, threshold: float) -> None:
        self.head, self.period = head, period
        self.update_seconds, self.threshold = update_seconds, threshold
        self.action: Action | None = None
        self.last: float | None = None

    def see(self, time: float, label: str | None, score: float, now: float) -> list[Event]:
        """One look's label (None: nothing happens), decided at `now`."""
        events: list[Event] = []
        label = None if score < self.threshold else label
        if self.last is not None and time - self.last > max(HOLE_SECONDS, 2.5 * self.period):
            events += self.finish(now)
            self.action = None
        if self.action and label == self.action.label:
            a = self.action
            self.action = Action(a.label, a.start, a.total + score, a.looks + 1, a.told)
        else:
            events += [self._event("end", now, time)] if self.action else []
            self.action = Action(label, time, score, 1, time) if label is not None else None
            events += [self._event("start", now, None)] if self.action else []
        self.last = time
        if self.action and self.update_seconds and time - self.action.told >= self.update_seconds - 1e-6:
            a = self.action
            self.action = Action(a.label, a.start, a.total, a.looks, time)
            events.append(self._event("update", now, time + self.period))
        return events

    def finish(self, now: float) -> list[Event]:
        """The end of what goes on, if the stream ended here. Changes nothing."""
        return [self._event("end", now, (self.last or 0.0) + self.period)] if self.action else []

    def _event(self, kind: str, now: float, end: float | None) -> Event:
        assert self.action
        span = {"start": round(self.action.start, 3)} | ({} if end is None else {"end": round(end, 3)})
        score = round(self.action.total / self.action.looks, 6)
        return {
            "event": kind, "time": round(now, 3), "head": self.head, "label": self.action.label, **span, "score": score
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All it remembers, as plain values."""
        return {"last": self.last, "action": asdict(self.action) if self.action else None}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.last = state["last"]
        self.action = Action(**state["action"]) if state["action"] else None
