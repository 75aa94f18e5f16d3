"""Promises about the players of a GAN: gan-core, gan-resume.

Each returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import made_series
import proof_tools
from interrupted_trainings import EPOCH_STEPS, TWO_PROCESSES, Run, Training, cpu_environment
from resume_and_wandb import ProofResult, same_runs

SETTINGS = (
    "heads={clip: {kind: generate, hidden: 32, diff_augment: 0.5, gradient_penalty: 1, gradient_penalty_share: 0.3}}",
    "data.read=features",
    "data.validation_share=0",
    f"training.epochs={proof_tools.SIZE.pick(6, 3)}",
    "training.patience=null",
    "training.betas=[0, 0.99]",
    "training.critic_lr_factor=1.5",
    "tracking.wandb=off",
)
CORE_TESTS = "one_core_class or core_class_knows or core_of_its_own or players_share"


def gan_resume(data: Path, seeds: int) -> ProofResult:
    """Interrupted GANs against uninterrupted ones, in one process and in two."""
    work = proof_tools.fresh_folder("gan-resume")
    manifest = made_series.make_series(work / "series")
    holds = [_resumes(work, manifest, seed) for seed in range(seeds)]
    pair = Training(work / "two", manifest, SETTINGS, launcher=TWO_PROCESSES)
    result = proof_tools.run_command(*pair.command(work / "two/whole"), env=cpu_environment())
    is_equal = "2 processes ended with equal weights" in result.stderr
    resumed = pair.train_interrupted("killed", [(signal.SIGKILL, EPOCH_STEPS + 4)])
    is_resumed = same_runs(Run(work / "two/whole"), resumed, "2 processes, killed and resumed")
    print(f"torchrun, 2 processes: replicas {'equal' if is_equal else 'NOT REPORTED AS EQUAL'} by digest")
    return (
        f"interrupted GANs bit-equal, both players, average and norms: {all(holds)}; torchrun: replicas equal: "
        f"{is_equal}, resumed bit-equal: {is_resumed}",
        all(holds) and is_equal and is_resumed,
    )


def _resumes(work: Path, manifest: Path, seed: int) -> bool:
    """Whether trainings that were killed or terminated equal the uninterrupted one, and another seed does not."""
    training = Training(work / f"seed{seed}", manifest, [*SETTINGS, f"training.seed={seed}"])
    whole = training.train("whole")
    optimizers, weights = whole.state["optimizers"], whole.state["model"]
    print(
        f"seed {seed}: {whole.rows('train')[-1]['step']} steps; resume.pt has the optimizers of "
        f"{', '.join(optimizers)}, {sum('average' in n for n in weights)} tensors of the average, "
        f"{sum(n.endswith('._u') for n in weights)} vectors of spectral norms",
        flush=True,
    )
    holds = [set(optimizers) == {"model", "clip"} and any("average" in name for name in weights)]
    stops = [(signal.SIGKILL, step) for step in (4, EPOCH_STEPS + 4, 3 * EPOCH_STEPS + 8)]
    interruptions = {"killed": stops, "terminated": [(signal.SIGTERM, 2 * EPOCH_STEPS + 5)]}
    for name in proof_tools.SIZE.some([*interruptions]):
        holds.append(same_runs(whole, training.train_interrupted(name, proof_tools.SIZE.some(interruptions[name]))))
    other = Training(work / f"other{seed}", manifest, [*SETTINGS, f"training.seed={seed + 1000}"]).train("whole")
    holds.append(not same_runs(whole, other, "another seed (must differ)"))
    return all(holds)


def gan_core(data: Path, seeds: int) -> ProofResult:
    """The tests that the cores of generator, critic and recogniser are instances of one class."""
    tests = proof_tools.REPOSITORY / "tests/heads/test_generate_features.py"
    result = proof_tools.run_command(
        *(sys.executable, "-m", "pytest", "-q", "-rA", tests, "-k", CORE_TESTS), cwd=proof_tools.REPOSITORY, code=None
    )
    passed = [line for line in result.stdout.splitlines() if line.startswith("PASSED")]
    print("\n".join(passed))
    holds = result.returncode == 0 and sum("one_core_class" in line for line in passed) >= 4
    return (
        f"{len(passed)} tests passed: one class, one section, and models/recurrent/core.py knows no GAN: {holds}",
        holds,
    )
