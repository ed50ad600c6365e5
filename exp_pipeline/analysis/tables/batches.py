"""Many tests in one file, each with its own arms: from units, or from one row an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.tables.answer import TableAnswer
from exp_pipeline.analysis.tables.batch_rows import BatchArms, batch_rows, listed
from exp_pipeline.analysis.tables.effect_rows import EffectRows, RowLabels
from exp_pipeline.analysis.tables.methods import table_method
from exp_pipeline.analysis.tables.question import Correction, TableError, as_labels, as_numbers
from exp_pipeline.model.errors import Problem
from exp_pipeline.stats.many.effects import ManyEffects, many_means, many_ratios
from exp_pipeline.stats.many.families import holm_within
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments_table import Grouping, MomentsTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NUMERATOR, _DENOMINATOR = "numerator", "denominator"


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """Where a table of many tests keeps them. Fields name columns.

    test: which test a row is of; the whole table is one test where it is not given. Rows are units with an
    `outcome` (over a `denominator`); or one row an arm with `trials` and `successes`, or with `n`, `mean` and
    `sd`. arm: one column, or several together; without it each row of a test is an arm of its own, numbered.
    control: the arm compared with; else the one called control, else a test's first row (its first arm by
    name, where rows are units). shares: planned share by arm; equal where it is empty.
    """

    test: str | None = None
    arm: str | tuple[str, ...] | None = None
    outcome: str | None = None
    denominator: str | None = None
    trials: str | None = None
    successes: str | None = None
    n: str | None = None
    mean: str | None = None
    sd: str | None = None
    control: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    level: float = 0.95
    srm_alpha: float = 0.001
    all_pairs: bool = False
    correction: Correction = "holm"

    def __post_init__(self) -> None:
        given = {
            "units": self.outcome is not None,
            "shares": self.trials is not None or self.successes is not None,
            "means": not (self.n is None and self.mean is None and self.sd is None),
        }
        if sum(given.values()) != 1:
            raise ValueError("give one of: an outcome; trials and successes; n, mean and sd")
        if given["shares"] and (self.trials is None or self.successes is None):
            raise ValueError("trials and successes go together: one of them is missing")
        if given["means"] and None in (self.n, self.mean, self.sd):
            raise ValueError("n, mean and sd go together: one of them is missing")
        if given["units"] and self.arm is None:
            raise ValueError("a table of units needs the column that names the arm")

    @property
    def form(self) -> Literal["units", "shares", "means"]:
        """What a row is."""
        if self.outcome is not None:
            return "units"
        return "shares" if self.trials is not None else "means"

    def named(self) -> list[tuple[str, str]]:
        """Every option and the column that it names."""
        options = ("test", "outcome", "denominator", "trials", "successes", "n", "mean", "sd")
        single = [(f"--{name}", column) for name in options if (column := getattr(self, name)) is not None]
        return [*single, *(("--arm", column) for column in self.arm_columns())]

    def arm_columns(self) -> tuple[str, ...]:
        """The columns that together name the arm, none where rows are arms of their own."""
        if self.arm is None:
            return ()
        return (self.arm,) if isinstance(self.arm, str) else self.arm


def answer_of_batch(frame: pl.DataFrame, question: BatchQuestion, table: str) -> TableAnswer:
    """What does each test say, and what do all of them together?

    Each treatment arm is compared with its test's control (Newcombe for shares, Welch for means, the delta
    method for ratios), p-values adjusted by Holm within the test. Over the tests, one p-value each (all arms
    equal; the comparison itself where there are two) by Holm and by Benjamini and Hochberg. Raises
    TableError for columns and values that do not fit.
    """
    allowed = ", ".join(frame.columns)
    absent = [
        Problem(table, None, option, column, "the table has no such column", allowed)
        for option, column in question.named()
        if column not in frame.columns
    ]
    if absent:
        raise TableError(absent)
    notes: list[str] = []
    read = _units if question.form == "units" else _given
    arms = read(frame, question, table, notes)
    control = _controls(arms, question, table, notes)
    first, second, of = _pairs(arms, control, all_pairs=question.all_pairs)
    many = _compared(arms, first, second, question.level)
    rows = EffectRows(question.level)
    method = table_method(arms.estimand, clustered=False, stratified=False, adjusted=False)
    rows.add(
        many,
        RowLabels(
            outcome=_outcome_name(question),
            arm=[arms.names[place] for place in second.tolist()],
            control=[arms.names[place] for place in first.tolist()],
            estimand=arms.estimand,
            adjusted=False,
            why=method.why,
            test=[arms.tests[place] for place in of.tolist()],
        ),
    )
    p = np.array([np.nan if value is None else value for value in rows.columns["p_value"]], dtype=np.float64)
    within = holm_within(p, of)
    rows.columns["p_adjusted"] = listed(within)
    rows.columns["family"] = ["arms of the test"] * len(rows)
    tests = batch_rows(arms, of, p, within, question.shares)
    broken = [one for one in tests if (one["sample_ratio_p_holm"] or 1.0) < question.srm_alpha]
    split = "planned" if question.shares else "even"
    _note(
        notes, len(broken), f"of {len(tests):,} tests do not have their {split} split of units (after Holm)"
    )
    design = {one.name: getattr(question, one.name) for one in fields(question)}
    return TableAnswer(table, frame.height, design, [], None, [], rows, tests=tests, notes=notes)


def _outcome_name(question: BatchQuestion) -> str:
    if question.form == "shares":
        return f"{question.successes}/{question.trials}"
    if question.form == "means":
        return str(question.mean)
    return f"{question.outcome}/{question.denominator}" if question.denominator else str(question.outcome)


def _keys(frame: pl.DataFrame, question: BatchQuestion) -> pl.DataFrame:
    """test, arm (text) and row; an arm without a name is called by its row within the test."""
    test = (
        pl.Series("test", [""] * frame.height)
        if question.test is None
        else as_labels(frame, (question.test,))
    )
    keys = pl.DataFrame([test.alias("test")]).with_row_index("row")
    if not question.arm_columns():
        return keys.with_columns((pl.int_range(pl.len()).over("test") + 1).cast(pl.String).alias("arm"))
    return keys.with_columns(as_labels(frame, question.arm_columns()).alias("arm"))


def _grouped(keys: pl.DataFrame, *, by_name: bool) -> tuple[pl.DataFrame, IntArray]:
    """One row an arm of a test, tests in the order of the file; and the place of each row, -1 for none."""
    known = keys.drop_nulls(["test", "arm"]).with_columns(pl.col("row").min().over("test").alias("first"))
    groups = known.group_by("test", "first", "arm").agg(pl.col("row").min())
    number = pl.col("arm").cast(pl.Float64, strict=False)
    order = ["first", number, "arm"] if by_name else ["first", "row"]
    groups = groups.sort(order, nulls_last=True).select("test", "arm").with_row_index("group")
    placed = keys.join(groups, on=["test", "arm"], how="left", maintain_order="left")
    return groups, placed["group"].cast(pl.Int64).fill_null(-1).to_numpy()


def _arms(
    groups: pl.DataFrame, moments: MomentsTable, estimand: str, missing: IntArray, *, named: bool
) -> BatchArms:
    tests = groups["test"].unique(maintain_order=True)
    codes = groups["test"].replace_strict(
        tests, pl.Series(range(tests.len()), dtype=pl.Int64), return_dtype=pl.Int64
    )
    labels = tuple(tests.to_list()) if named else (None,) * tests.len()
    return BatchArms(labels, codes.to_numpy(), groups["arm"].to_list(), moments, estimand, missing)


def _units(frame: pl.DataFrame, question: BatchQuestion, table: str, notes: list[str]) -> BatchArms:
    """Rows are units: their moments by test and arm."""
    asked = [("--outcome", question.outcome), ("--denominator", question.denominator)]
    columns = [as_numbers(frame, name, option, table) for option, name in asked if name is not None]
    groups, codes = _grouped(_keys(frame, question), by_name=True)
    _note(notes, int((codes < 0).sum()), "rows have no test or no arm and do not count")
    observed = np.isfinite(np.sum(columns, axis=0))
    missing = np.bincount(codes[(codes >= 0) & ~observed], minlength=groups.height)
    kept = (codes >= 0) & observed
    values = [column[kept] for column in columns]
    names = (_NUMERATOR, _DENOMINATOR)[: len(columns)]
    grouping = Grouping.of(codes[kept], groups.height)
    moments = MomentsTable.of_columns(values, grouping, names, third=len(columns) == 1)
    if len(columns) == 2:
        estimand = "ratio"
    else:
        estimand = "proportion" if np.isin(values[0], (0.0, 1.0)).all() else "mean"
    return _arms(groups, moments, estimand, missing, named=question.test is not None)


def _given(frame: pl.DataFrame, question: BatchQuestion, table: str, notes: list[str]) -> BatchArms:
    """One row an arm, its sums already made; rows of one arm of one test are put together."""
    options = [(option, name) for option, name in question.named() if option not in ("--test", "--arm")]
    columns = {option: as_numbers(frame, name, option, table) for option, name in options}
    groups, codes = _grouped(_keys(frame, question), by_name=False)
    _note(notes, int((codes < 0).sum()), "rows have no test or no arm and do not count")
    whole = np.isfinite(np.sum(list(columns.values()), axis=0))
    _note(notes, int((~whole & (codes >= 0)).sum()), "rows lack a number and do not count")
    kept = whole & (codes >= 0)
    _note(
        notes, int(kept.sum()) - np.unique(codes[kept]).size, "rows were added to an earlier row of their arm"
    )
    n, mean, products, estimand = _sums(columns, options, kept, table)
    rows = MomentsTable.of_sums(n.astype(np.int64), mean[:, None], products[:, None, None], (_NUMERATOR,))
    moments = rows.merged(codes[kept], groups.height)
    nothing = np.zeros(groups.height, dtype=np.int64)
    return _arms(groups, moments, estimand, nothing, named=question.test is not None)


def _sums(
    columns: Mapping[str, FloatArray], options: Sequence[tuple[str, str]], kept: NDArray[np.bool_], table: str
) -> tuple[FloatArray, FloatArray, FloatArray, str]:
    """n, mean and sum of squares of each row that counts. Raises TableError for counts that cannot be."""
    names = dict(options)

    def refuse(wrong: NDArray[np.bool_], option: str, message: str, allowed: str) -> None:
        rows = np.flatnonzero(wrong & kept)
        if rows.size:
            first = int(rows[0])
            where = f"{option} {names[option]}, row {first + 1:,}"
            value = f"{columns[option][first]:g}"
            raise TableError([Problem(table, None, where, value, f"{message}; {rows.size:,} rows", allowed)])

    size = "--trials" if "--trials" in columns else "--n"
    n = columns[size]
    refuse((n < 0) | (n != np.floor(n)), size, "a count must be a whole number", "0 or more")
    if size == "--n":
        mean, sd = columns["--mean"], columns["--sd"]
        refuse(sd < 0, "--sd", "a standard deviation cannot be negative", "0 or more")
        return n[kept], mean[kept], (sd**2 * np.maximum(n - 1.0, 0.0))[kept], "mean"
    x = columns["--successes"]
    refuse((x < 0) | (x != np.floor(x)), "--successes", "a count must be a whole number", "0 or more")
    refuse(x > n, "--successes", f"more successes than {names[size]}", f"at most {names[size]}")
    share = (x / np.maximum(n, 1.0))[kept]
    return n[kept], share, n[kept] * share * (1.0 - share), "proportion"


def _note(notes: list[str], count: int, what: str) -> None:
    if count:
        notes.append(f"{count:,} {what}")


def _controls(arms: BatchArms, question: BatchQuestion, table: str, notes: list[str]) -> IntArray:
    """The place of each test's control among the arms, -1 where it has none."""
    found = np.full(len(arms.tests), -1, dtype=np.int64)
    first = np.unique(arms.test, return_index=True)[1]
    wanted = question.control
    for place, (test, name) in enumerate(zip(arms.test.tolist(), arms.names, strict=True)):
        if found[test] < 0 and (name == wanted if wanted is not None else name.strip().lower() == "control"):
            found[test] = place
    if wanted is None:
        return np.where(found < 0, first, found)
    if (found < 0).all():
        shown = ", ".join(dict.fromkeys(arms.names[:20]))
        raise TableError([Problem(table, None, "--control", wanted, "no test has such an arm", shown)])
    _note(notes, int((found < 0).sum()), f"tests have no arm {wanted!r} and are not compared")
    return found


