"""Effects from the rows themselves: clusters, and who received what; where group sums do not suffice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.analysis.tables.effect_rows import EffectRows, RowLabels
from exp_pipeline.analysis.tables.methods import UNITS_PER_COVARIATE, table_method
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import fill_missing
from exp_pipeline.stats.effects.compliance import ComplierEffect, complier_effect
from exp_pipeline.stats.many.clusters import many_clustered_differences
from exp_pipeline.stats.many.effects import Answer
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]

COMPLIANCE = (
    "Complier average causal effect by two-stage least squares, assignment as the instrument: what receiving "
    "did to those whom assignment moved. The p-value is that of assignment (Anderson-Rubin)."
)


@dataclass(frozen=True, slots=True, eq=False)
class RowOutcome:
    """One outcome, row by row: NaN where it is missing. `estimand` as in `table_methods`."""

    name: str
    estimand: str
    values: FloatArray
    denominator: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """The rows of a table as arrays (n,). arm, stratum, cluster: codes, -1 where the table has nothing.

    clustered: rows of one cluster belong together. covariates: (n, k), NaN where missing. segments: column
    name, labels, codes.
    """

    arms: tuple[str, ...]
    arm: IntArray
    cluster: IntArray
    clustered: bool
    stratum: IntArray | None
    covariates: FloatArray
    covariate_names: tuple[str, ...]
    received: FloatArray | None
    segments: tuple[tuple[str, tuple[str, ...], IntArray], ...]


@dataclass(frozen=True, slots=True)
class ComplianceRow:
    """Compliance beside one estimate: how far assignment moved what was received."""

    outcome: str
    arm: str
    control: str
    adjusted: bool
    first_stage: float
    first_stage_se: float
    first_stage_f: float | None
    complier_share: float | None
    always_share: float | None
    never_share: float | None
    one_sided: bool | None
    anderson_rubin: str
    anderson_rubin_lower: float | None
    anderson_rubin_upper: float | None


def assignment_effects(
    table: RowTable, outcomes: Sequence[RowOutcome], pairs: Sequence[tuple[str, str]], rows: EffectRows
) -> None:
    """Write the effects of assignment with standard errors by cluster, overall and by segment.

    Rows without an outcome, an arm or a cluster do not count here (attrition is told elsewhere). Outcomes
    that are there for the same rows share one design and one set of sums by cluster.
    """
    parts = [list(_parts(table, outcome, pairs)) for outcome in outcomes]
    answers: dict[tuple[int, int], Answer] = {}
    alike: dict[tuple[int, bytes], list[int]] = {}
    for place, found in enumerate(parts):
        for number, (part, _) in enumerate(found):
            if outcomes[place].denominator is not None:
                answers[place, number] = part.assigned(rows.level)
            else:
                alike.setdefault((number, part.kept.tobytes()), []).append(place)
    for (number, _), places in alike.items():
        first = parts[places[0]][number][0]
        if len(places) == 1:
            answers[places[0], number] = first.assigned(rows.level)
            continue
        for place, answer in zip(
            places, first.assigned_all([outcomes[place] for place in places], rows.level), strict=True
        ):
            answers[place, number] = answer
    for place, found in enumerate(parts):
        for number, (_, labels) in enumerate(found):
            rows.add([answers[place, number]], labels)


def compliance_effects(
    table: RowTable, outcome: RowOutcome, pairs: Sequence[tuple[str, str]], rows: EffectRows
) -> list[ComplianceRow]:
    """Write the effects of receiving on those whom assignment moved; answer how many it moved."""
    told: list[ComplianceRow] = []
    for part, labels in _parts(table, outcome, pairs):
        found = part.received(rows.level)
        rows.add([_as_answer(found)], replace(labels, question="received", why=COMPLIANCE))
        if isinstance(found, ComplierEffect) and labels.segment == [None]:
            told.append(_compliance(labels, found))
    return told


def smallest_attrition_p(
    table: RowTable, outcome: RowOutcome, pairs: Sequence[tuple[str, str]]
) -> float | None:
    """By cluster, does any arm miss more outcomes than control? The smallest p-value after Holm."""
    missing = ~np.isfinite(outcome.values)
    if outcome.denominator is not None:
        missing |= ~np.isfinite(outcome.denominator)
    told = replace(outcome, values=missing.astype(np.float64), denominator=None, estimand="proportion")
    plain = replace(table, covariates=table.covariates[:, :0], covariate_names=(), segments=())
    p: dict[str, float] = {}
    for part, labels in _parts(plain, told, pairs):
        answer = part.assigned(0.95)
        if isinstance(answer, Effect):
            p[str(labels.arm)] = answer.p_value
    return min(holm(p).values(), default=None)


def clusters_by_arm(table: RowTable) -> dict[str, int]:
    """How many clusters have rows in each arm?"""
    known = (table.arm >= 0) & (table.cluster >= 0)
    pairs = np.unique(np.stack([table.arm[known], table.cluster[known]], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(table.arms))
    return {arm: int(count) for arm, count in zip(table.arms, counts, strict=True)}


def _parts(
    table: RowTable, outcome: RowOutcome, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[_Part, RowLabels]]:
    """Every comparison: overall and by segment, plain and adjusted, arm by arm."""
    counts = np.isfinite(outcome.values) & (table.arm >= 0) & (table.cluster >= 0)
    if outcome.denominator is not None:
        counts &= np.isfinite(outcome.denominator)
    covariates, names = _filled(table, counts)
    for segment, value, inside in slots_of(table):
        for adjusted in (False, True) if names else (False,):
            method = table_method(
                outcome.estimand,
                clustered=table.clustered,
                stratified=table.stratum is not None,
                adjusted=adjusted,
            )
            for control, arm in pairs:
                places = table.arms.index(control), table.arms.index(arm)
                kept = counts & inside & ((table.arm == places[0]) | (table.arm == places[1]))
                if adjusted and kept.sum() < UNITS_PER_COVARIATE * (len(names) + 1):
                    continue
                yield (
                    _Part(table, outcome, kept, places[1], covariates if adjusted else None, names),
                    RowLabels(
                        outcome=outcome.name,
                        arm=arm,
                        control=control,
                        estimand=outcome.estimand,
                        adjusted=adjusted,
                        why=method.why,
                        segment=[segment],
                        segment_value=[value],
                    ),
                )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Two arms of one outcome, the rows that count."""

    table: RowTable
    outcome: RowOutcome
    kept: Mask
    treated: int
    covariates: FloatArray | None
    names: tuple[str, ...]

    def assigned(self, level: float) -> Answer:
        base = self.outcome.denominator
        answer = clustered_difference(
            self.outcome.values[self.kept],
            self.table.arm[self.kept] == self.treated,
            self.table.cluster[self.kept],
            covariates=None if self.covariates is None else self.covariates[self.kept],
            strata=self._strata(self.kept),
            denominator=None if base is None else base[self.kept],
            level=level,
        )
        return _named(answer, self.names)

    def assigned_all(self, outcomes: Sequence[RowOutcome], level: float) -> tuple[Answer, ...]:
        """As `assigned`, for outcomes that are all there for the rows of this part."""
        found = many_clustered_differences(
            [one.values[self.kept] for one in outcomes],
            self.table.arm[self.kept] == self.treated,
            self.table.cluster[self.kept],
            covariates=None if self.covariates is None else self.covariates[self.kept],
            strata=self._strata(self.kept),
            level=level,
        )
        return tuple(_named(answer, self.names) for answer in found)

    def received(self, level: float) -> ComplierEffect | NotEstimable:
        dose = self.table.received
        known = self.kept if dose is None else self.kept & np.isfinite(dose)
        treated = self.table.arm[known] == self.treated
        if self.outcome.denominator is not None or dose is None:
            n_t = int(treated.sum())
            reason = "a ratio has no complier effect here: give its parts as outcomes of their own"
            return NotEstimable("2sls", reason, int(treated.size) - n_t, n_t)
        return complier_effect(
            self.outcome.values[known],
            treated,
            dose[known],
            cluster=self.table.cluster[known] if self.table.clustered else None,
            covariates=None if self.covariates is None else self.covariates[known],
            strata=self._strata(known),
            level=level,
        )

    def _strata(self, kept: Mask) -> IntArray | None:
        if self.table.stratum is None:
            return None
        codes = self.table.stratum[kept]
        return codes if np.unique(codes).size > 1 else None


