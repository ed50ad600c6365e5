"""A readout stays what it was, to the byte, whatever changes after it; else it says why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from exp_pipeline.analysis.integrity.checks import equal_arms_check
from exp_pipeline.catalog import Catalog
from exp_pipeline.cli.app import app
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.ramps import RampState, folded
from exp_pipeline.report.differences import difference_headline, difference_markdown, difference_tables
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.again.staleness import stale_readouts
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.experiments import sealed_readouts
from exp_pipeline.steps.experiments.aa import equal_arms_before
from exp_pipeline.steps.experiments.chain import compute_readout, take_snapshot
from exp_pipeline.steps.experiments.decision_log import record_decision
from exp_pipeline.steps.experiments.differences import compare_snapshots, recompute
from exp_pipeline.steps.experiments.erased import ErasedSnapshotError
from exp_pipeline.steps.experiments.kept import read_kept
from exp_pipeline.steps.experiments.readouts import write_index, write_memo
from exp_pipeline.steps.experiments.sealed_readouts import (
    MEMO_FORMS,
    drawn_memo,
    folder_of,
    memo_bytes,
    readout_bytes,
    readout_of,
)
from exp_pipeline.steps.experiments.starting import lock_if_started
from exp_pipeline.steps.experiments.stored_readouts import parse_readout, stored_readout
from exp_pipeline.steps.experiments.unblinding import record_unblinding
from exp_pipeline.steps.operating.ramp_log import Step, append, entries_of
from exp_pipeline.steps.people.erasure import erase, receipts
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.cli.calling import environment
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.conftest import CATALOG, with_catalog
from exp_pipeline_tests.steps.late_worlds import NAME, START

LATER = datetime(2026, 12, 24, 18, tzinfo=UTC)
# `exp` a month on: whatever asks for the time is told another one.
A_MONTH_ON = (
    "import sys, time; t, n = time.time, time.time_ns; time.time = lambda: t() + 31 * 86400; "
    "time.time_ns = lambda: n() + 31 * 86400 * 10**9; from exp_pipeline.cli.app import main; "
    "sys.argv = ['exp', *sys.argv[1:]]; main()"
)


def current(bench: Workbench) -> str:
    name = Marts(bench.home.marts).current(NAME)
    assert name is not None
    return name


def everything_changed(bench: Workbench, files: late.Files) -> Workbench:
    """The home with late files, another brief and metrics, locked and unblinded, and read out again."""
    day = START + DAY * 2
    more = [
        late.moved(one, event_id=f"late-{one['event_id']}")
        for one in late.events_of(files)
        if one["event_name"] == "answer_attempted" and one["client_ts"][:10] == f"{day}"
    ]
    late.put(bench, {f"received_date={day}/late.ndjson": late.written(more)})
    brief = bench.catalog.briefs[NAME]
    primary = bench.catalog.metrics[brief.primary]
    other = with_catalog(
        bench,
        briefs={NAME: brief.model_copy(update={"srm_alpha": 0.002, "title": "Another title"})},
        metrics={**bench.catalog.metrics, brief.primary: primary.model_copy(update={"title": "Renamed"})},
    )
    catch_up(other)
    lock_if_started(other, other.catalog.briefs[NAME], LATER)
    record_unblinding(other.home, other.catalog.briefs[NAME], "the board asked", "maths", LATER)
    assert take_snapshot(other, NAME).made_now
    write_memo(other, NAME)
    return other


def test_nothing_that_changes_later_changes_a_readout(read_out: Workbench, late_files: late.Files) -> None:
    old = current(read_out)
    then = readout_bytes(read_out, NAME, old)
    memos = {form: memo_bytes(read_out, NAME, old, form) for form in MEMO_FORMS}
    other = everything_changed(read_out, late_files)
    new = current(other)
    assert new != old
    assert readout_bytes(other, NAME, old) == then
    assert {form: memo_bytes(other, NAME, old, form) for form in MEMO_FORMS} == memos
    # Nor with what was sealed gone: the same code computes the same bytes from what the snapshot keeps.
    shutil.rmtree(folder_of(other, NAME, old))
    assert readout_bytes(other, NAME, old) == then
    assert memo_bytes(other, NAME, old, "json") == memos["json"]
    # The newer one speaks of the newer state.
    told = json.loads(readout_bytes(other, NAME, new))
    assert told["brief"]["title"] == "Another title"
    assert [one["reason"] for one in told["unblindings"]] == ["the board asked"]
    assert {one["why"] for one in told["since_last"]["inputs"]} >= {
        "late data",
        "brief",
        "metrics",
        "lock",
        "unblinding",
    }

    # From another process a month later, whose catalog is the shipped one: other dates, other texts.
    shutil.copytree(CATALOG, read_out.home.catalog)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            A_MONTH_ON,
            "readout",
            NAME,
            "--snapshot",
            old,
            "--json",
            "--home",
            str(read_out.home.root),
        ],
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == memos["json"]


def test_two_readouts_are_compared_by_cause_and_consequence(
    read_out: Workbench, late_files: late.Files
) -> None:
    old = current(read_out)
    nothing = compare_snapshots(read_out, NAME, old, old)
    assert nothing.nothing
    assert "nothing differs" in difference_headline(nothing)
    other = everything_changed(read_out, late_files)
    found = compare_snapshots(other, NAME, old, current(other))
    causes = {one.why: one for one in found.inputs}
    assert causes["late data"].days == (START + DAY * 2,)
    assert {"brief", "metrics", "lock", "unblinding"} <= causes.keys()
    changed = {one.field: (one.before, one.now) for one in found.brief}
    assert changed["srm_alpha"][1] == "0.002"
    assert changed["title"][1] == "Another title"
    (renamed,) = [one for one in found.metrics if one.now == "Renamed"]
    assert renamed.field.startswith("metrics.")
    assert {one.field for one in found.standing} >= {"locked", "unblinded because"}
    # Estimates: each difference is that of the two stored readouts, in the older one's standard errors.
    before, now = (json.loads(readout_bytes(other, NAME, name)) for name in (old, current(other)))
    old_rows = {(one["metric"], one["arm"]): one for one in before["estimates"]}
    new_rows = {(one["metric"], one["arm"]): one for one in now["estimates"]}
    assert found.movements
    for one in found.movements:
        a, b = old_rows[one.metric, one.arm], new_rows[one.metric, one.arm]
        if a["absolute"] is None or b["absolute"] is None:
            assert one.moved is None
            continue
        assert one.moved == b["absolute"] - a["absolute"]
        assert one.in_old_errors is None or one.in_old_errors == pytest.approx(one.moved / a["se"])
    # The lock is a check of integrity, and it changed.
    verdicts = {one.name: (one.before, one.now) for one in found.integrity}
    old_verdicts = {one["name"]: one["verdict"] for one in before["integrity"]}
    new_verdicts = {one["name"]: one["verdict"] for one in now["integrity"]}
    assert verdicts == {
        name: (old_verdicts.get(name), new_verdicts.get(name))
        for name in {*old_verdicts, *new_verdicts}
        if old_verdicts.get(name) != new_verdicts.get(name)
    }
    if before["blinded"] or now["blinded"]:
        assert found.effects_hidden_because
        assert {one.role for one in found.movements} <= {"guardrail"}
        assert found.rules == ()
    text = difference_markdown(found)
    for words in ("Late data", "Unblinded early", "Another title", "Renamed", f"{START + DAY * 2}"):
        assert words in text
    assert {table.key for table in difference_tables(found)} >= {"readouts", "causes", "brief", "metrics"}
    # The other way round it is the same difference.
    back = compare_snapshots(other, NAME, current(other), old)
    assert {(one.field, one.now, one.before) for one in back.brief} == {
        (one.field, one.before, one.now) for one in found.brief
    }


def test_a_changed_or_lost_file_is_put_back_by_the_same_code_alone(read_out: Workbench) -> None:
    name = current(read_out)
    then = readout_bytes(read_out, NAME, name)
    path = folder_of(read_out, NAME, name) / "readout.json"
    other_code = replace(read_out, code_version="0.2+abcdef")
    for damage in ("changed", "gone"):
        if damage == "changed":
            path.write_bytes(then.replace(b'"horizon_reached": true', b'"horizon_reached": false') + b"\n")
        else:
            path.unlink()
        with pytest.raises(StoreError, match="--recompute"):
            readout_bytes(other_code, NAME, name)
        assert readout_bytes(read_out, NAME, name) == then
        assert path.read_bytes() == then
    # A changed memo is refused: it could be drawn again, but not known to be the same.
    page = folder_of(read_out, NAME, name) / "memo.html"
    page.write_text("<p>Ship it.</p>")
    with pytest.raises(StoreError, match="changed after it was sealed"):
        memo_bytes(read_out, NAME, name, "html")


def test_a_sealed_memo_shows_the_ramp_of_its_day_and_leads_back_to_the_index(read_out: Workbench) -> None:
    brief = read_out.catalog.briefs[NAME]
    first = current(read_out)
    assert "Reached" not in memo_bytes(read_out, NAME, first, "html").decode()
    log = state_log(read_out.home)
    entered = datetime.combine(brief.start, time(9), UTC)
    step = Step("advance", "ramp", 1, 3, 0.25, "schedule", ("it is ready",))
    assert append(log, brief, RampState(), step, entered) is not None
    pause, resume = (
        Step("pause", "ramp", 1, 3, 0.0, "maths", ()),
        Step("resume", "ramp", 1, 3, 0.25, "maths", ()),
    )
    for hours, step in ((2, pause), (4, resume)):
        state = folded(entries_of(log, brief))
        assert append(log, brief, state, step, entered + timedelta(hours=hours)) is not None
    taken = take_snapshot(read_out, NAME)
    assert taken.made_now
    write_memo(read_out, NAME)
    then = memo_bytes(read_out, NAME, taken.snapshot, "html").decode()
    assert f"reached {brief.start}" in then
    assert f"The ramp was paused on {brief.start}: every unit had control for part of that day" in then
    assert '<a href="../../index.html">All experiments</a>' in then
    beside = (read_out.home.readouts / f"{NAME}.html").read_text()
    assert '<a href="index.html">All experiments</a>' in beside
    assert beside.replace('href="index.html"', 'href="../../index.html"') == then

    # What people do afterwards is another memo's: this one is drawn again to the byte.
    state = folded(entries_of(log, brief))
    late = Step("pause", "ramp", 1, 3, 0.0, "maths", ("costs rise",))
    assert append(log, brief, state, late, datetime.combine(brief.end, time(9), UTC)) is not None
    assert take_snapshot(read_out, NAME).snapshot == taken.snapshot
    drawn = drawn_memo(read_out, NAME, taken.snapshot)
    assert drawn["html"].decode() == then
    assert drawn == {form: memo_bytes(read_out, NAME, taken.snapshot, form) for form in MEMO_FORMS}


def test_a_changed_readout_is_told_where_it_is_read(read_out: Workbench, tmp_path: Path) -> None:
    name = current(read_out)
    own = read_out.catalog.briefs[NAME]
    alike = own.model_copy(
        update={
            "arms": tuple(arm.model_copy(update={"description": "as ever"}) for arm in own.arms),
            "receipt": own.receipt.model_copy(update={"may_differ": ()}),
        }
    )
    after = {"name": "after", "start": own.end, "end": own.end + DAY, "new_logging": True}
    asking = own.model_copy(update=after)
    bench = with_catalog(read_out, briefs={NAME: alike, "after": asking})
    stored = stored_readout(bench.home, NAME)
    assert stored == readout_of(bench, NAME)
    (found,) = equal_arms_before(bench, asking)
    assert (found.units, found.unreadable) == (sum(one.assigned for one in stored.counts), "")

    assert "planned term is over, decision due" in write_index(bench).read_text()
    lock_if_started(bench, alike, LATER)
    record_decision(bench, NAME, "iterate", by="maths", reason="Costs rise.", at=LATER + DAY)
    assert ">decided</td>" in write_index(bench).read_text()

    path = folder_of(read_out, NAME, name) / "readout.json"
    path.write_bytes(path.read_bytes().replace(b'"verdict": "fail"', b'"verdict": "pass"') + b" ")
    with pytest.raises(StoreError, match="changed after it was sealed"):
        stored_readout(bench.home, NAME)
    (found,) = equal_arms_before(bench, asking)
    check = equal_arms_check((found,), asking)
    assert (check.verdict, found.p_value, found.failed) == ("cannot_tell", None, ())
    assert f"The stored readout of {NAME}" in check.evidence
    assert str(tmp_path) not in check.evidence
    assert f"{NAME} is left out: its stored readout is not what was sealed" in write_index(bench).read_text()

    shutil.copytree(CATALOG, bench.home.catalog)
    told = CliRunner().invoke(app, ["status", "--home", str(bench.home.root)])
    assert told.exit_code == 0, told.output
    assert "Readouts not as sealed" in told.stdout
    assert f"`exp readout {NAME}` puts it back" in told.stdout


def test_computing_it_again_names_every_field_that_differs(
    read_out: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = current(read_out)
    found = recompute(read_out, NAME, name)
    assert found.same_bytes
    assert (found.differences, found.damaged) == ((), ())
    later = replace(read_out, code_version="0.2+abcdef")
    found = recompute(later, NAME, name)
    assert not found.same_bytes
    assert (found.differences, found.computed_by) == ((), "0.2+abcdef")
    assert found.stored_by == read_out.code_version

    # Code that computes otherwise, and a file of the snapshot that somebody changed.
    from exp_pipeline.steps.experiments import differences

    real = compute_readout

    def other(bench: Workbench, experiment: str, snapshot: str | None = None) -> object:
        readout = real(bench, experiment, snapshot)
        count = readout.counts[0].model_copy(update={"assigned": readout.counts[0].assigned + 1})
        return readout.model_copy(update={"counts": (count, *readout.counts[1:])})

    monkeypatch.setattr(differences, "compute_readout", other)
    folder = Marts(read_out.home.marts).folder(NAME, name)
    receipts_file = folder / "receipts.parquet"
    pl.read_parquet(receipts_file).write_parquet(receipts_file, compression="uncompressed")
    found = recompute(read_out, NAME, name)
    (one,) = found.differences
    arm = json.loads(readout_bytes(read_out, NAME, name))["counts"][0]
    assert one.field == f"counts[{arm['arm']}].assigned"
    assert (one.before, one.now) == (str(arm["assigned"]), str(arm["assigned"] + 1))
    assert found.damaged == ("receipts.parquet",)


def test_an_erased_snapshot_is_answered_with_the_receipt(read_out: Workbench, late_files: late.Files) -> None:
    old = current(read_out)
    page = folder_of(read_out, NAME, old) / "memo.html"
    published = page.read_bytes()
    seen = Counter(one["learner_id"] for one in late.events_of(late_files) if one.get("role") == "student")
    held = set(pl.read_parquet(Marts(read_out.home.marts).folder(NAME, old) / "mad.parquet")["unit_id"])
    assert read_out.key is not None
    raw = next(one for one, _ in seen.most_common() if read_out.key.pseudonym(one) in held)
    erase(read_out, [raw], "privacy desk", at=LATER, connect=duckdb.connect)
    (receipt,) = receipts(read_out)
    assert f"{NAME}/{old}" in receipt.snapshots
    for ask in (
        lambda: readout_bytes(read_out, NAME, old),
        lambda: memo_bytes(read_out, NAME, old, "json"),
        lambda: recompute(read_out, NAME, old),
        lambda: compare_snapshots(read_out, NAME, old, current(read_out)),
    ):
        with pytest.raises(ErasedSnapshotError) as refused:
            ask()
        assert refused.value.receipt == receipt.erasure
        assert receipt.erasure in str(refused.value)
        assert "privacy desk" in str(refused.value)
        assert raw not in str(refused.value)
    assert page.read_bytes() == published
    assert current(read_out) != old
    assert readout_bytes(read_out, NAME, current(read_out))


def test_what_a_snapshot_keeps_is_the_catalog_of_that_moment(read_out: Workbench, catalog: Catalog) -> None:
    kept = read_kept(Marts(read_out.home.marts).folder(NAME, current(read_out)))
    brief = read_out.catalog.briefs[NAME]
    assert kept.brief == brief
    assert kept.brief_digest == brief.digest()
    assert kept.metrics == read_out.catalog.metrics_of(brief)
    assert kept.measures == read_out.catalog.measures_of(brief)
    assert kept.before is None
    assert stale_readouts(read_out) == ()


def test_every_shipped_metric_and_brief_survives_being_kept(catalog: Catalog, tmp_path: Path) -> None:
    from exp_pipeline.catalog import lock_state
    from exp_pipeline.steps.experiments.kept import Kept, write_kept

    for brief in catalog.briefs.values():
        kept = Kept(
            brief=brief,
            brief_digest=brief.digest(),
            metrics=dict(catalog.metrics),
            measures=dict(catalog.measures),
            lock=lock_state(brief, None),
        )
        write_kept(kept, tmp_path)
        assert read_kept(tmp_path) == kept


def test_a_snapshot_that_is_not_there_or_of_another_version_is_named(read_out: Workbench) -> None:
    with pytest.raises(ExpError, match="no snapshot 0000 of hint-ladder; there are: "):
        readout_bytes(read_out, NAME, "0000")
    with pytest.raises(ValueError, match=r"form must be one of .*; got 'pdf'"):
        memo_bytes(read_out, NAME, current(read_out), "pdf")
    name = current(read_out)
    shutil.rmtree(folder_of(read_out, NAME, name))
    (Marts(read_out.home.marts).folder(NAME, name) / "kept.json").unlink()
    with pytest.raises(ExpError, match="earlier version, which kept neither its brief nor its metrics"):
        readout_bytes(read_out, NAME, name)
    with pytest.raises(ExpError, match="form of another version"):
        sealed_readouts.parsed_readout(b'{"schema_version": "0.1", "experiment": 3}', NAME, name)


def test_a_readout_of_the_schema_before_is_read_as_todays(read_out: Workbench) -> None:
    plain = json.loads(readout_bytes(read_out, NAME, current(read_out)))
    del plain["unblindings"]
    old = json.dumps({**plain, "schema_version": "0.9"}).encode()
    assert parse_readout(old).counts == sealed_readouts.readout_of(read_out, NAME).counts
