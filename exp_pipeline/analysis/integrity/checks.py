"""Every integrity check, in the order in which a reader must believe them."""

from __future__ import annotations

from datetime import date

import polars as pl

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.balance import attrition_check, covariate_balance_check, exposure_check
from exp_pipeline.analysis.integrity.sample_ratios import counts_by_arm, sample_ratio_checks
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.analysis.wording import listed, p_in_words, share_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import Fidelity
from exp_pipeline.model.readout import IntegrityCheck, LockState, Verdict
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.results import Effect

# A value that answers fewer than this share of an arm's responses is a straggler (a retry, a fallback).
STRAGGLERS = 0.01
# Two arms may divide a version that both have this much differently before it is a difference between arms.
SHARE_GAP = 0.05
# Without these events a learner's time cannot be seen at all; a gap between arms is a fault in logging.
SKELETON_EVENTS = frozenset(
    {"experiment_exposed", "tutor_session_started", "tutor_turn_submitted", "tutor_turn_response_shown"}
)
# A skeleton event that reaches fewer than half as many units in one arm is missing, not rare.
HALF = 0.5
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
        fidelity_check(inputs.fidelity_checked, inputs.fidelity_mismatched, brief, inputs.fidelity),
        contamination_check(units, brief),
        exposure_check(units, brief, inputs.exposures),
        completeness_check(inputs.completeness, units, brief),
        freshness_check(inputs),
        attrition_check(units, primary, inputs.days, brief),
        covariate_balance_check(units, brief),
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
    if lock.changes:
        said = "; ".join(
            f"{change.field} was {change.locked_value} and is now {change.current_value}"
            for change in lock.changes
        )
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="warn",
            evidence=f"Locked{since} and changed after it: {said}. What this touches is exploratory.",
            numbers={"changes": len(lock.changes)},
        )
    if lock.late:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="warn",
            evidence=f"Locked{since}, when {lock.days_seen} days of the experiment's data were already "
            "there: nothing shows that it was written before they were seen.",
            numbers={"days_seen": lock.days_seen or 0},
        )
    return IntegrityCheck(
        name=name,
        title=title,
        verdict="pass",
        evidence=f"Locked{since} and unchanged since.",
        numbers={"changes": 0},
    )


def receipt_check(receipts: pl.DataFrame | None, brief: Brief) -> IntegrityCheck:
    """Did the arms get the same model, prompt and policies but for what the brief lets differ?

    receipts: arm, field, value, responses. A value that one arm has and another lacks fails (stragglers below
    one per cent of an arm's responses are a warning); so does a version that both have in shares more than
    five points apart. More than one version in an arm is a warning: something was swapped meanwhile.
    """
    name, title = "receipt", "Pinned versions"
    if receipts is None or not receipts.height:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence="No response with a model receipt was logged.",
        )
    known = receipts.filter(pl.col("arm").is_in(list(brief.shares()))).with_columns(
        pl.col("value").cast(pl.String).fill_null("(none)")
    )
    totals = known.group_by("arm", "field", "value").agg(pl.col("responses").cast(pl.Int64).sum())
    by_field: dict[str, dict[str, dict[str, int]]] = {}
    for arm, field, value, responses in totals.sort("field", "arm", "value").iter_rows():
        by_field.setdefault(field, {}).setdefault(arm, {})[value] = responses
    faults, oddities, differing = [], [], []
    for field, arms in by_field.items():
        allowed = field in brief.receipt.may_differ
        swapped = [arm for arm in arms if _main_values(arms[arm]) > 1]
        if swapped:
            oddities.append(f"{field} has more than one version within {listed(swapped)}")
        gap, value = _widest_gap(arms)
        if allowed:
            if gap > SHARE_GAP:
                differing.append(field)
        elif gap > SHARE_GAP or (gap >= STRAGGLERS and _one_sided(arms, value)):
            shown = listed(f"{100 * _share(arms[arm], value):.1f} % of {arm}" for arm in arms)
            faults.append(f"{field} differs between arms though it must not: {value!r} answered {shown}")
        elif _one_sided(arms, value):
            oddities.append(f"a few responses of one arm only had {field} {value!r}")
    if brief.receipt.may_differ and not differing:
        oddities.append(
            f"{listed(brief.receipt.may_differ)} may differ and does not: were the arms served the same?"
        )
    verdict: Verdict = "fail" if faults else "warn" if oddities else "pass"
    good = f"{len(by_field)} fields compared"
    good += (
        f"; {listed(differing)} differs between arms, as the brief says." if differing else "; none differs."
    )
    evidence = "; ".join([*faults, *oddities]).capitalize() + "." if faults or oddities else good
    numbers: dict[str, float | int | str] = {
        "fields": len(by_field),
        "responses": int(known["responses"].sum()),
    }
    return IntegrityCheck(name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers)


