"""Metrics of the shipped library over made events, each learner's number counted again by plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import VarianceReduction
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments, build_exposures
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.opening import workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps import metric_worlds as world
from exp_pipeline_tests.steps.conftest import SECRET, commit_events, with_catalog
from exp_pipeline_tests.steps.metric_worlds import Row

FIRST, DAYS = date(2026, 3, 2), 20
START, LAST = FIRST + DAY * 5, FIRST + DAY * 19
LEARNERS = 24
EVENTS: Mapping[str, Callable[[random.Random], dict[str, Any]]] = {
    "tutor_turn_submitted": lambda c: {
        "turn_id": "t",
        "followed_recommendation": c.choice([None, None, True, False]),
        "frustration_signal": c.choice([None, None, None, "rage_click"]),
    },
    "tutor_turn_response_shown": lambda c: {
        "turn_id": "t", "model_name": "m", "tokens_in": c.randint(1, 900), "tokens_out": c.randint(1, 90),
        "cost_usd": c.choice([0.1, 0.2, 0.3]), "ttft_ms": c.choice([None, 12.0, 80.0, 300.0, 4000.0]),
        "latency_ms": c.choice([500.0, 900.0]), "retry_count": c.choice([0, 0, 2]),
        "finish_reason": c.choice(["stop", "stop", "refusal", "content_filter", "timeout", "cancelled"]),
        "safety_outcome": c.choice(["passed", "passed", "refused", "blocked", "modified", None]),
        "grounded": c.choice([None, True, True, False]),
        "recommended_content_id": c.choice([None, "c1"]),
        "override_eligible": c.choice([None, True, False]),
    },
    "answer_attempted": lambda c: {
        "correct": c.choice([True, False, None]), "score": 1.0, "max_score": 1.0,
        "attempt_number": c.choice([None, 1, 1, 2, 3, 4]), "answer_revealed": c.choice([None, True, False]),
        "mastery": c.choice([None, False, False, True]), "mastery_points": c.choice([None, 0.1, 0.2]),
        "active_ms": c.choice([None, 30_000.0, 90_000.0]),
        "followed_recommendation": c.choice([None, True, False]),
    },
    "assessment_completed": lambda c: {
        "assessment_kind": c.choice(["pre", "post", "delayed", "formative", None]),
        "score": c.choice([0.0, 1.0, 3.0, 4.0]), "max_score": 4.0, "mastery_points": c.choice([None, 0.3]),
    },
    "rubric_scored": lambda c: {
        "rubric_name": c.choice(["tutoring-quality", "Hallucination-audit"]), "rubric_version": "1",
        "rubric_dimension": c.choice(["scaffolding", "tone"]), "rater_kind": "human",
        "score": c.choice([1.0, 2.0, 3.0]), "max_score": c.choice([4.0, 8.0]),
        "passed": c.choice([None, True, False]),
    },
    "feedback_given": lambda c: {
        "helpful": c.choice([None, True, False]), "rating": 3.0, "resolved": c.choice([None, True, False]),
    },
    "safety_flagged": lambda c: {
        "severity": c.choice(["S1", "S2", "S3"]), "origin": c.choice(["model", "user"]),
    },
    "safety_appealed": lambda c: {"appeal_outcome": c.choice(["pending", "upheld", "overturned"])},
    "teacher_overrode": lambda c: {"override_eligible": c.choice([True, False])},
    "tutor_session_ended": lambda c: {
        "session_id": "s", "resolved": c.choice([None, True, False]),
        "escalated": c.choice([None, True, False]),
        "mastery_points": 5.0, "frustration_signal": c.choice([None, "abandoned"]),
    },
    "tool_call_executed": lambda c: {
        "tool_name": "calculator", "tool_status": c.choice(["ok", "error", "timeout"]),
    },
    "client_error_raised": lambda c: {"error_code": "E1"},
    "support_ticket_opened": lambda c: {"ticket_category": "login"},
    "hint_requested": lambda c: {"frustration_signal": c.choice([None, "other"])},
}  # fmt: skip
WEIGHTS = [6, 6, 8, 3, 3, 3, 1, 2, 1, 2, 2, 1, 1, 2]


def draw(seed: int) -> list[Row]:
    """Some sessions for each learner on many days, and an assignment in the middle of them."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for learner in range(1, LEARNERS + 1):
        mine: list[Row] = []
        for offset in range(DAYS):
            if learner % 8 == 0 or chance.random() < 0.4:
                continue
            at = datetime(2026, 3, 2) + timedelta(days=offset, seconds=chance.randint(0, 60_000))
            for _ in range(chance.randint(1, 12)):
                (name,) = chance.choices(list(EVENTS), WEIGHTS)
                mine.append(Row(learner, at, name, EVENTS[name](chance)))
                at += timedelta(seconds=chance.choice([3, 50, 600, 2000]))
        moments = [row.at for row in mine if START <= row.day <= START + DAY * 5]
        at = chance.choice(moments) + timedelta(seconds=1) if moments else datetime(2026, 3, 8, 9)
        fields = {
            "experiment": "library", "experiment_version": 1, "unit_type": "learner",
            "unit_id": f"{learner:032x}", "arm": chance.choice(["control", "new"]),
        }  # fmt: skip
        rows += [*mine, Row(learner, at, "experiment_assigned", fields)]
    return sorted(rows, key=lambda row: (row.learner, row.at))


