"""The global holdout, measured each week: what did everything that was shipped do together?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import polars as pl

from exp_pipeline.analysis.after import holdout as analysis
from exp_pipeline.analysis.after.durability import missing_days
from exp_pipeline.analysis.after.holdout import HELD_OUT, SERVED, Stretch
from exp_pipeline.analysis.after.weekly import WEEK, monday_of
from exp_pipeline.model.after import HoldoutMeasurement, HoldoutReading
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.metrics import Measure, Metric, definitions
from exp_pipeline.report import numbers
from exp_pipeline.report.holdout import reading_told
from exp_pipeline.steps.behaviour.learner_days import event_measures, session_measures
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.ingest.holdout_units import DRAWS, TABLE
from exp_pipeline.steps.operating.incidents import open_incidents, record_findings
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote
from exp_pipeline.store.files import one_at_a_time, write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Manifest
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import queries

FOLDER = "after"
WRONG_SHARE = (
    "another share of units is held out than was declared: no effect is read before that is explained"
)


@dataclass(frozen=True, slots=True)
class HoldoutRound:
    """What was measured, a holdout each, and how many incidents that changed."""

    measured: tuple[HoldoutMeasurement, ...]
    changed: int


def holdout_file(home: Home, layer: str) -> Path:
    """Where the weeks of a holdout stand."""
    return home.marts / FOLDER / f"holdout-{layer}.json"


def holdout_weeks(home: Home, layer: str) -> tuple[HoldoutMeasurement, ...]:
    """Every week that a holdout was measured for, oldest first; nothing before the first."""
    path = holdout_file(home, layer)
    rows = json.loads(path.read_bytes()) if path.is_file() else []
    return tuple(HoldoutMeasurement.model_validate(one) for one in rows)


def holdouts_of_week(home: Home, layers: Iterable[str], week: str) -> tuple[HoldoutMeasurement, ...]:
    """What was measured at the end of one ISO week, by holdout."""
    return tuple(one for name in sorted(layers) for one in holdout_weeks(home, name) if one.week == week)


def measure(
    bench: Workbench, now: datetime, *, layer: str | None = None, week: str | None = None
) -> HoldoutRound:
    """Measure every holdout (or one) at the end of its newest whole ISO week (or of the one named).

    What cannot be measured says why. Harm, or a share of held-out units that is not the declared one, opens
    an incident, and its end closes it; a week that is past opens and closes nothing. Raises ExpError where
    there is no such holdout, no day of data, or the week is not over, and ValueError for a text that is no
    week.
    """
    layers = {one.name: one for one in bench.catalog.holdouts()}
    if layer is not None and layer not in layers:
        raise ExpError(f"no holdout is called {layer}; there are: {', '.join(layers) or 'none'}")
    if not layers:
        raise ExpError("the catalog has no holdout: a layer with `kind: holdout` and a share")
    known = [day_of(one) for one in bench.lake.partitions("learner_days")]
    if not known:
        raise ExpError("no day has been made yet: materialize the daily assets first (`exp run`)")
    if week is not None and monday_of(week) + WEEK > known[-1] + DAY:
        raise ExpError(f"{week} is not over: the newest day of data is {known[-1]}")
    found, findings = [], []
    for one in layers.values() if layer is None else (layers[layer],):
        newest = analysis.week_measured(one, known[-1])
        measured = _measured(bench, one, week or newest, known)
        _keep(bench.home, measured)
        found.append(measured)
        if measured.week == newest:
            findings += _findings(measured)
    log = state_log(bench.home)
    changed = record_findings(log, [*findings, *_dropped(log, found, findings)], now)
    return HoldoutRound(tuple(found), len(changed))


def _keep(home: Home, measured: HoldoutMeasurement) -> None:
    path = holdout_file(home, measured.layer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(path.parent):
        weeks = {one.week: one for one in holdout_weeks(home, measured.layer)}
        weeks[measured.week] = measured
        content = [weeks[name].model_dump(mode="json") for name in sorted(weeks, key=monday_of)]
        write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _measured(bench: Workbench, layer: Layer, week: str, known: Sequence[date]) -> HoldoutMeasurement:
    first = _first_day(bench, layer, known)
    since, end = first or known[0], analysis.end_of(layer, week)
    result = HoldoutMeasurement(
        layer=layer.name,
        title=layer.title or layer.name,
        owner=layer.owner or bench.catalog.policies.drift.owner,
        unit=layer.unit,
        draw=layer.draw(),
        week=week,
        since=since,
        since_declared=layer.since is not None,
        end=end,
    )
    reason = analysis.too_young(since, end)
    if first is None:
        reason = "no landed day holds buckets of this draw: land the days again (`exp catch-up`)"
    if reason:
        return result.model_copy(update={"reason": reason})
    briefs = bench.catalog.briefs
    shipped = analysis.shipped_between(decisions(bench.home), briefs, layer.unit, since, end)
    _build_members(bench, layer, since, end)
    members = bench.engine.frame("select drawn_id, held_out from members order by unit_key")
    groups = members.unique("drawn_id")
    placed = groups.drop_nulls("held_out")
    share = analysis.share_of(layer, _group(placed["held_out"]), groups.height - placed.height)
    exposed, met = analysis.met_by(_met(bench, Window(since, end)), briefs, layer.unit)
    without = _students(bench, Window(since, end)) - members.height
    readings = _readings(bench, layer, since, end, known, share_fails=share.verdict == "fail")
    bench.engine.drop("members")
    return result.model_copy(
        update={
            "share": share,
            "without_class": without,
            "contaminated": exposed,
            "met": met,
            "shipped": shipped,
            "readings": readings,
        }
    )


def _first_day(bench: Workbench, layer: Layer, known: Sequence[date]) -> date | None:
    """From which day on is known who is held out? None where no landed day knows it.

    Where the file does not say since when: from the first day of data, or from the day after the last landed
    day that has no bucket of this draw.
    """
    landed = set(bench.lake.partitions("landed"))
    drawn = {
        one.partition
        for one in bench.lake.manifests(TABLE, bench.lake.partitions(TABLE))
        if _draws(one).get(layer.name) == layer.draw()
    }
    if not drawn:
        return None
    if layer.since is not None:
        return layer.since
    lacking = [day_of(one) for one in landed - drawn]
    return max(known[0], max(lacking) + DAY) if lacking else known[0]


def _draws(manifest: Manifest) -> Mapping[str, object]:
    found = manifest.facts.get(DRAWS)
    return found if isinstance(found, dict) else {}


def _group(held_out: pl.Series) -> pl.Series:
    return held_out.replace_strict({True: HELD_OUT, False: SERVED}, return_dtype=pl.String)


def _build_members(bench: Workbench, layer: Layer, since: date, end: date) -> None:
    """Table `members`: everybody who was met, first when, and whether held out (null: unknown)."""
    bench.read(TABLE, TABLE, bench.lake.manifests(TABLE, bench.lake.partitions(TABLE)))
    bench.read_days("sessions", "sessions", Window(since, end))
    bench.engine.build(
        "members",
        queries.query_text(queries.load("holdout_members")),
        {
            "draw": layer.draw(),
            "held_out": layer.held_out(),
            "unit_type": layer.unit,
            "first_day": since,
            "end_day": end,
        },
    )


def _students(bench: Workbench, window: Window) -> int:
    """How many students were met, in a class or in none."""
    (count,) = bench.engine.row(
        "select count(distinct learner_key) from sessions "
        "where role = 'student' and event_date >= $first_day and event_date < $end_day",
        {"first_day": window.first, "end_day": window.end},
    )
    return int(count)


def _met(bench: Workbench, window: Window) -> pl.DataFrame:
    bench.read_days("exposures", "exposures", window)
    return bench.engine.frame(
        queries.query_text(queries.load("holdout_met")), {"first_day": window.first, "end_day": window.end}
    )


def _readings(
    bench: Workbench, layer: Layer, since: date, end: date, known: Sequence[date], *, share_fails: bool
) -> tuple[HoldoutReading, ...]:
    metrics = bench.catalog.holdout_metrics(layer)
    measures = {one.name: one for one in (*event_measures(bench), *session_measures(bench))}
    alpha = analysis.alpha_of(metrics)
    found = []
    for stretch in analysis.stretches(since, end):
        reasons = {
            one.name: WRONG_SHARE
            if share_fails
            else analysis.untold(one, measures) or _not_summed(bench, one, measures, stretch)
            for one in metrics
        }
        told = [one for one in metrics if not reasons[one.name]]
        sums = _sums(bench, told, measures, stretch) if told else pl.DataFrame()
        lacking = missing_days(stretch.first, stretch.end, known)
        for one in metrics:
            if reasons[one.name]:
                found.append(analysis.base_reading(one, stretch, alpha, reasons[one.name]))
                continue
            own = sums.select(
                "unit_id", "cluster", "group", pl.col(one.numerator or "").alias("num"),
                (pl.col(one.denominator) if one.denominator else pl.lit(1.0)).alias("den"),
            )  # fmt: skip
            row = analysis.reading(one, stretch, alpha, own, clustered=layer.unit == "class")
            days = (stretch.end - stretch.first).days
            notes = [row.note] if row.note else []
            notes += [f"{len(lacking)} of its {days} days hold no events"] if lacking else []
            found.append(row.model_copy(update={"note": "; ".join(notes)}))
    return tuple(sorted(found, key=lambda row: [one.name for one in metrics].index(row.metric)))


def _not_summed(bench: Workbench, metric: Metric, measures: Mapping[str, Measure], stretch: Stretch) -> str:
    """Why the days of a stretch cannot be added up: what was not counted is not 0. Empty where they can."""
    own = [measures[name] for name in metric.measures() if measures[name].over == "events"]
    wanted = definitions(own).items()
    days = [event_day(one) for one in Window(stretch.first, stretch.end).days()]
    for manifest in bench.lake.manifests("learner_days", days):
        if not wanted <= recorded_definitions(manifest).items():
            return (
                f"{day_of(manifest.partition)} was not summed up with the metric's measures as they are now"
            )
    return ""


def _sums(
    bench: Workbench, metrics: Sequence[Metric], measures: Mapping[str, Measure], stretch: Stretch
) -> pl.DataFrame:
    """Every learner whose group is known, with the measures added up over the stretch: null without any."""
    names = {name for metric in metrics for name in metric.measures()}
    own = measure_sql.in_order(measures[name] for name in names)
    window = {"first_day": stretch.first, "end_day": stretch.end}
    columns, joins = "", ""
    for over, table in (("events", "learner_days"), ("sessions", "sessions")):
        mine = measure_sql.in_order(own, over)
        if not mine:
            continue
        more = measure_sql.column_types(event_measures(bench)) if over == "events" else None
        bench.read_days(table, table, Window(stretch.first, stretch.end), more=more)
        kind = "event" if over == "events" else "session"
        of = [
            measure_sql.added_up(one, "s") if over == "events" else measure_sql.over_rows(one) for one in mine
        ]
        query = queries.with_slots(queries.load(f"holdout_{kind}_sums"), {"measures": of})
        bench.engine.build(f"{kind}_sums", queries.query_text(query), window)
        columns += "".join(
            f", cast({kind}_sums.{quote(one.name)} as double) as {quote(one.name)}" for one in mine
        )
        joins += f" left join {kind}_sums on m.unit_key = {kind}_sums.unit_key"
    frame = bench.engine.frame(
        f"select m.unit_id, m.drawn_id as cluster, m.held_out{columns} from members as m{joins} "
        "where m.held_out is not null order by m.unit_id"
    )
    for kind in ("event", "session"):
        bench.engine.drop(f"{kind}_sums")
    return frame.with_columns(_group(frame["held_out"]).alias("group"))


def _findings(measured: HoldoutMeasurement) -> list[Finding]:
    """A difference to the worse that may still be chance neither opens an incident nor closes one."""
    found = [_of_reading(measured, one) for one in measured.readings]
    share = measured.share
    if share is not None:
        said = f"{share.held_out:,} of {share.held_out + share.served:,} units are held out"
        found.append(
            Finding(
                rule="holdout",
                subject=f"{measured.layer}:share",
                day=measured.end - DAY,
                verdict=share.verdict,
                severity="warn",
                evidence=f"{said}, declared {numbers.percent(share.declared)}",
                number=share.p_value,
                threshold=analysis.SHARE_ALPHA,
                badness=_powers(share.p_value, analysis.SHARE_ALPHA),
                owner=measured.owner,
            )
        )
    return found


def _dropped(
    log: StateLog, measured: Iterable[HoldoutMeasurement], findings: Iterable[Finding]
) -> list[Finding]:
    """What closes the incidents of metrics that a holdout is not measured by any more: nothing else would."""
    told = {one.subject: one for one in findings}
    judged = {one.layer: one for one in measured if f"{one.layer}:share" in told}
    found = []
    for incident in open_incidents(log, rule="holdout"):
        one = judged.get(incident.subject.partition(":")[0])
        if one is not None and incident.subject not in told:
            found.append(
                Finding(
                    rule="holdout",
                    subject=incident.subject,
                    day=max(one.end - DAY, incident.last_day),
                    verdict="pass",
                    severity="warn",
                    evidence="the holdout is not measured by this any more",
                    owner=one.owner,
                )
            )
    return found


def _of_reading(measured: HoldoutMeasurement, row: HoldoutReading) -> Finding:
    unsure = row.effect is None or (row.says == "worse" and not row.alarm)
    return Finding(
        rule="holdout",
        subject=f"{measured.layer}:{row.metric}:{row.window}",
        day=measured.end - DAY,
        verdict="fail" if row.alarm else "cannot_tell" if unsure else "pass",
        severity="warn",
        evidence=reading_told(row),
        number=row.harm_p_value,
        threshold=row.alpha,
        badness=_powers(row.harm_p_value, row.alpha),
        owner=measured.owner,
    )


def _powers(p_value: float | None, threshold: float) -> float:
    """By how many powers of ten a p-value is below its line."""
    if p_value is None or p_value >= threshold:
        return 0.0
    return math.log10(threshold / max(p_value, 1e-300))
