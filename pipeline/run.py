"""A config -> a finished run. Read this first.

`train` goes: rows with their splits -> one look at every video (pixels where the CNN learns) -> a model -> the loop ->
the table beside its baselines. All that a run makes lies in its folder: config.yaml, metrics.jsonl, model/, report.json
and report.txt, wandb/.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.attention import AttentionPictures
from pipeline.checkpoint import Checkpoint, load_model, save_model
from pipeline.config import Config, dump_config, load_config
from pipeline.data.dataset import RowDataset
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import Words
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.series import SeriesEncoder
from pipeline.heads.generate import Generate
from pipeline.heads.judged_forecast import JudgedForecast
from pipeline.inference.batch import predict_all
from pipeline.inference.predictor import Predictor, answering_threads
from pipeline.measure import make_report, measure, other_split, part_of, split_dataset
from pipeline.media.folder import find_texts, find_videos
from pipeline.models.head import Reader
from pipeline.models.model import Model
from pipeline.prepare import OnVideo, Prepared, Say, fill_store, prepare, read_rows
from pipeline.questions import ClassifySection, learn_names
from pipeline.recipe import TOKENS
from pipeline.section import ConfigError, near
from pipeline.training.calibrate import calibrate
from pipeline.training.fit import STATE, Progress, fit, saved_step
from pipeline.training.report import write_report
from pipeline.training.runtime import Runtime, runtime, seed_step
from pipeline.training.track import Track
from pipeline.whole import write_whole
from pipeline.writers import TIMED, Format, check_formats, left_out, open_writer

OnRow = Callable[[dict[str, Any], int, int], None]
"""Told (row, done, total) after each answered input."""

BASELINES: dict[str, dict[str, dict[str, Any]]] = {
    "mean-pool linear": {"encoder": {"project": 0}, "core": {"cell": "mean", "layers": 0}},
    "mean-pool MLP": {
        "encoder": {"project": 0},
        "core": {"cell": "mean", "layers": 1, "hidden": 256, "input_dropout": 0.5},
    },
}
"""Blind to order, on the same road: what a recurrent core has to beat. Their heads read the last (the whole) mean."""
WRITING = ("caption", "transcribe", "language", "generate")
"""Heads that a mean says nothing to compare with: their own baselines stand in the proofs."""


@dataclass(frozen=True)
class Finished:
    """A run's folder and its report."""

    folder: Path
    report: dict[str, Any]


def train(config: Config, say: Say, on_video: OnVideo = lambda done, total: None, *, fresh: bool = False) -> Finished:
    """Run a config to its end, or go on with it where it was interrupted; `fresh` starts over.

    Raises ConfigError, ManifestError, LeakError for what the user can mend; Interrupted after a signal.
    """
    with runtime(config.training.device, _threads(config)) as place:
        loud: Say = say if place.is_first else lambda text: None
        folder = _open_folder(config, place, fresh)
        begun = load_model(config.training.start) if config.training.start else None
        prepared = prepare(config, place, loud, on_video, _words_of(begun))
        _check_classes(config, prepared)
        resumed = saved_step(folder)
        tracking = config.tracking
        with Track(
            folder,
            config.model_dump(mode="json"),
            mode=tracking.wandb,
            project=tracking.project,
            name=tracking.name,
            tags=tracking.tags,
            from_step=resumed,
            say=loud,
            is_active=place.is_first,
        ) as track:
            checkpoint, now = _learn(config, prepared, place, folder, track, loud, begun)
            rows = measure(config, prepared, checkpoint, place, name=config.core.cell)
            for row in rows:
                track.log({"step": now.step, "epoch": now.epoch, "part": part_of(row), **_numbers(row)})
            if place.is_first and rows:
                for row in (r for r in rows if r["order"] == "forward" and "confusion" in r):
                    track.confusion(checkpoint.vocabularies[row["head"]].names, row["confusion"])
                track.artifact(folder / "model", f"{folder.name}-model")
        if config.evaluation.baselines and rows and config.core.cell != "mean":
            rows += _baselines(config, prepared, place, folder, loud)
        report = make_report(config, prepared, checkpoint, rows)
        if place.is_first:
            write_report(report, folder)
        return Finished(folder, report)


