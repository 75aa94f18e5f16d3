"""Metrics of sequences of words and tags: perplexity, word error rate, span F1, token accuracy. Pure functions.

In: sums of negative log-likelihoods, or lists of words or tags of each sentence. Sentences differ in length and may be
empty. Out: numbers; nan where there was nothing to measure. They know nothing of models, vocabularies or files.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

from pipeline.metrics.edit_distance import edit_operations

TagSpan = tuple[str, int, int]


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens). nats: the negative log-likelihood (natural logarithm), summed over all predicted tokens.

    It is a number per token, so perplexities of different vocabularies or tokenizers are not comparable.
    `bits_per_character` is comparable.
    """
    mean = _mean(nats, tokens)
    return math.inf if mean > 700 else math.exp(mean)  # exp(710) is too large for a float


def bits_per_character(nats: float, characters: int) -> float:
    """The negative log-likelihood per character of the text in bits, nats / (characters * ln 2), for any tokenizer."""
    return _mean(nats, characters) / math.log(2)


def word_error_rate(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> dict[str, float | int]:
    """The word error rate: edit operations of the cheapest alignments, over all sentences / words of all references.

    `word_error_rate` may exceed 1. With letters instead of words it is the character error rate. `substitutions`,
    `deletions`, `insertions`: see `edit_operations`. `words`: of the references. `sentence_error_rate`: the share of
    sentences with at least one error. `count`: sentences.
    """
    pairs = _sentences(hypotheses, references, "hypotheses", "references")
    operations = [edit_operations(hypothesis, reference) for hypothesis, reference in pairs]
    substitutions, deletions, insertions = (
        (sum(column) for column in zip(*operations, strict=True)) if operations else (0, 0, 0)
    )
    words = sum(len(reference) for _, reference in pairs)
    return {
        "word_error_rate": _share(substitutions + deletions + insertions, words),
        "sentence_error_rate": _share(sum(sum(counts) > 0 for counts in operations), len(operations)),
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "words": words,
        "count": len(pairs),
    }


def spans(tags: Sequence[str], strict: bool = True) -> list[TagSpan]:
    """Tags of one sentence in IOB2 (`B-PER I-PER O`) -> (type, start, stop) of each span, stop exclusive, in order.

    An I- tag that does not continue a span of its type is not legal in IOB2. strict: such a tag counts as O (the strict
    mode of seqeval). Otherwise it starts a span, as in the conlleval script of CoNLL-2000. On legal tags both agree.
    """
    output: list[TagSpan] = []
    kind, start = None, 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if prefix not in ("B", "I", "O") or (prefix == "O") == bool(name):
            raise ValueError(f"{tag!r} is no IOB2 tag. Use O, or B- and I- with the type, such as B-PER.")
        if prefix == "I" and name == kind:
            continue
        if kind is not None:
            output.append((kind, start, position))
        kind = name if prefix == "B" or (prefix == "I" and not strict) else None
        start = position
    return output


def span_f1(predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], strict: bool = True) -> dict[str, Any]:
    """IOB2 tags of each sentence -> precision, recall and F1 over all spans (micro), and the same for each type.

    A predicted span is correct if its type and both borders are (Tjong Kim Sang & De Meulder 2003, CoNLL). `strict`:
    see `spans`. F1 = 2 tp / (2 tp + fp + fn). Precision without a predicted span is nan, and so is recall without a
    true span. `spans`: the number of true spans. `count`: sentences.
    """
    predicted_spans: set[tuple[int, TagSpan]] = set()
    true_spans: set[tuple[int, TagSpan]] = set()
    pairs = _tagged(predicted, truth)
    for number, (predicted_tags, true_tags) in enumerate(pairs):
        predicted_spans.update((number, span) for span in spans(predicted_tags, strict))
        true_spans.update((number, span) for span in spans(true_tags, strict))
    kinds = sorted({kind for _, (kind, _, _) in predicted_spans | true_spans})
    per_type = {kind: _scores(_of_type(predicted_spans, kind), _of_type(true_spans, kind)) for kind in kinds}
    return {**_scores(predicted_spans, true_spans), "per_type": per_type, "count": len(pairs)}


def token_accuracy(predicted: Sequence[Sequence[Hashable]], truth: Sequence[Sequence[Hashable]]) -> float:
    """The share of tokens with the correct tag, over all sentences; nan without a token."""
    pairs = [pair for tags in _tagged(predicted, truth) for pair in zip(*tags, strict=True)]
    return _share(sum(guess == true for guess, true in pairs), len(pairs))


def _of_type(sentence_spans: set[tuple[int, TagSpan]], kind: str) -> set[tuple[int, TagSpan]]:
    return {span for span in sentence_spans if span[1][0] == kind}


def _scores(predicted: set[tuple[int, TagSpan]], true: set[tuple[int, TagSpan]]) -> dict[str, float | int]:
    hits = len(predicted & true)
    return {
        "precision": _share(hits, len(predicted)),
        "recall": _share(hits, len(true)),
        "f1": _share(2 * hits, len(predicted) + len(true)),
        "spans": len(true),
    }


def _tagged(predicted: Sequence[Any], truth: Sequence[Any]) -> list[tuple[Any, Any]]:
    pairs = _sentences(predicted, truth, "predicted sentences", "true sentences")
    for number, (predicted_tags, true_tags) in enumerate(pairs):
        if len(predicted_tags) != len(true_tags):
            raise ValueError(
                f"Sentence {number} has {len(predicted_tags)} predicted and {len(true_tags)} true tags. Give one tag "
                "for each word. Where words are split into subwords, keep the tag of the first subword."
            )
    return pairs


def _sentences(first: Sequence[Any], second: Sequence[Any], name: str, other_name: str) -> list[tuple[Any, Any]]:
    if len(first) != len(second):
        raise ValueError(
            f"There are {len(first)} {name} and {len(second)} {other_name}. Give one of each for every sentence, in "
            "the same order."
        )
    for sentence in (*first, *second):
        if isinstance(sentence, str):
            raise ValueError(
                f"{sentence!r} is a text, but a list is needed. Split it into words, or use list(text) for its letters."
            )
    return list(zip(first, second, strict=True))


def _mean(nats: float, count: int) -> float:
    if not nats >= 0:
        raise ValueError(
            f"A negative log-likelihood of {nats} is impossible for words: it is 0 or more. Give the sum of -log p. "
            "Check for nan in the probabilities, and for a wrong sign."
        )
    return _share(nats, count)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
