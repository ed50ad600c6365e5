"""Methods known to be wrong, each beside ours: they must fail, or the simulation is blind."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from bench.calibration.cases import FaultyCase, Random
from bench.calibration.clustered import one_trial
from bench.calibration.looks import always_valid_crosses, daily_counts, looks_at, spending_crosses
from bench.calibration.shares import repeated
from bench.calibration.worlds import NORMAL, in_classes, sizes_of, table_of
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.gates.srm import log_bayes_factors
from exp_pipeline.stats.looks.group_sequential import SpendingPlan
from exp_pipeline.stats.looks.interval import AlwaysValid
from exp_pipeline.stats.looks.spending import Spending
from exp_pipeline.stats.many.effects import many_means
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import Effect, NotEstimable

Z = 1.959963984540054
Counts = tuple[int, int]


def normal_for_t(random: Random, runs: int) -> Counts:
    """A normal reference at eight units an arm."""
    many = many_means(
        table_of(random.standard_normal((runs, 8)), ("y",)),
        table_of(random.standard_normal((runs, 8)), ("y",)),
        outcome="y",
    )
    return int(np.sum(np.abs(many.absolute / many.se) > Z)), int(np.sum(many.p_value < 0.05))


def raw_squares(random: Random, runs: int) -> Counts:
    """Variances from sums and sums of squares, at a mean of 1e8 and a spread of 1: wrong by a tenth."""
    values = 1e8 + random.standard_normal((runs, 200))
    n = values.shape[1]
    raw = ((values * values).sum(axis=1) - values.sum(axis=1) ** 2 / n) / (n - 1)
    own = np.array([Moments.from_array(row, ("y",)).variance("y") for row in values])
    true = np.var(values - 1e8, axis=1, ddof=1)
    return int(np.sum(np.abs(raw / true - 1.0) > 0.1)), int(np.sum(np.abs(own / true - 1.0) > 1e-6))


def cluster_normal(random: Random, runs: int) -> Counts:
    """CR1 with a normal reference at 20 classes of unequal size."""
    faulty = ours = 0
    for _ in range(runs):
        y, treated, cluster = one_trial(random, 8, 12, 20.0, 0.5, 0.1)
        plain = clustered_difference(y, treated, cluster, method="cr1")
        good = clustered_difference(y, treated, cluster)
        assert isinstance(plain, Effect)
        assert isinstance(good, Effect)
        faulty += abs(plain.absolute / plain.se) > Z
        ours += good.p_value < 0.05
    return faulty, ours


def cumulative_alpha(random: Random, runs: int) -> Counts:
    """At each of 28 looks the alpha spent so far taken for that look's own level."""
    looks, per_look = 28, 14
    plan = SpendingPlan(planned_n=2 * per_look * looks)
    spending = Spending()
    bounds = [-special.ndtri(spending.spent((k + 1) / looks) / 2.0) for k in range(looks)]
    seen = looks_at(random, runs, per_look, looks, NORMAL, 0.0)
    faulty = (seen.z() > np.array(bounds)).any(axis=1)
    return int(np.sum(faulty)), int(spending_crosses(plan, seen).sum())


def peeking(random: Random, runs: int) -> Counts:
    """A plain test at each of 20 looks, shares of 0.40, stopping at the first p below 5 %."""
    looks, per_look = 20, 100
    ends = per_look * np.arange(1, looks + 1)
    arms = [random.binomial(per_look, 0.4, (runs, looks)).cumsum(axis=1).reshape(-1) for _ in range(2)]
    n = np.tile(ends, runs)
    many = many_proportions(arms[0], n, arms[1], n)
    p = many.p_value.reshape(runs, looks)
    rule = AlwaysValid(planned_n=2 * per_look * looks)
    ours = sum(
        always_valid_crosses(rule, [many.at(run * looks + look) for look in range(looks)])
        for run in range(runs)
    )
    return int(np.sum((p < 0.05).any(axis=1))), ours


