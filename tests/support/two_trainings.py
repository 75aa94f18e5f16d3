"""One rank of two that tests/commands/test_two_processes.py runs under torchrun: `unreel` with these arguments.

Usage: two_trainings.py FOLDER ARGUMENTS...; writes FOLDER/rankN.json: the videos that this process decoded, the rows
that it evaluated, and the exit code.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

from pipeline.cli import main
from pipeline.data.feature_store import FeatureStore
from pipeline.evaluation import evaluate_dataset as evaluation

if __name__ == "__main__":
    folder, *arguments = sys.argv[1:]
    decoded: list[str] = []
    evaluated: list[str] = []
    write, collate = FeatureStore.write, evaluation.collate

    def count_video(store, video, *others):
        decoded.append(video.name)
        return write(store, video, *others)

    def count_rows(samples):
        evaluated.extend(sample.source for sample in samples)
        return collate(samples)

    with patch.object(FeatureStore, "write", count_video), patch.object(evaluation, "collate", count_rows):
        code = main(arguments)
    result = {"decoded": decoded, "evaluated": evaluated, "code": code}
    (Path(folder) / f"rank{os.environ['RANK']}.json").write_text(json.dumps(result))
