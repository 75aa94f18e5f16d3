"""Toy versions of the data sets that the promises need: the same files in the same formats, drawn in seconds.

In: a folder. Out: the layout of DATA (docs/results.md names its folders) with a few rows of each set. Nothing in it
is real, and no figure on it means anything.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import av
import cv2
import numpy as np

from pipeline.media.write import write_video

WORDS = [
    *("the", "a", "man", "woman", "dog", "child", "bird", "sees", "takes", "leaves"),
    *("finds", "red", "small", "old", "new", "house", "tree", "road", "good", "bad"),
]
PERSONS = 8


def make_toy_data(folder: Path) -> Path:
    """All sets below a folder, which is returned."""
    rng = np.random.default_rng(0)
    _yoga6(folder / "yoga6", rng)
    _ucf101_vgg16(folder / "ucf101_vgg16", rng)
    _weizmann4(folder / "weizmann4", rng)
    _tennis_pose(folder / "tennis_pose", rng)
    _asl_hands(folder / "asl_hands/data", rng)
    _official_lists(folder / "splits")
    _sample_clips(folder / "sample_clips", rng)
    _msvd(folder / "captions/msvd", rng)
    _texts(folder / "text", rng)
    _taggers(folder / "text", rng)
    _glove(folder / "weights/glove100d_20k", rng)
    return folder


def draw_puppets(repository: Path, size: str, out: Path) -> None:
    """Puppets of few actors; `turns` are turns of few actors, in `pairs` each makes two pairs of actions."""
    prepare = _load(repository / "datasets/puppets", "prepare")
    sizes = {"turns": prepare.Size(8, 2, 0, True), "pairs": prepare.Size(12, 2, 0)}
    pairs = dict(list(prepare.PAIRS.items())[: 2 if size == "pairs" else None])
    tiny = {size: sizes.get(size, prepare.SIZES["tiny"])}
    with patch.dict(prepare.SIZES, tiny), patch.object(prepare, "PAIRS", pairs):
        prepare.prepare(size, out, workers=1)
    for path in out.glob("*.jsonl"):
        if path.name != "possible.jsonl":
            _keep_known_spans(path)


def _keep_known_spans(path: Path) -> None:
    """Give spans whose label no training row has another label: few videos do not hold every action."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = sorted({span[2] for row in rows if row["split"] == "train" for span in row["spans"]})
    for row in rows:
        for number, span in enumerate(row["spans"]):
            span[2] = span[2] if span[2] in known else known[number % len(known)]
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _load(folder: Path, name: str) -> ModuleType:
    """A script of a data set as a module."""
    spec = importlib.util.spec_from_file_location(f"toy_{folder.name}_{name}", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch("sys.path", [str(folder), *sys.path]):
        spec.loader.exec_module(module)
    return module


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _sentence(rng: np.random.Generator, words: int = 6) -> str:
    return " ".join(rng.choice(WORDS, size=words))


def _moving_square(rng: np.random.Generator, kind: int, count: int, height: int, width: int) -> np.ndarray:
    """Frames (T, H, W, 3) of a square that moves across, up and down, or not; kind: which."""
    frames = np.full((count, height, width, 3), rng.integers(0, 80, 3), np.uint8)
    colour, side = rng.integers(120, 255, 3), height // 4
    for step in range(count):
        shift = step * (width - side) // count
        x, y = (
            (shift, side) if kind == 0 else (width // 3, shift * height // width) if kind == 1 else (width // 2, side)
        )
        frames[step, y : y + side, x : x + side] = colour
    return frames


def _yoga6(folder: Path, rng: np.random.Generator) -> None:
    lines = ["file,class,person,frames,fps,seconds"]
    (folder / "small").mkdir(parents=True)
    for person, (kind, name) in itertools.product(range(1, PERSONS + 1), enumerate(("bow", "tree", "rest"))):
        file = f"{name}_p{person:02d}.mp4"
        write_video(folder / "small" / file, _moving_square(rng, kind, 24, 48, 64), fps=12)
        lines.append(f"{file},{name},{person},24,12.0,2.0")
    _write(folder / "clips.csv", "\n".join(lines) + "\n")


def _ucf101_vgg16(folder: Path, rng: np.random.Generator) -> None:
    lines, features, groups, tests = ["index,source_id,video,class_id,class_name,group,split1"], [], [], []
    for number, (group, (kind, name), clip) in enumerate(
        itertools.product(range(1, 9), enumerate(("Archery", "Bowling", "Diving")), (1, 2))
    ):
        split = "test" if group <= 3 else "train"
        video = f"v_{name}_g{group:02d}_c{clip:02d}.avi"
        lines.append(f"{number},v_{number + 1:06d},{video},{kind},{name},{group},{split}")
        features.append(rng.normal(kind, 1.0, (25, 256)).astype(np.float16))
        groups.append(group)
        tests.append(split == "test")
    _write(folder / "clips.csv", "\n".join(lines) + "\n")
    np.savez(folder / "toy.npz", features=np.stack(features), group=np.array(groups), split1_is_test=np.array(tests))


def _weizmann4(folder: Path, rng: np.random.Generator) -> None:
    lines = ["file,action,person,frames"]
    (folder / "strips").mkdir(parents=True)
    for person, (kind, name) in itertools.product(range(6), enumerate(("walk", "jump"))):
        frames = _moving_square(rng, kind, 24, 64, 64)
        strip = frames.transpose(1, 0, 2, 3).reshape(64, -1, 3)
        cv2.imwrite(str(folder / "strips" / f"{name}_p{person}.png"), strip[..., ::-1])
        lines.append(f"{name}_p{person}.png,{name},{person},24")
    _write(folder / "clips.csv", "\n".join(lines) + "\n")


def _tennis_pose(folder: Path, rng: np.random.Generator) -> None:
    labels, matches = ["backhand", "forehand", "serve"], [f"player{number}" for number in range(6)]
    pairs = [(label, match) for match in range(6) for label in range(3) for _ in range(4)]
    features = np.stack([rng.normal(0.5 + 0.1 * label, 0.1, (30, 26)) for label, _ in pairs]).astype(np.float32)
    folder.mkdir(parents=True)
    np.savez(
        folder / "tennis_pose.npz",
        features=features,
        label=np.array([label for label, _ in pairs]),
        match=np.array([match for _, match in pairs]),
        label_names=np.array(labels),
        match_names=np.array(matches),
    )


def _asl_hands(folder: Path, rng: np.random.Generator) -> None:
    frames = ["video,frame,left-x,left-y,right-x,right-y,nose-x,nose-y"]
    signers, words = (
        ["video,speaker"],
        {split: ["video,speaker,word,startframe,endframe"] for split in ("train", "test")},
    )
    for video in range(24):
        signers.append(f"{video},woman-{video % 3}")
        frames += [f"{video},{n},{','.join(map(str, rng.integers(100, 200, 6)))}" for n in range(36)]
        for place, word in enumerate(rng.choice(["JOHN", "WRITE", "BOOK", "GIVE"], size=3)):
            start = 12 * place
            line = f"{video},woman-{video % 3},{word},{start},{start + 10}"
            words["test" if video >= 18 else "train"].append(line)
    _write(folder / "hands_condensed.csv", "\n".join(frames) + "\n")
    _write(folder / "speaker.csv", "\n".join(signers) + "\n")
    for split, lines in words.items():
        _write(folder / f"{split}_words.csv", "\n".join(lines) + "\n")


def _official_lists(folder: Path) -> None:
    names = ("Archery", "Bowling")
    _write(folder / "ucf101/classInd.txt", "".join(f"{n + 1} {name}\n" for n, name in enumerate(names)))
    for split in (1, 2, 3):
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for (number, name), group, clip in itertools.product(enumerate(names, 1), range(1, 7), (1, 2)):
            path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
            is_test = (group + split) % 3 == 0
            lists["test" if is_test else "train"].append(path if is_test else f"{path} {number}")
        for kind, lines in lists.items():
            _write(folder / f"ucf101/{kind}list0{split}.txt", "\n".join(lines) + "\n")
        for name in ("wave", "cartwheel"):
            marks = [(f"Film_{n}_{name}_f_cm_np1_le_med_{c}.avi", (n + split) % 3) for n in range(6) for c in (0, 1)]
            _write(folder / f"hmdb51/{name}_test_split{split}.txt", "".join(f"{n} {mark} \n" for n, mark in marks))


def _sample_clips(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    write_video(folder / "mmaction2_demo_k400.mp4", _moving_square(rng, 0, 60, 96, 128), fps=15)
    with av.open(str(folder / "paddlevideo_example.avi"), "w") as file:
        stream = file.add_stream("mpeg4", rate=15, width=128, height=96)
        for frame in _moving_square(rng, 1, 60, 96, 128):
            noisy = np.clip(frame + rng.integers(0, 40, frame.shape), 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        file.mux(stream.encode(None))


def _msvd(folder: Path, rng: np.random.Generator) -> None:
    entries = [
        {"id": f"film{n:08d}_{n}_{n + 9}.avi", "caption": [_sentence(rng) + "." for _ in range(12)]} for n in range(30)
    ]
    _write(folder / "msvd_train_captions.json", json.dumps(entries))


def _texts(folder: Path, rng: np.random.Generator) -> None:
    """rt_polarity, multi30k, ETTh1, tinyshakespeare."""
    for label in ("pos", "neg"):
        mark = "good" if label == "pos" else "bad"
        _write(folder / f"rt_polarity/rt-polarity.{label}", "".join(f"{_sentence(rng)} {mark} .\n" for _ in range(60)))
    for name, count in (("train", 80), ("val", 12), ("test_2016_flickr", 12)):
        lines = [_sentence(rng) for _ in range(count)]
        _write(folder / f"multi30k/{name}.en", "".join(f"{line}.\n" for line in lines))
        _write(folder / f"multi30k/{name}.de", "".join(f"{line[::-1]}.\n" for line in lines))
    hours = np.arange(20 * 30 * 24)
    columns = [np.sin(2 * np.pi * hours / 24 + n) + rng.normal(0, 0.1, len(hours)) for n in range(7)]
    table = "\n".join(
        f"{hour},{','.join(f'{v:.3f}' for v in row)}" for hour, row in zip(hours, np.stack(columns, 1), strict=True)
    )
    _write(folder / "ett/ETTh1.csv", f"date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n{table}\n")
    _write(folder / "tinyshakespeare/input.txt", "".join(f"ROMEO:\n{_sentence(rng, 9)}.\n\n" for _ in range(400)))


def _taggers(folder: Path, rng: np.random.Generator) -> None:
    """ud_english_partut and wnut17_ner."""
    tags = {word: ("DET", "NOUN", "VERB", "ADJ")[n % 4] for n, word in enumerate(WORDS)}
    for split, count in (("train", 40), ("dev", 12), ("test", 12)):
        lines = []
        for number in range(count):
            lines += [f"# newdoc id = {split}{number // 4}"]
            words = _sentence(rng).split()
            lines += [f"{i}\t{word}\t_\t{tags[word]}\t_\t_\t_\t_\t_\t_" for i, word in enumerate(words, 1)] + [""]
        _write(folder / f"ud_english_partut/en_toy-ud-{split}.conllu", "\n".join(lines) + "\n")
    files = {"wnut17train.conll": 40, "emerging.dev.conll": 12, "emerging.test.annotated": 12}
    for name, count in files.items():
        sentences = [
            [(w, "B-person" if w in ("man", "woman") else "O") for w in _sentence(rng).split()] for _ in range(count)
        ]
        _write(folder / f"wnut17_ner/{name}", "\n".join("".join(f"{w}\t{t}\n" for w, t in s) for s in sentences))


def _glove(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    np.savez(folder / "glove100d_20k.npz", vectors=rng.normal(size=(len(WORDS), 100)).astype(np.float16))
    _write(folder / "words.txt", "\n".join(WORDS) + "\n")
