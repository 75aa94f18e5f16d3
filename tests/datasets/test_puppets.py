"""The dataset puppets: the same on every run, and nothing but the motion tells an action from its reverse."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "datasets" / "puppets"
sys.path.insert(0, str(FOLDER))

import captions as puppet_captions  # noqa: E402
from figures import random_body  # noqa: E402
from motions import ACTIONS, PAIRS, smooth  # noqa: E402
from script import FPS, act, choices, random_actions, random_scene, random_script, random_turn, weight  # noqa: E402
from stage import draw  # noqa: E402

from pipeline.media.write import write_video  # noqa: E402

# by a name of its own: other datasets have a prepare.py, too
SPEC = importlib.util.spec_from_file_location("puppet_prepare", FOLDER / "prepare.py")
puppet_prepare = importlib.util.module_from_spec(SPEC)
sys.modules["puppet_prepare"] = puppet_prepare
SPEC.loader.exec_module(puppet_prepare)

PROPS = frozenset({"stool", "barbell", "box", "window"})
PARTNER = {a: b for pair in PAIRS.values() for a, b in ((pair.forward, pair.backward), (pair.backward, pair.forward))}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(FOLDER / "prepare.py"), *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("puppets") / "tiny"
    made = run("--size", "tiny", "--out", str(folder), "--workers", "2")
    assert made.returncode == 0, made.stderr
    assert "It matches the card." in made.stdout
    return folder


@pytest.fixture(scope="module")
def rows(tiny) -> list[dict]:
    return [
        json.loads(line) for kind in ("clips", "long") for line in (tiny / f"{kind}.jsonl").read_text().splitlines()
    ]


def test_one_process_and_the_card_give_the_same_hash(tiny, tmp_path):
    alone = puppet_prepare.prepare("tiny", tmp_path / "alone", workers=1)
    assert alone == json.loads((tiny / "puppets.json").read_text())["hash"] == puppet_prepare.hash_on_card("tiny")
    for name in ("clips.jsonl", "long.jsonl", "all.jsonl"):
        assert (tmp_path / "alone" / name).read_bytes() == (tiny / name).read_bytes()


def test_the_card_knows_every_size():
    assert all(puppet_prepare.hash_on_card(size) for size in puppet_prepare.SIZES)


@pytest.mark.parametrize("name", PAIRS)
def test_the_second_action_of_a_pair_is_the_first_run_backwards(name):
    body, progress = random_body(np.random.default_rng(3)), np.arange(9) / 8
    scene = random_scene(np.random.default_rng(4), PROPS, (0.5, 0.6))
    actions = random_actions(np.random.default_rng(5), scene, 400)
    forward = next(action for action in actions if action.label == PAIRS[name].forward)
    backward = next(
        a for a in choices(scene, forward.after) if a.label == PAIRS[name].backward and a.after == forward.before
    )
    films = []
    for action in (forward, backward):
        frames = draw(body, scene, act(body, scene, action, progress), np.random.default_rng(6), plain=True)
        films.append(np.stack(list(frames)))
    assert np.array_equal(films[0][::-1], films[1])
    assert np.abs(films[0][0].astype(int) - films[0][-1]).mean() > 1  # and it moves


def test_easing_looks_the_same_from_both_ends_of_time():
    share, skew = np.linspace(0, 1, 101), 0.3
    early, late = smooth(share + skew * share * (1 - share)), smooth(share - skew * share * (1 - share))
    assert np.allclose(early[::-1], 1 - late)


def test_every_step_of_the_walk_has_its_way_back_with_the_same_weight():
    scene = random_scene(np.random.default_rng(0), PROPS, (0.5, 0.6))
    for action in random_actions(np.random.default_rng(1), scene, 300):
        back = [
            a for a in choices(scene, action.after) if a.label == PARTNER[action.label] and a.after == action.before
        ]
        assert len(back) == 1
        assert weight(scene, back[0]) == weight(scene, action)


def test_time_before_and_after_an_action_and_its_length_do_not_tell_which_of_a_pair_it_is():
    before, after, lengths = [], [], {True: [], False: []}
    body = random_body(np.random.default_rng(0))
    for i in range(40):
        for label in ACTIONS:
            _, script = random_script(body, np.random.default_rng([i, list(ACTIONS).index(label)]), label)
            start, end, _ = script.spans[0]
            before.append(start)
            after.append(len(script.pose["x"]) / FPS - end)
            lengths[label == PAIRS[ACTIONS[label]].forward].append(end - start)
    assert abs(np.mean(before) - np.mean(after)) < 0.05
    assert np.allclose(np.quantile(before, [0.1, 0.5, 0.9]), np.quantile(after, [0.1, 0.5, 0.9]), atol=0.1)
    assert abs(np.mean(lengths[True]) - np.mean(lengths[False])) < 0.06


def test_how_a_turn_begins_does_not_tell_what_follows():
    body, first = random_body(np.random.default_rng(0)), {}
    for number, label in enumerate(ACTIONS):
        for i in range(100 if label in ("raise_arms", "bend_down") else 10):
            _, script, possible = random_turn(body, np.random.default_rng([i, number]), label)
            ((start, end, told),) = script.spans
            assert told == label and label in possible and (len(possible) > 2 or possible == [label])
            assert 0.6 < start < end < len(script.pose["x"]) / FPS
            first.setdefault(label, []).append([script.pose[k][0] for k in ("x", "yaw", "pitch")])
    arms, bow = np.array(first["raise_arms"]), np.array(first["bend_down"])
    error = np.sqrt((arms.var(0) + bow.var(0)) / 100)
    assert (np.abs(arms.mean(0) - bow.mean(0)) < 3 * error).all()
    assert np.abs(arms[:, 1]).max() > np.radians(45) and np.abs(bow[:, 1]).min() < np.radians(30)  # as others turn


def test_turns_list_what_could_have_followed(tmp_path):
    tasks = puppet_prepare.plan("turns", 0)[:3]
    (tmp_path / "clips").mkdir()
    lines, digest = puppet_prepare.make_all(tasks, tmp_path, 1)
    assert digest == puppet_prepare.make_all(tasks, None, 1)[1]
    rows, possible = ([json.loads(line) for line in lines[kind]] for kind in ("clips", "possible"))
    assert [row["path"] for row in rows] == [line["path"] for line in possible]
    assert all(row["label"] in line["labels"] for row, line in zip(rows, possible, strict=True))
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 3


def test_five_captions_tell_the_actions_in_order(rows):
    for row in rows:
        assert len(set(row["captions"])) == 5
        for caption in row["captions"]:
            assert puppet_captions.parse(caption) == [label for _, _, label in row["spans"]]
            assert re.fullmatch(r"[A-Z][a-z, ]+\.", caption)


def test_every_phrase_means_one_action():
    phrases = [phrase for options in puppet_captions.PHRASES.values() for phrase in options]
    assert set(puppet_captions.PHRASES) == set(ACTIONS)
    assert len(phrases) == len(set(phrases))
    assert all(puppet_captions.parse(f"It {phrase}.") == [puppet_captions.MEANING[phrase]] for phrase in phrases)


def test_spans_lie_inside_the_video_in_order(tiny, rows):
    for row in rows:
        with av.open(str(tiny / row["path"])) as container:
            picture, sound = container.streams.video[0], container.streams.audio[0]
            assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
            assert (sound.rate, sound.channels, picture.average_rate) == (16000, 1, FPS)
            seconds = picture.frames / FPS
            assert abs(float(sound.duration * sound.time_base) - seconds) < 0.15
            assert sum(1 for _ in container.decode(video=0)) == picture.frames
        times = [time for start, end, _ in row["spans"] for time in (start, end)]
        assert times == sorted(times) and times[0] > 0 and times[-1] < seconds
        assert row["label"] in ([row["spans"][0][2]] if row["path"].startswith("clips") else [None])


@pytest.mark.parametrize("size", puppet_prepare.SIZES)
def test_actors_are_in_one_split_and_make_both_actions_of_a_pair(size):
    tasks = puppet_prepare.plan(size, 0)
    splits = {}
    for task in tasks:
        splits.setdefault(task.actor, set()).add(task.split)
        assert not any(label in task.name for label in ACTIONS)
    assert all(len(split) == 1 for split in splits.values())
    assert Counter(task.split for task in tasks if task.kind == "clips").keys() == {"train", "val", "test"}
    made = Counter((task.actor, task.label) for task in tasks if task.label)
    assert all(made[actor, PARTNER[label]] == count for (actor, label), count in made.items())
    assert {task.label for task in tasks if task.split == "train" and task.label} == set(ACTIONS)
    if size != "tiny":
        assert all(made[actor, label] for actor in splits for label in ACTIONS)


def test_a_second_run_changes_nothing_and_others_folders_are_left_alone(tiny, tmp_path):
    again = run("--size", "tiny", "--out", str(tiny))
    assert again.returncode == 0 and "Nothing to do." in again.stdout
    other = run("--size", "small", "--out", str(tiny))
    assert other.returncode == 2 and "Give another --out, or delete that folder." in other.stderr
    (tmp_path / "clips").mkdir()
    foreign = run("--size", "tiny", "--out", str(tmp_path))
    assert foreign.returncode == 2 and "Give an empty folder as --out." in foreign.stderr


def test_an_interrupted_run_starts_afresh(tmp_path, monkeypatch, capsys):
    lines = {"clips": ["{}"], "long": ["{}"], "possible": []}
    monkeypatch.setattr(puppet_prepare, "make_all", lambda tasks, folder, workers: (lines, "0" * 64))
    (tmp_path / ".making" / "clips").mkdir(parents=True)
    (tmp_path / ".making" / "clips" / "half.mp4").write_bytes(b"half")
    assert puppet_prepare.prepare("tiny", tmp_path) == "0" * 64
    assert "Starting afresh." in capsys.readouterr().out
    assert not (tmp_path / ".making").exists() and not list((tmp_path / "clips").iterdir())
    assert (tmp_path / "clips.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "huge", "--out", "x"], "There is no size 'huge'. The sizes are tiny, small, full and turns."),
        (["--size", "tiny"], "No folder is given. Say where the videos shall go with --out DIR."),
        (["--out", "x", "--workers", "0"], "A seed is 0 or more, workers are 1 or more."),
    ],
)
def test_mistakes_are_told_in_sentences(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        puppet_prepare.main(arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_check_says_when_the_hash_is_another(monkeypatch, capsys):
    monkeypatch.setattr(puppet_prepare, "make_all", lambda tasks, folder, workers: ({}, "0" * 64))
    assert puppet_prepare.main(["--size", "tiny", "--check"]) == 1
    assert "It does not match the card" in capsys.readouterr().out


def test_an_odd_frame_grows_by_a_pixel_and_no_part_of_a_file_stays_after_an_error(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (4, 31, 33, 3), dtype=np.uint8)
    assert write_video(tmp_path / "odd.mp4", iter(frames), fps=10) == 4
    with av.open(str(tmp_path / "odd.mp4")) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (32, 34)
        assert not container.streams.audio
    for wrong, sentence in (
        ([], "There are no frames to write"),
        ([frames[0].astype(float)], r"must be uint8 \(height, width, 3\)"),
        ([frames[0], frames[0, 1:]], "All frames of a video must have the same shape"),
    ):
        with pytest.raises(ValueError, match=sentence):
            write_video(tmp_path / "wrong.mp4", wrong, fps=10)
    with pytest.raises(ValueError, match="It must be mono"):
        write_video(tmp_path / "wrong.mp4", frames, fps=10, sound=np.zeros((2, 9), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["odd.mp4"]
