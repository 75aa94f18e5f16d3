"""How well sequences of words and tags are known: perplexity, word error rate, span F1, token accuracy. Pure functions.

In: sums of negative log-likelihoods, or lists of words and tags of each sentence (sentences differ in length; empty is legal).
Out: numbers; nan where there was nothing to measure. Knows nothing of models, vocabularies or files.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Span = tuple[str, int, int]


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens). nats: the negative log-likelihood (natural logarithm) summed over all `tokens` that were predicted.

    It is a number a token: perplexities of different vocabularies or token cuts do not compare; `bits_per_character` does.
    """
    mean = _mean(nats, tokens)
    return math.inf if mean > 700 else math.exp(mean)  # exp(710) is no float any more


def bits_per_character(nats: float, characters: int) -> float:
    """The sum of nats / (characters * ln 2): negative log-likelihood a character of the text, whatever the tokens were."""
    return _mean(nats, characters) / math.log(2)


def word_error_rate(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> dict[str, float | int]:
    """Errors of the cheapest alignments (Levenshtein 1966), summed over all sentences / words of all references.

    `word_error_rate` may exceed 1; with letters for words it is the character error rate. `substitutions`, `deletions`,
    `insertions`: of the cheapest alignments those with most substitutions, which makes the three counts unique. `words`: of
    the references. `sentence_error_rate`: the share of sentences that are not right to the last word. `count`: sentences.
    """
    pairs = _sentences(hypotheses, references, "hypotheses", "references")
    errors = [edits(said, written) for said, written in pairs]
    substitutions, deletions, insertions = (
        (sum(column) for column in zip(*errors, strict=True)) if errors else (0, 0, 0)
    )
    words = sum(len(written) for _, written in pairs)
    return {
        "word_error_rate": _share(substitutions + deletions + insertions, words),
        "sentence_error_rate": _share(sum(sum(error) > 0 for error in errors), len(errors)),
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "words": words,
        "count": len(pairs),
    }


def edits(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) that make the reference the hypothesis: fewest in all, most substitutions.

    One table finds both: an edit costs a large number, and a deletion or insertion one more.
    """
    numbers: dict[Hashable, int] = {}
    said, written = (
        np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
        for words in (hypothesis, reference)
    )
    large = len(said) + len(written) + 1
    columns = np.arange(len(written) + 1) * (large + 1)
    row = columns
    for number, word in enumerate(said, start=1):
        reached = np.append(number * (large + 1), np.minimum(row[1:] + large + 1, row[:-1] + large * (written != word)))
        row = np.minimum.accumulate(reached - columns) + columns  # deletions: one more for each step to the right
    errors, gaps = divmod(int(row[-1]), large)
    deletions = (gaps + len(written) - len(said)) // 2
    return errors - gaps, deletions, gaps - deletions


def spans(tags: Sequence[str], strict: bool = True) -> list[Span]:
    """Tags of one sentence in IOB2 (`B-PER I-PER O`) -> (type, start, stop) of each span, stop exclusive, in order.

    An I- that continues nothing of its type is against IOB2. strict: it is as O (seqeval's strict mode); otherwise it begins
    a span, as the conlleval script of CoNLL-2000 has it. On legal tags both agree.
    """
    found: list[Span] = []
    kind, start = None, 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if prefix not in ("B", "I", "O") or (prefix == "O") == bool(name):
            raise ValueError(f"{tag!r} is no IOB2 tag. Use O, or B- and I- with the type, such as B-PER.")
        if prefix == "I" and name == kind:
            continue
        if kind is not None:
            found.append((kind, start, place))
        kind = name if prefix == "B" or (prefix == "I" and not strict) else None
        start = place
    return found


def span_f1(predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], strict: bool = True) -> dict[str, Any]:
    """IOB2 tags of each sentence -> precision, recall and F1 over all spans (micro), and the same for each type.

    A span is right if its type and both borders are (Tjong Kim Sang & De Meulder 2003, CoNLL). `strict`: see `spans`.
    F1 = 2 tp / (2 tp + fp + fn). A share of nothing is nan: precision where no span was said, recall where none is true.
    `spans`: how many are true. `count`: sentences.
    """
    said: set[tuple[int, Span]] = set()
    true: set[tuple[int, Span]] = set()
    pairs = _tagged(predicted, truth)
    for number, (guess, right) in enumerate(pairs):
        said.update((number, span) for span in spans(guess, strict))
        true.update((number, span) for span in spans(right, strict))
    kinds = sorted({kind for _, (kind, _, _) in said | true})
    per_type = {kind: _scores(*({s for s in found if s[1][0] == kind} for found in (said, true))) for kind in kinds}
    return {**_scores(said, true), "per_type": per_type, "count": len(pairs)}


def token_accuracy(predicted: Sequence[Sequence[Hashable]], truth: Sequence[Sequence[Hashable]]) -> float:
    """The share of tokens whose tag is right, over all sentences; nan without a token."""
    pairs = [pair for guess, right in _tagged(predicted, truth) for pair in zip(guess, right, strict=True)]
    return _share(sum(guess == right for guess, right in pairs), len(pairs))


def _scores(said: set[Any], true: set[Any]) -> dict[str, float | int]:
    hits = len(said & true)
    return {
        "precision": _share(hits, len(said)),
        "recall": _share(hits, len(true)),
        "f1": _share(2 * hits, len(said) + len(true)),
        "spans": len(true),
    }


def _tagged(predicted: Sequence[Any], truth: Sequence[Any]) -> list[tuple[Any, Any]]:
    pairs = _sentences(predicted, truth, "tagged sentences", "true ones")
    for number, (guess, right) in enumerate(pairs):
        if len(guess) != len(right):
            raise ValueError(
                f"Sentence {number} has {len(guess)} predicted and {len(right)} true tags. Give both one tag a word; of words "
                "cut into pieces, keep the tag of the first piece."
            )
    return pairs


def _sentences(one: Sequence[Any], other: Sequence[Any], name: str, other_name: str) -> list[tuple[Any, Any]]:
    if len(one) != len(other):
        raise ValueError(f"There are {len(one)} {name} and {len(other)} {other_name}. Give both of each, in one order.")
    for sentence in (*one, *other):
        if isinstance(sentence, str):
            raise ValueError(
                f"{sentence!r} is a text, where a list is needed. Cut it into words first, or list(text) for its letters."
            )
    return list(zip(one, other, strict=True))


def _mean(nats: float, count: int) -> float:
    if not nats >= 0:
        raise ValueError(
            f"A negative log-likelihood of {nats} is impossible for words: it is 0 or more. Give the sum of -log p; look for what "
            "made it nan, or for a flipped sign."
        )
    return _share(nats, count)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
