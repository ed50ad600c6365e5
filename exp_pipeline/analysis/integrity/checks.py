"""Every integrity check, in the order in which a reader must believe them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.balance import attrition_check, covariate_balance_check, exposure_check
from exp_pipeline.analysis.integrity.causes import rate_causes, rate_causes_of
from exp_pipeline.analysis.integrity.completeness import completeness_check, outcome_events
from exp_pipeline.analysis.integrity.receipts import receipt_check
from exp_pipeline.analysis.integrity.sample_ratios import sample_ratio_checks
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.analysis.wording import listed, p_in_words, share_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import EqualArms, Fidelity
from exp_pipeline.model.readout import Cause, IntegrityCheck, LockState, Verdict

_FAULTS = {
    "held_out": "belong to the global holdout",
    "outside_layer": "lie outside the experiment's part of its layer",
    "outside_traffic": "lie outside the share of traffic",
    "other_arm": "are in another arm",
}
LATE_WARN, LATE_FAIL = 0.01, 0.10


def integrity_checks(inputs: ReadoutInputs, units: Units, primary: MetricUnits) -> tuple[IntegrityCheck, ...]:
    """May the effects be believed? Each check with its verdict and evidence, in the order of the design."""
    brief = inputs.brief
    return (
        lock_check(inputs.lock),
        receipt_check(inputs.receipts, brief),
        *sample_ratio_checks(units, primary, brief),
        fidelity_check(
            inputs.fidelity_checked, inputs.fidelity_mismatched, brief, inputs.fidelity, inputs.assigned
        ),
        contamination_check(units, brief),
        exposure_check(units, brief, inputs.exposures, inputs.doses),
        completeness_check(
            inputs.completeness, units, brief, inputs.completeness_days, outcome_events(inputs)
        ),
        freshness_check(inputs),
        attrition_check(units, primary, inputs.days, brief),
        covariate_balance_check(units, brief),
        *((equal_arms_check(inputs.equal_arms, brief),) if brief.new_logging else ()),
    )


def equal_arms_check(found: Sequence[EqualArms], brief: Brief) -> IntegrityCheck:
    """Did an A/A on the same scheme find nothing, where logging or bucketing is new?

    found: newest first; the newest speaks. Fails where its own integrity failed, or its equal arms differ at
    the brief's `srm_alpha`; a difference at the brief's alpha is a warning.
    """
    name, title = "equal_arms", "A/A result"
    if not found:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence="Logging or bucketing is new, and no A/A (an earlier experiment with equal arms, on "
            f"{brief.hash_scheme} by {brief.randomisation_unit}) has been read out.",
        )
    newest = found[0]
    if newest.unreadable:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence=f"The stored readout of {newest.experiment}, which ended on {newest.ended}, is not what "
            f"was sealed and says nothing: {newest.unreadable}.",
            numbers={"experiment": newest.experiment},
        )
    numbers: dict[str, float | int | str] = {"experiment": newest.experiment, "units": newest.units}
    of = f"{newest.experiment} ended on {newest.ended} with {newest.units:,} units in equal arms"
    if newest.failed:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="fail",
            evidence=f"{of}, and its own integrity failed: {listed(newest.failed)}.",
            numbers=numbers,
            causes=tuple(
                Cause(
                    rank=rank,
                    where=f"{check} of {newest.experiment}",
                    evidence=f"First: read the causes that the memo of {newest.experiment} names.",
                )
                for rank, check in enumerate(newest.failed, start=1)
            ),
        )
    if newest.p_value is None:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence=f"{of}; its primary metric could not be compared.",
            numbers=numbers,
        )
    numbers |= {"p_value": newest.p_value}
    verdict: Verdict = (
        "fail" if newest.p_value < brief.srm_alpha else "warn" if newest.p_value < brief.alpha else "pass"
    )
    differ = "differ" if verdict != "pass" else "do not differ"
    causes = (
        (
            Cause(
                rank=1,
                where=f"primary metric of {newest.experiment}",
                evidence="Equal arms differ. First: look whether one arm's events are logged otherwise.",
            ),
        )
        if verdict != "pass"
        else ()
    )
    return IntegrityCheck(
        name=name,
        title=title,
        verdict=verdict,
        evidence=f"{of}, which {differ} in its primary metric ({p_in_words(newest.p_value)}).",
        numbers=numbers,
        causes=causes,
    )


def brief_stands(lock: LockState) -> bool:
    """Is the brief the one that was locked in time? Fields decide: a newer release may digest them anew."""
    return lock.locked_digest is not None and not lock.changes and not lock.late


def lock_check(lock: LockState) -> IntegrityCheck:
    """Was the brief written down before the data, and does it stand?"""
    name, title = "lock", "Brief as locked"
    if lock.locked_digest is None:
        evidence = "The brief was never locked: nothing shows that it was written before the data were seen."
        return IntegrityCheck(name=name, title=title, verdict="warn", evidence=evidence)
    since = f" on {lock.locked_at:%Y-%m-%d}" if lock.locked_at else ""
    unready = f" It started though it was not ready: {'; '.join(lock.gaps)}." if lock.gaps else ""
    if lock.changes:
        said = "; ".join(
            f"{change.field} was {change.locked_value} and is now {change.current_value}"
            + (f" (first seen on {change.first_seen:%Y-%m-%d})" if change.first_seen else "")
            for change in lock.changes
        )
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="warn",
            evidence=f"Locked{since} and changed after it: {said}. "
            f"What this touches is exploratory.{unready}",
            numbers={"changes": len(lock.changes), **_gaps(lock)},
            causes=tuple(
                Cause(
                    rank=rank,
                    where=f"field {change.field}",
                    evidence=f"Locked as {change.locked_value}, now {change.current_value}. "
                    "First: put it back, or start a new version of the experiment.",
                )
                for rank, change in enumerate(lock.changes, start=1)
            ),
        )
    if lock.late:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="warn",
            evidence=f"Locked{since}, when {lock.days_seen} days of the experiment's data were already "
            f"there: nothing shows that it was written before they were seen.{unready}",
            numbers={"days_seen": lock.days_seen or 0, **_gaps(lock)},
        )
    return IntegrityCheck(
        name=name,
        title=title,
        verdict="warn" if lock.gaps else "pass",
        evidence=f"Locked{since} and unchanged since.{unready}",
        numbers={"changes": 0, **_gaps(lock)},
    )


def _gaps(lock: LockState) -> dict[str, float | int | str]:
    return {"gaps_when_locked": len(lock.gaps)} if lock.gaps else {}


def fidelity_check(
    checked: int | None,
    mismatched: int | None,
    brief: Brief,
    detail: Fidelity | None = None,
    assigned: pl.DataFrame | None = None,
) -> IntegrityCheck:
    """Is each unit in the arm that the brief's own rules give it?

    Fails above the brief's contamination limit and is a warning below it; also where the buckets of layer or
    holdout are not known, or a unit's ramp stage tells no share. `detail` adds reasons and where they gather.
    assigned: one row per randomised unit with `fault` and `not_compared`; causes are found in it.
    """
    name, title = "fidelity", "Assignment fidelity"
    if checked is None or mismatched is None or checked == 0:
        evidence = "No logged arm could be compared with the brief's own assignment."
        return IntegrityCheck(name=name, title=title, verdict="cannot_tell", evidence=evidence)
    wrong = mismatched / checked
    verdict: Verdict = "pass" if not mismatched else "fail" if wrong > brief.contamination_limit else "warn"
    evidence = f"{share_in_words(mismatched, checked)} logged arms differ from the brief's hash."
    numbers: dict[str, float | int | str] = {"checked": checked, "mismatched": mismatched}
    if detail is not None:
        more, unsure = _fidelity_in_words(detail)
        evidence = " ".join([evidence, *more])
        numbers |= {f"fault_{fault}": count for fault, count in detail.faults.items()}
        numbers |= {f"not_compared_{why}": count for why, count in detail.not_compared.items()}
        numbers |= {"layer_unknown": detail.layer_unknown, "stage_unknown": detail.stage_unknown}
        verdict = "warn" if unsure and verdict == "pass" else verdict
    causes = _fidelity_causes(assigned) if mismatched and assigned is not None else ()
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers, causes=causes
    )


def _fidelity_causes(assigned: pl.DataFrame) -> tuple[Cause, ...]:
    """Each reason, the most frequent first, and where its units gather."""
    compared = assigned.filter(pl.col("not_compared").is_null()).with_columns(
        pl.col("assigned_at").dt.date().alias("assigned_date")
    )
    reasons = (
        compared.drop_nulls("fault").group_by("fault").len().sort(["len", "fault"], descending=[True, False])
    )
    wrong = int(reasons["len"].sum())
    causes: list[Cause] = []
    for fault, count in reasons.iter_rows():
        what = _FAULTS[fault]
        first = rate_causes(compared, compared["fault"].fill_null("") == fault, what, ("ramp_stage",))[0]
        causes.append(
            Cause(
                rank=len(causes) + 1,
                where=f"{fault.replace('_', ' ')}: {first.where}",
                evidence=f"{share_in_words(count, wrong)} of the mismatches {what}. {first.evidence}",
                share=round(count / wrong, 4),
            )
        )
    return tuple(causes)


def _fidelity_in_words(detail: Fidelity) -> tuple[list[str], bool]:
    said = []
    if detail.faults:
        parts = [f"{count:,} {_FAULTS[fault]}" for fault, count in detail.faults.items()]
        said.append(f"Of these {listed(parts)}.")
    for group in detail.suspects():
        column = group.column.replace("_", " ")
        share = share_in_words(group.mismatched, detail.mismatched)
        said.append(f"{share} of them have {column} {group.value}, as have {group.checked:,} units compared.")
    if detail.not_compared:
        parts = [f"{count:,} ({why.replace('_', ' ')})" for why, count in detail.not_compared.items()]
        said.append(f"Not compared: {listed(parts)}.")
    if detail.layer_unknown:
        said.append(f"Of {detail.layer_unknown:,} units it is not known whether layer and holdout have them.")
    if detail.stage_unknown:
        said.append(f"{detail.stage_unknown:,} units have a ramp stage that tells no share of traffic.")
    return said, bool(detail.layer_unknown or detail.stage_unknown)


def contamination_check(units: Units, brief: Brief) -> IntegrityCheck:
    """How many units were seen in two arms? They stay in their first arm."""
    name, title = "contamination", "Contamination"
    n, both = units.frame.height, int(units.frame["contaminated"].sum())
    if not n:
        return IntegrityCheck(name=name, title=title, verdict="cannot_tell", evidence="No unit was assigned.")
    verdict: Verdict = "pass" if not both else "fail" if both > brief.contamination_limit * n else "warn"
    evidence = (
        f"{share_in_words(both, n)} units were seen in two arms and stay in their first; "
        f"the limit is {100 * brief.contamination_limit:g} %."
    )
    return IntegrityCheck(
        name=name,
        title=title,
        verdict=verdict,
        evidence=evidence,
        numbers={"units": n, "contaminated": both},
        causes=rate_causes(units.frame, units.frame["contaminated"], "were seen in two arms") if both else (),
    )


def freshness_check(inputs: ReadoutInputs) -> IntegrityCheck:
    """Do the data reach the day they claim to reach, and did they come in time?"""
    name, title = "freshness", "Freshness and late events"
    sentences = [f"Data are taken as complete to the end of {inputs.as_of}."]
    numbers: dict[str, float | int | str] = {}
    verdicts: list[Verdict] = []
    newest = inputs.days["event_date"].max() if inputs.days is not None and inputs.days.height else None
    if isinstance(newest, date):
        quiet = (inputs.as_of - newest).days
        numbers["quiet_days"] = quiet
        verdicts.append("warn" if quiet > 1 else "pass")
        if quiet > 1:
            sentences.append(f"The newest event is of {newest}, {quiet} days before that.")
    if inputs.late_share is not None:
        numbers["late_share"] = inputs.late_share
        late: Verdict = (
            "fail" if inputs.late_share > LATE_FAIL else "warn" if inputs.late_share > LATE_WARN else "pass"
        )
        verdicts.append(late)
        sentences.append(f"{100 * inputs.late_share:.2f} % of events came late.")
    else:
        sentences.append("How many events came late is not known.")
    worst: Verdict = next((v for v in ("fail", "warn", "pass") if v in verdicts), "cannot_tell")
    causes: tuple[Cause, ...] = ()
    if inputs.late_days is not None and inputs.late_share is not None and inputs.late_share > LATE_WARN:
        late_days = inputs.late_days.sort("event_date")
        counts = late_days.select("late", pl.col("landed") - pl.col("late")).to_numpy().astype(np.float64)
        causes = rate_causes_of(late_days, counts, "came late", "events")
    return IntegrityCheck(
        name=name,
        title=title,
        verdict=worst,
        evidence=" ".join(sentences),
        numbers=numbers,
        causes=causes,
    )
