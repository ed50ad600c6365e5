"""New days, old days, readouts and an analyst at once, writers killed at random: nothing is ever half."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.operating.together import side_by_side, undisturbed

pytestmark = pytest.mark.crash


def test_an_analyst_sees_nothing_half_and_everything_comes_out_the_same(tmp_path: Path) -> None:
    calm = undisturbed(tmp_path / "calm")
    outcome = side_by_side(tmp_path / "fire", calm, kills=8, most_seconds=900.0)
    assert sum(outcome.kills.values()) == 8
    assert outcome.files > 250
    assert outcome.reads > 100
    assert outcome.clean, outcome
