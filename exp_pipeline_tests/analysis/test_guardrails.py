from __future__ import annotations

import re

from exp_pipeline.analysis.deciding.guardrails import guardrail_result
from exp_pipeline.model.brief import Guardrail, KillRule
from exp_pipeline.model.readout import GuardrailResult
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline_tests.analysis.builders import brief_of, metric_of

TIMEOUT = metric_of("timeout", direction="decrease")
BRIEF = brief_of(expected_units_per_day=100)


def judged(control: int, treatment: int, n: int, guardrail: Guardrail) -> GuardrailResult:
    effect = difference_in_proportions(control, n, treatment, n)
    return guardrail_result(guardrail, TIMEOUT, "treatment", effect, BRIEF)


def test_underpowered_guardrail_says_how_many_units_would_settle_it() -> None:
    guardrail = Guardrail(metric="timeout", margin=0.02)
    result = judged(50, 53, 500, guardrail)
    assert result.status == "underpowered"
    told = re.search(r"with ([\d,]+) units in the larger arm", result.reason)
    assert told is not None
    needed = int(told.group(1).replace(",", ""))
    # The same shares at that size: the bound alone lies within the margin.
    settled = judged(needed // 10, round(needed * 0.106), needed, guardrail)
    assert settled.status == "pass"
    assert judged(60, 64, 600, guardrail).status == "underpowered"


def test_kill_rule_acts_on_gross_relative_harm_and_waits_for_units() -> None:
    guardrail = Guardrail(metric="timeout", margin=0.2, margin_kind="relative", kill=KillRule())
    gross = judged(100, 260, 500, guardrail)
    assert gross.kill_triggered
    assert "kill rule: harm beyond the margin" in gross.reason
    few = judged(8, 20, 40, guardrail)
    assert not few.kill_triggered
    assert "kill rule waits: fewer than 50 units" in few.reason
    bearable = judged(100, 110, 500, guardrail)
    assert not bearable.kill_triggered
    assert "kill rule" not in bearable.reason
