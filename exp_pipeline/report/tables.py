"""The tables of record: rules, integrity, units, power, exclusions, lock, ramp and provenance."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.populations import UnitsLeftOut
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    ExclusionCount,
    IntegrityCheck,
    LockState,
    PowerAchieved,
    Provenance,
    RuleResult,
    SampleRatioDay,
    SampleRatioGroup,
    Unblinding,
)
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, columns_of, p_cell, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen
from exp_pipeline.report.wording import OUTCOMES, verdict_cell


def rules_table(arms: Sequence[ArmDecision]) -> Table:
    """Which rules decided, on what evidence, in which order?"""
    rows = [
        {
            "arm": words(arm.arm),
            "rule": words(rule.rule),
            "asks": words(rule.asks),
            "evidence": words(rule.evidence),
            "verdict": verdict_cell(rule.verdict),
            "forces": _forces(arm, rule),
        }
        for arm in arms
        for rule in arm.rules
    ]
    columns = (
        Column(key="arm", title="Arm"),
        *columns_of("rule", "asks", "evidence", "verdict"),
        Column(key="forces", title="Leads to"),
    )
    return without_empty_columns(
        Table(
            key="rules",
            title="Decision rules, in the order they were asked",
            columns=columns,
            rows=tuple(rows),
            note="The first rule that leads to an outcome decides; those after it are shown all the same."
            if any(rule.forces for arm in arms for rule in arm.rules)
            else "",
        )
    )


def _forces(arm: ArmDecision, rule: RuleResult) -> Cell:
    if rule.forces is None:
        return NONE
    label, tone, _ = OUTCOMES[rule.forces]
    decided = rule.rule == arm.decided_by
    return Cell(text=f"{label}, decides" if decided else label, tone=tone if decided else None)


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
    rows = []
    for row in counts:
        rows.append(
            {
                "arm": words(row.arm),
                "planned": Cell(text=numbers.percent(row.planned_share), value=row.planned_share),
                "observed": Cell(text=numbers.percent(row.assigned / total), value=row.assigned / total)
                if shares_shown
                else NONE,
                "assigned": screen.units(row.assigned),
                # What was exposed and not analysed would tell of the few that were left out.
                "exposed": screen.beside(row.exposed, screen.small(row.exposed - row.analysed)),
                "analysed": screen.units(row.analysed),
                "contaminated": screen.units(row.contaminated),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="planned", title="Planned share", numeric=True),
        Column(key="observed", title="Observed share", numeric=True),
        Column(key="assigned", title="Assigned", numeric=True),
        Column(key="exposed", title="Exposed", numeric=True),
        Column(key="analysed", title="Analysed", numeric=True),
        Column(key="contaminated", title="Contaminated", numeric=True),
    )
    return Table(key="arms", title="Units by arm", columns=columns, rows=tuple(rows))


def sample_ratio_table(days: Sequence[SampleRatioDay], arms: Sequence[str], screen: Screen) -> Table:
    """How many units had each arm by the end of each day, and does the split still fit the plan?"""
    rows = []
    by_day = [[day.counts.get(arm, 0) for arm in arms] for day in days]
    for day, counts, apart in zip(days, by_day, screen.days_shown(by_day), strict=True):
        few = screen.small(*counts) or not apart
        row = {"day": Cell(text=day.day.isoformat())}
        for position, n in enumerate(counts):
            row[f"arm_{position}"] = screen.beside(n, few)
        row["p_value"] = p_cell(None if few else day.p_value)
        row["sequential_p_value"] = p_cell(None if few else day.sequential_p_value)
        rows.append(row)
    columns = (
        Column(key="day", title="Up to the end of"),
        *(Column(key=f"arm_{position}", title=arm, numeric=True) for position, arm in enumerate(arms)),
        Column(key="p_value", title="SRM p", numeric=True),
        Column(key="sequential_p_value", title="Sequential p", numeric=True),
    )
    hidden = any(row["arm_0"].text == WITHHELD for row in rows)
    note = (
        f"Days are {WITHHELD} where fewer than {screen.minimum} units of an arm came since the day before."
        if hidden
        else ""
    )
    return Table(
        key="sample_ratio", title="Units by day, cumulative", columns=columns, rows=tuple(rows), note=note
    )


def sample_ratio_groups_table(
    groups: Sequence[SampleRatioGroup], arms: Sequence[str], screen: Screen
) -> Table:
    """Does each platform, stratum and segment have its planned split?"""
    rows = []
    for group in groups:
        hidden = group.suppressed or screen.hides(group.column, group.value)
        row = {"column": words(group.column), "value": words(group.value)}
        for position, arm in enumerate(arms):
            n = group.counts.get(arm, 0)
            row[f"arm_{position}"] = Cell(text=WITHHELD) if hidden else screen.units(n)
        row["p_value"] = p_cell(None if hidden else group.p_value)
        row["p_adjusted"] = p_cell(None if hidden else group.p_adjusted)
        rows.append(row)
    columns = (
        Column(key="column", title="Known at assignment"),
        Column(key="value", title="Value"),
        *(Column(key=f"arm_{position}", title=arm, numeric=True) for position, arm in enumerate(arms)),
        Column(key="p_value", title="SRM p", numeric=True),
        Column(key="p_adjusted", title="After Holm", numeric=True),
    )
    return without_empty_columns(
        Table(
            key="sample_ratio_groups",
            title="Units by platform, stratum and segment",
            columns=columns,
            rows=tuple(rows),
        )
    )


def causes_table(checks: Sequence[IntegrityCheck]) -> Table:
    """Where does a fault sit, the likeliest place first?"""
    rows = tuple(
        {
            "check": words(check.title),
            "rank": Cell(text=str(cause.rank), value=cause.rank),
            "where": words(cause.where),
            "share": NONE
            if cause.share is None
            else Cell(text=numbers.percent(cause.share, 0), value=cause.share),
            "evidence": words(cause.evidence),
        }
        for check in checks
        for cause in check.causes
    )
    columns = (
        Column(key="check", title="Check"),
        Column(key="rank", title="Rank", numeric=True),
        Column(key="where", title="Where"),
        Column(key="share", title="Of the fault", numeric=True),
        Column(key="evidence", title="Evidence, and what to do first"),
    )
    return without_empty_columns(Table(key="causes", title="Where to look first", columns=columns, rows=rows))


def left_out_table(left_out: Sequence[UnitsLeftOut], arms: Sequence[str], screen: Screen) -> Table:
    """Which assigned units are not analysed because the brief says so?"""
    few = {
        arm: any(screen.small(row.units.get(arm, 0)) for row in left_out) and len(left_out) > 1
        for arm in arms
    }
    rows = tuple(
        {
            "reason": words(row.reason),
            **{
                f"arm_{position}": Cell(text=WITHHELD) if few[arm] else screen.units(row.units.get(arm, 0))
                for position, arm in enumerate(arms)
            },
        }
        for row in left_out
    )
    columns = (
        Column(key="reason", title="Reason"),
        *(Column(key=f"arm_{position}", title=arm, numeric=True) for position, arm in enumerate(arms)),
    )
    return Table(key="left_out", title="Units that the brief leaves out", columns=columns, rows=rows)


def unblindings_table(unblindings: Sequence[Unblinding]) -> Table:
    """Who asked to see effects before their time, when, and why?"""
    rows = tuple(
        {"at": words(row.at.isoformat()), "by": words(row.by), "reason": words(row.reason)}
        for row in unblindings
    )
    columns = (
        Column(key="at", title="When"),
        Column(key="by", title="By"),
        Column(key="reason", title="Why"),
    )
    return Table(
        key="unblindings",
        title="Looks before their time",
        columns=columns,
        rows=rows,
        empty="Nobody asked to see effects before their time.",
    )


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
            *_more_power(power, display),
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


def _more_power(power: PowerAchieved, display: Display) -> tuple[dict[str, Cell], ...]:
    rows = []
    if power.achieved_power is not None:
        reached = Cell(text=numbers.percent(power.achieved_power), value=power.achieved_power)
        rows.append({"what": words("Power for the planned effect"), "planned": NONE, "achieved": reached})
    if power.mde_at_horizon is not None:
        digits = numbers.decimals_for(display, None, power.mde_at_horizon)
        size = Cell(text=numbers.amount(power.mde_at_horizon, display, digits), value=power.mde_at_horizon)
        rows.append({"what": words("Smallest effect to find by the end"), "planned": NONE, "achieved": size})
    return tuple(rows)


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
        {
            "field": words(c.field),
            "locked": words(c.locked_value),
            "current": words(c.current_value),
            "seen": words("" if c.first_seen is None else c.first_seen.isoformat(timespec="minutes")),
        }
        for c in lock.changes
    )
    columns = (
        Column(key="field", title="Field"),
        Column(key="locked", title="As locked"),
        Column(key="current", title="Now"),
        Column(key="seen", title="First seen"),
    )
    if lock.locked_digest is None:
        empty = "The brief is not locked."
    else:
        empty = "Nothing that the analysis uses has changed since the brief was locked."
    notes = ["What a changed field touches is exploratory."] if rows else []
    if lock.gaps:
        notes.append(f"When it was locked the brief was not ready: {'; '.join(lock.gaps)}.")
    return without_empty_columns(
        Table(
            key="lock",
            title="Changes after the lock",
            columns=columns,
            rows=rows,
            note=" ".join(notes),
            empty=empty,
        )
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
