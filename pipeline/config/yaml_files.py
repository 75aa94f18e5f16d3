"""YAML files and `key=value` overrides, read as plain values.

In: a path or a text. Out: nested dictionaries, or a `ConfigError`. Knows nothing of sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.config.base import ConfigError
from pipeline.data.vocabulary import did_you_mean

MAX_BYTES = 1 << 20
MAX_DEPTH = 20


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file. Raises ConfigError for a file that is missing, too large, or not a mapping."""
    if not path.is_file():
        nearby = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(
            f"The config '{path}' does not exist.{did_you_mean(str(path), nearby)} Give the path of a YAML file."
        )
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"'{path}' is {path.stat().st_size:,} bytes; a config is a page of text. Give another file.")
    try:
        values = _parse(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"'{path}' is no valid YAML: {' '.join(str(error).split())}. Correct it at that place."
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' holds {type(values).__name__}, not settings. Begin with lines such as `data:`.")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `key.sub=value` in nested values, in place; the value is YAML too.

    Inner dictionaries are copied before they change. Raises ConfigError.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"'{override}' is no override. Write key=value, such as core.cell=lstm or training.lr=3e-4.")
    try:
        value = _parse(text)
    except (yaml.YAMLError, ValueError) as error:
        shown = override if len(override) <= 80 else override[:77] + "..."
        raise ConfigError(f"The value of '{shown}' is no valid YAML: {' '.join(str(error).split())}.") from None
    section = values
    *parents, last = key.strip().split(".")
    for depth, part in enumerate(parents):
        inner = section.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"'{override}': {'.'.join(parents[: depth + 1])} is {inner!r}, so it has nothing inside. "
                "Name a setting of a section."
            )
        section[part] = section = dict(inner)
    section[last] = value


def _parse(text: str) -> Any:
    """YAML of plain values. Raises YAMLError or ValueError.

    It also refuses what YAML allows and a config never needs: aliases (a few of them expand to gigabytes), deep
    nesting, and a repeated key (the last one would win silently).
    """
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("it uses an alias (*name); write the values out")
        opens = isinstance(
            token,
            yaml.FlowSequenceStartToken
            | yaml.FlowMappingStartToken
            | yaml.BlockSequenceStartToken
            | yaml.BlockMappingStartToken,
        )
        closes = isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken | yaml.BlockEndToken)
        depth += opens - closes
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
    return yaml.load(text, _UniqueKeyLoader)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Builds plain values only, and refuses a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys all differ."""
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is repeated", key.start_mark
                    )
                keys.add(key.value)
        return super().construct_mapping(node, deep)
