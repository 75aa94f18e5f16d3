"""Readers on small folders in the official formats, and the prepare.py of each dataset as a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.data.class_folders import read_class_folders
from pipeline.data.manifest import read_manifest
from pipeline.data.manifest_rows import Row
from pipeline.data.readers import read_hmdb51, read_path_label_list, read_ucf101, write_and_describe

DATASETS = Path(__file__).resolve().parents[2] / "datasets"


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"video")
    return root


def write(path: Path, lines: Iterable[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def ucf101(folder: Path) -> tuple[Path, Path, list[str]]:
    """Two classes, three groups a class, group 1 is the test of split 1. Lists have CRLF ends as published."""
    names = [f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi" for c in ("Archery", "YoYo") for g in (1, 2, 3) for k in (1, 2)]
    lists = folder / "lists"
    write(lists / "classInd.txt", ["1 Archery", "2 YoYo"], "\r\n")
    train = [f"{name} {1 if name.startswith('Archery') else 2}" for name in names if "_g01_" not in name]
    write(lists / "trainlist01.txt", train, "\r\n")
    write(lists / "testlist01.txt", [name for name in names if "_g01_" in name], "\r\n")
    return make(folder / "videos", *names), lists, names


def hmdb51(folder: Path) -> tuple[Path, Path]:
    lists = folder / "lists"
    golf = ["Rate_my_golf_swing_golf_f_0.avi 1 ", "Glory_golf_f_1.avi 2 ", "A!_[b]#'&;_golf_f_2.avi 0 "]
    write(lists / "golf_test_split2.txt", golf)
    write(lists / "shake_hands_test_split2.txt", ["Glory_shake_hands_f_0.avi 1 ", "é_shake_hands_f_1.avi 2 "])
    names = [f"golf/{line.split()[0]}" for line in golf]
    return make(
        folder / "videos", *names, "shake_hands/Glory_shake_hands_f_0.avi", "shake_hands/é_shake_hands_f_1.avi"
    ), lists


def test_ucf101_has_the_split_of_its_lists(tmp_path: Path) -> None:
    root, lists, names = ucf101(tmp_path)
    make(root, "YoYo/v_YoYo_g09_c01.avi")
    lines: list[str] = []
    rows = read_ucf101(root, lists, 1, lines.append)
    assert [row.path for row in rows] == sorted(names)
    assert all(row.split == ("test" if "_g01_" in row.path else "train") for row in rows)
    assert rows[0] == Row("Archery/v_Archery_g01_c01.avi", "test", "Archery_g01", "Archery")
    assert {row.group for row in rows} == {f"{c}_g0{g}" for c in ("Archery", "YoYo") for g in (1, 2, 3)}
    assert lines == ["1 videos are in no list and are left out: 'YoYo/v_YoYo_g09_c01.avi'."]


def test_missing_videos_of_ucf101_are_an_error(tmp_path: Path) -> None:
    root, lists, names = ucf101(tmp_path)
    for name in names[:7]:
        (root / name).unlink()
    with pytest.raises(
        ValueError, match="7 of 12 listed videos are missing under .*_g01_c01.avi.* and 2 more. Correct"
    ):
        read_ucf101(root, lists, 1)


def test_mistakes_in_lists_of_ucf101_are_listed(tmp_path: Path) -> None:
    root, lists, names = ucf101(tmp_path)
    write(lists / "trainlist01.txt", [f"{names[2]} 2", "Diving/v_Diving_g02_c01.avi 1", "YoYo 2", f"{names[3]} 1"])
    write(lists / "testlist01.txt", [names[3]])
    with pytest.raises(ValueError, match=r"\S") as error:
        read_ucf101(root, lists, 1)
    message = str(error.value)
    assert message.startswith("4 mistakes in the UCF101 lists:")
    assert "trainlist01.txt line 1: 'Archery/v_Archery_g02_c01.avi 2' has class 2, but classInd.txt has 1." in message
    assert "trainlist01.txt line 2: 'Diving/v_Diving_g02_c01.avi 1' is not Class/video.avi" in message
    assert "testlist01.txt line 1: 'Archery/v_Archery_g02_c02.avi' is listed twice." in message
    with pytest.raises(ValueError, match="There is no list 'trainlist02.txt' in .* It is part of the dataset."):
        read_ucf101(root, lists, 2)
    with pytest.raises(ValueError, match="There is no official split 4. The splits are 1, 2 and 3."):
        read_ucf101(root, lists, 4)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="There is no folder .* of lists"):
        read_ucf101(root, lists / "x", 1)


def test_hmdb51_has_the_split_of_its_lists(tmp_path: Path) -> None:
    root, lists = hmdb51(tmp_path)
    lines: list[str] = []
    assert read_hmdb51(root, lists, 2, lines.append) == (
        Row("golf/Glory_golf_f_1.avi", "test", "Glory", "golf"),
        Row("golf/Rate_my_golf_swing_golf_f_0.avi", "train", "Rate_my_golf_swing", "golf"),
        Row("shake_hands/Glory_shake_hands_f_0.avi", "train", "Glory", "shake_hands"),
        Row("shake_hands/é_shake_hands_f_1.avi", "test", "é", "shake_hands"),
    )
    assert lines == ["Split 2 does not use 1 of 5 listed videos."]


def test_mistakes_in_lists_of_hmdb51_are_listed(tmp_path: Path) -> None:
    root, lists = hmdb51(tmp_path)
    write(lists / "golf_test_split2.txt", ["a_golf_0.avi 3", "b_run_0.avi 1", "c_golf_0.avi 1", "c_golf_0.avi 0"])
    with pytest.raises(ValueError, match=r"\S") as error:
        read_hmdb51(root, lists, 2)
    assert str(error.value).startswith(
        "3 mistakes in the HMDB51 lists:\n  golf_test_split2.txt line 1: 'a_golf_0.avi 3'"
    )
    assert "line 2: 'b_run_0.avi 1' is not SOURCE_golf_*.avi with 1, 2 or 0." in str(error.value)
    assert "line 4: 'c_golf_0.avi' is listed twice." in str(error.value)
    with pytest.raises(ValueError, match="There is no file .*_test_split1.txt in"):
        read_hmdb51(root, lists, 1)


def test_the_unused_videos_of_hmdb51_must_exist_too(tmp_path: Path) -> None:
    root, lists = hmdb51(tmp_path)
    (root / "golf/A!_[b]#'&;_golf_f_2.avi").unlink()
    with pytest.raises(ValueError, match="1 of 5 listed videos are missing"):
        read_hmdb51(root, lists, 2, print)


@pytest.mark.parametrize(
    ("lines", "separator"),
    [
        (["a/my clip.mp4 1", "./b, c.mp4\t0", "", "d.mp4 1"], "auto"),
        (["a/my clip.mp4,1", '"b, c.mp4",0', "d.mp4, 1"], "auto"),
        (["a/my clip.mp4,jump rope", "b, c.mp4,run", "d.mp4,jump rope"], "comma"),
    ],
)
def test_path_label_list_with_spaces_or_commas(tmp_path: Path, lines: list[str], separator: str) -> None:
    root = make(tmp_path / "videos", "a/my clip.mp4", "b, c.mp4", "d.mp4")
    names = write(tmp_path / "names.txt", ["run", "jump rope"])
    listed = write(tmp_path / "list.txt", ["\ufeff" + lines[0], *lines[1:]])
    rows = read_path_label_list(listed, root, split="val", label_map=names, separator=separator)  # pyright: ignore
    assert [(row.path, row.split, row.label) for row in rows] == [
        ("a/my clip.mp4", "val", "jump rope"),
        ("b, c.mp4", "val", "run"),
        ("d.mp4", "val", "jump rope"),
    ]


def test_path_label_list_without_names_and_with_absolute_paths(tmp_path: Path) -> None:
    root = make(tmp_path / "videos", "a.mp4", "b.mp4")
    listed = write(tmp_path / "list.txt", [f"{root}/a.mp4 17", "b.mp4 run"])
    assert read_path_label_list(listed, root) == (Row("a.mp4", label="17"), Row("b.mp4", label="run"))


def test_mistakes_in_a_path_label_list_are_listed(tmp_path: Path) -> None:
    root = make(tmp_path / "videos", "a.mp4")
    names = write(tmp_path / "names.txt", ["run", "sit"])
    listed = write(
        tmp_path / "list.txt", ["a.mp4 2", "../b.mp4 1", "/etc/passwd 1", "alone", "c.mp4 fly", "d.mp4 0", "d.mp4 0"]
    )
    with pytest.raises(ValueError, match=r"\S") as error:
        read_path_label_list(listed, root, label_map=names)
    message = str(error.value)
    assert message.startswith(
        "6 mistakes in 'list.txt':\n  line 1: 'a.mp4 2' has label 2, but the label map has 2 names, 0 to 1."
    )
    assert "line 2: '../b.mp4 1' is outside" in message and "line 3: '/etc/passwd 1' is outside" in message
    assert "line 4: 'alone' is not a path and a label with a space between them." in message
    assert "line 5: 'c.mp4 fly' has label 'fly', which is not a name of the label map." in message
    assert "line 7: 'd.mp4 0' is listed twice." in message
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.mp4 1")
    with pytest.raises(ValueError, match="The list 'latin.txt' is not UTF-8 text .byte 3.. Lists are plain text."):
        read_path_label_list(tmp_path / "latin.txt", root)


def test_path_label_list_with_missing_videos(tmp_path: Path) -> None:
    root = make(tmp_path / "videos", "a.mp4")
    listed = write(tmp_path / "list.txt", ["a.mp4 1", "gone.mp4 1"])
    with pytest.raises(ValueError, match="1 of 2 listed videos are missing under .*: 'gone.mp4'. Correct the folder"):
        read_path_label_list(listed, root)
    lines: list[str] = []
    assert [row.path for row in read_path_label_list(listed, root, skip_missing=True, log=lines.append)] == ["a.mp4"]
    assert lines == ["1 of 2 listed videos are missing and left out: 'gone.mp4'."]
    (root / "a.mp4").unlink()
    with pytest.raises(ValueError, match="No video is left under"):
        read_path_label_list(listed, root, skip_missing=True, log=lines.append)


def test_a_description_has_the_leaks_and_the_root(tmp_path: Path) -> None:
    root = make(tmp_path / "videos", "a.mp4", "b.mp4")
    rows = [Row("a.mp4", "train", "film", "x"), Row("b.mp4", "test", "film", "x")]
    text = write_and_describe(rows, root, tmp_path / "m.jsonl")
    assert "2 rows (1 train, 1 test), 1 classes, 1 groups." in text and f"Set data.root={root} with it." in text
    assert "Note: 1 of 1 groups are in both train and test" in text
    assert "data.root" not in write_and_describe(rows, root, root / "m.jsonl")
    with pytest.raises(ValueError, match="The manifest .* cannot be written .No such file.*. Choose another --out."):
        write_and_describe(rows, root, tmp_path / "nowhere" / "m.jsonl")


def run(name: str, *options: object) -> tuple[int, str, str]:
    command = [sys.executable, str(DATASETS / name / "prepare.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_every_dataset_has_a_card_and_no_package() -> None:
    for folder in (path for path in DATASETS.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert (folder / "README.md").is_file() and (folder / "prepare.py").is_file(), folder.name
        assert not (folder / "__init__.py").exists()
    assert not (DATASETS / "__init__.py").exists()


def test_prepare_ucf101_and_hmdb51(tmp_path: Path) -> None:
    root, lists, names = ucf101(tmp_path / "u")
    code, text, _ = run("ucf101", "--videos", root, "--lists", lists, "--split", 1, "--out", root / "m.jsonl")
    assert code == 0 and "12 rows (8 train, 4 test), 2 classes, 6 groups." in text
    assert [row.path for row in read_manifest(root / "m.jsonl").rows] == sorted(names)
    (root / names[0]).unlink()
    code, _, error = run("ucf101", "--videos", root, "--lists", lists, "--out", root / "m.jsonl")
    assert code == 2 and error.startswith("1 of 12 listed videos are missing")
    root, lists = hmdb51(tmp_path / "h")
    code, text, _ = run("hmdb51", "--videos", root, "--lists", lists, "--split", 2, "--out", tmp_path / "m.csv")
    assert code == 0 and "Note: 1 of 3 groups are in both train and test (1 test rows): 'Glory'." in text
    assert len(read_manifest(tmp_path / "m.csv", root).rows) == 4


def test_prepare_lists_and_class_folders(tmp_path: Path) -> None:
    root = make(tmp_path / "videos", "run/a.mp4", "sit/b.mp4")
    train, test = write(tmp_path / "train.txt", ["run/a.mp4 0"]), write(tmp_path / "test.txt", ["sit/b.mp4 1"])
    out = tmp_path / "m.jsonl"
    code, _, _ = run("path_label_list", "--videos", root, "--train", train, "--test", test, "--out", out)
    assert code == 0 and [row.split for row in read_manifest(out).rows] == ["train", "test"]
    code, _, error = run("path_label_list", "--videos", root, "--out", out)
    assert code == 2 and error.startswith("No list is given.")
    code, _, _ = run("class_folders", "--videos", root, "--out", root / "m.csv")
    assert code == 0 and read_manifest(root / "m.csv").labels == ("run", "sit")
    code, _, error = run("class_folders", "--videos", root, "--out", root / "m.txt")
    assert code == 2 and "It must end in .jsonl or .csv" in error


def test_prepare_yoga6(tmp_path: Path) -> None:
    root = make(tmp_path / "yoga", "small/a.mp4", "small/b.mp4")
    write(root / "clips.csv", ["file,class,person", "a.mp4,tadasan,3", "b.mp4,padamasan,12"])
    code, text, _ = run("yoga6", "--folder", root, "--out", root / "m.jsonl", "--as-class-folders", tmp_path / "out")
    assert code == 0 and "Put 2 clips into class folders" in text
    assert [row.group for row in read_manifest(root / "m.jsonl").rows] == ["person03", "person12"]
    assert {row.path for row in read_class_folders(tmp_path / "out")} == {"tadasan/a.mp4", "padamasan/b.mp4"}
    write(root / "clips.csv", ["file,class,person", "a.mp4,../up,3"])
    code, _, error = run("yoga6", "--folder", root, "--as-class-folders", tmp_path / "out")
    assert code == 2 and error.startswith("The class '../up' cannot be the name of a folder.")
    code, _, error = run("yoga6", "--folder", root)
    assert code == 2 and error.startswith("There is nothing to do.")


def test_prepare_stored_features_and_poses(tmp_path: Path) -> None:
    features = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    folder = tmp_path / "vgg"
    table = [
        "video,class_name,group,split1",
        "v_X_g01_c01.avi,X,1,test",
        "v_A_g02_c01.avi,A,2,train",
        "v_B_g08_c03.avi,B,8,test",
    ]
    write(folder / "clips.csv", table)
    np.savez(
        folder / "f.npz", features=features, group=np.array([2, 8], np.int8), split1_is_test=np.array([False, True])
    )
    code, _, _ = run("ucf101_vgg16", "--folder", folder, "--out", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert code == 0 and manifest.rows[1] == Row("features/v_B_g08_c03.npy", "test", "B_g08", "B")
    np.testing.assert_array_equal(np.load(manifest.path_of(manifest.rows[1])), features[1])
    write(folder / "clips.csv", [*table[:2], "v_A_g03_c01.avi,A,3,train", table[3]])
    code, _, error = run("ucf101_vgg16", "--folder", folder, "--out", tmp_path / "out")
    assert code == 2 and error.startswith("clips.csv and the archive differ at 'v_A_g03_c01.avi'.")
    folder = tmp_path / "tennis"
    folder.mkdir()
    labels, matches = np.array(["serve", "volley"]), np.array(["one", "two"])
    poses = np.random.default_rng(0).random((2, 3, 26), dtype=np.float32)
    np.savez(
        folder / "tennis_pose.npz",
        features=poses,
        label=np.array([1, 0]),
        match=np.array([0, 1]),
        label_names=labels,
        match_names=matches,
    )
    code, _, _ = run("tennis_pose", "--folder", folder, "--out", tmp_path / "poses")
    manifest = read_manifest(tmp_path / "poses" / "manifest.jsonl")
    assert code == 0 and manifest.rows[0] == Row("poses/one_0000_volley.npy", None, "one", "volley")
    written = np.load(manifest.path_of(manifest.rows[1]))
    assert written.dtype == np.float32
    np.testing.assert_allclose(written + np.tile([0, 0.5], 13), poses[1], atol=1e-6)  # x relative to the middle
    np.savez(
        folder / "tennis_pose.npz",
        features=features,
        label=[1, 0],
        match=[0, 1],
        label_names=labels,
        match_names=matches,
    )
    code, _, error = run("tennis_pose", "--folder", folder, "--out", tmp_path / "poses")
    assert code == 2 and "holds features of shape (2, 3, 4). The shape must be (shots, steps, 26)" in error
    (folder / "tennis_pose.npz").write_bytes(b"PK\x03\x04 broken")
    code, _, error = run("tennis_pose", "--folder", folder, "--out", tmp_path / "poses")
    assert code == 2 and error.startswith("'tennis_pose.npz' is not the archive of the dataset")


def test_prepare_weizmann4_keeps_every_pixel(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)  # (T, H, W, 3) RGB
    folder = tmp_path / "weizmann"
    write(folder / "clips.csv", ["file,action,person,frames", "bend_p0.png,bend,0,5"])
    (folder / "strips").mkdir()
    cv2.imwrite(str(folder / "strips" / "bend_p0.png"), np.concatenate(list(frames), axis=1)[:, :, ::-1])
    code, _, _ = run("weizmann4", "--folder", folder, "--out", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert code == 0 and manifest.rows == (Row("videos/bend_p0.mkv", None, "person0", "bend"),)
    with av.open(str(manifest.path_of(manifest.rows[0]))) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack(decoded), frames)
    write(folder / "clips.csv", ["file,action,person,frames", "gone.png,bend,0,5"])
    code, _, error = run("weizmann4", "--folder", folder, "--out", tmp_path / "out")
    assert code == 2 and "gone.png' is not an image. It must hold frames of 64x64." in error
