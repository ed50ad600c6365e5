"""A real landing-page test, from raw rows to a memo, against figures from the file itself.

A week of it is run day by day, the rest in one go: that both give the same bytes is tested here too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exp_pipeline.model.readout import IntegrityCheck, Readout
from exp_pipeline.steps.context import Workbench, event_day
from exp_pipeline.steps.experiments.chain import compute_readout, take_snapshot
from exp_pipeline.steps.experiments.readouts import MemoFiles, current_snapshot
from exp_pipeline.steps.experiments.starting import lock_if_started
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import received_days
from exp_pipeline.store.marts import Marts
from exp_pipeline_tests.real.places import (
    bench_over,
    exp,
    home_with,
    lake_digests,
    memo_of,
    real_file,
    run_days,
)

NAME = "landing-page"
TABLES = ("landed", "events", "quarantine", "exclusions", "learner_days", "sessions", "assignments",
          "exposures", "enrollments", "unit_days")  # fmt: skip
# As many days are run one by one, and compared with one run over them: a week, and a day of the next.
COMPARED = 8


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return pl.read_parquet(real_file("udacity_ab_excerpt.parquet"))


def land_by_day(raw: pl.DataFrame, home: Home) -> None:
    for (day,), rows in raw.group_by(pl.col("timestamp").str.slice(0, 10), maintain_order=True):
        folder = home.landing / f"received_date={day}"
        folder.mkdir()
        rows.write_parquet(folder / "visits.parquet")


@pytest.fixture(scope="module")
def home(raw: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with(NAME, tmp_path_factory.mktemp("landing-page"))
    land_by_day(raw, home)
    return home


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where the data folder is kept as it was after the first days; filled by `bench`."""
    return Home(tmp_path_factory.mktemp("early") / "home")


@pytest.fixture(scope="module")
def bench(home: Home, early: Home) -> Iterator[Workbench]:
    with bench_over(home) as bench:
        days = received_days(home.landing)
        for day in days[:COMPARED]:
            run_days(bench, [day])
            lock_if_started(bench, bench.catalog.briefs[NAME], datetime.now(UTC))
        shutil.copytree(home.root, early.root)
        run_days(bench, days[COMPARED:])
        yield bench


@pytest.fixture(scope="module")
def memo(bench: Workbench) -> MemoFiles:
    return memo_of(bench, NAME)


@pytest.fixture(scope="module")
def units(raw: pl.DataFrame) -> pl.DataFrame:
    """One row a user, made from the raw file alone: first arm by time, whether in both, whether converted."""
    return (
        raw.sort("timestamp")
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.col("group").first().alias("arm"),
            (pl.col("group").n_unique() > 1).alias("both"),
            pl.col("converted").max().alias("converted"),
        )
    )


def rows_of(bench: Workbench, table: str) -> pl.DataFrame:
    manifests = bench.lake.manifests(table, bench.lake.partitions(table))
    return pl.concat([pl.read_parquet(path) for path in bench.lake.paths(manifests)])


def check_of(readout: Readout, name: str) -> IntegrityCheck:
    return next(check for check in readout.integrity if check.name == name)


def newcombe(x1: int, n1: int, x0: int, n0: int) -> tuple[float, float]:
    """Newcombe's hybrid score interval of p1 - p0, from scipy's normal quantile and the textbook formula."""
    from scipy.stats import norm

    z = float(norm.ppf(0.975))

    def wilson(x: int, n: int) -> tuple[float, float]:
        p = x / n
        middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    p1, p0 = x1 / n1, x0 / n0
    (low1, high1), (low0, high0) = wilson(x1, n1), wilson(x0, n0)
    low = p1 - p0 - np.sqrt((p1 - low1) ** 2 + (high0 - p0) ** 2)
    return float(low), float(p1 - p0 + np.sqrt((high1 - p1) ** 2 + (p0 - low0) ** 2))


