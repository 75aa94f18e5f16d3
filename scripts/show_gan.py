"""Promises about the two players themselves: gan-core, gan-resume.

Each returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import made_series
import proof
from show_training import Answer, same_runs
from trainings import EPOCH, TWO, Run, Training, environment_here

PLAYERS = (
    "heads={clip: {kind: generate, hidden: 32, disguise: 0.5, penalty: 1, penalty_share: 0.3}}",
    "data.read=features",
    "data.validation=0",
    "training.epochs=6",
    "training.patience=null",
    "training.betas=[0, 0.99]",
    "training.opponent_lr=1.5",
    "tracking.wandb=off",
)


def gan_resume(data: Path, seeds: int) -> Answer:
    """Killed GANs against uninterrupted ones, in one process and in two."""
    work = proof.fresh("gan-resume")
    made = made_series.make_series(work / "series")
    holds = []
    for seed in range(seeds):
        train = Training(work / f"seed{seed}", made, [*PLAYERS, f"training.seed={seed}"])
        whole = train.finish("whole")
        state = whole.state
        kept = state["model"]
        print(
            f"seed {seed}: {whole.rows('train')[-1]['step']} steps; resume.pt holds the optimisers of {', '.join(state['movers'])}, "
            f"{sum('average' in n for n in kept)} tensors of the average, {sum(n.endswith('._u') for n in kept)} vectors of spectral norms",
            flush=True,
        )
        holds.append(set(state["movers"]) == {"model", "clip"} and any("average" in n for n in kept))
        stops = [(signal.SIGKILL, at) for at in (4, EPOCH + 4, 3 * EPOCH + 8)]
        holds += [
            same_runs(whole, train.broken("killed", stops)),
            same_runs(whole, train.broken("terminated", [(signal.SIGTERM, 2 * EPOCH + 5)])),
        ]
        other = Training(work / f"other{seed}", made, [*PLAYERS, f"training.seed={seed + 1000}"]).finish("whole")
        holds.append(not same_runs(whole, other, "another seed (must differ)"))
    pair = Training(work / "two", made, PLAYERS, start=TWO)
    result = proof.command(*pair.command(work / "two/whole"), env=environment_here())
    replicas = "2 processes ended with equal weights" in result.stderr

    again = same_runs(
        Run(work / "two/whole"), pair.broken("killed", [(signal.SIGKILL, EPOCH + 4)]), "2 processes, killed and gone on"
    )
    print(f"torchrun, 2 processes: replicas {'equal' if replicas else 'NOT SAID TO BE EQUAL'} by digest")
    return (
        f"interrupted GANs bit-equal, both players, average and norms: {all(holds)}; torchrun: replicas equal: {replicas}, resumed "
        f"bit-equal: {again}",
        all(holds) and replicas and again,
    )


def gan_core(data: Path, seeds: int) -> Answer:
    """The tests that one class moves, judges and recognises."""
    names = "instances or core_of_its_own or shared_no_weight or players_share"
    result = proof.command(
        sys.executable, "-m", "pytest", "-q", "-rA", proof.REPOSITORY / "tests/test_generate.py", "-k", names,
        cwd=proof.REPOSITORY, code=None,
    )  # fmt: skip
    passed = [line for line in result.stdout.splitlines() if line.startswith("PASSED")]
    print("\n".join(passed))
    holds = result.returncode == 0 and sum("instances" in line for line in passed) >= 4
    return f"{len(passed)} tests passed: one class, one section, and models/core.py knows nothing of it: {holds}", holds
