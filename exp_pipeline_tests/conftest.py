"""What holds for every test, and the order of the modules."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Those that take longest, longest first: one that comes last is waited for by all processes but one.
LONGEST = (
    "browser/test_analyst.py", "dirty/test_dirty_log.py", "real/test_landing_page.py",
    "steps/test_erasure.py", "defs/test_whole_run.py", "defs/test_blocking.py", "steps/test_quality.py",
    "real/test_bad_input.py", "cli/test_rehearse.py", "defs/test_blinding_search.py",
    "cli/test_processes.py", "steps/test_affected.py", "cli/test_catchup.py", "steps/test_chain_demo.py",
    "dirty/test_reading.py", "defs/test_late_data.py", "steps/test_sealed_readouts.py",
    "steps/test_conform_copies.py", "steps/test_chain_ingest.py", "real/test_tutor_log.py",
    "cli/test_nothing_leaks.py", "defs/test_quality_checks.py", "steps/test_mirror.py",
    "steps/test_dry_run.py", "steps/test_holdout.py", "steps/test_library_values.py",
    "steps/test_workspace.py", "cli/test_ramps.py", "cli/test_metrics.py", "cli/test_light.py",
    "cli/test_sources.py", "store/test_warehouse_step.py", "steps/test_ramp_kills.py",
    "steps/test_retention_kills.py", "steps/test_durability.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules come first; the order within a module, and of the others, stays."""
    place = {HERE / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish() -> None:
    """What was collected lives to the end: the collector of garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """What is not let go at the end is called a leak by some libraries."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """Commands name their data folder to Dagster through the environment: the next test must not find it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