def evaluate(
    folder: Path, overrides: Sequence[str], say: Say, on_video: OnVideo = lambda done, total: None
) -> Finished:
    """Measure a run's model again, on its own test part or (by overrides) on other data. Writes evaluation/report.json."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"'{folder}' is no run: it holds no config.yaml. Give the folder that `unreel train` made.")
    config = load_config(folder / "config.yaml", overrides)
    with runtime(config.training.device, _threads(config)) as place:
        checkpoint = load_model(folder)
        prepared = prepare(config, place, say, on_video, _words_of(checkpoint))
        if not overrides and (doubt := other_split(prepared, checkpoint)):
            say(doubt)
        rows = measure(config, prepared, checkpoint, place, name=config.core.cell)
        if not rows:
            raise ConfigError(
                f"The split '{config.data.split}' leaves no test rows. Use data.split=group, folds or manifest."
            )
        out = folder / "evaluation"
        out.mkdir(exist_ok=True)
        report = make_report(config, prepared, checkpoint, rows)
        write_report(report, out)
        return Finished(out, report)


def predict(
    paths: Sequence[str],
    model: Path,
    out: Path,
    *,
    formats: Sequence[Format],
    top: int,
    device: str,
    say: Say,
    on_row: OnRow,
    attention: bool = False,
) -> Counter[str]:
    """Answer for every input, in order; one file or folder a format in `out`, and by `attention` pictures of what the words of
    captions looked at. Returns how many were ok, partial and failed.

    Raises ValueError for a format that cannot hold what this model answers, before any video is watched.
    """
    checkpoint = load_model(model)
    columns = checkpoint.recipe.columns()
    check_formats(formats, columns)
    if unsaid := left_out(formats, columns):
        say(unsaid)
    found = find_texts(paths) if checkpoint.recipe.encoder.kind == "tokens" else find_videos(paths)
    out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    failed: list[str] = []
    with runtime(device, answering_threads(checkpoint)) as place:
        predictor = Predictor(checkpoint, place.device)
        writers = [open_writer(kind, out, columns) for kind in formats]
        drawn = {"on_answer": AttentionPictures(out / "attention", checkpoint)} if attention else {}
        for done, row in enumerate(predict_all(found, predictor, top=top, **drawn), start=1):
            for writer in writers:
                writer.write(row)
            counts[row["status"].partition(":")[0]] += 1
            failed += [row["path"]] if row["status"].startswith("failed") else []
            on_row(row, done, len(found))
        files = [str(writer.close()) for writer in writers]
    say(
        f"{counts.total()} inputs: {counts['ok']} ok, {counts['partial']} partial, {counts['failed']} failed; written to "
        f"{', '.join(files)}"
    )
    if failed and (timed := [kind for kind in formats if kind in TIMED]):
        named = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        say(f"nothing in {', '.join(timed)} about what failed: {named}")
    return counts


def extract_features(config: Config, say: Say, on_video: OnVideo) -> int:
    """Fill the feature store for a config's rows. Returns how many videos failed."""
    if config.encoder.kind != "frames":
        raise ConfigError("Only encoder.kind = frames has videos to look at; a series is stored already.")
    with runtime(config.training.device, 0) as place:
        store, failed = fill_store(config, read_rows(config, say), place, say, on_video)
    say(f"store: {store.folder}")
    return len(failed)


def _check_classes(config: Config, prepared: Prepared) -> None:
    """Raise ConfigError for what would stop the run only after its training."""
    if not prepared.rows("train"):
        raise ConfigError(
            f"No row of '{config.data.path}' is left to train on: {len(prepared.failed)} videos failed, and the split is "
            f"'{config.data.split}'. Mend the videos, or choose a split that has training rows."
        )
    known: set[str] = set()
    for head in config.heads.values():
        if head.kind == "transcribe":
            continue  # a word that was never taught is an error that it counts
        taught = {label for row in prepared.rows("train") for label in head.classes(row)}
        for row in prepared.manifest.rows:
            for label in head.classes(row):
                if label not in taught and row.label not in prepared.unknown:
                    raise ConfigError(
                        f"The class '{label}' stands in {row.split} ('{row.path}') and not in training, so nobody can "
                        "answer it. Give training some of its videos, or leave its rows out."
                    )
        known |= taught
    for name in (name for pair in config.evaluation.pairs for name in pair):
        if name not in known:
            raise ConfigError(
                f"evaluation.pairs names '{name}', which is no class of the training rows.{near(name, sorted(known))} "
                f"The classes are: {', '.join(sorted(known))}."
            )


