"""From measured stages to what was promised: targets, one page for each size, one summary over sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.timing import Result

EVENTS_PART, UNIT_DAYS_PART = "landed to events", "events to unit-days"
UNIT_DAYS_STAGES = ("learner_days", "sessions", "assignments", "exposures", "unit_days")
PARTS = {
    "prepare": "data",
    "landed": "files to landed",
    "events": EVENTS_PART,
    "limit": "LIMIT",
    **dict.fromkeys(UNIT_DAYS_STAGES, UNIT_DAYS_PART),
    "enrollments": "beside",
    "turns": "beside",
    "one_day": "one more day",
    "verdicts": "contract verdicts",
    "ndjson": "NDJSON.gz to typed columns",
}
BASE_SIZE = 10_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """A promise beside what was measured; `value` is None where a stage is missing or failed."""

    name: str
    value: float | None
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def number(result: Result, name: str) -> float:
    """A measured number of a stage. Raises ValueError where it has none."""
    value = result.get(name)
    if not isinstance(value, int | float):
        raise ValueError(f"{result.get('stage')}: {name} is {value!r}")
    return float(value)


class Stages:
    """The stages of one run by name; sums over parts of the chain are None where a stage failed."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.all = {str(one["stage"]): one for one in results}
        self.good = {name: one for name, one in self.all.items() if "failed" not in one}

    def total(self, field: str, names: Sequence[str]) -> float | None:
        """Sum of a number over stages."""
        if any(name not in self.good for name in names):
            return None
        return sum(number(self.good[name], field) for name in names)

    def peak(self, names: Sequence[str]) -> float | None:
        """The largest peak of stages, each in a process of its own."""
        if any(name not in self.good for name in names):
            return None
        return max(number(self.good[name], "peak_mb") for name in names)

    def events(self) -> float | None:
        """Events that were kept."""
        return self.total("rows", ("events",))

    def cpu_per_event(self, names: Sequence[str]) -> float | None:
        """CPU microseconds for each event kept."""
        return ratio(self.total("cpu_seconds", names), self.events(), 1e6)


def ratio(above: float | None, below: float | None, times: float = 1.0) -> float | None:
    """A quotient, where both numbers are there."""
    return None if above is None or not below else above / below * times


def targets(stages: Stages, base: Stages | None) -> list[Target]:
    """The promises of speed and memory; `base` is the run of ten million events, for linearity."""
    cpu, wall = stages.total("cpu_seconds", ("limit",)), stages.total("seconds", ("limit",))
    chain = UNIT_DAYS_STAGES
    everything = ("events", *chain)
    verdicts, ndjson = stages.good.get("verdicts", {}), stages.good.get("ndjson", {})

    def of(result: Mapping[str, object], name: str) -> float | None:
        value = result.get(name)
        return float(value) if isinstance(value, int | float) else None

    found = [
        Target(
            f"{EVENTS_PART}: CPU", ratio(stages.total("cpu_seconds", ("events",)), cpu), 20, unit="x LIMIT"
        ),
        Target(f"{EVENTS_PART}: peak memory", stages.peak(("events",)), 2_000, unit="MB"),
        Target(f"{UNIT_DAYS_PART}: CPU", ratio(stages.total("cpu_seconds", chain), cpu), 2.5, unit="x LIMIT"),
        Target(f"{UNIT_DAYS_PART}: wall", ratio(stages.total("seconds", chain), wall), 2.5, unit="x LIMIT"),
        Target(f"{UNIT_DAYS_PART}: peak memory", stages.peak(chain), 600, unit="MB"),
        Target(
            "one more day: CPU",
            ratio(of(stages.good.get("one_day", {}), "cpu_seconds"), stages.total("cpu_seconds", everything)),
            1 / 12,
            unit="of all 28 days",
        ),
        Target(
            "contract verdicts: CPU",
            ratio(of(verdicts, "cpu_seconds"), of(verdicts, "scan_cpu_seconds")),
            2,
            unit="x scan of their columns",
        ),
    ]
    if ndjson:
        found += [
            Target(
                f"NDJSON.gz parsing: {kind}",
                ratio(of(ndjson, f"duckdb_{field}"), of(ndjson, field)),
                0.9,
                at_least=True,
                unit="of DuckDB's speed",
            )
            for kind, field in (("CPU", "cpu_seconds"), ("wall", "seconds"))
        ]
    if base is not None:
        found += [
            Target(
                f"{part}: CPU for each event",
                ratio(stages.cpu_per_event(names), base.cpu_per_event(names)),
                1.2,
                unit="x that at 10 M",
            )
            for part, names in ((EVENTS_PART, ("events",)), (UNIT_DAYS_PART, chain))
        ]
    return found