def slots_of(table: RowTable) -> Iterator[tuple[str | None, str | None, Mask]]:
    """All rows, then those of each value of each segment: column, value, (n,) which rows."""
    yield None, None, np.ones(table.arm.shape, dtype=bool)
    for column, labels, codes in table.segments:
        for place, label in enumerate(labels):
            yield column, label, codes == place


def _filled(table: RowTable, counts: Mask) -> tuple[FloatArray, tuple[str, ...]]:
    """Covariates, gaps filled over the rows that count; without constants and repeated indicators."""
    if not table.covariate_names or not counts.any():
        return np.zeros((table.arm.size, 0)), ()
    filled = fill_missing(table.covariates[counts], table.covariate_names)
    kept: list[int] = []
    for place in range(len(filled.names)):
        column = filled.values[:, place]
        if np.ptp(column) == 0.0 or any(np.array_equal(column, filled.values[:, one]) for one in kept):
            continue
        kept.append(place)
    found = np.zeros((table.arm.size, len(kept)))
    found[counts] = filled.values[:, kept]
    return found, tuple(filled.names[place] for place in kept)


def _named(answer: Answer, names: Sequence[str]) -> Answer:
    """Flags speak of covariates by number; give them their names."""
    if not isinstance(answer, Effect) or not names:
        return answer
    flags = answer.flags
    for place in range(len(names), 0, -1):
        flags = tuple(
            flag.replace(f"covariate number {place} ", f"covariate {names[place - 1]} ") for flag in flags
        )
    return replace(answer, flags=flags)


def _as_answer(found: ComplierEffect | NotEstimable) -> Answer:
    if isinstance(found, NotEstimable):
        return found
    return replace(
        found.itt,
        method=found.method,
        absolute=found.absolute,
        se=found.se,
        df=found.df,
        ci_lower=found.ci_lower,
        ci_upper=found.ci_upper,
        p_value=found.p_value,
        relative=None,
        relative_ci_lower=None,
        relative_ci_upper=None,
        relative_method=None,
        standardised=None,
        variance_reduction=None,
        flags=(*found.flags, "no relative effect: the compliers' own control value is not estimated"),
    )


def _compliance(labels: RowLabels, found: ComplierEffect) -> ComplianceRow:
    stage, region = found.first_stage, found.anderson_rubin
    return ComplianceRow(
        labels.outcome,
        str(labels.arm),
        str(labels.control),
        labels.adjusted,
        stage.absolute,
        stage.se,
        stage.f if math.isfinite(stage.f) else None,
        stage.complier_share,
        stage.always_share,
        stage.never_share,
        stage.one_sided,
        region.kind,
        region.lower,
        region.upper,
    )