def _learn(
    config: Config,
    prepared: Prepared,
    place: Runtime,
    folder: Path,
    track: Track,
    say: Say,
    begun: Checkpoint | None = None,
) -> tuple[Checkpoint, Progress]:
    """Build one model, train it in a folder (from the weights of `begun`), save it."""
    counts = {
        name: Counter(label for row in prepared.rows("train") for label in head.classes(row))
        for name, head in config.heads.items()
    }
    vocabularies: dict[str, Vocabulary | Words] = {
        name: learn_names(head, prepared.rows("train"), counts[name]) for name, head in config.heads.items()
    }
    if prepared.words is not None:
        vocabularies[TOKENS] = prepared.words
    if begun is not None:
        vocabularies |= {
            name: known for name, known in begun.vocabularies.items() if _covers(known, vocabularies.get(name))
        }
    seed_step(config.training.seed, -1, 0)  # the weights begin alike on every rank
    model = config.recipe.build(vocabularies, input_size=prepared.input_size, counts=counts)
    if begun is not None:
        _take_weights(model, begun, say)
    for head in map(model.head, model.heads):
        if isinstance(head, Reader):
            head.read(prepared.rows("train"))
    learns = split_dataset(config, prepared, model, "train", is_training=True)
    chooses = split_dataset(config, prepared, model, "val") if prepared.rows("val") else None
    _fit_statistics(model, learns)
    if (step := saved_step(folder)) is not None:
        say(f"going on from step {step}")
    now = fit(
        model.to(place.device), learns, chooses, config.training.build(config.data.workers), place, track, folder, say
    )
    whole = split_dataset(config, prepared, model, "train")
    calibrate(model, whole, chooses, batch_size=config.training.batch_size, device=place.device, say=say)
    notes = {
        "steps": now.step,
        "epochs": now.epoch,
        "best_epoch": now.best_epoch + 1 if chooses else None,
        "seed": config.training.seed,
        "data": prepared.manifest.fingerprint,
    }
    checkpoint = Checkpoint(model.eval(), config.recipe, vocabularies, prepared.input_size, notes)
    if place.is_first:
        save_model(folder / "model", checkpoint)
    return checkpoint, now


def _words_of(checkpoint: Checkpoint | None) -> Words | None:
    """The words of a model of texts."""
    known = checkpoint.vocabularies.get(TOKENS) if checkpoint else None
    return known if isinstance(known, Words) else None


def _covers(known: Vocabulary | Words, wanted: Vocabulary | Words | None) -> bool:
    """Whether a trained head's names do for what is to be learned now: all classes are among them, or they are words."""
    if isinstance(known, Words) or not isinstance(wanted, Vocabulary):
        return isinstance(known, Words) and isinstance(wanted, Words)
    return set(wanted.names) <= set(known.names)


def _take_weights(model: Model, begun: Checkpoint, say: Say) -> None:
    """Begin from a trained model's weights where they fit; what does not is said."""
    wanted, given = model.state_dict(), begun.model.state_dict()
    fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    model.load_state_dict(fitting, strict=False)
    anew = sorted({".".join(name.split(".")[:2]) for name in wanted if name not in fitting})
    say(f"begins from trained weights; anew: {', '.join(anew) or 'nothing'}")


