"""The warehouse: one small file of documented views and tables, for analysts and BI tools.

What is hidden and what is not. Before an experiment's planned look or horizon its readout holds no primary
or secondary effect, so no table here can show one, and view `unit_days` carries no arm, so that nobody
meets an effect by grouping it. That guards against a glance, not against intent: `units` says who is in
which arm (sample ratios and coverage need it), so whoever joins it to `unit_days`, `sessions` or `events`,
or reads the lake itself, can compute an effect early. Whoever must not be able to needs no access to this
file or to the lake.

How fresh it is. A view names the Parquet files that were current when the file was built: every query of
one connection, over all views, sees that one state. A replaced Parquet file stays readable for the lake's
grace time (an hour after its replacement, and on until its partition is written again), so the daily job
builds the warehouse last. A query that meets a file that is gone fails with an error that names it; it
never returns fewer rows. Open connections keep the file they opened: one process gets the new one after it
closed them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from exp_pipeline.contracts.table_columns import column_docs, table_columns, table_description
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.readout import Estimate, Readout
from exp_pipeline.steps.assignment.exposure import WHOLE, build_units, unit_columns
from exp_pipeline.steps.behaviour.learner_days import event_measures, session_measures
from exp_pipeline.steps.context import Workbench, Written
from exp_pipeline.steps.experiments.shown_datasets import UNIT_WEEKS, dataset_columns, unit_weeks
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.warehouse import (
    Connect,
    Shown,
    ShownColumn,
    ShownTable,
    ShownView,
    Value,
    lake_view,
    replace_warehouse,
)
from exp_pipeline.transform import measures as measure_sql

LAKE_VIEWS = (
    "events", "quarantine", "exclusions", "learner_days", "sessions", "turns",
    "roster", "roster_quarantine", "enrollments", "content",
    "assignments", "exposures", "units", "unit_days", "srm_daily", "guardrails_daily", "data_quality",
)  # fmt: skip
VIEWS = (*LAKE_VIEWS, UNIT_WEEKS)
ABOUT = {
    "hidden": "Before the planned look or horizon no table holds a primary or secondary effect, and "
    "unit_days and unit_weeks have no arm. This guards against a glance: joining units to them, or reading "
    "the lake, tells.",
    "state": "Views name the Parquet files that were current when this file was built, so all show one "
    "state. An open connection keeps it; close all connections of the process to see a newer one.",
    "replaced files": "A file of the lake stays readable for at least an hour after its replacement. A query "
    "that names a file that is gone fails with an IO error: build the warehouse again and reconnect.",
}


def _columns(*rows: tuple[str, str, str]) -> tuple[ShownColumn, ...]:
    return tuple(ShownColumn(*row) for row in rows)


_OF = (
    ("experiment", "VARCHAR", "Experiment."),
    ("snapshot", "VARCHAR", "Snapshot of the dataset that it was computed from."),
)
EXPERIMENTS = _columns(
    ("experiment", "VARCHAR", "Experiment."),
    ("version", "BIGINT", "Version of the experiment."),
    ("title", "VARCHAR", "What the brief calls it."),
    ("owner", "VARCHAR", "Who owns it."),
    ("start_day", "DATE", "First day (UTC)."),
    ("end_day", "DATE", "Horizon: the day after its last (UTC)."),
    ("primary_metric", "VARCHAR", "Metric that decides."),
    ("snapshot", "VARCHAR", "Current snapshot of its dataset; null where none was taken."),
    ("as_of", "DATE", "Last day in the data of the readout; null where there is no readout."),
    (
        "horizon_reached",
        "BOOLEAN",
        "Whether data are complete to the horizon; null where there is no readout.",
    ),
    ("blinded", "BOOLEAN", "Whether effects are still hidden; null where there is no readout."),
    ("blinding_reason", "VARCHAR", "Why they are hidden or shown; null where there is no readout."),
    (
        "brief_changes",
        "BIGINT",
        "Analysis fields of the brief changed after its lock; null without a readout.",
    ),
    ("outcome", "VARCHAR", "Decision for the experiment; null where there is no readout."),
    ("summary", "VARCHAR", "The decision in words; null where there is no readout."),
    ("note", "VARCHAR", "Why there is no readout; null where there is one."),
)
ESTIMATES = _columns(
    ("kind", "VARCHAR", "main, unadjusted (the same effect without covariates) or segment."),
    *_OF,
    ("metric", "VARCHAR", "Metric."),
    ("title", "VARCHAR", "What the metric is called."),
    ("role", "VARCHAR", "primary, secondary, guardrail or counter (watched against gaming)."),
    (
        "display",
        "VARCHAR",
        "Unit of its values: share (0.02 is 2 points), number, ms, usd or minutes.",
    ),
    ("direction", "VARCHAR", "Whether an increase or a decrease is good."),
    ("arm", "VARCHAR", "Treatment arm."),
    ("control", "VARCHAR", "Arm it is compared with."),
    ("segment", "VARCHAR", "Column that cuts the units; null for all units."),
    ("segment_value", "VARCHAR", "Value of that column; null for all units."),
    ("window_days", "BIGINT", "Days since assignment that count (days); null for all."),
    ("method", "VARCHAR", "How it was estimated."),
    ("n_control", "BIGINT", "Units of the control arm (units)."),
    ("n_treatment", "BIGINT", "Units of the treatment arm (units)."),
    ("clusters", "BIGINT", "Randomised clusters; null where units were randomised."),
    ("waiting", "BIGINT", "Units whose window is not over (units)."),
    ("estimable", "BOOLEAN", "Whether it could be estimated; if not, every number after this is null."),
    ("reason", "VARCHAR", "Why it could not be estimated, else empty."),
    ("mean_control", "DOUBLE", "Value in the control arm (metric's unit)."),
    ("mean_treatment", "DOUBLE", "Value in the treatment arm (metric's unit)."),
    ("absolute", "DOUBLE", "Treatment less control (metric's unit)."),
    ("se", "DOUBLE", "Standard error of `absolute` (metric's unit)."),
    ("df", "DOUBLE", "Degrees of freedom; null for a normal interval."),
    ("level", "DOUBLE", "Confidence level of the intervals."),
    ("ci_lower", "DOUBLE", "Lower bound of `absolute` (metric's unit)."),
    ("ci_upper", "DOUBLE", "Upper bound of `absolute` (metric's unit)."),
    ("p_value", "DOUBLE", "Two-sided p-value of no effect."),
    ("p_adjusted", "DOUBLE", "p-value adjusted over its family."),
    ("family", "VARCHAR", "Family over which p-values are adjusted."),
    ("relative", "DOUBLE", "Effect as a share of the control value."),
    ("relative_ci_lower", "DOUBLE", "Lower bound of `relative`."),
    ("relative_ci_upper", "DOUBLE", "Upper bound of `relative`."),
    ("relative_method", "VARCHAR", "How the relative interval was made."),
    ("standardised", "DOUBLE", "Effect in standard deviations of the control arm."),
    ("variance_reduction", "DOUBLE", "Share of variance that covariates took away."),
    ("always_valid_lower", "DOUBLE", "Lower bound that holds at every look (metric's unit)."),
    ("always_valid_upper", "DOUBLE", "Upper bound that holds at every look (metric's unit)."),
    ("look", "BIGINT", "Which planned look this is, from 1; null where alpha is not spent over looks."),
    ("look_rule", "VARCHAR", "Spending function of the planned looks; null where there is none."),
    ("look_lower", "DOUBLE", "Lower bound that holds over the planned looks (metric's unit)."),
    ("look_upper", "DOUBLE", "Upper bound that holds over the planned looks (metric's unit)."),
    ("look_p_value", "DOUBLE", "Repeated p-value of no effect."),
    ("look_alpha_spent", "DOUBLE", "Alpha spent up to this look."),
    ("stopped_estimate", "DOUBLE", "Median-unbiased effect once looks have ended (metric's unit)."),
    ("stopped_lower", "DOUBLE", "Lower bound of `stopped_estimate` (metric's unit)."),
    ("stopped_upper", "DOUBLE", "Upper bound of `stopped_estimate` (metric's unit)."),
    ("confirmatory", "BOOLEAN", "Whether it was declared before the start."),
    ("adjusted", "BOOLEAN", "Whether covariates were used."),
    ("flags", "VARCHAR[]", "What to keep in mind."),
)
VERDICTS = _columns(
    *_OF,
    ("name", "VARCHAR", "Integrity check."),
    ("title", "VARCHAR", "What the check is called."),
    ("verdict", "VARCHAR", "pass, warn, fail or cannot_tell; one fail hides every effect."),
    ("evidence", "VARCHAR", "What was found, in words."),
)
DECISIONS = _columns(
    *_OF,
    ("arm", "VARCHAR", "Treatment arm; null for the experiment as a whole."),
    ("outcome", "VARCHAR", "ship, ship_scoped, extend, iterate, pause, stop, roll_back or investigate."),
    ("because", "VARCHAR", "Why."),
)
GUARDRAILS = _columns(
    *_OF,
    ("metric", "VARCHAR", "Metric that guards."),
    ("title", "VARCHAR", "What the metric is called."),
    ("arm", "VARCHAR", "Treatment arm."),
    ("status", "VARCHAR", "pass, fail, underpowered or cannot_tell."),
    ("basis", "VARCHAR", "Whether the interval or the point was judged."),
    ("margin", "DOUBLE", "Harm that is still accepted."),
    ("margin_kind", "VARCHAR", "absolute (metric's unit) or relative (share of control)."),
    ("display", "VARCHAR", "Unit of the metric."),
    ("harm", "DOUBLE", "Estimated harm, positive is worse (margin's unit); null where it cannot be told."),
    (
        "harm_bound",
        "DOUBLE",
        "Upper bound of the harm, one-sided (margin's unit); null where unknown.",
    ),
    ("p_value", "DOUBLE", "p-value of harm beyond the margin; null where it cannot be told."),
    ("kill_action", "VARCHAR", "What the kill rule asks for; null where there is none."),
    ("kill_triggered", "BOOLEAN", "Whether the kill rule acts."),
    ("reason", "VARCHAR", "Why it has this status."),
)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where one experiment stands: brief, current snapshot, its readout or why there is none."""

    name: str
    brief: Brief | None
    snapshot: str | None
    readout: Readout | None
    note: str | None


