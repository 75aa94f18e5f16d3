"""The promise gan-tokens: sentences by an adversary, beside those of a language model that learned from the same words.

It trains both afresh, prints a table and some sentences, and returns (figure as text, None: there is no bar).
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
import proof
import torch

from pipeline.checkpoint import load_model
from pipeline.data.manifest import Row, write_manifest
from pipeline.inference.create import make_sequences
from pipeline.inference.generate import continue_text
from pipeline.metrics.captions import ORDERS, bleu_of
from pipeline.models.ngram import NgramModel

sys.path.insert(0, str(proof.REPOSITORY / "datasets/puppets"))
from captions import LAST, MEANING, NEXT, an, parse  # type: ignore[attr-defined]
from figures import COLOURS  # type: ignore[attr-defined]

Answer = tuple[str, bool | None]
LONGEST = 20  # words of a sentence
COUNT = 500  # sentences that are judged of each
TEMPERATURES = (0.5, 0.7, 1.0, 1.3)
CPU = torch.device("cpu")
TWO = (" and then ", ", then ")  # what joins the only two actions


def _grammar() -> re.Pattern[str]:
    """All sentences that the puppets' captions can be, whoever acts: a subject with its looks, and one action or several."""

    def one_of(options: Sequence[str]) -> str:
        return "(?:" + "|".join(sorted(map(re.escape, options), key=len, reverse=True)) + ")"

    coloured, phrase = one_of([an(c) for c in COLOURS]), one_of(list(MEANING))
    garment = f"(?:{coloured} skirt|{one_of(list(COLOURS))} trousers)"
    looks = "|".join(
        [
            f" in {coloured} shirt(?: and {garment}| and {coloured} hat)?",
            f" in {garment}",
            f" with {coloured} hat",
            " with a hat",
        ]
    )
    several = f"(?:first )?{phrase}(?:{one_of(TWO)}{phrase}|(?:{one_of(NEXT)}{phrase})+{one_of(LAST)}{phrase})"
    return re.compile(f"(?:A|The) (?:tall |short )?(?:figure|person|puppet)(?:{looks})? (?:{several}|{phrase})\\.")


GRAMMAR = _grammar()
JOINTS = re.compile("|".join(sorted(map(re.escape, {*TWO, *NEXT, *LAST}), key=len, reverse=True)))


def is_grammatical(text: str) -> bool:
    """Whether it is a sentence of the grammar, and `parse` finds in it as many actions as it has parts."""
    return GRAMMAR.fullmatch(text) is not None and len(parse(text)) == len(JOINTS.split(text))


@dataclass(frozen=True)
class World:
    """What is known of the training text: its sentences, its words, and which action can follow which."""

    sentences: frozenset[str]
    words: tuple[str, ...]
    steps: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, texts: Sequence[str]) -> World:
        """Count the training text."""
        steps = {step for text in texts for step in pairwise(parse(text))}
        return cls(frozenset(texts), tuple(sorted({w for text in texts for w in text.split()})), frozenset(steps))

    def is_possible(self, text: str) -> bool:
        """Whether it is grammatical, each action may follow the one before, and no two garments have one colour."""
        named = [c for c in re.findall(r"\w+", text) if c in COLOURS]
        return is_grammatical(text) and set(pairwise(parse(text))) <= self.steps and len(named) == len(set(named))


def texts_of(folder: Path) -> dict[str, list[str]]:
    """The different captions of each split, of at most `LONGEST` words; splits are by actor."""
    found: dict[str, dict[str, None]] = {"train": {}, "val": {}, "test": {}}
    for name in ("clips", "long"):
        for row in proof.json_lines(folder / f"{name}.jsonl"):
            found[row["split"]] |= {text: None for text in row["captions"] if len(text.split()) <= LONGEST}
    return {split: list(texts) for split, texts in found.items()}


def write_texts(texts: dict[str, list[str]], path: Path, splits: Sequence[str]) -> None:
    """A manifest of texts, those of each split as rows."""
    write_manifest(
        [Row(f"{split}{i:05d}", split, text=text) for split in splits for i, text in enumerate(texts[split])],  # type: ignore[arg-type]
        path,
    )


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def bleu_4(sentences: Sequence[str], references: Sequence[str] | None = None) -> float:
    """BLEU-4 of a corpus, each sentence against all the references; None: against all the other sentences (self-BLEU, Zhu et al. 2018,
    arXiv 1802.01886: high where all are alike).
    """
    told = [text.split() for text in sentences]
    others = told if references is None else [text.split() for text in references]
    most: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, words in enumerate(others):
        for gram, count in _grams(words).items():
            most[gram] = sorted([*most.get(gram, []), (count, number)], reverse=True)[:2]
    lengths = Counter(map(len, others))
    total = np.zeros(2 + 2 * ORDERS)
    for number, words in enumerate(told):
        own = number if references is None else -1
        right, said = np.zeros(ORDERS), np.array([max(0, len(words) - n) for n in range(ORDERS)])
        for gram, count in _grams(words).items():
            allowed = next((c for c, where in most.get(gram, []) if where != own), 0)
            right[len(gram) - 1] += min(count, allowed)
        near = [n for n, count in lengths.items() if count > (references is None and n == len(words))]
        closest = min(near, key=lambda n: (abs(n - len(words)), n))
        total += [len(words), closest, *right, *said]
    return float(bleu_of(total)[-1])


