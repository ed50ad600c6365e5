"""A quality policy that names what is not there is refused with its place, before any day is judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exp_pipeline.model.errors import SpecError
from exp_pipeline.steps.opening import open_catalog

CATALOG = Path(__file__).parents[2] / "data" / "catalog"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ttft_ms, retrieval_version", "ttft_ms, moods", "quality.critical.tutor_turn_response_shown"),
        ("experiment_exposed: [session_id]", "tutor_slept: [session_id]", "there is no event 'tutor_slept'"),
        ("announced: {}", "announced: {mood: [good]}", "no event has a field 'mood'"),
        ("volume: ", "volumes: ", "no such rule: volumes"),
        ("fail_at: 0.8", "fail_at: 0.99", "rules.answered_turns: fail_at 0.99 must lie below warn_at 0.95"),
        (
            "  weeks: 6                ",
            "  weeks: 60               ",
            "quality.weeks: is out of range (value: 60); allowed: at least 2 and at most 12",
        ),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    root = tmp_path / "catalog"
    shutil.copytree(CATALOG, root)
    path = root / "policies" / "default.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SpecError) as told:
        open_catalog(root)
    assert said in str(told.value)
    assert "policies/default.yaml:" in str(told.value)
