"""Tracks of hands and nose in signed sentences -> series of sentences and of words, two manifests. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.manifest import Row, Span, Split
from pipeline.data.prepared import folder_parser, run_preparer, table_of_file, write_into

RATE = 30  # frames a second, as recorded
POINTS = ("left-x", "left-y", "right-x", "right-y", "nose-x", "nose-y")
WORDS: dict[Split, str] = {"train": "train_words.csv", "test": "test_words.csv"}
WORD_COLUMNS = ("video", "speaker", "word", "startframe", "endframe")


@dataclass(frozen=True)
class Sentence:
    """One video: its words with first and last frame (both within the word), and its points (T, 6) in pixels."""

    video: int
    split: Split
    signer: str
    words: tuple[tuple[int, int, str], ...]
    points: np.ndarray

    @property
    def text(self) -> str:
        return " ".join(word for _, _, word in self.words)


def read_points(folder: Path) -> dict[int, np.ndarray]:
    """(T, 6) float64 pixels of each video, frames in order from 0."""
    path = folder / "hands_condensed.csv"
    frames: dict[int, list[list[int]]] = defaultdict(list)
    for number, line in enumerate(table_of_file(path, ("video", "frame", *POINTS)), start=2):
        try:
            video, frame, *points = (int(line[name]) for name in ("video", "frame", *POINTS))
        except ValueError as error:
            what = f"{path.name} line {number} is no row of whole numbers ({error})"
            raise ValueError(
                f"{what}. It has the video, the frame and six places in pixels. Fetch it again."
            ) from error
        if frame != len(frames[video]):
            what = f"{path.name} line {number} is frame {frame} of video {video}, where {len(frames[video])} would be"
            raise ValueError(f"{what}. Frames count from 0 without a gap. Fetch it again.")
        frames[video].append(points)
    return {video: np.array(points, dtype=np.float64) for video, points in frames.items()}


def read(folder: Path) -> list[Sentence]:
    """The sentences by video, with the official split: train_words.csv and test_words.csv share none."""
    points = read_points(folder)
    speakers = {line["video"]: line["speaker"] for line in table_of_file(folder / "speaker.csv", ("video", "speaker"))}
    sentences: dict[int, Sentence] = {}
    for split, name in WORDS.items():
        words: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        for number, line in enumerate(table_of_file(folder / name, WORD_COLUMNS), start=2):
            cells = [line[column] for column in ("video", "startframe", "endframe")]
            where = f"{name} line {number} ({','.join(line.values())})"
            if not all(cell.isdecimal() for cell in cells) or not line["word"].strip():
                raise ValueError(
                    f"{where} has no video, word, first and last frame. Each word has them. Fetch it again."
                )
            video, first, last = map(int, cells)
            if video in sentences:
                raise ValueError(
                    f"{where} is of video {video}, which trains already. A sentence has one side. Remove it."
                )
            if speakers.get(str(video)) != line["speaker"]:
                raise ValueError(
                    f"{where} has another signer than speaker.csv ({speakers.get(str(video))}). Mend one of them."
                )
            if not first <= last < len(points.get(video, ())):
                held = (
                    f"the video has frames 0 to {len(points[video]) - 1}"
                    if video in points
                    else "the video has no tracks"
                )
                raise ValueError(f"{where} cannot be cut: {held}. Take all tables from one copy.")
            words[video].append((first, last, line["word"].strip()))
        for video, mine in words.items():
            sentences[video] = Sentence(video, split, speakers[str(video)], tuple(sorted(mine)), points[video])
    return [sentences[video] for video in sorted(sentences)]


def track(points: np.ndarray) -> np.ndarray:
    """(T, 6) pixels -> (T, 12): hands from the nose, the nose from where it is first, and how far each moved since the last frame.

    Looks back only, so that a stream of frames gives the same.
    """
    nose = points[:, 4:]
    places = np.concatenate([points[:, :2] - nose, points[:, 2:4] - nose, nose - nose[:1]], axis=1)
    return np.concatenate([places, np.diff(places, axis=0, prepend=places[:1])], axis=1)


def scales(sentences: list[Sentence], by_signer: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and deviation (12,) over the frames of training sentences: of each signer, or of all. Movements keep their zero."""
    frames: dict[str, list[np.ndarray]] = defaultdict(list)
    for sentence in sentences:
        if sentence.split == "train":
            frames[sentence.signer if by_signer else "all"].append(track(sentence.points))
    strangers = sorted({sentence.signer for sentence in sentences} - frames.keys())
    if by_signer and strangers:
        raise ValueError(
            f"The signer {strangers[0]!r} has no training sentence to take the scale from. Use --scale all."
        )
    found = {}
    for signer, mine in frames.items():
        every = np.concatenate(mine)
        mean, deviation = every.mean(0), every.std(0)
        mean[6:] = 0.0
        found[signer] = mean, np.where(deviation > 0, deviation, 1.0)
    return found


