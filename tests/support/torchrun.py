"""A script of tests/support in two processes, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
PROOFS = SUPPORT.parents[1] / "scripts/proofs"


def torchrun(script: str, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run SUPPORT/script with two processes; it must end with 0."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = [str(SUPPORT), str(SUPPORT.parents[1]), str(PROOFS), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [*launcher, str(SUPPORT / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result
