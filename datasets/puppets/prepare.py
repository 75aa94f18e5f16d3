"""Make the data set puppets: draw and encode all videos with sound, and write the manifests.

    python datasets/puppets/prepare.py --size small --out data/puppets        # make it
    python datasets/puppets/prepare.py --size small --check                   # draw only, and compare with the card

In: a size and a seed. Out, under DIR:
    clips/*.mp4, long/*.mp4    the videos
    clips.jsonl, long.jsonl    their manifests
    all.jsonl                  both manifests together
    possible.jsonl             for turns: the actions that are possible at the beginning of each clip
    puppets.json               written last, so it says that the data set is complete
Each video has its own random generator, so the order and the number of processes change nothing.
This file knows nothing about training.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, NoReturn

import cv2
import numpy as np
from captions import random_captions
from figures import random_body
from motions import PAIRS
from script import FPS, SOUND_RATE, random_script, random_turn
from stage import draw

from pipeline.media.write import write_video

VERSION = 2  # a new number for each change of pixels, sound, captions or the list of files
MARK = "puppets.json"  # written last
WORK = ".making"  # removed last


class Size(NamedTuple):
    """The numbers of a size of the data set."""

    actors: int
    pairs: int  # pairs of actions per actor; with seven an actor makes each pair once
    long: int  # longer videos
    is_turns: bool = False  # whether a clip begins where another action has ended


class Task(NamedTuple):
    """One video that is to be made."""

    size: str
    seed: int
    kind: str  # "clips" or "long"
    number: int
    actor: int
    split: str
    label: str | None

    @property
    def name(self) -> str:
        """The path of the video below the folder of the data set."""
        return f"{self.kind}/{'clip' if self.kind == 'clips' else 'long'}_{self.number:05d}_actor{self.actor:02d}.mp4"


SIZES = {"tiny": Size(6, 2, 4), "small": Size(26, 7, 60), "full": Size(86, 14, 300), "turns": Size(172, 14, 0, True)}


def actors_by_split(num_actors: int) -> dict[str, range]:
    """60, 15 and 25 percent of the actors. Each actor is in one split only."""
    train, val = round(0.6 * num_actors), max(1, round(0.15 * num_actors))
    return {"train": range(train), "val": range(train, train + val), "test": range(train + val, num_actors)}


def plan(size: str, seed: int) -> list[Task]:
    """All videos of a size.

    An actor makes both actions of a pair equally often. The order is random, so a number says nothing about the label.
    """
    num_actors, num_pairs, num_long, _ = SIZES[size]
    splits = actors_by_split(num_actors)
    split_of = {actor: split for split, actors in splits.items() for actor in actors}
    pairs = [(pair.forward, pair.backward) for pair in PAIRS.values()]
    wanted = [
        (actor, label)
        for actor in split_of
        for i in range(num_pairs)
        for label in pairs[(actor * num_pairs + i) % len(pairs)]
    ]
    order = np.random.default_rng([seed, num_actors]).permutation(len(wanted))
    tasks = [
        Task(size, seed, "clips", i, wanted[k][0], split_of[wanted[k][0]], wanted[k][1]) for i, k in enumerate(order)
    ]
    shares = actors_by_split(num_long)
    for i in range(num_long):
        split = next(name for name, share in shares.items() if i in share)
        tasks.append(Task(size, seed, "long", i, splits[split][i % len(splits[split])], split, None))
    return tasks


def make_video(task: Task, folder: Path | None) -> tuple[dict[str, str], bytes]:
    """Draw one video, and write it if a folder is given.

    Returns its line for each list that names it, and the sha256 of its sound and frames.
    """
    cv2.setNumThreads(1)
    body = random_body(np.random.default_rng([task.seed, 0, task.actor]))
    is_turn = SIZES[task.size].is_turns
    kind = 3 if is_turn else 1 + ("clips", "long").index(task.kind)
    rng = np.random.default_rng([task.seed, kind, SIZES[task.size].actors, task.number])
    if is_turn:
        assert task.label
        scene, script, possible = random_turn(body, rng, task.label)
    else:
        (scene, script), possible = random_script(body, rng, task.label), []
    drawn = hashlib.sha256(script.sound.tobytes())

    def frames() -> Iterator[np.ndarray]:
        for frame in draw(body, scene, script.pose, rng):
            drawn.update(frame.tobytes())
            yield frame

    if folder is None:
        for _ in frames():
            pass
    else:
        sound = script.sound.astype(np.float32) / 32768
        write_video(folder / task.name, frames(), fps=FPS, sound=sound, sound_rate=SOUND_RATE, keyframe_seconds=1.0)
    row = {
        "path": task.name,
        "split": task.split,
        "group": f"actor{task.actor:02d}",
        "label": task.label,
        "spans": [list(span) for span in script.spans],
        "captions": random_captions(rng, body, [label for _, _, label in script.spans]),
    }
    lines = {task.kind: json.dumps(row)}
    if possible:
        lines["possible"] = json.dumps({"path": task.name, "labels": possible})
    return lines, drawn.digest()


def make_job(job: tuple[Task, Path | None]) -> tuple[dict[str, str], bytes]:
    """make_video with one argument, for a pool of processes."""
    return make_video(*job)


def make_all(tasks: list[Task], folder: Path | None, workers: int) -> tuple[dict[str, list[str]], str]:
    """Make all videos in `workers` processes. Returns the lines of each manifest and the hash of all videos."""
    lines: dict[str, list[str]] = {"clips": [], "long": [], "possible": []}
    total, start = hashlib.sha256(), time.monotonic()
    jobs = [(task, folder) for task in tasks]
    pool = get_context("spawn").Pool(workers) if workers > 1 else None
    try:
        for done, (found, digest) in enumerate(
            pool.imap(make_job, jobs, chunksize=2) if pool else map(make_job, jobs), 1
        ):
            total.update(digest)
            for kind, line in found.items():
                lines[kind].append(line)
                total.update(line.encode())
            show_progress(done, len(tasks), time.monotonic() - start)
    finally:
        if pool:
            pool.terminate()
    return lines, total.hexdigest()


def show_progress(done: int, total: int, seconds: float) -> None:
    """Print the progress: one line that is overwritten on a terminal, five lines elsewhere."""
    rate = done / max(seconds, 1e-6)
    text = f"{done} of {total} videos, {rate:.1f} a second, {(total - done) / rate:.0f} s left"
    if sys.stdout.isatty():
        print(f"\r{text:<60}", end="\n" if done == total else "", flush=True)
    elif done * 5 // total > (done - 1) * 5 // total:
        print(text, flush=True)


def prepare(size: str, out: Path, seed: int = 0, workers: int = 2) -> str:
    """Make the data set in `out`, unless it is complete there. Returns its hash.

    Raises ValueError where the folder holds other files.
    """
    mark, work = out / MARK, out / WORK
    wanted = {"size": size, "seed": seed, "version": VERSION}
    if mark.exists() and not work.exists():
        found = json.loads(mark.read_text())
        if {key: found.get(key) for key in wanted} != wanted:
            raise ValueError(
                f"{out} holds puppets of size {found.get('size')}, seed {found.get('seed')}, "
                f"version {found.get('version')}. "
                f"Asked for: size {size}, seed {seed}, version {VERSION}. Give another --out, or delete that folder."
            )
        print(f"{out} is complete: puppets {size}, seed {seed}. Nothing to do.")
        return found["hash"]
    foreign = [
        name
        for name in ("clips", "long", "clips.jsonl", "long.jsonl", "all.jsonl", "possible.jsonl")
        if (out / name).exists() and not work.exists()
    ]
    if foreign:
        raise ValueError(
            f"{out} holds {' and '.join(foreign)}, not made here. Puppets would overwrite it. "
            "Give an empty folder as --out."
        )
    if work.exists():
        print(f"{out} was left unfinished. Starting afresh.")
        shutil.rmtree(work)
    for kind in ("clips", "long"):
        (work / kind).mkdir(parents=True)
    lines, digest = make_all(plan(size, seed), work, workers)
    for kind in ("clips", "long"):
        (work / f"{kind}.jsonl").write_text("".join(line + "\n" for line in lines[kind]))
        shutil.rmtree(out / kind, ignore_errors=True)
        (work / kind).rename(out / kind)
        (work / f"{kind}.jsonl").replace(out / f"{kind}.jsonl")
    if lines["possible"]:
        (out / "possible.jsonl").write_text("".join(line + "\n" for line in lines["possible"]))
    (out / "all.jsonl").write_text("".join(line + "\n" for kind in ("clips", "long") for line in lines[kind]))
    mark.write_text(json.dumps({**wanted, "hash": digest}) + "\n")
    work.rmdir()
    return digest


def hash_on_card(size: str) -> str | None:
    """The hash of this size at seed 0, as the card states it."""
    found = re.search(
        rf"^\| {size} \|.*`([0-9a-f]{{64}})`", Path(__file__).with_name("README.md").read_text(), re.MULTILINE
    )
    return found.group(1) if found else None


def compare(size: str, seed: int, digest: str) -> bool:
    """Print whether this is the data that the card describes. Returns False where the hash differs from the card."""
    print(f"sha256 {digest}")
    if seed != 0:
        print(f"The card states the hash of seed 0 only, and this is seed {seed}.")
        return True
    expected = hash_on_card(size)
    if digest == expected:
        print("It matches the card.")
        return True
    print(
        f"It does not match the card, which says {expected}. "
        "This data is similar but not the same. OpenCV or NumPy may have another version."
    )
    return False


class Parser(argparse.ArgumentParser):
    """A parser that prints errors as sentences."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        message = message[0].upper() + message[1:]
        print(f"{message.rstrip('.')}. Run with --help to see what is possible.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = Parser(prog="prepare.py", description="Make the data set puppets.")
    parser.add_argument(
        "--size",
        default="small",
        help="tiny (seconds to make), small (a minute), full or turns (some minutes); default small",
    )
    parser.add_argument("--out", type=Path, help="the folder to make it in")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other videos; default 0")
    parser.add_argument("--workers", type=int, default=2, help="processes; they change the time only; default 2")
    parser.add_argument("--check", action="store_true", help="draw without writing, and compare the hash with the card")
    options = parser.parse_args(arguments)
    if options.size not in SIZES:
        parser.error(f"there is no size {options.size!r}. The sizes are tiny, small, full and turns")
    out: Path | None = options.out
    if out is None and not options.check:
        parser.error("no folder is given. Say where the videos shall go with --out DIR")
    if options.seed < 0 or options.workers < 1:
        parser.error(
            f"--seed is {options.seed} and --workers is {options.workers}. A seed is 0 or more, workers are 1 or more"
        )
    try:
        if options.check or out is None:
            _, digest = make_all(plan(options.size, options.seed), None, options.workers)
            return 0 if compare(options.size, options.seed, digest) else 1
        compare(options.size, options.seed, prepare(options.size, out, options.seed, options.workers))
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\nStopped. Run it again to start afresh.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
