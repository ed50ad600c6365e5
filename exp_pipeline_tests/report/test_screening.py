# ruff: noqa: RUF001
"""What must not be shown is in none of the forms: blinded effects, small cells, and what gives them away."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exp_pipeline.model.readout import ArmCount, Estimate, Readout, SampleRatioDay
from exp_pipeline.report import index_entry, index_html, plots, render_memo, summary_markdown
from exp_pipeline.report.screening import screen, without_hidden_effects
from exp_pipeline_tests.report.parts import START, checks, effect, estimate, guardrail
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import small_segments, two_arms
from exp_pipeline_tests.report.samples import blinded, leaky_blinded, mismatch


def everything_written(readout: Readout) -> str:
    memo = render_memo(readout)
    parts = [memo.html, memo.markdown, memo.json, summary_markdown(readout)]
    parts.append(index_html([index_entry(readout, "memo.html")]))
    parts += [
        draw(readout)
        for draw in (plots.forest, plots.segments, plots.cumulative, plots.guardrails, plots.sample_ratio)
    ]
    return "\n".join(parts)


def primary_numbers(readout: Readout) -> list[str]:
    """How the primary and secondary effects of a readout are written when they are shown, and raw."""
    facts: dict[str, Any] = json.loads(render_memo(readout).json)
    found = []
    for row in (*facts["primary"], *facts["secondary"], *facts["segments"]):
        for key in (
            "absolute",
            "interval",
            "mean_control",
            "mean_treatment",
            "relative",
            "relative_interval",
        ):
            cell = row[key]
            found.append(cell["text"])
            found += [repr(cell[side]) for side in ("value", "lower", "upper") if side in cell]
    return [text for text in found if len(text) >= 5]


def test_a_blinded_readout_shows_no_effect_anywhere_even_if_it_carries_one() -> None:
    texts = primary_numbers(ship())
    assert len(texts) > 50
    open_text, blind_text = everything_written(ship()), everything_written(leaky_blinded())
    assert blind_text == everything_written(blinded())
    for text in texts:
        assert text in open_text
        if len(text) >= 12:
            assert text not in blind_text
    assert plots.forest(leaky_blinded()) == ""
    assert plots.segments(leaky_blinded()) == ""
    assert plots.cumulative(leaky_blinded()) == ""
    assert plots.guardrails(leaky_blinded()) != ""
    assert plots.sample_ratio(leaky_blinded()) != ""


def test_the_blinded_document_has_no_effect_row_but_guardrails() -> None:
    facts = json.loads(render_memo(leaky_blinded()).json)
    assert facts["primary"] == []
    assert facts["secondary"] == []
    assert facts["segments"] == []
    assert facts["impact"] == []
    assert set(facts["figures"]) == {"guardrails", "sample_ratio", "tradeoffs", "ramp"}
    assert {row["role"]["text"] for row in facts["figures"]["tradeoffs"]["table"]["rows"]} == {"guardrail"}
    tables = {table["key"]: table for table in facts["appendix"]}
    assert {row["role"]["text"] for row in tables["estimates"]["rows"]} == {"guardrail"}
    assert set(tables).isdisjoint({"cumulative", "robustness", "unadjusted"})


def test_a_failed_integrity_check_hides_effects_unless_somebody_said_why_not() -> None:
    failed = ship().model_copy(
        update={"integrity": checks(sample_ratio=("fail", "4,312 against 3,791 units"))}
    )
    assert "+10.2 pp (" not in render_memo(failed).html
    assert "Sample ratio" in json.loads(render_memo(failed).json)["blinding"]["reason"]
    told = failed.model_copy(update={"unblinded_because": "The board asked."})
    assert "+10.2 pp (" in render_memo(told).markdown


def test_guardrails_and_integrity_stay_visible_while_effects_are_hidden() -> None:
    memo = render_memo(mismatch())
    for text in (memo.html, memo.markdown, memo.json):
        assert "android 5.1 carries it" in text
        assert "+80 ms" in text


def test_small_cells_and_their_complement_are_withheld() -> None:
    facts = json.loads(render_memo(two_arms()).json)
    rows = {(row["segment_value"], row["arm"]): row for row in facts["segments"]}
    assert rows[("sign language", "ladder")]["n_treatment"] == {"text": "withheld"}
    assert rows[("sign language", "coach-voice")]["n_treatment"] == {"text": "withheld"}
    assert rows[("screen reader", "ladder")]["n_treatment"] == {"text": "withheld"}
    assert rows[("reading support", "ladder")]["n_treatment"]["value"] == 263
    written = everything_written(two_arms())
    for number in ("-22.8", "−22.8", "0.2277", "+13.8", "0.1377", "0.0331", "0.0553"):
        assert number not in written


def test_withheld_counts_cannot_be_worked_out_from_what_is_shown() -> None:
    shield = screen(two_arms())
    shown = [row for row in small_segments() if not shield.withholds(row)]
    for arm in ("ladder", "coach-voice"):
        hidden = [row for row in small_segments() if row.arm == arm and shield.withholds(row)]
        assert len(hidden) >= 2
        assert sum(row.n_treatment for row in hidden) >= 10
        assert [row for row in shown if row.arm == arm]


def test_two_small_values_take_a_third_along_when_they_are_few_together() -> None:
    rows: tuple[Estimate, ...] = tuple(
        estimate(
            "mastery",
            "Mastery",
            role="primary",
            segment="band",
            segment_value=value,
            n_control=n,
            n_treatment=n,
            **effect(0.1, 0.1, 0.5),
        )
        for value, n in (("a", 3), ("b", 4), ("c", 90), ("d", 400))
    )
    shield = screen(ship().model_copy(update={"segments": rows}))
    assert {value for _, value in shield.hidden_values} == {"a", "b", "c"}


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (1, "< 10"), (9, "< 10"), (10, "10"), (12408, "12,408")])
def test_counts_of_one_to_nine_are_not_printed(n: int, text: str) -> None:
    assert screen(ship()).units(n).text == text


def test_small_arms_days_and_guardrails_are_withheld() -> None:
    base = ship()
    few = base.model_copy(
        update={
            "counts": (
                ArmCount(
                    arm="control",
                    planned_share=0.5,
                    assigned=4000,
                    exposed=3990,
                    analysed=3986,
                    contaminated=4,
                ),
                ArmCount(arm="ladder", planned_share=0.5, assigned=7, exposed=7, analysed=7, contaminated=0),
            ),
            "sample_ratio": (
                SampleRatioDay(
                    day=START,
                    counts={"control": 4000, "ladder": 7},
                    p_value=1.25e-3,
                    sequential_p_value=0.625,
                ),
            ),
            "estimates": (
                estimate(
                    "mastery",
                    "Mastery",
                    role="primary",
                    display="share",
                    n_treatment=7,
                    **effect(0.1234567, 0.1, 0.5),
                ),
                estimate(
                    "latency_p95",
                    "Answer time",
                    role="guardrail",
                    display="ms",
                    n_treatment=7,
                    **effect(81.37, 19.0, 1180.0),
                ),
            ),
            "guardrails": (guardrail("latency_p95", "Answer time", harm=81.37, harm_bound=133.7),),
            "segments": (),
            "unadjusted": (),
            "robustness": (),
            "cumulative": (),
            "impact": (),
        }
    )
    facts = json.loads(render_memo(few).json)
    tables = {table["key"]: table for table in facts["appendix"]}
    arms = {row["arm"]["text"]: row for row in tables["arms"]["rows"]}
    assert arms["control"]["contaminated"]["text"] == "< 10"
    assert arms["control"]["exposed"]["text"] == "withheld"
    assert arms["ladder"]["assigned"]["text"] == "< 10"
    assert arms["ladder"]["observed"] == arms["control"]["observed"] == {"text": "–"}
    day = tables["sample_ratio"]["rows"][0]
    assert (day["arm_0"]["text"], day["arm_1"]["text"], day["p_value"]["text"]) == ("withheld", "< 10", "–")
    written = everything_written(few)
    for number in ("12.3", "0.1234", "81.37", "+81 ms", "133.7", "+134 ms", "0.625"):
        assert number not in written


def test_screening_changes_nothing_that_it_was_given() -> None:
    readout = leaky_blinded()
    before = readout.model_dump_json()
    assert without_hidden_effects(readout).estimates != readout.estimates
    assert readout.model_dump_json() == before
