"""The same on PostgreSQL, which then holds Dagster's history and the log of state."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.operating.house import postgres, postgres_programs
from bench.operating.killing import under_fire, undisturbed

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL server on this machine"),
]


@pytest.fixture
def database() -> Iterator[str]:
    # Not below the test's own folder: the server's user may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="exp-postgres-"))
    folder.chmod(0o755)
    try:
        with postgres(folder / "server") as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, database: str) -> None:
    calm = undisturbed(tmp_path / "calm")
    outcome = under_fire(tmp_path / "fire", lambda: calm, kills=2, database=database, most_seconds=420.0)
    assert sum(outcome.kills.values()) == 2
    assert not (tmp_path / "fire" / "data" / "state" / "state.sqlite").exists()
    assert not list((tmp_path / "fire" / "dagster").rglob("*.db"))
    assert outcome.clean, outcome
