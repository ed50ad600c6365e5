"""Rows in words: one line each, the full table, and the numbers for machines."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from bench.calibration.cases import FaultyRow, IntervalRow, RateRow, Row
from bench.calibration.running import SEED

KINDS: dict[str, type[Row]] = {"intervals": IntervalRow, "rules": RateRow, "faulty": FaultyRow}


def line(row: Row) -> str:
    """One row on one line, for people who wait."""
    bad = "; ".join(row.problems())
    if isinstance(row, IntervalRow):
        text = (
            f"{row.method:40} {row.world:62} {'inside ' if row.inside else 'outside'} "
            f"covers {row.coverage:6.2%} (above {row.above:5.2%}, below {row.below:5.2%})"
        )
    elif isinstance(row, RateRow):
        text = f"{row.rule:40} {row.world:62} {row.what}: {row.rate:.2%} ({row.promise} {row.nominal:.1%})"
    else:
        text = f"{row.method:40} {row.world:62} {row.failure}: {row.rate:.2%}, ours {row.our_rate:.2%}"
    return f"{text}{'  ! ' + bad if bad else ''}"


def faults(rows: list[Row]) -> list[str]:
    """What must not be: ours out of bounds on its stated domain, or a faulty method that passes."""
    found = []
    for row in rows:
        if isinstance(row, FaultyRow) or row.inside:
            name = row.rule if isinstance(row, RateRow) else row.method
            found += [f"{name}, {row.world}: {problem}" for problem in row.problems()]
    return found


def circumstances() -> dict[str, Any]:
    """When, where and with what was this run?"""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": SEED,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
    }


def as_json(rows: list[Row], about: dict[str, Any]) -> dict[str, Any]:
    """Every row with all its numbers."""
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for row in rows:
        kind = next(name for name, row_type in KINDS.items() if type(row) is row_type)
        extra = {"coverage": row.coverage} if isinstance(row, IntervalRow) else {}
        kinds[kind].append({**asdict(row), **extra, "error": row.error, "problems": list(row.problems())})
    return {**about, **kinds}


def from_json(stored: dict[str, Any]) -> tuple[list[Row], dict[str, Any]]:
    """Which rows, and which circumstances, were stored by `as_json`?"""
    rows: list[Row] = []
    for kind, row_type in KINDS.items():
        names = {field.name for field in fields(row_type)}
        rows += [row_type(**{k: v for k, v in one.items() if k in names}) for one in stored[kind]]
    return rows, {name: value for name, value in stored.items() if name not in KINDS}


def table(rows: list[Row], about: dict[str, Any]) -> str:
    """The rows as Markdown: intervals, decision rules, methods that must fail."""
    intervals = [row for row in rows if isinstance(row, IntervalRow)]
    rules = [row for row in rows if isinstance(row, RateRow)]
    faulty = [row for row in rows if isinstance(row, FaultyRow)]
    lines = [
        "# Calibration",
        "",
        f"{about['date']}, seed {about['seed']}, {about['cpus']} CPUs ({about['machine']}); Python "
        f"{about['python']}, numpy {about['numpy']}, scipy {about['scipy']}. "
        "Written by `make calibrate`; what follows from it is in docs/calibration.md.",
        "",
        "## Intervals at 95 %",
        "",
        "On its domain a method must cover 93.5-96.5 %, and each tail err in 1.5-3.5 %; beyond that by "
        "more than "
        "two and a half Monte Carlo errors (±, for coverage) is a fault. Outside the domain the same "
        "bounds give "
        "a documented limit. above, below: intervals wholly above or below the truth. Power is at 2.80 true "
        "standard errors, so few degrees of freedom must show less than 80 %. se: root mean squared standard "
        "error over the true spread. warned: runs in which the method flagged itself. A method that "
        "promises at "
        "least 95 % may cover more.",
        "",
        "| method | world | domain | criterion | runs | above | below | coverage | ± | size | power | se | "
        "warned "
        "| not estimable | verdict |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [_interval_line(row) for row in intervals]
    lines += [
        "",
        "## Decision rules",
        "",
        "| rule | world | what | promised | found | ± | runs | verdict |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    lines += [_rule_line(row) for row in rules]
    lines += [
        "",
        "## Methods that must fail",
        "",
        "Known faults, simulated beside ours on the same data. One that passed would say that this "
        "simulation "
        "does not see.",
        "",
        "| method | world | what goes wrong | sound | must exceed | found | ± | ours | found, ours | "
        "verdict |",
        "|---|---|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for one in faulty:
        lines.append(
            f"| {one.method} | {one.world} | {one.failure} | {one.nominal:.1%} | {one.above:.1%} "
            f"| {one.rate:.2%} | {one.error:.2%} | {one.ours} | {one.our_rate:.2%} "
            f"| {'; '.join(one.problems()) or 'fails, as it must'} |"
        )
    return "\n".join([*lines, ""])


def _percent(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}%}"


def _interval_line(row: IntervalRow) -> str:
    bad = "; ".join(row.problems())
    verdict = "holds" if not bad else f"**fault: {bad}**" if row.inside else f"limit: {bad}"
    missing = row.runs - row.answered
    return (
        f"| {row.method} | {row.world} | {'inside' if row.inside else 'outside'} | {row.criterion} "
        f"| {row.runs:,} | {row.above:.2%} | {row.below:.2%} | {row.coverage:.2%} | {row.error:.2%} "
        f"| {_percent(row.size, 2)} | {_percent(row.power, 1)} "
        f"| {'' if row.se_ratio is None else f'{row.se_ratio:.3f}'} | {row.flagged:.0%} "
        f"| {_percent(missing / row.runs, 1) if missing else ''} | {verdict} |"
    )


def _rule_line(row: RateRow) -> str:
    promised = "" if row.promise == "shown" else f"{row.promise} {100 * row.nominal:.3g} %"
    bad = "; ".join(row.problems())
    verdict = "shown" if row.promise == "shown" else "holds"
    if bad:
        verdict = f"**fault: {bad}**" if row.inside else f"limit: {bad}"
    return (
        f"| {row.rule} | {row.world} | {row.what} | {promised} | {row.rate:.2%} | {row.error:.2%} "
        f"| {row.runs:,} | {verdict} |"
    )
