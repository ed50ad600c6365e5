"""The data folder in Python: what it gives, what it hides, what stays, and that its page can be run."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from exp_pipeline import Workspace
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.experiments.decision_log import record_decision
from exp_pipeline.steps.experiments.sealed_readouts import MEMO_FORMS, memo_bytes, readout_of
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.steps.warehouse import LAKE_VIEWS, build_warehouse, write_units
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log
from exp_pipeline.workspace import Figure
from exp_pipeline_tests.cli.calling import ROOT, environment
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.conftest import CATALOG
from exp_pipeline_tests.steps.late_worlds import NAME, START

AT = datetime(2026, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
def ws(read_out: Workbench, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The home that is read out, with its warehouse, a decision and an incident."""
    record_decision(read_out, NAME, "iterate", by="maths", reason="Too dear.", at=AT)
    finding = Finding(
        rule="srm", subject="hint-ladder", day=START, verdict="fail", evidence="1 to 2", owner="maths",
        experiment=NAME,
    )  # fmt: skip
    record_findings(state_log(read_out.home), [finding], AT)
    write_units(read_out)
    build_warehouse(read_out, duckdb.connect)
    monkeypatch.setattr(Workspace, "_read_catalog", lambda self: late.late_catalog(catalog))
    return Workspace(read_out.home.root)


def snapshot_folder(ws: Workspace) -> Path:
    marts = Marts(ws.path / "marts")
    return marts.folder(NAME, marts.current(NAME))


def test_it_gives_what_the_folder_holds(ws: Workspace, read_out: Workbench) -> None:
    stored = readout_of(read_out, NAME)
    assert ws.experiments == (NAME,)
    assert ws.readout(NAME) == stored
    assert ws.decision(NAME) == stored.decision
    assert ws.brief(NAME) == ws.brief(NAME, stored.provenance.snapshot) == stored.brief
    assert ws.metrics() == dict(read_out.catalog.metrics)
    for form in MEMO_FORMS:
        told = ws.memo(NAME, form=form)  # type: ignore[arg-type]
        assert told.encode() == memo_bytes(read_out, NAME, stored.provenance.snapshot, form)
    estimates = ws.estimates(NAME)
    assert estimates["absolute"].to_list() == [one.absolute for one in stored.estimates]
    assert estimates["flags"].to_list() == [list(one.flags) for one in stored.estimates]
    assert ws.guardrails(NAME)["harm"].to_list() == [one.harm for one in stored.guardrails]
    assert ws.integrity(NAME)["verdict"].to_list() == [one.verdict for one in stored.integrity]
    assert ws.counts(NAME)["assigned"].to_list() == [one.assigned for one in stored.counts]
    assert ws.segments(NAME).height == len(stored.segments)
    (row,) = ws.snapshots(NAME).iter_rows(named=True)
    assert row == {
        "snapshot": stored.provenance.snapshot, "as_of": stored.as_of, "current": True, "read_out": True,
        "code_version": stored.provenance.code_version, "brief_digest": stored.provenance.brief_digest,
    }  # fmt: skip
    (decision,) = ws.decisions(NAME, search="dear").iter_rows(named=True)
    assert (decision["outcome"], decision["by"], decision["at"]) == ("iterate", "maths", AT)
    assert decision["differs"] == (stored.decision.outcome != "iterate")
    assert ws.decisions("other").schema == ws.decisions().schema
    (incident,) = ws.incidents(NAME, resolved=False).iter_rows(named=True)
    assert (incident["rule"], incident["since"], incident["opened_at"]) == ("srm", START, AT)
    assert ws.incidents("other").height == 0
    assert ws.diff(NAME, stored.provenance.snapshot).nothing
    assert ws.plan(NAME).readiness is not None


