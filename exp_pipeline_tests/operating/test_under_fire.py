"""Daemon, code server and run workers are killed at random: the lake comes out the same, every page once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.operating.killing import Outcome, under_fire, undisturbed

DAYS = 7


def test_a_killed_run_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        calm = pool.submit(undisturbed, tmp_path / "calm", days=DAYS)
        outcome = under_fire(
            tmp_path / "fire", calm.result, kills=1, days=DAYS, brisk=True, most_seconds=600.0
        )
    assert outcome.kills == {"run worker": 1}
    assert outcome.files > 200
    all_is_well(outcome, calm.result()[1])


@pytest.mark.crash
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    calm = undisturbed(tmp_path / "calm")
    outcome = under_fire(tmp_path / "fire", lambda: calm, kills=4, most_seconds=600.0)
    assert outcome.kills == {"run worker": 2, "daemon": 1, "code server": 1}
    assert outcome.files > 300
    all_is_well(outcome, calm[1])


def all_is_well(outcome: Outcome, incidents: set[tuple[str, str]]) -> None:
    assert ("srm", "hint-ladder") in incidents
    assert outcome.messages >= len(incidents)
    assert outcome.clean, outcome