def build_warehouse(bench: Workbench, connect: Connect) -> Written:
    """Build `data/marts/warehouse.duckdb` from the lake's files and each experiment's readout.

    `connect` opens a database file for writing, as a context manager that closes it. The live file is
    replaced in one step and never opened, so analysts may keep it open. One that shows the same content
    already is kept as it is. `rows` counts the rows of its tables; `facts` name views, tables, and the
    experiments without a readout.
    """
    started = time.monotonic()
    write_units(bench)
    found: list[_Standing] = []
    tables: list[ShownTable] = []

    def gather() -> Shown:
        found[:] = _standings(bench)
        current = [(one.name, one.snapshot) for one in found]
        tables[:] = [*_tables(found), dataset_columns(bench, current)]
        return Shown((*_views(bench), unit_weeks(bench, current)), tuple(tables))

    replaced = replace_warehouse(bench.home.warehouse, gather, connect)
    return Written(
        table="warehouse",
        partition=WHOLE,
        rows=sum(len(table.rows) for table in tables),
        bytes=replaced.bytes,
        seconds=round(time.monotonic() - started, 3),
        digest=replaced.digest,
        facts={
            "changed": replaced.changed,
            "views": list(VIEWS),
            "tables": {table.name: len(table.rows) for table in tables},
            "without_readout": {one.name: one.note for one in found if one.note is not None},
        },
    )


