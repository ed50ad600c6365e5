"""Means: Welch with and without third moments, capped values, relative effects, covariates, strata."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Array, Draws, IntervalCase, Random
from bench.calibration.worlds import (
    EXPONENTIAL,
    HEAVY,
    LOGNORMAL,
    NORMAL,
    ZEROS,
    Shape,
    table_of,
)
from exp_pipeline.stats.effects.adjustment import adjusted_difference, fill_missing
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.robust_means import winsorised_difference
from exp_pipeline.stats.effects.skew import LOPSIDED, TOO_SKEWED, ThirdMoments
from exp_pipeline.stats.effects.strata import StratumArms, stratified_difference
from exp_pipeline.stats.many.effects import many_adjusted, many_means
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

Draw = Callable[[Random, int, float], Draws]

# Control and treatment units: even, and up to 95/5 and 5/95.
SPLITS = ((8, 8), (16, 16), (50, 50), (400, 400), (30, 120), (40, 360), (1_900, 100), (950, 50))
# The skewness of an arm's mean up to which t intervals of equal arms keep their coverage.
CALM = 0.5


def _skewness_of_mean(shape: Shape, n_control: int, n_treatment: int) -> float:
    return shape.skewness / math.sqrt(min(n_control, n_treatment))


def _welch(shape: Shape, n_control: int, n_treatment: int, scale: float = 1.0) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        control = scale * (shape.draw(random, (runs, n_control)) - shape.mean)
        treatment = shape.draw(random, (runs, n_treatment)) - shape.mean
        many = many_means(table_of(control, ("y",)), table_of(treatment + shift, ("y",)), outcome="y")
        return Draws.of_many(many, 0.0)

    return draw


def _with_shapes(shape: Shape, n_control: int, n_treatment: int, *, relative: bool) -> Draw:
    """Welch with third moments. Centred values have no relative effect, which costs most of the time."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        off = 0.0 if relative else shape.mean
        answers = [
            _one_with_shapes(
                shape.draw(random, (n_control,)) - off, shape.draw(random, (n_treatment,)) - off + shift
            )
            for _ in range(runs)
        ]
        return Draws.of_effects(answers, 0.0, relative=relative)

    return draw


def _one_with_shapes(control: Array, treatment: Array) -> Effect | NotEstimable:
    return difference_in_means(
        Moments.from_array(control, ("y",)),
        Moments.from_array(treatment, ("y",)),
        outcome="y",
        control_shape=ThirdMoments.from_array(control),
        treatment_shape=ThirdMoments.from_array(treatment),
    )


def _capped(shape: Shape, n: int, quantile: float) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        found = [
            winsorised_difference(
                shape.draw(random, (n,)), shape.draw(random, (n,)) + shift, quantile=quantile
            )
            for _ in range(runs)
        ]
        return Draws.of_effects([one if isinstance(one, NotEstimable) else one.effect for one in found], 0.0)

    return draw


def _relative(shape: Shape, level: float, n_control: int, n_treatment: int, lift: float) -> Draw:
    """Relative effect of means `level` + outcome, where treatment is `lift` higher."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        control = level + shape.draw(random, (runs, n_control)) - shape.mean
        treatment = (level + shape.draw(random, (runs, n_treatment)) - shape.mean) * (1.0 + lift)
        many = many_means(table_of(control, ("y",)), table_of(treatment, ("y",)), outcome="y")
        return Draws.of_many(many, lift, relative=True)

    return draw


def _with_covariates(random: Random, runs: int, n: int, k: int, *, skewed: bool) -> Array:
    """(runs, n, 1 + k): an outcome that k measures of before foretell, together by 0.36 of its variance."""
    before = random.standard_normal((runs, n, k))
    after = before.sum(axis=2) * (0.6 / math.sqrt(k)) + 0.8 * random.standard_normal((runs, n))
    if skewed:
        before, after = np.exp(before), np.exp(0.8 * after)
    return np.concatenate((after[:, :, None], before), axis=2)


def _cuped(n_control: int, n_treatment: int, k: int, *, skewed: bool = False, apart: float = 1.0) -> Draw:
    """apart: slopes in treatment over those in control."""
    names = ("y", *(f"x{place}" for place in range(k)))

    def draw(random: Random, runs: int, shift: float) -> Draws:
        control = _with_covariates(random, runs, n_control, k, skewed=skewed)
        treatment = _with_covariates(random, runs, n_treatment, k, skewed=skewed)
        treatment[:, :, 0] += shift + (apart - 1.0) * 0.6 / math.sqrt(k) * treatment[:, :, 1:].sum(axis=2)
        many = many_adjusted(
            table_of(control, names), table_of(treatment, names), outcome="y", covariates=names[1:]
        )
        return Draws.of_many(many, 0.0)

    return draw


def _lin(n_control: int, n_treatment: int, apart: float, *, interacted: bool = True) -> Draw:
    names = ("y", "x0")

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            rows = _with_covariates(random, 1, n_control + n_treatment, 1, skewed=False)[0]
            rows[n_control:, 0] += shift + (apart - 1.0) * 0.6 * rows[n_control:, 1]
            answers.append(
                adjusted_difference(
                    Moments.from_array(rows[:n_control], names),
                    Moments.from_array(rows[n_control:], names),
                    outcome="y",
                    covariates=names[1:],
                    interacted=interacted,
                )
            )
        return Draws.of_effects(answers, 0.0)

    return draw


def _missing(n: int, share: float) -> Draw:
    """Three covariates with gaps that depend on the covariate itself."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            rows = _with_covariates(random, 1, 2 * n, 3, skewed=False)[0]
            covariates = rows[:, 1:].copy()
            gap = random.random(covariates.shape) < 2.0 * share * (covariates > 0.0)
            covariates[gap] = np.nan
            filled = fill_missing(covariates, ("a", "b", "c"))
            names = ("y", *filled.names)
            table = np.column_stack([rows[:, 0], filled.values])
            table[n:, 0] += shift
            answers.append(
                adjusted_difference(
                    Moments.from_array(table[:n], names),
                    Moments.from_array(table[n:], names),
                    outcome="y",
                    covariates=filled.names,
                )
            )
        return Draws.of_effects(answers, 0.0)

    return draw


