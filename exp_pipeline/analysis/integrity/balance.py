"""Are the arms' units alike in what assignment must not change: exposure, loss, and the time before?"""

from __future__ import annotations

import numpy as np
import polars as pl

from exp_pipeline.analysis.effects.estimators import TwoSums, means, within_strata
from exp_pipeline.analysis.integrity.causes import gap_causes, rate_causes, rate_causes_of
from exp_pipeline.analysis.integrity.sample_ratios import counts_by_arm
from exp_pipeline.analysis.unit_sums import sums_of
from exp_pipeline.analysis.units import PRE, MetricUnits, Units
from exp_pipeline.analysis.wording import listed, p_in_words, share_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import Exposures
from exp_pipeline.model.metrics import included_column, mature_column
from exp_pipeline.model.readout import Cause, IntegrityCheck, Verdict
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import Effect

# Below this share of exposed units the effect on all assigned units is mostly an effect on nobody.
LOW_EXPOSURE = 0.5
# What Works Clearinghouse (standards handbook 5.0, attrition): five points between arms is where even little
# overall loss may bias an effect beyond what is tolerated.
HIGH_DIFFERENTIAL_LOSS = 0.05
# A standardised difference below 0.1 is commonly held to be negligible (Austin 2009).
NOTABLE_IMBALANCE = 0.1


def exposure_check(
    units: Units, brief: Brief, detail: Exposures | None = None, doses: pl.DataFrame | None = None
) -> IntegrityCheck:
    """Were the assigned units exposed, alike in each arm, after their assignment, to their arm and only then?

    `detail` counts what the dataset of assigned units cannot hold: learners exposed without an assignment or
    to another arm, and the days and surfaces where that happened. doses: one row per assigned arm (null:
    none), arm met, surface and day with its learners; causes are found in it and in the units.
    """
    name, title = "exposure", "Exposure"
    frame = units.frame
    if not frame.height:
        return IntegrityCheck(name=name, title=title, verdict="cannot_tell", evidence="No unit was assigned.")
    if frame["exposures"].is_null().all() and frame["exposed"].fill_null(True).all():
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence="The data do not say who was exposed; every assigned unit is taken as exposed.",
        )
    exposed = frame.filter(pl.col("exposed").fill_null(False))
    early = exposed.filter(pl.col("first_exposed_at") < pl.col("assigned_at")).height
    unassigned = units.unassigned if detail is None else max(units.unassigned, detail.not_assigned)
    crossed = 0 if detail is None else detail.other_arm
    stray = early + unassigned + crossed
    assigned, seen = counts_by_arm(frame, brief), counts_by_arm(exposed, brief)
    numbers: dict[str, float | int | str] = {f"exposed_{arm}": count for arm, count in seen.items()}
    numbers |= {"not_exposed": frame.height - exposed.height, "exposed_before_assignment": early}
    numbers |= {"exposed_not_assigned": unassigned, "exposed_to_other_arm": crossed}
    if not exposed.height:
        evidence = (
            f"None of the {frame.height:,} assigned units was ever exposed: there is nothing to compare."
        )
        cause = Cause(
            rank=1,
            where="every arm",
            evidence="No exposure was logged at all. First: look whether the event is sent, and landed.",
        )
        return IntegrityCheck(
            name=name, title=title, verdict="fail", evidence=evidence, numbers=numbers, causes=(cause,)
        )
    sentences = [
        f"Exposed: {listed(f'{share_in_words(seen[arm], assigned[arm])} in {arm}' for arm in assigned)}."
    ]
    verdict: Verdict = "pass"
    if exposed.height < LOW_EXPOSURE * frame.height:
        verdict = "warn"
        sentences.append("Most assigned units were never exposed, which thins every effect on all of them.")
    if stray:
        verdict = "warn"
        sentences.append(
            f"{unassigned:,} units were exposed without an assignment and {early:,} before theirs."
        )
        if crossed:
            sentences.append(f"{crossed:,} met an arm that is not theirs.")
        if detail is not None and detail.stray_days:
            worst = detail.stray_days[0]
            sentences.append(
                f"Most without an assignment came on {worst.event_date} on {worst.surface} ({worst.units:,})."
            )
    if stray > brief.contamination_limit * (frame.height + unassigned):
        verdict = "fail"
        sentences.append(f"That is above the limit of {100 * brief.contamination_limit:g} %.")
    causes = _exposure_causes(units, doses, {"unassigned": unassigned, "early": early, "crossed": crossed})
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=" ".join(sentences), numbers=numbers, causes=causes
    )


