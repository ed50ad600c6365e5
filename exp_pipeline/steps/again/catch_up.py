"""Making again exactly what is out of date, stage by stage, until nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from exp_pipeline.steps.again.affected import STAGES, AffectedDays, OutOfDate, affected_days
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.operating import daily
from exp_pipeline.steps.origins import SETTLED
from exp_pipeline.steps.quality import days as quality

# Makes some tables (written by one step each) for a range of days, or as a whole.
Run = Callable[[tuple[str, ...], Window | None], None]
# Tables that one step writes together.
TOGETHER: tuple[tuple[str, ...], ...] = (
    ("landed",),
    SETTLED,
    ("learner_days",),
    ("sessions",),
    ("turns",),
    ("assignments", "exposures"),
    ("enrollments", "content"),
    ("unit_days",),
    ("srm_daily",),
    ("guardrails_daily",),
    ("data_quality",),
)
# A stage is looked at again after it ran: a file may lie under two received days that were read side by side.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Tables to make for one range of days (None: tables of one partition), as one run."""

    tables: tuple[str, ...]
    window: Window | None


@dataclass(frozen=True, slots=True)
class Made:
    """A partition that was made again, why, and whether its rows came out otherwise."""

    table: str
    partition: str
    why: str
    inputs: tuple[str, ...]
    changed: bool


@dataclass(frozen=True)
class CaughtUp:
    """What a catch-up did. `left` is still out of date: what it is made from is being written meanwhile."""

    made: tuple[Made, ...]
    held_back: tuple[str, ...]
    left: tuple[OutOfDate, ...]

    def changed(self, table: str) -> tuple[str, ...]:
        """The partitions of a table whose rows came out otherwise."""
        return tuple(sorted({one.partition for one in self.made if one.table == table and one.changed}))


def pieces_of(found: AffectedDays) -> tuple[Piece, ...]:
    """What is out of date as runs: days that follow one another together, tables with equal days together."""
    windows: dict[Window | None, list[str]] = {}
    for tables in TOGETHER:
        own = [table for table in tables if found.partitions(table)]
        if not own:
            continue
        for window in found.windows(*tables) or (None,):
            windows.setdefault(window, []).extend(tables)
    return tuple(Piece(tuple(tables), window) for window, tables in windows.items())


def catch_up(bench: Workbench, *, run: Run | None = None, first: date | None = None) -> CaughtUp:
    """Make again what is out of date and then what follows from it, and nothing else.

    Stage by stage in the order of the graph: what comes out as it was is followed by nothing. Run again it
    does nothing. `run` makes a piece (by default the steps themselves, here); it may fail by raising, and
    what was done until then stays. `first`: days before it are left alone.
    """
    do = run or runner(bench)
    made: list[Made] = []
    held_back: tuple[str, ...] = ()
    left: tuple[OutOfDate, ...] = ()
    for stage in STAGES:
        for _ in range(_ROUNDS):
            found = affected_days(bench, tables=stage, first=first)
            held_back += tuple(one for one in found.held_back if one not in held_back)
            if not found:
                for manifest, inputs in found.unaffected:
                    bench.lake.confirm(manifest, inputs)
                break
            before = _digests(bench, found)
            for piece in pieces_of(found):
                do(piece.tables, piece.window)
            after = _digests(bench, found)
            made += [
                Made(
                    one.table,
                    one.partition,
                    one.why,
                    one.inputs,
                    before[one.table, one.partition] != after[one.table, one.partition],
                )
                for one in found.found
            ]
        else:
            left += affected_days(bench, tables=stage, first=first).found
    return CaughtUp(tuple(made), held_back, left)


def _digests(bench: Workbench, found: AffectedDays) -> dict[tuple[str, str], str | None]:
    manifests = {
        (one.table, one.partition): bench.lake.manifest(one.table, one.partition) for one in found.found
    }
    return {key: one.content_digest if one is not None else None for key, one in manifests.items()}


def runner(bench: Workbench) -> Run:
    """Makes pieces by calling the steps in this process."""
    by_day: Mapping[str, Callable[[Workbench, Window], object]] = {
        "landed": _land,
        "events": ingest.conform,
        "learner_days": behaviour.build_learner_days,
        "sessions": sessions.build_sessions,
        "turns": behaviour.build_turns,
        "assignments": exposure.build_assignments,
        "exposures": exposure.build_exposures,
        "unit_days": facts.build_unit_days,
        "srm_daily": daily.judge_sample_ratios,
        "guardrails_daily": daily.judge_guardrails,
        "data_quality": quality.judge_quality,
    }

    def run(tables: Sequence[str], window: Window | None) -> None:
        for table in tables:
            if window is not None and table in by_day:
                by_day[table](bench, window)
            elif table == "enrollments":
                exposure.build_enrollments(bench)
            elif table == "content":
                exposure.build_content(bench)

    return run


def _land(bench: Workbench, window: Window) -> None:
    # One after the other: a file that lies under two received days belongs to the earlier one.
    for day in window.days():
        landing.land(bench, day)
