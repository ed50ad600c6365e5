"""Defects planted in simulated days: each rule sees its own on that day, and none on a clean day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.deprecations import Deprecation
from exp_pipeline.contracts.validation import validate_table
from exp_pipeline.model.quality import GatewayTotals
from exp_pipeline.model.quality_rules import QUALITY_RULES
from exp_pipeline.steps.context import Window, Workbench, event_day
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.quality import counts as quality_counts
from exp_pipeline.steps.quality import days as quality
from exp_pipeline.steps.quality import groups as quality_groups
from exp_pipeline.steps.quality.days import judge_quality
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps import quality_worlds as worlds
from exp_pipeline_tests.steps.conftest import SECRET, Opened, with_catalog
from exp_pipeline_tests.steps.quality_worlds import DAY, Defect, again, changed, every, later, named, some

TODAY = Window.of(DAY, DAY)
RESPONSE, ANSWER = named("tutor_turn_response_shown"), named("answer_attempted")
SMALL = named("answer_attempted", "hint_requested", "tool_call_executed", "model_request_created")
# Every event in one of a hundred parts, so that it has one kind of delay.
SPREAD = pl.col("event_id").hash(8) % 100

SILENT = changed(
    RESPONSE & (pl.col("platform") == "web") & some(0.6, 1), turn_id=pl.lit(None, dtype=pl.String)
)
FEWER = every(
    worlds.without((pl.col("platform") == "web") & ((pl.col("session_id").hash(2) % 10) < 7)),
    worlds.without(named("tutor_session_ended") & some(0.9, 3)),
)
GARBLED = every(
    changed(RESPONSE & some(0.3, 4), ttft_ms=pl.lit(None, dtype=pl.Float64)),
    changed(ANSWER & some(0.15, 5), attempt_number=pl.lit(-1)),
    again(some(0.04, 6), 60, app_version=pl.lit("9.9.9")),
    again(some(0.4, 7), 120),
)
SLOW = every(
    changed(SPREAD < 15, client_ts=pl.col("received_at") + timedelta(hours=1)),
    later(SPREAD.is_between(15, 39), 3),
    later(SPREAD.is_between(40, 54), 30),
    later(SPREAD.is_between(55, 79), 60),
    later(SMALL & (SPREAD >= 80), 120),
)
ORPHANS = every(
    changed(RESPONSE & some(0.1, 13), turn_id="other-" + pl.col("turn_id")),
    changed(named("feedback_given") & some(0.5, 14), turn_id="gone-" + pl.col("turn_id")),
    changed(
        named("experiment_exposed") & some(0.3, 15),
        learner_id="new-" + pl.col("learner_id"),
        unit_id="new-" + pl.col("learner_id"),
    ),
    changed(RESPONSE & some(0.3, 16), model_version=pl.lit("2026-03-17-hotfix")),
    worlds.appeals(40),
)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Path:
    """A home with the days before, landed and run once."""
    home = Home(tmp_path_factory.mktemp("quality") / "past")
    home.landing.mkdir(parents=True)
    key = {"EXP_HMAC_KEY": SECRET}
    with (
        duckdb.connect() as connection,
        workbench(home, connection, run_id="test", environment=key, catalog=catalog, threads=1) as bench,
    ):
        worlds.make_past(bench)
    return home.root


def verdicts(bench: Workbench, day: date = DAY) -> pl.DataFrame:
    """The findings that the lake holds of a day, checked against their contract."""
    bench.read("found", "data_quality", bench.lake.manifests("data_quality", [event_day(day)]))
    return validate_table("data_quality", bench.engine.frame("select * from found"), event_day(day))


def failing(frame: pl.DataFrame) -> set[str]:
    return set(frame.filter(pl.col("verdict").is_in(["warn", "fail"]))["rule"].to_list())


def told(frame: pl.DataFrame, rule: str) -> dict[str, object]:
    return frame.filter(pl.col("rule") == rule).row(0, named=True)


World = Callable[[Defect | None], pl.DataFrame]


@pytest.fixture
def world(opened: Opened, past: Path) -> World:
    def make(defect: Defect | None) -> pl.DataFrame:
        bench = opened("home")
        worlds.add_day(bench, past, defect)
        judge_quality(bench, TODAY)
        return verdicts(bench)

    return make


def test_a_clean_day_passes_every_rule_that_can_be_told(world: World) -> None:
    frame = world(None)
    assert frame["rule"].to_list() == sorted(QUALITY_RULES)
    assert failing(frame) == set()
    unknown = set(frame.filter(pl.col("verdict") == "cannot_tell")["rule"].to_list())
    assert unknown == {"gateway_tokens", "orphan_appeals"}


def test_responses_lost_on_one_platform(world: World) -> None:
    frame = world(SILENT)
    # Its responses no longer name a turn, which the contract asks of them: they are refused.
    assert failing(frame) >= {"answered_turns", "responses_per_turn", "critical_nulls"}
    assert failing(frame) <= {
        "answered_turns", "responses_per_turn", "critical_nulls", "contract_breaks", "volume",
    }  # fmt: skip
    row = told(frame, "answered_turns")
    assert row["verdict"] == "fail"
    assert 0.3 < float(str(row["value"])) < 0.5
    assert str(row["evidence"]).startswith("web: ")
    assert row["opens"] == "page"
    assert "turn_id of tutor_turn_response_shown" in str(told(frame, "critical_nulls")["evidence"])


def test_a_platform_that_sends_less_and_sessions_that_end_in_silence(world: World) -> None:
    frame = world(FEWER)
    assert failing(frame) == {"volume", "explicit_ends"}
    volume, ends = told(frame, "volume"), told(frame, "explicit_ends")
    assert volume["verdict"] == "fail"
    assert "web" in str(volume["evidence"]) or "tutor_session_ended" in str(volume["evidence"])
    assert float(str(ends["value"])) == pytest.approx(0.9, abs=0.07)


def test_rows_that_are_doubled_empty_broken_or_unreadable(opened: Opened, past: Path) -> None:
    bench = opened("home")
    garbage = [b'{"event_id": "cut off', b"\xff\xfe not text"] * 150
    worlds.add_day(bench, past, GARBLED, garbage)
    judge_quality(bench, TODAY)
    frame = verdicts(bench)
    assert failing(frame) == {
        "retries", "conflicting_duplicates", "critical_nulls", "contract_breaks", "unreadable_rows",
    }  # fmt: skip
    # Independent of the code: what was planted, among all lines of the day's files.
    assert float(str(told(frame, "retries")["value"])) == pytest.approx(0.4 / 1.49, abs=0.02)
    assert float(str(told(frame, "critical_nulls")["value"])) == pytest.approx(0.3, abs=0.05)
    assert "ttft_ms of tutor_turn_response_shown" in str(told(frame, "critical_nulls")["evidence"])
    breaks = str(told(frame, "contract_breaks")["evidence"])
    assert breaks.startswith("answer_attempted (out_of_range:attempt_number): 1")
    assert "xff" not in str(frame.rows())


def test_rows_that_come_late_and_clocks_that_are_ahead(world: World) -> None:
    frame = world(SLOW)
    assert failing(frame) == {"arrival_2h", "arrival_24h", "late_rows", "too_late_rows", "clock_skew"}
    assert told(frame, "arrival_24h")["verdict"] == "fail"
    # A row is later than a day after its day only where it came on the third day: 60 hours, or 30 from
    # an afternoon.
    assert 0.2 < float(str(told(frame, "late_rows")["value"])) < 0.5


def test_what_late_data_ask_is_not_told_before_they_can_have_come(opened: Opened, past: Path) -> None:
    bench = opened("home")
    worlds.add_day(bench, past, SLOW)
    for name in bench.lake.partitions("landed"):
        if name > f"received_date={DAY}":
            (bench.lake.folder("landed", name) / "manifest.json").unlink()
    judge_quality(bench, TODAY)
    frame = verdicts(bench)
    assert {told(frame, rule)["reason"] for rule in ("arrival_24h", "late_rows")} == {"too_early"}
    assert told(frame, "arrival_2h")["verdict"] != "cannot_tell"


def test_what_points_nowhere_and_what_nobody_announced(opened: Opened, past: Path) -> None:
    bench = opened("home")
    worlds.add_day(bench, past, ORPHANS)
    (bench.home.root / "reference").mkdir()
    counted = "day,model_name,tokens_in,tokens_out\n2026-03-17,tutor-large,900000000,1\n"
    (bench.home.root / "reference" / "gateway.csv").write_text(counted)
    judged = with_quality(bench, gateway=GatewayTotals(files="reference/*.csv"))
    judge_quality(judged, TODAY)
    frame = verdicts(bench)
    assert failing(frame) >= {
        "orphan_responses", "orphan_feedback", "orphan_exposures", "orphan_appeals", "receipt_drift",
        "gateway_tokens",
    }  # fmt: skip
    # Responses under another turn leave their own turns without one.
    assert failing(frame) <= {
        "orphan_responses", "orphan_feedback", "orphan_exposures", "orphan_appeals", "receipt_drift",
        "gateway_tokens", "answered_turns", "responses_per_turn",
    }  # fmt: skip
    assert float(str(told(frame, "orphan_exposures")["value"])) == pytest.approx(0.3, abs=0.06)
    drift = told(frame, "receipt_drift")
    assert "model_version=2026-03-17-hotfix" in str(drift["evidence"])
    assert (drift["value"], drift["verdict"], drift["opens"]) == (1.0, "fail", "warn")
    announced = with_quality(bench, announced={"model_version": ("2026-03-17-hotfix",)})
    judge_quality(announced, TODAY)
    assert "receipt_drift" not in failing(verdicts(bench))


def test_the_gateway_that_agrees_and_the_file_that_cannot_be_read(opened: Opened, past: Path) -> None:
    bench = opened("home")
    worlds.add_day(bench, past)
    bench.read("day_events", "events", bench.lake.manifests("events", [event_day(DAY)]))
    sent, written = bench.engine.row(
        "select sum(tokens_in), sum(tokens_out) from day_events "
        "where event_name = 'tutor_turn_response_shown'"
    )
    folder = bench.home.root / "reference"
    folder.mkdir()
    judged = with_quality(bench, gateway=GatewayTotals(files="reference/*.csv"))

    def gateway(text: str) -> dict[str, object]:
        (folder / "gateway.csv").write_text(f"day,model_name,tokens_in,tokens_out\n{text}\n")
        judge_quality(judged, TODAY)
        return told(verdicts(bench), "gateway_tokens")

    assert gateway(f"{DAY},tutor-large,{sent},{written}")["verdict"] == "pass"
    warned = gateway(f"{DAY},tutor-large,{sent},{round(int(written) * 1.05)}")
    assert (warned["verdict"], warned["opens"]) == ("warn", "none")
    assert str(warned["evidence"]).startswith("tokens out: ")
    assert gateway(f"{DAY + timedelta(days=1)},tutor-large,1,1")["reason"] == "not_configured"
    broken = gateway(f"{DAY},tutor-large,many,{written}")
    assert broken["reason"] == "unreadable_totals"
    assert str(broken["evidence"]).startswith("reference/gateway.csv: ")


def test_a_deprecated_field_that_is_still_sent(
    opened: Opened, past: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = opened("home")
    worlds.add_day(bench, past)
    for left, verdict in ((40, "pass"), (10, "warn"), (-1, "fail")):
        one = Deprecation(None, None, "retry_count", DAY + timedelta(days=left))
        for module in (quality, quality_counts, quality_groups):
            monkeypatch.setattr(module, "deprecations", lambda one=one: (one,))
        judge_quality(bench, TODAY)
        row = told(verdicts(bench), "deprecated_fields")
        assert (row["verdict"], row["value"]) == (verdict, float(left))
        assert str(row["evidence"]).startswith("retry_count is still sent in ")


def test_the_window_and_a_second_run_change_no_byte(opened: Opened, past: Path) -> None:
    bench, other = opened("home"), opened("other")
    for one in (bench, other):
        worlds.add_day(one, past, GARBLED)
    judge_quality(bench, Window.of(worlds.START, DAY))
    once = judged_files(bench)
    assert len(once) == 4
    judge_quality(bench, Window.of(worlds.START, DAY))
    assert judged_files(bench) == once
    for day in (DAY, *worlds.PAST):
        judge_quality(other, Window.of(day, day))
    assert judged_files(other) == once


def test_a_policy_that_names_a_field_that_no_event_has(opened: Opened, past: Path) -> None:
    bench = opened("home")
    worlds.add_day(bench, past)
    judged = with_quality(bench, critical={"answer_attempted": ("moods",)})
    with pytest.raises(ValueError, match=r"critical\.answer_attempted: moods"):
        judge_quality(judged, TODAY)


def with_quality(bench: Workbench, **changes: object) -> Workbench:
    policies = bench.catalog.policies
    changed_policy = policies.quality.model_copy(update=changes)
    return with_catalog(bench, policies=policies.model_copy(update={"quality": changed_policy}))


def judged_files(bench: Workbench) -> dict[str, bytes]:
    folder = bench.home.lake / "data_quality"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))
    }
