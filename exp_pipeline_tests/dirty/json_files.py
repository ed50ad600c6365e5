"""Whole NDJSON files that are dirty as files, and days of dirty lines."""

from __future__ import annotations

import gzip
import zlib
from datetime import date

from exp_pipeline_tests.dirty.json_lines import KINDS, line, some
from exp_pipeline_tests.dirty.key import DAY, DAYS, Planting, envelope, kept, refused, retry

SOURCE = "clean-json"
STRANGE_NAMES = (
    "name with blanks",
    "naïve-日本-😀",
    "it's",
    'a"quoted"',
    "semi;colon",
    "$(touch x)",
    "[a]*?",
    "%2e%2e",
)


def gz(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def lines_of_days(planting: Planting) -> None:
    """On each day two files with every kind of line in random order, one plain, one in gzip members."""
    for day in DAYS:
        for packed in (False, True):
            made = []
            for kind, make in KINDS.items():
                # What is planted by a fixed id or person can be there once a day only.
                if packed and kind.startswith("strange"):
                    continue
                content, fates = make(planting, day)
                planting.count(SOURCE, kind, fates)
                made.append(content)
            # The copies of one event keep their order: it matters which was received first.
            planting.random.shuffle(made)
            parts = [b"".join(made[at::3]) for at in range(3)]
            name = f"json/all-{day}.ndjson"
            planting.put(
                day, name + ".gz" if packed else name, b"".join(map(gz, parts)) if packed else b"".join(parts)
            )


def _good(planting: Planting, received: date, kind: str, count: int = 5) -> bytes:
    content, fates = some(planting, received, count)
    planting.count(SOURCE, kind, fates)
    return content


def one_file_each(planting: Planting) -> None:
    """Files, one of each kind."""
    day = DAYS[0]
    good = _good(planting, day, "no newline at the end")
    planting.put(day, "json/open.ndjson", good[:-1])
    for kind, content in (
        ("empty file", b""),
        ("newlines only", b"\n" * 40),
        ("blanks only", b" \n\t\r\n  "),
        ("byte order mark only", b"\xef\xbb\xbf"),
    ):
        planting.put(day, f"json/{kind}.ndjson", content)
        planting.count(SOURCE, kind, [])
    for kind, content in (("empty gzip", gz(b"")), ("empty members", gz(b"") + gz(b"\n") + gz(b""))):
        planting.put(day, f"json/{kind}.ndjson.gz", content)
        planting.count(SOURCE, kind, [])
    planting.put(day, "json/marked.ndjson", b"\xef\xbb\xbf" + _good(planting, day, "byte order mark"))
    planting.put(
        day, "json/marked.ndjson.gz", gz(b"\xef\xbb\xbf" + _good(planting, day, "packed byte order mark"))
    )
    planting.put(day, "json/windows.ndjson", _good(planting, day, "windows newlines").replace(b"\n", b"\r\n"))
    planting.put(day, "json/disguised.ndjson", gz(_good(planting, day, "gzip without its name")))
    planting.put(day, "json/padded.ndjson.gz", gz(_good(planting, day, "zeros after a gzip")) + b"\0" * 700)
    for name in STRANGE_NAMES:
        planting.put(day, f"json/{name}/{name}.ndjson", _good(planting, day, "strange file name", 1))
    _refused_files(planting, DAYS[1])
    _copies(planting)
    _cut(planting, DAYS[2])


def _refused_files(planting: Planting, day: date) -> None:
    text = b"".join(line(envelope(planting, day)) for _ in range(5)).decode()
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        planting.put(day, f"json/{encoding}.ndjson", mark + text.encode(encoding))
        planting.count(SOURCE, "UTF-16", [refused("not_utf8", day)])
    planting.put(day, "json/plain.ndjson.gz", text.encode())
    planting.count(SOURCE, "no gzip behind its name", [refused("damaged_gzip", day)])
    planting.put(day, "json/returns.ndjson", text.replace("\n", "\r").encode())
    planting.count(SOURCE, "bare returns throughout", [refused("not_json", day)])
    for name, content in (
        ("notes.txt", b"for nobody\n"),
        ("empty", b""),
        ("picture.png", b"\x89PNG\r\n\x1a\n"),
    ):
        planting.put(day, f"other/{name}", content + name.encode())
        planting.count("unclaimed", "a file that nobody claims", [refused("no_source", day)])


def _copies(planting: Planting) -> None:
    """One content under two names, and again on later days, packed otherwise, and in part."""
    day = DAYS[1]
    content, fates = some(planting, day, 7)
    bad, bad_fates = KINDS["not UTF-8"](planting, day)
    planting.put(day, "json/first.ndjson", content + bad)
    planting.count(SOURCE, "file", [*fates, *bad_fates])
    planting.put(day, "json/second.ndjson", content + bad)
    planting.put(day, "table/third.ndjson", content + bad)
    planting.put(DAYS[3], "json/first.ndjson", content + bad)
    planting.put(DAYS[5], "json/renamed.ndjson", content + bad)
    planting.count(SOURCE, "same file again", [])
    again = [retry(fate.day) for fate in fates]
    for received, name, copy in (
        (day, "json/packed.ndjson.gz", gz(content + bad)),
        (DAYS[2], "json/prefixed.ndjson", b"\n" + content + bad),
        (DAYS[4], "json/last.ndjson", b"\r\n" + content + bad),
    ):
        planting.put(received, name, copy)
        planting.count(SOURCE, "same rows in another file", [*again, refused("not_utf8", received)])
    late = DAYS[5]
    planting.put(late, "json/too-late.ndjson", b"\t\n" + content + bad)
    planting.count(SOURCE, "same rows too late", [refused("too_late", day)] * 7 + [refused("not_utf8", late)])
    one = envelope(planting, DAYS[0], event_id="reused")
    other = envelope(planting, DAYS[5], event_id="reused")
    planting.put(DAYS[0], "json/reused.ndjson", line(one))
    planting.put(DAYS[5], "json/reused.ndjson", line(other))
    planting.count(SOURCE, "id used again long after", [kept(DAYS[0]), kept(DAYS[5])])
    near = envelope(planting, DAYS[2], event_id="reused-soon")
    next_day = envelope(planting, DAYS[3], event_id="reused-soon")
    planting.put(DAYS[3], "json/reused-soon.ndjson", line(next_day) + line(near))
    planting.count(SOURCE, "id used again soon", [kept(DAYS[2]), refused("conflicting_duplicate", DAYS[3])])


def _cut(planting: Planting, day: date) -> None:
    """Archives that end too early or are damaged: what stands before is read, one row says the rest."""
    for place, share in enumerate((0.001, 0.4, 0.999)):
        texts = [line(envelope(planting, day, mood=planting.random.random())) for _ in range(400)]
        whole = gz(b"".join(texts))
        cut = whole[: max(12, int(len(whole) * share))]
        before = zlib.decompressobj(31).decompress(cut).count(b"\n")
        planting.put(day, f"json/cut-{place}.ndjson.gz", cut)
        planting.count(SOURCE, "truncated gzip", [*[kept(day)] * before, refused("truncated_gzip", day)])
    packer = zlib.compressobj(level=0, wbits=31)
    content, _ = some(planting, day, 400)
    blocks = [
        packer.compress(content[at : at + 9_000]) + packer.flush(zlib.Z_FULL_FLUSH)
        for at in range(0, len(content), 9_000)
    ]
    at = sum(map(len, blocks[:5]))
    stored = b"".join(blocks) + packer.flush()
    planting.put(day, "json/damaged.ndjson.gz", stored[:at] + b"\xff" * 8 + stored[at + 8 :])
    readable = content[: 5 * 9_000].count(b"\n")
    planting.count(SOURCE, "damaged gzip", [*[kept(day)] * readable, refused("damaged_gzip", day)])
    sound, fates = some(planting, day, 3)
    planting.put(day, "json/trailed.ndjson.gz", gz(sound) + b"rubbish")
    planting.count(SOURCE, "rubbish after a gzip", [*fates, refused("damaged_gzip", day)])


def late_day(planting: Planting) -> None:
    """A file of a later folder with events of every day before, in the order of nothing."""
    received = DAYS[5]
    made = []
    for offset in range(6):
        day = received - DAY * offset
        made.append((line(envelope(planting, day)), kept(day) if offset <= 3 else refused("too_late", day)))
    planting.random.shuffle(made)
    planting.put(received, "json/all-days.ndjson", b"".join(content for content, _ in made))
    planting.count(SOURCE, "events of all days", [fate for _, fate in made])


def plant(planting: Planting) -> None:
    lines_of_days(planting)
    one_file_each(planting)
    late_day(planting)
