"""The proof silent: every verb is in it, and it sees sockets, foreign files and files that are left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import silent

from pipeline.cli import VERBS

HOOK = """
import os, sys

def hook(event, arguments):
    is_inet = event == "socket.__new__" and int(arguments[1]) in (2, 10)  # AF_INET, AF_INET6; -1 is of a given file
    if is_inet or event.startswith(("socket.getaddrinfo", "socket.gethostby", "urllib.Request")):
        with open(os.environ["HOOK_LOG"], "a") as log:
            log.write(f"{sys.argv} {event} {arguments}\\n")
        raise OSError("the network is blocked")

sys.addaudithook(hook)
"""


@pytest.fixture
def hooked(tmp_path: Path) -> tuple[Path, Mapping[str, str]]:
    """A file of what Python processes tried on the network, and the variables that make them write it."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    path = f"{tmp_path / 'hook'}:{Path(silent.proof_tools.REPOSITORY)}"
    (tmp_path / "log").touch()
    return tmp_path / "log", {"HOOK_LOG": str(tmp_path / "log"), "PYTHONPATH": path}


def run_python(code: str, home: Path, variables: Mapping[str, str]) -> None:
    """Run a piece of Python with an empty home."""
    home.mkdir()
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "UNREEL_CACHE": str(home.parent / "cache"), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_verb_is_in_the_proof() -> None:
    assert {job[0] for job in silent.JOBS.values()} == set(VERBS)


def test_the_hook_sees_a_socket_and_a_look_up_of_a_name(tmp_path: Path, hooked) -> None:
    log, variables = hooked
    run_python("import socket\ntry: socket.socket()\nexcept OSError: pass", tmp_path / "home", variables)
    run_python("import socket\ntry: socket.getaddrinfo('a.b', 1)\nexcept OSError: pass", tmp_path / "other", variables)
    assert [line.split("] ")[1].split()[0] for line in log.read_text().splitlines()] == [
        "socket.__new__",
        "socket.getaddrinfo",
    ]


def test_a_conversion_for_openvino_asks_no_host_and_writes_nothing_into_the_home(tmp_path: Path, hooked) -> None:
    log, variables = hooked
    code = (
        "import numpy as np, torch\n"
        "from pipeline.encoders.backbone import Backbone\n"
        "from pipeline.encoders.cnn_runtime import build_feature_extractor\n"
        "extractor = build_feature_extractor(Backbone(name='pixels', size=8), 'openvino', torch.device('cpu'))\n"
        "extractor(np.zeros((1, 8, 8, 3), np.uint8))\n"
    )
    run_python(code, tmp_path / "home", variables)
    assert log.read_text() == "" and list((tmp_path / "home").rglob("*")) == []


def test_openvino_that_another_program_imported_gets_the_stub_of_its_telemetry(tmp_path: Path, hooked) -> None:
    code = (
        "import openvino, openvino_telemetry\n"
        "from openvino.tools.ovc import convert_impl, telemetry_stub, telemetry_utils\n"
        "assert telemetry_utils.tm is openvino_telemetry\n"
        "from pipeline.libraries import import_openvino\n"
        "assert import_openvino() is openvino\n"
        "assert telemetry_utils.tm is telemetry_stub and convert_impl.tm is telemetry_stub\n"
    )
    run_python(code, tmp_path / "home", hooked[1])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("7 socket(AF_UNIX, SOCK_STREAM, 0) = 3", None),
        ("7 socket(AF_INET6, SOCK_STREAM, IPPROTO_IP) = 3", "a socket that is not local"),
        ("7 socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = -1 EACCES", "a socket that is not local"),
        ('7 openat(AT_FDCWD</w>, "x", O_RDONLY) = 3</w/x>', None),
        ('7 openat(AT_FDCWD</w>, "x", O_WRONLY|O_CREAT, 0666) = 3</w/x>', "opened for writing: /w/x"),
        ('7 openat(AT_FDCWD</w>, "x", O_RDWR) = 3</w/x>', "opened for writing: /w/x"),
        ('7 openat(AT_FDCWD</w>, "x", O_RDWR) = -1 ENOENT (No such file or directory)', None),
        ('7 openat(AT_FDCWD</w>, "runs/x", O_WRONLY|O_CREAT, 0666) = 3</w/runs/x>', None),
        ('7 openat(AT_FDCWD</w>, "runs_x", O_WRONLY|O_CREAT, 0666) = 3</w/runs_x>', "opened for writing: /w/runs_x"),
        ('7 creat("/home/x", 0666) = 3</home/x>', "opened for writing: /home/x"),
        ('7 openat(AT_FDCWD</w>, "/dev/null", O_WRONLY) = 3</dev/null>', None),
    ],
)
def test_a_line_of_strace_is_a_fault_or_not(line: str, fault: str | None) -> None:
    faults = silent.faults_of(silent.Answer(0, "", ""), Path("/w"), silent.read_trace([line]))
    assert len(faults) == (fault is not None) and all(fault in text for text in faults if fault)


