"""The plots of a memo as facts: title, what each shows in words, and the table of its numbers."""

from __future__ import annotations

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import effecttables, numbers
from exp_pipeline.report.document import Effect, Figure, GuardrailView, Table
from exp_pipeline.report.screening import Screen
from exp_pipeline.report.timeplots import MOST_POINTS


def memo_figures(
    readout: Readout,
    primary: tuple[Effect, ...],
    guardrails: tuple[GuardrailView, ...],
    by_key: dict[str, Table],
    first_page: dict[str, Table],
    shield: Screen,
) -> dict[str, Figure]:
    """Every plot that there is something to draw for, by its key."""
    found = [
        *_of_effects(primary, first_page),
        *_of_guardrails(guardrails, by_key),
        *_of_integrity(readout, by_key, shield),
        *_over_time(readout, by_key),
        *_of_tradeoffs(by_key),
        *_of_ramp(first_page),
    ]
    return {figure.key: figure for figure in found}


def _of_effects(primary: tuple[Effect, ...], first_page: dict[str, Table]) -> list[Figure]:
    if not primary:
        return []
    said = "; ".join(f"{e.arm}: {e.sentence}" for e in primary)
    found = [
        Figure(
            key="forest",
            title=f"{primary[0].title}: effect against control",
            description=f"Point and interval for each arm. {said}.",
            table=effecttables.primary_table(primary),
        )
    ]
    segments = first_page["segments"]
    if segments.rows:
        learnt = any(column.key == "shrunken" for column in segments.columns)
        found.append(
            Figure(
                key="segments",
                title=f"{primary[0].title}: effect by segment",
                description="Point and interval for each declared segment value; the short upright bar is "
                "its floor."
                + (
                    " The small diamond below is the effect after learning from the other values."
                    if learnt
                    else ""
                ),
                table=segments,
            )
        )
    return found


def _of_guardrails(guardrails: tuple[GuardrailView, ...], by_key: dict[str, Table]) -> list[Figure]:
    if not guardrails:
        return []
    said = "; ".join(f"{g.title}, {g.arm}: {g.sentence}, {g.label.lower()}" for g in guardrails)
    return [
        Figure(
            key="guardrails",
            title="Guardrails: harm as a part of its margin",
            description=f"The dot is the harm, the line runs to its one-sided bound. {said}.",
            table=by_key["guardrails"],
        )
    ]


def _of_integrity(readout: Readout, by_key: dict[str, Table], shield: Screen) -> list[Figure]:
    found = []
    alpha = numbers.plain(readout.brief.srm_alpha)
    if readout.sample_ratio:
        last = readout.sample_ratio[-1]
        few = shield.small(*last.counts.values())
        p = "not shown, a cell is small" if few else numbers.p_value(last.p_value)
        found.append(
            Figure(
                key="sample_ratio",
                title="Split of units by day, and the p-value of a sample-ratio mismatch",
                description=f"At the end of {last.day.isoformat()} p is {p}; "
                f"below {alpha} the split does not fit the plan.",
                table=by_key["sample_ratio"],
            )
        )
    groups = by_key.get("sample_ratio_groups")
    if groups is not None and any("arm_0" in row and row["arm_0"].value is not None for row in groups.rows):
        off = [
            f"{group.column} {group.value}"
            for group in readout.sample_ratio_groups
            if group.p_adjusted is not None
            and group.p_adjusted < readout.brief.srm_alpha
            and not shield.hides(group.column, group.value)
        ]
        said = f"Does not fit the plan: {', '.join(off)}." if off else "Every group shown fits the plan."
        found.append(
            Figure(
                key="sample_ratio_groups",
                title="Split of units by platform, stratum and segment",
                description="The share of each arm less its planned share; the grey band is as far as "
                f"chance takes it. {said}",
                table=groups,
            )
        )
    return found


def _over_time(readout: Readout, by_key: dict[str, Table]) -> list[Figure]:
    found = []
    steady = any(row.estimable and row.steady is not None for row in readout.novelty_trend)
    cumulative = by_key.get("cumulative")
    if cumulative is not None and cumulative.rows:
        banded = any(point.always_valid_lower is not None for point in readout.cumulative)
        found.append(
            Figure(
                key="cumulative",
                title="Primary effect on all data up to each day",
                description="The line is the effect, the shaded band its interval"
                + (
                    ", the dashed lines the band that stays valid however often one looks." if banded else "."
                ),
                table=cumulative,
            )
        )
    for key, unit in (("novelty", "week"), ("novelty_days", "day")):
        table = by_key.get(key)
        rows = [r for r in table.rows if "absolute" in r and r["absolute"].value is not None] if table else []
        if table is None or not rows:
            continue
        points = len({row[unit].value for row in rows})
        drawn = "Point and interval" if points <= MOST_POINTS else "The effect with its interval as a band"
        settles = " The dashed line is where the effect settles." if unit == "week" and steady else ""
        found.append(
            Figure(
                key=key,
                title=f"Primary effect by {unit} since assignment",
                description=f"{drawn} for each {unit}; {unit} 0 is the first. An effect that wears off draws "
                f"nearer to zero.{settles}",
                table=table,
            )
        )
    return found


def _of_tradeoffs(by_key: dict[str, Table]) -> list[Figure]:
    table = by_key.get("tradeoffs")
    known = (
        [row for row in table.rows if "relative" in row and row["relative"].value is not None]
        if table
        else []
    )
    if table is None or len(known) < 2:
        return []
    gains = sum(row["reads"].text == "Gain" for row in known)
    costs = sum(row["reads"].text == "Cost" for row in known)
    return [
        Figure(
            key="tradeoffs",
            title="Gains against costs: relative change of every metric",
            description=f"Better lies on the right, whichever way the metric counts. {gains} read as a gain, "
            f"{costs} as a cost, {len(known) - gains - costs} are not shown either way.",
            table=table,
        )
    ]


def _of_ramp(first_page: dict[str, Table]) -> list[Figure]:
    table = first_page["ramp"]
    if not table.rows:
        return []
    reached = sum("reached" in row and row["reached"].value is not None for row in table.rows)
    said = f" {reached} of {len(table.rows)} were reached." if reached else ""
    return [
        Figure(
            key="ramp",
            title="Stages of traffic, planned and reached",
            description="A bar is the time for which a stage is planned at the earliest; a filled diamond is "
            f"the day on which it was reached.{said}",
            table=table,
        )
    ]
