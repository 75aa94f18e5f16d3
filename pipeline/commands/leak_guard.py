"""The guard against testing a model on what it has learned from.

In: the rows of a run with their splits, and what a model was trained on. Out: LeakError where a training would start
from a model that knows its test or validation rows, or sentences about the test rows that a model knows. Knows nothing
of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.checkpoint import Checkpoint
from pipeline.config.base import ConfigError
from pipeline.config.run import Config
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row, Split, examples
from pipeline.data.split import LeakError
from pipeline.data.training_record import TrainingRecord, content_digest, name_digest, row_digest
from pipeline.data.vocabulary import Vocabulary, did_you_mean

SPLIT_NAMES: Mapping[Split, str] = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class _Known:
    """What a model knows of a split: the paths of its rows, and the groups that share no file with the training."""

    rows: tuple[str, ...]
    groups: tuple[str, ...]

    def text(self, total: int, split: str) -> str:
        """The rows and groups in words; empty where there are none."""
        parts = [f"{len(self.rows):,} of the {total:,} {split} rows: {examples(self.rows)}"] if self.rows else []
        if self.groups:
            noun = "group" if len(self.groups) == 1 else "groups"
            parts.append(f"other rows of {len(self.groups):,} {split} {noun}: {examples(self.groups)}")
        return ", and on ".join(parts)


def record_of_run(config: Config, manifest: Manifest, initial: Checkpoint | None = None) -> TrainingRecord:
    """What a run trains on, by the splits of its rows, with what the model that it starts from was trained on."""
    record = TrainingRecord.of(manifest.rows, manifest.root, is_text=config.encoder.kind == "tokens")
    return record if initial is None else record.joined(initial.training_record)


def content_of_run(config: Config, manifest: Manifest, record: TrainingRecord) -> str:
    """A digest of the files that a run trains on, in order, and of its record."""
    return content_digest(manifest.rows, manifest.root, record, is_text=config.encoder.kind == "tokens")


def refuse_leaking_start(config: Config, manifest: Manifest, initial: Checkpoint | None) -> None:
    """Raise LeakError where `training.init_from` was trained on test or validation rows of the run, or on their groups.

    What the training rows of the run itself reveal is not the fault of the start: `unreel check` and a note of the
    split name it.
    """
    if initial is None or initial.training_record is None:
        return
    name, earlier, own = config.training.init_from, initial.training_record, record_of_run(config, manifest)
    problems = []
    for split in ("test", "val"):
        rows = manifest.select(split).rows
        known = _known(config, manifest, rows, earlier.rows - own.rows, earlier.groups - own.groups)
        if text := known.text(len(rows), SPLIT_NAMES[split]):
            problems.append(f"It was trained on {text}.")
    rows = manifest.select("test").rows
    chosen = _known(config, manifest, rows, earlier.validation_rows - earlier.rows - own.rows, frozenset())
    if text := chosen.text(len(rows), "test"):
        problems.append(f"Its best epoch was chosen on {text}.")
    labels = [label for label in config.evaluation.unknown_classes if name_digest(label) in earlier.labels]
    if labels:
        problems.append(f"It was trained on {', '.join(labels)}, which evaluation.unknown_classes holds out.")
    if len(problems) == 1 and "validation rows" in problems[0]:
        problems.append("With data.validation_share=0 no rows choose the epoch.")
    if problems:
        raise LeakError(
            f"training.init_from = '{name}' knows what this run would measure, so the result would be memory. "
            f"{' '.join(problems)} Split the rows as that run did (data.split, data.fold, data.validation_share, "
            "training.seed), start from a model that was not trained on them, or leave them out of the manifest. "
            "Groups of other data that only have the same name need another name."
        )


def note_unknown_start(config: Config, initial: Checkpoint | None, log: Callable[[str], None]) -> None:
    """Log a note where the model that a run starts from, or one before it, has no record."""
    if initial is None or (initial.training_record is not None and initial.training_record.is_complete):
        return
    name = config.training.init_from
    whose = f"'{name}'" if initial.training_record is None else f"A model that '{name}' started from"
    log(
        f"  note: {whose} does not say what it was trained on, so test rows may be among its training rows. Train it "
        "again with this version."
    )


def note_fresh_baselines(config: Config, log: Callable[[str], None]) -> None:
    """Log a note that the baselines of a run that started from a trained model did not."""
    if config.training.init_from is not None:
        log(
            f"  note: the model started from the weights of '{config.training.init_from}'; the baselines have other "
            "layers and started from random weights, so they have learned from fewer rows or for a shorter time."
        )


def known_test_rows(config: Config, manifest: Manifest, checkpoint: Checkpoint) -> list[str]:
    """Sentences about the test rows and groups that a model was trained on or chosen on; empty where there are none."""
    record = checkpoint.training_record
    if record is None:
        return ["the model does not say what it was trained on, so test rows may be among its training rows."]
    rows = manifest.select("test").rows
    sentences = []
    known = _known(config, manifest, rows, record.rows, record.groups)
    if text := known.text(len(rows), "test"):
        sentences.append(f"the model was trained on {text}. The test score is too optimistic: it measures memory.")
    chosen = _known(config, manifest, rows, record.validation_rows - record.rows, frozenset())
    if text := chosen.text(len(rows), "test"):
        sentences.append(f"the best epoch of the model was chosen on {text}. The test score is too optimistic.")
    if not record.is_complete:
        sentences.append("a model that this one started from does not say what it was trained on.")
    return sentences


def refuse_unknown_classes(config: Config, manifest: Manifest, checkpoint: Checkpoint) -> None:
    """Raise ConfigError where test rows have a class that the model does not know; before any video is looked at."""
    rows = [row for row in manifest.select("test").rows if row.label not in config.evaluation.unknown_classes]
    for name, head in config.heads.items():
        vocabulary = checkpoint.vocabularies.get(name)
        if not isinstance(vocabulary, Vocabulary) or head.kind == "transcribe":
            continue  # a word that the model does not know counts as an error of the transcript
        unknown = _count_unknown(head.taught_labels, rows, vocabulary.names)
        if unknown:
            label = next(iter(unknown))
            remedies = ["Correct the labels", "leave these rows out"]
            if head.kind == "classify":
                remedies.append(
                    f"measure how well they are refused by evaluation.unknown_classes=[{','.join(unknown)}]"
                )
            raise ConfigError(
                f"'{config.data.path}' has {len(unknown)} {'class' if len(unknown) == 1 else 'classes'} that the head "
                f"'{name}' of the model does not know: "
                f"{', '.join(f'{label!r} ({_counted(count)})' for label, count in unknown.items())}."
                f"{did_you_mean(label, vocabulary.names)} It knows: {', '.join(vocabulary.names)}. "
                f"{', '.join(remedies[:-1])}, or {remedies[-1]}."
            )


def _counted(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _count_unknown(
    taught_labels: Callable[[Row], Sequence[str]], rows: Sequence[Row], names: Collection[str]
) -> Counter[str]:
    """The labels that are not among the names, with the number of rows that have each."""
    return Counter(label for row in rows for label in dict.fromkeys(taught_labels(row)) if label not in names)


def _known(
    config: Config, manifest: Manifest, rows: Sequence[Row], known_rows: Collection[bytes], groups: Collection[bytes]
) -> _Known:
    """The rows among those that are known, and the groups among them of the other rows."""
    is_text = config.encoder.kind == "tokens"
    known = {row.path for row in rows if known_rows and row_digest(row, manifest.root, is_text=is_text) in known_rows}
    others = [row for row in rows if row.path not in known]
    shared = dict.fromkeys(row.group for row in others if row.group is not None and name_digest(row.group) in groups)
    return _Known(tuple(row.path for row in rows if row.path in known), tuple(filter(None, shared)))
