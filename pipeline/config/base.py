"""The base of all config sections: a frozen pydantic model whose mistakes become sentences.

In: plain values, as YAML gives them. Out: a validated section, or one `ConfigError` that lists every mistake with its
place, its value and the most similar valid name. Knows nothing of what the sections configure.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config.retired import SINCE, renamed, renamed_value
from pipeline.config.setting_names import settings_like
from pipeline.data.vocabulary import did_you_mean

S = TypeVar("S", bound="Section")

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


class ConfigError(ValueError):
    """The user's configuration is wrong. The text lists every mistake, one a line."""


class Section(BaseModel):
    """Base class of all sections: an unknown key is an error, values are frozen, defaults are validated too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def validate(section: type[S], values: object, source: str) -> S:
    """`section` with these values. Raises ConfigError with `source` (such as a path) and every mistake."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        retired = retired_settings(values) if isinstance(values, Mapping) else {}
        sentences = [_sentence(section, e, retired) for e in error.errors(include_url=False)]
        sentences += [_is_called(old, new) for old, new in retired.items() if _is_inside(old, retired)]
        lines = [f"  {sentence}" for sentence in sentences if sentence]
        title = f"{source}: {len(lines)} mistake{'s' if len(lines) > 1 else ''} in the configuration."
        raise ConfigError("\n".join([title, *lines])) from None


def retired_settings(values: Mapping[Any, Any]) -> dict[str, str]:
    """The settings of unreel 0.1 in a whole config or architecture: old dotted name -> present dotted name.

    A retired value counts as well: then both names are "setting=value". The result is in the order of `values`, a
    section before the settings inside it.
    """
    return _retired_in(values, (), ())


def _retired_in(values: Mapping[Any, Any], names: tuple[str, ...], kinds: tuple[str, ...]) -> dict[str, str]:
    """The retired settings inside one section. kinds: its place with the kinds of encoder and heads in parentheses."""
    retired: dict[str, str] = {}
    for key, value in ((str(key), value) for key, value in values.items()):
        place, section = ".".join([*names, key]), ".".join(kinds)
        if new := renamed(section, key):
            retired[place] = new
        if isinstance(value, Mapping):
            kind = value.get("kind", _default_kind((*names, key)))
            retired |= _retired_in(value, (*names, key), (*kinds, f"{key}({kind})" if kind else key))
        elif new := renamed_value(section, key, value):
            retired[f"{place}={value}"] = new
    return retired


def _default_kind(names: tuple[str, ...]) -> str | None:
    """The kind of a section that does not say its kind."""
    if names == ("encoder",):
        return "frames"
    return "classify" if len(names) == 2 and names[0] == "heads" else None


def _is_inside(old: str, retired: Mapping[str, str]) -> bool:
    """Whether a retired setting is inside a retired section, where pydantic does not look."""
    return any(old.startswith(f"{section}.") for section in retired)


def _is_called(old: str, new: str) -> str:
    return f"{old} is called {new} since {SINCE}."


def _sentence(section: type[Section], error: Any, retired: Mapping[str, str]) -> str:
    """A pydantic error as a sentence; "" where another sentence says the same."""
    names, _ = _walk(section, error["loc"])
    place = ".".join(names) or "the config"
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        if place in retired:
            return _is_called(place, retired[place])
        return f"{place} is not a setting.{_known_settings(section, error['loc'], value)}"
    if kind == "missing":
        return "" if place in retired.values() else f"{place} is missing. It has no default, so give it a value."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(place, error["ctx"])
    if kind == "literal_error":
        if (old := f"{place}={value}") in retired:
            return _is_called(old, retired[old])
        allowed = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return (
            f"{place} = {_short(value)} is not known.{did_you_mean(str(value), allowed)} One of: {', '.join(allowed)}."
        )
    message = str(error["msg"]).removeprefix("Value error, ").replace("valid dictionary", "section of settings")
    message = f"{message[0].lower()}{message[1:].rstrip('.')}."
    if kind == "value_error" and isinstance(value, dict):  # the message names the settings, so the section is left out
        return f"{place}: {message}" if names else message
    return f"{place} = {_short(value)}: {message}"


def _known_settings(section: type[Section], location: tuple[Any, ...], value: object) -> str:
    """The settings that are valid in place of an unknown one, and the other kinds of the section that have it."""
    name, here, union = str(location[-1]), _walk(section, location[:-1])[1], _walk(section, location[:-2])[1]
    known = sorted({setting for one in here for setting in one.model_fields})
    fixed_here = {item for one in here for item in fixed_values(one).items()}
    owners = [one for one in union if name in one.model_fields] if set(here) <= set(union) else []
    differences = [[item for item in fixed_values(one).items() if item not in fixed_here] for one in owners]
    kinds = sorted({": ".join(items[0]) for items in differences if items})
    elsewhere = [place for place in settings_like(section, name) if place.rpartition(".")[0] != ".".join(location[:-1])]
    hint = f" It is a setting of {', '.join(kinds)}." if kinds else did_you_mean(name, known)
    if not hint and elsewhere:
        hint = f" Write it with its section: {' or '.join(f'{place}={value}' for place in elsewhere)}."
    return f"{hint} Known here: {', '.join(known)}."


def _unknown_kind(place: str, context: Mapping[str, Any]) -> str:
    """The sentence about a section whose kind is missing or unknown."""
    setting = f"{place}.{str(context['discriminator']).strip(chr(39))}"
    tag = context.get("tag")
    if tag is None:
        return f"{setting} is missing. Give it a value."
    allowed = str(context["expected_tags"]).replace("'", "").split(", ")
    return f"{setting} = {tag!r} is not known.{did_you_mean(str(tag), allowed)} One of: {', '.join(sorted(allowed))}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field's type mentions, in order."""
    is_class = isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias)
    if is_class and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in typing.get_args(annotation) for section in sections_in(inner)]


def fixed_values(section: type[Section]) -> dict[str, str]:
    """The fields that tell a section from others of its union, such as {"kind": "frames"}: each has one legal value."""
    types_ = {name: info.annotation for name, info in section.model_fields.items()}
    literals = {name: typing.get_args(a) for name, a in types_.items() if typing.get_origin(a) is typing.Literal}
    return {name: str(values[0]) for name, values in literals.items() if len(values) == 1}


def _walk(annotation: Any, location: tuple[Any, ...]) -> tuple[list[str], list[type[Section]]]:
    """The place as people write it, and the sections that may stand there.

    Pydantic puts the kind of a section into the location, and people do not: ("encoder", "frames", "size") is
    encoder.size.
    """
    names: list[str] = []
    choices = sections_in(annotation)
    for depth, part in enumerate(location):
        tagged = [section for section in choices if part in fixed_values(section).values()]
        if typing.get_origin(annotation) is dict:  # any key: the name of a head
            names.append(str(part))
            annotation = typing.get_args(annotation)[1]
        elif len(choices) > 1 and tagged:
            choices = tagged
            annotation = tagged[0] if len(tagged) == 1 else annotation
            continue
        elif len(choices) == 1 and part in choices[0].model_fields:
            names.append(str(part))
            annotation = choices[0].model_fields[part].annotation
        else:
            return [*names, *map(str, location[depth:])], choices
        choices = sections_in(annotation)
    return names, choices
