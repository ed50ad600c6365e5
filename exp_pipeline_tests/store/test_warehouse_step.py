"""What the warehouse shows of a lake and its readouts: every kind of result, and nothing that is blinded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.analysis.deciding.blinding import ARM_COLUMNS
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.readout import Estimate, GuardrailResult, Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.decision_log import record_decision
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.steps.warehouse import ESTIMATES, GUARDRAILS, VIEWS, build_warehouse
from exp_pipeline.steps.warehouse.build import UNIT_VIEWS
from exp_pipeline.steps.warehouse.page import warehouse_page
from exp_pipeline.store.engine import quote
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log
from exp_pipeline.store.warehouse import open_warehouse
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.samples import blinded, leaky_blinded

ROOT = Path(__file__).parents[2]
CATALOG, DOCS = ROOT / "data" / "catalog", ROOT / "docs"


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
    parts = {"main": readout.estimates, "unadjusted": readout.unadjusted}
    assert kinds == {kind: len(rows) for kind, rows in parts.items() if rows}
    assert asked(bench, "select segment, segment_value, arm, absolute from segments") == [
        (one.segment, one.segment_value, one.arm, one.absolute) for one in readout.segments
    ]
    planned = {arm.name: arm.share for arm in readout.brief.arms}
    assert asked(
        bench, f"select arm, planned_share, assigned, analysed from arms where experiment = '{name}'"
    ) == [(one.arm, planned[one.arm], one.assigned, one.analysed) for one in readout.counts]
    assert asked(bench, "select arm, rule, verdict from rules") == [
        (arm.arm, rule.rule, rule.verdict) for arm in readout.decision.arms for rule in arm.rules
    ]
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
        for (table,) in asked(bench, "select table_name from duckdb_tables() order by all")
        for row in asked(bench, f"from {table}")
    )
    for estimate in (*ship().estimates, *ship().segments, *ship().unadjusted):
        if estimate.role != "guardrail" and estimate.absolute:
            assert repr(estimate.absolute) not in everything
    arms = asked(bench, "select table_name from duckdb_columns() where column_name = 'arm'")
    assert ("units",) in arms
    assert ("unit_days",) not in arms
    assert asked(bench, "select count(*) from segments") == [(0,)]


def put_rows(bench: Workbench, table: str, query: str) -> None:
    """Make a query's row the content of one day of a lake table; columns it does not name are null."""
    connection = bench.engine.connection
    connection.execute(f"create or replace temp table given as {query}")
    given = {row[0] for row in connection.execute("describe given").fetchall()}
    columns = ", ".join(
        f"{quote(name) if name in given else 'null'}::{kind} as {quote(name)}"
        for name, kind in table_columns(table).items()
    )
    partition = "scope=all" if table == "units" else "event_date=2026-03-02"
    path = bench.lake.staging(table, partition)
    rows = bench.engine.write(f"select {columns} from given", path)
    bench.lake.commit(table, partition, [NewFile(path, "all", rows)], schema_version="1", run_id="r")


