"""`unreel predict`: answer for files, folders and lists of videos, texts or series, and write the answers.

In: paths and a model folder. Out: a ledger with every answer, and one file or folder for each format, written from it.
A job that was ended at any moment goes on with the same command. Knows nothing of training.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic import check_output_folder, lock_folder
from pipeline.commands.job_views import Log, summarise, write_job_views
from pipeline.config.model_json import find_model, stored_settings
from pipeline.data.feature_store import FeatureStore
from pipeline.inference.answer import AnswerRow
from pipeline.inference.engine_settings import SLOTS_A_WORKER, EngineSettings
from pipeline.inference.job_folder import LEDGER, check_shards, ledger_folder
from pipeline.inference.job_plan import PlannedFile, Shard, content_of, plan
from pipeline.inference.ledger import Job, Ledger, check_same_job
from pipeline.media.decode_pool import DecodeLimits, DecodePool, DecodeSettings
from pipeline.media.folder import FINDERS
from pipeline.media.search import InputFile
from pipeline.training.stop_signal import Interrupted, StopSignal
from pipeline.writers import Format, check_formats, omission_message
from pipeline.writers.views import failed_row

if TYPE_CHECKING:  # torch takes long to import: inputs and options are checked first
    import torch

    from pipeline.checkpoint import Checkpoint
    from pipeline.commands.attention_pictures import AttentionPictures
    from pipeline.inference.open_video import FileAnswer
    from pipeline.inference.predictor import Predictor

OnRow = Callable[[AnswerRow, int, int], None]
"""Called with (row, done, total) after each input."""
ADVICE = "Wait for its end, stop it, or give another --out. `unreel status` shows how far it is."
"""What to do where another job uses the folder."""


@dataclass(frozen=True)
class PredictOptions:
    """The options of `unreel predict`; see its help."""

    formats: Sequence[Format]
    top: int = 5
    device: str = "auto"
    attention: bool = False
    follow_links: bool = False
    store: Path | None = None
    shard: Shard | None = None
    retry_failed: bool = False
    reprocess: bool = False
    dry_run: bool = False
    deadline: float = 30.0


def predict(
    paths: Sequence[str], model: Path, out: Path, options: PredictOptions, *, log: Log, on_row: OnRow, stop: StopSignal
) -> Counter[str]:
    """Answer for every input that is not answered yet. Returns how many of all inputs are ok, partial and failed.

    Raises ModelError; ValueError for what cannot be done, such as a format that cannot hold the answers, or an `out` of
    another model; FolderLocked; Interrupted after a signal, with all answers kept; OSError that names the file.
    """
    check_output_folder(out, "--out")
    settings = stored_settings(model)
    kind = settings["encoder"].get("kind")
    files = FINDERS[kind](paths, options.follow_links, log) if kind in FINDERS else []  # loading says what is wrong
    _check_found(files)
    with ExitStack() as stack:
        pool = None if options.dry_run else _start_workers(settings, len(files), options)
        if pool is not None:
            stack.callback(pool.close)
        return _predict_files(files, model, out, options, pool, log=log, on_row=on_row, stop=stop)


def _start_workers(settings: Mapping[str, Any], num_files: int, options: PredictOptions) -> DecodePool | None:
    """Processes that decode, started before torch is imported, which takes longer than their start.

    None for a model that reads no frames. settings: as they stand in model.json; loading says what is wrong with them.
    """
    encoder, limits = settings["encoder"], DecodeLimits(idle_seconds=options.deadline, base_seconds=options.deadline)
    engine = EngineSettings(limits=limits)
    try:
        decode = DecodeSettings(
            float(settings["clock"]["rate"]),
            int(encoder["size"]),
            encoder["resize"],
            encoder["decoder"],
            options.store is not None,
        )
    except (KeyError, TypeError, ValueError):
        return None
    return DecodePool(engine.plan(num_files).workers, decode, engine.limits, slots_a_worker=SLOTS_A_WORKER)


def _predict_files(
    files: Sequence[InputFile],
    model: Path,
    out: Path,
    options: PredictOptions,
    pool: DecodePool | None,
    *,
    log: Log,
    on_row: OnRow,
    stop: StopSignal,
) -> Counter[str]:
    """Load the model, and answer for the files. pool: workers that wait for files."""
    from pipeline.checkpoint import load_model
    from pipeline.commands.unknown_notes import notes_on_unknown
    from pipeline.inference.predictor import Predictor, answering_threads
    from pipeline.training.distributed import distributed

    checkpoint = load_model(model)
    architecture = checkpoint.architecture
    check_formats(options.formats, architecture.columns())
    if message := omission_message(options.formats, architecture.columns()):
        log(message)
    for note in notes_on_unknown(checkpoint):
        log(note)
    pictures = _attention_pictures(out, checkpoint, files) if options.attention else None
    with distributed(options.device, answering_threads(checkpoint)) as context:
        job = _job_of(checkpoint, model, context.device, options)
        store = _store_of(checkpoint, context.device, options.store)
        check_shards(out, options.shard)
        folder = ledger_folder(out, options.shard)
        if options.dry_run:
            return _dry_run(files, folder, job, options, log)
        folder.mkdir(parents=True, exist_ok=True)
        flush = (lambda: None) if store is None else store.flush
        with (
            lock_folder(folder, ADVICE),
            _unfinished(folder) as parts,
            Ledger(folder / LEDGER, is_new=True, before_commit=flush) as ledger,
        ):
            planned = _begin(files, ledger, job, options)
            todo = [one for one in planned if one.is_todo]
            _log_plan(planned, ledger.num_others(), log)
            if todo:
                predictor = Predictor(checkpoint, context.device)
                make_row = _RowMaker(options.top, pictures, out)
                _answer(todo, predictor, store, ledger, make_row, on_row, stop, log, pool, parts)
            if stop.number is not None:
                counts = ledger.counts()
                answered = sum(counts.values()) - counts.get(None, 0)
                raise Interrupted(stop.number, f"{answered} of {len(planned)} inputs are answered.")
            if options.shard is None:
                return write_job_views([ledger], out, options.formats, architecture.columns(), log)
            log(f"part {options.shard} is done. `unreel merge {out}` writes the files when all parts are.")
            return summarise(ledger.recorded(), log).counts


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Where long videos keep their features while they are read. It goes when the job has ended with all its rows."""
    parts = folder / "unfinished"
    yield parts
    shutil.rmtree(parts, ignore_errors=True)


