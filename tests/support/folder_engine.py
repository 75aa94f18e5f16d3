"""What the tests of the folder engine share: a model of three heads, answers without the engine, a CNN out of order.

In: predictors and files. Out: answers.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from pool_in_process import PoolInProcess
from streaming import CPU, NAMES

from pipeline.checkpoint import Checkpoint
from pipeline.config.architecture import Architecture
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.frames import FramesEncoder
from pipeline.inference.answer import Answer
from pipeline.inference.engine import FileAnswers, decode_settings, feature_source
from pipeline.inference.feeder import FeatureSource
from pipeline.inference.predictor import Predictor, SequencePredictor
from pipeline.media.damage import add_damage
from pipeline.media.decode import decode
from pipeline.media.folder import InputFile
from pipeline.media.sniff import MediaError

HEADS = {
    "action": {"pool": "attention"},
    "timeline": {"kind": "segment"},
    "caption": {"kind": "caption", "hidden": 8, "embedding": 8, "max_length": 6, "segment_head": "timeline"},
}


def make_model(*, bidirectional: bool) -> Checkpoint:
    """A model of frames of 32 x 32 pixels with three heads and random weights."""
    encoder = {"size": 32, "runtime": "torch", "weights": "none", "project": 8, "grid": 1}
    architecture = Architecture.model_validate(
        {"encoder": encoder, "core": {"hidden": 8, "bidirectional": bidirectional}, "heads": HEADS}
    )
    vocabularies = {
        "action": Vocabulary(NAMES),
        "timeline": Vocabulary(("background", *NAMES)),
        "caption": Tokenizer.train(["someone runs", "a person sits down"]),
    }
    torch.manual_seed(3)
    model = architecture.build(vocabularies).eval()
    with torch.no_grad():
        model.get_parameter("heads.timeline.emission.weight").mul_(30)
        model.get_parameter("heads.action.logits.weight").mul_(20)
    return Checkpoint(model, architecture, vocabularies, None, {})


def left_over() -> list[str]:
    """The threads and workers of a job that are still there."""
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("unreel-")]
    processes = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, timeout=60).stdout
    workers = [line for line in processes.splitlines() if line.split()[0] == str(os.getpid()) and "worker" in line]
    return threads + workers


def one_by_one(predictor: Predictor, file: InputFile) -> Answer:
    """The answer for a video without the engine: decode it, compute its features, read them."""
    section = predictor.checkpoint.architecture.encoder
    assert section.kind == "frames"
    sequence, last, warnings = SequencePredictor(predictor, "frames"), 0.0, ()
    try:
        for clip in decode(file.path, clock=predictor.clock, transform=section.transform(), backend=section.decoder):
            warnings, last = clip.warnings, float(clip.times[-1])
            sequence.add(predictor.extractor(clip.frames).astype(np.float16))
    except MediaError as error:
        return Answer(error.status, error=str(error), path=file.name)
    return predictor.video_answer(sequence, last, add_damage(file.path, warnings), file.name)


def answers_of(answers: FileAnswers) -> dict[str, Answer]:
    """By name; each file has one answer."""
    with answers:
        found = list(answers)
    by_name = {one.file.name: one.answer for one in found}
    assert len(by_name) == len(found)
    return by_name


def source_of(predictor: Predictor) -> FeatureSource:
    section = predictor.checkpoint.architecture.encoder
    assert section.kind == "frames"
    return feature_source(predictor, section, hash_content=True)


def in_process(predictor: Predictor, num_workers: int = 3, **options: int) -> PoolInProcess:
    section = predictor.checkpoint.architecture.encoder
    assert section.kind == "frames"
    return PoolInProcess(num_workers, decode_settings(section, predictor.clock.rate, hash_content=False), **options)


class Shuffled:
    """Requests of the CNN that end in a random order, some of them late."""

    def __init__(self, predictor: Predictor, *, is_shuffled: bool = True) -> None:
        encoder = predictor.model.encoder
        assert isinstance(encoder, FramesEncoder)
        self.requests = predictor.checkpoint.architecture.build_feature_requests(CPU, encoder.backbone)
        self.random, self.is_shuffled = random.Random(0), is_shuffled
        self.request_size, self.output_size = self.requests.request_size, self.requests.output_size
        self.num_frames = self.num_requests = 0
        self.done: list[Callable[[], None]] = []

    def submit(self, frames: Sequence[np.ndarray], on_done: Callable[[np.ndarray], None]) -> None:
        self.num_frames, self.num_requests = self.num_frames + len(frames), self.num_requests + 1
        self.requests.submit(frames, lambda features: self.done.append(partial(on_done, features)))
        while len(self.done) > 4:
            self.done.pop(self.random.randrange(len(self.done)) if self.is_shuffled else 0)()

    def wait(self) -> None:
        self.requests.wait()
        self.random.shuffle(self.done)
        while self.done:
            self.done.pop()()
