"""Skewed and yes-or-no values where they meet covariates, ratios, strata and classes; relative in classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Array, Case, Draws, IntervalCase, Random, RateCase
from bench.calibration.clustered import expected_df
from bench.calibration.worlds import EXPONENTIAL, LOGNORMAL, NORMAL, Ints, Shape, sizes_of
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.skew import TOO_SKEWED, ThirdMoments
from exp_pipeline.stats.effects.strata import StratumArms, stratified_difference
from exp_pipeline.stats.gates.guardrails import MarginKind, non_inferiority
from exp_pipeline.stats.groups.pooling import shrunken_effects
from exp_pipeline.stats.looks.always_valid import always_valid_interval
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

Draw = Callable[[Random, int, float], Draws]
Count = Callable[[Random, int], int]
Answer = Effect | NotEstimable


def _adjusted(shape: Shape, n_control: int, n_treatment: int) -> Draw:
    """A covariate explains two fifths; what it leaves has this shape."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            cubes = []
            for n, add in ((n_control, 0.0), (n_treatment, shift)):
                before = random.exponential(size=n)
                left = (shape.draw(random, (n,)) - shape.mean) / math.sqrt(shape.variance)
                cubes.append(
                    Cubes.from_array(np.column_stack([0.8 * before + left + add, before]), ("y", "x"))
                )
            answers.append(
                adjusted_difference(
                    cubes[0].moments, cubes[1].moments, outcome="y", covariates=("x",),
                    control_cubes=cubes[0], treatment_cubes=cubes[1],
                )
            )  # fmt: skip
        return Draws.of_effects(answers, 0.0)

    return draw


