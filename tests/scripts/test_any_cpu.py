"""The proof any-cpu: the passes are those that were promised, a twin says so, and a failed test fails the promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import any_cpu
import pytest
from conftest import NUMERIC, REPOSITORY


def test_the_passes_hold_torch_and_onednn() -> None:
    assert list(any_cpu.PASSES.values()) == [
        {},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ]
    assert any_cpu.LEFT_OUT.keys() == any_cpu.PASSES.keys()


def test_a_pass_does_not_inherit_the_limits_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"):
        monkeypatch.setenv(name, "x")
    assert "x" not in any_cpu.clean_environment().values()


def test_the_report_of_a_held_pass_names_its_instruction_set() -> None:
    report = any_cpu.processor_report(any_cpu.clean_environment() | any_cpu.PASSES["SSE4.1 at most"])
    assert report[0] == "torch DEFAULT" and report[1].startswith("OpenVINO ")
    assert report[2:] in ((), ("oneDNN Intel SSE4.1",))  # the second library is there on x86 only


@pytest.mark.parametrize(("failing", "holds"), [(None, True), ("AVX2", False)])
def test_one_failed_pass_fails_the_promise_and_a_twin_says_so(
    failing: str | None, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(any_cpu, "processor_report", lambda environment: ("torch AVX2",))

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> SimpleNamespace:
        code = int(failing is not None and env.get("ONEDNN_MAX_CPU_ISA") == failing)
        return SimpleNamespace(returncode=code, stdout="FAILED a::b\n1 failed" if code else "9 passed", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    result, verdict = any_cpu.any_cpu(Path(), 1)
    output = capsys.readouterr().out
    assert verdict is holds and output.count("equals 'as it is' on this machine") == 2
    assert ("FAILED a::b" in output) is not holds and result.startswith("as it is: 9 passed")


def test_the_places_of_numeric_tests_exist_and_their_tests_are_marked() -> None:
    assert [place for place in NUMERIC if not os.path.exists(REPOSITORY / "tests" / place)] == []
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "numeric", "-p", "no:cacheprovider"]
        + [str(REPOSITORY / "tests" / path) for path in ("metrics/test_bootstrap.py", "media/test_clock.py")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    ).stdout
    assert "test_bootstrap.py::" in listed and "test_clock.py::" not in listed
