"""Effects by day since assignment, early against late and where they settle, against brute force."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Readout
from exp_pipeline_tests.analysis.builders import LAST_DAY, START, brief_of, inputs_of, metric_of, units_table

MINUTES = metric_of("minutes", type="mean", display="minutes")
SOLVED = metric_of("solved")
ACCEPTED = metric_of("accepted", type="ratio", denominator="answers", per=100.0)
LATENCY = metric_of("latency", type="quantile", quantile=0.5, direction="decrease", display="ms")
N = 400


def world(*, half_life: float = 0.0, lift: float = 3.0, seed: int = 6) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Units of ten days, a third on the first; the effect on minutes halves every so many days, or lasts."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (N // 2)
    enrolled = [START + timedelta(days=max(int(day), 0)) for day in rng.integers(-4, 10, N)]
    rows: list[dict[str, Any]] = []
    for unit, (arm, first) in enumerate(zip(arms, enrolled, strict=True)):
        for step in range((LAST_DAY - first).days + 1):
            if rng.random() < 0.4:
                continue
            size = lift * (0.5 ** (step / half_life) if half_life else 1.0) * (arm == "treatment")
            answers = int(rng.poisson(2))
            rows.append(
                {
                    "unit_id": f"u{unit:06d}",
                    "event_date": first + timedelta(days=step),
                    "minutes": 10.0 + size + rng.normal(0, 2),
                    "solved": int(rng.random() < 0.2),
                    "accepted": int(rng.binomial(answers, 0.5)),
                    "answers": answers,
                }
            )
    days = pl.DataFrame(rows)
    sums = days.group_by("unit_id").agg(
        pl.col(name).sum().cast(pl.Float64) for name in ("minutes", "solved", "accepted", "answers")
    )
    moments = pl.Series(
        [datetime(day.year, day.month, day.day, 9) for day in enrolled], dtype=pl.Datetime("us")
    )
    mad = units_table(
        arms,
        assigned_at=moments,
        first_exposed_at=moments,
        assigned_date=pl.Series(enrolled, dtype=pl.Date),
        cluster_id=[f"{arms[unit]}{unit // 20:03d}" for unit in range(N)],
        stratum=[f"s{unit // 2 % 3}" for unit in range(N)],
    ).join(sums, on="unit_id", how="left")
    return (
        mad.with_columns(
            pl.col("minutes").fill_null(0.0).alias("minutes__num"),
            pl.col("solved").fill_null(0.0).alias("solved__num"),
            pl.col("accepted").fill_null(0.0).alias("accepted__num"),
            pl.col("answers").fill_null(0.0).alias("accepted__den"),
            pl.lit(None, dtype=pl.List(pl.Float64)).alias("latency__values"),
        ),
        days,
    )


def readout(metric: Metric, frames: tuple[pl.DataFrame, pl.DataFrame], **changes: Any) -> Readout:
    brief = brief_of(primary=metric.name, **changes)
    found = read_out(inputs_of(brief, {metric.name: metric}, frames[0], days=frames[1]))
    assert not found.blinded, found.blinding_reason
    return found


def of_days(
    frames: tuple[pl.DataFrame, pl.DataFrame], name: str, first: int, last: int | None
) -> dict[str, dict[str, tuple[float, int]]]:
    """arm -> unit -> its sum of days `first` to `last` (excluded) since assignment, and how many it had."""
    facts: dict[tuple[str, date], float] = {
        (row["unit_id"], row["event_date"]): float(row[name]) for row in frames[1].iter_rows(named=True)
    }
    found: dict[str, dict[str, tuple[float, int]]] = {"control": {}, "treatment": {}}
    for unit in frames[0].iter_rows(named=True):
        had = (LAST_DAY - unit["assigned_date"]).days + 1
        stop = had if last is None else last
        if had < stop or stop <= first:
            continue
        spent = [facts.get((unit["unit_id"], unit["assigned_date"] + timedelta(days=age)), 0.0)
                 for age in range(first, stop)]  # fmt: skip
        found[unit["arm"]][unit["unit_id"]] = (sum(spent), stop - first)
    return found


def test_each_day_is_welch_on_what_units_did_that_day() -> None:
    frames = world()
    found = readout(MINUTES, frames).novelty_days
    assert [row.day for row in found] == list(range(28))
    for row in (found[0], found[5], found[20]):
        sides = [np.array([value for value, _ in arm.values()]) for arm in
                 of_days(frames, "minutes", row.day, row.day + 1).values()]  # fmt: skip
        expected = stats.ttest_ind(sides[1], sides[0], equal_var=False)
        interval = expected.confidence_interval(0.95)
        assert (row.n_control, row.n_treatment) == (sides[0].size, sides[1].size)
        assert row.absolute == pytest.approx(sides[1].mean() - sides[0].mean())
        assert (row.ci_lower, row.ci_upper) == pytest.approx((interval.low, interval.high))


def test_a_day_of_shares_ratios_and_clusters() -> None:
    frames = world()
    (row,) = [one for one in readout(SOLVED, frames).novelty_days if one.day == 3]
    sides = [[value > 0 for value, _ in arm.values()] for arm in of_days(frames, "solved", 3, 4).values()]
    assert row.absolute == pytest.approx(np.mean(sides[1]) - np.mean(sides[0]))
    (row,) = [one for one in readout(ACCEPTED, frames).novelty_days if one.day == 3]
    ratios = []
    for arm in ("control", "treatment"):
        top, base = (of_days(frames, name, 3, 4)[arm] for name in ("accepted", "answers"))
        ratios.append(100.0 * sum(v for v, _ in top.values()) / sum(v for v, _ in base.values()))
    assert row.absolute == pytest.approx(ratios[1] - ratios[0])

    (row,) = [
        one for one in readout(MINUTES, frames, randomisation_unit="class").novelty_days if one.day == 3
    ]
    clusters = dict(frames[0].select("unit_id", "cluster_id").iter_rows())
    variance, means = [], []
    for units in of_days(frames, "minutes", 3, 4).values():
        sums: dict[str, list[float]] = {}
        for unit, (value, _) in units.items():
            sums.setdefault(clusters[unit], []).append(value)
        mean = float(np.mean([value for value, _ in units.values()]))
        left = np.array([sum(values) - mean * len(values) for values in sums.values()])
        variance.append(left.size / (left.size - 1) * float(left @ left) / len(units) ** 2)
        means.append(mean)
    assert row.absolute == pytest.approx(means[1] - means[0])
    assert row.ci_lower is not None
    assert row.ci_upper is not None
    half = (row.ci_upper - row.ci_lower) / 2
    # Between the normal's 1.96 and a t of very few degrees of freedom.
    assert 1.96 < half / np.sqrt(sum(variance)) < 2.3


def test_the_split_is_a_difference_within_units() -> None:
    frames = world(half_life=5.0)
    (row,) = readout(MINUTES, frames, novelty={"split_days": 6}).novelty_splits
    early, late = of_days(frames, "minutes", 0, 6), of_days(frames, "minutes", 6, None)
    parts = []
    told = []
    for arm in ("control", "treatment"):
        units = sorted(set(early[arm]) & set(late[arm]))
        first = np.array([early[arm][unit][0] / 6 for unit in units])
        total = np.array([late[arm][unit][0] for unit in units])
        days = np.array([late[arm][unit][1] for unit in units], dtype=float)
        rate = total.sum() / days.sum()
        parts.append(rate + (total - rate * days) / days.mean() - first)
        told.append((first.mean(), rate))
    assert row.early == pytest.approx(told[1][0] - told[0][0])
    assert row.late == pytest.approx(told[1][1] - told[0][1])
    expected = stats.ttest_ind(parts[1], parts[0], equal_var=False)
    assert row.absolute == pytest.approx(parts[1].mean() - parts[0].mean())
    assert row.p_value == pytest.approx(expected.pvalue)
    assert row.ci_upper is not None
    assert row.ci_upper < 0.0


def test_the_split_of_a_share_takes_stretches_of_one_length() -> None:
    frames = world()
    (row,) = readout(SOLVED, frames, novelty={"split_days": 5}).novelty_splits
    assert row.until_day == 10
    early, late = of_days(frames, "solved", 0, 5), of_days(frames, "solved", 5, 10)
    told = []
    for arm in ("control", "treatment"):
        units = sorted(set(early[arm]) & set(late[arm]))
        told.append([np.mean([stretch[arm][unit][0] > 0 for unit in units]) for stretch in (early, late)])
    assert (row.early, row.late) == pytest.approx((told[1][0] - told[0][0], told[1][1] - told[0][1]))
    assert row.absolute == pytest.approx(row.late - row.early)  # type: ignore[operator]


def weekly(
    frames: tuple[pl.DataFrame, pl.DataFrame],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, treated, week, unit: a row a unit and whole week."""
    rows = []
    for week in range(4):
        for arm, units in of_days(frames, "minutes", 7 * week, 7 * week + 7).items():
            rows += [(value, arm == "treatment", week, int(unit[1:])) for unit, (value, _) in units.items()]
    table = np.array(rows, dtype=float)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def test_the_trend_is_a_weighted_line_through_the_weeks_by_unit() -> None:
    frames = world(half_life=6.0)
    (row,) = readout(MINUTES, frames).novelty_trend
    y, treated, week, unit = weekly(frames)
    cells = np.column_stack([week == place for place in range(4)]).astype(float)
    design = np.hstack([cells, cells * treated[:, None]])
    fit = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": unit.astype(int)})
    effects, covariance = fit.params[4:], fit.cov_params()[4:, 4:]
    sizes = np.array([[((week == w) & (treated == t)).sum() for t in (0, 1)] for w in range(4)], dtype=float)
    weight = sizes.prod(axis=1) / sizes.sum(axis=1)
    centred = np.arange(4) - (weight @ np.arange(4)) / weight.sum()
    slope = weight * centred / (weight @ centred**2)
    assert row.weeks == 4
    assert row.slope == pytest.approx(slope @ effects)
    assert row.slope_lower is not None
    assert row.slope_upper is not None
    error = (row.slope_upper - row.slope_lower) / 2 / 1.96
    # CR2 and t against statsmodels' CR1 and normal.
    assert error == pytest.approx(np.sqrt(slope @ covariance @ slope), rel=0.03)
    assert row.p_value is not None
    assert row.p_value < 1e-4
    assert row.steady is not None
    assert abs(row.steady) < abs(effects[0])


