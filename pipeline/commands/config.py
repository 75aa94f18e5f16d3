"""`unreel config`: list the settings, or print a config with its defaults; and the config that a verb's source means.

In: the path of a YAML config, a manifest or a folder of class folders, and overrides. Out: a `Config`, or text. Knows
nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.commands.default_config import defaults_for
from pipeline.commands.run_folder import default_run
from pipeline.config.base import ConfigError
from pipeline.config.describe import describe_settings, settings_markdown
from pipeline.config.run import Config, dump_config, find_config, load_config
from pipeline.media.search import is_video
from pipeline.media.similar_paths import did_you_mean_path


def config_of(source: str, overrides: Sequence[str], log: Callable[[str], None]) -> Config:
    """The config of a YAML file, or a default one for a manifest or a folder of class folders, with overrides.

    `log` gets a line for each default that was chosen, and for each setting that replaces one. Raises ConfigError,
    ManifestError.
    """
    path = Path(source)
    if is_config(path):
        return load_config(path, overrides)
    if not path.exists():
        raise ConfigError(
            f"There is no config, manifest or folder '{source}'.{did_you_mean_path(path)} Give a config (.yaml), a "
            "manifest (.jsonl or .csv), or a folder with one folder of videos for each class."
        )
    if path.is_file() and is_video(path.name):
        raise ConfigError(
            f"'{source}' is one video, and training needs many whose classes are known. Give a folder with one folder "
            "of videos for each class, or a manifest (.jsonl or .csv)."
        )
    names = [override.partition("=")[0].strip() for override in overrides]
    if "data.path" in names:
        raise ConfigError(
            f"The data are given twice: '{source}' and {overrides[names.index('data.path')]}. Leave one of them out."
        )
    values = {name: override.partition("=")[2] for name, override in zip(names, overrides, strict=True)}
    settings, reasons = defaults_for(path, follow_links=values.get("data.follow_links") == "true")
    config = load_config(None, overrides, base=settings)
    for line in reasons:
        setting, is_setting, _ = line.strip().partition("=")
        if not is_setting or not any(f"{name}.".startswith(f"{setting}.") for name in names):
            log(line)
    for override in overrides:
        log(f"  {override}: your setting")
    return config


def training_config(source: str, overrides: Sequence[str], log: Callable[[str], None]) -> Config:
    """The config of a training, as `config_of`, with the folder of its run (see `default_run`)."""
    config = config_of(source, overrides, log)
    is_named = any(override.partition("=")[0].strip() == "run" for override in overrides)
    if is_named or (config.run is not None and is_config(Path(source))):
        return config
    run = default_run(config, Path(source), tuple(overrides))
    log(f"  run={run}: the default; another by run=DIR")
    return config.model_copy(update={"run": run})


def is_config(path: Path) -> bool:
    """Whether a source of `unreel train` is a config: a YAML file, also one that comes with the package."""
    return path.suffix in (".yaml", ".yml") or (not path.exists() and find_config(path).is_file())


def config_text(
    source: str | None, overrides: Sequence[str], log: Callable[[str], None], *, markdown: bool = False
) -> str:
    """A config as YAML with its defaults written out; without a source the list of all settings (docs/config.md as
    Markdown). Raises ConfigError.
    """
    if source is not None and markdown:
        raise ConfigError(f"--markdown lists all settings, and the config '{source}' is given. Leave one of them out.")
    if source is not None:
        return dump_config(config_of(source, overrides, log))
    return settings_markdown(Config) if markdown else describe_settings(Config)
