"""Sessions: events cut into bouts, bouts glued over midnight; and the order of events that this relies on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from exp_pipeline.steps.context import DAY, Window, Workbench, Written, day_of, event_day, midnight
from exp_pipeline.steps.day_files import chunks, side_by_side, write_days
from exp_pipeline.steps.origins import also_reads, recording
from exp_pipeline.store.engine import quote
from exp_pipeline.store.lake import Manifest
from exp_pipeline.transform import queries
from exp_pipeline.transform.session_rules import without_objectives

_US = timedelta(microseconds=1)


def session_parameters(bench: Workbench) -> dict[str, object]:
    """The session policy as query parameters."""
    policy = bench.catalog.policies.session
    return {
        "gap_microseconds": timedelta(minutes=policy.gap_minutes) // _US,
        "cap_microseconds": timedelta(hours=policy.cap_hours) // _US,
        "cut_on_objective": policy.cut_on_objective,
        "cut_on_shared_device": policy.cut_on_shared_device,
    }


def uncut_sources(bench: Workbench) -> tuple[str, ...]:
    """The sources whose sessions no change of objective cuts, whatever the policy says."""
    return tuple(one.name for one in bench.catalog.sources if not one.session.cut_on_objective)


def bouts_text(*, sorted_input: bool, uncut: Sequence[str] = ()) -> str:
    """The query from events to bouts; for a sorted file, in its one-pass form."""
    query = without_objectives(queries.load("bouts"), uncut)
    return queries.query_text(queries.without_order(queries.streaming(query)) if sorted_input else query)


def build_sessions(bench: Workbench, window: Window) -> list[Written]:
    """Cut the events of each day of the window into bouts, and glue these into the sessions that began there.

    A session ends at most 12 hours after it starts, so one day on either side is enough; where a learner's
    activity has no cut in all of the day before, as many days before it are looked at as it takes. The result
    for a day depends on events only, not on what was materialized before.
    """
    bench = recording(bench, ("sessions",), window)
    return side_by_side(_sessions_of, bench, window, piece_days=len(window.days()))


class _Bouts:
    """The bouts of runs of days, cut once each and kept while the days around them are glued."""

    def __init__(self, bench: Workbench, window: Window) -> None:
        self._bench = bench
        self._uncut = uncut_sources(bench)
        self.chunks = chunks(bench, window.widened(1, 1))
        self._built: set[int] = set()
        self._edged: set[int] = set()

    def days(self, number: int) -> tuple[date, ...]:
        """The days of a run, in order."""
        return tuple(day_of(manifest.partition) for manifest in self.chunks[number])

    def of(self, number: int) -> str:
        """Name of the table with the bouts of a run of days."""
        name = f"bouts_{number}"
        if number not in self._built:
            manifests = self.chunks[number]
            self._bench.read("events", "events", manifests)
            rows = sum(manifest.rows for manifest in manifests)
            parameters = session_parameters(self._bench) | {"file_rows": rows}
            uncut = [one for one in self._uncut if any(_may_hold(manifest, one) for manifest in manifests)]
            text = bouts_text(sorted_input=True, uncut=uncut)
            self._bench.engine.build(name, text, queries.used_in(text, parameters))
            self._built.add(number)
        return name

    def edges(self, number: int) -> str:
        """Name of the table with those of a run's bouts that stand at the edges of its days."""
        name = f"edges_{number}"
        if number not in self._edged:
            engine = self._bench.engine
            engine.build(name, f"select * from {quote(self.of(number))} where at_edge")
            self._edged.add(number)
        return name

    def forget(self, before: int) -> None:
        """Drop the bouts of the runs of days before one; of the run just before it, edges stay."""
        for number in sorted(self._built):
            if number < before:
                self._bench.engine.drop(f"bouts_{number}")
                self._built.discard(number)
        for number in sorted(self._edged):
            if number < before - 1:
                self._bench.engine.drop(f"edges_{number}")
                self._edged.discard(number)

    def lengthen(self, days: int) -> int:
        """Have more days before the first; returns by how much the numbers of all runs have grown."""
        first = self.days(0)[0]
        self.forget(len(self.chunks) + 2)
        more = chunks(self._bench, Window(first - DAY * days, first))
        self.chunks = [*more, *self.chunks]
        return len(more)


