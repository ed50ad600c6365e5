"""The verdicts of data quality: false alarms of clean days, what is found, and what cannot be told."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from exp_pipeline.analysis.quality.days import (
    ALL,
    Group,
    Judge,
    judge_drift,
    judge_fall,
    judge_share,
    judge_totals,
    judge_volume,
    student,
)
from exp_pipeline.analysis.quality.history import quality_page
from exp_pipeline.model.quality import QualityFinding, QualityPolicy
from exp_pipeline.model.quality_rules import QualityRuleName
from exp_pipeline.model.readout import Verdict

DAY = date(2026, 3, 17)
POLICY = QualityPolicy()
DRAWS = 1500


def judge(name: QualityRuleName, **limits: object) -> Judge:
    policy = QualityPolicy.model_validate({"rules": {name: limits}}) if limits else POLICY
    return Judge(policy, name, DAY)


def clumped(random: np.random.Generator, rows: int, share: float, clump: int) -> int:
    """How many of some rows are hit where whole clumps are hit together."""
    return int(random.binomial(rows // clump, share)) * clump


def test_shares_at_their_line_seldom_raise_an_alarm() -> None:
    # The hardest clean day: every group's true share is exactly the line, and rows come in clumps of four.
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(DRAWS):
        parts = [clumped(random, rows, 0.05, 4) for rows in (400, 800, 2_000, 6_000)]
        rows = (400, 800, 2_000, 6_000)
        groups = [
            Group(f"g{place}", part, one) for place, (part, one) in enumerate(zip(parts, rows, strict=True))
        ]
        groups.append(Group(ALL, sum(parts), sum(rows)))
        alarms += judge_share(judge("retries"), groups, "rows").verdict != "pass"
    # At most 0.1 % is aimed at; 0.5 % leaves room for the tail of few clumps (expected 1.5 of 1,500).
    assert alarms / DRAWS < 0.005


def test_a_share_well_over_its_line_is_found_in_the_group_that_has_it() -> None:
    groups = [Group(ALL, 330, 10_000), Group("web", 280, 2_000), Group("ios", 50, 8_000)]
    found = judge_share(judge("retries"), groups, "landed rows")
    assert (found.verdict, found.value, found.threshold, found.rows) == ("warn", 0.14, 0.05, 2_000)
    assert found.evidence == "web: 14 % of 2,000 landed rows; at most 5 % is expected; over all 3.3 %"
    assert [one.group for one in found.carriers] == ["web", ALL, "ios"]
    assert found.opens == "none"


def test_where_little_is_bad_the_share_must_not_fall() -> None:
    found = judge_share(judge("answered_turns"), [Group(ALL, 700, 1_000)], "turns")
    assert (found.verdict, found.threshold, found.opens) == ("fail", 0.8, "page")
    assert judge_share(judge("answered_turns"), [Group(ALL, 1_000, 1_000)], "turns").verdict == "pass"


def test_a_number_over_its_line_by_chance_says_so() -> None:
    found = judge_share(judge("retries"), [Group(ALL, 14, 200)], "rows")
    assert found.verdict == "pass"
    assert found.evidence.endswith("; too few rows to rule out chance")


def test_few_rows_cannot_be_judged() -> None:
    found = judge_share(judge("retries"), [Group(ALL, 150, 199)], "rows")
    assert (found.verdict, found.reason, found.value) == ("cannot_tell", "too_few_rows", None)
    assert found.evidence == "199 rows in the largest group, at least 200 are needed"
    assert judge_share(judge("retries"), [], "rows").reason == "too_few_rows"


@pytest.mark.parametrize("weeks", [2, 3, 6])
def test_volume_of_clean_weeks_seldom_raises_an_alarm(weeks: int) -> None:
    # Sessions are Poisson, events per session geometric with mean 8: about 16 times as wide as Poisson.
    random = np.random.default_rng(weeks)
    kinds = ["answers"] * 4 + ["turns"] * 4 + [""]
    alarms = 0
    for _ in range(DRAWS // 3):
        draws = []
        for sessions in (40, 60, 100, 300, 40, 60, 100, 300):
            counts = random.poisson(sessions, weeks + 1)
            draws.append([int(random.negative_binomial(n, 1 / 8) + n) if n else 0 for n in counts])
        draws.append([sum(one[place] for one in draws) for place in range(weeks + 1)])
        groups = [
            Group(f"g{place}", 0, one[-1], past=tuple(one[:-1]), kind=kind)
            for place, (one, kind) in enumerate(zip(draws, kinds, strict=True))
        ]
        alarms += judge_volume(judge("volume"), groups, "Tuesdays").verdict != "pass"
    assert alarms / (DRAWS // 3) < 0.01


@pytest.mark.parametrize(
    ("rows", "verdict"), [(0, "fail"), (9_000, "fail"), (13_000, "warn"), (19_000, "pass")]
)
def test_volume_that_falls(rows: int, verdict: str) -> None:
    past = (20_500, 19_600, 20_100, 19_900)
    found = judge_volume(judge("volume"), [Group(ALL, 0, rows, past=past)], "Tuesdays")
    assert found.verdict == verdict
    assert found.value == pytest.approx(1 - rows / 20_000)


def test_volume_that_doubles_and_volume_without_a_past() -> None:
    past = (2_050, 1_960, 2_010, 1_990)
    found = judge_volume(judge("volume"), [Group(ALL, 0, 4_400, past=past)], "Tuesdays")
    assert (found.verdict, found.evidence) == (
        "fail",
        "4,400 events, 2,000 are usual on the last 4 Tuesdays: more by a factor of 2.2",
    )
    new = judge_volume(judge("volume"), [Group(ALL, 0, 4_400, past=(2_000,))], "Tuesdays")
    assert (new.verdict, new.reason) == ("cannot_tell", "too_little_history")


def test_a_past_that_varies_much_allows_for_more() -> None:
    steady, wild = (2_000, 2_000, 2_000, 2_000), (1_000, 3_000, 800, 3_200)
    for past, verdict in ((steady, "fail"), (wild, "pass")):
        found = judge_volume(judge("volume"), [Group(ALL, 0, 950, past=past)], "Tuesdays")
        assert found.verdict == verdict


@pytest.mark.parametrize("z", [3.0, 4.0, 4.5])
@pytest.mark.parametrize("freedom", [20.0, 40.0])
def test_the_quantile_of_student(z: float, freedom: float) -> None:
    assert student(z, freedom) == pytest.approx(stats.t.isf(stats.norm.sf(z), freedom), rel=0.01)


def test_falls_within_chance_seldom_raise_an_alarm() -> None:
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(DRAWS):
        now, before = clumped(random, 1_000, 0.6, 4), clumped(random, 1_000, 0.6, 4)
        group = Group(ALL, now, 1_000, usual_part=before, usual_rows=1_000)
        alarms += judge_fall(judge("responses_per_turn"), [group], "turns", "usual").verdict != "pass"
    assert alarms / DRAWS < 0.005


def test_a_fall_is_told_with_what_it_fell_from() -> None:
    group = Group(ALL, 1_800, 2_000, 2_000, 2_000, squares=1_800, usual_squares=2_000)
    found = judge_fall(judge("responses_per_turn"), [group], "turns", "the day before")
    assert found.verdict == "warn"
    assert found.value == pytest.approx(0.1)
    assert found.evidence.startswith("0.900 per row in 2,000 turns, the day before 1.000: down by 10 %")
    rise = Group(ALL, 2_000, 2_000, 1_800, 2_000)
    assert judge_fall(judge("responses_per_turn"), [rise], "turns", "the day before").verdict == "pass"
    alone = Group(ALL, 2_000, 2_000)
    assert judge_fall(judge("responses_per_turn"), [alone], "turns", "x").reason == "too_little_history"


def test_totals_are_compared_both_ways() -> None:
    groups = [Group("tokens in", 1_000, 1_000), Group("tokens out", 1_150, 1_000)]
    found = judge_totals(judge("gateway_tokens"), groups, "tokens")
    assert found.verdict == "fail"
    assert found.value == pytest.approx(0.15)
    assert found.evidence == "tokens out: 1,150 tokens logged, 1,000 counted by the gateway: 15 % more"


def test_only_what_is_new_often_enough_and_not_announced_drifts() -> None:
    today = [
        Group("model_version=a", 900, 1_000),
        Group("model_version=b", 90, 1_000),
        Group("x=c", 9, 1_000),
    ]
    found = judge_drift(judge("receipt_drift"), today, ["model_version=a"], 3, 1_000)
    assert (found.verdict, found.value, found.unit) == ("fail", 1.0, "values")
    assert found.evidence == "new and not announced: model_version=b on 9 %, of 1,000 responses"
    known = ["model_version=a", "model_version=b"]
    assert judge_drift(judge("receipt_drift"), today, known, 3, 1_000).verdict == "pass"
    assert judge_drift(judge("receipt_drift"), today, [], 0, 1_000).reason == "too_little_history"


@pytest.mark.parametrize(
    ("opens_at", "verdict", "opens"),
    [("fail", "warn", "none"), ("warn", "warn", "warn"), ("never", "fail", "none"), ("fail", "fail", "warn")],
)
def test_what_a_verdict_opens(opens_at: str, verdict: Verdict, opens: str) -> None:
    assert judge("retries", opens_at=opens_at).found(verdict, 0.3, 1_000, "seen").opens == opens


def finding(back: int, verdict: Verdict, *, early: bool = False) -> QualityFinding:
    return QualityFinding(
        day=DAY - timedelta(days=back),
        rule="late_rows",
        subject="events",
        value=None if verdict == "cannot_tell" else 0.1,
        threshold=0.05,
        unit="share",
        verdict=verdict,
        reason="too_early" if early else None,
        owner="us",
        evidence="seen",
    )


def test_a_page_says_since_when_and_stands_on_what_could_be_told() -> None:
    days = [
        finding(0, "cannot_tell", early=True),
        finding(1, "fail"),
        finding(2, "cannot_tell"),
        finding(3, "warn"),
        finding(4, "pass"),
        finding(40, "fail"),
        finding(-1, "pass"),
    ]
    (line,) = quality_page(DAY, days).lines
    assert (line.finding.day, line.since) == (DAY - timedelta(days=1), DAY - timedelta(days=3))
    assert [point.day for point in line.history] == [DAY - timedelta(days=back) for back in (4, 3, 2, 1, 0)]
    with pytest.raises(ValueError, match="no data-quality rule was judged"):
        quality_page(DAY + timedelta(days=60), days)
