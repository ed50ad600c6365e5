"""What did receiving the treatment do, where not all received what they were assigned to? A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.tables.methods import UNITS_PER_COVARIATE
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.readout import ComplierEffect
from exp_pipeline.stats.effects.compliance import WEAK_FIRST_STAGE, complier_effect
from exp_pipeline.stats.effects.compliance import ComplierEffect as Found
from exp_pipeline.stats.results import NotEstimable

RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What counts as receiving (a number a unit, or an expression over the frame), and how it is said?"""

    of_treatment: pl.Expr
    of_control: pl.Expr
    said: str


def complier_effects(setting: Setting, units: MetricUnits) -> tuple[ComplierEffect, ...]:
    """What did receiving do to those who received it because they were assigned to it, in each arm?

    A table's own column `received` counts where there is one. Otherwise a unit of treatment received it when
    it was exposed, and one of control when it was seen in another arm than its own. By cluster, within strata
    and with covariates as the headline. Empty where nothing is known of exposure. Means and shares of units
    only: others are answered with a reason.
    """
    receipt = _receipt(units)
    if receipt is None:
        return ()
    return tuple(_of_arm(setting, units, receipt, arm.name) for arm in setting.brief.treatments())


def _receipt(units: MetricUnits) -> _Receipt | None:
    frame = units.frame
    if RECEIVED in frame.columns:
        dose = pl.col(RECEIVED).cast(pl.Float64).fill_nan(None)
        return _Receipt(dose, dose, "what the table says was received")
    if frame["exposures"].null_count() == frame.height or frame["exposed"].null_count() == frame.height:
        return None
    return _Receipt(
        pl.col("exposed").fill_null(False).cast(pl.Float64),
        pl.col("contaminated").fill_null(False).cast(pl.Float64),
        "exposed to the experiment (treatment), seen in another arm as well (control)",
    )


def _of_arm(setting: Setting, units: MetricUnits, receipt: _Receipt, arm: str) -> ComplierEffect:
    control, metric = setting.brief.control, units.metric
    dose = pl.when(pl.col("arm") == arm).then(receipt.of_treatment).otherwise(receipt.of_control)
    frame = units.frame.filter(pl.col("arm").is_in([control, arm])).with_columns(dose.alias("dose"))
    unknown = frame["dose"].null_count()
    frame = frame.drop_nulls("dose")
    treated = (frame["arm"] == arm).to_numpy()
    n_t = int(treated.sum())
    base = ComplierEffect(
        arm=arm,
        control=control,
        metric=metric.name,
        received=receipt.said,
        method="2sls",
        n_control=frame.height - n_t,
        n_treatment=n_t,
        level=setting.level,
        flags=(f"{unknown:,} units left out: nothing says whether they received it",) if unknown else (),
    )
    answer: Found | NotEstimable
    if metric.estimand not in ("mean", "proportion"):
        kind = "ratio of sums" if metric.estimand == "ratio" else metric.estimand
        reason = f"a {kind} has no complier effect: it is told of means and shares of units"
        answer = NotEstimable("2sls", reason, base.n_control, base.n_treatment)
    else:
        few = frame.height < UNITS_PER_COVARIATE * (len(units.covariates) + 1)
        answer = complier_effect(
            frame["num"].to_numpy() * metric.per,
            treated,
            frame["dose"].to_numpy(),
            cluster=_codes(frame["cluster"]) if setting.clustered else None,
            covariates=None if few or not units.covariates else frame.select(units.covariates).to_numpy(),
            strata=frame["layer"].to_numpy() if units.stratified else None,
            level=setting.level,
        )
    if isinstance(answer, NotEstimable):
        return base.model_copy(update={"method": answer.method, "estimable": False, "reason": answer.reason})
    return _told(base, answer, clustered=setting.clustered)


def _told(base: ComplierEffect, found: Found, *, clustered: bool) -> ComplierEffect:
    stage, region = found.first_stage, found.anderson_rubin
    clusters = (found.itt.clusters_control or 0) + (found.itt.clusters_treatment or 0)
    both = stage.always_share is not None and stage.never_share is not None
    return base.model_copy(
        update={
            "method": found.method,
            "clusters": clusters if clustered else None,
            "sides": None if stage.one_sided is None else "one" if stage.one_sided else "two",
            "received_control": stage.always_share,
            "received_treatment": 1.0 - (stage.never_share or 0.0) if both else None,
            "first_stage": stage.absolute,
            "first_stage_f": stage.f,
            "weak": stage.f < WEAK_FIRST_STAGE,
            "itt": found.itt.absolute,
            "absolute": found.absolute,
            "se": found.se,
            "df": found.df,
            "ci_lower": found.ci_lower,
            "ci_upper": found.ci_upper,
            "p_value": found.p_value,
            "robust_kind": region.kind,
            "robust_lower": region.lower,
            "robust_upper": region.upper,
            "flags": (*base.flags, *dict.fromkeys(found.flags)),
        }
    )


def _codes(names: pl.Series) -> NDArray[np.int64]:
    return names.rank("dense").cast(pl.Int64).to_numpy()