def _attention_pictures(out: Path, checkpoint: Checkpoint, files: Sequence[InputFile]) -> AttentionPictures:
    """What draws the attention of captions. It decodes in this process, so its imports are for this option alone."""
    from pipeline.commands.attention_pictures import AttentionPictures

    return AttentionPictures(out / "attention", checkpoint, files)


def _check_found(files: Sequence[InputFile]) -> None:
    """Raise ValueError where every input is missing, before torch is imported."""
    sentences = [file.problem.removeprefix("missing: ") for file in files if file.problem.startswith("missing: ")]
    if files and len(sentences) == len(files):
        others = f" So are all {len(files):,} inputs of this command." if len(files) > 1 else ""
        raise ValueError(f"{sentences[0]}{others} Nothing was done.")


def _job_of(checkpoint: Checkpoint, model: Path, device: torch.device, options: PredictOptions) -> Job:
    """What all answers of the job have in common."""
    return Job(
        fingerprint=checkpoint.made_by(device),
        options={"top": options.top, "attention": options.attention},
        columns=checkpoint.architecture.columns(),
        formats=options.formats,
        model=str(find_model(model).absolute()),
        shard=str(options.shard) if options.shard else None,
    )


def _store_of(checkpoint: Checkpoint, device: torch.device, folder: Path | None) -> FeatureStore | None:
    """The feature store of --store. Raises ValueError for a model that reads no frames."""
    if folder is None:
        return None
    check_output_folder(folder, "--store")
    made_by = checkpoint.features_made_by(device)
    if made_by is None:
        raise ValueError(
            f"--store keeps features of frames, and this model reads {checkpoint.architecture.encoder.kind}. Leave "
            "--store out."
        )
    return FeatureStore(folder, made_by)


