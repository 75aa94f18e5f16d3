"""What a run learns from: rows with their splits, and one look at every video.

In: a config. Out: `Prepared`. Knows nothing of models' training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.data.dataset import DecodedFrames, Source, StoredFeatures, StoredSeries
from pipeline.data.features import FeatureStore
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest, Row, read_manifest
from pipeline.data.readers import read_class_folders
from pipeline.data.split import apply_split
from pipeline.data.text import StoredText, text_of
from pipeline.data.words import Words
from pipeline.inference.extract import Extraction, extract
from pipeline.media.probe import MediaError, probe
from pipeline.recipe import FramesSection
from pipeline.section import ConfigError, near
from pipeline.training.runtime import Runtime

Say = Callable[[str], None]
OnVideo = Callable[[int, int], None]
"""Told (done, total) while videos are looked at."""


@dataclass(frozen=True)
class Prepared:
    """Usable rows with splits, how to read them, and the videos that could not be: path -> (status, sentence); input_size: of
    series; words: of texts.
    """

    manifest: Manifest
    source: Source
    failed: dict[str, tuple[str, str]]
    input_size: int | None = None
    unknown: tuple[str, ...] = ()
    words: Words | None = None

    def rows(self, split: str) -> list[Row]:
        """The rows of one part, without the classes that are to stay unknown."""
        return [r for r in self.manifest.rows if r.split == split and r.label not in self.unknown]

    def strangers(self) -> list[Row]:
        """The test rows of the classes that are to stay unknown."""
        return [r for r in self.manifest.rows if r.split == "test" and r.label in self.unknown]


def prepare(
    config: Config,
    place: Runtime,
    say: Say,
    on_video: OnVideo = lambda done, total: None,
    words: Words | None = None,
) -> Prepared:
    """Read the rows, split them, look at the videos once. words: those of a trained model of texts; by default they are learnt
    from the training rows. Raises ConfigError, ManifestError, LeakError.
    """
    manifest = split_rows(config, read_rows(config, say), say)
    if config.encoder.kind == "tokens":
        if words is None:
            words = config.encoder.learn([text_of(r, manifest.root) for r in manifest.rows if r.split == "train"])
            say(f"words: {len(words):,} of level {words.level}, from the training rows")
        source = StoredText(manifest.root, words, ends=config.encoder.ends)
        return Prepared(manifest, source, {}, unknown=config.evaluation.unknown, words=words)
    if config.encoder.kind == "series":
        source = StoredSeries(manifest.root, config.clock.rate)
        return Prepared(manifest, source, {}, source.width(manifest.rows[0]), config.evaluation.unknown)
    if config.data.read == "pixels" or (config.data.read == "auto" and config.encoder.train_blocks):
        pixels = DecodedFrames(manifest.root, config.clock.build(), config.encoder.transform(), config.encoder.decoder)
        failed = _unreadable(manifest)
        for video, (status, sentence) in failed.items():
            say(f"  skipped {video}: {status}: {sentence}")
        return _usable(config, manifest, pixels, failed)
    if config.encoder.train_blocks:
        raise ConfigError(
            f"data.read = features, but encoder.train_blocks = {config.encoder.train_blocks} changes the CNN. "
            "Use data.read: auto, or freeze the CNN with encoder.train_blocks: 0."
        )
    store, failed = fill_store(config, manifest, place, say, on_video)
    return _usable(config, manifest, StoredFeatures(manifest.root, store), failed)


def _usable(config: Config, manifest: Manifest, source: Source, failed: dict[str, tuple[str, str]]) -> Prepared:
    """The rows whose videos can be read, if the config goes on without the others."""
    if failed and config.data.failed == "stop":
        name, (status, sentence) = next(iter(failed.items()))
        raise ConfigError(
            f"{len(failed)} videos cannot be read, and data.failed = stop. The first: {name}: {status}: {sentence}"
        )
    rows = tuple(r for r in manifest.rows if str(manifest.path_of(r)) not in failed)
    return Prepared(Manifest(rows, manifest.root), source, failed, unknown=config.evaluation.unknown)


def _unreadable(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Videos that cannot be opened: path -> (status, sentence)."""
    failed = {}
    for row in manifest.rows:
        try:
            probe(manifest.path_of(row))
        except MediaError as error:
            failed[str(manifest.path_of(row))] = (error.status, str(error))
    return failed