def test_rows_are_those_of_the_files(ws: Workspace, read_out: Workbench) -> None:
    assert ws.mad(NAME).equals(pl.read_parquet(snapshot_folder(ws) / "mad.parquet"))
    assert ws.weeks(NAME).equals(pl.read_parquet(snapshot_folder(ws) / "weeks.parquet"))
    for name in ("unit_days", "sessions", "events"):
        manifests = read_out.lake.manifests(name, read_out.lake.partitions(name))
        assert manifests
        frame = ws.table(name).select(pl.len()).collect().item()
        assert frame == sum(one.rows for one in manifests)
    second = START + DAY
    days = ws.unit_days(second, second, experiment=NAME).collect()
    assert set(days["event_date"]) == {second}
    assert days.height == sum(
        one.rows for one in read_out.lake.manifests("unit_days", [f"event_date={second}"])
    )
    assert ws.unit_days(START + DAY * 90).collect().height == 0
    assert ws.sessions(START, START).collect()["event_date"].unique().to_list() == [START]
    for name in LAKE_VIEWS:
        assert ws.table(name).limit(1).collect().width > 0
    counted = ws.query("select count(*) as n from unit_days where experiment = $name", {"name": NAME})
    assert counted["n"].to_list() == [ws.unit_days().collect().height]


def test_arms_and_effects_are_left_out_while_blinded(
    ws: Workspace, read_out: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ws.readout(NAME).blinded
    assert ws.blinded() == {}
    assert "arm" in ws.mad(NAME).columns
    assert ws.table("units").collect()["arm"].null_count() == 0
    # The same home before its horizon: the readout as its step would have made it.
    hidden = ws.readout(NAME).model_copy(
        update={
            "blinded": True, "blinding_reason": "Too early.", "horizon_reached": False, "segments": (),
            "estimates": tuple(one for one in ws.readout(NAME).estimates if one.role == "guardrail"),
            "cumulative": (), "novelty": (), "robustness": (), "impact": (),
        }
    )  # fmt: skip
    name = hidden.provenance.snapshot
    folder = ws.path / "readouts" / f"experiment={NAME}" / f"snapshot={name}"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "readout.json").write_text(hidden.model_dump_json())
    assert ws.blinded().keys() == {NAME}
    assert set(ws.estimates(NAME)["role"]) == {"guardrail"}
    assert {"forest", "cumulative", "novelty"}.isdisjoint(ws.figures(NAME))
    telling = {"arm", "arm_bucket"}
    assert telling.isdisjoint(ws.mad(NAME).columns)
    assert telling.isdisjoint(ws.weeks(NAME).columns)
    for table in ("units", "assignments", "exposures", "events"):
        frame = ws.table(table).collect()
        for column in telling & set(frame.columns):
            assert frame[column].null_count() == frame.height
    build_warehouse(read_out, duckdb.connect)
    assert ws.query("select count(arm) as n from units")["n"].item() == 0
    # Without any readout nothing is known to be open.
    shutil.rmtree(folder)
    assert telling.isdisjoint(ws.mad(NAME).columns)
    assert "effects may be seen" in ws.blinded()[NAME]
    assert not hasattr(ws, "unblind")


def test_figures_show_themselves(ws: Workspace, tmp_path: Path) -> None:
    figures = ws.figures(NAME)
    assert {"guardrails", "sample_ratio"} <= figures.keys()
    one = ws.figure(NAME, "guardrails")
    assert one == figures["guardrails"]
    assert one._repr_svg_() == one.svg
    assert one.svg.startswith("<svg")
    bundle = one._repr_mimebundle_()
    assert bundle.keys() == {"image/svg+xml", "text/html", "text/plain"}
    assert one.svg in bundle["text/html"]
    assert one.save(tmp_path / "g.svg").read_text() == one.svg
    hostile = Figure("e", "s", "n", 'A "title" <b>', "words", "<svg/>")
    assert "<b>" not in hostile._repr_html_().replace("<svg/>", "")
    with pytest.raises(ValueError, match=r"name must be one of .*guardrails.*; got 'pie'"):
        ws.figure(NAME, "pie")


def asked(ws: Workspace, sql: str) -> Callable[[], object]:
    return lambda: ws.query(sql)


