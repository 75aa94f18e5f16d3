"""A log that keeps the warnings among its lines, so that the report has them too.

In: lines of a log. Out: the same lines, and the warnings among them. It knows nothing of what they are about.
"""

from __future__ import annotations

from collections.abc import Callable

NOTE = "note: "
"""How the line of a warning begins."""


class WarningLog:
    """Passes every line on to `log`, and keeps those that warn: they begin with `note:`, or say that something was not
    calibrated, is off or has no baseline.

    warnings: the warnings so far, each once, in order, without the leading `note:`.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log, self.warnings = log, list[str]()

    def __call__(self, line: str) -> None:
        """Pass a line on, and keep it if it warns."""
        self.log(line)
        text = line.strip()
        is_off = ": not calibrated" in text or "`unknown` is off" in text
        is_warning = text.startswith(NOTE) or is_off or text.startswith("baselines: none")
        text = text.removeprefix(NOTE)
        if is_warning and text not in self.warnings:
            self.warnings.append(text)
