"""Contracts over time: what each version of each event was when it was released, and what may still change.

`evolution.json` beside this module records it. Within a major version only additions are allowed; whatever
changes or narrows the meaning of what is already sent needs a new major version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from typing import Any

from exp_pipeline.contracts.canonical import CANONICAL
from exp_pipeline.contracts.canonical.columns import CanonicalColumn
from exp_pipeline.contracts.events import EventSpec, event_specs

Record = Mapping[str, Any]
RECORD = "evolution.json"

_LOW, _HIGH = ("ge", "gt"), ("le", "lt")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference to what was released: where, what, whether it only adds, and what to do about it."""

    where: str
    what: str
    additive: bool
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f". {self.remedy}" if self.remedy else "")


def recorded() -> Record:
    """What was released, as the file beside this module says."""
    text = (files("exp_pipeline.contracts") / RECORD).read_text(encoding="utf-8")
    found: Record = json.loads(text)
    return found


def current() -> Record:
    """What the contracts say now, in the form of the file."""
    columns = {one.name: one for one in CANONICAL}
    events: dict[str, dict[str, Any]] = {}
    for spec in event_specs():
        events.setdefault(spec.name, {})[str(spec.major)] = _event(spec, columns)
    return {"columns": {name: _column(one) for name, one in columns.items()}, "events": events}


def record_text(record: Record) -> str:
    """The text of the file: sorted, one column or rule a line, so that a change reads well."""
    return _text(record, "", spread=True) + "\n"


def _text(value: object, indent: str, *, spread: bool) -> str:
    if not (
        isinstance(value, Mapping) and (spread or any(isinstance(one, Mapping) for one in value.values()))
    ):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    inner = indent + " "
    lines = (
        f"{inner}{json.dumps(name)}: {_text(value[name], inner, spread=name == 'rules')}"
        for name in sorted(value)
    )
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def changes(before: Record, after: Record, *, today: date) -> tuple[Change, ...]:
    """How do two states of the contracts differ, and which differences may not be?

    `today` decides whether a version that is gone had ended.
    """
    return tuple(_changes(before, after, today))


def _column(one: CanonicalColumn) -> dict[str, Any]:
    checks = {
        name: list(value) if isinstance(value, tuple) else _plain(value)
        for name, value in one.checks.items()
        if name != "ne"
    }
    found: dict[str, Any] = {"type": one.type, "unit": one.unit, **checks}
    if "ne" in one.checks:
        found["filled"] = True
    for name in ("always", "identifier", "derived", "reduces", "sunset"):
        if getattr(one, name):
            found[name] = getattr(one, name)
    return found


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _event(spec: EventSpec, columns: Mapping[str, CanonicalColumn]) -> dict[str, Any]:
    named = [*spec.required, *(name for name in spec.own if name not in spec.required)]
    fields: dict[str, dict[str, Any]] = {}
    for name in named:
        field = {"required": name in spec.required, **_column(spec.changed.get(name, columns[name]))}
        field.pop("always", None)
        if name in spec.since:
            field["since"] = spec.since[name]
        if name in spec.deprecated:
            field["sunset"] = spec.deprecated[name]
        if name in spec.reads:
            field["read_as"] = spec.reads[name]
        fields[name] = field
    found: dict[str, Any] = {
        "version": spec.version,
        "fields": fields,
        "rules": {rule.name: rule.expression for rule in spec.rules},
    }
    if spec.sunset is not None:
        found["sunset"] = spec.sunset
    return found


_NEW_MAJOR = "That changes what rows already sent mean: declare a new major version beside this one"


def _changes(before: Record, after: Record, today: date) -> Iterator[Change]:
    yield from _columns_changed("column", before["columns"], after["columns"])
    for event, majors in before["events"].items():
        for major, released in majors.items():
            now = after["events"].get(event, {}).get(major)
            where = f"{event} {major}"
            if now is None:
                yield _gone(where, released, today)
                continue
            yield from _version_changed(where, released, now)
    for event, majors in after["events"].items():
        for major in majors:
            if major not in before["events"].get(event, {}):
                yield Change(f"{event} {major}", "is new", additive=True)


def _gone(where: str, released: Record, today: date) -> Change:
    sunset = released.get("sunset")
    ended = sunset is not None and date.fromisoformat(sunset) < today
    said = "is gone, and had no last day" if sunset is None else f"is gone; its last day is {sunset}"
    return Change(
        where, said, additive=ended, remedy="" if ended else "Keep it, and give it a `sunset` to come"
    )


def _version_changed(where: str, released: Record, now: Record) -> Iterator[Change]:
    found = [
        *_columns_changed(where, released["fields"], now["fields"]),
        *_rules_changed(where, released["rules"], now["rules"]),
        *_sunset_changed(where, released.get("sunset"), now.get("sunset")),
    ]
    yield from found
    old_minor, new_minor = (int(one["version"].split(".")[1]) for one in (released, now))
    if new_minor < old_minor:
        yield Change(
            where,
            f"went back from {released['version']} to {now['version']}",
            additive=False,
            remedy="A released version stays",
        )
    new_fields = [name for name in now["fields"] if name not in released["fields"]]
    early = [name for name in new_fields if _minor(now["fields"][name].get("since")) <= old_minor]
    if early:
        yield Change(
            where,
            f"{', '.join(early)} joined version {released['version']}, which is released",
            additive=False,
            remedy=f"Name it in `since` under minor version {old_minor + 1}",
        )


