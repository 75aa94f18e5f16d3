"""The manifest: reading inverts writing, and every mistake of a file is listed with its line."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest, read_manifest, write_manifest
from pipeline.data.manifest_rows import ManifestError, Row, Span, normalised_name

ODD_TEXTS = (
    "=1+1",
    "+a",
    "-b",
    "@c",
    "'=d",
    "''=e",
    "'f",
    "\tg",
    "\rh",
    "a,b",
    'say "hi"',
    "new\nline",
    "r\r\nn",
    "Фильм 😀",
    " x ",
)
ODD_NAMES = tuple(normalised_name(text) for text in ODD_TEXTS)
FULL = Row("clips/x.mp4", "train", "actor07", "sit_down", (Span(0.4, 1.6, "sit_down"),), ("a", "b"))


def mistakes_of(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    return str(error.value)


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def random_row(generator: random.Random, number: int) -> Row:
    times = sorted(generator.uniform(0, 9) for _ in range(2 * generator.randrange(4)))
    spans = [Span(a, b, generator.choice(ODD_NAMES)) for a, b in zip(times[::2], times[1::2], strict=True) if a < b]
    return Row(
        f"{generator.choice(ODD_TEXTS).strip() or 'x'}/{number}.mp4",
        generator.choice((None, "train", "val", "test")),
        generator.choice((None, *ODD_NAMES)),
        generator.choice((None, *ODD_NAMES)),
        tuple(spans),
        tuple(generator.choices(ODD_TEXTS, k=generator.randrange(3))),
        generator.choice((None, *ODD_TEXTS)),
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("seed", range(20))
def test_reading_inverts_writing(tmp_path: Path, suffix: str, seed: int) -> None:
    generator = random.Random(seed)
    rows = tuple(random_row(generator, number) for number in range(generator.randrange(1, 30)))
    write_manifest(rows, tmp_path / f"m{suffix}")
    manifest = read_manifest(tmp_path / f"m{suffix}")
    assert manifest == Manifest(rows, tmp_path)
    assert manifest.fingerprint == Manifest(rows, Path("elsewhere")).fingerprint
    assert [file.name for file in tmp_path.iterdir()] == [f"m{suffix}"]  # no temporary file is left


def test_no_cell_of_a_csv_is_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    write_manifest([Row(f"{sign}x", label=f"{sign}1") for sign in "=+-@"], tmp_path / "m.csv")
    lines = (tmp_path / "m.csv").read_text().split()
    assert lines == ["path,label", "'=x,'=1", "'+x,'+1", "'-x,'-1", "'@x,'@1"]


def test_the_line_of_jsonl_in_the_documentation(tmp_path: Path) -> None:
    line = (
        '{"path": "clips/x.mp4", "split": "train", "group": "actor07", "label": "sit_down", '
        '"spans": [[0.4, 1.6, "sit_down"]], "captions": ["a", "b"]}'
    )
    (tmp_path / "m.jsonl").write_text(line + "\n\n" + '{"path": "y.mp4", "label": null}')
    assert read_manifest(tmp_path / "m.jsonl").rows == (FULL, Row("y.mp4"))
    write_manifest([FULL], tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == line + "\n"


def test_csv_with_byte_order_mark_crlf_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeffpath,label,spans\r\n\r\n./a//b.mp4,run,"[[1, 2, ""run""], [0, 1, ""sit""]]"\r\n,,\r\nc.mp4,,\r\n'
    (tmp_path / "m.csv").write_bytes(text.encode())
    spans = (Span(0, 1, "sit"), Span(1, 2, "run"))  # sorted; spans may touch
    assert read_manifest(tmp_path / "m.csv").rows == (Row("a/b.mp4", label="run", spans=spans), Row("c.mp4"))
    (tmp_path / "m.jsonl").write_text('\ufeff{"path": "a.mp4"}')
    assert read_manifest(tmp_path / "m.jsonl").rows == (Row("a.mp4"),)


def test_a_file_name_that_is_not_unicode_is_kept_in_jsonl_only(tmp_path: Path) -> None:
    row = Row(b"clip\xff.mp4".decode("utf-8", "surrogateescape"))
    write_manifest([row], tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl").rows == (row,)
    with pytest.raises(ManifestError, match="Row 1 cannot be written.*too long.*not Unicode. Write a .jsonl"):
        write_manifest([row], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="too long for a CSV cell"):
        write_manifest([Row("x.mp4", captions=("long " * 30_000,))], tmp_path / "m.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]


def test_labels_groups_and_splits_of_a_manifest() -> None:
    rows = (FULL, Row("y.mp4", "test", label="run"), Row("z.mp4", "train", label="run"))
    manifest = Manifest(rows, Path("videos"))
    assert manifest.labels == ("run", "sit_down") and manifest.span_labels == ("sit_down",)
    assert manifest.has_groups and not manifest.select("test").has_groups
    assert manifest.select("train").rows == (rows[0], rows[2]) and not manifest.select("val").rows
    assert manifest.path_of(rows[1]) == Path("videos/y.mp4")


def test_the_fingerprint_depends_on_the_rows_and_their_order() -> None:
    first, second = Row("a.mp4", spans=(Span(0, 1, "run"),)), Row("b.mp4")
    fingerprint = Manifest((first, second), Path("r")).fingerprint
    assert Manifest((Row("a.mp4", spans=(Span(0.0, 1.0, "run"),)), second), Path("s")).fingerprint == fingerprint
    assert Manifest((second, first), Path("r")).fingerprint != fingerprint
    assert Manifest((first, Row("b.mp4", label="run")), Path("r")).fingerprint != fingerprint


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"path": "a", "lable": "x"}, "unknown key 'lable'. Valid names are path, split, .* Did you mean 'label'?"),
        ({"label": "x"}, "path is missing. Every row has the path of a file"),
        ({"path": ""}, "path is ''. Every row"),
        ({"path": 7}, "path is 7. Every row"),
        ({"path": "/.."}, "the path '/..' leaves its folder .{4}. A path is relative to the root, like"),
        ({"path": "C:\\x.mp4"}, "is one of Windows"),
        ({"path": "\\\\server\\x.mp4"}, "is one of Windows"),
        ({"path": "a/../../x"}, "leaves its folder"),
        ({"path": "a\\..\\x"}, "leaves its folder"),
        ({"path": "a\0.mp4"}, r"'a\\x00.mp4' has a NUL character"),
        ({"path": "./."}, "is the folder itself"),
        (
            {"path": "a", "split": "training"},
            "split is 'training'. Valid names are train, val, test. Did you mean 'train'?",
        ),
        ({"path": "a", "split": "dev"}, "split is 'dev'. Valid names are train, val, test. Did you mean 'val'?"),
        ({"path": "a", "label": 3}, "label is 3. It must be a text that is not empty and has no NUL. Quote it"),
        ({"path": "a", "group": ""}, "group is ''. It must be a text"),
        ({"path": "a", "text": 3}, "text is 3. It must be a text"),
        ({"path": "a", "captions": "one"}, "captions is 'one'. It must be a list."),
        ({"path": "a", "captions": [None]}, "a caption is missing. It must be a text"),
        ({"path": "a", "spans": {}}, "spans is {}. It must be a list."),
        ({"path": "a", "spans": [[0, 1]]}, r"the span \[0, 1\] is not \[start, end, label\]"),
        ({"path": "a", "spans": [[0, 1, ""]]}, r"is not \[start, end, label\]"),
        ({"path": "a", "spans": [["0", 1, "x"]]}, "has times that are not numbers. Write seconds"),
        ({"path": "a", "spans": [[False, True, "x"]]}, "has times that are not numbers"),
        (
            {"path": "a", "spans": [[2, 1, "x"]]},
            "has wrong times. It must start at 0 or later and end after its start, at a finite time. C",
        ),
        ({"path": "a", "spans": [[1, 1, "x"]]}, "has wrong times"),
        ({"path": "a", "spans": [[-1, 1, "x"]]}, "has wrong times"),
        ({"path": "a", "spans": [[float("nan"), 1, "x"]]}, "has wrong times"),
        ({"path": "a", "spans": [[0, float("inf"), "x"]]}, "has wrong times"),
        ({"path": "a", "spans": [[0, 10**400, "x"]]}, "has wrong times"),
        ({"path": "a", "spans": [[1, 3, "x"], [0, 2, "y"]]}, r"\[0.0, 2.0, 'y'\] and \[1.0, 3.0, 'x'\] overlap"),
        ([1], r"the line is \[1\]. A row is a JSON object"),
    ],
)
def test_every_mistake_of_a_row_has_a_message(tmp_path: Path, record: object, message: str) -> None:
    assert "m.jsonl' has 1 mistake:" in mistakes_of(tmp_path / "m.jsonl", jsonl({"path": "good.mp4"}, record))
    with pytest.raises(ManifestError, match=f"line 2: .*{message}"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"path": ', "line 2: the line is not JSON \\(Expecting value at column 10\\). Write a row"),
        (b"[" * 100_000, "line 2: the line is not JSON \\(.*recursion"),
        (
            b'{"path": "a", "spans": [[0, ' + b"1" * 5000 + b', "x"]]}',
            "line 2: the line is not JSON \\(Exceeds the limit",
        ),
        (b'{"path": "\xff.mp4"}', "line 2: the byte 0xff at column 11 is not UTF-8. A manifest is UTF-8 text. Save it"),
        (b" " * (2**24 + 1), "line 2: it is longer than 16,777,216 bytes. .* Nothing after it was read."),
        (b'{"path": "good.mp4"}', "line 2: the path 'good.mp4' is already in line 1. A file has one row."),
        (b'{"path": "./good.mp4"}', "is already in line 1"),
    ],
)
def test_mistakes_of_jsonl_lines(tmp_path: Path, line: bytes, message: str) -> None:
    mistakes_of(tmp_path / "m.jsonl", b'{"path": "good.mp4"}\n' + line)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels\na,b\n", "line 1: unknown column 'labels'. Valid names are .* Did you mean 'label'?"),
        ("file,label\na,b\n", "line 1: the header \\(file, label\\) has no column 'path'. The first line names"),
        ("path,label,label\na,b,c\n", "line 1: the column 'label' occurs 2 times. Keep one, r"),
        ("path,label\na,b,c\n", "line 2: the row has 3 cells, but the header has 2. Give every column a cell"),
        ('path,label\n"a\nb",x\nc\n', "line 4: the row has 1 cells"),
        ('path,label\na,b\n"c,d\n', "line 3: the row is not CSV \\(unexpected end of data\\). Close every quote."),
        ('path,spans\na,"[[0, 1"\n', "line 2: spans is not JSON \\(.*\\). Write a list, or \\[\\] for none."),
        ("path\n../x\nC:/y\n", "has 2 mistakes:\n  line 2: .*leaves its folder.*\n  line 3: .*of Windows"),
        ("path,label\na\0b,x\n", "line 2: the path 'a\\\\x00b' has a NUL character"),
        ("", "it has no rows. A manifest has one row per video. Write at least one."),
        ("path\n", "it has no rows"),
    ],
)
def test_mistakes_of_csv(tmp_path: Path, text: str, message: str) -> None:
    mistakes_of(tmp_path / "m.csv", text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_all_mistakes_are_counted_and_the_first_twenty_listed(tmp_path: Path) -> None:
    message = mistakes_of(tmp_path / "m.jsonl", jsonl(*({"path": f"../{number}"} for number in range(1234))))
    assert "has 1,234 mistakes:" in message and message.count("leaves its folder") == 20
    assert "line 20:" in message and "line 21:" not in message and message.endswith("... and 1,214 more.")


def test_files_that_are_not_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="The manifest 'm.json' ends in '.json'. It must end in .jsonl or .csv."):
        read_manifest(tmp_path / "m.json")
    with pytest.raises(ManifestError, match="ends in '.txt'"):
        write_manifest([FULL], tmp_path / "m.txt")
    with pytest.raises(ManifestError, match="There is no manifest at .*m.jsonl'. Give the path"):
        read_manifest(tmp_path / "m.jsonl")


def test_rows_that_could_not_be_read_back_are_not_written(tmp_path: Path) -> None:
    two = "has 2 mistakes:\n  row 1: .*leaves its folder.*\n  row 3: .*is already in row 2"
    with pytest.raises(ManifestError, match=two):
        write_manifest([Row("../a"), Row("b"), Row("b")], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="no rows"):
        write_manifest([], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="has wrong times"):
        write_manifest([Row("a", spans=(Span(0, float("nan"), "x"),))], tmp_path / "m.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest([FULL], tmp_path / "m.csv")

    def raise_disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", raise_disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_manifest([Row("new.mp4")], tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").rows == (FULL,)
    assert [file.name for file in tmp_path.iterdir()] == ["m.csv"]


def test_the_time_to_read_is_proportional_to_the_rows(tmp_path: Path) -> None:
    seconds = []
    for count in (5_000, 50_000):
        rows = [Row(f"clips/{number}.mp4", "train", f"g{number % 99}", f"c{number % 9}") for number in range(count)]
        write_manifest(rows, tmp_path / "m.jsonl")
        start = time.process_time()
        assert len(read_manifest(tmp_path / "m.jsonl").rows) == count
        seconds.append(time.process_time() - start)
    assert seconds[1] < 40 * max(seconds[0], 0.02)  # 10 would be linear, 100 quadratic


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_blanks_and_decomposed_accents_of_labels_and_groups_are_mended(tmp_path: Path, suffix: str) -> None:
    names = ["lève", "lève ", "\u00a0le\u0300ve", "\ufefflève\u200b", "\tlève\r"]
    rows: list[dict[str, object]] = [{"path": f"{n}", "label": name, "group": name} for n, name in enumerate(names)]
    rows.append({"path": "s", "spans": [[0, 1, " le\u0300ve"]], "captions": [" le\u0300ve"]})
    if suffix == ".jsonl":
        (tmp_path / "m.jsonl").write_text(jsonl(*rows), "utf-8")
    else:
        cells = [[str(row["path"]), f'"{row.get("label", "")}"', f'"{row.get("group", "")}"'] for row in rows[:-1]]
        text = "path, label, group\r\n" + "".join(",".join(line) + "\r\n" for line in cells)
        (tmp_path / "m.csv").write_bytes(text.encode())
    manifest = read_manifest(tmp_path / f"m{suffix}")
    assert manifest.labels == ("lève",) and {row.group for row in manifest.rows} <= {"lève", None}
    if suffix == ".jsonl":
        assert manifest.span_labels == ("lève",) and manifest.rows[-1].captions == (" le\u0300ve",)
    assert "label is only blanks" in mistakes_of(tmp_path / "b.jsonl", jsonl({"path": "a", "label": " \u200b"}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b"path;label\nclips/a.mp4;run, fast\n"),
        ("m.csv", b"path\tlabel\r\nclips/a.mp4\trun, fast\r\n"),
        ("m.tsv", b"path\tlabel\nclips/a.mp4\trun, fast\n"),
        ("m.csv", 'path,label\nclips/a.mp4,"run, fast"\n'.encode("utf-16")),
        ("m.csv", "\ufeffpath;label\r\nclips/a.mp4;run, fast\r\n".encode("utf-16-be")),
        ("m.jsonl", '{"path": "clips/a.mp4", "label": "run, fast"}\n'.encode("utf-16")),
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_manifest(tmp_path / name).rows == (Row("clips/a.mp4", label="run, fast"),)


def test_absolute_paths_are_accepted_and_written_back(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\n/videos//a.mp4,run\nb.mp4,run\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [str(manifest.path_of(row)) for row in manifest.rows] == ["/videos/a.mp4", str(tmp_path / "b.mp4")]
    for name in ("again.csv", "again.tsv", "again.jsonl"):
        write_manifest(manifest, tmp_path / name)
        assert read_manifest(tmp_path / name).rows == manifest.rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,class\na,b\n", r"unknown column 'file'\. .* mean 'path'\?[^$]*column 'class'\. .*'label'\?"),
        (b"file,class\na,b\n", r"the header \(file, class\) has no column 'path'.* Write path,label\."),
        (b"video_name;action\na;b\n", r"Write path,label\."),
        (b"x,y2\na,b\n", r"Write for example path,label\."),
        ("path,label\na,b\n".encode("utf-16-le"), r"line 1: it has NUL characters.* Save it again as UTF-8\."),
        (b"\xff\xfep\0a\0t\0h\0\n", r"it begins as UTF-16 and does not go on so .* Save it again as UTF-8\."),
    ],
)
def test_headers_of_other_tables_get_the_names_that_are_meant(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.csv")
