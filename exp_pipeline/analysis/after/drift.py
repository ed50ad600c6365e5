"""Does what learners are served drift: versions, answers, speed, cost, safety? Counts in, findings out.

A thing is over its line only where it strays from the same weekday of its own past weeks by more than the
line, and by more than its own unrest and the day's sampling make likely. The certainty is shared out over all
things watched on a day. What drifts slowly enough becomes usual: that is what announced versions are for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist, median

from exp_pipeline.model.after import DriftDay, DriftFinding, DriftKind, DriftLimits, DriftPolicy
from exp_pipeline.model.readout import Verdict

# A normal sample's standard deviation in units of its median absolute deviation (1 / Φ⁻¹(3/4)).
MAD_TO_SD = 1.4826
# The MAD tells as much about the spread as 37 % of the values would, all used (its asymptotic efficiency).
MAD_EFFICIENCY = 0.37
MEDIAN_VARIANCE = math.pi / 2
WEEK = 7


@dataclass(frozen=True, slots=True)
class Series:
    """One thing that is watched: its number by day, on a scale on which days of one kind are alike.

    sampling: by day the variance that the day's own rows leave in it (0 where the past alone tells it).
    """

    subject: str
    kind: DriftKind
    title: str
    values: Mapping[date, float]
    rows: Mapping[date, int]
    sampling: Mapping[date, float]


def judge_drift(
    days: Sequence[DriftDay],
    day: date,
    policy: DriftPolicy,
    *,
    free: Collection[str] = (),
    fields: Sequence[str],
    announced: Mapping[str, Collection[str]] | None = None,
) -> tuple[DriftFinding, ...]:
    """What strays on a day from the weeks before it?

    days: that day and those before it, in any order. fields: the receipt's fields. free: fields of it that
    may differ now, as a running experiment says; their versions are not judged. announced: of a field the
    values that are announced; where there are any, others are to carry no more than the line of responses. A
    value that was never seen before is the rule `receipt_drift`'s; here a version strays whose share of
    responses is not as it was.
    Raises ValueError where the day itself is not among `days`.
    """
    known = {one.day: one for one in days}
    if day not in known:
        raise ValueError(f"day {day} is not among the days given: {_span(known)}")
    first = day - timedelta(days=WEEK * policy.weeks)
    past = {one: found for one, found in known.items() if first <= one <= day}
    series = [*_numbers(past), *_shares(past, policy), *_versions(past, policy, fields, free)]
    wanted = {name: values for name, values in (announced or {}).items() if values and name not in free}
    sure = 1.0 - (1.0 - policy.certainty) / max(len(series) + len(wanted), 1)
    return (
        *(_judged(one, day, policy, sure) for one in series),
        *(_announced(known[day], name, values, policy, sure) for name, values in sorted(wanted.items())),
    )


def _announced(
    today: DriftDay, field: str, values: Collection[str], policy: DriftPolicy, sure: float
) -> DriftFinding:
    """Do more responses than the line carry versions that nobody announced?"""
    counts = today.versions.get(field, {})
    whole = sum(counts.values())
    others = {value: part for value, part in counts.items() if value not in values}
    base = DriftFinding(
        day=today.day, subject=f"{field}:announced", kind="version", rows=whole, verdict="cannot_tell",
        title=f"share of responses whose {field} is not announced", evidence="",
    )  # fmt: skip
    if whole < policy.minimum_rows:
        said = f"{whole:,} rows, at least {policy.minimum_rows:,} are needed"
        return base.model_copy(update={"reason": "too few rows", "evidence": said})
    share = sum(others.values()) / whole
    spread = policy.clustering * max(share * (1.0 - share), 1.0 / whole) / whole
    noise = NormalDist().inv_cdf(sure) * math.sqrt(spread)
    verdict, line = _verdict(policy.versions, max(share - noise, 0.0), real=share > noise)
    worst = max(sorted(others), key=lambda value: others[value], default="")
    said = f"{100 * share:.4g} % of {whole:,} responses" + (f", most of them {worst}" if worst else "")
    return base.model_copy(
        update={
            "value": share,
            "usual": 0.0,
            "change": share,
            "noise": noise,
            "threshold": line,
            "verdict": verdict,
            "evidence": f"{said}; up to {100 * line:.3g} % are accepted",
        }
    )


def _span(known: Mapping[date, object]) -> str:
    return f"{min(known)} to {max(known)}" if known else "none"


def _numbers(past: Mapping[date, DriftDay]) -> list[Series]:
    """Numbers above zero, on the log scale: a change of 20 % is one, at 100 ms as at 10 s."""
    found = []
    for subject, title in (
        ("latency_p50", "median time to a whole answer (ms)"),
        ("latency_p95", "95th percentile of the time to a whole answer (ms)"),
        ("cost_per_session", "cost of a session (USD)"),
        ("tokens_per_response", "tokens read and written for an answer"),
    ):
        values, rows = {}, {}
        for day, one in past.items():
            number, base = _number(subject, one)
            if number is not None and number > 0:
                values[day], rows[day] = math.log(number), base
        found.append(Series(subject, "number", title, values, rows, dict.fromkeys(values, 0.0)))
    return found


def _number(subject: str, one: DriftDay) -> tuple[float | None, int]:
    if subject == "latency_p50":
        return one.latency_p50_ms, one.answered
    if subject == "latency_p95":
        return one.latency_p95_ms, one.answered
    if subject == "cost_per_session":
        return (one.cost_usd / one.sessions if one.sessions else None), one.sessions
    tokens = one.tokens_in + one.tokens_out
    return (tokens / one.responses if one.responses else None), one.responses


def _shares(past: Mapping[date, DriftDay], policy: DriftPolicy) -> list[Series]:
    return [
        _share("safety_flags", "share", "safety flags by turn", past, policy, "safety_flags", "turns"),
        _share("answered_turns", "share", "share of turns with an answer", past, policy, "answered", "turns"),
    ]


def _share(
    subject: str,
    kind: DriftKind,
    title: str,
    past: Mapping[date, DriftDay],
    policy: DriftPolicy,
    part: str,
    of: str,
) -> Series:
    counts = {day: (getattr(one, part), getattr(one, of)) for day, one in past.items()}
    return _series_of_counts(subject, kind, title, counts, policy)


def _versions(
    past: Mapping[date, DriftDay], policy: DriftPolicy, fields: Sequence[str], free: Collection[str]
) -> list[Series]:
    found = []
    for field in fields:
        if field in free:
            continue
        for value in sorted({value for one in past.values() for value in one.versions.get(field, {})}):
            counts = {
                day: (one.versions.get(field, {}).get(value, 0), sum(one.versions.get(field, {}).values()))
                for day, one in past.items()
            }
            # A value of fewer days is new: the rule `receipt_drift` asks whether it was announced.
            if sum(part > 0 for part, _ in counts.values()) > WEEK:
                name = f"{field}={value}"
                found.append(
                    _series_of_counts(name, "version", f"share of responses of {name}", counts, policy)
                )
    return found


def _series_of_counts(
    subject: str, kind: DriftKind, title: str, counts: Mapping[date, tuple[int, int]], policy: DriftPolicy
) -> Series:
    told = {day: (part, of) for day, (part, of) in counts.items() if of > 0}
    whole = sum(of for _, of in told.values())
    # Pooled over the days, half a row added to each side: a share of 0 has a spread too.
    share = (sum(part for part, _ in told.values()) + 0.5) / (whole + 1.0)
    spread = max(share * (1.0 - share), 0.0)
    return Series(
        subject,
        kind,
        title,
        {day: part / of for day, (part, of) in told.items()},
        {day: of for day, (_, of) in told.items()},
        {day: policy.clustering * spread / of for day, (_, of) in told.items()},
    )


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual on a weekday: its median, the spread of days about theirs, and how well that is known."""

    value: float
    spread: float
    freedom: float
    weeks: int


