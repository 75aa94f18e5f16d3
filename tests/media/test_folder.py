"""Inputs become files to read: files, folders, globs, lists, links; and every problem has its sentence."""

from pathlib import Path

import pytest

from pipeline.media import folder
from pipeline.media.folder import find_series, find_texts, find_videos
from pipeline.media.sniff import MediaError, sniff


def test_folders_files_globs_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("v/b.mp4", "v/a/x.AVI", "v/a/notes.md", "w/b.mp4", "odd.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert [file.name for file in find_videos(["v"])] == ["a/x.AVI", "b.mp4"]
    assert [file.name for file in find_videos(["v", "w"])] == ["v/a/x.AVI", "v/b.mp4", "w/b.mp4"]
    assert [file.name for file in find_videos(["odd.bin", "odd.bin"])] == ["odd.bin"]
    assert [file.name for file in find_videos(["**/*.mp4"])] == ["v/b.mp4", "w/b.mp4"]
    Path("list.txt").write_text("\ufeff# mine\nv/b.mp4\n\nmissing.mp4\nw\n", "utf-8")
    for text in ("list.txt", "@list.txt"):
        files = find_videos([text])
        assert [file.name for file in files] == ["v/b.mp4", "missing.mp4", "w/b.mp4"]
        assert files[1].problem.startswith("missing: There is no file or folder of this name ('missing.mp4').")
    absolute = find_videos([str(tmp_path / "v/b.mp4"), str(tmp_path / "w/b.mp4")])
    assert [file.name for file in absolute] == ["v/b.mp4", "w/b.mp4"]


def test_folders_and_patterns_are_searched_for_stored_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s/b.npy", "s/a/x.NPY", "s/film.mp4", "empty/film.mp4", "odd.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    left_out: list[str] = []
    assert [file.name for file in find_series(["s"], log=left_out.append)] == ["a/x.NPY", "b.npy"]
    assert left_out == ["left out: 1 other files ('film.mp4')"]
    assert [file.name for file in find_series(["**/*"])] == ["s/a/x.NPY", "s/b.npy"]
    assert [file.name for file in find_series(["odd.bin"])] == ["odd.bin"]
    assert find_series(["empty"])[0].problem.startswith("no_series: The folder has no series")
    assert find_series(["*.npz"])[0].problem.startswith("missing: The pattern matches no series")


def test_an_input_without_a_video_becomes_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("# nothing\n")
    problems = [
        ("gone.mp4", "missing: There is no file"),
        ("empty", "no_videos: The folder has no video"),
        ("none.txt", "no_videos: The list is empty"),
        ("*.mp4", "missing: The pattern matches no video"),
    ]
    for name, sentence in problems:
        (file,) = find_videos([str(tmp_path / name)])
        assert file.problem.startswith(sentence), file
    for text, sentence in (("a\0b", "missing: This is no path"), ("@gone.txt", "unreadable: The list cannot be read")):
        assert find_videos([text])[0].problem.startswith(sentence)


def test_a_folder_with_the_name_of_a_video_is_searched_and_a_problem_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "full.mp4").mkdir()
    (tmp_path / "full.mp4/a.mp4").touch()
    (tmp_path / "hollow.mp4").mkdir()
    (tmp_path / "plain").mkdir()
    files = find_videos([str(tmp_path)])
    assert [file.name for file in files] == ["full.mp4/a.mp4", "hollow.mp4"]
    assert files[1].problem.startswith("not_regular_file: It is a folder with the name of a video")


def test_links_neither_loop_nor_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/o.mp4").touch()
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.mp4").touch()
    (root / "loop").symlink_to(root)
    (root / "inner.mp4").symlink_to(root / "a.mp4")
    (root / "outer").symlink_to(tmp_path / "out")
    (root / "self").symlink_to("self")
    (root / "self.mp4").symlink_to("self.mp4")
    files = find_videos([str(root)])
    assert [file.name for file in files] == ["a.mp4", "inner.mp4", "outer", "self.mp4"]
    assert files[2].problem.startswith("link_outside: The link leads out of the folder")
    followed = [file.name for file in find_videos([str(root)], follow_links=True)]
    assert followed == ["a.mp4", "inner.mp4", "outer/o.mp4", "self.mp4"]


def test_a_folder_that_cannot_be_read_becomes_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()

    def deny(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder.os, "scandir", deny)
    assert find_videos([str(tmp_path)])[0].problem.startswith(
        "unreadable: The folder cannot be read: Permission denied"
    )


