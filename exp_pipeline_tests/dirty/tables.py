"""Dirty CSV and Parquet files in canonical columns."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256

import polars as pl

from exp_pipeline_tests.dirty.json_files import gz
from exp_pipeline_tests.dirty.key import DAYS, Fate, Planting, envelope, kept, left_out, refused, retry

JSON, CSV, TABLE = "clean-json", "clean-csv", "clean-table"


def quoted(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(one in text for one in ',;"\r\n\t|') else text


def record(event: Mapping[str, object], header: Sequence[str], delimiter: str = ",") -> bytes:
    return (delimiter.join(quoted(event.get(name)) for name in header) + "\n").encode()


HEADER = (
    "event_id",
    "event_name",
    "schema_version",
    "client_ts",
    "received_at",
    "learner_id",
    "role",
    "platform",
    "app_version",
    "hint_level",
    "latency_ms",
    "mood",
)
HEAD = record(dict(zip(HEADER, HEADER, strict=True)), HEADER)


def csv_records(planting: Planting, day: date) -> list[tuple[str, bytes, list[Fate]]]:
    """Every kind of CSV record, by its name."""

    def one(**changes: object) -> bytes:
        return record(envelope(planting, day, **changes), HEADER)

    sound = envelope(planting, day)
    ok, count = [kept(day)], [refused("wrong_column_count", day)]
    quotes, text = [refused("bad_quotes", day)], [refused("not_utf8", day)]
    return [
        ("sound", one(), ok),
        ("comma in a value", one(platform="a, b"), ok),
        ("quotes in a value", one(platform='say "hi"'), ok),
        ("newline in a value", one(platform="two\nlines"), ok),
        ("newlines in a value", one(platform="a\r\n\n\n", mood="\n"), ok),
        (
            "everything quoted",
            b",".join(b'"' + str(sound.get(n, "")).encode() + b'"' for n in HEADER) + b"\n",
            ok,
        ),
        ("windows newline", one()[:-1] + b"\r\n", ok),
        ("empty values", one(platform="web", mood=""), ok),
        ("empty id", one(event_id=""), [refused("missing:event_id", day)]),
        ("quoted empty id", b'""' + one(event_id=""), [refused("missing:event_id", day)]),
        ("word for a number", one(hint_level="two"), [refused("wrong_type:hint_level", day)]),
        ("broken number", one(hint_level="1.5"), [refused("wrong_type:hint_level", day)]),
        ("NaN", one(latency_ms="nan"), [refused("wrong_type:latency_ms", day)]),
        ("spreadsheet time", one(client_ts="02/03/2026 10:00"), [refused("wrong_type:client_ts", day)]),
        ("too few columns", b"a,b,c\n", count),
        ("too many columns", one()[:-1] + b",x\n", count),
        ("one column", b"lonely\n", count),
        ("text after a quote", b'"web"x' + one(event_id=""), quotes),
        ("latin-1", one(platform="caf").replace(b"caf", b"caf\xe9"), text),
        ("latin-1 in quotes", one(platform="caf,").replace(b"caf,", b"caf\xe9,"), text),
        ("emoji", one(platform="\U0001f600"), ok),
        ("quote within a value", one(platform="web").replace(b"web", b'5"'), ok),
        ("staff", one(role="staff"), [left_out("role:staff", day)]),
        ("same record twice", record(sound | {"event_id": f"c{day}"}, HEADER) * 2, [kept(day), retry(day)]),
        ("empty line", b"\n", []),
        ("line of blanks", b"   \r\n", []),
        ("formula", one(platform="=cmd|' /C calc'!A0"), ok),
    ]


def csv_days(planting: Planting) -> None:
    for day in DAYS:
        made = csv_records(planting, day)
        planting.random.shuffle(made)
        for kind, _, fates in made:
            planting.count(CSV, "csv: " + kind, fates)
        content = HEAD + b"".join(content for _, content, _ in made)
        planting.put(
            day,
            f"csv/all-{day}.csv" + (".gz" if day.day % 2 else ""),
            gz(content) if day.day % 2 else content,
        )


def csv_files(planting: Planting) -> None:
    day = DAYS[1]

    def events(count: int = 3, **changes: object) -> list[dict[str, object]]:
        return [envelope(planting, day, **changes) for _ in range(count)]

    def put(kind: str, content: bytes, fates: Sequence[Fate]) -> None:
        planting.put(day, f"csv/{kind}.csv", content)
        planting.count(CSV, "csv file: " + kind, fates)

    sound = [kept(day)] * 3
    put("empty", b"", [])
    put("newlines only", b"\n\n\r\n", [])
    put("header only", HEAD, [])
    put("header without newline", HEAD[:-1], [])
    put("byte order mark", b"\xef\xbb\xbf" + HEAD + b"".join(record(one, HEADER) for one in events()), sound)
    put("windows", (HEAD + b"".join(record(one, HEADER) for one in events())).replace(b"\n", b"\r\n"), sound)
    put(
        "bare returns",
        (HEAD + b"".join(record(one, HEADER) for one in events())).replace(b"\n", b"\r"),
        sound,
    )
    for name, delimiter in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        head = delimiter.join(HEADER).encode() + b"\n"
        put(name, head + b"".join(record(one, HEADER, delimiter) for one in events()), sound)
    mixed = tuple(reversed(HEADER))
    put(
        "other order",
        ",".join(mixed).encode() + b"\n" + b"".join(record(one, mixed) for one in events()),
        sound,
    )
    twice = (*HEADER, "mood", "", "")
    put(
        "same column twice",
        ",".join(twice).encode() + b"\n" + b"".join(record(o, twice) for o in events()),
        sound,
    )
    few = HEADER[:5]
    lacking = [refused("missing:learner_id", day)] * 3
    put(
        "columns lacking",
        ",".join(few).encode() + b"\n" + b"".join(record(o, few) for o in events()),
        lacking,
    )
    put("no newline at the end", HEAD + b"".join(record(one, HEADER) for one in events())[:-1], sound)
    unclosed = record(events(1)[0], HEADER)
    opened = b'"' + unclosed
    rest = b"".join(record(one, HEADER) for one in events())
    put(
        "quote never closed", HEAD + unclosed + opened + rest, [kept(day), refused("bad_quotes", day), *sound]
    )
    content = gz(HEAD + b"".join(record(one, HEADER) for one in events(400, mood=None)))
    cut = content[: len(content) // 2]
    before = zlib.decompressobj(31).decompress(cut).count(b"\n") - 1
    planting.put(day, "csv/cut.csv.gz", cut)
    planting.count(CSV, "csv file: truncated gzip", [*[kept(day)] * before, refused("truncated_gzip", day)])
    planting.put(day, "csv/table.csv", b"PAR1\x15\x04\x15\x00PAR1")
    planting.count(CSV, "csv file: a Parquet file's bytes", [])


def parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink, compression="zstd", row_group_size=500)
    return sink.getvalue()


def _frame(events: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    return pl.DataFrame([dict(one) for one in events], infer_schema_length=None)


def table_files(planting: Planting) -> None:
    for day in DAYS:
        _tables_of(planting, day)
    _repeated(planting, DAYS[4])


def _tables_of(planting: Planting, day: date) -> None:
    def put(kind: str, content: bytes, fates: Sequence[Fate]) -> None:
        planting.put(day, f"table/{kind}.parquet", content)
        planting.count(TABLE, "table: " + kind, fates)

    def events(count: int = 4, **changes: object) -> list[dict[str, object]]:
        return [envelope(planting, day, **changes) for _ in range(count)]

    sound = [kept(day)] * 4
    put("text", parquet(_frame(events())), sound)
    put("no rows", parquet(_frame(events()).clear()), [])
    times = pl.col("client_ts", "received_at")
    parsed = times.str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    put("times", parquet(_frame(events()).with_columns(parsed.dt.cast_time_unit("ms"))), sound)
    put(
        "times with zone",
        parquet(
            _frame(events()).with_columns(
                parsed.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Kolkata")
            )
        ),
        sound,
    )
    put("nanoseconds", parquet(_frame(events()).with_columns(parsed.dt.cast_time_unit("ns"))), sound)
    put(
        "epoch",
        parquet(_frame(events()).with_columns(parsed.dt.epoch("ms"))),
        [refused("wrong_type:client_ts", day)] * 4,
    )
    numbers = _frame(events()).with_columns(pl.Series("latency_ms", [1.0, float("nan"), float("inf"), None]))
    put("numbers", parquet(numbers), [kept(day), *[refused("wrong_type:latency_ms", day)] * 2, kept(day)])
    floats = _frame(events()).with_columns(pl.Series("hint_level", [1.0, 1.5, None, 2.0]))
    put(
        "floats for whole numbers", parquet(floats), [*[kept(day)] * 3, refused("wrong_type:hint_level", day)]
    )
    texts = _frame(events()).with_columns(pl.Series("hint_level", ["1", "x", "", " 2 "]))
    put("texts for numbers", parquet(texts), [*[kept(day)] * 3, refused("wrong_type:hint_level", day)])
    truths = _frame(events()).with_columns(pl.Series("correct", [0, 1, 2, None]))
    put("numbers for truths", parquet(truths), [*[kept(day)] * 3, refused("wrong_type:correct", day)])
    large = _frame(events()).with_columns(pl.Series("hint_level", [2**64 - 1, 1, 2, 3], dtype=pl.UInt64))
    put("large numbers", parquet(large), [*[kept(day)] * 3, refused("wrong_type:hint_level", day)])
    nested = _frame(events()).with_columns(pl.struct(name=pl.lit("web")).alias("platform"))
    put("objects for texts", parquet(nested), [refused("wrong_type:platform", day)] * 4)
    lists = _frame(events()).with_columns(pl.Series("platform", [["a"], [], None, ["b"]]))
    put(
        "lists for texts",
        parquet(lists),
        [*[refused("wrong_type:platform", day)] * 3, refused("missing:platform", day)],
    )
    put(
        "unknown nested columns",
        parquet(
            _frame(events()).with_columns(
                mood=pl.struct(a=pl.lit(1), b=pl.lit("x")), tags=pl.Series([["a"], [], None, ["b"]])
            )
        ),
        sound,
    )
    nobody = _frame(events()).with_columns(pl.Series("learner_id", ["a", None, "", " "]))
    put("nulls", parquet(nobody), [kept(day), *[refused("missing:learner_id", day)] * 2, kept(day)])
    put(
        "no such columns",
        parquet(pl.DataFrame({"x": [1, day.day]})),
        [refused("missing:event_name", day)] * 2,
    )
    own = _frame(events()).with_columns(file_row_number=pl.lit(7), filename=pl.lit("x"), row_number=pl.lit(1))
    put("columns of our names", parquet(own), sound)
    categories = _frame(events()).with_columns(pl.col("role", "platform").cast(pl.Categorical))
    put("categories", parquet(categories), sound)
    binary = _frame(events()).with_columns(pl.col("platform").cast(pl.Binary))
    put("binary", parquet(binary), sound)
    dates = _frame(events(client_ts=str(day), received_at=str(day) + "T10:00:00Z"))
    put("dates", parquet(dates.with_columns(pl.col("client_ts").str.to_date())), sound)
    whole = parquet(_frame(events(3_000)))
    put("truncated", whole[: len(whole) // 2], [refused("unreadable_file", day)])
    put("no table", b"event_id,event_name\n1,2\n" + str(day).encode(), [refused("unreadable_file", day)])
    many = parquet(_frame(events(300)))
    middle = len(many) // 3
    put("damaged", many[:middle] + bytes(200) + many[middle + 200 :], [refused("unreadable_file", day)])


def _repeated(planting: Planting, day: date) -> None:
    """The same events from all three forms of file."""
    events = [envelope(planting, day, hint_level=2, latency_ms=1.5) for _ in range(5)]
    contents = {
        (JSON, "json/three.ndjson"): b"".join(json.dumps(one).encode() + b"\n" for one in events),
        (CSV, "csv/three.csv"): HEAD + b"".join(record(one, HEADER) for one in events),
        (TABLE, "table/three.parquet"): parquet(_frame(events)),
    }
    # Copies that were received at the same moment are told apart by the digest of their file.
    first = min(contents, key=lambda one: sha256(contents[one]).hexdigest())
    for (source, name), content in contents.items():
        planting.put(day, name, content)
        fate = kept(day) if (source, name) == first else retry(day)
        planting.count(source, "same events in three forms", [fate] * 5)


def plant(planting: Planting) -> None:
    csv_days(planting)
    csv_files(planting)
    table_files(planting)
