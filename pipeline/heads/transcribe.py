"""What is said: the words of an uncut sequence, in their order, without anyone having told where each stands.

In: what the core has seen (B, T, H). Out: log-probabilities of words and a blank at every step and, as an answer, words with
their seconds. Knows nothing of videos or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.sequence import edits, word_error_rate
from pipeline.models.ctc import Bigrams, align, greedy, log_probability, num_repeats, prefix_beam_search
from pipeline.models.ngram import NgramModel
from pipeline.models.prediction import Prediction, Transcript
from pipeline.models.seen import Seen
from pipeline.padded import Padded, joined

Memory = tuple[Padded, ...]
"""The log-probabilities (B, T, V + 1) of every window so far."""

Labels = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """Of one sample, indices of words: truth; said, the answer; greedy, what the best path alone says; bare, what the beam says
    without the language model. is_too_short: it has fewer steps than its words need, and taught nothing.
    """

    truth: Labels
    said: Labels
    greedy: Labels
    bare: Labels
    is_too_short: bool


class Transcribe(nn.Module):
    """A linear layer on every step, learnt by connectionist temporal classification (Graves et al. 2006): over words and a blank.

    The words of a row are its first caption, cut at blanks; V is their number in the vocabulary and the index of the blank. A
    word that is not in the vocabulary cannot be said: in a truth it is V + 1, always an error, and a row that has one teaches
    nothing (no path means it). A row learns as a whole: half of its steps do not say half of its words.

    rate: steps a second. width: of the beam; 1 is greedy, the best path. lm_weight: of a language model over the words of the
    training rows (`read`), 0 for none; lm_order: how many words in a row it counts, 1 or 2. word_bonus: added to a log-probability
    for each word. Of these the width, the weight (if it was not 0) and the bonus may be set anew at any time.

    Raises ValueError for a width below 1, an order it has no room for, and what a greedy answer has no use for.
    """

    opponent: nn.Module | None
    stepwise = False
    watched = "word_accuracy"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        rate: float,
        dropout: float = 0.0,
        width: int = 1,
        lm_weight: float = 0.0,
        word_bonus: float = 0.0,
        lm_order: int = 2,
    ) -> None:
        super().__init__()
        if width < 1 or lm_order not in (1, 2):
            raise ValueError(
                f"width={width}, lm_order={lm_order}: '{name}' goes on with 1 or more beginnings, and counts 1 or 2 words in a "
                "row. Give such a width and order."
            )
        if width == 1 and (lm_weight or word_bonus):
            raise ValueError(
                f"lm_weight={lm_weight} and word_bonus={word_bonus} choose between sentences, and width=1 of '{name}' has only "
                "one. Give a width of 2 or more, such as 16, or leave both 0."
            )
        self.opponent = None
        self.name, self.vocabulary, self.rate = name, vocabulary, rate
        self.width, self.lm_weight, self.word_bonus, self.lm_order = width, lm_weight, word_bonus, lm_order
        self.blank = len(vocabulary)
        self._places = {word: i for i, word in enumerate(vocabulary.names)}
        self.dropout = nn.Dropout(dropout)
        self.emit = nn.Linear(input_size, self.blank + 1)
        # from each word or the start to each word or the end; before it has read anything, all are equally likely
        bigrams = torch.full((self.blank + 1,) * 2, -float(np.log(self.blank + 1))) if lm_weight else None
        self.register_buffer("bigrams", bigrams)

    def read(self, rows: Sequence[Row]) -> None:
        """Before training: fit the language model, if there is one, to the training rows' words (modified Kneser-Ney)."""
        if self.bigrams is not None:
            sentences = [row.captions[0].split() for row in rows if row.captions]
            model = NgramModel.fit(sentences, order=self.lm_order, vocabulary=self.vocabulary.names)
            self.get_buffer("bigrams").copy_(torch.from_numpy(model.table(self.vocabulary.names)))

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """The words (L,) int64 of the first caption; V + 1 for one that cannot be said."""
        if not row.captions:
            return None
        return torch.tensor([self._places.get(w, self.blank + 1) for w in row.captions[0].split()], dtype=torch.int64)

    def log_probabilities(self, seen: Seen) -> Padded:
        """(B, T, V + 1) float32: of each word and, last, the blank at every step."""
        return seen.steps.zeroed().map(lambda d: self.emit(self.dropout(d)).float().log_softmax(-1))

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """The negative log-likelihood a word. Rows that are too short for their words, or have one that cannot be said, are
        left out, of both sums.
        """
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        scores, words = self.log_probabilities(seen), target.zeroed().data
        if not scores.data.shape[1]:  # nothing was seen, and torch takes no such batch
            return {self.name: scores.data.sum()}
        steps, lengths = seen.steps.lengths.to(words.device), target.lengths.to(words.device)
        repeats = ((words[:, 1:] == words[:, :-1]) & target.mask[:, 1:]).sum(1)
        counts = (lengths + repeats <= steps) & (words <= self.blank).all(1)
        losses = F.ctc_loss(
            scores.data.transpose(0, 1),
            words.clamp(max=self.blank - 1),  # of rows that do not count, and torch looks at all
            scores.lengths,
            target.lengths,
            blank=self.blank,
            reduction="none",
            zero_infinity=True,
        )
        said = torch.where(counts, lengths, 0).sum()
        return {self.name: torch.where(counts, losses, 0.0).sum() / said.clamp(min=1)}

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Keep these steps' log-probabilities, so that the answer is that of the whole."""
        return (*(memory or ()), self.log_probabilities(seen))

    @torch.no_grad()
    def answer(self, memory: Memory) -> list[Prediction]:
        """The words of each row, and when."""
        rows = _rows(joined(memory))
        return [self._transcript(scores, words) for scores, words in zip(rows, self.decode(rows), strict=True)]

    def _transcript(self, scores: np.ndarray, words: Labels) -> Transcript:
        names = tuple(self.vocabulary.names[word] for word in words)
        spans = [
            (start / self.rate, stop / self.rate, name, float(np.exp(scores[start:stop, word].max())))
            for name, word, (start, stop) in zip(names, words, align(scores, words), strict=True)
        ]
        return Transcript(names, log_probability(scores, words), tuple(spans))

    def decode(self, rows: Sequence[np.ndarray], *, has_lm: bool = True) -> list[Labels]:
        """Log-probabilities (T, V + 1) of each row -> its words. has_lm: false leaves language model and bonus out."""
        if self.width == 1:
            return [greedy(scores) for scores in rows]
        rules: dict[str, Any] = {}
        if has_lm:
            table = None if self.bigrams is None else Bigrams(self.get_buffer("bigrams").double().cpu().numpy())
            rules = {"language_model": table, "weight": self.lm_weight, "bonus": self.word_bonus}
        return [prefix_beam_search(scores, width=self.width, **rules)[0].labels for scores in rows]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """Truth and answers of each sample."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        truths: list[Labels] = [tuple(words.tolist()) for words in target.unpad()]
        rows = _rows(self.log_probabilities(seen))
        said = self.decode(rows)
        bare = self.decode(rows, has_lm=False) if self.lm_weight or self.word_bonus else said
        is_short = [len(x) < len(truth) + num_repeats(truth) for x, truth in zip(rows, truths, strict=True)]
        parts = zip(truths, said, map(greedy, rows), bare, is_short, strict=True)
        return [Evidence(*one) for one in parts]

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """Word error rate of the answer with its kinds of errors; that of the best path (`greedy_...`) and of the beam without
        language model and bonus (`bare_...`). word_accuracy: 1 - word error rate; below 0 where more is wrong than there
        are words. unknown_words: of the truths, that cannot be said and are errors. too_short: rows that taught nothing.
        """
        truths = [e.truth for e in evidence]
        found: dict[str, Any] = word_error_rate([e.said for e in evidence], truths)
        for prefix, said in (("greedy", [e.greedy for e in evidence]), ("bare", [e.bare for e in evidence])):
            found[f"{prefix}_word_error_rate"] = word_error_rate(said, truths)["word_error_rate"]
        unknown = sum(word > self.blank for truth in truths for word in truth)
        too_short = sum(e.is_too_short for e in evidence)
        return {
            "word_accuracy": 1.0 - found["word_error_rate"],
            **found,
            "unknown_words": unknown,
            "too_short": too_short,
        }

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the word accuracy, drawn by groups."""
        words = np.array([len(e.truth) for e in evidence], dtype=np.float64)
        return ratio_interval(words - [sum(edits(e.said, e.truth)) for e in evidence], words, groups)


def _rows(scores: Padded) -> list[np.ndarray]:
    """Each (T, V + 1), as decoding wants them."""
    return [row.double().cpu().numpy() for row in scores.unpad()]
