"""A head that transcribes a sequence: its words in order, trained without knowing where each word is.

In: the output of the core (B, T, H). Out: log-probabilities of words and a blank at every step and, as the prediction,
words with their times in seconds. Knows nothing of videos or files.
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
from pipeline.data.manifest_rows import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.targets import WordsTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.edit_distance import edit_distance
from pipeline.metrics.sequence import word_error_rate
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Prediction, Transcript
from pipeline.models.process_mean import mean_over_processes
from pipeline.models.text.ctc import BigramModel, align, greedy, log_probability, num_repeats, prefix_beam_search
from pipeline.models.text.ngram import NgramModel
from pipeline.padded import Padded, concat_windows

TranscribeMemory = tuple[Padded, ...]
"""The log-probabilities (B, T, V + 1) of every window so far."""

WordIds = tuple[int, ...]


@dataclass(frozen=True)
class TranscribeResult:
    """One sample, as indices of words.

    reference: the truth. hypothesis: the prediction. greedy: from the best path. bare: from the beam search without
    language model and word bonus. is_too_short: the sample has fewer steps than its words need, so no path gives them.
    """

    reference: WordIds
    hypothesis: WordIds
    greedy: WordIds
    bare: WordIds
    is_too_short: bool


class Transcribe(nn.Module):
    """A linear layer on every step, trained by connectionist temporal classification (Graves et al. 2006).

    The words of a row are its first caption, split at spaces. V is the size of the vocabulary, and V the index of the
    blank. A word outside the vocabulary has the index V + 1. No path can give it, so it is always an error, and the row
    does not count in the loss. The row must be seen as a whole: half of its steps do not contain half of its words.

    Args:
        rate: steps a second.
        beam_width: of the prefix beam search; 1 is greedy decoding, the best path.
        lm_weight: of an n-gram language model of the training rows (`fit_rows`); 0: there is none.
        lm_order: of the language model, 1 or 2.
        word_bonus: added to the log-probability for each word.

    The beam width, the weight (if it was not 0) and the bonus may be changed at any time.

    Raises ValueError for a beam width below 1, another order, and for a language model or bonus with greedy decoding.
    """

    opponent: nn.Module | None
    is_per_step = False
    monitor = "word_accuracy"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        rate: float,
        dropout: float = 0.0,
        beam_width: int = 1,
        lm_weight: float = 0.0,
        word_bonus: float = 0.0,
        lm_order: int = 2,
    ) -> None:
        super().__init__()
        if beam_width < 1 or lm_order not in (1, 2):
            raise ValueError(
                f"beam_width={beam_width}, lm_order={lm_order}: the beam search of '{name}' needs a width of 1 or "
                "more, and its language model has order 1 or 2. Set such a width and order."
            )
        if beam_width == 1 and (lm_weight or word_bonus):
            raise ValueError(
                f"lm_weight={lm_weight} and word_bonus={word_bonus} have no effect with beam_width=1 of '{name}', "
                "which is greedy decoding. Set a beam width of 2 or more, such as 16, or set both to 0."
            )
        self.opponent = None
        self.name, self.vocabulary, self.rate = name, vocabulary, rate
        self.beam_width, self.lm_weight, self.word_bonus, self.lm_order = beam_width, lm_weight, word_bonus, lm_order
        self.blank = len(vocabulary)
        self.target = WordsTarget({word: i for i, word in enumerate(vocabulary.names)}, self.blank + 1)
        self.dropout = nn.Dropout(dropout)
        self.emission = nn.Linear(input_size, self.blank + 1)
        # rows: each word, then the start; columns: each word, then the end; all equally probable before `fit_rows`
        bigrams = torch.full((self.blank + 1,) * 2, -float(np.log(self.blank + 1))) if lm_weight else None
        self.register_buffer("bigrams", bigrams)

    def fit_rows(self, rows: Sequence[Row]) -> None:
        """Before training: fit the language model, if there is one, to the words of the rows (modified Kneser-Ney)."""
        if self.bigrams is not None:
            sentences = [row.captions[0].split() for row in rows if row.captions]
            model = NgramModel.fit(sentences, order=self.lm_order, vocabulary=self.vocabulary.names)
            self.get_buffer("bigrams").copy_(torch.from_numpy(model.bigram_table(self.vocabulary.names)))

    def log_probabilities(self, output: CoreOutput) -> Padded:
        """(B, T, V + 1) float32: of each word and, last, of the blank at every step."""
        return output.steps.zeroed().map(lambda d: self.emission(self.dropout(d)).float().log_softmax(-1))

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """The negative log-likelihood a word. Rows that are too short for their words, and rows with a word outside the
        vocabulary, count neither in the likelihood nor in the number of words.
        """
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        scores, words = self.log_probabilities(output), target.zeroed().data
        if not scores.data.shape[1]:  # no row has a step; F.ctc_loss refuses such a batch
            return {self.name: mean_over_processes(scores.data.sum(), 0, self.training)}
        num_steps, num_words = output.steps.device_lengths, target.device_lengths
        repeats = ((words[:, 1:] == words[:, :-1]) & target.mask[:, 1:]).sum(1)
        is_possible = (num_words + repeats <= num_steps) & (words <= self.blank).all(1)
        losses = F.ctc_loss(
            scores.data.transpose(0, 1),
            words.clamp(max=self.blank - 1),  # F.ctc_loss checks the rows that do not count as well
            scores.lengths,
            target.lengths,
            blank=self.blank,
            reduction="none",
            zero_infinity=True,
        )
        count = torch.where(is_possible, num_words, 0).sum()
        return {self.name: mean_over_processes(torch.where(is_possible, losses, 0.0).sum(), count, self.training)}

    def observe(self, output: CoreOutput, memory: TranscribeMemory | None = None) -> TranscribeMemory:
        """Keep the log-probabilities of these steps, so that the prediction is that of the whole sequence."""
        return (*(memory or ()), self.log_probabilities(output))

    @torch.no_grad()
    def answer(self, memory: TranscribeMemory) -> list[Prediction]:
        """The words of each row with their times."""
        rows = _as_arrays(concat_windows(memory))
        return [self._transcript(scores, words) for scores, words in zip(rows, self.decode(rows), strict=True)]

    def _transcript(self, scores: np.ndarray, words: WordIds) -> Transcript:
        names = tuple(self.vocabulary.names[word] for word in words)
        spans = [
            (start / self.rate, stop / self.rate, name, float(np.exp(scores[start:stop, word].max())))
            for name, word, (start, stop) in zip(names, words, align(scores, words), strict=True)
        ]
        return Transcript(names, log_probability(scores, words), tuple(spans))

    def decode(self, rows: Sequence[np.ndarray], *, use_lm: bool = True) -> list[WordIds]:
        """Log-probabilities (T, V + 1) of each row -> its words. use_lm: false: no language model, no word bonus."""
        if self.beam_width == 1:
            return [greedy(scores) for scores in rows]
        settings: dict[str, Any] = {}
        if use_lm:
            model = None if self.bigrams is None else BigramModel(self.get_buffer("bigrams").double().cpu().numpy())
            settings = {"language_model": model, "weight": self.lm_weight, "bonus": self.word_bonus}
        return [prefix_beam_search(scores, width=self.beam_width, **settings)[0].labels for scores in rows]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[TranscribeResult]:
        """Reference and hypotheses of each sample."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        references: list[WordIds] = [tuple(words.tolist()) for words in target.unpad()]
        rows = _as_arrays(self.log_probabilities(output))
        hypotheses = self.decode(rows)
        bare = self.decode(rows, use_lm=False) if self.lm_weight or self.word_bonus else hypotheses
        is_short = [len(x) < len(words) + num_repeats(words) for x, words in zip(rows, references, strict=True)]
        columns = references, hypotheses, map(greedy, rows), bare, is_short
        return [TranscribeResult(*values) for values in zip(*columns, strict=True)]

    def metrics(self, results: Sequence[TranscribeResult]) -> dict[str, Any]:
        """Word error rate of the prediction with its kinds of errors; that of the best path (`greedy_...`), and of the
        beam search without language model and word bonus (`bare_...`). word_accuracy: 1 - word error rate; it is
        negative where there are more errors than words. unknown_words: words of the references outside the vocabulary.
        too_short: samples that are too short for their words.
        """
        references = [result.reference for result in results]
        metrics: dict[str, Any] = word_error_rate([result.hypothesis for result in results], references)
        greedy_rate = word_error_rate([result.greedy for result in results], references)["word_error_rate"]
        bare_rate = word_error_rate([result.bare for result in results], references)["word_error_rate"]
        return {
            "word_accuracy": 1.0 - metrics["word_error_rate"],
            **metrics,
            "greedy_word_error_rate": greedy_rate,
            "bare_word_error_rate": bare_rate,
            "unknown_words": sum(word > self.blank for words in references for word in words),
            "too_short": sum(result.is_too_short for result in results),
        }

    def confidence_interval(
        self, results: Sequence[TranscribeResult], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """The 95 % interval of the word accuracy, resampled by group."""
        num_words = np.array([len(result.reference) for result in results], dtype=np.float64)
        num_errors = [edit_distance(result.hypothesis, result.reference) for result in results]
        return ratio_interval(num_words - num_errors, num_words, groups)


def _as_arrays(scores: Padded) -> list[np.ndarray]:
    """The rows, each (T, V + 1) float64, as the decoders need them."""
    return [row.numpy() for row in scores.map(lambda d: d.double()).to("cpu").unpad()]
