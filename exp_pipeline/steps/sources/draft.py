"""A first draft of a source from one of its files: what can be guessed, and what a person must decide."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exp_pipeline.catalog.documents import Document
from exp_pipeline.contracts.events import event_names
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.model.errors import SourceError
from exp_pipeline.model.sources import ITEM, ROW_NUMBER, Constant, EventRule, Source
from exp_pipeline.steps.sources.check import problems_of_source
from exp_pipeline.steps.sources.guesses import (
    EVENT_COLUMNS,
    FIELD_NAMES,
    RIGHT_WORDS,
    ROLE_WORDS,
    WRONG_WORDS,
    event_guess,
    field_rank,
    snake,
)
from exp_pipeline.steps.sources.profile import Leaf, Profile, profiled
from exp_pipeline.steps.sources.writing import written

_SECONDS = re.compile(r"(_s|_sec|_secs|_seconds)$")
_LONGER = {"_us": 0.001, "_ns": 0.000001, "_min": 60_000.0, "_minutes": 60_000.0}


@dataclass(frozen=True, slots=True)
class Draft:
    """A source that runs, its commented YAML, and the decisions that only a person can make."""

    source: Source
    text: str
    decisions: tuple[str, ...]


@dataclass(slots=True)
class _Guess:
    """What has been guessed so far."""

    found: dict[str, Leaf]
    fields: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    values: dict[str, dict[str, Constant]] = field(default_factory=dict)
    event: Leaf | None = None
    names: dict[str, str] = field(default_factory=dict)
    rules: list[EventRule] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    history: bool = False


def draft(file: Path, name: str | None = None) -> Draft:
    """A source for a log file, guessed from names and values. Raises SourceError where the file has no rows.

    The draft is valid and makes events of the rows that it understands. Values of the file are not shown in
    it, but for the names of events and for the words of a role.
    """
    with profiled(file) as seen:
        guess = _Guess(_matched(seen))
        _times(seen, guess)
        _people(seen, guess)
        _details(guess)
        _events(seen, guess)
        _event_id(seen, guess)
        stem = re.sub(r"[^a-z0-9_-]+", "-", file.name.split(".")[0].lower())
        source, dropped = _sound(seen, guess, name or stem.strip("-_")[:63] or "draft")
        names = guess.event.values if guess.event is not None else {}
        return Draft(source, written(seen, source, guess.decisions, names, dropped), tuple(guess.decisions))


def _matched(seen: Profile) -> dict[str, Leaf]:
    """The likeliest leaf of each field; a leaf serves one field, the one it speaks of best."""
    offers = sorted(
        (rank, position, field)
        for field in FIELD_NAMES
        for position, leaf in enumerate(seen.leaves)
        if leaf.filled and (rank := field_rank(field, leaf.path)) is not None and _possible(field, leaf)
    )
    found: dict[str, Leaf] = {}
    used: set[int] = set()
    for _, position, name in offers:
        if name not in found and position not in used:
            found[name] = seen.leaves[position]
            used.add(position)
    return found


def _possible(field: str, leaf: Leaf) -> bool:
    spec = FIELDS.get(field)
    if field in ("client_ts", "received_at"):
        return leaf.time is not None or leaf.type.startswith(("TIMESTAMP", "DATE"))
    if leaf.time is not None and field != "event_id":
        return False
    if spec is None or spec.type == "string":
        return leaf.type != "BOOLEAN"
    if spec.type == "boolean":
        return leaf.type == "BOOLEAN" or _judging(leaf)
    return leaf.number


def _judging(leaf: Leaf) -> bool:
    """Whether a leaf's values say right or wrong."""
    words = {value.lower() for value in leaf.values}
    right = {*RIGHT_WORDS, "1.0"}
    return bool(words & right) and words <= {*right, *WRONG_WORDS, "0.0"}


def _moment(leaf: Leaf) -> str:
    """The expression that makes a time of a leaf."""
    kind = leaf.time
    reading = leaf.expression if leaf.number else f"cast({leaf.expression} as double)"
    if kind is None or kind in ("iso", "iso_zone"):
        return leaf.expression
    if kind == "s":
        return f"to_timestamp({reading})"
    if kind in ("ms", "us", "ns"):
        whole = f"cast({leaf.expression} as bigint)"
        return {
            "ms": f"epoch_ms({whole})",
            "us": f"make_timestamp({whole})",
            "ns": f"make_timestamp({whole} // 1000)",
        }[kind]
    return f"strptime({leaf.expression}, '{kind}')"


