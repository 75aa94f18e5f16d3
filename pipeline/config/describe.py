"""The settings as text: what `unreel config` prints, and docs/config.md.

In: a section class. Out: its settings with type, default and meaning. Knows nothing of the values of a run.
"""

from __future__ import annotations

import json
import typing
from typing import Any

from pydantic.fields import FieldInfo

from pipeline.config.base import Section, fixed_values, sections_in

INTRODUCTION = """\
# Settings

A config is a YAML file with the sections below. Only `data.path` is required:

```yaml
core: {cell: lstm}
heads:
  action: {kind: classify}        # the names of heads are yours; below they are NAME
  timeline: {kind: segment}
data: {path: videos/manifest.jsonl}
```

On the command line a setting is written with its section: `unreel train CONFIG core.cell=gru training.lr=3e-4`. An
encoder without a kind is of kind frames, a head without a kind of kind classify.

This file is the output of `unreel config --markdown`. Do not edit it: change the descriptions in `pipeline/config/`.
"""


def type_name(annotation: Any) -> str:
    """A type as in YAML: a|b|c for choices, int, float, text, list, null."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return "|".join(map(str, arguments))
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if type(None) in arguments:
        return " or ".join(map(type_name, arguments))
    if origin is tuple:
        return "list"
    name = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "bool": "true|false"}.get(name, name)


def default_text(info: FieldInfo) -> str:
    """The default of a setting as YAML, or "required"."""
    if info.is_required():
        return "required"
    return info.default if isinstance(info.default, str) else json.dumps(info.default)


def own_settings(section: type[Section]) -> dict[str, FieldInfo]:
    """The settings of a section itself, without its inner sections and without its kind."""
    fixed = fixed_values(section)
    fields = section.model_fields.items()
    return {name: info for name, info in fields if name not in fixed and not sections_in(info.annotation)}


def inner_sections(section: type[Section], prefix: str = "") -> list[tuple[str, type[Section], FieldInfo]]:
    """The inner sections of a section with their places, such as "heads.NAME"; one entry for each kind."""
    places = {
        name: f"{prefix}{name}.NAME" if typing.get_origin(info.annotation) is dict else f"{prefix}{name}"
        for name, info in section.model_fields.items()
    }
    fields = section.model_fields.items()
    return [(places[name], inner, info) for name, info in fields for inner in sections_in(info.annotation)]


def _title(place: str, section: type[Section], info: FieldInfo) -> str:
    """The place of a section with its kind, such as "encoder (kind: frames)"."""
    notes = [f"{name}: {value}" for name, value in fixed_values(section).items()]
    notes += ["null by default"] if info.default is None else []
    return place + (f" ({', '.join(notes)})" if notes else "")


def _meaning(section: type[Section], info: FieldInfo) -> str:
    """What a section is, and what it is for in this place, as one line."""
    use = f" Here: {info.description}." if info.description else ""
    return " ".join((section.__doc__ or "").split()) + use


def describe_settings(section: type[Section]) -> str:
    """Every setting of a section with its type, default and meaning, one a line."""
    return "\n".join(_lines(section, "")) + "\n"


def _lines(section: type[Section], prefix: str) -> list[str]:
    lines = [
        f"  {prefix + name:<40} {type_name(info.annotation):<32} {_default(info):<24} {info.description or ''}".rstrip()
        for name, info in own_settings(section).items()
    ]
    for place, inner, info in inner_sections(section, prefix):
        lines += ["", f"{_title(place, inner, info)}: {_meaning(inner, info)}", *_lines(inner, f"{place}.")]
    return lines


def _default(info: FieldInfo) -> str:
    return "required" if info.is_required() else f"default {default_text(info)}"


def settings_markdown(section: type[Section]) -> str:
    """docs/config.md: a heading and a table for each section and kind; a repeated section refers to its first table."""
    return "\n".join([INTRODUCTION, "## Without a section", "", *_table(section), *_headings(section, "", {})]) + "\n"


def _headings(section: type[Section], prefix: str, described: dict[type[Section], str]) -> list[str]:
    """The sections below a section. described: the title of each section that has its table already."""
    lines: list[str] = []
    for place, inner, info in inner_sections(section, prefix):
        title = _title(place, inner, info)
        level = 2 + place.removeprefix("heads.").count(".")
        lines += ["", f"{'#' * level} {title}", "", _meaning(inner, info)]
        if inner in described:
            lines += ["", f"It has the settings of `{described[inner]}`."]
            continue
        described[inner] = title
        lines += ["", *_table(inner)] if own_settings(inner) else []
        lines += _headings(inner, f"{place}.", described)
    return lines


def _table(section: type[Section]) -> list[str]:
    """The settings of a section as a Markdown table; | inside a cell is escaped."""
    rows = [
        (f"`{name}`", f"`{type_name(info.annotation)}`", _code(default_text(info)), info.description or "")
        for name, info in own_settings(section).items()
    ]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return ["| setting | type | default | meaning |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells)]


def _code(default: str) -> str:
    return default if default == "required" else f"`{default}`"
