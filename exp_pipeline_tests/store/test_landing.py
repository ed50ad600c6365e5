"""Landing files: read in bounded steps, every line is found again, every fault has a name."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store import landing, lines
from exp_pipeline.store.landing import LandingFile, landed_on, received_days
from exp_pipeline.store.lines import line_batches

DAY = date(2026, 3, 1)
LIMIT = 1_000_000


def land(folder: Path, name: str, content: bytes) -> LandingFile:
    day = folder / f"received_date={DAY.isoformat()}"
    day.mkdir(parents=True, exist_ok=True)
    (day / name).write_bytes(content)
    return next(file for file in landed_on(folder, DAY) if file.path.name == name)


def rows(file: LandingFile, limit: int = LIMIT) -> list[tuple[int, int, str | None, str | None]]:
    """Row number, byte offset, text and reason of each line, plain and odd ones in the order of the file."""
    return sorted(each_line([file], limit))


def each_line(files: list[LandingFile], limit: int) -> Iterator[tuple[int, int, str | None, str | None]]:
    for batch in line_batches(files, limit, files[0].path.parent / ".scratch"):
        places = batch.places.select("row_number", "place").rows()
        texts = batch.plain.read_bytes().split(b"\n")[:-1]
        found = batch.with_odd(range(len(places)))
        assert found.height == batch.rows == len(places) + batch.odd.height
        assert len(texts) == len(places)
        for text, (_, _, line, _) in zip(texts, found.rows()[batch.odd.height :], strict=True):
            assert text.startswith(b"{")
            assert line is None or line.encode() == text
        yield from found.select("row_number", "byte_offset", "line", "reason").rows()


def gz(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


LINES = [f'{{"n": {n}, "word": "größer {n * 7919 % 104729}"}}'.encode() for n in range(5_000)]
TEXT = b"\n".join(LINES) + b"\n"


@pytest.mark.parametrize(("name", "packed"), [("a.ndjson", TEXT), ("a.ndjson.gz", gz(TEXT))])
def test_every_line_has_its_number_and_byte_offset(tmp_path: Path, name: str, packed: bytes) -> None:
    found = rows(land(tmp_path, name, packed))
    assert [number for number, *_ in found] == list(range(1, 5_001))
    for number, offset, line, reason in found:
        assert reason is None
        assert line is not None
        assert TEXT[offset : offset + len(LINES[number - 1])] == line.encode() == LINES[number - 1]


@pytest.mark.parametrize(("name", "packed"), [("a.ndjson", b""), ("a.ndjson.gz", gz(b"")), ("a.gz", b"")])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str, packed: bytes) -> None:
    assert rows(land(tmp_path, name, packed)) == []


def test_a_last_line_needs_no_newline_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    found = rows(land(tmp_path, "a.ndjson", b"\n{}\n  \r\n{1}"))
    assert found == [(2, 1, "{}", None), (4, 8, "{1}", None)]


def test_several_gzip_members_and_zeros_after_them_are_one_file(tmp_path: Path) -> None:
    packed = gz(b"one\ntw") + gz(b"o\n") + gz(b"") + gz(b"three") + b"\0" * 512
    assert [(line, reason) for _, _, line, reason in rows(land(tmp_path, "a.gz", packed))] == [
        ("one", None),
        ("two", None),
        ("three", None),
    ]


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_gzip_gives_the_lines_before_the_cut_and_says_so(tmp_path: Path, share: float) -> None:
    packed = gz(TEXT)
    *kept, last = rows(land(tmp_path, "a.gz", packed[: max(5, int(len(packed) * share))]))
    assert last[2:] == (None, "truncated_gzip")
    assert [line for _, _, line, _ in kept] == [line.decode() for line in LINES[: len(kept)]]
    assert last[1] == sum(len(line) + 1 for line in LINES[: len(kept)])
    # Deflate holds back less than 64 KB of text.
    assert last[1] > share * len(TEXT) * 0.9 - 65_536


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_gzip_gives_the_lines_before_the_damage_and_says_so(tmp_path: Path, seed: int) -> None:
    # Stored blocks keep text and file in step, so the damage's place is known: a block header.
    packer = zlib.compressobj(level=0, wbits=31)
    blocks = [
        packer.compress(TEXT[at : at + 20_000]) + packer.flush(zlib.Z_FULL_FLUSH)
        for at in range(0, len(TEXT), 20_000)
    ]
    whole = b"".join(blocks) + packer.flush()
    broken = random.Random(seed).randrange(2, len(blocks))
    start = sum(map(len, blocks[:broken]))
    damaged = whole[:start] + b"\xff" * 8 + whole[start + 8 :]
    *kept, last = rows(land(tmp_path, "a.gz", damaged))
    assert last[2:] == (None, "damaged_gzip")
    assert len(kept) == TEXT[: broken * 20_000].count(b"\n")
    assert [line for _, _, line, _ in kept] == [line.decode() for line in LINES[: len(kept)]]


def test_bytes_that_are_no_gzip_or_follow_one_are_damage(tmp_path: Path) -> None:
    assert rows(land(tmp_path, "a.gz", b'{"n": 1}\n')) == [(1, 0, None, "damaged_gzip")]
    found = rows(land(tmp_path, "b.gz", gz(b"one\n") + b"garbage"))
    assert found == [(1, 0, "one", None), (2, 4, None, "damaged_gzip")]


def test_a_wrong_checksum_is_damage_after_the_lines(tmp_path: Path) -> None:
    packed = bytearray(gz(b"one\ntwo\n"))
    packed[-6] ^= 1
    found = rows(land(tmp_path, "a.gz", bytes(packed)))
    assert found == [(1, 0, "one", None), (2, 4, "two", None), (3, 8, None, "damaged_gzip")]


def test_a_line_that_is_not_utf8_or_too_long_is_refused_alone(tmp_path: Path) -> None:
    text = b"good\n" + b"\xff\xfe\n" + b"x" * 41 + b"\n" + b"y" * 40 + b"\nlast"
    assert rows(land(tmp_path, "a.ndjson", text), limit=40) == [
        (1, 0, "good", None),
        (2, 5, None, "not_utf8"),
        (3, 8, None, "line_too_long"),
        (4, 50, "y" * 40, None),
        (5, 91, "last", None),
    ]


def test_a_line_of_a_hundred_megabytes_from_a_small_gzip_stays_one_refused_row(tmp_path: Path) -> None:
    packer = zlib.compressobj(level=9, wbits=31)
    packed = (
        b"".join(packer.compress(b"a" * (1 << 20)) for _ in range(100))
        + packer.compress(b"\nnext\n")
        + packer.flush()
    )
    found = rows(land(tmp_path, "bomb.gz", packed))
    assert found == [(1, 0, None, "line_too_long"), (2, 100 * (1 << 20) + 1, "next", None)]


LINE = st.one_of(st.binary(max_size=30), st.sampled_from([b"", b" ", b"\r", b"\t {}", b"\xef\xbb\xbf{}"]))


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(
        st.one_of(LINE, LINE.map(lambda line: b"{" + line), st.text(max_size=20).map(str.encode)), max_size=25
    ),
    last_newline=st.booleans(),
    step=st.integers(1, 40),
    limit=st.integers(1, 40),
    packed=st.booleans(),
)
def test_rows_and_offsets_give_the_file_back(
    texts: list[bytes], last_newline: bool, step: int, limit: int, packed: bool
) -> None:
    text = b"\n".join(texts) + (b"\n" if last_newline else b"")
    assume(packed or not text.startswith(b"\x1f\x8b\x08"))
    # A file that is marked as UTF-16 is refused whole.
    assume(not text.startswith((b"\xff\xfe", b"\xfe\xff")))
    physical = text.split(b"\n")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "_READ_BYTES", step)
        patch.setattr(lines, "BATCH_BYTES", 20)
        patch.setattr(lines, "_PIECE", 7)
        name = "a.ndjson.gz" if packed else "a.ndjson"
        found = rows(land(Path(folder), name, gz(text) if packed else text), limit)
    expected: list[tuple[int, int, str | None, str | None]] = []
    offset = 0
    for number, data in enumerate(physical, start=1):
        if len(data) > limit:
            expected.append((number, offset, None, "line_too_long"))
        elif (said := data.removeprefix(b"\xef\xbb\xbf")).strip(b" \t\r"):
            try:
                expected.append((number, offset, said.decode(), None))
            except UnicodeDecodeError:
                expected.append((number, offset, None, "not_utf8"))
        offset += len(data) + 1
    assert found == expected


def test_one_content_under_two_names_counts_once(tmp_path: Path) -> None:
    land(tmp_path, "b.ndjson", b"{}\n")
    land(tmp_path, "c.ndjson", b"{2}\n")
    day = tmp_path / f"received_date={DAY.isoformat()}"
    (day / "z.ndjson").write_bytes(b"{}\n")
    (day / "a").mkdir()
    (day / "a" / "copy.ndjson").write_bytes(b"{2}\n")
    found = landed_on(tmp_path, DAY)
    assert [file.relative.partition("/")[2] for file in found] == ["a/copy.ndjson", "b.ndjson"]
    assert len({file.digest for file in found}) == 2


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_a_link_out_of_the_landing_folder_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "landing"
    land(root, "a.ndjson", b"{}\n")
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "shadow").write_text("secret\n")
    target = {"file": secret / "shadow", "folder": secret, "nothing": secret / "missing"}[kind]
    os.symlink(target, root / f"received_date={DAY.isoformat()}" / "link.ndjson")
    with pytest.raises(StoreError, match=r"link\.ndjson is a link to a place outside"):
        landed_on(root, DAY)


def test_a_day_folder_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "landing", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "a.ndjson").write_bytes(b"{}\n")
    os.symlink(other, root / f"received_date={DAY.isoformat()}")
    with pytest.raises(StoreError, match="outside the landing folder"):
        landed_on(root, DAY)


def test_a_link_inside_the_landing_folder_is_a_copy(tmp_path: Path) -> None:
    file = land(tmp_path, "a.ndjson", b"{}\n")
    os.symlink(file.path, file.path.with_name("b.ndjson"))
    assert [one.path.name for one in landed_on(tmp_path, DAY)] == ["a.ndjson"]


def test_what_is_still_being_copied_under_a_dotted_name_is_no_file_yet(tmp_path: Path) -> None:
    land(tmp_path, "a.ndjson", b"{}\n")
    day = tmp_path / f"received_date={DAY.isoformat()}"
    (day / ".b.ndjson").write_bytes(b"{1}\n")
    (day / ".part").mkdir()
    (day / ".part" / "c.ndjson").write_bytes(b"{2}\n")
    assert [one.path.name for one in landed_on(tmp_path, DAY)] == ["a.ndjson"]


def test_days_are_read_off_folder_names_and_a_bad_one_is_named(tmp_path: Path) -> None:
    assert received_days(tmp_path / "nowhere") == ()
    assert landed_on(tmp_path, DAY) == ()
    for name in ("received_date=2026-03-02", "received_date=2026-03-01", "other"):
        (tmp_path / name).mkdir()
    assert received_days(tmp_path) == (date(2026, 3, 1), date(2026, 3, 2))
    (tmp_path / "received_date=today").mkdir()
    with pytest.raises(StoreError, match="received_date=today"):
        received_days(tmp_path)


def test_batches_have_one_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BATCH_ODD", 2)
    monkeypatch.setattr(landing, "_READ_BYTES", 4)
    file = land(tmp_path, "a.ndjson", b"\xff\n\xff\n1\n2\n3\n")
    batches = [batch.odd for batch in line_batches([file], LIMIT, tmp_path / "scratch")]
    assert [odd.height for odd in batches] == [2, 2, 1]
    assert len({tuple(odd.schema.items()) for odd in batches}) == 1
    assert list((tmp_path / "scratch").iterdir()) == []
