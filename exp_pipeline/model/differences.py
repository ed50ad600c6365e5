"""What two readouts of one experiment differ in, and why."""

from __future__ import annotations

from datetime import date

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import InputChange, Movement, Outcome


class FieldChange(Noun):
    """One field that two things hold by different values; None where one of them lacks it."""

    field: str
    before: str | None
    now: str | None


class ReadoutIdentity(Noun):
    """Which readout is meant: its data, definitions and code, and whether it hides effects."""

    snapshot: str
    as_of: date
    brief_digest: str
    metrics_digest: str
    code_version: str
    run_id: str
    blinded: bool


class VerdictChange(Noun):
    """A check, guardrail or rule with another verdict; None where one of the readouts does not have it.

    `evidence` is the newer readout's, empty where it would tell of a hidden effect.
    """

    name: str
    title: str
    arm: str | None = None
    before: str | None
    now: str | None
    evidence: str = ""


class OutcomeChange(Noun):
    """What one readout recommends and another does not; `arm` is None for the experiment as a whole."""

    arm: str | None
    before: Outcome | None
    now: Outcome | None


class CountChange(Noun):
    """Units of one arm in both readouts."""

    arm: str
    assigned_before: int
    assigned_now: int
    analysed_before: int
    analysed_now: int


class ReadoutDifference(Noun):
    """Everything in which two readouts of one experiment differ, causes first.

    inputs: changed inputs by cause and day. brief, metrics: fields of definitions. standing: lock, recorded
    unblindings, horizon. movements: whole-experiment estimates of primary, secondary and guardrail metrics;
    while `effects_hidden_because` says something, guardrails only, and no rules. appeared, vanished:
    estimates that only one of them has.
    """

    experiment: str
    before: ReadoutIdentity
    now: ReadoutIdentity
    effects_hidden_because: str
    inputs: tuple[InputChange, ...]
    brief: tuple[FieldChange, ...]
    metrics: tuple[FieldChange, ...]
    standing: tuple[FieldChange, ...]
    counts: tuple[CountChange, ...]
    movements: tuple[Movement, ...]
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    integrity: tuple[VerdictChange, ...]
    guardrails: tuple[VerdictChange, ...]
    rules: tuple[VerdictChange, ...]
    outcomes: tuple[OutcomeChange, ...]
    minimum_cell: int

    @property
    def nothing(self) -> bool:
        """Whether neither an input nor a number nor a verdict differs."""
        moved = any(one.moved for one in self.movements)
        parts = (
            self.inputs, self.brief, self.metrics, self.standing, self.counts, self.appeared, self.vanished,
            self.integrity, self.guardrails, self.rules, self.outcomes,
        )  # fmt: skip
        return not moved and not any(parts)


class Recomputation(Noun):
    """A stored readout against what today's code computes from the same snapshot, field by field.

    `differences` leaves out the code's own name; `damaged` names files of the snapshot that are not as they
    were written.
    """

    experiment: str
    snapshot: str
    stored_by: str
    computed_by: str
    stored_digest: str
    same_bytes: bool
    differences: tuple[FieldChange, ...]
    damaged: tuple[str, ...]
