"""Is a day's data as it should be? Counts in, findings out.

A group (an event on a platform, say) is over a line only where it would be with the policy's certainty, so a
handful of rows raises no alarm. The certainty is shared out among the groups looked at, and rows count as if
they came in clumps of `clustering`, because those of one session share their fate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import NormalDist, median

from exp_pipeline.model.quality import Carrier, QualityFinding, QualityPolicy
from exp_pipeline.model.quality_rules import (
    QUALITY_RULES,
    NotJudged,
    Opens,
    QualityLimits,
    QualityRule,
    QualityRuleName,
)
from exp_pipeline.model.readout import Verdict

ALL = "all"
# A normal sample's standard deviation in units of its median absolute deviation (1 / Φ⁻¹(3/4)).
MAD_TO_SD = 1.4826
# The median of k normal values has π/2 of the variance that their mean has.
MEDIAN_VARIANCE = math.pi / 2
MOST_CARRIERS = 8
LEAST_VARIANCE = 0.02
# So many days of history weigh as much as the policy's word on how much numbers of events vary.
PRIOR_FREEDOM = 20
_RANK: dict[Verdict, int] = {"fail": 0, "warn": 1, "pass": 2, "cannot_tell": 3}


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one kind on the day, and how many of them the rule asks for; `usual` is the same of the past.

    `squares` is the sum of squares of what `part` adds up, where a row may add more than 1. `past` are the
    numbers of rows on the days that volume is compared with, `kind` names the groups that share one spread.
    """

    name: str
    part: float
    rows: float
    usual_part: float | None = None
    usual_rows: float | None = None
    squares: float | None = None
    usual_squares: float | None = None
    past: tuple[int, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """One rule on one day, with its policy: makes every finding of it."""

    policy: QualityPolicy
    name: QualityRuleName
    day: date

    @property
    def rule(self) -> QualityRule:
        return QUALITY_RULES[self.name]

    @property
    def limits(self) -> QualityLimits:
        return self.policy.limits(self.name)

    def sureness(self, groups: int) -> float:
        """The number of standard errors that the policy's certainty asks for when so many are looked at."""
        return NormalDist().inv_cdf(1 - (1 - self.policy.certainty) / max(groups, 1))

    def cannot_tell(self, reason: NotJudged, evidence: str, rows: float = 0) -> QualityFinding:
        """The finding of a day that cannot be judged."""
        return self._finding("cannot_tell", None, rows, evidence, (), reason)

    def found(
        self,
        verdict: Verdict,
        value: float | None,
        rows: float,
        evidence: str,
        carriers: Sequence[Carrier] = (),
    ) -> QualityFinding:
        """The finding of a day that was judged."""
        return self._finding(verdict, value, rows, evidence, carriers, None)

    def line(self, verdict: Verdict) -> float | None:
        """The line that a verdict is held against: the one that was crossed, or the nearest."""
        limits = self.limits
        near, far = limits.warn_at, limits.fail_at
        if verdict == "fail":
            return far
        return near if near is not None else far

    def _finding(
        self,
        verdict: Verdict,
        value: float | None,
        rows: float,
        evidence: str,
        carriers: Sequence[Carrier],
        reason: NotJudged | None,
    ) -> QualityFinding:
        limits = self.limits
        opens: Opens = "none"
        if verdict == "fail" and limits.opens_at != "never":
            opens = limits.urgency
        elif verdict == "warn" and limits.opens_at == "warn":
            opens = "warn"
        return QualityFinding(
            day=self.day,
            rule=self.name,
            subject=self.rule.subject,
            value=value,
            threshold=self.line(verdict),
            unit=self.rule.unit,
            rows=round(rows),
            verdict=verdict,
            reason=reason,
            owner=limits.owner,
            opens=opens,
            evidence=evidence,
            carriers=tuple(carriers[:MOST_CARRIERS]),
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    group: Group
    value: float
    verdict: Verdict
    excess: float
    usual: float | None = None

    def carrier(self) -> Carrier:
        group = self.group
        return Carrier(
            group=group.name,
            value=self.value,
            part=group.part,
            rows=group.rows,
            usual=self.usual,
            verdict=self.verdict,
        )


def judge_share(judge: Judge, groups: Sequence[Group], what: str) -> QualityFinding:
    """Is the share of `part` in `rows` over its line in any group? The group "all" stands for the whole.

    One-sided score test of the share against the line, with half a clump taken off as continuity correction.
    """
    limits, below = judge.limits, judge.rule.bad == "below"
    big = [group for group in groups if group.rows >= limits.minimum_rows]
    if not big:
        rows = max((group.rows for group in groups), default=0)
        return judge.cannot_tell("too_few_rows", _few(rows, limits.minimum_rows, what), rows)
    sure = judge.sureness(len(big))
    clump = judge.policy.clustering
    judged = []
    for group in big:
        bad = group.rows - group.part if below else group.part

        def over(line: float | None, bad: float = bad, rows: float = group.rows) -> bool:
            if line is None:
                return False
            share = 1 - line if below else line
            excess = bad - rows * share - clump / 2
            return excess > 0 and excess > sure * math.sqrt(clump * rows * share * (1 - share))

        verdict: Verdict = "fail" if over(limits.fail_at) else "warn" if over(limits.warn_at) else "pass"
        near = judge.line("warn") or 0.0
        excess = bad - group.rows * (1 - near if below else near)
        judged.append(_Judged(group, group.part / group.rows, verdict, excess))
    worst, whole, ranked = _ranked(judged)
    text = (
        f"{_of(worst.group)}{percent(worst.value)} of {worst.group.rows:,.0f} {what}; "
        f"{'at least' if below else 'at most'} {percent(judge.line(worst.verdict) or 0.0)} is expected"
    )
    if whole is not None and worst is not whole:
        text += f"; over all {percent(whole.value)}"
    if worst.verdict == "pass" and worst.excess > 0:
        text += "; too few rows to rule out chance"
    return judge.found(worst.verdict, worst.value, worst.group.rows, text, ranked)


def judge_fall(judge: Judge, groups: Sequence[Group], what: str, usual: str) -> QualityFinding:
    """Did `part` per row fall below its usual by more than the line, and by more than chance?

    Two-sample comparison of means per row, each with its own variance (Welch), which is at least that of one
    row in fifty being otherwise.
    """
    limits = judge.limits
    known = [group for group in groups if group.usual_rows]
    if not known:
        return judge.cannot_tell("too_little_history", f"no {usual} to compare with")
    big = [group for group in known if min(group.rows, group.usual_rows or 0) >= limits.minimum_rows]
    if not big:
        rows = max(min(group.rows, group.usual_rows or 0) for group in known)
        return judge.cannot_tell("too_few_rows", _few(rows, limits.minimum_rows, what), rows)
    sure = judge.sureness(len(big))
    judged = []
    for group in big:
        past_rows = group.usual_rows or 1.0
        rate, before = group.part / group.rows, (group.usual_part or 0.0) / past_rows
        fall = 1 - rate / before if before > 0 else 0.0
        own = _variance(group.part, group.rows, group.squares) / group.rows
        theirs = _variance(group.usual_part or 0.0, past_rows, group.usual_squares) / past_rows
        error = math.sqrt(judge.policy.clustering * (own + theirs))
        real = before - rate > sure * error

        def over(line: float | None, fall: float = fall, real: bool = real) -> bool:
            return line is not None and real and fall > line

        verdict: Verdict = "fail" if over(limits.fail_at) else "warn" if over(limits.warn_at) else "pass"
        judged.append(_Judged(group, fall, verdict, (before - rate) * group.rows, before))
    worst, _, ranked = _ranked(judged)
    rate = worst.group.part / worst.group.rows
    text = (
        f"{_of(worst.group)}{rate:.3f} per row in {worst.group.rows:,.0f} {what}, {usual} {worst.usual:.3f}: "
        f"{moved(worst.value)}; a fall of up to {percent(judge.line(worst.verdict) or 0.0)} is accepted"
    )
    return judge.found(worst.verdict, worst.value, worst.group.rows, text, ranked)


def judge_volume(judge: Judge, groups: Sequence[Group], usual: str) -> QualityFinding:
    """Does any group's number of rows stray from the median of its past by more than the line, and chance?

    The number is the smaller count as a share of the larger, taken from 1: 0.5 is a fall to half, or twice as
    many. Spread: the larger of the group's own MAD and of counts with the dispersion that the past of its
    kind shows, drawn towards the policy's as if that rested on `PRIOR_FREEDOM` days; hence Student's t.
    """
    limits = judge.limits
    enough = [group for group in groups if len(group.past) >= judge.policy.minimum_weeks]
    if not enough:
        weeks = max((len(group.past) for group in groups), default=0)
        return judge.cannot_tell(
            "too_little_history", f"{weeks} of at least {judge.policy.minimum_weeks} {usual} are there"
        )
    big = [group for group in enough if median(group.past) >= limits.minimum_rows]
    if not big:
        rows = max(median(group.past) for group in enough)
        return judge.cannot_tell("too_few_rows", _few(rows, limits.minimum_rows, "events"), rows)
    dispersions = _dispersions(enough, judge.policy.volume_dispersion)
    sure = student(judge.sureness(len(big)), PRIOR_FREEDOM)
    judged = []
    for group in big:
        expected = float(median(group.past))
        mad = float(median(abs(one - expected) for one in group.past))
        variance = max((MAD_TO_SD * mad) ** 2, dispersions[group.kind] * expected)
        error = math.sqrt(variance * (1 + MEDIAN_VARIANCE / len(group.past)))
        off = 1 - min(group.rows, expected) / max(group.rows, expected)
        real = abs(group.rows - expected) > sure * error

        def over(line: float | None, off: float = off, real: bool = real) -> bool:
            return line is not None and real and off >= line

        verdict: Verdict = "fail" if over(limits.fail_at) else "warn" if over(limits.warn_at) else "pass"
        judged.append(_Judged(group, off, verdict, abs(group.rows - expected), expected))
    worst, _, ranked = _ranked(judged)
    expected = worst.usual or 0.0
    word = "fewer" if worst.group.rows < expected else "more"
    text = (
        f"{_of(worst.group)}{worst.group.rows:,.0f} events, {expected:,.0f} are usual on the last "
        f"{len(worst.group.past)} {usual}: {word} by a factor of {_factor(worst.group.rows, expected)}"
    )
    return judge.found(worst.verdict, worst.value, worst.group.rows, text, ranked)


def judge_totals(judge: Judge, groups: Sequence[Group], what: str) -> QualityFinding:
    """How far are our sums (`part`) from another's (`rows`)? No test: both claim to count everything."""
    limits = judge.limits
    big = [group for group in groups if group.rows >= limits.minimum_rows]
    if not big:
        return judge.cannot_tell("too_few_rows", f"the other side counted hardly any {what}")
    judged = []
    for group in big:
        off = abs(group.part - group.rows) / group.rows
        verdict: Verdict = "pass"
        if limits.warn_at is not None and off > limits.warn_at:
            verdict = "warn"
        if limits.fail_at is not None and off > limits.fail_at:
            verdict = "fail"
        judged.append(_Judged(group, off, verdict, abs(group.part - group.rows), group.rows))
    worst, _, ranked = _ranked(judged)
    word = "less" if worst.group.part < worst.group.rows else "more"
    text = (
        f"{_of(worst.group)}{worst.group.part:,.0f} {what} logged, {worst.group.rows:,.0f} counted by the "
        f"gateway: {percent(worst.value)} {word}"
    )
    return judge.found(worst.verdict, worst.value, worst.group.rows, text, ranked)


def judge_drift(
    judge: Judge, today: Sequence[Group], known: Iterable[str], days: int, responses: float
) -> QualityFinding:
    """Which receipt values ("field=value") are new and announced by nobody? `days` of the past were read."""
    if not days:
        return judge.cannot_tell("too_little_history", "no day a week or more before to compare with")
    settled = frozenset(known)
    new = [group for group in today if group.name not in settled and group.part >= judge.limits.minimum_rows]
    verdict: Verdict = "pass"
    for name, line in (("warn", judge.limits.warn_at), ("fail", judge.limits.fail_at)):
        if line is not None and len(new) >= max(line, 1):
            verdict = "warn" if name == "warn" else "fail"
    new.sort(key=lambda group: (-group.part, group.name))
    carriers = [
        Carrier(group=one.name, value=one.part / one.rows, part=one.part, rows=one.rows, verdict=verdict)
        for one in new
    ]
    if not new:
        text = f"{responses:,.0f} responses carry receipts that were there a week before or are announced"
    else:
        listed = ", ".join(f"{one.name} on {percent(one.part / one.rows)}" for one in new[:3])
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        text = f"new and not announced: {listed}{more}, of {responses:,.0f} responses"
    return judge.found(verdict, float(len(new)), responses, text, carriers)


def judge_deprecated(judge: Judge, used: Sequence[Group], sunsets: dict[str, date]) -> QualityFinding:
    """How many days are left to the nearest sunset of what is still sent? `sunsets` by group name."""
    sent = [group for group in used if group.part >= judge.limits.minimum_rows]
    if not sent:
        said = "nothing that is deprecated is sent" if sunsets else "the contracts deprecate nothing"
        return judge.found("pass", None, sum(group.part for group in used), said)
    judged = []
    for group in sent:
        left = (sunsets[group.name] - judge.day).days
        verdict: Verdict = "pass"
        if judge.limits.warn_at is not None and left < judge.limits.warn_at:
            verdict = "warn"
        if judge.limits.fail_at is not None and left < judge.limits.fail_at:
            verdict = "fail"
        judged.append(_Judged(group, float(left), verdict, -float(left)))
    worst, _, ranked = _ranked(judged)
    left = round(worst.value)
    when = f"its sunset is in {left} days" if left >= 0 else f"its sunset was {-left} days ago"
    text = f"{worst.group.name} is still sent in {worst.group.part:,.0f} rows; {when}"
    return judge.found(worst.verdict, worst.value, worst.group.part, text, ranked)


def _variance(total: float, rows: float, squares: float | None) -> float:
    """The variance of one row's amount; where no squares are given, each row's is 0 or 1."""
    mean = total / rows
    return max((total if squares is None else squares) / rows - mean**2, LEAST_VARIANCE)


def student(z: float, freedom: float) -> float:
    """The quantile of Student's t that has the tail of a normal quantile `z`; good to 1 % for 20 days up.

    Cornish-Fisher expansion to the third order (Abramowitz & Stegun 26.7.5).
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _dispersions(groups: Sequence[Group], prior: float) -> dict[str, float]:
    """How much wider than Poisson does each kind's past vary? Pearson's statistic, drawn to the prior."""
    sums: dict[str, tuple[float, float]] = {}
    for group in groups:
        mean = sum(group.past) / len(group.past)
        statistic, freedom = sums.get(group.kind, (prior * PRIOR_FREEDOM, float(PRIOR_FREEDOM)))
        if mean > 0:
            statistic += sum((one - mean) ** 2 for one in group.past) / mean
            freedom += len(group.past) - 1
        sums[group.kind] = (statistic, freedom)
    return {kind: statistic / freedom for kind, (statistic, freedom) in sums.items()}


def _ranked(judged: Sequence[_Judged]) -> tuple[_Judged, _Judged | None, list[Carrier]]:
    """The group that carries the verdict, the whole where it was judged, and all groups, worst first.

    Where all is well, the whole stands for the day.
    """
    order = sorted(judged, key=lambda one: (_RANK[one.verdict], -one.excess, one.group.name != ALL))
    whole = next((one for one in judged if one.group.name == ALL), None)
    worst = order[0] if order[0].verdict != "pass" or whole is None else whole
    return worst, whole, [one.carrier() for one in order]


def percent(share: float) -> str:
    """A share with as many digits as tell it apart from its line ("0.3 %", "12 %", "99.2 %")."""
    text = f"{100 * share:.2f}" if abs(share) < 0.01 else f"{100 * share:.1f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def moved(fall: float) -> str:
    """A relative fall in words, also where it is a rise."""
    return f"down by {percent(fall)}" if fall >= 0 else f"up by {percent(-fall)}"


def _factor(rows: float, expected: float) -> str:
    small, large = sorted((rows, expected))
    return f"{large / small:.3g}" if small > 0 else "infinity (none at all)"


def _of(group: Group) -> str:
    return "" if group.name == ALL else f"{group.name}: "


def _few(rows: float, least: int, what: str) -> str:
    return f"{rows:,.0f} {what} in the largest group, at least {least:,} are needed"
