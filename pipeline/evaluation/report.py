"""The report of a trained model and its baselines: report.json and report.txt.

In: the rows of the table and what they were measured on, as one dictionary. Out: the dictionary as JSON, and the same
as text. It knows nothing of how the scores were measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomic
from pipeline.evaluation.verdict import MIN_ITEMS

_COLUMNS = (
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
"""The metrics of each kind of head: one table for each kind, with the rows that have its first metric."""


MAX_OTHER_COLUMNS = 6
"""Metrics of a head whose kind has no table of its own."""


def table(report: dict[str, Any]) -> str:
    """The report as text: tables with a line for each model and order of steps, sentences for each head, the split, the
    verdicts in words and the warnings.
    """
    rows = report["rows"]
    heads = sorted({row["head"] for row in rows})
    lines = _size_warning(rows)
    for columns in _COLUMNS:
        table_rows = [row for row in rows if columns[0] in row]
        if columns[0] == "accuracy":
            table_rows += _floors(report, table_rows)
        if table_rows:
            lines += [*([""] if lines else []), *_table(table_rows, columns, heads)]
    others = [row for row in rows if not any(columns[0] in row for columns in _COLUMNS)]
    if others:
        columns = dict.fromkeys(key for row in others for key, value in row.items() if isinstance(value, float))
        lines += [*([""] if lines else []), *_table(others, list(columns)[:MAX_OTHER_COLUMNS], heads)]
    for row in rows:
        if row["order"] == "forward":
            lines += [f"{_name(row, heads)}: {text}" for text in _sentences(row)]
    lines.append(
        f"split: {report['split']}   seed: {report['seed']}   videos that could not be read: {len(report['failed'])}"
    )
    if report.get("model", {}).get("best_epoch"):
        lines.append(f"best epoch: {report['model']['best_epoch']}, chosen by {report['model']['monitor']}")
    for calibration in report.get("model", {}).get("calibration", {}).values():
        lines += calibration["text"]
    return "\n".join([*lines, *_verdict(report)])


def _size_warning(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What stands before a table of few test items."""
    fewest = min((row["count"] for row in rows), default=MIN_ITEMS)
    if fewest >= MIN_ITEMS:
        return []
    return [
        f"only {fewest} test items: each is {1 / max(1, fewest):.0%} of a figure, so small differences say nothing "
        f"(at least {MIN_ITEMS} are needed)"
    ]


def _floors(report: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the majority class and of chance, for each head; within a pair of classes chance is 0.5."""
    floors = []
    for head, lines in report.get("floors", {}).items():
        is_paired = any("paired_accuracy" in row for row in rows if row["head"] == head)
        floors += [{**line, "head": head, **({"paired_accuracy": 0.5} if is_paired else {})} for line in lines]
    return floors


def _verdict(report: dict[str, Any]) -> list[str]:
    """The verdict on each head, and the warnings of the training."""
    lines = []
    for head, verdict in report.get("verdict", {}).items():
        lines += ["", f"verdict on {head}:", *(f"  {sentence}" for sentence in verdict["text"])]
    others = {row["head"] for row in report["rows"]} - set(report.get("verdict", ()))
    if others and "verdict" in report:
        reason = "only heads of kind classify are compared item by item, so read the table"
        lines += ["", f"verdict on {', '.join(sorted(others))}: none; {reason}"]
    if report.get("warnings"):
        lines += ["", "warnings:", *(f"  {warning}" for warning in report["warnings"])]
    return lines


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str], heads: Sequence[str]) -> list[str]:
    shown = [column for column in columns if any(column in row for row in rows)]
    name_width = max([len(_name(row, heads)) for row in rows] + [5])
    widths = {column: max(9, len(column) + 2) for column in shown}
    has_interval = any("confidence_interval" in row for row in rows)
    names = "".join(f"{column.replace('_', ' '):>{widths[column]}}" for column in shown)
    interval_name = f"   95 % of {_monitors(rows)}" if has_interval else ""
    lines = [f"{'model':<{name_width}}  {'steps':<9}{names}{'clips':>7}{interval_name}"]
    for row in rows:
        cells = "".join(f"{row[c]:>{widths[c]}.3f}" if c in row else f"{'':>{widths[c]}}" for c in shown)
        low, high = row.get("confidence_interval", (0, 0))
        interval = f"   {low:.3f} to {high:.3f}" if "confidence_interval" in row else ""
        lines.append(f"{_name(row, heads):<{name_width}}  {row['order']:<9}{cells}{row['count']:>7}{interval}")
    return lines


def _monitors(rows: Sequence[dict[str, Any]]) -> str:
    monitors = dict.fromkeys(row["monitor"] for row in rows if "confidence_interval" in row)
    return " or ".join(monitor.replace("_", " ") for monitor in monitors)


def _sentences(row: dict[str, Any]) -> list[str]:
    """What does not fit into a column, one sentence each."""
    sentences = []
    if "background" in row:
        included = ", but included in 'frame accuracy all'" if "frame_accuracy_all" in row else ""
        sentences.append(f"background {row['background']}{included}")
    if row.get("early_accuracy"):
        curve = "  ".join(f"{fraction:.0%} {accuracy:.3f}" for fraction, accuracy in row["early_accuracy"])
        sentences.append(
            f"accuracy after a share of each clip: {curve}; the prediction no longer changes after "
            f"{row['decision_share']:.0%}"
        )
    if "ece" in row:
        scaled = f", {row['ece']:.3f} with temperature" if row["ece"] != row["ece_unscaled"] else ""
        sentences.append(f"calibration error {row['ece_unscaled']:.3f} without temperature{scaled}")
    if "no_interval" in row:
        sentences.append(row["no_interval"])
    if row.get("open_set"):
        open_set = row["open_set"]
        sentences.append(
            f"unknown: AUROC {_number(open_set['auroc'])} over {open_set['count']} clips of classes that were not in "
            f"training (energy {_number(open_set['auroc_energy'])}, max logit {_number(open_set['auroc_max_logit'])})"
        )
    return sentences


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def confusion_table(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as text. Rows are the true classes; columns have the number of a class instead of its
    name.
    """
    name_width = max(map(len, names)) + 4
    cell_width = max(4, max(len(str(count)) for row in matrix for count in row) + 1)
    lines = [" " * name_width + "".join(f"{i:>{cell_width}}" for i in range(len(names)))]
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        cells = "".join(f"{count or '.':>{cell_width}}" for count in row)
        lines.append(f"{f'{i:>2}  {name}':<{name_width}}{cells}")
    return "\n".join(lines)


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """Write report.json and report.txt into a folder, each atomically. Returns the path of report.json."""
    text = "no test split: nothing was measured\n"
    if report["rows"]:
        first = next(row for row in report["rows"] if row["order"] == "forward")
        text = table(report) + "\n"
        if "confusion" in first:
            text += "\n" + confusion_table(report["classes"][first["head"]], first["confusion"]) + "\n"
    write_atomic(folder / "report.json", json.dumps(_finite(report), indent=2, ensure_ascii=False))
    write_atomic(folder / "report.txt", text)
    return folder / "report.json"


def _finite(value: Any) -> Any:
    """The same value with null for nan and infinity, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _name(row: dict[str, Any], heads: Sequence[str]) -> str:
    return row["model"] if len(heads) == 1 else f"{row['model']} ({row['head']})"
