"""What the partitions of the lake are made from: each input that a step reads, by its digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from exp_pipeline.contracts.predicates import rejection_sql
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.quality_rules import QUALITY_RULES
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.store.lake import Manifest

SETTINGS, FILES, ROSTER, UNITS, BRIEFS = "settings", "files", "roster/scope=all", "units", "briefs"
SETTLED = ("events", "quarantine", "exclusions")
Inputs = dict[str, str]


def short(content: Sequence[object] | Mapping[str, object]) -> str:
    """A digest that is long enough to tell inputs apart: 16 hex digits."""
    return digest_of(content)[:16]


@dataclass
class Present:
    """The manifests of a lake, each read once: what is there now."""

    bench: Workbench
    _known: dict[tuple[str, str], Manifest | None] = field(default_factory=dict)
    _names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _slices: dict[date, Inputs] | None = None
    _settings: Inputs = field(default_factory=dict)
    _briefs: dict[str, list[str]] = field(default_factory=dict)

    def partitions(self, table: str) -> tuple[str, ...]:
        """The partitions of a table that exist, in order."""
        if table not in self._names:
            self._names[table] = self.bench.lake.partitions(table)
        return self._names[table]

    def manifest(self, table: str, partition: str) -> Manifest | None:
        """What a partition holds, or None where it was never written."""
        key = (table, partition)
        if key not in self._known:
            there = partition in self.partitions(table)
            self._known[key] = self.bench.lake.manifest(table, partition) if there else None
        return self._known[key]

    def digest(self, table: str, partition: str) -> str | None:
        """Which rows a partition holds, or None where there is none."""
        manifest = self.manifest(table, partition)
        return None if manifest is None else manifest.content_digest[:16]

    def digests(self, table: str, days: Iterable[date]) -> Inputs:
        """Those of the days that exist, each with its digest, named `table/partition`."""
        found = {f"{table}/{event_day(day)}": self.digest(table, event_day(day)) for day in days}
        return {name: digest for name, digest in found.items() if digest is not None}

    def altogether(self, table: str, first: str = "", last: str = "~") -> Inputs:
        """One digest for all partitions from one to another, both included."""
        here = [[name, self.digest(table, name)] for name in self.partitions(table) if first <= name <= last]
        return {f"{table}/*": short(here)}

    def slices(self) -> dict[date, Inputs]:
        """The landed files by event day: `landed/received day/event day` with the digests of the files."""
        if self._slices is None:
            self._slices = {}
            for name in self.partitions("landed"):
                manifest = self.manifest("landed", name)
                for file in manifest.files if manifest is not None else ():
                    mine = self._slices.setdefault(date.fromisoformat(file.tag), {})
                    key = f"landed/{name}/event_date={file.tag}"
                    mine[key] = f"{mine[key]}+{file.digest[:16]}" if key in mine else file.digest[:16]
        return self._slices

    def settings(self, table: str) -> str:
        """A digest of what people set that a table's rows depend on."""
        if table not in self._settings:
            self._settings[table] = short(_settings(self.bench, table))
        return self._settings[table]

    def running(self, day: date) -> tuple[Brief, ...]:
        """The experiments on events that run on a day, by name."""
        briefs = (brief for _, brief in sorted(self.bench.catalog.briefs.items()))
        return tuple(brief for brief in briefs if brief.table is None and brief.start <= day < brief.end)

    def briefs(self, day: date) -> str:
        """A digest of the experiments that run on a day, with their metrics."""
        catalog, running = self.bench.catalog, self.running(day)
        for one in running:
            if one.name not in self._briefs:
                self._briefs[one.name] = [one.name, one.digest(), catalog.metrics_digest(one)]
        return short([self._briefs[one.name] for one in running])


def _settings(bench: Workbench, table: str) -> Sequence[object]:
    policies, sources = bench.catalog.policies, bench.catalog.sources
    if table in SETTLED:
        return [
            policies.time.lateness_days,
            policies.exclusion.model_dump(mode="json"),
            sorted(source.name for source in sources if source.correction),
            bench.schema_version("landed"),
            rejection_sql(),
        ]
    if table == "sessions":
        uncut = [one.name for one in sources if not one.session.cut_on_objective]
        return [policies.session.model_dump(mode="json"), uncut]
    if table == "data_quality":
        totals = []
        if policies.quality.gateway is not None:
            from exp_pipeline.store.files import digest_of_file

            found = sorted(bench.home.root.glob(policies.quality.gateway.files))
            totals = [[path.name, digest_of_file(path)] for path in found if path.is_file()]
        return [policies.quality.model_dump(mode="json"), totals]
    return []


def landed_inputs(bench: Workbench, digests: Iterable[str], sources: Iterable[Source]) -> Inputs:
    """What a received day is made from: its files by digest, how they are mapped, what the door draws."""
    mapped = {source.name: source.canonical_json() for source in sources}
    settings: list[object] = [bench.catalog.policies.time.skew_minutes, mapped]
    drawn = [[one.name, one.unit, one.draw()] for one in bench.catalog.holdouts()]
    return {FILES: short(sorted(digests)), SETTINGS: short([*settings, drawn] if drawn else settings)}


