"""What a brief lacks, told from the brief, its metrics and its calendar alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from exp_pipeline.analysis.planning.duration import DurationPlan
from exp_pipeline.analysis.planning.guardrail_plans import GuardrailPlan
from exp_pipeline.analysis.planning.question import is_clustered
from exp_pipeline.analysis.wording import listed
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.metrics import Metric

_DAY = timedelta(days=1)
_SHOWN_DAYS = 4


@dataclass(frozen=True, slots=True)
class Gap:
    """What keeps an experiment from starting? The brief's field, what is wrong, and what would mend it."""

    field: str
    problem: str
    remedy: str

    @property
    def short(self) -> str:
        """The gap without its remedy, as a memo tells it after the start."""
        return f"{self.field}: {self.problem}"

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}; {self.remedy}"


def brief_gaps(brief: Brief, metrics: Mapping[str, Metric]) -> list[Gap]:
    """What is missing in the brief itself, or does not fit together?"""
    return [
        *_effect_gaps(brief),
        *_risk_gaps(brief),
        *_receipt_gaps(brief),
        *_window_gaps(brief, metrics),
        *_name_gaps(brief),
    ]


def review_gaps(brief: Brief, waiting: Sequence[str]) -> list[Gap]:
    """Which reviews that its risk class needs has the brief not been given?"""
    return [
        Gap(
            "reviews",
            f"a {brief.risk_class}-risk change needs a review of kind {kind!r}, and there is none",
            f"ask for it, then `exp review {brief.name} --kind {kind} --by TEAM`",
        )
        for kind in waiting
    ]


def logging_gaps(brief: Brief, approved: bool) -> list[Gap]:
    """Is an A/A result missing though logging or bucketing is new?"""
    if not brief.new_logging or approved:
        return []
    told = "logging or bucketing is new, and no A/A result was approved"
    approve = f"approve its result (`exp ramp approve {brief.name} --aa`)"
    return [Gap("new_logging", told, f"let both arms run alike first, read that out, and {approve}")]


def calendar_gaps(brief: Brief, calendar: SchoolCalendar | None) -> list[Gap]:
    """Which days of the experiment are no school days, though the brief does not say so?

    Weekends count as ordinary days: experiments run over them.
    """
    found: list[Gap] = []
    if brief.start in brief.blackout_days:
        found.append(Gap("blackout_days", f"the first day, {brief.start}, is one", "move the start"))
    dark = [look for look in brief.looks if look - _DAY in brief.blackout_days]
    if dark:
        told = f"the look of {dark[0]} comes right after a blackout day, on which nothing new is seen"
        found.append(Gap("looks", told, "move the look"))
    if calendar is None:
        if brief.calendar is not None:
            told = f"calendar {brief.calendar!r} is not there"
            found.append(Gap("calendar", told, "write it in catalog/calendars, or name another"))
        elif brief.risk_class == "high" and brief.ramp:
            told = "a high-risk change is let in by stages, and nobody said when schools are open"
            found.append(Gap("calendar", told, "name a calendar of catalog/calendars"))
        return found
    days = [brief.start + position * _DAY for position in range((brief.end - brief.start).days)]
    holidays = [day for day in days if any(one.holds(day) for one in calendar.holidays)]
    silent = [day for day in holidays if day not in brief.blackout_days]
    if silent:
        more = [f"{len(silent) - _SHOWN_DAYS} more"] if len(silent) > _SHOWN_DAYS else []
        shown = listed([*map(str, silent[:_SHOWN_DAYS]), *more])
        told = f"calendar {calendar.name} has holidays inside the experiment that are none: {shown}"
        found.append(Gap("blackout_days", told, "list them, or move start and end"))
    return found


