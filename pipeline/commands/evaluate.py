"""`unreel evaluate`: measure a trained model on its own test split, or on other data.

In: the folder of a run, and overrides. Out: evaluation/report.json and report.txt in it. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.checkpoint import load_model
from pipeline.commands.leak_guard import known_test_rows, refuse_unknown_classes
from pipeline.commands.prepare_data import Log, OnVideo, prepare
from pipeline.commands.train import FinishedRun, tokenizer_of, training_threads
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.evaluation.report import write_report
from pipeline.evaluation.test_evaluation import evaluate_test_split, make_report, split_warning
from pipeline.evaluation.warning_log import WarningLog
from pipeline.media.similar_paths import did_you_mean_path
from pipeline.training.distributed import distributed


def evaluate(
    folder: Path, overrides: Sequence[str], log: Log, on_video: OnVideo = lambda done, total: None
) -> FinishedRun:
    """Measure a run's model again, on its own test split or, by overrides, on other data.

    All rows of other data are test rows, unless an override gives data.split. Raises ConfigError for a folder that is
    no run, for a class that the model does not know and for a split without test rows, ModelError, ManifestError.
    """
    if not (folder / "config.yaml").is_file():
        similar = "" if folder.exists() else did_you_mean_path(folder)
        raise ConfigError(
            f"'{folder}' is no run: it holds no config.yaml.{similar} Give the folder that `unreel train` made."
        )
    log = WarningLog(log)
    config = _config_of_evaluation(folder, overrides, log)
    with distributed(config.training.device, training_threads(config)) as context:
        checkpoint = load_model(folder)
        check = partial(refuse_unknown_classes, config, checkpoint=checkpoint)
        data = prepare(config, context, log, on_video, tokenizer_of(checkpoint), check)
        if not overrides and (warning := split_warning(data, checkpoint)):
            log(warning)
        for text in known_test_rows(config, data.manifest, checkpoint):
            log(f"  note: {text}")
        rows = evaluate_test_split(config, data, checkpoint, context.device, name=config.core.cell, processes=context)
        if not rows:
            raise ConfigError(
                f"The split '{config.data.split}' leaves no test rows. Use data.split=group, folds or manifest."
            )
        out = folder / "evaluation"
        out.mkdir(exist_ok=True)
        report = make_report(config, data, checkpoint, rows, log.warnings)
        if context.is_first:
            write_report(report, out)
        return FinishedRun(out, report)


def _config_of_evaluation(folder: Path, overrides: Sequence[str], log: Log) -> Config:
    """The config of a run with overrides. Where they name other data and no split, all rows are for the test."""
    own, config = load_config(folder / "config.yaml"), load_config(folder / "config.yaml", overrides)
    if _place(config) == _place(own) or any(_sets_split(override) for override in overrides):
        return config
    log(
        f"'{config.data.path}' is not the data of the run ('{own.data.path}'), so all its rows are test rows. "
        f"If these are the same rows in another place, give data.split={own.data.split}"
    )
    return load_config(folder / "config.yaml", [*overrides, "data.split=test"])


def _place(config: Config) -> tuple[Path, Path | None]:
    """Where the data of a config lie: the manifest, and the folder of the files where the config names one."""
    root = None if config.data.root is None else Path(config.data.root).resolve()
    return Path(config.data.path).resolve(), root


def _sets_split(override: str) -> bool:
    """Whether an override chooses the split."""
    key, _, value = override.partition("=")
    return key.strip() == "data.split" or (key.strip() == "data" and "split" in value)
