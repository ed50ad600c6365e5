"""What the data say of assignment and exposure themselves, before any outcome is looked at."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from exp_pipeline.model.base import Noun

# Why a logged unit is not where the brief's own rules put it.
Fault = Literal["held_out", "outside_layer", "outside_traffic", "other_arm"]
FAULTS: tuple[Fault, ...] = ("held_out", "outside_layer", "outside_traffic", "other_arm")
# Why a unit was not compared at all.
Uncompared = Literal["computed", "no_bucket", "other_scheme", "never_logged"]
UNCOMPARED: tuple[Uncompared, ...] = ("computed", "no_bucket", "other_scheme", "never_logged")


class FidelityGroup(Noun):
    """Units of one value of one column (platform, app_version, assigned_date) that were compared."""

    column: Literal["platform", "app_version", "assigned_date"]
    value: str
    checked: int = Field(ge=0)
    mismatched: int = Field(ge=0)


class Fidelity(Noun):
    """How the logged arms stand against the brief's own rules, in randomised units.

    `faults` counts by reason, each unit once; `not_compared` counts units left out by reason; `layer_unknown`
    those whose bucket of the layer or holdout was never drawn, or by another salt; `stage_unknown` those with
    a ramp stage that tells no share of traffic, taken at the brief's. `groups` are those with mismatches, the
    worst of each column first.
    """

    checked: int = Field(ge=0)
    mismatched: int = Field(ge=0)
    faults: dict[Fault, int] = Field(default_factory=dict)
    not_compared: dict[Uncompared, int] = Field(default_factory=dict)
    layer_unknown: int = Field(default=0, ge=0)
    stage_unknown: int = Field(default=0, ge=0)
    groups: tuple[FidelityGroup, ...] = ()

    def suspects(self) -> tuple[FidelityGroup, ...]:
        """Groups that hold four fifths of the mismatches on less than half of the units compared."""
        return tuple(
            group
            for group in self.groups
            if group.mismatched >= 0.8 * self.mismatched and group.checked < 0.5 * self.checked
        )


class StrayDay(Noun):
    """Learners exposed on one day and surface who were in no arm."""

    event_date: date
    surface: str
    units: int = Field(ge=1)


class Exposures(Noun):
    """How exposure stands against assignment, in learners.

    `never_exposed` counts assigned learners by arm; `not_assigned` are exposed learners in no arm,
    `other_arm` those exposed to an arm that is not theirs, `before_assignment` those first exposed before
    they were assigned. `stray_days` are the days and surfaces with most learners in no arm, worst first.
    """

    assigned: int = Field(ge=0)
    exposed: int = Field(ge=0)
    never_exposed: dict[str, int] = Field(default_factory=dict)
    not_assigned: int = Field(default=0, ge=0)
    other_arm: int = Field(default=0, ge=0)
    before_assignment: int = Field(default=0, ge=0)
    exposures: int = Field(default=0, ge=0)
    surfaces: dict[str, int] = Field(default_factory=dict)
    stray_days: tuple[StrayDay, ...] = ()


class EqualArms(Noun):
    """What an earlier experiment with equal arms (an A/A) found.

    failed: its integrity checks that failed. p_value: that its primary metric does not differ between the
    arms, all comparisons together; None where it could not be estimated. unreadable: what to do where its
    stored readout is not what was sealed; it then has no result.
    """

    experiment: str
    snapshot: str
    ended: date
    units: int = Field(ge=0)
    failed: tuple[str, ...] = ()
    p_value: float | None = Field(default=None, ge=0.0, le=1.0)
    unreadable: str = ""
