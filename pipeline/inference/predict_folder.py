"""Videos, series or texts -> rows, one after another.

In: inputs, a predictor. Out: one row for every input, in order, also for an input that fails. Knows nothing of formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pipeline.inference.answer import Answer, AnswerRow
from pipeline.inference.predictor import Predictor
from pipeline.media.folder import InputFile


def predict_all(
    files: Sequence[InputFile],
    predictor: Predictor,
    *,
    top: int,
    on_answer: Callable[[InputFile, Answer], None] = lambda file, answer: None,
) -> Iterator[AnswerRow]:
    """One row for each input, as soon as it is answered. on_answer is called before each row.

    top: the largest number of classes that a row lists.
    """
    for file in files:
        answer = replace(_predict_one(file, predictor), path=file.name)
        on_answer(file, answer)
        yield answer.to_dict(top)


def _predict_one(file: InputFile, predictor: Predictor) -> Answer:
    if file.problem:
        code, _, sentence = file.problem.partition(": ")
        return Answer(f"failed:{code}", error=sentence)
    try:
        return predictor.predict_file(file.path) if file.text is None else predictor.predict_text(file.text)
    except Exception as error:  # one bad file must not stop the job; its row has the error
        return Answer("failed:error", error=f"{type(error).__name__}: {error}")
