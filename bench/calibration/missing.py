"""Outcomes that are missing: weights for answering, and the worst and best that the missing may hide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Draws, IntervalCase, Random
from exp_pipeline.stats.missing.bounds import worst_case_bounds
from exp_pipeline.stats.missing.response_weights import FEWEST_OBSERVED, response_weighted_difference
from exp_pipeline.stats.results import NotEstimable

Draw = Callable[[Random, int, float], Draws]


def _weighted(n: int, classes: int, *, skewed: bool = False) -> Draw:
    """A third is missing: more of those low in a covariate that foretells the outcome, more in control."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            cluster = np.arange(n) % classes if classes else None
            treated = np.arange(n) % 2 == 0 if cluster is None else cluster % 2 == 0
            before = random.standard_normal((n, 2))
            own = 0.0 if cluster is None else 0.3 * random.standard_normal(classes)[cluster]
            noise = random.exponential(size=n) if skewed else random.standard_normal(n)
            outcome = 0.6 * before[:, 0] + own + noise + shift * treated
            chance = 1.0 / (1.0 + np.exp(-0.6 - 0.3 * treated - 0.7 * before[:, 0]))
            observed = random.random(n) < chance
            found = response_weighted_difference(outcome, observed, treated, before, cluster=cluster)
            answers.append(found if isinstance(found, NotEstimable) else found.effect)
        return Draws.of_effects(answers, 0.0)

    return draw


def _worst(n: int, missing: float, *, skewed: bool = False) -> Draw:
    """Scores of 0 to 1; the missing of control would all have had 1, those of treatment 0: an end is true."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        # Means of the scores are known: 0.3 for skewed ones, a half for yes or no.
        mean = 0.3 if skewed else 0.5
        truth = (1.0 - missing) * mean - ((1.0 - missing) * mean + missing)
        rows = np.full((runs, 5), np.nan)
        for place in range(runs):
            treated = np.arange(n) % 2 == 0
            outcome = random.beta(0.6, 1.4, n) if skewed else (random.random(n) < 0.5).astype(np.float64)
            observed = random.random(n) >= missing
            found = worst_case_bounds(outcome, observed, treated, lowest=0.0, highest=1.0)
            if isinstance(found, NotEstimable):
                continue
            rows[place] = found.lower, found.se_lower, found.ci_lower, found.ci_upper, np.nan
        return Draws.of_rows(rows, truth)

    return draw


def cases() -> list[IntervalCase]:
    """Every world of this room."""
    found = []
    for n, classes, skewed in (
        (60, 0, False),
        (120, 0, False),
        (200, 0, False),
        (600, 0, False),
        (300, 0, True),
        (800, 40, False),
    ):
        # A third is missing; in control a little more.
        seen = 0.6 * n / 2
        found.append(
            IntervalCase(
                "inverse chances of answering",
                f"{n} units, a third missing, more of the low{', skewed' if skewed else ''}"
                + (f", {classes} classes" if classes else ""),
                seen >= FEWEST_OBSERVED and (not classes or classes >= 40),
                f"about {seen:.0f} observed in control",
                _weighted(n, classes, skewed=skewed),
                2_500,
                powered=n == 600,
            )
        )
    for n, missing, skewed in ((60, 0.1, False), (100, 0.1, True), (600, 0.2, False)):
        found.append(
            IntervalCase(
                "worst-case bounds",
                f"{'skewed shares' if skewed else 'yes or no'}, {n} units, {missing:.0%} missing",
                n >= 60,
                f"{n} units",
                _worst(n, missing, skewed=skewed),
                4_000,
                guarantee="either end",
            )
        )
    return found
