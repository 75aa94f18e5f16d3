"""The stages of a folder job, each measured alone in a process of its own: python folder_stages.py STAGE JSON.

In: the name of a stage, and its settings as JSON. Out: one line of JSON on standard output. The stages `decode`, `cnn`
and `core` and the naive loop use nothing of the engine; `job` is the real command, without its start.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint

WARM_UP = 8
"""Clips before the clock starts."""


def measure_decode(clips: Sequence[str], model: str, processes: int) -> dict[str, float]:
    """PyAV and the model's resize, in as many processes as cores; nothing is sent."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(decode_alone, [*clips[:processes], *clips[:processes]], [model] * 2 * processes))  # imports
        started = time.monotonic()
        looks = sum(pool.map(decode_alone, clips, [model] * len(clips)))
        return {"seconds": time.monotonic() - started, "looks": looks}


def decode_alone(path: str, model: str) -> int:
    """Decode one clip; the number of its looks."""
    from pipeline.media.clock import Clock
    from pipeline.media.decode import decode
    from pipeline.media.transform import Transform

    description = json.loads((Path(model) / "model.json").read_text(encoding="utf-8"))["architecture"]
    encoder = description["encoder"]
    transform = Transform(encoder["size"], encoder.get("resize", "fit"))
    return sum(len(clip.times) for clip in decode(path, clock=Clock(description["clock"]["rate"]), transform=transform))


