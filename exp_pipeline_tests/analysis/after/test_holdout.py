"""What was shipped together: a planted effect comes back, none is none, classes count as classes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.after import holdout
from exp_pipeline.analysis.after.holdout import HELD_OUT, SERVED, Stretch
from exp_pipeline.model.after import HoldoutReading
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.metrics import Metric
from exp_pipeline_tests.analysis.builders import brief_of

STRETCH = Stretch("since_start", date(2026, 3, 2), date(2026, 3, 30))
LAYER = Layer(name="held", kind="holdout", share=0.1)


def metric(kind: str = "mean", **fields: Any) -> Metric:
    return Metric.model_validate(
        {
            "name": "answers_a_week", "title": "Answers", "owner": "tests", "definition": "Answers given.",
            "type": kind, "direction": "increase", "kind": "north-star", "numerator": "answers", **fields,
        }
    )  # fmt: skip


def people(groups: list[str], num: Any, den: Any = 1.0, cluster: Any = None) -> pl.DataFrame:
    own = [f"u{place:05d}" for place in range(len(groups))]
    return pl.DataFrame({"unit_id": own, "cluster": cluster or own, "group": groups}).with_columns(
        pl.Series("num", num), den=pl.lit(den) if isinstance(den, float) else pl.Series(den)
    )


def drawn(rng: np.random.Generator, units: int, share: float) -> list[str]:
    return [HELD_OUT if one < share else SERVED for one in rng.random(units)]


def read(frame: pl.DataFrame, own: Metric | None = None, *, clustered: bool = False) -> HoldoutReading:
    return holdout.reading(own or metric(), STRETCH, 0.05 / 104, frame, clustered=clustered)


@pytest.mark.parametrize("kind", ["mean", "proportion", "ratio"])
def test_a_planted_effect_lies_in_its_interval_and_is_the_difference_by_hand(kind: str) -> None:
    rng = np.random.default_rng(7)
    groups = drawn(rng, 4_000, 0.1)
    more = np.array([0.5 if one == SERVED else 0.0 for one in groups])
    den = rng.integers(2, 9, 4_000).astype(float)
    truth = 0.5
    num = rng.poisson(2.0 + more).astype(float)
    if kind == "proportion":
        num, truth = (rng.random(4_000) < 0.3 + 0.2 * more).astype(float) * 3.0, 0.1
    elif kind == "ratio":
        num, truth = rng.binomial(den.astype(int), 0.3 + 0.2 * more).astype(float), 0.1
    frame = people(groups, num, den)
    row = read(frame, metric(kind, **({"denominator": "tries"} if kind == "ratio" else {})))

    def by_hand(side: str) -> float:
        numbers: list[tuple[float, float, str]] = list(zip(num.tolist(), den.tolist(), groups, strict=True))
        rows = [(a, b) for a, b, one in numbers if one == side]
        if kind == "ratio":
            return sum(a for a, _ in rows) / sum(b for _, b in rows)
        return fmean(float(a > 0) if kind == "proportion" else a for a, _ in rows)

    assert row.effect == pytest.approx(by_hand(SERVED) - by_hand(HELD_OUT), abs=1e-12)
    assert (row.n_held_out, row.n_served) == (groups.count(HELD_OUT), groups.count(SERVED))
    assert row.ci_lower is not None
    assert row.ci_upper is not None
    assert row.ci_lower < truth < row.ci_upper
    assert (row.says, row.alarm) == ("better", False)
    # Upside down it is harm; what is to fall and rises is harm too.
    swapped = frame.with_columns(group=pl.col("group").replace_strict({HELD_OUT: SERVED, SERVED: HELD_OUT}))
    for other in (
        read(swapped, metric(kind, **({"denominator": "tries"} if kind == "ratio" else {}))),
        read(
            frame,
            metric(kind, direction="decrease", **({"denominator": "tries"} if kind == "ratio" else {})),
        ),
    ):
        assert (other.says, other.alarm) == ("worse", True)


def test_without_an_effect_few_intervals_miss_zero_and_no_alarm_is_raised() -> None:
    rng = np.random.default_rng(11)
    rows = [
        read(people(groups, rng.gamma(0.5, 2.0, 600) * (rng.random(600) < 0.7)))
        for groups in (drawn(rng, 600, 0.1) for _ in range(200))
    ]
    missed = sum(row.says != "no_clear_difference" for row in rows)
    # 200 looks at 5 %: outside 2 to 21 once in a thousand.
    assert 2 <= missed <= 21
    assert not any(row.alarm for row in rows)


def test_everybody_who_was_met_counts_also_who_did_nothing() -> None:
    groups = [HELD_OUT] * 20 + [SERVED] * 40
    num: list[float | None] = [2.0] * 10 + [None] * 10 + [2.0] * 40
    row = read(people(groups, num))
    assert (row.held_out, row.served, row.n_held_out) == (1.0, 2.0, 20)


def test_classes_are_what_was_drawn() -> None:
    rng = np.random.default_rng(3)
    classes = [f"class-{place:02d}" for place in range(80)]
    group = {one: HELD_OUT if place % 5 == 0 else SERVED for place, one in enumerate(classes)}
    level = {one: rng.normal(0.0, 1.0) for one in classes}
    cluster = [one for one in classes for _ in range(20)]
    num = [level[one] + rng.normal(0.0, 0.3) for one in cluster]
    frame = people([group[one] for one in cluster], num, cluster=cluster)
    by_class, by_learner = read(frame, clustered=True), read(frame)
    assert by_class.effect == pytest.approx(by_learner.effect)
    assert (by_class.clusters_held_out, by_class.clusters_served) == (16, 64)
    # All classes are of one size: the difference of class means, whose Welch error is told by hand.
    means = {one: fmean(a for a, b in zip(num, cluster, strict=True) if b == one) for one in classes}
    sides = [[means[one] for one in classes if group[one] == side] for side in (HELD_OUT, SERVED)]
    error = sum(np.var(side, ddof=1) / len(side) for side in sides) ** 0.5
    assert by_class.ci_lower is not None
    assert by_class.ci_upper is not None
    assert by_class.effect is not None
    assert by_learner.ci_lower is not None
    half = (by_class.ci_upper - by_class.ci_lower) / 2
    # t at about 22 degrees of freedom: 2.07.
    assert half / error == pytest.approx(2.07, abs=0.03)
    assert half > 3 * (by_learner.effect or 0.0) - 3 * by_learner.ci_lower


def test_nobody_held_out_is_no_effect_and_few_are_not_told() -> None:
    nobody = read(people([SERVED] * 50, [1.0] * 50))
    assert (nobody.says, nobody.effect) == ("cannot_tell", None)
    assert "nobody" in nobody.reason
    few = read(people([SERVED] * 50 + [HELD_OUT] * 9, [1.0] * 59))
    assert few.effect is None
    assert few.n_held_out == 0
    assert "fewer than 10" in few.reason
    assert holdout.share_of(LAYER, pl.Series([], dtype=pl.String), 3).verdict == "cannot_tell"


@pytest.mark.parametrize(("held", "verdict"), [(100, "pass"), (120, "pass"), (190, "fail"), (0, "fail")])
def test_the_share_is_compared_with_the_declared_one(held: int, verdict: str) -> None:
    share = holdout.share_of(LAYER, pl.Series([HELD_OUT] * held + [SERVED] * (1_000 - held)), 0)
    assert share.verdict == verdict
    assert share.found == held / 1_000


def test_which_days_and_weeks_are_measured() -> None:
    monday = date(2026, 3, 2)
    whole = holdout.stretches(date(2026, 1, 5), date(2026, 3, 30))
    assert [(one.window, one.first, one.end) for one in whole] == [
        ("four_weeks", monday, date(2026, 3, 30)),
        ("since_start", date(2026, 1, 5), date(2026, 3, 30)),
    ]
    young = holdout.stretches(date(2026, 3, 18), date(2026, 3, 30))
    assert {one.first for one in young} == {date(2026, 3, 18)}
    assert holdout.too_young(date(2026, 3, 24), date(2026, 3, 30))
    assert not holdout.too_young(date(2026, 3, 23), date(2026, 3, 30))
    ended = LAYER.model_copy(update={"until": date(2026, 3, 12)})
    assert holdout.week_measured(LAYER, date(2026, 3, 29)) == "2026-W13"
    assert holdout.week_measured(ended, date(2026, 3, 29)) == "2026-W11"
    assert holdout.end_of(ended, "2026-W11") == date(2026, 3, 12)
    # A year that ends in a week of the next: weeks are compared as days.
    old = LAYER.model_copy(update={"until": date(2026, 12, 31)})
    assert holdout.week_measured(old, date(2027, 1, 17)) == "2026-W53"


def decided(experiment: str, day: int, outcome: str, **more: Any) -> LoggedDecision:
    at = datetime(2026, 3, day, 9, tzinfo=UTC)
    return LoggedDecision.model_validate(
        {
            "kind": "decided", "experiment": experiment, "snapshot": "s", "as_of": at.date(), "at": at,
            "outcome": outcome, "arm": "new", "by": "owners", "because": "it helps", "planned": True,
            "effects_hidden": False, "brief_digest": "b", "code_version": "1", "memo": "m", **more,
        }
    )  # fmt: skip


def test_what_shipped_is_read_off_the_decision_log() -> None:
    log = [
        decided("before", 1, "ship"),
        decided("recommended", 3, "ship", kind="recommended"),
        decided("hints", 4, "ship"),
        decided("pacing", 5, "ship_scoped"),
        decided("everyone", 6, "ship"),
        decided("stopped", 7, "stop"),
        decided("hints", 9, "roll_back"),
        decided("pacing", 10, "ship"),
        decided("after", 30, "ship"),
    ]
    briefs = {"everyone": brief_of(primary="answers_a_week", name="everyone", holdout="exempt")}
    found = holdout.shipped_between(log, briefs, "learner", date(2026, 3, 2), date(2026, 3, 30))
    assert [(one.experiment, one.outcome, one.exempt) for one in found] == [
        ("hints", "ship", False),
        ("everyone", "ship", True),
        ("pacing", "ship", False),
    ]
    assert [one.undone is not None for one in found] == [True, False, False]
