"""No small cell can be worked out from a memo: neither from counts beside a total, nor from words."""

from __future__ import annotations

import json
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exp_pipeline.model.readout import (
    Cause,
    IntegrityCheck,
    Readout,
    RobustnessRow,
    RuleResult,
    SampleRatioDay,
    SampleRatioGroup,
)
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.memo import json_of
from exp_pipeline.report.screening import screen
from exp_pipeline.report.wordscreen import safe_words
from exp_pipeline_tests.report.parts import START, checks, effect, estimate
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import small_segments, two_arms
from exp_pipeline_tests.report.samples import empty

ARMS = ("control", "ladder")
few = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
# Up to four values of a column, with as many units in control and in the arm.
tables = st.lists(st.tuples(st.integers(0, 26), st.integers(0, 26)), min_size=2, max_size=4)


def with_segments(counts: list[tuple[int, int]], minimum: int, groups: bool) -> Readout:
    """A readout whose column "band" has these units; its totals stand in the estimate of all."""
    totals = [sum(n) for n in zip(*counts, strict=True)]
    base = empty()
    rows = tuple(
        estimate(
            "mastery",
            "Mastery",
            role="primary",
            display="share",
            segment="band",
            segment_value=f"v{place}",
            n_control=n[0],
            n_treatment=n[1],
            **effect((0.011731, 0.027919, 0.043337, 0.061913)[place], 0.05, 0.5),
        )
        for place, n in enumerate(counts)
    )
    whole = estimate(
        "mastery",
        "Mastery",
        role="primary",
        display="share",
        n_control=totals[0],
        n_treatment=totals[1],
        **effect(0.03, 0.05, 0.5),
    )
    split = tuple(
        SampleRatioGroup(
            column="band",
            value=f"v{place}",
            counts=dict(zip(ARMS, n, strict=True)),
            p_value=0.4,
            p_adjusted=1,
        )
        for place, n in enumerate(counts)
    )
    return base.model_copy(
        update={
            "brief": base.brief.model_copy(update={"minimum_cell": minimum}),
            "blinded": False,
            "horizon_reached": True,
            "estimates": (whole,),
            "unadjusted": (),
            "segments": () if groups else rows,
            "sample_ratio_groups": split,
            "sample_ratio": (),
            "cumulative": (),
            "robustness": (),
        }
    )


def solutions(residual: int, unknown: int) -> list[tuple[int, ...]]:
    """Every way to share out so many units over cells, of which some may hold nobody."""
    if unknown == 0:
        return [()] if residual == 0 else []
    if unknown == 1:
        return [(residual,)] if residual >= 0 else []
    return [
        (first, *rest) for first in range(residual + 1) for rest in solutions(residual - first, unknown - 1)
    ]


def recovered(shown: list[list[int | None]], totals: list[int], minimum: int) -> list[tuple[int, int]]:
    """Cells that an attacker finds who knows what is shown, the totals, and why cells are withheld.

    shown: by arm, by value; None where withheld. At least one withheld cell is below the minimum.
    """
    by_arm = []
    for cells, total in zip(shown, totals, strict=True):
        hidden = [place for place, n in enumerate(cells) if n is None]
        residual = total - sum(n for n in cells if n is not None)
        by_arm.append((hidden, solutions(residual, len(hidden))))
    small = [any(any(n < minimum for n in one) for one in ways) for _, ways in by_arm]
    found = []
    for arm, (hidden, ways) in enumerate(by_arm):
        other = any(small[:arm] + small[arm + 1 :])
        possible = [one for one in ways if other or any(n < minimum for n in one)]
        for position, place in enumerate(hidden):
            if len({one[position] for one in possible}) == 1:
                found.append((arm, place))
    return found


