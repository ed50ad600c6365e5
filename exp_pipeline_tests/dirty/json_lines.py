"""Kinds of NDJSON lines, each with what must become of it."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

from exp_pipeline_tests.dirty.key import (
    DAY,
    EVENTS_PER_MINUTE,
    LINE_LIMIT,
    Fate,
    Made,
    Maker,
    Planting,
    envelope,
    kept,
    left_out,
    refused,
    retry,
    stamp,
)


def line(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def with_raw(planting: Planting, day: date, text: str) -> bytes:
    """A sound event with more JSON text inside its braces."""
    return line(envelope(planting, day))[:-2] + b"," + text.encode() + b"}\n"


def changed(reason: str | None, **changes: object) -> Maker:
    """An event with fields changed: kept, or refused for a reason."""

    def make(planting: Planting, day: date) -> Made:
        fate = kept(day) if reason is None else refused(reason, day)
        return line(envelope(planting, day, **changes)), [fate]

    return make


def raw(reason: str | None, text: str) -> Maker:
    """An event with more JSON text in it."""

    def make(planting: Planting, day: date) -> Made:
        fate = kept(day) if reason is None else refused(reason, day)
        return with_raw(planting, day, text), [fate]

    return make


def not_an_event(reason: str, content: bytes) -> Maker:
    """A line that is no event at all; it counts for the day on which it was received."""
    return lambda planting, day: (content + b"\n", [refused(reason, day)])


def rewritten(reason: str | None, before: bytes, after: bytes) -> Maker:
    """A sound event with some of its bytes replaced."""

    def make(planting: Planting, day: date) -> Made:
        whole = line(envelope(planting, day))
        assert before in whole
        fate = kept(day) if reason is None else refused(reason, day)
        return whole.replace(before, after, 1), [fate]

    return make


def left(reason: str, **changes: object) -> Maker:
    return lambda planting, day: (line(envelope(planting, day, **changes)), [left_out(reason, day)])


def timed(reason: str | None, client: str, received: str | None = None, days: int = 0) -> Maker:
    """An event with times as written; `{day}`, `{day+1}`, ... stand for days around the received one."""

    def make(planting: Planting, day: date) -> Made:
        def written(text: str) -> str:
            for offset in range(-80, 3):
                text = text.replace("{day%+d}" % offset, str(day + DAY * offset))  # noqa: UP031
            return text.replace("{day}", str(day))

        event = envelope(planting, day, client_ts=written(client), received_at=written(received or client))
        on = day + DAY * days
        return line(event), [kept(on) if reason is None else refused(reason, on)]

    return make


def number_as_time(per_second: int) -> Maker:
    def make(planting: Planting, day: date) -> Made:
        seconds = int(datetime(day.year, day.month, day.day, 9).timestamp())
        event = envelope(planting, day, client_ts=seconds * per_second)
        return line(event), [refused("wrong_type:client_ts", day)]

    return make


def twice(planting: Planting, day: date) -> Made:
    event = envelope(planting, day)
    return line(event) + line(event), [kept(day), retry(day)]


def sent_again_later(planting: Planting, day: date) -> Made:
    event = envelope(planting, day)
    at = datetime.strptime(str(event["received_at"]), "%Y-%m-%dT%H:%M:%SZ")
    again = event | {"received_at": stamp(at + timedelta(seconds=40))}
    return line(again) + line(event), [kept(day), retry(day)]


def conflicting(planting: Planting, day: date) -> Made:
    event = envelope(planting, day)
    at = datetime.strptime(str(event["received_at"]), "%Y-%m-%dT%H:%M:%SZ")
    other = event | {"received_at": stamp(at + timedelta(seconds=40)), "hint_level": 2}
    return line(event) + line(other), [kept(day), refused("conflicting_duplicate", day)]


def broken_before_sound(planting: Planting, day: date) -> Made:
    event = envelope(planting, day)
    broken = line(event | {"latency_ms": -1.0})
    return broken + line(event), [refused("out_of_range:latency_ms", day), kept(day)]


def superhuman(planting: Planting, day: date) -> Made:
    """One more than a person can do in a minute, and one event of the next minute, which counts."""
    who = planting.new_id("busy")
    minute = datetime(day.year, day.month, day.day, 22, 30)
    times = [minute + timedelta(milliseconds=200 * place) for place in range(EVENTS_PER_MINUTE + 1)]
    times.append(minute + timedelta(seconds=60))
    events = [
        envelope(planting, day, learner_id=who, client_ts=stamp(at), received_at=stamp(at)) for at in times
    ]
    return b"".join(map(line, events)), [left_out("superhuman_pace", day)] * (EVENTS_PER_MINUTE + 1) + [
        kept(day)
    ]


STRANGE_IDS = (
    "caf\u00e9",
    "cafe\u0301",
    "CAF\u00c9",
    "caf\u00e9 ",
    " caf\u00e9",
    "Stra\u00dfe",
    "Strasse",
    "\u0130stanbul",
    "istanbul",
    "\u212bngstr\u00f6m",
    "\u00c5ngstr\u00f6m",
    "\ufb01sh",
    "fish",
    "'; drop table events; --",
    '"; drop table events; --',
    "1 or 1=1",
    "$1",
    "{0}",
    "%s",
    "../../etc/passwd",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "a\\b",
    "a\u0000b",
    "a\u0000c",
    "\u0001",
    "\u007f",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u202eabc",
    "abc\u202c",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u0645\u0631\u062d\u0628\u0627",
    "null",
    "NULL",
    "None",
    "nan",
    "NaN",
    "true",
    "0",
    "00",
    "0.0",
    "-0",
    "1e3",
    "1000",
    "[]x",
    "x{}",
    "\ufeffbom",
    "bom",
    "\ufffd",
    "x" * 10_000,
    "x" * 9_999 + "y",
    "\u65e5" * 3_000,
    "a,b",
    'a"b',
    "a;b",
    "a|b",
    "\\u0041",
    "A",
    "\u0410",
    "\u0391",
)


def people(planting: Planting, day: date) -> Made:
    """Each of these is another person."""
    planting.people.update(STRANGE_IDS)
    events = [envelope(planting, day, learner_id=one) for one in STRANGE_IDS]
    return b"".join(map(line, events)), [kept(day)] * len(events)


def event_ids(planting: Planting, day: date) -> Made:
    """Each of these is another event, on each day."""
    ids = [one + planting.new_id() if len(one) < 100 else planting.new_id() + one for one in STRANGE_IDS]
    pairs = [
        f"{day}caf\u00e9",
        f"{day}cafe\u0301",
        f"{day}CAF\u00c9",
        f"{day}caf\u00e9 ",
        f"{day}a\u0000",
        f"{day}a",
    ]
    events = [envelope(planting, day, event_id=one) for one in (*ids, *pairs)]
    return b"".join(map(line, events)), [kept(day)] * len(events)


def nested(opening: str, closing: str, depth: int) -> Maker:
    return raw(None, '"deep":' + opening * depth + "1" + closing * depth)


def none_of_these(content: bytes) -> Maker:
    """Lines that are no rows."""
    return lambda planting, day: (content, [])


def _all_null(planting: Planting, day: date) -> Made:
    event = dict.fromkeys(envelope(planting, day))
    return line(event), [refused("missing:event_name", day)]


def _explicit_nulls(planting: Planting, day: date) -> Made:
    return line(envelope(planting, day, device_id=..., hint_level=..., prompt=..., mood=...)), [kept(day)]


KINDS: dict[str, Maker] = {
    "sound": changed(None),
    "windows newline": lambda p, d: (line(envelope(p, d))[:-1] + b"\r\n", [kept(d)]),
    "spaces around everything": lambda p, d: (
        json.dumps(envelope(p, d), separators=(" , ", " : ")).encode() + b"  \n",
        [kept(d)],
    ),
    "space after colon": lambda p, d: (json.dumps(envelope(p, d)).encode() + b"\n", [kept(d)]),
    "two spaces after colon": lambda p, d: (
        json.dumps(envelope(p, d), separators=(",", ":  ")).encode() + b"\n",
        [kept(d)],
    ),
    "leading blanks": lambda p, d: (b" \t" + line(envelope(p, d)), [kept(d)]),
    "escaped text": lambda p, d: (
        json.dumps(envelope(p, d, platform='a "quoted": b', app_version="note : x")).encode() + b"\n",
        [kept(d)],
    ),
    "text that looks like fields": changed(None, platform='":{"a":1},"b":null', app_version="\\"),
    "unknown field": changed(None, mood="calm"),
    "unknown nested field": changed(None, context={"a": [1, {"b": None}], "c": {"d": "e"}}),
    "unknown empty list": changed(None, tags=[]),
    "explicit nulls": _explicit_nulls,
    "all null": _all_null,
    "empty object": not_an_event("missing:event_name", b"{}"),
    "same key twice": raw("duplicate_key", '"event_id":"other"'),
    "same key twice, same value": raw("duplicate_key", '"platform":"web"'),
    "same key again as null": raw(None, '"platform":null'),
    "unknown key twice": raw("duplicate_key", '"mood":1,"mood":2'),
    "key in other case": raw(None, '"PLATFORM":"x","Event_Id":"y"'),
    "escaped key": raw("duplicate_key", '"pl\\u0061tform":"ios"'),
    "number as text": changed(None, hint_level="3"),
    "number as text with blanks": changed(None, hint_level=" 3 "),
    "text as number": lambda p, d: (
        line(envelope(p, d, event_id=10_000_000_000_000_000_000_000 + int(p.new_id("").strip("-")))),
        [kept(d)],
    ),
    "text as truth value": changed(None, app_version=True),
    "no number": changed("wrong_type:hint_level", hint_level="three"),
    "hexadecimal": changed("wrong_type:hint_level", hint_level="0x1F"),
    "underscored number": changed("wrong_type:tokens_in", tokens_in="5_0"),
    "no whole number": changed("wrong_type:tokens_in", tokens_in=1.5),
    "no whole number as text": changed("wrong_type:tokens_in", tokens_in="1.5"),
    "whole number with a point": changed(None, tokens_in=2.0),
    "truth value for a number": changed("wrong_type:tokens_in", tokens_in=True),
    "empty text for a number": changed(None, hint_level=""),
    "2 to the 63": changed("wrong_type:tokens_in", tokens_in=2**63),
    "2 to the 64": changed("wrong_type:tokens_in", tokens_in=2**64),
    "largest whole number": changed("out_of_range:tokens_in", tokens_in=2**63 - 1),
    "400 digits": raw("wrong_type:tokens_in", '"tokens_in":' + "9" * 400),
    "1e400": raw("wrong_type:latency_ms", '"latency_ms":1e400'),
    "1e-400": raw(None, '"latency_ms":1e-400'),
    "minus nought": raw(None, '"latency_ms":-0.0,"tokens_in":-0'),
    "NaN": raw("wrong_type:latency_ms", '"latency_ms":NaN'),
    "NaN as text": changed("wrong_type:latency_ms", latency_ms="NaN"),
    "Infinity": raw("wrong_type:latency_ms", '"latency_ms":Infinity'),
    "minus Infinity": raw("wrong_type:latency_ms", '"latency_ms":-Infinity'),
    "leading nought": raw("not_json", '"latency_ms":012'),
    "plus sign": raw("not_json", '"latency_ms":+1'),
    "yes": changed(None, correct="yes"),
    "perhaps": changed("wrong_type:correct", correct="perhaps"),
    "one for true": changed(None, correct=1),
    "two for true": changed("wrong_type:correct", correct=2),
    "object for a text": changed("wrong_type:platform", platform={"name": "web"}),
    "empty object for a text": changed("wrong_type:platform", platform={}),
    "list for a text": changed("wrong_type:platform", platform=["web"]),
    "object for an id": changed("wrong_type:learner_id", learner_id={"id": "x"}),
    "list for a number": changed("wrong_type:hint_level", hint_level=[1]),
    "no learner": changed("missing:learner_id", learner_id=None),
    "null learner": changed("missing:learner_id", learner_id=...),
    "empty learner": changed("missing:learner_id", learner_id=""),
    "no event id": changed("missing:event_id", event_id=None),
    "empty event id": changed("missing:event_id", event_id=""),
    "no name": changed("missing:event_name", event_name=None),
    "no version": changed("missing:schema_version", schema_version=None),
    "blank platform": changed(None, platform=" "),
    "unknown event": changed("unknown_event", event_name="tutor_dreamed"),
    "event name in other case": changed("unknown_event", event_name="Hint_Requested"),
    "version 9.1": changed("unsupported_version", schema_version="9.1"),
    "version 1": changed("malformed_version", schema_version="1"),
    "version 1.7": changed(None, schema_version="1.7"),
    "unknown role": changed("not_allowed:role", role="robot"),
    "negative time": changed("out_of_range:latency_ms", latency_ms=-1.0),
    "score above the most": changed("rule:score_le_max_score", score=11.0, max_score=10.0),
    "staff": left("role:staff", role="staff"),
    "test account": left("role:test", role="test"),
    "bot": left("bot_user_agent", user_agent="Mozilla/5.0 (compatible; Googlebot/2.1)"),
    "superhuman": superhuman,
    "time without zone": timed(None, "{day}T10:00:00"),
    "time with blank": timed(None, "{day} 10:00:00.123456"),
    "time with nanoseconds": timed(None, "{day}T10:00:00.123456789Z"),
    "offset into the day before": timed(None, "{day}T01:30:00+02:00", "{day-1}T23:30:05Z", -1),
    "offset without colon": timed(None, "{day}T01:30:00+0530", "{day-1}T20:00:05Z", -1),
    "leap second": timed("wrong_type:client_ts", "2016-12-31T23:59:60Z", "{day}T10:00:00Z"),
    "year 1": timed("too_late", "0001-01-01T00:00:00Z", "{day}T10:00:00Z"),
    "before Christ": timed("wrong_type:client_ts", "0044-03-15 (BC)", "{day}T10:00:00Z"),
    "year 9999": timed("out_of_range:client_ts", "9999-12-31T23:59:59Z", "{day}T10:00:00Z"),
    "year 12026": timed("wrong_type:client_ts", "12026-01-01T00:00:00Z", "{day}T10:00:00Z"),
    "infinite time": timed("wrong_type:client_ts", "infinity", "{day}T10:00:00Z"),
    "infinite receipt": timed("wrong_type:received_at", "{day}T10:00:00Z", "infinity"),
    "words for a time": timed("wrong_type:client_ts", "yesterday", "{day}T10:00:00Z"),
    "impossible day": timed("wrong_type:client_ts", "2026-02-30T10:00:00Z", "{day}T10:00:00Z"),
    "seconds since 1970": number_as_time(1),
    "milliseconds since 1970": number_as_time(1000),
    "date only": timed(None, "{day}", "{day}T10:00:00Z"),
    "date only for receipt": timed(None, "{day}T10:00:00Z", "{day}"),
    "no receipt": changed("missing:received_at", received_at=None),
    "no time": changed("missing:client_ts", client_ts=None),
    "clock a year ahead": timed(None, "2027-03-10T10:00:00Z", "{day}T10:00:00Z"),
    "clock years behind": timed("too_late", "2019-03-10T10:00:00Z", "{day}T10:00:00Z"),
    "both clocks a year ahead": timed("from_the_future", "2027-03-10T10:00:00Z"),
    "tomorrow by an hour": timed(None, "{day+1}T00:59:00Z", days=1),
    "in two days": timed("from_the_future", "{day+2}T01:00:00Z"),
    "four minutes before it happened": timed(None, "{day}T10:04:00Z", "{day}T10:00:00Z"),
    "ten minutes before it happened": timed(None, "{day}T10:10:00Z", "{day}T10:00:00Z"),
    "clock ahead over midnight": timed(None, "{day+1}T00:30:00Z", "{day}T23:50:00Z"),
    "three days late": timed(None, "{day-3}T10:00:00Z", days=-3),
    "four days late": timed("too_late", "{day-4}T10:00:00Z", days=-4),
    "sixty days late": timed("too_late", "{day-60}T10:00:00Z", days=-60),
    "sixty-one days late": timed("too_late", "{day-61}T10:00:00Z"),
    "sent twice": twice,
    "sent again later": sent_again_later,
    "conflicting copies": conflicting,
    "broken copy before the sound one": broken_before_sound,
    "strange people": people,
    "strange event ids": event_ids,
    "lists 10,000 deep": nested("[", "]", 10_000),
    "objects 5,000 deep": nested('{"a":', "}", 5_000),
    "no JSON": not_an_event("not_json", b"upstream error, batch 17 dropped"),
    "truncated": lambda p, d: (line(envelope(p, d))[:70] + b"\n", [refused("not_json", d)]),
    "unclosed text": not_an_event("not_json", b'{"event_id":"x'),
    "single quotes": not_an_event("not_json", b"{'event_id':'x'}"),
    "comment": not_an_event("not_json", b'{"event_id":"x"} // done'),
    "two objects in a line": lambda p, d: (
        line(envelope(p, d))[:-1] + line(envelope(p, d)),
        [refused("not_json", d)],
    ),
    "two objects with a bare return": lambda p, d: (
        line(envelope(p, d))[:-1] + b"\r" + line(envelope(p, d)),
        [refused("not_json", d)],
    ),
    "list of an object": lambda p, d: (
        b"[" + line(envelope(p, d))[:-1] + b"]\n",
        [refused("not_an_object", d)],
    ),
    "empty list": not_an_event("not_an_object", b"[]"),
    "number": not_an_event("not_an_object", b"3"),
    "text": not_an_event("not_an_object", b'"text"'),
    "null": not_an_event("not_an_object", b"null"),
    "raw control character": rewritten("not_json", b'"web"', b'"w\x01b"'),
    "raw nul": rewritten("not_json", b'"web"', b'"w\x00b"'),
    "escaped nul": changed(None, platform="a\u0000b"),
    "not UTF-8": rewritten("not_utf8", b'"web"', b'"\xff\xfe"'),
    "latin-1": rewritten("not_utf8", b'"web"', b'"caf\xe9"'),
    "overlong UTF-8": rewritten("not_utf8", b'"web"', b'"\xc0\xaf"'),
    "surrogate as UTF-8": rewritten("not_utf8", b'"web"', b'"\xed\xa0\x80"'),
    "lone surrogate": rewritten("not_json", b'"web"', b'"\\ud800"'),
    "surrogates the wrong way round": rewritten("not_json", b'"web"', b'"\\ude00\\ud83d"'),
    "surrogate pair": rewritten(None, b'"web"', b'"\\ud83d\\ude00"'),
    "byte order mark within": lambda p, d: (b"\xef\xbb\xbf" + line(envelope(p, d)), [kept(d)]),
    "just within the limit": lambda p, d: (line(envelope(p, d, mood="x" * (LINE_LIMIT - 1_000))), [kept(d)]),
    "over the limit": lambda p, d: (
        line(envelope(p, d, mood="x" * (LINE_LIMIT + 1))),
        [refused("line_too_long", d)],
    ),
    "long line of rubbish": not_an_event("line_too_long", b"z" * (3 * LINE_LIMIT)),
    "blank line": none_of_these(b"\n"),
    "line of blanks": none_of_these(b" \t  \r\n"),
}


def some(planting: Planting, day: date, count: int) -> tuple[bytes, list[Fate]]:
    """Sound events only."""
    return b"".join(line(envelope(planting, day)) for _ in range(count)), [kept(day)] * count
