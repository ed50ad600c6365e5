"""The column and event builders: what a pandera field and a pandera model of an event look like here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.dataframe.model_components import FieldInfo

from exp_pipeline.contracts.canonical.columns import CanonicalColumn, Sample
from exp_pipeline.model.names import IDENTIFIER


@dataclass(frozen=True, slots=True)
class Rule:
    """A cross-field rule: a boolean SQL expression that good rows fulfil.

    Read as an SQL CHECK: a row breaks the rule where the expression is false; unknown (NULL) is no breach,
    as a value that must be there is asked for by the column itself. Written in the words that polars' SQL
    and DuckDB share: comparisons, AND, OR, NOT, IS NULL, IN, BETWEEN, LIKE, INTERVAL '5 minutes'.
    """

    name: str
    expression: str
    meaning: str


def column(
    description: str,
    *,
    sample: Sample,
    unit: str = "",
    always: bool = False,
    identifier: bool = False,
    derived: bool = False,
    reduces: str | None = None,
    sunset: str | None = None,
    **checks: Any,
) -> Any:
    """What is one canonical column: meaning, unit, sample value, checks.

    `always`: never null, on any event. `identifier`: an id of a
    person or an organisation, which the door replaces by an HMAC. `derived`: computed by the pipeline, not
    sent by a producer. `reduces`: the raw text field of which this column keeps a hash, a length or a
    language. `sunset`: last day (ISO) of a deprecated column. `checks` are pandera's: ge, le, isin, ne, ...
    """
    return pa.Field(
        nullable=not always,
        required=always,
        description=description,
        metadata={
            "unit": unit,
            "sample": sample,
            "identifier": identifier,
            "derived": derived,
            "reduces": reduces,
            "sunset": sunset,
        },
        **checks,
    )


def schema_column(one: CanonicalColumn) -> Any:
    """Which pandera field is a column that was declared as plain data?"""
    return column(
        one.description,
        sample=one.sample,
        unit=one.unit,
        always=one.always,
        identifier=one.identifier,
        derived=one.derived,
        reduces=one.reduces,
        sunset=one.sunset,
        **one.checks,
    )


def rule_check(rule: Rule, *, name: str | None = None) -> Any:
    """How pandera asks a rule of a whole frame: by polars' SQL, a column that is not there being NULL.

    `name` is what a broken rule is called, `rule:<name>` where none is given.
    """
    expression = pl.sql_expr(rule.expression)
    if not isinstance(expression, pl.Expr):
        raise TypeError(f"rule {rule.name}: {rule.expression!r} is not one expression")
    columns = tuple(dict.fromkeys(expression.meta.root_names()))

    def holds(cls: Any, data: pa.PolarsData) -> pl.LazyFrame:
        present = set(data.lazyframe.collect_schema().names())
        frame = data.lazyframe.with_columns(
            pl.lit(None).alias(name) for name in columns if name not in present
        )
        return frame.select(expression.fill_null(True))

    return pa.dataframe_check(
        name=name or f"rule:{rule.name}", description=rule.meaning, statistics={"sql": rule.expression}
    )(holds)


def facts(model: type[pa.DataFrameModel]) -> dict[str, Any]:
    """What a model of an event says beside its columns: name, major, minor, owner, always, also, ..."""
    if model.Config.metadata is None:
        raise TypeError(f"{model.__name__} is no model of an event")
    return {"name": model.Config.name, **model.Config.metadata}


def add_rules(set_attribute: Callable[[str, Any], None], rules: Iterable[Rule]) -> None:
    """Which pandera checks follow from the rules of a model: one dataframe check each."""
    for rule in rules:
        if not IDENTIFIER.match(rule.name):
            raise ValueError(f"rule name {rule.name!r} must match {IDENTIFIER.pattern}")
        set_attribute(f"rule_{rule.name}", rule_check(rule))


def inherited(model: type, name: str) -> tuple[Any, FieldInfo]:
    """What the models above `model` say about a column: type and field. Raises ValueError if nothing."""
    for base in model.__mro__:
        annotations = inspect.get_annotations(base, eval_str=True) if name in vars(base) else {}
        if name in annotations and isinstance(vars(base)[name], FieldInfo):
            return annotations[name], vars(base)[name]
    raise ValueError(f"{model.__name__}: {name!r} is no canonical column; declare it in CanonicalEvent first")


def redefine(model: type, name: str, field: Any, annotation: Any) -> None:
    """Let a column that `model` inherits mean something else in it, of the same type."""
    known, _ = inherited(model, name)
    if known is not annotation:
        raise ValueError(f"{model.__name__}: {name!r} must stay of type {known}, or be another column")
    model.__annotations__ = {**inspect.get_annotations(model), name: annotation}
    field.__set_name__(model, name)
    setattr(model, name, field)


def require(model: type, names: Sequence[str]) -> None:
    """Change columns that `model` inherits so that they must be there and must not be null."""
    annotations = dict(inspect.get_annotations(model))
    for name in names:
        annotation, field = inherited(model, name)
        field = copy.copy(field)
        field.nullable, field.nullable_explicit = False, True
        field.required, field.required_explicit = True, True
        annotations[name] = annotation
        field.__set_name__(model, name)
        setattr(model, name, field)
    model.__annotations__ = annotations
