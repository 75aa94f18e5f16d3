"""Texts <-> numbers of tokens.

In: texts. Out: ids of words, of pieces of words or of characters, and texts again. Stored with the model as plain JSON. The cutting
is that of Hugging Face's `tokenizers`. Knows nothing of models or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

Level = Literal["word", "piece", "character"]
Cut = Literal["spaces", "punctuation"]

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
PAD, UNKNOWN, START, END = range(4)
SETTINGS = {"level", "vocabulary", "minimum", "cut", "lower"}
"""What `Words.learn` takes that a config says."""
LONGEST_WORD = 20  # characters of a word that its spelling keeps; what is longer is cut in the middle


@dataclass(frozen=True)
class Words:
    """A vocabulary with the rule that cuts texts into it. The ids 0 to 3 are padding, unknown, start and end.

    level: `word`, `piece` (byte-pair encoding, Sennrich et al. 2016) or `character`. tokenizer: its JSON as `tokenizers` writes
    it. alphabet: the characters that spellings know, or nothing where nobody asks for them; 0 is padding and 1 an unknown one.
    """

    level: Level
    tokenizer: str
    alphabet: str = ""

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        *,
        level: Level = "word",
        vocabulary: int = 20_000,
        minimum: int = 1,
        cut: Cut = "spaces",
        lower: bool = False,
        spelled: bool = False,
    ) -> Words:
        """The vocabulary of some texts.

        vocabulary: tokens at most, the most frequent stay. minimum: how often a word has to be seen to be one. cut: words end at
        spaces alone, or punctuation is cut off as well. lower: everything in lower case. spelled: know the characters too.
        Raises ValueError where there is no text.
        """
        if not any(text.strip() for text in texts):
            raise ValueError(
                f"There are {len(texts)} texts to learn words from, and no word in them. Give rows with a text (or captions)."
            )
        tokenizer, trainer = _bare(level, vocabulary, minimum, cut)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
        tokenizer.train_from_iterator(texts, trainer)
        counts = Counter("".join(texts)) if spelled else Counter()
        alphabet = "".join(sorted(c for c, count in counts.items() if count >= max(2, minimum) and not c.isspace()))
        return cls(level, tokenizer.to_str(), alphabet)

    @cached_property
    def _cutter(self) -> Tokenizer:
        return Tokenizer.from_str(self.tokenizer)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every token, by its id."""
        known = self._cutter.get_vocab()
        return tuple(sorted(known, key=known.__getitem__))

    def __len__(self) -> int:
        return self._cutter.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, without start and end."""
        return self._cutter.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; padding, start and end are left out, unknown words show as <unk>."""
        kept = [int(i) for i in ids if i not in (PAD, START, END)]
        if self.level == "word":
            return " ".join(self.names[i] for i in kept)
        return self._cutter.decode(kept, skip_special_tokens=False)

    def spell(self, text: str) -> np.ndarray:
        """The characters of each token, (T, LONGEST_WORD) int64 with zeros behind: as written, not as normalised."""
        found = self._cutter.encode(text, add_special_tokens=False)
        place = {c: i for i, c in enumerate(self.alphabet, start=2)}
        spelled = np.zeros((len(found.ids), LONGEST_WORD), dtype=np.int64)
        half = LONGEST_WORD // 2
        for row, (start, stop) in enumerate(found.offsets):
            word = text[start:stop]
            word = word if len(word) <= LONGEST_WORD else word[:half] + word[-half:]
            spelled[row, : len(word)] = [place.get(c, 1) for c in word]
        return spelled

    def as_json(self) -> dict[str, Any]:
        """What `from_json` makes the same of."""
        return {"level": self.level, "tokenizer": self.tokenizer, "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, given: object) -> Words:
        """Raises ValueError for what is not of `as_json`."""
        try:
            assert isinstance(given, dict) and given["level"] in ("word", "piece", "character")
            words = cls(given["level"], str(given["tokenizer"]), str(given["alphabet"]))
            assert words.names[: len(SPECIAL)] == SPECIAL
        except Exception as error:  # the library raises plain Exceptions for what it cannot read
            raise ValueError(f"its tokenizer cannot be read ({type(error).__name__}: {error})") from None
        return words


def _bare(level: Level, size: int, minimum: int, cut: Cut) -> tuple[Tokenizer, Any]:
    """A tokenizer that knows no word yet, and what teaches it."""
    special = list(SPECIAL)
    if level == "piece":
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), *([pre_tokenizers.Punctuation()] if cut == "punctuation" else [])]
        )
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer, trainers.BpeTrainer(
            vocab_size=size, min_frequency=max(2, minimum), special_tokens=special, show_progress=False
        )
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
    if level == "character":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if cut == "spaces" else pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=minimum, special_tokens=special, show_progress=False
    )
