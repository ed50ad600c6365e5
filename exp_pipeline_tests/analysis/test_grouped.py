"""Sums by arm and segment from one pass, against the estimators on each cell's own rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.tables.grouped import Outcome, cells_of
from exp_pipeline.analysis.tables.grouped_effects import TableDesign, effects_of_source, effects_of_table
from exp_pipeline.analysis.tables.source import FrameSource, ParquetSource
from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio, fill_missing
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect

OUTCOMES = (
    Outcome("score", "score", covariates=("pre", "age")),
    Outcome("passed", "passed", "proportion", covariates=("pre",), counted=("mature",)),
    Outcome("per_hour", "score", "ratio", "hours", covariates=("pre", "age")),
)
DESIGN = TableDesign("group", "control", OUTCOMES, segments=("grade", "school"))


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(27)
    n = 3_000
    pre = rng.normal(50, 10, n)
    score = 0.7 * pre + rng.normal(0, 8, n)
    frame = pl.DataFrame(
        {
            "group": rng.choice(["control", "b", "c"], n),
            "grade": rng.choice([6, 7, 10], n),
            "school": rng.choice(["x", "y"], n),
            "score": score,
            "passed": (score > 36).astype(int),
            "hours": rng.gamma(3, 1, n),
            "pre": pre,
            "age": rng.normal(13, 1, n),
            "mature": rng.random(n) < 0.9,
        }
    )

    def holed(name: str, share: float) -> pl.Expr:
        return pl.when(pl.Series(rng.random(n) < share)).then(None).otherwise(pl.col(name)).alias(name)

    holes = [
        holed("score", 0.1),
        holed("pre", 0.2),
        holed("age", 0.05),
        holed("school", 0.03),
        holed("group", 0.01),
    ]
    return frame.with_columns(holes)


def counted(table: pl.DataFrame, outcome: Outcome) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The rows that count, and their covariates: gaps filled over all units that count, as in readouts."""
    rows = table.filter(pl.col("group").is_not_null(), pl.col(outcome.numerator).is_not_null())
    for name in outcome.counted:
        rows = rows.filter(name)
    filled = fill_missing(
        rows.select(pl.col(outcome.covariates).cast(pl.Float64).fill_null(float("nan"))).to_numpy(),
        outcome.covariates,
    )
    rows = rows.with_columns(
        pl.Series(name, filled.values[:, place]) for place, name in enumerate(filled.names)
    )
    return rows, filled.names


def answer(
    rows: pl.DataFrame, outcome: Outcome, names: tuple[str, ...], pair: tuple[str, str], adjusted: bool
) -> object:
    columns = [outcome.numerator, *([outcome.denominator] if outcome.denominator else []), *names]
    c, t = (
        Moments.from_array(
            rows.filter(pl.col("group") == name).select(pl.col(columns).cast(float)).to_numpy(), columns
        )
        for name in pair
    )
    if outcome.estimand == "ratio":
        assert outcome.denominator is not None
        return adjusted_ratio(
            c, t, numerator=outcome.numerator, denominator=outcome.denominator, covariates=names
        )
    if adjusted:
        return adjusted_difference(c, t, outcome=outcome.numerator, covariates=names)
    if outcome.estimand == "proportion":
        counts = [round(side.mean(outcome.numerator) * side.n) for side in (c, t)]
        return difference_in_proportions(counts[0], c.n, counts[1], t.n)
    return difference_in_means(c, t, outcome=outcome.numerator)


def close(row: dict[str, object], effect: object) -> None:
    assert isinstance(effect, Effect)
    for name in ("absolute", "se", "ci_lower", "ci_upper", "p_value", "relative", "relative_ci_lower"):
        assert row[name] == pytest.approx(getattr(effect, name), rel=1e-9, abs=1e-12), name
    assert (row["n_control"], row["n_treatment"]) == (effect.n_control, effect.n_treatment)
    assert row["method"] == effect.method


