"""`exp plan`: how many units and weeks a brief needs, and what keeps it from starting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.runs import brief_named, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.analysis.planning.baselines import Baseline, NoBaseline
    from exp_pipeline.analysis.planning.duration import DurationPlan
    from exp_pipeline.analysis.planning.guardrail_plans import GuardrailPlan
    from exp_pipeline.analysis.planning.ramp_plan import RampPlan
    from exp_pipeline.analysis.planning.readiness import Readiness
    from exp_pipeline.model.brief import Brief
    from exp_pipeline.steps.experiments.planning import History, WholePlan

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]


def plan(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell how many units and weeks a brief needs, and what keeps it from starting."""
    from exp_pipeline.steps.experiments import planning

    with open_bench(home_of(home)) as bench:
        brief = brief_named(bench.catalog, name)
        if brief.table is not None:
            raise ExpError(
                f"experiment {name!r} is over a unit table: there are no days before it to plan from"
            )
        whole = planning.plan_of(bench, name)
    if as_json:
        print_json(plan_json(whole, brief))
    else:
        tell(whole, brief)


def plan_json(whole: WholePlan, brief: Brief) -> dict[str, object]:
    """A plan for machines."""
    return {
        "experiment": brief.name,
        "ready": whole.readiness.ready,
        "gaps": [asdict(gap) for gap in whole.readiness.gaps],
        "unchecked": list(whole.readiness.unchecked),
        "history": _history_json(whole.history, brief),
        "plan": None if whole.plan is None else asdict(whole.plan),
        "guardrails": [asdict(row) for row in whole.guardrails],
        "ramp": None if whole.ramp is None else _ramp_json(whole.ramp),
    }


def tell(whole: WholePlan, brief: Brief) -> None:
    """A plan for people."""
    say(f"{brief.name}: {brief.title} ({brief.start} to {brief.end}, end excluded)")
    _say_history(whole.history, brief)
    if whole.plan is not None:
        _say_plan(whole.plan, brief)
    _say_guardrails(whole.guardrails)
    _say_ramp(whole.ramp)
    _say_readiness(whole.readiness)


def _history_json(history: History, brief: Brief) -> dict[str, object]:
    """What history told; of the curve of arrivals, one number a week."""
    told = {
        name: value
        for name, value in asdict(history).items()
        if name not in ("curve", "baselines", "first_assigned")
    }
    told["first_assigned"] = None if history.first_assigned is None else history.first_assigned.isoformat()
    told["baselines"] = {name: asdict(found) for name, found in history.baselines.items()}
    curve = history.curve
    if curve is not None:
        weeks = math.ceil((brief.end - brief.start).days / 7)
        told["enrolment"] = {
            "observed_days": curve.observed_days,
            "most": curve.most,
            "aligned": curve.aligned,
            "by_week": [curve.units(7 * week) for week in range(1, max(weeks, 4) + 1)],
        }
    return told


def _say_history(history: History, brief: Brief) -> None:
    if not history.days:
        say("There is no history of the primary metric before its start, so no power can be computed.")
        return
    say(f"History: {history.units:,} learners on {history.days} days.")
    rows = [_baseline_row(name, found) for name, found in history.baselines.items()]
    show_table(
        ("metric", "level", "spread", "ICC", "gain", "from"),
        rows,
        right=("level", "spread", "ICC", "gain"),
    )
    if history.baseline is None:
        say(f"No power can be computed for {brief.primary}: {history.no_baseline}.")


def _baseline_row(name: str, found: Baseline | NoBaseline) -> tuple[str, ...]:
    from exp_pipeline.analysis.planning.baselines import NoBaseline

    if isinstance(found, NoBaseline):
        return name, "", "", "", "", found.reason
    icc = "" if found.icc is None else f"{found.icc:.3g}"
    if found.icc is not None and found.icc_lower is not None and found.icc_upper is not None:
        icc += f" ({found.icc_lower:.2g} to {found.icc_upper:.2g})"
    return (
        name,
        f"{found.mean:.4g}",
        "" if found.sd is None else f"{found.sd:.4g}",
        icc,
        "" if found.gain is None else f"{100 * found.gain:.0f} %",
        "" if found.units is None else f"{found.units:,} units",
    )