def _pairs(arms: BatchArms, control: IntArray, *, all_pairs: bool) -> tuple[IntArray, IntArray, IntArray]:
    """Places of the control arm and of the other arm of each comparison, and its test."""
    members: list[list[int]] = [[] for _ in arms.tests]
    for place, test in enumerate(arms.test.tolist()):
        members[test].append(place)
    found = []
    for test, base in enumerate(control.tolist()):
        if base < 0:
            continue
        others = [place for place in members[test] if place != base]
        found += [(base, other, test) for other in others]
        if all_pairs:
            found += [(one, other, test) for one, other in combinations(others, 2)]
    first, second, of = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return first, second, of


def _compared(arms: BatchArms, first: IntArray, second: IntArray, level: float) -> ManyEffects:
    control, treatment = arms.table.take(first), arms.table.take(second)
    if arms.estimand == "ratio":
        return many_ratios(control, treatment, numerator=_NUMERATOR, denominator=_DENOMINATOR, level=level)
    if arms.estimand == "mean":
        return many_means(control, treatment, outcome=_NUMERATOR, level=level)
    x_c, x_t = (np.rint(side.means[:, 0] * side.n).astype(np.int64) for side in (control, treatment))
    return many_proportions(x_c, control.n, x_t, treatment.n, level=level)
