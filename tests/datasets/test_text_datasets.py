"""Datasets of texts: the manifest has what the files of the dataset have, and mistakes in the files are errors."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from preparers import by_path, run, write

from pipeline.data.captioned_videos import hash_split
from pipeline.data.dataset_tools import one_token, read_table_file, read_text_file
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.manifest_rows import Row
from pipeline.data.split import apply_split


def tokens_of(row: Row) -> list[tuple[str, str]]:
    """The words under each span, and its label."""
    words = (row.text or "").split()
    return [(" ".join(words[int(span.start) : int(span.end)]), span.label) for span in row.spans]


# shared functions


def test_plain_files_are_read_whole_or_are_an_error(tmp_path):
    assert read_text_file(write(tmp_path / "a.txt", "\ufeffé\r\nb\n")) == "é\nb\n"
    assert read_text_file(write(tmp_path / "a.gz", gzip.compress("é\n".encode()))) == "é\n"
    with pytest.raises(ValueError, match="There is no 'no.txt' in .* Correct the path."):
        read_text_file(tmp_path / "no.txt")
    with pytest.raises(ValueError, match="'b.txt' is not UTF-8 text .the byte 0xe9 at 3.* with iconv."):
        read_text_file(write(tmp_path / "b.txt", b"caf\xe9"))
    for broken in (b"no gzip", gzip.compress(b"text" * 99)[:-9], b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 30):
        with pytest.raises(ValueError, match="'c.gz' is not a complete gzip file .* Download it again."):
            read_text_file(write(tmp_path / "c.gz", broken))
    table = write(tmp_path / "t.csv", 'a,b\n1,"2\n3"\n4\n')
    assert read_table_file(table, ("a",)) == [{"a": "1", "b": "2\n3"}, {"a": "4", "b": ""}]
    for text in ("", "a,b\n", "a\n1\n"):
        with pytest.raises(ValueError, match="'t.csv' has no rows with the columns a, b. Use the table"):
            read_table_file(write(table, text), ("a", "b"))
    assert one_token("New\u00a0 York ") == "New_York"


def test_texts_need_no_file_and_equal_texts_in_two_splits_are_found(tmp_path):
    rows = [Row("train/0", "train", text="a b"), Row("train/1", "train", text="c")]
    rows += [Row("test/0", "test", text="a  b"), Row("test/1", "test", text="d")]
    (finding,) = check_leaks(Manifest(tuple(rows), tmp_path / "nowhere"))
    assert finding.kind == "identical" and finding.paths == ("test/0",)
    assert finding.message.startswith("1 of 2 test texts are also in train, word for word: 'test/0'.")
    assert check_leaks(Manifest(tuple(rows[:2]), tmp_path)) == []
    files = Manifest((*rows[:2], Row("gone.txt", "train")), tmp_path)
    assert [f.message.split(" are")[0] for f in check_leaks(files)] == ["1 of 1 files"]


def test_the_hash_of_a_name_gives_its_split():
    splits = [hash_split(f"video{number}") for number in range(5000)]
    shares = [splits.count(split) / len(splits) for split in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)
    assert [hash_split(name) for name in ("video0", "video9", "video10")] == [splits[0], splits[9], splits[10]]


# sentiment


def test_rt_polarity_keeps_equal_sentences_in_one_group_and_every_letter(tmp_path):
    good = [f"film {i} is good" for i in range(20)] + ["a mess .", "un film pour no\xebl", ""]
    write(tmp_path / "rt-polarity.pos", "\n".join(good).encode("cp1252"))
    bad = [f"film {i} is bad" for i in range(20)] + [". . . A  mess", "clichés — all"]
    write(tmp_path / "rt-polarity.neg", "\n".join(bad).encode())
    code, output, _ = run("rt_polarity", "--folder", tmp_path, "--out", tmp_path / "out")
    assert code == 0
    assert output.startswith("1 sentences repeat another and share its group. 1 lines are not UTF-8.\n")
    rows = by_path(tmp_path / "out/manifest.jsonl")
    assert len(rows) == 44 and all(row.split is None for row in rows.values())
    assert rows["pos/00021"].text == "un film pour noël" and rows["neg/00021"].text == "clichés — all"
    assert rows["pos/00020"].group == rows["neg/00020"].group
    assert (rows["pos/00020"].label, rows["neg/00020"].label) == ("pos", "neg")
    assert len({row.group for row in rows.values()}) == 43
    tested = []
    for fold in range(10):
        split = apply_split(list(rows.values()), "folds", folds=10, fold=fold)
        groups = {name: {row.group for row in split if row.split == name} for name in ("train", "test")}
        assert groups["train"].isdisjoint(groups["test"])
        tested += [row.path for row in split if row.split == "test"]
    assert sorted(tested) == sorted(rows)


def test_missing_or_empty_files_of_rt_polarity_are_errors(tmp_path):
    write(tmp_path / "rt-polarity.pos", "good\n")
    code, _, error = run("rt_polarity", "--folder", tmp_path, "--out", tmp_path)
    assert code == 2 and error.startswith("There is no rt-polarity.neg in ")
    write(tmp_path / "rt-polarity.neg", "\n \n")
    code, _, error = run("rt_polarity", "--folder", tmp_path, "--out", tmp_path)
    assert code == 2 and error.startswith("rt-polarity.neg has no sentence.")


# tags


def word(index: str, form: str, tag: str) -> str:
    return "\t".join([index, form, form.lower(), tag, *"______"]) + "\n"


def test_every_syntactic_word_of_a_treebank_has_its_part_of_speech(tmp_path):
    first = word("1-2", "don't", "_") + word("1", "do", "AUX") + word("2", "n't", "PART") + word("2.1", "go", "VERB")
    train = "# newdoc id = d1\n# text = don't 1 000\n" + first + word("3", "1 000", "NUM") + "\n# newdoc\n"
    train += word("1", "Go", "VERB") + "\n"
    for name, text in (("train", train), ("dev", word("1", "Yes", "INTJ")), ("test", word("1", "No", "INTJ") + "\n\n")):
        write(tmp_path / f"xx_made-ud-{name}.conllu", text)
    code, output, _ = run("ud_pos", "--folder", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and "4 rows (2 train, 1 val, 1 test)" in output and "6 spans of 5 labels." in output
    rows = by_path(tmp_path / "out/manifest.jsonl")
    assert rows["train/000000"].text == "do n't 1_000" and rows["train/000000"].group == "d1"
    assert tokens_of(rows["train/000000"]) == [("do", "AUX"), ("n't", "PART"), ("1_000", "NUM")]
    assert rows["train/000001"].group is None and rows["val/000000"].split == "val"
    file = tmp_path / "xx_made-ud-dev.conllu"
    code, _, _ = run("ud_pos", "--dev", file, "--out", tmp_path / "other")
    assert code == 0 and list(by_path(tmp_path / "other/manifest.jsonl")) == ["val/000000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 two 3\n", "xx-ud-test.conllu line 1 has 1 columns. A word of CoNLL-U has 10"),
        (word("1", "a", "_"), "xx-ud-test.conllu line 1 has the part of speech '_'. Use an annotated treebank"),
        ("# text = nothing\n\n", "xx-ud-test.conllu has no sentence."),
    ],
)
def test_a_broken_treebank_is_an_error(tmp_path, text, message):
    write(tmp_path / "xx-ud-test.conllu", text)
    code, _, error = run("ud_pos", "--folder", tmp_path, "--out", tmp_path)
    assert code == 2 and error.startswith(message)


def test_the_files_of_a_treebank_are_named_in_one_way(tmp_path):
    one = write(tmp_path / "xx-ud-test.conllu", word("1", "a", "DET"))
    for options in ((), ("--folder", tmp_path, "--test", one)):
        code, _, error = run("ud_pos", *options, "--out", tmp_path)
        assert code == 2 and error.startswith("Name the files of the treebank either with --folder or with")
    write(tmp_path / "yy-ud-test.conllu", "")
    code, _, error = run("ud_pos", "--folder", tmp_path, "--out", tmp_path)
    assert code == 2 and "has several treebanks (xx-ud-test.conllu, yy-ud-test.conllu)" in error
    code, _, error = run("ud_pos", "--folder", tmp_path / "none", "--out", tmp_path)
    assert code == 2 and "has no *-ud-train.conllu, -dev or -test." in error


def test_named_entities_with_tabs_or_spaces_are_read_and_invalid_tags_counted(tmp_path):
    write(
        tmp_path / "wnut17train.conll",
        "Empire\tB-location\nState\tI-location\n=\tO\n\t\nESB\tB-location\nESB\tB-group\n",
    )
    write(tmp_path / "emerging.dev.conll", "Ann B-person\nTurn I-product\nI I-product\n\n\nso\ufeff O\n\n\ufeff\n")
    write(tmp_path / "emerging.test.annotated", "New York\tx\tI-location\r\n\r\nno\tx\tO\r\n")
    code, output, _ = run("wnut17", "--folder", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and "6 rows (2 train, 2 val, 2 test)" in output
    assert "emerging.dev.conll: 1 I- tags do not continue an entity of their type; each starts one" in output
    assert "emerging.test.annotated: 1 I- tags" in output and "wnut17train.conll" not in output
    rows = by_path(tmp_path / "out/manifest.jsonl")
    assert tokens_of(rows["train/000000"]) == [("Empire State", "location")]
    assert tokens_of(rows["train/000001"]) == [("ESB", "location"), ("ESB", "group")]
    assert tokens_of(rows["val/000000"]) == [("Ann", "person"), ("Turn I", "product")]
    assert rows["val/000001"].text == "so" and tokens_of(rows["test/000000"]) == [("New_York", "location")]


def test_broken_entities_are_errors(tmp_path):
    files = [write(tmp_path / name, "a O\n") for name in ("a", "b", "c")]
    options = ["--train", files[0], "--val", files[1], "--out", tmp_path]
    code, _, error = run("wnut17", *options)
    assert code == 2 and error.startswith("There is no file for test. Give --test FILE")
    for text in ("a X\n", "alone\n", "a B-\n"):
        write(files[2], text)
        code, _, error = run("wnut17", *options, "--test", files[2])
        assert code == 2 and error.startswith(f"c line 1 is {text.strip()!r}. It must be a word and O")
    write(files[2], "\n")
    code, _, error = run("wnut17", *options, "--test", files[2])
    assert code == 2 and error.startswith("c has no sentence.")


# translation and language


def test_multi30k_pairs_lines_of_equal_number(tmp_path):
    for name in ("train", "val", "test_2016_flickr"):
        write(tmp_path / f"{name}.de.gz", gzip.compress(f"Ein Hund {name}\n \nZwei\u2028Hunde\n".encode()))
        write(tmp_path / f"{name}.en", f"A dog {name}\nleft out\nTwo  dogs")
    code, output, _ = run("multi30k", "--folder", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and "1 pairs of val have an empty sentence and are left out." in output
    rows = by_path(tmp_path / "out/manifest.jsonl")
    assert [(row.split, row.text, row.captions) for row in rows.values()][-2:] == [
        ("test", "Ein Hund test_2016_flickr", ("A dog test_2016_flickr",)),
        ("test", "Zwei Hunde", ("Two dogs",)),
    ]
    code, _, _ = run("multi30k", "--folder", tmp_path, "--from", "en", "--to", "de", "--out", tmp_path / "back")
    for path, row in by_path(tmp_path / "back/manifest.jsonl").items():
        assert row.captions == (rows[path].text,) and rows[path].captions == (row.text,)
    write(tmp_path / "val.en", "A dog\n")
    code, _, error = run("multi30k", "--folder", tmp_path, "--out", tmp_path)
    assert code == 2 and error.startswith("val.de has 3 lines and val.en has 1.")
    code, _, error = run("multi30k", "--folder", tmp_path, "--to", "de", "--out", tmp_path)
    assert code == 2 and error.startswith("--from and --to are both 'de'.")
    code, _, error = run("multi30k", "--folder", tmp_path, "--to", "fr", "--out", tmp_path)
    assert code == 2 and error.startswith("There is no 'train.fr' in")


def test_the_lanes_together_are_the_text_and_its_end_is_the_test(tmp_path):
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("aé \n𝄞"), size=1003))
    one, two = write(tmp_path / "a.txt", text[:500].replace("\n", "\r\n")), write(tmp_path / "b.txt", text[500:])
    for files, whole in (([two], text[500:]), ([one, two], text[:500] + "\n" * (text[499] != "\n") + text[500:])):
        whole = whole + "\n" * (len(files) == 2 and whole[-1] != "\n")
        out = tmp_path / f"out{len(files)}"
        code, output, error = run("text", "--file", *files, "--share", 0.25, "--lanes", 7, "--out", out)
        assert code == 0, error
        manifest = read_manifest(out / "manifest.jsonl")
        parts = [manifest.path_of(row).read_bytes().decode() for row in manifest.rows]
        assert [row.split for row in manifest.rows] == ["train"] * 7 + ["test"]
        assert all(row.text is None for row in manifest.rows)
        assert "".join(parts) == whole and len(parts[-1]) == len(whole) - int(len(whole) * 0.75)
        assert max(map(len, parts[:-1])) - min(map(len, parts[:-1])) <= 1
        assert f"{len(whole):,} characters, {len(set(whole))} different" in output
        assert ("a.txt: " in output and "line ends of Windows (CR LF) became LF." in output) == (len(files) == 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", 0], "--share is 0. It is the share of the text for the test"),
        (["--share", 1], "--share is 1. It is the share"),
        (["--lanes", 0], "--lanes is 0. It is the number of lanes"),
        (["--lanes", 10], "The text has 10 characters. 10 lanes and a test share of 0.1 need more."),
    ],
)
def test_a_text_that_cannot_be_split_is_an_error(tmp_path, options, message):
    file = write(tmp_path / "a.txt", "0123456789")
    code, _, error = run("text", "--file", file, *options, "--out", tmp_path)
    assert code == 2 and error.startswith(message)
