"""Ramps without harm are not rolled back by chance, and harm is in time: guardrails judged as of each day."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.analysis.deciding.guardrails import guardrail_result
from exp_pipeline.analysis.ramps.transition import next_step
from exp_pipeline.model.brief import Arm, Brief, Guardrail, KillRule, RampStage
from exp_pipeline.model.ramps import GuardrailFact, RampState
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.analysis.builders import brief_of, metric_of
from exp_pipeline_tests.analysis.ramps.ramp_samples import at, good_facts

DAYS, A_DAY = 15, 120
ALPHA = 0.01
METRICS = {
    # One unit in two hundred has one: a point estimate of so few jumps over any budget.
    "incident": metric_of("incident", direction="decrease"),
    "waiting": metric_of("waiting", type="mean", direction="decrease", display="ms"),
}
ARMS = (Arm(name="control", share=0.34), Arm(name="a", share=0.33), Arm(name="b", share=0.33))
RATE, BUDGET, MARGIN = 0.005, 0.01, 0.1


def small_ramp() -> Brief:
    return brief_of(
        arms=ARMS,
        ramp=(
            RampStage(traffic=0.25, dwell_days=2, minimum_units=25),
            RampStage(traffic=0.5, dwell_days=3, minimum_units=100),
            RampStage(traffic=1.0, dwell_days=7),
        ),
        hash_scheme="flagd",
        expected_units_per_day=A_DAY,
        end=at(DAYS).date(),
        guardrails=(
            Guardrail(metric="incident", margin=BUDGET, basis="point", kill=KillRule(alpha=ALPHA)),
            Guardrail(metric="waiting", margin=MARGIN, margin_kind="relative", kill=KillRule(alpha=ALPHA)),
        ),
    )


BRIEF = small_ramp()


class Life:
    """One ramp that is ticked each morning on all that its units did so far."""

    def __init__(self, rng: np.random.Generator, *, waiting: float = 1.0, incident: float = 0.0) -> None:
        self.rng = rng
        self.waiting = {"control": 1.0, "a": 1.0, "b": waiting}
        self.incident = {"control": RATE, "a": RATE, "b": RATE + incident}
        self.waits: dict[str, list[np.ndarray]] = {arm.name: [] for arm in ARMS}
        self.incidents = dict.fromkeys(self.waits, 0)
        self.held_by_point = 0
        self.stopped: int | None = None
        self.reached = 0

    def live(self) -> Life:
        state = RampState(status="on", stage=1, traffic=0.25, since=at(0), sequence=1, enrolled=0.25)
        for day in range(DAYS):
            self._happens(state.traffic)
            facts = good_facts(BRIEF, at(day + 1), state, units=self._units())
            facts = replace(facts, guardrails=tuple(self._judged()))
            step = next_step(BRIEF, facts)
            if step.verb in ("pause", "roll_back"):
                self.stopped = day + 1
                break
            if step.verb == "advance":
                state = replace(state, stage=step.stage, traffic=step.traffic, since=facts.now)
            self.held_by_point += any("guardrails fails: incident" in reason for reason in step.reasons)
        self.reached = state.stage
        return self

    def _happens(self, traffic: float) -> None:
        for arm in ARMS:
            n = self.rng.poisson(A_DAY * traffic * arm.share)
            self.waits[arm.name].append(self.rng.lognormal(0.0, 0.6, n) * self.waiting[arm.name])
            self.incidents[arm.name] += int(self.rng.binomial(n, self.incident[arm.name]))

    def _units(self) -> int:
        return sum(values.size for days in self.waits.values() for values in days)

    def _judged(self) -> list[GuardrailFact]:
        found = []
        held = {name: np.concatenate(days) for name, days in self.waits.items()}
        for arm in ("a", "b"):
            sizes = held["control"].size, held[arm].size
            rare: Effect | NotEstimable = NotEstimable("daily", "nobody yet", *sizes)
            slow = rare
            if min(sizes) > 1:
                rare = difference_in_proportions(
                    self.incidents["control"], sizes[0], self.incidents[arm], sizes[1]
                )
                pair = [Moments.from_array(held[name], ("y",)) for name in ("control", arm)]
                slow = difference_in_means(*pair, outcome="y")
            for guardrail, effect in zip(BRIEF.guardrails, (rare, slow), strict=True):
                result = guardrail_result(guardrail, METRICS[guardrail.metric], arm, effect, BRIEF)
                told = f"harm {result.harm}"
                found.append(GuardrailFact(guardrail.metric, arm, result.status, result.kill_triggered, told))
        return found


def lives(seed: int, runs: int, **truth: float) -> list[Life]:
    children = np.random.SeedSequence(seed).spawn(runs)
    return [Life(np.random.default_rng(child), **truth).live() for child in children]


def test_ramps_of_equal_arms_are_not_rolled_back_though_budgets_by_estimate_are_broken_by_chance() -> None:
    runs = 40
    found = lives(6, runs)
    assert sum(life.stopped is not None for life in found) / runs <= ALPHA
    # The budget on the estimate alone is broken in many of them for a day or more: it holds, and no more.
    assert sum(life.held_by_point > 0 for life in found) >= runs / 10
    assert sum(life.reached == 3 for life in found) >= 0.7 * runs


def test_harm_as_large_as_the_margin_is_killed_at_most_as_often_as_the_rule_says() -> None:
    runs = 40
    found = lives(7, runs, waiting=1 + MARGIN, incident=BUDGET)
    # Two rules act on arm b, each at alpha; nothing else may. Three standard errors of 40 runs are 7 points.
    assert sum(life.stopped is not None for life in found) / runs <= 2 * ALPHA + 0.07


@pytest.mark.parametrize(("truth", "latest"), [({"waiting": 1.6}, 7), ({"incident": 0.3}, 9)])
def test_gross_harm_is_rolled_back_soon_after_there_are_units_to_see_it(
    truth: dict[str, float], latest: int
) -> None:
    found = lives(8, 12, **truth)
    assert all(life.stopped is not None for life in found)
    # While the budget by estimate holds the ramp at a quarter of its units, an arm has its 50 on day 6.
    assert np.median([life.stopped or DAYS for life in found]) <= latest


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["pass", "fail", "underpowered", "cannot_tell"]), min_size=4, max_size=4),
    st.integers(1, 3),
    st.integers(0, 100_000),
)
def test_whatever_guardrails_say_only_a_kill_rule_pauses_or_rolls_back(
    statuses: list[Any], stage: int, units: int
) -> None:
    state = RampState(status="on", stage=stage, traffic=0.5, since=at(0), sequence=stage, enrolled=0.5)
    pairs = [(guardrail.metric, arm) for guardrail in BRIEF.guardrails for arm in ("a", "b")]
    facts = good_facts(
        BRIEF,
        at(9) + timedelta(hours=1),
        state,
        units=units,
        guardrails=tuple(
            GuardrailFact(metric, arm, status, False, "harm 0.9, margin 0.1")
            for (metric, arm), status in zip(pairs, statuses, strict=True)
        ),
    )
    step = next_step(BRIEF, facts)
    assert step.verb in ("hold", "advance")
    assert (step.verb == "advance") <= ("fail" not in statuses)
    killed = replace(facts, guardrails=(replace(facts.guardrails[0], killed=True), *facts.guardrails[1:]))
    assert next_step(BRIEF, killed).verb == "roll_back"
