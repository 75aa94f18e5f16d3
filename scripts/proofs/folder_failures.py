"""The promises poison and two-jobs: bad files and killed workers cost their own rows, and one job has one folder.

In: the folder of the real data. The jobs run by the real command; workers are stopped and killed from outside, while
/proc shows that they have a named file open.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import proof_tools
from folder_clips import cut_clips
from folder_speed import prepare, train_model

from pipeline.media.write import write_video

DEADLINE = 5
"""Seconds without a sign of life until a worker is killed, as the jobs of this proof are told."""
CORES = os.cpu_count() or 1
STOPPED, KILLED = 3, 2
"""Workers that the proof stops and kills."""
SHARE = 0.2


def poison(data: Path, seeds: int) -> tuple[str, bool]:
    """One clip of five is bad: by decord, and by PyAV with workers that are stopped and killed."""
    clips, _ = prepare(data)
    wrong, lines = [], []
    for backend in ("decord", "pyav"):
        problems, line = _poisoned_job(data, clips, backend)
        wrong += [f"{backend}: {problem}" for problem in problems]
        lines.append(line)
        print("\n".join(f"  {text}" for text in (line, *(f"WRONG {problem}" for problem in problems))), flush=True)
    return f"{'; '.join(lines)}; {len(wrong)} wrong", not wrong


def _poisoned_job(data: Path, clips: Sequence[Path], backend: str) -> tuple[list[str], str]:
    """(what is wrong, a line of figures) of the good clips alone and of all."""
    work = proof_tools.fresh_folder(f"poison_{backend}").resolve()
    if backend == "decord":  # it refuses AVI with B-frames by name
        clips = [clip for clip in clips if clip.suffix == ".mp4"]
    good, bad, named = work / "good", work / "bad", work / "named"
    for folder in (good, bad, named):
        folder.mkdir()
    num_bad = round(SHARE * len(clips))
    for clip in clips[num_bad:]:
        os.link(clip, good / clip.name)
    targets = {} if backend == "decord" else _named_files(named)
    model = _model_of(work, clips, backend)
    _write_bad_files(bad, clips[:num_bad], num_bad - len(targets), backend)
    named_folders = [named] if targets else []  # in both jobs; in the first no worker is disturbed
    alone, alone_rows, code = _run_job(work, "alone", model, [good, *named_folders], {})
    assert code == 0, code
    seconds, rows, code = _run_job(work, "all", model, [good, bad, *named_folders], targets)
    expected = _expected_named(targets)
    allowed = 1.3 * alone + 3 * DEADLINE / min(CORES, len(rows))
    problems = [f"exit code {code}, not 1"] if code != 1 else []
    if seconds > allowed:
        problems.append(f"{seconds:.1f} s, and 1.3 times {alone:.1f} s with three deadlines are {allowed:.1f}")
    if len(rows) != len(clips) - num_bad + len(list(bad.iterdir())) + len(list(named.iterdir())):
        problems.append(f"{len(rows)} rows")
    for name, row in rows.items():
        is_good = name.startswith("good/")
        if is_good and row != {**alone_rows.get(name, alone_rows.get(Path(name).name, {})), "path": name}:
            problems.append(f"{name} has another answer: {row['status']}")
        if name in expected and not str(row["status"]).startswith(expected[name]):
            problems.append(f"{name} is {row['status']}, not {expected[name]}")
    counts = Counter(str(row["status"]) for name, row in rows.items() if not name.startswith("good/"))
    listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return (
        problems,
        f"{backend}: {alone:.1f} s alone, {seconds:.1f} s with the bad ones (at most {allowed:.1f}): {listed}",
    )


def _model_of(work: Path, clips: Sequence[Path], backend: str) -> Path:
    """The model of the speed proofs; for another decoder one that is trained with it."""
    if backend == "pyav":
        return work.parent / "folder/run/model"
    folder = work.parent / f"folder_{backend}"
    folder.mkdir(exist_ok=True)
    return train_model(folder.resolve(), clips, ["encoder.decoder=decord"])


def _named_files(folder: Path) -> dict[str, signal.Signals]:
    """Longer videos on which workers are stopped or killed: file -> signal."""
    rng = np.random.default_rng(0)
    targets = {f"stop{n}.mp4": signal.SIGSTOP for n in range(proof_tools.SIZE.pick(STOPPED, 1))}
    targets |= {f"kill{n}.mp4": signal.SIGKILL for n in range(proof_tools.SIZE.pick(KILLED, 1))}
    for name in targets:
        pictures = rng.integers(0, 255, (12, 240, 320, 3), np.uint8)
        write_video(folder / name, (pictures[n % 12] for n in range(600)), fps=30)
    return targets


def _expected_named(targets: Mapping[str, signal.Signals]) -> dict[str, str]:
    """The status of each named file. One that is killed once is tried again, and answers."""
    return {f"named/{name}": "timeout" if sent == signal.SIGSTOP else "ok" for name, sent in targets.items()}


def _write_bad_files(folder: Path, clips: Sequence[Path], count: int, backend: str) -> None:
    """Bad files of all kinds, in turn; for decord three copies of the cut video that makes it hang."""
    copies = 3 if backend == "decord" else 0
    cut = cut_in_the_middle(folder.parent / "cut.mp4") if copies else None
    for number in range(count):
        clip = clips[number].read_bytes()
        path = folder / f"bad{number:03d}{clips[number].suffix}"
        if cut is not None and number < copies:
            shutil.copy(cut, path.with_suffix(".mp4"))
            continue
        kinds = (b"", b"text\n" * 99, np.random.default_rng(number).bytes(9000), clip[: len(clip) * 6 // 10])
        zeroed = clip[: len(clip) // 2] + bytes(len(clip) // 2)
        path.write_bytes((*kinds, zeroed)[number % 5])


def cut_in_the_middle(path: Path) -> Path:
    """A video that begins in the middle of a group of pictures, copied packet by packet (`ffmpeg -ss 12.9 -c copy`)."""
    whole = path.with_name("whole.mp4")
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    with av.open(str(whole), "w") as file:
        options = {"bf": "3", "g": "250", "preset": "veryfast"}
        stream = file.add_stream("libx264", rate=30, width=320, height=240, pix_fmt="yuv420p", options=options)
        for n in range(450):
            picture = np.stack([(x + 3 * n) % 256, (y * 2 + n) % 256, (x + y + 7 * n) % 256], -1).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        assert video.time_base is not None
        start = round(12.9 / video.time_base)
        source.seek(start, stream=video)
        for packet in source.demux(video):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                target.mux(packet)
    return path


def _run_job(
    work: Path, name: str, model: Path, folders: Sequence[Path], targets: Mapping[str, signal.Signals]
) -> tuple[float, dict[str, dict[str, object]], int]:
    """(seconds, rows by path, exit code) of a job. targets: the workers on these files get a signal."""
    out = work / f"out_{name}"
    command = [sys.executable, "-m", "pipeline.cli", "predict", *map(str, folders), "--model", str(model)]
    command += ["--out", str(out), "--format", "jsonl", "--deadline", str(DEADLINE)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=work)
    hunter = threading.Thread(target=_hunt, args=(process, dict(targets)))
    hunter.start()
    _, errors = process.communicate(timeout=3600)
    seconds = time.monotonic() - started
    hunter.join()
    rows = proof_tools.read_json_lines(out / "predictions.jsonl") if (out / "predictions.jsonl").is_file() else []
    if process.returncode not in (0, 1):
        print(errors[-2000:])
    return seconds, {str(row["path"]): row for row in rows}, process.returncode


def _hunt(process: subprocess.Popen[str], targets: dict[str, signal.Signals]) -> None:
    """Send each target's signal to the first worker that has its file open."""
    while process.poll() is None and targets:
        for pid, name in list(_open_files(process.pid)):
            if name in targets:
                with suppress(ProcessLookupError):
                    os.kill(pid, targets.pop(name))
        time.sleep(0.01)
    for name in targets:
        print(f"  NOT SEEN: no worker had {name} open")


