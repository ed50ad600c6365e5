"""Daemon, code server and run workers are killed at random: the lake comes out the same, every page once."""

from __future__ import annotations

from pathlib import Path

from bench.operating.killing import under_fire, undisturbed


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    calm = undisturbed(tmp_path / "calm")
    assert ("srm", "hint-ladder") in calm[1]
    outcome = under_fire(tmp_path / "fire", calm, kills=2, most_seconds=420.0)
    assert sum(outcome.kills.values()) == 2
    assert outcome.files > 300
    assert outcome.messages >= len(calm[1])
    assert outcome.clean, outcome