def _exposure_causes(units: Units, doses: pl.DataFrame | None, found: dict[str, int]) -> tuple[Cause, ...]:
    """What does not fit, the most frequent first, and where it gathers."""
    words = {
        "unassigned": "exposed without an assignment",
        "early": "exposed before their assignment",
        "crossed": "exposed to an arm that is not theirs",
    }
    stray = sum(found.values())
    causes: list[Cause] = []
    for reason in sorted(words, key=lambda one: (-found[one], one)):
        if not found[reason]:
            continue
        first: tuple[Cause, ...] = ()
        if reason == "early":
            frame = units.frame.filter(pl.col("exposed").fill_null(False))
            flag = (frame["first_exposed_at"] < frame["assigned_at"]).fill_null(False)
            first = rate_causes(frame, flag, f"were {words[reason]}")
        elif doses is not None and doses.height:
            strange = (
                pl.col("arm").is_null()
                if reason == "unassigned"
                else pl.col("arm").is_not_null() & (pl.col("exposed_arm") != pl.col("arm"))
            )
            met = pl.col("units").cast(pl.Float64)
            rows = doses.select("surface", "event_date", strange.alias("strange"), met.alias("met"))
            counts = rows.select(
                pl.when("strange").then("met").otherwise(0.0).alias("with"),
                pl.when("strange").then(0.0).otherwise("met").alias("without"),
            ).to_numpy()
            first = rate_causes_of(rows, counts, f"were {words[reason]}", "learners and days", ("surface",))
        where = f": {first[0].where}" if first else ""
        evidence = (
            f"{share_in_words(found[reason], stray)} of what does not fit are learners {words[reason]}."
        )
        causes.append(
            Cause(
                rank=len(causes) + 1,
                where=f"{words[reason]}{where}",
                evidence=" ".join([evidence, *(one.evidence for one in first[:1])]),
                share=round(found[reason] / stray, 4),
            )
        )
    return tuple(causes)


def attrition_check(
    units: Units, primary: MetricUnits, days: pl.DataFrame | None, brief: Brief
) -> IntegrityCheck:
    """Are as many units lost in each arm?

    Lost is a unit without any event after its assignment; where the data hold no events, a unit whose window
    is over and that has no value of the primary metric. A difference that chance does not explain fails when
    it is above five points, and is a warning when smaller.
    """
    name, title = "attrition", "Attrition by arm"
    frame = units.frame
    if days is not None:
        active = days.select(pl.col("unit_id").cast(pl.String)).unique()
        gone = frame.join(active, on="unit_id", how="anti").select("unit_id")
        lost = counts_by_arm(frame.join(gone, on="unit_id", how="semi"), brief)
        whole = counts_by_arm(frame, brief)
        what = "had no event after assignment"
    else:
        seen = frame.join(primary.frame.select("unit_id"), on="unit_id", how="anti")
        gone = seen.filter(*_counted(primary, seen)).select("unit_id")
        lost = primary.without_value
        with_value = counts_by_arm(primary.frame, brief)
        whole = {arm: with_value[arm] + lost[arm] for arm in lost}
        what = f"have no value of {primary.metric.title}"
    n = sum(whole.values())
    if not n:
        return IntegrityCheck(
            name=name, title=title, verdict="cannot_tell", evidence="There is no unit to count."
        )
    numbers: dict[str, float | int | str] = {f"lost_{arm}": count for arm, count in lost.items()}
    sentences = [f"{share_in_words(sum(lost.values()), n)} units {what}."]
    verdict: Verdict = "pass"
    apart = False
    if brief.attrition and sum(lost.values()) / n > brief.attrition:
        verdict = "warn"
        sentences.append(f"The brief expected at most {100 * brief.attrition:g} %.")
    for arm in (treatment.name for treatment in brief.treatments()):
        gap = difference_in_proportions(lost[brief.control], whole[brief.control], lost[arm], whole[arm])
        if not isinstance(gap, Effect):
            continue
        numbers[f"p_value_{arm}"] = gap.p_value
        if gap.p_value >= brief.srm_alpha:
            continue
        sentences.append(
            f"{arm} lost {100 * gap.absolute:+.2f} points against {brief.control}, {p_in_words(gap.p_value)}."
        )
        apart = True
        verdict = "fail" if abs(gap.absolute) > HIGH_DIFFERENTIAL_LOSS or verdict == "fail" else "warn"
    return IntegrityCheck(
        name=name,
        title=title,
        verdict=verdict,
        evidence=" ".join(sentences),
        numbers=numbers,
        causes=_loss_causes(frame, gone, brief, what) if apart else (),
    )


def _counted(primary: MetricUnits, frame: pl.DataFrame) -> list[pl.Expr]:
    """Units that the primary metric includes and whose window is over."""
    flags = (included_column(primary.metric.name), mature_column(primary.metric.name))
    return [pl.col(name).cast(pl.Boolean).fill_null(False) for name in flags if name in frame.columns]


