"""While a readout is blinded nothing in it depends on the outcomes of treatment, whatever field it is in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm, Brief, Family
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Readout
from exp_pipeline_tests.analysis.builders import LAST_DAY, START, brief_of, inputs_of, metric_of, units_table

METRICS = {
    "minutes": metric_of("minutes", type="mean", display="minutes"),
    "solved": metric_of("solved"),
    "score": metric_of("score", type="mean", display="number"),
    "errors": metric_of(
        "errors", type="count_rate", denominator="sessions", direction="decrease", display="number"
    ),
    "cost": metric_of("cost", type="mean", direction="decrease", display="usd"),
}
THREE = (Arm(name="control", share=0.5), Arm(name="a", share=0.25), Arm(name="b", share=0.25))
BRIEF = brief_of(
    primary="minutes",
    arms=THREE,
    secondary=("solved", "score"),
    families=(Family(name="further", metrics=("score",), after=None),),
    counter_metrics=("cost",),
    guardrails=({"metric": "errors", "margin": 0.2},),
    segments=({"column": "platform", "floor": {"absolute": -50.0}},),
    comparisons="all",
    missing_data="bounds",
    mde={"relative": 0.1},
    value={"value_per_unit": 2.0, "cost_per_unit": 0.1, "eligible_population": 1000},
    variance_reduction={"method": "cuped", "covariates": ("minutes",)},
)
LOOKING = brief_of(
    **{
        name: getattr(BRIEF, name)
        for name in ("primary", "arms", "segments", "mde", "value", "comparisons", "secondary", "guardrails")
    },
    looks=(START + timedelta(days=10), START + timedelta(days=20)),
    stopping={"rule": "obrien_fleming"},
    expected_units_per_day=20,
)

# What a blinded readout may hold, and what must then be empty. A new field belongs into one of the two.
OPEN = {
    "schema_version", "experiment", "brief", "as_of", "horizon_reached", "blinded", "blinding_reason",
    "unblinded_because", "unblindings", "method", "lock", "counts", "sample_ratio", "sample_ratio_groups",
    "integrity", "estimates", "unadjusted", "guardrails", "power", "exclusions", "left_out", "decision",
    "limits", "next_steps", "since_last", "provenance",
}  # fmt: skip
HIDDEN = {
    "segments", "segment_differences", "shrunken", "compliance", "arms_compared", "arms_difference",
    "families", "cumulative", "novelty", "novelty_days", "novelty_contrasts", "novelty_splits",
    "novelty_trend", "robustness", "impact",
}  # fmt: skip


def world(*, seed: int = 4, lift: float = 0.0, n: int = 480) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three arms with every kind of fact; the outcomes of treatment units move by `lift`, and in spread."""
    rng = np.random.default_rng(seed)
    names = np.array(["control", "a", "control", "b"])[np.arange(n) // 56 % 2 * 2 + np.arange(n) % 2]
    treated = names != "control"
    before = rng.normal(20, 5, n)
    noise = rng.normal(0, 3, n)
    minutes = before + noise * np.where(treated, 1.0 + lift / 10, 1.0) + lift * treated
    chance = rng.random(n)
    rows = []
    age = np.arange(n) // 2 % 28
    for unit in range(n):
        for step in range(0, 28 - age[unit], 3):
            share = minutes[unit] / len(range(0, 28 - age[unit], 3))
            rows.append((f"u{unit:06d}", START + timedelta(days=int(age[unit]) + step), share))
    days = pl.DataFrame(rows, schema=["unit_id", "event_date", "minutes"], orient="row").with_columns(
        solved=pl.lit(0), score=pl.lit(1.0), errors=pl.lit(0), sessions=pl.lit(1), cost=pl.lit(0.1)
    )
    missing = np.arange(n) % 40 == 7
    mad = units_table(
        [str(name) for name in names],
        minutes__num=[None if gone else float(one) for one, gone in zip(minutes, missing, strict=True)],
        solved__num=(chance < 0.4 + 0.05 * lift * treated).astype(float),
        score__num=before + lift * treated + noise,
        errors__num=rng.poisson(0.2, n).astype(float),
        errors__den=(rng.poisson(3, n) + 1).astype(float),
        cost__num=1.0 + rng.random(n) + lift * treated,
        pre__minutes=before,
        segment__platform=[["web", "ios", "tv"][place // 8 % 3] for place in range(n)],
    )
    return mad, days


def inputs(lift: float, as_of: Any, brief: Brief = BRIEF) -> ReadoutInputs:
    mad, days = world(lift=lift)
    metrics: dict[str, Metric] = {name: METRICS[name] for name in brief.metric_names()}
    return inputs_of(brief, metrics, mad, days=days, as_of=as_of)


def test_every_field_of_a_readout_is_either_open_or_hidden() -> None:
    assert set(Readout.model_fields) == OPEN | HIDDEN
    assert not OPEN & HIDDEN


@pytest.mark.parametrize("brief", [BRIEF, LOOKING], ids=["plain", "spending"])
def test_hidden_fields_are_filled_at_the_horizon_and_empty_before(brief: Brief) -> None:
    whole = read_out(inputs(2.0, LAST_DAY, brief))
    assert not whole.blinded
    unfilled = {name for name in HIDDEN if not getattr(whole, name)}
    assert unfilled == set(), "this test must fill what it looks for"
    early = read_out(inputs(2.0, START + timedelta(days=15), brief))
    assert early.blinded
    assert {name for name in HIDDEN if getattr(early, name)} == set()
    assert {row.role for row in (*early.estimates, *early.unadjusted)} == {"guardrail"}


@pytest.mark.parametrize("brief", [BRIEF, LOOKING], ids=["plain", "spending"])
def test_no_byte_of_a_blinded_readout_moves_with_the_outcomes_of_treatment(brief: Brief) -> None:
    early = START + timedelta(days=15)
    found = [read_out(inputs(lift, early, brief)) for lift in (0.0, 2.0, -40.0)]
    # Power rests on all units together, whichever arm they are in: see the next test.
    none, some, much = (
        one.model_copy(
            update={
                "power": None,
                "limits": tuple(limit for limit in one.limits if "% power" not in limit),
            }
        ).canonical_json()
        for one in found
    )
    assert none == some == much
    # The same change is seen everywhere once effects are.
    shown = [read_out(inputs(lift, LAST_DAY, brief)) for lift in (0.0, 2.0)]
    for name in HIDDEN - {"families"}:
        assert getattr(shown[0], name) != getattr(shown[1], name), name


def test_power_while_blinded_does_not_know_which_unit_is_in_which_arm() -> None:
    early = START + timedelta(days=15)
    given = inputs(4.0, early)
    told = []
    for seed in (None, 1, 2):
        mad = given.mad.sort("unit_id")
        own = ["minutes__num", "pre__minutes", "assigned_at", "assigned_date", "first_exposed_at"]
        if seed is not None:
            # Outcomes with all that belongs to them go to other units, and so to other arms.
            order = np.random.default_rng(seed).permutation(mad.height)
            mad = mad.with_columns(mad.select(own)[order])
        found = read_out(inputs_of(BRIEF, given.metrics, mad, days=given.days, as_of=early))
        assert found.blinded
        assert found.power is not None
        told.append(found.power.model_dump(exclude={"note", "observed_units_per_arm"}))
    for other in told[1:]:
        assert other == pytest.approx(told[0], rel=0.02)  # arms have a unit more or less with a value


@pytest.mark.parametrize("brief", [BRIEF, LOOKING], ids=["plain", "spending"])
@pytest.mark.parametrize("clustered", [False, True])
def test_the_same_rows_in_another_order_give_the_same_bytes(brief: Brief, clustered: bool) -> None:
    given = inputs(2.0, LAST_DAY, brief)
    mad, days = given.mad, given.days
    assert days is not None
    if clustered:
        brief = Brief.model_validate(brief.model_dump() | {"randomisation_unit": "class"})
        arm = pl.col("arm")
        mad = mad.with_columns(
            pl.concat_str(arm, (pl.int_range(pl.len()) // 8).cast(pl.String)).alias("cluster_id")
        )
    metrics = given.metrics
    written = []
    for seed in (None, 1, 2):
        rows = [frame if seed is None else frame.sample(fraction=1.0, shuffle=True, seed=seed)
                for frame in (mad, days)]  # fmt: skip
        found = read_out(inputs_of(brief, metrics, rows[0], days=rows[1]))
        assert not found.blinded, found.blinding_reason
        written.append(found.canonical_json())
    assert written[0] == written[1] == written[2]
