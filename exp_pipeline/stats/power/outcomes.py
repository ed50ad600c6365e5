"""What one unit's value varies by, for every kind of outcome that an experiment is planned on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from exp_pipeline.stats.reference import welch_df

Formula = Literal["planning", "unpooled", "pooled", "arcsine"]
FORMULAS: tuple[Formula, ...] = ("planning", "unpooled", "pooled", "arcsine")


@dataclass(frozen=True, slots=True)
class Errors:
    """How far is an effect from zero, and in which units?

    shift: the effect on the test's own scale. se: its standard error; null_se: the one that the test uses,
    where the two differ. df: degrees of freedom of independent units (infinite: a normal reference).
    both_tails: whether a finding on the wrong side counts as power, as in R's pwr.
    """

    shift: float
    se: float
    null_se: float
    df: float
    both_tails: bool


@runtime_checkable
class Outcome(Protocol):
    """What a plan must know of an outcome.

    errors: for a signed effect and so many independent units (fractions allowed) in each arm. check: raises
    ValueError for an effect that cannot be. room: the largest size an effect of that sign can have.
    scale: a typical size of one unit's value, for searches. paired: whether both arms are the same units.
    """

    @property
    def paired(self) -> bool: ...

    @property
    def scale(self) -> float: ...

    def check(self, effect: float) -> None: ...

    def room(self, sign: float) -> float: ...

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors: ...


def _require_effect(effect: float) -> None:
    if not math.isfinite(effect) or effect == 0.0:
        raise ValueError(f"effect must be a number other than 0, got {effect!r}")


def _require_above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} must be above 0, got {value!r}")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, or anything whose units have a spread: linearised ratios, quantiles by their sparsity.

    sd: of one unit in control. sd_treatment: in treatment; given, the degrees of freedom are Welch's, else
    the pooled n - 2 of the textbook (R's power.t.test).
    """

    sd: float
    sd_treatment: float | None = None

    def __post_init__(self) -> None:
        _require_above_zero("sd", self.sd)
        if self.sd_treatment is not None:
            _require_above_zero("sd_treatment", self.sd_treatment)

    @property
    def paired(self) -> bool:
        return False

    @property
    def scale(self) -> float:
        return self.sd

    def check(self, effect: float) -> None:
        _require_effect(effect)

    def room(self, sign: float) -> float:
        return math.inf

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        other = self.sd if self.sd_treatment is None else self.sd_treatment
        parts = self.sd**2 / n_control, other**2 / n_treatment
        df = n_control + n_treatment - 2.0
        if self.sd_treatment is not None and min(n_control, n_treatment) > 1.0:
            df = welch_df(parts[0], n_control - 1.0, parts[1], n_treatment - 1.0)
        se = math.sqrt(sum(parts))
        return Errors(effect, se, se, df, both_tails=True)


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of units. `formula` says which variance: see `power.required_units`."""

    baseline: float
    formula: Formula = "planning"

    def __post_init__(self) -> None:
        if self.formula not in FORMULAS:
            raise ValueError(f"formula must be one of {FORMULAS!r}, got {self.formula!r}")
        if not 0.0 < self.baseline < 1.0:
            raise ValueError(f"baseline must lie between 0 and 1, got {self.baseline!r}")

    @property
    def paired(self) -> bool:
        return False

    @property
    def scale(self) -> float:
        return 1.0

    def check(self, effect: float) -> None:
        _require_effect(effect)
        if not 0.0 < self.baseline + effect < 1.0:
            raise ValueError(
                f"baseline and baseline + effect must lie between 0 and 1, "
                f"got {self.baseline!r} and effect {effect!r}"
            )

    def room(self, sign: float) -> float:
        return (1.0 - self.baseline if sign > 0 else self.baseline) * (1.0 - 1e-12)

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        p_c, p_t = self.baseline, self.baseline + effect
        v_c, v_t = p_c * (1.0 - p_c), p_t * (1.0 - p_t)
        shift = effect
        if self.formula == "arcsine":
            shift = 2.0 * math.asin(math.sqrt(p_t)) - 2.0 * math.asin(math.sqrt(p_c))
            v_c = v_t = 1.0
        elif self.formula == "planning":
            v_t = v_c
        se = null_se = math.sqrt(v_c / n_control + v_t / n_treatment)
        if self.formula == "pooled":
            share = (n_control * p_c + n_treatment * p_t) / (n_control + n_treatment)
            null_se = math.sqrt(share * (1.0 - share) * (1.0 / n_control + 1.0 / n_treatment))
        return Errors(shift, se, null_se, math.inf, both_tails=self.formula == "arcsine")


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per unit of exposure, such as hints per session: counts that vary at least as Poisson's do.

    rate: events per one of exposure. exposure: of one unit, on average; exposure_cv: how much it varies.
    dispersion: of the rate between units (negative binomial: variance mu + dispersion mu^2; 0 is Poisson).
    The effect is a difference of rates; variances follow each arm's own rate.
    """

    rate: float
    exposure: float = 1.0
    exposure_cv: float = 0.0
    dispersion: float = 0.0

    def __post_init__(self) -> None:
        _require_above_zero("rate", self.rate)
        _require_above_zero("exposure", self.exposure)
        for name, value in (("exposure_cv", self.exposure_cv), ("dispersion", self.dispersion)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be at least 0, got {value!r}")

    @property
    def paired(self) -> bool:
        return False

    @property
    def scale(self) -> float:
        return self.rate

    def variance(self, rate: float) -> float:
        """Variance of one unit's linearised value at this rate.

        A unit's (events - rate x exposure) / mean exposure, with events of mean rate x exposure.
        """
        return rate / self.exposure + self.dispersion * rate**2 * (1.0 + self.exposure_cv**2)

    def check(self, effect: float) -> None:
        _require_effect(effect)
        if self.rate + effect <= 0.0:
            raise ValueError(f"rate + effect must be above 0, got {self.rate!r} and effect {effect!r}")

    def room(self, sign: float) -> float:
        return math.inf if sign > 0 else self.rate * (1.0 - 1e-12)

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        parts = self.variance(self.rate) / n_control, self.variance(self.rate + effect) / n_treatment
        df = n_control + n_treatment - 2.0
        if min(n_control, n_treatment) > 1.0:
            df = welch_df(parts[0], n_control - 1.0, parts[1], n_treatment - 1.0)
        se = math.sqrt(sum(parts))
        return Errors(effect, se, se, df, both_tails=True)


@dataclass(frozen=True, slots=True)
class PairedMean:
    """The mean difference within pairs: one unit under both arms, or twins of a matching. n counts pairs."""

    sd_difference: float

    def __post_init__(self) -> None:
        _require_above_zero("sd_difference", self.sd_difference)

    @classmethod
    def of_correlation(cls, sd: float, correlation: float) -> PairedMean:
        """Pairs whose two values have this spread each and this correlation."""
        if not -1.0 <= correlation < 1.0:
            raise ValueError(f"correlation must lie between -1 and below 1, got {correlation!r}")
        return cls(sd * math.sqrt(2.0 * (1.0 - correlation)))

    @property
    def paired(self) -> bool:
        return True

    @property
    def scale(self) -> float:
        return self.sd_difference

    def check(self, effect: float) -> None:
        _require_effect(effect)

    def room(self, sign: float) -> float:
        return math.inf

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        pairs = min(n_control, n_treatment)
        se = self.sd_difference / math.sqrt(pairs)
        return Errors(effect, se, se, pairs - 1.0, both_tails=True)


@dataclass(frozen=True, slots=True)
class PairedProportion:
    """Shares compared within pairs (McNemar). The effect is the difference of the two shares.

    discordant: share of pairs whose two members differ; it stays as it is under the effect.
    """

    discordant: float

    def __post_init__(self) -> None:
        if not 0.0 < self.discordant <= 1.0:
            raise ValueError(f"discordant must be a share above 0 and at most 1, got {self.discordant!r}")

    @property
    def paired(self) -> bool:
        return True

    @property
    def scale(self) -> float:
        return 1.0

    def check(self, effect: float) -> None:
        _require_effect(effect)
        if abs(effect) >= self.discordant:
            raise ValueError(
                f"effect must be smaller than the share of discordant pairs {self.discordant!r}, "
                f"got {effect!r}"
            )

    def room(self, sign: float) -> float:
        return self.discordant * (1.0 - 1e-12)

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        # Connor (1987): the test's variance holds under no effect, the estimate's under the planned one.
        pairs = min(n_control, n_treatment)
        se = math.sqrt(max(self.discordant - effect**2, 0.0) / pairs)
        return Errors(effect, se, math.sqrt(self.discordant / pairs), math.inf, both_tails=False)
