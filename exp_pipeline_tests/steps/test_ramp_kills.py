"""Two daemons tick at once and one is killed at every step: the log is that of an undisturbed run.

Longer, and on PostgreSQL: `operating/test_ramp_kills.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline_tests.steps.ramp_workers import (
    FIRST_KILL,
    QUICK,
    SHORT,
    Place,
    before,
    check_flags,
    judged,
    killed_before_flags,
    placed,
    two_under_fire,
    undisturbed,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def calm(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return undisturbed(world, tmp_path_factory.mktemp("calm") / "home", QUICK)


def test_kills_and_two_at_once_change_nothing(world: Path, calm: Place, tmp_path: Path) -> None:
    place = placed(world, tmp_path / "home")
    assert two_under_fire(place, QUICK) == QUICK - FIRST_KILL
    expected = calm.transitions()
    assert sum(len(entries) for entries in expected.values()) >= 10
    assert place.transitions() == expected
    check_flags(place, calm)


def test_killed_between_a_transition_and_its_flags_the_next_tick_publishes(
    world: Path, calm: Place, tmp_path: Path
) -> None:
    place = placed(world, tmp_path / "home")
    behind = killed_before_flags(place, SHORT)
    assert behind >= 2, "no kill fell between a transition and its flags: the test proves nothing"
    assert place.transitions() == before(calm.transitions(), SHORT)
    check_flags(place)