def _baselines(config: Config, prepared: Prepared, place: Runtime, folder: Path, say: Say) -> list[dict[str, Any]]:
    if config.encoder.kind == "frames" and config.encoder.train_blocks:
        say("baselines: none, for the CNN learns; run the config with encoder.train_blocks=0 for theirs")
        return []
    rows = []
    heads = {
        head: section.model_dump(mode="json") | ({"pool": "last"} if isinstance(section, ClassifySection) else {})
        for head, section in config.heads.items()
        if section.kind not in WRITING
    }
    if unlike := [head for head in config.heads if head not in heads]:
        say(f"baselines: none for {', '.join(unlike)}, which say or make something")
    for name, parts in BASELINES.items() if heads else ():
        say(f"baseline: {name}")
        values = config.model_dump(mode="json")
        values |= {part: {**values[part], **changes} for part, changes in parts.items()} | {"heads": heads}
        values["core"] = {k: values["core"][k] for k in ("cell", "hidden", "layers", "input_dropout")}
        other = load_config(None, base=values)
        where = folder / "baselines" / name.replace(" ", "_")
        where.mkdir(parents=True, exist_ok=True)
        with Track(
            where,
            {},
            mode="off",
            project="-",
            name=None,
            tags=(),
            from_step=saved_step(where),
            say=say,
            is_active=place.is_first,
        ) as track:
            checkpoint, _ = _learn(other, prepared, place, where, track, lambda text: None)
        rows += [r for r in measure(other, prepared, checkpoint, place, name=name) if r["order"] == "forward"]
    return rows


def _fit_statistics(model: Model, learns: RowDataset) -> None:
    """Channel means and deviations of the training part, where the encoder wants them."""
    encoder = model.encoder
    for head in map(model.head, model.heads):
        if isinstance(head, JudgedForecast) or (isinstance(head, Generate) and head.makes == "features"):
            head.fit(learns.source.read(row, 0, n)[0] for row, n in zip(learns.rows, learns.full_lengths, strict=True))
    if not isinstance(encoder, FramesEncoder | SeriesEncoder) or encoder.adapter.normalise != "fitted":
        return
    if learns.source.reads_pixels:
        raise ConfigError("encoder.normalise = fitted needs stored features, and this run reads pixels. Use layer.")
    encoder.fit(learns.source.read(row, 0, n)[0] for row, n in zip(learns.rows, learns.full_lengths, strict=True))


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {"head": row["head"], **{k: v for k, v in row.items() if isinstance(v, int | float)}}


def _threads(config: Config) -> int:
    if config.training.threads:
        return config.training.threads
    learns_pixels = config.encoder.kind == "frames" and (
        config.encoder.train_blocks > 0 or config.data.read == "pixels"
    )
    return 0 if learns_pixels else 1


def run_folder(config: Config) -> Path:
    """Where a run lies."""
    return Path(config.run or f"runs/{Path(config.data.path).resolve().parent.name}-{config.core.cell}")


def _open_folder(config: Config, place: Runtime, fresh: bool) -> Path:
    """The run's folder with its config. An unfinished run of the same config is gone on with; others are not touched."""
    folder = run_folder(config)
    text = dump_config(config.model_copy(update={"run": str(folder)}))
    if not place.is_first:
        place.wait()
        return folder
    kept = folder / "config.yaml"
    if fresh:
        _clear(folder)
    elif kept.is_file():
        if (folder / "report.json").is_file():
            raise ConfigError(
                f"'{folder}' holds a finished run. Choose another folder with run=DIR, or start over with --fresh."
            )
        if (folder / STATE).is_file() and not _is_config(kept, text):
            raise ConfigError(
                f"'{folder}' holds an unfinished run of another config ({kept}). Choose another folder with "
                "run=DIR, go on with the same config, or start over with --fresh."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(kept, text)
    place.wait()
    return folder


def _is_config(kept: Path, text: str) -> bool:
    """Whether a run's config says the same as `text`; what an older version did not know yet counts as its default."""
    try:
        return dump_config(load_config(kept)) == text
    except ConfigError:
        return False


def _clear(folder: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in ("config.yaml", "metrics.jsonl", STATE, "report.json", "report.txt", "wandb_id"):
        (folder / name).unlink(missing_ok=True)
    for name in ("model", "baselines", "wandb", "evaluation", "samples"):
        shutil.rmtree(folder / name, ignore_errors=True)