def write_units(bench: Workbench) -> Written:
    """Write who is in which arm of each experiment to the lake; one row per learner in it."""
    started = time.monotonic()
    build_units(bench)
    path = bench.lake.staging("units", WHOLE)
    rows = bench.engine.write(
        f"select {unit_columns()} from units order by experiment, version, unit_key, unit_id", path
    )
    for name in ("units", "experiments", "experiment_days"):
        bench.engine.drop(name)
    return bench.commit("units", WHOLE, [NewFile(path, "all", rows)], started)


def current_readout(bench: Workbench, experiment: str, snapshot: str) -> Readout | None:
    """The readout of a snapshot, or None where none was made. Raises StoreError where its file is damaged."""
    folder = bench.home.readouts / Marts(Path()).folder(experiment, snapshot).relative_to("mad")
    path = folder / "readout.json"
    try:
        encoded = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        readout = Readout.model_validate_json(encoded)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(
            f"{path} is damaged ({place}: {first['msg']}); materialize that readout again"
        ) from trouble
    if (readout.experiment, readout.provenance.snapshot) != (experiment, snapshot):
        raise StoreError(
            f"{path} speaks of {readout.experiment}, snapshot {readout.provenance.snapshot}; "
            "materialize that readout again"
        )
    return readout


def _standings(bench: Workbench) -> list[_Standing]:
    marts = Marts(bench.home.marts)
    standings = []
    for name in sorted(bench.catalog.briefs.keys() | set(marts.experiments())):
        snapshot, readout, note = None, None, None
        try:
            snapshot = marts.current(name)
            if snapshot is None:
                note = "no snapshot of its dataset was taken yet"
            else:
                readout = current_readout(bench, name, snapshot)
                note = None if readout is not None else f"snapshot {snapshot} has not been read out yet"
        except StoreError as trouble:
            # The other experiments are shown all the same; this one says what is wrong with it.
            note = str(trouble)
        standings.append(_Standing(name, bench.catalog.briefs.get(name), snapshot, readout, note))
    return standings


