"""Designs without randomisation, where what they suppose is true, and beside it where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.calibration.cases import Array, Case, Draws, Guarantee, IntervalCase, Random, RateCase
from exp_pipeline.stats.quasi.differences import panel_difference, two_period_difference
from exp_pipeline.stats.quasi.discontinuity import discontinuity_effect
from exp_pipeline.stats.quasi.event_study import event_study
from exp_pipeline.stats.quasi.interrupted import interrupted_series
from exp_pipeline.stats.quasi.matching import matched_effect
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.staggered import staggered_effects
from exp_pipeline.stats.quasi.weighting import doubly_robust_effect, weighted_effect
from exp_pipeline.stats.results import NotEstimable

Draw = Callable[[Random, int, float], Draws]
Ints = NDArray[np.int64]
Answer = QuasiEffect | NotEstimable


def _draws(answers: list[Answer], truth: float = 0.0) -> Draws:
    rows = np.full((len(answers), 5), np.nan)
    flagged = np.zeros(len(answers), dtype=bool)
    for place, one in enumerate(answers):
        if isinstance(one, NotEstimable):
            continue
        rows[place] = one.absolute, one.se, one.ci_lower, one.ci_upper, one.p_value
        flagged[place] = bool(one.flags)
    return Draws.of_rows(rows, truth, flagged)


def autoregressive(random: Random, series: int, periods: int, memory: float) -> Array:
    """(series, periods) of standard deviation 1, each passing on `memory` of itself to the next."""
    noise = random.standard_normal((series, periods))
    found = np.empty_like(noise)
    found[:, 0] = noise[:, 0]
    for at in range(1, periods):
        found[:, at] = memory * found[:, at - 1] + np.sqrt(1.0 - memory**2) * noise[:, at]
    return found


def panel(
    random: Random, control: int, treated: int, periods: int, memory: float, parting: float = 0.0
) -> tuple[Array, Ints, Ints, Ints]:
    """Outcomes, unit, period and side of a whole panel. parting: by how much groups part each period."""
    side = (np.arange(control + treated) >= control).astype(np.int64)
    y = autoregressive(random, side.size, periods, memory) + random.standard_normal((side.size, 1))
    y += 0.1 * np.arange(periods) + parting * side[:, None] * np.arange(periods)
    unit = np.repeat(np.arange(side.size), periods)
    return y.ravel(), unit, np.tile(np.arange(periods), side.size), side[unit]


def _twice(classes: int, size: int) -> Draw:
    """Two periods of other units of the same classes, half of which are treated in the second."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            cluster = np.tile(np.repeat(np.arange(classes), size), 2)
            later = np.repeat([False, True], classes * size)
            treated = cluster % 2 == 0
            own = random.standard_normal((2, classes)) * 0.2 + random.standard_normal(classes) * 0.3
            y = own[later.astype(int), cluster] + random.standard_normal(cluster.size)
            y += 0.3 * later + 0.5 * treated + shift * (treated & later)
            answers.append(two_period_difference(y, treated, later, cluster=cluster))
        return _draws(answers)

    return draw


def _panels(control: int, treated: int, memory: float, parting: float = 0.0) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            y, unit, period, side = panel(random, control, treated, 8, memory, parting)
            on = (side == 1) & (period >= 4)
            answers.append(panel_difference(y + shift * on, unit, period, on))
        return _draws(answers)

    return draw


def _pretrends(control: int, treated: int, memory: float) -> Callable[[Random, int], int]:
    def count(random: Random, runs: int) -> int:
        alarms = 0
        for _ in range(runs):
            y, unit, period, side = panel(random, control, treated, 8, memory)
            found = event_study(y, unit, period, np.where(side == 1, 4.0, np.inf))
            alarms += (
                isinstance(found, NotEstimable) or found.pretrend is None or found.pretrend.p_value < 0.05
            )
        return alarms

    return count


def _in_turns(cohort: int) -> Draw:
    """Three cohorts of so many units, adopting in periods 3, 5 and never."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            y, unit, period, _ = panel(random, 3 * cohort, 0, 8, 0.5)
            start = np.array([3.0, 5.0, np.inf])[unit % 3]
            found = staggered_effects(y + shift * (period >= start), unit, period, start)
            answers.append(found if isinstance(found, NotEstimable) else found.overall)
        return _draws(answers)

    return draw


def _cutoff(n: int, bend: float) -> Draw:
    """A smooth curve with a jump at nought. bend: how strongly it curves, more above than below."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            x = 2.0 * random.beta(2.0, 2.0, n) - 1.0
            curve = 0.8 * x + bend * np.where(x < 0.0, 1.0, 1.6) * x**2 - bend * x**3
            y = curve + 0.5 * random.standard_normal(n) + shift * (x >= 0.0)
            found = discontinuity_effect(y, x)
            answers.append(found if isinstance(found, NotEstimable) else found.effect)
        return _draws(answers)

    return draw


