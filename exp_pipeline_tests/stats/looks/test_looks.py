from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, always_valid_interval
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, sequential_look
from exp_pipeline.stats.looks.interval import AlwaysValid, FixedHorizon, LookInterval, LookRule, look_interval
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import two_sided_critical
from exp_pipeline.stats.results import Effect, NotEstimable

TRIALS, LOOKS, BATCH, RATE = 5_000, 20, 100, 0.40
N = BATCH * np.arange(1, LOOKS + 1)


@lru_cache(maxsize=1)
def published() -> tuple[np.ndarray, np.ndarray]:
    """Successes so far of control and treatment in the published trials: (trials, looks) each."""
    rng = np.random.default_rng(11)
    counts = np.empty((TRIALS, 2, LOOKS), dtype=np.int64)
    for trial in range(TRIALS):
        for arm in range(2):
            counts[trial, arm] = rng.binomial(1, RATE, BATCH * LOOKS).reshape(LOOKS, BATCH).sum(axis=1)
    so_far = counts.cumsum(axis=2)
    return so_far[:, 0], so_far[:, 1]


def statistics() -> np.ndarray:
    control, treatment = published()
    p, q = control / N, treatment / N
    z: np.ndarray = (q - p) / np.sqrt((p * (1 - p) + q * (1 - q)) / N)
    return z


def effects(trial: int, upto: int = LOOKS) -> list[Effect | NotEstimable]:
    control, treatment = published()
    return [
        difference_in_proportions(int(control[trial, k]), int(N[k]), int(treatment[trial, k]), int(N[k]))
        for k in range(upto)
    ]


def interval(rule: LookRule, path: list[Effect | NotEstimable], **more: Any) -> LookInterval:
    found = look_interval(rule, path, **more)
    assert isinstance(found, LookInterval), found
    return found


def test_the_published_peeking_rates() -> None:
    z = np.abs(statistics())
    assert (z > two_sided_critical(0.95, math.inf)).any(axis=1).mean() == 0.255
    assert (z[:, -1] > two_sided_critical(0.95, math.inf)).mean() == pytest.approx(0.049, abs=0.0005)


RULES: list[LookRule] = [
    SpendingPlan(planned_n=2 * BATCH * LOOKS),
    SpendingPlan(planned_n=2 * BATCH * LOOKS, family="pocock"),
    SpendingPlan(planned_n=2 * BATCH * LOOKS, family="kim-demets", gamma=2.0),
    AlwaysValid(planned_n=2 * BATCH * LOOKS),
    AlwaysValid(planned_n=BATCH * LOOKS),
]


@pytest.mark.parametrize("rule", RULES, ids=["obf", "pocock", "kim-demets", "always", "always-half"])
def test_peeking_is_harmless_under_every_rule_of_ours(rule: LookRule) -> None:
    z = np.abs(statistics())
    # Boundaries do not depend on outcomes, so one trial's serve for all.
    path = effects(0)
    critical = np.array([interval(rule, path[: look + 1]).critical for look in range(LOOKS)])
    assert (z > critical).any(axis=1).mean() <= 0.055


@pytest.mark.parametrize("rule", RULES, ids=["obf", "pocock", "kim-demets", "always", "always-half"])
def test_one_call_tells_where_a_trial_crossed(rule: LookRule) -> None:
    z = np.abs(statistics())
    picked = [0, *np.flatnonzero(z.max(axis=1) > 3.2)[:1].tolist()]
    for trial in picked:
        path = effects(trial)
        one_by_one = [interval(rule, path[: look + 1]) for look in range(LOOKS)]
        crossed = [look for look, found in enumerate(one_by_one, start=1) if found.crossed]
        assert one_by_one[-1].first_crossed == (crossed[0] if crossed else None)
        for found in one_by_one:
            assert found.crossed == (found.lower > 0 or found.upper < 0)
            assert found.level == 0.95