def daily_srm(random: Random, runs: int) -> Counts:
    """Pearson's chi-square at 0.01 on each of 28 days."""
    counts = daily_counts(random, runs, 28, 1_000, 0.5)
    total = counts.sum(axis=2)
    statistic = (counts[:, :, 1] - counts[:, :, 0]) ** 2 / total
    alarms = (special.chdtrc(1, statistic) < 0.01).any(axis=1)
    evidence = log_bayes_factors(counts, np.array([0.5, 0.5])).max(axis=1)
    return int(np.sum(alarms)), int(np.sum(evidence >= -math.log(0.01)))


def divided_interval(random: Random, runs: int) -> Counts:
    """The absolute interval over the control mean, as if that were known; 0.12 and 0.18, 250 an arm."""
    n, base, lift = 250, 0.12, 0.5
    everyone = np.full(runs, n)
    many = many_proportions(
        random.binomial(n, base, runs), everyone, random.binomial(n, base * (1 + lift), runs), everyone
    )
    low, high = many.ci_lower / many.mean_control, many.ci_upper / many.mean_control
    known = ~np.isnan(many.relative_ci_lower)
    ours = (many.relative_ci_lower > lift) | (many.relative_ci_upper < lift)
    return int(np.sum((low > lift) | (high < lift))), int(np.sum(ours & known))


def plain_delta(random: Random, runs: int) -> Counts:
    """The delta method on the ratio itself, symmetric around it: misses on one side (shares as above)."""
    n, base, lift = 250, 0.12, 0.5
    control, treatment = random.binomial(n, base, runs) / n, random.binomial(n, base * (1 + lift), runs) / n
    safe = np.maximum(control, 1.0 / n)
    ratio = treatment / safe
    spread = treatment * (1 - treatment) / n / safe**2 + ratio**2 * (1 - control) / (n * safe)
    faulty = ratio - 1.0 + Z * np.sqrt(spread) < lift
    everyone = np.full(runs, n)
    many = many_proportions(
        np.rint(control * n).astype(np.int64), everyone, np.rint(treatment * n).astype(np.int64), everyone
    )
    return int(np.sum(faulty)), int(np.sum(many.relative_ci_upper < lift))


def row_order(random: Random, runs: int) -> Counts:
    """Control is whichever arm comes first in the rows: the sign is wrong, at an effect of ten errors."""
    faulty = ours = 0
    for _ in range(runs):
        treated = random.random(100) < 0.5
        y = random.standard_normal(100) + 2.0 * treated
        first = treated[0]
        faulty += y[treated != first].mean() - y[treated == first].mean() < 0.0
        effect = difference_in_means(
            Moments.from_array(y[~treated], ("y",)), Moments.from_array(y[treated], ("y",)), outcome="y"
        )
        ours += isinstance(effect, NotEstimable) or effect.absolute < 0.0
    return faulty, ours


def failed_as_one(random: Random, runs: int) -> Counts:
    """Ten metrics, nine without any event: p = 1 in their place lets Holm miss the one with an effect."""
    faulty = ours = 0
    for _ in range(runs):
        arms = [random.standard_normal(60), random.standard_normal(60) + 0.5]
        answers = [
            difference_in_means(*(Moments.from_array(arm, ("y",)) for arm in arms), outcome="y"),
            *(
                difference_in_means(*(Moments.from_array(np.zeros(60), ("y",)) for _ in arms), outcome="y")
                for _ in range(9)
            ),
        ]
        known = {str(k): one.p_value for k, one in enumerate(answers) if isinstance(one, Effect)}
        filled = {str(k): known.get(str(k), 1.0) for k in range(10)}
        faulty += holm(filled)["0"] > 0.05
        ours += holm(known)["0"] > 0.05
    return faulty, ours


def row_bootstrap(random: Random, runs: int) -> Counts:
    """Percentile bootstrap over rows for the 90th percentile, where units have eight rows each."""
    faulty = ours = 0
    for _ in range(runs):
        arms = [repeated(random, 150, 8.0) for _ in range(2)]
        drawn = [
            np.quantile(values[random.integers(0, values.size, (200, values.size))], 0.9, axis=1)
            for values, _ in arms
        ]
        low, high = np.quantile(drawn[1] - drawn[0], (0.025, 0.975))
        faulty += not low <= 0.0 <= high
        effect = difference_in_quantiles(*arms[0], *arms[1], quantile=0.9)
        ours += isinstance(effect, NotEstimable) or not effect.ci_lower <= 0.0 <= effect.ci_upper
    return faulty, ours


