"""Sessions: events cut into bouts, bouts glued over midnight; and the order of events that this relies on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.behaviour.bout_tables import (
    CONTEXT,
    OBJECTIVE,
    BoutTable,
    codes_of,
    events_of,
    read_bouts,
)
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, day_of, event_day
from exp_pipeline.steps.ingest.day_files import side_by_side
from exp_pipeline.steps.origins import also_reads, recording
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.store.row_files import RowFile, arrow_column, joined
from exp_pipeline.store.sorted_runs import Learners, equal_parts
from exp_pipeline.transform import queries
from exp_pipeline.transform.bouts import SessionRules, one_after_another
from exp_pipeline.transform.chains import Chains, EdgeBouts, glued
from exp_pipeline.transform.columns import Numbers
from exp_pipeline.transform.session_rules import without_objectives
from exp_pipeline.transform.sessions import (
    END_REASONS,
    Sessions,
    cut_at_cap,
    end_reasons,
    in_order,
    of_bouts,
    of_chains,
)
from exp_pipeline.transform.stretches import days_of

if TYPE_CHECKING:
    import pyarrow as pa

_US = timedelta(microseconds=1)
_EPOCH = date(1970, 1, 1)
# So many days back, the bouts at the edges of days are kept: a run of events may have begun there.
_EDGE_DAYS = 7
# Days with more events than this are worked on in parts of their learners, so that they need no more memory.
_TOGETHER = 1_000_000
# The files of all days of a window are then open at once, and the rows that wait in each for a row group.
_GROUP_ROWS = 20_480
# A session's text columns: the texts of bouts that they are.
_TEXTS = {"producer_session_id" if name == "session_id" else name: name for name in CONTEXT}


def session_rules(bench: Workbench) -> SessionRules:
    """The session policy, its times in microseconds."""
    policy = bench.catalog.policies.session
    return SessionRules(
        gap=timedelta(minutes=policy.gap_minutes) // _US,
        cap=timedelta(hours=policy.cap_hours) // _US,
        on_objective=policy.cut_on_objective,
        on_device=policy.cut_on_shared_device,
    )


def uncut_sources(bench: Workbench) -> tuple[str, ...]:
    """The sources whose sessions no change of objective cuts, whatever the policy says."""
    return tuple(one.name for one in bench.catalog.sources if not one.session.cut_on_objective)


def bouts_query(uncut: Sequence[str] = ()) -> exp.Expr:
    """The portable query from events to bouts; it needs no sorted file."""
    return without_objectives(queries.load("bouts"), uncut)


def build_sessions(bench: Workbench, window: Window) -> list[Written]:
    """Cut the events of each day of the window into bouts, and glue these into the sessions that began there.

    A session ends at most 12 hours after it starts, so one day on either side is enough; where a learner's
    activity has no cut in all of the day before, as many days before it are looked at as it takes. The result
    for a day depends on events only, not on what was materialized before.
    """
    bench = recording(bench, ("sessions",), window)
    return side_by_side(_sessions_of, bench, window, piece_days=len(window.days()))


def _sessions_of(bench: Workbench, window: Window) -> list[Written]:
    manifests = bench.lake.manifests("events", [event_day(day) for day in window.days()])
    most = max((manifest.rows for manifest in manifests), default=0)
    with ExitStack() as open_files:
        files = {day_of(one.partition): _DayFile(bench, one.partition, open_files) for one in manifests}
        for learners in equal_parts(-(-most // _TOGETHER)) if most else [Learners()]:
            days = _Days(bench, learners)
            for day in window.days():
                if day in files:
                    _add_sessions(bench, day, days, files[day])
                days.forget(day)
        return [file.commit(bench, day) for day, file in files.items()]


class _DayFile:
    """The file of a day's sessions, which those of its learners are added to part by part."""

    def __init__(self, bench: Workbench, partition: str, open_files: ExitStack) -> None:
        self._started, self._partition = time.monotonic(), partition
        self.kinds = table_columns("sessions")
        self._path = open_files.enter_context(bench.staged("sessions", partition))
        self._open = ExitStack()
        open_files.push(self._open)
        coded = (*_TEXTS, "objective", "end_reason")
        self.rows = self._open.enter_context(RowFile(self._path, self.kinds, coded, group_rows=_GROUP_ROWS))
        # How many days before the day before it the sessions depend on.
        self.back = 0

    def commit(self, bench: Workbench, day: date) -> Written:
        """Make the file the day's sessions."""
        self._open.close()
        before = {day: [day - DAY * (number + 2) for number in range(self.back)]} if self.back else {}
        bench = also_reads(bench, "sessions", before)
        file = NewFile(self._path, "all", self.rows.rows)
        return bench.commit("sessions", self._partition, [file], self._started)