def test_every_row_becomes_two_events_or_three_and_none_is_lost(bench: Workbench, raw: pl.DataFrame) -> None:
    events = rows_of(bench, "events")
    counts = dict(events.group_by("event_name").len().iter_rows())
    assert counts == {
        "experiment_assigned": raw.height,
        "experiment_exposed": raw.height,
        "goal_reached": int(raw["converted"].sum()),
    }
    assert rows_of(bench, "quarantine").height == rows_of(bench, "exclusions").height == 0
    assert rows_of(bench, "landed").height == events.height
    assert events["learner_id"].n_unique() == raw["user_id"].n_unique()


def test_naive_times_are_taken_as_utc(bench: Workbench, raw: pl.DataFrame) -> None:
    by_day = dict(
        rows_of(bench, "assignments").group_by("event_date").agg(pl.col("n_logged").sum()).iter_rows()
    )
    in_file = raw.group_by(pl.col("timestamp").str.slice(0, 10).str.to_date().alias("day")).len()
    assert by_day == dict(in_file.iter_rows())


def test_the_memo_counts_units_by_their_first_arm(memo: MemoFiles, units: pl.DataFrame) -> None:
    own = dict(units.group_by("arm").len().iter_rows())
    counts = {count.arm: count for count in memo.readout.counts}
    assert {arm: count.assigned for arm, count in counts.items()} == own
    assert {arm: count.analysed for arm, count in counts.items()} == own
    # The excerpt's own figures, so that a change in how units are found cannot pass unseen.
    assert own == {"control": 28833, "treatment": 28847}


def test_it_finds_the_users_who_saw_both_arms(memo: MemoFiles, units: pl.DataFrame) -> None:
    check = check_of(memo.readout, "contamination")
    assert check.numbers["contaminated"] == int(units["both"].sum()) == 71
    assert check.verdict == "warn"
    assert "71 of 57,680" in check.evidence
    by_arm = dict(units.filter("both").group_by("arm").len().iter_rows())
    assert {count.arm: count.contaminated for count in memo.readout.counts} == by_arm
    assert "71 of 57,680" in memo.markdown.read_text()


def test_a_stricter_limit_stops_the_readout(bench: Workbench, memo: MemoFiles) -> None:
    brief = bench.catalog.briefs[NAME].model_copy(update={"contamination_limit": 0.001})
    strict = replace(bench, catalog=replace(bench.catalog, briefs={NAME: brief}))
    snapshot = take_snapshot(strict, NAME)
    readout = compute_readout(strict, NAME, snapshot.snapshot)
    take_snapshot(bench, NAME)
    assert snapshot.snapshot != memo.snapshot
    assert check_of(readout, "contamination").verdict == "fail"
    assert readout.decision.outcome == "investigate"
    assert readout.estimates == ()


def test_its_effect_is_the_one_in_the_file(memo: MemoFiles, units: pl.DataFrame) -> None:
    converted = dict(units.group_by("arm").agg(pl.col("converted").sum()).iter_rows())
    n = dict(units.group_by("arm").len().iter_rows())
    (row,) = memo.readout.estimates
    x1, n1, x0, n0 = converted["treatment"], n["treatment"], converted["control"], n["control"]
    assert (row.n_treatment, row.n_control) == (n1, n0)
    assert row.mean_treatment == pytest.approx(x1 / n1, abs=1e-12)
    assert row.mean_control == pytest.approx(x0 / n0, abs=1e-12)
    assert row.absolute == pytest.approx(x1 / n1 - x0 / n0, abs=1e-12)
    assert (row.ci_lower, row.ci_upper) == pytest.approx(newcombe(x1, n1, x0, n0), abs=1e-9)
    # The memo of this excerpt: 12.20 % and 11.93 %, -0.27 points (-0.80 to +0.26), no effect.
    assert row.absolute == pytest.approx(-0.002694, abs=5e-7)
    assert (row.ci_lower, row.ci_upper) == pytest.approx((-0.008010, 0.002623), abs=5e-7)