def test_the_steady_effect_is_read_from_the_week_that_the_brief_names() -> None:
    frames = world()
    (own,) = readout(MINUTES, frames).novelty_trend
    assert own.steady_from_week == 0
    assert own.constant_p_value is not None
    (row,) = readout(MINUTES, frames, novelty={"steady_from_week": 3}).novelty_trend
    y, treated, week, _ = weekly(frames)
    effects, weights = [], []
    for place in (2, 3):
        sides = [y[(week == place) & (treated == side)] for side in (0, 1)]
        effects.append(sides[1].mean() - sides[0].mean())
        weights.append(sides[0].size * sides[1].size / (sides[0].size + sides[1].size))
    assert row.steady == pytest.approx(np.average(effects, weights=weights))
    assert (row.steady_method, row.steady_from_week) == ("declared", 2)
    (none,) = readout(MINUTES, frames, novelty={"steady_from_week": 9}).novelty_trend
    assert none.steady is None
    assert "week 9" in none.steady_because


def test_what_has_no_days_says_so() -> None:
    mad, days = world()
    mad = mad.with_columns(latency__values=pl.Series([[1.0, 2.0 + p % 7] for p in range(N)]))
    found = readout(LATENCY, (mad, days))
    told = [(row.estimable, row.reason) for row in found.novelty_days]
    told += [(row.estimable, row.reason) for row in found.novelty_splits]
    told += [(row.estimable, row.reason) for row in found.novelty_trend]
    assert len(told) == 3
    assert all(not estimable and reason for estimable, reason in told)