@dataclass(frozen=True, slots=True)
class UnitDigests:
    """Who is in which experiment, as digests by day of assignment: (experiment, version, day, end, digest).

    `moments` knows units and their moments only, `whole` their arms, clusters and context too.
    """

    moments: tuple[tuple[str, int, date, date, str], ...]
    whole: tuple[tuple[str, int, date, date, str], ...]

    def until(self, day: date, *, whole: bool) -> str:
        """One digest of all who were assigned by a day to an experiment that had not ended."""
        rows = self.whole if whole else self.moments
        return short(
            [
                [name, version, at.isoformat(), mark]
                for name, version, at, end, mark in rows
                if at <= day < end
            ]
        )


def unit_digests(bench: Workbench) -> UnitDigests:
    """Who is in which experiment, from the engine's tables `units` and `experiments` (see `build_units`)."""
    rows = bench.engine.connection.execute(
        "select u.experiment, u.version, u.assigned_date, x.last_day, "
        # A sum of digests needs no order, and no text as long as all units.
        "count(*) || '-' || sum(cast(md5_number_lower(concat_ws('|', u.unit_id, u.unit_key, "
        "epoch_us(u.assigned_at))) as hugeint)), "
        "count(*) || '-' || sum(cast(md5_number_lower(cast(u as varchar)) as hugeint)) "
        "from units as u inner join experiments as x "
        "on u.experiment = x.experiment and u.version = x.version group by all order by all"
    ).fetchall()
    return UnitDigests(
        moments=tuple((row[0], row[1], row[2], row[3], row[4]) for row in rows),
        whole=tuple((row[0], row[1], row[2], row[3], row[5]) for row in rows),
    )


def inputs_of(present: Present, table: str, partition: str, units: UnitDigests | None = None) -> Inputs:
    """What a partition would be made from now. `units` is needed for tables over units."""
    if table == "enrollments":
        return {**roster_of(present), **present.altogether("sessions")}
    if table == "content":
        return present.altogether("events")
    day = day_of(partition)
    here = (day,)
    if table in SETTLED:
        reach = present.bench.catalog.policies.time.lateness_days
        around = Window.of(day, day).widened(reach, reach).days()
        found = {SETTINGS: present.settings(table)}
        for one in around:
            found |= present.slices().get(one, {})
        return found
    if table in ("learner_days", "exposures"):
        return present.digests("events", here)
    if table == "assignments":
        return {**present.digests("events", here), **roster_of(present)}
    if table in ("sessions", "turns"):
        events = present.digests("events", (day - DAY, day, day + DAY))
        return {SETTINGS: present.settings(table), **events}
    if table == "data_quality":
        return _quality_inputs(present, day)
    if units is None:
        raise ValueError(f"{table} is made from units, and none are given")
    if table == "unit_days":
        return {
            **present.digests("learner_days", here),
            **present.digests("sessions", here),
            **present.digests("events", here),
            UNITS: units.until(day, whole=False),
        }
    found = {UNITS: units.until(day, whole=True), BRIEFS: present.briefs(day)}
    if table == "guardrails_daily":
        first = min((brief.start for brief in present.running(day)), default=None)
        if first is not None:
            found |= present.altogether("unit_days", event_day(first), event_day(day))
    return found


def roster_of(present: Present) -> Inputs:
    """The roster as it was read last."""
    digest = present.digest("roster", "scope=all")
    return {} if digest is None else {ROSTER: digest}


def _quality_inputs(present: Present, day: date) -> Inputs:
    policy = present.bench.catalog.policies.quality
    past = [day - DAY * 7 * back for back in range(policy.weeks + 1)]
    landed = present.partitions("landed")
    longest = max(rule.ripe_after_days for rule in QUALITY_RULES.values())
    ripe = min((day_of(landed[-1]) - day).days, longest) if landed else -1
    events = present.manifest("events", event_day(day))
    return {
        SETTINGS: present.settings("data_quality"),
        BRIEFS: present.briefs(day),
        "fates": short(events.facts) if events is not None else "",
        "days landed since": str(max(ripe, -1)),
        **present.digests("events", past),
        **present.digests("sessions", past),
        **present.digests("quarantine", (day,)),
        **present.digests("turns", (day - DAY, day)),
        **present.altogether("assignments", last=event_day(day)),
    }


def recording(
    bench: Workbench, tables: Sequence[str], window: Window, units: UnitDigests | None = None
) -> Workbench:
    """The workbench with what a step is about to read for each day noted; what it writes will say so.

    To be called before anything is read: what changes meanwhile is then found again.
    """
    present = Present(bench)
    found = {
        (table, event_day(day)): inputs_of(present, table, event_day(day), units)
        for table in tables
        for day in window.days()
    }
    return replace(bench, origins={**bench.origins, **found})


def recording_whole(bench: Workbench, table: str) -> Workbench:
    """The same for a table that is one partition over all days."""
    inputs = inputs_of(Present(bench), table, "scope=all")
    return replace(bench, origins={**bench.origins, (table, "scope=all"): inputs})


def also_reads(bench: Workbench, table: str, more: Mapping[date, Iterable[date]]) -> Workbench:
    """The workbench with further event days noted that a table's days were found to depend on."""
    present = Present(bench)
    found = {
        (table, event_day(day)): {
            **bench.origins.get((table, event_day(day)), {}),
            **present.digests("events", days),
        }
        for day, days in more.items()
    }
    return replace(bench, origins={**bench.origins, **found})
