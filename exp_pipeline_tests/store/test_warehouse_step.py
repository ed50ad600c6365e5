"""What the warehouse shows of a lake and its readouts: every kind of result, and nothing that is blinded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.model.readout import Estimate, GuardrailResult, Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.warehouse import ESTIMATES, GUARDRAILS, VIEWS, build_warehouse
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.warehouse import open_warehouse
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.samples import blinded, leaky_blinded

CATALOG = Path(__file__).parents[2] / "data" / "catalog"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    (tmp_path / "catalog").symlink_to(CATALOG)
    with (
        duckdb.connect(":memory:") as connection,
        workbench(Home(tmp_path), connection, run_id="r", environment={}) as bench,
    ):
        yield bench


def keep(bench: Workbench, readout: Readout, *, snapshot: str | None = None) -> Path:
    """Put a readout where its step writes it, as the current one."""
    name = snapshot or readout.provenance.snapshot
    marts = Marts(bench.home.marts)
    marts.add(readout.experiment, name, {}, lambda folder: None)
    marts.point(readout.experiment, name)
    path = bench.home.readouts / f"experiment={readout.experiment}" / f"snapshot={name}" / "readout.json"
    path.parent.mkdir(parents=True)
    path.write_text(readout.model_dump_json(indent=1) + "\n")
    return path


def named(readout: Readout, name: str) -> Readout:
    return readout.model_copy(
        update={"experiment": name, "brief": readout.brief.model_copy(update={"name": name})}
    )


def asked(bench: Workbench, query: str) -> list[tuple[object, ...]]:
    with open_warehouse(bench.home.warehouse) as connection:
        return connection.execute(query).fetchall()


def test_an_empty_lake_has_every_view_with_its_words_and_every_brief(bench: Workbench) -> None:
    done = build_warehouse(bench, duckdb.connect)
    assert (done.table, done.partition, done.facts["changed"]) == ("warehouse", "scope=all", True)
    views = asked(bench, "select view_name, comment from duckdb_views() where not internal")
    assert {name for name, _ in views} == set(VIEWS)
    assert all(words for _, words in views)
    assert (
        asked(
            bench,
            "select table_name, column_name from duckdb_columns() where comment is null and not internal",
        )
        == []
    )
    for view in VIEWS:
        assert asked(bench, f"select count(*) from {view}") == [(0,)]
    briefs = [(name, "no snapshot of its dataset was taken yet") for name in sorted(bench.catalog.briefs)]
    assert asked(bench, "select experiment, note from experiments") == briefs
    again = build_warehouse(bench, duckdb.connect)
    assert (again.facts["changed"], again.digest, again.rows) == (False, done.digest, done.rows)


def test_every_result_of_a_readout_is_a_row(bench: Workbench) -> None:
    readout = ship()
    keep(bench, readout)
    build_warehouse(bench, duckdb.connect)
    name, snapshot = readout.experiment, readout.provenance.snapshot
    kinds = {
        str(kind): rows for kind, rows in asked(bench, "select kind, count(*) from estimates group by kind")
    }
    parts = {"main": readout.estimates, "unadjusted": readout.unadjusted, "segment": readout.segments}
    assert kinds == {kind: len(rows) for kind, rows in parts.items() if rows}
    primary = next(one for one in readout.estimates if one.role == "primary")
    query = (
        "select absolute, ci_lower, ci_upper, flags from estimates where kind = 'main' and role = 'primary'"
    )
    assert asked(bench, query) == [
        (primary.absolute, primary.ci_lower, primary.ci_upper, list(primary.flags))
    ]
    assert asked(bench, "select name, verdict from verdicts") == [
        (one.name, one.verdict) for one in readout.integrity
    ]
    assert asked(bench, "select metric, arm, harm, status from guardrails") == [
        (one.metric, one.arm, one.harm, one.status) for one in readout.guardrails
    ]
    decisions = [(None, readout.decision.outcome), *((one.arm, one.outcome) for one in readout.decision.arms)]
    assert asked(bench, "select arm, outcome from decisions") == decisions
    query = f"select snapshot, as_of, blinded, outcome, note from experiments where experiment = '{name}'"
    assert asked(bench, query) == [(snapshot, readout.as_of, False, readout.decision.outcome, None)]


def test_columns_follow_the_nouns_so_that_no_new_field_is_forgotten() -> None:
    assert {column.name for column in ESTIMATES[1:]} == set(Estimate.model_fields)
    assert {column.name for column in GUARDRAILS[2:]} == set(GuardrailResult.model_fields)


@pytest.mark.parametrize("readout", [blinded(), leaky_blinded()], ids=["as made", "with a fault upstream"])
def test_no_table_holds_an_effect_while_the_readout_is_blinded(bench: Workbench, readout: Readout) -> None:
    keep(bench, readout)
    build_warehouse(bench, duckdb.connect)
    assert asked(bench, "select distinct role, kind from estimates") in ([("guardrail", "main")], [])
    assert asked(bench, f"select blinded from experiments where experiment = '{readout.experiment}'") == [
        (True,)
    ]
    everything = " ".join(
        str(row)
        for table in ("experiments", "estimates", "verdicts", "decisions", "guardrails")
        for row in asked(bench, f"from {table}")
    )
    for estimate in (*ship().estimates, *ship().segments, *ship().unadjusted):
        if estimate.role != "guardrail" and estimate.absolute:
            assert repr(estimate.absolute) not in everything
    arms = asked(bench, "select table_name from duckdb_columns() where column_name = 'arm'")
    assert ("units",) in arms
    assert ("unit_days",) not in arms


def test_a_damaged_or_missing_readout_leaves_the_others_shown(bench: Workbench) -> None:
    keep(bench, ship())
    damaged = keep(bench, named(ship(), "damaged"))
    damaged.write_text(damaged.read_text()[:-100])
    keep(bench, named(ship(), "waiting")).unlink()
    keep(bench, named(ship(), "foreign"), snapshot="another")
    broken = keep(bench, named(ship(), "pointless"))
    (bench.home.marts / "mad" / "experiment=pointless" / "current.json").write_text('{"snapshot": "../../x"}')
    done = build_warehouse(bench, duckdb.connect)
    told = asked(bench, "select experiment, note from experiments where title is null or note is null")
    notes = {str(name): note for name, note in told}
    assert notes.pop(ship().experiment) is None
    assert set(notes) == {"damaged", "foreign", "pointless", "waiting"}
    without = done.facts["without_readout"]
    assert isinstance(without, dict)
    assert without.keys() == (notes.keys() | bench.catalog.briefs.keys()) - {ship().experiment}
    assert "is damaged" in str(notes["damaged"])
    assert "has not been read out yet" in str(notes["waiting"])
    assert "speaks of foreign, snapshot" in str(notes["foreign"])
    assert "current.json is damaged" in str(notes["pointless"])
    assert broken.exists()
    assert asked(bench, "select distinct experiment from estimates") == [(ship().experiment,)]
