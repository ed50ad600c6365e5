"""The world of a rehearsal: a brief that fits a short term, schools it could run in, and what goes wrong."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
import yaml

from exp_pipeline.analysis.planning.arrivals import enrolment_of
from exp_pipeline.analysis.planning.ramp_plan import counted, longer_stages, ramp_gaps, ramp_plan
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief, Guardrail, RampStage
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.layers import Limits
from exp_pipeline.model.sources import Source
from exp_pipeline.simulate.plan import ArmTruth, Gate, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.context import DAY
from exp_pipeline.steps.experiments.locking import lock_subject
from exp_pipeline.steps.experiments.reviews import REVIEW
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

Scenario = Literal["well", "harm", "mismatch", "outage", "nothing"]
SCENARIOS: tuple[Scenario, ...] = ("well", "harm", "mismatch", "outage", "nothing")
MOST_DAYS, MOST_LEARNERS, FEWEST_LEARNERS, FEWEST_DAYS = 60, 2_000, 60, 5
# Days before the start: covariates need them, and volume is compared with the same weekday of two weeks.
FEWEST_HISTORY, MOST_HISTORY = 7, 14
CLASS_SIZE = 25
OUTAGE_DAYS = 2
# An event that every product of this kind sends all day, so that its absence is plain.
LOST_EVENT = "answer_attempted"
# On the logit scale of single answers; large enough to be found by a design with power.
_MASTERY, _ACCURACY = 0.95, 0.75
_PROMPT = "tutor-7"
# The platform of most simulated learners.
_PLATFORM = "chromebook"
_SESSIONS = 0.25
# On a school day so many learners come at least once.
_ACTIVE = 0.17
# What of a metric's definition the simulated product can be made to do worse at, and how it is named here.
_HARMS = (
    ("latency_ms", "latency_multiplier", "answers come {0:g} times as slowly"),
    ("answer_revealed", "giveaway_multiplier", "answers are given away {0:g} times as often"),
    ("cost_usd", "cost_multiplier", "a turn costs {0:g} times as much"),
)
# What a planted effect shows in.
_HELPS = ("mastery", "correct")
SOURCE = """\
# What the simulated product lands: our own columns as Parquet.
name: rehearsal
description: Simulated canonical events.
owner: rehearsal
files: received_date=*/*.parquet
format: parquet
identity: true
"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A brief as it is rehearsed, and every way in which that is not the brief as it stands."""

    brief: Brief
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incident:
    """What goes wrong in a scenario: on which days (the last excluded), in which arm, and in words."""

    first: date
    end: date
    planted: str
    arm: str = ""
    platform: str = ""
    harm: ArmTruth | None = None


def learners_for(brief: Brief, asked: int | None) -> int:
    """How many learners does the rehearsed term have? As many as the brief expects to come, 2,000 at most."""
    if asked is not None:
        if not FEWEST_LEARNERS <= asked <= MOST_LEARNERS:
            raise ValueError(f"learners must lie in {FEWEST_LEARNERS}..{MOST_LEARNERS}, got {asked}")
        return asked
    expected = brief.expected_units_per_day
    wanted = MOST_LEARNERS if expected is None else math.ceil(expected * (brief.end - brief.start).days)
    return max(min(wanted, MOST_LEARNERS), FEWEST_LEARNERS)


def history_of(brief: Brief, scenario: Scenario) -> int:
    """How many days before the start are simulated?"""
    reduced = brief.variance_reduction
    wanted = MOST_HISTORY if scenario == "outage" else 0
    wanted = max(wanted, reduced.pre_days if reduced.method != "none" else 0)
    return min(max(wanted, FEWEST_HISTORY), MOST_HISTORY)


def simulated_source() -> Source:
    """What the simulated product lands, as the catalog speaks of it."""
    return Source.model_validate(yaml.safe_load(SOURCE))


def fitted(brief: Brief, *, days: int | None, learners: int | None) -> Fitted:
    """The brief over a term that can be rehearsed: shorter where asked, its stages within reach.

    Raises ValueError for days outside 5 to 60.
    """
    own = (brief.end - brief.start).days
    wanted = min(own, MOST_DAYS) if days is None else days
    if not FEWEST_DAYS <= wanted <= MOST_DAYS:
        raise ValueError(f"days must lie in {FEWEST_DAYS}..{MOST_DAYS}, got {wanted}")
    changes: list[str] = []
    changed: dict[str, object] = {}
    end, ratio = brief.start + wanted * DAY, wanted / own
    if wanted != own:
        changed["end"] = end
        looks = {brief.start + max(round((look - brief.start).days * ratio), 1) * DAY for look in brief.looks}
        changed["looks"] = tuple(sorted(look for look in looks if look <= end))
        changes.append(f"the term has {wanted} days, the brief's {own}: looks and stages moved with it")
    stages = []
    for place, stage in enumerate(brief.ramp, start=1):
        dwell = stage.dwell_days if ratio >= 1 else min(stage.dwell_days, math.ceil(stage.dwell_days * ratio))
        reach = _within_reach(brief, stage, dwell, learners_for(brief, learners))
        if place == len(brief.ramp):
            # Nothing follows that would wait for them.
            reach = stage.minimum_units
        if stage.minimum_units > reach:
            units = "classes" if brief.randomisation_unit == "class" else "units"
            changes.append(
                f"stage {place} asks for {counted(reach, units)}, the brief for {stage.minimum_units:,}: the "
                f"simulated schools may bring no more in its {dwell} days"
            )
        stages.append(
            stage.model_copy(update={"dwell_days": dwell, "minimum_units": min(stage.minimum_units, reach)})
        )
    if tuple(stages) != brief.ramp:
        changed["ramp"] = tuple(stages)
    if not changed:
        return Fitted(brief, ())
    # Validated anew: a shorter term must still be a brief.
    return Fitted(Brief.model_validate({**brief.model_dump(), **changed}), tuple(changes))


def _within_reach(brief: Brief, stage: RampStage, dwell: int, learners: int) -> int:
    """How many units will have come by a stage's shortest stay, with room for a bad draw."""
    units = learners // CLASS_SIZE if brief.randomisation_unit == "class" else learners
    come = 1.0 if brief.randomisation_unit == "class" else 1 - (1 - _ACTIVE) ** max(dwell, 1)
    return max(math.floor(0.5 * units * stage.traffic * come), 1)


def ramp_findings(brief: Brief, catalog: Catalog) -> tuple[str, ...]:
    """Where would the brief's own `expected_units_per_day` make its ramp longer than its stages say?"""
    plan = ramp_plan(
        brief,
        enrolment_of(brief, None, None),
        cluster_size=CLASS_SIZE if brief.randomisation_unit == "class" else None,
        calendar=catalog.calendar_of(brief),
    )
    if plan is None:
        return ()
    gaps = tuple(f"{gap.problem}; {gap.remedy}" for gap in ramp_gaps(brief, plan))
    return gaps or longer_stages(plan)


def plan_for(
    brief: Brief,
    limits: Limits,
    *,
    learners: int,
    seed: int,
    effect: bool,
    traffic: Sequence[float],
    history: int,
) -> SimulationPlan:
    """The simulated schools, in which units enter as `traffic` (by day from the start) lets them in.

    history: days before the start.
    """
    classes = max(learners // CLASS_SIZE, 2)
    schools = max(classes // 6, 1)
    days = history + (brief.end - brief.start).days
    arms = tuple(_truth(brief, arm.name, arm.share, effect) for arm in brief.arms)
    experiment = SimulatedExperiment(
        name=brief.name,
        version=brief.version,
        unit=brief.randomisation_unit,
        start=brief.start,
        end=brief.end,
        arms=arms,
        hash_scheme=brief.hash_scheme,
        traffic=tuple(traffic),
        gates=_gates(brief, limits),
    )
    return SimulationPlan(
        name="rehearsal",
        seed=seed,
        start=brief.start - history * DAY,
        days=days,
        schools=schools,
        classes_per_school=max(classes // schools, 1),
        learners=learners,
        sessions_per_learner_day=_SESSIONS,
        mastery_intercept=-2.15,
        ability_on_mastery=2.3,
        turns_per_session=4.0,
        class_icc=min(max(brief.icc, 0.05), 0.5),
        experiments=(experiment,),
        id_hex_digits=10,
    )


def _truth(brief: Brief, name: str, share: float, effect: bool) -> ArmTruth:
    treated = name != brief.control
    prompts = treated and "prompt_version" in brief.receipt.may_differ
    return ArmTruth(
        name=name,
        share=share,
        mastery_log_odds=_MASTERY if effect and treated else 0.0,
        accuracy_log_odds=_ACCURACY if effect and treated else 0.0,
        prompt_version=f"{_PROMPT}-{name}" if prompts else _PROMPT,
    )


def _gates(brief: Brief, limits: Limits) -> tuple[Gate, ...]:
    found = []
    place = limits.layer_range(brief.name)
    if limits.layer is not None and place is not None:
        layer = limits.layer
        found.append(
            Gate(scheme=layer.hash_scheme, salt=layer.salt or layer.name, first=place[0], end=place[1])
        )
    if limits.holdout is not None:
        holdout = limits.holdout
        held = holdout.held_out()
        salt = holdout.salt or holdout.name
        found.append(Gate(scheme=holdout.hash_scheme, salt=salt, first=held, end=10_000))
    return tuple(found)


def incident_of(brief: Brief, catalog: Catalog, scenario: Scenario, day: date | None) -> Incident | None:
    """What goes wrong in a scenario, by default about the middle of the term; None where nothing does.

    Raises ExpError where the simulated product cannot do worse at any of the brief's guardrails, ValueError
    for a day outside the term.
    """
    if scenario in ("well", "nothing"):
        return None
    after = (brief.end - brief.start).days // 2
    if scenario == "mismatch":
        # Units that were let in before cannot be lost any more.
        after = (brief.end - brief.start).days // 5
    elif scenario == "outage" and len(brief.ramp) > 1:
        # On the day before the last stage could begin, so that it is seen to wait.
        after = min(max(sum(stage.dwell_days for stage in brief.ramp[:-1]) - 1, 0), after)
    first = day or min(_school_day(brief.start + after * DAY), brief.end - DAY)
    if not brief.start <= first < brief.end:
        raise ValueError(f"incident day must lie in {brief.start}..{brief.end - DAY}, got {first}")
    arm = brief.treatments()[-1]
    if scenario == "outage":
        end = min(first + OUTAGE_DAYS * DAY, brief.end)
        return Incident(first, end, f"no {LOST_EVENT} arrives from {first} to {end - DAY}")
    if scenario == "mismatch":
        told = f"from {first} on, {_PLATFORM} logs no assignment to {arm.name}"
        return Incident(first, brief.end, told, arm=arm.name, platform=_PLATFORM)
    guardrail, field, words = _harmed(brief, catalog)
    factor = 1.0 + max(4 * _relative_margin(guardrail), 1.0)
    harm = _truth(brief, arm.name, arm.share, True).model_copy(update={field: factor})
    told = f"from {first} on, in {arm.name}, {words.format(factor)} (guardrail {guardrail.metric})"
    return Incident(first, brief.end, told, arm=arm.name, harm=harm)


def require_movable(brief: Brief, catalog: Catalog) -> None:
    """Raise ExpError where the simulated product cannot help learners on the brief's primary."""
    told = _definition(catalog, brief.primary)
    if not any(word in told for word in _HELPS):
        raise ExpError(
            f"the simulated product cannot move {brief.primary}, which rests on none of {', '.join(_HELPS)}: "
            "rehearse another scenario, such as nothing"
        )


def _definition(catalog: Catalog, name: str) -> str:
    """A metric's definition with those of its measures and parts, as text."""
    metric = catalog.metrics[name]
    parts = [_definition(catalog, part.metric) for part in metric.parts]
    measures = [catalog.measures[one].model_dump_json() for one in metric.measures()]
    return metric.model_dump_json() + "".join((*measures, *parts))


def _harmed(brief: Brief, catalog: Catalog) -> tuple[Guardrail, str, str]:
    """A guardrail that can be made worse, one with a kill rule before one without."""
    for guardrail in sorted(brief.guardrails, key=lambda one: (one.kill is None, one.basis == "point")):
        told = _definition(catalog, guardrail.metric)
        for word, field, words in _HARMS:
            if word in told:
                return guardrail, field, words
    known = ", ".join(word for word, _, _ in _HARMS)
    raise ExpError(
        f"{brief.name} has no guardrail that the simulated product can break (they rest on {known}): choose "
        "another scenario"
    )


def _relative_margin(guardrail: Guardrail) -> float:
    return guardrail.margin if guardrail.margin_kind == "relative" else 0.5


def _school_day(day: date) -> date:
    return day + timedelta(days=(7 - day.weekday()) if day.weekday() >= 5 else 0)


def on_day(plan: SimulationPlan, incident: Incident | None, day: date) -> SimulationPlan:
    """The plan as it holds on a day: with the harm, while there is some."""
    if incident is None or incident.harm is None or not incident.first <= day < incident.end:
        return plan
    (own,) = plan.experiments
    arms = tuple(incident.harm if arm.name == incident.arm else arm for arm in own.arms)
    return plan.model_copy(update={"experiments": (own.model_copy(update={"arms": arms}),)})


def as_logged(frame: pl.DataFrame, incident: Incident | None, day: date) -> pl.DataFrame:
    """The rows of a day that arrive: without those that the incident swallows."""
    if incident is None or incident.harm is not None or not incident.first <= day < incident.end:
        return frame
    if not incident.platform:
        return frame.filter(pl.col("event_name") != LOST_EVENT)
    logged = pl.col("event_name").is_in(["experiment_assigned", "experiment_exposed"])
    there = (pl.col("platform") == incident.platform) & (pl.col("arm") == incident.arm)
    return frame.filter(~(logged & there.fill_null(False)))


def copy_catalog(catalog: Path, to: Path, file: Path, brief: Brief | None) -> None:
    """Copy what people wrote, with the simulated product as the only source.

    file: a brief's file below `catalog`; brief: what it says in the copy, None where it stays as it is.
    """
    shutil.copytree(catalog, to, ignore=shutil.ignore_patterns(".*"))
    shutil.rmtree(to / "sources", ignore_errors=True)
    (to / "sources").mkdir()
    (to / "sources" / "rehearsal.yaml").write_text(SOURCE)
    if brief is None:
        return
    written = brief.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=100)
    (to / file).write_text(text)


def carry_reviews(home: Home, own: Home, brief: Brief) -> None:
    """Give the scratch home the reviews that the brief was given in the real one.

    A file is read from a copy, because even reading would leave marks beside it.
    """
    there = state_log(home)
    if home.state_url is not None:
        given = there.entries(REVIEW, lock_subject(brief))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for path in there.path.parent.glob(f"{there.path.name}*"):
                shutil.copy2(path, folder)
            given = replace(there, path=Path(folder) / there.path.name).entries(REVIEW, lock_subject(brief))
    for place, one in enumerate(given):
        state_log(own).append(one.kind, one.subject, key=f"carried:{place}", at=one.at, content=one.content)
