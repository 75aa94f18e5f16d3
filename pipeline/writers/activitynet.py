"""Answers with times -> one JSON as the ActivityNet challenge reads it: detections by video.

{"version", "results": {video: [{"label", "score", "segment": [start, end]}]}, "external_data": {}}, in seconds (Heilbron et
al. 2015). Spans with sentences also say them as dense captioning does: "sentence", "timestamp" (Krishna et al. 2017).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.writers.cues import timed
from pipeline.writers.flat import Heads, printable
from pipeline.writers.names import Names


class ActivityNetWriter:
    """A video is called by its row's path without the suffix, as in the official files; see `names` for equal ones. A
    failed row has no entry. Where several heads have times, an entry also says which head found it.
    """

    def __init__(self, path: Path, heads: Heads) -> None:
        self.path, self._partial = path, path.with_name(path.name + ".partial")
        self._heads, self._names, self._is_first = timed(heads), Names(), True
        self._file = open(self._partial, "w", encoding="utf-8")
        self._file.write('{"version": "VERSION 1.3", "results": {')

    def write(self, row: dict[str, Any]) -> None:
        """One video's spans, of all heads by their starts."""
        name = self._names.of(printable(row["path"]))
        if row["status"].startswith("failed"):
            return
        found = [(span, head) for head in self._heads for span in (row.get(head) or {}).get("spans") or []]
        found.sort(key=lambda one: one[0]["start"])
        entries = [self._entry(*one) for one in found]
        self._file.write(("\n" if self._is_first else ",\n") + f"{json.dumps(name)}: {json.dumps(printable(entries))}")
        self._file.flush()
        self._is_first = False

    def close(self) -> Path:
        """The file under its name."""
        self._file.write('\n}, "external_data": {}}\n')
        self._file.close()
        os.replace(self._partial, self.path)
        return self.path

    def _entry(self, span: dict[str, Any], head: str) -> dict[str, Any]:
        times = [span["start"], span["end"]]
        entry: dict[str, Any] = {"label": span["label"]} if "label" in span else {}
        entry |= {"score": span["score"]} if "score" in span else {}
        entry["segment"] = times
        entry |= {"sentence": span["text"], "timestamp": times} if "text" in span else {}
        return entry | ({"head": head} if len(self._heads) > 1 else {})