class Learner:
    """One learner's events, counted by hand from the moment of assignment on."""

    def __init__(self, rows: Sequence[Row], learner: int) -> None:
        self.everything = [row for row in rows if row.learner == learner]
        (assigned,) = (row for row in self.everything if row.name == "experiment_assigned")
        self.at, self.day = assigned.at, assigned.day
        self.after = [row for row in self.everything if row.at >= self.at and row is not assigned]

    def events(self, *names: str, **wanted: Any) -> list[Row]:
        return [
            row
            for row in self.after
            if row.name in names and all(row.fields.get(field) == value for field, value in wanted.items())
        ]

    def count(self, *names: str, **wanted: Any) -> int:
        return len(self.events(*names, **wanted))

    def total(self, field: str, *names: str, **wanted: Any) -> float:
        """An exact sum, so that the order does not matter."""
        values = [row.fields.get(field) for row in self.events(*names, **wanted)]
        return float(sum((Fraction(str(one)) for one in values if one is not None), Fraction(0)))

    def told(self, field: str, *names: str) -> tuple[float, float]:
        """How often a flag was true, of the times that it was said at all."""
        return self.count(*names, **{field: True}), self.count(*names, **{field: True}) + self.count(
            *names, **{field: False}
        )

    def sessions(self) -> list[list[Row]]:
        """Runs of events without an end or a pause of more than half an hour in them, after assignment."""
        found: list[list[Row]] = []
        for row in self.everything:
            last = found[-1][-1] if found else None
            if last is None or row.at - last.at > timedelta(minutes=30) or last.name == "tutor_session_ended":
                found.append([])
            found[-1].append(row)
        return [one for one in found if one[0].day >= self.day and one[-1].at >= self.at]

    def minutes(self) -> float:
        return sum((one[-1].at - one[0].at) / timedelta(minutes=1) for one in self.sessions())

    def turns(self) -> int:
        return sum(row.name == "tutor_turn_submitted" for one in self.sessions() for row in one)

    def unanswered(self) -> int:
        found = 0
        for one in self.sessions():
            asked = sum(row.name == "tutor_turn_submitted" for row in one)
            found += max(0, asked - sum(row.name == "tutor_turn_response_shown" for row in one))
        return found

    def audits(self, audit: bool) -> list[Row]:
        return [
            row for row in self.events("rubric_scored") if row.fields["rubric_name"].startswith("H") == audit
        ]

    def gain(self) -> float | None:
        before = [
            row for row in self.everything
            if row.name == TEST and row.at < self.at and row.fields["assessment_kind"] == "pre"
        ]  # fmt: skip
        later = self.events("assessment_completed", assessment_kind="post")
        if not before or not later:
            return None
        pre, post = (
            sum(row.fields["score"] for row in rows) / sum(row.fields["max_score"] for row in rows)
            for rows in (before, later)
        )
        return None if pre >= 1 else (post - pre) / (1 - pre)

    def came_back(self) -> bool:
        days = {(row.day - self.day).days for row in self.events("answer_attempted") if _marked(row)}
        return bool(days & {1, 2, 3, 4, 5, 6, 7})

    def refused(self) -> int:
        return len([
            row for row in self.events("tutor_turn_response_shown")
            if row.fields["finish_reason"] in ("refusal", "content_filter")
            or row.fields["safety_outcome"] in ("refused", "blocked")
        ])  # fmt: skip


def _marked(row: Row) -> bool:
    return row.fields["correct"] is not None


def _numbered(learner: Learner) -> list[Row]:
    return [
        row for row in learner.events("answer_attempted") if _marked(row) and row.fields["attempt_number"]
    ]


