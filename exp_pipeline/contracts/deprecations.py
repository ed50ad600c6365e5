"""What is on its way out: versions and columns of events with their last day, and who still uses them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlglot import exp

from exp_pipeline.contracts.events import event_specs
from exp_pipeline.contracts.fields import FIELDS


@dataclass(frozen=True, slots=True)
class Deprecation:
    """A version of an event, or a column of it, that should not be sent after its `sunset`.

    `column` is None where the whole version ends; rows of it received later are refused. A column is never a
    reason to refuse a row. `event_name` and `major` are None for a column that ends on every event.
    `replaced_by` says what to send instead, where that is known.
    """

    event_name: str | None
    major: int | None
    column: str | None
    sunset: date
    replaced_by: str | None = None

    @property
    def key(self) -> str:
        """A name for a column of counts."""
        return "_".join(str(part) for part in (self.event_name, self.major, self.column) if part is not None)

    @property
    def label(self) -> str:
        """What ends, in words."""
        event = "" if self.event_name is None else f"{self.event_name} {self.major}"
        return " of ".join(part for part in (self.column, event) if part)

    def used(self) -> exp.Expr:
        """Whether a row uses it: an expression over the canonical columns, true or false, never NULL."""
        tests: list[exp.Expr] = []
        if self.event_name is not None:
            tests.append(exp.column("event_name").eq(exp.Literal.string(self.event_name)))
            tests.append(exp.column("schema_version").like(f"{self.major}.%"))
        if self.column is not None:
            tests.append(exp.column(self.column, quoted=True).is_(exp.null()).not_())
        return exp.func("COALESCE", exp.and_(*tests), exp.false())


def deprecations() -> tuple[Deprecation, ...]:
    """All that is deprecated, in the order of columns, then of the taxonomy."""
    everywhere = [
        Deprecation(None, None, field.name, date.fromisoformat(field.sunset))
        for field in FIELDS.values()
        if field.sunset is not None
    ]
    found = []
    for spec in event_specs():
        if spec.sunset is not None:
            ends = date.fromisoformat(spec.sunset)
            found.append(Deprecation(spec.name, spec.major, None, ends, spec.replaced_by))
        found += [
            Deprecation(spec.name, spec.major, column, date.fromisoformat(day))
            for column, day in spec.deprecated.items()
        ]
    return (*everywhere, *found)


def deprecation_counts(rows: str = "events") -> exp.Select:
    """How many rows of a table with the canonical columns still use what is deprecated, and the last one?

    One row for each deprecation, in order: `place` (from 0), `n_rows`, `n_after` (received after the last
    day), `last_received` (UTC, null where none does). Reads each column once.
    """
    aggregates: list[exp.Expr] = []
    known = deprecations()
    for place, one in enumerate(known):
        used = one.used()
        after = exp.and_(
            used.copy(),
            exp.GT(
                this=exp.cast(exp.column("received_at"), "date"),
                expression=exp.cast(exp.Literal.string(one.sunset.isoformat()), "date"),
            ),
        )
        aggregates += [
            _where(exp.Count(this=exp.Star()), used).as_(f"n_{place}"),
            _where(exp.Count(this=exp.Star()), after).as_(f"after_{place}"),
            _where(exp.Max(this=exp.column("received_at")), used).as_(f"last_{place}"),
        ]
    counted = exp.select(*(aggregates or [exp.Count(this=exp.Star()).as_("n")])).from_(rows)
    each: list[exp.Select] = [
        exp.select(
            exp.Literal.number(place).as_("place"),
            exp.column(f"n_{place}").as_("n_rows"),
            exp.column(f"after_{place}").as_("n_after"),
            exp.column(f"last_{place}").as_("last_received"),
        ).from_("counted")
        for place in range(len(known))
    ]
    if not each:
        empty = "SELECT 0 AS place, 0 AS n_rows, 0 AS n_after, NULL AS last_received WHERE FALSE"
        return exp.maybe_parse(empty, dialect="duckdb", into=exp.Select)
    union: exp.Query = each[0]
    for one_row in each[1:]:
        union = exp.union(union, one_row, distinct=False)
    return (
        exp.select("place", "n_rows", "n_after", "last_received")
        .from_(union.subquery("told"))
        .order_by("place")
        .with_("counted", as_=counted)
    )


def _where(aggregate: exp.Expr, condition: exp.Expr) -> exp.Expr:
    return exp.Filter(this=aggregate, expression=exp.Where(this=condition.copy()))