def test_mistakes_are_named(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ExpError, match=r"there is no data folder .*nowhere.*EXP_HOME"):
        Workspace(tmp_path / "nowhere")
    for call in (lambda: ws.brief("other"), lambda: ws.readout("other"), lambda: ws.mad("other")):
        with pytest.raises(ExpError, match=f"'other'; there are: {NAME}"):
            call()
    with pytest.raises(ExpError, match="no snapshot 0000 of hint-ladder; there are: "):
        ws.readout(NAME, "0000")
    with pytest.raises(ValueError, match=r"name must be one of events, .*; got 'bouts'"):
        ws.table("bouts")
    with pytest.raises(ValueError, match=r"form must be one of html, md, .*; got 'pdf'"):
        ws.memo(NAME, form="pdf")  # type: ignore[arg-type]
    before = (ws.path / "marts" / "warehouse.duckdb").read_bytes()
    target = tmp_path / "out.csv"
    for sql in (
        "create table mine as select 1", "select 1; select 2", f"copy (select 1) to '{target}'",
        "attach 'x.duckdb'", "set threads = 1", "drop view units", "",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="one statement that reads"):
            ws.query(sql)
    for sql in ("select nothing from units", "from nowhere", "selct"):
        with pytest.raises(ValueError, match="cannot answer this"):
            ws.query(sql)
    assert not target.exists()
    assert (ws.path / "marts" / "warehouse.duckdb").read_bytes() == before
    (ws.path / "marts" / "warehouse.duckdb").unlink()
    with pytest.raises(ExpError, match="there is no warehouse"):
        ws.query("select 1")


def test_nothing_is_written_and_the_folder_may_be_read_only(ws: Workspace, read_out: Workbench) -> None:
    def state() -> dict[str, bytes]:
        return {
            path.relative_to(ws.path).as_posix(): path.read_bytes()
            for path in sorted(ws.path.rglob("*"))
            if path.is_file() and "sqlite-" not in path.name
        }

    before = state()
    ws.readout(NAME), ws.figures(NAME), ws.mad(NAME), ws.decisions(), ws.incidents(), ws.blinded()
    ws.memo(NAME), ws.query("select 1 as one"), ws.unit_days().collect(), ws.snapshots(NAME), ws.plan(NAME)
    assert state() == before


def test_it_reads_while_a_writer_holds_the_log_and_the_warehouse_is_replaced(
    ws: Workspace, read_out: Workbench
) -> None:
    import sqlite3

    writer = sqlite3.connect(ws.path / "state" / "state.sqlite")
    try:
        writer.execute("begin immediate")
        assert ws.decisions().height == 1
        assert ws.incidents().height == 1
    finally:
        writer.rollback()
        writer.close()
    rows = ws.query("select count(*) as n from unit_days")
    record_decision(read_out, NAME, "stop", by="maths", reason="After all.", at=AT)
    build_warehouse(read_out, duckdb.connect)
    assert ws.query("select count(*) as n from unit_days").equals(rows)
    assert ws.query("select outcome from decision_log")["outcome"].to_list() == ["iterate", "stop"]


def test_the_catalog_is_read_again_when_it_changes(tmp_path: Path) -> None:
    shutil.copytree(CATALOG, tmp_path / "data" / "catalog")
    ws = Workspace(str(tmp_path / "data"))
    assert "class-pacing" in ws.experiments
    assert [str(one) for one in ws.problems] == []
    (tmp_path / "data" / "catalog" / "experiments" / "class-pacing.yaml").unlink()
    assert "class-pacing" not in ws.experiments
    path = tmp_path / "data" / "catalog" / "experiments" / "hint-ladder.yaml"
    path.write_text(path.read_text().replace("risk_class: ", "risk_class: tiny # "))
    assert "hint-ladder" not in ws.experiments
    assert any(problem.field == "risk_class" for problem in ws.problems)


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("EXP_HOME", str(tmp_path / "elsewhere"))
    assert Workspace().path == tmp_path / "elsewhere"
    monkeypatch.delenv("EXP_HOME")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Workspace().path == Path("data")


