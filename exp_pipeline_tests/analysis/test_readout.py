"""Whole readouts: blinding, arms, clusters, days, bad data."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm
from exp_pipeline.model.readout import BriefChange, Estimate, IntegrityCheck, LockState, Readout
from exp_pipeline_tests.analysis.builders import (
    END,
    LAST_DAY,
    START,
    brief_of,
    inputs_of,
    locked,
    metric_of,
    ones,
    units_table,
)

METRICS = {
    "solved": metric_of("solved"),
    "minutes": metric_of("minutes", type="mean", display="minutes"),
    "accepted": metric_of("accepted", type="ratio", denominator="answers"),
    "errors": metric_of(
        "errors",
        type="count_rate",
        denominator="sessions",
        per=1000.0,
        direction="decrease",
        display="number",
    ),
    "latency": metric_of("latency", type="quantile", quantile=0.95, direction="decrease", display="ms"),
}


def everything(n: int = 400, *, lift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """Two equal arms with a value of every kind of metric."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    treated = np.tile([0.0, 1.0], n // 2)
    before = rng.normal(20, 5, n)
    answers = rng.poisson(6, n) + 1
    return units_table(
        arms,
        solved__num=(rng.random(n) < 0.4 + lift * treated).astype(float),
        minutes__num=before + rng.normal(0, 2, n) + 2 * lift * treated,
        accepted__num=rng.binomial(answers, 0.5).astype(float),
        accepted__den=answers.astype(float),
        errors__num=rng.poisson(0.2, n).astype(float),
        errors__den=(rng.poisson(3, n) + 1).astype(float),
        latency__values=[[float(v) for v in rng.lognormal(7, 0.3, 5)] for _ in range(n)],
        pre__minutes=before,
        segment__platform=["web", "web", "ios", "ios"] * (n // 4),
    )


def named(readout: Readout, name: str) -> IntegrityCheck:
    return {check.name: check for check in readout.integrity}[name]


def by_metric(readout: Readout) -> dict[str, Estimate]:
    return {row.metric: row for row in readout.estimates}


FULL = brief_of(
    secondary=("minutes", "accepted"),
    guardrails=(
        {"metric": "errors", "margin": 60.0},
        {"metric": "latency", "margin": 0.25, "margin_kind": "relative", "kill": {"action": "roll_back"}},
    ),
    segments=({"column": "platform"},),
    variance_reduction={"method": "cuped", "covariates": ("minutes",)},
)


def test_every_kind_of_metric_is_estimated() -> None:
    readout = read_out(inputs_of(FULL, METRICS, everything(lift=0.3)))
    rows = by_metric(readout)
    assert [row.metric for row in readout.estimates] == ["solved", "minutes", "accepted", "errors", "latency"]
    assert all(row.estimable for row in readout.estimates)
    assert rows["minutes"].method == "cuped"
    assert rows["minutes"].variance_reduction is not None
    # The covariate is the outcome but for noise of sd 2 on a spread of 5.
    assert rows["minutes"].variance_reduction > 0.8
    assert rows["errors"].mean_control == pytest.approx(50.0, abs=25.0)
    assert [(row.segment, row.segment_value) for row in readout.segments] == [
        ("platform", "ios"),
        ("platform", "web"),
    ]
    assert readout.decision.outcome == "ship"
    assert len(readout.method) >= 5


def test_before_the_horizon_only_guardrails_are_shown() -> None:
    readout = read_out(inputs_of(FULL, METRICS, everything(lift=0.3), as_of=START + timedelta(days=9)))
    assert readout.blinded
    assert {row.role for row in readout.estimates + readout.unadjusted} == {"guardrail"}
    hidden = (readout.segments, readout.cumulative, readout.robustness, readout.impact)
    assert not any(hidden)
    assert readout.decision.outcome == "extend"
    primary = by_metric(read_out(inputs_of(FULL, METRICS, everything(lift=0.3))))["solved"]
    written = readout.canonical_json()
    for secret in (primary.absolute, primary.mean_treatment, primary.p_value, primary.ci_lower):
        assert str(secret) not in written


def test_a_recorded_reason_unblinds_but_does_not_ship() -> None:
    early = START + timedelta(days=9)
    readout = read_out(
        inputs_of(FULL, METRICS, everything(lift=0.3), as_of=early, unblinded_because="board meeting")
    )
    assert not readout.blinded
    assert "board meeting" in readout.blinding_reason
    assert readout.decision.outcome == "extend"


def test_a_planned_look_opens_on_its_day_only() -> None:
    brief = brief_of(looks=(START + timedelta(days=10),))
    mad = everything(lift=0.0)
    blinded = [
        read_out(inputs_of(brief, METRICS, mad, as_of=START + timedelta(days=day))).blinded
        for day in (8, 9, 10)
    ]
    assert blinded == [True, False, True]


def test_an_end_moved_after_the_lock_does_not_unblind() -> None:
    early = date(2026, 3, 10)
    brief = brief_of(end=early)
    lock = locked(brief).model_copy(
        update={
            "changes": (BriefChange(field="end", locked_value=END.isoformat(), current_value="2026-03-10"),)
        }
    )
    readout = read_out(inputs_of(brief, METRICS, everything(lift=0.3), as_of=date(2026, 3, 9), lock=lock))
    assert readout.blinded
    assert not readout.horizon_reached


@pytest.mark.parametrize("was_locked", [True, False])
def test_a_brief_that_does_not_stand_is_exploratory_and_never_ships(was_locked: bool) -> None:
    change = BriefChange(field="alpha", locked_value="0.01", current_value="0.05")
    lock = LockState(
        locked_digest="a" * 64 if was_locked else None,
        current_digest="b" * 64,
        changes=(change,) if was_locked else (),
    )
    readout = read_out(inputs_of(FULL, METRICS, everything(lift=0.3), lock=lock))
    assert readout.decision.outcome == "investigate"
    assert not any(row.confirmatory for row in readout.estimates)
    assert named(readout, "lock").verdict == "warn"
    if was_locked:
        assert "alpha was 0.01 and is now 0.05" in named(readout, "lock").evidence


def test_contamination_above_the_limit_is_investigated() -> None:
    mad = everything(lift=0.3)
    few = mad.with_columns(pl.int_range(pl.len()).lt(2).alias("contaminated"))
    many = mad.with_columns(pl.int_range(pl.len()).lt(20).alias("contaminated"))
    warned, failed = (read_out(inputs_of(FULL, METRICS, frame)) for frame in (few, many))
    assert named(warned, "contamination").verdict == "warn"
    assert "without contaminated units" in {row.variant for row in warned.robustness}
    assert warned.counts[0].contaminated + warned.counts[1].contaminated == 2
    assert named(failed, "contamination").verdict == "fail"
    assert failed.decision.outcome == "investigate"


def test_nobody_exposed_is_investigated() -> None:
    mad = everything().with_columns(
        pl.lit(False).alias("exposed"),
        pl.lit(0).alias("exposures"),
        pl.lit(None, dtype=pl.Datetime("us")).alias("first_exposed_at"),
    )
    readout = read_out(inputs_of(FULL, METRICS, mad))
    assert named(readout, "exposure").verdict == "fail"
    assert readout.decision.outcome == "investigate"


def test_exposure_without_assignment_is_counted() -> None:
    mad = everything()
    stray = mad.head(30).with_columns(
        pl.lit(None, dtype=pl.String).alias("arm"), pl.concat_str(pl.lit("x"), "unit_id").alias("unit_id")
    )
    readout = read_out(inputs_of(FULL, METRICS, pl.concat([mad, stray])))
    assert named(readout, "exposure").numbers["exposed_not_assigned"] == 30
    assert named(readout, "exposure").verdict == "fail"
    assert sum(count.assigned for count in readout.counts) == mad.height


def test_one_arm_empty_and_arms_unknown_are_answered() -> None:
    mad = everything()
    alone = read_out(inputs_of(FULL, METRICS, mad.filter(pl.col("arm") == "control")))
    assert alone.decision.outcome == "investigate"
    assert named(alone, "sample_ratio_assigned").verdict == "fail"
    other = mad.with_columns(
        pl.when(pl.int_range(pl.len()) < 5).then(pl.lit("old-arm")).otherwise("arm").alias("arm")
    )
    strange = read_out(inputs_of(FULL, METRICS, other))
    assert "5 in 'old-arm'" in named(strange, "sample_ratio_assigned").evidence
    assert named(strange, "sample_ratio_assigned").verdict == "fail"


def test_a_mismatch_on_one_platform_is_found() -> None:
    mad = everything(2000)
    lost = (pl.col("segment__platform") == "ios") & (pl.col("arm") == "treatment")
    thinned = mad.filter(~lost | (pl.int_range(pl.len()).over("arm", "segment__platform") < 330))
    readout = read_out(inputs_of(FULL, METRICS, thinned))
    assert named(readout, "sample_ratio_groups").verdict == "fail"
    assert named(readout, "sample_ratio_groups").numbers["worst_group"] == "platform ios"
    assert "(all others fit)" in named(readout, "sample_ratio_groups").evidence


def test_units_whose_window_is_open_wait() -> None:
    mad = everything().with_columns((pl.int_range(pl.len()) >= 40).alias("solved__mature"))
    readout = read_out(inputs_of(FULL, METRICS, mad))
    row = readout.estimates[0]
    assert (row.waiting, row.n_control, row.n_treatment) == (40, 180, 180)
    assert [count.analysed for count in readout.counts] == [180, 180]


def receipts(*rows: tuple[str, str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["arm", "field", "value", "responses"], orient="row")


@pytest.mark.parametrize(
    ("rows", "may_differ", "verdict"),
    [
        ([("control", "model_version", "a", 900), ("treatment", "model_version", "a", 910)], (), "pass"),
        ([("control", "model_version", "a", 900), ("treatment", "model_version", "b", 910)], (), "fail"),
        (
            [("control", "model_version", "a", 900), ("treatment", "model_version", "b", 910)],
            ("model_version",),
            "pass",
        ),
        (
            [("control", "prompt_version", "p", 900), ("treatment", "prompt_version", "p", 910)],
            ("prompt_version",),
            "warn",
        ),
        (
            [
                ("control", "model_version", "a", 900),
                ("treatment", "model_version", "a", 905),
                ("treatment", "model_version", "b", 2),
            ],
            (),
            "warn",
        ),
        (
            [(arm, "model_version", value, 450) for arm in ("control", "treatment") for value in "ab"],
            (),
            "warn",
        ),
    ],
)
def test_versions_may_differ_only_where_the_brief_says(
    rows: list[tuple[str, str, str, int]], may_differ: tuple[str, ...], verdict: str
) -> None:
    brief = brief_of(receipt={"may_differ": may_differ})
    readout = read_out(inputs_of(brief, METRICS, everything(), receipts=receipts(*rows)))
    assert named(readout, "receipt").verdict == verdict


def test_an_event_that_one_arm_lost_fails() -> None:
    events = pl.DataFrame(
        [
            ("control", "tutor_session_started", 900, 190),
            ("treatment", "tutor_session_started", 300, 60),
            ("control", "hint_requested", 200, 90),
            ("treatment", "hint_requested", 10, 8),
        ],
        schema=["arm", "event_name", "events", "units"],
        orient="row",
    )
    readout = read_out(inputs_of(FULL, METRICS, everything(), completeness=events))
    check = named(readout, "completeness")
    assert (check.verdict, check.numbers["missing"], check.numbers["uneven"]) == ("fail", 1, 1)
    assert "hint_requested is uneven between the arms" in check.evidence


def test_fidelity_and_lateness_have_limits() -> None:
    for mismatched, verdict in ((0, "pass"), (3, "warn"), (9, "fail")):
        inputs = inputs_of(FULL, METRICS, everything(), fidelity_checked=400, fidelity_mismatched=mismatched)
        assert named(read_out(inputs), "fidelity").verdict == verdict
    for share, verdict in ((0.001, "pass"), (0.05, "warn"), (0.2, "fail")):
        assert (
            named(read_out(inputs_of(FULL, METRICS, everything(), late_share=share)), "freshness").verdict
            == verdict
        )


def test_units_lost_from_one_arm_fail() -> None:
    mad = everything(1000)
    gone = (pl.col("arm") == "treatment") & (pl.int_range(pl.len()).over("arm") < 60)
    readout = read_out(
        inputs_of(
            FULL,
            METRICS,
            mad.with_columns(pl.when(gone).then(None).otherwise("solved__num").alias("solved__num")),
        )
    )
    assert named(readout, "attrition").verdict == "fail"
    assert readout.decision.outcome == "investigate"


def test_arms_that_differed_before_are_found() -> None:
    mad = everything().with_columns(
        (pl.col("pre__minutes") + 3 * (pl.col("arm") == "treatment").cast(pl.Float64)).alias("pre__minutes")
    )
    assert named(read_out(inputs_of(FULL, METRICS, mad)), "covariate_balance").verdict == "fail"


def classes(n_classes: int = 24, size: int = 20, *, lift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    n = n_classes * size
    cluster = np.repeat(np.arange(n_classes), size)
    arms = np.where(cluster % 2 == 0, "control", "treatment")
    level = rng.normal(0, 0.1, n_classes)[cluster]
    solved = (rng.random(n) < np.clip(0.4 + level + lift * (arms == "treatment"), 0, 1)).astype(float)
    return units_table(
        list(arms), solved__num=solved, cluster_id=[f"class-{c:02d}" for c in cluster]
    ).with_columns(pl.lit(START).alias("assigned_date"), pl.lit(datetime(2026, 3, 2, 9)).alias("assigned_at"))


CLASSES = brief_of(randomisation_unit="class", icc=0.1)


def test_classes_are_counted_and_estimated_as_clusters() -> None:
    readout = read_out(inputs_of(CLASSES, METRICS, classes()))
    row = readout.estimates[0]
    assert (row.method, row.clusters) == ("cr2", 24)
    assert readout.sample_ratio[-1].counts == {"control": 12, "treatment": 12}
    check = named(readout, "sample_ratio_assigned")
    assert (check.numbers["n_control"], check.numbers["n_treatment"]) == (12, 12)
    assert "class" in check.evidence
    naive = {found.variant: found for found in readout.robustness}["ignoring clusters"]
    assert naive.ci_lower is not None
    assert naive.ci_upper is not None
    assert row.ci_lower is not None
    assert row.ci_upper is not None
    assert naive.ci_upper - naive.ci_lower < row.ci_upper - row.ci_lower


def facts(
    mad: pl.DataFrame, *, window: int | None = None, seed: int = 3
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Daily sums of solved, answers and accepted, and the dataset that they add up to."""
    rng = np.random.default_rng(seed)
    rows = []
    for unit, start in mad.select("unit_id", "assigned_date").iter_rows():
        for day in sorted({int(day) for day in rng.integers(0, 28, 6)}):
            when = START + timedelta(days=day)
            if when >= start:
                asked = int(rng.integers(1, 6))
                rows.append(
                    (unit, when, int(rng.random() < 0.3), asked, int(rng.binomial(asked, 0.5)), asked)
                )
    days = pl.DataFrame(
        rows, schema=["unit_id", "event_date", "solved", "answers", "accepted", "minutes"], orient="row"
    )
    inside = days.join(mad.select("unit_id", "assigned_date"), on="unit_id")
    if window:
        inside = inside.filter(pl.col("event_date") < pl.col("assigned_date") + pl.duration(days=window))
    totals = inside.group_by("unit_id").agg(pl.col("solved", "answers", "accepted", "minutes").sum())
    joined = mad.join(totals, on="unit_id", how="left").with_columns(
        pl.col("solved", "answers", "accepted", "minutes").fill_null(0)
    )
    full = joined.with_columns(
        pl.col("solved").cast(pl.Float64).alias("solved__num"),
        pl.col("accepted").alias("accepted__num"),
        pl.col("answers").alias("accepted__den"),
        pl.col("minutes").alias("minutes__num"),
    ).drop("solved", "answers", "accepted", "minutes")
    return full, days


@pytest.mark.parametrize("metric", ["solved", "minutes", "accepted"])
@pytest.mark.parametrize("window", [None, 7])
def test_the_last_day_of_the_cumulative_effect_is_the_unadjusted_estimate(
    metric: str, window: int | None
) -> None:
    mad, days = facts(everything(200).select(pl.exclude("^.*__(num|den|values)$")), window=window)
    metrics = {metric: METRICS[metric].model_copy(update={"window_days": window})}
    readout = read_out(inputs_of(brief_of(primary=metric), metrics, mad, days=days))
    last, row = readout.cumulative[-1], readout.unadjusted[0]
    assert last.day == LAST_DAY
    assert last.absolute == pytest.approx(row.absolute, rel=1e-9)
    assert last.ci_lower == pytest.approx(row.ci_lower, rel=1e-9)
    assert (last.n_control, last.n_treatment) == (row.n_control, row.n_treatment)


def test_each_day_of_the_cumulative_effect_is_the_estimate_on_the_data_so_far() -> None:
    mad, days = facts(everything(200).select(pl.exclude("^.*__(num|den|values)$")))
    readout = read_out(inputs_of(brief_of(primary="minutes"), METRICS, mad, days=days))
    for offset in (3, 11, 20):
        upto = START + timedelta(days=offset)
        present = mad.filter(pl.col("assigned_date") <= upto)
        sums = days.filter(pl.col("event_date") <= upto).group_by("unit_id").agg(pl.col("minutes").sum())
        values = present.join(sums, on="unit_id", how="left").with_columns(pl.col("minutes").fill_null(0))
        means = {
            arm: float(np.mean(values.filter(pl.col("arm") == arm)["minutes"].to_numpy()))
            for arm in ("control", "treatment")
        }
        point = next(point for point in readout.cumulative if point.day == upto)
        assert point.absolute == pytest.approx(means["treatment"] - means["control"])


def test_clusters_have_a_cumulative_effect_too() -> None:
    mad, days = facts(classes().drop("solved__num"))
    readout = read_out(inputs_of(CLASSES, METRICS, mad, days=days))
    last, row = readout.cumulative[-1], readout.estimates[0]
    assert last.absolute == pytest.approx(row.absolute, rel=1e-9)
    assert (last.n_control, last.n_treatment) == (row.n_control, row.n_treatment)


def shuffled(inputs: ReadoutInputs, seed: int, **changes: Any) -> ReadoutInputs:
    return inputs_of(
        changes.get("brief", inputs.brief),
        inputs.metrics,
        inputs.mad.sample(fraction=1.0, shuffle=True, seed=seed),
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.permutations(["control", "plain", "bold"]))
def test_order_of_rows_and_arms_changes_no_result(seed: int, order: list[str]) -> None:
    shares = {"control": 0.4, "plain": 0.3, "bold": 0.3}
    n = 200
    arms = ["control"] * 80 + ["plain"] * 60 + ["bold"] * 60
    mad = units_table(arms, solved__num=ones(30, 80) + ones(33, 60) + ones(25, 60), pre__solved=ones(90, n))
    first = brief_of(arms=tuple(Arm(name=arm, share=share) for arm, share in shares.items()))
    other = brief_of(arms=tuple(Arm(name=arm, share=shares[arm]) for arm in order))
    inputs = inputs_of(first, METRICS, mad)
    one, two = read_out(inputs), read_out(shuffled(inputs, seed, brief=other))
    assert read_out(shuffled(inputs, seed)).canonical_json() == one.canonical_json()
    assert {row.arm: row for row in one.estimates} == {row.arm: row for row in two.estimates}
    assert {c.arm: c.outcome for c in one.decision.arms} == {c.arm: c.outcome for c in two.decision.arms}
    assert one.decision.outcome == two.decision.outcome


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["control", "treatment"]),
            st.sampled_from([0.0, 1.0, None]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_no_small_table_raises(rows: list[tuple[str, float | None, bool, bool]]) -> None:
    n = len(rows)
    mad = units_table(
        [row[0] for row in rows],
        solved__num=pl.Series([row[1] for row in rows], dtype=pl.Float64),
        contaminated=pl.Series([row[2] for row in rows], dtype=pl.Boolean),
        exposed=pl.Series([row[3] for row in rows], dtype=pl.Boolean),
        pre__solved=pl.Series([float(position % 3) for position in range(n)], dtype=pl.Float64),
    )
    brief = brief_of(guardrails=(), variance_reduction={"method": "cuped"})
    readout = read_out(inputs_of(brief, METRICS, mad))
    assert readout.decision.summary
    Readout.model_validate_json(readout.model_dump_json())


def test_segments_that_differ_are_said_to_differ() -> None:
    mad = everything(2000)
    ios = pl.col("segment__platform") == "ios"
    helped = (
        mad.with_row_index("row")
        .with_columns(
            pl.when(ios & (pl.col("arm") == "treatment") & (pl.col("row") % 3 == 1))
            .then(1.0)
            .otherwise("solved__num")
            .alias("solved__num")
        )
        .drop("row")
    )
    (alike,) = read_out(inputs_of(FULL, METRICS, mad)).segment_differences
    (differs,) = read_out(inputs_of(FULL, METRICS, helped)).segment_differences
    assert (alike.segment, alike.arm) == ("platform", "treatment")
    assert alike.p_value is not None
    assert alike.p_value > 0.05
    assert differs.p_value is not None
    assert differs.p_value < 0.01
    assert differs.spread is not None
    assert differs.spread > 0.0
    early = read_out(inputs_of(FULL, METRICS, helped, as_of=START + timedelta(days=3)))
    assert early.segment_differences == ()


def test_missing_values_bound_the_effect() -> None:
    mad = everything(2000).with_row_index("row")
    # As many leave in each arm: failures of treatment, anybody of control.
    failed = (pl.col("arm") == "treatment") & (pl.col("solved__num") == 0.0) & (pl.col("row") % 20 == 1)
    anybody = (pl.col("arm") == "control") & (pl.col("row") % 32 == 0)
    gone = failed | anybody
    lost = mad.with_columns(pl.when(gone).then(None).otherwise("solved__num").alias("solved__num")).drop(
        "row"
    )
    readout = read_out(inputs_of(FULL, METRICS, lost))
    rows = {row.variant: row for row in readout.robustness}
    lee, worst = rows["attrition bounds (Lee)"], rows["attrition, worst case"]
    for row in (lee, worst):
        assert row.ci_lower is not None
        assert row.ci_upper is not None
        assert row.ci_lower < 0.0 < row.ci_upper
    assert "weighted by the chance of a value" in rows
    whole = {row.variant for row in read_out(inputs_of(FULL, METRICS, everything(2000))).robustness}
    assert not any("attrition" in variant for variant in whole)
