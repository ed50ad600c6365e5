"""A planted fault is the first cause that the integrity panel names; a world without fault names none."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.checks import equal_arms_check, integrity_checks
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.evidence import EqualArms, Exposures
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.readout import BriefChange, IntegrityCheck, LockState
from exp_pipeline_tests.analysis.builders import START, brief_of, inputs_of, metric_of, units_table

SEEDS = range(4)
N = 4000
METRICS = {"solved": metric_of("solved")}
SKELETON = (
    "experiment_exposed", "tutor_session_started", "tutor_turn_submitted", "tutor_turn_response_shown",
)  # fmt: skip
DAYS = [START + timedelta(days=offset) for offset in range(21)]


class World:
    """Units with a platform, a version, a stratum and a day, and what the snapshot counts of their events."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        random = self.random
        self.arm = np.array(["control", "treatment"])[random.integers(0, 2, N)]
        self.platform = random.choice(["android", "ios", "web"], N, p=[0.3, 0.2, 0.5])
        self.version = random.choice(["3.1", "3.2", "4.0"], N, p=[0.4, 0.3, 0.3])
        self.stratum = random.choice(["grade 5", "grade 6", "grade 7"], N)
        self.day = random.integers(0, len(DAYS), N)
        self.kept = np.ones(N, dtype=bool)
        self.columns: dict[str, Any] = {}
        self.active = np.ones(N, dtype=bool)
        self.more: dict[str, Any] = {}

    def lose(self, rows: np.ndarray[Any, np.dtype[np.bool_]], share: float = 0.5) -> None:
        """Units of treatment in these rows are not logged, by chance."""
        self.kept &= ~(rows & (self.arm == "treatment") & (self.random.random(N) < share))

    def mad(self) -> pl.DataFrame:
        moments = [datetime(2026, 3, 2, 9) + timedelta(days=int(day)) for day in self.day]
        columns = {
            "assigned_at": pl.Series(moments, dtype=pl.Datetime("us")),
            "assigned_date": pl.Series([moment.date() for moment in moments]),
            "first_exposed_at": pl.Series(moments, dtype=pl.Datetime("us")),
            "stratum": self.stratum,
            "segment__platform": self.platform,
            "segment__app_version": self.version,
            "solved__num": (self.random.random(N) < 0.4).astype(float),
            **self.columns,
        }
        return units_table(list(self.arm), **columns).filter(pl.Series(self.kept))

    def events(self) -> pl.DataFrame:
        """Events of the skeleton by arm, day, platform and version: about one a unit, day and kind."""
        rows = []
        for event in SKELETON:
            at = self.random.integers(0, len(DAYS), N)
            for unit in np.flatnonzero(self.kept & self.active):
                rows.append((self.arm[unit], event, DAYS[at[unit]], self.platform[unit], self.version[unit]))
        names = ["arm", "event_name", "event_date", "platform", "app_version"]
        return pl.DataFrame(rows, schema=names, orient="row")

    def receipts(self) -> pl.DataFrame:
        rows = [
            (arm, field, value, day, platform, 40)
            for arm in ("control", "treatment")
            for field, value in (("model_version", "m-1"), ("prompt_version", "p-1"))
            for day in DAYS
            for platform in ("android", "ios", "web")
        ]
        names = ["arm", "field", "value", "event_date", "platform", "responses"]
        return pl.DataFrame(rows, schema=names, orient="row")

    def inputs(self, events: pl.DataFrame | None = None, **changes: Any) -> ReadoutInputs:
        events = self.events() if events is None else events
        keys = ["arm", "event_name"]
        units = frame = self.mad()
        days = frame.filter(pl.Series(self.active[self.kept])).select(
            "unit_id", pl.col("assigned_date").alias("event_date"), pl.lit(1.0).alias("solved")
        )
        fields: dict[str, Any] = {
            "as_of": DAYS[-1],
            "days": days,
            "receipts": self.receipts(),
            "completeness": events.group_by(keys).agg(pl.len().alias("events"), pl.len().alias("units")),
            "completeness_days": events.group_by([*keys, "event_date", "platform", "app_version"]).agg(
                pl.len().alias("events")
            ),
            **self.more,
        }
        return inputs_of(changes.pop("brief", brief_of()), METRICS, units, **(fields | changes))


