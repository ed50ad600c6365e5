"""While a ramp goes up, who was let in when is judged by its log; nobody changes arm."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.model.ramps import RampEntry, traffic_at
from exp_pipeline.steps.assignment.fidelity import FLAG_LAG, assigned_units, fidelity_of, shares_in_force
from exp_pipeline.steps.operating import ramps
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline_tests.analysis.builders import START
from exp_pipeline_tests.analysis.ramps.ramp_samples import at, entry
from exp_pipeline_tests.steps.benches import assigned, commit_rows
from exp_pipeline_tests.steps.ramp_worlds import (
    DAY,
    STAGES,
    bench_over,
    judge_days,
    make_ready,
    moment,
    ramped,
)

UNITS = [f"unit-{number}" for number in range(1500)]


@pytest.mark.parametrize("scheme", ["flagd-v2", "growthbook", "sha256-v1"])
def test_units_come_in_at_the_stage_of_their_day_and_keep_their_arm(tmp_path: Path, scheme: str) -> None:
    brief = ramped(hash_scheme=scheme)
    with bench_over(tmp_path, [brief]) as bench:
        judge_days(bench, [brief], START - DAY, START + 3 * DAY)
        make_ready(bench, brief, START - DAY)
        rows: list[dict[str, Any]] = []
        arms: dict[str, str] = {}
        for day, stage in enumerate(STAGES):
            ramps.tick(bench, moment(day, 0))
            for unit in UNITS:
                arm = arm_of(brief.name, 1, unit, brief.shares(), scheme=scheme, traffic=stage.traffic)
                if arm is None:
                    assert unit not in arms, "a unit that came in earlier must stay"
                    continue
                assert arms.setdefault(unit, arm) == arm
                rows.append(_row(brief, unit, arm, moment(day)))
        commit_rows(bench, "assignments", rows)
        found = fidelity_of(brief, assigned_units(bench, brief))
        assert found is not None
        assert (found.checked, found.mismatched, found.stage_unknown) == (len(arms), 0, 0)
        # The same units a day too early are not let in yet.
        early = [_row(brief, unit, arm, moment(0)) for unit, arm in arms.items()]
        commit_rows(bench, "assignments", early)
        judged = fidelity_of(brief, assigned_units(bench, brief, until=START + DAY))
        assert judged is not None
        let_in = sum(
            arm_of(brief.name, 1, unit, brief.shares(), scheme=scheme, traffic=0.01) is not None
            for unit in arms
        )
        assert judged.faults == {"outside_traffic": len(arms) - let_in}


def test_after_a_stop_nobody_comes_in_but_while_products_catch_up(tmp_path: Path) -> None:
    brief = ramped(ramp=(STAGES[3],))
    inside = [
        unit for unit in UNITS if arm_of(brief.name, 1, unit, brief.shares(), scheme="flagd-v2", traffic=0.5)
    ]
    with bench_over(tmp_path, [brief]) as bench:
        judge_days(bench, [brief], START - DAY, START)
        make_ready(bench, brief, START - DAY)
        ramps.tick(bench, moment(0, 0))
        ramps.pause(bench, brief.name, by="us", reason="to see", now=moment(0, 12))
        rows = []
        for place, unit in enumerate(inside[:90]):
            arm = arm_of(brief.name, 1, unit, brief.shares(), scheme="flagd-v2", traffic=0.5)
            rows.append(_row(brief, unit, str(arm), moment(0, 11 + place % 3, 30)))
        commit_rows(bench, "assignments", rows)
        found = fidelity_of(brief, assigned_units(bench, brief))
        assert found is not None
        # Of those at 11:30, 12:30 and 13:30 only the last came after the hour that products may take.
        assert (found.checked, found.faults) == (90, {"outside_traffic": 30})


def _row(brief: Any, unit: str, arm: str, when: datetime) -> dict[str, Any]:
    whole = brief.model_copy(update={"traffic": 1.0})
    return assigned(whole, unit, arm=arm, assigned_at=when.replace(tzinfo=None))


@given(
    entries=st.lists(
        st.tuples(st.sampled_from(["advance", "pause"]), st.integers(1, 200)), min_size=1, max_size=8
    ),
    asked=st.integers(-60, 1800),
)
def test_the_share_in_force_is_the_largest_of_the_last_hour(
    entries: list[tuple[str, int]], asked: int
) -> None:
    log: list[RampEntry] = []
    now = at(0, 0)
    for number, (action, minutes) in enumerate(entries, start=1):
        now += timedelta(minutes=minutes)
        log.append(entry(number, now, action, 1 + number % 4))
    when = at(0, 0) + timedelta(minutes=asked)
    table = shares_in_force(log)
    before = [share for since, share in table.iter_rows() if since <= when.replace(tzinfo=None)]
    minute, largest = when - FLAG_LAG, 0.0
    # A pause that came just as the hour began had ended what was before it.
    while minute <= when:
        largest = max(largest, traffic_at(log, minute))
        minute += timedelta(minutes=1)
    assert (before[-1] if before else 0.0) == largest
