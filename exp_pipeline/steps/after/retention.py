"""Retention: what is past its day goes, whole days at a time; what an experiment still needs stays."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args

from exp_pipeline.model.life import DURABILITY_DAYS
from exp_pipeline.model.policies import RetainedTable
from exp_pipeline.steps.context import Window, Workbench, day_of
from exp_pipeline.steps.experiments.dataset import pre_days
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.experiments.past_units import LOOK_BACK_DAYS
from exp_pipeline.steps.retired import RETENTION, retired
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log


@dataclass(frozen=True, slots=True)
class Kept:
    """One partition or snapshot that is past its day: whether it goes, and why it does not."""

    table: str
    name: str
    rows: int
    bytes: int
    what: Literal["delete", "keep"]
    why: str


@dataclass(frozen=True, slots=True)
class Retention:
    """What is past its day; a dry run deletes nothing. kept_for_good: tables without a limit."""

    lines: tuple[Kept, ...]
    kept_for_good: tuple[str, ...]
    dry_run: bool

    def to_delete(self) -> tuple[Kept, ...]:
        """What goes, or went."""
        return tuple(one for one in self.lines if one.what == "delete")


def needed(bench: Workbench, today: date) -> dict[str, Window]:
    """The days that each experiment still needs: until its lasting effect was looked at and people decided.

    One that is to come needs the days that its plan looks back on. Experiments with a table need none.
    """
    found = {}
    for name, brief in sorted(bench.catalog.briefs.items()):
        if brief.table is not None:
            continue
        last = brief.end + timedelta(days=max(DURABILITY_DAYS))
        decided = any(one.kind == "decided" for one in decisions(bench.home, name))
        if today >= last and decided:
            continue
        back = LOOK_BACK_DAYS if today < brief.start else pre_days(bench.catalog, brief)
        found[name] = Window(brief.start - timedelta(days=back), last)
    return found


def retention_plan(bench: Workbench, today: date) -> tuple[Kept, ...]:
    """What is past its day by the policy, and what of it goes; oldest first in each table."""
    policy = bench.catalog.policies.retention
    windows = needed(bench, today)
    lines = []
    for table, days in sorted(policy.tables.items()):
        for partition in bench.lake.partitions(table):
            day = day_of(partition)
            if day + timedelta(days=1 + days) > today:
                continue
            manifest = bench.lake.manifest(table, partition)
            if manifest is None:
                continue
            users = [name for name, window in windows.items() if window.first <= day < window.end]
            why = f"needed by {', '.join(users)}" if users else f"kept for {days} days"
            what: Literal["delete", "keep"] = "keep" if users else "delete"
            lines.append(Kept(table, partition, manifest.rows, manifest.bytes, what, why))
    return (*lines, *_snapshots(bench, today))


def _snapshots(bench: Workbench, today: date) -> list[Kept]:
    """Snapshots of experiments that people decided on long ago, but for those that still speak."""
    days = bench.catalog.policies.retention.snapshots_of_decided
    if days is None:
        return []
    marts, lines = Marts(bench.home.marts), []
    for experiment in marts.experiments():
        logged = decisions(bench.home, experiment)
        taken = [one for one in logged if one.kind == "decided"]
        if not taken or taken[-1].at.astimezone(UTC).date() + timedelta(days=1 + days) > today:
            continue
        speaking = {one.snapshot: "the decision log names it" for one in logged}
        for name, why in ((marts.before(experiment), "the one before the newest"),
                          (marts.current(experiment), "the newest")):  # fmt: skip
            if name is not None:
                speaking[name] = why
        for name in marts.snapshots(experiment):
            folder = marts.folder(experiment, name)
            size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            keep = speaking.get(name)
            lines.append(
                Kept(
                    "snapshots",
                    f"{experiment}/{name}",
                    0,
                    size,
                    "delete" if keep is None else "keep",
                    keep or f"decided more than {days} days ago",
                )
            )
    return lines


def keep_to_policy(bench: Workbench, now: datetime, *, dry_run: bool = False) -> Retention:
    """Delete what is past its day; a dry run only says what would go.

    The log names each partition before it goes, so that a run that was killed is finished by the next, and so
    that nothing is made again by itself. Files go an hour or more after their manifest.
    """
    policy = bench.catalog.policies.retention
    today = now.astimezone(UTC).date()
    plan = retention_plan(bench, today)
    unlimited = tuple(name for name in get_args(RetainedTable) if name not in policy.tables)
    result = Retention(plan, unlimited, dry_run)
    if dry_run:
        return result
    going = result.to_delete()
    if going:
        tables: dict[str, list[str]] = {}
        for one in going:
            tables.setdefault(one.table, []).append(one.name)
        content = {
            "tables": tables,
            "rows": sum(one.rows for one in going),
            "bytes": sum(one.bytes for one in going),
            "by": "schedule",
        }
        state_log(bench.home).append(
            RETENTION,
            today.isoformat(),
            key=f"{today}:{secrets.token_hex(8)}",
            at=now.astimezone(UTC).isoformat(timespec="seconds"),
            content=content,
        )
    for one in going:
        if one.table == "snapshots":
            experiment, _, name = one.name.partition("/")
            Marts(bench.home.marts).remove(experiment, name)
        else:
            bench.lake.retire(one.table, one.name)
    _finish(bench)
    return result


def _finish(bench: Workbench) -> None:
    """Remove files of partitions whose manifest went before, and what a killed run left of a snapshot."""
    gone = retired(bench.home)
    marts = Marts(bench.home.marts)
    for experiment, _, name in (one.partition("/") for table, one in sorted(gone) if table == "snapshots"):
        # One that was made again since has its record, and stays.
        if marts.record(experiment, name) is None:
            marts.remove(experiment, name)
    for table in {table for table, _ in gone if table != "snapshots"}:
        for partition in bench.lake.emptied(table):
            if (table, partition) in gone:
                bench.lake.retire(table, partition)
