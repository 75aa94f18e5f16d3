"""Answers with spans -> one JSON file in the format of the ActivityNet challenge: detections by video.

{"version", "results": {video: [{"label", "score", "segment": [start, end]}]}, "external_data": {}}, in seconds
(Heilbron et al. 2015). A span with a sentence also has the keys of dense captioning: "sentence", "timestamp" (Krishna
et al. 2017).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.atomic import AtomicFile
from pipeline.media.clip import ANSWERED
from pipeline.writers.cues import heads_with_spans
from pipeline.writers.output_names import UniqueNames
from pipeline.writers.table_rows import Heads, escape_surrogates


class ActivityNetWriter:
    """The key of a video is the path of its row without the suffix, as in the official files; see `output_names`.

    A failed row has no entry. Where several heads have spans, an entry also has the key "head".
    """

    def __init__(self, path: Path, heads: Heads) -> None:
        self._output = AtomicFile(path)
        self._heads, self._names, self._is_first = heads_with_spans(heads), UniqueNames(), True
        self._file = open(self._output.partial, "w", encoding="utf-8")
        self._file.write('{"version": "VERSION 1.3", "results": {')

    def write(self, row: dict[str, Any]) -> None:
        """Write the spans of one video, those of all heads together, by start."""
        name = self._names.assign(escape_surrogates(row["path"]))
        if row["status"] not in ANSWERED:
            return
        spans = [(span, head) for head in self._heads for span in (row.get(head) or {}).get("spans") or []]
        spans.sort(key=lambda span_and_head: span_and_head[0]["start"])
        entries = escape_surrogates([self._entry(span, head) for span, head in spans])
        self._file.write(("\n" if self._is_first else ",\n") + f"{json.dumps(name)}: {json.dumps(entries)}")
        self._is_first = False

    def close(self) -> Path:
        """Complete the file and give it its name. Returns its path."""
        self._file.write('\n}, "external_data": {}}\n')
        self._file.close()
        return self._output.commit()

    def _entry(self, span: dict[str, Any], head: str) -> dict[str, Any]:
        times = [span["start"], span["end"]]
        entry: dict[str, Any] = {"label": span["label"]} if "label" in span else {}
        entry |= {"score": span["score"]} if "score" in span else {}
        entry["segment"] = times
        entry |= {"sentence": span["text"], "timestamp": times} if "text" in span else {}
        return entry | ({"head": head} if len(self._heads) > 1 else {})
