"""Guardrail verdicts, families of p-values, compliance, judges and agreement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.calibration.cases import Array, Case, Draws, IntervalCase, Random, RateCase
from bench.calibration.worlds import EXPONENTIAL, NORMAL, Shape, table_of
from exp_pipeline.stats.effects.compliance import complier_effect
from exp_pipeline.stats.gates.guardrails import MarginKind, non_inferiority
from exp_pipeline.stats.labels.agreement import Agreement, cohen_kappa, gwet_ac1
from exp_pipeline.stats.labels.prediction_powered import JudgedSample, prediction_powered_difference
from exp_pipeline.stats.many.effects import many_means
from exp_pipeline.stats.many.families import holm_within
from exp_pipeline.stats.multiplicity import benjamini_hochberg
from exp_pipeline.stats.results import NotEstimable

Draw = Callable[[Random, int, float], Draws]
Count = Callable[[Random, int], int]


def _verdicts(
    shape: Shape, n_control: int, n_treatment: int, harm: float, margin: float, kind: MarginKind, wanted: str
) -> Count:
    """Runs with the wanted verdict. Outcomes have mean 1; harm is a rise by `harm`."""

    def count(random: Random, runs: int) -> int:
        base = 1.0 - shape.mean
        many = many_means(
            table_of(shape.draw(random, (runs, n_control)) + base, ("y",)),
            table_of(shape.draw(random, (runs, n_treatment)) + base + harm, ("y",)),
            outcome="y",
        )
        return sum(
            non_inferiority(many.at(place), margin=margin, margin_kind=kind, harm="increase").verdict
            == wanted
            for place in range(runs)
        )

    return count


def _guardrails() -> list[RateCase]:
    found = []
    for shape, n_control, n_treatment, kind in (
        (NORMAL, 12, 12, "absolute"),
        (NORMAL, 200, 200, "absolute"),
        (NORMAL, 200, 200, "relative"),
        (EXPONENTIAL, 200, 200, "relative"),
        (EXPONENTIAL, 1_900, 100, "relative"),
        (EXPONENTIAL, 1_900, 100, "absolute"),
    ):
        margin_kind: MarginKind = "relative" if kind == "relative" else "absolute"
        world = f"{shape.name}, {n_control:,} + {n_treatment:,}, {kind} margin 0.2"
        inside = shape is NORMAL or n_control == n_treatment
        found.append(
            RateCase(
                "guardrail",
                world,
                "passes though harm is the margin",
                0.05,
                "at most",
                inside,
                _verdicts(shape, n_control, n_treatment, 0.2, 0.2, margin_kind, "pass"),
                6_000,
            )
        )
        found.append(
            RateCase(
                "guardrail",
                world,
                "fails though there is no harm",
                0.05,
                "at most",
                inside,
                _verdicts(shape, n_control, n_treatment, 0.0, 0.2, margin_kind, "fail"),
                6_000,
            )
        )
    return found


def correlated(random: Random, runs: int, metrics: int, n: int, shifts: Array) -> Array:
    """(runs, metrics) p-values of metrics of the same units, correlated by 0.5. shifts: (metrics,)."""
    p = np.empty((runs, metrics))
    common = [random.standard_normal((runs, n)) for _ in range(2)]
    for metric in range(metrics):
        arms = [np.sqrt(0.5) * (one + random.standard_normal((runs, n))) for one in common]
        many = many_means(table_of(arms[0], ("y",)), table_of(arms[1] + shifts[metric], ("y",)), outcome="y")
        p[:, metric] = many.p_value
    return p


def _holm(n: int, metrics: int, real: int) -> Count:
    """Families in which a metric without effect is found; the first `real` ones have an effect."""

    def count(random: Random, runs: int) -> int:
        shifts = np.where(np.arange(metrics) < real, 3.5 * np.sqrt(2.0 / n), 0.0)
        p = correlated(random, runs, metrics, n, shifts)
        adjusted = holm_within(p.ravel(), np.repeat(np.arange(runs), metrics)).reshape(runs, metrics)
        return int(np.sum((adjusted[:, real:] <= 0.05).any(axis=1)))

    return count


def _false_discoveries(n: int, metrics: int, real: int) -> Count:
    """The expected share of false finds, as a count: the sum over runs of that share."""

    def count(random: Random, runs: int) -> int:
        shifts = np.where(np.arange(metrics) < real, 3.5 * np.sqrt(2.0 / n), 0.0)
        p = correlated(random, runs, metrics, n, shifts)
        share = 0.0
        for row in p:
            adjusted = benjamini_hochberg({str(place): value for place, value in enumerate(row.tolist())})
            finds = [int(name) for name, value in adjusted.items() if value <= 0.05]
            share += sum(place >= real for place in finds) / max(len(finds), 1)
        return round(share)

    return count


def _families() -> list[RateCase]:
    found = []
    for metrics, real in ((3, 0), (20, 0), (20, 5)):
        found.append(
            RateCase(
                "Holm",
                f"{metrics} metrics, {real} with an effect, correlated 0.5, 12 + 12",
                "families with a false find",
                0.05,
                "at most",
                True,
                _holm(12, metrics, real),
                20_000,
            )
        )
    for metrics, real in ((20, 0), (20, 10)):
        found.append(
            RateCase(
                "Benjamini-Hochberg",
                f"{metrics} metrics, {real} with an effect, correlated 0.5, 12 + 12",
                "share of finds that are false",
                0.05 * (metrics - real) / metrics,
                "at most",
                True,
                _false_discoveries(12, metrics, real),
                6_000,
            )
        )
    return found


def _compliance(n: int, takers: float, classes: int, *, anderson_rubin: bool) -> Draw:
    """Half assigned; `takers` of them take it up, who also score higher; the effect on takers is 0.5."""

    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        flagged = np.zeros(runs, dtype=bool)
        for place in range(runs):
            cluster = np.arange(n) * classes // n if classes else None
            assigned = (np.arange(n) % 2 if cluster is None else cluster % 2).astype(bool)
            willing = random.random(n) < takers
            received = willing & assigned
            own = 0.0 if cluster is None else 0.3 * random.standard_normal(classes)[cluster]
            outcome = random.standard_normal(n) + own + 0.7 * willing + 0.5 * received
            found = complier_effect(outcome, assigned, received, cluster=cluster)
            if isinstance(found, NotEstimable):
                continue
            flagged[place] = bool(found.flags)
            low, high = found.ci_lower, found.ci_upper
            if anderson_rubin:
                tested = found.anderson_rubin
                low = -np.inf if tested.lower is None else tested.lower
                high = np.inf if tested.upper is None else tested.upper
                if tested.kind == "outside":
                    # The complement of an open interval: it misses where that holds the truth.
                    missed = low < 0.5 < high
                    low, high = (0.6, np.inf) if missed else (-np.inf, np.inf)
            rows[place] = found.absolute, found.se, low, high, found.p_value
        return Draws.of_rows(rows, 0.5, flagged)

    return draw


def _compliers() -> list[IntervalCase]:
    found = []
    for n, takers, classes in ((60, 0.7, 0), (400, 0.5, 0), (400, 0.15, 0), (100, 0.15, 0), (400, 0.6, 20)):
        # The first stage's t is about sqrt(n p / (4 (1 - p))) without clusters; strong means F above 10.
        strength = n * takers / (2.0 * (1.0 - takers)) / 1.0
        for method, tested in (("complier effect (2SLS)", False), ("complier effect (Anderson-Rubin)", True)):
            found.append(
                IntervalCase(
                    method,
                    f"{n} units, {takers:.0%} take it up" + (f", {classes} classes" if classes else ""),
                    tested or strength >= 50.0,
                    f"first-stage F about {strength:.0f}",
                    _compliance(n, takers, classes, anderson_rubin=tested),
                    2_500,
                    guarantee="at least" if tested else "nominal",
                )
            )
    return found


def _judged(labelled: int, judged: int, accuracy: float, *, binary: bool) -> Draw:
    def one(random: Random, shift: float) -> JudgedSample:
        n = labelled + judged
        if binary:
            human = (random.random(n) < 0.4 + shift).astype(np.float64)
            judge = np.where(random.random(n) < accuracy, human, 1.0 - human)
        else:
            human = random.standard_normal(n) + shift
            judge = accuracy * human + np.sqrt(1.0 - accuracy**2) * random.standard_normal(n) + 0.3
        return JudgedSample(human[:labelled], judge[:labelled], judge[labelled:])

    def draw(random: Random, runs: int, shift: float) -> Draws:
        return Draws.of_effects(
            [prediction_powered_difference(one(random, 0.0), one(random, shift)) for _ in range(runs)], 0.0
        )

    return draw


def _judges() -> list[IntervalCase]:
    found = []
    for labelled, judged, accuracy, binary in (
        (15, 300, 0.8, True),
        (50, 1_000, 0.8, True),
        (200, 2_000, 0.9, True),
        (20, 300, 0.7, False),
        (100, 1_000, 0.7, False),
    ):
        kind = "yes or no" if binary else "normal"
        found.append(
            IntervalCase(
                "prediction-powered difference",
                f"{kind}, {labelled} labelled + {judged:,} judged an arm, judge {accuracy:g}",
                not binary or labelled >= 40,
                f"{labelled} labelled an arm",
                _judged(labelled, judged, accuracy, binary=binary),
                6_000,
                powered=True,
            )
        )
    return found


def _agreeing(n: int, share: float, same: float, estimate: str) -> Draw:
    """Two raters of yes or no: the second copies the first with this probability, else draws anew."""
    both = share * (1.0 - share)
    observed = 1.0 - 2.0 * (1.0 - same) * both
    chance = share**2 + (1.0 - share) ** 2 if estimate == "kappa" else 2.0 * both
    truth = (observed - chance) / (1.0 - chance)

    def draw(random: Random, runs: int, shift: float) -> Draws:
        rows = np.full((runs, 5), np.nan)
        flagged = np.zeros(runs, dtype=bool)
        for place in range(runs):
            first = random.random(n) < share
            second = np.where(random.random(n) < same, first, random.random(n) < share)
            a, b = first.tolist(), second.tolist()
            found: Agreement | NotEstimable = (
                cohen_kappa(a, b, categories=(False, True))
                if estimate == "kappa"
                else gwet_ac1(list(zip(a, b, strict=True)), categories=(False, True))
            )
            if isinstance(found, NotEstimable):
                continue
            flagged[place] = bool(found.flags)
            rows[place] = found.value, np.nan, found.ci_lower, found.ci_upper, np.nan
        return Draws.of_rows(rows, truth, flagged)

    return draw


def _agreement() -> list[IntervalCase]:
    found = []
    for estimate, name in (("kappa", "Cohen's kappa"), ("ac1", "Gwet's AC1")):
        for n, share, same in (
            (20, 0.5, 0.6),
            (60, 0.5, 0.6),
            (60, 0.1, 0.6),
            (200, 0.3, 0.6),
            (1_000, 0.3, 0.6),
        ):
            rare = n * min(share, 1.0 - share)
            found.append(
                IntervalCase(
                    name,
                    f"{n} units, two raters, {share:.0%} yes, same in {same:.0%} at least",
                    rare >= 100.0,
                    f"{rare:.0f} units of the rarer label",
                    _agreeing(n, share, same, estimate),
                    8_000 if n < 500 else 4_000,
                )
            )
    return found


def cases() -> list[Case]:
    """Every world of this room."""
    return [*_guardrails(), *_families(), *_compliers(), *_judges(), *_agreement()]
