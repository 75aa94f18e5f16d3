"""What a trained model is worth, beside its baselines.

In: scores by row of the table. Out: one dictionary (report.json) and the same as text. Knows nothing of how the scores
came about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.whole import write_whole

_NUMBERS = (
    ("accuracy", "paired_accuracy", "mean_class_accuracy", "top5_accuracy", "step_accuracy"),
    ("span_f1", "argmax_span_f1"),
    (
        "f1_50",
        "f1_25",
        "f1_10",
        "edit",
        "frame_accuracy_all",
        "frame_accuracy",
        "argmax_f1_50",
        "lag_f1_50",
        "per_frame_map",
    ),
    ("cider_d", "bleu_4", "rouge_l", "bleu_1", "perplexity"),
    ("nats", "perplexity", "bits_per_character"),
    ("word_error_rate", "greedy_word_error_rate", "sentence_error_rate"),
    ("mse", "mae", "repeat_last_mse", "repeat_last_mae", "skill"),
)
"""What each kind of head is judged by; a table for each kind, of the heads that know its first number."""


def table(report: dict[str, Any]) -> str:
    """The report as tables: a line for each model and order of steps, what each head adds, then what it was measured on."""
    rows = report["rows"]
    heads = sorted({r["head"] for r in rows})
    lines: list[str] = []
    for numbers in _NUMBERS:
        mine = [r for r in rows if numbers[0] in r]
        if mine:
            lines += [*([""] if lines else []), *_table(mine, numbers, heads)]
    for row in rows:
        if row["order"] == "forward":
            lines += [f"{_name(row, heads)}: {text}" for text in _asides(row)]
    lines.append(
        f"split: {report['split']}   seed: {report['seed']}   videos that could not be read: {len(report['failed'])}"
    )
    return "\n".join(lines)


def _table(rows: Sequence[dict[str, Any]], numbers: Sequence[str], heads: Sequence[str]) -> list[str]:
    shown = [n for n in numbers if any(n in r for r in rows)]
    wide = max([len(_name(r, heads)) for r in rows] + [5])
    widths = {n: max(9, len(n) + 2) for n in shown}
    has_interval = any("interval" in r for r in rows)
    head = f"{'model':<{wide}}  {'steps':<9}" + "".join(f"{n.replace('_', ' '):>{widths[n]}}" for n in shown)
    lines = [head + f"{'clips':>7}" + (f"   95 % of {_watched(rows)}" if has_interval else "")]
    for r in rows:
        cells = "".join(f"{r[n]:>{widths[n]}.3f}" if n in r else f"{'':>{widths[n]}}" for n in shown)
        interval = f"   {r['interval'][0]:.3f} to {r['interval'][1]:.3f}" if "interval" in r else ""
        lines.append(f"{_name(r, heads):<{wide}}  {r['order']:<9}{cells}{r['count']:>7}{interval}")
    return lines


def _watched(rows: Sequence[dict[str, Any]]) -> str:
    return " or ".join(dict.fromkeys(r["watched"].replace("_", " ") for r in rows if "interval" in r))


def _asides(row: dict[str, Any]) -> list[str]:
    """What does not fit a column, a sentence each."""
    said = []
    if "background" in row:
        said.append(
            f"background {row['background']}"
            + (", counted in 'frame accuracy all'" if "frame_accuracy_all" in row else "")
        )
    if row.get("early"):
        curve = "  ".join(f"{fraction:.0%} {accuracy:.3f}" for fraction, accuracy in row["early"])
        said.append(f"after so much of each clip: {curve}; the answer is settled after {row['settled_share']:.0%}")
    if "ece" in row:
        scaled = f", {row['ece']:.3f} scaled" if row["ece"] != row["ece_unscaled"] else ""
        said.append(f"calibration error {row['ece_unscaled']:.3f} as trained{scaled}")
    if row.get("unknown"):
        found = row["unknown"]
        said.append(
            f"unknown: AUROC {_number(found['auroc'])} over {found['count']} clips of classes never learned "
            f"(energy {_number(found['auroc_energy'])}, max logit {_number(found['auroc_max_logit'])})"
        )
    return said


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def confusion_table(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as text, rows the truth; columns carry numbers instead of names."""
    wide = max(map(len, names)) + 4
    cell = max(4, max(len(str(v)) for row in matrix for v in row) + 1)
    lines = [" " * wide + "".join(f"{i:>{cell}}" for i in range(len(names)))]
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        lines.append(f"{f'{i:>2}  {name}':<{wide}}" + "".join(f"{v or '.':>{cell}}" for v in row))
    return "\n".join(lines)


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """report.json and report.txt in a folder, each whole or not at all."""
    text = "no test part: nothing was measured\n"
    if report["rows"]:
        first = next(r for r in report["rows"] if r["order"] == "forward")
        text = table(report) + "\n"
        if "confusion" in first:
            text += "\n" + confusion_table(report["classes"][first["head"]], first["confusion"]) + "\n"
    for name, content in (
        ("report.json", json.dumps(_legal(report), indent=2, ensure_ascii=False)),
        ("report.txt", text),
    ):
        write_whole(folder / name, content)
    return folder / "report.json"


def _legal(value: Any) -> Any:
    """The same where what is no number is null, as JSON has no word for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _legal(inner) for key, inner in value.items()}
    return [_legal(inner) for inner in value] if isinstance(value, list | tuple) else value


def _name(row: dict[str, Any], heads: Sequence[str]) -> str:
    return row["model"] if len(heads) == 1 else f"{row['model']} ({row['head']})"
