"""A section of a config: a frozen pydantic model whose mistakes become sentences.

In: plain dicts. Out: validated sections, or one `ConfigError` that names every mistake with its place, its value
and the nearest thing that would be right. Knows nothing of what the sections configure.
"""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

S = TypeVar("S", bound="Section")

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


class ConfigError(ValueError):
    """The user's configuration is wrong; the text lists every mistake, one a line."""


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, values are frozen, defaults are checked too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def near(word: str, known: list[str]) -> str:
    """' Did you mean ...?' when a known word is close, else ''."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""


def validate(section: type[S], values: object, source: str) -> S:
    """`section` filled from `values`. Raises ConfigError naming `source` and every mistake at once."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(section, e) for e in error.errors(include_url=False)]
        head = f"{source}: {len(lines)} mistake{'s' if len(lines) > 1 else ''} in the configuration."
        raise ConfigError("\n".join([head, *(f"  {line}" for line in lines)])) from None


def _sentence(section: type[Section], error: Any) -> str:
    names, _ = _walk(section, error["loc"])
    place = ".".join(names) or "the config"
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted({name for one in _walk(section, error["loc"][:-1])[1] for name in one.model_fields})
        return f"{place} is not a setting.{near(str(error['loc'][-1]), known)} Known here: {', '.join(known)}."
    if kind == "missing":
        return f"{place} is missing. It has no default, so give it a value."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = context.get("tag")
        allowed = str(context.get("expected_tags", "")).replace("'", "").split(", ")
        said = f"{place}.kind = {given!r} is not known." if given else f"{place}.kind is missing."
        return f"{said}{near(str(given), allowed)} One of: {', '.join(sorted(allowed))}."
    if kind == "literal_error":
        value = error["input"]
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"{place} = {_short(value)} is not known.{near(str(value), allowed)} One of: {', '.join(allowed)}."
    message = str(error["msg"]).removeprefix("Value error, ").replace("valid dictionary", "section of settings")
    said = f"{message[0].lower()}{message[1:].rstrip('.')}."
    if kind == "value_error" and isinstance(error.get("input"), dict):  # they are named in the sentence
        return f"{place}: {said}" if names else said
    return f"{place} = {_short(error.get('input'))}: {said}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def type_name(annotation: Any) -> str:
    """A type as people write it: a|b|c for choices, int, float, text."""
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) is typing.Annotated:
        return type_name(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join("none" if a is type(None) else type_name(a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return "list"
    return {"str": "text", "bool": "true|false"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field's type mentions."""
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, Section)
    ):
        return [annotation]
    return [s for inner in typing.get_args(annotation) for s in sections_in(inner)]


def _walk(annotation: Any, location: tuple[Any, ...]) -> tuple[list[str], list[type[Section]]]:
    """The place as people write it, and the sections that may stand there.

    Pydantic puts the `kind` of a section into the location; people do not: ('encoder', 'frames', 'size') is encoder.size.
    """
    choices = sections_in(annotation)
    if not location:
        return [], choices
    part, rest = location[0], location[1:]
    if typing.get_origin(annotation) is dict:  # any key: the name of a head
        names, found = _walk(typing.get_args(annotation)[1], rest)
        return [str(part), *names], found
    tagged = [
        s for s in choices if "kind" in s.model_fields and part in typing.get_args(s.model_fields["kind"].annotation)
    ]
    if len(choices) > 1 and tagged:
        return _walk(tagged[0], rest)
    if len(choices) == 1 and part in choices[0].model_fields:
        names, found = _walk(choices[0].model_fields[part].annotation, rest)
        return [str(part), *names], found
    return [str(p) for p in location], choices


def describe_settings(section: type[Section]) -> str:
    """Every setting of a section with its type, default and meaning, one a line."""
    return "\n".join(_describe(section, "")) + "\n"


def _describe(section: type[Section], prefix: str) -> list[str]:
    lines = []
    for name, info in section.model_fields.items():
        inner = sections_in(info.annotation)
        if inner:
            key = f"{prefix}{name}." if "dict" not in str(info.annotation) else f"{prefix}{name}.NAME."
            for one in inner:
                kind = one.model_fields.get("kind")
                lines.append(
                    f"\n{key[:-1]}"
                    + (f" (kind: {kind.default})" if kind else "")
                    + f": {(one.__doc__ or '').splitlines()[0]}"
                )
                lines += _describe(one, key)
            continue
        if name == "kind":
            continue
        default = "required" if info.is_required() else f"default {info.default}"
        lines.append(
            f"  {prefix + name:<32} {type_name(info.annotation):<44} {default:<24} {info.description or ''}".rstrip()
        )
    return lines
