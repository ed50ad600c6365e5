"""The same work by other means: events to sessions and to measures by unit and day, results compared first.

Each peer is written the way a good textbook writes it, over the same event files, and writes two Parquet
files of its own. Nothing of the pipeline is called but the definitions of the measures.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.peers.inputs import MEMORY_SHARE, Inputs, inputs
from bench.peers.results import compare

__all__ = ["MEMORY_SHARE", "PEERS", "Inputs", "compare", "inputs"]


def _duckdb(given: Inputs) -> None:
    from bench.peers.by_duckdb import run

    run(given)


def _polars(given: Inputs) -> None:
    from bench.peers.by_polars import run

    run(given)


def _pandas(given: Inputs) -> None:
    from bench.peers.by_pandas import run

    run(given)


PEERS: dict[str, Callable[[Inputs], None]] = {"duckdb": _duckdb, "polars": _polars, "pandas": _pandas}
