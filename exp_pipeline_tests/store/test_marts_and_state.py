"""Snapshots are made once and found again, a log keeps one entry for each key, files appear whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store import marts as marts_module
from exp_pipeline.store.files import write_text
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import StateLog


def fill(folder: Path) -> None:
    (folder / "mad.parquet").write_bytes(b"rows")


def test_a_snapshot_is_made_once_and_pointed_at(tmp_path: Path) -> None:
    marts = Marts(tmp_path)
    assert (marts.current("hint-ladder"), marts.snapshots("hint-ladder"), marts.experiments()) == (
        None,
        (),
        (),
    )
    assert marts.add("hint-ladder", "abc", {"as_of": "2026-03-01"}, fill)
    assert not marts.add("hint-ladder", "abc", {"as_of": "later"}, lambda folder: pytest.fail("made twice"))
    marts.point("hint-ladder", "abc")
    assert marts.record("hint-ladder", "abc") == {"as_of": "2026-03-01"}
    assert marts.record("hint-ladder", "none") is None
    assert (marts.current("hint-ladder"), marts.snapshots("hint-ladder")) == ("abc", ("abc",))
    assert marts.experiments() == ("hint-ladder",)


def test_a_snapshot_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise StoreError("no rows")

    with pytest.raises(StoreError, match="no rows"):
        Marts(tmp_path).add("hint-ladder", "abc", {}, fail)
    assert list(Marts(tmp_path).folder("hint-ladder").iterdir()) == []


def test_what_a_killed_run_left_is_no_snapshot_and_goes_away(tmp_path: Path) -> None:
    marts = Marts(tmp_path)
    folder = marts.folder("hint-ladder")
    for name in ("old", "young"):
        left = folder / f".snapshot=abc.{name}.tmp"
        left.mkdir(parents=True)
        (left / "snapshot.json").write_text("{}")
    before = time.time() - marts_module.ABANDONED_SECONDS - 1
    os.utime(folder / ".snapshot=abc.old.tmp", (before, before))
    assert marts.snapshots("hint-ladder") == ()
    assert marts.add("hint-ladder", "abc", {}, fill)
    assert sorted(entry.name for entry in folder.iterdir()) == [".snapshot=abc.young.tmp", "snapshot=abc"]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"\xff", b"{}", b'{"snapshot": 3}', b'{"snapshot": "../x"}']
)
def test_a_damaged_pointer_or_record_is_named(tmp_path: Path, text: bytes) -> None:
    marts = Marts(tmp_path)
    marts.add("hint-ladder", "abc", {}, fill)
    pointer = marts.folder("hint-ladder") / "current.json"
    pointer.write_bytes(text)
    with pytest.raises(StoreError, match=r"current\.json is damaged"):
        marts.current("hint-ladder")
    marts.point("hint-ladder", "abc")
    assert marts.current("hint-ladder") == "abc"
    if not text.startswith(b'{"') and text != b"{}":
        (marts.folder("hint-ladder", "abc") / "snapshot.json").write_bytes(text)
        with pytest.raises(StoreError, match=r"snapshot\.json is damaged"):
            marts.record("hint-ladder", "abc")


@pytest.mark.parametrize("name", ["..", "../x", "", "a/b", "A", "a\n", "a.b", "/etc"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    marts = Marts(tmp_path)
    with pytest.raises(ValueError, match="plain names"):
        marts.current(name)
    with pytest.raises(ValueError, match="plain names"):
        marts.record("hint-ladder", name)
    with pytest.raises(ValueError, match="plain names"):
        marts.add("hint-ladder", name, {}, fill)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("123")), max_size=8))
def test_the_log_keeps_the_first_entry_of_each_key_in_order(
    tmp_path_factory: pytest.TempPathFactory, appended: list[tuple[str, str, str]]
) -> None:
    log = StateLog(tmp_path_factory.mktemp("log") / "state" / "state.sqlite")
    kept: dict[tuple[str, str], tuple[str, int]] = {}
    for number, (kind, subject, key) in enumerate(appended):
        new = (kind, key) not in kept
        assert log.append(kind, subject, key=key, at="2026-03-01", content={"n": number}) is new
        kept.setdefault((kind, key), (subject, number))
    for kind in "ab":
        mine = [value for (one, _), value in kept.items() if one == kind]
        assert [(entry.subject, entry.content["n"]) for entry in log.entries(kind)] == mine
        for subject in "xyz":
            found = [entry.content["n"] for entry in log.entries(kind, subject)]
            assert found == [number for one, number in mine if one == subject]


def test_text_that_stands_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_text(path, "größer")
    before = path.stat()
    write_text(path, "größer")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_text(path, "new")
    assert (path.read_text(), os.listdir(path.parent)) == ("new", ["b.json"])
