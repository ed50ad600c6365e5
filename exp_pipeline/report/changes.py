"""What changed since the readout before, as one table of the appendix."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from exp_pipeline.model.readout import InputCause, InputChange, Movement, SinceLast
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, words
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.screening import WITHHELD, Screen

_CAUSES: dict[InputCause, str] = {
    "late data": "Late data",
    "correction": "Correction",
    "made anew": "Made by another rule",
    "new days": "New days",
    "brief": "Brief changed",
    "metrics": "Metric definitions changed",
    "code": "Code changed",
    "limits": "Layer or holdout changed",
    "lock": "Lock of the brief changed",
    "unblinding": "Unblinded early",
    "earlier A/A": "An A/A before it says otherwise",
    "unknown": "Inputs not known any more",
}


def since_last_table(since: SinceLast, screen: Screen) -> Table:
    """Which inputs are others than those of the last readout, and by how much did the estimates move?"""
    rows = [_input_row(change) for change in since.inputs]
    rows += [_movement_row(one, screen) for one in since.movements]
    columns = (
        Column(key="what", title="What"),
        Column(key="of", title="Of"),
        Column(key="before", title="Before", numeric=True),
        Column(key="now", title="Now", numeric=True),
        Column(key="moved", title="Moved", numeric=True),
        Column(key="errors", title="In old standard errors", numeric=True),
    )
    as_of = f", data to the end of {since.as_of}" if since.as_of is not None else ""
    return Table(
        key="since_last",
        title="Since the last readout",
        columns=columns,
        rows=tuple(rows),
        empty="Nothing changed.",
        note=f"Compared with snapshot {since.snapshot}{as_of}.",
    )


def _input_row(change: InputChange) -> dict[str, Cell]:
    days = _ranges(change.days)
    detail = "; ".join(part for part in (days, ", ".join(change.tables)) if part)
    return {
        "what": words(_CAUSES[change.why]),
        "of": words(detail),
        "before": NONE,
        "now": NONE,
        "moved": NONE,
        "errors": NONE,
    }


def _movement_row(one: Movement, screen: Screen) -> dict[str, Cell]:
    row = {"what": words(f"{one.title}, {one.arm}"), "of": words(one.role)}
    if screen.small(one.n_control, one.n_treatment):
        return row | {key: words(WITHHELD) for key in ("before", "now", "moved", "errors")}
    digits = numbers.decimals_for(one.display, None, one.before, one.now, one.moved)

    def effect(value: float | None) -> Cell:
        return NONE if value is None else Cell(text=numbers.change(value, one.display, digits), value=value)

    errors = one.in_old_errors
    told = NONE if errors is None else Cell(text=numbers.decimal(errors, 2, signed=True), value=errors)
    return row | {
        "before": effect(one.before),
        "now": effect(one.now),
        "moved": effect(one.moved),
        "errors": told,
    }


def _ranges(days: tuple[date, ...]) -> str:
    if not days:
        return ""
    ordered, day = sorted(days), timedelta(days=1)
    cuts = [0, *(n for n, (a, b) in enumerate(pairwise(ordered), 1) if b - a > day), len(ordered)]
    runs = [(ordered[a], ordered[b - 1]) for a, b in pairwise(cuts)]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs)
