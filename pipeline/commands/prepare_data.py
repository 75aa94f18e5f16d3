"""The data of a run: rows with their splits, and the features of every video.

In: a config. Out: `RunData`. Knows nothing of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.base import ConfigError
from pipeline.config.encoders import FramesSection
from pipeline.config.run import Config
from pipeline.data.class_folders import read_class_folders
from pipeline.data.copies import equal_files
from pipeline.data.dataset import DecodedFrames, RowSource, StoredFeatures, StoredSeries
from pipeline.data.feature_store import FeatureStore
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.manifest_rows import Row, examples
from pipeline.data.run_data import RunData
from pipeline.data.span_findings import span_findings
from pipeline.data.split import apply_split
from pipeline.data.texts import StoredText, text_of
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import did_you_mean
from pipeline.inference.engine import decode_settings
from pipeline.inference.extract_features import Extraction, extract
from pipeline.inference.feeder import FeatureSource
from pipeline.media.damage import damage
from pipeline.media.probe import probe
from pipeline.media.similar_paths import did_you_mean_path
from pipeline.media.sniff import MediaError
from pipeline.training.distributed import DistributedContext, seed_step

Log = Callable[[str], None]
OnVideo = Callable[[int, int], None]
"""Called with (done, total) after each video."""
NOTED = ("group", "identical", "similar_labels", "split_folder", "span", "no_look")
"""The kinds of findings that a training says beside `missing_class`. `unreel check` says all."""
Failures = dict[str, tuple[str, str]]
"""Videos that cannot be read: path -> (status, sentence)."""
Damages = dict[str, tuple[str, ...]]
"""Videos that are cut or damaged: path -> sentences."""


def prepare(
    config: Config,
    context: DistributedContext,
    log: Log,
    on_video: OnVideo = lambda done, total: None,
    tokenizer: Tokenizer | None = None,
    check: Callable[[Manifest], None] = lambda manifest: None,
) -> RunData:
    """Read the rows, split them, and extract the features of each video once, unless training reads pixels.

    tokenizer: that of a trained model of texts; by default one is trained on the texts of the training rows. check:
    gets the rows with their splits before any video is looked at, and raises what is wrong with them. Raises
    ConfigError, ManifestError, LeakError.
    """
    manifest = split_rows(config, read_rows(config, log), log)
    check(manifest)
    if config.encoder.kind == "tokens":
        return _prepare_texts(config, manifest, log, tokenizer)
    if config.encoder.kind == "series":
        series = StoredSeries(manifest.root, config.clock.rate)
        width = series.width(manifest.rows[0])
        return RunData(manifest, series, {}, width, config.evaluation.unknown_classes)
    if config.data.read == "pixels" or (config.data.read == "auto" and config.encoder.train_blocks):
        pixels = DecodedFrames(manifest.root, config.clock.build(), config.encoder.transform(), config.encoder.decoder)
        failed, damaged = _read_packets(manifest)
        _log_failures(failed, log)
        report_damaged(config, damaged, log)
        return _without_failed(config, manifest, pixels, failed)
    if config.encoder.train_blocks:
        raise ConfigError(
            f"data.read = features, but encoder.train_blocks = {config.encoder.train_blocks} changes the CNN. "
            "Use data.read: auto, or freeze the CNN with encoder.train_blocks: 0."
        )
    store, failed = fill_store(config, manifest, context, log, on_video)
    return _without_failed(config, manifest, StoredFeatures(manifest.root, store), failed)


def _prepare_texts(config: Config, manifest: Manifest, log: Log, tokenizer: Tokenizer | None) -> RunData:
    assert config.encoder.kind == "tokens", "only texts have a tokenizer"
    if tokenizer is None:
        texts = [text_of(row, manifest.root) for row in manifest.rows if row.split == "train"]
        tokenizer = config.encoder.train_tokenizer(texts)
        log(f"tokenizer: {len(tokenizer):,} tokens of level {tokenizer.level}, from the training rows")
    source = StoredText(manifest.root, tokenizer, add_bos_eos=config.encoder.add_bos_eos)
    unknown_classes = config.evaluation.unknown_classes
    return RunData(manifest, source, {}, unknown_classes=unknown_classes, tokenizer=tokenizer)


def _without_failed(config: Config, manifest: Manifest, source: RowSource, failed: Failures) -> RunData:
    """The rows whose videos can be read. Raises ConfigError where the config stops at the first failure."""
    if failed and config.data.on_error == "stop":
        video, (status, sentence) = next(iter(failed.items()))
        raise ConfigError(
            f"{len(failed)} videos cannot be read, and data.on_error = stop. The first: {video}: {status}: {sentence}"
        )
    rows = tuple(row for row in manifest.rows if str(manifest.path_of(row)) not in failed)
    unknown_classes = config.evaluation.unknown_classes
    return RunData(Manifest(rows, manifest.root), source, failed, unknown_classes=unknown_classes)


def _read_packets(manifest: Manifest) -> tuple[Failures, Damages]:
    """The videos that cannot be opened, and those that are cut or damaged."""
    failed: Failures = {}
    damaged: Damages = {}
    for row in manifest.rows:
        video = manifest.path_of(row)
        try:
            if damages := damage(video):
                damaged[str(video)] = damages
        except MediaError as error:
            failed[str(video)] = (error.status, str(error))
    return failed, damaged


def report_damaged(config: Config, damaged: Damages, log: Log) -> None:
    """Say which videos are cut or damaged, and what happens with them. Raises ConfigError where the config stops."""
    if not damaged:
        return
    video, sentences = next(iter(damaged.items()))
    if config.data.on_error == "stop":
        raise ConfigError(
            f"{len(damaged)} videos are cut or damaged, and data.on_error = stop. The first: {video}: {sentences[0]} "
            "Repair them, or set data.on_error=skip to use what can be decoded."
        )
    log(
        f"  note: {len(damaged)} videos are cut or damaged: {examples(list(damaged))}. What can be decoded of them is "
        f"used (data.on_error={config.data.on_error}; stop would end the run)."
    )
    for video, sentences in damaged.items():
        log(f"  cut or damaged: {video}: {' '.join(sentences)}")


def length_of(path: Path) -> float | None:
    """The length of a video in seconds; None where the file has none or is no video that can be read."""
    try:
        return None if path.suffix == ".npy" else probe(path).seconds
    except (MediaError, OSError):
        return None


def _log_failures(failed: Mapping[str, tuple[str, str]], log: Log) -> None:
    for video, (status, sentence) in failed.items():
        log(f"  skipped {video}: {status}: {sentence}")


def read_rows(config: Config, log: Log) -> Manifest:
    """The manifest of the config, or that of a folder of class folders. Raises ConfigError, ManifestError."""
    path = Path(config.data.path)
    if path.is_dir():
        rows = read_class_folders(path, log, follow_links=config.data.follow_links)
        return Manifest(rows, Path(config.data.root or path))
    if not path.exists():
        raise ConfigError(
            f"data.path = '{path}' does not exist.{did_you_mean_path(path)} Give a manifest (.csv or .jsonl) or a "
            "folder of class folders."
        )
    return read_manifest(path, config.data.root)


def fill_store(
    config: Config, manifest: Manifest, context: DistributedContext, log: Log, on_video: OnVideo
) -> tuple[FeatureStore, Failures]:
    """Extract the features of every row's video. Each process does its share of the rows and waits for the others."""
    section, architecture = config.encoder, config.architecture
    assert isinstance(section, FramesSection), "only an encoder of frames has features"
    seed_step(config.training.seed, -1, 0)  # random weights of a CNN are those of the model, in every process
    backbone = section.build_backbone()
    store = FeatureStore(config.data.feature_store, architecture.made_by(context.device, backbone))
    videos = [manifest.path_of(row) for row in manifest.rows]

    def on_video_of_share(done: int, total: int) -> None:
        if context.is_first:  # the shares are equal, so that of one process stands for all
            on_video(min(done * context.world_size, len(videos)), len(videos))

    share = extract(
        videos[context.rank :: context.world_size],
        store,
        FeatureSource(
            decode_settings(section, config.clock.rate, hash_content=True),
            lambda: architecture.build_feature_requests(context.device, backbone),
        ),
        on_video=on_video_of_share,
    )
    extraction = Extraction.merged(context.gather_objects(share), videos)
    log(
        f"features: {extraction.num_extracted} videos extracted ({extraction.num_looks:,} looks), "
        f"{extraction.num_stored} were stored before, {len(extraction.failed)} failed"
    )
    _log_failures(extraction.failed, log)
    report_damaged(config, extraction.damaged, log)
    return store, extraction.failed


