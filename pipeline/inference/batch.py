"""A folder of videos -> rows.

In: inputs as people write them, a predictor, writers. Out: one row for every input, in order, whatever happens to one
of them. Knows nothing of formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.inference.predictor import Answer, Predictor
from pipeline.media.folder import Found

Row = dict[str, Any]


def predict_all(
    found: Sequence[Found],
    predictor: Predictor,
    *,
    top: int,
    on_answer: Callable[[Found, Answer], None] = lambda one, answer: None,
) -> Iterator[Row]:
    """One row an input, as soon as it is answered; `on_answer` is told before it becomes a row."""
    for one in found:
        if one.problem:
            code, _, sentence = one.problem.partition(": ")
            answer = Answer(f"failed:{code}", error=sentence)
        else:
            try:
                answer = predictor.watch(one.path) if one.text is None else predictor.read(one.text)
            except Exception as error:  # one bad file must not stop the folder; it is named in its row
                answer = Answer("failed:error", error=f"{type(error).__name__}: {error}")
        on_answer(one, answer)
        yield as_row(one.name, answer, top)


def as_row(name: str, answer: Answer, top: int) -> Row:
    """path, status, seconds, looks, one entry a head, warnings, error."""
    return {
        "path": name,
        "status": answer.status,
        "seconds": round(answer.seconds, 3),
        "looks": answer.looks,
        **{head: prediction.row(top) for head, prediction in answer.predictions.items()},
        "warnings": list(answer.warnings),
        "error": answer.error,
    }


def headline(row: Row) -> str:
    """A row in a few words, safe for a terminal."""
    if row["status"].startswith("failed"):
        return row["status"]
    answers = [_words(v) for v in row.values() if isinstance(v, dict)]
    return one_line(", ".join(answers) + (f" ({row['status']})" if row["status"] != "ok" else ""))


def _words(answer: dict[str, Any]) -> str:
    if "sentence" in answer:
        return answer["sentence"]
    if "perplexity" in answer:
        return f"perplexity {answer['perplexity']:.2f}" if answer["perplexity"] is not None else "nothing to predict"
    if "spans" in answer:
        first = ", ".join(f"{s['start']:.1f} s {s['label']}" for s in answer["spans"][:3])
        return first + (f", and {len(answer['spans']) - 3} more" if len(answer["spans"]) > 3 else "") or "nothing"
    if "ahead" in answer:
        return ", ".join(f"in {a['seconds']:g} s {a['label']} {a['score']:.2f}" for a in answer["ahead"])
    if "values" in answer:
        return f"{len(answer['values'])} steps ahead" if answer["values"] else "nothing"
    return f"{answer['label']} {answer['score']:.2f}" + (", but it is like no class" if answer.get("unknown") else "")


def one_line(text: str) -> str:
    """Any text as one line that is safe to print: letters of all languages stay, what steers a terminal is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