def test_rows_of_units_say_no_arm_while_their_experiment_is_blinded(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, hidden = sorted(bench.catalog.briefs)[:2]
    blind = {name: "not yet" for name in bench.catalog.briefs if name != seen}
    monkeypatch.setattr("exp_pipeline.steps.warehouse.build.blinded_experiments", lambda bench: blind)
    # `write_units` derives units from assignments; here they are given.
    monkeypatch.setattr("exp_pipeline.steps.warehouse.build.write_units", lambda bench: None)
    names = (seen, hidden, "nobody-knows-it")
    rows = " union all ".join(
        f"select '{name}' as experiment, 'u' as unit_id, 'treatment' as arm, 17 as arm_bucket"
        for name in names
    )
    for table in UNIT_VIEWS:
        put_rows(bench, table, rows)
    build_warehouse(bench, duckdb.connect)
    for table in UNIT_VIEWS:
        telling = [
            str(name)
            for (name,) in asked(
                bench, f"select column_name from duckdb_columns() where table_name = '{table}'"
            )
            if name in ARM_COLUMNS
        ]
        assert "arm" in telling
        for column in telling:
            found = {
                str(name): arm for name, arm in asked(bench, f"select experiment, {column} from {table}")
            }
            assert found[seen] is not None
            assert (found[hidden], found["nobody-knows-it"]) == (None, None)
    # Laid beside outcomes by every column that the views share, no arm is left.
    joined = "select count(*) from units as u inner join events as e using (experiment, unit_id) "
    assert asked(bench, f"{joined} where u.experiment = '{hidden}'") == [(1,)]
    assert asked(
        bench, f"{joined} where u.experiment = '{hidden}' and coalesce(u.arm, e.arm) is not null"
    ) == [(0,)]


def test_columns_lists_every_column_of_the_file_with_its_words(bench: Workbench) -> None:
    build_warehouse(bench, duckdb.connect)
    said = asked(bench, "select relation, name, type, meaning from columns order by all")
    assert said == asked(
        bench,
        "select table_name, column_name, data_type, comment from duckdb_columns() where not internal "
        "order by all",
    )
    grains = "select distinct relation, grain from columns order by all"
    assert asked(bench, grains) == asked(
        bench,
        "select * from (select view_name, comment from duckdb_views() where not internal union all "
        "select table_name, comment from duckdb_tables()) order by all",
    )
    described = {str(name): one for name, one in asked(bench, "select metric, definition from metrics")}
    assert described == {name: one.definition for name, one in bench.catalog.metrics.items()}


def test_decisions_and_incidents_of_the_log_are_rows(bench: Workbench) -> None:
    readout = ship()
    keep(bench, readout)
    moment = datetime(2026, 4, 1, 12, tzinfo=UTC)
    log = state_log(bench.home)
    row, _ = record_decision(
        bench, readout.experiment, "iterate", by="maths", reason="Costs too much.", at=moment
    )
    finding = Finding(
        rule="srm", subject="ship/platform", day=moment.date(), verdict="fail", evidence="1,900 to 2,100",
        owner="maths", experiment=readout.experiment,
    )  # fmt: skip
    record_findings(log, [finding], moment)
    build_warehouse(bench, duckdb.connect)
    query = "select kind, outcome, decided_by, recommended, differs, logged_at, memo from decision_log"
    assert asked(bench, query) == [
        ("decided", "iterate", "maths", readout.decision.outcome, True, moment.replace(tzinfo=None), row.memo)
    ]
    (incident,) = asked(bench, "select rule, subject, experiment, status, evidence from incidents")
    assert incident == ("srm", "ship/platform", readout.experiment, "open", "1,900 to 2,100")


def test_a_moved_home_is_read_where_it_is_and_named_as_before(bench: Workbench, tmp_path: Path) -> None:
    put_rows(bench, "turns", "select 'it''s' as turn_id")
    build_warehouse(bench, duckdb.connect)
    words = (
        "select table_name, column_name, comment from duckdb_columns() where not internal "
        "and database_name <> 'moved' order by all"
    )
    here = asked(bench, words)
    (tmp_path / "else's").mkdir()
    moved = Home(tmp_path / "else's" / "data")
    moved.root.mkdir()
    for part in ("lake", "marts"):
        (bench.home.root / part).rename(moved.root / part)
    with open_warehouse(moved.warehouse) as connection:
        assert connection.execute("select turn_id from turns").fetchall() == [("it's",)]
        assert connection.execute("select count(*) from experiments").fetchall() != [(0,)]
        assert connection.execute(words).fetchall() == here
    # Built again it is an ordinary file once more.
    again = build_warehouse(replace(bench, home=moved), duckdb.connect)
    assert again.facts["changed"]
    with duckdb.connect(str(moved.warehouse), read_only=True) as plain:
        assert plain.execute("select turn_id from turns").fetchall() == [("it's",)]


def test_the_page_about_the_warehouse_is_what_is_built(bench: Workbench) -> None:
    assert (DOCS / "warehouse.md").read_text(encoding="utf-8") == warehouse_page(bench), (
        "write it again: exp warehouse --markdown docs/warehouse.md --home <a home with the shipped catalog>"
    )


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
