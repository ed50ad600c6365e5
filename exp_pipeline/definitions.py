"""The code location that Dagster loads: everything of `defs`, put together."""

from __future__ import annotations

import dagster as dg

from exp_pipeline.defs import after, automation, due, expiry, late_data, mirroring, ramp, watching
from exp_pipeline.defs.graph import ASSETS
from exp_pipeline.defs.resources import resources

defs = dg.Definitions(
    assets=[*ASSETS, watching.incidents],
    jobs=[
        automation.daily_facts,
        automation.experiment_readout,
        automation.warehouse_refresh,
        expiry.debug_envelope_expiry,
        expiry.retention,
        mirroring.mirror,
        watching.planning,
        ramp.ramps_and_flags,
        after.drift_watch,
        after.experiment_durability,
        after.holdout_measurement,
        after.week_in_review,
    ],
    schedules=[
        automation.every_day,
        expiry.expire_texts_daily,
        expiry.retention_daily,
        ramp.ramp_tick,
        after.drift_daily,
        after.holdout_on_mondays,
        after.weekly_on_mondays,
    ],
    sensors=[
        automation.briefs,
        late_data.late_data,
        due.due_readouts,
        due.due_durability,
        mirroring.mirror_behind,
        *watching.SENSORS,
    ],
    resources=resources(),
    executor=dg.in_process_executor,
)
