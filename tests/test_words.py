"""Texts and their tokens: what is cut comes back, and each level keeps its promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipeline.data.manifest import Row
from pipeline.data.text import StoredText, cut, text_of
from pipeline.data.vectors import read_vectors
from pipeline.data.words import END, LONGEST_WORD, SPECIAL, START, UNKNOWN, Words

TEXTS = ["the cat sat on the mat .", "The dog's bone isn't here!", "a\nb\t ü"] * 3


@pytest.mark.parametrize("level", ["piece", "character"])
def test_what_was_learned_comes_back(level):
    words = Words.learn(TEXTS, level=level, vocabulary=200)
    for text in TEXTS[:2] + (TEXTS[2:3] if level == "character" else []):
        assert words.decode(words.encode(text)) == text


def test_words_at_spaces_and_at_punctuation():
    assert Words.learn(TEXTS).decode(Words.learn(TEXTS).encode("the dog's  cat")) == "the dog's cat".replace(
        "dog's", "dog's"
    )
    words = Words.learn(TEXTS, cut="punctuation", lower=True)
    assert words.decode(words.encode("The dog's")) == "the dog ' s"


def test_a_character_is_a_token_whatever_it_is():
    words = Words.learn(TEXTS, level="character")
    assert len(words.encode(TEXTS[2])) == len(TEXTS[2])


def test_rare_and_new_words_are_unknown_and_say_so():
    words = Words.learn(["a a b"], minimum=2)
    assert words.encode("a b c") == [words.names.index("a"), UNKNOWN, UNKNOWN]
    assert words.decode([UNKNOWN]) == "<unk>" and words.names[:4] == SPECIAL


def test_the_most_frequent_stay():
    words = Words.learn(["a a a b b c"], vocabulary=6)
    assert set(words.names) == {*SPECIAL, "a", "b"} and len(words) == 6


def test_json_gives_the_same_words_again():
    words = Words.learn(TEXTS, level="piece", vocabulary=60, spelled=True)
    again = Words.from_json(json.loads(json.dumps(words.as_json())))
    assert again == words and again.encode("the dog") == words.encode("the dog") and again.names == words.names


@pytest.mark.parametrize("damaged", [None, [], {"level": "word"}, {"level": "word", "tokenizer": "{", "alphabet": ""}])
def test_damaged_words_are_named(damaged):
    with pytest.raises(ValueError, match="its tokenizer cannot be read"):
        Words.from_json(damaged)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text_is_said(texts):
    with pytest.raises(ValueError, match=f"There are {len(texts)} texts to learn words from, and no word in them"):
        Words.learn(texts)


def test_spelling_is_that_of_the_text_as_written():
    words = Words.learn(["Ab ab b b a A"], lower=True, spelled=True)
    spelled = words.spell("Ab é")
    letters = {c: i for i, c in enumerate(words.alphabet, start=2)}
    assert spelled.shape == (2, LONGEST_WORD)
    assert spelled[0, :3].tolist() == [letters["A"], letters["b"], 0] and spelled[1, :2].tolist() == [1, 0]


def test_a_long_word_keeps_both_ends():
    words = Words.learn(["abcdefghij klmnopqrst aa bb"] * 2, spelled=True)
    spelled = words.spell("abcdefghij" + "z" * 30 + "klmnopqrst")[0]
    assert "".join(words.alphabet[i - 2] for i in spelled) == "abcdefghijklmnopqrst"


def test_the_text_of_a_row_or_of_its_file(tmp_path):
    (tmp_path / "a.txt").write_text("from the file", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    assert text_of(Row("a.txt"), tmp_path) == "from the file"
    assert text_of(Row("a.txt", text="its own"), tmp_path) == "its own"
    for path in ("b.txt", "c.txt"):
        with pytest.raises(ValueError, match=f"'{path}' has no text of its own and is no file of UTF-8 text"):
            text_of(Row(path), tmp_path)


@pytest.mark.parametrize("spelled", [False, True])
def test_windows_of_a_text_make_up_the_whole(tmp_path, spelled):
    words = Words.learn(TEXTS, spelled=spelled)
    source = StoredText(tmp_path, words, ends=True)
    row = Row("x", text="the cat sat")
    assert source.length(row) == 5
    whole, times = source.read(row, 0, 5)
    parts = [source.read(row, a, b)[0] for a, b in ((0, 2), (2, 5))]
    assert torch.equal(whole, torch.cat(parts)) and times.tolist() == [0, 1, 2, 3, 4]
    ids = whole[:, 0] if spelled else whole
    assert ids[0] == START and ids[-1] == END and words.decode(ids.tolist()) == "the cat sat"


def test_no_ends_unless_asked_for():
    words = Words.learn(TEXTS)
    assert cut("the cat", words, ends=False).tolist() == words.encode("the cat")


def test_vectors_of_known_words(tmp_path):
    words = Words.learn(["The cat zzz"])
    table = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float16)
    (tmp_path / "v.txt").write_text("the 1 2 3\ncat 4 5 6\n")
    np.savez(tmp_path / "v.npz", vectors=table, words=np.array(["the", "cat"]))
    for name in ("v.txt", "v.npz"):
        found = read_vectors(tmp_path / name, words, 3)
        assert {words.names[i]: v.tolist() for i, v in found.items()} == {"The": [1, 2, 3], "cat": [4, 5, 6]}


def test_vectors_of_another_width_and_what_is_none(tmp_path):
    (tmp_path / "v.txt").write_text("the 1 2 3\n")
    (tmp_path / "w.txt").write_text("the one two\n")
    words = Words.learn(["the"])
    with pytest.raises(ValueError, match="encoder.embedding is 5. Set encoder.embedding to 3"):
        read_vectors(tmp_path / "v.txt", words, 5)
    for name in ("w.txt", "missing.txt"):
        with pytest.raises(ValueError, match="holds no vectors"):
            read_vectors(tmp_path / name, words, 3)
