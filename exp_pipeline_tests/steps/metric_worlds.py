"""A small world of events with every kind of metric, and the answers counted from its events alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from exp_pipeline.model.brief import Arm, Brief, Hypothesis, VarianceReduction
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.metrics import Bins, Measure, Metric, Part, Score
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments, build_exposures
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline_tests.steps.conftest import commit_events, with_catalog

FIRST = date(2026, 3, 2)
DAYS = 26
START, END = FIRST + DAY * 7, FIRST + DAY * 24
LAST = FIRST + DAY * (DAYS - 1)
EDGES = (100.0, 200.0, 400.0, 800.0, 1600.0)


@dataclass(frozen=True)
class Row:
    """One event of one learner."""

    learner: int
    at: datetime
    name: str
    fields: Mapping[str, Any]

    @property
    def day(self) -> date:
        return self.at.date()


@dataclass(frozen=True)
class Unit:
    """One learner in one experiment, as its first assignment says."""

    learner: int
    arm: str
    at: datetime
    platform: str | None

    @property
    def day(self) -> date:
        return self.at.date()


def _measure(name: str, **fields: Any) -> Measure:
    return Measure(name=name, description=f"{name.replace('_', ' ').capitalize()}.", **fields)


_ANSWER, _RESPONSE, _TEST = ("answer_attempted",), ("tutor_turn_response_shown",), ("assessment_completed",)
MEASURES = {
    one.name: one
    for one in (
        _measure("answers", events=_ANSWER),
        _measure("answers_right", events=_ANSWER, where="correct"),
        _measure("first_right", events=_ANSWER, where="correct", aggregate="first"),
        _measure("first_hint", events=("hint_requested",), aggregate="first"),
        _measure("first_answer", events=_ANSWER, aggregate="first"),
        _measure("last_answer", events=_ANSWER, aggregate="last"),
        _measure("objectives", events=_ANSWER, aggregate="distinct", of="learning_objective_id"),
        _measure("latency", events=_RESPONSE, aggregate="values", of="latency_ms"),
        _measure("latency_bins", events=_RESPONSE, aggregate="histogram", of="latency_ms",
                 bins=Bins(edges=EDGES)),
        _measure("slowest", events=_RESPONSE, aggregate="max", of="latency_ms"),
        _measure("fastest", events=_RESPONSE, aggregate="min", of="latency_ms"),
        _measure("cost", events=_RESPONSE, aggregate="sum", of="cost_usd"),
        _measure("points", events=_TEST, aggregate="sum", of="score"),
        _measure("possible", events=_TEST, aggregate="sum", of="max_score"),
        _measure("sessions_begun", over="sessions"),
        _measure("session_at", over="sessions", where="n_responses > 0", aggregate="first"),
        _measure("session_turns_taken", over="sessions", aggregate="sum", of="n_responses"),
    )
}  # fmt: skip


def _metric(name: str, kind: str, **fields: Any) -> Metric:
    return Metric(
        name=name, title=name, owner="tests", definition=f"What {name} says.", type=kind,  # type: ignore[arg-type]
        direction="increase", kind="output", **fields,
    )  # fmt: skip


METRICS = {
    one.name: one
    for one in (
        _metric("mean_answers", "mean", numerator="answers", window_days=7),
        _metric("mean_objectives", "mean", numerator="objectives"),
        _metric("mean_slowest", "mean", numerator="slowest", window_days=5),
        _metric("mean_fastest", "mean", numerator="fastest"),
        _metric("any_right", "proportion", numerator="answers_right", window_days=3),
        _metric("accuracy", "ratio", numerator="answers_right", denominator="answers"),
        _metric("turns_per_session", "ratio", numerator="session_turns_taken", denominator="sessions_begun"),
        _metric("answers_per_1000", "count_rate", numerator="answers", denominator="sessions_begun",
                per=1000),
        _metric("p90", "quantile", numerator="latency", quantile=0.9),
        _metric("p50_bins", "quantile", numerator="latency_bins", quantile=0.5, window_days=9),
        _metric("kept", "retention", numerator="answers", from_day=4, window_days=9),
        _metric("hint_to_right", "funnel", steps=("first_answer", "first_hint", "first_right"),
                window_days=6),
        _metric("time_to_right", "first_time_to", numerator="first_right", window_days=5),
        _metric("days_to_hint", "first_time_to", numerator="first_hint", window_days=4, time_unit="days"),
        _metric("time_to_session", "first_time_to", numerator="session_at", window_days=8),
        _metric("gained", "gain", pre=Score(points="points", out_of="possible"),
                post=Score(points="points", out_of="possible"), pre_days=5, window_days=10),
        _metric("gained_after", "gain", pre=Score(points="fastest"), post=Score(points="slowest"),
                pre_taken="after", highest=2000.0),
        _metric("cost_of_right", "cost_per_outcome", numerator="cost", denominator="answers_right"),
        _metric("blend", "composite", parts=(
            Part(metric="accuracy", weight=0.5, worst=0.2, best=0.9, if_missing=0.5, because="learning"),
            Part(metric="time_to_right", weight=0.3, worst=120, best=0, because="pace"),
            Part(metric="any_right", weight=0.2, worst=0, best=1, because="reach"),
        )),
        _metric("web_answers", "mean", numerator="answers", include="platform = 'web'"),
        _metric("no_app_answers", "mean", numerator="answers", exclude="platform in ('ios', 'android')"),
    )
}  # fmt: skip
COVARIATES = ("answers", "cost", "objectives", "latency", "fastest", "last_answer", "sessions_begun")


def brief_of(name: str, metrics: Sequence[str], **changes: Any) -> Brief:
    """A brief over some of the metrics, in the middle of the world's days."""
    fields: dict[str, Any] = {
        "name": name, "title": name, "owner": "tests", "on_call": "tests", "hash_scheme": "none",
        "hypothesis": Hypothesis(change="a", population="b", context="c", moves="d", because="e",
                                 without_harming="f"),
        "arms": (Arm(name="control", share=0.5), Arm(name="new", share=0.5)), "control": "control",
        "start": START, "end": END, "primary": metrics[0], "secondary": tuple(metrics[1:]),
        "mde": Size(absolute=0.1),
        "variance_reduction": VarianceReduction(covariates=COVARIATES, pre_days=6),
    }  # fmt: skip
    return Brief(**(fields | changes))


