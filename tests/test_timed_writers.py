"""Formats of times: independent readers get the same times and texts back, whatever stands in labels and names."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as xml

import numpy as np
import pytest
from test_writers import ODD_NAMES

from pipeline.arguments import FORMATS, parser
from pipeline.inference.batch import as_row
from pipeline.inference.predictor import Answer
from pipeline.models.prediction import Classification, Timeline
from pipeline.writers import TIMED, WRITERS, check_formats, left_out, open_writer
from pipeline.writers.cues import milliseconds, one_line
from pipeline.writers.names import Names, safe

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from timed_readers import READERS, read_tiers, read_with_ffmpeg

HEADS = {"action": ("label", "score", "top"), "timeline": ("spans",)}
ODD_TEXTS = [
    "wave", "a --> b", "-->", "00:00:01,000 --> 00:00:02,000", "00:00:01.000 --> 00:00:02.000", "&", "&amp;", "a & b < c > d", "<b>bold</b>",
    "<c.x>", "<00:00:01.000>", "]]>", "<!-- x -->", "NOTE this", "STYLE", "WEBVTT", "1", "7\n00:00:09,000 --> 00:00:10,000\nforged", "two\nlines",
    "blank\n\nline", "\n\n", "\r", "crlf\r\nend", "\x00", "nul\x00led", "\x1b[31mred", "bell\x07", "\x0b\x0c", "\u2028\u2029", "\x85", "\ufffe\uffff",
    "🎥👩\u200d👧", "视频", "ümlaut", " lead", "trail ", "tab\there", "\ufeffbom", "{\\an8}up", '"quoted"', "'", os.fsdecode(b"bytes\xff"), "x" * 3000,
    "%s {0} $(x)", "=1+1", "\u202eright",
]  # fmt: skip
each_format = pytest.mark.parametrize("kind", TIMED)


def row(
    name: str, spans: Sequence[tuple[float, float, str, float]], head: str = "timeline", **more: Timeline
) -> dict[str, Any]:
    predictions = {"action": Classification((("x", 1.0),)), head: Timeline(tuple(spans)), **more}
    return as_row(name, Answer("ok", 9.0, 9, predictions), 2)


def failed(name: str) -> dict[str, Any]:
    return as_row(name, Answer("failed:not_a_video", error="No video."), 2)


def write(kind: Any, folder: Path, rows: Sequence[dict[str, Any]], heads: Any = HEADS) -> Path:
    writer = open_writer(kind, folder, heads)
    for one in rows:
        writer.write(one)
    return writer.close()


def tiling(rng: np.random.Generator, count: int, longest: float = 30.0) -> list[tuple[float, float, str, float]]:
    """Random spans one after the other, often with nothing between them, at times that no clock has."""
    found, at = [], float(rng.uniform(0, 5))
    for _ in range(count):
        end = at + float(rng.uniform(0.002, longest))
        found.append((at, end, str(rng.choice(["wave", "bow & <rise>", "拍手 🎥"])), float(rng.uniform())))
        at = end if rng.uniform() < 0.5 else end + float(rng.uniform(0, 3))
    return found


def wanted(given: dict[str, Any], head: str = "timeline") -> list[tuple[int, int, str]]:
    """The times of a row as it says them, in thousandths."""
    return [(round(1000 * s["start"]), round(1000 * s["end"]), s["label"]) for s in given[head]["spans"]]


def shown(kind: str, text: str) -> str:
    """What a format may make of a text, written down here once more: tables of ActivityNet hold all, a cue one line of
    what XML 1.0 allows, SubRip no arrow.
    """
    text = "".join(f"\\udc{ord(c) - 0xDC00:02x}" if 0xD800 <= ord(c) < 0xE000 else c for c in text)
    if kind == "activitynet":
        return text
    text = text.replace("\r\n", " ")
    breaks = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
    text = "".join(
        " " if c in breaks else "�" if unicodedata.category(c) == "Cc" or c in "\ufffe\uffff" else c for c in text
    )
    return (text.strip() or "�").replace("-->", "→" if kind == "srt" else "-->")


def test_every_format_of_times_has_a_reader_and_the_command_knows_it():
    assert set(READERS) == set(TIMED) and set(FORMATS) == set(WRITERS)
    options = ["predict", "x", "--model", "m", "--out", "o"]
    assert parser().parse_args(options).format == ["jsonl", "csv", "parquet"]  # no more unless asked for
    assert parser().parse_args([*options, "--format", *TIMED]).format == list(TIMED)


@each_format
def test_an_independent_reader_gets_the_same_times_and_texts_back(kind, tmp_path):
    rng = np.random.default_rng(0)
    rows = [row(f"{n}.mp4", tiling(rng, int(rng.integers(1, 40)))) for n in range(20)]
    late = row(
        "late.mp4", [(100 * 3600 + 59.9996, 123 * 3600 + 0.25, "wave", 0.5)]
    )  # hours beyond 99, seconds that carry
    found = READERS[kind](write(kind, tmp_path, [*rows, late]))
    assert found == {one["path"][:-4]: wanted(one) for one in [*rows, late]}
    assert found["late"] == [(360060000, 442800250, "wave")]


@each_format
def test_any_text_stays_one_cue(kind, tmp_path):
    rows = [
        row(f"{n}.mp4", [(0.5, 1, "before", 1), (1, 2, text, 1), (2, 3, "after", 1)])
        for n, text in enumerate(ODD_TEXTS)
    ]
    found = READERS[kind](write(kind, tmp_path, rows))
    for n, text in enumerate(ODD_TEXTS):
        said = shown(kind, text)
        assert found[str(n)] == [(500, 1000, "before"), (1000, 2000, said), (2000, 3000, "after")], text
        assert said == text or kind != "activitynet" or "\udcff" in text


def made(text: str) -> xml.Element:
    element = xml.Element("a")
    element.text = text
    return element


def test_random_texts_are_one_line_that_xml_allows_and_say_the_same_again():
    rng = np.random.default_rng(1)
    for _ in range(300):
        text = "".join(
            map(chr, [*rng.integers(0, 256, 6), *rng.integers(0, 0x11000, 4), *rng.integers(0x2020, 0x2030, 2)])
        )
        line = one_line(text)
        assert line and line == line.strip() == one_line(line) and len(line.splitlines()) == 1
        assert xml.fromstring(xml.tostring(made(line), encoding="unicode")).text == line
        assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", line)


@each_format
def test_no_spans_no_answer_and_failures(kind, tmp_path):
    silent = as_row("silent.mp4", Answer("partial", 2.0, 8, {}), 2)
    path = write(kind, tmp_path, [row("a.mp4", []), failed("b.mp4"), silent, row("c.mp4", [(0, 1, "wave", 1)])])
    assert READERS[kind](path) == {"a": [], "silent": [], "c": [(0, 1000, "wave")]}
    (tmp_path / "none").mkdir()
    assert READERS[kind](write(kind, tmp_path / "none", [])) == {}


def test_what_stands_in_files_without_spans(tmp_path):
    for kind in ("srt", "vtt", "elan"):
        write(kind, tmp_path, [row("a.mp4", [])])
    assert (tmp_path / "srt/a.srt").read_bytes() == b"" and (tmp_path / "vtt/a.vtt").read_bytes() == b"WEBVTT\n"
    assert read_tiers(tmp_path / "elan/a.eaf") == {"timeline": []}


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_ffmpeg_reads_the_subtitles_too(kind, tmp_path):
    rng = np.random.default_rng(2)
    odd = [
        (float(n), n + 0.5, text, 1.0) for n, text in enumerate(ODD_TEXTS) if "{" not in text and "\ufeff" not in text
    ]
    for n, spans in enumerate([tiling(rng, 25), odd]):
        given = row(f"{n}.mp4", spans)
        found = read_with_ffmpeg(write(kind, tmp_path, [given]) / f"{n}.{kind}")
        escapes = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} if kind == "vtt" else {}
        texts = ["".join(escapes.get(c, c) for c in shown(kind, text)) for _, _, text in wanted(given)]
        assert found == [(a, b, text) for (a, b, _), text in zip(wanted(given), texts, strict=True)]


def test_rounding_keeps_order_and_never_makes_neighbours_overlap():
    rng = np.random.default_rng(3)
    for trial in range(300):
        cuts = np.sort(rng.uniform(0, 0.02 if trial % 2 else 5, 12))  # every other time many in one millisecond
        spans = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
        found = milliseconds(spans)
        assert all(a < b for a, b in found) and all(b <= c for (_, b), (c, _) in zip(found, found[1:], strict=False))
        if all(round(1000 * a) < round(1000 * b) for a, b in spans):
            assert found == [(round(1000 * a), round(1000 * b)) for a, b in spans]  # and nothing else is moved
    assert milliseconds([(0.0, 2.0), (1.0, 3.0)]) == [(0, 2000), (1000, 3000)]  # what overlaps may go on doing so
    assert milliseconds([(0.0, 9.0), (1.0, 1.0001), (1.0001, 2.0)]) == [(0, 9000), (1000, 1001), (1001, 2000)]


def test_several_heads_overlap_and_say_who_speaks(tmp_path):
    heads = {"timeline": ("spans",), "hand": ("spans",), "action": ("label", "score", "top")}
    one = row("a.mp4", [(0, 2, "wave", 1), (2, 4, "bow", 1)], hand=Timeline(((0.5, 3.0, "left", 1.0),)))
    merged = [(0, 2000, "timeline: wave"), (500, 3000, "hand: left"), (2000, 4000, "timeline: bow")]
    assert READERS["srt"](write("srt", tmp_path, [one], heads)) == {"a": merged}
    assert READERS["vtt"](write("vtt", tmp_path, [one], heads)) == {"a": merged}
    tiers = read_tiers(write("elan", tmp_path, [one], heads) / "a.eaf")
    assert tiers == {"timeline": [(0, 2000, "wave"), (2000, 4000, "bow")], "hand": [(500, 3000, "left")]}
    entries = json.loads(write("activitynet", tmp_path, [one], heads).read_text())["results"]["a"]
    assert [(e["head"], e["label"]) for e in entries] == [("timeline", "wave"), ("hand", "left"), ("timeline", "bow")]


def test_a_sentence_of_a_span_is_what_cues_say(tmp_path):
    spoken = {"start": 0.0, "end": 1.5, "label": "wave", "score": 0.5, "text": "A man waves & bows."}
    one = {**row("a.mp4", []), "timeline": {"spans": [spoken]}}
    for kind in ("srt", "vtt", "elan"):
        assert READERS[kind](write(kind, tmp_path, [one])) == {"a": [(0, 1500, "A man waves & bows.")]}
    entry = {
        "label": "wave",
        "score": 0.5,
        "segment": [0.0, 1.5],
        "sentence": "A man waves & bows.",
        "timestamp": [0.0, 1.5],
    }
    assert json.loads(write("activitynet", tmp_path, [one]).read_text())["results"]["a"] == [entry]


def test_an_eaf_is_what_its_schema_asks_for(tmp_path):
    overlapping = [(0.0, 2.0, "a", 1.0), (1.0, 3.0, "b", 1.0), (2.0, 4.0, "c", 1.0), (1.5, 1.6, "d", 1.0)]
    path = write("elan", tmp_path, [row("deep/ünï 视%\xff.mp4", overlapping)]) / "deep"
    (file,) = path.iterdir()
    root = xml.parse(file).getroot()
    assert root.tag == "ANNOTATION_DOCUMENT" and root.get("FORMAT") == "3.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", root.get("DATE") or "")
    assert [child.tag for child in root] == ["HEADER", "TIME_ORDER", "TIER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    slots = [(slot.get("TIME_SLOT_ID"), int(slot.get("TIME_VALUE") or -1)) for slot in root.iter("TIME_SLOT")]
    times = [time for _, time in slots]
    assert times == sorted(times) and len({name for name, _ in slots}) == len(slots) == 8
    used = [one.get(ref) for one in root.iter("ALIGNABLE_ANNOTATION") for ref in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
    assert sorted(map(str, used)) == sorted(str(name) for name, _ in slots)  # each slot belongs to one annotation
    ids = [one.get("ANNOTATION_ID") for one in root.iter("ALIGNABLE_ANNOTATION")]
    assert sorted(map(str, ids)) == ["a1", "a2", "a3", "a4"]
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    assert media.get("MIME_TYPE") == "video/mp4" and media.get("MEDIA_URL") == media.get("RELATIVE_MEDIA_URL")
    assert unquote_to_bytes((media.get("MEDIA_URL") or "").removeprefix("./")) == "ünï 视%\xff.mp4".encode()
    tiers = read_tiers(file)
    assert list(tiers) == ["timeline", "timeline 2", "timeline 3"]
    assert all(a[1] <= b[0] for tier in tiers.values() for a, b in zip(tier, tier[1:], strict=False))


@each_format
def test_odd_names_stay_below_the_folder_and_apart(kind, tmp_path):
    names = [
        *ODD_NAMES, "../../up.mp4", "/etc/passwd.mp4", "..", ".", "/", "a/../b.mp4", "a/x.mp4", "b/x.mp4", "x.mp4", "x.avi", "x", "x.mov", "X.MP4",
        "x.srt/y.mp4", "x.vtt/y.mp4", "x.eaf/y.mp4", "x.SRT/z.mp4", "x.srt.partial/y.mp4", "x.srt", "C:\\windows\\x.mp4", "con\\..\\..\\x.mp4", "a//b.mp4",
        "l" * 250 + ".mp4", "l" * 250 + ".avi", "视" * 83 + ".mp4", "é.mp4", "e\u0301.mp4", ".hidden.mp4", "dot./space /x.mp4", "|;$(rm).mp4",
        os.fsdecode(b"\xff.mp4"), os.fsdecode(b"\xfe.mp4"), "two\nlines/x.mp4", "x.mp4",
    ]  # fmt: skip
    rows = [row(name, [(0, n + 1, "wave", 1)]) for n, name in enumerate(names)]
    (tmp_path / "out").mkdir()
    path = write(kind, tmp_path / "out", rows)
    found = READERS[kind](path)
    ends = sorted(end for cues in found.values() for _, end, _ in cues)
    assert ends == [1000 * (n + 1) for n in range(len(names))]  # every video has its own
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == [path.name]
    if kind != "activitynet":
        parts = {part for file in path.rglob("*") for part in file.relative_to(path).parts}
        assert not [
            p for p in parts if p[0] in "-.~" or re.search(r'[\x00-\x1f\x7f"<>:|?*\\%]', p) or len(p.encode()) > 250
        ]
        assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(names)  # on any system


def test_names_are_short_where_they_can_be(tmp_path):
    names = Names()
    given = ["a/x.mp4", "b/x.mp4", "a/x.avi", "a/x.avi", "a/x.avi", "y", "y.mp4", "v_aB.mp4", "v_Ab.mp4"]
    assert [names.of(n) for n in given] == [
        "a/x",
        "b/x",
        "a/x.avi",
        "a/x.avi.2",
        "a/x.avi.3",
        "y",
        "y.mp4",
        "v_aB",
        "v_Ab",
    ]
    assert safe("a/b/视频 1.mp4") == "a/b/视频 1.mp4" and safe("../..//x") == "x" and safe("") == "_"
    path = write("vtt", tmp_path, [row(n, []) for n in ("a/x.mp4", "x.mp4", "x.mkv")])
    assert sorted(READERS["vtt"](path)) == ["a/x", "x", "x.mkv"]


@each_format
def test_an_unfinished_file_is_not_under_its_final_name(kind, tmp_path, monkeypatch):
    before = [row("a.mp4", [(0, 1, "before", 1)]), row("b.mp4", [(0, 1, "before", 1)])]
    path = write(kind, tmp_path, before)
    old = READERS[kind](path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            write(kind, tmp_path, [row("a.mp4", [(0, 1, "after", 1)])])
    for left in tmp_path.rglob("*.partial"):
        left.unlink()
    assert READERS[kind](path) == old
    again = READERS[kind](write(kind, tmp_path, [row("a.mp4", [(0, 1, "after", 1)]), failed("b.mp4")]))
    assert again == {"a": [(0, 1000, "after")]}  # and nothing old about the video that fails now
    assert not list(tmp_path.rglob("*.partial"))


@each_format
def test_a_format_of_times_is_refused_where_no_head_has_any(kind, tmp_path):
    with pytest.raises(
        ValueError, match=rf"Format {kind} holds spans.*\(action: label score top\).*A head of kind segment"
    ):
        open_writer(kind, tmp_path, {"action": HEADS["action"]})
    assert not list(tmp_path.iterdir())
    check_formats(["jsonl", "csv", "parquet"], {"action": HEADS["action"]})
    check_formats(list(TIMED), HEADS)


def test_what_formats_of_times_leave_out_is_said():
    assert left_out(["jsonl", "srt", "elan"], HEADS) == "srt and elan: only what timeline says; action has no times"
    assert left_out(["jsonl"], HEADS) == "" == left_out(["srt"], {"timeline": ("spans",)})