class _Days:
    """The bouts of some learners' days, cut once each and kept while the days around them are glued."""

    def __init__(self, bench: Workbench, learners: Learners) -> None:
        self._bench, self._learners = bench, learners
        self._rules, self._uncut = session_rules(bench), uncut_sources(bench)
        self._types = table_columns("events")
        self._whole: dict[date, BoutTable] = {}
        self._edges: dict[date, BoutTable] = {}

    def of(self, day: date) -> BoutTable:
        """All bouts of a day; none where there are no events."""
        if day not in self._whole:
            self._whole[day] = self._read(day)
        return self._whole[day]

    def edges(self, day: date, *, passed: bool) -> BoutTable:
        """Those of a day's bouts that stand at its edges; of a day that has passed, the rest is not kept."""
        if day not in self._edges:
            whole = self._whole.get(day) or (self._read(day) if passed else self.of(day))
            self._edges[day] = whole.some(whole.bouts.at_edge)
        return self._edges[day]

    def _read(self, day: date) -> BoutTable:
        manifests = self._bench.lake.manifests("events", [event_day(day)])
        uncut = [one for one in self._uncut if any(_may_hold(manifest, one) for manifest in manifests)]
        paths = self._bench.lake.paths(manifests)
        return read_bouts(paths, self._types, self._rules, uncut, self._learners)

    def forget(self, day: date) -> None:
        """Drop the bouts of a day, and the edges of one long past."""
        self._whole.pop(day, None)
        self._edges.pop(day - DAY * _EDGE_DAYS, None)


def _may_hold(manifest: Manifest, source: str) -> bool:
    """Whether a day's events may come from a source: its manifest counts rows by source, where it says so."""
    counts = manifest.facts.get("by_source")
    return not isinstance(counts, Mapping) or source in counts


class _Around:
    """Bouts of a day, those at the edges of the days around it, and the chains that these make."""

    def __init__(self, days: _Days, day: date, first: date, rules: SessionRules) -> None:
        self.own = days.of(day)
        looked = [first + DAY * number for number in range((day + DAY - first).days + 1)]
        edges = [days.edges(one, passed=one < day) for one in looked]
        # Places: the day's own bouts, then those at the edges of all days.
        self.texts: pa.Table = joined([self.own.texts, *(one.texts for one in edges)])
        self.glued = one_after_another([one.bouts for one in edges])
        self._rules = rules

    @cached_property
    def chains(self) -> Chains:
        """What the bouts at the edges make."""
        first = len(self.own.bouts.first)
        objective = codes_of(self.texts.column(OBJECTIVE).slice(first))
        session = codes_of(self.texts.column("session_id").slice(first))
        return glued(EdgeBouts(self.glued, objective, session.codes), self._rules)


def _add_sessions(bench: Workbench, day: date, days: _Days, file: _DayFile) -> None:
    """Add the sessions of a day, glued with the days before and after it, to its file."""
    rules = session_rules(bench)
    sessions, around = _sessions_in(bench, day, days, rules)
    file.back = max(file.back, _looked_back(around.chains, day, rules))
    # What followed a session late on one of these days is not known yet.
    last_days = [
        (one - _EPOCH).days
        for one in (day, day + DAY)
        if bench.lake.manifest("events", event_day(one + DAY)) is None
    ]
    columns = _columns(bench.engine, sessions, around.texts, file.kinds)
    columns["end_reason"] = _coded(end_reasons(sessions, rules, last_days), END_REASONS)
    file.rows.add(columns, len(sessions.started_at))


