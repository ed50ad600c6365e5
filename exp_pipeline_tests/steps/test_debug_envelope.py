"""The debug envelope: who is in the sample, what is left of a text, where it lies, and that it goes away."""

from __future__ import annotations

import hmac
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

from exp_pipeline.contracts.fields import raw_text
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.policies import DebugEnvelopePolicy, RawText
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.people import debug_envelope
from exp_pipeline.steps.people.debug_envelope import (
    entries_of,
    envelope_days,
    expire_debug_envelopes,
    read_debug_envelope,
)
from exp_pipeline.steps.people.erasure import erase
from exp_pipeline.store.envelope import entries_in, envelope_files
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.steps.conftest import SECRET, Opened, digests, with_catalog

DAY = date(2026, 3, 10)
LAST = DAY + timedelta(days=13)
GONE = DAY + timedelta(days=14)
TURNS, LEARNERS = 600, 20
FIELDS = ("prompt", "completion")


def learner_of(turn: int) -> str:
    return f"pupil-{turn % LEARNERS:03d}"


def messages(turns: int = TURNS) -> Iterator[dict[str, Any]]:
    """A prompt and a completion for each turn, each with an address, a number and the learner's id in it."""
    for turn in range(turns):
        at = f"{DAY}T10:{turn // 60 % 60:02d}:{turn % 60:02d}Z"
        who = learner_of(turn)
        common = {
            "schema_version": "1.0", "client_ts": at, "received_at": at, "learner_id": who, "role": "student",
            "platform": "web", "app_version": "1.0", "turn_id": f"t{turn}", "session_id": f"s-{who}",
        }  # fmt: skip
        yield {
            **common, "event_id": f"q{turn}", "event_name": "tutor_turn_submitted",
            "prompt": f"Secretquestion{turn}: I am {who}, kid{turn}@home.example, +1 555 010 {turn:04d}",
        }  # fmt: skip
        yield {
            **common, "event_id": f"a{turn}", "event_name": "tutor_turn_response_shown",
            "completion": f"Secretanswer{turn} for {who.upper()}: see https://home.example/{turn}",
        }  # fmt: skip


def drawn(turn: int, share: float) -> bool:
    digest = hmac.new(SECRET.encode(), f"debug envelope:t{turn}".encode(), "sha256").hexdigest()
    return int(digest[:16], 16) / 2**64 < share


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[date], None]:
    """Sets the day it is for landings: the day the files arrive, unless told otherwise."""

    def set_to(day: date) -> None:
        monkeypatch.setattr(debug_envelope, "utc_today", lambda: day)

    set_to(DAY)
    return set_to


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "texts" / "envelope"


def with_policy(bench: Workbench, folder: Path | None, **policy: Any) -> Workbench:
    policies = bench.catalog.policies.model_copy(update={"debug_envelope": DebugEnvelopePolicy(**policy)})
    return replace(with_catalog(bench, policies=policies), envelope=folder)


def put(bench: Workbench, rows: list[dict[str, Any]], name: str = "a.ndjson") -> None:
    path = bench.home.landing / f"received_date={DAY}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kept(folder: Path) -> list[dict[str, Any]]:
    return [entry for file in envelope_files(folder) for entry in entries_in(file)]


def everything_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file's content as text, the values of Parquet files spelled out."""
    for path in sorted(root.rglob("*")):
        if path.suffix == ".parquet":
            with duckdb.connect() as connection:
                yield path, str(connection.execute("select * from read_parquet(?)", [str(path)]).fetchall())
        elif path.is_file():
            yield path, path.read_bytes().decode("utf-8", "replace")


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def test_the_names_of_raw_texts_are_those_of_the_contract() -> None:
    assert set(get_args(RawText)) == set(raw_text())


def test_off_nothing_is_written_and_the_lake_is_the_same(opened: Opened, folder: Path) -> None:
    off, on = opened("off"), opened("on")
    for bench in (off, on):
        put(bench, list(messages(50)))
    land(with_policy(off, folder), DAY)
    assert not folder.exists()
    land(with_policy(on, folder, share=0.2), DAY)
    assert kept(folder)
    assert digests(off, "landed") == digests(on, "landed")