@few
@given(counts=tables, minimum=st.integers(3, 10), groups=st.booleans())
def test_no_small_cell_follows_from_what_a_memo_shows(
    counts: list[tuple[int, int]], minimum: int, groups: bool
) -> None:
    totals = [sum(n) for n in zip(*counts, strict=True)]
    readout = with_segments(counts, minimum, groups)
    facts: dict[str, Any] = json.loads(json_of(memo_document(readout)))
    split = next(table for table in facts["appendix"] if table["key"] == "sample_ratio_groups")["rows"]
    views = [[[row[f"arm_{arm}"].get("value") for row in split] for arm in range(2)]]
    if not groups:
        views.append(
            [[row[name].get("value") for row in facts["segments"]] for name in ("n_control", "n_treatment")]
        )
    # What is shown in one place is known in the other.
    merged = [
        [
            next((view[arm][place] for view in views if view[arm][place] is not None), None)
            for place in range(len(counts))
        ]
        for arm in range(2)
    ]
    for arm, column in enumerate(merged):
        for place, n in enumerate(column):
            assert n is None or n == counts[place][arm]
            assert n is None or n == 0 or n >= minimum
    if min(totals) < minimum:
        return  # An arm as small as that is withheld itself, so that nobody has its total.
    for arm, place in recovered(merged, totals, minimum):
        assert counts[place][arm] == 0 or counts[place][arm] >= minimum, (merged, totals)


def test_the_attack_finds_what_is_not_protected() -> None:
    # One value withheld beside a total, and two whose sum leaves one way: a nought may be among them.
    assert recovered([[None, 20], [None, 30]], [23, 36], 10) == [(0, 0), (1, 0)]
    assert recovered([[None, None], [30, 30]], [0, 60], 10) == [(0, 0), (0, 1)]
    assert recovered([[None, None], [30, 30]], [2, 60], 10) == []
    assert recovered([[None, None], [30, 30]], [11, 60], 10) == []


@few
@given(counts=tables)
def test_effects_of_withheld_values_are_nowhere(counts: list[tuple[int, int]]) -> None:
    readout = with_segments(counts, 10, groups=False)
    hidden = [row for row in readout.segments if screen(readout).withholds(row)]
    text = json_of(memo_document(readout))
    for row in hidden:
        assert repr(row.absolute) not in text
        assert repr(row.ci_lower) not in text


@few
@given(steps=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=12))
def test_no_few_units_come_between_two_days_that_are_shown(steps: list[tuple[int, int]]) -> None:
    days, so_far = [], [0, 0]
    for place, step in enumerate(steps):
        so_far = [a + b for a, b in zip(so_far, step, strict=True)]
        days.append(
            SampleRatioDay(
                day=START.replace(day=2 + place),
                counts=dict(zip(ARMS, so_far, strict=True)),
                p_value=0.5,
                sequential_p_value=0.5,
            )
        )
    facts = json.loads(json_of(memo_document(empty().model_copy(update={"sample_ratio": tuple(days)}))))
    rows = next(table for table in facts["appendix"] if table["key"] == "sample_ratio")["rows"]
    for arm in ("arm_0", "arm_1"):
        shown = [0, *(row[arm]["value"] for row in rows if "value" in row[arm])]
        gaps = [b - a for a, b in pairwise(shown)]
        assert all(gap == 0 or gap >= 10 for gap in gaps)
    kept = [row for row in rows if "value" in row["arm_0"] or "value" in row["arm_1"]]
    assert all("value" not in row["p_value"] for row in rows if row not in kept)


@pytest.mark.parametrize(
    ("said", "safe"),
    [
        (
            "3 of 1,084 (0.28 %) units were seen in two arms; the limit is 1 %.",
            "Fewer than 10 of 1,084 units were seen in two arms; the limit is 1 %.",
        ),
        ("12 of 1,084 (1.11 %) units were seen in two arms.", None),
        ("7 units have no value of Mastery and are left out of it.", "Fewer than 10 units have no value of "),
        (
            "1,204 units have no value. 4 met another arm.",
            "1,204 units have no value. Fewer than 10 met another",
        ),
        ("5 control (planned 12.0) and 19 ladder (planned 12.0) units; p = 0.0031.", "Counts are withheld"),
        (
            "control misses units: 4 where 12.5 were planned of 25, p = 0.001 after Holm.",
            "Counts are withheld",
        ),
        (
            "3 of 1,084 (0.28 %) units had no event. ladder lost +0.28 points against control, p = 0.1021.",
            "Counts are withheld, a cell has fewer than 10 units.",
        ),
        ("9 of 9 checks passed", None),
        ("6 fields compared; prompt_version differs, as the brief says.", None),
        ("Units of grade 6 and grade 7 at 2 weeks, 5 % and 3 pp; look 1 of 3; 2 arms.", None),
        ("88 groups fit their planned shares; the worst, day 2026-03-09, has p = 0.6087 after Holm.", None),
        ("At 41 units a day that takes 3 more weeks.", None),
        ("34 assigned units are not analysed: 30 (left school) and 4 (new).", "and fewer than 10 (new)."),
    ],
)
def test_sentences_tell_no_small_count(said: str, safe: str | None) -> None:
    readout = ship(limits=(said,))
    (found,) = safe_words(readout, screen(readout)).limits
    assert found == said if safe is None else safe in found
    assert (found == said) == (safe is None)


