"""Tracks of hands and nose in signed sentences -> series and manifests of sentences and of words.

See README.md in this folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.dataset_tools import folder_parser, read_table_file, run_preparer, write_into
from pipeline.data.manifest_rows import Row, Span, Split

RATE = 30
"""Frames per second, as recorded."""
POINTS = ("left-x", "left-y", "right-x", "right-y", "nose-x", "nose-y")
WORD_FILES: dict[Split, str] = {"train": "train_words.csv", "test": "test_words.csv"}
WORD_COLUMNS = ("video", "speaker", "word", "startframe", "endframe")

Word = tuple[int, int, str]
"""First frame, last frame (both are part of the word), and the word."""


@dataclass(frozen=True)
class Sentence:
    """One video: its words in order, and its points (T, 6) in pixels."""

    video: int
    split: Split
    signer: str
    words: tuple[Word, ...]
    points: np.ndarray

    @property
    def text(self) -> str:
        return " ".join(word for _, _, word in self.words)


def read_points(folder: Path) -> dict[int, np.ndarray]:
    """(T, 6) float64 pixels of each video, frames in order from 0."""
    path = folder / "hands_condensed.csv"
    frames: dict[int, list[list[int]]] = defaultdict(list)
    for number, line in enumerate(read_table_file(path, ("video", "frame", *POINTS)), start=2):
        try:
            video, frame, *points = (int(line[name]) for name in ("video", "frame", *POINTS))
        except ValueError as error:
            problem = f"{path.name} line {number} is not a row of whole numbers ({error})"
            raise ValueError(
                f"{problem}. It has the video, the frame and six coordinates in pixels. Download it again."
            ) from error
        if frame != len(frames[video]):
            problem = (
                f"{path.name} line {number} is frame {frame} of video {video}, but frame {len(frames[video])} is next"
            )
            raise ValueError(f"{problem}. Frames are counted from 0 without a gap. Download it again.")
        frames[video].append(points)
    return {video: np.array(points, dtype=np.float64) for video, points in frames.items()}


def read_sentences(folder: Path) -> list[Sentence]:
    """The sentences by video, with the official split: no video is in both train_words.csv and test_words.csv."""
    points = read_points(folder)
    table = read_table_file(folder / "speaker.csv", ("video", "speaker"))
    signers = {line["video"]: line["speaker"] for line in table}
    sentences: dict[int, Sentence] = {}
    for split, name in WORD_FILES.items():
        words: dict[int, list[Word]] = defaultdict(list)
        for number, line in enumerate(read_table_file(folder / name, WORD_COLUMNS), start=2):
            place = f"{name} line {number} ({','.join(line.values())})"
            video, word = parse_word(line, place, signers, points)
            if video in sentences:
                raise ValueError(
                    f"{place} is of video {video}, which is in the training split. A sentence has one split. Remove it."
                )
            words[video].append(word)
        for video, own in words.items():
            sentences[video] = Sentence(video, split, signers[str(video)], tuple(sorted(own)), points[video])
    return [sentences[video] for video in sorted(sentences)]


def parse_word(
    line: dict[str, str], place: str, signers: dict[str, str], points: dict[int, np.ndarray]
) -> tuple[int, Word]:
    """The video of a word, and the word. Raises ValueError where the tables do not agree."""
    cells = [line[column] for column in ("video", "startframe", "endframe")]
    if not all(cell.isdecimal() for cell in cells) or not line["word"].strip():
        raise ValueError(
            f"{place} lacks the video, the word, or its first or last frame. Each word has them. Download it again."
        )
    video, first, last = map(int, cells)
    if signers.get(str(video)) != line["speaker"]:
        raise ValueError(
            f"{place} has another signer than speaker.csv ({signers.get(str(video))}). Correct one of them."
        )
    if not first <= last < len(points.get(video, ())):
        frames = f"frames 0 to {len(points[video]) - 1}" if video in points else "no tracks"
        raise ValueError(f"{place} has frames that do not exist: the video has {frames}. Use all tables from one copy.")
    return video, (first, last, line["word"].strip())


def compute_features(points: np.ndarray) -> np.ndarray:
    """(T, 6) pixels -> (T, 12): positions and movements.

    Positions: both hands relative to the nose, and the nose relative to its position in the first frame. Movements: the
    change of each position since the previous frame. Only earlier frames are used, so a stream of frames gives the
    same.
    """
    nose = points[:, 4:]
    positions = np.concatenate([points[:, :2] - nose, points[:, 2:4] - nose, nose - nose[:1]], axis=1)
    return np.concatenate([positions, np.diff(positions, axis=0, prepend=positions[:1])], axis=1)


def compute_scales(sentences: list[Sentence], by_signer: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation (12,) over the frames of training sentences, of each signer or of all ("all").

    The mean of movements is taken as 0.
    """
    features: dict[str, list[np.ndarray]] = defaultdict(list)
    for sentence in sentences:
        if sentence.split == "train":
            features[sentence.signer if by_signer else "all"].append(compute_features(sentence.points))
    untrained_signers = sorted({sentence.signer for sentence in sentences} - features.keys())
    if by_signer and untrained_signers:
        raise ValueError(
            f"The signer {untrained_signers[0]!r} has no training sentence to compute the scale from. Use --scale all."
        )
    scales = {}
    for signer, parts in features.items():
        frames = np.concatenate(parts)
        mean, deviation = frames.mean(0), frames.std(0)
        mean[6:] = 0.0
        scales[signer] = mean, np.where(deviation > 0, deviation, 1.0)
    return scales


