"""What a catalog holds once read, what a lenient reading keeps, and what names its contents."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exp_pipeline.catalog import Catalog, check_expressions, load_brief, load_catalog, without
from exp_pipeline.catalog.documents import read_document
from exp_pipeline.catalog.wording import parse_noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import SpecError
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.policies import Policies
from exp_pipeline_tests.catalog.folders import (
    BRIEF,
    EVENT_COLUMNS,
    EVENT_NAMES,
    METRICS,
    SESSION_COLUMNS,
    write_catalog,
)

SHIPPED = Path(__file__).parents[2] / "data" / "catalog"
OTHER = BRIEF.replace("quick-hints", "slow-hints").replace("primary: accuracy", "primary: other")
OTHER = OTHER.replace("secondary: [waiting]\n", "").replace("[right_answers]", "[answers]")
OTHER_METRIC = (
    "metrics:\n  - {name: other, title: O, owner: o, definition: d, type: mean, numerator: answers, "
    "direction: increase, kind: input}\n"
)


def test_a_valid_catalog_is_read_whole(tmp_path: Path) -> None:
    catalog = load_catalog(write_catalog(tmp_path), event_names=EVENT_NAMES)
    brief = catalog.briefs["quick-hints"]
    assert (brief.start, brief.end) == (date(2026, 3, 9), date(2026, 3, 30))
    assert list(catalog.metrics_of(brief)) == ["accuracy", "waiting", "minutes"]
    assert list(catalog.measures_of(brief)) == ["right_answers", "answers", "latency", "minutes_spent"]
    assert catalog.files == {"quick-hints": tmp_path / "experiments" / "quick-hints.yaml"}
    assert [source.name for source in catalog.sources] == ["foreign"]
    assert catalog.policies.session.gap_minutes == 20
    assert catalog.problems == ()


def test_an_empty_catalog_has_the_default_policies(tmp_path: Path) -> None:
    catalog = load_catalog(tmp_path)
    assert (dict(catalog.briefs), catalog.policies, catalog.problems) == ({}, Policies(), ())


def test_the_catalog_that_ships_is_whole() -> None:
    catalog = load_catalog(SHIPPED)
    assert list(catalog.briefs) == ["class-pacing", "hint-ladder"]
    assert len(catalog.metrics) >= 50
    assert {source.name for source in catalog.sources} >= {"canonical", "canonical-parquet"}
    assert sum(catalog.briefs["hint-ladder"].shares().values()) == 1.0
    used = {name for metric in catalog.metrics.values() for name in metric.measures()}
    covariates = {name for brief in catalog.briefs.values() for name in brief.variance_reduction.covariates}
    assert set(catalog.measures) == used | covariates
    for metric in catalog.metrics.values():
        assert metric.failure_modes, metric.name
        assert metric.definition.endswith("."), metric.name


def two_experiments(root: Path, **changes: str) -> Path:
    return write_catalog(root, **{"experiments__slow-hints": OTHER}, metrics__other=OTHER_METRIC, **changes)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiments__quick-hints", BRIEF.replace("primary: accuracy", "primary: nothing")),
        ("experiments__quick-hints", "a: [1\n"),
        ("metrics__all", METRICS.replace("type: quantile", "type: quantil")),
        ("metrics__all", METRICS.replace("events: [tutor_turn_response_shown]", "events: [nothing]")),
    ],
)
def test_a_broken_brief_or_metric_takes_only_its_own_experiment(tmp_path: Path, file: str, text: str) -> None:
    root = two_experiments(tmp_path, **{file: text})
    with pytest.raises(SpecError):
        load_catalog(root, event_names=EVENT_NAMES)
    catalog = load_catalog(root, strict=False, event_names=EVENT_NAMES)
    assert list(catalog.briefs) == ["slow-hints"]
    assert list(catalog.files) == ["slow-hints"]
    assert catalog.problems
    assert list(catalog.metrics_of(catalog.briefs["slow-hints"])) == ["other", "minutes"]


def test_a_brief_left_out_says_what_it_rests_on(tmp_path: Path) -> None:
    root = two_experiments(tmp_path, metrics__all=METRICS.replace("quantile: 0.95", "quantile: 95"))
    lines = [str(one).replace(f"{root}/", "") for one in load_catalog(root, strict=False).problems]
    assert lines == [
        "experiments/quick-hints.yaml:1: name: left out: metric waiting has problems, see "
        "metrics/all.yaml:35 "
        "(value: quick-hints)",
        "metrics/all.yaml:35: metrics[1].quantile: is out of range (value: 95); "
        "allowed: more than 0 and less than 1",
    ]


def test_of_two_briefs_with_one_name_the_well_named_file_stays(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, experiments__another=BRIEF)
    catalog = load_catalog(root, strict=False)
    assert catalog.files == {"quick-hints": root / "experiments" / "quick-hints.yaml"}
    assert len(catalog.problems) == 2


def test_broken_policies_stop_even_a_lenient_reading(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, policies__default="session: {gap_minutes: 0}\n")
    with pytest.raises(SpecError, match="gap_minutes: is out of range"):
        load_catalog(root, strict=False)


def test_problems_found_later_take_what_rests_on_them(tmp_path: Path) -> None:
    root = two_experiments(tmp_path, metrics__all=METRICS.replace("of: latency_ms", "of: latency"))
    catalog = load_catalog(root)
    problems = check_expressions(catalog, EVENT_COLUMNS, SESSION_COLUMNS)
    rest = without(catalog, problems)
    assert [one.field for one in problems] == ["measures[2].of"]
    assert (list(rest.briefs), list(rest.files)) == (["slow-hints"], ["slow-hints"])
    assert "latency" not in rest.measures
    assert "waiting" not in rest.metrics
    assert [one.message for one in rest.problems[1:]] == ["left out: it rests on something that has problems"]
    assert without(catalog, ()) == catalog


def test_one_brief_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(BRIEF)
    assert load_brief(path, None).name == "quick-hints"
    metrics = load_catalog(write_catalog(tmp_path / "whole")).metrics
    assert load_brief(path, metrics).primary == "accuracy"
    few: dict[str, Metric] = {name: metrics[name] for name in ("accuracy", "minutes")}
    with pytest.raises(SpecError, match="19: secondary\\[0\\]: unknown metric"):
        load_brief(path, few)
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        load_brief(tmp_path / "none.yaml", None)


TABLE = """\
table:
  unit_id: user
  arm: group
  arms: {0: control, 1: short}
  covariates: [age]
  metrics:
    accuracy: {numerator: right, denominator: answers, type: ratio}
    waiting: {numerator: seconds, direction: decrease}
    minutes: {numerator: minutes}
