"""Sessions: events cut into bouts, bouts glued over midnight; and the order of events that this relies on."""

from __future__ import annotations

import time
from datetime import date, timedelta

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, event_day, midnight
from exp_pipeline.steps.day_files import side_by_side
from exp_pipeline.store.engine import quote
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform import queries

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


def bouts_text(*, sorted_input: bool) -> str:
    """The query from events to bouts; for a sorted file, in its one-pass form."""
    query = queries.load("bouts")
    return queries.query_text(queries.without_order(queries.streaming(query)) if sorted_input else query)


def used(text: str, parameters: dict[str, object]) -> dict[str, object]:
    """Those of the parameters that a query names."""
    return {name: value for name, value in parameters.items() if f"${name}" in text}


def build_sessions(bench: Workbench, window: Window) -> list[Written]:
    """Cut the events of each day of the window into bouts, and glue these into the sessions that began there.

    A session ends at most 12 hours after it starts, so one day on either side is enough; where a learner's
    activity has no cut in all of the day before, as many days before it are looked at as it takes. The result
    for a day depends on events only, not on what was materialized before.
    """
    return side_by_side(_sessions_of, bench, window, piece_days=len(window.days()))


class _Bouts:
    """The bouts of single days, cut once each and kept while the days around them are glued."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._text = bouts_text(sorted_input=True)
        self._built: set[str] = set()

    def of(self, day: date) -> str | None:
        """Name of the table with a day's bouts; None where the day has no events."""
        name = f"bouts_{day:%Y%m%d}"
        if name in self._built:
            return name
        manifest = self._bench.lake.manifest("events", event_day(day))
        if manifest is None:
            return None
        self._bench.read("events", "events", [manifest])
        parameters = session_parameters(self._bench) | {"file_rows": manifest.rows}
        self._bench.engine.build(name, self._text, used(self._text, parameters))
        self._built.add(name)
        return name

    def forget(self, before: date | None = None) -> None:
        """Drop the bouts of the days before one day, or all."""
        for name in sorted(self._built):
            if before is None or name < f"bouts_{before:%Y%m%d}":
                self._bench.engine.drop(name)
                self._built.discard(name)


def _sessions_of(bench: Workbench, window: Window) -> list[Written]:
    bouts, written = _Bouts(bench), []
    for day in window.days():
        if bench.lake.manifest("events", event_day(day)) is None:
            continue
        written.append(_sessions_on(bench, day, bouts))
        bouts.forget(before=day)
    bouts.forget()
    return written


def _sessions_on(bench: Workbench, day: date, bouts: _Bouts) -> Written:
    engine, started = bench.engine, time.monotonic()
    parameters = session_parameters(bench)
    look = Window.of(day, day).widened(1, 1)
    text = queries.query_text(queries.load("chains"))
    while True:
        tables = [name for one in look.days() if (name := bouts.of(one)) is not None]
        engine.build(
            "edge_bouts", " union all ".join(f"select * from {quote(name)} where at_edge" for name in tables)
        )
        engine.build("chains", text, used(text, parameters))
        if not _uncut_since_start(bench, look, day):
            break
        look = look.widened(7, 0)
    (long,) = engine.row(
        "select count(*) from chains where date_diff('microsecond', started_at, ended_at) > $cap_microseconds",
        {"cap_microseconds": parameters["cap_microseconds"]},
    )
    manifests = bench.lake.manifests("events", [event_day(one) for one in look.days()]) if long else ()
    bench.read("events", "events", manifests)
    text = queries.query_text(queries.load("cap_starts"))
    engine.build("cap_starts", text, used(text, parameters))
    own = bouts.of(day)
    engine.alias("bouts", own or "")
    known = {one for one in look.widened(0, 1).days() if bench.lake.manifest("events", event_day(one))}
    text = queries.query_text(queries.load("sessions"))
    everything = {
        **parameters,
        "window_start": midnight(day),
        "window_end": midnight(day + DAY),
        # What followed a session late on one of these days is not known yet.
        "last_days": [one for one in look.days() if one + DAY not in known],
    }
    columns = ", ".join(quote(name) for name in table_columns("sessions"))
    path = bench.lake.staging("sessions", event_day(day))
    rows = engine.write(f"select {columns} from ({text})", path, used(text, everything))
    engine.connection.execute("drop view bouts")
    for name in ("edge_bouts", "chains", "cap_starts"):
        engine.drop(name)
    return bench.commit("sessions", event_day(day), [NewFile(path, "all", rows)], started)


def _uncut_since_start(bench: Workbench, look: Window, day: date) -> bool:
    """Whether a chain that reaches the day began with the days looked at, and so perhaps before them."""
    if bench.lake.manifest("events", event_day(look.first - DAY)) is None:
        return False
    gap = timedelta(minutes=bench.catalog.policies.session.gap_minutes)
    (reaching,) = bench.engine.row(
        "select count(*) from chains where started_at <= $edge and ended_at >= $start",
        {"edge": midnight(look.first) + gap, "start": midnight(day)},
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