def _times(seen: Profile, guess: _Guess) -> None:
    first, second = guess.found.get("client_ts"), guess.found.get("received_at")
    if first is None:
        # Any time is better than none; the one that most rows have.
        times = [leaf for leaf in seen.leaves if leaf.time is not None and leaf is not second]
        first = max(times, key=lambda leaf: leaf.filled, default=second)
    if first is None:
        raise SourceError(
            f"{seen.file}: no column holds times (a date and time, or seconds, ms, … since 1970); "
            "an event needs one. If there is one in another form, write the source by hand: docs/sources.md"
        )
    guess.found["client_ts"] = first
    guess.fields["client_ts"] = _moment(first)
    guess.fields["received_at"] = _moment(second or first)
    if second is None:
        guess.history = True
        guess.decisions.append(
            f"received_at: the file says of no time that it is the server's, so {first.expression} serves "
            "for both. With `history: true`, lateness is judged by it and not by the landing folder's day."
        )
    times = [first, *([second] if second is not None and second is not first else [])]
    for leaf in times:
        if leaf.ambiguous_day:
            guess.decisions.append(
                f"{leaf.expression}: its days read as day/month and as month/day; {leaf.time} is taken."
            )
    if zoneless := [leaf.expression for leaf in times if not _zoned(leaf)]:
        guess.decisions.append(
            f"time_zone: {' and '.join(zoneless)} {'names' if len(zoneless) == 1 else 'name'} no zone and "
            f"{'is' if len(zoneless) == 1 else 'are'} read as UTC; put the zone that the clock ran in, "
            "such as Europe/Paris."
        )


def _zoned(leaf: Leaf) -> bool:
    if leaf.time in ("iso_zone", "s", "ms", "us", "ns") or leaf.type == "TIMESTAMP WITH TIME ZONE":
        return True
    return leaf.time is not None and ("%z" in leaf.time or "%Z" in leaf.time)


def _people(seen: Profile, guess: _Guess) -> None:
    learner = guess.found.get("learner_id")
    if learner is None:
        able = [leaf for leaf in seen.leaves if leaf.time is None and 1 < leaf.distinct < leaf.filled]
        named = [leaf for leaf in able if re.search(r"id|user|student|learner", snake(leaf.path[-1]))]
        texts = [leaf for leaf in able if leaf.type == "VARCHAR"]
        learner = next(iter([*named, *texts, *able]), None)
        if learner is None:
            guess.constants["learner_id"] = "unknown"
            guess.decisions.append(
                "learner_id: no column looks like a learner's id; all rows are taken as one learner's."
            )
        else:
            guess.decisions.append(
                f"learner_id: no name speaks of a learner; {learner.expression} is taken "
                f"({learner.distinct:,} different values in {learner.filled:,} rows)."
            )
    if learner is not None:
        guess.found["learner_id"] = learner
        guess.fields["learner_id"] = learner.expression
    role = guess.found.get("role")
    words = {value: ROLE_WORDS.get(value.lower()) for value in role.values} if role is not None else {}
    known = {value: word for value, word in words.items() if word is not None}
    if role is not None and known:
        whole = role.filled == role.rows
        guess.fields["role"] = role.expression if whole else f"coalesce({role.expression}, 'student')"
        guess.values["role"] = {**known, "*": "student"}
        if len(known) < len(words):
            guess.decisions.append(
                "role: some words are unknown, and count as students; list them under `values`."
            )
    else:
        guess.constants["role"] = "student"
        guess.decisions.append(
            "role: every row is taken as a student's. Name the rows of teachers, staff and test accounts, or "
            "they count as learners."
        )
    for name, absent in (("platform", "unknown"), ("app_version", "unknown")):
        leaf = guess.found.get(name)
        if leaf is None:
            guess.constants[name] = absent
        else:
            text = leaf.expression if leaf.type == "VARCHAR" else f"cast({leaf.expression} as varchar)"
            guess.fields[name] = (
                leaf.expression if leaf.filled == leaf.rows else f"coalesce({text}, '{absent}')"
            )
    guess.constants["schema_version"] = "1.0"


# Filled elsewhere; the others only where an event of theirs is made.
_DONE = frozenset(
    {"client_ts", "received_at", "learner_id", "role", "platform", "app_version", "event_id", "goal_name"}
)


def _details(guess: _Guess) -> None:
    for name, leaf in guess.found.items():
        if name in _DONE or name in guess.fields or leaf.expression == guess.fields.get("learner_id"):
            continue
        if name in ("experiment", "arm") and not {"experiment", "arm"} <= guess.found.keys():
            continue
        spec = FIELDS.get(name)
        if spec is not None and spec.allowed and not set(leaf.values) <= set(spec.allowed):
            continue
        guess.fields[name] = _fitted(name, leaf)
        if name == "latency_ms" and guess.fields[name] != leaf.expression:
            guess.decisions.append(f"latency_ms: {leaf.expression} is taken to be {_unit(leaf)}.")


def _unit(leaf: Leaf) -> str:
    name = snake(leaf.path[-1])
    return "in seconds" if _SECONDS.search(name) else "in the unit of its name"


def _fitted(field: str, leaf: Leaf) -> str:
    name = snake(leaf.path[-1])
    if field in ("latency_ms", "ttft_ms"):
        if _SECONDS.search(name):
            return f"{leaf.expression} * 1000"
        for ending, factor in _LONGER.items():
            if name.endswith(ending):
                return f"{leaf.expression} * {factor:f}".rstrip("0").rstrip(".")
    spec = FIELDS.get(field)
    if spec is not None and spec.type == "boolean" and leaf.type != "BOOLEAN":
        if leaf.number:
            return f"{leaf.expression} = 1"
        right = ", ".join(f"'{word}'" for word in RIGHT_WORDS if word in {v.lower() for v in leaf.values})
        return f"lower({leaf.expression}) in ({right})"
    return leaf.expression


def _events(seen: Profile, guess: _Guess) -> None:
    taken = {leaf.expression for field, leaf in guess.found.items() if field in guess.fields}
    candidates = [
        (EVENT_COLUMNS.index(snake(leaf.path[-1])), position, leaf)
        for position, leaf in enumerate(seen.leaves)
        if leaf.values and leaf.time is None and snake(leaf.path[-1]) in EVENT_COLUMNS
        and leaf.type in ("VARCHAR", "JSON") and leaf.expression not in taken
    ]  # fmt: skip
    if candidates:
        guess.event = min(candidates)[2]
        for value in guess.event.values:
            event = event_guess(value, event_names())
            if event is not None:
                guess.names[value] = event
    if {"experiment", "arm"} <= guess.fields.keys():
        guess.constants |= {"experiment_version": 1, "unit_type": "learner", "assignment_source": "logged"}
        guess.constants["surface"] = "unknown"
        guess.fields["unit_id"] = guess.fields.get("learner_id", "'unknown'")
    if guess.event is not None:
        if "goal_reached" in guess.names.values():
            guess.fields["goal_name"] = guess.event.expression
        return
    if guess.fields.keys() & {"correct", "score"}:
        guess.rules.append(EventRule(event_name="answer_attempted"))
    elif {"experiment", "arm"} <= guess.fields.keys():
        guess.rules += [
            EventRule(event_name="experiment_assigned"),
            EventRule(event_name="experiment_exposed"),
        ]
    elif "model_name" in guess.fields:
        guess.rules.append(EventRule(event_name="model_request_created"))
    elif "hint_level" in guess.fields:
        guess.rules.append(EventRule(event_name="hint_requested"))
    if guess.rules:
        said = " and ".join(rule.event_name for rule in guess.rules)
        guess.decisions.append(
            f"events: no column names events; by its columns, each row is taken as {said}."
        )


def _event_id(seen: Profile, guess: _Guess) -> None:
    own = guess.found.get("event_id")
    # A log that sends rows again has an id twice, here and there.
    if own is not None and own.filled >= 0.9 * own.rows and own.distinct >= 0.9 * own.filled:
        guess.fields["event_id"] = own.expression
        if len(guess.rules) > 1:
            guess.rules = [
                _with_id(rule, f"{own.expression} || '-{rule.event_name}'") for rule in guess.rules
            ]
        return
    names = ("learner_id", "client_ts", "session_id", "turn_id", "content_id", "experiment", "arm")
    parts = [guess.found[name] for name in names if name in guess.found]
    parts += [guess.event] if guess.event is not None else []
    parts = list({leaf.expression: leaf for leaf in parts}.values())
    told = [leaf.expression for leaf in parts] or [guess.fields["client_ts"]]
    if seen.different(parts) < 0.9 if parts else True:
        told.append(ROW_NUMBER)
        guess.decisions.append(
            "event_id: no columns together tell rows apart, so the row's number in its file is part of the "
            "id, and a row that is sent again counts again. Name what makes a row unique, and take "
            "row_number out."
        )
    else:
        guess.decisions.append(
            f"event_id: no column is an event's own id, so it is made of {', '.join(told)}; "
            "rows alike in all of them count once."
        )
    if len(guess.rules) > 1:
        guess.rules = [
            _with_id(rule, f"md5(concat_ws('|', '{rule.event_name}', {', '.join(told)}))")
            for rule in guess.rules
        ]
    else:
        guess.fields["event_id"] = f"md5(concat_ws('|', {', '.join(told)}))"