def test_days_by_strata_and_the_cumulative_effect_hold_them_fixed() -> None:
    mad, days = world()
    # More of treatment in one stratum, whose units do more: ignoring strata is then another answer.
    heavy = mad["stratum"] == "s1"
    more = days.join(mad.select("unit_id", heavy.alias("heavy")), on="unit_id").with_columns(
        (pl.col("minutes") + 15.0 * pl.col("heavy")).alias("minutes")
    )
    sums = more.group_by("unit_id").agg(pl.col("minutes").sum().alias("more"))
    both = mad.join(sums, on="unit_id", how="left").with_columns(
        pl.col("more").fill_null(0.0).alias("minutes__num")
    )
    found = readout(MINUTES, (both, more.drop("heavy")), strata=("platform",))
    last = found.cumulative[-1]
    assert last.absolute == pytest.approx(found.unadjusted[0].absolute, rel=1e-9)
    assert last.ci_lower == pytest.approx(found.unadjusted[0].ci_lower, rel=1e-9)
    clustered = readout(MINUTES, (both, more.drop("heavy")), strata=("platform",), randomisation_unit="class")
    assert clustered.cumulative[-1].absolute == pytest.approx(clustered.unadjusted[0].absolute, rel=1e-9)
    assert clustered.cumulative[-1].ci_upper == pytest.approx(clustered.unadjusted[0].ci_upper, rel=1e-9)
    (day,) = [row for row in found.novelty_days if row.day == 2]
    values = of_days((both, more), "minutes", 2, 3)
    stratum = dict(both.select("unit_id", "stratum").iter_rows())
    rows = [(value, arm == "treatment", stratum[unit]) for arm, units in values.items()
            for unit, (value, _) in units.items()]  # fmt: skip
    y = np.array([row[0] for row in rows])
    design = np.column_stack(
        [[row[1] for row in rows]] + [[row[2] == s for row in rows] for s in ("s0", "s1", "s2")]
    )
    assert day.absolute == pytest.approx(np.linalg.lstsq(design.astype(float), y, rcond=None)[0][0])
