"""A trained model and a stream without end -> events while they happen.

In: a checkpoint, windows of frames (or of features) in order. Out: events. The state goes in and out of a file, so that a
restart goes on where it was. Knows nothing of where frames come from or where events go.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.inference.events import Event, Events
from pipeline.inference.predictor import Predictor
from pipeline.media.clip import Clip
from pipeline.media.transform import Transform
from pipeline.models.core import State
from pipeline.models.head import Decided, Follower, Following
from pipeline.models.prediction import Prediction
from pipeline.padded import stack
from pipeline.whole import write_whole

FORMAT = 2


class Stream:
    """Watches windows of one stream.

        stream = Stream(load_model("runs/demo/run"), torch.device("cpu"))
        for event in stream(decode("a.mp4", clock=stream.clock, transform=stream.transform)):
            print(event)

    Looks may come in windows of any size: the core steps look by look and the CNN's features do not depend on their
    neighbours, so the events are the same to the last bit. Memory does not grow with the stream.

    Args:
        lag_seconds: how much later than its look a label may be decided, by heads that join labels in time (segment).
        smooth_seconds: over how long scores are averaged, by heads that do not (classify).
        update_seconds: how often an action that goes on is told; 0 is never.
        threshold: looks whose best class scores below it show no action.
        top: how many classes an answer lists. probabilities: tell the best classes of every look too.
    Raises ModelError for a model that cannot stream, ValueError for arguments that make no sense.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        lag_seconds: float = 1.0,
        smooth_seconds: float = 2.0,
        update_seconds: float = 1.0,
        threshold: float = 0.0,
        top: int = 5,
        probabilities: bool = False,
    ) -> None:
        check_can_stream(checkpoint)
        for name, value in (("lag", lag_seconds), ("smooth", smooth_seconds), ("update", update_seconds)):
            if not 0 <= value < float("inf"):
                raise ValueError(
                    f"{name} is {value} seconds. It is a number of seconds, 0 or more. Give for example 1."
                )
        self.checkpoint, self.predictor = checkpoint, Predictor(checkpoint, device)
        self.model, self.clock, self.device = self.predictor.model, self.predictor.clock, device
        self.top, self.probabilities = top, probabilities
        self.lag = round(lag_seconds * self.clock.rate)  # looks
        self.smooth = max(1, round(smooth_seconds * self.clock.rate))  # looks
        self.heads: dict[str, Follower] = {
            name: head for name in self.model.heads if isinstance(head := self.model.head(name), Follower)
        }
        for name, head in self.heads.items():
            if head.delay_steps > self.lag:
                raise ValueError(
                    f"lag is {lag_seconds:g} seconds, and '{name}' was trained to say a label "
                    f"{head.delay_steps / self.clock.rate:g} seconds later (delay_seconds). Give a lag of at least that."
                )
        self.looks, self.time = 0, -1.0
        self._fingerprint = checkpoint.fingerprint()
        self._state: State | None = None
        self._memories: dict[str, Following] = {}
        self._waiting: dict[str, deque[float]] = {name: deque() for name in self.heads}
        rules: dict[str, Any] = {"update_seconds": update_seconds, "threshold": threshold}
        self._events = {name: Events(name, period=1.0 / self.clock.rate, **rules) for name in self.heads}

    @property
    def transform(self) -> Transform:
        """The one resize of this model: any frame -> (S, S, 3)."""
        section = self.checkpoint.recipe.encoder
        assert section.kind == "frames", "only frames are resized"
        return section.transform()

    def __call__(self, frames: Iterable[Clip]) -> Iterator[Event]:
        """The events of a stream that ends with its windows."""
        for clip in frames:
            yield from self.watch(clip)
        yield from self.finish()

    def watch(self, clip: Clip) -> list[Event]:
        """One window (T, S, S, 3), T of any size; times on the model's clock, behind those seen before."""
        section = self.checkpoint.recipe.encoder
        wanted = (section.size, section.size, 3) if section.kind == "frames" else None
        if clip.frames.dtype != np.uint8 or clip.frames.shape[1:] != wanted:
            raise ValueError(
                f"The frames are {clip.frames.dtype} {clip.frames.shape}. This model looks at uint8 pictures of shape "
                f"{wanted}. Resize them with stream.transform."
            )
        return self.follow(self.predictor.look(clip.frames).astype(np.float16), clip.times) if len(clip.times) else []

    @torch.inference_mode()
    def follow(self, values: np.ndarray, times: np.ndarray) -> list[Event]:
        """The same for what the core reads: features of frames or a series, (T, D), looked at `times` (T,)."""
        events: list[Event] = []
        sense = self.checkpoint.recipe.encoder.kind
        for value, time in zip(values, times.tolist(), strict=True):
            if not time > self.time:
                raise ValueError(
                    f"A look at {time:.3f} s came after one at {self.time:.3f} s. Looks come in order. "
                    "Begin a new Stream for a new video."
                )
            seen = self.model.watch({sense: stack([torch.from_numpy(value[None])]).to(self.device)}, self._state)
            self._state, self.time, self.looks = seen.state, time, self.looks + 1
            for name, head in self.heads.items():
                memory, decided = head.follow(seen, self._memories.get(name), lag=self.lag, smooth=self.smooth)
                self._memories[name] = memory
                self._waiting[name].append(time)
                events += self._tell(name, decided, self._events[name], self._waiting[name])
        return events

    def finish(self, *, is_interrupted: bool = False) -> list[Event]:
        """The last events and the answers about the whole, if the stream ended here. Changes nothing: it may go on.
        is_interrupted: the events say so, because going on will replace them.
        """
        events: list[Event] = []
        answers: dict[str, Prediction] = {}
        for name, head in self.heads.items():
            if name not in self._memories:
                continue
            with torch.inference_mode():
                decided, answer = head.conclude(self._memories[name], lag=self.lag)
            last = Events(name, **self._rules(name))
            last.restore(self._events[name].state())
            events += self._tell(name, decided, last, deque(self._waiting[name]))
            events += last.finish(self.time)
            answers |= {name: answer} if answer is not None else {}
        time = round(self.time, 3)
        events += [{"event": "answer", "time": time, "head": n, **a.row(self.top)} for n, a in answers.items()]
        return [{**event, "interrupted": True} for event in events] if is_interrupted else events

    def _rules(self, name: str) -> dict[str, float]:
        e = self._events[name]
        return {"period": e.period, "update_seconds": e.update_seconds, "threshold": e.threshold}

    def _tell(self, name: str, decided: Decided, events: Events, waiting: deque[float]) -> list[Event]:
        """The events of the looks that a head has decided; their times stop waiting."""
        told: list[Event] = []
        names = self.checkpoint.vocabularies[name].names
        for index, scores in zip(decided.labels.tolist(), decided.scores.float().cpu(), strict=True):
            time = waiting.popleft()
            label, score = (names[index], float(scores[index])) if index >= 0 else (None, 0.0)
            if self.probabilities:
                best = scores.topk(min(self.top, len(names)))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                listed = [{"label": names[i], "score": round(s, 6)} for i, s in pairs]
                told.append({
                    "event": "probabilities", "time": round(self.time, 3), "head": name, "look": round(time, 3),
                    "label": label, "top": listed,
                })  # fmt: skip
            told += events.see(time, label, score, self.time)
        return told

    def save_state(self, path: Path, notes: Mapping[str, Any] | None = None) -> None:
        """All that it remembers, as one safetensors file that appears whole or not at all. notes: plain values to keep
        beside it, such as the name of the source.
        """
        tensors = {f"core/{i}": t for i, t in enumerate(self._state or ())}
        for name, memory in self._memories.items():
            tensors |= {f"head/{name}/{key}": t for key, t in memory.items()}
            tensors[f"waiting/{name}"] = torch.tensor(list(self._waiting[name]), dtype=torch.float64)
        about = {
            **self._identity(), "time": self.time, "looks": self.looks, "notes": dict(notes or {}),
            "events": {name: events.state() for name, events in self._events.items()},
        }  # fmt: skip
        data = save(
            {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}, {"unreel": json.dumps(about)}
        )
        write_whole(path, data)

    def load_state(self, path: Path) -> dict[str, Any]:
        """Go on from a file of `save_state`; returns its notes. Raises ValueError for a file that is no state, or that
        of another model or of other settings.
        """
        about, tensors = read_state(path)
        for key, value in self._identity().items():
            if about.get(key) != value:
                raise ValueError(_DIFFERENT[key].format(path=path, found=about.get(key), wanted=value))
        try:
            count = sum(name.startswith("core/") for name in tensors)
            self._state = tuple(tensors[f"core/{i}"].to(self.device) for i in range(count)) or None
            self._memories = {}
            for name in self.heads if count else ():
                start = f"head/{name}/"
                self._memories[name] = {
                    k.removeprefix(start): t.to(self.device) for k, t in tensors.items() if k.startswith(start)
                }
                self._waiting[name] = deque(tensors[f"waiting/{name}"].tolist())
            for name, events in self._events.items():
                events.restore(about["events"][name])
            self.time, self.looks = float(about["time"]), int(about["looks"])
            return dict(about["notes"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is a damaged state ({error!r}). Delete it to begin anew.") from None

    def _identity(self) -> dict[str, Any]:
        """What a state must agree on with the one who goes on from it."""
        return {
            "format": FORMAT, "model": self._fingerprint, "rate": self.clock.rate, "lag": self.lag, "smooth": self.smooth
        }  # fmt: skip


_DIFFERENT = {
    "format": "'{path}' is a state of format {found}; this version reads {wanted}. Delete it to begin anew.",
    "model": "'{path}' is the state of another model ({found}, and this one is {wanted}). Give the model that it was saved "
    "with, or another file to begin anew.",
    "rate": "'{path}' was saved at {found} looks a second, and this model takes {wanted}. Give another file.",
    "lag": "'{path}' was saved with a lag of {found} looks, and now it is {wanted}. Give the same --lag, or another file.",
    "smooth": "'{path}' was saved with scores smoothed over {found} looks, and now it is {wanted}. Give the same --smooth, "
    "or another file.",
}


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a state's file says and holds. Raises ValueError for any other file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})["unreel"])
            if isinstance(about, dict):
                return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        problem = "it is not an object"
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    raise ValueError(f"'{path}' is no saved state ({problem}). Give another file; it is made when it is missing.")


def check_can_stream(checkpoint: Checkpoint, *, is_seen: bool = False) -> None:
    """Raises ModelError, in a sentence, for a model that cannot say anything before the end. is_seen: it must look at
    pictures too.
    """
    if not checkpoint.model.core.is_causal:
        raise ModelError(
            "This model's core is bidirectional: it reads the end of a video first, so it cannot stream. Use unreel "
            "predict, or train with core.bidirectional=false."
        )
    if not any(isinstance(checkpoint.model.head(name), Follower) for name in checkpoint.model.heads):
        raise ModelError(
            f"None of this model's heads ({', '.join(checkpoint.model.heads)}) can say anything before the end. Use unreel "
            "predict, or train one that classifies or segments."
        )
    if is_seen and checkpoint.recipe.encoder.kind != "frames":
        raise ModelError(
            f"This model reads stored {checkpoint.recipe.encoder.kind}, and a stream brings pictures. Use unreel predict on "
            ".npy files, or a model with encoder.kind = frames."
        )
