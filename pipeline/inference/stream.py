"""A trained model and an endless stream -> events while it runs.

In: a checkpoint, and windows of frames (or of features) in order. Out: events. The state can be saved to a file and
loaded, so that a restart continues where it stopped. Knows nothing of the source of the frames or of the use of the
events.
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

from pipeline.atomic import write_atomic
from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.inference.events import Event, EventBuilder
from pipeline.inference.predictor import Predictor
from pipeline.media.clip import Clip
from pipeline.media.transform import Transform
from pipeline.models.head import OnlineLabels, StreamingHead, StreamMemory
from pipeline.models.prediction import Prediction
from pipeline.models.recurrent.core import State
from pipeline.padded import stack

FORMAT = 3  # of the state file


class Stream:
    """Reads the windows of one stream and returns its events.

        stream = Stream(load_model("runs/demo/run"), torch.device("cpu"))
        for event in stream(decode("a.mp4", clock=stream.clock, transform=stream.transform)):
            print(event)

    Windows may have any size: the core steps look by look, and the features of a frame do not depend on its neighbours,
    so the events are bit-equal. Memory does not grow with the stream.

    Args:
        lag_seconds: how much later than its look a label may be decided, in heads that use later looks (segment).
        smooth_seconds: over how long scores are averaged, in heads without a temporal model of the labels (classify).
        update_seconds: the time between updates of a current action; 0 for no updates.
        threshold: a look whose best class has a lower score shows no action.
        top: how many classes an answer lists. probabilities: also return the best classes of every look.
    Raises ModelError for a model that cannot stream, ValueError for wrong arguments.
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
        self.heads: dict[str, StreamingHead] = {
            name: head for name in self.model.heads if isinstance(head := self.model.head(name), StreamingHead)
        }
        for name, head in self.heads.items():
            if head.delay_steps > self.lag:
                delay = head.delay_steps / self.clock.rate
                raise ValueError(
                    f"lag is {lag_seconds:g} seconds, and '{name}' was trained to label a look {delay:g} seconds later "
                    "(delay_seconds). Give a lag of at least that."
                )
        self.looks, self.time = 0, -1.0  # how many so far, the time of the latest
        self._fingerprint = checkpoint.fingerprint()
        self._core_state: State | None = None
        self._memories: dict[str, StreamMemory] = {}
        self._pending: dict[str, deque[float]] = {name: deque() for name in self.heads}  # looks without a label so far
        self._tracker_settings: dict[str, float] = {
            "period": 1.0 / self.clock.rate,
            "update_seconds": update_seconds,
            "threshold": threshold,
        }
        self._trackers = {name: self._new_tracker(name) for name in self.heads}

    @property
    def transform(self) -> Transform:
        """The resize of this model: a frame of any size -> (S, S, 3)."""
        section = self.checkpoint.architecture.encoder
        assert section.kind == "frames", "only frames are resized"
        return section.transform()

    def __call__(self, windows: Iterable[Clip]) -> Iterator[Event]:
        """All events of a stream that ends with the last window."""
        for clip in windows:
            yield from self.watch(clip)
        yield from self.finish()

    def watch(self, clip: Clip) -> list[Event]:
        """The events of one window (T, S, S, 3), T of any size. Its times are on the model's clock, later than before.

        Raises ValueError for frames of another size or type, and for times that are not later.
        """
        section = self.checkpoint.architecture.encoder
        shape = (section.size, section.size, 3) if section.kind == "frames" else None
        if clip.frames.dtype != np.uint8 or clip.frames.shape[1:] != shape:
            raise ValueError(
                f"The frames are {clip.frames.dtype} {clip.frames.shape}. This model reads uint8 frames of shape "
                f"{shape}. Resize them with stream.transform."
            )
        if not len(clip.times):
            return []
        return self.watch_features(self.predictor.extractor(clip.frames).astype(np.float16), clip.times)

    @torch.inference_mode()
    def watch_features(self, features: np.ndarray, times: np.ndarray) -> list[Event]:
        """The events of what the core reads: features of frames or a series, (T, D), at the looks `times` (T,)."""
        events: list[Event] = []
        sense = self.checkpoint.architecture.encoder.kind
        for step, time in zip(features, times.tolist(), strict=True):
            if not time > self.time:
                raise ValueError(
                    f"A look at {time:.3f} s came after one at {self.time:.3f} s. Looks come in order. "
                    "Begin a new Stream for a new video."
                )
            window = stack([torch.from_numpy(step[None])]).to(self.device)
            output = self.model.watch({sense: window}, self._core_state)
            self._core_state, self.time, self.looks = output.state, time, self.looks + 1
            for name, head in self.heads.items():
                memory, labels = head.stream(output, self._memories.get(name), lag=self.lag, smooth=self.smooth)
                self._memories[name] = memory
                self._pending[name].append(time)
                events += self._label_events(name, labels, self._trackers[name], self._pending[name])
        return events

    def finish(self, *, is_interrupted: bool = False) -> list[Event]:
        """The last events and the answers about the whole, if the stream ended here. Changes nothing: it may continue.

        is_interrupted: mark the events as interrupted, because they are replaced when the stream continues.
        """
        events: list[Event] = []
        answers: dict[str, Prediction] = {}
        for name, head in self.heads.items():
            if name not in self._memories:
                continue
            with torch.inference_mode():
                labels, answer = head.finish_stream(self._memories[name], lag=self.lag)
            tracker = self._new_tracker(name)
            tracker.restore(self._trackers[name].state())
            events += self._label_events(name, labels, tracker, deque(self._pending[name]))
            events += tracker.finish(self.time)
            answers |= {name: answer} if answer is not None else {}
        time = round(self.time, 3)
        events += [{"event": "answer", "time": time, "head": n, **a.row(self.top)} for n, a in answers.items()]
        return [{**event, "interrupted": True} for event in events] if is_interrupted else events

    def _new_tracker(self, name: str) -> EventBuilder:
        return EventBuilder(name, **self._tracker_settings)

    def _label_events(
        self, name: str, online: OnlineLabels, tracker: EventBuilder, pending: deque[float]
    ) -> list[Event]:
        """The events of the looks that a head has labelled. Removes these looks from `pending`."""
        events: list[Event] = []
        classes = self.checkpoint.vocabularies[name].names
        for index, scores in zip(online.labels.tolist(), online.scores.float().cpu(), strict=True):
            look = pending.popleft()
            label, score = (classes[index], float(scores[index])) if index >= 0 else (None, 0.0)
            if self.probabilities:
                best = scores.topk(min(self.top, len(classes)))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                top = [{"label": classes[i], "score": round(value, 6)} for i, value in pairs]
                event = {"event": "probabilities", "time": round(self.time, 3), "head": name}
                events.append({**event, "look": round(look, 3), "label": label, "top": top})
            events += tracker.add_look(look, label, score, self.time)
        return events

    def save_state(self, path: Path, notes: Mapping[str, Any] | None = None) -> None:
        """Write everything that it remembers to one safetensors file, atomically.

        notes: plain values to keep with it, such as the name of the source.
        """
        tensors = {f"core/{i}": tensor for i, tensor in enumerate(self._core_state or ())}
        for name, memory in self._memories.items():
            tensors |= {f"head/{name}/{key}": tensor for key, tensor in memory.items()}
            tensors[f"pending/{name}"] = torch.tensor(list(self._pending[name]), dtype=torch.float64)
        header = {
            **self._identity(),
            "time": self.time,
            "looks": self.looks,
            "notes": dict(notes or {}),
            "actions": {name: tracker.state() for name, tracker in self._trackers.items()},
        }
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        write_atomic(path, save(tensors, {"unreel": json.dumps(header)}))

    def load_state(self, path: Path) -> dict[str, Any]:
        """Continue from a file of `save_state`. Returns its notes.

        Raises ValueError for a file that is no state, and for a state of another model or of other settings.
        """
        header, tensors = read_state(path)
        for key, value in self._identity().items():
            if header.get(key) != value:
                raise ValueError(_MISMATCHES[key].format(path=path, saved=header.get(key), current=value))
        try:
            count = sum(name.startswith("core/") for name in tensors)
            self._core_state = tuple(tensors[f"core/{i}"].to(self.device) for i in range(count)) or None
            self._memories = {}
            for name in self.heads if count else ():
                prefix = f"head/{name}/"
                self._memories[name] = {
                    key.removeprefix(prefix): tensor.to(self.device)
                    for key, tensor in tensors.items()
                    if key.startswith(prefix)
                }
                self._pending[name] = deque(tensors[f"pending/{name}"].tolist())
            for name, tracker in self._trackers.items():
                tracker.restore(header["actions"][name])
            self.time, self.looks = float(header["time"]), int(header["looks"])
            return dict(header["notes"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is a damaged state ({error!r}). Delete it to begin anew.") from None

    def _identity(self) -> dict[str, Any]:
        """The values that a saved state must share with the stream that continues it."""
        return {
            "format": FORMAT,
            "model": self._fingerprint,
            "rate": self.clock.rate,
            "lag": self.lag,
            "smooth": self.smooth,
        }


_MISMATCHES = {
    "format": "'{path}' is a state of format {saved}; this version reads {current}. Delete it to begin anew.",
    "model": "'{path}' is the state of another model ({saved}, and this one is {current}). Give the model that it was "
    "saved with, or another file to begin anew.",
    "rate": "'{path}' was saved at {saved} looks a second, and this model takes {current}. Give another file.",
    "lag": "'{path}' was saved with a lag of {saved} looks, and now it is {current}. Give the same --lag, or another "
    "file.",
    "smooth": "'{path}' was saved with scores smoothed over {saved} looks, and now it is {current}. Give the same "
    "--smooth, or another file.",
}


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a state file. Raises ValueError for any other file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["unreel"])
            if isinstance(header, dict):
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        problem = "it is not an object"
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    raise ValueError(f"'{path}' is no saved state ({problem}). Give another file; it is made when it is missing.")


def check_can_stream(checkpoint: Checkpoint, *, needs_frames: bool = False) -> None:
    """Raises ModelError for a model that cannot answer before the end. needs_frames: it must also read frames."""
    if not checkpoint.model.core.is_causal:
        raise ModelError(
            "This model's core is bidirectional: it reads the end of a video first, so it cannot stream. Use unreel "
            "predict, or train with core.bidirectional=false."
        )
    if not any(isinstance(checkpoint.model.head(name), StreamingHead) for name in checkpoint.model.heads):
        raise ModelError(
            f"None of this model's heads ({', '.join(checkpoint.model.heads)}) can answer before the end. Use unreel "
            "predict, or train a head that classifies or segments."
        )
    kind = checkpoint.architecture.encoder.kind
    if needs_frames and kind != "frames":
        raise ModelError(
            f"This model reads stored {kind}, and a stream brings frames. Use unreel predict on .npy files, or a model "
            "with encoder.kind = frames."
        )