def _may_hold(manifest: Manifest, source: str) -> bool:
    """Whether a day's events may come from a source: its manifest counts rows by source, where it says so."""
    counts = manifest.facts.get("by_source")
    return not isinstance(counts, Mapping) or source in counts


def _sessions_of(bench: Workbench, window: Window) -> list[Written]:
    bouts, written = _Bouts(bench, window), []
    number = 0
    while number < len(bouts.chunks):
        days = [day for day in bouts.days(number) if window.first <= day < window.end]
        if days:
            before = len(bouts.chunks)
            written += _sessions_on(bench, days, bouts, number)
            number += len(bouts.chunks) - before
        number += 1
        bouts.forget(before=number)
    bouts.forget(before=number + 2)
    return written


def _sessions_on(bench: Workbench, days: Sequence[date], bouts: _Bouts, number: int) -> list[Written]:
    """The sessions of the days of one run, glued with the runs before and after it."""
    engine, started = bench.engine, time.monotonic()
    parameters = session_parameters(bench)
    text = queries.query_text(queries.load("chains"))
    reach = 1
    while True:
        around = range(max(0, number - reach), min(len(bouts.chunks), number + 2))
        edges = (f"select * from {quote(bouts.edges(one))}" for one in around)
        engine.build("edge_bouts", " union all ".join(edges))
        engine.build("chains", text, queries.used_in(text, parameters))
        first = bouts.days(around[0])[0]
        if not _uncut_since_start(bench, first, days[0]):
            break
        if around[0] == 0:
            number += bouts.lengthen(7)
        reach += 1
    look = Window.of(first, bouts.days(around[-1])[-1])
    (long,) = engine.row(
        "select count(*) from chains "
        "where date_diff('microsecond', started_at, ended_at) > $cap_microseconds",
        {"cap_microseconds": parameters["cap_microseconds"]},
    )
    manifests = bench.lake.manifests("events", [event_day(one) for one in look.days()]) if long else ()
    bench.read("events", "events", manifests)
    text = queries.query_text(queries.load("cap_starts"))
    engine.build("cap_starts", text, queries.used_in(text, parameters))
    engine.alias("bouts", bouts.of(number))
    known = {one for one in look.widened(0, 1).days() if bench.lake.manifest("events", event_day(one))}
    text = queries.query_text(queries.load("sessions"))
    everything = {
        **parameters,
        "window_start": midnight(days[0]),
        "window_end": midnight(days[-1] + DAY),
        # What followed a session late on one of these days is not known yet.
        "last_days": [one for one in look.days() if one + DAY not in known],
    }
    engine.build("built_sessions", text, queries.used_in(text, everything))
    engine.connection.execute("drop view bouts")
    bench = also_reads(bench, "sessions", _looked_back(bench, days))
    written = write_days(bench, "sessions", "built_sessions", days, started)
    for name in ("edge_bouts", "chains", "cap_starts", "built_sessions"):
        engine.drop(name)
    return written


def _looked_back(bench: Workbench, days: Sequence[date]) -> dict[date, tuple[date, ...]]:
    """The days before the day before that a day's sessions depend on: chains without a cut reach that far."""
    gap = timedelta(minutes=bench.catalog.policies.session.gap_minutes)
    long = bench.engine.connection.execute(
        "select started_at, ended_at from chains where ended_at - started_at >= $most",
        {"most": DAY - gap},
    ).fetchall()
    found: dict[date, tuple[date, ...]] = {}
    for started_at, ended_at in long:
        first = (started_at - gap).date()
        for day in days:
            if first < day - DAY and ended_at + gap >= midnight(day):
                before = (day - DAY - first).days
                found[day] = max(
                    found.get(day, ()), tuple(day - DAY * (n + 2) for n in range(before)), key=len
                )
    return found


def _uncut_since_start(bench: Workbench, first: date, day: date) -> bool:
    """Whether a chain that reaches the day began with the first day looked at, and so perhaps before it."""
    if bench.lake.manifest("events", event_day(first - DAY)) is None:
        return False
    gap = timedelta(minutes=bench.catalog.policies.session.gap_minutes)
    (reaching,) = bench.engine.row(
        "select count(*) from chains where started_at <= $edge and ended_at >= $start",
        {"edge": midnight(first) + gap, "start": midnight(day)},
    )
    return bool(reaching)


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