"""


def test_a_brief_over_a_table_names_its_own_metrics_and_covariates(tmp_path: Path) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(BRIEF.replace("[right_answers]", "[age]") + TABLE)
    brief = load_brief(path, None)
    assert brief.table is not None
    assert brief.table.arms == {"0": "control", "1": "short"}
    path.write_text(BRIEF + TABLE.replace("    minutes:", "    minuten:"))
    with pytest.raises(SpecError) as caught:
        load_brief(path, None)
    assert [(one.field, one.message) for one in caught.value.problems] == [
        ("guardrails[0].metric", "unknown metric; did you mean `minuten`?"),
        (
            "variance_reduction.covariates[0]",
            "unknown column among table.covariates",
        ),
    ]


def test_metrics_digest_follows_the_metrics_of_the_brief_and_no_others(tmp_path: Path) -> None:
    def digest(name: str, **changes: str) -> str:
        catalog: Catalog = load_catalog(two_experiments(tmp_path / name, **changes))
        return catalog.metrics_digest(catalog.briefs["quick-hints"])

    first = digest("same")
    assert digest("again") == first
    assert digest("filtered", metrics__all=METRICS.replace("where: correct", "where: not correct")) != first
    comment = digest("comment", metrics__all="# a comment\n" + METRICS)
    assert comment == first
    assert len(first) == 64


@st.composite
def _shuffled(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: draw(_shuffled(value[key])) for key in keys}
    if isinstance(value, list):
        return [draw(_shuffled(entry)) for entry in value]
    return value


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_digests_do_not_depend_on_the_order_of_keys(tmp_path: Path, data: st.DataObject) -> None:
    text = (SHIPPED / "experiments" / "hint-ladder.yaml").read_text(encoding="utf-8")
    plain = data.draw(_shuffled(yaml.safe_load(text)))
    path = tmp_path / "hint-ladder.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    document = read_document(path, file="hint-ladder.yaml")
    original = read_document(SHIPPED / "experiments" / "hint-ladder.yaml", file="hint-ladder.yaml")
    one, problems = parse_noun(Brief, document)  # type: ignore[arg-type]
    other, _ = parse_noun(Brief, original)  # type: ignore[arg-type]
    assert one is not None, problems
    assert other is not None
    assert (one.digest(), one.analysis_digest()) == (other.digest(), other.analysis_digest())
