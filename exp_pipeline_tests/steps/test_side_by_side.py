"""Two runs over one experiment at once: a snapshot holds what its name says, a table appears whole."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import DAY, Workbench, event_day
from exp_pipeline.steps.experiments import chain, readouts
from exp_pipeline.steps.experiments.chain import input_digests, take_snapshot
from exp_pipeline.steps.experiments.kept import Kept, write_kept
from exp_pipeline.steps.experiments.readouts import write_results
from exp_pipeline.steps.experiments.sealed_readouts import readout_of
from exp_pipeline.steps.experiments.stored_readouts import newest_read_out
from exp_pipeline.store.files import replace_file
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.marts import Marts
from exp_pipeline_tests.steps.conftest import with_catalog
from exp_pipeline_tests.steps.late_worlds import NAME, START


def halve(bench: Workbench, day: str, keep: int) -> None:
    """Write a day of facts again with only some of its first rows, as another process may."""
    manifest = bench.lake.manifest("unit_days", day)
    assert manifest is not None
    rows = pl.read_parquet(bench.lake.paths([manifest]), hive_partitioning=False).head(keep)
    path = bench.lake.staging("unit_days", day)
    rows.write_parquet(path)
    new = [NewFile(path, "all", rows.height)]
    facts, version = dict(manifest.facts), manifest.schema_version
    bench.lake.commit("unit_days", day, new, schema_version=version, run_id="other", facts=facts)


def renamed(bench: Workbench) -> Workbench:
    """The same with another brief, so that a snapshot is to be made."""
    brief = bench.catalog.briefs[NAME]
    return with_catalog(bench, briefs={NAME: brief.model_copy(update={"title": "Another title"})})


def test_days_that_change_while_a_snapshot_is_made_do_not_get_into_it(
    read_out: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, day, calls = renamed(read_out), event_day(START + DAY), list[Path]()

    def meanwhile(kept: Kept, folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 1:
            halve(bench, day, 2)
        write_kept(kept, folder)

    monkeypatch.setattr(chain, "write_kept", meanwhile)
    taken = take_snapshot(bench, NAME)
    assert len(calls) == 2
    record = Marts(bench.home.marts).record(NAME, taken.snapshot)
    assert record is not None
    assert record["inputs"] == input_digests(bench, bench.catalog.briefs[NAME], taken.as_of)
    held = pl.read_parquet(taken.folder / "days.parquet").filter(pl.col("event_date") == START + DAY)
    assert held.height == 2
    assert len(list(taken.folder.parent.glob("snapshot=*"))) == 2
    assert not list(taken.folder.parent.glob(".snapshot=*"))


def test_days_that_never_rest_give_no_snapshot_and_say_so(
    read_out: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, day, calls = renamed(read_out), event_day(START + DAY), list[int]()

    def meanwhile(kept: Kept, folder: Path) -> None:
        calls.append(2 - len(calls))
        halve(bench, day, calls[-1])

    before = Marts(bench.home.marts).current(NAME)
    monkeypatch.setattr(chain, "_ROUNDS", 2)
    monkeypatch.setattr(chain, "write_kept", meanwhile)
    with pytest.raises(ExpError, match="are being written"):
        take_snapshot(bench, NAME)
    assert Marts(bench.home.marts).current(NAME) == before


def test_the_newest_readout_is_there_while_a_newer_snapshot_is_not_read_out_yet(read_out: Workbench) -> None:
    bench, old = renamed(read_out), Marts(read_out.home.marts).current(NAME)
    names = [take_snapshot(bench, NAME).snapshot]
    again = bench.catalog.briefs[NAME].model_copy(update={"title": "A third title"})
    names.append(take_snapshot(with_catalog(bench, briefs={NAME: again}), NAME).snapshot)
    assert Marts(bench.home.marts).current(NAME) == names[1]
    assert newest_read_out(bench.home, NAME) == old
    readout_of(bench, NAME, names[0])
    assert newest_read_out(bench.home, NAME) == names[0]
    readout_of(bench, NAME, names[1])
    assert newest_read_out(bench.home, NAME) == names[1]


def test_two_that_write_one_result_table_do_not_meet(
    read_out: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = list[Path]()

    def meanwhile(temporary: Path, path: Path) -> None:
        if not nested:
            nested.append(path)
            write_results(read_out, NAME, ["integrity"])
        replace_file(temporary, path)

    monkeypatch.setattr(readouts, "replace_file", meanwhile)
    frames = write_results(read_out, NAME, ["integrity"])
    assert pl.read_parquet(nested[0]).equals(frames["integrity"])
    assert not list(nested[0].parent.glob(".*"))
