"""What a published table is, as plain data: its grain, its columns in order, the rules its rows keep.

Nothing here loads pandera or polars, so that every command may ask for columns at no cost; `contracts.tables`
makes the pandera models from the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

SqlType = Literal[
    "VARCHAR", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "UBIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP"
]


@dataclass(frozen=True, slots=True)
class Column:
    """One fixed column: DuckDB type, meaning with unit, whether it may be null, and pandera's checks on it.

    `checks` are keyword arguments of `pandera.Field` (ge, le, isin, ne, unique). `canonical`: type, meaning
    and checks are those of the canonical event's column of this name. TIMESTAMP is UTC in microseconds.
    """

    name: str
    sql_type: SqlType
    description: str
    nullable: bool = False
    checks: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    canonical: bool = False

    def __post_init__(self) -> None:
        if self.sql_type not in get_args(SqlType):
            raise ValueError(f"column {self.name}: sql_type {self.sql_type!r}; allowed: {get_args(SqlType)}")


@dataclass(frozen=True, slots=True)
class RowRule:
    """A rule between columns of a row: a boolean SQL expression that good rows fulfil; null is no breach."""

    name: str
    expression: str
    meaning: str


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One published table: `grain` says what one row is, `key` names the columns that no two rows share.

    The fixed columns stand first, in this order; columns that the catalog adds (measures, metrics) follow.
    """

    name: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rules: tuple[RowRule, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"table {self.name} declares twice: {', '.join(twice)}")
        unknown = [name for name in self.key if name not in names]
        if unknown:
            raise ValueError(f"table {self.name}: key columns {', '.join(unknown)} are not declared")


def text(name: str, description: str, *, nullable: bool = False, **checks: Any) -> Column:
    """A text column; one that may not be null may not be empty either."""
    if not nullable and "isin" not in checks:
        checks["ne"] = ""
    return Column(name, "VARCHAR", description, nullable, MappingProxyType(checks))


def count(name: str, description: str, *, ge: int = 0, nullable: bool = False) -> Column:
    """A number of things, or a place in a row of them."""
    return Column(name, "BIGINT", description, nullable, MappingProxyType({"ge": ge}))


def number(name: str, description: str, *, nullable: bool = False, **checks: Any) -> Column:
    """A measured or computed number."""
    return Column(name, "DOUBLE", description, nullable, MappingProxyType(checks))


def flag(name: str, description: str, *, nullable: bool = False) -> Column:
    """A yes or no."""
    return Column(name, "BOOLEAN", description, nullable)


def moment(name: str, description: str, *, nullable: bool = False) -> Column:
    """A moment in UTC, in microseconds."""
    return Column(name, "TIMESTAMP", description, nullable)


def day(name: str, description: str, *, nullable: bool = False) -> Column:
    """A UTC day."""
    return Column(name, "DATE", description, nullable)


def key64(name: str, description: str, *, nullable: bool = False) -> Column:
    """An id as an unsigned 64-bit number, for joins and order."""
    return Column(name, "UBIGINT", description, nullable)


def small(name: str, sql_type: SqlType, description: str, *, ge: int, le: int | None = None) -> Column:
    """A small whole number that is never null."""
    limits = {"ge": ge} if le is None else {"ge": ge, "le": le}
    return Column(name, sql_type, description, checks=MappingProxyType(limits))


def buckets() -> tuple[Column, Column]:
    """The two buckets of a unit, null where no experiment names it."""
    limits = MappingProxyType({"ge": 0, "le": 9_999})
    return (
        Column("arm_bucket", "BIGINT", "Bucket (0 to 9,999) that decides the unit's arm.", True, limits),
        Column(
            "traffic_bucket",
            "BIGINT",
            "Bucket (0 to 9,999) that decides whether the unit takes part at a traffic share.",
            True,
            limits,
        ),
    )


def draws() -> tuple[Column, Column, Column, Column]:
    """What a unit's buckets were drawn by, and its buckets in the layer and the holdout of the experiment."""
    limits = MappingProxyType({"ge": 0, "le": 9_999})
    return (
        Column("bucket_scheme", "VARCHAR", "Hash that drew arm_bucket and traffic_bucket.", True),
        Column("layer_bucket", "BIGINT", "Bucket (0 to 9,999) in the experiment's layer.", True, limits),
        Column("holdout_bucket", "BIGINT", "Bucket (0 to 9,999) in the global holdout.", True, limits),
        Column(
            "layer_draws",
            "VARCHAR",
            "Hash and salt that drew layer_bucket and holdout_bucket, as `hash:salt|hash:salt`.",
            True,
        ),
    )


def on_its_day(moment_column: str, day_column: str = "event_date") -> RowRule:
    """The day of a row is the UTC day of one of its moments."""
    return RowRule(
        "on_its_day",
        f"CAST({moment_column} AS DATE) = {day_column}",
        f"{day_column} is the UTC day of {moment_column}.",
    )
