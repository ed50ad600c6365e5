"""The tables that ask whether an effect lasts: by week and by day since assignment, early against late."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.readout import (
    NoveltyContrast,
    NoveltyDay,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
)
from exp_pipeline.report.cells import NONE, between, change, p_cell, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.numbers import Display, decimal
from exp_pipeline.report.screening import Screen

_ESTIMATE = (
    Column(key="absolute", title="Effect", numeric=True),
    Column(key="interval", title="Interval", numeric=True),
)
_UNITS = (
    Column(key="n_control", title="n control", numeric=True),
    Column(key="n_treatment", title="n arm", numeric=True),
)
_NOTE = Column(key="note", title="Note")


def novelty_table(points: Sequence[NoveltyPoint], display: Display, decimals: int, screen: Screen) -> Table:
    """What was the primary effect in each week since a unit's assignment?"""
    rows = [_row("week", point.week, point, display, decimals, screen) for point in points]
    return _since_assignment(
        "novelty",
        "Primary effect by week since assignment",
        Column(key="week", title="Week", numeric=True),
        rows,
        "Week 0 is the day of assignment and the six days after it. "
        "A week holds the units that have had all of it.",
    )


def novelty_days_table(
    points: Sequence[NoveltyDay], display: Display, decimals: int, screen: Screen
) -> Table:
    """What was the primary effect on each day since a unit's assignment?"""
    rows = [_row("day", point.day, point, display, decimals, screen) for point in points]
    return _since_assignment(
        "novelty_days",
        "Primary effect by day since assignment",
        Column(key="day", title="Day", numeric=True),
        rows,
        "Day 0 is the day of assignment. A day holds the units that have had all of it.",
    )


def _row(
    key: str,
    place: int,
    point: NoveltyPoint | NoveltyDay,
    display: Display,
    decimals: int,
    screen: Screen,
) -> dict[str, Cell]:
    few = screen.small(point.n_control, point.n_treatment)
    shown = not few and point.absolute is not None
    return {
        key: Cell(text=str(place), value=place),
        "arm": words(point.arm),
        "n_control": screen.beside(point.n_control, few),
        "n_treatment": screen.beside(point.n_treatment, few),
        "absolute": change(point.absolute if shown else None, display, decimals),
        "interval": between(point.ci_lower, point.ci_upper, display, decimals) if shown else NONE,
        "note": words(screen.few_units if few else point.reason),
    }


def _since_assignment(key: str, title: str, first: Column, rows: list[dict[str, Cell]], note: str) -> Table:
    columns = (first, Column(key="arm", title="Arm"), *_UNITS, *_ESTIMATE, _NOTE)
    return without_empty_columns(Table(key=key, title=title, columns=columns, rows=tuple(rows), note=note))


def novelty_contrast_table(
    rows: Sequence[NoveltyContrast], display: Display, decimals: int, screen: Screen
) -> Table:
    """Is the effect of the last complete week unlike that of the first, on the same units?"""
    printed = []
    for row in rows:
        few = screen.small(row.n_control, row.n_treatment)
        weeks = "" if row.late_week is None else f"{row.early_week}, {row.late_week}"
        printed.append(
            {"arm": words(row.arm), "weeks": words(weeks)} | _late(row, few, display, decimals, screen)
        )
    return _late_table(
        "novelty_contrasts",
        "Does the effect last: last complete week against the first",
        Column(key="weeks", title="Weeks", numeric=True),
        ("First week", "Last week", "Last less first"),
        printed,
        "Both weeks on the same units: those that have had the last one whole.",
    )


def novelty_split_table(
    rows: Sequence[NoveltySplit], display: Display, decimals: int, screen: Screen
) -> Table:
    """Is the effect after the first days since assignment unlike that of these days, on the same units?"""
    printed = []
    for row in rows:
        few = screen.small(row.n_control, row.n_treatment)
        until = (
            ""
            if row.until_day is None
            else f"0 to {row.split_days - 1}, {row.split_days} to {row.until_day - 1}"
        )
        printed.append(
            {"arm": words(row.arm), "days": words(until)} | _late(row, few, display, decimals, screen)
        )
    return _late_table(
        "novelty_splits",
        "Does the effect last: first days against those after",
        Column(key="days", title="Days", numeric=True),
        ("First days", "Later days", "Later less first"),
        printed,
        "Both stretches on the same units, as the effect of one day on average.",
    )


def _late(
    row: NoveltyContrast | NoveltySplit, few: bool, display: Display, decimals: int, screen: Screen
) -> dict[str, Cell]:
    return {
        "early": change(None if few else row.early, display, decimals),
        "late": change(None if few else row.late, display, decimals),
        "absolute": change(None if few else row.absolute, display, decimals),
        "interval": NONE if few else between(row.ci_lower, row.ci_upper, display, decimals),
        "p_value": p_cell(None if few else row.p_value),
        "n_control": screen.beside(row.n_control, few),
        "n_treatment": screen.beside(row.n_treatment, few),
        "note": words(screen.few_units if few else row.reason),
    }


def _late_table(
    key: str,
    title: str,
    stretch: Column,
    headings: tuple[str, str, str],
    rows: list[dict[str, Cell]],
    note: str,
) -> Table:
    columns = (
        Column(key="arm", title="Arm"),
        stretch,
        Column(key="early", title=headings[0], numeric=True),
        Column(key="late", title=headings[1], numeric=True),
        Column(key="absolute", title=headings[2], numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        *_UNITS,
        _NOTE,
    )
    return without_empty_columns(Table(key=key, title=title, columns=columns, rows=tuple(rows), note=note))


def novelty_trend_table(rows: Sequence[NoveltyTrend], display: Display, decimals: int) -> Table:
    """How does the effect move from week to week, and where does it settle?"""
    printed = []
    for row in rows:
        since = row.steady_from_week
        half = row.half_life_weeks
        printed.append(
            {
                "arm": words(row.arm),
                "weeks": Cell(text=str(row.weeks), value=row.weeks),
                "slope": change(row.slope, display, decimals),
                "slope_interval": between(row.slope_lower, row.slope_upper, display, decimals),
                "p_value": p_cell(row.p_value),
                "constant": p_cell(row.constant_p_value),
                "steady": change(row.steady, display, decimals),
                "steady_interval": between(row.steady_lower, row.steady_upper, display, decimals),
                "since": NONE if since is None else Cell(text=f"week {since}", value=since),
                "half_life": NONE if half is None else Cell(text=decimal(half, 1), value=half),
                "note": words(
                    "; ".join(part for part in (row.reason or row.steady_because, *row.flags) if part)
                ),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="weeks", title="Weeks", numeric=True),
        Column(key="slope", title="Change a week", numeric=True),
        Column(key="slope_interval", title="Its interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="constant", title="p of one effect for all weeks", numeric=True),
        Column(key="steady", title="Steady effect", numeric=True),
        Column(key="steady_interval", title="Interval", numeric=True),
        Column(key="since", title="From", numeric=True),
        Column(key="half_life", title="Half-life, weeks", numeric=True),
        Column(key="note", title="By which rule"),
    )
    return without_empty_columns(
        Table(
            key="novelty_trend",
            title="Where the effect settles",
            columns=columns,
            rows=tuple(printed),
        )
    )