def _with_id(rule: EventRule, text: str) -> EventRule:
    return rule.model_copy(update={"fields": {**rule.fields, "event_id": text}})


def _sound(seen: Profile, guess: _Guess, name: str) -> tuple[Source, dict[str, str]]:
    """The source without what its checks refuse, and why each of these was left out."""
    dropped: dict[str, str] = {}
    for _ in range(200):
        if not guess.names and not guess.rules:
            guess.rules = [_anything(guess)]
        source = _source(seen, guess, name)
        document = Document("draft", Path("draft"), source.model_dump(mode="json"), {(): 1}, {})
        problems = problems_of_source(source, document)
        if not problems:
            return source, dropped
        for problem in problems:
            match = re.fullmatch(r"(event_names|fields|constants|values|columns)\.(.+)", problem.field)
            if match is None:
                rules = [rule for rule in guess.rules if rule.event_name in problem.message]
                if not rules:
                    raise SourceError(f"{seen.file}: no draft could be made: {problem}")
                for rule in rules:
                    guess.rules.remove(rule)
                continue
            section, key = match[1], match[2]
            dropped[key] = problem.message
            sections: dict[str, dict[str, Any]] = {
                "event_names": guess.names,
                "fields": guess.fields,
                "constants": guess.constants,
                "values": guess.values,
                "columns": guess.fields,
            }
            sections[section].pop(key, None)
    raise SourceError(f"{seen.file}: no draft could be made")


def _anything(guess: _Guess) -> EventRule:
    """The general event, for rows of which nothing better is known."""
    guess.decisions.append(
        "events: nothing in the file looks like an event of ours, so every row is the general goal_reached; "
        "put the events that its rows mean."
    )
    if guess.event is None:
        return EventRule(event_name="goal_reached", constants={"goal_name": "unknown"})
    return EventRule(event_name="goal_reached", fields={"goal_name": guess.event.expression})


def _source(seen: Profile, guess: _Guess, name: str) -> Source:
    texts = [*guess.fields.values(), *(text for rule in guess.rules for text in rule.fields.values())]
    texts += [guess.event.expression] if guess.event is not None and guess.names else []
    read = _columns_read(texts)
    columns = {column: kind for column, kind in seen.columns.items() if column in read}
    if seen.unnest is not None:
        columns = {seen.unnest: seen.columns[seen.unnest], **columns, ITEM: seen.columns[ITEM]}
    if ROW_NUMBER in read:
        columns[ROW_NUMBER] = "BIGINT"
    suffix = "".join(seen.file.suffixes[-2:] if seen.file.suffix == ".gz" else seen.file.suffixes[-1:])
    return Source(
        name=name,
        files=f"received_date=*/{name}/*{suffix}",
        format=seen.format,
        csv=seen.csv,
        history=guess.history,
        unnest=None if seen.unnest is None else _quoted(seen.unnest),
        columns=columns,
        event_name=guess.event.expression if guess.event is not None and guess.names else None,
        event_names=guess.names if guess.event is not None else {},
        constants=dict(guess.constants),
        fields=dict(guess.fields),
        values=dict(guess.values),
        events=tuple(guess.rules),
    )


def _quoted(name: str) -> str:
    from sqlglot import exp

    return exp.column(name, quoted=True).sql(dialect="duckdb")


def _columns_read(texts: list[str]) -> set[str]:
    import sqlglot
    from sqlglot import exp

    parsed = [sqlglot.parse_one(text, dialect="duckdb") for text in texts]
    return {column.parts[0].name for one in parsed for column in one.find_all(exp.Column)}
