"""Every estimate that a unit table from elsewhere allows, with the checks that come before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.tables.checks import (
    ArmRow,
    AttritionRow,
    SampleRatioRow,
    attrition_row,
    sample_ratio_row,
)
from exp_pipeline.analysis.tables.effect_rows import EffectRows
from exp_pipeline.analysis.tables.grouped import UNKNOWN, Cells, Outcome, cells_of
from exp_pipeline.analysis.tables.grouped_effects import TableDesign, effect_rows_of
from exp_pipeline.analysis.tables.quantiles import quantile_effects
from exp_pipeline.analysis.tables.question import (
    Asked,
    TableError,
    TableQuestion,
    as_labels,
    numeric_frame,
    require_columns,
    weighted,
)
from exp_pipeline.analysis.tables.rows import (
    ComplianceRow,
    RowOutcome,
    RowTable,
    assignment_effects,
    clusters_by_arm,
    compliance_effects,
    smallest_attrition_p,
)
from exp_pipeline.analysis.tables.source import FrameSource, ParquetSource
from exp_pipeline.model.errors import Problem
from exp_pipeline.stats.many.families import benjamini_hochberg_all, holm_within

SCHEMA_VERSION = "1.0"


@dataclass(slots=True)
class TableAnswer:
    """Everything that is said of one table; `as_json` gives the form that `docs/analyze.md` describes."""

    table: str
    rows: int
    design: dict[str, Any]
    arms: list[ArmRow]
    sample_ratio: SampleRatioRow | None
    attrition: list[AttritionRow]
    estimates: EffectRows
    compliance: list[ComplianceRow] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON values; no NaN or infinity in it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "table": self.table,
            "rows": self.rows,
            "design": self.design,
            "arms": [asdict(arm) for arm in self.arms],
            "sample_ratio": None if self.sample_ratio is None else asdict(self.sample_ratio),
            "attrition": [asdict(row) for row in self.attrition],
            "estimates": self.estimates.rows(),
            "compliance": [asdict(row) for row in self.compliance],
            "tests": self.tests,
            "notes": self.notes,
        }


def answer_of_file(path: Path, question: TableQuestion) -> TableAnswer:
    """What do the units in a Parquet file say? Read column by column where the design allows it."""
    source = ParquetSource(path)
    require_columns(question, source.columns, path.name)
    simple = question.cluster is None and question.received is None and question.weight is None
    simple = simple and not question.quantiles
    if simple and _numeric(path, question) and not _repeated(path, question):
        outcomes = tuple(_outcome(asked, question.covariates) for asked in question.outcomes)
        cells = cells_of(
            source, outcomes, arm=question.arm, segments=question.segments, strata=question.strata
        )
        return _finished(
            _from_cells(cells, question, path.name, source.rows, []), question, cells.without_arm
        )
    columns = list(dict.fromkeys(column for _, column in question.named()))
    return answer_of_frame(pl.read_parquet(path, columns=columns), question, path.name)


def _numeric(path: Path, question: TableQuestion) -> bool:
    schema = pl.read_parquet_schema(path)
    numbers = ("--outcome", "--denominator", "--covariates")
    wanted = [schema[column] for option, column in question.named() if option in numbers]
    return all(kind.is_numeric() or kind == pl.Boolean for kind in wanted)


def _repeated(path: Path, question: TableQuestion) -> bool:
    if question.unit is None:
        return False
    ids = pl.read_parquet(path, columns=[question.unit])[question.unit].drop_nulls()
    return ids.n_unique() != ids.len()


def answer_of_frame(frame: pl.DataFrame, question: TableQuestion, table: str) -> TableAnswer:
    """What do the rows of a table in memory say? Raises TableError for what does not fit the question."""
    require_columns(question, frame.columns, table)
    notes: list[str] = []
    numbers, covariates = numeric_frame(frame, question, table)
    # Keys as text, so that what says "missing" is missing wherever it is looked at.
    keys = dict.fromkeys((question.arm, *question.segments, *question.strata))
    numbers = numbers.with_columns(
        as_labels(frame, (column,)).alias(column)
        for column in keys
        if column not in covariates and frame[column].dtype == pl.String
    )
    numbers = numbers.with_columns(as_labels(frame, (question.arm,)).alias(question.arm))
    numbers, outcomes = weighted(numbers, question, table, notes)
    cluster = question.cluster or _unit_as_cluster(numbers, question, notes)
    cells = cells_of(
        FrameSource(numbers, table),
        tuple(_outcome(asked, covariates) for asked in outcomes),
        arm=question.arm,
        segments=question.segments,
        strata=question.strata,
    )
    if question.quantiles and (question.covariates or question.strata):
        notes.append("covariates and strata do not enter quantiles")
    if cluster is None and question.quantiles:
        rows = _row_table(numbers, cells, question, None, ())
        asked = [_row_outcome(numbers, one, "quantile") for one in outcomes]
        estimates = EffectRows(question.level)
        quantile_effects(rows, asked, question.quantiles, _pairs(cells, question, table), estimates)
        answer = _from_cells(cells, question, table, frame.height, notes, estimates)
    elif cluster is None:
        answer = _from_cells(cells, question, table, frame.height, notes)
    else:
        answer = _by_cluster(numbers, cells, question, outcomes, cluster, covariates, table, notes)
    if question.received is not None:
        rows = _row_table(numbers, cells, question, cluster, covariates)
        pairs = _pairs(cells, question, table)
        for one, found in zip(outcomes, cells.outcomes, strict=True):
            answer.compliance += compliance_effects(
                rows, _row_outcome(numbers, one, found.outcome.estimand), pairs, answer.estimates
            )
    return _finished(answer, question, cells.without_arm)


def _outcome(asked: Asked, covariates: Sequence[str]) -> Outcome:
    return Outcome(asked.name, asked.column, "auto", asked.denominator, tuple(covariates))


def _unit_as_cluster(frame: pl.DataFrame, question: TableQuestion, notes: list[str]) -> str | None:
    """The unit's column, where units have several rows: rows of one unit belong together."""
    if question.unit is None:
        return None
    ids = frame[question.unit].drop_nulls()
    units = ids.n_unique()
    if units == ids.len():
        return None
    notes.append(
        f"{units:,} units have {ids.len():,} rows: rows of one {question.unit} belong together, "
        "so standard errors are by unit"
    )
    arms = frame.drop_nulls([question.unit, question.arm]).group_by(question.unit)
    both = arms.agg(pl.col(question.arm).n_unique()).filter(pl.col(question.arm) > 1).height
    if both:
        notes.append(f"{both:,} units have rows in more than one arm; each row counts where it says")
    return question.unit


