"""One rank of two that tests/training/test_distributed.py runs under torchrun: the second comes later than the backend
waits. Usage: late_process.py FOLDER; writes FOLDER/lateN.json.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

from torch import distributed as dist

from pipeline.training.distributed import distributed

if __name__ == "__main__":
    impatient = partial(dist.init_process_group, timeout=timedelta(seconds=2))
    with patch.object(dist, "init_process_group", impatient), distributed("cpu", 1) as context:
        time.sleep(4 * context.rank)
        context.barrier()
        time.sleep(4 * context.rank)
        gathered = context.gather_objects({"rank": context.rank})
        (Path(sys.argv[1]) / f"late{context.rank}.json").write_text(json.dumps(gathered))