def power_gaps(brief: Brief, plan: DurationPlan) -> list[Gap]:
    """What is wrong where the power is not reached by the end, even with the help of covariates?"""
    if plan.reachable is not False or plan.only_with_gain:
        return []
    needed = f"{plan.units_total:,} units" + (f" and {plan.weeks} weeks" if plan.weeks else "")
    told = f"the power is not reached by {brief.end}: {needed} are needed"
    if plan.units_at_end is not None:
        told += f", {plan.units_at_end:,} units will be counted by then"
    if plan.power_at_end is not None:
        told += f", power {100 * plan.power_at_end:.0f} % of {100 * brief.power:g} %"
    remedy = "move the end, or widen mde"
    if plan.mde_at_end is not None:
        remedy += f" (by then {plan.mde_at_end:.4g} can be found)"
    return [Gap("end", told, remedy)]


def guardrail_gaps(brief: Brief, plans: Sequence[GuardrailPlan]) -> list[Gap]:
    """Which guardrails would more often than planned stay undecided although there is no harm?"""
    found = []
    for plan in plans:
        if plan.power_at_end is not None and plan.power_at_end < brief.power:
            needed = "" if plan.units_total is None else f", which {plan.units_total:,} units would give"
            found.append(
                Gap(
                    "guardrails",
                    f"without any harm {plan.metric!r} would pass with a chance of "
                    f"{100 * plan.power_at_end:.0f} %, and {100 * brief.power:g} % is planned{needed}",
                    "run longer, widen its margin, or judge it by its estimate (basis: point)",
                )
            )
    return found


def _effect_gaps(brief: Brief) -> Iterator[Gap]:
    if not (brief.mde.absolute or brief.mde.relative):
        yield Gap("mde", "the smallest effect worth finding is 0", "give an effect other than 0")
    if brief.decision.primary_must_beat == "threshold" and brief.practical_threshold is None:
        told = "the decision rule needs it and it is missing"
        yield Gap("practical_threshold", told, "give one, or judge against zero")
    if is_clustered(brief) and brief.icc == 0.0:
        told = f"whole {brief.randomisation_unit} units are randomised and the ICC is 0"
        yield Gap("icc", told, "take one from history")


def _risk_gaps(brief: Brief) -> Iterator[Gap]:
    if brief.risk_class != "low" and not brief.guardrails:
        yield Gap("guardrails", f"a {brief.risk_class}-risk change has none", "name at least one")
    if brief.risk_class == "high" and not any(guardrail.kill for guardrail in brief.guardrails):
        remedy = "give at least one guardrail a kill rule"
        yield Gap("guardrails", "a high-risk change has no kill rule", remedy)
    if brief.risk_class == "high" and not brief.ramp:
        remedy = "plan stages, such as 1, 5, 25 and 50 %"
        yield Gap("ramp", "a high-risk change starts at full traffic", remedy)
    for earlier, later in zip(brief.ramp, brief.ramp[1:], strict=False):
        if later.traffic <= earlier.traffic:
            told = f"traffic does not rise at the stage of {later.traffic:g}"
            yield Gap("ramp", told, "order stages upward")
            return


def _receipt_gaps(brief: Brief) -> Iterator[Gap]:
    # An empty list is an answer: every version must be equal. Silence is none.
    if brief.table is None and "receipt" not in brief.model_fields_set:
        told = "nothing says which versions of model, prompt and policies may differ between the arms"
        yield Gap("receipt", told, "name them under receipt.may_differ, or write may_differ: []")


def _window_gaps(brief: Brief, metrics: Mapping[str, Metric]) -> Iterator[Gap]:
    length = (brief.end - brief.start).days
    for name in brief.metric_names():
        window = metrics[name].window_days if name in metrics else None
        if window is not None and window > length:
            told = f"metric {name!r} needs {window} days and the experiment runs {length}"
            yield Gap("end", told, "move the end")


def _name_gaps(brief: Brief) -> Iterator[Gap]:
    for field, name in (("owner", brief.owner), ("on_call", brief.on_call)):
        if not name.strip():
            yield Gap(
                field, "is empty", "name the team that decides" if field == "owner" else "name who is called"
            )
