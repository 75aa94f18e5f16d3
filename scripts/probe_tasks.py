"""The classic probes of recurrent memory: their sequences, and one small training loop over `Core`.

In: a task, a cell and how it is set. Out: the course of its validation error. Not part of the product.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.core import GATES, Core
from pipeline.padded import Padded

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""(batch, generator) -> x (B, T, D) and what is asked for: a task with its length given."""
SYMBOLS, WORD = 8, 10


@dataclass(frozen=True)
class Setting:
    """One training. init: 'orthogonal' (Core's own) or 'uniform' (torch.nn's own) recurrent weights; memory: Core's
    memory_steps; forget: another forget bias than 1; clip: the gradient's largest norm, 0 for none.
    """

    cell: str
    seed: int = 0
    memory: int = 0
    init: str = "orthogonal"
    forget: float | None = None
    clip: float = 1.0
    lr: float = 1e-2
    hidden: int = 64
    batch: int = 32
    steps: int = 3000


@dataclass(frozen=True)
class Course:
    """What came of a training: validation error at its end, steps, seconds of processor time (one thread), and whether it
    reached its goal.
    """

    error: float
    steps: int
    seconds: float
    is_done: bool


def adding(length: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber 1997: numbers in [0, 1], two of them marked, one in each half; asked for: their sum.
    Always answering 1 has a mean squared error of 1/6 = 0.167.
    """
    x = torch.zeros(batch, length, 2)
    x[:, :, 0] = torch.rand(batch, length, generator=generator)
    rows = torch.arange(batch)
    first = torch.randint(0, length // 2, (batch,), generator=generator)
    second = torch.randint(length // 2, length, (batch,), generator=generator)
    x[rows, first, 1] = x[rows, second, 1] = 1.0
    return x, x[rows, first, 0] + x[rows, second, 0]


def copying(delay: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Arjovsky et al. 2016: 10 symbols of 8, then blanks, a signal, and the 10 symbols are asked for. Without memory 7 of
    8 answers are wrong. One-hot: 8 symbols, blank, signal.
    """
    word = torch.randint(0, SYMBOLS, (batch, WORD), generator=generator)
    blanks = torch.full((batch, delay + WORD), SYMBOLS)
    blanks[:, delay - 1] = SYMBOLS + 1
    return F.one_hot(torch.cat([word, blanks], dim=1), SYMBOLS + 2).float(), word


def make_core(setting: Setting, input_size: int) -> Core:
    """The core with its weights set as asked."""
    torch.manual_seed(setting.seed)
    core = Core(
        cell=setting.cell,  # type: ignore[arg-type]
        input_size=input_size,
        hidden=setting.hidden,
        memory_steps=setting.memory,
    )
    with torch.no_grad():
        if setting.init == "uniform":
            core.get_parameter("weight_hh_l0").uniform_(-(setting.hidden**-0.5), setting.hidden**-0.5)
        if setting.forget is not None:
            core.get_parameter("bias_ih_l0").view(GATES[core.cell], -1)[1] = setting.forget
    return core


def train(draw: Draw, setting: Setting, goal: float, seconds: float, classes: int = 0) -> Course:
    """Adam on fresh sequences until the validation error (1,000 sequences, each 100 steps) is at most `goal`, or steps or
    `seconds` of processor time have run out. classes=0: one number after the last step, mean squared error; else a
    class at each of the last 10 steps, the share of wrong ones.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    held_x, held_y = draw(1000, torch.Generator().manual_seed(10**6))
    core = make_core(setting, held_x.shape[2])
    head = nn.Linear(setting.hidden, max(1, classes))
    parameters = [*core.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=setting.lr)
    generator = torch.Generator().manual_seed(setting.seed)

    def answer(x: Tensor) -> Tensor:
        y, _ = core(Padded(x, torch.full((x.shape[0],), x.shape[1])))
        return head(y.data[:, -WORD:]) if classes else head(y.data[:, -1])[:, 0]

    error, step = math.inf, 0
    for step in range(1, setting.steps + 1):
        x, y = draw(setting.batch, generator)
        found = answer(x)
        loss = F.cross_entropy(found.flatten(0, 1), y.flatten()) if classes else F.mse_loss(found, y)
        optimizer.zero_grad()
        loss.backward()
        if setting.clip:
            nn.utils.clip_grad_norm_(parameters, setting.clip)
        optimizer.step()
        late = time.process_time() - started > seconds
        if step % 100 == 0 or step == setting.steps or late:
            with torch.no_grad():
                found = answer(held_x)
                wrong = (found.argmax(-1) != held_y).float().mean() if classes else F.mse_loss(found, held_y)
            error = float(wrong)
            if not error > goal or late:
                break
    return Course(error, step, time.process_time() - started, error <= goal)


def digits(cell: str, seed: int, epochs: int = 60) -> tuple[float, float]:
    """scikit-learn's digits, 8 rows of 8 pixels as 8 steps: accuracy on the last 600 images after so many epochs on the
    1,197 before them (no image chooses anything), and the seconds of processor time. cell 'mean' is a linear model of
    the mean row.
    """
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    started = time.process_time()
    images, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    x, y = images.float().reshape(-1, 8, 8) / 16.0, labels.long()
    setting = Setting(cell="gru" if cell == "mean" else cell, seed=seed, lr=3e-3)
    core = make_core(setting, 8)
    head = nn.Linear(8 if cell == "mean" else setting.hidden, 10)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()], lr=setting.lr)

    def answer(x: Tensor) -> Tensor:
        return head(x.mean(1) if cell == "mean" else core(Padded(x, torch.full((len(x),), 8)))[0].data[:, -1])

    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(1197, generator=generator).split(setting.batch):
            loss = F.cross_entropy(answer(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(core.parameters(), setting.clip)
            optimizer.step()
    with torch.no_grad():
        return float((answer(x[1197:]).argmax(1) == y[1197:]).float().mean()), time.process_time() - started


def gradient_through_time(setting: Setting, length: int, batch: int = 32) -> list[float]:
    """The norm of dL/d(state_t), t = 1 ... length, of a fresh core; L is a random projection of the last h, so that the
    last norm is about 1. The state is all that goes on to the next step: h, and h with c for LSTM.
    """
    torch.set_num_threads(1)
    core = make_core(setting, 2)
    x, _ = adding(length, batch, torch.Generator().manual_seed(setting.seed))
    state, kept = core.initial_state(batch), []
    for x_t in x.unbind(1):
        _, state = core.step(x_t, state)
        for part in state:
            part.retain_grad()
        kept.append(state)
    ask = torch.randn(batch, setting.hidden, generator=torch.Generator().manual_seed(1))
    (state[0][:, 0] * F.normalize(ask, dim=1)).sum().backward()
    return [_norm(parts) for parts in kept]


def _norm(parts: tuple[Tensor, ...]) -> float:
    """Mean over the batch of the norm of a state's gradient."""
    each = [p.grad.flatten(1) if p.grad is not None else torch.zeros(p.shape[0], 1) for p in parts]
    return float(torch.cat(each, dim=1).norm(dim=1).mean())
