"""`unreel train`: from a config to a finished run. Read this file first.

`train` reads the rows and splits them, extracts the features of each video once (or reads pixels where the CNN learns),
builds the model, runs the training loop, and writes the table of results beside those of the baselines. All files of a
run are in its folder: config.yaml, metrics.jsonl, model/, report.json, report.txt and wandb/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.checkpoint import Checkpoint, load_model, save_model
from pipeline.commands.calibration import held_out_results, known_rows
from pipeline.commands.class_checks import refuse_one_class
from pipeline.commands.leak_guard import (
    content_of_run,
    note_fresh_baselines,
    note_unknown_start,
    record_of_run,
    refuse_leaking_start,
)
from pipeline.commands.prepare_data import Log, OnVideo, prepare
from pipeline.commands.run_folder import claim_folder
from pipeline.config.architecture import TOKENS
from pipeline.config.base import ConfigError
from pipeline.config.heads import build_vocabulary
from pipeline.config.run import Config
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Manifest
from pipeline.data.run_data import RunData
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary, did_you_mean
from pipeline.evaluation.baselines import BASELINES, baseline_configs
from pipeline.evaluation.calibrate import KnownRows, calibrate
from pipeline.evaluation.monitor import monitor_of
from pipeline.evaluation.report import write_report
from pipeline.evaluation.test_evaluation import (
    evaluate_test_split,
    majority_classes,
    make_report,
    split_dataset,
    split_name,
)
from pipeline.evaluation.warning_log import WarningLog
from pipeline.models.head import FitsRows, FitsSequences
from pipeline.models.model import FittedEncoder, Model
from pipeline.training.distributed import DistributedContext, distributed, seed_step
from pipeline.training.fit import Session, fit
from pipeline.training.resume import Progress, saved_step
from pipeline.training.tracking import Tracker


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run, and its report (report.json as plain values)."""

    folder: Path
    report: dict[str, Any]


def train(
    config: Config, log: Log, on_video: OnVideo = lambda done, total: None, *, fresh: bool = False
) -> FinishedRun:
    """Run a config to its end, or resume it where it was interrupted; `fresh` starts over.

    Raises ConfigError, ManifestError, LeakError for mistakes of the user; Interrupted after a signal; FolderLocked
    where another training uses the run's folder.
    """
    with (
        distributed(config.training.device, training_threads(config)) as context,
        claim_folder(config, context, fresh=fresh) as run,
    ):
        log, folder = WarningLog(log if context.is_first else _no_log), run.path
        initial = load_model(config.training.init_from) if config.training.init_from else None
        check = partial(_check_rows, config, initial=initial)
        data = prepare(config, context, log, on_video, tokenizer_of(initial), check)
        _check_classes(config, data)
        note_unknown_start(config, initial, log)
        run.begin()
        known = known_rows(config, data, log)
        checkpoint, rows = _train_and_measure(config, data, known, context, folder, log, initial)
        if config.evaluation.baselines and rows and config.core.cell != "mean":
            rows += _train_baselines(config, data, known, context, folder, log)
        if any(row["model"] in BASELINES for row in rows):
            note_fresh_baselines(config, log)
        report = make_report(config, data, checkpoint, rows, log.warnings)
        if context.is_first:
            write_report(report, folder)
        run.finish()
        return FinishedRun(folder, report)


def _no_log(line: str) -> None:
    """Drop the line: only one of several processes writes to the log."""


def _check_rows(config: Config, manifest: Manifest, initial: Checkpoint | None) -> None:
    """Raise ConfigError or LeakError for what is wrong with the rows, before any video is looked at."""
    refuse_one_class(config, manifest)
    refuse_leaking_start(config, manifest, initial)


def _check_classes(config: Config, data: RunData) -> None:
    """Raise ConfigError for problems with the classes that would otherwise stop the run after its training."""
    if not data.rows("train"):
        raise ConfigError(
            f"No row of '{config.data.path}' is left to train on: {len(data.failed)} videos failed, and the split is "
            f"'{config.data.split}'. Repair the videos, or choose a split that has training rows."
        )
    known: set[str] = set()
    for head in config.heads.values():
        if head.kind == "transcribe":
            continue  # a word that no training row has counts as an error of the transcript
        taught = {label for row in data.rows("train") for label in head.taught_labels(row)}
        for row in data.manifest.rows:
            for label in head.taught_labels(row):
                if label not in taught and row.label not in data.unknown_classes:
                    raise ConfigError(
                        f"The class '{label}' is in {row.split} ('{row.path}') and not in training, so no model can "
                        "predict it. Give training some of its videos, or leave its rows out."
                    )
        known |= taught
    for name in (name for pair in config.evaluation.pairs for name in pair):
        if name not in known:
            raise ConfigError(
                f"evaluation.pairs names '{name}', which is no class of the training rows."
                f"{did_you_mean(name, sorted(known))} The classes are: {', '.join(sorted(known))}."
            )


