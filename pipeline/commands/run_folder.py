"""The folder of a run: its name, its lock, what may be in it, and what stays in it.

In: a config. Out: a folder that only this training writes into. Knows nothing of models, data or the loop.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import lock_folder, write_atomic
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, dump_config, load_config
from pipeline.training.distributed import DistributedContext
from pipeline.training.resume import RESUME_FILE

RUN_FILES = ("config.yaml", "metrics.jsonl", RESUME_FILE, "report.json", "report.txt", "wandb_id")
RUN_FOLDERS = ("model", "baselines", "calibration", "wandb", "evaluation", "samples")
"""All that a run writes into its folder."""
ADVICE = "Wait for its end, stop it, or choose another folder with run=DIR."
"""What to do where another training uses the folder."""


def run_folder(config: Config) -> Path:
    """The folder of a run. Without `run` its name has the folder of the data and the cell of the core."""
    return Path(config.run or f"runs/{data_name(config)}-{config.core.cell}")


def data_name(config: Config) -> str:
    """The name of the data: of the class folders themselves, or of the folder of a manifest, with the name of the
    manifest where that is not `manifest`. So two manifests in one folder have two names.
    """
    path = Path(config.data.path).resolve()
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem == "manifest" else f"{path.parent.name}-{path.stem}"


def default_run(config: Config, source: Path, overrides: tuple[str, ...]) -> str:
    """The folder of a run by `unreel train SOURCE` that names none: equal commands have equal folders, and other
    configs, cells, folds and seeds have other folders.

    A config gives runs/<data>-<config>; a manifest or a folder of class folders gives runs/<data>.
    """
    is_config = source.suffix in (".yaml", ".yml")
    parts = [data_name(config), *([source.stem] if is_config else [])]
    if any(override.partition("=")[0].strip() == "core.cell" for override in overrides):
        parts.append(config.core.cell)
    for section, name in ((config.data, "fold"), (config.training, "seed")):
        value = getattr(section, name)
        if value != type(section).model_fields[name].default:
            parts.append(f"{name}{value}")
    return f"runs/{'-'.join(parts)}"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a training that holds its lock. fresh: whether it starts over."""

    path: Path
    config: Config
    context: DistributedContext
    fresh: bool

    def begin(self) -> None:
        """Write the config. Nothing in the folder has changed before this; every process must call it."""
        if self.context.is_first:
            if self.fresh:
                _clear(self.path)
            write_atomic(self.path / "config.yaml", _text(self.config, self.path))
        self.context.barrier()

    def finish(self) -> None:
        """Remove what only a resumed run needs: models of the calibration, and states of the run and its baselines."""
        if self.context.is_first:
            shutil.rmtree(self.path / "calibration", ignore_errors=True)
        if self.context.is_first and not self.config.training.keep_state:
            for state in (self.path / RESUME_FILE, *self.path.glob(f"baselines/*/{RESUME_FILE}")):
                state.unlink(missing_ok=True)


@contextmanager
def claim_folder(config: Config, context: DistributedContext, *, fresh: bool) -> Iterator[RunFolder]:
    """The run's folder, locked. An unfinished run of the same config may be resumed; other runs are not changed.

    A training that fails before its first row leaves nothing behind. Raises FolderLocked, and ConfigError where the
    folder holds another run.
    """
    run = RunFolder(run_folder(config), config, context, fresh)
    if not context.is_first:
        yield run
        return
    made = _make_folder(run.path)
    try:
        with lock_folder(run.path, ADVICE):
            was_empty = not any((run.path / name).exists() for name in (*RUN_FILES, *RUN_FOLDERS))
            _check_folder(run)
            try:
                yield run
            except BaseException:
                if was_empty and not _has_started(run.path):
                    _clear(run.path)
                raise
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder with the folders above it: those that were not there, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    if folder.is_file():
        raise ConfigError(
            f"run = '{folder}' is a file, and a run is a folder with several files. Give another name with run=DIR."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _check_folder(run: RunFolder) -> None:
    """Raise ConfigError where the folder holds a finished run, or an unfinished one of another config."""
    folder, saved = run.path, run.path / "config.yaml"
    if run.fresh or not saved.is_file():
        return
    if (folder / "report.json").is_file():
        raise ConfigError(
            f"'{folder}' holds a finished run. Choose another folder with run=DIR, or start over with --fresh."
        )
    if (folder / RESUME_FILE).is_file() and not _is_config(saved, _text(run.config, folder)):
        raise ConfigError(
            f"'{folder}' holds an unfinished run of another config ({saved}). Choose another folder with "
            "run=DIR, resume it with the same config, or start over with --fresh."
        )


def _has_started(folder: Path) -> bool:
    """Whether a training has left a row or a state."""
    metrics = folder / "metrics.jsonl"
    return (folder / RESUME_FILE).is_file() or (metrics.is_file() and metrics.stat().st_size > 0)


def _text(config: Config, folder: Path) -> str:
    return dump_config(config.model_copy(update={"run": str(folder)}))


def _is_config(saved: Path, text: str) -> bool:
    """Whether a saved config equals `text`; settings that an older version did not have count as their defaults."""
    try:
        return dump_config(load_config(saved)) == text
    except ConfigError:
        return False


def _clear(folder: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in RUN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
