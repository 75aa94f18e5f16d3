"""Folders of class folders: labels, splits, hidden files, links, folders of frames."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.class_folders import read_class_folders
from pipeline.data.manifest_rows import Row
from pipeline.media.search import VIDEO_SUFFIXES


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"video")
    return root


def test_the_label_is_the_class_folder(tmp_path: Path) -> None:
    make(
        tmp_path,
        "run/2.mp4",
        "run/deep/1.AVI",
        "sit/v_sit_g07_c02.avi",
        "sit/notes.txt",
        "sit/.hidden.mp4",
        "loose.mp4",
    )
    os.symlink(tmp_path / "run", tmp_path / "link")
    lines: list[str] = []
    assert read_class_folders(tmp_path, lines.append) == (
        Row("run/2.mp4", label="run"),
        Row("run/deep/1.AVI", label="run"),
        Row("sit/v_sit_g07_c02.avi", group="sit_g07", label="sit"),
    )
    assert lines == [
        "left out: 1 hidden or system files and folders ('sit/.hidden.mp4'); 1 other files ('sit/notes.txt'); "
        "1 links to folders that are read anyway ('link')",
        "1 videos are in no class folder and are left out: 'loose.mp4'.",
    ]


def test_class_folders_have_files_with_all_suffixes_of_videos_and_stored_features(tmp_path: Path) -> None:
    make(tmp_path, *(f"run/a{suffix}" for suffix in VIDEO_SUFFIXES), "run/a.npy", "run/a.png")
    lines: list[str] = []
    assert len(read_class_folders(tmp_path, lines.append)) == len(VIDEO_SUFFIXES) + 1
    assert lines == ["left out: 1 other files ('run/a.png')"]


def test_class_folders_under_split_folders(tmp_path: Path) -> None:
    make(tmp_path, "train/run/1.mp4", "validation/run/1.mp4", "test/sit/1.mp4")
    rows = {row.path: (row.split, row.label) for row in read_class_folders(tmp_path)}
    assert rows == {
        "train/run/1.mp4": ("train", "run"),
        "validation/run/1.mp4": ("val", "run"),
        "test/sit/1.mp4": ("test", "sit"),
    }


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("Train", "TEST", "Val"), ("train", "test", "val")),
        (("training", "dev", "eval"), ("train", "val", "test")),
        (("train", "Evaluation", "testing"), ("train", "val", "test")),
        (("train", "validation"), ("train", "val")),
        (("Train ", "Valid"), ("train", "val")),
        (("Train", "Test", "extra"), (None, None, None)),
    ],
)
def test_top_folders_are_splits_in_any_case(
    tmp_path: Path, folders: tuple[str, ...], splits: tuple[str | None, ...]
) -> None:
    make(tmp_path, *(f"{folder}/run/1.mp4" for folder in folders))
    lines: list[str] = []
    rows = {row.path.split("/")[0]: row for row in read_class_folders(tmp_path, lines.append)}
    assert tuple(rows[folder].split for folder in folders) == splits
    assert {row.label for row in rows.values()} == ({"run"} if splits[0] else set(folders))
    assert any(line.startswith("folders as splits: ") for line in lines) == (splits[0] is not None)


def test_labels_of_folders_are_stripped_and_composed(tmp_path: Path) -> None:
    make(tmp_path, "le\u0300ve/1.mp4", "lève /2.mp4", "assis/3.mp4")
    rows = read_class_folders(tmp_path, lambda line: None)
    assert sorted(row.label or "" for row in rows) == ["assis", "lève", "lève"]
    assert {row.path for row in rows} == {"le\u0300ve/1.mp4", "lève /2.mp4", "assis/3.mp4"}


def test_what_lies_on_the_stick_of_a_mac_is_left_out_in_one_line(tmp_path: Path) -> None:
    names = ["walk/1.mp4", "walk/._1.mp4", "__MACOSX/walk/1.mp4", ".Trashes/501/1.mp4", "$RECYCLE.BIN/x/1.mp4"]
    make(tmp_path, *names, "@eaDir/walk/1.mp4", "walk/.DS_Store")
    lines: list[str] = []
    assert [row.path for row in read_class_folders(tmp_path, lines.append)] == ["walk/1.mp4"]
    (line,) = lines
    assert line.startswith("left out: 6 hidden or system files and folders ('$RECYCLE.BIN/', '.Trashes/', '@eaDir/'")


def test_links_out_of_the_folder_are_followed_on_request_only(tmp_path: Path) -> None:
    make(tmp_path / "blobs", "x", "far/y.mp4")
    root = tmp_path / "set"
    make(root, "run/own.mp4")
    (root / "run/link.mp4").symlink_to(tmp_path / "blobs/x")
    (root / "sit").symlink_to(tmp_path / "blobs/far")
    lines: list[str] = []
    assert [row.path for row in read_class_folders(root, lines.append)] == ["run/own.mp4"]
    assert lines == [
        "left out: 2 links that lead out of the folder ('run/link.mp4', 'sit'). With --follow-links "
        "(data.follow_links=true) they are followed."
    ]
    followed = read_class_folders(root, lines.append, follow_links=True)
    assert [(row.path, row.label) for row in followed] == [
        ("run/link.mp4", "run"),
        ("run/own.mp4", "run"),
        ("sit/y.mp4", "sit"),
    ]
    (root / "run/own.mp4").unlink()
    with pytest.raises(ValueError, match="All 2 videos of .*Follow them with --follow-links"):
        read_class_folders(root)


def test_folders_of_frames_and_splits_without_classes_are_named(tmp_path: Path) -> None:
    make(tmp_path / "f", *(f"{c}/clip{n}/img_{i:05d}.jpg" for c in "ab" for n in (1, 2) for i in (1, 2, 3)))
    with pytest.raises(ValueError, match=r"4 folders hold images, not videos .*3 images such as 'img_00001.jpg'") as e:
        read_class_folders(tmp_path / "f")
    assert "ffmpeg -framerate 25 -start_number 1 -i" in str(e.value) and "a/clip1/img_%05d.jpg" in str(e.value)
    make(tmp_path / "s", "Train/1.mp4", "Test/2.mp4")
    with pytest.raises(ValueError, match="have names of splits, and 2 videos lie directly in them"):
        read_class_folders(tmp_path / "s")


def test_class_folders_without_videos(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No video is in a class folder of .*Known suffixes are .*.mp4"):
        read_class_folders(tmp_path)
    with pytest.raises(ValueError, match="There is no folder '.*nowhere' of videos. Correct the path."):
        read_class_folders(tmp_path / "nowhere")