def _begin(files: Sequence[InputFile], ledger: Ledger, job: Job, options: PredictOptions) -> list[PlannedFile]:
    """Plan what is to be done, and write the plan into the ledger. Raises LedgerError for one of another job."""
    if not options.reprocess:
        check_same_job(ledger, job)
    ledger.begin(job, started=time.time(), is_fresh=options.reprocess)
    planned = plan(files, ledger.stored(), shard=options.shard, retry_failed=options.retry_failed)
    ledger.write_plan(planned)
    return planned


def _dry_run(files: Sequence[InputFile], folder: Path, job: Job, options: PredictOptions, log: Log) -> Counter[str]:
    """Say what would be done. Nothing is written, and no input is opened."""
    stored, num_others = {}, 0
    if (folder / LEDGER).is_file() and not options.reprocess:
        with Ledger(folder / LEDGER) as ledger:
            check_same_job(ledger, job)
            stored = ledger.stored()
    planned = plan(files, stored, shard=options.shard, retry_failed=options.retry_failed)
    _log_plan(planned, num_others, log, is_dry=True)
    return Counter()


def _log_plan(planned: Sequence[PlannedFile], num_others: int, log: Log, *, is_dry: bool = False) -> None:
    """Say what is to be done, where it is not simply everything."""
    reasons = Counter(one.reason for one in planned if one.reason)
    words = {"passing": "failed by a reason that may have passed", "failed": "failed before"}
    num_done = len(planned) - reasons.total()
    if is_dry or num_done or set(reasons) - {"new", "passing"}:
        listed = ", ".join(f"{count:,} {words.get(reason, reason)}" for reason, count in reasons.items())
        log(
            f"{len(planned):,} inputs: {num_done:,} are answered already, {reasons.total():,} to do"
            f"{f' ({listed})' if listed else ''}{'. Dry run: nothing was done' if is_dry else ''}"
        )
    if num_others:
        log(f"{num_others:,} answers of earlier inputs that this command does not name stay in the ledger only")


@dataclass(frozen=True)
class _RowMaker:
    """An answer -> its row. A picture of attention that cannot be drawn costs the row, not the job."""

    top: int
    pictures: AttentionPictures | None
    out: Path

    def __call__(self, file: InputFile, answer: FileAnswer) -> AnswerRow:
        row = answer.answer.to_dict(self.top)
        if self.pictures is None:
            return row
        try:
            self.pictures(file, answer.answer)
        except Exception as error:  # of this video; an error of the disk of --out is one of the job
            if isinstance(error, OSError) and str(error.filename).startswith(str(self.out)):
                raise
            return failed_row(row, f"The picture of its attention: {type(error).__name__}: {error}")
        return row


def _answer(
    todo: Sequence[PlannedFile],
    predictor: Predictor,
    store: FeatureStore | None,
    ledger: Ledger,
    make_row: _RowMaker,
    on_row: OnRow,
    stop: StopSignal,
    log: Log,
    pool: DecodePool | None,
    parts: Path,
) -> None:
    """Answer for every input and record the rows. After a signal, what is being read still finishes, for 3 s."""
    from pipeline.inference.engine import STOP_SECONDS, answer_files

    planned, settings = {one.file.name: one for one in todo}, EngineSettings()
    if pool is not None:
        log(settings.plan(len(todo)).line(pool.ring_bytes))
    files = [one.file for one in todo]
    with answer_files(files, predictor, settings, store, pool=pool, parts=parts, log=log) as answers:
        stop.call(answers.stop)
        for done, answer in enumerate(answers, start=1):
            file, before = answer.file, planned[answer.file.name]
            row = make_row(file, answer)
            has_stat = bool(answer.mtime_ns)
            ledger.record(
                file,
                row,
                seconds=answer.seconds,
                size=answer.size if has_stat else before.size,
                mtime_ns=answer.mtime_ns if has_stat else before.mtime_ns,
                content=answer.content_hash or content_of(file),
            )
            on_row(row, done, len(todo))
            if stop.is_older_than(STOP_SECONDS):
                break