def read_rows(config: Config, say: Say) -> Manifest:
    """The manifest of the config, or that of a folder of class folders."""
    path = Path(config.data.path)
    if path.is_dir():
        return Manifest(tuple(read_class_folders(path, say)), Path(config.data.root or path))
    if not path.exists():
        raise ConfigError(
            f"data.path = '{path}' does not exist. Give a manifest (.csv or .jsonl) or a folder of class folders."
        )
    return read_manifest(path, config.data.root)


def fill_store(
    config: Config, manifest: Manifest, place: Runtime, say: Say, on_video: OnVideo
) -> tuple[FeatureStore, dict[str, tuple[str, str]]]:
    """Look at every row's video once; the first rank does it, the others wait and find the store filled."""
    section, recipe = config.encoder, config.recipe
    assert isinstance(section, FramesSection)
    backbone = section.build_backbone()
    store = FeatureStore(config.data.features, recipe.made_by(place.device, backbone))
    videos = [manifest.path_of(r) for r in manifest.rows]

    def fill() -> Extraction:
        return extract(
            videos,
            store,
            lambda: recipe.build_look(place.device, backbone),
            clock=config.clock.build(),
            transform=section.transform(),
            backend=section.decoder,
            on_video=on_video,
        )

    found = fill() if place.is_first else Extraction()
    place.wait()
    found = found if place.is_first else fill()
    say(
        f"features: {found.made} videos looked at ({found.looks:,} looks), {found.kept} were there, {len(found.failed)} failed"
    )
    for video, (status, sentence) in found.failed.items():
        say(f"  skipped {video}: {status}: {sentence}")
    return store, found.failed


def split_rows(config: Config, manifest: Manifest, say: Say) -> Manifest:
    """The labelled rows with the config's split; what is left out and what leaks is said."""
    data = config.data
    labelled = list(manifest.rows)
    for name, head in config.heads.items():
        wanted = head.wants
        kept = [r for r in labelled if wanted is None or head.classes(r)]
        if not kept:
            raise ConfigError(
                f"'{data.path}' has no row with a {wanted}, and the head '{name}' learns from them. Add {wanted}s, or give "
                "another manifest."
            )
        if len(kept) < len(labelled):
            say(f"{len(labelled) - len(kept)} rows have no {wanted} and are left out")
        labelled = kept
    if data.split == "none":
        labelled = [replace(r, split="train") for r in labelled]
    is_drawn = data.split not in ("manifest", "none")  # then who is tested must not hang on the seed of a training
    rows = apply_split(
        labelled,
        "manifest" if data.split == "none" else data.split,
        fraction_test=data.test,
        fraction_validation=data.validation,
        folds=data.folds,
        fold=data.fold,
        seed=0 if is_drawn else config.training.seed,
    )
    if not data.validation:  # nothing is held out to choose an epoch, so those rows learn
        rows = tuple(replace(r, split="train") if r.split == "val" else r for r in rows)
    rows = _without_unknown(config, rows, say)
    split = Manifest(tuple(r for r in rows if r.split is not None), manifest.root)
    counts = Counter(r.split for r in split.rows)
    naming = [head for head in config.heads.values() if head.kind != "caption"]
    classes = {c for r in split.rows for head in naming for c in head.classes(r)}
    say(
        f"rows: {counts['train']} train, {counts['val']} validation, {counts['test']} test; {len(classes)} classes; "
        f"split: {describe_split(config)}"
    )
    for finding in check_leaks(split):
        if finding.kind == "group" or (finding.kind == "missing_class" and not config.evaluation.unknown):
            say(f"  note: {finding.message}")
    return split


def _without_unknown(config: Config, rows: Sequence[Row], say: Say) -> tuple[Row, ...]:
    """The rows without those of evaluation.unknown that would train or choose; they stay in the test part."""
    wanted, labels = config.evaluation.unknown, sorted({r.label for r in rows if r.label is not None})
    for name in wanted:
        if name not in labels:
            raise ConfigError(
                f"evaluation.unknown names '{name}', which is no label of '{config.data.path}'.{near(name, labels)} "
                f"The labels are: {', '.join(labels)}."
            )
    kept = tuple(r for r in rows if r.label not in wanted or r.split == "test")
    if wanted:
        strangers = sum(r.label in wanted for r in kept)
        say(
            f"unknown: {', '.join(wanted)}: {len(rows) - len(kept)} rows left out of training and validation, "
            f"{strangers} in the test part to be found unknown"
        )
    return kept


