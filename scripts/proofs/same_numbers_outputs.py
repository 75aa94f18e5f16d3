"""What the models without training say, for the promise same-numbers: CRF, CTC, n-grams, searches, cores, tokenizers.

In: the tree under test. Out: results by name, the same for the same tree. All numbers come from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from same_numbers_tree import Tree
from torch import Tensor
from torch.nn import functional as F

Results = dict[str, Any]
LABELS, WORDS = 5, 11
SENTENCES = [["a", "b", "c"], ["a", "b"], ["c", "c", "a", "b"], ["b", "a"], [], ["a", "b", "c", "a"]]


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _padded(tree: Tree, seed: int, width: int, lengths: tuple[int, ...] = (12, 7, 1, 0)) -> Any:
    padded = tree.get("pipeline.padded:Padded")
    return padded(_normal(seed, len(lengths), max(lengths), width), torch.tensor(lengths))


def _crf(tree: Tree, **settings: Any) -> Any:
    crf = tree.call(tree.get("pipeline.models.crf.crf:CRF"), LABELS, **settings)
    with torch.no_grad():
        for number, parameter in enumerate(crf.parameters()):
            parameter.copy_(_normal(100 + number, *parameter.shape))
    return crf


def _rules() -> dict[str, dict[str, Any]]:
    allowed = torch.ones(LABELS, LABELS, dtype=torch.bool)
    allowed[0, 1] = allowed[3, 2] = False
    first = torch.tensor([True, True, False, True, True])
    return {
        "plain": {},
        "allowed": {"allowed": allowed, "allowed_start": first, "allowed_end": ~first | first.roll(1)},
        "min_steps": {"min_steps": 3},
        "both": {"allowed": allowed, "min_steps": 2},
    }


def crf(tree: Tree) -> Results:
    """Log-likelihoods with all gradients, best labels and posteriors, in float32 and float64."""
    found: Results = {}
    for name, rules in _rules().items():
        for dtype in (torch.float32, torch.float64):
            field = _crf(tree, **rules)
            emissions = _padded(tree, 1, LABELS)
            scores = emissions.data.to(dtype).requires_grad_()
            emissions = emissions.map(lambda _, scores=scores: scores)
            labels = torch.randint(LABELS, scores.shape[:2], generator=torch.Generator().manual_seed(2))
            likely = field.log_likelihood(emissions, labels)
            likely.sum().backward()
            found[f"{name}/{dtype}"] = {
                "log_likelihood": likely,
                "gradients": [scores.grad, *(p.grad for p in field.parameters())],
                "marginals": field.marginals(emissions),
                "decode": field.decode(emissions),
            }
    return found


def fixed_lag(tree: Tree) -> Results:
    """Labels and posteriors window after window: what is final, what waits, and the end."""
    found: Results = {}
    for name, rules in _rules().items():
        for lag in (0, 3):
            decoder = tree.get("pipeline.models.crf.fixed_lag:FixedLagViterbi")(_crf(tree, **rules), lag)
            memory, said = decoder.begin(3), []
            for seed, lengths in ((3, (5, 5, 2)), (4, (6, 1, 0)), (5, (2, 4, 9))):
                memory, labels = decoder.observe(memory, _padded(tree, seed, LABELS, lengths))
                said.append([labels, decoder.pending(memory), memory.scores])
            found[f"{name}/{lag}"] = {"said": said, "finish": decoder.finish(memory)}
    for lag in (0, 2):
        decoder = tree.get("pipeline.models.crf.fixed_lag_marginals:FixedLagMarginals")(_crf(tree), lag)
        memory, said = decoder.begin(3), []
        for seed in (6, 7):
            memory, shares = decoder.observe(memory, _normal(seed, 3, 6, LABELS))
            said.append(shares)
        found[f"marginals/{lag}"] = {"said": said, "finish": decoder.finish(memory)}
    return found


def ctc(tree: Tree) -> Results:
    """Greedy paths, prefix beam searches with and without a language model, probabilities and alignments."""
    module = "pipeline.models.text.ctc"
    scores = (2.0 * _normal(8, 14, 4)).double().log_softmax(1).numpy()
    ngrams, names = tree.get("pipeline.models.text.ngram:NgramModel"), ["a", "b", "c"]
    two, three = (tree.call(ngrams.fit, SENTENCES, order=order) for order in (2, 3))
    language = {
        "table": tree.get(f"{module}:BigramModel")(tree.member(two, "bigram_table")(names)),
        "labels": tree.get("pipeline.models.text.ngram:NgramLabels")(three, names),
    }
    search = tree.get(f"{module}:prefix_beam_search")
    labellings = [(), (0,), (0, 1), (1, 1, 2), (2, 0, 2, 0)]
    return {
        "greedy": tree.get(f"{module}:greedy")(scores),
        "beam": [tree.call(search, scores, width=width) for width in (1, 4, 20)],
        "bonus": tree.call(search, scores, width=6, bonus=0.4),
        "language": {
            name: tree.call(search, scores, width=8, language_model=model, weight=0.7, bonus=0.2)
            for name, model in language.items()
        },
        "log_probability": [tree.get(f"{module}:log_probability")(scores, labels) for labels in labellings],
        "align": [tree.get(f"{module}:align")(scores, labels) for labels in labellings],
    }


def ngram(tree: Tree) -> Results:
    """Shares, nats, perplexities and tables of n-gram models."""
    model = tree.get("pipeline.models.text.ngram:NgramModel")
    found: Results = {}
    for order in (1, 2, 3, 4):
        for least in (1, 2):
            one = tree.call(model.fit, SENTENCES, order=order, min_count=least)
            first, after = tree.member(one, "initial_state")(), tree.member(one, "next_state")
            contexts = [first, after(first, "a"), after(after(first, "b"), "z")]
            found[f"{order}/{least}"] = {
                "rows": [tree.member(one, "next_log_probabilities")(context) for context in contexts],
                "nats": tree.member(one, "negative_log_likelihood")(SENTENCES[:3]),
                "perplexity": one.perplexity([["a", "z"], ["b"]]),
                "log_probability": one.log_probability("c", ["a", "b"]),
                "table": tree.member(one, "bigram_table")(["a", "b", "c"]) if order < 3 else None,
            }
    return found


def _speaker() -> Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]:
    """A step function over 11 words: a GRU of fixed random weights. Word 1 ends a sentence."""
    words, inner, outer, say = _normal(9, WORDS, 6), _normal(10, 18, 6), _normal(11, 18, 6), _normal(12, WORDS, 6)
    say[1] += 0.5

    def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        new = torch.gru_cell(words[tokens], state[0][:, 0], inner, outer, None, None)
        return F.log_softmax(new @ say.T, dim=1), (new[:, None],)

    return step


def beam_search(tree: Tree) -> Results:
    """Sentences of several widths and rules."""
    search = tree.get("pipeline.models.text.beam_search:beam_search")
    start, state = torch.zeros(4, dtype=torch.int64), (_normal(13, 4, 1, 6),)
    rules: list[dict[str, Any]] = [
        {"width": 1},
        {"width": 4},
        {"width": 3, "length_penalty": 0.7},
        {"width": 5, "length_penalty": 1.0, "no_repeat_ngram": 2},
    ]
    return {
        str(number): tree.call(search, _speaker(), state, start, end=1, max_length=9, **one)
        for number, one in enumerate(rules)
    }


def sampling(tree: Tree) -> Results:
    """Drawn sentences with their probabilities, and the distributions that they are drawn from."""
    draw = tree.get("pipeline.models.text.sampling:sample")
    distribution = tree.get("pipeline.models.text.sampling:distribution")
    start, state = torch.zeros(3, dtype=torch.int64), (_normal(14, 3, 1, 6),)
    rules: list[dict[str, Any]] = [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.5}]
    found: Results = {}
    for number, rule in enumerate(rules):
        random = torch.Generator().manual_seed(15)
        for end in (1, None):
            found[f"drawn/{number}/{end}"] = tree.call(
                draw, _speaker(), state, start, end=end, max_length=8, generator=random, samples=2, **rule
            )
        found[f"shares/{number}"] = tree.call(distribution, _normal(16, 3, WORDS), **rule)
    return found


def decoder(tree: Tree) -> Results:
    """Logits, attention weights and beam searches of the decoder that writes sentences."""
    make = tree.get("pipeline.models.text.attention_decoder:AttentionDecoder")
    search = tree.get("pipeline.models.text.beam_search:beam_search")
    found: Results = {}
    for attention in ("soft", "mean", "none"):
        for feed in (False, True):
            torch.manual_seed(17)
            settings = {"vocabulary_size": WORDS, "embedding": 6, "input_size": 7, "hidden": 8, "cell": "lstm"}
            one = tree.call(make, **settings, attention=attention, input_feeding=feed).eval()
            memory = tree.member(one, "attention_memory")(_padded(tree, 18, 7, (9, 4, 1)))
            said = torch.randint(WORDS, (3, 5), generator=torch.Generator().manual_seed(19))
            words = tree.get("pipeline.padded:Padded")(said, torch.tensor([5, 3, 1]))
            start = torch.zeros(3, dtype=torch.int64)
            with torch.no_grad():
                state = tree.member(one, "initial_state")(memory)
                found[f"{attention}/{feed}"] = {
                    "taught": one(memory, words),
                    "found": tree.call(search, one.step(memory), state, start, end=1, width=3, max_length=6),
                }
    return found


def cores(tree: Tree) -> Results:
    """Outputs, states, gates and gradients of every cell over a ragged batch, in two windows."""
    core = tree.get("pipeline.models.recurrent.core:Core")
    found: Results = {}
    for cell in ("rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm"):
        for deep in ({}, {"layers": 2, "residual": True, "layer_norm": True}, {"bidirectional": True}):
            torch.manual_seed(20)
            one = tree.call(core, cell=cell, input_size=6, hidden=6, input_dropout=0.2, **deep)
            steps, state = one(_padded(tree, 21, 6))
            steps.data.square().sum().backward()
            with torch.no_grad():
                one.eval()
                more = one(_padded(tree, 22, 6), None if "bidirectional" in deep else state)
                gates = one.gates(_padded(tree, 23, 6))
            name = f"{cell}/{'_'.join(deep) or 'plain'}"
            slopes = [p.grad for p in one.parameters()]
            found[name] = {"steps": steps, "state": state, "more": more, "gates": gates, "gradients": slopes}
    return found


def tokenizer(tree: Tree) -> Results:
    """The words, ids, spellings and texts of every kind of tokenizer."""
    train = tree.member(tree.get("pipeline.data.tokenizer:Tokenizer"), "train")
    texts = ["Ann meets Bob.", "ann sees Cid, and Bob!", "Bob sees Rome", "the long way to Rome, the way"]
    rules: list[dict[str, Any]] = [
        {"level": "word"},
        {"level": "word", "pre_tokenizer": "punctuation", "lowercase": True, "min_count": 2},
        {"level": "subword", "vocabulary_size": 40},
        {"level": "character", "lowercase": True},
        {"level": "word", "with_characters": True},
    ]
    found: Results = {}
    for number, rule in enumerate(rules):
        level = "piece" if tree.names == "old" and rule["level"] == "subword" else rule["level"]
        one = tree.call(train, texts, **{**rule, "level": level})
        ids = [one.encode(text) for text in (*texts, "Zoe meets Rome")]
        characters = [tree.member(one, "character_ids")(text) for text in texts] if "with_characters" in rule else []
        back = [one.decode(i) for i in ids]
        found[str(number)] = {"names": one.names, "ids": ids, "texts": back, "characters": characters}
    return found


def gan(tree: Tree) -> Results:
    """The augmentation of both players' sequences and the principal components of features."""
    augment = tree.get("pipeline.models.gan.diff_augment:diff_augment")
    found: Results = {}
    for name, x in (("sequences", _normal(24, 4, 6, 5)), ("frames", _normal(25, 3, 4, 3, 16, 16).tanh())):
        torch.manual_seed(26)
        found[name] = augment(x, 0.7)
    pca = tree.get("pipeline.models.gan.pca:FeaturePCA")
    for count in (0, 3):
        one = pca(6, count)
        one.fit([_normal(27 + number, 8, 6).cumsum(0) for number in range(4)])
        found[f"pca/{count}"] = [one(_normal(31, 2, 5, 6)), tree.member(one, "split_content")(_padded(tree, 32, 6))]
    found["components"] = tree.get("pipeline.models.gan.pca:principal_components")(_normal(33, 20, 6).double())
    return found


def check_random(tree: Tree) -> Results:
    """The numbers that both trees start from: where these differ, nothing else can be compared."""
    return {"torch": _normal(0, 8), "numpy": np.random.default_rng(0).normal(size=8)}


OUTPUTS: tuple[Callable[[Tree], Results], ...] = (
    check_random,
    crf,
    fixed_lag,
    ctc,
    ngram,
    beam_search,
    sampling,
    decoder,
    cores,
    tokenizer,
    gan,
)
