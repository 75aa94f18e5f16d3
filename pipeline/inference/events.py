"""Labels of looks, one after another -> events: an action starts, continues, ends.

In: (time, label, score) of every look, in order. Out: events as plain values, in seconds and names. It remembers the
current action and nothing more, whatever the length of the stream. Knows nothing of models, tensors or video.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

Event = dict[str, Any]
"""{"event": kind, "time": when it was decided, ...}, in seconds since the first frame; one line of JSON."""

MAX_GAP_SECONDS = 5.0  # between two looks; after a longer gap (and one of 2.5 periods) an action does not continue


@dataclass(frozen=True)
class Action:
    """The current action: its label, its first look, the sum and number of its scores, the time of its last update."""

    label: str
    start: float
    score_sum: float
    num_looks: int
    last_update: float

    @property
    def score(self) -> float:
        """The mean score of its looks."""
        return self.score_sum / self.num_looks


class EventBuilder:
    """The events of one head.

    An action is a run of looks with one label. It starts at its first look. It ends at the first look of the next
    label, or one period after its last look where the stream ends or has a gap.

    period: seconds from look to look. update_seconds: the time between updates of a current action; 0 for no updates.
    threshold: a look with a score below it shows no action.
    """

    def __init__(self, head: str, *, period: float, update_seconds: float, threshold: float) -> None:
        self.head, self.period = head, period
        self.update_seconds, self.threshold = update_seconds, threshold
        self.action: Action | None = None
        self.last_look: float | None = None

    def add_look(self, time: float, label: str | None, score: float, now: float) -> list[Event]:
        """The events of one look. label: None for no action. now: when the label was decided."""
        events: list[Event] = []
        label = None if score < self.threshold else label
        if self.last_look is not None and time - self.last_look > max(MAX_GAP_SECONDS, 2.5 * self.period):
            events += self.finish(now)
            self.action = None
        if self.action and label == self.action.label:
            score_sum, num_looks = self.action.score_sum + score, self.action.num_looks + 1
            self.action = replace(self.action, score_sum=score_sum, num_looks=num_looks)
        else:
            events += [self._event("end", now, time)] if self.action else []
            self.action = Action(label, time, score, 1, time) if label is not None else None
            events += [self._event("start", now, None)] if self.action else []
        self.last_look = time
        if self.action and self.update_seconds and time - self.action.last_update >= self.update_seconds - 1e-6:
            self.action = replace(self.action, last_update=time)
            events.append(self._event("update", now, time + self.period))
        return events

    def finish(self, now: float) -> list[Event]:
        """The end of the current action, if the stream ended here. Changes nothing."""
        return [self._event("end", now, (self.last_look or 0.0) + self.period)] if self.action else []

    def _event(self, kind: str, now: float, end: float | None) -> Event:
        assert self.action
        return {
            "event": kind,
            "time": round(now, 3),
            "head": self.head,
            "label": self.action.label,
            "start": round(self.action.start, 3),
            **({} if end is None else {"end": round(end, 3)}),
            "score": round(self.action.score, 6),
        }

    def state(self) -> dict[str, Any]:
        """Everything that it remembers, as plain values."""
        return {"last_look": self.last_look, "action": asdict(self.action) if self.action else None}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.last_look = state["last_look"]
        self.action = Action(**state["action"]) if state["action"] else None