def measure_cnn(looks: int, model: str) -> dict[str, Any]:
    """The compiled CNN on arrays in memory: the best of 1, 2 and 4 requests and of both hints."""
    import torch

    from pipeline.checkpoint import load_model
    from pipeline.encoders.cnn_runtime import CHUNK_SIZE, runtime_name
    from pipeline.encoders.converted_cnn import converted_model
    from pipeline.encoders.frames import FramesEncoder
    from pipeline.libraries import import_openvino

    encoder = load_model(model).model.encoder
    assert isinstance(encoder, FramesEncoder), "the model reads frames"
    precision = runtime_name("auto", torch.device("cpu")).rpartition("-")[2]
    ov, size = import_openvino(), encoder.backbone.size
    pictures = np.random.default_rng(0).integers(0, 255, (4, CHUNK_SIZE, size, size, 3), dtype=np.uint8)
    network = converted_model(encoder.backbone, CHUNK_SIZE)
    rates: dict[str, float] = {}
    for hint in ("THROUGHPUT", "LATENCY"):
        compiled = ov.Core().compile_model(
            network, "CPU", {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision}
        )
        for requests in (1, 2, 4):
            queue = ov.AsyncInferQueue(compiled, requests)
            for num in (4, -(-looks // CHUNK_SIZE)):  # the first is a warm-up
                started = time.monotonic()
                for number in range(num):
                    queue.start_async({0: pictures[number % 4]})
                queue.wait_all()
                rates[f"{hint} {requests}"] = num * CHUNK_SIZE / (time.monotonic() - started)
    best = max(rates, key=lambda name: rates[name])
    return {"seconds": looks / rates[best], "best": best, "rates": rates, "precision": precision}


def measure_core(looks: Sequence[int], model: str) -> dict[str, float]:
    """Core and heads alone, one clip at a time, on one thread."""
    import torch

    from pipeline.checkpoint import load_model
    from pipeline.encoders.frames import FramesEncoder

    checkpoint = load_model(model)
    torch.set_num_threads(1)
    watch = _answer_by_hand(checkpoint)
    encoder = checkpoint.model.encoder
    assert isinstance(encoder, FramesEncoder), "the model reads frames"
    width = encoder.backbone.output_size
    features = np.random.default_rng(0).normal(size=(max(looks), width)).astype(np.float16)
    watch(features[: looks[0]])
    started = time.monotonic()
    for count in looks:
        watch(features[:count])
    return {"seconds": time.monotonic() - started}


def _answer_by_hand(checkpoint: Checkpoint) -> Callable[[np.ndarray], None]:
    """Features (T, D) -> the answers of all heads."""
    import torch

    from pipeline.padded import stack

    model = checkpoint.model.eval()
    names = [name for name, fields in checkpoint.architecture.columns().items() if fields]

    @torch.inference_mode()
    def watch(features: np.ndarray) -> None:
        output = model.watch({"frames": stack([torch.from_numpy(features)])}, None)
        for name in names:
            head = model.head(name)
            head.answer(head.observe(output, None))[0].row(5)

    return watch


def measure_naive(clips: Sequence[str], model: str) -> dict[str, float]:
    """What people write: OpenCV reads in order and keeps the looks; eager timm in float32; the same core and heads."""
    import cv2
    import torch

    from pipeline.checkpoint import load_model
    from pipeline.encoders.frames import FramesEncoder

    checkpoint = load_model(model)
    encoder = checkpoint.model.encoder
    assert isinstance(encoder, FramesEncoder), "the model reads frames"
    backbone, size, rate = encoder.backbone.eval(), encoder.backbone.size, checkpoint.architecture.clock.rate
    watch = _answer_by_hand(checkpoint)

    @torch.inference_mode()
    def answer(path: str) -> None:
        video, kept, count = cv2.VideoCapture(path), [], 0
        step = video.get(cv2.CAP_PROP_FPS) / rate
        while True:
            is_read, frame = video.read()
            if not is_read:
                break
            if count >= len(kept) * step:
                kept.append(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (size, size)))
            count += 1
        features = backbone(torch.from_numpy(np.stack(kept)))
        watch(features.numpy().astype(np.float16))

    for path in clips[:2]:
        answer(path)
    started = time.monotonic()
    for path in clips[2:]:
        answer(path)
    return {"seconds": time.monotonic() - started, "clips": len(clips) - 2}


def measure_job(paths: Sequence[str], model: str, out: str, store: str | None) -> dict[str, float]:
    """`unreel predict`: from the row of the last clip that warms up to the end of the command, files and all."""
    from pipeline.commands.predict import PredictOptions, predict
    from pipeline.training.stop_signal import StopSignal

    times: list[float] = []
    options = PredictOptions(formats=("jsonl", "csv"), store=Path(store) if store else None)
    with StopSignal() as stop:
        counts = predict(
            paths,
            Path(model),
            Path(out),
            options,
            log=lambda line: None,
            on_row=lambda row, done, total: times.append(time.monotonic()),
            stop=stop,
        )
    ended = time.monotonic()
    warm = min(WARM_UP, len(times) // 2)
    assert counts["ok"] == len(times), counts
    return {"seconds": ended - times[warm - 1], "clips": len(times) - warm, "tail": ended - times[-1]}


def measure_looks(paths: Sequence[str], model: str, out: str) -> dict[str, float]:
    """`unreel predict` on few or many files: the seconds after the first answer or the first window, and the looks.

    The clock starts when the CNN gets its first pictures, so a single long video is measured too.
    """
    from pipeline.commands.predict import PredictOptions, predict
    from pipeline.inference.feeder import Feeder
    from pipeline.training.stop_signal import StopSignal

    begun: list[float] = []
    submit = Feeder._submit_pending

    def submit_and_note(self: Feeder) -> None:
        begun.append(time.monotonic())
        submit(self)
        begun[1:] = []

    Feeder._submit_pending = submit_and_note  # type: ignore[method-assign]
    looks: list[int] = []
    options = PredictOptions(formats=("jsonl",))
    with StopSignal() as stop:
        predict(
            paths,
            Path(model),
            Path(out),
            options,
            log=lambda line: None,
            on_row=lambda row, done, total: looks.append(int(row["looks"])),
            stop=stop,
        )
    return {"seconds": time.monotonic() - begun[0], "looks": sum(looks)}


def measure_stored(store: str, model: str) -> dict[str, float]:
    """Reading stored features, core and heads, without a job."""
    import torch
    from safetensors.numpy import load_file

    from pipeline.checkpoint import load_model

    torch.set_num_threads(1)
    watch = _answer_by_hand(load_model(model))
    files = sorted(Path(store).glob("*/*.safetensors"))
    watch(load_file(files[0])["values"])
    started = time.monotonic()
    for file in files:
        watch(load_file(file)["values"])
    return {"seconds": time.monotonic() - started, "clips": len(files)}


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "decode": measure_decode,
    "cnn": measure_cnn,
    "core": measure_core,
    "naive": measure_naive,
    "job": measure_job,
    "looks": measure_looks,
    "stored": measure_stored,
}

if __name__ == "__main__":
    print(json.dumps(STAGES[sys.argv[1]](**json.loads(sys.argv[2]))))
