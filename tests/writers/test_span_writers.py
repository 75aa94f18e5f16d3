"""Formats of spans: independent readers read the same times and texts, for any labels and names."""

from __future__ import annotations

import itertools
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as xml

import numpy as np
import pytest
from subtitle_readers import READERS, read_tiers, read_with_ffmpeg
from test_writers import ODD_NAMES

from pipeline.arguments import FORMATS, parser
from pipeline.atomic import remove_partial_files
from pipeline.inference.answer import Answer
from pipeline.models.prediction import Classification, Timeline
from pipeline.writers import SPAN_FORMATS, WRITERS, check_formats, omission_message, open_writer
from pipeline.writers.cues import one_line, to_milliseconds
from pipeline.writers.output_names import UniqueNames, safe_path

HEADS = {"action": ("label", "score", "top"), "timeline": ("spans",)}
ODD_TEXTS = [
    "wave",
    "a --> b",
    "-->",
    "00:00:01,000 --> 00:00:02,000",
    "00:00:01.000 --> 00:00:02.000",
    "&",
    "&amp;",
    "a & b < c > d",
    "<b>bold</b>",
    "<c.x>",
    "<00:00:01.000>",
    "]]>",
    "<!-- x -->",
    "NOTE this",
    "STYLE",
    "WEBVTT",
    "1",
    "7\n00:00:09,000 --> 00:00:10,000\nforged",
    "two\nlines",
    "blank\n\nline",
    "\n\n",
    "\r",
    "crlf\r\nend",
    "\x00",
    "nul\x00led",
    "\x1b[31mred",
    "bell\x07",
    "\x0b\x0c",
    "\u2028\u2029",
    "\x85",
    "\ufffe\uffff",
    "🎥👩\u200d👧",
    "视频",
    "ümlaut",
    " lead",
    "trail ",
    "tab\there",
    "\ufeffbom",
    "{\\an8}up",
    '"quoted"',
    "'",
    os.fsdecode(b"bytes\xff"),
    "x" * 3000,
    "%s {0} $(x)",
    "=1+1",
    "\u202eright",
]
each_format = pytest.mark.parametrize("kind", SPAN_FORMATS)


def make_row(name: str, spans: Sequence[tuple[float, float, str, float]], **more: Timeline) -> dict[str, Any]:
    predictions = {"action": Classification((("x", 1.0),)), "timeline": Timeline(tuple(spans)), **more}
    return Answer("ok", 9.0, 9, predictions, path=name).to_dict(2)


def failed_row(name: str) -> dict[str, Any]:
    return Answer("failed:not_a_video", error="No video.", path=name).to_dict(2)


def write(kind: Any, folder: Path, rows: Sequence[dict[str, Any]], heads: Any = HEADS) -> Path:
    writer = open_writer(kind, folder, heads)
    for row in rows:
        writer.write(row)
    return writer.close()


def random_spans(rng: np.random.Generator, count: int, longest: float = 30.0) -> list[tuple[float, float, str, float]]:
    """Random spans one after another, about half of them without a gap, at times that are no multiple of a period."""
    spans, start = [], float(rng.uniform(0, 5))
    for _ in range(count):
        end = start + float(rng.uniform(0.002, longest))
        spans.append((start, end, str(rng.choice(["wave", "bow & <rise>", "拍手 🎥"])), float(rng.uniform())))
        start = end if rng.uniform() < 0.5 else end + float(rng.uniform(0, 3))
    return spans


def expected_cues(row: dict[str, Any]) -> list[tuple[int, int, str]]:
    """The spans of a row, in milliseconds."""
    return [(round(1000 * s["start"]), round(1000 * s["end"]), s["label"]) for s in row["timeline"]["spans"]]