def rows_as_units(random: Random, runs: int) -> Counts:
    """Welch over rows, where classes of 20 were drawn whole."""
    faulty = ours = 0
    for _ in range(runs):
        sizes = sizes_of(random, 20, 20.0, 0.3)
        cluster = np.repeat(np.arange(20), sizes)
        treated = cluster % 2 == 1
        y = in_classes(random, cluster, 0.1)
        plain = difference_in_means(
            Moments.from_array(y[~treated], ("y",)), Moments.from_array(y[treated], ("y",)), outcome="y"
        )
        good = clustered_difference(y, treated, cluster)
        faulty += isinstance(plain, Effect) and plain.p_value < 0.05
        ours += isinstance(good, Effect) and good.p_value < 0.05
    return faulty, ours


def cases() -> list[FaultyCase]:
    """Every method that must fail, and by how much."""
    size = "false alarms"
    return [
        FaultyCase(
            "z in place of t", "8 + 8 normal", size, 0.05, 0.065, 0.055, "Welch", normal_for_t, 40_000
        ),
        FaultyCase(
            "variance from raw sums of squares",
            "mean 1e8, spread 1, 200 units",
            "variances wrong by a tenth",
            0.0,
            0.5,
            0.0,
            "Moments (wrong by 1e-6)",
            raw_squares,
            2_000,
        ),
        FaultyCase(
            "CR1 with a normal reference",
            "8 + 12 classes, sizes vary by 0.5, ICC 0.1",
            size,
            0.05,
            0.08,
            0.06,
            "CR2",
            cluster_normal,
            6_000,
        ),
        FaultyCase(
            "cumulative alpha as each look's level",
            "28 looks, O'Brien-Fleming spending",
            size,
            0.05,
            0.06,
            0.055,
            "spending boundaries",
            cumulative_alpha,
            10_000,
        ),
        FaultyCase(
            "daily chi-square for sample ratio",
            "28 days at 0.01",
            size,
            0.01,
            0.05,
            0.01,
            "sequential SRM",
            daily_srm,
            20_000,
        ),
        FaultyCase(
            "relative interval by dividing",
            "shares 0.12 and 0.18, 250 + 250",
            "intervals that miss",
            0.05,
            0.1,
            0.055,
            "log-ratio",
            divided_interval,
            40_000,
        ),
        FaultyCase(
            "plain delta method, relative",
            "shares 0.12 and 0.18, 250 + 250",
            "intervals below the truth",
            0.025,
            0.04,
            0.035,
            "log-ratio",
            plain_delta,
            40_000,
        ),
        FaultyCase(
            "peeking",
            "20 looks of 100 + 100, shares 0.40",
            size,
            0.05,
            0.2,
            0.055,
            "always valid",
            peeking,
            4_000,
        ),
        FaultyCase(
            "sign by order of rows",
            "100 units, effect of ten errors",
            "wrong signs",
            0.0,
            0.3,
            0.0,
            "named arms",
            row_order,
            2_000,
        ),
        FaultyCase(
            "failed estimates as p = 1",
            "one metric with an effect, nine without events",
            "real effects missed",
            0.22,
            0.4,
            0.3,
            "left out of the family",
            failed_as_one,
            2_000,
        ),
        FaultyCase(
            "bootstrap over rows for quantiles",
            "90 % of 8 rows a unit, 150 + 150 units",
            "intervals that miss",
            0.05,
            0.15,
            0.06,
            "quantiles by unit",
            row_bootstrap,
            600,
        ),
        FaultyCase(
            "Welch over rows of classes",
            "20 classes of 20, ICC 0.1",
            size,
            0.05,
            0.15,
            0.06,
            "CR2",
            rows_as_units,
            4_000,
        ),
    ]
