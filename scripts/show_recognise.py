"""Promises about accuracy: yoga6, real-order, ucf101, puppets-order, own-folder, finetune.

Each function does the work afresh, prints its table and returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import proof
from proof import failed_count, pick, pooled, show_table

Answer = tuple[str, bool]
MEANS = ("mean-pool linear", "mean-pool MLP")


def yoga6(data: Path, seeds: int) -> Answer:
    """4 folds by person: accuracy over all 97 clips, and the time of one seed."""
    work, watch = proof.fresh("yoga6"), proof.Stopwatch()
    proof.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    common = [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.features={work}/features"]
    proof.unreel("extract", proof.REPOSITORY / "configs/yoga6/action.yaml", *common)

    def runs(seed: int, baselines: bool) -> list[dict[str, Any]]:
        return proof.train_all(
            "yoga6/action.yaml",
            [
                [
                    *common,
                    f"data.fold={fold}",
                    f"training.seed={seed}",
                    f"run={work}/seed{seed}_fold{fold}_{baselines}",
                    f"evaluation.baselines={baselines}",
                    "evaluation.orders=true",
                ]
                for fold in range(4)
            ],
        )

    reports = [runs(0, False)]
    one_seed = watch.seconds
    reports += [runs(seed, False) for seed in range(1, seeds)]
    base = runs(0, True)
    figures = [pooled(r) for r in reports]
    show_table(
        "yoga6, accuracy over the 97 clips, 4 folds by person",
        [
            ("gru", figures),
            ("gru, steps reversed", [pooled(r, order="reversed") for r in reports]),
            ("gru, steps shuffled", [pooled(r, order="shuffled") for r in reports]),
            *((name, [pooled(base, name)]) for name in MEANS),
        ],
        f"videos that could not be read: {failed_count(reports[0])}; one seed (extract and 4 trainings): {one_seed:.0f} s",
    )
    mean = float(np.mean(figures))
    return f"accuracy {mean:.4f} (bar 0.97), one seed in {one_seed:.0f} s (bar 180 s)", mean >= 0.97 and one_seed < 180


def real_order(data: Path, seeds: int) -> Answer:
    """Every clip forwards and backwards: class x direction, 12 labels."""
    from pipeline.config import load_config
    from pipeline.prepare import prepare
    from pipeline.training.runtime import Runtime

    work = proof.fresh("real-order")
    proof.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    config = load_config(
        proof.REPOSITORY / "configs/yoga6/action.yaml",
        [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.features={work}/features"],
    )
    import torch

    looked = prepare(config, Runtime(torch.device("cpu")), print)
    rows = []
    for row in looked.manifest.rows:  # the very same looks, last to first: nothing but the order tells the two apart
        values, _ = looked.source.read(row, 0, looked.source.length(row))
        for direction, seen in (("forward", values), ("backward", values.flip(0))):
            name = f"{Path(row.path).stem}_{direction}.npy"
            np.save(work / name, seen.numpy())
            rows.append(json.dumps({"path": name, "label": f"{row.label}/{direction}", "group": row.group}))
    (work / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    reports = [
        proof.train_all(
            "yoga6/direction.yaml",
            [
                [
                    f"data.path={work}/manifest.jsonl",
                    f"data.fold={fold}",
                    f"training.seed={seed}",
                    f"run={work}/seed{seed}_fold{fold}",
                    f"evaluation.baselines={seed == 0}",
                ]
                for fold in range(4)
            ],
        )
        for seed in range(seeds)
    ]
    figures = [pooled(r) for r in reports]
    means = [(name, [pooled(reports[0], name)]) for name in MEANS]
    show_table(
        "yoga6, class x direction (12 labels), accuracy over 194 sequences, 4 folds by person",
        [
            ("gru", figures),
            ("gru, steps reversed", [pooled(r, order="reversed") for r in reports]),
            ("gru, steps shuffled", [pooled(r, order="shuffled") for r in reports]),
            *means,
        ],
        f"videos that could not be read: {len(looked.failed)}; a mean cannot pass 0.500 by construction",
    )
    mean = float(np.mean(figures))
    return (
        f"accuracy {mean:.4f} (bar 0.75), best mean-pool {max(f[1][0] for f in means):.3f} (cannot pass 0.50)",
        mean >= 0.75 and all(f[1][0] <= 0.5 for f in means),
    )


def ucf101(data: Path, seeds: int) -> Answer:
    """Stored VGG16 features, official split 1."""
    work = proof.fresh("ucf101")
    proof.prepare_dataset("ucf101_vgg16", "--folder", data / "ucf101_vgg16", "--out", work / "set")
    reports = proof.train_all(
        "ucf101_vgg16/action.yaml",
        [
            [f"data.path={work}/set/manifest.jsonl", f"training.seed={seed}", f"run={work}/seed{seed}"]
            for seed in range(seeds)
        ],
    )
    figures = [pick(r)["accuracy"] for r in reports]
    show_table(
        "ucf101_vgg16, 14 classes, official split 1, accuracy over 524 test clips",
        [
            ("gru", figures),
            *((f"gru, steps {o}", [pick(r, order=o)["accuracy"] for r in reports]) for o in ("reversed", "shuffled")),
            *((name, [pick(r, name)["accuracy"] for r in reports]) for name in MEANS),
        ],
        "stored features: no video could fail; order carries nothing here (FIELD), so shuffling should change nothing",
    )
    mean = float(np.mean(figures))
    return f"accuracy {mean:.4f} (bar 0.94)", mean >= 0.94


def puppets_order(data: Path, seeds: int) -> Answer:
    """Puppets full, unseen actors: which of the two of a pair."""
    work = proof.WORK / "puppets-order"  # resumable: the drawn set and finished runs are kept
    work.mkdir(parents=True, exist_ok=True)
    watch = proof.Stopwatch()
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    common = [f"data.path={work}/puppets/clips.jsonl", f"data.features={work}/features"]
    proof.unreel("extract", proof.REPOSITORY / "configs/puppets/action.yaml", *common)
    print(f"drawn and looked at in {watch.seconds:.0f} s", flush=True)
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
    reports = proof.train_all("puppets/action.yaml", settings)
    grus, lstms = reports[::2], reports[1::2]
    table: list[tuple[str, list[dict[str, Any]]]] = [
        ("gru", [pick(r) for r in grus]),
        ("lstm", [pick(r) for r in lstms]),
        *((f"gru, steps {o}", [pick(r, order=o) for r in grus]) for o in ("reversed", "shuffled")),
        *((f"lstm, steps {o}", [pick(r, order=o) for r in lstms]) for o in ("reversed", "shuffled")),
        *((name, [pick(r, name) for r in grus]) for name in MEANS),
    ]
    note = (
        f"videos that could not be read: {failed_count(reports)}; {table[0][1][0]['count']} test clips of unseen actors"
    )
    show_table(
        "puppets full: within the pairs (two-way, chance 0.500)",
        [(name, [r["paired_accuracy"] for r in rows]) for name, rows in table],
        note,
    )
    show_table("puppets full: all 14 actions", [(name, [r["accuracy"] for r in rows]) for name, rows in table], note)
    paired = {name: float(np.mean([r["paired_accuracy"] for r in rows])) for name, rows in table}
    best_mean = max(paired[name] for name in MEANS)
    return (
        f"within pairs: gru {paired['gru']:.3f}, lstm {paired['lstm']:.3f} (bar 0.95), mean-pool {best_mean:.3f} (bar at most "
        f"0.60); {watch.seconds:.0f} s"
    ), min(paired["gru"], paired["lstm"]) >= 0.95 and best_mean <= 0.60


def own_folder(data: Path, seeds: int) -> Answer:
    """A folder of class folders -> a model that predicts, by one command."""
    work = proof.fresh("own-folder")
    proof.prepare_dataset(
        "yoga6", "--folder", data / "yoga6", "--out", work / "unused.jsonl", "--as-class-folders", work / "yoga"
    )
    watch = proof.Stopwatch()
    result = proof.unreel("train", "yoga", cwd=work, env=_here())
    seconds = watch.seconds
    print(result.stderr, result.stdout, sep="\n")
    clips = sorted((work / "yoga").glob("*/*.mp4"))[::10]
    proof.unreel(
        "predict",
        *(c.relative_to(work) for c in clips),
        "--model",
        "runs/yoga",
        "--out",
        "answers",
        cwd=work,
        env=_here(),
    )
    rows = [json.loads(line) for line in (work / "answers/predictions.jsonl").read_text().splitlines()]
    right = sum(row["action"]["label"] == clip.parent.name for row, clip in zip(rows, clips, strict=True))
    print(
        f"the model answers: {right} of {len(rows)} clips right (most of them were in training: this shows only that it works)"
    )
    return f"one command, {seconds:.0f} s (bar 90 s)", seconds < 90 and right >= 0.8 * len(rows)


def finetune(data: Path, seeds: int) -> Answer:
    """Frames road against features road: equal when the CNN is frozen; then what fine-tuning its last block buys."""
    work = proof.fresh("finetune")
    for size in ("tiny", "small"):
        proof.prepare_dataset("puppets", "--size", size, "--out", work / size)
    gap, equal = _both_roads(work)
    common = [f"data.path={work}/small/clips.jsonl", f"data.features={work}/features"]
    watch = proof.Stopwatch()
    tuned = proof.train_all("puppets/finetune.yaml", [[*common, f"run={work}/tuned"]], processes=1)[0]
    seconds = watch.seconds
    budget = ["encoder.train_blocks=0", "data.read=auto"]
    frozen = proof.train_all("puppets/finetune.yaml", [[*common, *budget, f"run={work}/frozen"]], processes=1)[0]
    watch = proof.Stopwatch()
    long = [*common, *budget, "training.epochs=60", "evaluation.baselines=false", f"run={work}/frozen_long"]
    longer = proof.train_all("puppets/finetune.yaml", [long], processes=1)[0]
    rows = [("last block fine-tuned", tuned), ("frozen features", frozen)]
    rows.append((f"frozen features, 60 epochs ({watch.seconds:.0f} s)", longer))
    for what in ("accuracy", "paired_accuracy"):
        show_table(
            f"puppets small, unseen actors, same epochs, batches and schedule: {what.replace('_', ' ')}",
            [(name, [pick(r)[what]]) for name, r in rows] + [(m, [pick(frozen, m)[what]]) for m in MEANS],
            f"seed 0; videos that could not be read: {failed_count([tuned, frozen])}; fine-tuning took {seconds:.0f} s",
        )
    return (
        f"roads differ by {gap:.1e} (bar 1e-4); fine-tuned {pick(tuned)['accuracy']:.3f}, frozen "
        f"{pick(frozen)['accuracy']:.3f}"
    ), equal


def _both_roads(work: Path) -> tuple[float, bool]:
    """Train with a frozen CNN from features and from frames: (largest difference of a logged loss, whether all is equal)."""
    same = [
        f"data.path={work}/tiny/clips.jsonl",
        f"data.features={work}/features",
        "training.epochs=5",
        "training.batch_size=4",
        "training.log_every=1",
        "training.threads=1",  # the CNN's last bits depend on how many threads compute it
        "encoder.runtime=torch",
        "evaluation.baselines=false",
        "evaluation.orders=false",
        "training.augment.colour=0",
        "training.augment.crop=1",
    ]
    by_features, by_frames = proof.train_all(
        "puppets/finetune.yaml",
        [
            [*same, "encoder.train_blocks=0", f"data.read={road}", f"run={work}/equal_{road}"]
            for road in ("features", "pixels")
        ],
    )
    losses = [
        [
            json.loads(line)["loss"]
            for line in (work / f"equal_{road}/metrics.jsonl").read_text().splitlines()
            if '"loss"' in line
        ]
        for road in ("features", "pixels")
    ]
    gap = max(abs(a - b) for a, b in zip(*losses, strict=True))
    equal = gap < 1e-4 and pick(by_features)["confusion"] == pick(by_frames)["confusion"]
    print(
        f"frozen CNN, puppets tiny, 5 epochs by each road: largest difference of any logged loss {gap:.1e}, "
        f"confusion matrices {'equal' if equal else 'DIFFER'}",
        flush=True,
    )
    return gap, equal


def _here() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(proof.REPOSITORY)}