def describe_split(config: Config) -> str:
    """The split in a few words, for tables."""
    return (
        f"fold {config.data.fold} of {config.data.folds} by group"
        if config.data.split == "folds"
        else config.data.split
    )


def defaults_for(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Settings for a manifest or a folder of class folders that came without a config, and sentences that say why."""
    if path.is_dir():
        rows = read_class_folders(path, lambda text: None)
        name = path.resolve().name
    else:
        rows = read_manifest(path).rows
        name = path.resolve().parent.name
    labels = Counter(r.label for r in rows if r.label is not None)
    has_groups = any(r.group is not None for r in rows)
    has_splits = any(r.split == "test" for r in rows)
    split = "manifest" if has_splits else "group" if has_groups else "random"
    why = {
        "manifest": "the manifest has a test part",
        "group": "groups are known, so whole groups are held out",
        "random": "no groups are known, so videos are held out at random: if one person or scene is in several of them, "
        "the score is too good (give a manifest with groups to mend that)",
    }
    # the fewer the videos, the more often each is seen; a validation part only where it would not starve training
    epochs = max(10, min(60, round(3000 / max(1, len(rows)))))
    brings_validation = has_splits and any(r.split == "val" for r in rows)
    validation = 0.15 if brings_validation or len(rows) >= 400 else 0.0
    why_validation = "too few videos to hold some out; the last epoch is kept"
    if validation:
        whose = "of the manifest's own validation part" if brings_validation else "of a part cut from training"
        why_validation = f"the best epoch {whose} is kept"
    chosen = [
        f"{path}: {len(rows)} videos in {len(labels)} classes",
        f"  data.split={split}: {why[split]}",
        f"  training.epochs={epochs}: about 3,000 looks at a video in all, 10 to 60 epochs",
        f"  data.validation={validation}: {why_validation}",
    ]
    base: dict[str, Any] = {
        "data": {"path": str(path), "split": split, "validation": validation},
        "training": {"epochs": epochs},
        "run": f"runs/{name}",
    }
    asked, why_asked = _question(rows)
    base["heads"] = asked
    chosen.append(f"  heads={next(iter(asked))}: {why_asked}")
    if any(head["kind"] == "caption" for head in asked.values()):
        base["data"]["window"] = None
    if all(r.text is not None for r in rows):
        base["encoder"] = {"kind": "tokens", "ends": asked.get("next") is not None}
        base["data"]["window"] = None
        return base, [*chosen, "  encoder.kind=tokens: the rows are texts"]
    seconds = _median_seconds(path if path.is_dir() else path.parent, rows)
    if seconds is not None:
        rate = min(8.0, max(1.0, float(round(16 / seconds))))
        base["clock"] = {"rate": rate}
        chosen.append(f"  clock.rate={rate:g}: about 16 looks at a video of {seconds:.1f} s, the median")
    return base, chosen


def _question(rows: Sequence[Row]) -> tuple[dict[str, dict[str, Any]], str]:
    """The head that most rows can teach, and why."""
    counts = {
        "label": sum(r.label is not None for r in rows),
        "span": sum(bool(r.spans) for r in rows),
        "caption": sum(bool(r.captions) for r in rows),
    }
    wanted = max(counts, key=lambda name: counts[name])
    name, kind = {"label": ("action", "classify"), "span": ("timeline", "segment"), "caption": ("caption", "caption")}[
        wanted
    ]
    if not counts[wanted] and all(r.text is not None for r in rows):
        return {"next": {"kind": "language"}}, "there are texts and nothing about them, so the next word is learnt"
    head: dict[str, Any] = {"kind": kind}
    if wanted == "span" and all(r.text is not None for r in rows):
        is_each = all(s.end - s.start == 1 for r in rows for s in r.spans) and all(
            len(r.spans) == len((r.text or "").split()) for r in rows
        )
        head |= {"scheme": "each", "background": None} if is_each else {"scheme": "iob2", "background": "O"}
    return {name: head}, f"{counts[wanted]} of {len(rows)} rows have a {wanted}"


def _median_seconds(root: Path, rows: Sequence[Row]) -> float | None:
    """The median duration of up to 40 of the videos, or None where none can be read."""
    found = []
    for row in rows[:: max(1, len(rows) // 40)]:
        try:
            found.append(probe(root / row.path).seconds)
        except (MediaError, OSError):
            continue  # it is named when the videos are looked at
    known = sorted(s for s in found if s)
    return known[len(known) // 2] if known else None
