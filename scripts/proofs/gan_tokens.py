"""The promise gan-tokens: sentences of an adversarial generator, beside those of a language model of the same texts.

It trains both from the beginning, prints a table and some sentences, and returns (figure as text, None: there is no
bar).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import proof_tools
import torch

from pipeline.checkpoint import load_model
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Split
from pipeline.inference.generate_sequences import generate_sequences
from pipeline.inference.generate_text import continue_text
from pipeline.metrics.captions import ORDERS, bleu_from_counts
from pipeline.models.text.ngram import NgramModel

sys.path.insert(0, str(proof_tools.REPOSITORY / "datasets/puppets"))
from captions import LAST, MEANING, NEXT, an, parse  # type: ignore[attr-defined]
from figures import COLOURS  # type: ignore[attr-defined]

ProofResult = tuple[str, bool | None]
MAX_WORDS = 20  # of a sentence
COUNT = proof_tools.SIZE.pick(500, 10)  # sentences of each kind that are scored
TEMPERATURES = (0.5, 0.7, 1.0, 1.3)
CPU = torch.device("cpu")
TWO_ACTIONS = (" and then ", ", then ")  # what joins two actions where there are no more
ADVERSARIAL = "Gumbel-softmax against a critic"


def _grammar() -> re.Pattern[str]:
    """All sentences that captions of puppets can be: a subject with its clothes, and one action or several."""

    def one_of(options: Sequence[str]) -> str:
        return "(?:" + "|".join(sorted(map(re.escape, options), key=len, reverse=True)) + ")"

    coloured, phrase = one_of([an(c) for c in COLOURS]), one_of(list(MEANING))
    garment = f"(?:{coloured} skirt|{one_of(list(COLOURS))} trousers)"
    clothes = "|".join(
        [
            f" in {coloured} shirt(?: and {garment}| and {coloured} hat)?",
            f" in {garment}",
            f" with {coloured} hat",
            " with a hat",
        ]
    )
    several = f"(?:first )?{phrase}(?:{one_of(TWO_ACTIONS)}{phrase}|(?:{one_of(NEXT)}{phrase})+{one_of(LAST)}{phrase})"
    return re.compile(f"(?:A|The) (?:tall |short )?(?:figure|person|puppet)(?:{clothes})? (?:{several}|{phrase})\\.")


GRAMMAR = _grammar()
JOINTS = re.compile("|".join(sorted(map(re.escape, {*TWO_ACTIONS, *NEXT, *LAST}), key=len, reverse=True)))


def is_grammatical(text: str) -> bool:
    """Whether a text is a sentence of the grammar in which `parse` finds as many actions as it has parts."""
    return GRAMMAR.fullmatch(text) is not None and len(parse(text)) == len(JOINTS.split(text))


@dataclass(frozen=True)
class World:
    """The training text: its sentences, its words, and which actions follow which."""

    sentences: frozenset[str]
    words: tuple[str, ...]
    steps: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, texts: Sequence[str]) -> World:
        """The world of these texts."""
        steps = {step for text in texts for step in pairwise(parse(text))}
        return cls(frozenset(texts), tuple(sorted({w for text in texts for w in text.split()})), frozenset(steps))

    def is_possible(self, text: str) -> bool:
        """Whether a text is grammatical, each action may follow the one before, and no two garments have one colour."""
        colours = [word for word in re.findall(r"\w+", text) if word in COLOURS]
        has_known_steps = set(pairwise(parse(text))) <= self.steps
        return is_grammatical(text) and has_known_steps and len(colours) == len(set(colours))


def texts_of(folder: Path) -> dict[str, list[str]]:
    """The different captions of each split with at most `MAX_WORDS` words; the split is by actor."""
    texts: dict[str, dict[str, None]] = {"train": {}, "val": {}, "test": {}}
    for name in ("clips", "long"):
        for row in proof_tools.read_json_lines(folder / f"{name}.jsonl"):
            texts[row["split"]] |= {text: None for text in row["captions"] if len(text.split()) <= MAX_WORDS}
    return {split: list(of_split) for split, of_split in texts.items()}


def write_texts(texts: dict[str, list[str]], path: Path, splits: Sequence[Split]) -> None:
    """Write a manifest with a row for each text of these splits."""
    write_manifest(
        [Row(f"{split}{i:05d}", split, text=text) for split in splits for i, text in enumerate(texts[split])], path
    )


def _ngrams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def bleu_4(sentences: Sequence[str], references: Sequence[str] | None = None) -> float:
    """BLEU-4 of a corpus, each sentence against all references.

    None: each against all other sentences (self-BLEU, Zhu et al. 2018, arXiv 1802.01886), which is high where all are
    alike.
    """
    candidates = [text.split() for text in sentences]
    others = candidates if references is None else [text.split() for text in references]
    largest_counts: dict[
        tuple[str, ...], list[tuple[int, int]]
    ] = {}  # of each n-gram: the two largest, with their texts
    for number, words in enumerate(others):
        for ngram, count in _ngrams(words).items():
            largest_counts[ngram] = sorted([*largest_counts.get(ngram, []), (count, number)], reverse=True)[:2]
    lengths = Counter(map(len, others))
    totals = np.zeros(2 + 2 * ORDERS)
    for number, words in enumerate(candidates):
        own = number if references is None else -1
        matches, possible = np.zeros(ORDERS), np.array([max(0, len(words) - n) for n in range(ORDERS)])
        for ngram, count in _ngrams(words).items():
            allowed = next((c for c, text in largest_counts.get(ngram, []) if text != own), 0)
            matches[len(ngram) - 1] += min(count, allowed)
        other_lengths = [n for n, count in lengths.items() if count > (references is None and n == len(words))]
        closest = min(other_lengths, key=lambda n: (abs(n - len(words)), n))
        totals += [len(words), closest, *matches, *possible]
    return float(bleu_from_counts(totals)[-1])


def score(sentences: Sequence[str], world: World, references: Sequence[str]) -> dict[str, float]:
    """All scores of some sentences. Perplexities are by 3-grams (modified Kneser-Ney) over the training words.

    perplexity: of the sentences by a model of held-out texts. reverse: of held-out texts by a model of the sentences,
    which is high where the sentences lack something.
    """

    def perplexity(of: Sequence[str], by: Sequence[str]) -> float:
        model = NgramModel.fit([text.split() for text in by], order=3, vocabulary=world.words)
        return model.perplexity([text.split() for text in of])

    return {
        "grammatical": float(np.mean([is_grammatical(text) for text in sentences])),
        "possible": float(np.mean([world.is_possible(text) for text in sentences])),
        "distinct": len(set(sentences)) / len(sentences),
        "new": float(np.mean([text not in world.sentences for text in sentences])),
        "BLEU-4": bleu_4(sentences, references),
        "self-BLEU": bleu_4(sentences),
        "perplexity": perplexity(sentences, references),
        "reverse": perplexity(references, sentences),
        "words": float(np.mean([len(text.split()) for text in sentences])),
    }


def _print_scores(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<42}" + "".join(f"{c:>13}" for c in columns))
    for name, scores in rows.items():
        print(f"  {name:<40}" + "".join(f"{scores[c]:>13.3f}" for c in columns))
    print(f"  {note}", flush=True)


def gan_tokens(data: Path, seeds: int) -> ProofResult:
    """Captions of puppets full, split by actor: Gumbel-softmax beside the language model; an interrupted proof
    continues.
    """
    work, stopwatch = proof_tools.kept_folder("gan-tokens"), proof_tools.Stopwatch()
    work.mkdir(parents=True, exist_ok=True)
    proof_tools.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    texts = texts_of(work / "puppets")
    _train(texts, work, seeds)
    seconds = stopwatch.seconds
    world = World.of(texts["train"])
    if not all(map(is_grammatical, texts["train"])):
        raise SystemExit("The grammar of this script rejects real captions. Correct the grammar.")
    order = np.random.default_rng(0).permutation(len(texts["test"]))
    half = len(order) // 2
    references, other = ([texts["test"][i] for i in indices] for indices in (order[:half], order[half:]))
    sentences: dict[str, list[list[str]]] = {"real sentences of held-out actors": [other[:COUNT]]}
    for t in TEMPERATURES:
        sentences[_language_name(t)] = [_continue_nothing(work / f"language{s}", t) for s in range(seeds)]
    sentences[ADVERSARIAL] = [_generate(work / f"adversary{s}") for s in range(seeds)]
    scores = {name: [score(one, world, references) for one in several] for name, several in sentences.items()}
    rows = {name: {c: float(np.mean([f[c] for f in some])) for c in some[0]} for name, some in scores.items()}
    known = sum(text in world.sentences for text in other[:COUNT]) / len(other[:COUNT])
    _print_scores(
        f"puppets' captions of at most {MAX_WORDS} words: {len(texts['train']):,} training texts ({len(world.words)} "
        f"different words), {COUNT} of each kind against {half:,} others of held-out actors",
        rows,
        f"means over {seeds} seeds; {known:.2f} of the real ones are training texts, word for word; {seconds:.0f} s to "
        f"draw, write and train, {stopwatch.seconds:.0f} s in all",
    )
    for name, several in sentences.items():
        print(f"\n{name}:\n" + "\n".join(f"    {text}" for text in several[0][:4]))
    adversarial, language = rows[ADVERSARIAL], rows[_language_name(1.0)]
    columns = ("grammatical", "distinct", "new", "perplexity", "reverse")
    figures = ", ".join(f"{c} {adversarial[c]:.3f} ({language[c]:.3f})" for c in columns)
    return f"by Gumbel-softmax (language model at temperature 1): {figures}", None


def _train(texts: dict[str, list[str]], work: Path, seeds: int) -> None:
    """Train both models on the same texts, one for each seed."""
    write_texts(texts, work / "both.jsonl", ("train", "val", "test"))  # the language model chooses its epoch on val
    write_texts(texts, work / "adversary.jsonl", ("train", "test"))
    common = [
        "encoder.pre_tokenizer=spaces",
        "encoder.lowercase=false",
        "encoder.min_count=1",
        "evaluation.baselines=false",
    ]
    adversarial = [*common, f"data.path={work}/adversary.jsonl"]
    language = [*common, "data.validation_share=0.1", f"data.path={work}/both.jsonl"]
    for config, name, settings in (
        ("puppets/generate_words.yaml", "adversary", adversarial),
        ("msvd/language.yaml", "language", language),
    ):
        jobs = [[*settings, f"training.seed={seed}", f"run={work}/{name}{seed}"] for seed in range(seeds)]
        proof_tools.train_all(config, jobs)


def _language_name(temperature: float) -> str:
    return f"language model, temperature {temperature:g}"


def _continue_nothing(run: Path, temperature: float) -> list[str]:
    """Sentences of a language model."""
    return continue_text(
        load_model(run), CPU, prompt="", length=MAX_WORDS + 1, samples=COUNT, temperature=temperature, seed=1
    )


def _generate(run: Path) -> list[str]:
    """Sentences of an adversarial generator."""
    sequences = generate_sequences(load_model(run), CPU, count=COUNT, length=MAX_WORDS + 1, seed=1)
    return [str(sequence.values) for sequence in sequences]