def control_of(arms: Sequence[str], question: TableQuestion, table: str) -> str:
    """The declared control; else the arm called control, or the first.

    Raises TableError where the declared one is not there, or there is nothing to compare.
    """
    if len(arms) < 2:
        message = f"a comparison needs two arms, the column has {len(arms)}"
        raise TableError([Problem(table, None, "--arm", question.arm, message, ", ".join(arms))])
    if question.control is None:
        return next((arm for arm in arms if arm.strip().lower() == "control"), arms[0])
    if question.control not in arms:
        message = "the table has no such arm"
        raise TableError([Problem(table, None, "--control", question.control, message, ", ".join(arms))])
    return question.control


def _pairs(cells: Cells, question: TableQuestion, table: str) -> list[tuple[str, str]]:
    control = control_of(cells.arms, question, table)
    others = [arm for arm in cells.arms if arm != control]
    pairs = [(control, arm) for arm in others]
    return pairs + list(combinations(others, 2)) if question.all_pairs else pairs


def _rows_by_arm(cells: Cells) -> NDArray[np.int64]:
    return np.bincount(cells.arm, weights=cells.rows, minlength=len(cells.arms)).astype(np.int64)


def _missing_by_arm(cells: Cells, place: int) -> NDArray[np.int64]:
    found = np.bincount(cells.arm, weights=cells.outcomes[place].moments.n, minlength=len(cells.arms))
    return _rows_by_arm(cells) - found.astype(np.int64)


