"""The rules by which a readout is decided, as people write them into a brief."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier

Beaten = Literal["zero", "threshold"]
Basis = Literal["point", "interval"]


class IntegrityRule(Noun):
    """May effects be believed? A failed check always stops at `investigate`.

    `stop_on_warnings` names checks whose warning stops too, `must_be_known` those that must not stay unknown.
    """

    kind: Literal["integrity"]
    off: bool = False
    stop_on_warnings: tuple[Identifier, ...] = ()
    must_be_known: tuple[Identifier, ...] = ()


class GuardrailsRule(Noun):
    """Does every guardrail hold? A breached one always stops or rolls back.

    `underpowered`: what follows when the primary passes and a guardrail is neither breached nor shown to
    hold. `say` ships and says so, where the harm seen lies within the margin; a guardrail that could not be
    estimated at all extends even then.
    """

    kind: Literal["guardrails"]
    off: bool = False
    underpowered: Literal["extend", "iterate", "stop", "say"] = "extend"


class PrimaryRule(Noun):
    """Is the primary metric better by enough?

    It must always be above zero by its interval. With `must_beat: threshold` it must also reach the practical
    threshold: `by` its estimate (`point`) or with its whole `interval`.
    """

    kind: Literal["primary"]
    off: bool = False
    must_beat: Beaten = "zero"
    by: Basis = "point"


class LastingRule(Noun):
    """Does the effect last?

    It does not where it is shown to fall with time since assignment (by the slope over weeks; where that is
    not known by the days after the brief's novelty split against those before, else by the last complete week
    against the first; two-sided, at the brief's alpha) and no gain is shown in the end, which is both where
    it settles and the last week that half of the units have had: then `fading` follows. `must_be_shown` asks
    more: a gain where it settles, by its interval, else `extend`.
    """

    kind: Literal["lasting"]
    off: bool = False
    fading: Literal["iterate", "extend", "stop"] = "iterate"
    must_be_shown: bool = False


class EquityRule(Noun):
    """Is no declared segment below its floor?

    `by: interval` asks that each segment's whole interval lies at or above its floor. `unknown`: what follows
    where some segment is too small to tell. `scoped_shipping` lets declared segments be shipped alone.
    """

    kind: Literal["equity"]
    off: bool = False
    by: Basis = "point"
    unknown: Literal["say", "extend"] = "say"
    scoped_shipping: bool = False


class ValueRule(Noun):
    """Is shipping worth it? `surely_gain` asks it of the whole interval, `not_lose` of the expected value."""

    kind: Literal["value"]
    off: bool = False
    must: Literal["not_lose", "surely_gain"] = "not_lose"
    at_least: float = Field(default=0.0, ge=0)


class LockRule(Noun):
    """Does the brief stand as it was locked? One that does not is always investigated."""

    kind: Literal["lock"]
    off: bool = False


Rule = Annotated[
    IntegrityRule | GuardrailsRule | PrimaryRule | LastingRule | EquityRule | ValueRule | LockRule,
    Field(discriminator="kind"),
]
ORDER = ("integrity", "guardrails", "primary", "lasting", "equity", "value", "lock")
# The only rules that a brief may do without: what they ask is a gain forgone, not a harm.
MAY_BE_OFF = ("lasting", "value")


class DecisionRules(Noun):
    """By which rules the readout is decided.

    Rules are asked in the order integrity, guardrails, primary, lasting, equity, value, lock. `rules` takes
    the place of the defaults, kind by kind; a kind that is not named keeps its default. The other three
    fields say the commonest settings shortly: what the primary must beat, by what, and whether declared
    segments may be shipped alone.
    """

    primary_must_beat: Beaten = "zero"
    threshold_basis: Basis = "point"
    scoped_shipping: bool = False
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kinds = [rule.kind for rule in self.rules]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"rules: each kind is named once; named twice: {', '.join(twice)}")
        if kinds != sorted(kinds, key=ORDER.index):
            raise ValueError(
                f"rules are asked in the order {', '.join(ORDER)}: write them so, got {', '.join(kinds)}"
            )
        for rule in self.rules:
            if rule.off and rule.kind not in MAY_BE_OFF:
                raise ValueError(
                    f"rules: {rule.kind} cannot be switched off; only {' and '.join(MAY_BE_OFF)} can"
                )
        for short, said, named in (
            ("primary_must_beat", self.primary_must_beat, self.primary.must_beat),
            ("threshold_basis", self.threshold_basis, self.primary.by),
            ("scoped_shipping", self.scoped_shipping, self.equity.scoped_shipping),
        ):
            if said not in (named, DecisionRules.model_fields[short].default):
                raise ValueError(f"{short} is {said} and rules say {named}: say it in one place")
        return self

    @property
    def integrity(self) -> IntegrityRule:
        """The integrity rule in force."""
        return next(
            (rule for rule in self.rules if isinstance(rule, IntegrityRule)), IntegrityRule(kind="integrity")
        )

    @property
    def guardrails(self) -> GuardrailsRule:
        """The guardrail rule in force."""
        return next(
            (rule for rule in self.rules if isinstance(rule, GuardrailsRule)),
            GuardrailsRule(kind="guardrails"),
        )

    @property
    def primary(self) -> PrimaryRule:
        """The rule of the primary metric in force."""
        short = PrimaryRule(kind="primary", must_beat=self.primary_must_beat, by=self.threshold_basis)
        return next((rule for rule in self.rules if isinstance(rule, PrimaryRule)), short)

    @property
    def lasting(self) -> LastingRule:
        """The rule on lasting effects in force."""
        return next(
            (rule for rule in self.rules if isinstance(rule, LastingRule)), LastingRule(kind="lasting")
        )

    @property
    def equity(self) -> EquityRule:
        """The equity rule in force."""
        short = EquityRule(kind="equity", scoped_shipping=self.scoped_shipping)
        return next((rule for rule in self.rules if isinstance(rule, EquityRule)), short)

    @property
    def value(self) -> ValueRule:
        """The value rule in force."""
        return next((rule for rule in self.rules if isinstance(rule, ValueRule)), ValueRule(kind="value"))
