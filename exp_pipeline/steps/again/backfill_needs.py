"""What a lake lacks for the metrics that people ask of it: which days of which tables to make again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.metrics import Measure, definitions
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.dataset import after_measures, pre_days, pre_measures
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.transform.measures import in_order

# History for a plan: the days before the start, as many as its covariates look back over, at least these.
HISTORY_DAYS = 14

# In the order in which they are made: the second is made of the first.
TABLES: tuple[Literal["learner_days", "unit_days"], ...] = ("learner_days", "unit_days")
Why = Literal["missing", "another definition"]
_Look = tuple[Literal["learner_days", "unit_days"], tuple[Measure, ...], Window]
_LookedAt = Callable[[Workbench, Brief], list[_Look]]


@dataclass(frozen=True, slots=True)
class Need:
    """One measure that a table's days lack, or hold by another definition than the catalog's.

    `days` are those that experiments look at, in order; `experiments` those that ask for it, by name.
    """

    table: str
    measure: str
    why: Why
    days: tuple[date, ...]
    experiments: tuple[str, ...]

    def sentence(self) -> str:
        """The need in words."""
        have = "lack" if self.why == "missing" else "hold another definition of"
        ranges = ", ".join(
            f"{window.first} to {window.end - DAY}" if window.end - window.first > DAY else f"{window.first}"
            for window in windows_of(self.days)
        )
        return f"{self.table}: {len(self.days):,} days ({ranges}) {have} {self.measure}"


def backfill_needs(bench: Workbench, experiments: Iterable[str] | None = None) -> tuple[Need, ...]:
    """Which days of which tables lack which measures, for the experiments' metrics and covariates?

    Compares the definitions that each partition was made with to the catalog's, and asks for nothing else:
    not for days outside the experiments' windows (with the days before them that covariates and gains look
    at), not for measures that no experiment uses, not for days without events. A metric over measures that
    are there needs nothing but a new snapshot. Experiments: all, or those named. Ordered by table, measure,
    reason.
    """
    return _needs(bench, experiments, _looked_at)


def history_needs(bench: Workbench, experiments: Iterable[str] | None = None) -> tuple[Need, ...]:
    """Which days before their start lack measures that experiments not yet begun are planned with?

    Days that lack one are no history to a plan. Asked for apart from `backfill_needs`, because a dataset can
    do without them. Experiments and order: as there.
    """
    return _needs(bench, experiments, _history)


def history_window(brief: Brief) -> Window:
    """The days before an experiment's start that its plan looks at."""
    days = max(HISTORY_DAYS, brief.variance_reduction.pre_days)
    return Window(brief.start - days * DAY, brief.start)


def history_measures(catalog: Catalog, brief: Brief) -> tuple[Measure, ...]:
    """The measures that learner-days must hold for a plan; those over sessions are counted when asked."""
    return in_order(catalog.measures_of(brief).values(), "events")


def _needs(bench: Workbench, experiments: Iterable[str] | None, looked_at: _LookedAt) -> tuple[Need, ...]:
    chosen = sorted(bench.catalog.briefs) if experiments is None else sorted(set(experiments))
    found: dict[tuple[str, str, Why], dict[str, set[date]]] = {}
    for name in chosen:
        brief = bench.catalog.briefs[name]
        for table, measures, window in looked_at(bench, brief):
            for day, measure, why in _lacking(bench, table, measures, window):
                found.setdefault((table, measure, why), {}).setdefault(name, set()).add(day)
    needs = [
        Need(
            table=table,
            measure=measure,
            why=why,
            days=tuple(sorted({day for days in by.values() for day in days})),
            experiments=tuple(sorted(by)),
        )
        for (table, measure, why), by in found.items()
    ]
    return tuple(sorted(needs, key=lambda need: (TABLES.index(need.table), need.measure, need.why)))


def backfill_windows(needs: Sequence[Need]) -> dict[str, tuple[Window, ...]]:
    """The days to make again by table, as ranges, in the order in which the tables are made.

    Days of learner-days that are made again inside an experiment are in the list of unit-days too, where the
    same measure is missing there.
    """
    return {
        table: windows_of({day for need in needs if need.table == table for day in need.days})
        for table in TABLES
        if any(need.table == table for need in needs)
    }


def windows_of(days: Iterable[date]) -> tuple[Window, ...]:
    """Days as ranges without gaps, in order."""
    found: list[Window] = []
    for day in sorted(set(days)):
        if found and found[-1].end == day:
            found[-1] = Window(found[-1].first, day + DAY)
        else:
            found.append(Window.of(day, day))
    return tuple(found)


def require_definitions(bench: Workbench, experiment: str) -> None:
    """Raise ExpError, naming tables, days and measures, where a dataset would hold nulls or older numbers."""
    needs = backfill_needs(bench, [experiment])
    if not needs:
        return
    told = "\n".join(f"  {need.sentence()}" for need in needs)
    ranges = "; ".join(
        f"{table} {', '.join(f'{one.first} to {one.end - DAY}' for one in windows)}"
        for table, windows in backfill_windows(needs).items()
    )
    raise ExpError(
        f"the days of {experiment} were not made with the measures that its metrics need:\n{told}\n"
        f"materialize again: {ranges}"
    )


def _history(bench: Workbench, brief: Brief) -> list[_Look]:
    """What a plan takes from the days before the start, while the start lies ahead of the data."""
    known = bench.lake.partitions("learner_days")
    if brief.table is not None or not known or day_of(known[-1]) >= brief.start:
        return []
    return [("learner_days", history_measures(bench.catalog, brief), history_window(brief))]


def _looked_at(bench: Workbench, brief: Brief) -> list[_Look]:
    """Which measures a brief's dataset takes from which table, over which days."""
    known = bench.lake.partitions("unit_days")
    if brief.table is not None or not known:
        return []
    last = min(day_of(known[-1]), brief.end - DAY)
    if last < brief.start:
        return []
    window = Window.of(brief.start, last)
    after = after_measures(bench.catalog, brief)
    before = pre_measures(bench.catalog, brief)
    look = window.widened(pre_days(bench.catalog, brief), 0)
    return [
        ("learner_days", tuple(one for one in before if one.over == "events"), look),
        ("learner_days", tuple(one for one in after if one.over == "events"), window),
        ("unit_days", after, window),
    ]


def _lacking(
    bench: Workbench, table: str, measures: Sequence[Measure], window: Window
) -> list[tuple[date, str, Why]]:
    wanted: Mapping[str, str] = definitions(measures)
    found: list[tuple[date, str, Why]] = []
    for manifest in bench.lake.manifests(table, [event_day(day) for day in window.days()]) if wanted else ():
        recorded = recorded_definitions(manifest)
        for name, digest in wanted.items():
            if recorded.get(name) != digest:
                why: Why = "another definition" if name in recorded else "missing"
                found.append((day_of(manifest.partition), name, why))
    return found