def test_a_check_gives_away_no_small_count_in_numbers_or_causes() -> None:
    broken = IntegrityCheck(
        name="sample_ratio_assigned",
        title="Sample ratio",
        verdict="fail",
        evidence="7 control (planned 12.5) and 18 ladder (planned 12.5) units; p = 0.0278.",
        numbers={"n_control": 7, "n_ladder": 18, "statistic": 4.84, "p_value": 0.0278, "fields": 6},
        causes=(
            Cause(
                rank=1,
                where="platform android",
                evidence="control misses units: 3 where 9.0 were planned of 18, p = 0.005 after Holm; "
                "all others fit. First: compare what that platform logs in each arm.",
                share=0.7778,
            ),
        ),
    )
    readout = ship(integrity=(broken, *checks()[1:]))
    (check, *_) = safe_words(readout, screen(readout)).integrity
    assert check.numbers == {"n_control": "< 10", "fields": 6}
    assert check.causes[0].share is None
    assert check.causes[0].where == "platform android"
    assert check.causes[0].evidence.endswith("First: compare what that platform logs in each arm.")
    written = json_of(memo_document(readout))
    for secret in ("0.0278", "4.84", "18 ladder", "7 control", "0.005 after", "0.7778"):
        assert secret not in written


def test_rules_do_not_tell_the_effect_of_a_withheld_segment() -> None:
    base = two_arms()
    told = "below the floor: accommodation sign language (-22.77 pp) and accommodation none (-1.20 pp)"
    rule = RuleResult(rule="Equity", evidence=told, verdict="fail")
    arms = tuple(arm.model_copy(update={"rules": (rule,), "because": told}) for arm in base.decision.arms)
    decision = base.decision.model_copy(update={"arms": arms, "summary": told})
    written = json_of(memo_document(base.model_copy(update={"decision": decision})))
    assert small_segments()[3].segment_value == "sign language"
    assert "22.77" not in written
    assert "accommodation sign language (withheld)" in written
    assert "accommodation none (\N{MINUS SIGN}1.20 pp)" in written


def test_a_count_without_few_units_does_not_tell_how_few_they_are() -> None:
    rows = tuple(
        RobustnessRow(
            arm="ladder", variant=variant, absolute=0.1, ci_lower=0.0, ci_upper=0.2, p_value=0.04, n=n
        )
        for variant, n in (("whole", 7999), ("without 4 contaminated", 7995), ("exposed only", 7901))
    )
    facts = json.loads(json_of(memo_document(ship(robustness=rows))))
    table = next(table for table in facts["appendix"] if table["key"] == "robustness")
    assert [row["n"]["text"] for row in table["rows"]] == ["7,999", "withheld", "7,901"]


def test_briefs_are_peoples_own_words() -> None:
    readout = ship()
    own = readout.brief.model_copy(update={"title": "3 learners in a pair"})
    kept = safe_words(readout.model_copy(update={"brief": own}), screen(readout))
    assert kept.brief == own


def test_every_pair_of_small_counts_is_hidden_from_the_attack() -> None:
    for a, b in product((1, 2, 5, 8, 9, 10, 11), repeat=2):
        readout = with_segments([(a, 40), (b, 40), (40, 40)], 10, groups=False)
        facts = json.loads(json_of(memo_document(readout)))
        shown = [row["n_control"].get("value") for row in facts["segments"]]
        for _, place in recovered([shown, [40, 40, 40]], [a + b + 40, 120], 10):
            assert (a, b, 40)[place] >= 10