def _ratio(n_control: int, n_treatment: int, *, relative: bool) -> Draw:
    """Minutes per session: sessions vary, and so does what one takes."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            cubes = []
            for n, add in ((n_control, 0.0), (n_treatment, shift)):
                base = 1.0 + random.poisson(random.gamma(2.0, 3.0, n))
                minutes = base * (random.gamma(2.0, 0.5, n) + add)
                cubes.append(Cubes.from_array(np.column_stack([minutes, base]), ("y", "d")))
            answers.append(
                difference_in_ratios(
                    cubes[0].moments, cubes[1].moments, numerator="y", denominator="d",
                    control_cubes=cubes[0], treatment_cubes=cubes[1],
                )
            )  # fmt: skip
        return Draws.of_effects(answers, 0.0, relative=relative)

    return draw


def _layers(sizes: tuple[tuple[int, int], ...], shape: Shape, *, covariate: bool, cubes: bool) -> Draw:
    """Strata of (control, treatment) units with levels of their own."""
    names = ("y", "x") if covariate else ("y",)

    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            arms = {}
            for place, pair in enumerate(sizes):
                sides = []
                for n, add in zip(pair, (0.0, shift), strict=True):
                    before = random.standard_normal(n)
                    y = (shape.draw(random, (n,)) - shape.mean) / math.sqrt(shape.variance) + place + add
                    rows = np.column_stack([y + 0.7 * before, before]) if covariate else y
                    sides.append(Cubes.from_array(rows, names))
                known = tuple(sides) if cubes else (None, None)
                arms[f"{place:03d}"] = StratumArms(sides[0].moments, sides[1].moments, *known)
            answers.append(stratified_difference(arms, outcome="y", covariates=names[1:]))
        return Draws.of_effects(answers, 0.0)

    return draw


def _trial(
    random: Random, kind: str, control: int, treatment: int, cv: float, icc: float
) -> tuple[Array, Ints, Ints]:
    """Positive outcomes of classes of 20 drawn whole: yes or no (0.3), or lognormal; arms, classes."""
    sizes = sizes_of(random, control + treatment, 20.0, cv)
    cluster = np.repeat(np.arange(control + treatment), sizes)
    if kind == "yes or no":
        strength = 1.0 / icc - 1.0
        own = random.beta(0.3 * strength, 0.7 * strength, control + treatment)
        y = (random.random(cluster.size) < own[cluster]).astype(np.float64)
    else:
        common = random.standard_normal(control + treatment)[cluster] * math.sqrt(icc)
        y = np.exp(0.8 * (common + math.sqrt(1.0 - icc) * random.standard_normal(cluster.size)))
    return y, (cluster >= control).astype(np.int64), cluster


def _classes(
    kind: str, control: int, treatment: int, cv: float, icc: float, *, relative: bool = False
) -> Draw:
    def draw(random: Random, runs: int, shift: float) -> Draws:
        answers: list[Answer] = []
        for _ in range(runs):
            y, treated, cluster = _trial(random, kind, control, treatment, cv, icc)
            answers.append(clustered_difference(y + shift * treated, treated, cluster))
        return Draws.of_effects(answers, 0.0, relative=relative)

    return draw


def _learnt(groups: int, n: int, between: float) -> Draw:
    """The interval of one group a run, less its own true effect, which varies by `between`.

    Groups are alike, so that one stands for all; those of one run share a mean and are not independent.
    """

    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        for place in range(runs):
            true = between * random.standard_normal(groups)
            arms = random.standard_normal((2, groups, n))
            effects = arms[1].mean(axis=1) - arms[0].mean(axis=1) + true
            variances = (arms.var(axis=2, ddof=1) / n).sum(axis=0)
            found = shrunken_effects(effects, np.diag(variances))
            if isinstance(found, NotEstimable):
                continue
            one = found[0]
            rows[place] = (
                one.absolute - true[0],
                one.se,
                one.ci_lower - true[0],
                one.ci_upper - true[0],
                np.nan,
            )
        return Draws.of_rows(rows, 0.0)

    return draw


def _guarded(harm: float, kind: MarginKind, wanted: str) -> Count:
    """Verdicts on exponential values at 1,900 + 100 whose third moments are known, or (silent) are not."""

    def count(random: Random, runs: int) -> int:
        found = 0
        for _ in range(runs):
            control, treatment = random.exponential(size=1_900), random.exponential(size=100) + harm
            effect = difference_in_means(
                Moments.from_array(control, ("y",)),
                Moments.from_array(treatment, ("y",)),
                outcome="y",
                control_shape=ThirdMoments.from_array(control),
                treatment_shape=ThirdMoments.from_array(treatment),
            )
            verdict = non_inferiority(effect, margin=0.2, margin_kind=kind, harm="increase")
            found += verdict.verdict == wanted
        return found

    return count


def _always_relative(looks: int, per_look: int, shape: Shape) -> Count:
    """Runs in which any look's always-valid relative interval excludes the true lift of 20 %."""

    def count(random: Random, runs: int) -> int:
        missed = 0
        for _ in range(runs):
            values = (shape.draw(random, (2, looks * per_look)) - shape.mean) / math.sqrt(shape.variance)
            arms = [scale * (2.0 + own) for scale, own in zip((1.0, 1.2), values, strict=True)]
            for look in range(1, looks + 1):
                effect = difference_in_means(
                    *(Moments.from_array(arm[: look * per_look], ("y",)) for arm in arms), outcome="y"
                )
                found = always_valid_interval(effect, planned_n=2 * looks * per_look)
                if isinstance(found, NotEstimable) or found.relative_lower is None:
                    continue
                if not found.relative_lower <= 0.2 <= (found.relative_upper or math.inf):
                    missed += 1
                    break
        return missed

    return count


def cases() -> list[Case]:
    """Every world of this room."""
    return [*_shape_cases(), *_strata_cases(), *_class_cases(), *_rules()]


def _shape_cases() -> list[IntervalCase]:
    found = []
    for shape, n_control, n_treatment in (
        (EXPONENTIAL, 30, 120),
        (EXPONENTIAL, 950, 50),
        (EXPONENTIAL, 1_900, 100),
        (LOGNORMAL, 40, 360),
        (LOGNORMAL, 400, 400),
    ):
        heavy = shape.skewness / math.sqrt(min(n_control, n_treatment))
        tilt = shape.lopsidedness(n_control, n_treatment)
        found.append(
            IntervalCase(
                "CUPED with third moments",
                f"{shape.name} beside the covariate, {n_control:,} + {n_treatment:,}",
                heavy <= 0.5 and abs(tilt) <= TOO_SKEWED,
                f"skewness of difference {tilt:+.2f}, of a mean {heavy:.2f}",
                _adjusted(shape, n_control, n_treatment),
                3_000,
            )
        )
    for n_control, n_treatment in ((30, 120), (380, 20), (950, 50), (1_900, 100)):
        for method, relative in (
            ("ratios with third moments", False),
            ("relative effect of ratios, third moments", True),
        ):
            found.append(
                IntervalCase(
                    method,
                    f"skewed minutes a session, {n_control:,} + {n_treatment:,}",
                    min(n_control, n_treatment) >= 50,
                    f"{min(n_control, n_treatment)} units in the smaller arm",
                    _ratio(n_control, n_treatment, relative=relative),
                    3_000,
                )
            )
    return found


