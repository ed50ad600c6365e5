"""The tables of a memo, each made from the readout once and printed in every form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    CumulativePoint,
    ExclusionCount,
    IntegrityCheck,
    LockState,
    PowerAchieved,
    Provenance,
    RobustnessRow,
    SampleRatioDay,
)
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Cell, Column, Effect, GuardrailView, Table
from exp_pipeline.report.effects import NONE
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen
from exp_pipeline.report.wording import verdict_cell


def words(text: str) -> Cell:
    """A cell of words; a dash where there are none."""
    return Cell(text=text) if text else NONE


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
    columns = (Column(key="arm", title="Arm"), *_text("rule", "evidence", "verdict"))
    return Table(key="rules", title="Decision rules, in the order they were asked", columns=columns, rows=tuple(rows))


def integrity_table(checks: Sequence[IntegrityCheck]) -> Table:
    """What was checked before any effect was read, and what was found?"""
    rows = [
        {
            "check": words(check.title),
            "verdict": verdict_cell(check.verdict),
            "evidence": words(check.evidence),
            "numbers": words("; ".join(f"{name} {numbers.plain(value)}" for name, value in sorted(check.numbers.items()))),
        }
        for check in checks
    ]
    columns = _text("check", "verdict", "evidence", "numbers")
    return Table(key="integrity", title="Integrity checks", columns=columns, rows=tuple(rows), empty="No check was run.")


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
                "exposed": Cell(text=WITHHELD) if few_contaminated and row.exposed else screen.units(row.exposed),
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
    note = f"Exposed units are {WITHHELD} where they would give away a small number of contaminated ones." if withheld else ""
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
        row["p_value"] = _p(None if few else day.p_value)
        row["sequential_p_value"] = _p(None if few else day.sequential_p_value)
        rows.append(row)
    columns = (
        Column(key="day", title="Up to the end of"),
        *(Column(key=f"arm_{position}", title=arm, numeric=True) for position, arm in enumerate(arms)),
        Column(key="p_value", title="SRM p", numeric=True),
        Column(key="sequential_p_value", title="Sequential p", numeric=True),
    )
    return Table(key="sample_ratio", title="Units by day, cumulative", columns=columns, rows=tuple(rows))


def cumulative_table(points: Sequence[CumulativePoint], display: Display, decimals: int, screen: Screen) -> Table:
    """What was the primary effect on the data up to each day?"""
    rows = []
    for point in points:
        few = screen.small(point.n_control, point.n_treatment)
        shown = not few and point.absolute is not None
        rows.append(
            {
                "day": Cell(text=point.day.isoformat()),
                "arm": words(point.arm),
                "n_control": Cell(text=WITHHELD) if few and point.n_control >= screen.minimum else screen.units(point.n_control),
                "n_treatment": Cell(text=WITHHELD)
                if few and point.n_treatment >= screen.minimum
                else screen.units(point.n_treatment),
                "absolute": _change(point.absolute if shown else None, display, decimals),
                "interval": between(point.ci_lower, point.ci_upper, display, decimals) if shown else NONE,
                "always_valid": between(point.always_valid_lower, point.always_valid_upper, display, decimals)
                if shown
                else NONE,
            }
        )
    columns = (
        Column(key="day", title="Up to the end of"),
        Column(key="arm", title="Arm"),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="always_valid", title="Always-valid interval", numeric=True),
    )
    return Table(key="cumulative", title="Primary effect by day, cumulative", columns=columns, rows=tuple(rows))


def effects_table(key: str, title: str, effects: Iterable[Effect], note: str = "") -> Table:
    """Every estimate with everything an engineer checks: both scales, units, method, p-values."""
    rows = [
        {
            "metric": words(effect.title),
            "role": words(effect.role),
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "control": effect.mean_control,
            "treatment": effect.mean_treatment,
            "relative": effect.relative,
            "relative_interval": effect.relative_interval,
            "always_valid": effect.always_valid,
            "p_value": effect.p_value,
            "p_adjusted": effect.p_adjusted,
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "waiting": effect.waiting,
            "clusters": effect.clusters,
            "method": words(effect.method),
            "level": words(numbers.round_percent(effect.interval_level)),
            "notes": words("; ".join((*((effect.reason,) if effect.reason else ()), *effect.notes))),
        }
        for effect in effects
    ]
    columns = (
        Column(key="metric", title="Metric"),
        Column(key="role", title="Role"),
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="level", title="Level", numeric=True),
        Column(key="control", title="Control", numeric=True),
        Column(key="treatment", title="Arm value", numeric=True),
        Column(key="relative", title="Relative", numeric=True),
        Column(key="relative_interval", title="Relative interval, %", numeric=True),
        Column(key="always_valid", title="Always-valid", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="p_adjusted", title="Adjusted p", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="waiting", title="Waiting", numeric=True),
        Column(key="clusters", title="Clusters", numeric=True),
        Column(key="method", title="Method"),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(Table(key=key, title=title, columns=columns, rows=tuple(rows), note=note))


def primary_table(effects: Sequence[Effect]) -> Table:
    """The short table behind the plot of the primary effect."""
    rows = [
        {
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "control": effect.mean_control,
            "treatment": effect.mean_treatment,
            "relative": effect.relative,
            "p_value": effect.p_value,
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "notes": words(effect.reason),
        }
        for effect in effects
    ]
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="control", title="Control", numeric=True),
        Column(key="treatment", title="Arm value", numeric=True),
        Column(key="relative", title="Relative", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(Table(key="primary", title="Primary effect by arm", columns=columns, rows=tuple(rows)))


def secondary_table(effects: Sequence[Effect]) -> Table:
    """The secondary metrics in one line each."""
    rows = [
        {
            "metric": words(effect.title),
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "p_adjusted": effect.p_adjusted,
            "notes": words("; ".join((*((effect.reason,) if effect.reason else ()), *effect.notes))),
        }
        for effect in effects
    ]
    columns = (
        Column(key="metric", title="Metric"),
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_adjusted", title="Adjusted p", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(Table(key="secondary", title="Secondary metrics", columns=columns, rows=tuple(rows)))


def segments_table(effects: Sequence[Effect], floors: dict[str, Cell]) -> Table:
    """The primary effect in each declared segment, beside the floor it must not fall under."""
    rows = [
        {
            "segment": words(effect.segment or ""),
            "value": words(effect.segment_value or ""),
            "arm": words(effect.arm),
            "metric": words(effect.title),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "floor": floors.get(effect.segment or "", NONE),
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "notes": words(effect.reason),
        }
        for effect in effects
    ]
    columns = (
        Column(key="segment", title="Segment"),
        Column(key="value", title="Value"),
        Column(key="arm", title="Arm"),
        Column(key="metric", title="Metric"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="floor", title="Floor", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(Table(key="segments", title="Effect by segment", columns=columns, rows=tuple(rows)))


def guardrails_table(views: Sequence[GuardrailView]) -> Table:
    """Each guardrail's harm, bound and margin, and what follows."""
    rows = [
        {
            "guardrail": words(view.title),
            "arm": words(view.arm),
            "status": Cell(text=view.label, tone=view.tone),
            "harm": view.harm,
            "bound": view.bound,
            "margin": view.margin,
            "margin_used": view.margin_used,
            "bound_used": view.bound_used,
            "p_value": view.p_value,
            "basis": words(view.basis),
            "kill": words(view.kill),
            "reason": words(view.reason),
        }
        for view in views
    ]
    columns = (
        Column(key="guardrail", title="Guardrail"),
        Column(key="arm", title="Arm"),
        Column(key="status", title="Status"),
        Column(key="harm", title="Harm", numeric=True),
        Column(key="bound", title="One-sided bound", numeric=True),
        Column(key="margin", title="Margin", numeric=True),
        Column(key="margin_used", title="Harm, of margin", numeric=True),
        Column(key="bound_used", title="Bound, of margin", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="basis", title="Judged on"),
        Column(key="kill", title="Kill rule"),
        Column(key="reason", title="Reason"),
    )
    return without_empty_columns(Table(key="guardrails", title="Guardrails", columns=columns, rows=tuple(rows)))


