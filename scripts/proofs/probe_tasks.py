"""Standard tasks for recurrent memory (adding problem, copy memory, digits row by row), and a small training loop.

In: a task, and the settings of a `Core` and its training. Out: the validation error. Not part of the product.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.recurrent.core import NUM_GATES, Core
from pipeline.padded import Padded

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""(batch, generator) -> inputs x (B, T, D) and targets: a task of fixed length."""
NUM_SYMBOLS, NUM_COPIED = 8, 10


@dataclass(frozen=True)
class ProbeSettings:
    """One training. init: `orthogonal` (that of `Core`) or `uniform` (that of torch.nn) recurrent weights.

    chrono_steps: that of `Core`. forget_bias: instead of 1. grad_clip: the maximum norm of the gradient, 0 for none.
    """

    cell: str
    seed: int = 0
    chrono_steps: int = 0
    init: str = "orthogonal"
    forget_bias: float | None = None
    grad_clip: float = 1.0
    lr: float = 1e-2
    hidden: int = 64
    batch: int = 32
    steps: int = 3000


@dataclass(frozen=True)
class TrainingResult:
    """The last validation error, steps, seconds of processor time (one thread), and whether the goal was reached."""

    error: float
    steps: int
    seconds: float
    is_done: bool


def adding(length: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The adding problem (Hochreiter & Schmidhuber 1997): numbers in [0, 1], one marked in each half.

    Target: the sum of the two marked numbers. The constant 1 has a mean squared error of 1/6 = 0.167.
    """
    x = torch.zeros(batch, length, 2)
    x[:, :, 0] = torch.rand(batch, length, generator=generator)
    rows = torch.arange(batch)
    first = torch.randint(0, length // 2, (batch,), generator=generator)
    second = torch.randint(length // 2, length, (batch,), generator=generator)
    x[rows, first, 1] = x[rows, second, 1] = 1.0
    return x, x[rows, first, 0] + x[rows, second, 0]


def copying(delay: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Copy memory (Arjovsky et al. 2016): 10 symbols out of 8, `delay` - 1 blanks, a signal, and 10 blanks.

    Target: the 10 symbols, in the last 10 steps. Without memory 7 of 8 are wrong. One-hot inputs: 8 symbols, blank,
    signal.
    """
    symbols = torch.randint(0, NUM_SYMBOLS, (batch, NUM_COPIED), generator=generator)
    blanks = torch.full((batch, delay + NUM_COPIED), NUM_SYMBOLS)
    blanks[:, delay - 1] = NUM_SYMBOLS + 1
    return F.one_hot(torch.cat([symbols, blanks], dim=1), NUM_SYMBOLS + 2).float(), symbols


def make_core(settings: ProbeSettings, input_size: int) -> Core:
    """The core with the initial weights of these settings."""
    torch.manual_seed(settings.seed)
    core = Core(
        cell=settings.cell,  # type: ignore[arg-type]
        input_size=input_size,
        hidden=settings.hidden,
        chrono_steps=settings.chrono_steps,
    )
    with torch.no_grad():
        if settings.init == "uniform":
            core.get_parameter("weight_hh_l0").uniform_(-(settings.hidden**-0.5), settings.hidden**-0.5)
        if settings.forget_bias is not None:
            core.get_parameter("bias_ih_l0").view(NUM_GATES[core.cell], -1)[1] = settings.forget_bias
    return core


def train(draw: Draw, settings: ProbeSettings, goal: float, seconds: float, classes: int = 0) -> TrainingResult:
    """Train with Adam on new sequences until the validation error is at most `goal`, or the steps or `seconds` of
    processor time are used up. The error is computed on 1,000 sequences, every 100 steps.

    classes: 0 for a regression from the last step, with the mean squared error; else the number of classes at each of
    the last 10 steps, with the share of wrong ones.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    validation_x, validation_y = draw(1000, torch.Generator().manual_seed(10**6))
    core = make_core(settings, validation_x.shape[2])
    head = nn.Linear(settings.hidden, max(1, classes))
    parameters = [*core.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.lr)
    generator = torch.Generator().manual_seed(settings.seed)

    def predict(x: Tensor) -> Tensor:
        y, _ = core(Padded(x, torch.full((x.shape[0],), x.shape[1])))
        return head(y.data[:, -NUM_COPIED:]) if classes else head(y.data[:, -1])[:, 0]

    error, step = math.inf, 0
    for step in range(1, settings.steps + 1):
        x, y = draw(settings.batch, generator)
        output = predict(x)
        loss = F.cross_entropy(output.flatten(0, 1), y.flatten()) if classes else F.mse_loss(output, y)
        optimizer.zero_grad()
        loss.backward()
        if settings.grad_clip:
            nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
        optimizer.step()
        is_out_of_time = time.process_time() - started > seconds
        if step % 100 == 0 or step == settings.steps or is_out_of_time:
            with torch.no_grad():
                output = predict(validation_x)
                wrong = (
                    (output.argmax(-1) != validation_y).float().mean() if classes else F.mse_loss(output, validation_y)
                )
            error = float(wrong)
            if not error > goal or is_out_of_time:
                break
    return TrainingResult(error, step, time.process_time() - started, error <= goal)


def digits(cell: str, seed: int, epochs: int = 60) -> tuple[float, float]:
    """The digits of scikit-learn, 8 rows of 8 pixels as 8 steps, trained on the first 1,197 images.

    No image selects a setting or an epoch. cell `mean` is a linear model of the mean row.

    Returns the accuracy on the last 600 images, and the seconds of processor time.
    """
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    started = time.process_time()
    images, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    x, y = images.float().reshape(-1, 8, 8) / 16.0, labels.long()
    settings = ProbeSettings(cell="gru" if cell == "mean" else cell, seed=seed, lr=3e-3)
    core = make_core(settings, 8)
    head = nn.Linear(8 if cell == "mean" else settings.hidden, 10)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()], lr=settings.lr)

    def predict(x: Tensor) -> Tensor:
        return head(x.mean(1) if cell == "mean" else core(Padded(x, torch.full((len(x),), 8)))[0].data[:, -1])

    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(1197, generator=generator).split(settings.batch):
            loss = F.cross_entropy(predict(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(core.parameters(), settings.grad_clip)
            optimizer.step()
    with torch.no_grad():
        return float((predict(x[1197:]).argmax(1) == y[1197:]).float().mean()), time.process_time() - started


def gradient_through_time(settings: ProbeSettings, length: int, batch: int = 32) -> list[float]:
    """The norm of dL/d(state t), t = 1 ... length, of an untrained core. L is a random projection of the last h, so the
    last norm is about 1. The state is all that the next step gets from the past: h, and for LSTM h and c.
    """
    torch.set_num_threads(1)
    core = make_core(settings, 2)
    x, _ = adding(length, batch, torch.Generator().manual_seed(settings.seed))
    state, states = core.initial_state(batch), []
    for x_t in x.unbind(1):
        _, state = core.step(x_t, state)
        for part in state:
            part.retain_grad()
        states.append(state)
    projection = torch.randn(batch, settings.hidden, generator=torch.Generator().manual_seed(1))
    (state[0][:, 0] * F.normalize(projection, dim=1)).sum().backward()
    return [_gradient_norm(parts) for parts in states]


def _gradient_norm(parts: tuple[Tensor, ...]) -> float:
    """The norm of the gradient of a state, mean over the batch."""
    gradients = [p.grad.flatten(1) if p.grad is not None else torch.zeros(p.shape[0], 1) for p in parts]
    return float(torch.cat(gradients, dim=1).norm(dim=1).mean())
