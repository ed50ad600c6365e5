"""pandas: everything in memory, sorted once, shifted, summed up, grouped and merged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.peers.inputs import COLUMNS, EXPERIMENT, GAP_MINUTES, Inputs


def run(given: Inputs) -> None:
    """Write sessions, then measures by unit and day."""
    events = pd.read_parquet([str(path) for path in given.files], columns=list(COLUMNS), partitioning=None)
    found = sessions(events)
    found.to_parquet(given.sessions, compression="zstd", index=False)
    unit_days(events, found, given).to_parquet(given.unit_days, compression="zstd", index=False)


def sessions(events: Any) -> Any:
    """Events sorted once; a bout begins where the row before is cut off; bouts are glued over midnight."""
    gap = pd.Timedelta(minutes=GAP_MINUTES)
    wanted = [
        "learner_key", "event_date", "occurred_at", "event_id", "event_name", "objective_changed",
        "device_handover", "learning_objective_id",
    ]  # fmt: skip
    rows = events[wanted].copy()
    rows["place"] = np.select(
        [rows["event_name"] == "experiment_assigned", rows["event_name"] == "tutor_session_ended"], [0, 2], 1
    )
    rows = rows.sort_values(["learner_key", "occurred_at", "place", "event_id"], ignore_index=True)
    before = rows[["learner_key", "event_date", "occurred_at", "place", "device_handover"]].shift()
    first = (rows["learner_key"] != before["learner_key"]) | (rows["event_date"] != before["event_date"])
    cut = (rows["occurred_at"] != before["occurred_at"]) & (
        (before["place"] == 2)
        | (before["device_handover"] == True)  # noqa: E712
        | rows["objective_changed"]
        | (rows["occurred_at"] - before["occurred_at"] > gap)
    )
    rows["first"] = first
    rows["bout"] = (first | cut).cumsum()
    rows["is_turn"] = rows["event_name"] == "tutor_turn_submitted"
    rows["end_at"] = rows["occurred_at"].where(rows["place"] == 2)
    rows["handover_at"] = rows["occurred_at"].where(rows["device_handover"])
    bouts = rows.groupby("bout", sort=True).agg(
        learner_key=("learner_key", "min"),
        event_date=("event_date", "first"),
        first=("first", "any"),
        started_at=("occurred_at", "min"),
        ended_at=("occurred_at", "max"),
        n_events=("bout", "size"),
        n_turns=("is_turn", "sum"),
        last_end=("end_at", "max"),
        last_handover=("handover_at", "max"),
        objective=("learning_objective_id", "first"),
    )
    last = bouts.shift()
    named = bouts["objective"].notna() & last["objective"].notna()
    glued = (
        bouts["first"]
        & (bouts["learner_key"] == last["learner_key"])
        & (bouts["started_at"] - last["ended_at"] <= gap)
        & (last["last_end"] != last["ended_at"])
        & (last["last_handover"] != last["ended_at"])
        & ~(named & (bouts["objective"] != last["objective"]))
    )
    bouts["session"] = (~glued).cumsum()
    return bouts.groupby("session").agg(
        learner_key=("learner_key", "min"),
        event_date=("event_date", "first"),
        started_at=("started_at", "min"),
        ended_at=("ended_at", "max"),
        n_events=("n_events", "sum"),
        n_turns=("n_turns", "sum"),
    )


def unit_days(events: Any, sessions: Any, given: Inputs) -> Any:
    """Events and sessions since each unit's first assignment, grouped by unit and day."""
    at = events["occurred_at"]
    assigned = events[
        (events["event_name"] == "experiment_assigned")
        & (events["experiment"] == EXPERIMENT)
        & (events["experiment_version"] == 1)
        & (events["unit_type"] == "learner")
        & (at >= given.first)
        & (at < given.end)
    ]
    units = assigned.groupby("learner_key")["occurred_at"].min().rename("assigned_at").reset_index()
    rows = events[at < given.end].merge(units, on="learner_key")
    rows = rows[rows["occurred_at"] >= rows["assigned_at"]]
    key = ["learner_key", "event_date"]
    marked = pd.DataFrame({**{name: rows[name] for name in key}, **_counts(rows)})
    over_events = marked.groupby(key).sum()
    shown = rows[rows["event_name"] == "tutor_turn_response_shown"]
    sums = shown.groupby(key)[["cost_usd", "retry_count"]].sum()
    over_events = over_events.join(
        sums.rename(columns={"cost_usd": "response_cost_usd", "retry_count": "response_retries"})
    )
    latencies = shown[shown["latency_ms"].notna()].groupby(key)["latency_ms"].agg(list)
    answered = rows[(rows["event_name"] == "answer_attempted") & rows["learning_objective_id"].notna()]
    objectives = answered.drop_duplicates([*key, "learning_objective_id"]).groupby(key)
    over_events = over_events.join(latencies.rename("response_latency_ms"))
    over_events = over_events.join(
        objectives["learning_objective_id"].agg(list).rename("objectives_practised")
    )
    mine = sessions.merge(units, on="learner_key")
    mine = mine[
        (mine["event_date"] >= mine["assigned_at"].dt.date)
        & (mine["ended_at"] >= mine["assigned_at"])
        & (mine["event_date"] < given.end_day)
    ]
    minutes = (mine["ended_at"] - mine["started_at"]) / pd.Timedelta(minutes=1)
    over_sessions = (
        mine.assign(minutes=minutes)
        .groupby(key)
        .agg(
            sessions=("n_turns", "size"), session_turns=("n_turns", "sum"), session_minutes=("minutes", "sum")
        )
    )
    whole = over_events.join(over_sessions, how="outer").reset_index()
    return whole.rename(columns={"learner_key": "unit_key"})


def _counts(rows: Any) -> dict[str, Any]:
    name, correct = rows["event_name"], rows["correct"]
    answered, shown, felt = (
        name == "answer_attempted",
        name == "tutor_turn_response_shown",
        name == "feedback_given",
    )
    flagged = name == "safety_flagged"
    return {
        "mastery_reached": answered & (rows["mastery"] == True),  # noqa: E712
        "answers_attempted": answered & correct.notna(),
        "answers_correct": answered & (correct == True),  # noqa: E712
        "answers_revealed": answered & correct.notna() & (rows["answer_revealed"] == True),  # noqa: E712
        "hints_requested": name == "hint_requested",
        "turns_submitted": name == "tutor_turn_submitted",
        "responses_shown": shown,
        "responses_grounding_checked": shown & rows["grounded"].notna(),
        "responses_ungrounded": shown & (rows["grounded"] == False),  # noqa: E712
        "feedback_with_thumb": felt & rows["helpful"].notna(),
        "feedback_helpful": felt & (rows["helpful"] == True),  # noqa: E712
        "tickets_opened": name == "support_ticket_opened",
        "safety_incidents": flagged,
        "safety_incidents_s1": flagged & (rows["severity"] == "S1"),
        "goals_reached": name == "goal_reached",
    }