def target_lines(found: Sequence[Target]) -> list[str]:
    """The targets as a table."""
    lines = ["| promise | measured | target | |", "|---|--:|--:|---|"]
    for one in found:
        measured = "not measured" if one.value is None else f"{_short(one.value)} {one.unit}"
        bound = f"{'at least' if one.at_least else 'at most'} {_short(one.bound)}"
        verdict = {None: "", True: "met", False: "**not met**"}[one.met]
        lines.append(f"| {one.name} | {measured} | {bound} | {verdict} |")
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def stage_lines(stages: Stages) -> list[str]:
    """The stages as a table, with the sums of the two parts that have a target."""
    cpu, wall = stages.total("cpu_seconds", ("limit",)), stages.total("seconds", ("limit",))
    lines = [
        "| part | stage | seconds | of LIMIT | CPU s | of LIMIT | peak MB | rows | MB written | load |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]

    def row(part: str, name: str, one: Result) -> str:
        used, taken = number(one, "cpu_seconds"), number(one, "seconds")
        of_wall, of_cpu = ratio(taken, wall), ratio(used, cpu)
        load = f"{number(one, 'load_before'):.1f}" if "load_before" in one else ""
        return (
            f"| {part} | {name} | {taken:.2f} | {'' if of_wall is None else f'{of_wall:.1f}'} | {used:.2f} "
            f"| {'' if of_cpu is None else f'{of_cpu:.1f}'} | {number(one, 'peak_mb'):,.0f} "
            f"| {number(one, 'rows'):,.0f} | {number(one, 'bytes') / 1e6:,.0f} | {load} |"
        )

    for name, one in stages.all.items():
        if name.startswith(("peer:", "compare:")):
            continue
        if "failed" in one:
            lines.append(f"| {PARTS[name]} | `{name}` | {one['failed']} | | | | | | | |")
        else:
            lines.append(row(PARTS[name], f"`{name}`", one))
    if all(name in stages.good for name in UNIT_DAYS_STAGES):
        together: Result = {
            "seconds": stages.total("seconds", UNIT_DAYS_STAGES),
            "cpu_seconds": stages.total("cpu_seconds", UNIT_DAYS_STAGES),
            "peak_mb": stages.peak(UNIT_DAYS_STAGES),
            "rows": stages.good["unit_days"]["rows"],
            "bytes": stages.total("bytes", UNIT_DAYS_STAGES),
        }
        lines.append(row(f"**{UNIT_DAYS_PART}**", "**together**", together))
    return lines


def costs(result: Result, prefix: str = "") -> str:
    """Seconds and CPU seconds in words."""
    seconds, used = number(result, f"{prefix}seconds"), number(result, f"{prefix}cpu_seconds")
    return f"{seconds:.2f} s, {used:.2f} CPU s"


def extra_lines(stages: Stages) -> list[str]:
    """What some stages have beside their costs."""
    lines = []
    if "one_day" in stages.good:
        one = stages.good["one_day"]
        steps = one["steps"]
        assert isinstance(steps, dict)
        listed = ", ".join(f"{name} {step['cpu_seconds']:.2f}" for name, step in steps.items())
        lines.append(
            f"One more day is {one['day']}, the busiest of the last week "
            f"({number(one, 'share_of_events'):.1%} of all events), over a lake that ends the day before. "
            f"CPU seconds: {listed}."
        )
    if "verdicts" in stages.good:
        one = stages.good["verdicts"]
        lines.append(
            f"Verdicts on {number(one, 'rows'):,.0f} landed rows ({number(one, 'refused'):,.0f} refused): "
            f"{costs(one)}. A scan that hashes every value of the {one['columns']} columns they read: "
            f"{costs(one, 'scan_')}. Median of three."
        )
    if "ndjson" in stages.good:
        one = stages.good["ndjson"]
        lines.append(
            f"NDJSON.gz: {number(one, 'rows'):,.0f} lines, {number(one, 'file_bytes') / 1e6:,.0f} MB in one "
            f"file. From lines to typed columns, every odd line with its place and reason: {costs(one)}; of "
            f"these, up to texts by column: {costs(one, 'raw_')}. DuckDB's "
            "`read_json` with the same columns and types, which stops at the first bad line: "
            f"{costs(one, 'duckdb_')}. Median of three; rows, times and a sum compared first."
        )
    return lines


def peer_lines(stages: Stages) -> list[str]:
    """The same work by other means; a peer whose results differ, or that did not finish, shows no time."""
    named = [name.partition(":")[2] for name in stages.all if name.startswith("peer:")]
    if not named:
        return []
    cpu, wall = stages.total("cpu_seconds", ("limit",)), stages.total("seconds", ("limit",))
    words = {"duckdb": "textbook SQL on DuckDB", "polars": "polars, streaming", "pandas": "pandas"}
    lines = [
        "## The same work by other means",
        "",
        "Events to sessions and to the 22 measures of each unit and day, each in a process of its own, at "
        "most ten minutes, over the same event files (already sorted by learner and time, which is the "
        "door's work). Compared before any time is shown: start, end, events and turns of every session, "
        "every measure of every unit and day. Ours also writes assignments, exposures, the measures of "
        "learners and days outside the experiment, and what each session's context was.",
        "",
        "| by | results | seconds | of LIMIT | CPU s | of LIMIT | peak MB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]

    def row(who: str, said: str, taken: float | None, used: float | None, peak: float | None) -> str:
        numbers = (taken, ratio(taken, wall), used, ratio(used, cpu))
        cells = " | ".join("" if value is None else f"{value:.1f}" for value in numbers)
        return f"| {who} | {said} | {cells} | {'' if peak is None else f'{peak:,.0f}'} |"

    lines.append(
        row(
            "this pipeline",
            "",
            stages.total("seconds", UNIT_DAYS_STAGES),
            stages.total("cpu_seconds", UNIT_DAYS_STAGES),
            stages.peak(UNIT_DAYS_STAGES),
        )
    )
    for name in named:
        ran, compared = stages.all[f"peer:{name}"], stages.all.get(f"compare:{name}", {})
        if "failed" in ran:
            lines.append(row(words[name], f"did not finish: {ran['failed']}", None, None, None))
        elif "failed" in compared or not compared:
            lines.append(row(words[name], f"not compared: {compared.get('failed', '')}", None, None, None))
        else:
            differing = [number(compared, f"{kind}_differ") for kind in ("sessions", "unit_days")]
            if any(differing):
                said = f"differ in {differing[0]:,.0f} sessions and {differing[1]:,.0f} unit-days"
                lines.append(row(words[name], said, None, None, None))
            else:
                said = (
                    f"equal: {number(compared, 'sessions'):,.0f} sessions, "
                    f"{number(compared, 'unit_days'):,.0f} unit-days"
                )
                costs = [number(ran, field) for field in ("seconds", "cpu_seconds", "peak_mb")]
                lines.append(row(words[name], said, *costs))
    return lines


def page(facts: Mapping[str, object], results: Sequence[Result], base: Stages | None) -> str:
    """One run as Markdown."""
    stages = Stages(results)
    loads = [number(one, "load_before") for one in results]
    lines = [
        f"# {facts['events']:,} simulated events over {facts['days']} days",
        "",
        f"{facts['date']}; {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB; Python "
        f"{facts['python']}, DuckDB {facts['duckdb']}, polars {facts['polars']}, pandas {facts['pandas']}; "
        f"commit {facts['commit']}. One-minute load before the stages: {min(loads):.1f} to {max(loads):.1f} "
        "(other work on the machine makes seconds longer, and CPU seconds somewhat).",
        "",
        "LIMIT is one DuckDB scan of the events' columns that the pinned measures read, with a hash group to "
        "learner and 22 aggregates, nothing written; median of five. Every stage runs in a process of its "
        "own; its peak is the most memory that this process held. MB are millions of bytes.",
        "",
        *target_lines(targets(stages, base)),
        "",
        *stage_lines(stages),
        "",
    ]
    for line in extra_lines(stages):
        lines += [line, ""]
    lines += peer_lines(stages)
    later = [
        f"`{one['stage']}` ({one['measured']}, commit {one['commit']})"
        for one in results
        if "measured" in one
    ]
    if later:
        lines += ["", f"Measured again, after the run: {', '.join(later)}."]
    return "\n".join(lines).rstrip() + "\n"


def write(results_folder: Path, facts: Mapping[str, object], results: Sequence[Result]) -> str:
    """Write page and JSON of one size, and the summary; returns the page."""
    results_folder.mkdir(parents=True, exist_ok=True)
    size, days = int(str(facts["events"])), int(str(facts["days"]))
    base = base_of(results_folder, days) if size > BASE_SIZE else None
    text = page(facts, results, base)
    target = stored(results_folder, size, days)
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    whole = {
        "machine": facts,
        "stages": list(results),
        "targets": [{**asdict(one), "met": one.met} for one in targets(Stages(results), base)],
    }
    target.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (results_folder / "summary.md").write_text(summary(results_folder, days), encoding="utf-8")
    return text


def stored(results_folder: Path, events: int, days: int) -> Path:
    """Where the numbers of a size are kept."""
    size = f"{events // 1_000_000}m" if events >= 1_000_000 else str(events)
    return results_folder / f"{size}-{days}d.json"


def base_of(results_folder: Path, days: int) -> Stages | None:
    """The stored run of ten million events."""
    path = stored(results_folder, BASE_SIZE, days)
    return Stages(json.loads(path.read_text(encoding="utf-8"))["stages"]) if path.is_file() else None


def summary(results_folder: Path, days: int) -> str:
    """All stored sizes beside one another: multiples of LIMIT, memory, CPU for each event, targets."""
    stored = [
        json.loads(path.read_text(encoding="utf-8")) for path in results_folder.glob(f"*m-{days}d.json")
    ]
    runs = sorted(stored, key=lambda one: int(one["machine"]["events"]))
    base = base_of(results_folder, days)
    sizes = [Stages(one["stages"]) for one in runs]
    heads = [f"{int(one['machine']['events']) // 1_000_000} M" for one in runs]
    lines = [
        "# Speed over sizes",
        "",
        "Each size was measured in one run; the pages beside this one say when and on what machine. CPU for "
        "each event is in microseconds, in brackets as a multiple of that at 10 M.",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'--:|' * len(heads)}",
    ]

    def row(name: str, cells: Sequence[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    def shown(value: float | None) -> str:
        return "" if value is None else _short(value)

    row("LIMIT, CPU s", [shown(one.total("cpu_seconds", ("limit",))) for one in sizes])
    for part, names in ((EVENTS_PART, ("events",)), (UNIT_DAYS_PART, UNIT_DAYS_STAGES)):
        row(
            f"{part}, CPU x LIMIT",
            [
                shown(ratio(one.total("cpu_seconds", names), one.total("cpu_seconds", ("limit",))))
                for one in sizes
            ],
        )
        row(f"{part}, peak MB", [shown(one.peak(names)) for one in sizes])
        cells = []
        for one in sizes:
            own, against = one.cpu_per_event(names), base.cpu_per_event(names) if base else None
            times = ratio(own, against)
            cells.append(f"{shown(own)} ({shown(times)})" if times else shown(own))
        row(f"{part}, CPU for each event", cells)
    for head, one in zip(heads, sizes, strict=True):
        found = targets(one, base if head != "10 M" else None)
        missed = [each.name for each in found if each.met is False]
        unknown = [each.name for each in found if each.met is None]
        said = "all targets met" if not missed else f"not met: {'; '.join(missed)}"
        lines += ["", f"{head}: {said}." + (f" Not measured: {'; '.join(unknown)}." if unknown else "")]
    return "\n".join(lines) + "\n"
