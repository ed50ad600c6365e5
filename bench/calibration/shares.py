"""Shares, ratios of sums, counts and quantiles: absolute and relative."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Array, Draws, IntervalCase, Random
from bench.calibration.worlds import Ints, table_of
from exp_pipeline.stats.effects.means import FEWEST_OF_A_KIND
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.effects.robust_means import FEW_EVENTS, rate_ratio
from exp_pipeline.stats.many.effects import many_ratios
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import NotEstimable

Draw = Callable[[Random, int, float], Draws]


def _proportions(base: float, other: float, n_control: int, n_treatment: int, *, relative: bool) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        many = many_proportions(
            random.binomial(n_control, base, runs),
            np.full(runs, n_control),
            random.binomial(n_treatment, min(other + shift, 1.0), runs),
            np.full(runs, n_treatment),
        )
        return Draws.of_many(many, other / base - 1.0 if relative else other - base, relative=relative)

    return draw


def _answers(random: Random, runs: int, n: int, lift: float) -> Array:
    """(runs, n, 2): right answers and answers of learners who differ in how many they give and how well."""
    answers = random.poisson(random.gamma(2.0, 5.0, (runs, n))) + 1
    skill = 0.3 + 0.4 * random.beta(2.0, 2.0, (runs, n)) + lift
    right = random.binomial(answers, np.clip(skill, 0.0, 1.0))
    return np.stack([right, answers], axis=2).astype(np.float64)


def _ratios(n_control: int, n_treatment: int, *, relative: bool) -> Draw:
    names = ("right", "answers")

    def draw(random: Random, runs: int, shift: float) -> Draws:
        many = many_ratios(
            table_of(_answers(random, runs, n_control, 0.0), names),
            table_of(_answers(random, runs, n_treatment, shift), names),
            numerator="right",
            denominator="answers",
        )
        return Draws.of_many(many, 0.0, relative=relative)

    return draw


def _rates(mean: float, dispersion: float, n_control: int, n_treatment: int) -> Draw:
    """Events of bunched counts per exposure; intervals of the log of the ratio, true value log(1 + shift)."""

    def arm(random: Random, n: int, rate: float) -> Moments:
        exposure = 1.0 + random.poisson(2.0, n)
        bunched = random.gamma(1.0 / dispersion, dispersion, n) if dispersion else np.ones(n)
        events = random.poisson(rate * exposure * bunched)
        return Moments.from_array(np.column_stack([events, exposure]), ("events", "exposure"))

    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        flagged = np.zeros(runs, dtype=bool)
        for place in range(runs):
            control = arm(random, n_control, mean)
            treatment = arm(random, n_treatment, mean * math.exp(shift))
            found = rate_ratio(control, treatment, events="events", exposure="exposure")
            if isinstance(found, NotEstimable):
                continue
            rows[place] = (
                math.log(found.ratio),
                found.log_se,
                math.log(found.ci_lower),
                math.log(found.ci_upper),
                found.p_value,
            )
            flagged[place] = bool(found.flags)
        return Draws.of_rows(rows, 0.0, flagged)

    return draw


def repeated(random: Random, units: int, rows: float, between: float = 0.6) -> tuple[Array, Ints]:
    """Lognormal waiting times of units that have several rows each and differ from one another."""
    unit = np.repeat(np.arange(units), 1 + random.poisson(rows - 1.0, units))
    own = between * random.standard_normal(units)
    return np.exp(own[unit] + 0.4 * random.standard_normal(unit.size)), unit


def _quantiles(quantile: float, n_control: int, n_treatment: int, rows: float) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            control, treatment = repeated(random, n_control, rows), repeated(random, n_treatment, rows)
            answers.append(
                difference_in_quantiles(
                    control[0], control[1], treatment[0] + shift, treatment[1], quantile=quantile
                )
            )
        return Draws.of_effects(answers, 0.0)

    return draw


def cases() -> list[IntervalCase]:
    """Every world of this room."""
    return [*_share_cases(), *_ratio_cases(), *_count_cases(), *_quantile_cases()]


def _share_cases() -> list[IntervalCase]:
    found = []
    for base, other, n_control, n_treatment in (
        (0.5, 0.5, 8, 8),
        (0.5, 0.5, 30, 30),
        (0.1, 0.15, 30, 30),
        (0.12, 0.18, 250, 250),
        (0.4, 0.44, 2_000, 2_000),
        (0.02, 0.03, 200, 200),
        (0.02, 0.025, 2_000, 2_000),
        (0.002, 0.003, 10_000, 10_000),
        (0.3, 0.3, 380, 20),
        (0.3, 0.36, 950, 50),
        (0.05, 0.06, 950, 50),
        (0.05, 0.06, 19_000, 1_000),
        (0.95, 0.97, 400, 400),
    ):
        least = min(n_control * base, n_control * (1 - base), n_treatment * other, n_treatment * (1 - other))
        world = f"{base:g} and {other:g}, {n_control:,} + {n_treatment:,}"
        found.append(
            IntervalCase(
                "shares (Newcombe)",
                world,
                least >= FEWEST_OF_A_KIND,
                f"{least:.0f} of the rarest kind expected",
                _proportions(base, other, n_control, n_treatment, relative=False),
                40_000,
            )
        )
        found.append(
            IntervalCase(
                "relative effect of shares",
                world,
                least >= FEWEST_OF_A_KIND,
                f"{least:.0f} of the rarest kind expected",
                _proportions(base, other, n_control, n_treatment, relative=True),
                40_000,
            )
        )
    return found


def _ratio_cases() -> list[IntervalCase]:
    found = []
    for n_control, n_treatment in (
        (12, 12),
        (30, 30),
        (60, 60),
        (500, 500),
        (120, 30),
        (190, 10),
        (380, 20),
        (950, 50),
    ):
        world = f"shares of answers, {n_control} + {n_treatment} learners"
        enough = min(n_control, n_treatment) >= 30
        even = max(n_control, n_treatment) <= 4 * min(n_control, n_treatment)
        criterion = f"{min(n_control, n_treatment)} units in the smaller arm"
        for method, relative in (("ratios (delta)", False), ("relative effect of ratios", True)):
            found.append(
                IntervalCase(
                    method,
                    world,
                    enough and (even or not relative),
                    criterion,
                    _ratios(n_control, n_treatment, relative=relative),
                    20_000 if n_control + n_treatment < 500 else 6_000,
                    cells=4 * (n_control + n_treatment),
                    powered=not relative,
                )
            )
    return found


def _count_cases() -> list[IntervalCase]:
    found = []
    for mean, dispersion, n_control, n_treatment in (
        (0.8, 0.0, 20, 20),
        (0.8, 1.0, 40, 40),
        (0.8, 1.0, 300, 300),
        (0.05, 0.5, 200, 200),
        (0.05, 0.5, 20, 20),
        (0.8, 1.0, 950, 50),
    ):
        least = 3.0 * mean * min(n_control, n_treatment)
        worth = least / (1.0 + dispersion * mean * 3.0)
        found.append(
            IntervalCase(
                "rates of events",
                f"{mean:g} events a day, dispersion {dispersion:g}, {n_control} + {n_treatment}",
                least >= FEW_EVENTS and worth >= 30.0 and n_control == n_treatment,
                f"{least:.0f} events in the smaller arm, worth {worth:.0f} independent ones",
                _rates(mean, dispersion, n_control, n_treatment),
                12_000,
                powered=True,
            )
        )
    return found


def _quantile_cases() -> list[IntervalCase]:
    found = []
    for quantile, n_control, n_treatment, rows in (
        (0.5, 12, 12, 8.0),
        (0.5, 40, 40, 8.0),
        (0.5, 200, 200, 8.0),
        (0.9, 150, 150, 8.0),
        (0.95, 60, 60, 8.0),
        (0.95, 400, 400, 4.0),
        (0.99, 400, 400, 4.0),
        (0.5, 190, 10, 8.0),
        (0.9, 950, 50, 8.0),
        (0.9, 200, 200, 1.0),
    ):
        least = min(n_control, n_treatment) * min(quantile, 1.0 - quantile)
        found.append(
            IntervalCase(
                "quantiles",
                f"{quantile:.0%} of {rows:.0f} rows a unit, {n_control} + {n_treatment} units",
                least >= 10.0,
                f"{least:.0f} units' worth beyond the quantile in the smaller arm",
                _quantiles(quantile, n_control, n_treatment, rows),
                4_000,
            )
        )
    return found
