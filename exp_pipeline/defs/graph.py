"""The asset graph: every asset of the pipeline, in the order of the chain."""

from exp_pipeline.defs import after, analysis, days, ingest, integrity, planning, ramp

ASSETS = [
    ingest.landed_events,
    ingest.conformed,
    days.learner_days,
    days.sessions,
    days.turns,
    days.roster_read,
    days.assigned,
    days.identities,
    days.unit_days,
    integrity.judged,
    ramp.ramp_state,
    ramp.flags,
    analysis.brief,
    planning.planned,
    planning.assignment_table,
    planning.dry_run,
    analysis.mad,
    analysis.integrity,
    analysis.estimates,
    analysis.decided,
    after.drift_judged,
    after.durability_measured,
    after.holdout_measured,
    after.week_reviewed,
    after.warehouse,
]
