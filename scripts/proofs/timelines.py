"""Promises about the segment head: generated long videos, and real clips joined end to end.

In: the folder of real data. Out: printed tables and (result as text, whether the bar holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proof_tools
from recognition import Result

WITHOUT_CRF = ["heads.timeline.crf=false", "heads.timeline.min_seconds=0"]
CAUSAL = ["core.bidirectional=false", "heads.timeline.delay_seconds=0.5"]  # of the one second of lag
OFFLINE, ONLINE = "bidirectional, CRF", "causal, CRF"
MODELS: dict[str, list[str]] = {
    OFFLINE: [],
    "bidirectional, no CRF": WITHOUT_CRF,
    ONLINE: CAUSAL,
    "causal, no CRF": [*CAUSAL, *WITHOUT_CRF],
}
COLUMNS = ("frame_accuracy", "frame_accuracy_all", "edit", "f1_10", "f1_25", "f1_50", "per_frame_map")
FOLDS = proof_tools.SIZE.pick(4, 2)


def weighted_mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Over rows of several seeds or folds, weighted by their number of videos."""
    return sum(row[key] * row["count"] for row in rows) / sum(row["count"] for row in rows)


def print_models(title: str, models: dict[str, list[dict[str, Any]]], note: str) -> None:
    """A line for each model and each way to get labels from it."""
    print(f"\n{title}\n{'':<52}" + "".join(f"{column.replace('_', ' '):>20}" for column in COLUMNS))
    for name, rows in models.items():
        # without a CRF the best path is the argmax, and so are the labels of a stream
        decodings = {"argmax_": "argmax of each look"}
        if not name.endswith("no CRF"):
            decodings = {"": "best path", **decodings, "lag_": "after the lag"}
        for prefix, decoding in decodings.items():
            columns = [column for column in COLUMNS if f"{prefix}{column}" in rows[0]]
            if columns:
                cells = (f"{weighted_mean(rows, prefix + c):.3f}" if c in columns else "" for c in COLUMNS)
                print(f"  {f'{name}: {decoding}':<50}" + "".join(f"{cell:>20}" for cell in cells))
    print(f"  {note}", flush=True)


def timeline(data: Path, seeds: int) -> Result:
    """Puppets full, long videos of unseen actors: offline from both directions, online with a second of lag."""
    work = proof_tools.fresh_folder("timeline")
    proof_tools.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    paths = [f"data.path={work}/puppets/long.jsonl", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs/puppets/timeline.yaml", *paths)
    common = [*paths, "evaluation.order_controls=false"]
    jobs = [
        [
            *common,
            *settings,
            f"training.seed={seed}",
            f"run={work}/{_folder_name(name)}_{seed}",
            f"evaluation.baselines={'true' if (seed, name) == (0, OFFLINE) else 'false'}",
        ]
        for name, settings in MODELS.items()
        for seed in range(seeds)
    ]
    reports = proof_tools.train_all("puppets/timeline.yaml", jobs)
    models = _by_model(reports, seeds)
    models |= {f"{row['model']}, no CRF": [row] for row in reports[0]["rows"][1:]}
    note = (
        f"mean of {seeds} seeds (baselines one); background left out but in 'frame accuracy all'; split by actor; "
        f"lag 1 s, of it 0.5 s in the causal core; unreadable videos: {proof_tools.count_failed(reports)}"
    )
    print_models("puppets full, long videos, unseen actors", models, note)
    gains = {
        name: weighted_mean(models[name], "f1_50")
        - weighted_mean(models[name.replace("CRF", "no CRF")], "argmax_f1_50")
        for name in (OFFLINE, ONLINE)
    }
    print(
        f"\ngain of the CRF in F1@50 over a model trained without it: {gains[OFFLINE]:+.3f} bidirectional, "
        f"{gains[ONLINE]:+.3f} causal"
    )
    offline, online = weighted_mean(models[OFFLINE], "f1_50"), weighted_mean(models[ONLINE], "lag_f1_50")
    return f"F1@50 {offline:.3f} offline, {online:.3f} at one second of lag", offline >= 0.90 and online >= 0.80


def timeline_real(data: Path, seeds: int) -> Result:
    """yoga6: the clips of each person joined end to end in four orders; four folds by person."""
    work = proof_tools.fresh_folder("timeline-real")
    orders = proof_tools.SIZE.pick("4", "1")
    proof_tools.prepare_dataset("yoga6", "--folder", data / "yoga6", "--joined", work / "joined", "--orders", orders)
    paths = [f"data.path={work}/joined/joined.jsonl", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs/yoga6/timeline.yaml", *paths)
    common = [*paths, "evaluation.order_controls=false", "evaluation.baselines=false"]
    jobs = [
        [
            *common,
            *settings,
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"run={work}/{_folder_name(name)}_{seed}_{fold}",
        ]
        for name, settings in MODELS.items()
        for seed in range(seeds)
        for fold in range(FOLDS)
    ]
    reports = proof_tools.train_all("yoga6/timeline.yaml", jobs)
    models = _by_model(reports, FOLDS * seeds)
    models["mean-pool linear, no CRF"] = mean_pool_rows(work, common)
    note = (
        f"{FOLDS} folds by person, {seeds} seeds; poses tile the videos, so there is no background; lag 1 s; "
        f"unreadable videos: {proof_tools.count_failed(reports)}"
    )
    print_models("yoga6, the clips of each held-out person joined end to end, 4 orders", models, note)
    with_crf = weighted_mean(models[OFFLINE], "f1_50")
    without_crf = weighted_mean(models["bidirectional, no CRF"], "argmax_f1_50")
    result = f"F1@50 {with_crf:.3f} with the CRF, {without_crf:.3f} by argmax without it"
    return result, with_crf >= 0.80 and with_crf > without_crf


def mean_pool_rows(work: Path, common: Sequence[str]) -> list[dict[str, Any]]:
    """Train the mean-pool core, a mean of all looks so far, in place of the recurrent one, for each fold."""
    mean_core = ["core.cell=mean", "core.layers=0", "core.bidirectional=false", "encoder.project=0", *WITHOUT_CRF]
    jobs = [[*common, *mean_core, f"data.fold={fold}", f"run={work}/mean_{fold}"] for fold in range(FOLDS)]
    return [proof_tools.report_row(report) for report in proof_tools.train_all("yoga6/timeline.yaml", jobs)]


def _by_model(reports: Sequence[dict[str, Any]], runs: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of each of MODELS, which were trained `runs` times each, one model after another."""
    rows = [proof_tools.report_row(report) for report in reports]
    return {name: rows[i * runs : (i + 1) * runs] for i, name in enumerate(MODELS)}


def _folder_name(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")