def spans_of(sentence: Sentence) -> tuple[tuple[Span, ...], int]:
    """Words in seconds, and how many share frames with the next one: such a word ends where the next begins."""
    spans, shared = [], 0
    for place, (first, last, word) in enumerate(sentence.words):
        stop = last + 1
        if place + 1 < len(sentence.words) and sentence.words[place + 1][0] < stop:
            stop, shared = sentence.words[place + 1][0], shared + 1
        spans.append(Span(first / RATE, stop / RATE, word))
    return tuple(spans), shared


def write_series(sentences: list[Sentence], out: Path, by_signer: bool) -> tuple[list[Row], list[Row], int]:
    """One float32 (T, 12) a sentence and one a word, the rows of both, and how many words share frames with the next."""
    scale = scales(sentences, by_signer)
    for name in ("sentences", "words"):
        (out / name).mkdir(parents=True, exist_ok=True)
    rows, word_rows, shared = [], [], 0
    for sentence in sentences:
        mean, deviation = scale[sentence.signer if by_signer else "all"]
        series = ((track(sentence.points) - mean) / deviation).astype(np.float32)
        spans, cut = spans_of(sentence)
        shared += cut
        path = f"sentences/{sentence.video:03d}.npy"
        np.save(out / path, series)
        rows.append(Row(path, sentence.split, sentence.signer, None, spans, (sentence.text,)))
        for place, (first, last, word) in enumerate(sentence.words):
            path = f"words/{sentence.video:03d}_{place:02d}.npy"
            np.save(out / path, series[first : last + 1])
            word_rows.append(Row(path, sentence.split, sentence.signer, word))
    kept = {name: {"mean": m.tolist(), "deviation": d.tolist()} for name, (m, d) in scale.items()}
    (out / "scale.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return rows, word_rows, shared


def about(sentences: list[Sentence], shared: int) -> str:
    """What a reader of scores should know of the split."""
    words = {s: [word for x in sentences if x.split == s for _, _, word in x.words] for s in ("train", "test")}
    seen = Counter(words["train"])
    new = sorted(word for word in words["test"] if word not in seen)
    texts = {x.text for x in sentences if x.split == "train"}
    tested = [x for x in sentences if x.split == "test"]
    return (
        f"{len(seen):,} words train, {sum(n == 1 for n in seen.values()):,} of them once; {len(new):,} of {len(words['test']):,} test "
        f"words never occur in training ({', '.join(dict.fromkeys(new)) or 'none'}), no model can know them.\n"
        f"{sum(x.text in texts for x in tested):,} of {len(tested):,} test sentences have the words of a training sentence, in order.\n"
        f"{shared:,} words share frames with the next one; in the sentences' spans they end where it begins."
    )


def make(options: argparse.Namespace) -> str:
    sentences = read(options.folder)
    rows, words, shared = write_series(sentences, options.out, options.scale == "signer")
    said = [about(sentences, shared), write_into(options.out, rows, "sentences.jsonl")]
    return "\n".join([*said, write_into(options.out, words, "words.jsonl")])


def main() -> int:
    parser = folder_parser(
        __doc__, "of hands_condensed.csv, speaker.csv and the words", "the series, sentences.jsonl and words.jsonl"
    )
    parser.add_argument(
        "--scale", choices=("signer", "all"), default="signer", help="whose training frames give mean and deviation"
    )
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
