"""What a readout is computed from, in one frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import EqualArms, Exposures, Fidelity
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.ramps import Stop
from exp_pipeline.model.readout import ExclusionCount, LockState, Provenance, Unblinding


@dataclass(frozen=True, slots=True)
class ReadoutInputs:
    """Which facts does a readout need, and nothing else?

    mad: one row a unit (see `frame_of_units` for its columns). days: unit_id, event_date and one additive
    column a measure, after assignment; None for tables from elsewhere. measures: how those columns are to be
    read. weeks: unit_id, week since assignment and every metric's parts in it. as_of: the last complete event
    day in the data. fidelity_*: units whose logged arm was compared with the brief's own hash, and how many
    differed; `fidelity` and `exposures` say more of both, where the data hold it; `assigned` (one row per
    randomised unit with its fault) and `doses` (exposures by arm, surface and day) tell where. receipts: arm,
    field, value, event_date, platform, responses. completeness: arm, event_name, events, units, and
    completeness_days its events by day, platform and version. late_share: share of events that arrived after
    their day was closed; late_days: event_date, late, landed. equal_arms: what A/A experiments before this
    one found, newest first. stops: when its ramp had every unit in control. history_units_per_day: units that
    entered a day before the experiment.
    """

    brief: Brief
    metrics: Mapping[str, Metric]
    mad: pl.DataFrame
    days: pl.DataFrame | None
    as_of: date
    lock: LockState
    provenance: Provenance
    fidelity_checked: int | None = None
    fidelity_mismatched: int | None = None
    receipts: pl.DataFrame | None = None
    completeness: pl.DataFrame | None = None
    late_share: float | None = None
    exclusions: tuple[ExclusionCount, ...] = ()
    unblinded_because: str = ""
    unblindings: tuple[Unblinding, ...] = ()
    history_units_per_day: float | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)
    weeks: pl.DataFrame | None = None
    fidelity: Fidelity | None = None
    exposures: Exposures | None = None
    assigned: pl.DataFrame | None = None
    doses: pl.DataFrame | None = None
    completeness_days: pl.DataFrame | None = None
    late_days: pl.DataFrame | None = None
    equal_arms: tuple[EqualArms, ...] = ()
    stops: tuple[Stop, ...] = ()

    def __post_init__(self) -> None:
        missing = [name for name in self.brief.metric_names() if name not in self.metrics]
        if missing:
            known = ", ".join(sorted(self.metrics)) or "none"
            raise ValueError(f"metrics lacks {', '.join(missing)}, which the brief names; it holds: {known}")
