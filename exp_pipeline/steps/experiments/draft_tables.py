"""The questions of `exp new --table`: which columns of a table hold units, arms and outcomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from exp_pipeline.steps.experiments import draft_answers as answers
from exp_pipeline.steps.experiments.draft_questions import Question

if TYPE_CHECKING:
    import polars as pl

Fields = dict[str, Any]
_ARMS_AT_MOST = 20
_ARM_WORDS = ("arm", "group", "variant", "treatment", "condition")


def table_questions(frame: pl.DataFrame, fields: Callable[[], Fields]) -> Iterator[Question]:
    """Where the table keeps what a readout needs, one question a column."""
    offer = {name: _told(frame[name]) for name in frame.columns}
    yield Question(
        "unit_column",
        ("table", "unit_id"),
        "Column of the unit",
        "Who was drawn: an id. A unit with several rows keeps its first.",
        read=_column(frame.columns),
        offer=offer,
    )
    yield Question(
        "arm_column",
        ("table", "arm"),
        "Column of the arm",
        "Which version the unit was given.",
        read=_arm_column(frame),
        default=next((name for name in frame.columns if name.lower() in _ARM_WORDS), None),
        offer=offer,
    )
    yield Question(
        "outcomes",
        ("table", "metrics"),
        "Columns of outcomes",
        "Names between commas, the one that decides first. 0 and 1 throughout is a share.",
        read=_outcomes(frame),
        show=lambda value: ", ".join(value),
        offer=offer,
    )
    yield Question(
        "cluster_column",
        ("table", "cluster"),
        "Column of the class",
        "Where whole classes, schools or households were drawn: which of them a unit belongs to.",
        read=_column(frame.columns),
        default="none",
        offer=offer,
        optional=True,
    )
    yield Question(
        "assigned_column",
        ("table", "assigned_at"),
        "Column of the day",
        "When the unit was assigned; it tells first and last day.",
        read=_column(frame.columns),
        default="none",
        offer=offer,
        optional=True,
    )


def fields_of_table(fields: Mapping[str, Any], frame: pl.DataFrame) -> Fields:
    """A draft whose columns are named, with what the table itself tells: arms, shares, days, the primary.

    What the draft says already stays. Arms get equal shares: the table tells what came, not what was planned.
    Raises ValueError where two values of the arm's column would get one name.
    """
    from exp_pipeline.analysis.tables.question import as_labels

    table = fields["table"]
    values = as_labels(frame, (table["arm"],)).drop_nulls().unique().sort().to_list()
    slugs = {value: _slug(value) for value in values}
    if len(set(slugs.values())) < len(slugs):
        raise ValueError(f"column {table['arm']!r} names arms that differ in signs only: {', '.join(values)}")
    control = next((name for name in slugs.values() if name in ("control", "a", "0", "arm-0")), None)
    names = sorted(slugs.values(), key=lambda name: (name != control, name))
    told: Fields = {
        "hash_scheme": "none",
        "arms": [{"name": name, "share": round(1 / len(names), 6)} for name in names],
        "control": names[0],
        "primary": next(iter(table["metrics"])),
        "secondary": list(table["metrics"])[1:],
    }
    told["arms"][0]["share"] = round(1 - sum(arm["share"] for arm in told["arms"][1:]), 6)
    if "cluster" in table:
        told["randomisation_unit"] = "class"
    days = _days(frame, table.get("assigned_at"))
    if days is not None:
        told |= {"start": days[0], "end": days[1]}
    if any(value != slug for value, slug in slugs.items()):
        table = {**table, "arms": slugs}
    return {**{key: value for key, value in told.items() if value != []}, **fields, "table": table}


def _told(values: pl.Series) -> str:
    kinds = values.n_unique()
    some = ", ".join(str(value)[:20] for value in values.drop_nulls().unique(maintain_order=True).head(3))
    return f"{kinds:,} different values, such as {some}"


def _column(known: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.strip() not in known:
            raise ValueError(f"the table has no column {text.strip()!r}; it has {', '.join(known)}")
        return text.strip()

    return read


def _arm_column(frame: pl.DataFrame) -> Callable[[str], str]:
    def read(text: str) -> str:
        name = _column(frame.columns)(text)
        kinds = frame[name].drop_nulls().n_unique()
        if not 2 <= kinds <= _ARMS_AT_MOST:
            raise ValueError(
                f"column {name!r} holds {kinds:,} different values; arms are from 2 to {_ARMS_AT_MOST}"
            )
        return name

    return read


def _outcomes(frame: pl.DataFrame) -> Callable[[str], Fields]:
    def read(text: str) -> Fields:
        named = answers.names(text)
        if not named:
            raise ValueError("name one outcome at least")
        return {_identifier(name): _metric(frame, _column(frame.columns)(name)) for name in named}

    return read


def _metric(frame: pl.DataFrame, name: str) -> Fields:
    values = frame[name].drop_nulls()
    if not (values.dtype.is_numeric() or str(values.dtype) == "Boolean"):
        raise ValueError(f"column {name!r} must hold numbers, or true and false; it holds {values.dtype}")
    share = values.cast(float).is_in([0.0, 1.0]).all()
    kind = {"type": "proportion", "display": "share"} if share else {"type": "mean", "display": "number"}
    return {"numerator": name, **kind, "title": name.replace("_", " ").capitalize()}


def _identifier(name: str) -> str:
    cleaned = _joined(name, "_")
    return cleaned if cleaned[:1].isalpha() else f"column_{cleaned}"


def _slug(value: str) -> str:
    cleaned = _joined(value, "-")
    return cleaned if cleaned[:1].isalpha() else f"arm-{cleaned}"


def _joined(text: str, mark: str) -> str:
    """Lower-case letters and digits of a text, whatever is between them as one mark."""
    return mark.join(re.findall("[a-z0-9]+", text.lower()))


def _days(frame: pl.DataFrame, column: str | None) -> tuple[str, str] | None:
    """First day, and the day after the last, of a column of times; None where it holds none."""
    import polars as pl

    if column is None:
        return None
    values = frame[column]
    times = values.str.to_datetime(strict=False) if values.dtype == pl.String else values
    days = times.cast(pl.Date, strict=False)
    first, last = days.min(), days.max()
    if not isinstance(first, date) or not isinstance(last, date):
        return None
    return first.isoformat(), (last + timedelta(days=1)).isoformat()