def test_a_call_that_another_process_interrupts_is_one_call() -> None:
    trace = silent.read_trace(
        [
            '7 openat(AT_FDCWD</w>, "x", O_WRONLY|O_CREAT, 0666 <unfinished ...>',
            "8 socket(AF_INET, SOCK_STREAM <unfinished ...>",
            "7 <... openat resumed>) = 3</w/x>",
            "8 <... socket resumed>, IPPROTO_IP) = 4",
        ]
    )
    assert trace.written == ["/w/x"] and trace.sockets == ["socket(AF_INET, SOCK_STREAM , IPPROTO_IP) = 4"]


def test_what_is_left_in_the_home_the_temporary_folder_and_shared_memory_is_a_fault(tmp_path: Path) -> None:
    for name in ("home/.cache", "tmp", "cache"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tmp/x").touch()
    (tmp_path / "cache/x").touch()
    assert silent.left(tmp_path) == [f"left behind: {tmp_path}/home/.cache", f"left behind: {tmp_path}/tmp/x"]
    shared = Path("/dev/shm") / f"unreel_test_{tmp_path.name}"
    trace = silent.read_trace([f'7 openat(AT_FDCWD</w>, "{shared}", O_RDWR|O_CREAT, 0600) = 3<{shared}>'])
    answer = silent.Answer(1, "", "")
    assert silent.faults_of(answer, tmp_path, trace) == ["exit code 1"]
    shared.touch()
    try:
        assert silent.faults_of(answer, tmp_path, trace) == ["exit code 1", f"left behind: {shared}"]
    finally:
        shared.unlink()


@pytest.mark.slow
def test_no_verb_tries_the_network_and_each_says_the_same_without_one(
    tmp_path_factory: pytest.TempPathFactory, hooked
) -> None:
    tmp_path = tmp_path_factory.mktemp("s")  # a short path, because workers of a training make sockets in it
    log, variables = hooked
    silent.make_data(tmp_path / "data")
    hooked_answers = [job[:2] for job in silent.run_jobs(tmp_path / "hooked", variables=variables)]
    assert [n for n, answer in hooked_answers if answer.code != silent.EXIT_CODES.get(n, 0)] == []
    assert log.read_text() == "" and silent.left(tmp_path / "hooked") == []
    if not silent.can_unshare():
        pytest.skip("this machine does not allow `unshare -rn`, so no verb ran in an empty network namespace")
    alone = [job[:2] for job in silent.run_jobs(tmp_path / "alone", prefix=("unshare", "-rn"))]
    assert alone == hooked_answers


def test_one_module_imports_the_libraries_that_would_send_data() -> None:
    package = Path(silent.proof_tools.REPOSITORY) / "pipeline"
    importing = re.compile(r"^\s*(?:import|from) (?:openvino|timm|wandb)\b", re.M)
    importers = [path.name for path in package.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))]
    assert importers in ([], ["libraries.py"])