def _strata(sizes: tuple[tuple[int, int], ...], *, effects_differ: bool = False) -> Draw:
    """Strata of (control, treatment) units, whose levels differ; the effect may differ too."""
    total = sum(c + t for c, t in sizes)
    own = [(place - (len(sizes) - 1) / 2.0) * 0.5 if effects_differ else 0.0 for place in range(len(sizes))]
    average = sum(e * (c + t) for e, (c, t) in zip(own, sizes, strict=True)) / total

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            arms = {}
            for place, (n_control, n_treatment) in enumerate(sizes):
                y = random.standard_normal(n_control + n_treatment) + 1.5 * place
                y[n_control:] += shift + own[place] - average
                arms[f"{place:03d}"] = StratumArms(
                    Moments.from_array(y[:n_control], ("y",)), Moments.from_array(y[n_control:], ("y",))
                )
            answers.append(stratified_difference(arms, outcome="y"))
        return Draws.of_effects(answers, 0.0)

    return draw


def cases() -> list[IntervalCase]:
    """Every world of this room."""
    return [*_mean_cases(), *_relative_cases(), *_adjusted_cases(), *_strata_cases()]


def _mean_cases() -> list[IntervalCase]:
    found = []
    for shape in (NORMAL, EXPONENTIAL, LOGNORMAL, ZEROS):
        for n_control, n_treatment in SPLITS:
            tilt = shape.lopsidedness(n_control, n_treatment)
            heavy = _skewness_of_mean(shape, n_control, n_treatment)
            world = f"{shape.name}, {n_control:,} + {n_treatment:,}"
            criterion = f"skewness of difference {tilt:+.2f}, of a mean {heavy:.2f}"
            calm = heavy <= CALM
            found.append(
                IntervalCase(
                    "Welch, moments only",
                    world,
                    calm and abs(tilt) <= LOPSIDED,
                    criterion,
                    _welch(shape, n_control, n_treatment),
                    20_000,
                    cells=n_control + n_treatment,
                    powered=shape is NORMAL,
                )
            )
            if shape is NORMAL:
                continue
            found.append(
                IntervalCase(
                    "Welch with third moments",
                    world,
                    calm and abs(tilt) <= TOO_SKEWED,
                    criterion,
                    _with_shapes(shape, n_control, n_treatment, relative=False),
                    4_000,
                )
            )
    found.append(
        IntervalCase(
            "Welch, moments only",
            "normal, 30 + 120, three times the spread in control",
            True,
            "no skewness",
            _welch(NORMAL, 30, 120, scale=3.0),
            20_000,
            cells=150,
        )
    )
    for shape, n, quantile in ((LOGNORMAL, 50, 0.95), (LOGNORMAL, 400, 0.99), (HEAVY, 400, 0.99)):
        found.append(
            IntervalCase(
                "winsorised mean",
                f"{shape.name}, {n:,} + {n:,}, capped at the {quantile:.0%} quantile",
                True,
                f"{2 * n * (1 - quantile):.0f} values above the cap",
                _capped(shape, n, quantile),
                6_000,
            )
        )
    return found


