"""The rows that a run's calibration holds out, the models that are trained without them, and what is not calibrated.

In: the data of a run, and a function that trains a model. Out: groups, and results of training rows from models that
have not seen them. Knows nothing of temperatures or thresholds; `evaluation.calibrate` fits them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.commands.prepare_data import Log
from pipeline.config.run import Config
from pipeline.data.copies import equal_files
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Manifest
from pipeline.data.near_duplicates import near_duplicates
from pipeline.data.run_data import RunData
from pipeline.data.split import fold_numbers, join_copies
from pipeline.evaluation.calibrate import HeldOut, KnownRows
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.evaluation.held_out import why_no_holding_out
from pipeline.heads.classify import Classify, ClassifyResult
from pipeline.media.small_frames import small_frames
from pipeline.models.model import Model
from pipeline.training.distributed import DistributedContext

NUM_MODELS = 3
MAX_COMPARED = 2000
"""The most videos without a group that are compared; a further one counts as a group of its own."""
TrainFold = Callable[[RunData, int], Model]
"""(data whose rows of one fold are test rows, number of the fold) -> a model that was trained on the others."""


def known_rows(config: Config, data: RunData, log: Log) -> KnownRows:
    """The training and validation rows with their groups.

    Rows without a group share one where their files are equal or look alike. Only heads that classify need groups.
    """
    rows = [*data.rows("train"), *data.rows("val")]
    alone = [row for row in rows if row.group is None]
    grouped = rows
    if alone and any(head.kind == "classify" for head in config.heads.values()):
        alike = [*equal_files(data.manifest, rows)]
        if data.source.sense == "frames":
            log(f"calibration: comparing {min(len(alone), MAX_COMPARED)} videos without a group; those alike share one")
            alike += near_duplicates(alone[:MAX_COMPARED], data.manifest, small_frames)[0]
        grouped = join_copies(rows, alike)
    groups = [f"row {row.path}" if row.group is None else f"group {row.group}" for row in grouped]
    return KnownRows(rows, groups, not alone)


def held_out_results(
    config: Config,
    data: RunData,
    known: KnownRows,
    model: Model,
    context: DistributedContext,
    train_fold: TrainFold,
    log: Log,
) -> HeldOut:
    """Results of all training rows, each from one of three models that were trained without its group.

    model: that of the run; a fold whose model knows other classes is left out.
    """
    if not config.evaluation.cross_calibrate:
        return {}, "evaluation.cross_calibrate is false"
    if config.training.init_from is not None:
        return {}, "the model started from trained weights, which may have seen every row"
    pairs = [(row, group) for row, group in zip(known.rows, known.groups, strict=True) if row.split == "train"]
    rows, groups = [row for row, _ in pairs], [group for _, group in pairs]
    if reason := why_no_holding_out([row.label or "" for row in rows], groups):
        return {}, reason
    log(
        f"calibration: training {NUM_MODELS} more models, each without a third of the groups, for the temperature "
        "(evaluation.cross_calibrate=false leaves it out)"
    )
    numbers = fold_numbers([replace(row, group=group) for row, group in pairs], NUM_MODELS)
    heads = {name: head for name in model.heads if isinstance(head := model.head(name), Classify)}
    results: dict[str, list[ClassifyResult]] = {name: [] for name in heads}
    for fold in range(NUM_MODELS):
        split = [replace(row, split="test" if n == fold else "train") for row, n in zip(rows, numbers, strict=True)]
        fold_data = replace(data, manifest=Manifest(tuple(split), data.manifest.root))
        fold_model = train_fold(fold_data, fold)
        dataset = RowDataset(fold_data.rows("test"), data.source, {name: head.target for name, head in heads.items()})
        evaluation = evaluate_dataset(
            fold_model,
            dataset,
            batch_size=config.training.batch_size,
            device=context.device,
            has_loss=False,
            processes=context,
        )
        for name, head in heads.items():
            fold_head = fold_model.head(name)
            assert isinstance(fold_head, Classify)
            if fold_head.vocabulary == head.vocabulary:
                results[name] += evaluation.results[name]
    return results, ""
