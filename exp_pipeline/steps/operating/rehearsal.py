"""Rehearsal: an experiment's whole life over simulated schools, before a student meets it.

Everything happens in a home of its own, by a simulated clock, through the steps that real days go through:
landing, daily facts and verdicts, incidents and messages, the ramp's tick, flags, looks and the readout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.ramps import stages_of, traffic_at
from exp_pipeline.model.readout import Readout
from exp_pipeline.notify.channels import FileChannel
from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.steps.again.catch_up import TOGETHER, runner
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import brief_of, take_snapshot
from exp_pipeline.steps.experiments.planning import check_readiness
from exp_pipeline.steps.experiments.readouts import write_memo
from exp_pipeline.steps.experiments.starting import lock_by_hand
from exp_pipeline.steps.opening import KEY, workbench
from exp_pipeline.steps.operating import ramps
from exp_pipeline.steps.operating.incidents import acknowledge, open_incidents
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.steps.operating.ramp_round import send_flags
from exp_pipeline.steps.operating.rehearsal_seen import messages_after, units_so_far, verdicts_of
from exp_pipeline.steps.operating.rehearsal_told import (
    Approvals,
    ArmTold,
    Rehearsal,
    RehearsedDay,
    against_truth,
    is_page,
    planted_in,
    planted_in_all,
)
from exp_pipeline.steps.operating.rehearsal_world import (
    Fitted,
    Incident,
    Scenario,
    as_logged,
    carry_reviews,
    copy_catalog,
    fitted,
    history_of,
    incident_of,
    learners_for,
    on_day,
    plan_for,
    ramp_findings,
    require_movable,
    simulated_source,
)
from exp_pipeline.steps.operating.watch import follow_verdicts, lock_started
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

# As the schedules have it: the days at half past two, the ramp at five past each hour.
_DAILY, _TICK = timedelta(hours=2, minutes=30), timedelta(hours=3, minutes=5)
_AFTER_OPENING = timedelta(minutes=5)
_KEY = "rehearsal-only-there-are-no-learners"
_TEAM, _WHY = "rehearsal", "taken for granted in a rehearsal"


@dataclass(slots=True)
class _Walk:
    """What is carried from day to day."""

    bench: Workbench
    brief: Brief
    incident: Incident | None
    effect: bool
    learners: int
    seed: int
    approvals: Approvals
    history: int
    traffic: list[float] = field(default_factory=list)
    waiting: list[pl.DataFrame] = field(default_factory=list)
    told: int = 0
    readout: Readout | None = None

    def plan(self) -> SimulationPlan:
        limits = self.bench.catalog.limits_of(self.brief)
        return plan_for(
            self.brief, limits, learners=self.learners, seed=self.seed, effect=self.effect,
            traffic=self.traffic, history=self.history,
        )  # fmt: skip


def rehearse(
    home: Home,
    catalog: Catalog,
    experiment: str,
    scratch: Path,
    *,
    scenario: Scenario = "well",
    days: int | None = None,
    learners: int | None = None,
    incident_day: date | None = None,
    approvals: Approvals = "granted",
    seed: int = 1,
    on: Callable[[RehearsedDay], None] = lambda day: None,
) -> Rehearsal:
    """How will this experiment live: its ramp, its days, an incident, its readout?

    home and catalog are read and never written; everything is made in `scratch`, which must not exist. `on`
    is told each day when it is done. The same arguments give the same life. Raises ExpError for an unknown
    experiment, one that no flag can carry, and where `scratch` exists; ValueError for sizes out of range.
    """
    began = time.monotonic()
    brief = _rehearsable(catalog, experiment)
    if scratch.exists() and any(scratch.iterdir()):
        raise ExpError(f"{scratch} is not empty: a rehearsal is made in a folder of its own")
    fits = fitted(brief, days=days, learners=learners)
    if scenario == "well":
        require_movable(fits.brief, catalog)
    incident = incident_of(fits.brief, catalog, scenario, incident_day)
    own = Home(scratch)
    carry_reviews(home, own, brief)
    copy_catalog(
        catalog.root,
        own.catalog,
        catalog.files[experiment].relative_to(catalog.root),
        fits.brief if fits.changes else None,
    )
    own.landing.mkdir(parents=True)
    with _opened(own, catalog, fits.brief) as bench:
        walk = _Walk(
            bench,
            brief_of(bench, experiment),
            incident,
            scenario != "nothing",
            learners_for(brief, learners),
            seed,
            approvals,
            history_of(fits.brief, scenario),
        )
        gaps = _history(walk, brief, fits)
        lived = [_morning(walk, fits.brief.start - DAY)]
        on(lived[0])
        for day in Window(walk.brief.start, walk.brief.end).days():
            lived.append(_live(walk, day))
            on(lived[-1])
    return _told(walk, fits, scenario, gaps, tuple(lived), ramp_findings(brief, catalog), began)


def _rehearsable(catalog: Catalog, experiment: str) -> Brief:
    brief = catalog.briefs.get(experiment)
    if brief is None:
        known = ", ".join(sorted(catalog.briefs)) or "none"
        raise ExpError(f"no usable brief for experiment {experiment!r}; there are: {known}")
    if not stages_of(brief):
        raise ExpError(
            f"{experiment} cannot be rehearsed: no flag can carry its arms (assignment {brief.assignment}, "
            f"hash_scheme {brief.hash_scheme}{', over a unit table' if brief.table is not None else ''})"
        )
    return brief


@contextmanager
def _opened(home: Home, catalog: Catalog, brief: Brief) -> Iterator[Workbench]:
    """A workbench over the scratch home whose one brief is the rehearsed one.

    No setting of the real home enters: no key, no channel, no state database.
    """
    path = home.catalog / catalog.files[brief.name].relative_to(catalog.root)
    own = replace(
        catalog,
        root=home.catalog,
        briefs={brief.name: brief},
        sources=(simulated_source(),),
        files={brief.name: path},
    )
    with (
        duckdb.connect(":memory:") as connection,
        workbench(home, connection, run_id="rehearsal", environment={KEY: _KEY}, catalog=own) as bench,
    ):
        yield bench


def _history(walk: _Walk, as_written: Brief, fits: Fitted) -> tuple[str, ...]:
    """Land and make the days before the start; lock the brief over its gaps, where it has any.

    Gives the gaps of the brief as it is written, judged on these days.
    """
    bench, brief = walk.bench, walk.brief
    before = Window(walk.plan().start, brief.start)
    for day in before.days():
        _land(walk, day)
    _make(bench, before)
    now = _at(brief.start, _DAILY)
    gaps = check_readiness(bench, brief.name).gaps
    if gaps:
        lock_by_hand(bench, brief, now, by=_TEAM, reason="its gaps are let pass in a rehearsal")
    if fits.changes:
        asked = replace(bench.catalog, briefs={brief.name: as_written})
        gaps = check_readiness(replace(bench, catalog=asked), brief.name).gaps
    return tuple(str(gap) for gap in gaps)


def _live(walk: _Walk, day: date) -> RehearsedDay:
    """Let a day happen under the flags of its morning, and judge it on the next."""
    bench, brief = walk.bench, walk.brief
    entries = entries_of(state_log(bench.home), brief)
    # Products read their flags before the first lesson; a stage that opens later in the day counts from the
    # next one on.
    walk.traffic.append(traffic_at(entries, _at(day, _TICK)))
    _land(walk, day)
    window = Window.of(day - DAY, day)
    _make(bench, window)
    now = _at(day + DAY, _DAILY)
    lock_started(bench, now)
    follow_verdicts(bench, window, now, (FileChannel(bench.home.notifications),))
    _taken(walk, now)
    return _morning(walk, day)


def _morning(walk: _Walk, day: date) -> RehearsedDay:
    """What the ramp does on the morning after a day, and how everything stands then."""
    bench, brief, morning = walk.bench, walk.brief, day + DAY
    notes: list[str] = []
    judged = _tick(walk, morning, notes)
    now = judged.facts.now
    sent = send_flags(bench, now, {})
    _taken(walk, now)
    state = judged.state
    units, p_value = units_so_far(bench, brief, day)
    messages = messages_after(bench, walk.told)
    walk.told += len(messages)
    return RehearsedDay(
        day=day,
        status=state.status,
        stage=state.stage,
        traffic=state.traffic,
        units=units,
        srm_p_value=p_value,
        verdicts=verdicts_of(bench, brief, day, p_value),
        messages=messages,
        verb=judged.decision.verb,
        reasons=judged.decision.reasons,
        notes=tuple(notes),
        flag_version=0 if sent.published.publication is None else sent.published.publication.version,
        look=_look(walk, morning),
    )


def _taken(walk: _Walk, now: datetime) -> None:
    """Where people act, the on-call takes each page as it comes; else it is told again and again."""
    log = state_log(walk.bench.home)
    for one in open_incidents(log) if walk.approvals == "granted" else ():
        if one.severity == "page" and one.status == "open":
            acknowledge(log, one.rule, one.subject, who=walk.brief.on_call, now=now)


def _land(walk: _Walk, day: date) -> None:
    """Write what the product sends on a day; what arrives after midnight waits for the next."""
    made = simulate_day(on_day(walk.plan(), walk.incident, day), day)
    frame = pl.concat([*walk.waiting, as_logged(made, walk.incident, day)])
    frame = frame.sort("received_at", "client_ts", "event_id", maintain_order=True)
    today = pl.col("received_at").dt.date() <= day
    walk.waiting = [frame.filter(~today)]
    folder = walk.bench.home.landing / f"received_date={day}"
    folder.mkdir(parents=True)
    frame.filter(today).write_parquet(folder / "events-0000.parquet", statistics=True)


def _make(bench: Workbench, window: Window) -> None:
    """Every daily table of a window, in the order of the graph."""
    run = runner(bench)
    for tables in TOGETHER:
        if tables[0] == "landed":
            # The day before has landed already, and nothing comes into it any more.
            fresh = [day for day in window.days() if bench.lake.manifest("landed", _received(day)) is None]
            run(tables, Window.of(fresh[0], fresh[-1]))
        else:
            run(tables, window)


def _received(day: date) -> str:
    return f"received_date={day}"


def _tick(walk: _Walk, day: date, notes: list[str]) -> ramps.Judged:
    """The ramp's ticks of a day: in the morning, and when schools open where that one wrote nothing."""
    now = _at(day, _TICK)
    judged = _granted(walk, now, notes)
    calendar = walk.bench.catalog.calendar_of(walk.brief)
    if judged.written is None and calendar is not None:
        opens = calendar.next_open(now)
        if opens is not None and now < opens < _at(day + DAY, timedelta()):
            judged = _granted(walk, opens + _AFTER_OPENING, notes)
    return judged


