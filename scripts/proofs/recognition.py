"""Promises about accuracy: yoga6, real-order, ucf101, puppets-order, own-folder, finetune.

Each function starts from the beginning, prints its table and returns (result as text, whether the bar holds).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
from proof_tools import count_failed, pooled_accuracy, print_table, report_row

Result = tuple[str, bool]
Report = dict[str, Any]
MEAN_POOL = ("mean-pool linear", "mean-pool MLP")
ORDERS = ("reversed", "shuffled")
FOLDS = proof_tools.SIZE.pick(4, 2)


def yoga6(data: Path, seeds: int) -> Result:
    """4 folds by person: accuracy over all 97 clips, and the time of one seed."""
    work, watch = proof_tools.fresh_folder("yoga6"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    common = [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs/yoga6/action.yaml", *common)

    def train_folds(seed: int, baselines: bool) -> list[Report]:
        settings = [
            [
                *common,
                f"data.fold={fold}",
                f"training.seed={seed}",
                f"run={work}/seed{seed}_fold{fold}_{baselines}",
                f"evaluation.baselines={baselines}",
                "evaluation.order_controls=true",
            ]
            for fold in range(FOLDS)
        ]
        return proof_tools.train_all("yoga6/action.yaml", settings)

    reports = [train_folds(0, False)]
    one_seed = watch.seconds
    reports += [train_folds(seed, False) for seed in range(1, seeds)]
    baselines = train_folds(0, True)
    accuracies = [pooled_accuracy(folds) for folds in reports]
    failed = count_failed(reports[0])
    print_table(
        "yoga6, accuracy over the 97 clips, 4 folds by person",
        [
            ("gru", accuracies),
            *((f"gru, steps {o}", [pooled_accuracy(folds, order=o) for folds in reports]) for o in ORDERS),
            *((name, [pooled_accuracy(baselines, name)]) for name in MEAN_POOL),
        ],
        f"videos that could not be read: {failed}; one seed (extract and 4 trainings): {one_seed:.0f} s",
    )
    mean = float(np.mean(accuracies))
    return f"accuracy {mean:.4f} (bar 0.97), one seed in {one_seed:.0f} s (bar 180 s)", mean >= 0.97 and one_seed < 180


def real_order(data: Path, seeds: int) -> Result:
    """Every clip forwards and backwards: class x direction, 12 labels."""
    work = proof_tools.fresh_folder("real-order")
    num_failed = _write_both_directions(data, work)
    reports = []
    for seed in range(seeds):
        settings = [
            [
                f"data.path={work}/manifest.jsonl",
                f"data.fold={fold}",
                f"training.seed={seed}",
                f"run={work}/seed{seed}_fold{fold}",
                f"evaluation.baselines={seed == 0}",
            ]
            for fold in range(FOLDS)
        ]
        reports.append(proof_tools.train_all("yoga6/direction.yaml", settings))
    accuracies = [pooled_accuracy(folds) for folds in reports]
    mean_pool = {name: pooled_accuracy(reports[0], name) for name in MEAN_POOL}
    print_table(
        "yoga6, class x direction (12 labels), accuracy over 194 sequences, 4 folds by person",
        [
            ("gru", accuracies),
            *((f"gru, steps {o}", [pooled_accuracy(folds, order=o) for folds in reports]) for o in ORDERS),
            *((name, [accuracy]) for name, accuracy in mean_pool.items()),
        ],
        f"videos that could not be read: {num_failed}; a mean cannot exceed 0.500 by construction",
    )
    mean, best_mean_pool = float(np.mean(accuracies)), max(mean_pool.values())
    return (
        f"accuracy {mean:.4f} (bar 0.75), best mean-pool {best_mean_pool:.3f} (cannot exceed 0.50)",
        mean >= 0.75 and best_mean_pool <= 0.5,
    )


def _write_both_directions(data: Path, work: Path) -> int:
    """Write the features of each clip of yoga6 forwards and backwards, with a manifest. Returns how many clips failed.

    The looks of both directions are the same, so only their order separates them.
    """
    import torch

    from pipeline.commands.prepare_data import prepare
    from pipeline.training.distributed import DistributedContext

    proof_tools.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    config = proof_tools.load_proof_config(
        "yoga6/action.yaml",
        [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.feature_store={work}/features"],
    )
    prepared = prepare(config, DistributedContext(torch.device("cpu")), print)
    rows = []
    for row in prepared.manifest.rows:
        features, _ = prepared.source.read(row, 0, prepared.source.length(row))
        for direction, values in (("forward", features), ("backward", features.flip(0))):
            name = f"{Path(row.path).stem}_{direction}.npy"
            np.save(work / name, values.numpy())
            rows.append(json.dumps({"path": name, "label": f"{row.label}/{direction}", "group": row.group}))
    (work / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    return len(prepared.failed)


def ucf101(data: Path, seeds: int) -> Result:
    """Stored VGG16 features, official split 1."""
    work = proof_tools.fresh_folder("ucf101")
    proof_tools.prepare_dataset("ucf101_vgg16", "--folder", data / "ucf101_vgg16", "--out", work / "set")
    settings = [
        [f"data.path={work}/set/manifest.jsonl", f"training.seed={seed}", f"run={work}/seed{seed}"]
        for seed in range(seeds)
    ]
    reports = proof_tools.train_all("ucf101_vgg16/action.yaml", settings)
    accuracies = [report_row(report)["accuracy"] for report in reports]
    print_table(
        "ucf101_vgg16, 14 classes, official split 1, accuracy over 524 test clips",
        [
            ("gru", accuracies),
            *((f"gru, steps {o}", [report_row(report, order=o)["accuracy"] for report in reports]) for o in ORDERS),
            *((name, [report_row(report, name)["accuracy"] for report in reports]) for name in MEAN_POOL),
        ],
        "stored features: no video can fail; order has no information here (FIELD), so shuffling should change nothing",
    )
    mean = float(np.mean(accuracies))
    return f"accuracy {mean:.4f} (bar 0.94)", mean >= 0.94


def puppets_order(data: Path, seeds: int) -> Result:
    """Puppets full, unseen actors: which action of a pair."""
    work = proof_tools.kept_folder("puppets-order")  # it can be resumed: the videos and finished runs are kept
    work.mkdir(parents=True, exist_ok=True)
    watch = proof_tools.Stopwatch()
    proof_tools.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    common = [f"data.path={work}/puppets/clips.jsonl", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs/puppets/action.yaml", *common)
    print(f"videos drawn and features extracted in {watch.seconds:.0f} s", flush=True)
    settings = [
        [
            *common,
            f"core.cell={cell}",
            "training.epochs=20",  # seven times the clips of small, so fewer epochs
            f"training.seed={seed}",
            f"run={work}/{cell}_seed{seed}",
            f"evaluation.baselines={cell == 'gru'}",
        ]
        for seed in range(seeds)
        for cell in ("gru", "lstm")
    ]
    reports = proof_tools.train_all("puppets/action.yaml", settings)
    grus, lstms = reports[::2], reports[1::2]
    table: list[tuple[str, list[dict[str, Any]]]] = [
        ("gru", [report_row(report) for report in grus]),
        ("lstm", [report_row(report) for report in lstms]),
        *((f"gru, steps {o}", [report_row(report, order=o) for report in grus]) for o in ORDERS),
        *((f"lstm, steps {o}", [report_row(report, order=o) for report in lstms]) for o in ORDERS),
        *((name, [report_row(report, name) for report in grus]) for name in MEAN_POOL),
    ]
    num_clips = table[0][1][0]["count"]
    note = f"videos that could not be read: {count_failed(reports)}; {num_clips} test clips of unseen actors"
    pairs = [(name, [row["paired_accuracy"] for row in rows]) for name, rows in table]
    print_table("puppets full: within the pairs (two-way, chance 0.500)", pairs, note)
    actions = [(name, [row["accuracy"] for row in rows]) for name, rows in table]
    print_table("puppets full: all 14 actions", actions, note)
    paired = {name: float(np.mean(accuracies)) for name, accuracies in pairs}
    mean_pool = max(paired[name] for name in MEAN_POOL)
    return (
        f"within pairs: gru {paired['gru']:.3f}, lstm {paired['lstm']:.3f} (bar 0.95), mean-pool {mean_pool:.3f} (bar "
        "at "
        f"most 0.60); {watch.seconds:.0f} s"
    ), min(paired["gru"], paired["lstm"]) >= 0.95 and mean_pool <= 0.60


def own_folder(data: Path, seeds: int) -> Result:
    """A folder of class folders -> a model that predicts, by one command."""
    work = proof_tools.fresh_folder("own-folder")
    outputs = ["--out", work / "unused.jsonl", "--as-class-folders", work / "yoga"]
    proof_tools.prepare_dataset("yoga6", "--folder", data / "yoga6", *outputs)
    environment = {**os.environ, "PYTHONPATH": str(proof_tools.REPOSITORY)}
    watch = proof_tools.Stopwatch()
    result = proof_tools.unreel("train", "yoga", cwd=work, env=environment)
    seconds = watch.seconds
    print(result.stderr, result.stdout, sep="\n")
    clips = sorted((work / "yoga").glob("*/*.mp4"))[::10]
    names = [clip.relative_to(work) for clip in clips]
    proof_tools.unreel("predict", *names, "--model", "runs/yoga", "--out", "answers", cwd=work, env=environment)
    rows = [json.loads(line) for line in (work / "answers/predictions.jsonl").read_text().splitlines()]
    correct = sum(row["action"]["label"] == clip.parent.name for row, clip in zip(rows, clips, strict=True))
    print(
        f"predictions: {correct} of {len(rows)} clips correct (most of them were in training, so this only shows that "
        "it "
        "works)"
    )
    return f"one command, {seconds:.0f} s (bar 90 s)", seconds < 90 and correct >= 0.8 * len(rows)


def finetune(data: Path, seeds: int) -> Result:
    """Stored features against pixels: equal while the CNN is frozen. Then the gain from fine-tuning its last block."""
    work = proof_tools.fresh_folder("finetune")
    for size in ("tiny", "small"):
        proof_tools.prepare_dataset("puppets", "--size", size, "--out", work / size)
    difference, is_equal = _compare_features_and_pixels(work)
    common = [f"data.path={work}/small/clips.jsonl", f"data.feature_store={work}/features"]
    watch = proof_tools.Stopwatch()
    tuned = proof_tools.train_all("puppets/finetune.yaml", [[*common, f"run={work}/tuned"]], processes=1)[0]
    seconds = watch.seconds
    frozen_cnn = ["encoder.train_blocks=0", "data.read=auto"]
    settings = [*common, *frozen_cnn, f"run={work}/frozen"]
    frozen = proof_tools.train_all("puppets/finetune.yaml", [settings], processes=1)[0]
    watch = proof_tools.Stopwatch()
    settings = [*common, *frozen_cnn, "training.epochs=60", "evaluation.baselines=false", f"run={work}/frozen_long"]
    longer = proof_tools.train_all("puppets/finetune.yaml", [settings], processes=1)[0]
    models = [("last block fine-tuned", tuned), ("frozen features", frozen)]
    models.append((f"frozen features, 60 epochs ({watch.seconds:.0f} s)", longer))
    for key in ("accuracy", "paired_accuracy"):
        rows = [(name, [report_row(report)[key]]) for name, report in models]
        print_table(
            f"puppets small, unseen actors, same epochs, batches and schedule: {key.replace('_', ' ')}",
            rows + [(name, [report_row(frozen, name)[key]]) for name in MEAN_POOL],
            f"seed 0; videos that could not be read: {count_failed([tuned, frozen])}; fine-tuning took {seconds:.0f} s",
        )
    accuracies = f"fine-tuned {report_row(tuned)['accuracy']:.3f}, frozen {report_row(frozen)['accuracy']:.3f}"
    return f"features and pixels differ by {difference:.1e} (bar 1e-4); {accuracies}", is_equal


def _compare_features_and_pixels(work: Path) -> tuple[float, bool]:
    """Train with a frozen CNN from stored features and from pixels.

    Returns the largest difference of a logged loss, and whether losses and confusion matrices are equal.
    """
    common = [
        f"data.path={work}/tiny/clips.jsonl",
        f"data.feature_store={work}/features",
        "training.epochs=5",
        "training.batch_size=4",
        "training.log_every=1",
        "training.threads=1",  # the last bits of the CNN's output depend on the number of threads
        "encoder.runtime=torch",
        "encoder.train_blocks=0",
        "evaluation.baselines=false",
        "evaluation.order_controls=false",
        "training.augment.colour=0",
        "training.augment.crop=1",
    ]
    inputs = ("features", "pixels")
    settings = [[*common, f"data.read={read}", f"run={work}/equal_{read}"] for read in inputs]
    from_features, from_pixels = proof_tools.train_all("puppets/finetune.yaml", settings)
    losses = [
        [row["loss"] for row in proof_tools.read_json_lines(work / f"equal_{read}/metrics.jsonl") if "loss" in row]
        for read in inputs
    ]
    difference = max(abs(a - b) for a, b in zip(*losses, strict=True))
    has_equal_confusion = report_row(from_features)["confusion"] == report_row(from_pixels)["confusion"]
    print(
        f"frozen CNN, puppets tiny, 5 epochs from features and from pixels: largest difference of a logged loss "
        f"{difference:.1e}, confusion matrices {'equal' if has_equal_confusion else 'DIFFER'}",
        flush=True,
    )
    return difference, difference < 1e-4 and has_equal_confusion