def usual_of(values: Mapping[date, float], day: date, weeks: int) -> Usual | None:
    """What is usual on a day, by the weeks before it? None where fewer than two of its weekday are there.

    Spread: the MAD of all days about the median of their weekday, made wider because the median is their own.
    """
    before = {one: value for one, value in values.items() if 0 < (day - one).days <= WEEK * weeks}
    by_weekday: dict[int, list[float]] = {}
    for one in sorted(before):
        by_weekday.setdefault(one.weekday(), []).append(before[one])
    same = by_weekday.get(day.weekday(), [])
    if len(same) < 2:
        return None
    residuals = [
        (value - median(group)) * math.sqrt(len(group) / (len(group) - 1))
        for group in by_weekday.values()
        if len(group) > 1
        for value in group
    ]
    counted = sum(len(group) - 1 for group in by_weekday.values())
    spread = MAD_TO_SD * median(abs(one) for one in residuals)
    return Usual(float(median(same)), spread, max(MAD_EFFICIENCY * counted, 1.0), len(same))


def noise_of(usual: Usual, sampling: float, sure: float) -> float:
    """How far from the usual may chance alone put a day, two-sided, at this certainty?"""
    from scipy import special

    variance = max(usual.spread**2, sampling) * (1.0 + MEDIAN_VARIANCE / usual.weeks)
    return float(special.stdtrit(usual.freedom, 0.5 + sure / 2.0)) * math.sqrt(variance)


