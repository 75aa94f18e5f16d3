"""What a trained model is worth, beside its baselines.

In: scores by row of the table. Out: one dictionary (report.json) and the same as text. Knows nothing of how the scores
came about.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NUMBERS = ("accuracy", "paired_accuracy", "mean_class_accuracy", "top5_accuracy", "ece", "auroc_unknown")


def table(report: dict[str, Any]) -> str:
    """The report as a table: a line for each model and order of steps, then what it was measured on."""
    rows = report["rows"]
    heads = sorted({r["head"] for r in rows})
    shown = [n for n in _NUMBERS if any(n in r for r in rows)]
    lines = []
    wide = max([len(_name(r, heads)) for r in rows] + [5])
    lines.append(
        f"{'model':<{wide}}  {'steps':<9}" + "".join(f"{n.replace('_', ' '):>21}" for n in shown) + f"{'clips':>7}"
    )
    for r in rows:
        numbers = "".join(f"{r[n]:>21.3f}" if n in r else f"{'':>21}" for n in shown)
        lines.append(f"{_name(r, heads):<{wide}}  {r['order']:<9}{numbers}{r['count']:>7}")
    failed = report["failed"]
    lines.append(f"split: {report['split']}   seed: {report['seed']}   videos that could not be read: {len(failed)}")
    return "\n".join(lines)


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
        text = table(report) + "\n\n" + confusion_table(report["classes"][first["head"]], first["confusion"]) + "\n"
    for name, content in (("report.json", json.dumps(report, indent=2, ensure_ascii=False)), ("report.txt", text)):
        partial = folder / f".{name}.{os.getpid()}"
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, folder / name)
    return folder / "report.json"


def _name(row: dict[str, Any], heads: Sequence[str]) -> str:
    return row["model"] if len(heads) == 1 else f"{row['model']} ({row['head']})"