def _relative_cases() -> list[IntervalCase]:
    found = []
    for shape, level, n_control, n_treatment, lift in (
        (NORMAL, 5.0, 8, 8, 0.1),
        (NORMAL, 1.0, 50, 50, 0.2),
        (NORMAL, 0.4, 50, 50, 0.5),
        (NORMAL, 1.0, 380, 20, 0.2),
        (EXPONENTIAL, 1.0, 50, 50, 0.2),
        (EXPONENTIAL, 1.0, 400, 400, 0.2),
        (LOGNORMAL, LOGNORMAL.mean, 50, 50, 0.2),
        (LOGNORMAL, LOGNORMAL.mean, 400, 400, 0.2),
        (ZEROS, ZEROS.mean, 50, 50, 0.5),
        (ZEROS, ZEROS.mean, 400, 400, 0.5),
        (EXPONENTIAL, 1.0, 950, 50, 0.2),
    ):
        signal = level / math.sqrt(shape.variance / min(n_control, n_treatment))
        heavy = _skewness_of_mean(shape, n_control, n_treatment)
        tilt = shape.lopsidedness(n_control, n_treatment)
        found.append(
            IntervalCase(
                "relative effect of means",
                f"{shape.name}, mean {level:.2g}, lift {lift:.0%}, {n_control:,} + {n_treatment:,}",
                signal >= 3.0 and heavy <= CALM and abs(tilt) <= LOPSIDED,
                f"mean {signal:.1f} standard errors from 0, skewness of a mean {heavy:.2f}, of a difference "
                f"{tilt:+.2f}",
                _relative(shape, level, n_control, n_treatment, lift),
                20_000,
                cells=n_control + n_treatment,
            )
        )
    for shape, n_control, n_treatment in ((EXPONENTIAL, 40, 360), (LOGNORMAL, 950, 50), (LOGNORMAL, 50, 50)):
        heavy = _skewness_of_mean(shape, n_control, n_treatment)
        tilt = shape.lopsidedness(n_control, n_treatment)
        found.append(
            IntervalCase(
                "relative effect of means, third moments",
                f"{shape.name}, {n_control:,} + {n_treatment:,}",
                heavy <= CALM and abs(tilt) <= TOO_SKEWED,
                f"skewness of difference {tilt:+.2f}, of a mean {heavy:.2f}",
                _with_shapes(shape, n_control, n_treatment, relative=True),
                3_000,
            )
        )
    return found


def _adjusted_cases() -> list[IntervalCase]:
    found = []
    for n_control, n_treatment, k in (
        (8, 8, 1),
        (30, 30, 1),
        (300, 300, 1),
        (16, 16, 3),
        (50, 50, 3),
        (95, 5, 1),
        (380, 20, 3),
    ):
        found.append(
            IntervalCase(
                "CUPED" if k == 1 else "CUPED, three covariates",
                f"normal, 36 % explained, {n_control:,} + {n_treatment:,}",
                min(n_control, n_treatment) >= 8 * k,
                f"{min(n_control, n_treatment) / k:.1f} units of the smaller arm a covariate",
                _cuped(n_control, n_treatment, k),
                20_000 if n_control + n_treatment < 500 else 8_000,
                cells=(n_control + n_treatment) * (k + 1),
                powered=True,
            )
        )
    for n in (50, 300):
        found.append(
            IntervalCase(
                "CUPED",
                f"lognormal outcome and covariate, {n} + {n}",
                True,
                "equal arms",
                _cuped(n, n, 1, skewed=True),
                20_000 if n == 50 else 8_000,
                cells=4 * n,
            )
        )
    found += [
        IntervalCase(
            "CUPED, three covariates with gaps",
            f"normal, {share:.0%} of each missing, {n} + {n}",
            True,
            f"{n / 6:.0f} units of an arm a column",
            _missing(n, share),
            5_000,
        )
        for n, share in ((50, 0.2), (200, 0.4))
    ]
    for n_control, n_treatment, apart in ((12, 12, 1.0), (40, 40, 3.0), (360, 40, 3.0), (360, 40, -1.0)):
        world = f"slopes {apart:g} times as steep in treatment, {n_control} + {n_treatment}"
        found.append(
            IntervalCase(
                "Lin (own slopes)",
                world,
                True,
                "12 units an arm or more",
                _lin(n_control, n_treatment, apart),
                6_000,
                powered=True,
            )
        )
        found.append(
            IntervalCase(
                "CUPED",
                world,
                apart == 1.0 or n_control == n_treatment,
                "equal slopes or equal arms",
                _cuped(n_control, n_treatment, 1, apart=apart),
                12_000,
                cells=2 * (n_control + n_treatment),
            )
        )
    return found


def _strata_cases() -> list[IntervalCase]:
    worlds = (
        ("4 strata, 4 + 4 in each", ((4, 4),) * 4, False, True),
        ("12 pairs", ((1, 1),) * 12, False, True),
        ("10 strata, 3 + 9 in each", ((3, 9),) * 10, False, True),
        (
            "4 strata of 10-80, half treated, effects differ",
            ((5, 5), (10, 10), (20, 20), (40, 40)),
            True,
            True,
        ),
        ("3 strata, 60/40, 20/80, 90/10 treated, effects differ", ((40, 60), (80, 20), (10, 90)), True, True),
    )
    return [
        IntervalCase(
            "strata as fixed effects",
            world,
            inside,
            "two strata or more with both arms",
            _strata(sizes, effects_differ=differ),
            5_000,
            powered=not differ,
        )
        for world, sizes, differ, inside in worlds
    ]