def _judged(series: Series, day: date, policy: DriftPolicy, sure: float) -> DriftFinding:
    limits = {"number": policy.numbers, "share": policy.shares, "version": policy.versions}[series.kind]
    rows = series.rows.get(day, 0)
    base = DriftFinding(
        day=day, subject=series.subject, kind=series.kind, title=series.title, rows=rows,
        verdict="cannot_tell", evidence="",
    )  # fmt: skip
    if day not in series.values or rows < policy.minimum_rows:
        said = f"{rows:,} rows, at least {policy.minimum_rows:,} are needed"
        return base.model_copy(update={"reason": "too few rows", "evidence": said})
    usual = usual_of(series.values, day, policy.weeks)
    weeks = 0 if usual is None else usual.weeks
    if usual is None or weeks < policy.minimum_weeks:
        said = f"{weeks} of at least {policy.minimum_weeks} earlier {day:%A}s are there"
        return base.model_copy(update={"reason": "too little history", "evidence": said, "weeks": weeks})
    noise = noise_of(usual, series.sampling[day], sure)
    off = series.values[day] - usual.value
    real = abs(off) > noise
    if series.kind == "number":
        value, expected = math.exp(series.values[day]), math.exp(usual.value)
        change, shown = math.expm1(off), math.expm1(noise)
        # A fall to half is as far as a rise to twice as much.
        size = math.expm1(abs(off))
    else:
        value, expected, change, shown, size = series.values[day], usual.value, off, noise, abs(off)
    verdict, line = _verdict(limits, size, real=real)
    return base.model_copy(
        update={
            "value": value,
            "usual": expected,
            "change": change,
            "noise": shown,
            "threshold": line,
            "weeks": weeks,
            "verdict": verdict,
            "evidence": _evidence(series, value, expected, change, line, usual.weeks),
        }
    )


def _verdict(limits: DriftLimits, size: float, *, real: bool) -> tuple[Verdict, float]:
    if real and size > limits.fail_at:
        return "fail", limits.fail_at
    if real and size > limits.warn_at:
        return "warn", limits.warn_at
    return "pass", limits.warn_at


def _evidence(series: Series, value: float, usual: float, change: float, line: float, weeks: int) -> str:
    if series.kind == "number":
        said = f"{series.title} {value:.4g}, usual {usual:.4g} ({100 * change:+.3g} %"
        return f"{said}; up to {100 * line:.3g} % is accepted, {weeks} weeks)"
    said = f"{series.title} {100 * value:.4g} %, usual {100 * usual:.4g} % ({100 * change:+.3g} points"
    return f"{said}; up to {100 * line:.3g} points are accepted, {weeks} weeks)"
