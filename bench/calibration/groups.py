"""Who is missing, and for whom it works: bounds, interaction tests, means over groups; planned power."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Case, Draws, IntervalCase, Random, RateCase
from bench.calibration.worlds import EXPONENTIAL, NORMAL, Shape, in_classes
from bench.power_check import Kind, kinds
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.groups.heterogeneity import heterogeneity, heterogeneity_of_rows
from exp_pipeline.stats.groups.pooling import pooled_effect
from exp_pipeline.stats.missing.bounds import lee_bounds
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

Count = Callable[[Random, int], int]
Draw = Callable[[Random, int, float], Draws]

# Planned power may be missed by so much, beside chance.
ONE_POINT = 0.01


def _lee(n: int, classes: int) -> Draw:
    """The fifth with the highest outcomes is seen only if treated: the effect of 0.3 lies at a bound."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        flagged = np.zeros(runs, dtype=bool)
        for place in range(runs):
            cluster = np.arange(n) % classes if classes else None
            own = random.standard_normal(n) if cluster is None else in_classes(random, cluster, 0.1)
            treated = np.arange(n) % 2 == 0 if cluster is None else cluster % 2 == 0
            observed = (random.random(n) > 0.1) & (treated | (own < 0.8416))
            found = lee_bounds(own + 0.3 * treated, observed, treated, cluster=cluster)
            if isinstance(found, NotEstimable):
                continue
            rows[place] = found.lower, found.se_lower, found.ci_lower, found.ci_upper, np.nan
            flagged[place] = bool(found.flags)
        return Draws.of_rows(rows, 0.3, flagged)

    return draw


def _segment_effects(
    random: Random, sizes: tuple[int, ...], shape: Shape, between: float
) -> dict[str, Effect | NotEstimable]:
    found: dict[str, Effect | NotEstimable] = {}
    for place, n in enumerate(sizes):
        scale = 1.0 + 0.5 * place
        own = between * random.standard_normal()
        control, treatment = scale * shape.draw(random, (n,)), scale * shape.draw(random, (n,)) + own
        found[str(place)] = difference_in_means(
            Moments.from_array(control, ("y",)), Moments.from_array(treatment, ("y",)), outcome="y"
        )
    return found


def _interactions(sizes: tuple[int, ...], shape: Shape) -> Count:
    def count(random: Random, runs: int) -> int:
        alarms = 0
        for _ in range(runs):
            found = heterogeneity(_segment_effects(random, sizes, shape, 0.0))
            alarms += isinstance(found, NotEstimable) or found.interaction.p_value < 0.05
        return alarms

    return count


def _clustered_interactions(classes: int) -> Count:
    """Two segments within each class, whose effects are alike."""

    def count(random: Random, runs: int) -> int:
        alarms = 0
        for _ in range(runs):
            cluster = np.repeat(np.arange(classes), 20)
            segment = np.tile(np.arange(20) % 2, classes)
            y = in_classes(random, cluster, 0.2) + 0.5 * segment
            found = heterogeneity_of_rows(y, cluster % 2 == 0, segment, cluster)
            alarms += isinstance(found, NotEstimable) or found.interaction.p_value < 0.05
        return alarms

    return count


def _pooled(groups: int, between: float) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        for place in range(runs):
            effects = _segment_effects(random, (30,) * groups, NORMAL, between)
            known = [one for one in effects.values() if isinstance(one, Effect)]
            found = heterogeneity(effects)
            if isinstance(found, NotEstimable):
                continue
            pooled = pooled_effect(
                [one.absolute for one in known], [one.se**2 for one in known], found.between.tau2
            )
            if isinstance(pooled, NotEstimable):
                continue
            rows[place] = pooled.mean, pooled.se, pooled.ci_lower, pooled.ci_upper, pooled.p_value
        return Draws.of_rows(rows, 0.0)

    return draw


def cases() -> list[Case]:
    """Every world of this room."""
    found: list[Case] = []
    for n, classes in ((100, 0), (600, 0), (800, 40)):
        found.append(
            IntervalCase(
                "Lee bounds",
                f"{n} units, a fifth missing in control only" + (f", {classes} classes" if classes else ""),
                True,
                "the effect lies at a bound",
                _lee(n, classes),
                4_000,
                guarantee="either end",
            )
        )
    for groups, between in ((4, 0.0), (4, 0.3), (12, 0.3)):
        found.append(
            IntervalCase(
                "mean over segments",
                f"{groups} segments of 30 + 30, effects vary by {between:g} sd",
                False,
                f"{groups} segments",
                _pooled(groups, between),
                4_000 if groups >= 10 else 1_000,
            )
        )
    for sizes, shape in (((10, 10), NORMAL), ((10, 20, 40, 80), NORMAL), ((60, 60), EXPONENTIAL)):
        found.append(
            RateCase(
                "interaction test",
                f"segments of {', '.join(map(str, sizes))} an arm, {shape.name}, spreads differ",
                "false alarms",
                0.05,
                "near",
                True,
                _interactions(sizes, shape),
                4_000,
            )
        )
    for classes in (12, 40):
        found.append(
            RateCase(
                "interaction test",
                f"two segments within each of {classes} classes",
                "false alarms",
                0.05,
                "near",
                True,
                _clustered_interactions(classes),
                4_000,
            )
        )
    return [*found, *_planned()]


def _planned() -> list[RateCase]:
    """The quick kinds of plans whose power is simulated at greater length in bench/power_check.py."""
    found = []
    for kind in kinds():
        if kind.cost > 1 or kind.plan.n_total > 1_500:
            continue
        found.append(
            RateCase(
                "planned power",
                kind.name,
                f"finds the effect with {kind.plan.n_total:,} units",
                kind.plan.power,
                "near",
                True,
                _finds(kind),
                4_000,
                slack=ONE_POINT,
            )
        )
    return found


def _finds(kind: Kind) -> Count:
    def count(random: Random, runs: int) -> int:
        return sum(kind.found(random, kind.plan) for _ in range(runs))

    return count
