"""The primary effect estimated in other ways."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.estimators import whole
from exp_pipeline.analysis.effects.methods import Comparison, compare, scaled
from exp_pipeline.analysis.integrity.attrition import ArmAttrition
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.readout import RobustnessRow
from exp_pipeline.stats.clusters.design import FEW_CLUSTERS, FEW_CLUSTERS_PER_ARM
from exp_pipeline.stats.clusters.wild import WildBootstrap, wild_cluster_bootstrap
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.effects.randomisation import RandomisationTest, randomisation_test
from exp_pipeline.stats.effects.robust_means import winsorised_difference
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.results import Effect, NotEstimable

# Values above this quantile of both arms together count as it.
WINSOR_QUANTILE = 0.99
# Draws, and how many units (or clusters) times draws are worth a tenth of a second; fewer than the least
# say nothing at 1 %, and with so many units the t reference needs no help.
DRAWS = 799
MOST_DRAWN = 800_000
FEWEST_DRAWS = 199

Kind = Literal["headline", "sensitivity", "diagnostic", "bounds"]


@dataclass(frozen=True, slots=True)
class _Variant:
    """Another analysis: of which units, by cluster or not, adjusted or not."""

    name: str
    note: str
    units: MetricUnits
    clustered: bool
    adjusted: bool
    kind: Kind = "sensitivity"


def robustness_rows(
    setting: Setting,
    units: MetricUnits,
    headline: Mapping[str, Comparison],
    attrition: Sequence[ArmAttrition],
) -> tuple[RobustnessRow, ...]:
    """Would another defensible analysis have said something else?

    For each arm: the headline; unadjusted and adjusted (with covariates); ignoring clusters (where they were
    randomised: its interval is too narrow) and ignoring strata; without contaminated units; exposed units
    only, which compares units that chose to come and is a diagnostic, not an effect of assignment; with the
    largest values capped; by randomisation inference, and with few clusters by wild bootstrap, whose draws
    are seeded by the experiment's name, so that they are the same every time. Where units lack a value: what
    the effect could be with them (bounds of Lee, and for shares the worst case), and with the observed
    weighted by their chance to be.
    """
    rows: list[RobustnessRow] = []
    variants = _variants(setting, units)
    for arm in setting.brief.treatments():
        rows.append(_row(arm.name, "headline", "the estimate that decides", "headline", headline[arm.name]))
        for one in variants:
            found = compare(
                one.units,
                arm.name,
                setting.brief.control,
                clustered=one.clustered,
                adjusted=one.adjusted,
                level=setting.level,
            )
            rows.append(_row(arm.name, one.name, one.note, one.kind, found))
        rows += _other_references(setting, units, arm.name)
    return (*rows, *_with_the_missing(attrition))


def _variants(setting: Setting, units: MetricUnits) -> list[_Variant]:
    clustered = setting.clustered
    found = [_Variant("unadjusted", "", units, clustered, False)]
    if units.covariates:
        names = ", ".join(name.split("__", 1)[1] for name in units.covariates)
        found.append(_Variant("adjusted", f"covariates: {names}", units, clustered, True))
    if clustered:
        note = "too narrow: units of one cluster are alike"
        found.append(_Variant("ignoring clusters", note, units, False, True, "diagnostic"))
    if units.stratified and units.metric.estimand != "quantile":
        flat = units.frame.with_columns(pl.lit(0, dtype=pl.Int64).alias("layer"))
        found.append(
            _Variant(
                "ignoring strata",
                "as if all units had been drawn together",
                replace(units, frame=flat, stratified=False),
                clustered,
                True,
            )
        )
    clean = units.frame.filter(~pl.col("contaminated"))
    if clean.height < units.frame.height:
        note = f"{units.frame.height - clean.height:,} units seen in two arms left out"
        found.append(
            _Variant("without contaminated units", note, replace(units, frame=clean), clustered, True)
        )
    exposed = units.frame.filter(pl.col("exposed").fill_null(False))
    if 0 < exposed.height < units.frame.height:
        note = "diagnostic: who is exposed may depend on the arm"
        found.append(
            _Variant("exposed units only", note, replace(units, frame=exposed), clustered, True, "diagnostic")
        )
    return found


def _row(arm: str, variant: str, note: str, kind: Kind, found: Comparison) -> RobustnessRow:
    effect = found.effect if isinstance(found.effect, Effect) else None
    reason = "" if isinstance(found.effect, Effect) else found.effect.reason
    return RobustnessRow(
        arm=arm,
        variant=variant,
        absolute=effect.absolute if effect else None,
        ci_lower=effect.ci_lower if effect else None,
        ci_upper=effect.ci_upper if effect else None,
        p_value=effect.p_value if effect else None,
        n=found.effect.n_control + found.effect.n_treatment,
        note="; ".join(part for part in (note, reason) if part),
        kind=kind,
        method=found.effect.method,
        why=found.why,
    )


def _other_references(setting: Setting, units: MetricUnits, arm: str) -> Iterator[RobustnessRow]:
    """Capped values, drawn assignments, and with few clusters drawn signs.

    Ratios have drawn signs only, of their parts by unit (delta method): a unit's part changes with the arm.
    """
    metric = units.metric
    if metric.estimand == "quantile":
        return
    frame = units.frame.filter(pl.col("arm").is_in([setting.brief.control, arm]))
    treated = (frame["arm"] == arm).to_numpy()
    if metric.estimand == "ratio":
        if setting.clustered:
            yield from _by_signs(
                setting, units, frame, _parts_of_ratio(frame, treated) * metric.per, treated, arm
            )
        return
    values = frame["num"].to_numpy() * metric.per
    if metric.estimand == "mean":
        yield _winsorised(setting, units, frame, values, treated, arm)
    cluster = frame["cluster"].rank("dense").cast(pl.Int64).to_numpy() if setting.clustered else None
    strata = frame["layer"].to_numpy() if units.stratified else None
    groups = treated.size if cluster is None else int(np.unique(cluster).size)
    if units.covariates and cluster is None and strata is None:
        yield _slopes_by_arm(setting, units, arm)
    yield _drawn(setting, values, treated, cluster, strata, groups, arm)
    if cluster is not None:
        yield from _by_signs(setting, units, frame, values, treated, arm)


def _by_signs(
    setting: Setting,
    units: MetricUnits,
    frame: pl.DataFrame,
    values: NDArray[np.float64],
    treated: NDArray[np.bool_],
    arm: str,
) -> Iterator[RobustnessRow]:
    """The wild bootstrap, where clusters are few."""
    cluster = frame["cluster"].rank("dense").cast(pl.Int64).to_numpy()
    groups = int(np.unique(cluster).size)
    per_arm = min(int(np.unique(cluster[treated == side]).size) for side in (False, True))
    if groups >= FEW_CLUSTERS and per_arm >= FEW_CLUSTERS_PER_ARM:
        return
    answer = wild_cluster_bootstrap(
        values,
        treated,
        cluster,
        seed=_seed(setting, arm, "wild"),
        covariates=frame.select(units.covariates).to_numpy() if units.covariates else None,
        strata=frame["layer"].to_numpy() if units.stratified else None,
        draws=DRAWS,
        level=setting.level,
    )
    yield _of_draws(arm, "wild bootstrap by cluster", f"clusters are few ({groups})", answer, treated.size)


def _parts_of_ratio(frame: pl.DataFrame, treated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A unit's part in its arm's ratio (delta method): its mean over the arm is the ratio itself."""
    top, base = frame["num"].to_numpy(), frame["den"].to_numpy()
    parts = np.zeros(top.size)
    for side in (treated, ~treated):
        mean = float(base[side].mean()) if side.any() else 0.0
        if mean:
            ratio = float(top[side].mean()) / mean
            parts[side] = ratio + (top[side] - ratio * base[side]) / mean
    return parts