def judge(sentences: Sequence[str], world: World, references: Sequence[str]) -> dict[str, float]:
    """Every score of some sentences; perplexities are of 3-grams (modified Kneser-Ney) over the training words, of the sentences by held-out
    ones and the other way round, where what is never said costs.
    """

    def surprise(of: Sequence[str], by: Sequence[str]) -> float:
        model = NgramModel.fit([text.split() for text in by], order=3, vocabulary=world.words)
        return model.perplexity([text.split() for text in of])

    return {
        "grammatical": float(np.mean([is_grammatical(text) for text in sentences])),
        "possible": float(np.mean([world.is_possible(text) for text in sentences])),
        "distinct": len(set(sentences)) / len(sentences),
        "new": float(np.mean([text not in world.sentences for text in sentences])),
        "BLEU-4": bleu_4(sentences, references),
        "self-BLEU": bleu_4(sentences),
        "perplexity": surprise(sentences, references),
        "reverse": surprise(references, sentences),
        "words": float(np.mean([len(text.split()) for text in sentences])),
    }


def _show(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<42}" + "".join(f"{c:>13}" for c in columns))
    for name, found in rows.items():
        print(f"  {name:<40}" + "".join(f"{found[c]:>13.3f}" for c in columns))
    print(f"  {note}", flush=True)


def gan_tokens(data: Path, seeds: int) -> Answer:
    """Captions of puppets full, split by actor: Gumbel-softmax against the language model; it goes on where it was stopped."""
    work, watch = proof.WORK / "gan-tokens", proof.Stopwatch()
    work.mkdir(parents=True, exist_ok=True)
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    texts = texts_of(work / "puppets")
    write_texts(texts, work / "both.jsonl", ("train", "val", "test"))  # the language model chooses its epoch on val
    write_texts(texts, work / "adversary.jsonl", ("train", "test"))
    common = ["encoder.cut=spaces", "encoder.lower=false", "encoder.minimum=1", "evaluation.baselines=false"]
    jobs = [[f"training.seed={s}", f"run={work}/adversary{s}"] for s in range(seeds)]
    jobs = [[*common, f"data.path={work}/adversary.jsonl", *job] for job in jobs]
    proof.train_all("puppets/generate_words.yaml", jobs)
    learn = [*common, "data.validation=0.1", f"data.path={work}/both.jsonl"]
    proof.train_all(
        "msvd/language.yaml", [[*learn, f"training.seed={s}", f"run={work}/language{s}"] for s in range(seeds)]
    )
    trained = watch.seconds
    world = World.of(texts["train"])
    if not all(map(is_grammatical, texts["train"])):
        raise SystemExit("The grammar of this script rejects real captions. Mend it.")
    order = np.random.default_rng(0).permutation(len(texts["test"]))
    half = len(order) // 2
    references, other = ([texts["test"][i] for i in part] for part in (order[:half], order[half:]))
    said: dict[str, list[list[str]]] = {"real sentences of actors held out": [other[:COUNT]]}
    for t in TEMPERATURES:
        said[f"language model, temperature {t:g}"] = [_language(work / f"language{s}", t) for s in range(seeds)]
    said[ADVERSARY] = [_adversary(work / f"adversary{s}") for s in range(seeds)]
    each = {name: [judge(one, world, references) for one in several] for name, several in said.items()}
    rows = {name: {c: float(np.mean([f[c] for f in found])) for c in found[0]} for name, found in each.items()}
    _show(
        f"puppets' captions of at most {LONGEST} words: {len(texts['train']):,} to learn from ({len(world.words)} different words), {COUNT} of each kind "
        f"judged by {half:,} others of actors held out",
        rows,
        f"means over {seeds} seeds; {sum(t in world.sentences for t in other[:COUNT]) / len(other[:COUNT]):.2f} of the real ones stand in training word for "
        f"word; {trained:.0f} s to draw, write and train, {watch.seconds:.0f} s in all",
    )
    for name, several in said.items():
        print(f"\n{name}:\n" + "\n".join(f"    {text}" for text in several[0][:4]))
    ours, plain = rows[ADVERSARY], rows["language model, temperature 1"]
    shares = ", ".join(
        f"{c} {ours[c]:.3f} ({plain[c]:.3f})" for c in ("grammatical", "distinct", "new", "perplexity", "reverse")
    )
    return f"by Gumbel-softmax (language model at temperature 1): {shares}", None


ADVERSARY = "Gumbel-softmax against a critic"


def _language(run: Path, temperature: float) -> list[str]:
    return continue_text(
        load_model(run), CPU, prompt="", length=LONGEST + 1, samples=COUNT, temperature=temperature, seed=1
    )


def _adversary(run: Path) -> list[str]:
    made = make_sequences(load_model(run), CPU, count=COUNT, length=LONGEST + 1, seed=1)
    return [str(one.values) for one in made]
