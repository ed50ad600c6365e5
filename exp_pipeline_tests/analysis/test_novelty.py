"""Novelty: a planted decay is recovered, weeks agree with brute force, hidden effects stay hidden."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.novelty import novelty_of
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Readout
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect
from exp_pipeline_tests.analysis.builders import (
    LAST_DAY,
    START,
    brief_of,
    inputs_of,
    locked,
    metric_of,
    units_table,
)

MINUTES = metric_of("minutes", type="mean", display="minutes")
SOLVED = metric_of("solved")
ACCEPTED = metric_of("accepted", type="ratio", denominator="answers", per=100.0)
EFFECT_BY_WEEK = (4.0, 2.0, 1.0, 0.0)


def world(
    n: int = 600, *, seed: int = 3, spread: float = 1.0, effects: tuple[float, ...] = EFFECT_BY_WEEK
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Units enrolled over two weeks, half of them active on a day; the effect on minutes changes by week."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    enrolled = [START + timedelta(days=int(day)) for day in rng.integers(0, 14, n)]
    level = rng.normal(10, spread, n)
    rows: list[dict[str, Any]] = []
    for unit, (arm, first) in enumerate(zip(arms, enrolled, strict=True)):
        for step in range((LAST_DAY - first).days + 1):
            if step % 7 and rng.random() < 0.5:
                continue
            lift = effects[min(step // 7, len(effects) - 1)] if arm == "treatment" and step % 7 == 0 else 0.0
            answers = int(rng.poisson(2))
            rows.append(
                {
                    "unit_id": f"u{unit:06d}",
                    "event_date": first + timedelta(days=step),
                    "minutes": level[unit] + lift + rng.normal(0, spread),
                    "solved": int(rng.random() < 0.1),
                    "accepted": int(rng.binomial(answers, 0.5)),
                    "answers": answers,
                }
            )
    days = pl.DataFrame(rows)
    sums = days.group_by("unit_id").agg(
        pl.col(name).sum().cast(pl.Float64) for name in ("minutes", "solved", "accepted", "answers")
    )
    moments = [datetime(day.year, day.month, day.day, 9) for day in enrolled]
    mad = units_table(
        arms,
        assigned_at=pl.Series(moments, dtype=pl.Datetime("us")),
        first_exposed_at=pl.Series(moments, dtype=pl.Datetime("us")),
        assigned_date=pl.Series(enrolled, dtype=pl.Date),
        cluster_id=[f"c{unit // 20:03d}" for unit in range(n)],
    ).join(sums, on="unit_id", how="left")
    return (
        mad.with_columns(
            pl.col("minutes").alias("minutes__num"),
            pl.col("solved").alias("solved__num"),
            pl.col("accepted").alias("accepted__num"),
            pl.col("answers").alias("accepted__den"),
        ),
        days,
    )


def readout(brief: Brief, metric: Metric, mad: pl.DataFrame, days: pl.DataFrame, **more: Any) -> Readout:
    return read_out(inputs_of(brief, {metric.name: metric}, mad, days=days, **more))


def brute_force(
    mad: pl.DataFrame, days: pl.DataFrame, week: int, columns: tuple[str, ...], upto: date
) -> Mapping[str, Mapping[str, tuple[float, ...]]]:
    """arm -> unit -> sums of the week, one row and one day at a time."""
    found: dict[str, dict[str, tuple[float, ...]]] = {"control": {}, "treatment": {}}
    facts: dict[str, list[dict[str, Any]]] = {}
    for row in days.iter_rows(named=True):
        facts.setdefault(row["unit_id"], []).append(row)
    for unit in mad.iter_rows(named=True):
        begin = unit["assigned_date"] + timedelta(days=7 * week)
        if begin + timedelta(days=6) > upto:
            continue
        mine = [row for row in facts.get(unit["unit_id"], []) if 0 <= (row["event_date"] - begin).days < 7]
        found[unit["arm"]][unit["unit_id"]] = tuple(float(sum(row[c] for row in mine)) for c in columns)
    return found


def test_weeks_agree_with_brute_force_for_means() -> None:
    mad, days = world()
    points = readout(brief_of(primary="minutes"), MINUTES, mad, days).novelty
    assert [point.week for point in points] == [0, 1, 2, 3]
    sizes = []
    for point in points:
        arms = brute_force(mad, days, point.week, ("minutes",), LAST_DAY)
        sides = [
            Moments.from_array(np.array(list(arms[arm].values())), ["minutes"])
            for arm in ("control", "treatment")
        ]
        wanted = difference_in_means(sides[0], sides[1], outcome="minutes")
        assert isinstance(wanted, Effect)
        assert (point.n_control, point.n_treatment) == (wanted.n_control, wanted.n_treatment)
        assert point.absolute == pytest.approx(wanted.absolute)
        assert point.ci_lower == pytest.approx(wanted.ci_lower)
        assert point.ci_upper == pytest.approx(wanted.ci_upper)
        sizes.append(point.n_control + point.n_treatment)
    # Everybody has had two whole weeks, later weeks only those who came early.
    assert sizes[:2] == [600, 600]
    assert 600 > sizes[2] > sizes[3] > 0


def test_weeks_agree_with_brute_force_for_shares_and_ratios() -> None:
    mad, days = world()
    for metric, columns in ((SOLVED, ("solved",)), (ACCEPTED, ("accepted", "answers"))):
        points = readout(brief_of(primary=metric.name), metric, mad, days).novelty
        assert len(points) == 4
        for point in points:
            arms = brute_force(mad, days, point.week, columns, LAST_DAY)
            values = []
            for arm in ("control", "treatment"):
                parts = list(arms[arm].values())
                if metric is SOLVED:
                    values.append(sum(part[0] > 0 for part in parts) / len(parts))
                else:
                    values.append(100.0 * sum(part[0] for part in parts) / sum(part[1] for part in parts))
            assert point.absolute == pytest.approx(values[1] - values[0])


def test_a_planted_decay_is_recovered_and_its_contrast_covers_it() -> None:
    mad, days = world(n=2000, effects=EFFECT_BY_WEEK)
    found = readout(brief_of(primary="minutes"), MINUTES, mad, days)
    for point, truth in zip(found.novelty, EFFECT_BY_WEEK, strict=True):
        assert point.ci_lower is not None
        assert point.ci_upper is not None
        assert point.ci_lower < truth < point.ci_upper
    (contrast,) = found.novelty_contrasts
    assert (contrast.early_week, contrast.late_week) == (0, 3)
    assert contrast.absolute == pytest.approx((contrast.late or 0.0) - (contrast.early or 0.0))
    assert contrast.ci_lower is not None
    assert contrast.ci_upper is not None
    assert contrast.ci_lower < -4.0 < contrast.ci_upper < 0.0
    last = found.novelty[-1]
    assert (contrast.n_control, contrast.n_treatment) == (last.n_control, last.n_treatment)


def test_the_contrast_covers_a_steady_effect_as_often_as_promised() -> None:
    covered = 0
    brief = brief_of(primary="minutes", minimum_cell=1)
    setting = Setting(brief, "snapshot-1", locked(brief), clustered=False)
    for seed in range(40):
        mad, days = world(n=120, seed=seed, spread=3.0, effects=(1.0,))
        units = frame_of_units(mad, brief)
        primary = units_of_metric(units, MINUTES, brief)
        (contrast,) = novelty_of(setting, units, primary, days, upto=LAST_DAY).contrasts
        assert contrast.ci_lower is not None
        assert contrast.ci_upper is not None
        covered += contrast.ci_lower <= 0.0 <= contrast.ci_upper
    # 40 draws at 95 %: fewer than 34 has a chance of 0.3 %.
    assert covered >= 34


def test_ratios_change_by_the_difference_of_their_weeks() -> None:
    mad, days = world()
    (contrast,) = readout(brief_of(primary="accepted"), ACCEPTED, mad, days).novelty_contrasts
    late = brute_force(mad, days, 3, ("accepted", "answers"), LAST_DAY)
    early = brute_force(mad, days, 0, ("accepted", "answers"), LAST_DAY)
    value = {}
    for arm in ("control", "treatment"):
        for name, week in (("late", late), ("early", early)):
            parts = [week[arm][unit] for unit in late[arm]]
            value[arm, name] = 100.0 * sum(part[0] for part in parts) / sum(part[1] for part in parts)
    wanted = (value["treatment", "late"] - value["treatment", "early"]) - (
        value["control", "late"] - value["control", "early"]
    )
    assert contrast.absolute == pytest.approx(wanted)


def test_randomised_classes_give_the_uncertainty() -> None:
    mad, days = world()
    arm_of = pl.when(pl.col("cluster_id").str.slice(1).cast(pl.Int64) % 2 == 0)
    mad = mad.with_columns(arm_of.then(pl.lit("control")).otherwise(pl.lit("treatment")).alias("arm"))
    found = readout(brief_of(primary="minutes", randomisation_unit="class", icc=0.05), MINUTES, mad, days)
    assert len(found.novelty) == 4
    for point in found.novelty:
        arms = brute_force(mad, days, point.week, ("minutes",), LAST_DAY)
        both = [*arms["control"].items(), *arms["treatment"].items()]
        wanted = clustered_difference(
            [value[0] for _, value in both],
            [False] * len(arms["control"]) + [True] * len(arms["treatment"]),
            [int(unit[1:]) // 20 for unit, _ in both],
        )
        assert isinstance(wanted, Effect)
        assert point.absolute == pytest.approx(wanted.absolute)
        assert point.ci_upper == pytest.approx(wanted.ci_upper)
    (contrast,) = found.novelty_contrasts
    assert contrast.estimable


def test_blinded_readouts_have_none() -> None:
    mad, days = world()
    early = START + timedelta(days=20)
    blinded = readout(brief_of(primary="minutes"), MINUTES, mad, days, as_of=early)
    assert blinded.blinded
    assert blinded.novelty == ()
    assert blinded.novelty_contrasts == ()
    opened = readout(
        brief_of(primary="minutes"), MINUTES, mad, days, as_of=early, unblinded_because="asked by the board"
    )
    assert [point.week for point in opened.novelty] == [0, 1, 2]
    for point in opened.novelty:
        arms = brute_force(mad, days, point.week, ("minutes",), early)
        assert (point.n_control, point.n_treatment) == (len(arms["control"]), len(arms["treatment"]))


def test_the_order_of_rows_changes_nothing() -> None:
    mad, days = world(n=100)
    brief = brief_of(primary="minutes")
    one = readout(brief, MINUTES, mad, days)
    other = readout(brief, MINUTES, mad.sample(fraction=1.0, shuffle=True, seed=5), days.reverse())
    assert one.novelty == other.novelty
    assert one.novelty_contrasts == other.novelty_contrasts


def test_a_window_ends_the_weeks() -> None:
    mad, days = world(n=100)
    mad = mad.with_columns(pl.lit(True).alias("minutes__mature"))
    weeks = {
        window: readout(
            brief_of(primary="minutes"), MINUTES.model_copy(update={"window_days": window}), mad, days
        ).novelty
        for window in (5, 7, 15)
    }
    assert [point.week for point in weeks[15]] == [0, 1]
    assert [point.week for point in weeks[7]] == [0]
    assert [(point.estimable, point.absolute) for point in weeks[5]] == [(False, None)]
    assert "shorter than a week" in weeks[5][0].reason


def test_what_does_not_add_up_is_said_and_not_shown() -> None:
    mad, days = world(n=100)
    latency = metric_of("latency", type="quantile", quantile=0.95, direction="decrease", display="ms")
    slow = mad.with_columns(pl.Series("latency__values", [[1.0, 2.0, float(n)] for n in range(100)]))
    (point,) = readout(brief_of(primary="latency"), latency, slow, days).novelty
    assert not point.estimable
    assert "quantiles" in point.reason
    (contrast,) = readout(brief_of(primary="latency"), latency, slow, days).novelty_contrasts
    assert not contrast.estimable
    absent = readout(brief_of(primary="minutes"), MINUTES, mad, days.drop("minutes"))
    assert "the days hold no measure minutes" in absent.novelty[0].reason
    assert readout(brief_of(primary="minutes"), MINUTES, mad.clear(), days.clear()).novelty == ()


def test_too_few_units_for_a_second_week_is_said() -> None:
    mad, days = world(n=100)
    alone = readout(brief_of(primary="minutes", minimum_cell=40), MINUTES, mad, days)
    (contrast,) = alone.novelty_contrasts
    assert contrast.late_week == 1
    none = readout(brief_of(primary="minutes", minimum_cell=51), MINUTES, mad, days)
    assert "no second week holds 51 units" in none.novelty_contrasts[0].reason
