"""Foreign tables without a brief: every estimate against least squares by statsmodels, or by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from exp_pipeline.analysis.tables.answer import TableAnswer, answer_of_file, answer_of_frame
from exp_pipeline.analysis.tables.question import Asked, TableQuestion
from exp_pipeline.model.errors import SpecError


@pytest.fixture(scope="module")
def school() -> pl.DataFrame:
    """A trial in 24 classes of 4 schools: a pretest with gaps, a text covariate, dropout, part compliance."""
    rng = np.random.default_rng(41)
    classes = np.repeat(np.arange(24), rng.integers(8, 24, 24))
    n = classes.size
    in_school = classes % 4
    treated = (classes // 4) % 2 == 1
    pre = rng.normal(0, 1, n) + 0.4 * rng.normal(size=24)[classes]
    took = treated & (rng.random(n) < 0.7)
    y = 10 + 0.8 * pre + 0.5 * took + 0.6 * rng.normal(size=24)[classes] + in_school + rng.normal(0, 1, n)
    return pl.DataFrame(
        {
            "pupil": [f"p{i}" for i in range(n)],
            "class": [f"c{i}" for i in classes],
            "school": in_school,
            "group": np.where(treated, "tablet", "control"),
            "post": [None if hole else value for hole, value in zip(rng.random(n) < 0.08, y, strict=True)],
            "pre": [None if hole else value for hole, value in zip(rng.random(n) < 0.1, pre, strict=True)],
            "gender": rng.choice(["f", "m"], n),
            "used": took.astype(int),
            "events": rng.poisson(3, n),
            "hours": rng.gamma(4, 1, n),
            "weight": rng.uniform(0.5, 2, n),
        }
    )


def ask(frame: pl.DataFrame, **fields: Any) -> TableAnswer:
    fixed: dict[str, Any] = {"arm": "group", "outcomes": (Asked("post"),)}
    return answer_of_frame(frame, TableQuestion(**(fixed | fields)), "school.csv")


def row(answer: TableAnswer, **wanted: Any) -> dict[str, Any]:
    fixed = {"question": "assignment", "adjusted": False, "segment": None}
    (found,) = [
        one
        for one in answer.estimates.rows()
        if all(one[key] == value for key, value in (fixed | wanted).items())
    ]
    return found


def design_of(frame: pl.DataFrame, *more: np.ndarray) -> np.ndarray:
    treated = (frame["group"] == "tablet").to_numpy().astype(float)
    return np.column_stack([np.ones(frame.height), treated, *more])


def test_units_one_by_one_are_welchs(school: pl.DataFrame) -> None:
    from scipy import stats

    found = row(ask(school))
    kept = school.drop_nulls("post")
    c, t = (kept.filter(group=name)["post"].to_numpy() for name in ("control", "tablet"))
    test = stats.ttest_ind(t, c, equal_var=False)
    interval = test.confidence_interval()
    assert (found["method"], found["n_control"], found["n_treatment"]) == ("welch", c.size, t.size)
    assert found["absolute"] == pytest.approx(t.mean() - c.mean(), rel=1e-12)
    assert (found["p_value"], found["df"]) == pytest.approx((test.pvalue, test.df), rel=1e-9)
    assert (found["ci_lower"], found["ci_upper"]) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_few_clusters_with_covariates_and_gaps(school: pl.DataFrame) -> None:
    answer = ask(school, cluster="class", covariates=("pre", "gender"))
    found = row(answer, adjusted=True)
    kept = school.drop_nulls("post")
    pre = kept["pre"].fill_null(kept["pre"].mean()).to_numpy()
    gap = kept["pre"].is_null().to_numpy().astype(float)
    male = (kept["gender"] == "m").to_numpy().astype(float)
    fit = sm.OLS(kept["post"].to_numpy(), design_of(kept, pre, gap, male)).fit()
    # The same least squares; the variance is CR2, proved against clubSandwich with the estimator itself.
    assert found["absolute"] == pytest.approx(fit.params[1], rel=1e-9)
    assert found["method"] == "cr2"
    assert (found["clusters_control"], found["clusters_treatment"]) == (12, 12)
    assert 5 < found["df"] < 22
    assert found["variance_reduction"] > 0
    assert "by cluster" in found["why"]
    assert row(answer)["se"] > found["se"]


def test_many_clusters_have_statsmodels_error() -> None:
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(200), 6)
    arm = np.where(cluster % 2 == 1, "b", "a")
    y = rng.normal(size=200)[cluster] + rng.normal(size=cluster.size)
    frame = pl.DataFrame({"y": y, "arm": arm, "k": cluster})
    (found,) = answer_of_frame(
        frame, TableQuestion(arm="arm", outcomes=(Asked("y"),), cluster="k"), "t"
    ).estimates.rows()
    fit = sm.OLS(y, sm.add_constant((arm == "b").astype(float))).fit(
        cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True
    )
    assert found["method"] == "cr1"
    assert (found["absolute"], found["se"]) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)
    assert found["p_value"] == pytest.approx(fit.pvalues[1], rel=1e-8)


def test_strata_are_fixed_effects_for_units_and_for_clusters(school: pl.DataFrame) -> None:
    kept = school.drop_nulls("post")
    dummies = [(kept["school"] == place).to_numpy().astype(float) for place in (1, 2, 3)]
    fit = sm.OLS(kept["post"].to_numpy(), design_of(kept, *dummies)).fit(cov_type="HC2", use_t=True)
    alone = row(ask(school, strata=("school",)))
    assert (alone["absolute"], alone["se"]) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-8)
    assert "strata" in alone["why"]
    together = row(ask(school, strata=("school",), cluster="class"))
    assert together["absolute"] == pytest.approx(fit.params[1], rel=1e-9)
    assert together["method"] == "cr2"


def test_who_received_it(school: pl.DataFrame) -> None:
    answer = ask(school, received="used", cluster="class")
    itt, cace = row(answer), row(answer, question="received")
    kept = school.drop_nulls("post")
    rates = kept.group_by("group").agg(pl.col("used").mean()).sort("group")["used"]
    assert cace["absolute"] == pytest.approx(itt["absolute"] / (rates[1] - rates[0]), rel=1e-9)
    assert cace["p_value"] == pytest.approx(itt["p_value"], rel=1e-9)
    (told,) = answer.compliance
    assert told.first_stage == pytest.approx(rates[1] - rates[0], rel=1e-12)
    assert told.one_sided is True
    alone = ask(school, received="used")
    assert row(alone)["method"] == "welch"
    assert row(alone, question="received")["absolute"] == pytest.approx(cace["absolute"], rel=1e-9)


def test_weights_give_weighted_means(school: pl.DataFrame) -> None:
    found = row(ask(school, weight="weight"))
    kept = school.drop_nulls("post")
    fit = sm.WLS(kept["post"].to_numpy(), design_of(kept), weights=kept["weight"].to_numpy()).fit(
        cov_type="HC1"
    )
    assert found["absolute"] == pytest.approx(fit.params[1], rel=1e-9)
    # Both linearise the same way; HC1 counts degrees of freedom over both arms, the delta method by arm.
    assert found["se"] == pytest.approx(fit.bse[1], rel=5e-3)
    assert found["outcome"] == "post"
    with pytest.raises(SpecError, match=r"row 1.*negative weight"):
        ask(school.with_columns(-pl.col("weight")), weight="weight")


def test_rates_over_exposure(school: pl.DataFrame) -> None:
    found = row(ask(school, outcomes=(Asked("events", "hours"),)))
    sums = school.group_by("group").agg(pl.col("events", "hours").sum()).sort("group")
    rate = (sums["events"] / sums["hours"]).to_list()
    assert (found["method"], found["estimand"]) == ("ratio-delta", "ratio")
    assert (found["mean_control"], found["mean_treatment"]) == pytest.approx(tuple(rate), rel=1e-12)
    by_class = row(ask(school, outcomes=(Asked("events", "hours"),), cluster="class"))
    assert by_class["absolute"] == pytest.approx(rate[1] - rate[0], rel=1e-9)


def test_missing_outcomes_are_counted_by_arm_and_told(school: pl.DataFrame) -> None:
    from scipy import stats

    lost = school.with_columns(
        pl.when((pl.col("group") == "tablet") & (pl.int_range(pl.len()) % 4 == 0))
        .then(None)
        .otherwise("post")
        .alias("post")
    )
    answer = ask(lost)
    (told,) = answer.attrition
    counts = lost.group_by("group").agg(pl.col("post").null_count().alias("gone"), pl.len()).sort("group")
    assert told.missing == dict(counts.select("group", "gone").rows())
    table = np.array([counts["gone"], counts["len"] - counts["gone"]])
    assert told.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)
    assert told.differs
    assert any("more in one arm than in another" in flag for flag in row(answer)["flags"])
    clustered = ask(lost, cluster="class").attrition[0]
    assert clustered.method == "by cluster"
    assert told.p_value is not None
    assert clustered.p_value is not None
    assert clustered.p_value > told.p_value


def test_the_split_of_units_is_tested_against_the_plan() -> None:
    frame = pl.DataFrame({"arm": ["a"] * 1650 + ["b"] * 2350, "y": [0, 1] * 2000})
    question = TableQuestion(arm="arm", outcomes=(Asked("y"),), shares={"a": 1, "b": 1})
    answer = answer_of_frame(frame, question, "t")
    assert answer.sample_ratio is not None
    assert answer.sample_ratio.statistic == pytest.approx(122.5)
    assert answer.sample_ratio.verdict == "fail"
    assert any("sample ratio mismatch" in flag for flag in answer.estimates.rows()[0]["flags"])
    unasked = answer_of_frame(frame, TableQuestion(arm="arm", outcomes=(Asked("y"),)), "t").sample_ratio
    assert unasked is not None
    assert unasked.verdict == "warn"
    assert "even split" in unasked.flags[0]
    with pytest.raises(ValueError, match="no share to arm 'b'"):
        answer_of_frame(frame, TableQuestion(arm="arm", outcomes=(Asked("y"),), shares={"a": 1}), "t")


def test_clusters_are_what_is_counted_for_the_split(school: pl.DataFrame) -> None:
    answer = ask(school, cluster="class", shares={"control": 1, "tablet": 1})
    assert answer.sample_ratio is not None
    assert answer.sample_ratio.counted == "clusters"
    assert answer.sample_ratio.observed == {"control": 12, "tablet": 12}


def test_arms_drawn_within_clusters_are_counted_by_row() -> None:
    rng = np.random.default_rng(6)
    frame = pl.DataFrame(
        {"arm": rng.choice(["a", "b"], 800), "house": rng.integers(0, 200, 800), "y": rng.normal(size=800)}
    )
    answer = answer_of_frame(frame, TableQuestion(arm="arm", outcomes=(Asked("y"),), cluster="house"), "t")
    assert answer.sample_ratio is not None
    assert answer.sample_ratio.counted == "units"
    assert sum(answer.sample_ratio.observed.values()) == 800
    assert any("rows in more than one arm" in note for note in answer.notes)


def test_rows_of_one_unit_belong_together(school: pl.DataFrame) -> None:
    twice = pl.concat([school, school])
    once, doubled = row(ask(school)), ask(twice, unit="pupil")
    assert "belong together" in doubled.notes[0]
    assert row(doubled)["absolute"] == pytest.approx(once["absolute"], rel=1e-12)
    assert row(doubled)["se"] == pytest.approx(once["se"], rel=0.01)
    assert row(ask(twice))["se"] < 0.75 * once["se"]


def test_several_arms_with_all_pairs_and_holm() -> None:
    rng = np.random.default_rng(9)
    frame = pl.DataFrame({"arm": rng.choice(["c", "a", "b"], 900), "y": rng.normal(size=900)})
    question = TableQuestion(arm="arm", outcomes=(Asked("y"),), control="c", all_pairs=True)
    rows = answer_of_frame(frame, question, "t").estimates.rows()
    assert [(one["control"], one["arm"]) for one in rows] == [("c", "a"), ("c", "b"), ("a", "b")]
    p = sorted(one["p_value"] for one in rows)
    assert min(one["p_adjusted"] for one in rows) == pytest.approx(min(1.0, 3 * p[0]), rel=1e-12)


def test_segments_by_cluster_and_by_unit(school: pl.DataFrame) -> None:
    for cluster in (None, "class"):
        answer = ask(school, cluster=cluster, segments=("gender",))
        part = school.filter(gender="f").drop_nulls("post")
        means = part.group_by("group").agg(pl.col("post").mean()).sort("group")["post"]
        found = row(answer, segment="gender", segment_value="f")
        assert found["absolute"] == pytest.approx(means[1] - means[0], rel=1e-9)
        assert found["family"] == "assignment, by gender"


def test_a_file_says_what_the_frame_says(school: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "school.parquet"
    frame = school.with_columns(pl.col("school").cast(pl.Float64))
    frame.write_parquet(path, row_group_size=50)
    for fields in (
        {"covariates": ("pre",), "segments": ("gender",)},
        {"strata": ("school",), "unit": "pupil"},
        {"cluster": "class", "covariates": ("pre", "gender")},
    ):
        question = TableQuestion(arm="group", outcomes=(Asked("post"), Asked("events", "hours")), **fields)
        lazy = answer_of_file(path, question).as_json()
        eager = answer_of_frame(frame, question, path.name).as_json()
        for one, other in zip(lazy["estimates"], eager["estimates"], strict=True):
            for name, value in one.items():
                if isinstance(value, float):
                    assert value == pytest.approx(other[name], rel=1e-8, abs=1e-12), name
                else:
                    assert value == other[name], name


def test_words_for_missing_are_missing_in_keys_and_covariates(school: pl.DataFrame, tmp_path: Path) -> None:
    worded = school.with_columns(
        pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit("NA")).otherwise("gender").alias("gender"),
        pl.when(pl.int_range(pl.len()) % 50 == 1).then(pl.lit(" ")).otherwise("group").alias("group"),
    )
    empty = worded.with_columns(pl.col("gender").replace("NA", None), pl.col("group").replace(" ", None))
    fields: dict[str, Any] = {"covariates": ("gender", "pre"), "segments": ("gender",)}
    for cluster in (None, "class"):
        one, other = (ask(frame, cluster=cluster, **fields) for frame in (worded, empty))
        assert one.as_json() == other.as_json()
        assert any("have no arm" in note for note in one.notes)
    assert row(one, segment="gender", segment_value="unknown")["n_control"] > 0
    path = tmp_path / "worded.parquet"
    worded.write_parquet(path)
    question = TableQuestion(arm="group", outcomes=(Asked("post"),), segments=("gender",))
    found = answer_of_file(path, question).estimates.frame()
    assert found["segment_value"].to_list() == [None, "f", "m", "unknown"]


def test_yes_and_no_are_numbers(school: pl.DataFrame) -> None:
    worded = school.with_columns(
        pl.when(pl.col("used") == 1).then(pl.lit("Yes")).otherwise(pl.lit("no")).alias("used"),
        (pl.col("post") > 10).alias("passed"),
    )
    plain = worded.with_columns((pl.col("used") == "Yes").cast(int), pl.col("passed").cast(int))
    fields: dict[str, Any] = {"outcomes": (Asked("passed"), Asked("used"))}
    assert ask(worded, **fields).as_json() == ask(plain, **fields).as_json()
    received = ask(worded, received="used", outcomes=(Asked("post"),))
    assert received.as_json() == ask(plain, received="used", outcomes=(Asked("post"),)).as_json()


def test_the_answer_is_json_without_nan(school: pl.DataFrame) -> None:
    answer = ask(
        school,
        received="used",
        segments=("gender",),
        covariates=("pre",),
        outcomes=(Asked("post"), Asked("used")),
    )
    text = json.dumps(answer.as_json(), allow_nan=False)
    assert math.isfinite(len(text))
    assert set(json.loads(text)) == {
        "schema_version", "table", "rows", "design", "arms", "sample_ratio", "attrition", "estimates",
        "compliance", "tests", "notes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arm": "grp"}, r"--arm: the table has no such column \(value: grp\); allowed: pupil, class"),
        ({"control": "placebo"}, r"--control: .*no such arm \(value: placebo\); allowed: control, tablet"),
        ({"outcomes": (Asked("gender"),)}, r"--outcome gender, row 1: must hold numbers; .*value: [fm]"),
        ({"covariates": ("post",)}, "a covariate must not be outcome"),
        ({"covariates": ("pupil",)}, "a text covariate may have 20 values"),
        ({"received": "used", "weight": "weight"}, "ask for one of the two"),
    ],
)
def test_mistakes_name_option_column_and_what_is_allowed(
    school: pl.DataFrame, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        ask(school, **fields)


def test_one_arm_is_nothing_to_compare(school: pl.DataFrame) -> None:
    with pytest.raises(SpecError, match="needs two arms, the column has 1"):
        ask(school.filter(group="control"))


@pytest.fixture(scope="module")
def waits() -> pl.DataFrame:
    """Waiting times, several a pupil: those of one pupil are alike."""
    rng = np.random.default_rng(19)
    pupil = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    treated = pupil % 2 == 1
    slow = rng.lognormal(0.0, 0.5, 300)[pupil]
    wait = slow * rng.lognormal(0.0, 0.4, pupil.size) * np.where(treated, 1.2, 1.0)
    return pl.DataFrame(
        {
            "pupil": pupil,
            "group": np.where(treated, "tablet", "control"),
            "grade": rng.choice(["6", "7"], pupil.size),
            "wait": np.where(rng.random(pupil.size) < 0.03, np.nan, wait),
        }
    )


def test_quantiles_of_independent_rows_overall_and_by_segment(waits: pl.DataFrame, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"outcomes": (Asked("wait"),), "segments": ("grade",), "quantiles": (0.5, 0.95)}
    answer = ask(waits, **asked)
    assert len(answer.estimates) == 2 * 3
    for quantile in (0.5, 0.95):
        for grade in (None, "6", "7"):
            kept = waits.filter(
                pl.col("wait").is_not_nan(), True if grade is None else pl.col("grade") == grade
            )
            c, t = (kept.filter(group=name)["wait"].to_numpy() for name in ("control", "tablet"))
            found = row(
                answer, quantile=quantile, segment=None if grade is None else "grade", segment_value=grade
            )
            levels = [float(np.quantile(side, quantile)) for side in (c, t)]
            assert [found["mean_control"], found["mean_treatment"]] == pytest.approx(levels, rel=1e-12)
            assert found["absolute"] == pytest.approx(levels[1] - levels[0], rel=1e-9)
            assert (found["n_control"], found["n_treatment"]) == (c.size, t.size)
            assert found["estimand"] == found["method"] == "quantile"
            # The sample quantile's own bootstrap, one arm at a time.
            rng = np.random.default_rng(4)
            draws = [np.quantile(rng.choice(side, (400, side.size)), quantile, axis=1) for side in (c, t)]
            assert found["se"] == pytest.approx(float(np.std(draws[1] - draws[0])), rel=0.25)
    path = tmp_path / "waits.parquet"
    waits.write_parquet(path)
    again = answer_of_file(path, TableQuestion(arm="group", **asked))
    assert again.estimates.rows() == answer.estimates.rows()


def test_rows_of_one_unit_count_as_one_in_quantiles(waits: pl.DataFrame) -> None:
    asked: dict[str, Any] = {"outcomes": (Asked("wait"),), "quantiles": (0.9,)}
    alone, by_unit = row(ask(waits, **asked)), row(ask(waits, unit="pupil", **asked))
    assert by_unit["absolute"] == alone["absolute"]
    assert by_unit["se"] > 1.15 * alone["se"]
    seen = waits.filter(pl.col("wait").is_not_nan()).group_by("group").agg(pl.col("pupil").n_unique())
    assert {"control": by_unit["clusters_control"], "tablet": by_unit["clusters_treatment"]} == dict(
        seen.iter_rows()
    )
    assert "by unit or cluster" in by_unit["why"]
    twice = pl.concat([waits, waits])
    doubled = row(ask(twice, unit="pupil", **asked))
    # The quantile itself moves by less than the gap to the next value.
    for name in ("absolute", "se", "ci_lower", "ci_upper"):
        assert doubled[name] == pytest.approx(by_unit[name], rel=0.03, abs=0.03), name
    naive = row(ask(twice, **asked))
    assert naive["se"] < 0.8 * alone["se"]
    assert row(ask(waits, cluster="pupil", **asked))["se"] == by_unit["se"]


def test_quantiles_say_what_they_leave_out_and_refuse_what_has_none(waits: pl.DataFrame) -> None:
    asked: dict[str, Any] = {"outcomes": (Asked("wait"),), "quantiles": (0.9,)}
    answer = ask(waits, strata=("grade",), **asked)
    assert "covariates and strata do not enter quantiles" in answer.notes
    assert any("strata do not enter a quantile" in flag for flag in row(answer)["flags"])
    assert answer.as_json()["attrition"][0]["missing"].keys() == {"control", "tablet"}
    few = ask(waits.head(60), **(asked | {"quantiles": (0.999,)})).estimates.rows()[0]
    assert not few["estimable"]
    assert "too few units" in few["reason"]
    for changed, said in (
        ({"quantiles": (1.0,)}, "between 0 and 1"),
        ({"quantiles": (0.5, 0.5)}, "each given once"),
        ({"outcomes": (Asked("wait", "pupil"),)}, "of one column"),
        ({"weight": "pupil"}, "weight 'pupil'"),
        ({"received": "pupil"}, "received 'pupil'"),
    ):
        with pytest.raises(ValueError, match=said):
            ask(waits, **(asked | changed))
