"""Ramps under more kills, their log in a file and in PostgreSQL: each transition and each version once."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from bench.operating.house import postgres, postgres_programs
from exp_pipeline_tests.steps.ramp_workers import (
    FIRST_KILL,
    QUICK,
    STEPS,
    Place,
    before,
    check_flags,
    judged,
    killed_before_flags,
    placed,
    two_under_fire,
    undisturbed,
)

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def calm(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return undisturbed(world, tmp_path_factory.mktemp("calm") / "home", STEPS)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL server on this machine")
    # Not below the test's own folder: the server's user may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="exp-postgres-"))
    folder.chmod(0o755)
    try:
        with postgres(folder / "server") as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["file", "PostgreSQL"])
def place(request: pytest.FixtureRequest, world: Path, tmp_path: Path) -> Place:
    """A home that is ready, with a log of its own."""
    if request.param == "file":
        return placed(world, tmp_path / "home")
    address = request.getfixturevalue("server")
    name = f"ramps_{secrets.token_hex(6)}"
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'create database "{name}"'))
    engine.dispose()
    return placed(world, tmp_path / "home", f"{address.rpartition('/')[0]}/{name}")


def test_kills_and_two_at_once_change_nothing(place: Place, calm: Place) -> None:
    steps = STEPS if place.url is None else QUICK * 3 // 2
    assert two_under_fire(place, steps) == steps - FIRST_KILL
    expected = before(calm.transitions(), steps)
    assert sum(len(entries) for entries in expected.values()) >= 12
    assert place.transitions() == expected
    assert (place.root / "state" / "state.sqlite").exists() == (place.url is None)
    check_flags(place, calm if steps == STEPS else None)


def test_killed_between_a_transition_and_its_flags_the_next_tick_publishes(place: Place, calm: Place) -> None:
    behind = killed_before_flags(place, QUICK)
    assert behind >= 2, "no kill fell between a transition and its flags: the test proves nothing"
    assert place.transitions() == before(calm.transitions(), QUICK)
    check_flags(place)
