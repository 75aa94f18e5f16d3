"""Tokenizers and texts: decoding inverts encoding, and the windows of a text make up the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipeline.data.manifest_rows import Row
from pipeline.data.texts import StoredText, encode_text, text_of
from pipeline.data.tokenizer import END, MAX_WORD_LENGTH, SPECIAL, START, UNKNOWN, Tokenizer
from pipeline.data.word_vectors import read_vectors

TEXTS = ["the cat sat on the mat .", "The dog's bone isn't here!", "a\nb\t ü"] * 3


@pytest.mark.parametrize("level", ["subword", "character"])
def test_decoding_inverts_encoding(level):
    tokenizer = Tokenizer.train(TEXTS, level=level, vocabulary_size=200)
    for text in TEXTS[:2] + (TEXTS[2:3] if level == "character" else []):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_end_at_spaces_or_at_punctuation():
    spaces = Tokenizer.train(TEXTS)
    assert spaces.decode(spaces.encode("the dog's  cat")) == "the dog's cat"
    punctuation = Tokenizer.train(TEXTS, pre_tokenizer="punctuation", lowercase=True)
    assert punctuation.decode(punctuation.encode("The dog's")) == "the dog ' s"


def test_every_character_is_a_token():
    tokenizer = Tokenizer.train(TEXTS, level="character")
    assert len(tokenizer.encode(TEXTS[2])) == len(TEXTS[2])


def test_rare_and_new_words_are_unknown():
    tokenizer = Tokenizer.train(["a a b"], min_count=2)
    assert tokenizer.encode("a b c") == [tokenizer.names.index("a"), UNKNOWN, UNKNOWN]
    assert tokenizer.decode([UNKNOWN]) == "<unk>" and tokenizer.names[:4] == SPECIAL


def test_the_most_frequent_words_are_kept():
    tokenizer = Tokenizer.train(["a a a b b c"], vocabulary_size=6)
    assert set(tokenizer.names) == {*SPECIAL, "a", "b"} and len(tokenizer) == 6


def test_json_gives_the_same_tokenizer_again():
    tokenizer = Tokenizer.train(TEXTS, level="subword", vocabulary_size=60, with_characters=True)
    again = Tokenizer.from_json(json.loads(json.dumps(tokenizer.as_json())))
    assert again == tokenizer and again.names == tokenizer.names
    assert again.encode("the dog") == tokenizer.encode("the dog")


@pytest.mark.parametrize("damaged", [None, [], {"level": "word"}, {"level": "word", "tokenizer": "{", "alphabet": ""}])
def test_a_damaged_tokenizer_is_an_error(damaged):
    with pytest.raises(ValueError, match="its tokenizer cannot be read"):
        Tokenizer.from_json(damaged)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_texts_without_a_word_are_an_error(texts):
    with pytest.raises(ValueError, match=f"There are {len(texts)} texts to train a tokenizer on, and no word in them"):
        Tokenizer.train(texts)


def test_character_ids_are_those_of_the_text_as_written():
    tokenizer = Tokenizer.train(["Ab ab b b a A"], lowercase=True, with_characters=True)
    ids = tokenizer.character_ids("Ab é")
    id_of = {character: i for i, character in enumerate(tokenizer.alphabet, start=2)}
    assert ids.shape == (2, MAX_WORD_LENGTH)
    assert ids[0, :3].tolist() == [id_of["A"], id_of["b"], 0] and ids[1, :2].tolist() == [1, 0]


def test_a_long_word_keeps_its_start_and_its_end():
    tokenizer = Tokenizer.train(["abcdefghij klmnopqrst aa bb"] * 2, with_characters=True)
    ids = tokenizer.character_ids("abcdefghij" + "z" * 30 + "klmnopqrst")[0]
    assert "".join(tokenizer.alphabet[i - 2] for i in ids) == "abcdefghijklmnopqrst"


def test_the_text_of_a_row_is_its_own_or_that_of_its_file(tmp_path):
    (tmp_path / "a.txt").write_text("from the file", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    assert text_of(Row("a.txt"), tmp_path) == "from the file"
    assert text_of(Row("a.txt", text="its own"), tmp_path) == "its own"
    for path in ("b.txt", "c.txt"):
        with pytest.raises(ValueError, match=f"'{path}' has no text in the manifest and is not a UTF-8 text file"):
            text_of(Row(path), tmp_path)


@pytest.mark.parametrize("with_characters", [False, True])
def test_windows_of_a_text_make_up_the_whole(tmp_path, with_characters):
    tokenizer = Tokenizer.train(TEXTS, with_characters=with_characters)
    source = StoredText(tmp_path, tokenizer, add_bos_eos=True)
    row = Row("x", text="the cat sat")
    assert source.length(row) == 5
    whole, times = source.read(row, 0, 5)
    windows = [source.read(row, start, stop)[0] for start, stop in ((0, 2), (2, 5))]
    assert torch.equal(whole, torch.cat(windows)) and times.tolist() == [0, 1, 2, 3, 4]
    ids = whole[:, 0] if with_characters else whole
    assert ids[0] == START and ids[-1] == END and tokenizer.decode(ids.tolist()) == "the cat sat"


def test_start_and_end_tokens_are_optional():
    tokenizer = Tokenizer.train(TEXTS)
    assert encode_text("the cat", tokenizer, add_bos_eos=False).tolist() == tokenizer.encode("the cat")


def test_pretrained_vectors_of_known_words(tmp_path):
    tokenizer = Tokenizer.train(["The cat zzz"])
    table = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float16)
    (tmp_path / "v.txt").write_text("the 1 2 3\ncat 4 5 6\n")
    np.savez(tmp_path / "v.npz", vectors=table, words=np.array(["the", "cat"]))
    for name in ("v.txt", "v.npz"):
        vectors = read_vectors(tmp_path / name, tokenizer, 3)
        by_word = {tokenizer.names[token]: vector.tolist() for token, vector in vectors.items()}
        assert by_word == {"The": [1, 2, 3], "cat": [4, 5, 6]}


def test_pretrained_vectors_of_another_width_and_other_files_are_errors(tmp_path):
    (tmp_path / "v.txt").write_text("the 1 2 3\n")
    (tmp_path / "w.txt").write_text("the one two\n")
    tokenizer = Tokenizer.train(["the"])
    with pytest.raises(ValueError, match="encoder.embedding is 5. Set encoder.embedding to 3"):
        read_vectors(tmp_path / "v.txt", tokenizer, 5)
    for name in ("w.txt", "missing.txt"):
        with pytest.raises(ValueError, match="has no word vectors"):
            read_vectors(tmp_path / name, tokenizer, 3)
