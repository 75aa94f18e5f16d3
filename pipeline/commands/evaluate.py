"""`unreel evaluate`: measure a trained model on its own test split, or on other data.

In: the folder of a run, and overrides. Out: evaluation/report.json and report.txt in it. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.checkpoint import load_model
from pipeline.commands.prepare_data import Log, OnVideo, prepare
from pipeline.commands.train import FinishedRun, tokenizer_of, training_threads
from pipeline.config.base import ConfigError
from pipeline.config.run import load_config
from pipeline.evaluation.report import write_report
from pipeline.evaluation.test_evaluation import evaluate_test_split, make_report, split_warning
from pipeline.training.distributed import distributed


def evaluate(
    folder: Path, overrides: Sequence[str], log: Log, on_video: OnVideo = lambda done, total: None
) -> FinishedRun:
    """Measure a run's model again, on its own test split or, by overrides, on other data.

    Raises ConfigError for a folder that is no run and for a split without test rows, ModelError, ManifestError.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"'{folder}' is no run: it holds no config.yaml. Give the folder that `unreel train` made.")
    config = load_config(folder / "config.yaml", overrides)
    with distributed(config.training.device, training_threads(config)) as context:
        checkpoint = load_model(folder)
        data = prepare(config, context, log, on_video, tokenizer_of(checkpoint))
        if not overrides and (warning := split_warning(data, checkpoint)):
            log(warning)
        rows = evaluate_test_split(config, data, checkpoint, context.device, name=config.core.cell)
        if not rows:
            raise ConfigError(
                f"The split '{config.data.split}' leaves no test rows. Use data.split=group, folds or manifest."
            )
        out = folder / "evaluation"
        out.mkdir(exist_ok=True)
        report = make_report(config, data, checkpoint, rows)
        write_report(report, out)
        return FinishedRun(out, report)
