"""What is asked of a unit table from elsewhere, and what its columns say, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.tables.source import MISSING_LABELS, text_of
from exp_pipeline.model.errors import Problem, SpecError

FloatArray = NDArray[np.float64]
Correction = Literal["holm", "benjamini-hochberg"]

# A text covariate with more values than these is a name, not a category.
MOST_CATEGORIES = 20
YES_NO = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
MISSING_WORDS = ("", "na", "nan", "null", "none", ".")


class TableError(SpecError):
    """A table that does not hold what was asked for; carries every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__(problems)
        self.args = ("\n".join(str(problem) for problem in self.problems),)


@dataclass(frozen=True, slots=True)
class Asked:
    """One outcome: a column, or one over a denominator (a rate, a ratio of sums); `title` names it."""

    column: str
    denominator: str | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """What the outcome is called in answers."""
        return self.title or (
            self.column if self.denominator is None else f"{self.column}/{self.denominator}"
        )


@dataclass(frozen=True, slots=True)
class TableQuestion:
    """How was the table's experiment designed, and what is asked of it? Fields name columns.

    arm: which arm a row is in. control: the arm that others are compared with; the first by name where it is
    not given. unit: rows with one value of it are one unit. cluster: what was randomised, where that is not
    the unit. strata: randomisation was within combinations of these. covariates: measured before
    assignment. received: whether (or how much of) the treatment was taken. weight: how many units of the
    population a row stands for. segments: effects by each. shares: planned share by arm. quantiles: compare
    these quantiles of the outcomes instead of their means.
    """

    arm: str
    outcomes: tuple[Asked, ...]
    control: str | None = None
    unit: str | None = None
    cluster: str | None = None
    strata: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    received: str | None = None
    weight: str | None = None
    segments: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    level: float = 0.95
    srm_alpha: float = 0.001
    all_pairs: bool = False
    correction: Correction = "holm"
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.outcomes:
            raise ValueError("outcomes must name at least one column, got none")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must lie between 0 and 1, got {self.level!r}")
        if not 0.0 < self.srm_alpha < 1.0:
            raise ValueError(f"srm_alpha must lie between 0 and 1, got {self.srm_alpha!r}")
        self._check_quantiles()
        for arm, share in self.shares.items():
            if not share >= 0.0:
                raise ValueError(f"shares of {arm!r} must be a number of at least 0, got {share!r}")

    def _check_quantiles(self) -> None:
        for place, quantile in enumerate(self.quantiles):
            if not 0.0 < quantile < 1.0 or quantile in self.quantiles[:place]:
                raise ValueError(
                    f"quantiles must lie between 0 and 1, each given once, got {list(self.quantiles)}"
                )
        if not self.quantiles:
            return
        ratio = next((one.name for one in self.outcomes if one.denominator is not None), None)
        if ratio is not None:
            raise ValueError(f"a quantile is of one column: outcome {ratio!r} has a denominator")
        if self.weight is not None or self.received is not None:
            option, column = ("weight", self.weight) if self.weight else ("received", self.received)
            raise ValueError(f"a quantile has no estimate with {option} {column!r}: ask without it")

    def named(self) -> list[tuple[str, str]]:
        """Every option and the column that it names."""
        single = {"--arm": self.arm, "--unit": self.unit, "--cluster": self.cluster,
                  "--received": self.received, "--weight": self.weight}  # fmt: skip
        found = [(option, column) for option, column in single.items() if column is not None]
        for option, columns in (
            ("--outcome", [one.column for one in self.outcomes]),
            ("--denominator", [one.denominator for one in self.outcomes]),
            ("--strata", self.strata),
            ("--covariates", self.covariates),
            ("--segments", self.segments),
        ):
            found += [(option, column) for column in columns if column is not None]
        return found


def require_columns(question: TableQuestion, columns: Sequence[str], table: str) -> None:
    """Are all columns there? Raises TableError with every one that is not."""
    allowed = ", ".join(columns)
    problems = [
        Problem(table, None, option, column, "the table has no such column", allowed)
        for option, column in question.named()
        if column not in columns
    ]
    own = {one.column for one in question.outcomes} | {question.arm, question.received}
    problems += [
        Problem(
            table, None, "--covariates", column, "a covariate must not be outcome, arm or what was received"
        )
        for column in question.covariates
        if column in own
    ]
    if problems:
        raise TableError(problems)