def _open_files(parent: int) -> Iterator[tuple[int, str]]:
    """(process, name of a file it has open) of the children of a process."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    yield int(folder.name), Path(os.readlink(descriptor)).name


def two_jobs(data: Path, seeds: int) -> tuple[str, bool]:
    """A second job in the folder of a running one; SIGTERM to a job that is process 1 of its namespace."""
    work = proof_tools.fresh_folder("two_jobs").resolve()
    clips = cut_clips(data, work / "clips", proof_tools.SIZE.pick(24, 4), proof_tools.SIZE.pick(7.0, 2.0))
    model = train_model(work, clips)
    problems = [*_second_job(work, model), *_terminated(work, model, clips)]
    print("".join(f"  WRONG {problem}\n" for problem in problems), end="")
    return f"the second job exits 5 and changes nothing; SIGTERM to process 1: {len(problems)} wrong", not problems


def _command(work: Path, model: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "pipeline.cli", "predict", str(work / "clips"), "--model", str(model)]
    return [*command, "--out", str(out), "--format", "jsonl"]


def _second_job(work: Path, model: Path) -> list[str]:
    """Start a job, stop its process while it has the folder, and start another."""
    out = work / "out"
    first = subprocess.Popen(_command(work, model, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: (out / "ledger.sqlite").is_file())
        first.send_signal(signal.SIGSTOP)
        before = _snapshot(out)
        second = subprocess.run(_command(work, model, out), capture_output=True, text=True, timeout=300)
        after = _snapshot(out)
    finally:
        first.send_signal(signal.SIGCONT)
    code = first.wait(timeout=600)
    problems = [] if second.returncode == 5 else [f"the second job exits {second.returncode}, not 5"]
    if f"process {first.pid}" not in second.stderr:
        problems.append(f"the second job does not name process {first.pid}: {second.stderr.strip()}")
    if before != after:
        problems.append("the second job changed the folder")
    return problems + ([] if code == 0 else [f"the first job exits {code}"])


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _terminated(work: Path, model: Path, clips: Sequence[Path]) -> list[str]:
    """SIGTERM to a job that is process 1 of a namespace of its own, where a signal without a handler is ignored."""
    if subprocess.run(["unshare", "-rpf", "--mount-proc", "true"], capture_output=True).returncode:
        print("  SIGTERM to process 1 was not tried: this machine does not allow `unshare -rpf`")
        return []
    out = work / "out_term"
    command = ["unshare", "-rpf", "--kill-child", "--mount-proc", *_command(work, model, out)]
    outer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(lambda: (out / "ledger.sqlite").is_file() and bool(list(_children(outer.pid))))
    time.sleep(1.0)
    inner = next(iter(_children(outer.pid)), None)
    if inner is None:
        return ["the job had ended before SIGTERM"]
    os.kill(inner, signal.SIGTERM)
    started = time.monotonic()
    code = outer.wait(timeout=60)
    seconds = time.monotonic() - started
    problems = [] if seconds <= 5 else [f"it ended after {seconds:.1f} s, not within 5"]
    had_ended = proof_tools.SIZE.pick(False, True) and (out / "predictions.jsonl").is_file()  # four clips are soon done
    problems += [] if code == (0 if had_ended else 143) else [f"it exits {code}, not 143"]
    status = proof_tools.unreel("status", out, code=None).stdout
    print(f"  after SIGTERM ({seconds:.1f} s): {' '.join(status.split())[:160]}")
    again = subprocess.run(_command(work, model, out), capture_output=True, text=True, timeout=600)
    rows = proof_tools.read_json_lines(out / "predictions.jsonl")
    if (
        again.returncode
        or len(rows) != len(clips)
        or rows != proof_tools.read_json_lines(work / "out/predictions.jsonl")
    ):
        problems.append(f"the rerun exits {again.returncode} with {len(rows)} rows, or other rows")
    return problems


def _children(parent: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(folder.name)


def _wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the job did not begin")
        time.sleep(0.02)