def _share(values: dict[str, int], value: str) -> float:
    total = sum(values.values())
    return values.get(value, 0) / total if total else 0.0


def _main_values(values: dict[str, int]) -> int:
    return sum(_share(values, value) >= STRAGGLERS for value in values)


def _widest_gap(arms: dict[str, dict[str, int]]) -> tuple[float, str]:
    values = sorted({value for found in arms.values() for value in found})
    gaps = []
    for value in values:
        shares = [_share(found, value) for found in arms.values()]
        gaps.append((max(shares) - min(shares), value))
    return max(gaps, key=lambda gap: gap[0], default=(0.0, ""))


def _one_sided(arms: dict[str, dict[str, int]], value: str) -> bool:
    return any(value in found for found in arms.values()) and any(
        value not in found for found in arms.values()
    )


def fidelity_check(
    checked: int | None, mismatched: int | None, brief: Brief, detail: Fidelity | None = None
) -> IntegrityCheck:
    """Is each unit in the arm that the brief's own rules give it?

    Fails above the brief's contamination limit and is a warning below it; also where the buckets of layer or
    holdout are not known, or a unit's ramp stage tells no share. `detail` adds reasons and where they gather.
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
    return IntegrityCheck(name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers)


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
        name=name, title=title, verdict=verdict, evidence=evidence, numbers={"units": n, "contaminated": both}
    )


def completeness_check(completeness: pl.DataFrame | None, units: Units, brief: Brief) -> IntegrityCheck:
    """Does each kind of event arrive from as many units in each arm?

    completeness: arm, event_name, events, units. Judged by the share of assigned units that have the event. A
    skeleton event (exposure, session, turn, response) that reaches less than half as many units in one arm
    fails. Any other difference that chance does not explain is a warning, for a change may well make learners
    do something more or less often; so is a smaller gap in a skeleton event.
    """
    name, title = "completeness", "Event completeness by arm"
    if completeness is None or not completeness.height:
        return IntegrityCheck(
            name=name, title=title, verdict="cannot_tell", evidence="No events were counted by arm."
        )
    assigned = counts_by_arm(units.frame, brief)
    seen: dict[str, dict[str, int]] = {}
    totals = completeness.group_by("event_name", "arm").agg(pl.col("units").cast(pl.Int64).sum())
    for event, arm, count in totals.sort("event_name", "arm").iter_rows():
        seen.setdefault(event, {})[arm] = count
    limit = brief.srm_alpha / max(1, len(seen) * len(brief.treatments()))
    faults: list[str] = []
    oddities: list[str] = []
    for event, by_arm in seen.items():
        for arm in (treatment.name for treatment in brief.treatments()):
            pair = [
                (min(by_arm.get(side, 0), assigned[side]), assigned[side]) for side in (brief.control, arm)
            ]
            if not pair[0][1] or not pair[1][1]:
                continue
            gap = difference_in_proportions(*pair[0], *pair[1])
            sure = (
                gap.p_value < limit
                if isinstance(gap, Effect)
                else pair[0][0] / pair[0][1] != pair[1][0] / pair[1][1]
            )
            if not sure:
                continue
            shares = sorted(found / whole for found, whole in pair)
            p = f" ({p_in_words(gap.p_value)})" if isinstance(gap, Effect) else ""
            missing = event in SKELETON_EVENTS and shares[0] < HALF * shares[1]
            said = (
                f"{event} came from {share_in_words(*pair[0])} units in {brief.control} and "
                f"{share_in_words(*pair[1])} in {arm}{p}"
            )
            # Shares of other events may come close to an outcome, so only skeleton events show theirs.
            skeleton = event in SKELETON_EVENTS
            (faults if missing else oddities).append(
                said if skeleton else f"{event} is uneven between the arms"
            )
    verdict: Verdict = "fail" if faults else "warn" if oddities else "pass"
    told = "; ".join([*faults, *oddities])
    evidence = f"{told}." if told else f"{len(seen)} kinds of event came from as many units in each arm."
    numbers: dict[str, float | int | str] = {
        "kinds": len(seen),
        "missing": len(faults),
        "uneven": len(oddities),
    }
    return IntegrityCheck(name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers)


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
    return IntegrityCheck(
        name=name, title=title, verdict=worst, evidence=" ".join(sentences), numbers=numbers
    )