def test_the_sample_is_that_of_plain_python_with_both_sides_of_each_turn(
    bench: Workbench, folder: Path
) -> None:
    put(bench, list(messages()))
    land(with_policy(bench, folder, share=0.1), DAY)
    entries = kept(folder)
    assert {(one["turn_id"], one["field"]) for one in entries} == {
        (f"t{turn}", name) for turn in range(TURNS) if drawn(turn, 0.1) for name in FIELDS
    }
    # Binomial: 600 turns at 10 % are 60 with a standard deviation of 7.3.
    assert 30 < len(entries) / 2 < 90
    before = {file.path.name: file.path.read_bytes() for file in envelope_files(folder)}
    land(with_policy(bench, folder, share=0.1), DAY)
    assert {file.path.name: file.path.read_bytes() for file in envelope_files(folder)} == before
    land(with_policy(bench, folder, share=0.02), DAY)
    assert {one["turn_id"] for one in kept(folder)} < {one["turn_id"] for one in entries}


def test_texts_are_redacted_private_and_nowhere_else(bench: Workbench, folder: Path, tmp_path: Path) -> None:
    put(bench, list(messages()))
    own = with_policy(bench, folder, share=0.2)
    land(own, DAY)
    conform(own, Window.of(DAY, DAY))
    entries = kept(folder)
    assert len(entries) > 100
    for entry in entries:
        turn = int(entry["turn_id"][1:])
        if entry["field"] == "prompt":
            assert entry["text"] == f"Secretquestion{turn}: I am [id], [email], [number]"
        else:
            assert entry["text"] == f"Secretanswer{turn} for [id]: see [url]"
        assert (
            entry["learner_id"]
            == hmac.new(SECRET.encode(), learner_of(turn).encode(), "sha256").hexdigest()[:32]
        )
        assert (entry["received_date"], entry["expires_on"]) == (str(DAY), str(GONE))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    read_debug_envelope(own, "somebody", at=at(DAY))
    found = [path for path, text in everything_below(tmp_path) if "Secret" in text]
    assert {path.relative_to(bench.home.root).parts[0] for path in found} == {"landing"}


def test_a_row_that_nobody_could_erase_or_read_is_not_kept(bench: Workbench, folder: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"learner_id": None},
        {"tokens_in": "many"},
        {"event_id": None},
        {},
    ]
    rows = [{**row, **change} for row, change in zip(messages(100), changes * 50, strict=True)]
    put(bench, rows)
    land(with_policy(bench, folder, share=0.2), DAY)
    entries = kept(folder)
    assert {one["turn_id"] for one in entries} == {f"t{n}" for n in range(1, 100, 2) if drawn(n, 0.2)}
    assert {one["field"] for one in entries} == {"completion"}


def test_only_the_fields_asked_for_are_kept(bench: Workbench, folder: Path) -> None:
    put(bench, list(messages(100)))
    land(with_policy(bench, folder, share=0.2, fields=["completion"]), DAY)
    assert {one["field"] for one in kept(folder)} == {"completion"}


def test_an_event_without_a_turn_is_drawn_by_itself(bench: Workbench, folder: Path) -> None:
    rows = [{**row, "turn_id": None} for row in messages(100)]
    put(bench, rows)
    land(with_policy(bench, folder, share=0.2), DAY)
    ids = {one["event_id"] for one in kept(folder)}
    expected = set()
    for row in rows:
        message = f"debug envelope:{row['event_id']}".encode()
        digest = hmac.new(SECRET.encode(), message, "sha256").hexdigest()
        if int(digest[:16], 16) / 2**64 < 0.2:
            expected.add(row["event_id"])
    assert ids == expected


def test_entries_go_on_their_day_or_earlier_when_the_policy_says_so(
    bench: Workbench, folder: Path, today: Callable[[date], None]
) -> None:
    put(bench, list(messages(50)))
    own = with_policy(bench, folder, share=0.2)
    land(own, DAY)
    (folder / "notes.txt").write_text("not ours")
    assert expire_debug_envelopes(own, LAST).files == 0
    assert envelope_days(own, LAST)
    # What is past its day is not shown, even where it was not deleted yet.
    assert envelope_days(own, GONE) == []
    assert read_debug_envelope(own, "somebody", at=at(GONE)) == []
    shorter = with_policy(bench, folder, share=0.2, days=3)
    assert expire_debug_envelopes(shorter, DAY + timedelta(days=2)).files == 0
    assert expire_debug_envelopes(shorter, DAY + timedelta(days=3)).received_days == (str(DAY),)
    assert expire_debug_envelopes(shorter, DAY + timedelta(days=3)).files == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    # Landed again, an old day does not come back.
    today(GONE)
    land(own, DAY)
    assert kept(folder) == []
    today(LAST)
    land(own, DAY)
    assert kept(folder)
    assert expire_debug_envelopes(own, GONE).files == 1