RESPONSE, ANSWER, TEST = "tutor_turn_response_shown", "answer_attempted", "assessment_completed"
SIGNS = ("tutor_session_ended", "tutor_turn_submitted", "hint_requested", ANSWER)
Counted = tuple[float | None, ...]
# A metric's numerator and denominator for one learner, from its definition in words.
ORACLE: Mapping[str, Callable[[Learner], Counted]] = {
    "mastery_loop_completion": lambda u: (u.count(ANSWER, mastery=True),),
    "normalised_learning_gain": lambda u: (u.gain(),),
    "delayed_test_score": lambda u: (
        u.total("score", TEST, assessment_kind="delayed"),
        u.total("max_score", TEST, assessment_kind="delayed")),
    "mastery_efficiency": lambda u: (u.count(ANSWER, mastery=True), u.minutes()),
    "persistence_7d": lambda u: (u.came_back(),),
    "resolution_rate": lambda u: u.told("resolved", "tutor_session_ended"),
    "confirmed_resolution_rate": lambda u: u.told("resolved", "feedback_given"),
    "handover_rate": lambda u: u.told("escalated", "tutor_session_ended"),
    "next_step_compliance": lambda u: u.told("followed_recommendation", "tutor_turn_submitted", ANSWER),
    "next_step_offer_rate": lambda u: (u.count(RESPONSE, recommended_content_id="c1"), u.count(RESPONSE)),
    "grounded_answer_rate": lambda u: u.told("grounded", RESPONSE),
    "rubric_quality": lambda u: (
        sum(row.fields["score"] / row.fields["max_score"] for row in u.audits(False)), len(u.audits(False))),
    "hallucination_audit_failure_rate": lambda u: (
        len([row for row in u.audits(True) if row.fields["passed"] is False]),
        len([row for row in u.audits(True) if row.fields["passed"] is not None])),
    "safety_incidents_per_1000_sessions": lambda u: (u.count("safety_flagged"), len(u.sessions())),
    "severe_incidents_per_1000_sessions": lambda u: (
        u.count("safety_flagged", severity="S1"), len(u.sessions())),
    "s2_incidents_per_1000_sessions": lambda u: (
        u.count("safety_flagged", severity="S2"), len(u.sessions())),
    "s3_incidents_per_1000_sessions": lambda u: (
        u.count("safety_flagged", severity="S3"), len(u.sessions())),
    "appeal_rate": lambda u: (
        u.count("safety_appealed", appeal_outcome="pending"), u.count("safety_flagged")),
    "appeal_uphold_rate": lambda u: (
        u.count("safety_appealed", appeal_outcome="upheld"),
        u.count("safety_appealed") - u.count("safety_appealed", appeal_outcome="pending")),
    "override_rate": lambda u: (
        u.count("teacher_overrode", override_eligible=True), u.count(RESPONSE, override_eligible=True)),
    "refusal_rate": lambda u: (u.refused(), u.count(RESPONSE)),
    "retry_rate": lambda u: (u.total("retry_count", RESPONSE), u.count(RESPONSE)),
    "timeout_rate": lambda u: (u.count(RESPONSE, finish_reason="timeout"), u.count(RESPONSE)),
    "broken_off_rate": lambda u: (u.count(RESPONSE, finish_reason="cancelled"), u.count(RESPONSE)),
    "unanswered_message_rate": lambda u: (u.unanswered(), u.turns()),
    "tool_timeout_rate": lambda u: (
        u.count("tool_call_executed", tool_status="timeout"), u.count("tool_call_executed")),
    "escalation_rate": lambda u: (u.count("support_ticket_opened"),),
    "client_errors_per_1000_sessions": lambda u: (u.count("client_error_raised"), len(u.sessions())),
    "frustration_per_session": lambda u: (
        len([row for row in u.events(*SIGNS) if row.fields.get("frustration_signal")]), len(u.sessions())),
    "stuck_rate": lambda u: (
        len([row for row in _numbered(u) if not row.fields["correct"] and row.fields["attempt_number"] > 2]),
        len(_numbered(u))),
    "first_try_accuracy": lambda u: (
        u.count(ANSWER, attempt_number=1, correct=True),
        u.count(ANSWER, attempt_number=1) - u.count(ANSWER, attempt_number=1, correct=None)),
    "active_minutes_on_task": lambda u: (u.total("active_ms", ANSWER) / 60_000,),
    "minutes_on_task": lambda u: (u.minutes(),),
    "tokens_per_session": lambda u: (
        u.total("tokens_in", RESPONSE) + u.total("tokens_out", RESPONSE), len(u.sessions())),
    "cost_per_session": lambda u: (u.total("cost_usd", RESPONSE), len(u.sessions())),
    "cost_per_resolution": lambda u: (
        u.total("cost_usd", RESPONSE), u.count("tutor_session_ended", resolved=True)),
    "cost_per_mastery_point": lambda u: (
        u.total("cost_usd", RESPONSE), u.total("mastery_points", ANSWER, TEST)),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return draw(seed=11)


@pytest.fixture(scope="module")
def mad(
    tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, rows: list[Row]
) -> Iterator[pl.DataFrame]:
    """The dataset of an experiment that asks for every metric of the library."""
    with (
        duckdb.connect() as connection,
        workbench(
            Home(tmp_path_factory.mktemp("library")), connection, run_id="test",
            environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1,
        ) as bench,
    ):  # fmt: skip
        yield pl.read_parquet(take_snapshot(_run(bench, rows), "library").folder / "mad.parquet").sort(
            "unit_id"
        )


def _run(bench: Workbench, rows: Sequence[Row]) -> Workbench:
    brief = world.brief_of(
        "library", sorted(bench.catalog.metrics), start=START, end=LAST + DAY,
        variance_reduction=VarianceReduction(method="none"),
    )  # fmt: skip
    session = bench.catalog.policies.session.model_copy(update={"cut_on_objective": False})
    policies = bench.catalog.policies.model_copy(update={"session": session})
    own = with_catalog(bench, briefs={"library": brief}, policies=policies)
    days: dict[date, list[dict[str, object]]] = {FIRST + DAY * offset: [] for offset in range(DAYS)}
    for number, row in enumerate(rows):
        days[row.day].append({
            "learner_key": row.learner, "learner_id": f"{row.learner:032x}", "occurred_at": row.at,
            "event_date": row.day, "event_id": f"{number:06d}", "event_name": row.name, "role": "student",
            "platform": "web", "app_version": "1.0", "objective_changed": False, "device_handover": False,
            **row.fields,
        })  # fmt: skip
    commit_events(own, days)
    for step in (build_learner_days, build_sessions, build_assignments, build_exposures):
        step(own, Window.of(FIRST, LAST))
    build_enrollments(own)
    build_unit_days(own, Window.of(FIRST, LAST))
    return own


def _close(value: float | None) -> object:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


def test_every_metric_of_the_library_gives_each_learner_a_column(mad: pl.DataFrame, catalog: Catalog) -> None:
    assert mad.height == LEARNERS
    for name, metric in catalog.metrics.items():
        column = f"{name}__values" if metric.estimand == "quantile" else f"{name}__num"
        assert mad[column].is_not_null().any(), name


@pytest.mark.parametrize("name", ORACLE)
def test_each_learners_number_is_the_one_counted_by_hand(
    name: str, mad: pl.DataFrame, rows: list[Row], catalog: Catalog
) -> None:
    counted = [ORACLE[name](Learner(rows, learner)) for learner in range(1, LEARNERS + 1)]
    wanted = [f"{name}__num", f"{name}__den"][: len(counted[0])]
    assert [one for one in mad.columns if one in (f"{name}__num", f"{name}__den")] == wanted
    assert any(value for one in counted for value in one), "the made events never meet this metric"
    for position, column in enumerate(wanted):
        found = mad[column].to_list()
        if catalog.metrics[name].estimand == "proportion":
            found = [value > 0 for value in found]
            assert found == [bool(one[position]) for one in counted]
        else:
            # Minutes and sums of thirds are rounded once to a double.
            assert found == [_close(one[position]) for one in counted]


def test_bins_hold_each_first_token(mad: pl.DataFrame, rows: list[Row]) -> None:
    for learner in range(1, LEARNERS + 1):
        values = [row.fields["ttft_ms"] for row in Learner(rows, learner).events(RESPONSE)]
        values = sorted(one for one in values if one is not None)
        bins = mad["p50_first_token_ms__values"].to_list()[learner - 1] or []
        assert sum(one["n"] for one in bins) == len(values)
        for one in bins:
            inside = [value for value in values if one["low"] <= value < one["high"]]
            assert inside, one


def test_a_part_of_helpfulness_without_value_counts_as_its_middle(mad: pl.DataFrame, rows: list[Row]) -> None:
    parts: dict[str, tuple[Callable[[Learner], Counted], float, float]] = {
        "helpful_rate": (lambda u: u.told("helpful", "feedback_given"), 0.3, 0.4),
        "resolution_rate": (ORACLE["resolution_rate"], 0.3, 0.3),
        "rubric_quality": (ORACLE["rubric_quality"], 0.25, 0.4),
        "grounded_answer_rate": (ORACLE["grounded_answer_rate"], 0.15, 0.8),
    }
    for learner in range(1, LEARNERS + 1):
        unit, whole = Learner(rows, learner), 0.0
        for count, weight, worst in parts.values():
            part, base = count(unit)
            place = ((part or 0) / base - worst) / (1 - worst) if base else 0.5
            whole += weight * min(max(place, 0.0), 1.0)
        assert mad["helpfulness__num"][learner - 1] == pytest.approx(whole, abs=1e-9)