def panel(inputs: ReadoutInputs) -> dict[str, IntegrityCheck]:
    units = frame_of_units(inputs.mad, inputs.brief)
    primary = units_of_metric(units, inputs.metrics[inputs.brief.primary], inputs.brief)
    return {check.name: check for check in integrity_checks(inputs, units, primary)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_without_fault_names_no_cause(seed: int) -> None:
    found = panel(World(seed).inputs())
    assert {name: check.causes for name, check in found.items() if check.causes} == {}
    assert {check.verdict for check in found.values()} <= {"pass", "cannot_tell"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("column", "value", "where"),
    [
        ("platform", "android", "platform android"),
        ("version", "3.2", "app version 3.2"),
        ("stratum", "grade 6", "stratum grade 6"),
        ("day", 10, "on 2026-03-12"),
    ],
)
def test_the_place_of_a_sample_ratio_mismatch_is_named_first(
    seed: int, column: str, value: object, where: str
) -> None:
    world = World(seed)
    if column == "day":
        # One day must weigh enough for the whole experiment to be off.
        world.day = np.where(world.random.random(N) < 0.2, 10, world.day)
    world.lose(getattr(world, column) == value, 0.7)
    found = panel(world.inputs())
    for name in ("sample_ratio_assigned", "sample_ratio_exposed", "sample_ratio_analysed"):
        assert found[name].verdict == "fail"
        (cause,) = found[name].causes
        assert cause.where == where
        assert cause.share is not None
        assert cause.share > 0.9
        assert "treatment misses units" in cause.evidence
        assert "all others fit" in cause.evidence
    assert "look what was released" in cause.evidence or column != "day"


def test_a_mismatch_that_is_everywhere_alike_is_said_to_be() -> None:
    world = World(1)
    world.lose(np.ones(N, dtype=bool), 0.3)
    (cause,) = panel(world.inputs())["sample_ratio_assigned"].causes
    assert (cause.where, cause.share) == ("everywhere alike", None)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_that_drops_in_one_arm_on_one_platform_is_named_with_its_size(seed: int) -> None:
    world = World(seed)
    events = world.events()
    gone = (
        (pl.col("event_name") == "tutor_turn_response_shown")
        & (pl.col("arm") == "treatment")
        & (pl.col("platform") == "android")
        & (pl.int_range(pl.len()).hash(seed) % 10 < 8)
    )
    check = panel(world.inputs(events.filter(~gone)))["completeness"]
    assert check.verdict == "fail"
    first = check.causes[0]
    assert first.where == "tutor_turn_response_shown in treatment, platform android"
    told = int(first.evidence.partition(" %")[0])
    assert told == pytest.approx(80, abs=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_that_drops_on_some_days_in_control_is_named_with_its_days(seed: int) -> None:
    world = World(seed)
    events = world.events()
    gone = (
        (pl.col("event_name") == "tutor_session_started")
        & (pl.col("arm") == "control")
        & (pl.col("event_date") >= date(2026, 3, 15))
    )
    check = panel(world.inputs(events.filter(~gone)))["completeness"]
    assert check.verdict == "fail"
    assert check.causes[0].where == "tutor_session_started in control, since 2026-03-15"


def test_an_event_that_an_outcome_is_made_of_is_told_without_its_size() -> None:
    world = World(2)
    events = world.events()
    gone = (
        (pl.col("event_name") == "tutor_turn_submitted")
        & (pl.col("arm") == "treatment")
        & (pl.col("platform") == "ios")
    )
    measure = Measure(name="solved", description="Turns.", events=("tutor_turn_submitted",))
    check = panel(world.inputs(events.filter(~gone), measures={"solved": measure}))["completeness"]
    assert check.verdict == "fail"
    assert check.causes[0].where == "tutor_turn_submitted in treatment, platform ios"
    said = [check.evidence, *(cause.evidence for cause in check.causes)]
    assert not [text for text in said if "%" in text]


@pytest.mark.parametrize(("arms", "verdict"), [(("treatment",), "fail"), (("control", "treatment"), "warn")])
def test_a_model_swapped_mid_flight_is_named_with_its_day(arms: tuple[str, ...], verdict: str) -> None:
    world = World(0)
    swapped = (
        pl.col("arm").is_in(arms)
        & (pl.col("field") == "model_version")
        & (pl.col("event_date") >= date(2026, 3, 16))
    )
    receipts = world.receipts().with_columns(
        pl.when(swapped).then(pl.lit("m-2")).otherwise("value").alias("value")
    )
    check = panel(world.inputs(receipts=receipts))["receipt"]
    assert check.verdict == verdict
    named = "treatment" if len(arms) == 1 else "control and treatment"
    assert check.causes[0].where == f"model_version m-2 in {named}, since 2026-03-16"
    assert check.causes[0].share == 1.0


def test_a_prompt_that_one_platform_of_one_arm_got_is_named() -> None:
    world = World(0)
    other = (
        (pl.col("arm") == "treatment") & (pl.col("field") == "prompt_version") & (pl.col("platform") == "ios")
    )
    receipts = world.receipts().with_columns(
        pl.when(other).then(pl.lit("p-9")).otherwise("value").alias("value")
    )
    check = panel(world.inputs(receipts=receipts))["receipt"]
    assert check.verdict == "fail"
    assert check.causes[0].where == "prompt_version p-9 in treatment, platform ios"


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_contamination_and_early_exposure_are_placed(seed: int) -> None:
    world = World(seed)
    there = world.stratum == "grade 7"
    world.active = ~(there & (world.arm == "treatment") & (world.random.random(N) < 0.5))
    world.columns["contaminated"] = (world.version == "3.1") & (world.random.random(N) < 0.2)
    early = (world.platform == "web") & (world.random.random(N) < 0.3)
    assigned = [datetime(2026, 3, 2, 9) + timedelta(days=int(day)) for day in world.day]
    shifted = [at - timedelta(hours=5 * bool(is_early)) for at, is_early in zip(assigned, early, strict=True)]
    world.columns["first_exposed_at"] = pl.Series(shifted, dtype=pl.Datetime("us"))
    found = panel(world.inputs())
    firsts = {name: found[name].causes[0].where for name in ("attrition", "contamination", "exposure")}
    assert firsts == {
        "attrition": "stratum grade 7",
        "contamination": "app version 3.1",
        "exposure": "exposed before their assignment: platform web",
    }
    assert all(found[name].verdict == "fail" for name in firsts)


def test_exposures_without_assignment_are_placed_by_surface_and_day() -> None:
    world = World(0)
    doses = pl.DataFrame(
        [
            (None if stray else "control", "control", surface, day, 30)
            for day in DAYS
            for surface in ("chat", "hint")
            for stray in (False, True)
            if not stray or (surface == "hint" and day >= date(2026, 3, 18))
        ],
        schema=["arm", "exposed_arm", "surface", "event_date", "units"],
        orient="row",
    )
    check = panel(world.inputs(exposures=Exposures(assigned=N, exposed=N, not_assigned=150), doses=doses))[
        "exposure"
    ]
    assert check.causes[0].where == "exposed without an assignment: surface hint, since 2026-03-18"


def test_reasons_of_wrong_arms_are_ranked_and_placed() -> None:
    random = np.random.default_rng(5)
    platform = random.choice(["android", "web"], 2000)
    wrong = (platform == "android") & (random.random(2000) < 0.4)
    held = random.random(2000) < 0.02
    fault = [
        "other_arm" if one else "held_out" if out else None for one, out in zip(wrong, held, strict=True)
    ]
    moments = [datetime(2026, 3, 2, 9) + timedelta(days=int(at)) for at in random.integers(0, 9, 2000)]
    assigned = pl.DataFrame(
        {
            "platform": platform,
            "app_version": ["1.0"] * 2000,
            "assigned_at": moments,
            "ramp_stage": pl.Series([None] * 2000, dtype=pl.String),
            "fault": pl.Series(fault, dtype=pl.String),
            "not_compared": pl.Series([None] * 2000, dtype=pl.String),
        }
    )
    mismatched = assigned["fault"].drop_nulls().len()
    check = panel(World(0).inputs(assigned=assigned, fidelity_checked=2000, fidelity_mismatched=mismatched))[
        "fidelity"
    ]
    assert check.verdict == "fail"
    assert [cause.where for cause in check.causes] == [
        "other arm: platform android",
        "held out: everywhere alike",
    ]
    assert [cause.rank for cause in check.causes] == [1, 2]


def test_late_events_are_placed_by_day_and_a_changed_brief_by_field() -> None:
    late_days = pl.DataFrame(
        {"event_date": DAYS, "late": [300 if day.day == 9 else 2 for day in DAYS], "landed": [1000] * 21}
    )
    changed = LockState(
        locked_digest="0" * 64,
        current_digest="1" * 64,
        changes=(BriefChange(field="mde", locked_value="0.02", current_value="0.05"),),
    )
    found = panel(World(0).inputs(late_share=0.016, late_days=late_days, lock=changed))
    assert found["freshness"].causes[0].where == "on 2026-03-09"
    assert found["lock"].causes[0].where == "field mde"


def equal(p_value: float | None, *failed: str) -> EqualArms:
    return EqualArms(
        experiment="aa", snapshot="s", ended=START, units=5000, failed=failed, p_value=p_value
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((), "cannot_tell"),
        ((equal(None),), "cannot_tell"),
        ((equal(0.4),), "pass"),
        ((equal(0.01),), "warn"),
        ((equal(0.0001),), "fail"),
        ((equal(0.4, "Exposure"),), "fail"),
        ((equal(0.4), equal(0.0001)), "pass"),
    ],
)
def test_an_a_a_is_asked_for_where_logging_is_new(found: tuple[EqualArms, ...], verdict: str) -> None:
    brief = brief_of(new_logging=True)
    check = equal_arms_check(found, brief)
    assert check.verdict == verdict
    assert bool(check.causes) == (verdict in ("warn", "fail"))
    assert "equal_arms" in panel(World(0).inputs(brief=brief, equal_arms=found))
    assert "equal_arms" not in panel(World(0).inputs())


def test_causes_do_not_depend_on_the_order_of_rows() -> None:
    brief = brief_of()
    world = World(3)
    world.lose(world.platform == "ios", 0.8)
    inputs = world.inputs()
    shuffled = inputs_of(
        brief, METRICS, inputs.mad.sample(fraction=1.0, shuffle=True, seed=1), days=inputs.days
    )
    plain = inputs_of(brief, METRICS, inputs.mad, days=inputs.days)
    assert panel(shuffled) == panel(plain)