@pytest.mark.parametrize("parts", [1, 7])
def test_every_cell_is_what_its_rows_say(table: pl.DataFrame, tmp_path: Path, parts: int) -> None:
    path = tmp_path / "units.parquet"
    table.write_parquet(path, row_group_size=table.height // parts + 1)
    assert ParquetSource(path).parts == parts
    found = effects_of_table(path, DESIGN)
    # 3 outcomes x (all, 3 grades, 2 schools and unknown) x 2 arms.
    assert found.filter(~pl.col("adjusted")).height == 3 * 7 * 2
    for outcome in OUTCOMES:
        rows, names = counted(table, outcome)
        for segment, value, part in (
            (None, None, rows),
            ("grade", "10", rows.filter(pl.col("grade") == 10)),
            ("school", "unknown", rows.filter(pl.col("school").is_null())),
        ):
            for adjusted in (False, True):
                if outcome.estimand == "ratio" and not adjusted:
                    continue
                kept = found.filter(
                    pl.col("outcome") == outcome.name,
                    pl.col("segment").eq_missing(segment),
                    pl.col("segment_value").eq_missing(value),
                    pl.col("arm") == "b",
                    pl.col("adjusted") == adjusted,
                )
                if part.filter(pl.col("group").is_in(["b", "control"])).height < 60:
                    continue
                close(kept.to_dicts()[0], answer(part, outcome, names, ("control", "b"), adjusted))


def test_the_order_of_rows_and_parts_makes_no_difference(table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "units.parquet"
    table.sample(fraction=1.0, shuffle=True, seed=3).write_parquet(path, row_group_size=401)
    one = effects_of_source(FrameSource(table), DESIGN).frame()
    other = effects_of_table(path, DESIGN, threads=1)
    assert one.drop("flags").schema == other.drop("flags").schema
    for name, kind in one.schema.items():
        if kind == pl.Float64:
            # Sums in another order differ in their last digits; small p-values in some more.
            np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-9, atol=1e-13)
        else:
            assert one[name].to_list() == other[name].to_list()


def test_a_file_gives_the_same_numbers_every_time(table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "units.parquet"
    table.write_parquet(path, row_group_size=500)
    first, again = (effects_of_table(path, DESIGN, threads=threads) for threads in (2, 1))
    assert first.equals(again)


def test_a_covariate_that_starts_with_gaps_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n = 600
    pre = rng.normal(1e6, 1, n)
    frame = pl.DataFrame(
        {
            "arm": ["a", "b"] * (n // 2),
            "y": pre + rng.normal(0, 0.5, n),
            "pre": [None] * 200 + pre[200:].tolist(),
            "nobody": pl.Series([None] * n, dtype=pl.Float64),
        }
    )
    path = tmp_path / "units.parquet"
    frame.write_parquet(path, row_group_size=150)
    outcomes = (Outcome("y", "y", covariates=("pre", "nobody")),)
    many = effects_of_table(path, TableDesign("arm", "a", outcomes)).filter("adjusted")
    one = effects_of_source(FrameSource(frame), TableDesign("arm", "a", outcomes)).frame().filter("adjusted")
    assert many["absolute"][0] == pytest.approx(one["absolute"][0], rel=1e-8)
    assert many["se"][0] == pytest.approx(one["se"][0], rel=1e-8)
    assert many["flags"][0].to_list() == ["covariate nobody has no value for any unit: not adjusted for it"]


def test_segments_add_up_to_the_whole(table: pl.DataFrame) -> None:
    cells = cells_of(FrameSource(table), OUTCOMES, arm="group", segments=("grade",))
    assert cells.without_arm == table["group"].null_count()
    assert int(cells.rows.sum()) == table.height - cells.without_arm
    with_score = table.filter(pl.col("group").is_not_null(), pl.col("score").is_not_null())
    assert int(cells.outcomes[0].moments.n.sum()) == with_score.height
    assert cells.segments[0].labels == ("6", "7", "10")


def test_all_pairs_and_chosen_arms(table: pl.DataFrame) -> None:
    design = TableDesign("group", "control", OUTCOMES[:1], all_pairs=True)
    found = effects_of_source(FrameSource(table), design).frame()
    pairs = set(found.select("control", "arm").rows())
    assert pairs == {("control", "b"), ("control", "c"), ("b", "c")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arm": "grp"}, "has no column 'grp'"),
        ({"control": "placebo"}, "has no arm 'placebo'; it has: b, c, control"),
        ({"outcomes": (Outcome("s", "school"),)}, "'school' must hold numbers"),
    ],
)
def test_mistakes_are_named(table: pl.DataFrame, change: dict[str, object], said: str) -> None:
    fields: dict[str, object] = {"arm": "group", "control": "control", "outcomes": OUTCOMES}
    with pytest.raises(ValueError, match=said):
        effects_of_source(FrameSource(table), TableDesign(**(fields | change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [pl.Float32, pl.Float64, pl.Int8, pl.UInt16, pl.Int64, pl.UInt64, pl.Boolean, pl.Decimal(10, 2)],
)
@pytest.mark.parametrize("gaps", [False, True])
def test_numbers_of_every_kind_are_read(kind: pl.DataType, gaps: bool, tmp_path: Path) -> None:
    values = [1, 0, 1, None, 0, 1] if gaps else [1, 0, 1, 0, 0, 1]
    frame = pl.DataFrame({"y": pl.Series(values).cast(kind), "arm": pl.Series(values).cast(kind)})
    path = tmp_path / "numbers.parquet"
    frame.write_parquet(path, row_group_size=4)
    source, whole = ParquetSource(path), FrameSource(frame)
    found = np.concatenate([source.numbers(part, ["y"])[0] for part in range(source.parts)])
    np.testing.assert_array_equal(found, np.array([np.nan if one is None else one for one in values], float))
    np.testing.assert_array_equal(found, whole.numbers(0, ["y"])[0])
    key = source.key(0, "arm")
    labels = [None if code < 0 else float(key.labels[code]) for code in key.codes]
    assert labels == values[:4]


def test_texts_of_every_kind_are_keys(tmp_path: Path) -> None:
    texts = ["b", None, "a", "b"]
    frame = pl.DataFrame({"s": texts, "c": pl.Series(texts, dtype=pl.Categorical)})
    path = tmp_path / "texts.parquet"
    frame.write_parquet(path)
    for source in (ParquetSource(path), FrameSource(frame)):
        for column in ("s", "c"):
            key = source.key(0, column)
            assert [None if code < 0 else key.labels[code] for code in key.codes] == texts


def test_neither_pandas_nor_dagster_is_loaded(table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "units.parquet"
    table.write_parquet(path)
    code = (
        "import sys; from pathlib import Path\n"
        "from exp_pipeline.analysis.tables.grouped_effects import *\n"
        "design = TableDesign('group', 'control', (Outcome('score', 'score'),))\n"
        f"effects_of_table(Path({str(path)!r}), design)\n"
        "heavy = {'pandas', 'dagster', 'pandera', 'statsmodels', 'scipy.stats', 'duckdb', 'sqlglot'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_skewed_outcomes_in_unequal_arms_are_what_their_rows_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(41)
    n = 4_000
    frame = pl.DataFrame(
        {
            "group": rng.choice(["control", "b"], n, p=[0.96, 0.04]),
            "grade": rng.choice([6, 7], n, p=[0.2, 0.8]),
            "spent": np.where(rng.random(n) < 0.05, np.nan, rng.lognormal(0.0, 1.2, n)),
            "pre": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
        }
    )
    path = tmp_path / "units.parquet"
    frame.write_parquet(path, row_group_size=611)
    outcomes = (Outcome("spent", "spent", "auto", covariates=("pre",)),)
    found = effects_of_table(path, TableDesign("group", "control", outcomes, segments=("grade",)))
    plain = found.filter(~pl.col("adjusted"))
    assert plain["method"].to_list() == ["welch-skew"] * 3
    for row in plain.to_dicts():
        rows = frame.filter(pl.col("spent").is_not_nan())
        if row["segment_value"] is not None:
            rows = rows.filter(pl.col("grade") == int(row["segment_value"]))
        c, t = (rows.filter(pl.col("group") == name)["spent"].to_numpy() for name in ("control", "b"))
        effect = difference_in_means(
            Moments.from_array(c, ["y"]),
            Moments.from_array(t, ["y"]),
            outcome="y",
            control_shape=ThirdMoments.from_array(c),
            treatment_shape=ThirdMoments.from_array(t),
        )
        close(row, effect)
        assert isinstance(effect, Effect)
        assert set(effect.flags) <= set(row["flags"])
