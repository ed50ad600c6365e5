"""What the lock keeps, and which changes it names."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from exp_pipeline.catalog import LockedBrief, load_catalog, lock_record, lock_state
from exp_pipeline.model.brief import ANALYSIS_FIELDS, Arm, Brief, Effect, RampStage, ValueModel
from exp_pipeline_tests.catalog.test_loading import SHIPPED

WHEN = datetime(2026, 3, 9, tzinfo=UTC)


@pytest.fixture
def brief() -> Brief:
    return load_catalog(SHIPPED).briefs["hint-ladder"]


def test_a_brief_without_a_lock(brief: Brief) -> None:
    state = lock_state(brief, None)
    assert (state.locked_digest, state.locked_at, state.changes) == (None, None, ())
    assert state.current_digest == brief.analysis_digest()


def test_an_unchanged_brief_stands_as_locked(brief: Brief) -> None:
    locked = lock_record(brief, WHEN)
    state = lock_state(brief, LockedBrief.model_validate_json(locked.canonical_json()))
    assert (state.locked_digest, state.locked_at, state.changes) == (brief.analysis_digest(), WHEN, ())
    assert set(locked.analysis) == set(ANALYSIS_FIELDS)


def test_description_may_change_under_the_lock(brief: Brief) -> None:
    changed = brief.model_copy(
        update={
            "title": "Other words",
            "owner": "somebody-else",
            "value": ValueModel(value_per_unit=9.0),
            "ramp": (RampStage(traffic=1.0),),
        }
    )
    state = lock_state(changed, lock_record(brief, WHEN))
    assert state.changes == ()
    assert state.locked_digest == state.current_digest


def test_every_changed_analysis_field_is_named_with_both_values(brief: Brief) -> None:
    guardrails = (brief.guardrails[0].model_copy(update={"margin": 0.2}), *brief.guardrails[1:])
    changed = brief.model_copy(
        update={
            "primary": "answer_accuracy",
            "end": date(2026, 4, 6),
            "guardrails": guardrails,
            "secondary": ("helpful_rate",),
            "practical_threshold": None,
            "mde": Effect(relative=0.1),
            "looks": (date(2026, 3, 20),),
        }
    )
    state = lock_state(changed, lock_record(brief, WHEN))
    assert [(one.field, one.locked_value, one.current_value) for one in state.changes] == [
        ("end", "2026-03-30", "2026-04-06"),
        ("looks", "[]", '["2026-03-20"]'),
        ("primary", "mastery_loop_completion", "answer_accuracy"),
        ("secondary", '["answer_accuracy", "helpful_rate"]', '["helpful_rate"]'),
        ("guardrails", "[0].margin = 0.1", "[0].margin = 0.2"),
        ("mde", '{"absolute": 0.12, "relative": null}', '{"absolute": null, "relative": 0.1}'),
        ("practical_threshold", '{"absolute": 0.03, "relative": null}', "none"),
    ]
    assert state.locked_digest != state.current_digest


def test_arms_that_swap_shares_are_a_change(brief: Brief) -> None:
    control = Arm(name="control", share=0.33, description=brief.arms[0].description)
    arms = (control, brief.arms[1], brief.arms[2].model_copy(update={"share": 0.34}))
    state = lock_state(brief.model_copy(update={"arms": arms}), lock_record(brief, WHEN))
    assert [(one.field, one.locked_value, one.current_value) for one in state.changes] == [
        ("arms", "[0].share = 0.34, [2].share = 0.33", "[0].share = 0.33, [2].share = 0.34")
    ]


def test_a_field_that_a_newer_release_added_is_no_change(brief: Brief) -> None:
    whole = lock_record(brief, WHEN)
    older = {name: value for name, value in whole.analysis.items() if name not in ("srm_alpha", "strata")}
    state = lock_state(brief, whole.model_copy(update={"analysis": older, "analysis_digest": "0" * 64}))
    assert state.changes == ()
    moved = brief.model_copy(update={"srm_alpha": 0.01})
    state = lock_state(moved, whole.model_copy(update={"analysis": older, "analysis_digest": "0" * 64}))
    assert [(one.field, one.locked_value, one.current_value) for one in state.changes] == [
        ("srm_alpha", "0.001", "0.01")
    ]


def test_the_lock_of_another_experiment_is_a_mistake(brief: Brief) -> None:
    other = load_catalog(SHIPPED).briefs["class-pacing"]
    with pytest.raises(ValueError, match="lock of 'hint-ladder', got that of 'class-pacing'"):
        lock_state(brief, lock_record(other, WHEN))
    with pytest.raises(ValueError, match="must carry a time zone"):
        lock_record(brief, datetime(2026, 3, 9))
