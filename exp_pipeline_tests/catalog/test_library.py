"""The shipped library of metrics: each a whole KPI spec, in one tree, over events that the contract knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlglot

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.events import event_names, event_spec
from exp_pipeline.contracts.fields import sql_types
from exp_pipeline.model.brief import VarianceReduction
from exp_pipeline.model.metrics import Measure
from exp_pipeline.report.metric_catalogue import kpi_tree
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.transform.measures import over_rows, read_columns
from exp_pipeline.transform.metrics import metric_columns, metric_sums

SHIPPED = Path(__file__).parents[2] / "data" / "catalog"
# What issue and design name, by the metrics that answer it.
ASKED_FOR = {
    "mastery loop completion": ("mastery_loop_completion", "mastery_funnel"),
    "resolution": ("resolution_rate",),
    "next-step compliance": ("next_step_compliance",),
    "normalised learning gain": ("normalised_learning_gain",),
    "mastery efficiency": ("mastery_efficiency",),
    "persistence 7 d": ("persistence_7d",),
    "grounded answers": ("grounded_answer_rate",),
    "rubric quality": ("rubric_quality",),
    "helpfulness composite": ("helpfulness",),
    "incidents": (
        "safety_incidents_per_1000_sessions", "severe_incidents_per_1000_sessions",
        "s2_incidents_per_1000_sessions", "s3_incidents_per_1000_sessions",
    ),
    "appeals": ("appeal_rate", "appeal_uphold_rate"),
    "override": ("override_rate",),
    "giveaway": ("answer_giveaway_rate",),
    "hallucination audits": ("hallucination_audit_failure_rate",),
    "refusal, retry, timeout, escalation": ("refusal_rate", "retry_rate", "timeout_rate", "escalation_rate"),
    "tokens": ("tokens_per_session", "tokens_per_resolution", "tokens_per_mastery_point"),
    "cost": ("cost_per_session", "cost_per_resolution", "cost_per_mastery_point"),
    "waiting": ("p95_latency_ms", "p50_first_token_ms", "p95_first_token_ms"),
    "time on task": ("minutes_on_task", "active_minutes_on_task"),
    "frustration": ("frustration_per_session", "stuck_rate", "broken_off_rate"),
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return open_catalog(SHIPPED, strict=True)


@pytest.mark.parametrize("names", ASKED_FOR.values(), ids=ASKED_FOR)
def test_what_was_asked_for_is_there(catalog: Catalog, names: tuple[str, ...]) -> None:
    assert set(names) <= set(catalog.metrics)


def test_every_metric_is_a_whole_kpi_spec(catalog: Catalog) -> None:
    for metric in catalog.metrics.values():
        assert metric.counter_metric in catalog.metrics, metric.name
        assert len(set(metric.failure_modes)) >= 2, metric.name
        assert all(len(mode) > 30 and mode.endswith(".") for mode in metric.failure_modes), metric.name
        assert metric.definition.endswith("."), metric.name
        assert len(metric.definition) > 50, metric.name
        assert metric.kind == "guardrail" or metric.heart is not None, metric.name


def test_titles_and_definitions_tell_metrics_apart(catalog: Catalog) -> None:
    for field in ("title", "definition"):
        found = [getattr(one, field) for one in catalog.metrics.values()]
        assert len(set(found)) == len(found)


def test_from_each_input_a_path_leads_to_the_north_star(catalog: Catalog) -> None:
    stars = [one.name for one in catalog.metrics.values() if one.kind == "north-star"]
    assert stars == ["mastery_loop_completion"]
    branches = {branch.metric.name: branch for branch in kpi_tree(catalog.metrics)}
    assert set(branches) == set(catalog.metrics)
    for metric in catalog.metrics.values():
        path = [metric.name]
        while (above := catalog.metrics[path[-1]].drives) is not None:
            assert above not in path
            path.append(above)
        if metric.kind == "input":
            assert path[-1] == stars[0], path
            assert branches[metric.name].place == "tree"
        if metric.kind == "guardrail":
            assert path == [metric.name]
        assert branches[metric.name].depth == len(path) - 1
    apart = [branch.metric.name for branch in branches.values() if branch.place == "apart"]
    assert apart == ["goal_conversion"]


def test_an_input_never_drives_from_above_an_output(catalog: Catalog) -> None:
    ranks = {"north-star": 0, "output": 1, "input": 2}
    for metric in catalog.metrics.values():
        if metric.drives is not None:
            assert ranks[catalog.metrics[metric.drives].kind] <= ranks[metric.kind], metric.name


def test_measures_read_fields_that_their_events_carry(catalog: Catalog) -> None:
    envelope = {"event_name", "learner_id", "occurred_at"}
    for measure in catalog.measures.values():
        assert set(measure.events) <= set(event_names()), measure.name
        read = read_columns([measure], sql_types(derived=True)) - envelope
        for event in measure.events:
            spec = event_spec(event)
            # A field that only one of several events carries would count nothing for the others.
            assert read <= {*spec.required, *spec.optional}, (measure.name, event)
            assert read <= set(spec.own), (measure.name, event)


def test_metrics_that_no_brief_uses_cost_days_nothing(catalog: Catalog) -> None:
    used = {name for brief in catalog.briefs.values() for name in catalog.measures_of(brief)}
    kept = catalog.kept_measures()
    assert used <= set(kept)
    asked = {one.name for one in catalog.measures.values() if one.keep == "asked"}
    assert asked.isdisjoint(kept)
    assert len(asked) > 40


def test_a_brief_has_its_measures_summed_up(catalog: Catalog) -> None:
    brief = catalog.briefs["hint-ladder"]
    asking = brief.model_copy(
        update={
            "secondary": ("helpfulness",),
            "variance_reduction": VarianceReduction(covariates=("active_minutes",)),
        }
    )
    more = replace(catalog, briefs={**catalog.briefs, brief.name: asking})
    assert set(more.kept_measures()) - set(catalog.kept_measures()) == {
        "sessions_resolved", "sessions_resolution_known", "rubric_score_shares", "rubric_scores",
        "responses_grounded", "active_minutes",
    }  # fmt: skip


def test_keeping_a_measure_always_needs_no_backfill() -> None:
    always = Measure(name="hints", description="Hints.", events=("hint_requested",))
    assert always.keep == "always"
    asked = always.model_copy(update={"keep": "asked"})
    assert asked.definition_digest() == always.definition_digest()


def test_measures_and_metrics_can_be_said_to_the_other_engine(catalog: Catalog) -> None:
    columns = [over_rows(measure) for measure in catalog.measures.values()]
    columns += metric_sums(catalog.metrics.values(), catalog.measures)
    columns += metric_columns(list(catalog.metrics), catalog.metrics, catalog.measures)
    for column in columns:
        text = column.sql(dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
        assert sqlglot.parse_one(f"select {text} from t", dialect="spark"), column.alias
