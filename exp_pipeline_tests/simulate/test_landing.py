"""Landing files: the same bytes every time, and the checked-in sample is what the code writes."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.landing import landing_lines, received_frames, write_landing
from exp_pipeline.simulate.plan import Faults, SimulationPlan
from exp_pipeline.simulate.truth import truth

SAMPLE = Path(__file__).parents[2] / "data" / "landing"


@pytest.fixture
def small(demo: SimulationPlan) -> SimulationPlan:
    faults = Faults(
        retry_share=0.02, late_share=0.03, not_json=3, not_utf8=3, truncated=3, contract_breaks=8, too_late=4
    )
    return demo.model_copy(update={"days": 16, "learners": 100, "faults": faults, "name": "small", "seed": 5})


def _lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).removesuffix(b"\n").split(b"\n")


def test_the_same_plan_writes_the_same_bytes(small: SimulationPlan, tmp_path: Path) -> None:
    once = write_landing(small, tmp_path / "once")
    twice = write_landing(small, tmp_path / "twice")
    assert [file.path.read_bytes() for file in once] == [file.path.read_bytes() for file in twice]
    assert [file.rows for file in once] == [len(_lines(file.path)) for file in once]
    with pytest.raises(ValueError, match="never overwritten"):
        write_landing(small, tmp_path / "once")
    with pytest.raises(ValueError, match="format must be one of ndjson, parquet"):
        write_landing(small, tmp_path / "thrice", format="csv")  # type: ignore[arg-type]


def test_the_files_hold_what_truth_says(small: SimulationPlan, tmp_path: Path) -> None:
    planted = truth(small)
    not_utf8 = not_json = unknown = 0
    rows = 0
    for file in write_landing(small, tmp_path):
        for line in _lines(file.path):
            rows += 1
            try:
                event = json.loads(line.decode())
            except UnicodeDecodeError:
                not_utf8 += 1
            except json.JSONDecodeError:
                not_json += 1
            else:
                unknown += event["event_id"].startswith("broken-")
                assert event["received_at"][:10] == str(file.received_date)
    assert rows == planted.rows
    assert not_utf8 == planted.rows_by_fault["not_utf8"] == 3
    assert not_json == planted.rows_by_fault["not_json"] + planted.rows_by_fault["truncated"] == 6
    assert unknown == planted.rows_by_fault["contract_break"] == 8


def test_parquet_holds_every_row_of_every_day(small: SimulationPlan, tmp_path: Path) -> None:
    files = write_landing(small, tmp_path, format="parquet")
    landed = pl.concat([pl.read_parquet(file.path, hive_partitioning=False) for file in files])
    made = pl.concat([simulate_day(small, day) for day in small.all_days()])
    assert landed.schema == made.schema
    order = ["event_id", "received_at", "app_version"]
    assert landed.sort(order).equals(made.sort(order))
    for file in files:
        days = pl.read_parquet(file.path, hive_partitioning=False)["received_at"].dt.date().unique()
        assert days.to_list() == [file.received_date]


def test_the_sample_is_what_the_code_writes(demo: SimulationPlan) -> None:
    files = sorted(SAMPLE.glob("received_date=*/*.ndjson.gz"))
    assert sum(file.stat().st_size for file in files) < 6_000_000
    assert [file.parent.name for file in files] == [f"received_date={day}" for day in demo.all_days()]
    # The content is compared, not the gzip bytes, which may differ between builds of zlib.
    checked = {date(2026, 2, 23), date(2026, 3, 10), date(2026, 3, 16)}
    for received, frame in received_frames(demo):
        if received in checked:
            path = SAMPLE / f"received_date={received}" / "events-0000.ndjson.gz"
            assert landing_lines(demo, received, frame) == _lines(path)
        if received == max(checked):
            break
