"""Turns what a model refuses into problems that name the file, the line, the field and what is allowed."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from exp_pipeline.catalog.documents import Document, Place, Step, choices
from exp_pipeline.model.base import Noun
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.names import SLUG

Parsed = TypeVar("Parsed", bound=Noun)
Anything = TypeVar("Anything", bound=Noun)

_KINDS: dict[str, tuple[str, str]] = {
    "string_type": ("must be text", "text; put numbers and true/false in quotes"),
    "int_type": ("must be a whole number", "a whole number"),
    "int_from_float": ("must be a whole number", "a whole number"),
    "float_type": ("must be a number", "a number"),
    "bool_type": ("must be true or false", "true, false"),
    "tuple_type": ("must be a list", "a list, such as [a, b]"),
    "dict_type": ("must be a mapping", "lines of `name: value`"),
    "model_type": ("must be a mapping", "lines of `name: value`"),
    "model_attributes_type": ("must be a mapping", "lines of `name: value`"),
    "date_type": ("is not a day", "a day written YYYY-MM-DD"),
    "date_parsing": ("is not a day", "a day written YYYY-MM-DD"),
    "date_from_datetime_parsing": ("is not a day", "a day written YYYY-MM-DD"),
    "date_from_datetime_inexact": ("is not a day", "a day written YYYY-MM-DD"),
}
_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_SLUG_RULE = "lower-case letters, digits and hyphens, at most 63"
_IDENTIFIER_RULE = "lower-case letters, digits and single underscores, beginning with a letter, at most 63"


def parse_noun(
    model: type[Parsed],
    document: Document,
    place: Place = (),
    *,
    stand_ins: Mapping[str, Any] | None = None,
) -> tuple[Parsed | None, list[Problem]]:
    """What a part of a document means as a model: the noun, or every problem with it.

    Unknown and wrong fields are set aside for a second reading, so that a slip of the pen does not hide the
    rules that look at several fields together. stand_ins: values for required fields in that reading.
    """
    data = document.at(place)
    if not isinstance(data, dict):
        allowed = f"lines of `name: value` with {', '.join(_required(model))}"
        return None, [
            document.problem(place, "must be a mapping" if data is not None else "is empty", allowed=allowed)
        ]
    try:
        return _validate(model, data), []
    except ValidationError as error:
        errors = [(tuple(one["loc"]), one) for one in error.errors(include_url=False)]
    problems = [
        problem for loc, one in errors if (problem := _problem(model, document, place, loc, one)) is not None
    ]
    problems += _second_reading(model, document, place, data, errors, stand_ins or {})
    return None, problems


def _second_reading(
    model: type[Noun],
    document: Document,
    place: Place,
    data: Mapping[str, Any],
    errors: list[tuple[Place, Any]],
    stand_ins: Mapping[str, Any],
) -> list[Problem]:
    """What the rules over several fields say of the fields that are in order."""
    if any(not loc for loc, _ in errors):
        return []
    unknown = [_untagged(data, loc) for loc, one in errors if one["type"] == "extra_forbidden"]
    wrong = {str(loc[0]) for loc, one in errors if one["type"] != "extra_forbidden"}
    rest = {key: value for key, value in _without(data, unknown).items() if key not in wrong}
    rest |= {field: stand_ins[field] for field in sorted(wrong & set(stand_ins))}
    try:
        _validate(model, rest)
    except ValidationError as error:
        found = [(tuple(one["loc"]), one) for one in error.errors(include_url=False)]
    else:
        return []
    # What follows from a field that was set aside is no fault of its own.
    told = [
        (loc, one)
        for loc, one in found
        if not (one["type"] == "missing" and loc and loc[0] in wrong)
        and not wrong & set(re.findall(r"[a-z_]+", str(one.get("ctx", {}).get("error", ""))))
    ]
    problems = [_problem(model, document, place, loc, one) for loc, one in told]
    return [problem for problem in problems if problem is not None]


def _validate(model: type[Anything], data: Mapping[str, Any]) -> Anything:
    # Strict JSON is what YAML means: lists may be tuples and text may be a day, but "3" is no number.
    return model.model_validate_json(json.dumps(data), strict=True)


def _without(data: Any, places: list[tuple[Step, ...]]) -> Any:
    drop = {place[0] for place in places if len(place) == 1}
    if isinstance(data, dict):
        return {
            key: _without(value, [place[1:] for place in places if len(place) > 1 and place[0] == key])
            for key, value in data.items()
            if key not in drop
        }
    if isinstance(data, list):
        return [
            _without(value, [place[1:] for place in places if len(place) > 1 and place[0] == position])
            for position, value in enumerate(data)
        ]
    return data


def _problem(
    model: type[Noun], document: Document, base: Place, loc: tuple[Step, ...], error: Mapping[str, Any]
) -> Problem | None:
    kind = str(error["type"])
    context = error.get("ctx", {})
    inside = tuple(step for step in loc if step != "[key]")
    place = (*base, *_untagged(document.at(base), inside))
    value = str(inside[-1]) if loc and loc[-1] == "[key]" else None
    owner, info = _declaration(model, inside)
    if kind == "extra_forbidden" and owner is not None:
        hint, allowed = choices(str(inside[-1]), owner.model_fields)
        return document.problem(place, f"is not a field{hint}", allowed=allowed)
    if kind == "missing":
        return document.problem(place, "is required and missing", allowed=_wanted(info), value="")
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        hint, allowed = choices(document.text(place), known)
        return document.problem(place, f"is not one of the choices{hint}", allowed=allowed, value=value)
    if kind == "union_tag_invalid":
        where = (*place, str(context["discriminator"]).strip("'"))
        hint, allowed = choices(document.text(where), re.findall(r"'([^']*)'", str(context["expected_tags"])))
        return document.problem(where, f"is not one of the choices{hint}", allowed=allowed)
    if kind == "union_tag_not_found":
        where = (*place, str(context["discriminator"]).strip("'"))
        return document.problem(where, "is required and missing", value="")
    if kind in _RANGES:
        return document.problem(place, "is out of range", allowed=_range(info, context), value=value)
    if kind == "string_pattern_mismatch":
        rule = _SLUG_RULE if context["pattern"] == SLUG.pattern else _IDENTIFIER_RULE
        return document.problem(place, "is not a valid name", allowed=rule, value=value)
    if kind == "string_too_long":
        return document.problem(
            place, "is too long", allowed=f"at most {context['max_length']} characters", value=value
        )
    if kind == "string_too_short":
        return document.problem(place, "is empty; write it out", allowed="text", value="")
    if kind == "too_short":
        given = document.at(place)
        if isinstance(given, list) and len(given) >= context["min_length"]:
            return None  # its entries are wrong, and each has its own problem
        return document.problem(place, "has too few entries", allowed=f"at least {context['min_length']}")
    if kind == "value_error":
        message = str(context["error"])
        spoken = _field_spoken_of(message, owner if owner is not None else model)
        where = (*place, spoken) if spoken is not None else _last_named(message, document, place)
        return document.problem(where, message, shown=None if where else "(whole entry)")
    if document.at(place) is None and place in document.lines:
        choice = "" if info is not None and info.is_required() else " or leave the field out"
        return document.problem(place, f"is empty; give a value{choice}", allowed=_wanted(info))
    if kind in ("int_type", "float_type") and isinstance(document.at(place), str):
        # Quotes do not show in the text, and may be the whole mistake.
        value = f'"{document.text(place)}"'
    message, allowed = _KINDS.get(kind, (str(error["msg"]), ""))
    return document.problem(place, message, allowed=allowed, value=value)


def _field_spoken_of(message: str, model: type[BaseModel]) -> str | None:
    """Which field a rule over several fields speaks of: the first word that names one."""
    for word in re.findall(r"[a-z_]+", message.partition(":")[0]):
        for name in (word, f"{word}s"):
            if name in model.model_fields:
                return str(name)
    return None


def _last_named(message: str, document: Document, base: Place) -> Place:
    """Where a value that a rule names after its colon stands for the last time; else the whole entry."""
    named = set(message.rpartition(": ")[2].split(", "))
    places = [place for place, text in document.texts.items() if place[: len(base)] == base and text in named]
    return max(places, key=document.line, default=base)


def _declaration(
    model: type[BaseModel], place: tuple[Step, ...]
) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """Which model declares the field at a place, and the field (None where none is declared there)."""
    owner: type[BaseModel] | None = model
    info: FieldInfo | None = None
    kind: Any = model
    for position, step in enumerate(place):
        member = _member(kind, step)
        if member is not None:
            kind = member
            continue
        kind = _bare(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            owner = kind
            info = kind.model_fields.get(str(step))
            if info is None:
                return owner, None
            kind = info.annotation
            if position == len(place) - 1:
                inner = _bare(kind)
                return (inner if isinstance(inner, type) and issubclass(inner, BaseModel) else owner), info
        else:
            arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
            kind = arguments[-1] if arguments else None
    inner = _bare(kind)
    return (inner if isinstance(inner, type) and issubclass(inner, BaseModel) else owner), info


def _untagged(data: Any, loc: tuple[Step, ...]) -> tuple[Step, ...]:
    """The place an error stands at, without the names of the kinds that pydantic puts between its steps."""
    place: list[Step] = []
    for step in loc:
        if isinstance(data, dict) and step not in data and data.get("kind") == step:
            continue
        place.append(step)
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            data = None
    return tuple(place)


def _member(kind: Any, step: Step) -> Any:
    """Which of several models goes by this kind? None where a step names no kind."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    models = [one for one in get_args(kind) if isinstance(one, type) and issubclass(one, BaseModel)]
    for one in models:
        tag = one.model_fields.get("kind")
        if tag is not None and step in get_args(tag.annotation):
            return one
    return None


def _bare(kind: Any) -> Any:
    while True:
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
        elif origin in (Union, types.UnionType):
            kind = next(argument for argument in get_args(kind) if argument is not type(None))
        else:
            return kind


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, info in model.model_fields.items() if info.is_required()]


def _wanted(info: FieldInfo | None) -> str:
    if info is None:
        return ""
    kind = _bare(info.annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"lines of `name: value` with {', '.join(_required(kind) or kind.model_fields)}"
    if get_origin(kind) in (tuple, list):
        return "a list, such as [a, b]"
    names = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true, false"}
    names["date"] = "a day written YYYY-MM-DD"
    if get_args(kind):
        return ", ".join(str(argument) for argument in get_args(kind))
    return names.get(getattr(kind, "__name__", ""), "")


def _range(info: FieldInfo | None, context: Mapping[str, Any]) -> str:
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    limits: dict[str, float] = {}
    for metadata in info.metadata if info is not None else []:
        for name in words:
            if (limit := getattr(metadata, name, None)) is not None:
                limits[name] = limit
    limits = limits or {name: context[name] for name in words if name in context}
    return " and ".join(f"{words[name]} {limit:g}" for name, limit in limits.items())