def spans_of(sentence: Sentence) -> tuple[tuple[Span, ...], int]:
    """Words in seconds, and how many share frames with the next word. Such a word ends where the next starts."""
    spans, num_shared = [], 0
    for index, (first, last, word) in enumerate(sentence.words):
        stop = last + 1
        if index + 1 < len(sentence.words) and sentence.words[index + 1][0] < stop:
            stop, num_shared = sentence.words[index + 1][0], num_shared + 1
        spans.append(Span(first / RATE, stop / RATE, word))
    return tuple(spans), num_shared


def write_series(sentences: list[Sentence], out: Path, by_signer: bool) -> tuple[list[Row], list[Row], int]:
    """Write one float32 array (T, 12) per sentence and per word.

    Returns the rows of sentences, the rows of words, and how many words share frames with the next one.
    """
    scales = compute_scales(sentences, by_signer)
    for name in ("sentences", "words"):
        (out / name).mkdir(parents=True, exist_ok=True)
    rows, word_rows, total_shared = [], [], 0
    for sentence in sentences:
        mean, deviation = scales[sentence.signer if by_signer else "all"]
        series = ((compute_features(sentence.points) - mean) / deviation).astype(np.float32)
        spans, num_shared = spans_of(sentence)
        total_shared += num_shared
        path = f"sentences/{sentence.video:03d}.npy"
        np.save(out / path, series)
        rows.append(Row(path, sentence.split, sentence.signer, None, spans, (sentence.text,)))
        for index, (first, last, word) in enumerate(sentence.words):
            path = f"words/{sentence.video:03d}_{index:02d}.npy"
            np.save(out / path, series[first : last + 1])
            word_rows.append(Row(path, sentence.split, sentence.signer, word))
    scale_json = {name: {"mean": m.tolist(), "deviation": d.tolist()} for name, (m, d) in scales.items()}
    (out / "scale.json").write_text(json.dumps(scale_json, indent=2) + "\n", encoding="utf-8")
    return rows, word_rows, total_shared


def describe(sentences: list[Sentence], num_shared: int) -> str:
    """What readers of scores should know of the split."""
    words = {s: [word for x in sentences if x.split == s for _, _, word in x.words] for s in ("train", "test")}
    counts = Counter(words["train"])
    new_words = [word for word in words["test"] if word not in counts]
    listed = ", ".join(dict.fromkeys(sorted(new_words))) or "none"
    train_texts = {sentence.text for sentence in sentences if sentence.split == "train"}
    test_texts = [sentence.text for sentence in sentences if sentence.split == "test"]
    num_once, num_repeated = sum(n == 1 for n in counts.values()), sum(text in train_texts for text in test_texts)
    return (
        f"The training split has {len(counts):,} words, {num_once:,} of them once. {len(new_words):,} of "
        f"{len(words['test']):,} test words never occur in training ({listed}), so no model can know them.\n"
        f"{num_repeated:,} of {len(test_texts):,} test sentences have the words of a training sentence, in order.\n"
        f"{num_shared:,} words share frames with the next one; in the spans of the sentences they end where it starts."
    )


def make(options: argparse.Namespace) -> str:
    sentences = read_sentences(options.folder)
    rows, word_rows, num_shared = write_series(sentences, options.out, options.scale == "signer")
    return "\n".join(
        [
            describe(sentences, num_shared),
            write_into(options.out, rows, "sentences.jsonl"),
            write_into(options.out, word_rows, "words.jsonl"),
        ]
    )


def main() -> int:
    inputs = "hands_condensed.csv, speaker.csv, train_words.csv and test_words.csv"
    parser = folder_parser(__doc__, inputs, "the series, sentences.jsonl and words.jsonl")
    scale = "whose training frames give the mean and the standard deviation"
    parser.add_argument("--scale", choices=("signer", "all"), default="signer", help=scale)
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
