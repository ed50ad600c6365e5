"""While a readout is blinded, nothing in it or in its memo depends on the outcome; afterwards it does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.deciding.blinding import rows_blinded_because
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import index_entry, index_html, render_memo, summary_markdown
from exp_pipeline_tests.analysis.builders import START, brief_of, inputs_of, metric_of, units_table

N = 900
LOOK = START + timedelta(days=14)
METRICS = {
    "solved": metric_of("solved"),
    "minutes": metric_of("minutes", type="mean", display="minutes"),
    "accepted": metric_of("accepted", type="ratio", denominator="answers"),
    "errors": metric_of("errors", type="mean", direction="decrease", display="number"),
    "guesses": metric_of("guesses", type="mean", direction="decrease", display="number"),
}
BRIEF = brief_of(
    arms=(
        Arm(name="control", share=0.4),
        Arm(name="treatment", share=0.3),
        Arm(name="other", share=0.3),
    ),
    secondary=("minutes", "accepted"),
    counter_metrics=("guesses",),
    guardrails=({"metric": "errors", "margin": 0.2, "kill": {"action": "roll_back"}},),
    segments=({"column": "platform", "floor": {"absolute": -0.1}},),
    families=({"name": "main", "metrics": ("solved",)},),
    comparisons="all",
    missing_data="bounds",
    looks=(LOOK,),
    variance_reduction={"method": "cuped", "covariates": ("minutes",)},
    value={"value_per_unit": 4.0, "cost_per_unit": 0.1, "eligible_population": 100_000},
    practical_threshold={"absolute": 0.01},
)  # fmt: skip
OUTCOMES = ("solved", "minutes", "accepted", "guesses")


def world(outcome: int, *, lost_arm: bool = False, **changes: Any) -> Readout:
    """A readout in which all stays but whose unit has which outcome.

    Units stand in pairs of two arms with the same platform, day and gaps. Where `outcome` draws so, the
    two of a pair exchange theirs: then other arms have them, and all units together the same ones.
    """
    fixed, chance = np.random.default_rng(100), np.random.default_rng(outcome)
    logged = [0.55, 0.15, 0.3] if lost_arm else [0.4, 0.3, 0.3]
    arms = fixed.choice(["control", "treatment", "other"], N, p=logged)
    has = np.repeat(fixed.random(N // 2) < 0.9, 2)
    before = np.repeat(fixed.normal(20, 5, N // 2), 2)
    answers = np.repeat(fixed.poisson(6, N // 2) + 1, 2)
    moved = _exchange(chance)

    def held(values: np.ndarray[Any, np.dtype[Any]]) -> pl.Series:
        return pl.Series(values.astype(float)[moved]).set(pl.Series(~has), None)

    mad = units_table(
        list(arms),
        solved__num=held(fixed.random(N) < 0.4),
        minutes__num=held(before + fixed.normal(0, 2, N)),
        accepted__num=held(fixed.binomial(answers, 0.5)),
        accepted__den=held(answers),
        guesses__num=held(fixed.poisson(2, N)),
        errors__num=fixed.poisson(0.3, N).astype(float),
        pre__minutes=before,
        segment__platform=np.repeat(fixed.choice(["web", "ios"], N // 2), 2),
    )
    days = pl.concat(
        mad.select("unit_id", pl.lit(START + timedelta(days=day)).alias("event_date")).with_columns(
            pl.Series(name, fixed.poisson(2, N).astype(float)[moved]) for name in (*OUTCOMES, "answers")
        )
        for day in (0, 8, 15)
    ).with_columns(pl.Series("errors", fixed.poisson(0.1, 3 * N).astype(float)))
    return read_out(inputs_of(BRIEF, METRICS, mad, days=days, **changes))


def _exchange(chance: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Row numbers in which some pairs of neighbours stand the other way round."""
    first = 2 * np.arange(N // 2)
    turned = (chance.random(N // 2) < 0.5).astype(np.int64)
    return np.column_stack([first + turned, first + 1 - turned]).ravel()


def written(readout: Readout) -> Iterator[str]:
    """Everything that people and machines are given of a readout."""
    memo = render_memo(readout)
    yield readout.canonical_json()
    yield from (memo.html, memo.markdown, memo.json, summary_markdown(readout))
    yield index_html([index_entry(readout, "memo.html")])


@pytest.mark.parametrize(
    ("lost_arm", "changes"),
    [
        (False, {"as_of": START + timedelta(days=9)}),
        (False, {"as_of": LOOK}),
        (True, {}),
        (True, {"as_of": LOOK - timedelta(days=1)}),
        (True, {"unblinded_because": "the board asked"}),
    ],
    ids=[
        "early",
        "the day after a look",
        "at the horizon, mismatched",
        "look, mismatched",
        "asked, mismatched",
    ],
)
def test_what_is_blinded_does_not_depend_on_the_outcome(lost_arm: bool, changes: dict[str, Any]) -> None:
    readouts = [world(outcome, lost_arm=lost_arm, **changes) for outcome in (1, 2, 3)]
    assert all(one.blinded for one in readouts)
    texts = [tuple(written(one)) for one in readouts]
    assert texts[0] == texts[1] == texts[2]
    assert {row.role for row in (*readouts[0].estimates, *readouts[0].unadjusted)} == {"guardrail"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"as_of": LOOK - timedelta(days=1)}, {"as_of": LOOK, "unblinded_because": "the board asked"}],
    ids=["horizon", "look", "asked"],
)
def test_what_is_open_depends_on_it(changes: dict[str, Any]) -> None:
    readouts = [world(outcome, **changes) for outcome in (1, 3)]
    assert not any(one.blinded for one in readouts)
    assert all(one != other for one, other in zip(*(tuple(written(one)) for one in readouts), strict=True))


def test_a_look_opens_its_own_readout_and_no_later_rows() -> None:
    look = world(1, as_of=LOOK - timedelta(days=1))
    assert not look.blinded
    said = rows_blinded_because(BRIEF, look)
    assert said is not None
    assert "planned look" in said


def test_rows_are_open_at_the_horizon_for_the_brief_that_stands_and_on_request() -> None:
    done = world(1)
    assert rows_blinded_because(BRIEF, done) is None
    assert rows_blinded_because(BRIEF, world(1, as_of=LOOK, unblinded_because="the board asked")) is None
    for brief, readout in (
        (BRIEF, None),
        (None, done),
        (BRIEF.model_copy(update={"end": date(2026, 5, 1)}), done),
        (BRIEF, world(1, as_of=LOOK)),
        (BRIEF, world(1, lost_arm=True)),
    ):
        assert rows_blinded_because(brief, readout)
