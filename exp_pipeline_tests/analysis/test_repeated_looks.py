from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Readout
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.looks.group_sequential import SequentialLook, SpendingPlan, sequential_look
from exp_pipeline.stats.results import Effect
from exp_pipeline_tests.analysis.builders import END, START, brief_of, inputs_of, metric_of, units_table

LOOKS = (START + timedelta(days=7), START + timedelta(days=14), START + timedelta(days=21))
SOLVED = metric_of("solved")


def spending_brief(**changes: Any) -> Brief:
    # 28 days of 100 units make 2,800 planned units of both arms.
    given = {"looks": LOOKS, "stopping": {"rule": "obrien_fleming"}, "expected_units_per_day": 100}
    return brief_of(**(given | changes))


def world(lift: float, *, through: date, seed: int = 3) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Units assigned before `through`, 100 a day, and their days: each solved, or not, on its first day."""
    random = np.random.default_rng(seed)
    n = 100 * (through - START).days
    arms = ["control", "treatment"] * (n // 2)
    solved = (random.random(n) < np.where(np.arange(n) % 2, 0.4 + lift, 0.4)).astype(float)
    days = [START + timedelta(days=position // 100) for position in range(n)]
    moments = pl.Series([datetime(day.year, day.month, day.day, 9) for day in days], dtype=pl.Datetime("us"))
    table = units_table(
        arms,
        assigned_at=moments,
        assigned_date=pl.Series(days, dtype=pl.Date),
        first_exposed_at=moments,
        solved__num=solved,
    )
    facts = table.select("unit_id", pl.col("assigned_date").alias("event_date"), solved=pl.Series(solved))
    return table, facts


def at_look(brief: Brief, complete: date, lift: float) -> Readout:
    table, facts = world(lift, through=complete)
    last = complete - timedelta(days=1)
    return read_out(inputs_of(brief, {"solved": SOLVED}, table, as_of=last, days=facts))


def effect_through(complete: date, lift: float) -> Effect:
    table, _ = world(lift, through=END)
    seen = table.filter(pl.col("assigned_date") < complete)
    counts = [
        (int(part["solved__num"].sum()), part.height)
        for part in (seen.filter(pl.col("arm") == arm) for arm in ("control", "treatment"))
    ]
    effect = difference_in_proportions(*counts[0], *counts[1])
    assert isinstance(effect, Effect)
    return effect


def row_of(readout: Readout) -> Any:
    """The primary's row; its numbers may be None, which no test here expects."""
    return readout.estimates[0]


def look_of(effects: Sequence[Effect], **rest: Any) -> SequentialLook:
    found = sequential_look(SpendingPlan(planned_n=2800, family="obrien-fleming"), effects, **rest)
    assert isinstance(found, SequentialLook)
    return found


def test_second_look_has_the_interval_of_both_looks() -> None:
    row = row_of(at_look(spending_brief(), LOOKS[1], 0.0))
    effects = [effect_through(look, 0.0) for look in LOOKS[:2]]
    expected = look_of(effects)
    assert row.look == 2
    assert (row.look_lower, row.look_upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)
    assert row.look_alpha_spent == pytest.approx(expected.alpha_spent, rel=1e-9)
    assert row.look_lower < row.ci_lower < row.ci_upper < row.look_upper
    # Nothing was found and more looks will come: nothing has stopped.
    assert row.stopped_estimate is None


def test_effect_found_early_ships_on_its_look_and_is_not_exaggerated() -> None:
    readout = at_look(spending_brief(), LOOKS[1], 0.15)
    row = row_of(readout)
    assert readout.decision.outcome == "ship"
    assert "interval for look 2" in readout.model_dump_json()
    assert row.stopped_lower < row.stopped_estimate < row.stopped_upper
    assert row.stopped_estimate < row.absolute


def test_horizon_spends_what_is_left() -> None:
    row = row_of(at_look(spending_brief(), END, 0.0))
    assert row.look == 4
    assert row.look_alpha_spent == pytest.approx(0.05, abs=1e-12)
    assert row.stopped_estimate is not None


def test_late_horizon_is_one_look_not_two() -> None:
    table, facts = world(0.0, through=END)
    late = END + timedelta(days=4)
    row = row_of(read_out(inputs_of(spending_brief(), {"solved": SOLVED}, table, as_of=late, days=facts)))
    assert row.look == 4


def test_units_whose_window_was_open_at_a_look_did_not_count_then() -> None:
    table, facts = world(0.0, through=END)
    weekly = metric_of("solved", window_days=7)
    mature = table.with_columns(
        solved__mature=pl.col("assigned_date") + pl.duration(days=7) <= END + timedelta(days=7)
    )
    brief = spending_brief()
    last = END + timedelta(days=6)
    with_window = row_of(read_out(inputs_of(brief, {"solved": weekly}, mature, as_of=last, days=facts)))
    # The units of a look's last seven days but one were not through: 1, 8 and 15 days of units counted.
    expected = look_of([effect_through(END, 0.0)], final=True, earlier_n=(100, 800, 1500))
    assert with_window.look_lower == pytest.approx(expected.lower, abs=1e-6)


def test_without_spending_nothing_changes() -> None:
    row = row_of(at_look(brief_of(looks=LOOKS), LOOKS[1], 0.0))
    assert row.look is None
    assert row.look_lower is None
    assert row.always_valid_lower is not None


def test_unplanned_look_has_no_interval_of_a_plan() -> None:
    table, facts = world(0.15, through=LOOKS[1])
    last = LOOKS[1] - timedelta(days=3)
    readout = read_out(
        inputs_of(
            spending_brief(),
            {"solved": SOLVED},
            table,
            as_of=last,
            days=facts,
            unblinded_because="a teacher reported an error in the examples",
        )
    )
    assert row_of(readout).look is None
    assert readout.decision.outcome == "extend"


def test_spending_needs_planned_units() -> None:
    with pytest.raises(ValueError, match="expected_units_per_day"):
        spending_brief(expected_units_per_day=None)
