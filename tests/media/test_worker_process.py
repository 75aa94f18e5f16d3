"""Worker processes: they leave nothing behind, see no secret, and end with their parent."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from made_videos import make_video
from pools import copies, decode_all, wait_for

from pipeline.media.decode_pool import DecodePool, DecodeSettings, DecodeTask, Looks, Opened
from pipeline.media.worker_process import worker_environment

SIDE, RATE = 48, 40.0
SETTINGS = DecodeSettings(RATE, SIDE, "letterbox")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with more looks than a small ring has slots."""
    return make_video(tmp_path_factory.mktemp("workers") / "film.mp4", 20)


def descriptors() -> set[str]:
    """What this process has open, but for the files of the tests' own machinery."""
    names = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            names.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue
    return {name for name in names if any(kind in name for kind in ("pipe:", "unreel-ring", "eventpoll"))}


def rings() -> int:
    """How many rings this process has in its memory."""
    gc.collect()
    return Path("/proc/self/maps").read_text().count("unreel-ring")


def test_nothing_is_left_after_close(film: Path, tmp_path: Path) -> None:
    rings_before, before = rings(), descriptors()  # other tests decode in this process
    others = copies(film, tmp_path, "a.mp4", "b.mp4")
    with DecodePool(2, SETTINGS, slots_a_worker=2) as pool:
        processes = list(pool.process_ids)

        def disturb(message: object) -> None:
            if isinstance(message, Opened) and message.task.id == "a.mp4":
                os.kill(pool.process_id(message.task) or 0, signal.SIGKILL)

        decode_all(pool, [film, *others], on_message=disturb)
        processes += pool.process_ids
        pool.submit(DecodeTask("film", film))
        looks = next(m for m in wait_for(pool, lambda m: isinstance(m, Looks)) if isinstance(m, Looks))
        view = pool.pixels(looks.slots[0])
        expected = view.copy()
        assert rings() == rings_before + 2
    assert np.array_equal(view, expected)  # what is still read stays valid
    del view
    assert descriptors() <= before and rings() <= rings_before, "what other tests left may end meanwhile"
    assert not any(Path(f"/proc/{number}").exists() for number in processes)


def test_workers_see_no_secret_and_die_first_and_ignore_ctrl_c(
    film: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "http_proxy", "LD_PRELOAD", "ANYTHING"):
        monkeypatch.setenv(name, "")
    (tmp_path / "av.py").write_text("raise SystemExit('imported from the folder of the user')")
    monkeypatch.chdir(tmp_path)
    with DecodePool(1, SETTINGS, slots_a_worker=4) as pool:
        wait_for_ready(pool)
        (number,) = pool.process_ids
        proc = Path(f"/proc/{number}")
        names = {item.partition(b"=")[0].decode() for item in (proc / "environ").read_bytes().split(b"\0") if item}
        assert names == set(worker_environment()) and not {"AWS_SECRET_ACCESS_KEY", "http_proxy", "LD_PRELOAD"} & names
        assert (proc / "oom_score_adj").read_text().strip() == "800"
        assert not {name for name in ("torch", "decord", "openvino") if name in (proc / "maps").read_text()}
        opened = {os.readlink(proc / "fd" / name).partition(":")[0] for name in os.listdir(proc / "fd")}
        assert opened <= {"/dev/null", "pipe", "/memfd"}
        os.kill(number, signal.SIGINT)
        assert decode_all(pool, [film])[film.name].status == "ok" and pool.process_ids == (number,)
    with DecodePool(1, DecodeSettings(RATE, SIDE, "crop", "decord"), slots_a_worker=4) as pool:
        wait_for_ready(pool)
        assert "decord" in Path(f"/proc/{pool.process_ids[0]}/maps").read_text()


def wait_for_ready(pool: DecodePool) -> None:
    """Until the first worker is ready."""
    deadline = time.monotonic() + 60
    while not pool._seats[0].is_ready and time.monotonic() < deadline:
        pool.wait(0.1)


def test_workers_end_with_their_parent(film: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom pipeline.media.decode_pool import *\n"
        f"pool = DecodePool(2, DecodeSettings(40.0, 48, 'crop'), slots_a_worker=2)\n"
        f"pool.submit(DecodeTask('film', Path({str(film)!r})))\n"
        "while not any(isinstance(message, Looks) for message in pool.wait(1)): pass\n"
        "print(*pool.process_ids, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60)
    processes = [int(text) for text in result.stdout.split()]
    assert result.returncode == -signal.SIGKILL and len(processes) == 2, result.stderr
    deadline = time.monotonic() + 10
    while any(is_running(number) for number in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(number) for number in processes)


def is_running(number: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_parent_needs_no_decoder_to_start_its_workers() -> None:
    script = "import sys, pipeline.media.decode_pool\nprint({'torch', 'av', 'cv2', 'decord'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr
