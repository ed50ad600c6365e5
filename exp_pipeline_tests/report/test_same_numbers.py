"""Every number of the facts stands in all three forms, and no form has a number of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import render_memo
from exp_pipeline_tests.report.reading import Page, markdown_page
from exp_pipeline_tests.report.sample_full import entries, full
from exp_pipeline_tests.report.samples import SAMPLES

NUMBER = re.compile(r"(?<![\w.,])[+\N{MINUS SIGN}-]?\$?\d[\d,]*(?:\.\d+)?(?![\w])")
# What JSON carries for machines only: keys, and names that no reader is shown.
UNSAID = {
    "schema_version",
    "kind",
    "key",
    "metric",
    "segment",
    "figures",
    "description",
    "outcome",
    "minimum_cell",
}


def numbers_of(text: str) -> set[str]:
    return {found.replace("\N{MINUS SIGN}", "-") for found in NUMBER.findall(text)}


def words_of(facts: Any) -> list[str]:
    """Every text of the facts that a reader is shown: cells by their words, not by their values."""
    if isinstance(facts, str):
        return [facts]
    if isinstance(facts, list):
        return [word for one in facts for word in words_of(one)]
    if isinstance(facts, dict):
        if set(facts) <= {"text", "value", "lower", "upper", "tone"} and "text" in facts:
            return [facts["text"]]
        return [word for name, one in facts.items() if name not in UNSAID for word in words_of(one)]
    return []


def shown_facts(memo_json: str) -> set[str]:
    """The numbers of tables and sentences; an effect's own cells are those of its table."""
    facts = json.loads(memo_json)
    effects = ("primary", "secondary", "segments", "guardrails", "impact")
    kept = {name: value for name, value in facts.items() if name not in effects}
    sentences = [
        one[part] for name in effects for one in facts[name] for part in ("sentence", "title") if part in one
    ]
    details = [one.get("details", []) + one.get("assumptions", []) for one in facts["impact"]]
    return numbers_of(" \n ".join([*words_of(kept), *sentences, *words_of(details)]))


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_numbers_are_the_same_in_all_forms(make: Callable[[], Readout]) -> None:
    transitions = entries() if make is full else ()
    memo = render_memo(make(), transitions)
    wanted = shown_facts(memo.json)
    without_plots = re.sub(r"<svg.*?</svg>", "", memo.html, flags=re.DOTALL)
    html = numbers_of(" ".join(Page(without_plots).shown))
    markdown = numbers_of(" ".join(markdown_page(memo.markdown).shown).replace("\u200b", ""))
    k = str(make().brief.minimum_cell)
    assert len(wanted) > 5
    assert wanted - html == set()
    assert wanted - markdown == set()
    assert html - wanted <= {k}
    assert markdown - wanted <= {k}


def test_the_values_behind_the_words_are_the_readouts_own() -> None:
    readout = full()
    facts = json.loads(render_memo(readout, entries()).json)
    tables = {table["key"]: table["rows"] for table in facts["appendix"]}
    for row, cells in zip(readout.shrunken, tables["shrunken"], strict=True):
        assert (cells["raw"]["value"], cells["shrunken"]["value"]) == (row.raw, row.shrunken)
        assert cells["shrunken_interval"]["lower"] == row.shrunken_lower
    for day, cells in zip(readout.novelty_days, tables["novelty_days"], strict=True):
        assert (cells["day"]["value"], cells["absolute"]["value"]) == (day.day, day.absolute)
    for trend, cells in zip(readout.novelty_trend, tables["novelty_trend"], strict=True):
        assert (cells["slope"]["value"], cells["steady"]["value"]) == (trend.slope, trend.steady)
        assert cells["since"]["value"] == trend.steady_from_week
    for split, cells in zip(readout.novelty_splits, tables["novelty_splits"], strict=True):
        assert (cells["early"]["value"], cells["late"]["value"]) == (split.early, split.late)
        assert cells["days"]["text"] == "0 to 6, 7 to 13"
    for complier, cells in zip(readout.compliance, tables["compliance"], strict=True):
        assert cells["absolute"]["value"] == complier.absolute
        assert cells["taken"]["value"] == complier.received_treatment
    for impact, cells in zip(readout.impact, tables["impact"], strict=True):
        assert (cells["value"]["value"], cells["cost"]["value"]) == (impact.value, impact.cost_per_outcome)
        assert cells["loss_kept"]["value"] == impact.loss_if_not_shipped
    for family, cells in zip(readout.families, tables["families"], strict=True):
        assert (cells["gate"]["text"] == "open") == family.gate_open
        assert cells["smallest"].get("value") == family.smallest_p_adjusted
    for group, cells in zip(readout.sample_ratio_groups, tables["sample_ratio_groups"], strict=True):
        counts = [cells[f"arm_{place}"].get("value") for place in range(3)]
        assert counts == (list(group.counts.values()) if group.counts else [None] * 3)
    (compared,) = tables["arms_compared"]
    assert (compared["arm"]["text"], compared["against"]["text"]) == ("coach-voice", "ladder")
    assert compared["absolute"]["value"] == readout.arms_compared[0].absolute
    assert [row["interval"]["lower"] for row in tables["bounds"]] == [
        row.ci_lower for row in readout.robustness if row.kind == "bounds"
    ]
    assert [cells["where"]["text"] for cells in tables["causes"]] == [
        cause.where for check in readout.integrity for cause in check.causes
    ]


def test_a_gain_and_a_cost_are_told_by_the_metrics_own_direction() -> None:
    readout = full()
    facts = json.loads(render_memo(readout).json)
    rows = next(table for table in facts["appendix"] if table["key"] == "tradeoffs")["rows"]
    by_place = {(row["metric"]["text"], row["arm"]["text"]): row for row in rows}
    for row in readout.estimates:
        cells = by_place[row.title, row.arm]
        assert cells["wanted"]["text"] == ("more" if row.direction == "increase" else "less")
        if row.ci_lower is None or row.ci_upper is None:
            assert cells["reads"]["text"] == "–"  # noqa: RUF001
        elif row.ci_lower <= 0 <= row.ci_upper:
            assert cells["reads"]["text"] == "Not shown"
        else:
            assert cells["reads"]["text"] == (
                "Gain" if (row.ci_lower > 0) == (row.direction == "increase") else "Cost"
            )


def test_the_ramp_says_what_is_planned_and_what_was_reached() -> None:
    planned = json.loads(render_memo(full()).json)["first_page"]["ramp"]["rows"]
    assert [row["earliest"]["text"] for row in planned] == [
        "2026-02-02", "2026-02-05", "2026-02-12", "day 0", "day 4",
    ]  # fmt: skip
    assert "reached" not in planned[0]
    reached = json.loads(render_memo(full(), entries()).json)["first_page"]["ramp"]["rows"]
    assert [row["reached"].get("value") for row in reached] == [0, 4, 15, None, None]
    assert reached[1]["note"]["text"] == (
        "paused 2026-02-08 by schedule (answer time beyond its margin); "
        "resumed 2026-02-10 by Learning Science"
    )


def test_the_tiles_say_the_whole_in_a_line() -> None:
    tiles = {tile["key"]: tile for tile in json.loads(render_memo(full()).json)["glance"]}
    assert tiles["primary"]["text"] == "+4.1 pp"
    assert (tiles["guardrails"]["text"], tiles["guardrails"]["tone"]) == ("3 of 6 hold", "bad")
    # The floor of the grades is a loss of 1 pp, and no grade's effect lies below it.
    assert (tiles["equity"]["text"], tiles["equity"]["tone"]) == ("6 of 6", "good")
    assert tiles["value"]["detail"] == "97.1 % sure that it pays"
    assert (tiles["integrity"]["text"], tiles["integrity"]["tone"]) == ("8 of 9 pass", "warn")