def _slopes_by_arm(setting: Setting, units: MetricUnits, arm: str) -> RobustnessRow:
    sums = units.sums()
    answer = adjusted_difference(
        whole(sums.arm(setting.brief.control)),
        whole(sums.arm(arm)),
        outcome="num",
        covariates=units.covariates,
        interacted=True,
        level=setting.level,
    )
    why = "slopes may differ between arms"
    found = Comparison(scaled(answer, units.metric.per), "", True, (), why)
    return _row(arm, "adjusted, slopes by arm", "Lin's regression", "sensitivity", found)


def _drawn(
    setting: Setting,
    values: NDArray[np.float64],
    treated: NDArray[np.bool_],
    cluster: NDArray[np.int64] | None,
    strata: NDArray[np.int64] | None,
    groups: int,
    arm: str,
) -> RobustnessRow:
    variant = "randomisation inference"
    draws = min(DRAWS, MOST_DRAWN // max(groups, 1))
    if draws < FEWEST_DRAWS:
        n_t = int(treated.sum())
        reason = f"not drawn: with {groups:,} units the t reference leaves nothing to find"
        return _untold(arm, variant, NotEstimable("randomisation", reason, treated.size - n_t, n_t))
    if cluster is not None:
        first = np.unique(cluster, return_index=True)[1]
        mixed = not np.array_equal(treated[first][cluster - 1], treated)
        mixed = mixed or (strata is not None and not np.array_equal(strata[first][cluster - 1], strata))
        if mixed:
            reason = "some clusters have units of both arms or of several strata: nothing was drawn that way"
            return _untold(arm, variant, NotEstimable("randomisation", reason, treated.size, 0))
    answer = randomisation_test(
        values,
        treated,
        seed=_seed(setting, arm, "randomisation"),
        cluster=cluster,
        strata=strata,
        draws=draws,
        level=setting.level,
    )
    told = "all assignments" if isinstance(answer, RandomisationTest) and answer.exact else f"{draws:,} draws"
    return _of_draws(arm, variant, f"unadjusted, {told} of the assignment", answer, treated.size)


def _of_draws(
    arm: str, variant: str, note: str, answer: RandomisationTest | WildBootstrap | NotEstimable, n: int
) -> RobustnessRow:
    if isinstance(answer, NotEstimable):
        return _untold(arm, variant, answer)
    return RobustnessRow(
        arm=arm,
        variant=variant,
        absolute=answer.absolute,
        ci_lower=answer.ci_lower,
        ci_upper=answer.ci_upper,
        p_value=answer.p_value,
        n=n,
        note="; ".join((note, *answer.flags)),
        method=answer.method,
        why="a reference that leans on the draw, not on large samples",
    )


def _winsorised(
    setting: Setting,
    units: MetricUnits,
    frame: pl.DataFrame,
    values: NDArray[np.float64],
    treated: NDArray[np.bool_],
    arm: str,
) -> RobustnessRow:
    variant = f"largest {100 * (1 - WINSOR_QUANTILE):.0f} % capped"
    if not setting.clustered and not units.stratified:
        answer = winsorised_difference(
            values[~treated], values[treated], quantile=WINSOR_QUANTILE, level=setting.level
        )
        if isinstance(answer, NotEstimable):
            return _untold(arm, variant, answer)
        effect, cap = answer.effect, answer.cap
        capped = answer.capped_control + answer.capped_treatment
        found = Comparison(effect, "", False, ())
    else:
        cap = float(np.quantile(values, WINSOR_QUANTILE)) if values.size else 0.0
        capped = int((values > cap).sum())
        low = frame.with_columns(pl.Series("num", np.minimum(values, cap)))
        plain = compare(
            replace(units, frame=low),
            arm,
            setting.brief.control,
            clustered=setting.clustered,
            adjusted=False,
            level=setting.level,
        )
        found = replace(plain, effect=scaled(plain.effect, 1.0 / units.metric.per))
    note = f"{capped:,} values above {cap:,.4g} count as it; unadjusted, of less than the mean"
    return _row(arm, variant, note, "sensitivity", found).model_copy(
        update={"why": "the largest values may carry a mean"}
    )


def _seed(setting: Setting, arm: str, what: str) -> int:
    text = f"{setting.brief.name}:{setting.brief.version}:{setting.brief.primary}:{arm}:{what}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _with_the_missing(attrition: Sequence[ArmAttrition]) -> tuple[RobustnessRow, ...]:
    rows = []
    for found in attrition:
        n = found.rates.n_control + found.rates.n_treatment
        bounds = (
            ("attrition bounds (Lee)", "units that would have a value in either arm", found.lee),
            ("attrition, worst case", "all units, whatever the missing values are", found.worst_case),
        )
        for variant, whom, answer in bounds:
            if not isinstance(answer, EffectBounds):
                rows.append(_untold(found.arm, variant, answer, kind="bounds", n=n))
                continue
            rows.append(
                RobustnessRow(
                    arm=found.arm,
                    variant=variant,
                    absolute=None,
                    ci_lower=answer.ci_lower,
                    ci_upper=answer.ci_upper,
                    p_value=None,
                    n=n,
                    note=f"of {whom}; an interval, not a point",
                    kind="bounds",
                    method=answer.method,
                    why="units without a value may differ from those with one",
                )
            )
        variant = "weighted by the chance of a value"
        if isinstance(found.weighted, NotEstimable):
            rows.append(_untold(found.arm, variant, found.weighted, n=n))
            continue
        effect = found.weighted.effect
        note = "units alike before assignment are taken to be missing by chance"
        comparison = Comparison(
            effect, "", True, (), "those seen stand for those lost who were like them before assignment"
        )
        rows.append(_row(found.arm, variant, note, "sensitivity", comparison))
    return tuple(rows)


def _untold(
    arm: str, variant: str, answer: NotEstimable, *, kind: Kind = "sensitivity", n: int | None = None
) -> RobustnessRow:
    return RobustnessRow(
        arm=arm,
        variant=variant,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        p_value=None,
        n=answer.n_control + answer.n_treatment if n is None else n,
        note=answer.reason,
        kind=kind,
        method=answer.method,
    )
