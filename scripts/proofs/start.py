"""Proof `start`: a command answers soon after it is typed, and refuses a missing input before torch is imported.

In: a clip of 28 looks, cut from the real data. Out: the time until `unreel predict` prints the first row, beside a bare
process that imports torch, decodes and resizes, plus the time of the compiled CNN.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import proof_tools
import torch
from folder_clips import cut_clips

from pipeline.checkpoint import Checkpoint, load_model, save_model
from pipeline.config.architecture import Architecture
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.cnn_runtime import FeatureExtractor
from pipeline.encoders.frames import FramesEncoder

RATIO, ROUNDS, SECONDS, LOOKS = 1.5, 9, 7.0, 28
TIMEOUT = 300.0
NOT_NEEDED = ("timm", "torch._dynamo", "torch._inductor", "pandas", "pyarrow", "transformers", "wandb", "torchvision")
"""Packages that an answer by a model whose CNN is in the cache does not need."""
BARE = """
import sys
import torch
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.transform import Transform
looks = sum(len(clip.frames) for clip in decode(sys.argv[1], clock=Clock(4.0), transform=Transform(224)))
print(looks, flush=True)
"""
IMPORTED = """
import sys
from pipeline.cli import main
code = main(sys.argv[2:])
print(" ".join(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stdout)
sys.exit(code)
"""


def start(data: Path, seeds: int) -> tuple[str, bool]:
    """Measure in turn, compare the medians, and look at what was imported."""
    work = proof_tools.fresh_folder("start").resolve()
    (clip,) = cut_clips(data, work / "clips", 1, SECONDS)
    model = work / "model"
    make_model(model)
    predict = ["predict", str(clip), "--model", str(model), "--format", "jsonl", "--out"]
    proof_tools.unreel(*predict, str(work / "warm"))  # it converts the CNN
    extractor = extractor_of(model)
    times: dict[str, list[float]] = {"first row": [], "bare": [], "CNN": []}
    for number in range(proof_tools.SIZE.pick(ROUNDS, 1)):
        out = str(work / f"out{number}")
        times["first row"].append(seconds_until([sys.executable, "-m", "pipeline.cli", *predict, out], " 1/1 "))
        times["bare"].append(seconds_until([sys.executable, "-c", BARE, str(clip)], str(LOOKS)))
        times["CNN"].append(seconds_of_cnn(extractor))
        print("  " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["first row"] / (medians["bare"] + medians["CNN"])
    problems = [*imports_of(predict, work), *refusals(model, work)]
    for problem in problems:
        print(f"  WRONG: {problem}")
    listed = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
    result = f"first row after {ratio:.2f} times the bare process and the CNN (bar {RATIO:g}; medians: {listed})"
    return f"{result}; {len(problems)} problems", ratio <= RATIO and not problems


def make_model(folder: Path) -> None:
    """A model of the default architecture with fresh weights: what it answers has no meaning."""
    torch.manual_seed(0)
    architecture, names = Architecture(), {"action": Vocabulary(("left", "right"))}
    save_model(folder, Checkpoint(architecture.build(names), architecture, names, None, {}))


def extractor_of(model: Path) -> FeatureExtractor:
    """The compiled CNN of a model, in this process."""
    checkpoint = load_model(model)
    encoder = checkpoint.model.encoder
    assert isinstance(encoder, FramesEncoder)
    return checkpoint.architecture.build_feature_extractor(torch.device("cpu"), encoder.backbone)


def seconds_of_cnn(extractor: FeatureExtractor) -> float:
    """The time of the CNN for the looks of the clip."""
    pixels = np.random.default_rng(0).integers(0, 256, (LOOKS, 224, 224, 3), dtype=np.uint8)
    extractor(pixels)  # threads and caches as in the middle of a job
    begin = time.perf_counter()
    extractor(pixels)
    return time.perf_counter() - begin


def seconds_until(command: list[str], text: str) -> float:
    """The time from the start of a command to the first line that has `text`. The command then ends alone."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=proof_tools.REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if text in line:
                seconds = time.perf_counter() - begin
                process.stdout.read()
                process.wait(TIMEOUT)
                return seconds
    raise SystemExit(f"{command} printed no line with {text!r}; exit code {process.returncode}")


def imports_of(predict: list[str], work: Path) -> list[str]:
    """What a warm command imported without need."""
    command = [sys.executable, "-c", IMPORTED, ",".join(NOT_NEEDED), *predict, str(work / "imports")]
    result = proof_tools.run_command(*command, cwd=proof_tools.REPOSITORY, timeout=TIMEOUT)
    return [f"a warm command imports {name}" for name in result.stdout.split()]


def refusals(model: Path, work: Path) -> list[str]:
    """What is wrong with the refusal of a missing input and of an option that does not exist."""
    problems = []
    for arguments, sentence in (
        ([str(work / "gone.mp4")], "There is no file or folder of this name"),
        ([str(work / "gone.mp4"), "--no-such-option"], "is no option of predict"),
    ):
        options = ["--model", str(model), "--out", str(work / "refused")]
        command = [sys.executable, "-c", IMPORTED, "torch", "predict", *arguments, *options]
        result = proof_tools.run_command(*command, code=None, cwd=proof_tools.REPOSITORY, timeout=TIMEOUT)
        name = " ".join(arguments)
        if result.returncode != 2 or sentence not in result.stderr:
            problems.append(f"{name}: exit code {result.returncode}, {result.stderr.strip()[-200:]!r}")
        if result.stdout.split():
            problems.append(f"{name}: torch was imported before it was refused")
        if (work / "refused").exists():
            problems.append(f"{name}: --out was made")
    return problems
