"""An engine in memory, one for the room."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from exp_pipeline.store.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with duckdb.connect() as connection:
        yield Engine(connection, threads=1)