def _say_plan(found: DurationPlan, brief: Brief) -> None:
    groups = (
        ""
        if found.clusters_per_arm is None
        else f" in {found.clusters_per_arm:,} {brief.randomisation_unit} groups"
    )
    between = (
        ""
        if found.units_range is None
        else f" ({found.units_range[0]:,} to {found.units_range[1]:,} by what history leaves open)"
    )
    say(
        f"\nTo find {found.mde:.4g}: {found.units_per_arm:,} units per arm{between}{groups}, "
        f"{found.units_total:,} in all. {found.note}"
    )
    if found.gain is not None and found.units_with_gain is not None:
        days = "" if found.days_with_gain is None else f", {found.days_with_gain:,} days"
        say(
            f"If covariates take {100 * found.gain:.0f} % off the variance, as they did in the history: "
            f"{found.units_with_gain:,} units in all{days}."
        )
    for note in found.notes:
        say(f"  {note}")
    if found.by_day:
        say("\nIf it stopped after so many days:")
        show_table(
            ("days", "end", "units", "effect found", "power"),
            [
                (
                    f"{row.days:,}",
                    str(row.end),
                    f"{row.units:,}",
                    "" if row.mde is None else f"{row.mde:.4g}",
                    "" if row.power is None else f"{100 * row.power:.0f} %",
                )
                for row in found.by_day
            ],
            right=("days", "units", "effect found", "power"),
        )
    say("\nUnder other assumptions:")
    with_gain = any(row.variance_reduction for row in found.grid)
    header = ("effect", "ICC", *(("gain",) if with_gain else ()), "units per arm", "groups per arm", "days")
    show_table(
        header,
        [
            (
                f"{row.mde:.4g}",
                f"{row.icc:.3g}",
                *((f"{100 * row.variance_reduction:.0f} %",) if with_gain else ()),
                _count(row.units_per_arm),
                _count(row.clusters_per_arm),
                _count(row.days),
            )
            for row in found.grid
        ],
        right=header,
    )


def _say_guardrails(rows: Sequence[GuardrailPlan]) -> None:
    if not rows:
        return
    say("\nGuardrails, if there is no harm:")
    show_table(
        ("metric", "margin", "units to pass", "chance to pass", "why not"),
        [
            (
                row.metric,
                f"{row.margin:.4g}" if row.margin_kind == "absolute" else f"{100 * row.margin:.3g} %",
                _count(row.units_total),
                "" if row.power_at_end is None else f"{100 * row.power_at_end:.0f} %",
                row.reason,
            )
            for row in rows
        ],
        right=("margin", "units to pass", "chance to pass"),
    )


def _ramp_json(ramp: RampPlan) -> dict[str, object]:
    """A ramp as it is expected to be climbed; days as ISO dates."""
    return {
        **asdict(ramp),
        "stages": [
            {**asdict(stage), "first": None if stage.first is None else stage.first.isoformat()}
            for stage in ramp.stages
        ],
        "full_from": None if ramp.full_from is None else ramp.full_from.isoformat(),
    }


def _say_ramp(ramp: RampPlan | None) -> None:
    from exp_pipeline.analysis.planning.ramp_plan import longer_stages

    if ramp is None:
        return
    say("\nThe ramp, if units come as expected, checks are good and approvals come in time:")
    show_table(
        ("stage", "traffic", "begins", "days", "dwell", ramp.unit, "minimum"),
        [
            (
                str(stage.stage),
                f"{100 * stage.traffic:g} %",
                "never" if stage.first is None else str(stage.first),
                _count(stage.days),
                str(stage.dwell_days),
                "" if stage.units is None else f"{math.floor(stage.units):,}",
                _count(stage.minimum_units or None),
            )
            for stage in ramp.stages
        ],
        right=("stage", "traffic", "days", "dwell", ramp.unit, "minimum"),
    )
    for line in longer_stages(ramp):
        say(f"  {line}")


def _say_readiness(ready: Readiness) -> None:
    say("\nReady to start." if ready.ready else "\nNot ready to start:")
    for gap in ready.gaps:
        say(f"  {gap}")
    for open_question in ready.unchecked:
        say(f"  not checked: {open_question}")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
