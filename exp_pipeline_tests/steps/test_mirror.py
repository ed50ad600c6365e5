"""The mirror holds exactly what the home holds, whole at every moment; killed or offline, it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating.gauges import gauges
from exp_pipeline.steps.operating.mirror import at_once, standing
from exp_pipeline.steps.operating.mirror_push import GRACE, push
from exp_pipeline.steps.operating.mirror_restore import files_of, restore, verify
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.mirror_objects import Objects, Patience
from exp_pipeline.store.mirror_places import open_objects
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps import mirror_worlds as worlds
from exp_pipeline_tests.store.s3_server import BUCKET, KEY, REGION, S3, SECRET, serving

URL = f"s3://{BUCKET}/home"
OWN = {"mirror.json", "files.json", "decisions.jsonl"}
HASTY = Patience(connect_seconds=0.3, request_seconds=5, retries=0, retry_seconds=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return worlds.filled(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Objects:
    return open_objects(f"file://{tmp_path / 'mirror'}")


@pytest.fixture
def s3() -> S3:
    return S3()


@pytest.fixture
def environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with serving(s3) as port:
        found = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def bucket(environment: dict[str, str]) -> Objects:
    return open_objects(URL, HASTY)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Objects:
    found: Objects = request.getfixturevalue(request.param)
    return found


def in_bucket(s3: S3) -> dict[str, bytes]:
    with s3.lock:
        return {key.removeprefix("home/"): content for key, content in s3.objects.items()}


def test_a_push_makes_the_mirror_hold_exactly_what_is_here(home: Home, place: Objects) -> None:
    done = worlds.pushed(home, place)
    content = worlds.content_of(place)
    assert content.keys() - worlds.named_files(home).keys() == OWN
    assert worlds.named_there(content) == worlds.named_files(home)
    assert (done.copied, done.partitions, done.partitions_there) == (len(content) - 3 - 6, 6, 6)
    again = worlds.pushed(home, place)
    assert (again.copied, again.bytes, again.partitions, again.removed) == (0, 0, 0, 0)
    assert worlds.content_of(place) == content


def test_what_must_stay_here_does_not_leave(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    everything = b"\n".join([*s3.objects.values(), *(key.encode() for key in s3.objects)])
    assert worlds.HIDDEN.encode() not in everything
    assert SECRET.encode() not in everything
    assert {key.split("/")[0] for key in in_bucket(s3)} == {"lake", "marts", "readouts", *OWN}


def test_without_its_record_a_push_copies_nothing_twice(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    (home.state / "mirror" / "pushed.json").write_text("{damaged")
    before = in_bucket(s3)
    again = worlds.pushed(home, bucket)
    assert (again.copied, again.partitions) == (0, 0)
    assert in_bucket(s3) == before
    for end in ("part-0001", "mad.parquet"):
        s3.objects[next(key for key in s3.objects if end in key)] = b"cut off"
    assert worlds.pushed(home, bucket).copied == 2
    assert in_bucket(s3) == before


def test_at_no_moment_does_a_manifest_name_what_is_not_there(home: Home, s3: S3, bucket: Objects) -> None:
    moments = []

    def looked_at(objects: dict[str, bytes]) -> None:
        here = {key.removeprefix("home/"): content for key, content in objects.items()}
        here.pop("files.json", None)
        moments.append(len(worlds.named_there(here)))

    s3.changed = looked_at
    clock = worlds.Clock()
    worlds.pushed(home, bucket, clock)
    for round_ in range(4):
        worlds.commit(home, "events", 1 + round_ % 2, f"new {round_}".encode(), b"events 2 b")
        if round_ == 2:
            Lake(home.lake).retire("unit_days", "event_date=2026-03-03")
        clock.pass_by(minutes=40)
        worlds.pushed(home, bucket, clock)
    assert len(moments) > 30
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_replaced_files_leave_after_their_grace_time(home: Home, folder: Objects) -> None:
    clock = worlds.Clock()
    worlds.pushed(home, folder, clock)
    old = worlds.content_of(folder)
    worlds.commit(home, "events", 1, b"other rows")
    clock.pass_by(minutes=1)
    assert worlds.pushed(home, folder, clock).leaving == 2
    assert old.keys() <= worlds.content_of(folder).keys()
    assert not standing(home, folder.name, clock.now + GRACE - timedelta(seconds=1)).due
    assert standing(home, folder.name, clock.now + GRACE).due
    clock.pass_by(minutes=59)
    assert worlds.pushed(home, folder, clock).removed == 0
    clock.pass_by(minutes=1)
    done = worlds.pushed(home, folder, clock)
    assert (done.removed, done.leaving) == (2, 0)
    assert worlds.content_of(folder).keys() - OWN == worlds.named_files(home).keys()


def test_a_file_that_is_named_again_stays(home: Home, folder: Objects) -> None:
    clock = worlds.Clock()
    worlds.pushed(home, folder, clock)
    worlds.commit(home, "events", 1, b"other rows")
    worlds.pushed(home, folder, clock)
    clock.pass_by(minutes=59)
    worlds.commit(home, "events", 1, b"events 1 a", b"events 1 b")
    assert worlds.pushed(home, folder, clock).leaving == 1
    clock.pass_by(minutes=30)
    assert worlds.pushed(home, folder, clock).removed == 0
    assert worlds.named_there(worlds.content_of(folder)) == worlds.named_files(home)


def test_an_erasure_takes_replaced_files_away_at_once(home: Home, folder: Objects) -> None:
    clock = worlds.Clock()
    worlds.pushed(home, folder, clock)
    old = worlds.content_of(folder)
    manifest = worlds.commit(home, "events", 1, b"without somebody")
    Marts(home.marts).remove(worlds.EXPERIMENT, "one")
    worlds.snapshot(home, "two")
    worlds.pushed(home, folder, clock)
    state_log(home).append("erasure", "abc", key="abc", at=clock.now.isoformat(), content={})
    stand = standing(home, folder.name, clock.now)
    assert stand.due
    assert stand.erasure_due
    assert worlds.pushed(home, folder, clock).removed == 2
    content = worlds.content_of(folder)
    assert not standing(home, folder.name, clock.now).due
    gone = {key for key in old if key.startswith(f"lake/events/{manifest.partition}/part")}
    gone |= {key for key in old if "snapshot=one" in key and key.startswith("marts/")}
    assert gone
    assert not gone & content.keys()
    assert worlds.named_there(content) == worlds.named_files(home)


def test_readers_see_one_content_whole_while_it_is_replaced(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    head = "lake/events/event_date=2026-03-01/manifest.json"
    over, seen = threading.Event(), []

    def read() -> None:
        other = open_objects(URL, HASTY)
        while not over.is_set():
            found = other.read(head)
            assert found is not None
            names = [entry["name"] for entry in json.loads(found[0])["files"]]
            parts = [other.read(head.replace("manifest.json", name)) for name in names]
            seen.append([None if part is None else part[0] for part in parts])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(8):
        worlds.commit(home, "events", 1, *(f"content {number} {half}".encode() for half in "ab"))
        worlds.pushed(home, bucket)
    over.set()
    reader.join(20)
    assert len(seen) > 5
    for parts in seen:
        assert None not in parts
        assert len({part.decode().split()[1] for part in parts if part is not None}) == 1, parts


def test_a_push_that_loses_the_race_for_a_manifest_looks_again(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    worlds.commit(home, "events", 1, b"this is to stand there")
    key, once = "home/lake/events/event_date=2026-03-01/manifest.json", [1]

    def meddle(method: str, at: str) -> str | None:
        if method == "PUT" and at == key and once:
            once.pop()
            with s3.lock:
                s3.objects[key] = b'{"somebody": "else"}'
        return None

    s3.fault = meddle
    worlds.pushed(home, bucket)
    assert s3.count("PUT", 412) >= 1
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_a_push_that_is_behind_does_not_undo_a_newer_one(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    worlds.commit(home, "events", 1, b"older")
    newer: list[bytes] = []

    def quicker(method: str, at: str) -> str | None:
        if method == "PUT" and "events/event_date=2026-03-01/part" in at and not newer:
            manifest = worlds.commit(home, "events", 1, b"newer")
            folder = home.lake / "events" / manifest.partition
            with s3.lock:
                for name in (manifest.files[0].name, "manifest.json"):
                    newer.append((folder / name).read_bytes())
                    s3.objects[f"home/lake/events/{manifest.partition}/{name}"] = newer[-1]
        return None

    s3.fault = quicker
    worlds.pushed(home, bucket)
    assert s3.objects["home/lake/events/event_date=2026-03-01/manifest.json"] == newer[1]
    assert s3.count("PUT", 412) >= 1
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_two_pushes_at_once_leave_one_mirror(home: Home, s3: S3, environment: dict[str, str]) -> None:
    both = list(at_once(lambda _: worlds.pushed(home, open_objects(URL, HASTY)), ["one", "two"]))
    assert sorted(one.partitions for one in both) == [0, 6]
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_a_push_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, s3: S3, environment: dict[str, str]
) -> None:
    home = worlds.filled(tmp_path / "data", days=12)
    puts, process = 0, list[subprocess.Popen[bytes]]()

    def kill(method: str, key: str) -> str | None:
        nonlocal puts
        puts += method == "PUT"
        if puts == 23:
            os.kill(process[0].pid, signal.SIGKILL)
            return "drop"
        return None

    s3.fault = kill
    process.append(
        subprocess.Popen(
            [sys.executable, "-m", "exp_pipeline_tests.steps.mirror_worlds", str(home.root), URL],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
        )
    )
    out, _ = process[0].communicate(timeout=60)
    assert process[0].returncode == -signal.SIGKILL
    assert b"done" not in out
    named = worlds.named_there(in_bucket(s3))
    assert named
    assert named.items() <= worlds.named_files(home).items()
    s3.fault = lambda method, key: None
    worlds.pushed(home, open_objects(URL, HASTY))
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)
    assert in_bucket(s3).keys() - OWN == worlds.named_files(home).keys()


def test_a_server_that_dies_midway_leaves_a_whole_mirror(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    for day in (1, 2, 3):
        worlds.commit(home, "events", day, f"again {day}".encode())
    puts = [0]

    def die(method: str, key: str) -> str | None:
        puts[0] += method == "PUT"
        return "drop" if puts[0] > 3 else None

    s3.fault = die
    with pytest.raises(StoreError, match="the connection broke"):
        worlds.pushed(home, bucket)
    worlds.named_there({key: one for key, one in in_bucket(s3).items() if key != "files.json"})
    assert standing(home, bucket.name, worlds.NOW).due
    s3.fault = lambda method, key: None
    worlds.pushed(home, bucket)
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_a_store_that_ignores_conditions_is_refused(home: Home, s3: S3, bucket: Objects) -> None:
    s3.keeps_conditions = False
    with pytest.raises(StoreError, match="overwrites although it is told not to"):
        worlds.pushed(home, bucket)
    assert s3.objects == {}
    s3.keeps_conditions = True
    assert worlds.pushed(home, bucket).partitions == 6


def test_a_mirror_belongs_to_one_home(home: Home, folder: Objects, tmp_path: Path) -> None:
    other = worlds.filled(tmp_path / "other", days=1)
    worlds.pushed(home, folder)
    with pytest.raises(StoreError, match="the mirror of another data folder"):
        worlds.pushed(other, folder)
    push(other, folder, worlds.Clock(), adopt=True, allow_removal=True)
    assert worlds.named_there(worlds.content_of(folder)) == worlds.named_files(other)
    with pytest.raises(StoreError, match="the mirror of another data folder"):
        worlds.pushed(home, folder)


def test_a_place_that_is_no_mirror_is_left_alone(home: Home, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    with pytest.raises(StoreError, match=r"holds 1 objects and no mirror\.json"):
        worlds.pushed(home, open_objects(f"file://{tmp_path / 'photos'}"))
    for inside in (home.root / "mirror", home.root.parent):
        with pytest.raises(StoreError, match="lie in one another"):
            worlds.pushed(home, open_objects(f"file://{inside}"))
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


@pytest.mark.parametrize("lost", ["lake", "marts", "readouts"])
def test_a_lost_disk_does_not_empty_the_mirror(home: Home, folder: Objects, lost: str) -> None:
    worlds.pushed(home, folder)
    before = worlds.content_of(folder)
    shutil.rmtree(home.lake if lost == "lake" else home.marts)
    if lost != "lake":
        shutil.rmtree(home.readouts)
    with pytest.raises(StoreError, match="is its disk mounted"):
        worlds.pushed(home, folder)
    assert worlds.content_of(folder) == before
    push(home, folder, worlds.Clock(), allow_removal=True)
    assert worlds.named_there(worlds.content_of(folder)) == worlds.named_files(home)


@pytest.mark.parametrize("harm", ["changed", "missing", "manifest"])
def test_what_is_damaged_here_stays_whole_there(home: Home, folder: Objects, harm: str) -> None:
    worlds.pushed(home, folder)
    before = worlds.content_of(folder)
    manifest = worlds.commit(home, "events", 1, b"newer rows")
    worlds.commit(home, "events", 2, b"newer rows too")
    path = home.lake / "events" / manifest.partition / manifest.files[0].name
    if harm == "changed":
        path.write_bytes(b"rotten row")
    elif harm == "missing":
        path.unlink()
    else:
        path.with_name("manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"1 partitions were not copied: lake/events/event_date=2026-03-01"):
        worlds.pushed(home, folder)
    there = worlds.content_of(folder)
    kept = {key: one for key, one in before.items() if "events/event_date=2026-03-01" in key}
    assert kept.items() <= there.items()
    assert b"newer rows too" in there.values()
    assert b"rotten row" not in there.values()


def test_verifying_finds_every_damage_and_a_push_heals_it(home: Home, s3: S3, bucket: Objects) -> None:
    worlds.pushed(home, bucket)
    right = in_bucket(s3)
    found = verify(bucket, home)
    assert (found.whole, found.other, found.partitions) == (True, (), 6)
    assert found.bytes == sum(
        len(one)
        for key, one in worlds.named_files(home).items()
        if not key.endswith("/manifest.json") or "mad" in key
    )
    part, page = (next(key for key in right if end in key) for end in ("/part-0001", "readout.json"))
    head = "lake/unit_days/event_date=2026-03-02/manifest.json"
    for key in (part, page, head):
        s3.objects[f"home/{key}"] = s3.objects[f"home/{key}"][:-1] + b"~"
    gone = next(key for key in right if key.startswith("lake/unit_days/event_date=2026-03-01/part"))
    del s3.objects[f"home/{gone}"]
    worlds.commit(home, "events", 3, b"newer")
    found = verify(bucket, home, repair=True)
    assert found.missing == (gone,)
    assert set(found.damaged) == {part, page, head}
    assert "lake/events/event_date=2026-03-03/manifest.json" in found.other
    worlds.pushed(home, bucket)
    assert verify(bucket, home).whole
    assert worlds.named_there(in_bucket(s3)) == worlds.named_files(home)


def test_a_restored_home_equals_the_first_byte_for_byte(home: Home, place: Objects, tmp_path: Path) -> None:
    worlds.pushed(home, place)
    worlds.commit(home, "events", 1, b"not pushed any more")
    wanted = worlds.named_there(worlds.content_of(place))
    back = Home(tmp_path / "back")
    done = restore(place, back)
    assert (done.partitions, done.kept) == (6, 0)
    assert worlds.named_files(back) == wanted
    assert {path.name for path in back.root.iterdir()} == {"lake", "marts", "readouts", "state"}
    with pytest.raises(StoreError, match="holds data"):
        restore(place, back)
    # A copy made to look at must not become the writer of the mirror by itself.
    with pytest.raises(StoreError, match="the mirror of another data folder"):
        worlds.pushed(back, place)
    push(back, place, worlds.Clock(), adopt=True)
    assert worlds.named_there(worlds.content_of(place)) == wanted


def test_a_restore_that_breaks_off_goes_on(home: Home, s3: S3, bucket: Objects, tmp_path: Path) -> None:
    worlds.pushed(home, bucket)
    back, gets = Home(tmp_path / "back"), [0]

    def die(method: str, key: str) -> str | None:
        gets[0] += method == "GET"
        return "drop" if gets[0] > 14 else None

    s3.fault = die
    with pytest.raises(StoreError, match="the connection broke"):
        restore(bucket, back)
    for path in back.lake.glob("*/*/manifest.json"):
        for entry in json.loads(path.read_text())["files"]:
            assert path.with_name(entry["name"]).stat().st_size == entry["bytes"]
    with pytest.raises(StoreError, match="half restored"):
        worlds.pushed(back, bucket)
    s3.fault = lambda method, key: None
    done = restore(bucket, back)
    assert done.kept > 0
    assert worlds.named_files(back) == worlds.named_files(home)


@pytest.mark.parametrize(
    "listed",
    ['{"../../outside.html": {"bytes": 4, "digest": "x"}}', '{"state/x": {"bytes": 4, "digest": "x"}}', "["],
)
def test_a_list_that_leads_elsewhere_is_refused(
    home: Home, folder: Objects, tmp_path: Path, listed: str
) -> None:
    worlds.pushed(home, folder)
    (tmp_path / "mirror" / "files.json").write_text(listed)
    with pytest.raises(StoreError, match=r"files\.json"):
        restore(folder, Home(tmp_path / "back"))


def test_a_manifest_that_leads_elsewhere_is_refused(home: Home, folder: Objects, tmp_path: Path) -> None:
    worlds.pushed(home, folder)
    path = tmp_path / "mirror" / "lake" / "events" / "event_date=2026-03-01" / "manifest.json"
    content = json.loads(path.read_text())
    content["files"][0]["name"] = "../../../../state/identity/links.parquet"
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        restore(folder, Home(tmp_path / "back"))
    assert verify(folder, home).damaged == ("lake/events/event_date=2026-03-01/manifest.json",)
    with pytest.raises(StoreError, match="is damaged"):
        files_of(folder, "events", lambda partition: True)


def test_the_files_of_a_table_are_those_that_its_manifests_name(home: Home, folder: Objects) -> None:
    worlds.pushed(home, folder)
    manifest = worlds.commit(home, "events", 1, b"newer")
    worlds.pushed(home, folder)
    found = files_of(folder, "events", lambda partition: partition.endswith("01"))
    assert found == [f"{folder.name}/lake/events/{manifest.partition}/{manifest.files[0].name}"]
    assert len(files_of(folder, "events", lambda partition: True)) == 5
    with pytest.raises(StoreError, match="no table 'nothing'"):
        files_of(folder, "nothing", lambda partition: True)


def test_what_waits_and_for_how_long_is_told_without_the_network(home: Home, folder: Objects) -> None:
    clock = worlds.Clock()
    clock.now = datetime.now(UTC)
    assert standing(home, folder.name, clock.now).pushed_at is None
    worlds.pushed(home, folder, clock)
    assert (standing(home, folder.name, clock.now).waiting, standing(home, folder.name, clock.now).due) == (
        0,
        False,
    )
    worlds.commit(home, "events", 1, b"newer")
    path = home.lake / "events" / "event_date=2026-03-01" / "manifest.json"
    os.utime(path, (clock.now.timestamp() - 7200,) * 2)
    stand = standing(home, folder.name, clock.now)
    assert (stand.waiting, stand.due) == (1, True)
    assert stand.lag_seconds == pytest.approx(7200, abs=1)
    Lake(home.lake).retire("events", "event_date=2026-03-02")
    assert standing(home, folder.name, clock.now).waiting == 2
    done = worlds.pushed(home, folder, clock)
    assert (done.partitions, done.retired) == (1, 1)
    assert standing(home, folder.name, clock.now).lag_seconds == 0


CHANGES = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("retire"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("snapshot"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("push"), st.integers(0, 90), st.just(0)),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CHANGES, min_size=3, max_size=10))
def test_whatever_happened_before_a_push_makes_both_equal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]]
) -> None:
    root = tmp_path_factory.mktemp("any")
    home, place, clock = Home(root / "data"), open_objects(f"file://{root / 'mirror'}"), worlds.Clock()
    acts: dict[str, Callable[[int, int], object]] = {
        "commit": lambda day, variant: worlds.commit(
            home, "events", day, *[b"%d %d" % (day, variant)] * variant
        ),
        "retire": lambda day, _: Lake(home.lake).retire("events", f"event_date=2026-03-0{day}"),
        "snapshot": lambda number, _: worlds.snapshot(home, f"s{number}"),
    }
    for what, first, second in [*changes, ("push", 0, 0), ("push", 61, 0)]:
        if what == "push":
            clock.pass_by(minutes=first)
            push(home, place, clock, allow_removal=True)
            there = worlds.content_of(place)
            assert worlds.named_there(there) == worlds.named_files(home)
        else:
            acts[what](first, second)
    assert worlds.content_of(place).keys() - OWN == worlds.named_files(home).keys()


def test_the_gauges_of_a_mirror_are_written_where_one_is_named(bench: Workbench, tmp_path: Path) -> None:
    worlds.commit(bench.home, "unit_days", 1, b"rows")
    place, now = open_objects(f"file://{tmp_path / 'mirror'}"), datetime.now(UTC) + timedelta(hours=2)
    named = {"EXP_LAKE_MIRROR": place.name}

    def found(environment: dict[str, str]) -> dict[str, float]:
        told = gauges(bench, [], now, environment)
        return {one.name: one.samples[0].value for one in told if one.name.startswith("exp_mirror")}

    assert found({}) == found({"EXP_LAKE_MIRROR": "nonsense"}) == {}
    assert found(named)["exp_mirror_lag_seconds"] == pytest.approx(7200, abs=60)
    assert found(named)["exp_mirror_waiting"] == 1
    worlds.pushed(bench.home, place)
    assert found(named) == {"exp_mirror_lag_seconds": 0.0, "exp_mirror_waiting": 0.0}