def split_rows(config: Config, manifest: Manifest, log: Log) -> Manifest:
    """The rows that have targets for all heads, with the config's split; logs what is left out and what leaks.

    Raises ConfigError where a head has no row to learn from, ValueError for a split that is impossible, LeakError.
    """
    data = config.data
    rows = _with_targets(config, manifest.rows, log)
    copies = equal_files(manifest, rows)
    if data.split == "none":
        rows = [replace(row, split="train") for row in rows]
    is_drawn = data.split not in ("manifest", "none")  # then the test split must not depend on the seed of a training
    if data.split == "test":
        rows = [replace(row, split="test") for row in rows]
    else:
        rows = apply_split(
            rows,
            "manifest" if data.split == "none" else data.split,
            test_share=data.test_share,
            validation_share=data.validation_share,
            folds=data.folds,
            fold=data.fold,
            seed=0 if is_drawn else config.training.seed,
            copies=copies,
        )
    if not data.validation_share:  # no rows choose an epoch, so those of a validation split are trained on
        rows = tuple(replace(row, split="train") if row.split == "val" else row for row in rows)
    rows = _without_unknown_classes(config, rows, log)
    split = Manifest(tuple(row for row in rows if row.split is not None), manifest.root)
    counts = Counter(row.split for row in split.rows)
    with_classes = [head for head in config.heads.values() if head.kind != "caption"]
    classes = {label for row in split.rows for head in with_classes for label in head.taught_labels(row)}
    log(
        f"rows: {counts['train']} train, {counts['val']} validation, {counts['test']} test; {len(classes)} classes; "
        f"split: {data.describe_split()}"
    )
    for finding in check_leaks(split) + span_findings(split, length_of, config.clock.rate):
        if finding.kind in NOTED or (finding.kind == "missing_class" and not config.evaluation.unknown_classes):
            log(f"  note: {finding.message}")
    return split