NAMES = ("#20_clap.mp4", "#122_[Up]_clap.mp4", "plain.mp4", "-dash (1) & 100%.mp4", " blank .mp4")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_of_a_list_that_names_a_file_is_that_file(tmp_path: Path, encoding: str, end: str) -> None:
    for name in NAMES:
        (tmp_path / name).touch()
    lines = ["# a comment", *NAMES, "", "#gone.mp4", "  plain.mp4  "]
    (tmp_path / "list.txt").write_bytes(end.join(lines).encode(encoding))
    log: list[str] = []
    files = find_videos([str(tmp_path / "list.txt")], log=log.append)
    assert [file.name for file in files] == list(NAMES) and not any(file.problem for file in files)
    assert log == ["2 lines of lists begin with # and name no file: comments ('# a comment', '#gone.mp4')"]
    for pattern in ("*.mp4", "#*.mp4"):
        chosen = sorted(name for name in NAMES if pattern == "*.mp4" or name.startswith("#"))
        assert sorted(file.name for file in find_videos([str(tmp_path / pattern)])) == chosen
    assert sorted(file.name for file in find_videos([str(tmp_path)])) == sorted(NAMES)


def test_a_pattern_below_a_folder_with_brackets_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "set [2024]/a").mkdir(parents=True)
    (tmp_path / "set [2024]/a/x.mp4").touch()
    for pattern in ("set [2024]/*/*.mp4", "set [2024]/**/x.mp4"):
        (file,) = find_videos([str(tmp_path / pattern)])
        assert file.name == "x.mp4" and not file.problem


def test_hidden_files_and_folders_of_systems_are_left_out_in_one_line(tmp_path: Path) -> None:
    for name in ("w/1.mp4", "w/._1.mp4", "__MACOSX/w/1.mp4", ".Trashes/501/1.mp4", "@eaDir/1.mp4", "w/a.md", "w/.x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    log: list[str] = []
    assert [file.name for file in find_videos([str(tmp_path)], log=log.append)] == ["w/1.mp4"]
    assert log == [
        "left out: 5 hidden or system files and folders ('.Trashes/', '@eaDir/', '__MACOSX/', 'w/._1.mp4', 'w/.x'); "
        "1 other files ('w/a.md')"
    ]
    log.clear()
    assert [file.name for file in find_videos([f"{tmp_path}/**/*.mp4"], log=log.append)] == ["1.mp4"]
    assert len(log) == 1 and log[0].startswith("left out: 2 hidden or system files and folders")
    hidden = find_videos([str(tmp_path / ".Trashes")])  # an input of its own
    assert [file.name for file in hidden] == ["501/1.mp4"]
    (tmp_path / "._t.txt").write_text("no")
    (tmp_path / "t.txt").write_text("yes")
    assert [line.text for line in find_texts([str(tmp_path)])] == ["yes"]


def test_a_file_that_macos_keeps_beside_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000))
    with pytest.raises(MediaError, match="AppleDouble file of macOS: notes about a file beside it, and no video"):
        sniff(tmp_path / "x.mp4")


def test_a_folder_of_frames_is_named_for_what_it_is(tmp_path: Path) -> None:
    for clip in ("a/clip1", "b/clip2"):
        (tmp_path / clip).mkdir(parents=True)
        for number in range(3, 8):
            (tmp_path / clip / f"img_{number:05d}.jpg").touch()
    (file,) = find_videos([str(tmp_path)])
    assert file.problem.startswith("no_videos: 2 folders hold images, not videos")
    assert "5 images such as 'img_00003.jpg'" in file.problem and "-start_number 3 -i" in file.problem
    with pytest.raises(MediaError, match="1 folders hold images, not videos") as error:
        sniff(tmp_path / "a/clip1")
    assert error.value.status == "failed:not_regular_file"
    (tmp_path / "a/x.mp4").touch()
    log: list[str] = []
    assert [file.name for file in find_videos([str(tmp_path)], log=log.append)] == ["a/x.mp4"]
    assert len(log) == 1 and log[0].startswith("2 folders hold images, not videos")
    (tmp_path / "one").mkdir()
    (tmp_path / "one/cover.jpg").touch()
    assert "hold images" not in find_videos([str(tmp_path / "one")])[0].problem
