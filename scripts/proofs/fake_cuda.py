"""The promise fake-cuda: what every head copies to a GPU, and reads from it, in a training step and in an answer.

The GPU is not there (see `fake_device`), so this runs on every machine. A copy costs some 10 microseconds. A read costs
all the work that the GPU still has to do, because the CPU waits for it and prepares nothing meanwhile. What lies in the
kernels of torch is not seen: CTC takes its lengths on the CPU and copies them itself. Nor is what several processes
exchange. A head that needs more than 3 copies or a read has a budget of its own, with the reason.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import proof_tools
import torch
from fake_device import CUDA, FakeCuda, Traffic, fake_cuda, to_fake_cuda

sys.path.insert(0, str(proof_tools.REPOSITORY / "tests/support"))
import every_head

from pipeline.config.training import TrainingSection
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset, RowSource
from pipeline.data.manifest_rows import Row
from pipeline.heads.generate_features import GenerateFeatures
from pipeline.heads.generate_frames import GenerateFrames
from pipeline.heads.generate_tokens import GenerateTokens
from pipeline.models.head import FitsRows, FitsSequences, Head
from pipeline.models.model import Model
from pipeline.training.distributed import DistributedContext
from pipeline.training.optimizer import PlayerOptimizer
from pipeline.training.resume import Progress
from pipeline.training.train_step import train_step

ROWS = 4
"""Rows of a batch, of 12 to 15 looks."""
Settings = Mapping[str, Any]


class Budget(NamedTuple):
    """The most copies to the device and reads from it, and why they are more than usual."""

    copies: int = 3
    reads: int = 0
    why: str = ""


_USUAL = Budget()


class Cost(NamedTuple):
    """What was counted, and where: each place once, with its number."""

    copies: int
    reads: int
    strays: int
    places: tuple[str, ...]

    @classmethod
    def of(cls, traffic: Traffic) -> Cost:
        """The counts."""
        kinds = {"copies": traffic.copies, "reads": traffic.reads, "strays": traffic.strays}
        places = [f"{kind}: {n} x {place}" for kind, all_ in kinds.items() for place, n in Counter(all_).items()]
        return cls(len(traffic.copies), len(traffic.reads), len(traffic.strays), tuple(places))

    def holds(self, budget: Budget) -> bool:
        """Whether it is within the budget, and nothing was left on the CPU."""
        return self.copies <= budget.copies and self.reads <= budget.reads and not self.strays


@dataclass(frozen=True)
class Case:
    """A model with one head, or with the head and those that it needs.

    kind: series, text or frames. training: the budget of a step of all players. answer: that of the answer, whose
    values must be read; watching and observing may cost 3 copies and no read.
    """

    name: str
    kind: str
    heads: Mapping[str, Settings]
    answer: Budget
    training: Budget = _USUAL
    core: Settings = field(default_factory=dict)
    encoder: Settings = field(default_factory=dict)
    tbptt: bool = False


_CLASSES = Budget(0, 3, "probabilities, distances and the threshold are read")
_SPANS = Budget(1, 2, "probabilities and path are read")
_VALUES = Budget(0, 3, "values, quantiles and how many values there were are read")
_SEARCH = "the search asks after each of 39 tokens whether all sentences have ended; the sentences are read"
_SENTENCES = Budget(2, 43, _SEARCH)
_LIKELIHOOD = Budget(0, 2, "log-probabilities and numbers of tokens are read")
ANSWERS: dict[str, Budget] = {
    **dict.fromkeys(("classify", "classify_last", "classify_attention"), _CLASSES),
    **dict.fromkeys(("segment", "segment_steps"), _SPANS),
    "anticipate": Budget(0, 1, "probabilities are read"),
    **dict.fromkeys(("forecast", "forecast_recursive", "forecast_critic"), _VALUES),
    "caption": _SENTENCES,
    "caption_spans": Budget(4, 44, f"{_SEARCH}; spans become a short sequence on the CPU"),
    "transcribe": Budget(0, 2, "scores are read: the beam search runs on the CPU"),
    **dict.fromkeys(("language", "language_untied"), _LIKELIHOOD),
    "generate_features": Budget(0, 27, "the bank chooses sequences class by class, here of 4 classes"),
    **dict.fromkeys(("generate_tokens", "generate_frames"), Budget(0, 0, "what is generated stays there")),
}
"""The budget of the answer of each head. An answer must be read."""
TRAINING: dict[str, Budget] = {
    "caption_spans": Budget(5, 0, "spans are found on the CPU: they and their number go by themselves"),
}
"""The budgets of training steps that need more than 3 copies, or a read."""


def cases() -> list[Case]:
    """Every head, every core, and the options that take a path of their own."""
    return [*_heads(), *_options()]


def _heads() -> Iterator[Case]:
    lists = {"series": every_head.SERIES_HEADS, "text": every_head.TEXT_HEADS, "frames": every_head.FRAME_HEADS}
    for kind, heads in lists.items():
        for name, settings in heads.items():
            needed = {"segment": heads["segment"]} if name == "caption_spans" else {}
            yield Case(name, kind, {name: settings, **needed}, ANSWERS[name], TRAINING.get(name, _USUAL))


def _options() -> Iterator[Case]:
    series = every_head.SERIES_HEADS
    classify, caption = {"classify": series["classify"]}, series["caption"]
    for cell in ("rnn_tanh", "lstm", "mingru"):
        yield Case(f"core {cell}", "series", classify, _CLASSES, core={"cell": cell, "layers": 2})
    yield Case("core mean", "series", classify, _CLASSES, core={"cell": "mean", "layers": 1})
    dropout = {"recurrent_dropout": 0.2, "input_dropout": 0.2, "bidirectional": True}
    yield Case("core with dropout", "series", classify, _CLASSES, core=dropout)
    language = {"language": every_head.TEXT_HEADS["language"]}
    yield Case("carried state", "text", language, _LIKELIHOOD, tbptt=True)
    yield Case("caption, fed", "series", {"caption": {**caption, "input_feeding": True}}, _SENTENCES)
    yield Case("caption, sampled", "series", {"caption": {**caption, "scheduled_sampling": 0.5}}, _SENTENCES)
    rewarded = Budget(3, 42, "sampling and search ask after every token; rewards are counted in words on the CPU")
    yield Case("caption, rewarded", "series", {"caption": {**caption, "self_critical": True}}, _SENTENCES, rewarded)


def fake_cuda_promise(data: Path, seeds: int) -> tuple[str, bool]:
    """A row for each case; the places of every copy and read of a case that is over its budget."""
    chosen, num_over, counts = proof_tools.SIZE.some(cases(), 4), 0, Counter()
    print(f"{'':20} {'step':>14} {'watch':>14} {'answer':>14}   budgets beyond 3 copies and 0 reads")
    for case in chosen:
        step, watching, answer = costs(case)
        parts = ((step, case.training), (watching, _USUAL), (answer, case.answer))
        numbers = " ".join(f"{cost.copies:>6} / {cost.reads:<5}" for cost, _ in parts)
        why = "; ".join(f"{b.copies} / {b.reads}: {b.why}" for b in (case.training, case.answer) if b.why)
        print(f"{case.name:20} {numbers}   {why}", flush=True)
        over = [place for cost, budget in parts if not cost.holds(budget) for place in cost.places]
        num_over += bool(over)
        counts.update(strays=sum(cost.strays for cost, _ in parts), own=case.training != _USUAL)
        print("".join(f"    over: {place}\n" for place in over), end="")
    usual = len(chosen) - counts["own"]
    return (
        f"{len(chosen)} heads and options: {counts['strays']} stray tensors; a training step within 3 copies and 0 "
        f"reads in {usual} of them, {counts['own']} with a budget of their own; {num_over} over budget"
    ), num_over == 0


def costs(case: Case) -> tuple[Cost, Cost, Cost]:
    """What a training step costs, watching and observing, and an answer."""
    with tempfile.TemporaryDirectory() as folder:
        model, batch = _model_and_batch(case, Path(folder))
    with fake_cuda() as mode:
        to_fake_cuda(model)
        step = _step(case, model, batch, mode)
        watching, answer = _answers(model, batch, mode)
    return step, watching, answer


def _step(case: Case, model: Model, batch: Batch, mode: FakeCuda) -> Cost:
    """The second of two steps, because the first one makes the state of the optimizer."""
    settings = TrainingSection(precision="float32", tbptt=case.tbptt)
    context, progress = DistributedContext(CUDA), Progress()
    optimizers = {
        player: PlayerOptimizer(
            model,
            parameters,
            lr=0.01,
            backbone_lr_factor=1.0,
            weight_decay=0.1,
            warmup=0.0,
            grad_clip=1.0,
            total_steps=10,
        )
        for player, parameters in model.players().items()
    }
    model.train()
    for _ in range(2):
        mode.traffic = Traffic()
        moved = _again(batch).to(CUDA)
        train_step(
            model, dict.fromkeys(optimizers, model), optimizers, moved, progress, settings=settings, context=context
        )
    return Cost.of(mode.traffic)


@torch.no_grad()
def _answers(model: Model, batch: Batch, mode: FakeCuda) -> tuple[Cost, Cost]:
    """Two windows are watched and observed by the first head; then it answers."""
    model.eval()
    head = model.head(next(iter(model.heads)))
    mode.traffic, memory, state = Traffic(), None, None
    for _ in range(2):
        output = model.watch(_again(batch).to(CUDA).raw, state)
        memory, state = head.observe(output, memory), output.state if model.core.is_causal else None
    watching, mode.traffic = mode.traffic, Traffic()
    watching = Traffic(watching.copies[: (len(watching.copies) + 1) // 2], watching.reads, watching.strays)
    _answer(head, memory)
    return Cost.of(watching), Cost.of(mode.traffic)


def _answer(head: Head, memory: object) -> None:
    """What the head answers; a head that generates does so for classes."""
    if isinstance(head, GenerateFeatures | GenerateTokens | GenerateFrames):
        labels = torch.zeros(ROWS, dtype=torch.int64, device=CUDA)
        head.generate(head.generator.draw(ROWS, 6), labels)
    else:
        head.answer(memory)


def _again(batch: Batch) -> Batch:
    """The same batch with lengths that no device has seen, as each batch of a loader."""
    raw = {sense: type(x)(x.data, x.lengths.clone()) for sense, x in batch.raw.items()}
    targets = {
        head: x.clone() if isinstance(x, torch.Tensor) else type(x)(x.data, x.lengths.clone())
        for head, x in batch.targets.items()
    }
    return Batch(raw, targets, batch.sources, batch.starts)


def _model_and_batch(case: Case, folder: Path) -> tuple[Model, Batch]:
    """A model on the CPU, fitted to the rows where a head asks for it, and a batch of the first rows."""
    rows = every_head.make_rows()
    encoders = {
        "series": {"kind": "series", "project": 0, "normalise": "none"},
        "text": {"kind": "tokens", "add_bos_eos": True, "embedding": 8},
        "frames": {"kind": "frames", "backbone": "pixels", "size": 16, "project": 0},
    }
    model, tokenizer = every_head.build({**encoders[case.kind], **case.encoder}, case.heads, rows, core=case.core)
    source: RowSource = every_head.series_source(folder, rows)
    if case.kind == "text":
        source = every_head.text_source(rows, tokenizer)
    batch = _batch(model, rows, source)
    if case.kind == "frames":
        batch = _with_pixels(batch)
    _fit(model, rows, batch)
    return model, batch


def _batch(model: Model, rows: Sequence[Row], source: RowSource) -> Batch:
    dataset = RowDataset(rows, source, {name: model.head(name).target for name in model.heads})
    return collate([dataset[(0, index)] for index in range(ROWS)])


def _with_pixels(batch: Batch) -> Batch:
    """The same rows as clips of 16 x 16 pixels."""
    series = batch.raw["series"]
    pixels = torch.zeros((*series.data.shape[:2], 16, 16, 3), dtype=torch.uint8)
    return Batch({"frames": type(series)(pixels, series.lengths)}, batch.targets, batch.sources, batch.starts)


def _fit(model: Model, rows: Sequence[Row], batch: Batch) -> None:
    for head in map(model.head, model.heads):
        if isinstance(head, FitsRows):
            head.fit_rows(rows)
        if isinstance(head, FitsSequences):
            head.fit_sequences(batch.raw["series"].unpad())