def expected_text(kind: str, text: str) -> str:
    """The text that a format contains, by a second implementation.

    ActivityNet's JSON contains any text, a cue one line of what XML 1.0 allows, SubRip no arrow.
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


def test_every_format_of_spans_has_a_reader_and_is_an_option_of_the_command():
    assert set(READERS) == set(SPAN_FORMATS) and set(FORMATS) == set(WRITERS)
    options = ["predict", "x", "--model", "m", "--out", "o"]
    assert parser().parse_args(options).formats == ["jsonl", "csv", "parquet"]  # no more unless asked for
    assert parser().parse_args([*options, "--format", *SPAN_FORMATS]).formats == list(SPAN_FORMATS)


@each_format
def test_an_independent_reader_reads_the_same_times_and_texts(kind, tmp_path):
    rng = np.random.default_rng(0)
    rows = [make_row(f"{n}.mp4", random_spans(rng, int(rng.integers(1, 40)))) for n in range(20)]
    hours = make_row("hours.mp4", [(100 * 3600 + 59.9996, 123 * 3600 + 0.25, "wave", 0.5)])  # above 99; rounded up
    cues = READERS[kind](write(kind, tmp_path, [*rows, hours]))
    assert cues == {row["path"][:-4]: expected_cues(row) for row in [*rows, hours]}
    assert cues["hours"] == [(360060000, 442800250, "wave")]


@each_format
def test_any_text_stays_one_cue(kind, tmp_path):
    rows = [
        make_row(f"{n}.mp4", [(0.5, 1, "before", 1), (1, 2, text, 1), (2, 3, "after", 1)])
        for n, text in enumerate(ODD_TEXTS)
    ]
    cues = READERS[kind](write(kind, tmp_path, rows))
    for n, text in enumerate(ODD_TEXTS):
        written = expected_text(kind, text)
        assert cues[str(n)] == [(500, 1000, "before"), (1000, 2000, written), (2000, 3000, "after")], text
        assert written == text or kind != "activitynet" or "\udcff" in text


def xml_element(text: str) -> xml.Element:
    element = xml.Element("a")
    element.text = text
    return element


def test_one_line_of_random_texts_is_valid_xml_and_idempotent():
    rng = np.random.default_rng(1)
    for _ in range(300):
        text = "".join(
            map(chr, [*rng.integers(0, 256, 6), *rng.integers(0, 0x11000, 4), *rng.integers(0x2020, 0x2030, 2)])
        )
        line = one_line(text)
        assert line and line == line.strip() == one_line(line) and len(line.splitlines()) == 1
        assert xml.fromstring(xml.tostring(xml_element(line), encoding="unicode")).text == line
        assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", line)


@each_format
def test_rows_without_spans_without_an_answer_and_failed_rows(kind, tmp_path):
    timed_out = Answer("timeout", error="Too long.", path="t.mp4").to_dict(2)
    unanswered = Answer("partial", 2.0, 8, {}, path="u.mp4").to_dict(2)
    rows = [make_row("a.mp4", []), failed_row("b.mp4"), timed_out, unanswered, make_row("c.mp4", [(0, 1, "wave", 1)])]
    assert READERS[kind](write(kind, tmp_path, rows)) == {"a": [], "u": [], "c": [(0, 1000, "wave")]}
    (tmp_path / "none").mkdir()
    assert READERS[kind](write(kind, tmp_path / "none", [])) == {}


def test_the_content_of_files_without_spans(tmp_path):
    for kind in ("srt", "vtt", "elan"):
        write(kind, tmp_path, [make_row("a.mp4", [])])
    assert (tmp_path / "srt/a.srt").read_bytes() == b"" and (tmp_path / "vtt/a.vtt").read_bytes() == b"WEBVTT\n"
    assert read_tiers(tmp_path / "elan/a.eaf") == {"timeline": []}


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_ffmpeg_reads_the_same_subtitles(kind, tmp_path):
    rng = np.random.default_rng(2)
    odd = [
        (float(n), n + 0.5, text, 1.0) for n, text in enumerate(ODD_TEXTS) if "{" not in text and "\ufeff" not in text
    ]
    for n, spans in enumerate([random_spans(rng, 25), odd]):
        row = make_row(f"{n}.mp4", spans)
        cues = read_with_ffmpeg(write(kind, tmp_path, [row]) / f"{n}.{kind}")
        escapes = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} if kind == "vtt" else {}
        texts = ["".join(escapes.get(c, c) for c in expected_text(kind, text)) for _, _, text in expected_cues(row)]
        assert cues == [(a, b, text) for (a, b, _), text in zip(expected_cues(row), texts, strict=True)]


def test_rounding_keeps_order_and_never_makes_neighbours_overlap():
    rng = np.random.default_rng(3)
    for trial in range(300):
        times = np.sort(rng.uniform(0, 0.02 if trial % 2 else 5, 12))  # in odd trials several in one millisecond
        spans = list(zip(times[:-1].tolist(), times[1:].tolist(), strict=True))
        rounded = to_milliseconds(spans)
        assert all(a < b for a, b in rounded)
        assert all(b <= c for (_, b), (c, _) in itertools.pairwise(rounded))
        if all(round(1000 * a) < round(1000 * b) for a, b in spans):
            assert rounded == [(round(1000 * a), round(1000 * b)) for a, b in spans]  # and nothing else is moved
    assert to_milliseconds([(0.0, 2.0), (1.0, 3.0)]) == [(0, 2000), (1000, 3000)]  # overlaps stay
    assert to_milliseconds([(0.0, 9.0), (1.0, 1.0001), (1.0001, 2.0)]) == [(0, 9000), (1000, 1001), (1001, 2000)]


def test_spans_of_several_heads_overlap_and_have_the_name_of_the_head(tmp_path):
    heads = {"timeline": ("spans",), "hand": ("spans",), "action": ("label", "score", "top")}
    row = make_row("a.mp4", [(0, 2, "wave", 1), (2, 4, "bow", 1)], hand=Timeline(((0.5, 3.0, "left", 1.0),)))
    merged = [(0, 2000, "timeline: wave"), (500, 3000, "hand: left"), (2000, 4000, "timeline: bow")]
    assert READERS["srt"](write("srt", tmp_path, [row], heads)) == {"a": merged}
    assert READERS["vtt"](write("vtt", tmp_path, [row], heads)) == {"a": merged}
    tiers = read_tiers(write("elan", tmp_path, [row], heads) / "a.eaf")
    assert tiers == {"timeline": [(0, 2000, "wave"), (2000, 4000, "bow")], "hand": [(500, 3000, "left")]}
    entries = json.loads(write("activitynet", tmp_path, [row], heads).read_text())["results"]["a"]
    assert [(e["head"], e["label"]) for e in entries] == [("timeline", "wave"), ("hand", "left"), ("timeline", "bow")]


def test_the_sentence_of_a_span_is_the_text_of_its_cue(tmp_path):
    span = {"start": 0.0, "end": 1.5, "label": "wave", "score": 0.5, "text": "A man waves & bows."}
    row = {**make_row("a.mp4", []), "timeline": {"spans": [span]}}
    for kind in ("srt", "vtt", "elan"):
        assert READERS[kind](write(kind, tmp_path, [row])) == {"a": [(0, 1500, "A man waves & bows.")]}
    entry = {
        "label": "wave",
        "score": 0.5,
        "segment": [0.0, 1.5],
        "sentence": "A man waves & bows.",
        "timestamp": [0.0, 1.5],
    }
    assert json.loads(write("activitynet", tmp_path, [row]).read_text())["results"]["a"] == [entry]


def test_an_eaf_follows_its_schema(tmp_path):
    overlapping = [(0.0, 2.0, "a", 1.0), (1.0, 3.0, "b", 1.0), (2.0, 4.0, "c", 1.0), (1.5, 1.6, "d", 1.0)]
    path = write("elan", tmp_path, [make_row("deep/ünï 视%\xff.mp4", overlapping)]) / "deep"
    (file,) = path.iterdir()
    root = xml.parse(file).getroot()
    assert root.tag == "ANNOTATION_DOCUMENT" and root.get("FORMAT") == "3.0"
    assert root.get("DATE") == "1970-01-01T00:00:00+00:00", "equal answers give equal files"
    assert [child.tag for child in root] == ["HEADER", "TIME_ORDER", "TIER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    slots = [(slot.get("TIME_SLOT_ID"), int(slot.get("TIME_VALUE") or -1)) for slot in root.iter("TIME_SLOT")]
    times = [time for _, time in slots]
    assert times == sorted(times) and len({name for name, _ in slots}) == len(slots) == 8
    annotations = list(root.iter("ALIGNABLE_ANNOTATION"))
    used = [element.get(key) for element in annotations for key in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
    assert sorted(map(str, used)) == sorted(str(name) for name, _ in slots)  # one annotation for each slot
    ids = [element.get("ANNOTATION_ID") for element in annotations]
    assert sorted(map(str, ids)) == ["a1", "a2", "a3", "a4"]
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    assert media.get("MIME_TYPE") == "video/mp4" and media.get("MEDIA_URL") == media.get("RELATIVE_MEDIA_URL")
    assert unquote_to_bytes((media.get("MEDIA_URL") or "").removeprefix("./")) == "ünï 视%\xff.mp4".encode()
    tiers = read_tiers(file)
    assert list(tiers) == ["timeline", "timeline 2", "timeline 3"]
    assert all(a[1] <= b[0] for tier in tiers.values() for a, b in itertools.pairwise(tier))


@each_format
def test_files_of_odd_names_are_unique_and_below_the_folder(kind, tmp_path):
    names = [
        *ODD_NAMES,
        "../../up.mp4",
        "/etc/passwd.mp4",
        "..",
        ".",
        "/",
        "a/../b.mp4",
        "a/x.mp4",
        "b/x.mp4",
        "x.mp4",
        "x.avi",
        "x",
        "x.mov",
        "X.MP4",
        "x.srt/y.mp4",
        "x.vtt/y.mp4",
        "x.eaf/y.mp4",
        "x.SRT/z.mp4",
        "x.srt.partial/y.mp4",
        "x.srt",
        "C:\\windows\\x.mp4",
        "con\\..\\..\\x.mp4",
        "a//b.mp4",
        "l" * 250 + ".mp4",
        "l" * 250 + ".avi",
        "视" * 83 + ".mp4",
        "é.mp4",
        "e\u0301.mp4",
        ".hidden.mp4",
        "dot./space /x.mp4",
        "|;$(rm).mp4",
        os.fsdecode(b"\xff.mp4"),
        os.fsdecode(b"\xfe.mp4"),
        "two\nlines/x.mp4",
        "x.mp4",
    ]
    rows = [make_row(name, [(0, n + 1, "wave", 1)]) for n, name in enumerate(names)]
    (tmp_path / "out").mkdir()
    path = write(kind, tmp_path / "out", rows)
    cues_of = READERS[kind](path)
    ends = sorted(end for cues in cues_of.values() for _, end, _ in cues)
    assert ends == [1000 * (n + 1) for n in range(len(names))]  # one output for each video
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == [path.name]
    if kind != "activitynet":
        parts = {part for file in path.rglob("*") for part in file.relative_to(path).parts}
        assert not [
            p for p in parts if p[0] in "-.~" or re.search(r'[\x00-\x1f\x7f"<>:|?*\\%]', p) or len(p.encode()) > 250
        ]
        assert len({unicodedata.normalize("NFC", name).casefold() for name in cues_of}) == len(names)  # on any system


def test_a_name_has_a_suffix_or_a_number_only_where_needed(tmp_path):
    names = UniqueNames()
    paths = ["a/x.mp4", "b/x.mp4", "a/x.avi", "a/x.avi", "a/x.avi", "y", "y.mp4", "v_aB.mp4", "v_Ab.mp4"]
    assert [names.assign(path) for path in paths] == [
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
    assert safe_path("a/b/视频 1.mp4") == "a/b/视频 1.mp4" and safe_path("../..//x") == "x" and safe_path("") == "_"
    path = write("vtt", tmp_path, [make_row(n, []) for n in ("a/x.mp4", "x.mp4", "x.mkv")])
    assert sorted(READERS["vtt"](path)) == ["a/x", "x", "x.mkv"]


@each_format
def test_an_unfinished_file_does_not_have_the_final_name(kind, tmp_path, monkeypatch):
    before = [make_row("a.mp4", [(0, 1, "before", 1)]), make_row("b.mp4", [(0, 1, "before", 1)])]
    path = write(kind, tmp_path, before)
    old = READERS[kind](path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            write(kind, tmp_path, [make_row("a.mp4", [(0, 1, "after", 1)])])
    assert READERS[kind](path) == old
    rows = [make_row("a.mp4", [(0, 1, "after", 1)]), failed_row("b.mp4")]
    new = READERS[kind](write(kind, tmp_path, rows))
    assert new == {"a": [(0, 1000, "after")]}  # the old output of the video that fails now is deleted
    remove_partial_files(tmp_path, is_deep=True)
    assert not list(tmp_path.rglob(".*"))


@each_format
def test_a_format_of_spans_is_refused_where_no_head_has_spans(kind, tmp_path):
    with pytest.raises(
        ValueError, match=rf"Format {kind} contains spans.*\(action: label score top\).*A head of kind segment"
    ):
        open_writer(kind, tmp_path, {"action": HEADS["action"]})
    assert not list(tmp_path.iterdir())
    check_formats(["jsonl", "csv", "parquet"], {"action": HEADS["action"]})
    check_formats(list(SPAN_FORMATS), HEADS)


def test_the_message_about_the_heads_that_formats_of_spans_leave_out():
    message = "srt and elan: only the spans of timeline are written; action has no spans"
    assert omission_message(["jsonl", "srt", "elan"], HEADS) == message
    assert omission_message(["jsonl"], HEADS) == "" == omission_message(["srt"], {"timeline": ("spans",)})
