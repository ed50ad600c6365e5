"""A short run of the simulation that holds planned power to what our estimators find."""

from __future__ import annotations

import numpy as np
import pytest

from bench.power_check import Kind, Row, check, kinds, table

KINDS = kinds()
# Those whose data are quickly drawn; four standard errors of so many runs are 6 points.
QUICK = [kind for kind in KINDS if kind.cost == 1 and kind.plan.n_total < 1000]
RUNS = 700


@pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.name)
def test_planned_power_comes_true(kind: Kind) -> None:
    row = check(kind, RUNS, np.random.SeedSequence(20260413))
    assert abs(row.simulated - row.planned) < 4.0 * row.error


def test_the_simulation_sees_a_plan_that_is_too_small() -> None:
    from dataclasses import replace

    kind = next(kind for kind in QUICK if kind.name == "mean, a fall")
    halved = replace(kind.plan, n_control=kind.plan.n_control // 2, n_treatment=kind.plan.n_treatment // 2)
    row = check(replace(kind, plan=halved), RUNS, np.random.SeedSequence(1))
    assert row.simulated < row.planned - 10.0 * row.error


def test_every_kind_is_in_the_table() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 20
    text = table([Row(kind.name, kind.plan.n_total, kind.plan.power, 0.8, 100) for kind in KINDS])
    assert all(kind.name in text for kind in KINDS)