def _train_and_measure(
    config: Config,
    data: RunData,
    known: KnownRows,
    context: DistributedContext,
    folder: Path,
    log: Log,
    initial: Checkpoint | None,
) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """Train the model of a run and measure it on the test split: the model, and a row for each order and head."""
    with Tracker(
        folder,
        config.model_dump(mode="json"),
        mode=config.tracking.wandb,
        project=config.tracking.project,
        name=config.tracking.name,
        tags=config.tracking.tags,
        from_step=saved_step(folder),
        log=log,
        is_active=context.is_first,
    ) as tracker:
        checkpoint, progress = _train_model(config, data, known, context, folder, tracker, log, initial)
        rows = evaluate_test_split(config, data, checkpoint, context.device, name=config.core.cell, processes=context)
        for row in rows:
            tracker.log({"step": progress.step, "epoch": progress.epoch, "split": split_name(row), **_scalars(row)})
        if context.is_first and rows:
            for row in rows:
                if row["order"] == "forward" and "confusion" in row:
                    tracker.log_confusion(checkpoint.vocabularies[row["head"]].names, row["confusion"])
            if config.tracking.upload_model:
                tracker.log_artifact(folder / "model", f"{folder.name}-model")
    return checkpoint, rows


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    """The head and the numbers of a row of the table, for metrics.jsonl."""
    return {"head": row["head"], **{key: value for key, value in row.items() if isinstance(value, int | float)}}


def _train_model(
    config: Config,
    data: RunData,
    known: KnownRows,
    context: DistributedContext,
    folder: Path,
    tracker: Tracker,
    log: Log,
    initial: Checkpoint | None = None,
    *,
    is_baseline: bool = False,
) -> tuple[Checkpoint, Progress]:
    """Build a model, train it, calibrate it and save it in folder/model.

    known: the rows that calibrate it. initial: a model whose weights it takes. is_baseline: its calibration is not
    checked on left-out classes, and no more models are trained for its temperature.
    """
    vocabularies, model, progress = _fit_model(config, data, context, folder, tracker, log, initial)
    fold_folder = folder / "calibration"

    def train_fold(fold_data: RunData, fold: int) -> Model:
        with _quiet_tracker(fold_folder / str(fold), context) as fold_tracker:
            return _fit_model(config, fold_data, context, fold_folder / str(fold), fold_tracker, _no_log)[1].eval()

    held_out = partial(held_out_results, config, data, known, model, context, train_fold, log)
    calibrations = calibrate(
        model,
        data.source,
        known,
        batch_size=config.training.batch_size,
        device=context.device,
        with_strangers=not is_baseline,
        held_out=(lambda: ({}, "baselines have none")) if is_baseline else held_out,
        processes=context,
    )
    for calibration in calibrations.values():
        for sentence in calibration.sentences():
            log(sentence)
    notes = {
        "steps": progress.step,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch + 1 if data.rows("val") else None,
        "monitor": str(monitor_of({name: model.head(name) for name in model.heads}, config.training.monitor)),
        "seed": config.training.seed,
        "data": data.manifest.fingerprint,
        "majority_classes": majority_classes(data.rows("train"), list(config.heads)),
        "calibration": {name: calibration.to_dict() for name, calibration in calibrations.items()},
    }
    record = record_of_run(config, data.manifest, initial)
    checkpoint = Checkpoint(model.eval(), config.architecture, vocabularies, data.input_size, notes, record)
    if context.is_first:
        save_model(folder / "model", checkpoint)
    return checkpoint, progress


def _fit_model(
    config: Config,
    data: RunData,
    context: DistributedContext,
    folder: Path,
    tracker: Tracker,
    log: Log,
    initial: Checkpoint | None = None,
) -> tuple[dict[str, Vocabulary | Tokenizer], Model, Progress]:
    """Build a model and train it on the training rows. The folder holds its state; nothing else is written."""
    vocabularies, model = _build_model(config, data, initial, log)
    train_set = split_dataset(config, data, model, "train", is_training=True)
    validation_set = split_dataset(config, data, model, "val") if data.rows("val") else None
    _fit_statistics(model, train_set)
    if (step := saved_step(folder)) is not None:
        log(f"resuming from step {step}")
    content = content_of_run(config, data.manifest, record_of_run(config, data.manifest, initial))
    session = Session(model.to(context.device), config.training, context, tracker, log, content=content)
    return vocabularies, model, fit(session, train_set, validation_set, config.data.workers)


