"""`unreel config`: list the settings, or print a config with its defaults; and the config that a verb's source means.

In: the path of a YAML config, a manifest or a folder of class folders, and overrides. Out: a `Config`, or text. Knows
nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.commands.default_config import defaults_for
from pipeline.config.base import ConfigError
from pipeline.config.describe import describe_settings, settings_markdown
from pipeline.config.run import Config, dump_config, load_config


def config_of(source: str, overrides: Sequence[str], log: Callable[[str], None]) -> Config:
    """The config of a YAML file, or a default one for a manifest or a folder of class folders, with overrides.

    `log` gets a line for each default that was chosen and not overridden. Raises ConfigError, ManifestError.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or not path.exists():
        return load_config(path, overrides)
    settings, reasons = defaults_for(path)
    for line in reasons:
        setting = line.strip().partition("=")[0]
        if not any(override.startswith(f"{setting}=") for override in overrides):
            log(line)
    return load_config(None, overrides, base=settings)


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
