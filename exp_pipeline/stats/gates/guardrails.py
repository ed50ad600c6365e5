"""Guardrails: is the harm, if any, within what was agreed to be bearable?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from exp_pipeline.stats.looks.always_valid import MixedTuning, Mixture, best_information
from exp_pipeline.stats.pivot import (
    as_normal,
    bounds_at,
    distance_from,
    relative_bounds_at,
    relative_distance_from,
    relative_stretched,
    stretched,
)
from exp_pipeline.stats.reference import one_sided_critical, upper_tail
from exp_pipeline.stats.results import Effect, NotEstimable

Verdict = Literal["pass", "fail", "underpowered", "cannot_tell"]
KillAnswer = Literal["kill", "continue", "wait", "cannot_tell"]
MarginKind = Literal["absolute", "relative"]
Harm = Literal["increase", "decrease"]

# A kill rule acts on its own, so it waits for some dozens of units (or some clusters) in each arm: before, an
# outlier or one class would be the whole evidence.
FEWEST_UNITS_TO_KILL = 50
FEWEST_CLUSTERS_TO_KILL = 10
# Kill rules are tuned to the plan, a tenth and a hundredth of it: gross harm shows long before the end.
KILL_TUNINGS: tuple[tuple[float, float], ...] = ((0.5, 1.0), (0.25, 0.1), (0.25, 0.01))

_NO_RELATIVE = "the control value cannot be told from zero: no relative harm"
_NO_WIDTH = "the interval has no width on the side of harm"
_MOST_GROWTH = 1e6


@dataclass(frozen=True, slots=True)
class NeededUnits:
    """How many units would settle an underpowered guardrail?

    factor: times today's units. n_* and clusters_* are per arm, arms growing alike. With that many the
    verdict is `towards` with probability `power`, if the true harm is today's estimate.
    """

    towards: Literal["pass", "fail"]
    factor: float
    n_control: int
    n_treatment: int
    clusters_control: int | None
    clusters_treatment: int | None
    power: float


@dataclass(frozen=True, slots=True)
class GuardrailVerdict:
    """Does the guardrail hold? All harms are in the margin's unit, positive when treatment is worse.

    bound: the largest harm the data allow (one-sided, at 1 - alpha); lower_bound: the smallest. p_value: of
    the claim that harm is at least the margin; small means the guardrail holds. Numbers are None when the
    verdict is "cannot_tell". needed: only when "underpowered", and None then too if the estimate lies so near
    the margin that no affordable number of units would tell. flags: what the effect warns of, such as arms
    too unequal to trust one end of an interval whose skewness nobody looked at.
    """

    verdict: Verdict
    reason: str
    margin: float
    margin_kind: MarginKind
    basis: Literal["interval", "point"]
    alpha: float
    harm_estimate: float | None
    bound: float | None
    lower_bound: float | None
    p_value: float | None
    needed: NeededUnits | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KillVerdict:
    """Is harm beyond the margin shown, at whichever look this is?

    least_harm: the smallest harm that no look so far allows to doubt (always-valid one-sided bound), in the
    margin's unit. p_value: always valid, of the claim that harm is at most the margin. Both None unless the
    answer is "kill" or "continue".
    """

    answer: KillAnswer
    reason: str
    margin: float
    margin_kind: MarginKind
    alpha: float
    least_harm: float | None = None
    p_value: float | None = None


def non_inferiority(
    effect: Effect | NotEstimable,
    *,
    margin: float,
    margin_kind: MarginKind = "absolute",
    harm: Harm,
    alpha: float = 0.05,
    basis: Literal["interval", "point"] = "interval",
    power: float = 0.8,
) -> GuardrailVerdict:
    """Is treatment no worse than control by more than `margin`?

    margin: the largest bearable harm, at least 0, in the metric's unit ("absolute") or as a share of the
    control value ("relative"; 0.05 is five per cent). harm: the direction that hurts. With basis
    "interval":

    - pass: the one-sided upper bound of harm lies within the margin; wrong at most alpha of the time when
    the harm is the margin or more.
    - fail: harm is shown (its one-sided lower bound is above 0) and the best estimate is beyond the margin.
    Without any harm this happens at most alpha of the time. Waiting until the whole interval lies beyond
    the margin would let a change that is known to hurt, most likely too much, run on as "underpowered".
    - underpowered: anything else: the data allow harm beyond the margin and do not show it. `needed` then
    says with how many units that would be over, with probability `power`.
    - cannot_tell: there is no estimate, or no relative one.

    With basis "point" the estimate alone is compared with the margin: pass at or within it, fail beyond;
    for budgets that were agreed as plain numbers. It says nothing of how sure that is: the bound is still
    there.

    Bounds are those of the effect's own method at 1 - alpha, one-sided: t, Newcombe, log-ratio or Fieller.
    Raises ValueError for a negative margin, or an alpha or power out of range.
    """
    _check(margin, margin_kind, harm, alpha)
    if basis not in ("interval", "point"):
        raise ValueError(f"basis must be 'interval' or 'point', got {basis!r}")
    if not 0.5 <= power < 1.0:
        raise ValueError(f"power must be at least 0.5 and below 1, got {power!r}")

    def verdict(
        answer: Verdict,
        reason: str,
        numbers: tuple[float | None, float | None, float | None, float | None] = (None,) * 4,
        needed: NeededUnits | None = None,
    ) -> GuardrailVerdict:
        flags = () if isinstance(effect, NotEstimable) else effect.flags
        return GuardrailVerdict(
            answer, reason, margin, margin_kind, basis, alpha, *numbers, needed=needed, flags=flags
        )

    if isinstance(effect, NotEstimable):
        return verdict("cannot_tell", effect.reason)
    estimate = effect.absolute if margin_kind == "absolute" else effect.relative
    reached = bounds_at(effect, alpha) if margin_kind == "absolute" else relative_bounds_at(effect, alpha)
    if estimate is None:
        return verdict("cannot_tell", _NO_RELATIVE)
    if reached is None:
        return verdict("cannot_tell", _NO_WIDTH)
    hurts_up = harm == "increase"
    expected = estimate if hurts_up else -estimate
    worst = reached[1] if hurts_up else -reached[0]
    least = reached[0] if hurts_up else -reached[1]
    if not worst > expected:
        return verdict("cannot_tell", _NO_WIDTH)
    p_value = upper_tail(-as_normal(_beyond(effect, margin, margin_kind, harm), effect.df), math.inf)
    numbers = (expected, worst, least, p_value)
    if basis == "point":
        if expected <= margin:
            return verdict(
                "pass", "the estimated harm is within the margin (uncertainty not judged)", numbers
            )
        return verdict("fail", "the estimated harm is beyond the margin (uncertainty not judged)", numbers)
    if worst <= margin:
        return verdict("pass", "even the largest harm that the data allow is within the margin", numbers)
    if least > margin:
        return verdict("fail", "even the smallest harm that the data allow is beyond the margin", numbers)
    if least > 0.0 and expected > margin:
        return verdict("fail", "harm is shown, and its best estimate is beyond the margin", numbers)
    logs = margin_kind == "relative" and effect.relative_method == "log-ratio" and effect.mean_control > 0.0
    needed = _needed(effect, margin, (expected, worst, least), alpha, power, harm, logs=logs)
    reason = "the data allow harm beyond the margin and do not show it"
    if least > 0.0:
        reason = "harm is shown, but whether it is beyond the margin is not"
    return verdict("underpowered", reason, numbers, needed)


def kill_verdict(
    effect: Effect | NotEstimable,
    *,
    margin: float,
    margin_kind: MarginKind = "absolute",
    harm: Harm,
    planned_n: int,
    alpha: float = 0.01,
    fewest_units: int = FEWEST_UNITS_TO_KILL,
    fewest_clusters: int = FEWEST_CLUSTERS_TO_KILL,
) -> KillVerdict:
    """Must the experiment stop, because harm beyond the margin is shown?

    One-sided always-valid test of "harm is at most the margin" (see `sequential.Mixture`, tuned as
    KILL_TUNINGS says to planned_n units of both arms): over all looks together, however many, it kills
    wrongly with probability at most alpha. A relative margin is judged by the log-ratio or Fieller's
    statistic, so that noise in the control value counts. Looks must use all units so far. "wait": fewer than
    fewest_units units in an arm (or fewest_clusters clusters, where they were randomised), or too few degrees
    of freedom to show anything at alpha. Raises ValueError as `non_inferiority` does, and for a planned_n
    below 2.
    """
    _check(margin, margin_kind, harm, alpha)
    if planned_n < 2:
        raise ValueError(f"planned_n must be at least 2 units, got {planned_n}")

    def verdict(answer: KillAnswer, reason: str, *numbers: float) -> KillVerdict:
        return KillVerdict(answer, reason, margin, margin_kind, alpha, *numbers)

    if isinstance(effect, NotEstimable):
        return verdict("cannot_tell", effect.reason)
    if margin_kind == "relative" and effect.relative is None:
        return verdict("cannot_tell", _NO_RELATIVE)
    if min(effect.n_control, effect.n_treatment) < fewest_units:
        return verdict("wait", f"fewer than {fewest_units} units in an arm")
    clusters = (effect.clusters_control, effect.clusters_treatment)
    if any(count is not None and count < fewest_clusters for count in clusters):
        return verdict("wait", f"fewer than {fewest_clusters} clusters in an arm")
    if not effect.se > 0.0:
        return verdict("cannot_tell", "the standard error is zero")
    share = (effect.n_control + effect.n_treatment) / planned_n
    best = best_information(alpha, one_sided=True)
    mixture = MixedTuning(
        tuple(
            (weight, Mixture(best * share / tuned, effect.df, one_sided=True))
            for weight, tuned in KILL_TUNINGS
        )
    )
    radius = mixture.radius(alpha)
    if math.isinf(radius):
        return verdict("wait", f"{effect.df:.0f} degrees of freedom can show nothing at {alpha:g} yet")
    bounds = stretched(effect, radius) if margin_kind == "absolute" else relative_stretched(effect, radius)
    if bounds is None:
        return verdict("cannot_tell", _NO_WIDTH)
    least = bounds[0] if harm == "increase" else -bounds[1]
    p_value = math.exp(-max(mixture.log_evidence(_beyond(effect, margin, margin_kind, harm)), 0.0))
    if least > margin:
        reason = f"harm beyond the margin is shown at the level {alpha:g}, at any look"
        return verdict("kill", reason, least, p_value)
    return verdict("continue", "harm beyond the margin is not shown", least, p_value)


def _beyond(effect: Effect, margin: float, margin_kind: MarginKind, harm: Harm) -> float:
    """How many standard errors is the harm beyond the margin? Negative within it."""
    at = margin if harm == "increase" else -margin
    gap = distance_from(effect, at) if margin_kind == "absolute" else relative_distance_from(effect, at)
    if gap is None:
        raise ValueError("effect has no relative effect to compare with a relative margin")
    return gap if harm == "increase" else -gap


def _needed(
    effect: Effect,
    margin: float,
    harms: tuple[float, float, float],
    alpha: float,
    power: float,
    harm: Harm,
    *,
    logs: bool,
) -> NeededUnits | None:
    """Widths shrink with the root of the units; log-ratio intervals do so on the log scale."""
    sign = 1.0 if harm == "increase" else -1.0

    def scaled(value: float) -> float:
        if not logs:
            return value
        return sign * math.log1p(sign * value) if sign * value > -1.0 else math.inf

    expected, worst, least = (scaled(value) for value in harms)
    limit = scaled(margin)
    critical = one_sided_critical(alpha, effect.df)
    extra = one_sided_critical(1.0 - power, math.inf)
    towards: Literal["pass", "fail"]
    if expected < limit:
        towards = "pass"
        se = (worst - expected) / critical
        root = (critical + extra) * se / (limit - expected)
    elif expected > limit:
        towards = "fail"
        se = (expected - least) / critical
        root = max((critical + extra) * se / expected, extra * se / (expected - limit))
    else:
        return None
    if not root < math.sqrt(_MOST_GROWTH):
        return None
    factor = max(root**2, 1.0)

    def grown(count: int | None) -> int | None:
        return None if count is None else math.ceil(count * factor - 1e-9)

    return NeededUnits(
        towards=towards,
        factor=factor,
        n_control=math.ceil(effect.n_control * factor - 1e-9),
        n_treatment=math.ceil(effect.n_treatment * factor - 1e-9),
        clusters_control=grown(effect.clusters_control),
        clusters_treatment=grown(effect.clusters_treatment),
        power=power,
    )


def _check(margin: float, margin_kind: str, harm: str, alpha: float) -> None:
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ValueError(f"margin must be a number of at least 0, got {margin!r}")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
    for name, value, allowed in (
        ("margin_kind", margin_kind, get_args(MarginKind)),
        ("harm", harm, get_args(Harm)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed!r}, got {value!r}")
