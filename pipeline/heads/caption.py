"""A head that describes a sequence in a sentence: a decoder with attention to the output of the core.

In: the output of the core (B, T, H). Out: loss terms and, as the prediction, a sentence with its log-probability. By
config also a sentence for each span of a segment head. With an encoder of tokens it translates. Knows nothing of videos
or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import END, PAD, START, UNKNOWN, Tokenizer
from pipeline.heads.segment import Segment
from pipeline.heads.span_pooling import SpanPooling, pooling_weights, step_weights
from pipeline.heads.targets import SentencesTarget
from pipeline.metrics.bootstrap import ratio_interval, sums_interval
from pipeline.metrics.captions import (
    CiderD,
    DocumentFrequencies,
    bleu_counts,
    bleu_from_counts,
    captions,
    document_frequencies,
    tokenize,
)
from pipeline.metrics.sequence import perplexity
from pipeline.models.choices import CaptionMetric
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Description, Prediction, ScoredSpans
from pipeline.models.process_mean import mean_over_processes
from pipeline.models.text.attention_decoder import Attention, AttentionDecoder, AttentionMemory, DecoderCell
from pipeline.models.text.beam_search import Hypotheses, StepFunction, beam_search, without_repeats
from pipeline.models.text.sampling import sample
from pipeline.padded import Padded, concat_windows, copy_together, keep_copy, stack

CaptionMemory = tuple[Padded, ...]
"""The outputs of the core (B, T, H) of every window so far."""


class CaptionResult(NamedTuple):
    """One sample: predicted sentence, reference sentences, negative log-likelihood in nats of the first reference and
    the number of its tokens.
    """

    sentence: str
    references: tuple[str, ...]
    nats: float
    num_tokens: int


class Caption(nn.Module):
    """A decoder with attention to the steps, and the ways to train it.

    Args:
        tokenizer: of the sentences.
        rate: steps a second.
        attention, cell, hidden, embedding_size, dropout, input_feeding: see `AttentionDecoder`.
        max_length: the largest number of tokens of a sentence, with the end token. In training, longer ones are cut.
        label_smoothing: of the cross-entropy (Szegedy et al. 2016).
        scheduled_sampling: in training, the share of input tokens that are replaced by tokens that the model samples
            (Bengio et al. 2015; in two parallel passes: Mihaylova & Martins 2019).
        self_critical: in place of the cross-entropy, sentences are sampled, and their reward is their CIDEr-D minus
            that of the greedy sentence (Rennie et al. 2017). This fine-tunes a trained model.
        beam_width, length_penalty, no_repeat_ngram: of the beam search at inference.
        segment_head: the name of the segment head whose spans `describe` gets; None: it gets none.
        monitor: the metric that chooses the best epoch.
        segment: a segment head. The decoder then attends to its spans in place of the steps, see `SpanPooling`: to the
            true spans in training, to the predicted ones at inference.
    """

    opponent: nn.Module | None
    is_per_step = False

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        tokenizer: Tokenizer,
        rate: float,
        attention: Attention = "soft",
        cell: DecoderCell = "gru",
        hidden: int = 256,
        embedding_size: int = 256,
        dropout: float = 0.3,
        max_length: int = 40,
        label_smoothing: float = 0.1,
        scheduled_sampling: float = 0.0,
        self_critical: bool = False,
        beam_width: int = 5,
        length_penalty: float = 0.7,
        no_repeat_ngram: int | None = None,
        segment_head: str | None = None,
        input_feeding: bool = False,
        monitor: CaptionMetric = "cider_d",
        segment: Segment | None = None,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.target = SentencesTarget(tokenizer, max_length)
        self.name, self.tokenizer, self.rate, self.segment_head = name, tokenizer, rate, segment_head
        self.max_length, self.label_smoothing, self.scheduled_sampling = max_length, label_smoothing, scheduled_sampling
        self.self_critical, self.beam_width = self_critical, beam_width
        self.length_penalty, self.no_repeat_ngram = length_penalty, no_repeat_ngram
        self.monitor: str = monitor
        self._frequencies: DocumentFrequencies | None = None
        self.span_pooling = None if segment is None else SpanPooling(segment, input_size)
        self.decoder = AttentionDecoder(
            vocabulary_size=len(tokenizer),
            embedding_size=embedding_size,
            input_size=input_size,
            cell=cell,
            hidden=hidden,
            attention=attention,
            dropout=dropout,
            input_feeding=input_feeding,
        )

    def fit_rows(self, rows: Sequence[Row]) -> None:
        """Before self-critical training: in how many training videos each n-gram occurs, for the weights of CIDEr-D."""
        if self.self_critical:
            references = [[self.target.encode(text) for text in row.captions] for row in rows if row.captions]
            self._frequencies = document_frequencies(references)

    def _span_weights(self, steps: Padded, batch: Batch | None = None) -> list[Tensor] | None:
        return None if self.span_pooling is None else self.span_pooling.weights(steps, batch)

    def _attention_memory(self, steps: Padded, span_weights: list[Tensor] | None) -> AttentionMemory:
        """What the decoder attends to: the steps (B, T, H), or the spans of each row (B, E, H)."""
        if self.span_pooling is not None and span_weights is not None:
            steps = self.span_pooling(steps, span_weights)
        return self.decoder.attention_memory(steps)

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """The cross-entropy a token of one sentence of each row (in training a random one, else the first), or the
        self-critical loss.
        """
        target = batch.on_host.target(self.name)
        assert isinstance(target, Padded)
        attention_memory = self._attention_memory(output.steps, self._span_weights(output.steps, batch))
        if self.self_critical and self.training:
            return {self.name: self._self_critical_loss(attention_memory, target, output.steps.lengths > 0)}
        sentences = self._choose_sentences(target, output.steps)
        logits, tokens = self._next_token_logits(attention_memory, sentences), sentences.data[sentences.valid_steps]
        loss = F.cross_entropy(logits.float(), tokens, reduction="sum", label_smoothing=self.label_smoothing)
        return {self.name: mean_over_processes(loss, len(tokens), self.training)}

    def _choose_sentences(self, target: Padded, steps: Padded) -> Padded:
        """One sentence of each row (B, L), as long as the longest of them, on the device of the steps. A row without
        steps is an empty window: its sentence has no tokens. target: (B, R, L) on the CPU.
        """
        counts = target.lengths.clamp(min=1)
        index = (torch.rand(len(counts)) * counts).long() if self.training else torch.zeros_like(counts)
        rows = target.data[torch.arange(len(counts)), index]
        lengths = (rows != PAD).sum(1) * (steps.lengths > 0)
        rows, copy = copy_together([rows[:, : max(1, int(lengths.max()))], lengths], steps.data.device)
        keep_copy(lengths, copy)
        return Padded(rows, lengths)

    def _next_token_logits(self, attention_memory: AttentionMemory, sentences: Padded) -> Tensor:
        """Logits (N, V) of each of the N tokens of all sentences, by teacher forcing or scheduled sampling."""
        inputs = _shift_right(sentences)
        if self.training and self.scheduled_sampling:
            with torch.no_grad():
                probabilities = self.decoder(attention_memory, inputs)[0].softmax(-1)
                sampled = torch.multinomial(probabilities.flatten(0, 1), 1).reshape(sentences.data.shape)
                is_sampled = torch.rand(sampled.shape, device=sampled.device) < self.scheduled_sampling
                mixed = torch.where(is_sampled, sampled, sentences.data)
            inputs = _shift_right(Padded(mixed, sentences.lengths))
        return self.decoder(attention_memory, inputs, positions=sentences.valid_steps)[0]

    def _self_critical_loss(self, attention_memory: AttentionMemory, target: Padded, has_steps: Tensor) -> Tensor:
        """- (reward of a sampled sentence - reward of the greedy sentence) * log-probability of the sampled one. Its
        expected gradient is that of minus the expected reward (REINFORCE with a baseline, Williams 1992). Tokens that
        the search forbids are not drawn; a probability is that among the allowed tokens. has_steps: (B,), the rows that
        count.
        """
        assert self._frequencies is not None, "`fit_rows` comes before training"
        references = [[_until_end(ids) for ids in row.tolist()] for row in target.unpad()]
        generator = torch.Generator(attention_memory.mask.device)
        generator.manual_seed(int(torch.randint(2**31, (1,))))
        start = self._start_tokens(attention_memory)
        sampled = sample(
            self._sampling_step(attention_memory),
            (*self.decoder.initial_state(attention_memory), start[:, None][:, :0]),
            start,
            end=END,
            max_length=self.max_length,
            generator=generator,
        )
        was_training = self.training
        self.eval()
        greedy = self._beam_search(attention_memory, beam_width=1)
        self.train(was_training)
        cider = CiderD(references, self._frequencies)
        rewards, baseline = (
            cider.scores([_until_end(row) for row in hypotheses.tokens[:, 0].tolist()])
            for hypotheses in (sampled, greedy)
        )
        advantage = torch.from_numpy((rewards - baseline) * has_steps.numpy()).to(sampled.log_probability)
        total = -(advantage[:, None] * sampled.log_probability).sum()
        return mean_over_processes(total, int(has_steps.sum()), self.training)

    def _start_tokens(self, attention_memory: AttentionMemory) -> Tensor:
        mask = attention_memory.mask
        return torch.full((len(mask),), START, device=mask.device)

    def _search_step(self, attention_memory: AttentionMemory) -> StepFunction:
        """The decoder's step without the tokens that no sentence contains."""
        decoder_step = self.decoder.step(attention_memory)
        ids = torch.arange(len(self.tokenizer), device=attention_memory.mask.device)
        is_forbidden = (ids == PAD) | (ids == UNKNOWN) | (ids == START)

        def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            scores, state = decoder_step(tokens, state)
            return scores.masked_fill(is_forbidden, -torch.inf), state

        return step

    def _sampling_step(self, attention_memory: AttentionMemory) -> StepFunction:
        """The same without repeated n-grams, normalised. The last part of the state is the sentence so far, (N, L)."""
        search_step = self._search_step(attention_memory)

        def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            *decoder_state, read = state
            scores, new_state = search_step(tokens, tuple(decoder_state))
            read = torch.cat([read, tokens[:, None]], dim=1)
            if self.no_repeat_ngram is not None:  # the first token that was read is the start token
                scores = without_repeats(scores[:, None], read[:, None, 1:], self.no_repeat_ngram)[:, 0]
            return scores.log_softmax(1), (*new_state, read)

        return step

    def _beam_search(self, attention_memory: AttentionMemory, beam_width: int) -> Hypotheses:
        return beam_search(
            self._search_step(attention_memory),
            self.decoder.initial_state(attention_memory),
            self._start_tokens(attention_memory),
            end=END,
            width=beam_width,
            max_length=self.max_length,
            length_penalty=self.length_penalty,
            no_repeat_ngram=self.no_repeat_ngram,
        )

    def observe(self, output: CoreOutput, memory: CaptionMemory | None = None) -> CaptionMemory:
        """Keep these steps, because the decoder may attend to any of them."""
        return (*(memory or ()), output.steps)

    @torch.no_grad()
    def answer(self, memory: CaptionMemory) -> Sequence[Prediction]:
        """A sentence for every row."""
        steps = concat_windows(memory)
        return self._descriptions(steps, self._span_weights(steps))

    @torch.no_grad()
    def describe(self, memory: CaptionMemory, spans: ScoredSpans) -> Prediction:
        """A sentence for one whole video, and one for each of its spans from the steps within the span: dense
        captioning (Krishna et al. 2017), with the spans of a segment head.
        """
        whole = concat_windows(memory)
        assert len(whole.lengths) == 1
        steps = whole.unpad()[0]
        runs = [(int(a * self.rate), max(int(a * self.rate) + 1, round(b * self.rate))) for a, b, _, _ in spans]
        has_pooling = self.span_pooling is not None
        whole_weights = pooling_weights([runs], whole) if has_pooling else None
        (description,) = self._descriptions(whole, whole_weights)
        if not spans:
            return replace(description, spans=())
        parts = [steps[start:stop] for start, stop in runs]
        padded_parts = stack(parts)
        part_weights = pooling_weights([[]] * len(parts), padded_parts) if has_pooling else None
        described = tuple(
            (start, end, part.sentence, float(np.exp(part.log_probability / max(1, len(part.tokens)))))
            for (start, end, _, _), part in zip(spans, self._descriptions(padded_parts, part_weights), strict=True)
        )
        return replace(description, spans=described)

    def _descriptions(self, steps: Padded, span_weights: list[Tensor] | None) -> list[Description]:
        """The best sentence of each row."""
        attention_memory = self._attention_memory(steps, span_weights)
        hypotheses = self._beam_search(attention_memory, self.beam_width)
        best = Padded(hypotheses.tokens[:, 0], hypotheses.lengths[:, 0].cpu())
        _, weights = self.decoder(attention_memory, _shift_right(best))
        if span_weights is not None:
            weights = step_weights(weights, span_weights, steps.data.shape[1])
        log_probabilities, weights = hypotheses.log_probability[:, 0].tolist(), weights.float().cpu()
        sentences = [ids.tolist() for ids in best.to("cpu").unpad()]
        rows = zip(sentences, log_probabilities, weights, steps.lengths.tolist(), strict=True)
        return [
            Description(
                self.tokenizer.decode(ids),
                log_probability,
                tuple(self.tokenizer.names[i] for i in ids),
                tuple(map(tuple, row_weights[: len(ids), :num_steps].tolist())),
            )
            for ids, log_probability, row_weights, num_steps in rows
        ]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[CaptionResult]:
        """The predicted sentence of each sample, and its references."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        attention_memory = self._attention_memory(output.steps, self._span_weights(output.steps))
        hypotheses = self._beam_search(attention_memory, self.beam_width)
        first = Padded(target.data[:, 0], (target.data[:, 0] != PAD).sum(1).cpu())
        log_probabilities = self.decoder(attention_memory, _shift_right(first))[0].float().log_softmax(-1)
        log_probabilities = log_probabilities.gather(2, first.data[:, :, None])[:, :, 0]
        nats = -torch.where(first.mask, log_probabilities, 0.0).sum(1)
        decode = self.tokenizer.decode
        columns = hypotheses.tokens[:, 0], target.unpad(), nats.tolist(), first.lengths.tolist()
        return [
            CaptionResult(decode(ids.tolist()), tuple(decode(_until_end(r)) for r in references.tolist()), *numbers)
            for ids, references, *numbers in zip(*columns, strict=True)
        ]

    def metrics(self, results: Sequence[CaptionResult]) -> dict[str, Any]:
        """BLEU-1 ... BLEU-4, ROUGE-L and CIDEr-D against all references of each row, and the perplexity over all
        tokens of the first references together. CIDEr-D needs two rows: it is nan for one.
        """
        hypotheses, references = _tokenized(results)
        nats, num_tokens = sum(result.nats for result in results), sum(result.num_tokens for result in results)
        likelihood = {"perplexity": perplexity(nats, num_tokens)} if results else {}
        if len(results) >= 2:
            return {**captions(hypotheses, references), **likelihood}
        counts = [bleu_counts(*pair) for pair in zip(hypotheses, references, strict=True)]
        scores = bleu_from_counts(np.sum(counts, axis=0)) if counts else [float("nan")] * 4
        bleu = {f"bleu_{order}": float(score) for order, score in zip((1, 2, 3, 4), scores, strict=True)}
        return {**bleu, "cider_d": float("nan"), **likelihood, "count": len(results)}

    def confidence_interval(
        self, results: Sequence[CaptionResult], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """The 95 % interval of the `monitor` metric, resampled by group."""
        hypotheses, references = _tokenized(results)
        if self.monitor == "bleu_4":
            counts = np.stack([bleu_counts(*pair) for pair in zip(hypotheses, references, strict=True)])
            return sums_interval(lambda sums: bleu_from_counts(sums)[:, 3], counts, groups)
        if len(results) < 2:
            return float("nan"), float("nan")
        return ratio_interval(CiderD(references).scores(hypotheses), None, groups, is_share=False)


def _tokenized(results: Sequence[CaptionResult]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """The predicted sentence and the references of each result, as words."""
    references = [[tokenize(text) for text in result.references] for result in results]
    return [tokenize(result.sentence) for result in results], references


def _shift_right(sentences: Padded) -> Padded:
    """The decoder's inputs: the start token, then all tokens but the last."""
    start = torch.full_like(sentences.data[:, :1], START)
    return Padded(torch.cat([start, sentences.data[:, :-1]], dim=1), sentences.lengths)


def _until_end(ids: Sequence[int]) -> list[int]:
    """The tokens up to the end token, which is included, without padding."""
    tokens = [i for i in ids if i != PAD]
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens
