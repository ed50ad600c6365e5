"""What two readouts of one experiment differ in: their inputs, and by how much their estimates moved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from exp_pipeline.model.readout import Estimate, InputCause, InputChange, Movement, Readout

_DAYS_OF = ("events", "quarantine", "exclusions")
# Record entry -> why a snapshot with another one is another snapshot.
_DEFINITIONS: Mapping[str, InputCause] = {
    "brief": "brief",
    "metrics": "metrics",
    "code": "code",
    "layer": "limits",
    "holdout": "limits",
    "ramp": "limits",
    "lock": "lock",
    "unblinding": "unblinding",
    "equal_arms": "earlier A/A",
}


def movements(before: Readout, now: Readout, *, every_role: bool = False) -> tuple[Movement, ...]:
    """By how much did the primary and guardrail estimates (or those of every role) move between two readouts?

    Whole-experiment estimates of the same metric and arm, in the order of the newer readout. An effect that
    either readout hides is not in it, so nothing is told before a planned look.
    """
    known = {(one.metric, one.arm, one.role): one for one in before.estimates if one.segment is None}
    hidden = before.blinded or now.blinded
    found = []
    for one in now.estimates:
        old = known.get((one.metric, one.arm, one.role))
        if old is None or one.segment is not None:
            continue
        if (one.role in ("secondary", "counter") and not every_role) or (one.role != "guardrail" and hidden):
            continue
        found.append(_movement(old, one))
    return tuple(found)


def _movement(old: Estimate, new: Estimate) -> Movement:
    moved = None if old.absolute is None or new.absolute is None else new.absolute - old.absolute
    errors = moved / old.se if moved is not None and old.se else None
    return Movement(
        metric=new.metric,
        title=new.title,
        role=new.role,
        display=new.display,
        arm=new.arm,
        n_control=min(old.n_control, new.n_control),
        n_treatment=min(old.n_treatment, new.n_treatment),
        before=old.absolute,
        now=new.absolute,
        moved=moved,
        in_old_errors=errors,
    )


def changed_inputs(
    before: Mapping[str, object],
    now: Mapping[str, object],
    *,
    corrected: Collection[date] = (),
    whole_tables: bool = True,
) -> tuple[InputChange, ...]:
    """In which inputs do two snapshots differ, and why?

    before, now: the `inputs` of their records. corrected: event days on which rows stand corrected that did
    not before. Days after the older snapshot's last are new days; days whose events (or what was refused) are
    others had late data or a correction; days of other tables alone were made anew by another rule. Tables
    without days are looked at where `whole_tables` is set and no day differs.
    """
    found: list[InputChange] = []
    reasons = {why for name, why in _DEFINITIONS.items() if before.get(name) != now.get(name)}
    found += [InputChange(why=why) for why in dict.fromkeys(_DEFINITIONS.values()) if why in reasons]
    last = date.fromisoformat(str(before["as_of"])) if "as_of" in before else date.max
    tables_of: dict[date, set[str]] = {}
    whole: set[str] = set()
    old, new = _tables(before), _tables(now)
    for table in sorted({*old, *new}):
        mine, theirs = old.get(table), new.get(table)
        if not isinstance(mine, Mapping) or not isinstance(theirs, Mapping):
            if mine != theirs:
                whole.add(table)
            continue
        for partition in {*mine, *theirs}:
            if mine.get(partition) != theirs.get(partition):
                day = date.fromisoformat(str(partition).partition("=")[2])
                tables_of.setdefault(day, set()).add(table)
    # Before the experiment's first day a snapshot knows sums of events only.
    seen = _event_days(old) | _event_days(new) if "metrics" not in reasons else frozenset()
    by_why: dict[InputCause, dict[date, set[str]]] = {}
    for day, tables in tables_of.items():
        by_why.setdefault(_why(day, tables, last, corrected, seen), {})[day] = tables
    for why in ("late data", "correction", "made anew", "new days"):
        days = by_why.get(why, {})
        if days:
            named = tuple(sorted({table for tables in days.values() for table in tables}))
            found.append(InputChange(why=why, tables=named, days=tuple(sorted(days))))
    if whole_tables and whole and not tables_of:
        found.append(InputChange(why="made anew", tables=tuple(sorted(whole))))
    return tuple(found)


def _why(
    day: date, tables: Collection[str], last: date, corrected: Collection[date], seen: Collection[date]
) -> InputCause:
    if day > last:
        return "new days"
    summed = bool(seen) and day not in seen and "learner_days" in tables
    if not summed and not set(tables) & set(_DAYS_OF):
        return "made anew"
    return "correction" if day in corrected else "late data"


def _event_days(tables: Mapping[str, object]) -> frozenset[date]:
    events = tables.get("events")
    names = events if isinstance(events, Mapping) else {}
    return frozenset(date.fromisoformat(str(name).partition("=")[2]) for name in names)


def _tables(inputs: Mapping[str, object]) -> Mapping[str, object]:
    tables = inputs.get("tables")
    return tables if isinstance(tables, Mapping) else {}