def _series(periods: int, memory: float) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        errors = autoregressive(random, runs, periods, memory)
        for row in errors:
            at = np.arange(periods)
            found = interrupted_series(row + 0.05 * at + shift * (at >= periods // 2), periods // 2)
            answers.append(found if isinstance(found, NotEstimable) else found.level_change)
        return _draws(answers)

    return draw


def _chosen(how: str, n: int, strength: float, *, skewed: bool = False) -> Draw:
    """Units who choose by two covariates, which also move the outcome. strength: of the choice."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            x = random.standard_normal((n, 2))
            treated = random.random(n) < 1.0 / (1.0 + np.exp(0.4 - strength * (x[:, 0] + 0.5 * x[:, 1])))
            noise = random.exponential(size=n) if skewed else random.standard_normal(n)
            y = 0.7 * x[:, 0] - 0.4 * x[:, 1] + noise + shift * treated
            if how == "weights":
                answers.append(weighted_effect(y, treated, x))
            elif how == "both":
                answers.append(doubly_robust_effect(y, treated, x))
            else:
                found = matched_effect(y, treated, x, estimand="ate", k=2)
                answers.append(found if isinstance(found, NotEstimable) else found.effect)
        return _draws(answers)

    return draw


def cases() -> list[Case]:
    """Every world of this room."""
    found: list[Case] = []

    def add(
        method: str, world: str, inside: bool, criterion: str, draw: Draw, runs: int, *, least: bool = False
    ) -> None:
        guarantee: Guarantee = "at least" if least else "nominal"
        found.append(IntervalCase(method, world, inside, criterion, draw, runs, guarantee=guarantee))

    for classes in (6, 12, 40):
        add(
            "differences in differences, two periods",
            f"{classes} classes of 20 seen before and after",
            classes >= 12,
            f"{classes} classes",
            _twice(classes, 20),
            3_000,
        )
    for control, treated, memory in ((5, 5, 0.5), (12, 12, 0.5), (40, 40, 0.8), (30, 10, 0.5)):
        add(
            "differences in differences, panel",
            f"{control} + {treated} units over 8 periods, memory {memory:g}",
            min(control, treated) >= 10,
            f"{min(control, treated)} units in the smaller group",
            _panels(control, treated, memory),
            2_500,
        )
    add(
        "differences in differences, panel",
        "40 + 40 units over 8 periods that part by 0.1 a period",
        False,
        "trends not parallel",
        _panels(40, 40, 0.5, 0.1),
        1_000,
    )
    for cohort in (6, 15):
        add(
            "adoption in turns",
            f"3 cohorts of {cohort} units over 8 periods",
            cohort >= 15,
            f"{cohort} units a cohort",
            _in_turns(cohort),
            1_500,
        )
    for control, treated in ((12, 12), (40, 40)):
        found.append(
            RateCase(
                "pre-trend test",
                f"{control} + {treated} units over 8 periods, memory 0.5",
                "false alarms",
                0.05,
                "near",
                True,
                _pretrends(control, treated, 0.5),
                2_000,
                slack=0.015,
            )
        )
    for n, bend in ((200, 0.5), (600, 0.5), (2_000, 1.0), (2_000, 3.0)):
        add(
            "regression discontinuity",
            f"{n:,} units, curve bends by {bend:g}",
            n >= 600 and bend <= 1.0,
            f"{n:,} units, second derivative {2.0 * bend:g} to {3.2 * bend:g} sd",
            _cutoff(n, bend),
            1_000 if n > 1_000 else 1_500,
        )
    for periods, memory in ((24, 0.0), (60, 0.3), (120, 0.3), (40, 0.8)):
        add(
            "interrupted series",
            f"{periods} periods, half after, memory {memory:g}",
            periods >= 60 and memory <= 0.3,
            f"{periods} periods, memory {memory:g}",
            _series(periods, memory),
            3_000,
        )
    for how, method in (
        ("weights", "propensity weights"),
        ("both", "propensity weights and outcome model"),
        ("matching", "matching on propensity"),
    ):
        for n, strength, skewed in (
            (120, 0.5, False),
            (600, 0.5, False),
            (600, 0.5, True),
            (600, 1.5, False),
        ):
            add(
                method,
                f"{n} units, choice of strength {strength:g}{', skewed' if skewed else ''}",
                n >= 600 and strength <= 0.5,
                f"{n} units, log-odds of choice move by {strength:g} a standard deviation",
                _chosen(how, n, strength, skewed=skewed),
                1_500,
                least=how == "matching",
            )
    return found
