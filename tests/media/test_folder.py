"""Inputs become files to read: files, folders, globs, lists, links; and every problem has its sentence."""

from pathlib import Path

import pytest

from pipeline.media import folder
from pipeline.media.folder import find_videos


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