BRIEFS = {
    one.name: one
    for one in (
        brief_of("all-kinds", list(METRICS)),
        brief_of("blend-only", ["blend"], start=START + DAY * 3,
                 variance_reduction=VarianceReduction(method="none")),
    )
}  # fmt: skip


def draw(seed: int, learners: int = 36) -> list[Row]:
    """Events of all days: some learners never come, some come on the edges of a day or of a window."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for learner in range(1, learners + 1):
        silent = learner % 9 == 0
        eager = chance.random()
        for offset in range(0 if not silent else DAYS, DAYS):
            if chance.random() > 0.25 + 0.4 * eager:
                continue
            moment = _moment(FIRST + DAY * offset, chance)
            for _ in range(chance.randint(1, 5)):
                rows.append(_event(learner, moment, chance))
                moment += timedelta(seconds=chance.choice([1, 40, 700, 1801, 4000]))
                if moment.date() > LAST:
                    break
    for brief in BRIEFS.values():
        for learner in range(1, learners + 1):
            if chance.random() < 0.1:
                continue
            day = brief.start + DAY * chance.randint(0, 13)
            own = [row.at for row in rows if row.learner == learner and row.day == day]
            at = chance.choice(own) if own and chance.random() < 0.7 else _moment(day, chance)
            arm = chance.choice(["control", "new"])
            platform = chance.choice(["web", "ios", "android"])
            rows.append(
                Row(learner, at, "experiment_assigned", {
                    "experiment": brief.name, "experiment_version": 1, "unit_type": "learner",
                    "unit_id": f"{learner:032x}", "arm": arm, "platform": platform,
                })
            )  # fmt: skip
    return sorted(rows, key=lambda row: (row.learner, row.at, row.name != "experiment_assigned"))


def _moment(day: date, chance: random.Random) -> datetime:
    start = datetime(day.year, day.month, day.day)
    if chance.random() < 0.2:
        return start + chance.choice([timedelta(0), timedelta(hours=23, minutes=59, seconds=58)])
    return start + timedelta(seconds=chance.randint(0, 80_000), microseconds=chance.randint(0, 999_999))


def _event(learner: int, at: datetime, chance: random.Random) -> Row:
    kind = chance.random()
    if kind < 0.45:
        fields: dict[str, Any] = {
            "correct": chance.choice([True, False, False]),
            "learning_objective_id": chance.choice(["a", "b", "c", None]),
        }
        return Row(learner, at, "answer_attempted", fields)
    if kind < 0.8:
        # 0.1 + 0.2 must come out the same in any order.
        latency = chance.choice([50.0, 99.5, 100.0, 250.0, 399.0, 400.0, 1599.0, 1600.0, 1999.0])
        return Row(
            learner, at, "tutor_turn_response_shown",
            {"latency_ms": latency, "cost_usd": chance.choice([0.1, 0.2, 0.3]), "turn_id": "t"},
        )  # fmt: skip
    if kind < 0.9:
        return Row(learner, at, "hint_requested", {})
    most = chance.choice([5.0, 10.0])
    return Row(
        learner, at, "assessment_completed",
        {"score": chance.choice([0.0, 1.0, 2.0, 5.0, most]), "max_score": most},
    )  # fmt: skip


def run(bench: Workbench, rows: Iterable[Row]) -> Workbench:
    """Write the events as ingest does, and every daily table that follows from them."""
    session = bench.catalog.policies.session.model_copy(update={"cut_on_objective": False})
    policies = bench.catalog.policies.model_copy(update={"session": session})
    own = with_catalog(bench, measures=MEASURES, metrics=METRICS, briefs=BRIEFS, policies=policies)
    days: dict[date, list[dict[str, object]]] = {FIRST + DAY * offset: [] for offset in range(DAYS)}
    for number, row in enumerate(rows):
        days[row.day].append({
            "learner_key": row.learner, "learner_id": f"{row.learner:032x}", "occurred_at": row.at,
            "event_date": row.day, "event_id": f"{number:06d}", "event_name": row.name, "role": "student",
            "platform": "web", "app_version": "1.0", "objective_changed": False, "device_handover": False,
            **row.fields,
        })  # fmt: skip
    commit_events(own, days)
    window = Window.of(FIRST, LAST)
    for step in (build_learner_days, build_sessions, build_assignments, build_exposures):
        step(own, window)
    build_enrollments(own)
    build_unit_days(own, window)
    return own


def units_of(rows: Sequence[Row], brief: Brief) -> dict[int, Unit]:
    """Who is in the experiment, from its assignment events."""
    found: dict[int, Unit] = {}
    for row in sorted(rows, key=lambda one: (one.at, str(one.fields.get("arm")))):
        if row.name == "experiment_assigned" and row.fields["experiment"] == brief.name:
            found.setdefault(
                row.learner, Unit(row.learner, row.fields["arm"], row.at, row.fields["platform"])
            )
    return found


def after(rows: Sequence[Row], unit: Unit, first: int, end: int | None, last: date) -> list[Row]:
    """A unit's events at or after its assignment, on days `first` to `end` (excluded) since it."""
    return [
        row
        for row in rows
        if row.learner == unit.learner
        and row.name != "experiment_assigned"
        and row.at >= unit.at
        and row.day <= last
        and (row.day - unit.day).days >= first
        and (end is None or (row.day - unit.day).days < end)
    ]


def sessions_of(rows: Sequence[Row], learner: int) -> list[list[Row]]:
    """A learner's events cut where more than half an hour passes."""
    found: list[list[Row]] = []
    for row in (one for one in rows if one.learner == learner):
        if not found or row.at - found[-1][-1].at > timedelta(minutes=30):
            found.append([])
        found[-1].append(row)
    return found