def _minor(since: str | None) -> int:
    return 0 if since is None else int(since.split(".")[1])


def _columns_changed(where: str, released: Record, now: Record) -> Iterator[Change]:
    for name, was in released.items():
        place = f"{where} {name}"
        if name not in now:
            remedy = "Keep it; a column that should not be sent any more gets a sunset"
            yield Change(place, "is gone", additive=False, remedy=remedy)
        else:
            yield from _column_changed(place, was, now[name])
    for name, new in now.items():
        if name not in released:
            must = new.get("required", new.get("always", False))
            remedy = "A new column must be optional" if must else ""
            yield Change(f"{where} {name}", "is new" + (" and required" * must), not must, remedy)


def _column_changed(place: str, was: Record, new: Record) -> Iterator[Change]:
    for fact in ("type", "unit", "identifier", "derived", "reduces", "read_as", "since"):
        if was.get(fact) != new.get(fact):
            yield Change(place, f"{fact} {_told(was, fact)} became {_told(new, fact)}", False, _NEW_MAJOR)
    for fact in ("required", "always", "filled"):
        if was.get(fact, False) != new.get(fact, False):
            narrower = bool(new.get(fact, False))
            what = f"became {fact}" if narrower else f"is no longer {fact}"
            yield Change(place, what, not narrower, _NEW_MAJOR if narrower else "")
    yield from _values_changed(place, was.get("isin"), new.get("isin"))
    for bounds, sign in ((_LOW, 1), (_HIGH, -1)):
        yield from _bound_changed(place, bounds, sign, was, new)
    yield from _sunset_changed(place, was.get("sunset"), new.get("sunset"))


def _told(record: Record, fact: str) -> str:
    value = record.get(fact)
    return "none" if value in (None, "") else f"{value!r}"


def _values_changed(place: str, was: list[str] | None, new: list[str] | None) -> Iterator[Change]:
    if was == new:
        return
    lost = [value for value in (was or []) if value not in (new or [])]
    if was is None:
        yield Change(place, f"allows only {new} now", False, _NEW_MAJOR)
    elif new is None or not lost:
        added = (
            "any value" if new is None else [value for value in new if value not in was] or "another order"
        )
        yield Change(place, f"allows {added} too", additive=True)
    else:
        yield Change(place, f"no longer allows {lost}", False, _NEW_MAJOR)


def _bound_changed(
    place: str, bounds: tuple[str, str], sign: int, was: Record, new: Record
) -> Iterator[Change]:
    """`sign` 1: a lower bound, where higher is narrower; -1: an upper bound."""
    old_bound, new_bound = _bound(bounds, was), _bound(bounds, new)
    if old_bound == new_bound:
        return
    narrower = new_bound is not None and (
        old_bound is None or _tightness(new_bound, sign) > _tightness(old_bound, sign)
    )
    shown = [_shown(one) for one in (old_bound, new_bound)]
    what = f"its {'lower' if sign > 0 else 'upper'} bound went from {shown[0]} to {shown[1]}"
    yield Change(place, what, not narrower, _NEW_MAJOR if narrower else "")


def _bound(bounds: tuple[str, str], record: Record) -> tuple[float, bool, str] | None:
    """Value as a number, whether the bound itself is out, and how it was written."""
    for name, strict in ((bounds[0], False), (bounds[1], True)):
        if name in record:
            value = record[name]
            if isinstance(value, str):
                number = (datetime.fromisoformat(value) - datetime(1970, 1, 1)).total_seconds()
            else:
                number = float(value)
            return number, strict, f"{name} {value}"
    return None


def _tightness(bound: tuple[float, bool, str], sign: int) -> tuple[float, bool]:
    return bound[0] * sign, bound[1]


def _shown(bound: tuple[float, bool, str] | None) -> str:
    return "none" if bound is None else bound[2]


def _rules_changed(where: str, was: Record, new: Record) -> Iterator[Change]:
    for name, expression in was.items():
        if name not in new:
            yield Change(f"{where} rule {name}", "is gone", additive=True)
        elif new[name] != expression:
            yield Change(f"{where} rule {name}", f"reads {new[name]!r} now", False, _NEW_MAJOR)
    for name in new:
        if name not in was:
            yield Change(f"{where} rule {name}", "is new", False, _NEW_MAJOR)


def _sunset_changed(place: str, was: str | None, new: str | None) -> Iterator[Change]:
    if was == new:
        return
    sooner = was is not None and new is not None and new < was
    remedy = "Producers plan by the day that was told; it may move later only" if sooner else ""
    yield Change(place, f"its last day went from {was} to {new}", not sooner, remedy)
