"""Does planned power come true? Our estimators on drawn data at the planned size, kind by kind.

Run from the project folder: `.venv/bin/python bench/power_check.py [--runs 20000]`. The seed is fixed, so the
table in bench/results/power.md changes only when code, libraries or the list of kinds do.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exp_pipeline.stats.clusters.effects import clustered_difference  # noqa: E402
from exp_pipeline.stats.effects.adjustment import adjusted_difference  # noqa: E402
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions  # noqa: E402
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles  # noqa: E402
from exp_pipeline.stats.effects.ratios import difference_in_ratios  # noqa: E402
from exp_pipeline.stats.gates.guardrails import non_inferiority  # noqa: E402
from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, always_valid_interval  # noqa: E402
from exp_pipeline.stats.looks.spending import Spending  # noqa: E402
from exp_pipeline.stats.moments import Moments  # noqa: E402
from exp_pipeline.stats.multiplicity import holm  # noqa: E402
from exp_pipeline.stats.power.counts import quantile_spread, ratio_spread  # noqa: E402
from exp_pipeline.stats.power.design import Design  # noqa: E402
from exp_pipeline.stats.power.looks import always_valid_looks, group_sequential_looks  # noqa: E402
from exp_pipeline.stats.power.margins import units_for_margin  # noqa: E402
from exp_pipeline.stats.power.outcomes import Mean, PairedMean, Proportion, Rate  # noqa: E402
from exp_pipeline.stats.power.units import PowerPlan, units_for  # noqa: E402
from exp_pipeline.stats.results import Effect, NotEstimable  # noqa: E402

SEED = 20260412
LEVEL = 0.95
Array = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """One kind of plan: the plan itself, and one draw of data at its size judged by our estimator."""

    name: str
    plan: PowerPlan
    found: Callable[[Random, PowerPlan], bool]
    cost: int = 1


@dataclass(frozen=True)
class Row:
    """Planned power, and how often the drawn experiments found the effect."""

    name: str
    units: int
    planned: float
    simulated: float
    runs: int

    @property
    def error(self) -> float:
        """Standard error of the simulated power."""
        return math.sqrt(self.planned * (1.0 - self.planned) / self.runs)

    @property
    def gap_points(self) -> float:
        """Simulated less planned, in percentage points."""
        return 100.0 * (self.simulated - self.planned)


def _moments(values: Array) -> Moments:
    return Moments.from_array(values, ("y",))


def _right(effect: Effect | NotEstimable, sign: float = 1.0, alpha: float = 0.05) -> bool:
    return isinstance(effect, Effect) and effect.p_value < alpha and effect.absolute * sign > 0


def _welch(sd: float, sd_treatment: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        control = random.normal(0.0, sd, plan.n_control)
        treatment = random.normal(plan.effect, sd_treatment, plan.n_treatment)
        answer = difference_in_means(_moments(control), _moments(treatment), outcome="y", level=LEVEL)
        return _right(answer, math.copysign(1.0, plan.effect))

    return found


def _half_taken(random: Random, plan: PowerPlan) -> bool:
    takes = random.random(plan.n_treatment) < plan.design.compliance
    control = random.normal(0.0, 1.0, plan.n_control)
    treatment = random.normal(0.0, 1.0, plan.n_treatment) + plan.effect * takes
    return _right(difference_in_means(_moments(control), _moments(treatment), outcome="y", level=LEVEL))


def _with_losses(random: Random, plan: PowerPlan) -> bool:
    kept = [random.binomial(n, 1.0 - plan.design.attrition) for n in (plan.n_control, plan.n_treatment)]
    control, treatment = random.normal(0.0, 1.0, kept[0]), random.normal(plan.effect, 1.0, kept[1])
    return _right(difference_in_means(_moments(control), _moments(treatment), outcome="y", level=LEVEL))


def _newcombe(baseline: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        control = int(random.binomial(plan.n_control, baseline))
        treatment = int(random.binomial(plan.n_treatment, baseline + plan.effect))
        answer = difference_in_proportions(control, plan.n_control, treatment, plan.n_treatment, level=LEVEL)
        return isinstance(answer, Effect) and answer.ci_lower > 0.0

    return found


def _answers(random: Random, units: int, lift: float) -> Array:
    """Right answers and answers of units that differ in how many they give and how well."""
    answers = random.poisson(random.gamma(3.0, 4.0, units)) + 1
    skill = np.clip(0.3 + 0.4 * random.beta(2.0, 2.0, units) + lift, 0.0, 1.0)
    return np.column_stack([random.binomial(answers, skill), answers]).astype(np.float64)


def _ratio(random: Random, plan: PowerPlan) -> bool:
    names = ("right", "answers")
    arms = [
        Moments.from_array(_answers(random, n, lift), names)
        for n, lift in ((plan.n_control, 0.0), (plan.n_treatment, plan.effect))
    ]
    return _right(
        difference_in_ratios(*arms, numerator="right", denominator="answers", level=LEVEL),
    )


def _counts(rate: Rate) -> Callable[[Random, PowerPlan], bool]:
    def arm(random: Random, n: int, mean: float) -> Moments:
        exposure = random.poisson(rate.exposure - 1.0, n) + 1.0
        bunched = random.gamma(1.0 / rate.dispersion, rate.dispersion, n)
        events = random.poisson(mean * exposure * bunched)
        return Moments.from_array(np.column_stack([events, exposure]), ("events", "exposure"))

    def found(random: Random, plan: PowerPlan) -> bool:
        arms = arm(random, plan.n_control, rate.rate), arm(random, plan.n_treatment, rate.rate + plan.effect)
        return _right(
            difference_in_ratios(*arms, numerator="events", denominator="exposure", level=LEVEL),
        )

    return found


def _latencies(random: Random, units: int, shift: float) -> tuple[Array, NDArray[np.int64]]:
    """Four waiting times of each unit, which are alike."""
    own = random.normal(0.0, 0.3, units)[:, None] + random.normal(0.0, 0.4, (units, 4))
    return (1000.0 * np.exp(own) + shift).ravel(), np.repeat(np.arange(units), 4)


def _quantile(quantile: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        control, treatment = (
            _latencies(random, n, shift)
            for n, shift in ((plan.n_control, 0.0), (plan.n_treatment, plan.effect))
        )
        return _right(difference_in_quantiles(*control, *treatment, quantile=quantile, level=LEVEL))

    return found


def _cuped(correlation: float) -> Callable[[Random, PowerPlan], bool]:
    def arm(random: Random, n: int, effect: float) -> Moments:
        before = random.standard_normal(n)
        after = correlation * before + math.sqrt(1.0 - correlation**2) * random.standard_normal(n) + effect
        return Moments.from_array(np.column_stack([after, before]), ("y", "pre"))

    def found(random: Random, plan: PowerPlan) -> bool:
        arms = arm(random, plan.n_control, 0.0), arm(random, plan.n_treatment, plan.effect)
        return _right(adjusted_difference(*arms, outcome="y", covariates=("pre",), level=LEVEL))

    return found


def _classes(*, share: bool = False, baseline: float = 0.4) -> Callable[[Random, PowerPlan], bool]:
    """Classes drawn whole; of shares, each class has its own, from a beta distribution with that ICC."""

    def found(random: Random, plan: PowerPlan) -> bool:
        design = plan.design
        in_control, in_treatment = plan.clusters_control or 0, plan.clusters_treatment or 0
        classes = in_control + in_treatment
        sizes = _sizes(random, classes, design.cluster_size or 1.0, design.cluster_size_cv)
        cluster = np.repeat(np.arange(classes), sizes)
        treated = cluster >= in_control
        if share:
            level = np.where(np.arange(classes) >= in_control, baseline + plan.effect, baseline)
            strength = 1.0 / design.icc - 1.0
            own = random.beta(level * strength, (1.0 - level) * strength)
            y = (random.random(cluster.size) < own[cluster]).astype(np.float64)
        else:
            common = math.sqrt(design.icc) * random.standard_normal(classes)
            noise = math.sqrt(1.0 - design.icc) * random.standard_normal(cluster.size)
            y = common[cluster] + noise + plan.effect * treated
        return _right(clustered_difference(y, treated, cluster, level=LEVEL))

    return found


def _sizes(random: Random, classes: int, mean: float, cv: float) -> NDArray[np.int64]:
    if cv == 0.0:
        return np.full(classes, round(mean), dtype=np.int64)
    drawn = random.gamma(1.0 / cv**2, mean * cv**2, classes)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)


def _pairs(sd: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        difference = random.normal(plan.effect, sd, plan.n_control)
        # A pair's difference against nothing: Student's t of one sample.
        statistic = difference.mean() / (difference.std(ddof=1) / math.sqrt(difference.size))
        return bool(statistic > _student(difference.size - 1))

    return found


def _student(df: int) -> float:
    from exp_pipeline.stats.reference import two_sided_critical

    return two_sided_critical(LEVEL, df)


def _three_arms(random: Random, plan: PowerPlan) -> bool:
    """The first arm has the effect, the others none; corrected as the plan does (Bonferroni)."""
    control = random.normal(0.0, 1.0, plan.n_control)
    treatment = random.normal(plan.effect, 1.0, plan.n_treatment)
    answer = difference_in_means(_moments(control), _moments(treatment), outcome="y", level=LEVEL)
    return _right(answer, alpha=plan.design.alpha / plan.design.treatments)


def _three_arms_holm(random: Random, plan: PowerPlan) -> bool:
    """All arms have the effect; Holm finds the first at least as often as Bonferroni promises."""
    control = _moments(random.normal(0.0, 1.0, plan.n_control))
    p: dict[str, float] = {}
    for arm in range(plan.design.treatments):
        treatment = random.normal(plan.effect if arm == 0 else 0.0, 1.0, plan.n_treatment)
        answer = difference_in_means(control, _moments(treatment), outcome="y", level=LEVEL)
        assert isinstance(answer, Effect)
        p[str(arm)] = answer.p_value if answer.absolute > 0 else 1.0
    return holm(p)["0"] < plan.design.alpha


def _margin(baseline: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        answer = difference_in_means(
            _moments(random.normal(baseline, 1.0, plan.n_control)),
            _moments(random.normal(baseline, 1.0, plan.n_treatment)),
            outcome="y",
            level=LEVEL,
        )
        verdict = non_inferiority(answer, margin=plan.effect, harm="increase", alpha=plan.design.alpha)
        return verdict.verdict == "pass"

    return found


def _relative_margin(baseline: float) -> Callable[[Random, PowerPlan], bool]:
    def found(random: Random, plan: PowerPlan) -> bool:
        answer = difference_in_means(
            _moments(random.normal(baseline, 1.0, plan.n_control)),
            _moments(random.normal(baseline, 1.0, plan.n_treatment)),
            outcome="y",
            level=LEVEL,
        )
        verdict = non_inferiority(
            answer, margin=plan.effect, margin_kind="relative", harm="increase", alpha=plan.design.alpha
        )
        return verdict.verdict == "pass"

    return found


def _looks(critical: tuple[float, ...] | None, looks: int) -> Callable[[Random, PowerPlan], bool]:
    """Evenly spaced looks: against boundaries, or (None) with the always-valid interval."""

    def found(random: Random, plan: PowerPlan) -> bool:
        control = random.normal(0.0, 1.0, plan.n_control)
        treatment = random.normal(plan.effect, 1.0, plan.n_treatment)
        for look in range(1, looks + 1):
            at = round(plan.n_control * look / looks)
            answer = difference_in_means(
                _moments(control[:at]), _moments(treatment[:at]), outcome="y", level=LEVEL
            )
            assert isinstance(answer, Effect)
            if critical is not None:
                if answer.absolute / answer.se > critical[look - 1]:
                    return True
                continue
            always = always_valid_interval(answer, planned_n=plan.n_total, level=LEVEL)
            assert isinstance(always, AlwaysValidInterval)
            if always.lower > 0.0:
                return True
        return False

    return found


def kinds() -> list[Kind]:
    """Every kind of plan, at a size that can be drawn often."""
    plain = Design()
    history = np.random.default_rng(SEED)
    answers = _answers(history, 400_000, 0.0)
    ratio = ratio_spread(answers[:, 0], answers[:, 1])
    median = quantile_spread(*_latencies(history, 100_000, 0.0), 0.5)
    waits = _latencies(history, 100_000, 0.0)
    p90 = quantile_spread(*waits, 0.9)
    assert not isinstance(ratio, NotEstimable)
    assert not isinstance(median, NotEstimable)
    assert not isinstance(p90, NotEstimable)
    first = units_for(Mean(p90.sd, p90.sd), plain, effect=150.0)
    p90 = quantile_spread(*waits, 0.9, planned_units=first.n_control)
    assert not isinstance(p90, NotEstimable)
    # Exposures are 1 + Poisson(2): mean 3, variance 2.
    rate = Rate(0.8, exposure=3.0, exposure_cv=math.sqrt(2.0) / 3.0, dispersion=0.5)
    obrien = group_sequential_looks(Spending(), (0.25, 0.5, 0.75, 1.0), power=0.8)
    pocock = group_sequential_looks(Spending("pocock"), (0.25, 0.5, 0.75, 1.0), power=0.8)
    always = always_valid_looks(alpha=0.05, power=0.8, looks=10)
    equal = Design(cluster_size=20.0, icc=0.1)
    unequal = replace(equal, cluster_size_cv=0.5)

    def several(looks_inflation: float) -> PowerPlan:
        return units_for(Mean(1.0, 1.0), Design(inflation=looks_inflation), effect=0.25)

    return [
        Kind("mean, 26 + 26 units", units_for(Mean(1.0, 1.0), plain, effect=0.8), _welch(1.0, 1.0)),
        Kind("mean, a fall", units_for(Mean(1.0, 1.0), plain, effect=-0.3), _welch(1.0, 1.0)),
        Kind(
            "mean, 80/20, twice the spread in treatment",
            units_for(Mean(1.0, 2.0), Design(share_treatment=0.2), effect=0.6),
            _welch(1.0, 2.0),
        ),
        Kind(
            "share, 0.38 and 2 points (9,246 an arm)",
            units_for(Proportion(0.38), plain, effect=0.02),
            _newcombe(0.38),
        ),
        Kind(
            "share, 0.1 and 3 points, own variances",
            units_for(Proportion(0.1, "unpooled"), plain, effect=0.03),
            _newcombe(0.1),
        ),
        Kind("ratio, spread from history", units_for(Mean(ratio.sd, ratio.sd), plain, effect=0.04), _ratio),
        Kind("rate, bunched counts", units_for(rate, plain, effect=0.15), _counts(rate)),
        Kind(
            "median of rows, spread from history",
            units_for(Mean(median.sd, median.sd), plain, effect=100.0),
            _quantile(0.5),
        ),
        Kind(
            "90th percentile of rows, spread from history",
            units_for(Mean(p90.sd, p90.sd), plain, effect=150.0),
            _quantile(0.9),
        ),
        Kind(
            "CUPED, correlation 0.6",
            units_for(Mean(1.0, 1.0), Design(variance_reduction=0.36), effect=0.3),
            _cuped(0.6),
        ),
        Kind("pairs", units_for(PairedMean(1.0), plain, effect=0.4), _pairs(1.0)),
        Kind(
            "classes of 20, ICC 0.1, 12 + 12",
            units_for(Mean(1.0), equal, effect=0.47),
            _classes(),
            3,
        ),
        Kind("classes of 20, ICC 0.1, 60 + 60", units_for(Mean(1.0), equal, effect=0.2), _classes(), 4),
        Kind(
            "classes of 20, sizes vary by 0.5, 20 + 20",
            units_for(Mean(1.0), unequal, effect=0.38),
            _classes(),
            3,
        ),
        Kind(
            "share in classes of 20, sizes vary by 0.5",
            units_for(Proportion(0.4, "unpooled"), unequal, effect=0.15),
            _classes(share=True),
            2,
        ),
        Kind(
            "three arms against control (Bonferroni)",
            units_for(Mean(1.0, 1.0), Design(treatments=3, share_treatment=0.4), effect=0.3),
            _three_arms,
        ),
        Kind(
            "three arms against control (Holm, one has the effect)",
            units_for(Mean(1.0, 1.0), Design(treatments=3), effect=0.3),
            _three_arms_holm,
        ),
        Kind("attrition of 20 %", units_for(Mean(1.0, 1.0), Design(attrition=0.2), effect=0.3), _with_losses),
        Kind(
            "60 % take the treatment up",
            units_for(Mean(1.0, 1.0), Design(compliance=0.6), effect=0.4),
            _half_taken,
        ),
        Kind(
            "guardrail, absolute margin",
            units_for_margin(Mean(1.0, 1.0), plain, margin=0.25, harm="increase"),
            _margin(0.0),
        ),
        Kind(
            "guardrail, relative margin",
            units_for_margin(Mean(1.0, 1.0), plain, margin=0.05, harm="increase", baseline=4.0),
            _relative_margin(4.0),
        ),
        Kind("4 looks, O'Brien-Fleming", several(obrien.inflation), _looks(obrien.critical, 4)),
        Kind("4 looks, Pocock", several(pocock.inflation), _looks(pocock.critical, 4)),
        Kind("10 looks, always valid", several(always.inflation), _looks(None, 10), 2),
    ]


def check(kind: Kind, runs: int, seed: np.random.SeedSequence) -> Row:
    """How often does the plan's effect turn out to be found?"""
    random = np.random.default_rng(seed)
    found = sum(kind.found(random, kind.plan) for _ in range(runs))
    return Row(kind.name, kind.plan.n_total, kind.plan.power, found / runs, runs)


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Power, planned and simulated",
        "",
        f"Seed {SEED}, two-sided 5 %; Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')}. Data are drawn at the planned size with the planned effect and judged by "
        "the estimators of the readout; a finding on the wrong side does not count.",
        "",
        "| kind of plan | units | planned | simulated | gap (points) | ± | runs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.units:,} | {row.planned:.1%} | {row.simulated:.1%} "
            f"| {row.gap_points:+.2f} | {100 * row.error:.2f} | {row.runs:,} |"
        )
    lines += ["", "± is one standard error of the simulation, in points.", ""]
    return "\n".join(lines)


def main() -> None:
    """Check every kind and write the table; exit 1 where one is off by more than a point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20_000, help="runs of a kind; costly ones fewer")
    runs = parser.parse_args().runs
    every = kinds()
    seeds = np.random.SeedSequence(SEED).spawn(len(every))
    rows = []
    for kind, seed in zip(every, seeds, strict=True):
        row = check(kind, max(100, runs // kind.cost), seed)
        rows.append(row)
        print(
            f"{row.name:55} {row.units:8,}  planned {row.planned:6.1%}  simulated {row.simulated:6.1%}  "
            f"{row.gap_points:+5.2f} ± {100 * row.error:.2f}",
            flush=True,
        )
    target = ROOT / "bench" / "results" / "power.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table(rows), encoding="utf-8")
    print(f"\nWritten to {target.relative_to(ROOT)}")
    off = [row for row in rows if abs(row.gap_points) > 1.0 + 200.0 * row.error]
    if off:
        sys.exit(f"off by more than a point: {', '.join(row.name for row in off)}")


if __name__ == "__main__":
    main()
