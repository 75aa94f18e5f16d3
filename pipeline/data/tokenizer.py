"""Texts <-> token ids.

In: texts. Out: ids of words, subwords or characters, and texts again. A model stores the tokenizer as plain JSON.
Hugging Face's `tokenizers` does the tokenization. Knows nothing of models or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HFTokenizer

Level = Literal["word", "subword", "character"]
PreTokenizer = Literal["spaces", "punctuation"]

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""The special tokens, with the ids PAD, UNKNOWN, START and END."""
PAD, UNKNOWN, START, END = range(4)
SETTINGS = {"level", "vocabulary_size", "min_count", "pre_tokenizer", "lowercase"}
"""The settings of a config section that `Tokenizer.train` takes."""
MAX_WORD_LENGTH = 20
"""The most characters of a word that `Tokenizer.character_ids` keeps: a longer word loses its middle."""


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and the rule that divides texts into its tokens. The ids 0 to 3 are those of SPECIAL.

    level: `word`, `subword` (byte-pair encoding, Sennrich et al. 2016) or `character`. tokenizer: the JSON of
        `tokenizers`.
    alphabet: the characters with ids of their own, or "" where no model reads characters; the character id 0 is padding
    and 1 is any other character.
    """

    level: Level
    tokenizer: str
    alphabet: str = ""

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        *,
        level: Level = "word",
        vocabulary_size: int = 20_000,
        min_count: int = 1,
        pre_tokenizer: PreTokenizer = "spaces",
        lowercase: bool = False,
        with_characters: bool = False,
    ) -> Tokenizer:
        """The tokenizer of some texts.

        Args:
            texts: training texts.
            level: what a token is.
            vocabulary_size: the most tokens; the most frequent ones are kept.
            min_count: how often a word must occur to be kept.
            pre_tokenizer: words end at spaces, or at spaces and punctuation.
            lowercase: convert texts to lower case.
            with_characters: also collect the alphabet.

        Raises ValueError where the texts have no word.
        """
        if not any(text.strip() for text in texts):
            raise ValueError(
                f"There are {len(texts)} texts to train a tokenizer on, and no word in them. Give rows with a text (or "
                "captions)."
            )
        tokenizer, trainer = _untrained(level, vocabulary_size, min_count, pre_tokenizer)
        lowercases = [normalizers.Lowercase()] if lowercase else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lowercases])
        tokenizer.train_from_iterator(texts, trainer)
        counts = Counter("".join(texts)) if with_characters else Counter()
        alphabet = "".join(sorted(c for c, count in counts.items() if count >= max(2, min_count) and not c.isspace()))
        return cls(level, tokenizer.to_str(), alphabet)

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # without what is computed from them

    @cached_property
    def _tokenizer(self) -> HFTokenizer:
        return HFTokenizer.from_str(self.tokenizer)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tokens in the order of their ids."""
        ids = self._tokenizer.get_vocab()
        return tuple(sorted(ids, key=ids.__getitem__))

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without start and end."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, without padding, start and end. An unknown word becomes <unk>."""
        kept = [int(i) for i in ids if i not in (PAD, START, END)]
        if self.level == "word":
            return " ".join(self.names[i] for i in kept)
        return self._tokenizer.decode(kept, skip_special_tokens=False)

    def character_ids(self, text: str) -> np.ndarray:
        """The characters of each token as written, not as normalised: (T, MAX_WORD_LENGTH) int64, padded with 0."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        id_of = {character: i for i, character in enumerate(self.alphabet, start=2)}
        ids = np.zeros((len(encoding.ids), MAX_WORD_LENGTH), dtype=np.int64)
        half = MAX_WORD_LENGTH // 2
        for row, (start, stop) in enumerate(encoding.offsets):
            word = text[start:stop]
            word = word if len(word) <= MAX_WORD_LENGTH else word[:half] + word[-half:]
            ids[row, : len(word)] = [id_of.get(character, 1) for character in word]
        return ids

    def as_json(self) -> dict[str, Any]:
        """The tokenizer as JSON types, which `from_json` reads."""
        return {"level": self.level, "tokenizer": self.tokenizer, "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, value: object) -> Tokenizer:
        """The tokenizer that `as_json` wrote. Raises ValueError for any other value."""
        try:
            assert isinstance(value, dict) and value["level"] in ("word", "subword", "character")
            tokenizer = cls(value["level"], str(value["tokenizer"]), str(value["alphabet"]))
            assert tokenizer.names[: len(SPECIAL)] == SPECIAL
        except Exception as error:  # the library raises plain Exceptions for JSON that it cannot read
            raise ValueError(f"its tokenizer cannot be read ({type(error).__name__}: {error})") from None
        return tokenizer


def _untrained(level: Level, size: int, min_count: int, pre_tokenizer: PreTokenizer) -> tuple[HFTokenizer, Any]:
    """A tokenizer with an empty vocabulary, and its trainer."""
    special = list(SPECIAL)
    if level == "subword":
        tokenizer = HFTokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
        punctuation = [pre_tokenizers.Punctuation()] if pre_tokenizer == "punctuation" else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), *punctuation])
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer, trainers.BpeTrainer(
            vocab_size=size, min_frequency=max(2, min_count), special_tokens=special, show_progress=False
        )
    tokenizer = HFTokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
    if level == "character":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    elif pre_tokenizer == "spaces":
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=min_count, special_tokens=special, show_progress=False
    )
