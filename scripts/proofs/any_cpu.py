"""The promise any-cpu: the numeric tests pass as the machine is, with AVX2 at most, and with SSE4.1 at most.

torch and oneDNN choose their kernels by the processor, and the kernels round differently. Each pass prints what torch,
oneDNN and OpenVINO report. A pass that equals another one on this machine says so. The tests are those marked
`numeric`, in two processes.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import proof_tools

PASSES: dict[str, dict[str, str]] = {
    "as it is": {},
    "AVX2 at most": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "SSE4.1 at most": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""The environment variables of each pass."""
LEFT_OUT: dict[str, dict[str, str]] = {name: {} for name in PASSES}
"""For each pass: the tests that it leaves out by name, each with the reason."""
PROCESSES = 2
LIMIT_SECONDS = 300
"""The most time of a pass on a machine that does nothing else: the CPU seconds of each of its processes."""
TESTS = ("-m", "numeric and not slow", "-q", "-n", str(PROCESSES), "--dist", "loadfile", "-p", "no:cacheprovider")
_REPORT = """
import torch
from pipeline.libraries import import_openvino
with torch.no_grad():
    torch.nn.LSTM(16, 32)(torch.randn(4, 8, 16))
core = import_openvino().Core()
capabilities = " ".join(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
print("torch", torch.backends.cpu.get_cpu_capability())
print("OpenVINO", capabilities, "on", core.get_property("CPU", "FULL_DEVICE_NAME"))
"""


class Pass(NamedTuple):
    """What a pass reports of the processor, and the last line of its tests."""

    report: tuple[str, ...]
    summary: str
    code: int
    seconds: float


def any_cpu(data: Path, seeds: int) -> tuple[str, bool]:
    """Each pass: how many tests pass, and in what time."""
    done: dict[str, Pass] = {}
    for name, variables in PASSES.items():
        environment = clean_environment() | variables
        report = processor_report(environment)
        print(f"\n{name}: {'; '.join(report)}", flush=True)
        for test, reason in LEFT_OUT[name].items():
            print(f"  without {test}: {reason}")
        twin = next((other for other, earlier in done.items() if earlier.report == report), None)
        if twin is not None:
            print(f"  this pass equals '{twin}' on this machine")
        done[name] = run_tests(report, environment, LEFT_OUT[name])
        print(f"  {done[name].summary}", flush=True)
    figure = "; ".join(f"{name}: {one.summary}" for name, one in done.items())
    return figure, all(one.code == 0 and one.seconds < LIMIT_SECONDS for one in done.values())


def clean_environment() -> dict[str, str]:
    """The variables of this process without those of a pass; one thread, because two processes run."""
    names = {name for variables in PASSES.values() for name in variables} | {
        "DNNL_MAX_CPU_ISA",
        "MKL_ENABLE_INSTRUCTIONS",
    }
    return {name: value for name, value in os.environ.items() if name not in names} | {"OMP_NUM_THREADS": "1"}


def processor_report(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What torch, oneDNN and OpenVINO say about the processor."""
    variables = {**environment, "ONEDNN_VERBOSE": "2", "PYTHONPATH": str(proof_tools.REPOSITORY)}
    lines = proof_tools.run_command(sys.executable, "-c", _REPORT, env=variables).stdout.splitlines()
    isa = [f"oneDNN {line.split('isa:')[1]}" for line in lines if ",cpu,isa:" in line]
    return (*(line for line in lines if line.startswith(("torch ", "OpenVINO "))), *isa[:1])


def run_tests(report: tuple[str, ...], environment: Mapping[str, str], left_out: Mapping[str, str]) -> Pass:
    """Run the numeric tests but for those left out."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    without = [f"--deselect={test}" for test in left_out]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *TESTS, *without],
        cwd=proof_tools.REPOSITORY,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    for line in lines:
        if re.match(r"(FAILED|ERROR|Fatal)", line):
            print(f"  {line}")
    if done.returncode < 0 or "crashed" in done.stdout:
        print(done.stdout[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / PROCESSES
    summary = f"{lines[-1].strip('= ')}, {seconds:.0f} s of each processor"
    return Pass(report, summary, done.returncode, seconds)