def _from_cells(
    cells: Cells,
    question: TableQuestion,
    table: str,
    height: int,
    notes: list[str],
    estimates: EffectRows | None = None,
) -> TableAnswer:
    """Independent units: everything from the sums, but estimates that were made otherwise."""
    control = control_of(cells.arms, question, table)
    design = TableDesign(
        question.arm,
        control,
        tuple(found.outcome for found in cells.outcomes),
        segments=question.segments,
        strata=question.strata,
        level=question.level,
        all_pairs=question.all_pairs,
    )
    by_arm = _rows_by_arm(cells)
    counts = dict(zip(cells.arms, by_arm.tolist(), strict=True))
    return TableAnswer(
        table,
        height,
        _described(question, cells.arms, control, None),
        [ArmRow(arm, rows, rows, _share(question, arm)) for arm, rows in counts.items()],
        sample_ratio_row(counts, question.shares, "units", question.srm_alpha),
        [
            attrition_row(found.outcome.name, cells.arms, by_arm, _missing_by_arm(cells, place))
            for place, found in enumerate(cells.outcomes)
        ],
        effect_rows_of(cells, design) if estimates is None else estimates,
        notes=notes,
    )


def _by_cluster(
    frame: pl.DataFrame,
    cells: Cells,
    question: TableQuestion,
    outcomes: Sequence[Asked],
    cluster: str,
    covariates: tuple[str, ...],
    table: str,
    notes: list[str],
) -> TableAnswer:
    """Whole clusters, or several rows a unit: everything from the rows."""
    pairs = _pairs(cells, question, table)
    rows = _row_table(frame, cells, question, cluster, covariates)
    nameless = int((rows.cluster < 0).sum())
    if nameless:
        notes.append(f"{nameless:,} rows have no {cluster} and do not count")
    estimates = EffectRows(question.level)
    by_arm = _rows_by_arm(cells)
    asked = [
        _row_outcome(frame, one, found.outcome.estimand)
        for one, found in zip(outcomes, cells.outcomes, strict=True)
    ]
    if question.quantiles:
        quantile_effects(rows, asked, question.quantiles, pairs, estimates)
    else:
        assignment_effects(rows, asked, pairs, estimates)
    attrition = []
    for place, outcome in enumerate(asked):
        p = smallest_attrition_p(rows, outcome, pairs[: len(cells.arms) - 1])
        missing = _missing_by_arm(cells, place)
        attrition.append(
            attrition_row(outcome.name, cells.arms, by_arm, missing, p_clustered=p, clustered=True)
        )
    counts = dict(zip(cells.arms, by_arm.tolist(), strict=True))
    randomised, counted = clusters_by_arm(rows), "units" if question.cluster is None else "clusters"
    clusters = np.unique(rows.cluster[(rows.cluster >= 0) & (rows.arm >= 0)]).size
    mixed = sum(randomised.values()) - clusters
    if mixed and question.cluster is not None:
        notes.append(f"{mixed:,} of {clusters:,} clusters have rows in more than one arm")
        if 2 * mixed > clusters:
            # Arms were drawn within clusters, so rows are what was randomised.
            randomised, counted = counts, "units"
    return TableAnswer(
        table,
        frame.height,
        _described(question, cells.arms, pairs[0][0], cluster),
        [ArmRow(arm, n, randomised[arm], _share(question, arm)) for arm, n in counts.items()],
        sample_ratio_row(randomised, question.shares, counted, question.srm_alpha),
        attrition,
        estimates,
        notes=notes,
    )


