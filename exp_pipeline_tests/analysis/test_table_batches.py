"""Many tests in one file: each as if it stood alone, and all of them judged together."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from exp_pipeline.analysis.tables.answer import TableAnswer
from exp_pipeline.analysis.tables.batches import BatchQuestion, answer_of_batch
from exp_pipeline.model.errors import SpecError
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.results import Effect

SHARES: dict[str, Any] = {"test": "test", "arm": "headline", "trials": "impressions", "successes": "clicks"}


@pytest.fixture(scope="module")
def headlines() -> pl.DataFrame:
    rng = np.random.default_rng(15)
    arms = rng.integers(2, 7, 60)
    test = np.repeat(np.arange(60), arms)
    shown = rng.integers(800, 4000, test.size)
    rate = rng.beta(20, 980, 60)[test] * rng.choice([1.0, 1.0, 1.6], test.size)
    return pl.DataFrame(
        {
            "test": [f"t{place}" for place in test],
            "headline": [f"h{place}" for place in range(test.size)],
            "impressions": shown,
            "clicks": rng.binomial(shown, rate),
        }
    )


def ask(frame: pl.DataFrame, **fields: Any) -> TableAnswer:
    return answer_of_batch(frame, BatchQuestion(**(SHARES | fields)), "tests.csv")


def test_every_comparison_is_that_of_its_two_arms(headlines: pl.DataFrame) -> None:
    answer = ask(headlines)
    rows = answer.estimates.rows()
    assert len(rows) == headlines.height - 60
    counts = {name: (x, n) for name, x, n in headlines.select("headline", "clicks", "impressions").rows()}
    first = dict(headlines.group_by("test").agg(pl.col("headline").first()).rows())
    for row in rows:
        assert row["control"] == first[row["test"]]
        alone = difference_in_proportions(*counts[row["control"]], *counts[row["arm"]])
        assert isinstance(alone, Effect)
        assert row["absolute"] == pytest.approx(alone.absolute, rel=1e-12)
        assert (row["ci_lower"], row["p_value"]) == pytest.approx((alone.ci_lower, alone.p_value), rel=1e-8)


def test_p_values_are_corrected_within_tests_and_over_them(headlines: pl.DataFrame) -> None:
    answer = ask(headlines)
    rows = answer.estimates.rows()
    for name in ("t0", "t7", "t33"):
        own = [row for row in rows if row["test"] == name]
        corrected = multipletests([row["p_value"] for row in own], method="holm")[1]
        assert [row["p_adjusted"] for row in own] == pytest.approx(list(corrected), rel=1e-10)
    p = [one["p_value"] for one in answer.tests]
    for column, method in (("p_holm", "holm"), ("p_benjamini_hochberg", "fdr_bh")):
        expected = multipletests(p, method=method)[1]
        assert [one[column] for one in answer.tests] == pytest.approx(list(expected), rel=1e-10)


def test_all_arms_at_once_and_their_split(headlines: pl.DataFrame) -> None:
    for told in ask(headlines).tests:
        part = headlines.filter(test=told["test"])
        shown, clicks = part["impressions"].to_numpy(), part["clicks"].to_numpy()
        assert (told["arms"], told["n"]) == (part.height, shown.sum())
        assert told["sample_ratio_p"] == pytest.approx(stats.chisquare(shown).pvalue, rel=1e-9)
        if part.height > 2:
            found = stats.chi2_contingency(np.stack([clicks, shown - clicks]), correction=False)
            assert told["p_value"] == pytest.approx(found.pvalue, rel=1e-9)
            assert told["method"] == "chi-square"
        else:
            assert told["method"] == "comparison"


def test_the_order_of_tests_and_rows_changes_only_who_comes_first(headlines: pl.DataFrame) -> None:
    shuffled = headlines.with_columns(pl.col("headline").rank("dense").over("test").alias("place"))
    named = shuffled.with_columns(
        pl.when(pl.col("place") == 1).then(pl.lit("control")).otherwise("headline").alias("headline")
    )
    one = ask(named).estimates.frame().sort("test", "arm")
    other = ask(named.sample(fraction=1.0, shuffle=True, seed=1)).estimates.frame().sort("test", "arm")
    assert one["p_adjusted"].to_list() == pytest.approx(other["p_adjusted"].to_list(), rel=1e-12)
    assert set(one["control"]) == {"control"}


def test_units_and_counts_of_them_say_the_same() -> None:
    rng = np.random.default_rng(2)
    units = pl.DataFrame(
        {
            "test": rng.choice(["x", "y"], 600),
            "arm": rng.choice(["a", "b", "c"], 600),
            "won": rng.integers(0, 2, 600),
        }
    )
    counts = units.group_by("test", "arm").agg(pl.len().alias("n"), pl.col("won").sum()).sort("test", "arm")
    by_unit = answer_of_batch(units, BatchQuestion(test="test", arm="arm", outcome="won"), "t")
    by_count = answer_of_batch(
        counts, BatchQuestion(test="test", arm="arm", trials="n", successes="won"), "t"
    )
    keep = ["test", "arm", "control", "absolute", "se", "ci_lower", "p_value", "p_adjusted", "n_control"]
    one, other = (found.estimates.frame().select(keep).sort("test", "arm") for found in (by_unit, by_count))
    assert one.drop("test", "arm", "control").to_numpy() == pytest.approx(
        other.drop("test", "arm", "control").to_numpy(), rel=1e-12
    )
    assert one.select("test", "arm", "control").equals(other.select("test", "arm", "control"))


def test_means_and_deviations_by_arm_are_welchs() -> None:
    frame = pl.DataFrame({"n": [40, 30, 55], "mean": [10.0, 11.5, 9.0], "sd": [2.0, 3.0, 2.5]})
    answer = answer_of_batch(frame, BatchQuestion(n="n", mean="mean", sd="sd", all_pairs=True), "t")
    rows = answer.estimates.rows()
    assert [(row["control"], row["arm"]) for row in rows] == [("1", "2"), ("1", "3"), ("2", "3")]
    found = stats.ttest_ind_from_stats(11.5, 3.0, 30, 10.0, 2.0, 40, equal_var=False)
    assert rows[0]["p_value"] == pytest.approx(found.pvalue, rel=1e-9)
    assert answer.tests[0]["method"] == "welch-anova"
    assert answer.tests[0]["test"] is None


def test_rows_of_one_arm_are_put_together_and_broken_ones_counted() -> None:
    frame = pl.DataFrame(
        {"test": ["a", "a", "a", "a", None], "arm": ["c", "c", "t", "t", "t"], "n": [50, 50, 80, None, 9],
         "x": [5, 7, 20, 3, 1]}
    )  # fmt: skip
    answer = answer_of_batch(frame, BatchQuestion(test="test", arm="arm", trials="n", successes="x"), "t")
    (row,) = answer.estimates.rows()
    assert (row["n_control"], row["mean_control"], row["n_treatment"]) == (100, 0.12, 80)
    assert answer.notes == [
        "1 rows have no test or no arm and do not count",
        "1 rows lack a number and do not count",
        "1 rows were added to an earlier row of their arm",
    ]


def test_two_columns_may_name_the_arm(headlines: pl.DataFrame) -> None:
    split = headlines.with_columns(pl.lit("same").alias("headline"), pl.col("headline").alias("picture"))
    one, other = ask(headlines), ask(split, arm=("headline", "picture"))
    assert [row["p_value"] for row in one.estimates.rows()] == [
        row["p_value"] for row in other.estimates.rows()
    ]
    assert other.estimates.rows()[0]["arm"].startswith("same / ")


def test_an_arm_without_units_is_a_reason_not_a_number() -> None:
    frame = pl.DataFrame({"arm": ["c", "t"], "n": [50, 0], "x": [5, 0]})
    (row,) = answer_of_batch(frame, BatchQuestion(arm="arm", trials="n", successes="x"), "t").estimates.rows()
    assert (row["estimable"], row["reason"], row["p_value"]) == (False, "the treatment arm is empty", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clicks": [1, 9]}, r"--successes clicks, row 2: more successes than impressions.*value: 9"),
        ({"clicks": [1.5, 1]}, r"row 1: a count must be a whole number.*value: 1\.5"),
        ({"impressions": [-1, 5]}, r"--trials impressions, row 1: .*value: -1"),
        ({"clicks": ["one", "2"]}, r"--successes clicks, row 1: must hold numbers.*value: one"),
    ],
)
def test_counts_that_cannot_be_are_named(change: dict[str, Any], said: str) -> None:
    fixed = {"test": ["a", "a"], "headline": ["h", "g"], "impressions": [5, 5], "clicks": [1, 1]}
    with pytest.raises(SpecError, match=said):
        ask(pl.DataFrame(fixed | change))


def test_questions_that_make_no_sense_are_refused(headlines: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="one of: an outcome"):
        BatchQuestion(test="test", arm="arm")
    with pytest.raises(ValueError, match="trials and successes go together"):
        BatchQuestion(trials="n")
    with pytest.raises(SpecError, match=r"--trials: .*no such column \(value: views\)"):
        ask(headlines, trials="views")
    with pytest.raises(SpecError, match="no test has such an arm"):
        ask(headlines, control="zz")