def _with_targets(config: Config, rows: Sequence[Row], log: Log) -> list[Row]:
    """The rows that every head can learn from."""
    kept = list(rows)
    for name, head in config.heads.items():
        target = head.requires
        taught = [row for row in kept if target is None or head.taught_labels(row)]
        if not taught:
            raise ConfigError(
                f"'{config.data.path}' has no row with a {target}, and the head '{name}' learns from them. Add "
                f"{target}s, or give another manifest."
            )
        if len(taught) < len(kept):
            log(f"{len(kept) - len(taught)} rows have no {target} and are left out")
        kept = taught
    return kept


def _without_unknown_classes(config: Config, rows: Sequence[Row], log: Log) -> tuple[Row, ...]:
    """The rows without the training and validation rows of evaluation.unknown_classes; their test rows stay."""
    unknown_classes = config.evaluation.unknown_classes
    labels = sorted({row.label for row in rows if row.label is not None})
    for name in unknown_classes:
        if name not in labels and config.data.split == "test":
            log(f"evaluation.unknown_classes: '{config.data.path}' has no row of '{name}'")
        elif name not in labels:
            raise ConfigError(
                f"evaluation.unknown_classes names '{name}', which is no label of '{config.data.path}'."
                f"{did_you_mean(name, labels)} The labels are: {', '.join(labels)}."
            )
    kept = tuple(row for row in rows if row.label not in unknown_classes or row.split == "test")
    if unknown_classes:
        test_count = sum(row.label in unknown_classes for row in kept)
        log(
            f"unknown classes: {', '.join(unknown_classes)}: {len(rows) - len(kept)} rows left out of training and "
            f"validation, {test_count} in the test split"
        )
    return kept