def _row_table(
    frame: pl.DataFrame,
    cells: Cells,
    question: TableQuestion,
    cluster: str | None,
    covariates: tuple[str, ...],
) -> RowTable:
    n = frame.height
    strata = as_labels(frame, question.strata).fill_null("unknown") if question.strata else None
    groups = np.arange(n) if cluster is None else _dense(as_labels(frame, (cluster,)))
    return RowTable(
        arms=cells.arms,
        arm=_coded(frame[question.arm], cells.arms),
        cluster=groups,
        clustered=cluster is not None,
        stratum=None if strata is None else _dense(strata),
        covariates=frame.select(covariates).to_numpy() if covariates else np.zeros((n, 0)),
        covariate_names=covariates,
        received=None if question.received is None else frame[question.received].to_numpy(),
        segments=tuple(
            (one.column, one.labels, _coded(as_labels(frame, (one.column,)).fill_null(UNKNOWN), one.labels))
            for one in cells.segments
        ),
    )


def _row_outcome(frame: pl.DataFrame, asked: Asked, estimand: str) -> RowOutcome:
    base = None if asked.denominator is None else frame[asked.denominator].to_numpy()
    return RowOutcome(asked.name, estimand, frame[asked.column].to_numpy(), base)


def _coded(values: pl.Series, labels: Sequence[str]) -> NDArray[np.int64]:
    """The place of each value in `labels`, -1 where there is none."""
    places = pl.Series(range(len(labels)), dtype=pl.Int64)
    return values.replace_strict(
        pl.Series(labels, dtype=pl.String), places, default=-1, return_dtype=pl.Int64
    ).to_numpy()


def _dense(values: pl.Series) -> NDArray[np.int64]:
    return (values.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()


def _share(question: TableQuestion, arm: str) -> float | None:
    total = sum(question.shares.values())
    return question.shares.get(arm, 0.0) / total if total else None


def _described(
    question: TableQuestion, arms: Sequence[str], control: str, cluster: str | None
) -> dict[str, Any]:
    found = asdict(question)
    found["outcomes"] = [asked.name for asked in question.outcomes]
    return {**found, "arms": list(arms), "control": control, "cluster": cluster}


def _finished(answer: TableAnswer, question: TableQuestion, without_arm: int) -> TableAnswer:
    """Adjusted p-values, and what the checks mean for the estimates."""
    columns = answer.estimates.columns
    keys = list(zip(columns["question"], columns["adjusted"], columns["segment"], strict=True))
    columns["family"] = [
        f"{question}{', adjusted' if adjusted else ''}{'' if segment is None else f', by {segment}'}"
        for question, adjusted, segment in keys
    ]
    codes = np.unique(np.array(columns["family"], dtype=str), return_inverse=True)[1]
    p = np.array([np.nan if value is None else value for value in columns["p_value"]], dtype=np.float64)
    if question.correction == "holm":
        corrected = holm_within(p, codes)
    else:
        corrected = np.full(p.shape, np.nan)
        for code in range(int(codes.max(initial=-1)) + 1):
            corrected[codes == code] = benjamini_hochberg_all(p[codes == code])
    columns["p_adjusted"] = [None if np.isnan(value) else float(value) for value in corrected]
    warned: dict[str, list[str]] = {name: [] for name in dict.fromkeys(columns["outcome"])}
    ratio = answer.sample_ratio
    if ratio is not None and ratio.verdict == "fail" and ratio.p_value is not None:
        for flags in warned.values():
            flags.append(
                f"sample ratio mismatch (p = {ratio.p_value:.2g}): arms may differ in more than treatment"
            )
    for row in answer.attrition:
        lost = sum(row.missing.values())
        if lost and row.outcome in warned:
            said = f"{lost:,} of {sum(row.rows.values()):,} rows have no outcome and do not count"
            differs = f"; more in one arm than in another (p = {row.p_value:.2g})" if row.differs else ""
            warned[row.outcome].append(said + differs)
    columns["flags"] = [
        [*flags, *warned[outcome]]
        for flags, outcome in zip(columns["flags"], columns["outcome"], strict=True)
    ]
    if without_arm:
        answer.notes.append(f"{without_arm:,} rows have no arm and do not count")
    return answer