def _quiet_tracker(folder: Path, context: DistributedContext) -> Tracker:
    """The tracker of a model beside that of the run: metrics.jsonl in its own folder, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    return Tracker(
        folder,
        {},
        mode="off",
        project="-",
        name=None,
        tags=(),
        from_step=saved_step(folder),
        log=_no_log,
        is_active=context.is_first,
    )


def _build_model(
    config: Config, data: RunData, initial: Checkpoint | None, log: Log
) -> tuple[dict[str, Vocabulary | Tokenizer], Model]:
    """The vocabularies of the training rows, and a model with weights of `initial` where they fit."""
    train_rows = data.rows("train")
    counts = {
        name: Counter(label for row in train_rows for label in head.taught_labels(row))
        for name, head in config.heads.items()
    }
    vocabularies = {name: build_vocabulary(head, train_rows, counts[name]) for name, head in config.heads.items()}
    if data.tokenizer is not None:
        vocabularies[TOKENS] = data.tokenizer
    if initial is not None:
        for name, vocabulary in initial.vocabularies.items():
            if _covers(vocabulary, vocabularies.get(name)):
                vocabularies[name] = vocabulary
    seed_step(config.training.seed, -1, 0)  # every rank starts with equal weights
    model = config.architecture.build(vocabularies, input_size=data.input_size, counts=counts)
    if initial is not None:
        _load_fitting_weights(model, initial, log)
    for head in map(model.head, model.heads):
        if isinstance(head, FitsRows):
            head.fit_rows(train_rows)
    return vocabularies, model


def tokenizer_of(checkpoint: Checkpoint | None) -> Tokenizer | None:
    """The tokenizer of a model of texts, or None."""
    vocabulary = checkpoint.vocabularies.get(TOKENS) if checkpoint else None
    return vocabulary if isinstance(vocabulary, Tokenizer) else None


def _covers(trained: Vocabulary | Tokenizer, needed: Vocabulary | Tokenizer | None) -> bool:
    """Whether a trained head's vocabulary can be kept: it has all classes that are needed, or both are tokenizers."""
    if isinstance(trained, Tokenizer) or not isinstance(needed, Vocabulary):
        return isinstance(trained, Tokenizer) and isinstance(needed, Tokenizer)
    return set(needed.names) <= set(trained.names)


def _load_fitting_weights(model: Model, initial: Checkpoint, log: Log) -> None:
    """Copy the weights of a trained model that have the same name and shape; log the modules that have others."""
    weights, trained = model.state_dict(), initial.model.state_dict()
    fitting = {key: trained[key] for key in weights if key in trained and trained[key].shape == weights[key].shape}
    model.load_state_dict(fitting, strict=False)
    fresh = sorted({".".join(key.split(".")[:2]) for key in weights if key not in fitting})
    log(f"starting from trained weights; initialised randomly: {', '.join(fresh) or 'nothing'}")


def _fit_statistics(model: Model, train_set: RowDataset) -> None:
    """Fit the statistics that the encoder and the heads take from all training sequences (means, deviations, PCA)."""
    encoder = model.encoder
    modules: list[FitsSequences] = [head for head in map(model.head, model.heads) if isinstance(head, FitsSequences)]
    if isinstance(encoder, FittedEncoder) and encoder.is_fitted_on_training:
        if train_set.source.reads_pixels:
            raise ConfigError("encoder.normalise = fitted needs stored features, and this run reads pixels. Use layer.")
        modules.append(encoder)
    for module in modules:
        rows = zip(train_set.rows, train_set.full_lengths, strict=True)
        module.fit_sequences(train_set.source.read(row, 0, length)[0] for row, length in rows)


def _train_baselines(
    config: Config, data: RunData, known: KnownRows, context: DistributedContext, folder: Path, log: Log
) -> list[dict[str, Any]]:
    """Train the baselines of a run and measure them; one row of the table for each baseline and head."""
    rows = []
    for name, baseline in baseline_configs(config, log).items():
        log(f"baseline: {name}")
        baseline_folder = folder / "baselines" / name.replace(" ", "_")
        with _quiet_tracker(baseline_folder, context) as tracker:
            checkpoint, _ = _train_model(
                baseline, data, known, context, baseline_folder, tracker, _no_log, is_baseline=True
            )
        measured = evaluate_test_split(baseline, data, checkpoint, context.device, name=name, processes=context)
        rows += [row for row in measured if row["order"] == "forward"]
    return rows


def training_threads(config: Config) -> int:
    """CPU threads of a run: as the config says, else one where the CNN is frozen, and all (0) where pixels are read."""
    if config.training.threads:
        return config.training.threads
    reads_pixels = config.encoder.kind == "frames" and (config.encoder.train_blocks > 0 or config.data.read == "pixels")
    return 0 if reads_pixels else 1