def robustness_table(rows: Sequence[RobustnessRow], display: Display, decimals: int, screen: Screen) -> Table:
    """Does the primary effect survive being estimated another way?"""
    printed = []
    for row in rows:
        few = screen.small(row.n)
        printed.append(
            {
                "arm": words(row.arm),
                "variant": words(row.variant),
                "absolute": _change(None if few else row.absolute, display, decimals),
                "interval": NONE if few else between(row.ci_lower, row.ci_upper, display, decimals),
                "p_value": _p(None if few else row.p_value),
                "n": screen.units(row.n),
                "note": words(row.note),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="variant", title="Estimated as"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n", title="n", numeric=True),
        Column(key="note", title="Note"),
    )
    return Table(key="robustness", title="Robustness of the primary effect", columns=columns, rows=tuple(printed))


def power_table(power: PowerAchieved | None, display: Display, screen: Screen) -> Table:
    """What effect was planned for, and what could the data have found?"""
    rows: tuple[dict[str, Cell], ...] = ()
    if power is not None:
        planned = numbers.amount(power.planned_mde, display, numbers.exact_decimals(display, power.planned_mde))
        achieved = NONE
        if power.achieved_mde is not None:
            digits = numbers.decimals_for(display, None, power.achieved_mde)
            achieved = Cell(text=numbers.amount(power.achieved_mde, display, digits), value=power.achieved_mde)
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
    return Table(key="power", title="Power, planned and achieved", columns=columns, rows=rows, note=note,
                 empty="Power was not worked out.")  # fmt: skip


def exclusions_table(exclusions: Sequence[ExclusionCount]) -> Table:
    """Which rows did not become part of the analysis, and why?"""
    rows = tuple(
        {"kind": words(row.kind), "reason": words(row.reason), "rows": Cell(text=numbers.count(row.rows), value=row.rows)}
        for row in exclusions
    )
    columns = (Column(key="kind", title="Kind"), Column(key="reason", title="Reason"),
               Column(key="rows", title="Rows", numeric=True))  # fmt: skip
    return Table(key="exclusions", title="Rows left out", columns=columns, rows=rows, empty="No row was left out.")


def lock_table(lock: LockState) -> Table:
    """What of the brief changed after the start?"""
    rows = tuple(
        {"field": words(c.field), "locked": words(c.locked_value), "current": words(c.current_value)} for c in lock.changes
    )
    columns = (Column(key="field", title="Field"), Column(key="locked", title="As locked"),
               Column(key="current", title="Now"))  # fmt: skip
    if lock.locked_digest is None:
        empty = "The brief is not locked."
    else:
        empty = "Nothing that the analysis uses has changed since the brief was locked."
    note = "What a changed field touches is exploratory." if rows else ""
    return Table(key="lock", title="Changes after the lock", columns=columns, rows=rows, note=note, empty=empty)


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
    return Table(key="ramp", title="Rollout stages", columns=columns, rows=rows, empty="The brief plans no stages.")


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


def without_empty_columns(table: Table) -> Table:
    """The same table without the columns in which no row has anything to say."""
    kept = tuple(c for c in table.columns if any(row[c.key].text != NONE.text for row in table.rows))
    if not table.rows or len(kept) == len(table.columns):
        return table
    keys = {c.key for c in kept}
    rows = tuple({key: cell for key, cell in row.items() if key in keys} for row in table.rows)
    return table.model_copy(update={"columns": kept, "rows": rows})


def between(lower: float | None, upper: float | None, display: Display, decimals: int) -> Cell:
    """An interval as a cell, or a dash."""
    if lower is None or upper is None:
        return NONE
    return Cell(text=numbers.interval(lower, upper, display, decimals), lower=lower, upper=upper)


def _change(value: float | None, display: Display, decimals: int) -> Cell:
    return NONE if value is None else Cell(text=numbers.change(value, display, decimals), value=value)


def _p(value: float | None) -> Cell:
    return NONE if value is None else Cell(text=numbers.p_value(value), value=value)


def _text(*keys: str) -> tuple[Column, ...]:
    return tuple(Column(key=key, title=key.capitalize()) for key in keys)