def _sessions_in(bench: Workbench, day: date, days: _Days, rules: SessionRules) -> tuple[Sessions, _Around]:
    """The sessions of a day, in order, and what they were made from."""
    first = day - DAY
    around = _Around(days, day, first, rules)
    while _uncut_since_start(bench, around.chains, first, day, rules):
        first -= DAY
        around = _Around(days, day, first, rules)
    bouts, chains = around.own.bouts, around.chains
    whole = of_chains(chains, len(bouts.first))
    long = whole.ended_at - whole.started_at > rules.cap
    alone = np.flatnonzero(~bouts.at_edge)
    parts = [of_bouts(bouts.at(alone), alone), whole.at(~long)]
    if long.any():
        looked = Window.of(first, day + DAY).days()
        manifests = bench.lake.manifests("events", [event_day(one) for one in looked])
        learners = np.unique(whole.learner_key[long])
        events = events_of(bench.lake.paths(manifests), table_columns("events"), learners)
        parts.append(cut_at_cap(whole.at(long), events, rules.cap))
    midnight = (day - _EPOCH) // _US
    return in_order(parts, midnight, midnight + DAY // _US), around


def _columns(
    engine: Engine, sessions: Sessions, texts: pa.Table, kinds: Mapping[str, str]
) -> dict[str, pa.Array]:
    """The columns of the sessions table but for the reason of the end."""
    import pyarrow as pa

    opened_by = pa.array(sessions.opened_by)
    told = {name: texts.column(of).chunk(0).take(opened_by) for name, of in _TEXTS.items()}
    named_by = pa.array(sessions.named_by, mask=sessions.named_by < 0)
    told["objective"] = texts.column(OBJECTIVE).chunk(0).take(named_by)
    named = np.asarray(told["producer_session_id"].is_valid())
    numbers = {
        "learner_key": Numbers(sessions.learner_key),
        "event_date": Numbers(days_of(sessions.started_at)),
        "started_at": Numbers(sessions.started_at),
        "ended_at": Numbers(sessions.ended_at),
        "minutes": Numbers((sessions.ended_at - sessions.started_at) / 60_000_000.0),
        "n_events": Numbers(sessions.n_events),
        "n_turns": Numbers(sessions.n_turns),
        "n_responses": Numbers(sessions.n_responses),
        "producer_session_agrees": Numbers(sessions.producer_changes == 0, named),
    }
    columns = {name: arrow_column(column, kinds[name]) for name, column in numbers.items()}
    return {**columns, **told, "session_id": _ids(engine, told["learner_id"], sessions)}


def _ids(engine: Engine, learner_id: pa.DictionaryArray, sessions: Sessions) -> pa.Array:
    """Names of sessions: a digest of who and when, as text."""
    import pyarrow as pa

    engine.connection.register(
        "started", pa.table({"learner_id": learner_id, "started_at": pa.array(sessions.started_at)})
    )
    try:
        query = "select md5(learner_id || '|' || cast(started_at as varchar)) as session_id from started"
        return engine.connection.sql(query).to_arrow_table().column("session_id").combine_chunks()
    finally:
        engine.connection.unregister("started")


def _coded(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names, pa.string()))


def _looked_back(chains: Chains, day: date, rules: SessionRules) -> int:
    """How many days before the day before a day's sessions depend on: chains without a cut reach that far."""
    midnight = (day - _EPOCH) // _US
    reaching = (chains.ended_at + rules.gap >= midnight) & (chains.started_at < midnight)
    first_at = chains.started_at[reaching]
    if not len(first_at):
        return 0
    first = _EPOCH + timedelta(days=int(days_of(first_at - rules.gap).min()))
    return max((day - DAY - first).days, 0)


def _uncut_since_start(bench: Workbench, chains: Chains, first: date, day: date, rules: SessionRules) -> bool:
    """Whether a chain that reaches the day began with the first day looked at, and so perhaps before it."""
    if bench.lake.manifest("events", event_day(first - DAY)) is None:
        return False
    edge, midnight = (first - _EPOCH) // _US + rules.gap, (day - _EPOCH) // _US
    return bool(np.any((chains.started_at <= edge) & (chains.ended_at >= midnight)))


def check_sorted(bench: Workbench, day: date) -> int:
    """How many events of a day are out of the order that the one-pass form relies on (0 when all is well)."""
    manifest = bench.lake.manifest("events", event_day(day))
    if manifest is None:
        return 0
    bench.read("events_in_file_order", "events", [manifest])
    (misplaced,) = bench.engine.row(
        "select count(*) from (select place, lag(place) over () as before from (select "
        "(learner_key, occurred_at, case event_name when 'experiment_assigned' then 0 "
        "when 'tutor_session_ended' then 2 else 1 end, event_id) as place from events_in_file_order)) "
        "where before > place"
    )
    return int(misplaced)