def test_the_import_is_light() -> None:
    program = (
        "import resource, sys; used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2]); "
        "before = used(); import exp_pipeline; from exp_pipeline import Workspace; "
        "heavy = {'polars', 'duckdb', 'pydantic', 'numpy', 'scipy', 'dagster', 'sqlglot', 'yaml'}; "
        "print(used() - before, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    seconds, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    # Measured 0.02 s; a machine under load may take twice that.
    assert float(seconds) < 0.1


def test_what_the_module_gives_is_what_it_says() -> None:
    import exp_pipeline

    assert exp_pipeline.__all__ == ["Workspace"]
    with pytest.raises(AttributeError, match="has no attribute 'Wrkspace'"):
        _ = exp_pipeline.Wrkspace
    assert (ROOT / "exp_pipeline" / "py.typed").is_file()


SIGNATURES = {
    "blinded": "(self) -> 'dict[str, str]'",
    "brief": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'Brief'",
    "counts": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "decision": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'Decision'",
    "decisions": "(self, experiment: 'str | None' = None, search: 'str' = '') -> 'pl.DataFrame'",
    "diff": "(self, experiment: 'str', first: 'str', second: 'str | None' = None) -> 'ReadoutDifference'",
    "estimates": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "experiments": "property",
    "figure": "(self, experiment: 'str', name: 'str', snapshot: 'str | None' = None) -> 'Figure'",
    "figures": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'dict[str, Figure]'",
    "guardrails": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "incidents": "(self, experiment: 'str | None' = None, *, resolved: 'bool' = True) -> 'pl.DataFrame'",
    "integrity": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "mad": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "memo": "(self, experiment: 'str', snapshot: 'str | None' = None, form: 'MemoForm' = 'md') -> 'str'",
    "metrics": "(self) -> 'dict[str, Metric]'",
    "path": "property",
    "plan": "(self, experiment: 'str') -> 'WholePlan'",
    "problems": "property",
    "query": "(self, sql: 'str', parameters: 'Sequence[object] | Mapping[str, object]' = ()) "
    "-> 'pl.DataFrame'",
    "readout": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'Readout'",
    "segments": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
    "sessions": "(self, first: 'date | None' = None, last: 'date | None' = None) -> 'pl.LazyFrame'",
    "snapshots": "(self, experiment: 'str') -> 'pl.DataFrame'",
    "table": "(self, name: 'str', first: 'date | None' = None, last: 'date | None' = None) -> 'pl.LazyFrame'",
    "unit_days": "(self, first: 'date | None' = None, last: 'date | None' = None, *, "
    "experiment: 'str | None' = None) -> 'pl.LazyFrame'",
    "weeks": "(self, experiment: 'str', snapshot: 'str | None' = None) -> 'pl.DataFrame'",
}


def test_names_and_signatures_stay() -> None:
    """Notebooks lean on these: add, but do not change or remove."""
    public = {
        name: "property" if isinstance(found, property) else str(inspect.signature(found))
        for name, found in vars(Workspace).items()
        if not name.startswith("_")
    }
    assert public == SIGNATURES
    assert str(inspect.signature(Workspace)) == "(home: 'str | Path | None' = None) -> 'None'"
    assert all(inspect.getdoc(getattr(Workspace, name)) for name in public)


def test_the_page_about_it_runs_as_it_stands(
    read_out: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CATALOG, read_out.home.catalog)
    (read_out.home.catalog / "experiments" / "class-pacing.yaml").unlink()
    build_warehouse(read_out, duckdb.connect)
    (tmp_path / "data").symlink_to(read_out.home.root)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "workspace.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, object] = {"print": lambda *told: None}
    for block in blocks:
        exec(compile(block, "docs/workspace.md", "exec"), names)  # the page's own text
    for method in SIGNATURES:
        assert re.search(rf"\b{method}\b", page), f"docs/workspace.md does not speak of {method}"


def typed_use(ws: Workspace, name: str) -> float:
    """How a typed script uses it: mypy checks that every type here is known, without a cast."""
    sizes: list[int] = [ws.mad(name).height, ws.sessions().collect().height, ws.query("select 1").width]
    svg: str = ws.figure(name, "guardrails").svg
    hidden: bool = ws.readout(name).blinded
    outcome: str = ws.decision(name).outcome
    lifts = [one.absolute for one in ws.readout(name).estimates if one.absolute is not None]
    return sum(lifts) + sum(sizes) + len(svg) + len(outcome) + hidden


def test_a_typed_script_runs(ws: Workspace) -> None:
    assert typed_use(ws, NAME) > 0