def _granted(walk: _Walk, now: datetime, notes: list[str]) -> ramps.Judged:
    """One tick; where only people's word is missing it is given, and the tick repeated."""
    (judged,) = ramps.tick(walk.bench, now)
    stage = judged.state.stage + 1
    asked = f"stage {stage} needs a person's approval"
    if walk.approvals == "granted" and judged.decision.reasons == (asked,):
        ramps.approve(walk.bench, walk.brief.name, stage=stage, by=_TEAM, reason=_WHY, now=now)
        notes.append(f"approval of stage {stage} {_WHY}")
        (judged,) = ramps.tick(walk.bench, now)
    return judged


def _look(walk: _Walk, morning: date) -> str:
    """Read the experiment out on a planned look and at its end; gives what the readout says."""
    bench, brief = walk.bench, walk.brief
    if morning not in (*brief.looks, brief.end):
        return ""
    take_snapshot(bench, brief.name)
    memo = write_memo(bench, brief.name, decided_at=_at(morning, _TICK))
    walk.readout = memo.readout
    name = "end" if morning == brief.end else "look"
    return f"{name}: {memo.readout.decision.outcome.replace('_', ' ')}. {memo.readout.decision.summary}"


def _at(day: date, after: timedelta) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + after


def _told(
    walk: _Walk,
    fits: Fitted,
    scenario: Scenario,
    gaps: tuple[str, ...],
    lived: tuple[RehearsedDay, ...],
    findings: tuple[str, ...],
    began: float,
) -> Rehearsal:
    readout, brief = walk.readout, walk.brief
    if readout is None:
        raise ExpError(f"{brief.name} was not read out at its end")
    by_arm = {one.name: one for one in walk.plan().experiments[0].arms}
    harmed = walk.incident.harm if walk.incident is not None else None
    arms = tuple(
        ArmTold(
            arm=one.arm,
            planted=planted_in(
                by_arm[one.arm].mastery_log_odds, harmed is not None and harmed.name == one.arm
            ),
            outcome=one.outcome,
            because=one.because,
        )
        for one in readout.decision.arms
    )
    as_planted, against = against_truth(
        scenario,
        walk.incident,
        lived,
        arms,
        readout.decision.outcome,
        last_stage=len(stages_of(brief)),
    )
    pages = sum(is_page(one) for day in lived for one in day.messages)
    return Rehearsal(
        experiment=brief.name,
        version=brief.version,
        scenario=scenario,
        seed=walk.seed,
        learners=walk.learners,
        start=brief.start,
        end=brief.end,
        approvals=walk.approvals,
        planted=planted_in_all(scenario, walk.incident),
        changes=fits.changes,
        gaps=gaps,
        findings=findings,
        days=lived,
        pages=pages,
        outcome=readout.decision.outcome,
        summary=readout.decision.summary,
        arms=arms,
        as_planted=as_planted,
        against=against,
        home=str(walk.bench.home.root),
        memo=str(walk.bench.home.readouts / f"{brief.name}.html"),
        seconds=round(time.monotonic() - began, 1),
    )