def test_its_interval_agrees_with_other_software(memo: MemoFiles, units: pl.DataFrame) -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    (row,) = memo.readout.estimates
    counts = units.group_by("arm").agg(pl.col("converted").sum(), pl.len())
    (x1, n1), (x0, n0) = (counts.filter(arm=arm).row(0)[1:] for arm in ("treatment", "control"))
    low, high = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb", compare="diff")
    assert (row.ci_lower, row.ci_upper) == pytest.approx((low, high), abs=1e-9)
    # Another test of the same null: at these sizes the two p-values differ in the fourth decimal at most.
    score = test_proportions_2indep(x1, n1, x0, n0, method="score", compare="diff")
    assert row.p_value == pytest.approx(score.pvalue, abs=1e-3)


def test_the_sample_ratio_is_that_of_the_file(memo: MemoFiles, units: pl.DataFrame) -> None:
    from scipy.stats import chisquare

    for name in ("sample_ratio_assigned", "sample_ratio_exposed", "sample_ratio_analysed"):
        check = check_of(memo.readout, name)
        expected = float(chisquare(units.group_by("arm").len()["len"].to_numpy()).pvalue)
        assert check.verdict == "pass"
        assert check.numbers["p_value"] == pytest.approx(expected, abs=1e-9)


def test_the_null_effect_is_decided_as_one(memo: MemoFiles) -> None:
    """The interval's upper end, +0.26 points, lies below the planned effect of one point."""
    assert not memo.readout.blinded
    assert check_of(memo.readout, "lock").verdict == "pass"
    assert memo.readout.estimates[0].confirmatory
    assert memo.readout.decision.outcome == "stop"
    assert "ruled out" in memo.readout.decision.summary


def test_without_the_contaminated_it_says_the_same(memo: MemoFiles, units: pl.DataFrame) -> None:
    row = next(row for row in memo.readout.robustness if row.variant == "without contaminated units")
    clean = units.filter(~pl.col("both"))
    rates = dict(clean.group_by("arm").agg(pl.col("converted").mean()).iter_rows())
    assert row.n == clean.height == 57609
    assert row.absolute == pytest.approx(rates["treatment"] - rates["control"], abs=1e-12)


def test_pages_that_do_not_fit_their_group_are_seen_in_the_exposures(
    bench: Workbench, raw: pl.DataFrame
) -> None:
    page = {"control": "old_page", "treatment": "new_page"}
    seen = rows_of(bench, "exposures").with_columns(pl.col("arm").replace_strict(page).alias("meant"))
    by_arm = seen.filter(pl.col("surface") != pl.col("meant")).group_by("arm").agg(pl.col("exposures").sum())
    wrong = raw.filter(pl.col("landing_page") != pl.col("group").replace_strict(page))
    assert dict(by_arm.iter_rows()) == dict(wrong.group_by("group").len().iter_rows())
    assert int(by_arm["exposures"].sum()) == wrong.height == 791


def test_one_run_over_the_range_writes_the_same_bytes(
    bench: Workbench, early: Home, raw: pl.DataFrame, tmp_path: Path
) -> None:
    """Dagster, all days in one run, against the steps called day by day: every data file is the same."""
    home = home_with(NAME, tmp_path / "range")
    days = received_days(bench.home.landing)[:COMPARED]
    land_by_day(raw.filter(pl.col("timestamp").str.slice(0, 10) <= days[-1].isoformat()), home)
    assert received_days(home.landing) == days
    done = exp(home, "run", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    with bench_over(home) as other, bench_over(early) as own:
        by_day, in_one = lake_digests(own, TABLES), lake_digests(other, TABLES)
        snapshots = [
            Marts(one.home.marts).folder(NAME, name)
            for one, name in (
                (own, take_snapshot(own, NAME).snapshot),
                (other, current_snapshot(other, NAME)),
            )
        ]
    assert {f"events/{event_day(day)}" for day in days} <= set(by_day)
    assert in_one == by_day
    ours, others = (
        {path.name: path.read_bytes() for path in folder.glob("*.parquet")} for folder in snapshots
    )
    assert ours == others
    assert {"mad.parquet", "days.parquet", "assigned.parquet", "exposure_dose.parquet"} <= set(ours)
