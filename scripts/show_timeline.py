"""Proofs that the segment head says what happens when: long made videos, and real clips joined end to end.

In: the folder of real data. Out: tables on stdout and (figure, whether the bar holds). Not part of the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proof
from show_recognise import Answer

WITHOUT = ["heads.timeline.crf=false", "heads.timeline.minimum_seconds=0"]
ONLINE = ["core.bidirectional=false", "heads.timeline.delay_seconds=0.5"]  # of the second that a stream may lag
MODELS: dict[str, list[str]] = {
    "bidirectional, CRF": [],
    "bidirectional, no CRF": WITHOUT,
    "causal, CRF": ONLINE,
    "causal, no CRF": [*ONLINE, *WITHOUT],
}
COLUMNS = ("frame_accuracy", "frame_accuracy_all", "edit", "f1_10", "f1_25", "f1_50", "per_frame_map")


def mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Over rows of several seeds or folds, weighted by their videos."""
    return sum(r[key] * r["count"] for r in rows) / sum(r["count"] for r in rows)


def show(title: str, found: dict[str, list[dict[str, Any]]], note: str) -> None:
    """A line for each model and way of reading its labels."""
    print(f"\n{title}\n{'':<44}" + "".join(f"{c.replace('_', ' '):>20}" for c in COLUMNS))
    for name, rows in found.items():
        for prefix, way in (("", "best path"), ("argmax_", "each look alone"), ("lag_", "settled after its lag")):
            shown = [c for c in COLUMNS if f"{prefix}{c}" in rows[0]]
            if not shown or (way == "best path" and name.endswith("no CRF")):
                continue
            if way == "settled after its lag" and name.endswith("no CRF"):
                continue  # each look alone is settled as soon as its delay is over
            cells = "".join(f"{mean(rows, prefix + c):>20.3f}" if c in shown else f"{'':>20}" for c in COLUMNS)
            print(f"  {f'{name}: {way}':<42}{cells}")
    print(f"  {note}", flush=True)


def timeline(data: Path, seeds: int) -> Answer:
    """Puppets full, long videos of unseen actors: offline from both sides, online with a second of lag."""
    work = proof.fresh("timeline")
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    common = [f"data.path={work}/puppets/long.jsonl", f"data.features={work}/features", "evaluation.orders=false"]
    proof.unreel("extract", proof.REPOSITORY / "configs/puppets/timeline.yaml", *common[:2])
    jobs = [
        [
            *common,
            *changes,
            f"training.seed={seed}",
            f"run={work}/{_slug(name)}_{seed}",
            f"evaluation.baselines={'true' if (seed, changes) == (0, []) else 'false'}",
        ]
        for name, changes in MODELS.items()
        for seed in range(seeds)
    ]
    reports = proof.train_all("puppets/timeline.yaml", jobs)
    found = {name: [proof.pick(r) for r in reports[i * seeds : (i + 1) * seeds]] for i, name in enumerate(MODELS)}
    found |= {f"{row['model']}, no CRF": [row] for row in reports[0]["rows"][1:]}
    note = (
        f"mean of {seeds} seeds (baselines one); background left out but in 'frame accuracy all'; split by actor; "
        f"lag 1 s, of it 0.5 s in the causal core; videos that could not be read: {proof.failed_count(reports)}"
    )
    show("puppets full, long videos, actors never seen", found, note)
    both, online = found["bidirectional, CRF"], found["causal, CRF"]
    offline_f1, online_f1 = mean(both, "f1_50"), mean(online, "lag_f1_50")
    gains = [mean(rows, "f1_50") - mean(found[name.replace("CRF", "no CRF")], "argmax_f1_50") for name, rows in
             (("bidirectional, CRF", both), ("causal, CRF", online))]  # fmt: skip
    print(
        f"\nthe CRF's gain in F1@50 over a model trained and read without it: {gains[0]:+.3f} bidirectional, {gains[1]:+.3f} causal"
    )
    figure = f"F1@50 {offline_f1:.3f} offline, {online_f1:.3f} at one second of lag"
    return figure, offline_f1 >= 0.90 and online_f1 >= 0.80


def timeline_real(data: Path, seeds: int) -> Answer:
    """yoga6: the clips of each person joined end to end in four orders; four folds by person."""
    work = proof.fresh("timeline-real")
    proof.prepare_dataset("yoga6", "--folder", data / "yoga6", "--joined", work / "joined")
    common = [f"data.path={work}/joined/joined.jsonl", f"data.features={work}/features", "evaluation.orders=false"]
    proof.unreel("extract", proof.REPOSITORY / "configs/yoga6/timeline.yaml", *common[:2])
    common += ["evaluation.baselines=false"]
    jobs = [
        [*common, *changes, f"data.fold={fold}", f"training.seed={seed}", f"run={work}/{_slug(name)}_{seed}_{fold}"]
        for name, changes in MODELS.items()
        for seed in range(seeds)
        for fold in range(4)
    ]
    reports = proof.train_all("yoga6/timeline.yaml", jobs)
    each = 4 * seeds
    found = {name: [proof.pick(r) for r in reports[i * each : (i + 1) * each]] for i, name in enumerate(MODELS)}
    found |= per_look_baseline(work, common)
    note = (
        f"4 folds by person, {seeds} seeds; poses tile the videos, so nothing is background; lag 1 s; "
        f"videos that could not be read: {proof.failed_count(reports)}"
    )
    show("yoga6, each held-out person's clips joined end to end, 4 orders", found, note)
    with_crf = mean(found["bidirectional, CRF"], "f1_50")
    without = mean(found["bidirectional, no CRF"], "argmax_f1_50")
    figure = f"F1@50 {with_crf:.3f} with the CRF, {without:.3f} by argmax without it"
    return figure, with_crf >= 0.80 and with_crf > without


def per_look_baseline(work: Path, common: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The mean-pool core in the same place: blind to order, here the running mean of all looks so far."""
    blind = [
        "core.cell=mean",
        "core.layers=0",
        "core.bidirectional=false",
        "encoder.project=0",
        *WITHOUT,
    ]
    jobs = [[*common, *blind, f"data.fold={fold}", f"run={work}/mean_{fold}"] for fold in range(4)]
    return {"mean-pool linear, no CRF": [proof.pick(r) for r in proof.train_all("yoga6/timeline.yaml", jobs)]}


def _slug(name: str) -> str:
    """A name as a folder's."""
    return name.replace(", ", "_").replace(" ", "_")
