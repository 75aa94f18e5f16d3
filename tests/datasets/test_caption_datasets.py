"""Datasets of captioned videos and signed sentences: manifests have what the files have, and mistakes are errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from preparers import by_path, run, write

from pipeline.data.captioned_videos import hash_split
from pipeline.data.manifest import read_manifest
from pipeline.data.manifest_rows import Row, Span


def check_sentences(path: Path, captions: dict[str, list[str]], groups: dict[str, str]) -> None:
    """Every caption has one row, and every row has the split of the hash of its group."""
    texts: dict[str, list[str]] = {}
    for name, row in by_path(path).items():
        video = name.rpartition("/")[0]
        texts.setdefault(video, []).append(row.text or "")
        assert row.group == groups[video] and row.split == hash_split(groups[video])
    assert texts == captions


# MSVD


def test_the_json_of_msvd_has_training_captions_and_test_names(tmp_path):
    captions = {f"-v{i // 2}_{i}_{i + 9}": [f"A man is {i}.", "A man sings."] for i in range(6)}
    entries = [
        {"id": f"{name}.avi", "caption": [f" {first}", second, " "]} for name, (first, second) in captions.items()
    ]
    write(tmp_path / "msvd_train_captions.json", json.dumps(entries))
    write(tmp_path / "testing_id.txt", "-v0_50_60.avi\r\nt_1_2.avi\n")
    for name in ("-v0_0_9.avi", "-v0_50_60.avi", "other_1_2.avi", "notes.txt"):
        write(tmp_path / "videos" / name, b"")
    code, output, error = run("msvd", "--folder", tmp_path, "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    assert code == 0, error
    assert "8 clips of 4 videos" in output and "1 of 1 groups are in both train and test" in output
    assert "Of 8 videos 6 are missing. 1 other videos are in no list and are left out. 1 videos have no cap" in output
    assert list(by_path(tmp_path / "out/videos.jsonl").values()) == [
        Row("-v0_0_9.avi", "train", "-v0", captions=("A man is 0.", "A man sings.")),
        Row("-v0_50_60.avi", "test", "-v0"),
    ]
    groups = {name: name.rsplit("_", 2)[0] for name in captions}
    check_sentences(tmp_path / "out/sentences.jsonl", captions, groups)
    code, output, _ = run("msvd", "--folder", tmp_path, "--out", tmp_path / "words")
    assert code == 0 and "so there is no videos.jsonl" in output
    assert [path.name for path in (tmp_path / "words").iterdir()] == ["sentences.jsonl"]


@pytest.mark.parametrize("mapped", [False, True])
def test_the_text_of_msvd_is_split_by_number_in_order(tmp_path, mapped):
    names = [f"id{i:04d}_{i}_{i + 5}" for i in range(1970)]
    lines = ["/* the corpus, version 1 */", ""] + [f"{name} a cat does {name}" for name in names for _ in range(2)]
    write(tmp_path / "AllVideoDescriptions.txt", "\n".join(lines))
    order = names[::-1] if mapped else names
    if mapped:
        write(tmp_path / "youtube_mapping.txt", "".join(f"{name} vid{i}\n" for i, name in enumerate(order, start=1)))
    borders = (0, 1199, 1200, 1299, 1300, 1969)
    for index in borders:
        write(tmp_path / "videos" / f"{order[index]}.avi", b"")
    code, output, error = run("msvd", "--folder", tmp_path, "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    assert code == 0, error
    assert "1 lines of AllVideoDescriptions.txt are not captions" in output
    rows = by_path(tmp_path / "out/videos.jsonl")
    splits = [rows[f"{order[index]}.avi"].split for index in borders]
    assert splits == ["train", "train", "val", "val", "test", "test"]
    assert rows[f"{names[0]}.avi"].captions == (f"a cat does {names[0]}",) * 2
    captions = {name: [f"a cat does {name}"] * 2 for name in names}
    check_sentences(tmp_path / "out/sentences.jsonl", captions, {name: name[:6] for name in names})
    if mapped:
        write(tmp_path / "youtube_mapping.txt", f"{names[0]} vid1\n")
        code, _, error = run("msvd", "--folder", tmp_path, "--out", tmp_path)
        assert code == 2 and error.startswith(
            "'youtube_mapping.txt' has numbers of 1 clips, but not those of the 1,970 of AllV"
        )


def test_mistakes_in_the_files_of_msvd_are_errors(tmp_path):
    def error_of(*options: object) -> str:
        code, _, error = run("msvd", "--folder", tmp_path, *options, "--out", tmp_path / "out")
        assert code == 2
        return error

    assert error_of().startswith("Neither msvd_train_captions.json nor AllVideoDescriptions.txt is in")
    for broken in ('[{"id": "a"}]', '[{"id": 1, "caption": []}]', '["a"]', "{}", '[{"id": "a", "caption": [1]}]'):
        write(tmp_path / "msvd_train_captions.json", broken)
        assert "It must be a list of" in error_of()
    write(tmp_path / "msvd_train_captions.json", "[")
    assert error_of().startswith("'msvd_train_captions.json' is not JSON (")
    write(tmp_path / "msvd_train_captions.json", '[{"id": "a_1_2.avi", "caption": ["x"]}]')
    write(tmp_path / "videos" / "b_1_2.avi", b"")
    assert error_of("--videos", tmp_path / "videos").startswith("None of the 1 videos of the lists is in")
    assert error_of("--videos", tmp_path / "gone").startswith("There is no folder")
    write(tmp_path / "testing_id.txt", "a_1_2.avi\n")
    assert error_of().startswith("1 videos are in msvd_train_captions.json and in testing_id.txt, e.g. 'a_1_2'.")
    write(tmp_path / "AllVideoDescriptions.txt", "a_1_2 a man\n")
    assert error_of().startswith("AllVideoDescriptions.txt has captions of 1 videos. The usual split is")


# MSR-VTT


def info(*videos: tuple[str, str], url: str = "") -> str:
    entries = [{"video_id": name, "split": split, "url": url} for name, split in videos]
    sentences = [{"video_id": name, "caption": f"{name}  says {i}"} for i in range(2) for name, _ in videos]
    return json.dumps({"videos": entries, "sentences": sentences})


def lists(folder: Path) -> None:
    """Small CSV lists: 8 videos in 9k, 4 of them in 7k, 2 in the test, folds of two."""
    write(folder / "MSRVTT_train.9k.csv", "video_id\n" + "".join(f"video{i}\n" for i in range(8)))
    write(folder / "MSRVTT_train.7k.csv", "video_id\n" + "".join(f"video{i}\n" for i in range(4)))
    head = "key,vid_key,video_id,sentence\n"
    for fold in range(4):
        lines = [f'ret{i},msr{i},video{i},"a man, {i}"\n' for i in (2 * fold, 2 * fold + 1)]
        write(folder / f"MSRVTT_val_fold_{fold + 1}.csv", head + "".join(lines))
    write(folder / "MSRVTT_JSFUSION_test.csv", head + "ret0,msr8,video8,a  dog\nret1,msr9,video9,a cat\n")


def test_the_json_of_msrvtt_has_the_official_split_and_the_source_videos(tmp_path):
    train = info(("video0", "train"), ("video1", "validate"), url="https://www.youtube.com/watch?v=x-_9")
    write(tmp_path / "train_val_videodatainfo.json", train)
    write(tmp_path / "test_videodatainfo.json", info(("video2", "test")))
    for number in (0, 1, 2):
        write(tmp_path / "v" / f"video{number}.mp4", b"")
    code, output, error = run("msrvtt", "--folder", tmp_path, "--videos", tmp_path / "v", "--out", tmp_path / "out")
    assert code == 0, error
    assert output.startswith("Split official: 6 captions of 3 of 3 videos.\n")
    assert "1 of 2 groups are in both train and val" in output
    assert list(by_path(tmp_path / "out/videos.jsonl").values()) == [
        Row("video0.mp4", "train", "x-_9", captions=("video0 says 0", "video0 says 1")),
        Row("video1.mp4", "val", "x-_9", captions=("video1 says 0", "video1 says 1")),
        Row("video2.mp4", "test", "video2", captions=("video2 says 0", "video2 says 1")),
    ]
    captions = {f"video{i}": [f"video{i} says {k}" for k in range(2)] for i in range(3)}
    groups = {"video0": "x-_9", "video1": "x-_9", "video2": "video2"}
    check_sentences(tmp_path / "out/sentences.jsonl", captions, groups)


def test_the_lists_of_msrvtt_have_one_sentence_per_video_and_a_fold_for_validation(tmp_path):
    lists(tmp_path)
    for number in range(10):
        write(tmp_path / "v" / f"video{number}.mp4", b"")
    options = ("--folder", tmp_path, "--videos", tmp_path / "v", "--out", tmp_path / "out")
    for choice, train, val in (((), 8, 0), (("--fold", 3), 6, 2), (("--split", "7k", "--fold", 2), 2, 2)):
        code, output, error = run("msrvtt", *options, *choice)
        assert code == 0, error
        rows = by_path(tmp_path / "out/videos.jsonl")
        assert [[r.split for r in rows.values()].count(s) for s in ("train", "val", "test")] == [train, val, 2]
        assert rows["video8.mp4"].captions == ("a dog",) and rows["video3.mp4"].captions == ("a man, 3",)
        assert rows["video3.mp4"].split == ("val" if "7k" in choice else "train")
    assert "4 other videos are in no list and are left out" in output
    write(tmp_path / "MSRVTT_data.json", info(*((f"video{i}", "train") for i in range(10))))
    code, output, _ = run("msrvtt", *options, "--split", "9k")
    rows = by_path(tmp_path / "out/videos.jsonl")
    assert rows["video9.mp4"] == Row("video9.mp4", "test", "video9", captions=("video9 says 0", "video9 says 1"))


def test_mistakes_in_the_files_of_msrvtt_are_errors(tmp_path):
    def error_of(*options: object) -> str:
        code, _, error = run("msrvtt", "--folder", tmp_path, *options, "--out", tmp_path / "out")
        assert code == 2
        return error

    assert error_of().startswith("There is no 'MSRVTT_JSFUSION_test.csv' in")
    assert error_of("--split", "official").startswith("There is no *videodatainfo*.json in")
    lists(tmp_path)
    (tmp_path / "MSRVTT_val_fold_2.csv").unlink()
    assert run("msrvtt", "--folder", tmp_path, "--out", tmp_path / "out")[0] == 0
    assert error_of("--fold", 2).startswith("There is no 'MSRVTT_val_fold_2.csv' in")
    write(tmp_path / "MSRVTT_train.9k.csv", "video_id\nvideo8\n")
    assert error_of().startswith("1 videos are in the lists of train 9k and test, e.g. 'video8'.")
    file = tmp_path / "videodatainfo.json"
    for broken in (
        '{"videos": []}',
        "[]",
        '{"videos": [{"video_id": "a", "split": "train", "url": ""}], "sentences": [1]}',
    ):
        write(file, broken)
        assert error_of().startswith("'videodatainfo.json' is not the JSON of the dataset (")
    write(file, info(("video0", "dev")))
    assert error_of().startswith(
        "'videodatainfo.json' has the split 'dev' for 'video0'. It must be one of train, validate, test."
    )
    write(file, json.dumps({"videos": [], "sentences": [{"video_id": "video0", "caption": "x"}]}))
    assert error_of().startswith("1 videos have sentences in 'videodatainfo.json' but no entry, e.g. 'video0'.")
    write(file, info(("video0", "train")))
    assert error_of("--fold", 1).startswith("--fold is a part of the CSV lists")


# signed sentences


POINTS = np.random.default_rng(0).integers(50, 200, size=(3, 12, 6))
WORD_FRAMES = {(1, 0): (2, 4), (1, 1): (4, 11), (2, 0): (1, 2), (2, 1): (6, 8), (3, 0): (0, 3), (3, 1): (3, 5)}
"""First and last frame of each word, by video and place in the sentence."""


def signs(folder: Path, points: np.ndarray = POINTS, signers: str = "abb") -> Path:
    """Three videos of 12 frames: 1 and 3 are train, 2 is test."""
    lines = ["video,frame,left-x,left-y,right-x,right-y,nose-x,nose-y"]
    lines += [
        ",".join(map(str, [v + 1, t, *row])) for v, video in enumerate(points) for t, row in enumerate(video.tolist())
    ]
    write(folder / "hands_condensed.csv", "\n".join(lines) + "\n")
    write(folder / "speaker.csv", "video,speaker\n" + "".join(f"{v},{who}\n" for v, who in enumerate(signers, start=1)))
    head = "video,speaker,word,startframe,endframe\n"
    rows = [
        f"1,{signers[0]},JOHN,2,4",
        f"1,{signers[0]},WRITE,4,11",
        f"3,{signers[2]},JOHN,0,3",
        f"3,{signers[2]},IX,3,5",
    ]
    write(folder / "train_words.csv", head + "\n".join(rows) + "\n")
    write(folder / "test_words.csv", head + f"2,{signers[1]},WRITE,6,8\n2,{signers[1]},MUST,1,2\n")
    return folder


def test_signed_sentences_are_whole_series_with_their_words_in_order(tmp_path):
    code, output, error = run("asl_hands", "--folder", signs(tmp_path), "--out", tmp_path / "out")
    assert code == 0, error
    assert output.startswith(
        "The training split has 3 words, 2 of them once. 1 of 2 test words never occur in training (MUST)"
    )
    assert (
        "0 of 1 test sentences have the words of a training sentence" in output and "\n2 words share frames" in output
    )
    rows = read_manifest(tmp_path / "out/sentences.jsonl").rows
    assert rows[0] == Row(
        "sentences/001.npy",
        "train",
        "a",
        None,
        (Span(2 / 30, 4 / 30, "JOHN"), Span(4 / 30, 12 / 30, "WRITE")),
        ("JOHN WRITE",),
    )
    assert (rows[1].split, rows[1].captions) == ("test", ("MUST WRITE",))
    series = {row.path: np.load(tmp_path / "out" / row.path) for row in rows}
    assert all(x.shape == (12, 12) and x.dtype == np.float32 for x in series.values())
    for path, row in by_path(tmp_path / "out/words.jsonl").items():
        video, index = int(path[6:9]), int(path[10:12])
        sentence = series[f"sentences/{video:03d}.npy"]
        first, last = WORD_FRAMES[video, index]
        np.testing.assert_array_equal(np.load(tmp_path / "out" / path), sentence[first : last + 1])
        assert row.label == (rows[video - 1].captions[0]).split()[index] and row.split == rows[video - 1].split


@pytest.mark.parametrize(
    ("scale", "training"), [("signer", {1: [1], 2: [3], 3: [3]}), ("all", {1: [1, 3], 2: [1, 3], 3: [1, 3]})]
)
def test_positions_are_relative_to_the_nose_and_scaled_by_training_frames(tmp_path, scale, training):
    code, _, error = run("asl_hands", "--folder", signs(tmp_path), "--scale", scale, "--out", tmp_path / "out")
    assert code == 0, error
    positions = {}
    for number, points in enumerate(POINTS.astype(float), start=1):
        nose = points[:, 4:]
        positions[number] = np.hstack([points[:, :2] - nose, points[:, 2:4] - nose, nose - nose[0]])
    movements = {number: np.vstack([np.zeros(6), x[1:] - x[:-1]]) for number, x in positions.items()}
    for number in (1, 2, 3):
        trained = np.concatenate([positions[i] for i in training[number]])
        moved = np.concatenate([movements[i] for i in training[number]])
        scaled = (positions[number] - trained.mean(0)) / trained.std(0)
        expected = np.hstack([scaled, movements[number] / moved.std(0)])
        series = np.load(tmp_path / f"out/sentences/{number:03d}.npy")
        np.testing.assert_allclose(series, expected, rtol=1e-4, atol=1e-5)


def test_test_frames_do_not_change_the_scale_and_frames_do_not_change_earlier_ones(tmp_path):
    changed = POINTS.copy()
    changed[1, 6:] += 9
    for name, points in (("one", POINTS), ("two", changed)):
        assert run("asl_hands", "--folder", signs(tmp_path / name, points), "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "one/scale.json").read_bytes() == (tmp_path / "two/scale.json").read_bytes()
    series = [[np.load(tmp_path / n / f"sentences/00{v}.npy") for v in (1, 2, 3)] for n in ("one", "two")]
    for video, stop in ((0, 12), (1, 6), (2, 12)):
        np.testing.assert_array_equal(series[0][video][:stop], series[1][video][:stop])
    assert not np.array_equal(series[0][1], series[1][1])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "hands_condensed.csv",
            "1,1,",
            "1,5,",
            "hands_condensed.csv line 3 is frame 5 of video 1, but frame 1 is next.",
        ),
        ("hands_condensed.csv", "1,1,", "1,one,", "hands_condensed.csv line 3 is not a row of whole numbers"),
        (
            "hands_condensed.csv",
            "nose-x",
            "chin-x",
            "'hands_condensed.csv' has no rows with the columns video, frame, left-x",
        ),
        (
            "test_words.csv",
            "2,b,WRITE,6,8",
            "1,a,WRITE,6,8",
            "test_words.csv line 2 (1,a,WRITE,6,8) is of video 1, which is in",
        ),
        (
            "test_words.csv",
            "6,8",
            "6,12",
            "test_words.csv line 2 (2,b,WRITE,6,12) has frames that do not exist: the video has frames 0 to 11.",
        ),
        (
            "test_words.csv",
            "2,b,WRITE,6,8",
            "4,c,WRITE,6,8",
            "test_words.csv line 2 (4,c,WRITE,6,8) has frames that do not exist: the video has no",
        ),
        (
            "test_words.csv",
            "6,8",
            "6,",
            "test_words.csv line 2 (2,b,WRITE,6,) lacks the video, the word, or its first or last frame.",
        ),
        ("speaker.csv", "2,b", "2,a", "test_words.csv line 2 (2,b,WRITE,6,8) has another signer than speaker.csv (a)."),
    ],
)
def test_broken_tables_of_signs_are_errors(tmp_path, file, old, new, message):
    signs(tmp_path)
    with (tmp_path / "speaker.csv").open("a") as table:
        table.write("4,c\n")
    write(tmp_path / file, (tmp_path / file).read_text().replace(old, new, 1))
    code, _, error = run("asl_hands", "--folder", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and error.startswith(message), error


def test_a_signer_without_training_sentences_has_no_scale(tmp_path):
    code, _, error = run("asl_hands", "--folder", signs(tmp_path, signers="aba"), "--out", tmp_path / "out")
    assert code == 2 and error.startswith("The signer 'b' has no training sentence to compute the scale from.")
    assert run("asl_hands", "--folder", tmp_path, "--scale", "all", "--out", tmp_path / "out")[0] == 0
