"""polars, lazy and streaming: one sort, shifts and cumulative sums, then groups and joins."""

from __future__ import annotations

import polars as pl

from bench.peers.inputs import COLUMNS, EXPERIMENT, GAP_MINUTES, Inputs

_CODES = {"experiment_assigned": 0, "tutor_session_ended": 2}


def run(given: Inputs) -> None:
    """Write sessions, then measures by unit and day."""
    events = pl.scan_parquet(list(given.files), hive_partitioning=False).select(COLUMNS)
    sessions(events).sink_parquet(given.sessions, compression="zstd", engine="streaming")
    unit_days(events, pl.scan_parquet(given.sessions), given).sink_parquet(
        given.unit_days, compression="zstd", engine="streaming"
    )


def sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    """Events sorted once; a bout begins where the row before is cut off; bouts are glued over midnight."""
    gap = pl.duration(minutes=GAP_MINUTES)
    name, at, learner, day = (
        pl.col("event_name"),
        pl.col("occurred_at"),
        pl.col("learner_key"),
        pl.col("event_date"),
    )
    ordered = (
        events.select(
            "learner_key", "event_date", "occurred_at", "event_id", "event_name", "objective_changed",
            "device_handover", "learning_objective_id",
        )
        .with_columns(name.replace_strict(_CODES, default=1, return_dtype=pl.Int8).alias("place"))
        .sort("learner_key", "occurred_at", "place", "event_id")
    )  # fmt: skip
    first = (learner != learner.shift()).fill_null(True) | (day != day.shift()).fill_null(True)
    cut = (at != at.shift()) & (
        (pl.col("place").shift() == 2)
        | pl.col("device_handover").shift()
        | pl.col("objective_changed")
        | (at - at.shift() > gap)
    )
    bouts = (
        ordered.with_columns(first.alias("first"), (first | cut.fill_null(False)).cum_sum().alias("bout"))
        .group_by("bout")
        .agg(
            learner.min(),
            day.min(),
            pl.col("first").any(),
            at.min().alias("started_at"),
            at.max().alias("ended_at"),
            pl.len().cast(pl.Int64).alias("n_events"),
            (name == "tutor_turn_submitted").sum().cast(pl.Int64).alias("n_turns"),
            at.filter(pl.col("place") == 2).max().alias("last_end"),
            at.filter(pl.col("device_handover")).max().alias("last_handover"),
            pl.col("learning_objective_id").max().alias("objective"),
        )
        .sort("bout")
    )
    ended, objective = pl.col("ended_at").shift(), pl.col("objective")
    glued = (
        pl.col("first")
        & (learner == learner.shift())
        & (pl.col("started_at") - ended <= gap)
        & (pl.col("last_end").shift() != ended).fill_null(True)
        & (pl.col("last_handover").shift() != ended).fill_null(True)
        & (objective == objective.shift()).fill_null(True)
    ).fill_null(False)
    return (
        bouts.with_columns((~glued).cum_sum().alias("session"))
        .group_by("session")
        .agg(
            learner.min(),
            day.min(),
            pl.col("started_at").min(),
            pl.col("ended_at").max(),
            pl.col("n_events").sum(),
            pl.col("n_turns").sum(),
        )
        .drop("session")
    )


def unit_days(events: pl.LazyFrame, sessions: pl.LazyFrame, given: Inputs) -> pl.LazyFrame:
    """Events and sessions since each unit's first assignment, grouped by unit and day."""
    at = pl.col("occurred_at")
    units = (
        events.filter(
            (pl.col("event_name") == "experiment_assigned")
            & (pl.col("experiment") == EXPERIMENT)
            & (pl.col("experiment_version") == 1)
            & (pl.col("unit_type") == "learner")
            & (at >= given.first)
            & (at < given.end)
        )
        .group_by("learner_key")
        .agg(at.min().alias("assigned_at"))
    )
    over_events = (
        events.filter(at < given.end)
        .join(units, on="learner_key")
        .filter(at >= pl.col("assigned_at"))
        .group_by("learner_key", "event_date")
        .agg(*measures())
    )
    minutes = (pl.col("ended_at") - pl.col("started_at")).dt.total_microseconds() / 60_000_000
    over_sessions = (
        sessions.filter(pl.col("event_date") < given.end_day)
        .join(units, on="learner_key")
        .filter(
            (pl.col("event_date") >= pl.col("assigned_at").dt.date())
            & (pl.col("ended_at") >= pl.col("assigned_at"))
        )
        .group_by("learner_key", "event_date")
        .agg(
            pl.len().cast(pl.Int64).alias("sessions"),
            pl.col("n_turns").sum().alias("session_turns"),
            minutes.sum().alias("session_minutes"),
        )
    )
    return over_events.join(
        over_sessions, on=["learner_key", "event_date"], how="full", coalesce=True
    ).rename({"learner_key": "unit_key"})


def measures() -> list[pl.Expr]:
    """The pinned measures over events, written by hand."""
    name, correct = pl.col("event_name"), pl.col("correct")
    answered, shown, felt = (
        name == "answer_attempted",
        name == "tutor_turn_response_shown",
        name == "feedback_given",
    )
    flagged, grounded = name == "safety_flagged", pl.col("grounded")
    counts = {
        "mastery_reached": answered & pl.col("mastery"),
        "answers_attempted": answered & correct.is_not_null(),
        "answers_correct": answered & correct,
        "answers_revealed": answered & correct.is_not_null() & pl.col("answer_revealed"),
        "hints_requested": name == "hint_requested",
        "turns_submitted": name == "tutor_turn_submitted",
        "responses_shown": shown,
        "responses_grounding_checked": shown & grounded.is_not_null(),
        "responses_ungrounded": shown & ~grounded,
        "feedback_with_thumb": felt & pl.col("helpful").is_not_null(),
        "feedback_helpful": felt & pl.col("helpful"),
        "tickets_opened": name == "support_ticket_opened",
        "safety_incidents": flagged,
        "safety_incidents_s1": flagged & (pl.col("severity") == "S1"),
        "goals_reached": name == "goal_reached",
    }
    return [
        *(condition.sum().cast(pl.Int64).alias(measure) for measure, condition in counts.items()),
        pl.col("learning_objective_id").filter(answered).drop_nulls().unique().alias("objectives_practised"),
        pl.col("latency_ms").filter(shown).drop_nulls().alias("response_latency_ms"),
        pl.col("cost_usd").filter(shown).sum().alias("response_cost_usd"),
        pl.col("retry_count").filter(shown).sum().cast(pl.Float64).alias("response_retries"),
    ]