def _strata_cases() -> list[IntervalCase]:
    found = []
    for sizes, shape, cubes in (
        (((4, 4),) * 4, NORMAL, False),
        (((3, 9),) * 10, NORMAL, False),
        (((20, 20),) * 5, EXPONENTIAL, True),
    ):
        found.append(
            IntervalCase(
                "strata with a covariate",
                f"{len(sizes)} strata of {sizes[0][0]} + {sizes[0][1]}, {shape.name}",
                True,
                "ten units of an arm a covariate",
                _layers(sizes, shape, covariate=True, cubes=cubes),
                2_500,
                powered=shape is NORMAL,
            )
        )
    for sizes, cubes in ((((190, 10),) * 5, True), (((190, 10),) * 5, False), (((8, 72),) * 5, True)):
        found.append(
            IntervalCase(
                "strata with third moments" if cubes else "strata as fixed effects",
                f"{len(sizes)} strata of {sizes[0][0]} + {sizes[0][1]}, exponential",
                cubes,
                "skewness of a mean at most 0.5" if cubes else "skewed values in unequal arms",
                _layers(sizes, EXPONENTIAL, covariate=False, cubes=cubes),
                2_000,
            )
        )
    return found


def _class_cases() -> list[IntervalCase]:
    found = []
    for kind, control, treatment, cv, icc in (
        ("yes or no", 6, 6, 0.5, 0.1),
        ("yes or no", 12, 12, 0.5, 0.1),
        ("yes or no", 40, 40, 0.5, 0.1),
        ("yes or no", 8, 72, 0.0, 0.1),
        ("lognormal", 6, 6, 0.0, 0.1),
        ("lognormal", 15, 15, 0.5, 0.1),
        ("lognormal", 40, 40, 0.5, 0.2),
        ("lognormal", 8, 40, 0.0, 0.2),
    ):
        df = expected_df(control, treatment, 20.0, cv)
        world = f"{control} + {treatment} classes of 20, sizes vary by {cv:g}, ICC {icc:g}"
        even = control == treatment
        found.append(
            IntervalCase(
                f"classes, {kind} outcomes",
                world,
                df >= 5.0 and even,
                f"{df:.1f} degrees of freedom by CR2",
                _classes(kind, control, treatment, cv, icc),
                2_500,
            )
        )
        if (control, treatment) in ((12, 12), (15, 15), (40, 40), (8, 72)):
            found.append(
                IntervalCase(
                    "relative effect in classes",
                    f"{kind}, {world}",
                    df >= 5.0 and even,
                    f"{df:.1f} degrees of freedom by CR2",
                    _classes(kind, control, treatment, cv, icc, relative=True),
                    2_500,
                )
            )
    for groups, n, between in ((5, 50, 0.0), (5, 50, 0.2), (12, 50, 0.1), (12, 50, 0.5), (4, 15, 0.3)):
        found.append(
            IntervalCase(
                "shrunken effects of segments",
                f"{groups} segments, {n} an arm, effects vary by {between:g} sd",
                True,
                "at least 95 % averaged over segments",
                _learnt(groups, n, between),
                2_500,
                guarantee="at least",
            )
        )
    return found


def _rules() -> list[RateCase]:
    found = []
    for kind in ("absolute", "relative"):
        margin_kind: MarginKind = "relative" if kind == "relative" else "absolute"
        for what, harm, wanted in (
            ("passes though harm is the margin", 0.2, "pass"),
            ("fails though there is no harm", 0.0, "fail"),
        ):
            found.append(
                RateCase(
                    "guardrail with third moments",
                    f"exponential, 1,900 + 100, {kind} margin 0.2",
                    what,
                    0.05,
                    "at most",
                    True,
                    _guarded(harm, margin_kind, wanted),
                    6_000,
                )
            )
    for shape in (NORMAL, EXPONENTIAL):
        found.append(
            RateCase(
                "always valid, relative",
                f"10 looks to 300 an arm, {shape.name}, true lift 20 %",
                "intervals that exclude it at any look",
                0.05,
                "at most",
                True,
                _always_relative(10, 30, shape),
                1_500,
            )
        )
    return found
