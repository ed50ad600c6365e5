"""The published launch example and its three variations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.decision_rules import DecisionRules
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, ones, units_table

N = 2000
METRICS = {
    "solved": metric_of("solved"),
    "latency_p95": metric_of(
        "latency_p95", type="quantile", quantile=0.95, direction="decrease", kind="guardrail", display="ms"
    ),
    "escalated": metric_of("escalated", direction="decrease", kind="guardrail"),
    "ungrounded": metric_of("ungrounded", direction="decrease", kind="guardrail"),
}


def latencies(p95: float, n: int = N) -> list[list[float]]:
    """One response a unit, whose 95th percentile is exactly p95."""
    shape = np.exp(0.25 * np.linspace(-2.5, 2.5, n))
    values = shape * p95 / np.quantile(shape, 0.95)
    # A fixed shuffle: position in the table must not tell the latency.
    return [[float(value)] for value in np.random.default_rng(7).permutation(values)]


def launch(
    *, p95: float = 1260.0, threshold: float = 0.02, n_treatment: int = N, control_n: int = N
) -> ReadoutInputs:
    brief = brief_of(
        guardrails=(
            {"metric": "latency_p95", "margin": 150.0, "basis": "point"},
            {"metric": "escalated", "margin": 0.005, "basis": "point"},
            {"metric": "ungrounded", "margin": 0.005, "basis": "point"},
        ),
        practical_threshold=Size(absolute=threshold),
        decision={"primary_must_beat": "threshold", "threshold_basis": "point"},
    )
    scale_c, scale_t = control_n / N, n_treatment / N
    columns: dict[str, Any] = {
        f"{name}__num": ones(round(c * scale_c), control_n) + ones(round(t * scale_t), n_treatment)
        for name, c, t in (("solved", 760, 840), ("escalated", 310, 306), ("ungrounded", 22, 23))
    }
    columns["latency_p95__values"] = latencies(1180.0, control_n) + latencies(p95, n_treatment)
    mad = units_table(["control"] * control_n + ["treatment"] * n_treatment, **columns)
    return inputs_of(brief, METRICS, mad)


def test_the_published_launch_ships() -> None:
    readout = read_out(launch())
    assert readout.decision.outcome == "ship"
    assert readout.decision.arm == "treatment"
    primary = readout.estimates[0]
    # The published figures: +4.0 points, se 1.55, 95 % interval 1.0 to 7.0, to the digits printed.
    assert primary.absolute == pytest.approx(0.04, abs=1e-12)
    assert primary.se == pytest.approx(0.0155, abs=5e-5)
    assert primary.ci_lower == pytest.approx(0.010, abs=5e-4)
    assert primary.ci_upper == pytest.approx(0.070, abs=5e-4)
    harms = {result.metric: result.harm for result in readout.guardrails}
    assert harms["latency_p95"] == pytest.approx(80.0, abs=1e-6)
    assert harms["escalated"] == pytest.approx(-0.002, abs=1e-12)
    assert harms["ungrounded"] == pytest.approx(0.0005, abs=1e-12)
    assert [result.status for result in readout.guardrails] == ["pass"] * 3
    assert [rule.verdict for rule in readout.decision.arms[0].rules].count("fail") == 0


def test_slow_responses_do_not_ship() -> None:
    readout = read_out(launch(p95=1490.0))
    assert readout.decision.outcome == "roll_back"
    assert "Latency p95" in readout.decision.summary


def test_a_threshold_out_of_reach_does_not_ship() -> None:
    readout = read_out(launch(threshold=0.05))
    assert readout.decision.outcome == "iterate"


@pytest.mark.parametrize(
    ("changes", "outcome", "rule"),
    [
        ({}, "ship", "Primary metric"),
        ({"p95": 1490.0}, "roll_back", "No guardrail breached"),
        ({"threshold": 0.05}, "iterate", "Primary metric"),
        ({"control_n": 1650, "n_treatment": 2350}, "investigate", "Integrity"),
    ],
)
def test_rules_written_out_decide_as_the_short_fields_do(
    changes: dict[str, Any], outcome: str, rule: str
) -> None:
    short = launch(**changes)
    written = [{"kind": "primary", "must_beat": "threshold", "by": "point"}, {"kind": "value"}]
    long = replace(
        short,
        brief=short.brief.model_copy(update={"decision": DecisionRules.model_validate({"rules": written})}),
    )
    decision = read_out(long).decision
    assert decision == read_out(short).decision
    assert decision.outcome == outcome
    assert decision.arms[0].decided_by == rule


def test_a_sample_ratio_mismatch_is_investigated_and_hides_the_effect() -> None:
    readout = read_out(launch(control_n=1650, n_treatment=2350))
    check = {check.name: check for check in readout.integrity}["sample_ratio_assigned"]
    assert check.verdict == "fail"
    assert check.numbers["statistic"] == pytest.approx(122.5)
    assert readout.decision.outcome == "investigate"
    assert readout.blinded
    assert {row.role for row in readout.estimates} == {"guardrail"}
    assert not readout.cumulative
    assert not readout.robustness
    assert not readout.impact


def test_row_order_changes_nothing() -> None:
    inputs = launch()
    turned = inputs_of(inputs.brief, inputs.metrics, inputs.mad.reverse())
    assert read_out(turned).canonical_json() == read_out(inputs).canonical_json()


def test_a_readout_survives_being_written_down() -> None:
    readout = read_out(launch())
    again = type(readout).model_validate_json(readout.model_dump_json())
    assert again == readout


def test_a_tiny_table_is_answered_in_words() -> None:
    inputs = launch()
    for mad in (pl.DataFrame(), inputs.mad.head(0), inputs.mad.head(1), inputs.mad.head(2)):
        readout = read_out(inputs_of(inputs.brief, inputs.metrics, mad))
        assert readout.decision.outcome == "investigate"
        assert readout.decision.summary