def _loss_causes(frame: pl.DataFrame, gone: pl.DataFrame, brief: Brief, what: str) -> tuple[Cause, ...]:
    """Where the arms' losses differ most."""
    marked = frame.join(gone.with_columns(pl.lit(True).alias("lost")), on="unit_id", how="left")
    marked = marked.with_columns(pl.col("lost").fill_null(False)).sort("unit_id")
    arms = [brief.control, *(treatment.name for treatment in brief.treatments())]
    cells = [(pl.col("arm") == arm) & (pl.col("lost") == flag) for arm in arms for flag in (True, False)]
    counts = np.column_stack([marked.select(cell).to_series().to_numpy() for cell in cells])
    return gap_causes(marked, counts.astype(np.float64), arms, brief.srm_alpha, what)


def covariate_balance_check(units: Units, brief: Brief) -> IntegrityCheck:
    """Were the arms alike before they were assigned?

    One test a covariate and treatment arm (by cluster where clusters were randomised, within strata where the
    brief names them, since shares of treated units may differ from stratum to stratum), Holm over all of
    them: the smallest adjusted p-value is a valid test that nothing differs. Fails below the brief's
    `srm_alpha`; warns where p is below 0.05 and the standardised difference at least 0.1.
    """
    name, title = "covariate_balance", "Balance before assignment"
    stratified = bool(brief.strata) and units.frame["stratum"].drop_nulls().n_unique() > 1
    columns = sorted(column for column in units.frame.columns if column.startswith(PRE))
    p: dict[str, float] = {}
    gaps: dict[str, float] = {}
    for column in columns:
        value = pl.col(column).cast(pl.Float64).fill_nan(None)
        stratum = pl.col("stratum").fill_null("").rank("dense") if stratified else pl.lit(0)
        rows = units.frame.with_columns(value.alias("num"), stratum.cast(pl.Int64).alias("layer"))
        rows = rows.drop_nulls("num")
        for arm in (treatment.name for treatment in brief.treatments()):
            effect = _gap(rows, brief.control, arm, clustered=units.clustered, stratified=stratified)
            if effect is None or effect.standardised is None:
                continue
            label = f"{column.removeprefix(PRE)} in {arm}"
            p[label], gaps[label] = effect.p_value, effect.standardised
    corrected = holm(p)
    if not corrected:
        why = (
            "no covariate varies in both arms"
            if columns
            else "the data hold no covariates from before assignment"
        )
        return IntegrityCheck(
            name=name, title=title, verdict="cannot_tell", evidence=f"Nothing to compare: {why}."
        )
    worst = min(corrected, key=lambda label: (corrected[label], label))
    widest = max(gaps, key=lambda label: (abs(gaps[label]), label))
    notable = [
        label for label in corrected if corrected[label] < 0.05 and abs(gaps[label]) >= NOTABLE_IMBALANCE
    ]
    verdict: Verdict = "fail" if corrected[worst] < brief.srm_alpha else "warn" if notable else "pass"
    evidence = (
        f"{len(corrected)} comparisons{' within strata' if stratified else ''}; "
        f"the smallest p after Holm is that of {worst}, {p_in_words(corrected[worst])}; "
        f"the largest standardised difference is {gaps[widest]:+.3f}, of {widest}."
    )
    numbers: dict[str, float | int | str] = {
        "comparisons": len(corrected),
        "smallest_p_adjusted": corrected[worst],
        "largest_standardised_difference": gaps[widest],
    }
    off = [label for label in corrected if corrected[label] < brief.srm_alpha or label in notable]
    squares = {label: gaps[label] ** 2 for label in off}
    causes = tuple(
        Cause(
            rank=rank,
            where=label,
            evidence=f"{gaps[label]:+.3f} standard deviations from control before assignment, "
            f"{p_in_words(corrected[label])} after Holm. First: look whether units chose their arm, or were "
            "left out of one after assignment.",
            share=round(squares[label] / sum(squares.values()), 4) if sum(squares.values()) else None,
        )
        for rank, label in enumerate(sorted(off, key=lambda one: (-squares[one], one)), start=1)
    )
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers, causes=causes
    )


def _gap(rows: pl.DataFrame, control: str, arm: str, *, clustered: bool, stratified: bool) -> Effect | None:
    if clustered:
        both = rows.filter(pl.col("arm").is_in([control, arm]))
        if both["arm"].n_unique() < 2:
            return None
        answer = clustered_difference(
            both["num"].to_numpy(),
            (both["arm"] == arm).to_numpy(),
            both["cluster"].rank("dense").cast(pl.Int64).to_numpy(),
            strata=both["layer"].to_numpy() if stratified else None,
        )
        return answer if isinstance(answer, Effect) else None
    sums = sums_of(rows, (), ratio=False, stratified=stratified, third=not stratified)
    two = TwoSums(sums.arm(control), sums.arm(arm), (), 0.95)
    answer = within_strata(two) if stratified else means(two)
    return answer if isinstance(answer, Effect) else None
