"""What happens, in a sentence: a second core writes while it looks back at what the first one saw.

In: what the core has seen (B, T, H). Out: loss terms and, as an answer, a sentence with its log-probability, and one for each span of
another head where asked. With tokens for frames it translates. Knows nothing of videos or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.words import END, PAD, START, UNKNOWN, Words
from pipeline.heads.segment import Segment
from pipeline.metrics.bootstrap import ratio_interval, sums_interval
from pipeline.metrics.captions import (
    CiderD,
    DocumentFrequencies,
    bleu_counts,
    bleu_of,
    captions,
    document_frequencies,
    tokenize,
)
from pipeline.models.beam import Sentences, beam_search
from pipeline.models.decoder import Attention, Decoder, Glimpse, WriterCell
from pipeline.models.prediction import Description, Prediction, Spans
from pipeline.models.sampling import sample
from pipeline.models.seen import Seen
from pipeline.padded import Padded, joined, stack

Memory = tuple[Padded, ...]
"""The steps (B, T, H) of every window so far."""

Watch = Literal["cider_d", "bleu_4"]
MOST_SPANS = 64


class Evidence(NamedTuple):
    """One sample: the sentence that was written, those that people wrote, and the log-probability of the first of these a token."""

    said: str
    written: tuple[str, ...]
    log_probability: float


class Caption(nn.Module):
    """A decoder over the steps, and the ways to train it.

    words: the vocabulary of the sentences. attention, feed, cell, hidden, size, dropout: see `Decoder`. max_length: tokens of a
    sentence at most, the end included; longer ones are cut in training. label_smoothing: of the cross-entropy (Szegedy et al.
    2016). sampling: the share of words that are replaced by the model's own before they are read again in training (Bengio et
    al. 2015; in two passes without a loop, Mihaylova & Martins 2019). self_critical: sentences are drawn and rewarded by their
    CIDEr-D above that of the greedy one (Rennie et al. 2017) instead; it goes on from a trained model. width, length_power,
    no_repeated: of the beam search that answers. rate: steps a second. watch: the metric that chooses the best epoch. segment: a head
    whose spans are looked back at, each by the mean of its steps and its place in their order, instead of the steps: in training the
    true spans, in answers those that it finds.
    """

    opponent: nn.Module | None
    stepwise = False

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        words: Words,
        rate: float,
        attention: Attention = "soft",
        cell: WriterCell = "gru",
        hidden: int = 256,
        size: int = 256,
        dropout: float = 0.3,
        max_length: int = 40,
        label_smoothing: float = 0.1,
        sampling: float = 0.0,
        self_critical: bool = False,
        width: int = 5,
        length_power: float = 0.7,
        no_repeated: int | None = None,
        describes: str | None = None,
        feed: bool = False,
        watch: Watch = "cider_d",
        segment: Segment | None = None,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.name, self.words, self.rate, self.describes = name, words, rate, describes
        self.max_length, self.label_smoothing, self.sampling = max_length, label_smoothing, sampling
        self.self_critical, self.width, self.length_power, self.no_repeated = (
            self_critical,
            width,
            length_power,
            no_repeated,
        )
        self.watched: str = watch
        self._frequencies: DocumentFrequencies | None = None
        self._segment = (segment,)  # in a tuple: it is a head of its own, and is stored there
        self.place = nn.Embedding(MOST_SPANS, input_size) if segment is not None else None
        self.decoder = Decoder(
            vocabulary=len(words),
            size=size,
            input_size=input_size,
            cell=cell,
            hidden=hidden,
            attention=attention,
            dropout=dropout,
            feed=feed,
        )

    def read(self, rows: Sequence[Row]) -> None:
        """Before training: in how many videos of the training part n-grams stand, which rewards are weighed by."""
        if self.self_critical:
            written = [[self._ids(text) for text in row.captions] for row in rows if row.captions]
            self._frequencies = document_frequencies(written)

    def _shares(self, steps: Padded, batch: Batch | None = None) -> list[Tensor] | None:
        """Of each row (E, T): which steps each span is the mean of; None where the steps themselves are looked at. The true spans in
        training, else those that the other head finds; where there are none the whole is one.
        """
        (segment,) = self._segment
        if segment is None:
            return None
        if self.training and batch is not None:
            labels = batch.target(segment.name)
            assert isinstance(labels, Padded)
            runs = [segment.runs_of(row) for row in labels.unpad()]
        else:
            runs = segment.runs(steps)
        return [_means(row, length, steps.data) for row, length in zip(runs, steps.lengths.tolist(), strict=True)]

    def _looked_at(self, steps: Padded, shares: list[Tensor] | None) -> Padded:
        """What the decoder looks back at: the steps (B, T, H), or the spans of each row in their order (B, E, H)."""
        if shares is None:
            return steps
        assert self.place is not None
        rows = [share @ row for share, row in zip(shares, steps.zeroed().unpad(), strict=True)]
        return stack([row + self.place.weight[: len(row)] for row in rows])

    def _ids(self, text: str) -> list[int]:
        return [*self.words.encode(text)[: self.max_length - 1], END]

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """Every sentence of the row, (R, L) int64: its tokens, the end, padding. L is the same for all rows."""
        if not row.captions:
            return None
        found = torch.full((len(row.captions), self.max_length), PAD, dtype=torch.int64)
        for place, text in enumerate(row.captions):
            ids = self._ids(text)
            found[place, : len(ids)] = torch.tensor(ids)
        return found

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy a token of one sentence of each row (in training drawn, else the first), or the self-critical loss."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        glimpse = self.decoder.glimpse(self._looked_at(seen.steps, self._shares(seen.steps, batch)))
        if self.self_critical and self.training:
            return {self.name: self._self_critical(glimpse, target)}
        written = self._one_of(target)
        logits, mask = self._teach(glimpse, written), written.mask
        every = F.cross_entropy(
            logits.float(), written.data[mask], reduction="sum", label_smoothing=self.label_smoothing
        )
        return {self.name: every / mask.sum().clamp(min=1)}

    def _one_of(self, target: Padded) -> Padded:
        """(B, R, L) -> one sentence of each row (B, L), as long as the longest of them."""
        counts = target.lengths.clamp(min=1)
        which = (torch.rand(len(counts)) * counts).long() if self.training else torch.zeros_like(counts)
        rows = target.data[torch.arange(len(counts)), which.to(target.data.device)]
        lengths = (rows != PAD).sum(1).cpu()
        return Padded(rows[:, : max(1, int(lengths.max()))], lengths)

    def _teach(self, glimpse: Glimpse, written: Padded) -> Tensor:
        """Logits (N, V) of each of the N words of all rows, from those before it."""
        before = _shifted(written)
        if self.training and self.sampling:
            with torch.no_grad():
                own = self.decoder(glimpse, before)[0].softmax(-1)
                said = torch.multinomial(own.flatten(0, 1), 1).reshape(written.data.shape)
                is_own = torch.rand(said.shape, device=said.device) < self.sampling
                mixed = torch.where(is_own, said, written.data)
            before = _shifted(Padded(mixed, written.lengths))
        return self.decoder(glimpse, before, only=written.mask)[0]

    def _self_critical(self, glimpse: Glimpse, target: Padded) -> Tensor:
        """- (reward of a drawn sentence - reward of the greedy one) x its log-probability: its gradient is, on average, that of
        minus the expected reward (Williams 1992).
        """
        assert self._frequencies is not None, "`read` comes before training"
        references = [[_cut(ids) for ids in row.tolist()] for row in target.unpad()]
        generator = torch.Generator(glimpse.mask.device)
        generator.manual_seed(int(torch.randint(2**31, (1,))))
        begin, start = self.decoder.begin(glimpse), self._start(glimpse)
        drawn = sample(
            self.decoder.step(glimpse), begin, start, end=END, max_length=self.max_length, generator=generator
        )
        was_training = self.training
        self.eval()
        greedy = self._search(glimpse, width=1)
        self.train(was_training)
        judge = CiderD(references, self._frequencies)
        rewards = [judge.scores([_cut(row.tolist()) for row in found.tokens[:, 0]]) for found in (drawn, greedy)]
        gain = torch.from_numpy(rewards[0] - rewards[1]).to(drawn.log_probability)
        return -(gain[:, None] * drawn.log_probability).mean()

    def _start(self, glimpse: Glimpse) -> Tensor:
        return torch.full((len(glimpse.mask),), START, device=glimpse.mask.device)

    def _search(self, glimpse: Glimpse, width: int) -> Sentences:
        said = self.decoder.step(glimpse)

        def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            scores, state = said(tokens, state)
            return scores.index_fill(1, torch.tensor([PAD, UNKNOWN, START], device=scores.device), -torch.inf), state

        return beam_search(
            step,
            self.decoder.begin(glimpse),
            self._start(glimpse),
            end=END,
            width=width,
            max_length=self.max_length,
            length_power=self.length_power,
            no_repeated=self.no_repeated,
        )

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Keep these steps: what is written may look back at any of them."""
        return (*(memory or ()), seen.steps)

    @torch.no_grad()
    def answer(self, memory: Memory) -> Sequence[Prediction]:
        """A sentence for every row."""
        steps = joined(memory)
        return self._write(steps, self._shares(steps))

    @torch.no_grad()
    def describe(self, memory: Memory, spans: Spans) -> Prediction:
        """A sentence for the whole of one video and one for each of its spans, from the steps within it: dense captioning
        (Krishna et al. 2017) on the spans of another head.
        """
        whole = joined(memory)
        assert len(whole.lengths) == 1
        steps = whole.unpad()[0]
        runs = [(int(a * self.rate), max(int(a * self.rate) + 1, round(b * self.rate))) for a, b, _, _ in spans]
        is_of_spans = self.place is not None
        about = self._write(whole, [_means(runs, len(steps), steps)] if is_of_spans else None)[0]
        if not spans:
            return replace(about, spans=())
        pieces = [steps[start:stop] for start, stop in runs]
        each = [_means([], len(piece), piece) for piece in pieces] if is_of_spans else None
        dense = zip(spans, self._write(stack(pieces), each), strict=True)
        told = tuple(
            (a, b, one.sentence, float(np.exp(one.log_probability / max(1, len(one.tokens)))))
            for (a, b, _, _), one in dense
        )
        return replace(about, spans=told)

    def _write(self, steps: Padded, shares: list[Tensor] | None) -> list[Description]:
        """The best sentence of each row."""
        glimpse = self.decoder.glimpse(self._looked_at(steps, shares))
        found = self._search(glimpse, self.width)
        said = Padded(found.tokens[:, 0], found.lengths[:, 0].cpu())
        _, weights = self.decoder(glimpse, _shifted(said))
        if shares is not None:  # how much of a span was looked at -> how much of each of its steps
            every = [weights[i, :, : len(share)] @ share for i, share in enumerate(shares)]
            weights = torch.stack([F.pad(one, (0, steps.data.shape[1] - one.shape[1])) for one in every])
        rows = zip(said.unpad(), found.log_probability[:, 0].tolist(), weights, steps.lengths.tolist(), strict=True)
        return [
            Description(
                self.words.decode(ids.tolist()),
                sure,
                tuple(self.words.names[i] for i in ids.tolist()),
                tuple(map(tuple, looks[: len(ids), :length].float().tolist())),
            )
            for ids, sure, looks, length in rows
        ]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """What is written about each sample, beside what people wrote."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        glimpse = self.decoder.glimpse(self._looked_at(seen.steps, self._shares(seen.steps)))
        found = self._search(glimpse, self.width)
        first = Padded(target.data[:, 0], (target.data[:, 0] != PAD).sum(1).cpu())
        every = self.decoder(glimpse, _shifted(first))[0].float().log_softmax(-1)
        likely = every.gather(2, first.data[:, :, None])[:, :, 0]
        sure = torch.where(first.mask, likely, 0.0).sum(1) / first.mask.sum(1).clamp(min=1)
        return [
            Evidence(
                self.words.decode(ids.tolist()), tuple(self.words.decode(_cut(r)) for r in refs.tolist()), probability
            )
            for ids, refs, probability in zip(found.tokens[:, 0], target.unpad(), sure.tolist(), strict=True)
        ]

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """BLEU-1 ... BLEU-4, ROUGE-L, CIDEr-D against all sentences of each row, and the perplexity of the first of them a
        token. CIDEr-D needs two rows: nan for one.
        """
        said, written = _tokens(evidence)
        more = {"perplexity": float(np.exp(-np.mean([e.log_probability for e in evidence])))} if evidence else {}
        if len(evidence) < 2:
            counts = [bleu_counts(s, w) for s, w in zip(said, written, strict=True)]
            found = bleu_of(np.sum(counts, axis=0)) if counts else [float("nan")] * 4
            names = [f"bleu_{order}" for order in (1, 2, 3, 4)]
            scores = dict(zip(names, map(float, found), strict=True))
            return {**scores, "cider_d": float("nan"), **more, "count": len(evidence)}
        return {**captions(said, written), **more}

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the watched metric, drawn by groups."""
        said, written = _tokens(evidence)
        if self.watched == "bleu_4":
            counts = np.stack([bleu_counts(s, w) for s, w in zip(said, written, strict=True)])
            return sums_interval(lambda sums: bleu_of(sums)[:, 3], counts, groups)
        if len(evidence) < 2:
            return float("nan"), float("nan")
        return ratio_interval(CiderD(written).scores(said), None, groups)


def _means(runs: Sequence[tuple[int, int]], length: int, like: Tensor) -> Tensor:
    """(E, T): each row takes the mean of the steps of one run; of all steps where there is no run."""
    runs = [(a, min(b, length)) for a, b in runs if a < length][:MOST_SPANS] or [(0, length)]
    shares = like.new_zeros((len(runs), length))
    for row, (start, stop) in zip(shares, runs, strict=True):
        row[start:stop] = 1.0 / max(1, stop - start)
    return shares


def _tokens(evidence: Sequence[Evidence]) -> tuple[list[list[str]], list[list[list[str]]]]:
    return [tokenize(e.said) for e in evidence], [[tokenize(text) for text in e.written] for e in evidence]


def _shifted(words: Padded) -> Padded:
    """What is read before each word: the start, then the words but the last."""
    start = torch.full_like(words.data[:, :1], START)
    return Padded(torch.cat([start, words.data[:, :-1]], dim=1), words.lengths)


def _cut(ids: Sequence[int]) -> list[int]:
    """The tokens up to the end, with it."""
    kept = [i for i in ids if i != PAD]
    return kept[: kept.index(END) + 1] if END in kept else kept
