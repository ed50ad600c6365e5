"""The tables that go behind the estimates: gains against costs, shrinkage, arms, families, receiving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exp_pipeline.model.readout import (
    ArmsDifference,
    ComplierEffect,
    FamilyResult,
    Impact,
    ShrunkenEffect,
)
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, between, change, p_cell, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Effect, GuardrailView, Table
from exp_pipeline.report.effecttables import effects_table
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen

_READS: dict[bool | None, Cell] = {
    True: Cell(text="Gain", tone="good"),
    False: Cell(text="Cost", tone="bad"),
    None: Cell(text="Not shown", tone="calm"),
}


def tradeoffs_table(
    effects: Sequence[Effect], better_up: Mapping[str, bool], guardrails: Sequence[GuardrailView]
) -> Table:
    """What is gained and what does it cost: every metric of an arm, each against its own direction?

    `better_up` says by metric whether more of it is better.
    """
    limits = {(view.metric, view.arm): view for view in guardrails}
    rows = []
    for effect in effects:
        view = limits.get((effect.metric, effect.arm))
        rows.append(
            {
                "metric": words(effect.title),
                "role": words(effect.role),
                "arm": words(effect.arm),
                "wanted": words("more" if better_up[effect.metric] else "less"),
                "absolute": effect.absolute,
                "interval": effect.interval,
                "relative": effect.relative,
                "relative_interval": effect.relative_interval,
                "reads": _READS[effect.favourable] if effect.shown else NONE,
                "margin": NONE if view is None else view.margin,
                "margin_used": NONE if view is None else view.margin_used,
                "status": NONE if view is None else Cell(text=view.label, tone=view.tone),
                "notes": words(effect.reason),
            }
        )
    columns = (
        Column(key="metric", title="Metric"),
        Column(key="role", title="Role"),
        Column(key="arm", title="Arm"),
        Column(key="wanted", title="Wanted"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="relative", title="Relative", numeric=True),
        Column(key="relative_interval", title="Relative interval, %", numeric=True),
        Column(key="reads", title="Reads as"),
        Column(key="margin", title="Allowed harm", numeric=True),
        Column(key="margin_used", title="Of it used", numeric=True),
        Column(key="status", title="Guardrail"),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(
        Table(
            key="tradeoffs",
            title="Gains against costs",
            columns=columns,
            rows=tuple(rows),
            note="A gain or a cost is an interval without zero; all else is not shown either way.",
        )
    )


def shrunken_table(rows: Sequence[ShrunkenEffect], display: Display, decimals: int, screen: Screen) -> Table:
    """What is a segment's effect once it has learnt from the others?"""
    printed = []
    for row in rows:
        few = row.suppressed or screen.hides(row.segment, row.value)
        few = few or screen.small(row.n_control or 0, row.n_treatment or 0)
        weight = None if few else row.own_weight
        ranks = (
            ""
            if few or row.best_rank is None or row.worst_rank is None
            else f"{row.best_rank} to {row.worst_rank}"
        )
        printed.append(
            {
                "segment": words(row.segment),
                "value": words(row.value),
                "arm": words(row.arm),
                "raw": change(None if few else row.raw, display, decimals),
                "raw_interval": NONE if few else between(row.raw_lower, row.raw_upper, display, decimals),
                "shrunken": change(None if few else row.shrunken, display, decimals),
                "shrunken_interval": NONE
                if few
                else between(row.shrunken_lower, row.shrunken_upper, display, decimals),
                "weight": NONE if weight is None else Cell(text=numbers.percent(weight, 0), value=weight),
                "rank": words(ranks),
                "note": words(_few_words(screen) if few else row.reason),
            }
        )
    columns = (
        Column(key="segment", title="Segment"),
        Column(key="value", title="Value"),
        Column(key="arm", title="Arm"),
        Column(key="raw", title="Own effect", numeric=True),
        Column(key="raw_interval", title="Interval", numeric=True),
        Column(key="shrunken", title="Shrunken effect", numeric=True),
        Column(key="shrunken_interval", title="Its interval", numeric=True),
        Column(key="weight", title="Own weight", numeric=True),
        Column(key="rank", title="Rank", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(
        Table(
            key="shrunken",
            title="Segments, each learning from the others",
            columns=columns,
            rows=tuple(printed),
            note="The smaller its own weight, the more a value's effect is drawn towards the others. A rank "
            "is the places that the data do not rule out, 1 for the largest effect.",
        )
    )


def _few_words(screen: Screen) -> str:
    return f"{WITHHELD}: {screen.few_units}"


def arms_compared_table(
    effects: Sequence[Effect], difference: ArmsDifference | None, display: Display, decimals: int
) -> Table:
    """Do the treatment arms differ from each other?"""
    table = effects_table("arms_compared", "Arms against each other", effects)
    rows = tuple(
        {"against": words(effect.control)} | dict(row)
        for effect, row in zip(effects, table.rows, strict=True)
    )
    columns = tuple(
        column.model_copy(
            update={"title": {"n control": "n other arm", "Control": "Other arm"}[column.title]}
        )
        if column.title in ("n control", "Control")
        else column
        for column in table.columns
        if column.key not in ("metric", "role")
    )
    first = tuple(column for column in columns if column.key == "arm")
    rest = tuple(column for column in columns if column.key != "arm")
    kept = {column.key for column in columns} | {"against"}
    return table.model_copy(
        update={
            "columns": (*first, Column(key="against", title="Against"), *rest),
            "rows": tuple({key: cell for key, cell in row.items() if key in kept} for row in rows),
            "note": _arms_note(difference, display, decimals),
        }
    )


def _arms_note(difference: ArmsDifference | None, display: Display, decimals: int) -> str:
    if difference is None:
        return ""
    if difference.p_value is None:
        return f"Whether the arms differ cannot be told: {difference.reason or 'no reason was given'}."
    spread = ""
    if difference.spread is not None:
        spread = f"; true effects spread by about {numbers.amount(difference.spread, display, decimals)}"
    return f"All arms together: p {numbers.p_value(difference.p_value)} for one effect of all{spread}."


def families_table(rows: Sequence[FamilyResult], titles: Mapping[str, str]) -> Table:
    """Which families of metrics may be tested, and which succeeded?"""
    printed = [
        {
            "family": words(row.name),
            "arm": words(row.arm),
            "metrics": words(", ".join(titles.get(metric, metric) for metric in row.metrics)),
            "after": words(row.after or ""),
            "gate": Cell(text="open", tone="good") if row.gate_open else Cell(text="closed", tone="calm"),
            "smallest": p_cell(row.smallest_p_adjusted),
            "level": Cell(text=f"{row.alpha:g}", value=row.alpha),
            "needs": words({"all": "every metric", "any": "one metric"}[row.needs]),
            "correction": words(row.correction),
            "result": _family_result(row),
            "because": words(row.because),
        }
        for row in rows
    ]
    columns = (
        Column(key="family", title="Family"),
        Column(key="arm", title="Arm"),
        Column(key="metrics", title="Metrics"),
        Column(key="after", title="Only after"),
        Column(key="gate", title="Gate"),
        Column(key="smallest", title="Smallest adjusted p", numeric=True),
        Column(key="level", title="Level", numeric=True),
        Column(key="needs", title="Needs"),
        Column(key="correction", title="Correction"),
        Column(key="result", title="Result"),
        Column(key="because", title="Because"),
    )
    return without_empty_columns(
        Table(
            key="families",
            title="Families of metrics and their gates",
            columns=columns,
            rows=tuple(printed),
            note="Behind a closed gate every result is exploratory.",
        )
    )


def _family_result(row: FamilyResult) -> Cell:
    if not row.gate_open:
        return Cell(text="Not tested", tone="calm")
    return Cell(text="Succeeded", tone="good") if row.succeeded else Cell(text="Did not succeed", tone="warn")


def compliance_table(
    rows: Sequence[ComplierEffect], titles: Mapping[str, str], display: Display, decimals: int, screen: Screen
) -> Table:
    """What did receiving the treatment do to those who received it because they were assigned to it?"""
    printed = []
    for row in rows:
        few = screen.small(row.n_control, row.n_treatment)
        dose = row.sides is None
        interval = between(row.ci_lower, row.ci_upper, display, decimals)
        printed.append(
            {
                "arm": words(row.arm),
                "metric": words(titles.get(row.metric, row.metric)),
                "received": words(row.received),
                "taken_control": NONE if few else _taken(row.received_control, dose),
                "taken": NONE if few else _taken(row.received_treatment, dose),
                "itt": change(None if few else row.itt, display, decimals),
                "absolute": change(None if few else row.absolute, display, decimals),
                "interval": NONE if few else interval,
                "robust": NONE if few else _robust(row, display, decimals),
                "f": NONE
                if few or row.first_stage_f is None
                else Cell(text=numbers.plain(row.first_stage_f), value=row.first_stage_f),
                "n_control": screen.beside(row.n_control, few),
                "n_treatment": screen.beside(row.n_treatment, few),
                "note": words(_complier_note(row, few, screen)),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="metric", title="Metric"),
        Column(key="received", title="Received"),
        Column(key="taken_control", title="Taken in control", numeric=True),
        Column(key="taken", title="Taken in arm", numeric=True),
        Column(key="itt", title="Effect of assignment", numeric=True),
        Column(key="absolute", title="Effect of receiving", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="robust", title="Holds if weak", numeric=True),
        Column(key="f", title="First-stage F", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(
        Table(
            key="compliance",
            title="Effect of receiving, a diagnostic",
            columns=columns,
            rows=tuple(printed),
            note="Of those who received it because they were assigned to it. It decides nothing: the "
            "decision rests on the effect of assignment.",
        )
    )


def _taken(value: float | None, dose: bool) -> Cell:
    if value is None:
        return NONE
    return Cell(text=numbers.plain(round(value, 4)) if dose else numbers.percent(value), value=value)


def _robust(row: ComplierEffect, display: Display, decimals: int) -> Cell:
    if row.robust_kind == "everything":
        return Cell(text="excludes nothing")
    cell = between(row.robust_lower, row.robust_upper, display, decimals)
    if row.robust_kind == "outside" and cell.lower is not None:
        return cell.model_copy(update={"text": f"all but {cell.text}"})
    return cell


def _complier_note(row: ComplierEffect, few: bool, screen: Screen) -> str:
    if few:
        return _few_words(screen)
    weak = (
        ("assignment hardly moved what was received: read the interval that holds if weak",)
        if row.weak
        else ()
    )
    return "; ".join(part for part in (row.reason, *weak, *row.flags) if part)


def impact_table(rows: Sequence[Impact]) -> Table:
    """What is each decision worth, how sure is that, and what does one more outcome cost?"""
    printed = []
    for row in rows:
        money = row.currency

        def sum_of(value: float | None, signed: bool = False, money: str = money) -> Cell:
            if value is None:
                return NONE
            return Cell(text=numbers.money(value, money, signed=signed), value=value)

        def range_of(lower: float | None, upper: float | None, money: str = money) -> Cell:
            if lower is None or upper is None:
                return NONE
            text = f"{numbers.money(lower, money)} to {numbers.money(upper, money)}"
            return Cell(text=text, lower=lower, upper=upper)

        cost = range_of(row.cost_per_outcome_lower, row.cost_per_outcome_upper)
        if row.cost_interval == "outside" and cost.lower is not None:
            cost = cost.model_copy(update={"text": f"all but {cost.text}"})
        elif row.cost_interval == "everything":
            cost = Cell(text="excludes nothing")
        sure = row.probability_positive
        printed.append(
            {
                "arm": words(row.arm),
                "value": sum_of(row.value, signed=True),
                "interval": range_of(row.value_lower, row.value_upper),
                "sure": NONE if sure is None else Cell(text=numbers.chance(sure), value=sure),
                "loss_shipped": sum_of(row.loss_if_shipped),
                "loss_kept": sum_of(row.loss_if_not_shipped),
                "outcomes": NONE
                if row.outcomes is None
                else Cell(text=numbers.decimal(round(row.outcomes), 0, signed=True), value=row.outcomes),
                "cost": NONE
                if row.cost_per_outcome is None
                else Cell(text=numbers.money(row.cost_per_outcome, money), value=row.cost_per_outcome),
                "cost_interval": cost,
                "note": words(row.cost_reason),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="value", title="Expected value", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="sure", title="Chance that it pays", numeric=True),
        Column(key="loss_shipped", title="Expected loss if shipped", numeric=True),
        Column(key="loss_kept", title="Expected loss if not", numeric=True),
        Column(key="outcomes", title="Outcomes more", numeric=True),
        Column(key="cost", title="Cost of one more", numeric=True),
        Column(key="cost_interval", title="Its interval", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(
        Table(
            key="impact",
            title="What the decision is worth",
            columns=columns,
            rows=tuple(printed),
            empty="The brief has no value model.",
        )
    )
