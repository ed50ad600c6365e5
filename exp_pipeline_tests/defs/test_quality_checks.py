"""The quality rules as Dagster shows them: a check a rule, with its history; a page linked from its day."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from exp_pipeline.model.quality_rules import QUALITY_RULES
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import environment_of, failures, instance_in, run_job
from exp_pipeline_tests.steps import quality_worlds as worlds

# Dagster's own: it asks itself for the run by a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
KEY = dg.AssetKey("data_quality")
WRITTEN = ("lake/data_quality", "readouts/quality")


@dataclass(frozen=True)
class Judged:
    home: Path
    instance: dg.DagsterInstance
    one_day: dg.ExecuteInProcessResult
    range_of_days: dg.ExecuteInProcessResult
    after_first: dict[str, str]
    after_second: dict[str, str]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    root = tmp_path_factory.mktemp("quality_checks")
    home = root / "data"
    home.mkdir()
    shutil.copytree(small.CATALOG, home / "catalog")
    (home / "landing").mkdir()
    key = {"EXP_HMAC_KEY": small.KEY}
    lost = worlds.without(worlds.named("tutor_turn_response_shown") & worlds.some(0.4, 1))
    with (
        duckdb.connect() as connection,
        workbench(Home(home), connection, run_id="test", environment=key) as bench,
    ):
        worlds.make_past(bench)
        worlds.add_day(bench, None, lost)
    day = worlds.DAY.isoformat()
    with environment_of(home), instance_in(root / "dagster") as instance:
        one = run_job(instance, "daily_facts", partition=day, only=["data_quality"])
        first = small.digests(home, WRITTEN)
        days = (worlds.PAST[-1].isoformat(), day)
        two = run_job(instance, "daily_facts", days=days, only=["data_quality"])
        run_job(instance, "daily_facts", partition=day, only=["data_quality"])
        yield Judged(home, instance, one, two, first, small.digests(home, WRITTEN))


def metadata(result: dg.ExecuteInProcessResult, rule: str) -> dict[str, object]:
    (one,) = (one for one in result.get_asset_check_evaluations() if one.check_name == rule)
    return {name: value.value for name, value in one.metadata.items()}


def test_every_rule_is_one_check_and_only_the_defect_fails(judged: Judged) -> None:
    for result in (judged.one_day, judged.range_of_days):
        assert failures(result) == []
        found = {one.check_name: one for one in result.get_asset_check_evaluations()}
        assert set(found) == set(QUALITY_RULES)
        failed = {name for name, one in found.items() if not one.passed}
        assert {"answered_turns", "responses_per_turn"} <= failed
        assert failed <= {"answered_turns", "responses_per_turn", "volume"}
        assert found["answered_turns"].severity == dg.AssetCheckSeverity.ERROR
        assert (found["answered_turns"].description or "").startswith("Fail: ")


def test_a_check_shows_number_line_groups_and_days(judged: Judged) -> None:
    told = metadata(judged.range_of_days, "answered_turns")
    assert told["threshold"] == 0.8
    assert isinstance(told["number"], float)
    assert 0.55 < told["number"] < 0.65
    assert told["owner"] == "tutor-platform"
    assert told["runbook"] == "docs/runbooks/quality/answered-turns.md"
    assert str(told["trend"]).startswith("![Turns with a response](data:image/svg+xml,")
    assert len(str(told["trend"])) < 1000
    assert {"groups", "by_day", "failing_since", "first_look", "line", "verdict", "day"} <= set(told)


def test_a_day_s_partition_carries_its_page_and_numbers(judged: Judged) -> None:
    records = judged.instance.fetch_materializations(KEY, limit=10).records
    by_day = {
        record.asset_materialization.partition: record for record in records if record.asset_materialization
    }
    assert set(by_day) == {worlds.DAY.isoformat(), worlds.PAST[-1].isoformat()}
    made = by_day[worlds.DAY.isoformat()].asset_materialization
    assert made is not None
    told = {name: value.value for name, value in made.metadata.items()}
    assert Path(str(told["page"])).is_file()
    assert Path(str(told["all_days"])).is_file()
    assert told["rules_fail"] in (1, 2, 3)
    assert 0.5 < float(str(told["rule/answered_turns"])) < 0.7
    assert "Turns with a response" in str(told["failing"])


def test_a_second_run_changes_no_byte_of_the_day(judged: Judged) -> None:
    assert len(judged.after_first) >= 4
    changed = {name for name, digest in judged.after_first.items() if judged.after_second.get(name) != digest}
    # The day before was judged in between: the day's pages and the index now show it too.
    pages = {"index.html", f"{worlds.DAY}.html", f"{worlds.DAY}.md"}
    assert {name.rpartition("/")[2] for name in changed} <= pages


def test_a_failure_opens_one_incident_that_names_its_runbook(judged: Judged) -> None:
    incidents = open_incidents(StateLog(judged.home / "state" / "state.sqlite"), rule="data_quality")
    found = {one.subject: one for one in incidents}
    assert found["answered_turns:turns"].runbook == "docs/runbooks/quality/answered-turns.md"
    assert found["answered_turns:turns"].severity == "page"