def _views(bench: Workbench) -> Iterable[ShownView]:
    over_events, over_sessions = event_measures(bench), session_measures(bench)
    more = {"learner_days": over_events, "unit_days": (*over_events, *over_sessions)}
    for table in LAKE_VIEWS:
        columns = [ShownColumn(doc.name, doc.sql_type, doc.description) for doc in column_docs(table)]
        columns += _measure_columns(more.get(table, ()), table)
        yield lake_view(bench.lake, table, table_description(table), columns)


def _measure_columns(measures: Sequence[Measure], table: str) -> list[ShownColumn]:
    fixed = table_columns(table)
    return [
        ShownColumn(measure.name, measure_sql.column_type(measure), measure.description)
        for measure in measure_sql.in_order(measures)
        if measure.name not in fixed
    ]


def _tables(standings: Sequence[_Standing]) -> list[ShownTable]:
    readouts = [one.readout for one in standings if one.readout is not None]
    experiments = [_experiment_row(one) for one in standings]
    return [
        ShownTable("experiments", "One experiment as it stands now.", EXPERIMENTS, tuple(experiments)),
        ShownTable(
            "estimates",
            "One effect of one arm for one metric (and segment); only guardrails while blinded.",
            ESTIMATES,
            tuple(row for readout in readouts for row in _estimate_rows(readout)),
        ),
        ShownTable(
            "verdicts",
            "One integrity check of one experiment.",
            VERDICTS,
            tuple(
                (
                    readout.experiment,
                    readout.provenance.snapshot,
                    check.name,
                    check.title,
                    check.verdict,
                    check.evidence,
                )
                for readout in readouts
                for check in readout.integrity
            ),
        ),
        ShownTable(
            "decisions",
            "One decision: for an experiment as a whole, or for one of its arms.",
            DECISIONS,
            tuple(row for readout in readouts for row in _decision_rows(readout)),
        ),
        ShownTable(
            "guardrails",
            "One guardrail in one treatment arm.",
            GUARDRAILS,
            tuple(
                (
                    readout.experiment,
                    readout.provenance.snapshot,
                    *(getattr(guardrail, column.name) for column in GUARDRAILS[2:]),
                )
                for readout in readouts
                for guardrail in readout.guardrails
            ),
        ),
        ShownTable(
            "about",
            "What to know before reading this file.",
            _columns(("topic", "VARCHAR", "Topic."), ("words", "VARCHAR", "What holds.")),
            tuple(ABOUT.items()),
        ),
    ]


def _experiment_row(one: _Standing) -> tuple[Value, ...]:
    readout = one.readout
    brief = readout.brief if readout is not None else one.brief
    described: tuple[Value, ...] = (None,) * 6
    if brief is not None:
        described = (brief.version, brief.title, brief.owner, brief.start, brief.end, brief.primary)
    found: tuple[Value, ...] = (None,) * 7
    if readout is not None:
        found = (
            readout.as_of, readout.horizon_reached, readout.blinded, readout.blinding_reason,
            len(readout.lock.changes), readout.decision.outcome, readout.decision.summary,
        )  # fmt: skip
    return (one.name, *described, one.snapshot, *found, one.note)


def _estimate_rows(readout: Readout) -> Iterable[tuple[Value, ...]]:
    parts: tuple[tuple[str, tuple[Estimate, ...]], ...] = (
        ("main", readout.estimates),
        ("unadjusted", readout.unadjusted),
        ("segment", readout.segments),
    )
    for kind, estimates in parts:
        for estimate in estimates:
            # The readout leaves these out itself; a fault there must not show here what is hidden.
            if readout.blinded and (estimate.role != "guardrail" or kind != "main"):
                continue
            yield (kind, *(getattr(estimate, column.name) for column in ESTIMATES[1:]))


def _decision_rows(readout: Readout) -> Iterable[tuple[Value, ...]]:
    of = (readout.experiment, readout.provenance.snapshot)
    yield (*of, None, readout.decision.outcome, readout.decision.summary)
    for arm in readout.decision.arms:
        yield (*of, arm.arm, arm.outcome, arm.because)
