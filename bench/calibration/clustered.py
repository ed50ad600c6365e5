"""Classes drawn whole: CR1, CR2, wild bootstrap and shuffling, from 6 to 200 classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from bench.calibration.cases import Array, Draws, IntervalCase, Random
from bench.calibration.worlds import Ints, in_classes, sizes_of
from exp_pipeline.stats.clusters.design import Method
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.clusters.wild import wild_cluster_bootstrap
from exp_pipeline.stats.effects.randomisation import randomisation_test
from exp_pipeline.stats.results import NotEstimable

Draw = Callable[[Random, int, float], Draws]


def one_trial(
    random: Random, control: int, treatment: int, size: float, cv: float, icc: float
) -> tuple[Array, Ints, Ints]:
    """Outcomes without effect, arms and classes of one trial; sizes are drawn anew each time."""
    sizes = sizes_of(random, control + treatment, size, cv)
    cluster = np.repeat(np.arange(control + treatment), sizes)
    return in_classes(random, cluster, icc), (cluster >= control).astype(np.int64), cluster


def _regression(
    method: Method, control: int, treatment: int, size: float, cv: float, icc: float, covariates: int = 0
) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers = []
        for _ in range(runs):
            y, treated, cluster = one_trial(random, control, treatment, size, cv, icc)
            before = None
            if covariates:
                own = random.standard_normal((control + treatment, covariates))[cluster]
                before = own + random.standard_normal((cluster.size, covariates))
                y = y + 0.3 * before.sum(axis=1)
            answers.append(
                clustered_difference(y + shift * treated, treated, cluster, covariates=before, method=method)
            )
        return Draws.of_effects(answers, 0.0)

    return draw


def _resampled(how: str, control: int, treatment: int, size: float, cv: float, icc: float) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        flagged = np.zeros(runs, dtype=bool)
        for place in range(runs):
            y, treated, cluster = one_trial(random, control, treatment, size, cv, icc)
            ask = wild_cluster_bootstrap if how == "wild" else randomisation_test
            found = ask(y + shift * treated, treated, cluster=cluster, seed=place, draws=499)
            if isinstance(found, NotEstimable):
                continue
            low = -np.inf if found.ci_lower is None else found.ci_lower
            high = np.inf if found.ci_upper is None else found.ci_upper
            rows[place] = found.absolute, np.nan, low, high, found.p_value
            flagged[place] = bool(found.flags)
        return Draws.of_rows(rows, 0.0, flagged)

    return draw


@cache
def expected_df(control: int, treatment: int, size: float, cv: float) -> float:
    """CR2's degrees of freedom in such trials, on average over twenty."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(20):
        y, treated, cluster = one_trial(random, control, treatment, size, cv, 0.1)
        answer = clustered_difference(y, treated, cluster, method="cr2")
        found.append(1.0 if isinstance(answer, NotEstimable) else answer.df)
    return float(np.mean(found))


WORLDS = (
    (3, 3, 0.0, 0.1),
    (4, 4, 0.5, 0.1),
    (6, 6, 0.0, 0.3),
    (6, 6, 1.0, 0.1),
    (3, 9, 0.5, 0.1),
    (10, 10, 0.0, 0.0),
    (10, 10, 0.5, 0.1),
    (10, 10, 1.0, 0.3),
    (5, 15, 0.5, 0.2),
    (2, 38, 0.0, 0.1),
    (20, 20, 0.5, 0.05),
    (20, 20, 1.0, 0.3),
    (8, 72, 0.5, 0.1),
    (50, 50, 0.5, 0.1),
    (50, 50, 1.0, 0.3),
    (10, 190, 0.5, 0.1),
    (100, 100, 1.0, 0.1),
)


def cases() -> list[IntervalCase]:
    """Every world of this room."""
    found = []
    for control, treatment, cv, icc in WORLDS:
        total = control + treatment
        size = 20.0 if total < 100 else 10.0
        df = expected_df(control, treatment, size, cv)
        world = f"{control} + {treatment} classes of {size:.0f}, sizes vary by {cv:g}, ICC {icc:g}"
        found.append(
            IntervalCase(
                "CR2",
                world,
                df >= 5.0 and (cv <= 0.5 or total >= 100),
                f"{df:.1f} degrees of freedom",
                _regression("cr2", control, treatment, size, cv, icc),
                5_000 if total < 100 else 3_000,
                powered=icc == 0.1,
            )
        )
        if total >= 40:
            found.append(
                IntervalCase(
                    "CR1 with t(G - 1)",
                    world,
                    total >= 50 and min(control, treatment) >= 20 and cv <= 0.5,
                    f"{total} classes, {min(control, treatment)} in the smaller arm",
                    _regression("cr1", control, treatment, size, cv, icc),
                    5_000 if total < 100 else 3_000,
                )
            )
    for control, treatment, cv, icc in ((8, 8, 0.5, 0.1), (20, 20, 0.5, 0.1)):
        found.append(
            IntervalCase(
                "CR2, two covariates",
                f"{control} + {treatment} classes of 20, sizes vary by {cv:g}, ICC {icc:g}",
                True,
                "8 classes an arm or more",
                _regression("cr2", control, treatment, 20.0, cv, icc, covariates=2),
                6_000,
            )
        )
    for control, treatment, cv, icc in (
        (3, 3, 0.0, 0.1),
        (6, 6, 0.5, 0.1),
        (10, 10, 1.0, 0.2),
        (5, 15, 0.5, 0.2),
        (20, 20, 0.5, 0.1),
    ):
        world = f"{control} + {treatment} classes of 20, sizes vary by {cv:g}, ICC {icc:g}"
        for method, how in (("wild cluster bootstrap", "wild"), ("randomisation inference", "shuffled")):
            enough = min(control, treatment) >= (10 if how == "wild" else 3)
            found.append(
                IntervalCase(
                    method,
                    world,
                    enough,
                    f"{min(control, treatment)} classes in the smaller arm",
                    _resampled(how, control, treatment, 20.0, cv, icc),
                    2_000,
                    guarantee="nominal" if how == "wild" else "at least",
                )
            )
    return found