def test_switched_off_everything_goes_wherever_it_was_put(bench: Workbench, folder: Path) -> None:
    put(bench, list(messages(50)))
    land(with_policy(bench, folder, share=0.2), DAY)
    (file,) = envelope_files(folder)
    # As a run that was killed leaves it.
    file.path.with_name(f".{file.path.name}.0123456789ab.tmp").write_bytes(b"half")
    off = with_policy(bench, None)
    done = expire_debug_envelopes(off, DAY)
    assert (done.files, done.missing_folders) == (2, ())
    assert list(folder.iterdir()) == []
    assert [entry.content for entry in StateLog(bench.home.state / "state.sqlite").entries(
        debug_envelope.EXPIRED
    )] == [{"files": 2, "received_days": [str(DAY)]}]  # fmt: skip


def test_a_person_is_erased_from_it_too(bench: Workbench, folder: Path) -> None:
    put(bench, list(messages()))
    own = with_policy(bench, folder, share=0.2)
    land(own, DAY)
    name = hmac.new(SECRET.encode(), b"pupil-003", "sha256").hexdigest()[:32]
    before = kept(folder)
    mine = [one for one in before if one["learner_id"] == name]
    assert mine
    # Erasure finds the folder though the environment of today does not name it.
    receipt = erase(with_policy(bench, None), ["pupil-003"], "desk", at=at(DAY), connect=duckdb.connect)
    assert receipt.rows["debug_envelope"] == len(mine)
    assert kept(folder) == [one for one in before if one["learner_id"] != name]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    land(own, DAY)
    assert entries_of(own, [name], DAY) == 0
    assert not erase(own, ["pupil-003"], "desk", at=at(DAY), connect=duckdb.connect).new


def test_erasure_does_not_pass_over_a_folder_that_is_not_there(bench: Workbench, folder: Path) -> None:
    put(bench, list(messages(50)))
    land(with_policy(bench, folder, share=0.2), DAY)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(ExpError, match="mount it"):
        erase(bench, ["pupil-003"], "desk", at=at(DAY), connect=duckdb.connect)
    assert expire_debug_envelopes(bench, DAY).missing_folders == (str(folder),)
    # Later nothing in it may be alive.
    erase(bench, ["pupil-003"], "desk", at=at(GONE), connect=duckdb.connect)


def test_reading_is_written_down(bench: Workbench, folder: Path) -> None:
    put(bench, list(messages()))
    own = with_policy(bench, folder, share=0.2)
    land(own, DAY)
    first = read_debug_envelope(own, "somebody", at=at(DAY), limit=3)
    turn = str(first[0]["turn_id"])
    assert {one["field"] for one in read_debug_envelope(own, "else", at=at(DAY), turn=turn)} == {*FIELDS}
    log = StateLog(bench.home.state / "state.sqlite").entries(debug_envelope.READ)
    assert [(entry.subject, entry.content["entries"], entry.at) for entry in log] == [
        ("somebody", 3, f"{DAY}T12:00:00+00:00"),
        ("else", 2, f"{DAY}T12:00:00+00:00"),
    ]
    assert not any("Secret" in json.dumps(dict(entry.content)) for entry in log)


@pytest.mark.parametrize("inside", ["", "lake", "marts/texts", "readouts", "landing", "state/x", ".."])
def test_a_folder_inside_the_data_folder_or_around_it_is_refused(bench: Workbench, inside: str) -> None:
    put(bench, list(messages(5)))
    with pytest.raises(StoreError, match="folder outside"):
        land(with_policy(bench, bench.home.root / inside, share=0.2), DAY)


def test_a_folder_that_others_may_open_is_refused(bench: Workbench, tmp_path: Path) -> None:
    put(bench, list(messages(5)))
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    with pytest.raises(StoreError, match="chmod 700"):
        land(with_policy(bench, open_to_all, share=0.2), DAY)
    linked = tmp_path / "linked"
    linked.symlink_to(bench.home.landing, target_is_directory=True)
    with pytest.raises(StoreError, match="folder outside"):
        land(with_policy(bench, linked, share=0.2), DAY)


def test_a_policy_without_a_folder_is_a_mistake(bench: Workbench) -> None:
    with pytest.raises(ExpError, match="EXP_DEBUG_ENVELOPE is not set"):
        land(with_policy(bench, None, share=0.01), DAY)


def test_a_landing_that_fails_keeps_nothing(
    bench: Workbench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, list(messages(50)))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr(Workbench, "commit", fail)
    with pytest.raises(RuntimeError):
        land(with_policy(bench, folder, share=0.2), DAY)
    assert list(folder.iterdir()) == []
