"""What `check` and training say about data as people have it: links, copies, cut files, spans, labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import call
from made_videos import make_video, number_of

from pipeline.cli import _parse
from pipeline.commands.prepare_data import read_rows, report_damaged, split_rows
from pipeline.config.base import ConfigError, validate
from pipeline.config.run import Config
from pipeline.data.feature_store import FeatureStore
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Span
from pipeline.inference.extract_features import extract
from pipeline.inference.feeder import FeatureSource
from pipeline.media import small_frames as small_frames_module
from pipeline.media.decode_pool import DecodeSettings


def config_of(path: Path, **data: object) -> Config:
    return validate(Config, {"data": {"path": str(path), **data}, "heads": {"action": {"kind": "classify"}}}, "x")


class ZeroRequests:
    """A CNN whose features are zero."""

    request_size, output_size = 8, 2

    def submit(self, frames: Sequence[np.ndarray], on_done: Callable[[np.ndarray], None]) -> None:
        on_done(np.zeros((len(frames), 2), np.float32))

    def wait(self) -> None:
        """Every request is done at once."""


def said_by(config: Config) -> list[str]:
    lines: list[str] = []
    split_rows(config, read_rows(config, lines.append), lines.append)
    return lines


def test_a_store_of_links_is_read_on_request_by_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "blobs").mkdir()
    for number, label in enumerate("aabb"):
        make_video(tmp_path / "blobs/x.mp4", 4 + number).rename(tmp_path / f"blobs/{number}")
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"set/{label}/{number}.mp4").symlink_to(tmp_path / f"blobs/{number}")
    for verb in ("check", "train", "extract", "config"):
        assert call(verb, tmp_path / "set") == 2
        assert "All 4 videos of" in (error := capsys.readouterr().err) and "--follow-links" in error
    assert call("check", tmp_path / "set", "--follow-links") == 0
    assert "4 rows under" in capsys.readouterr().out
    assert call("config", tmp_path / "set", "--follow-links") == 0
    assert "follow_links: true" in capsys.readouterr().out
    for verb in ("train", "extract", "config", "evaluate"):
        assert _parse([verb, "x", "--follow-links"]).settings == ["data.follow_links=true"]
    assert _parse(["predict", "x", "--model", "m", "--out", "o", "--follow-links"]).follow_links


def test_training_says_copies_and_labels_that_look_alike_and_keeps_copies_in_one_split(tmp_path: Path) -> None:
    rows = [Row(f"{n}.npy", label=["run", "Run", "sit"][n % 3]) for n in range(30)]
    for number, row in enumerate(rows):
        np.save(tmp_path / row.path, np.full((4, 8), number // 2 if number < 8 else number, np.float32))
    write_manifest(rows, tmp_path / "m.jsonl")
    config = config_of(tmp_path / "m.jsonl", split="random", test_share=0.4, validation_share=0.3)
    lines: list[str] = []
    split = split_rows(config, read_rows(config, lines.append), lines.append)
    splits = {row.path: row.split for row in split.rows}
    assert all(splits[f"{n}.npy"] == splits[f"{n + 1}.npy"] for n in (0, 2, 4, 6))
    assert set(splits.values()) == {"train", "val", "test"}
    assert any(line.startswith("  note: 4 of 4 groups of equal files under several names, WITH DIFF") for line in lines)
    assert any(line.startswith("  note: 2 labels differ only in case, accents or blanks: 'Run' (10)") for line in lines)


def test_training_and_check_say_spans_behind_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_video(tmp_path / "a.mp4", 60)  # 2 s
    make_video(tmp_path / "b.mp4", 61)
    rows = [
        Row("a.mp4", "train", spans=(Span(0, 1, "sit"), Span(1, 4, "up"))),
        Row("b.mp4", "test", spans=(Span(0, 1, "sit"),)),
    ]
    rows[1] = Row("b.mp4", "test", spans=(Span(0, 1, "sit"), Span(7, 8, "wave")))
    write_manifest(rows, tmp_path / "m.jsonl")
    data = {"path": str(tmp_path / "m.jsonl"), "validation_share": 0}
    lines = said_by(validate(Config, {"data": data, "heads": {"t": {"kind": "segment"}}}, "x"))
    for text in ("1 of 4 spans end after the end", "1 of 4 spans lie wholly behind", "1 of 3 classes have no look"):
        assert any(line.startswith(f"  note: {text}") for line in lines), lines
    assert call("check", tmp_path / "m.jsonl") == 1
    out = capsys.readouterr().out
    assert "span: 1 of 4 spans end" in out and "no_look: 1 of 3 classes have no look of training" in out


def test_a_cut_video_is_a_finding_and_training_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3), np.uint8)
    for name in ("a/whole.ts", "b/cut.ts"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        make_video(tmp_path / "set" / name, list(noise))
    cut = tmp_path / "set/b/cut.ts"
    cut.write_bytes(cut.read_bytes()[:-100_000])
    assert call("check", tmp_path / "set", "--contents") == 1
    assert "damaged: b/cut.ts: truncated: The file ends early" in capsys.readouterr().out

    store = FeatureStore(tmp_path / "store", {})
    for stored in (0, 2):  # the second time the features come from the store, and the warning with them
        extraction = extract(
            [tmp_path / "set/a/whole.ts", cut],
            store,
            FeatureSource(DecodeSettings(4.0, 32, "letterbox", hash_content=True), ZeroRequests),
        )
        assert list(extraction.damaged) == [str(cut)] and extraction.num_stored == stored and not extraction.failed
    lines: list[str] = []
    report_damaged(config_of(tmp_path), extraction.damaged, lines.append)
    assert lines[0].startswith(
        f"  note: 1 videos are cut or damaged: '{cut}'. What can be decoded of them is used (data."
    )
    assert lines[1].startswith(f"  cut or damaged: {cut}: ") and "truncated: The file ends early" in lines[1]
    with pytest.raises(ConfigError, match="1 videos are cut or damaged, and data.on_error = stop. The first: .*cut.ts"):
        report_damaged(config_of(tmp_path, on_error="stop"), extraction.damaged, lines.append)
    report_damaged(config_of(tmp_path, on_error="stop"), {}, lines.append)


@pytest.mark.parametrize("suffix", ["mp4", "h264"])  # the latter has no length in its header
def test_near_duplicates_hold_four_small_frames_of_a_video(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[int] = []
    decode = small_frames_module.decode

    def decode_and_count(*arguments: object, **options: object):
        for clip in decode(*arguments, **options):  # type: ignore[arg-type]
            windows.append(clip.frames.nbytes)
            yield clip

    monkeypatch.setattr(small_frames_module, "decode", decode_and_count)
    path = make_video(tmp_path / f"x.{suffix}", 100)
    frames = small_frames_module.small_frames(path)
    assert [frame.shape for frame in frames] == [(72, 72)] * 4
    numbers = [number_of(np.repeat(frame[..., None], 3, 2)) for frame in frames]
    assert numbers == pytest.approx([0, 25, 50, 75], abs=3)
    assert len(windows) == 4 and max(windows) == 72 * 72 * 3


def test_check_finds_a_copy_that_was_encoded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = np.random.default_rng(0).integers(0, 255, (2, 6, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    for name, shape in (("a.mp4", 0), ("b.mp4", 0), ("c.mp4", 1)):
        make_video(tmp_path / name, [shapes[shape]] * (20 if name == "a.mp4" else 24))
    shutil.copy(tmp_path / "c.mp4", tmp_path / "d.mp4")
    rows = [Row(f"{n}.mp4", "train" if n in "ac" else "test", label="x") for n in "abcd"]
    write_manifest(rows, tmp_path / "m.jsonl")
    assert call("check", tmp_path / "m.jsonl", "--near-duplicates") == 1
    out = capsys.readouterr().out
    assert "near_duplicate: 2 pairs of videos in two splits look alike: 'a.mp4' and 'b.mp4'" in out
    assert "identical: 1 of 1 groups of equal files under several names, in two splits: 'c.mp4' (x) = 'd.mp4'" in out
    write_manifest([replace(row, split=None) for row in rows], tmp_path / "m.jsonl")
    assert call("check", tmp_path / "m.jsonl", "--near-duplicates") == 1
    out = capsys.readouterr().out
    assert "near_duplicate: 2 pairs of videos without a split look alike: 'a.mp4' and 'b.mp4'; 'c.mp4' and" in out
    assert "Give both the same group" in out
