"""The tables of record: rules, integrity, units, power, exclusions, lock, ramp and provenance."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    ExclusionCount,
    IntegrityCheck,
    LockState,
    PowerAchieved,
    Provenance,
    SampleRatioDay,
)
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, columns_of, p_cell, words
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen
from exp_pipeline.report.wording import verdict_cell


def rules_table(arms: Sequence[ArmDecision]) -> Table:
    """Which rules decided, on what evidence, in which order?"""
    rows = [
        {
            "arm": words(arm.arm),
            "rule": words(rule.rule),
            "evidence": words(rule.evidence),
            "verdict": verdict_cell(rule.verdict),
        }
        for arm in arms
        for rule in arm.rules
    ]
    columns = (Column(key="arm", title="Arm"), *columns_of("rule", "evidence", "verdict"))
    return Table(
        key="rules", title="Decision rules, in the order they were asked", columns=columns, rows=tuple(rows)
    )


def integrity_table(checks: Sequence[IntegrityCheck]) -> Table:
    """What was checked before any effect was read, and what was found?"""
    rows = [
        {
            "check": words(check.title),
            "verdict": verdict_cell(check.verdict),
            "evidence": words(check.evidence),
            "numbers": words(
                "; ".join(f"{name} {numbers.plain(value)}" for name, value in sorted(check.numbers.items()))
            ),
        }
        for check in checks
    ]
    columns = columns_of("check", "verdict", "evidence", "numbers")
    return Table(
        key="integrity",
        title="Integrity checks",
        columns=columns,
        rows=tuple(rows),
        empty="No check was run.",
    )


def arms_table(counts: Sequence[ArmCount], screen: Screen) -> Table:
    """How many units does each arm hold, against its planned share?"""
    assigned = [row.assigned for row in counts]
    total = sum(assigned)
    shares_shown = total > 0 and not screen.small(*assigned)
    # Where one arm is withheld, a second must be, or the total of the day table gives the first away.
    rows = []
    for row in counts:
        few_contaminated = screen.small(row.contaminated)
        rows.append(
            {
                "arm": words(row.arm),
                "planned": Cell(text=numbers.percent(row.planned_share), value=row.planned_share),
                "observed": Cell(text=numbers.percent(row.assigned / total), value=row.assigned / total)
                if shares_shown
                else NONE,
                "assigned": screen.units(row.assigned),
                "exposed": Cell(text=WITHHELD)
                if few_contaminated and row.exposed
                else screen.units(row.exposed),
                "analysed": screen.units(row.analysed),
                "contaminated": screen.units(row.contaminated),
            }
        )
    withheld = any(screen.small(row.contaminated) for row in counts)
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="planned", title="Planned share", numeric=True),
        Column(key="observed", title="Observed share", numeric=True),
        Column(key="assigned", title="Assigned", numeric=True),
        Column(key="exposed", title="Exposed", numeric=True),
        Column(key="analysed", title="Analysed", numeric=True),
        Column(key="contaminated", title="Contaminated", numeric=True),
    )
    note = (
        f"Exposed units are {WITHHELD} where they would give away a small number of contaminated ones."
        if withheld
        else ""
    )
    return Table(key="arms", title="Units by arm", columns=columns, rows=tuple(rows), note=note)


def sample_ratio_table(days: Sequence[SampleRatioDay], arms: Sequence[str], screen: Screen) -> Table:
    """How many units had each arm by the end of each day, and does the split still fit the plan?"""
    rows = []
    for day in days:
        counts = [day.counts.get(arm, 0) for arm in arms]
        few = screen.small(*counts)
        row = {"day": Cell(text=day.day.isoformat())}
        for position, n in enumerate(counts):
            row[f"arm_{position}"] = Cell(text=WITHHELD) if few and n >= screen.minimum else screen.units(n)
        row["p_value"] = p_cell(None if few else day.p_value)
        row["sequential_p_value"] = p_cell(None if few else day.sequential_p_value)
        rows.append(row)
    columns = (
        Column(key="day", title="Up to the end of"),
        *(Column(key=f"arm_{position}", title=arm, numeric=True) for position, arm in enumerate(arms)),
        Column(key="p_value", title="SRM p", numeric=True),
        Column(key="sequential_p_value", title="Sequential p", numeric=True),
    )
    return Table(key="sample_ratio", title="Units by day, cumulative", columns=columns, rows=tuple(rows))


def power_table(power: PowerAchieved | None, display: Display, screen: Screen) -> Table:
    """What effect was planned for, and what could the data have found?"""
    rows: tuple[dict[str, Cell], ...] = ()
    if power is not None:
        planned = numbers.amount(
            power.planned_mde, display, numbers.exact_decimals(display, power.planned_mde)
        )
        achieved = NONE
        if power.achieved_mde is not None:
            digits = numbers.decimals_for(display, None, power.achieved_mde)
            achieved = Cell(
                text=numbers.amount(power.achieved_mde, display, digits), value=power.achieved_mde
            )
        units = power.planned_units_per_arm
        rows = (
            {
                "what": words("Smallest effect to find"),
                "planned": Cell(text=planned, value=power.planned_mde),
                "achieved": achieved,
            },
            {
                "what": words("Units per arm"),
                "planned": NONE if units is None else Cell(text=numbers.count(units), value=units),
                "achieved": screen.units(power.observed_units_per_arm),
            },
        )
    columns = (
        Column(key="what", title="Power"),
        Column(key="planned", title="Planned", numeric=True),
        Column(key="achieved", title="Achieved", numeric=True),
    )
    note = power.note if power is not None else ""
    return Table(
        key="power",
        title="Power, planned and achieved",
        columns=columns,
        rows=rows,
        note=note,
        empty="Power was not worked out.",
    )


def exclusions_table(exclusions: Sequence[ExclusionCount]) -> Table:
    """Which rows did not become part of the analysis, and why?"""
    rows = tuple(
        {
            "kind": words(row.kind),
            "reason": words(row.reason),
            "rows": Cell(text=numbers.count(row.rows), value=row.rows),
        }
        for row in exclusions
    )
    columns = (
        Column(key="kind", title="Kind"),
        Column(key="reason", title="Reason"),
        Column(key="rows", title="Rows", numeric=True),
    )
    return Table(
        key="exclusions", title="Rows left out", columns=columns, rows=rows, empty="No row was left out."
    )


def lock_table(lock: LockState) -> Table:
    """What of the brief changed after the start?"""
    rows = tuple(
        {"field": words(c.field), "locked": words(c.locked_value), "current": words(c.current_value)}
        for c in lock.changes
    )
    columns = (
        Column(key="field", title="Field"),
        Column(key="locked", title="As locked"),
        Column(key="current", title="Now"),
    )
    if lock.locked_digest is None:
        empty = "The brief is not locked."
    else:
        empty = "Nothing that the analysis uses has changed since the brief was locked."
    note = "What a changed field touches is exploratory." if rows else ""
    return Table(
        key="lock", title="Changes after the lock", columns=columns, rows=rows, note=note, empty=empty
    )


def ramp_table(brief: Brief) -> Table:
    """Through which stages does traffic go?"""
    rows = tuple(
        {
            "stage": Cell(text=str(position), value=position),
            "traffic": Cell(text=numbers.round_percent(stage.traffic), value=stage.traffic),
            "dwell": Cell(text=str(stage.dwell_days), value=stage.dwell_days),
            "units": Cell(text=numbers.count(stage.minimum_units), value=stage.minimum_units),
            "approval": words("by a person" if stage.approval else "by the schedule"),
        }
        for position, stage in enumerate(brief.ramp, start=1)
    )
    columns = (
        Column(key="stage", title="Stage", numeric=True),
        Column(key="traffic", title="Traffic", numeric=True),
        Column(key="dwell", title="Least days", numeric=True),
        Column(key="units", title="Least units", numeric=True),
        Column(key="approval", title="Advanced"),
    )
    return Table(
        key="ramp", title="Rollout stages", columns=columns, rows=rows, empty="The brief plans no stages."
    )


def provenance_table(provenance: Provenance, lock: LockState) -> Table:
    """Where does every number come from?"""
    pairs = [
        ("Snapshot", provenance.snapshot),
        ("Brief digest", provenance.brief_digest),
        ("Locked digest", lock.locked_digest or "not locked"),
        ("Locked at", lock.locked_at.isoformat() if lock.locked_at else ""),
        ("Metrics digest", provenance.metrics_digest),
        ("Code version", provenance.code_version),
        ("Run", provenance.run_id),
        ("Data up to the end of", provenance.as_of.isoformat()),
        ("Source", provenance.source),
        *((f"Input {name}", digest) for name, digest in sorted(provenance.inputs.items())),
    ]
    rows = tuple({"what": words(what), "value": words(value)} for what, value in pairs)
    columns = (Column(key="what", title="What"), Column(key="value", title="Value"))
    return Table(key="provenance", title="Provenance", columns=columns, rows=rows)
