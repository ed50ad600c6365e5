"""The section on programmes: decisions against truth, and the numbers for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from bench.calibration.programmes import OUTCOMES, ProgrammeRow


def programmes_as_json(rows: Sequence[ProgrammeRow], about: dict[str, Any]) -> dict[str, Any]:
    """Every row with all its numbers."""
    return {**about, "programmes": [{**asdict(row), "problems": list(row.problems())} for row in rows]}


def programmes_from_json(stored: dict[str, Any]) -> tuple[list[ProgrammeRow], dict[str, Any]]:
    """Which rows, and which circumstances, were stored by `programmes_as_json`?"""
    names = {field.name for field in fields(ProgrammeRow)}
    rows = []
    for one in stored["programmes"]:
        kept: dict[str, Any] = {name: value for name, value in one.items() if name in names}
        rows.append(ProgrammeRow(**{**kept, "expected": tuple(kept["expected"])}))
    return rows, {name: value for name, value in stored.items() if name != "programmes"}


def programme_line(row: ProgrammeRow) -> str:
    """One row on one line, for people who wait."""
    found = ", ".join(f"{said(outcome)} {count}" for outcome, count in row.outcomes.items())
    bad = "; ".join(row.problems())
    return (
        f"programme {row.name:40} {found}; wrong ships {row.wrong} of {row.runs}{'  ! ' + bad if bad else ''}"
    )


def programme_faults(rows: Sequence[ProgrammeRow]) -> list[str]:
    """What must not be: more wrong ships than planned, or decisions other than named in advance."""
    return [f"programme {row.name}: {problem}" for row in rows for problem in row.problems()]


def said(outcome: str) -> str:
    """An outcome in words."""
    return outcome.replace("_", " ")


def programmes_section(rows: Sequence[ProgrammeRow], about: dict[str, Any]) -> list[str]:
    """The section as lines of Markdown."""
    runs = sum(row.runs for row in rows)
    lines = [
        "## Programmes: decisions against truth",
        "",
        f"Whole experiments with declared truth, {rows[0].runs} of each, decided by the same code as real "
        f"ones: {runs:,} with days, weeks, exposures, receipts and event counts ({about['date']}, "
        f"seed {about['seed']}). The outcomes that are right were named before the runs and are set "
        "**in bold**; the other columns are what came out instead. Wrong ships: runs in which anything "
        "shipped, to everybody or to a segment, that has no benefit, harms a guardrail beyond its margin or "
        f"harms a segment. {100 * rows[0].planned:g} % are planned for: half of alpha, all arms and looks "
        "of an experiment together. In brackets: 95 % interval (Wilson).",
        "",
        f"| programme | truth | {' | '.join(said(one) for one in OUTCOMES)} | wrong ships | verdict |",
        f"|---|---|{'--:|' * len(OUTCOMES)}--:|---|",
    ]
    for row in rows:
        cells = []
        for outcome in OUTCOMES:
            share = f"{row.outcomes[outcome] / row.runs:.1%}" if row.outcomes.get(outcome) else ""
            if outcome in row.expected:
                share = f"**{share or '0.0%'}**"
            cells.append(share)
        wrong = f"{row.wrong / row.runs:.1%} ({row.wrong_lower:.1%}-{row.wrong_upper:.1%})"
        verdict = "; ".join(row.problems()) or "holds"
        lines.append(f"| {row.name} | {row.truth} | {' | '.join(cells)} | {wrong} | {verdict} |")
    wrong_runs = sum(row.wrong for row in rows)
    lines += [
        "",
        f"{wrong_runs} of {runs:,} runs shipped wrongly. Rules that decided, over all programmes: "
        f"{_deciding(rows)}.",
        "",
        "What the table does not show: harm just beyond a margin or a floor is seen in part of the runs. "
        "Close to a margin the outcome is then `extend`; at a floor the estimate decides, unless the brief "
        "asks for the whole interval (rule `equity`, `by: interval`). A gain that wears off is told from a "
        "lasting one only with enough learners in later weeks; a brief can ask that a gain in the end be "
        "shown (rule `lasting`, `must_be_shown`).",
        "",
    ]
    return lines


def _deciding(rows: Sequence[ProgrammeRow]) -> str:
    total: dict[str, int] = {}
    for row in rows:
        for rule, count in row.deciding.items():
            total[rule] = total.get(rule, 0) + count
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{rule} {count:,}" for rule, count in ordered)