def test_the_planned_look_is_the_plain_interval() -> None:
    rng = np.random.default_rng(1)
    arms = [Moments.from_array(rng.normal(10 + shift, 2, 30), ["y"]) for shift in (0, 1)]
    one = difference_in_means(*arms, outcome="y")
    assert isinstance(one, Effect)
    found = interval(FixedHorizon(), [one])
    assert (found.lower, found.upper) == pytest.approx((one.ci_lower, one.ci_upper), rel=1e-12)
    assert (found.relative_lower, found.relative_upper) == pytest.approx(
        (one.relative_ci_lower, one.relative_ci_upper), rel=1e-9
    )
    assert found.p_value == one.p_value
    # A spending plan whose first look is its last says the same.
    spent = interval(SpendingPlan(planned_n=60), [one])
    assert (spent.lower, spent.upper) == pytest.approx((found.lower, found.upper), rel=1e-9)
    at_ninety = difference_in_means(*arms, outcome="y", level=0.9)
    assert isinstance(at_ninety, Effect)
    one_sided = interval(FixedHorizon(side="lower"), [one])
    assert one_sided.lower == pytest.approx(at_ninety.ci_lower, rel=1e-9)
    assert one_sided.upper == math.inf
    assert one_sided.relative_lower == pytest.approx(at_ninety.relative_ci_lower, rel=1e-9)
    from scipy import stats

    # Welch's t of the same two arms, one-sided.
    assert one_sided.p_value == pytest.approx(stats.t.sf(one.absolute / one.se, one.df), rel=1e-9)


def test_rules_rank_by_how_much_they_promise() -> None:
    path = effects(3)
    widths = []
    for rule in (FixedHorizon(), RULES[0], RULES[1], RULES[3]):
        found = interval(rule, path)
        widths.append(found.upper - found.lower)
    assert widths == sorted(widths)


def test_a_look_says_what_its_rule_says() -> None:
    path = effects(5, 8)
    spent, plain = interval(RULES[1], path), sequential_look(RULES[1], path)  # type: ignore[arg-type]
    assert not isinstance(plain, NotEstimable)
    assert (spent.lower, spent.p_value, spent.alpha_spent) == (plain.lower, plain.p_value, plain.alpha_spent)
    always = interval(RULES[3], path)
    alone = [always_valid_interval(effect, planned_n=4000) for effect in path]
    newest = alone[-1]
    assert isinstance(newest, AlwaysValidInterval)
    assert (always.lower, always.upper) == (newest.lower, newest.upper)
    assert always.p_value == min(found.p_value for found in alone if isinstance(found, AlwaysValidInterval))
    assert (always.alpha_spent, always.information_fraction) == (None, None)


@pytest.mark.parametrize("rule", RULES[:3], ids=["obf", "pocock", "kim-demets"])
def test_units_of_earlier_looks_are_enough_for_todays_interval(rule: LookRule) -> None:
    path = effects(9, 6)
    whole, newest = interval(rule, path), interval(rule, path[5:], earlier_n=[int(2 * n) for n in N[:5]])
    assert newest == replace(whole, first_crossed=newest.first_crossed)
    assert newest.look == 6
    for other in (FixedHorizon(), RULES[3]):
        assert interval(other, path[5:], earlier_n=[200, 400]).look == 3
    with pytest.raises(ValueError, match="planned_n"):
        look_interval(SpendingPlan(planned_information=5.0), path, earlier_n=[100])


def test_a_final_look_spends_what_is_left() -> None:
    path = effects(7, 10)
    early, last = interval(RULES[0], path), interval(RULES[0], path, final=True)
    assert last.critical < early.critical
    assert last.alpha_spent == 0.05


def test_refusals_and_mistakes() -> None:
    missing = NotEstimable("welch", "the control arm is empty", 0, 3)
    for rule in (FixedHorizon(), *RULES):
        assert look_interval(rule, [*effects(0, 2), missing]) is missing
        assert interval(rule, [missing, *effects(0, 2)]).look == 3
        with pytest.raises(ValueError, match="effects"):
            look_interval(rule, [])
    few = effects(0, 1)[0]
    assert isinstance(few, Effect)
    waiting = look_interval(AlwaysValid(planned_n=1_000_000), [replace(few, df=6.0)])
    assert isinstance(waiting, NotEstimable)
    assert "too early" in waiting.reason
    for call, words in (
        (lambda: FixedHorizon(alpha=0.0), "alpha"),
        (lambda: FixedHorizon(side="left"), "side"),  # type: ignore[arg-type]
        (lambda: AlwaysValid(planned_n=1), "planned_n"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