def as_numbers(frame: pl.DataFrame, column: str, option: str, table: str) -> FloatArray:
    """A column as numbers, yes and no as 1 and 0, NaN where missing.

    Raises TableError with the first row that is not a number.
    """
    values = frame[column]
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    number = values.cast(pl.Float64, strict=False)
    if values.dtype == pl.String:
        words = values.str.to_lowercase().replace_strict(YES_NO, default=None, return_dtype=pl.Float64)
        number = number.zip_with(number.is_not_null(), words)
    if values.dtype == pl.String:
        wrong = number.is_null() & values.is_not_null() & ~values.str.to_lowercase().is_in(MISSING_WORDS)
        rows = wrong.arg_true()
        if rows.len():
            first = int(rows[0])
            raise TableError(
                [
                    Problem(
                        table,
                        None,
                        f"{option} {column}, row {first + 1:,}",
                        str(frame[column][first]),
                        f"must hold numbers; {rows.len():,} rows do not",
                        "a number, or nothing where it is missing",
                    )
                ]
            )
    array = number.fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(array), array, np.nan)


def as_labels(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Values of one or several columns as text; null where the only column says that it is missing."""
    if len(columns) == 1:
        values = text_of(frame[columns[0]])
        if frame[columns[0]].dtype == pl.String:
            empty = values.str.strip_chars().str.to_lowercase().is_in(MISSING_LABELS).fill_null(True)
            values = values.set(empty, None)
        return values.alias("label")
    parts = [
        text_of(frame[column]).fill_null("unknown").alias(f"part{place}")
        for place, column in enumerate(columns)
    ]
    return pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=" / ").alias("label"))["label"]


def numeric_frame(
    frame: pl.DataFrame, question: TableQuestion, table: str
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with outcomes, covariates, weights and receipt as numbers, and the covariates' columns.

    A covariate that holds text becomes one column of 0 and 1 for each value but the first.
    """
    wanted: dict[str, str] = {}
    for option, column in question.named():
        if option in ("--outcome", "--denominator", "--received", "--weight"):
            wanted[column] = option
    added = [pl.Series(column, as_numbers(frame, column, option, table)) for column, option in wanted.items()]
    covariates: list[str] = []
    for column in question.covariates:
        if not _categories(frame[column]):
            added.append(pl.Series(column, as_numbers(frame, column, "--covariates", table)))
            covariates.append(column)
            continue
        text = as_labels(frame, (column,))
        values = text.drop_nulls().unique().sort().to_list()
        if len(values) > MOST_CATEGORIES:
            message = f"a text covariate may have {MOST_CATEGORIES} values, it has {len(values)}"
            raise TableError(
                [Problem(table, None, "--covariates", column, message, "numbers, or few categories")]
            )
        for value in values[1:]:
            name = f"{column}={value}"
            added.append((text == value).cast(pl.Float64).alias(name))
            covariates.append(name)
    distinct = {series.name: series for series in added}
    return frame.with_columns(distinct.values()), tuple(covariates)


def _categories(values: pl.Series) -> bool:
    if values.dtype in (pl.Categorical, pl.Enum):
        return True
    if values.dtype != pl.String:
        return False
    text = values.drop_nulls().str.strip_chars()
    text = text.filter(~text.str.to_lowercase().is_in(MISSING_WORDS))
    return bool(text.len()) and text.cast(pl.Float64, strict=False).null_count() == text.len()


def weights_checked(weights: FloatArray, column: str, table: str) -> None:
    """Raises TableError for a weight below zero."""
    below = np.flatnonzero(weights < 0.0)
    if below.size:
        first = int(below[0])
        raise TableError(
            [
                Problem(
                    table, None, f"--weight {column}, row {first + 1:,}", f"{weights[first]:g}",
                    f"{below.size:,} rows have a negative weight", "0 or more",
                )
            ]
        )  # fmt: skip


def weighted(
    frame: pl.DataFrame, question: TableQuestion, table: str, notes: list[str]
) -> tuple[pl.DataFrame, tuple[Asked, ...]]:
    """The table with a weight times each outcome, and these over the weights: what a weighted mean is.

    Raises TableError for a weight below zero, and for weights together with what was received.
    """
    if question.weight is None:
        return frame, question.outcomes
    if question.received is not None:
        message = "weights do not enter the effect on those who received it: ask for one of the two"
        raise TableError([Problem(table, None, "--weight", question.weight, message)])
    weights_checked(frame[question.weight].to_numpy(), question.weight, table)
    useless = frame.height - frame.filter(pl.col(question.weight).fill_nan(None) > 0.0).height
    if useless:
        notes.append(f"{useless:,} rows without a weight above 0 do not count")
    notes.append(f"means are weighted by {question.weight}: ratios of weighted sums")
    positive = pl.col(question.weight).fill_nan(None) > 0.0
    weight = pl.when(positive).then(pl.col(question.weight)).otherwise(float("nan"))
    added, outcomes = [], []
    for place, asked in enumerate(question.outcomes):
        base = weight if asked.denominator is None else weight * pl.col(asked.denominator)
        top, bottom = f"weighted {asked.name}", f"weight of {asked.name} ({place})"
        added += [(weight * pl.col(asked.column)).alias(top), base.alias(bottom)]
        outcomes.append(Asked(top, bottom, asked.name))
    return frame.with_columns(added), tuple(outcomes)
