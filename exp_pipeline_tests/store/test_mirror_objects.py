"""A bucket and a folder keep the same rules; trouble is told in bounded time, without any credential."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.mirror_bucket import PART
from exp_pipeline.store.mirror_objects import Conflict, Objects, Patience, Version, is_key
from exp_pipeline.store.mirror_places import open_objects, place_of
from exp_pipeline_tests.store.s3_server import BUCKET, KEY, REGION, S3, SECRET, serving

PATIENT = Patience(retries=1)
HASTY = Patience(connect_seconds=0.3, request_seconds=0.3, retries=1, retry_seconds=1)
URL = f"s3://{BUCKET}/home"


@pytest.fixture
def s3() -> S3:
    return S3()


@pytest.fixture
def endpoint(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with serving(s3) as port:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }.items():
            monkeypatch.setenv(name, value)
        yield port


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(f"file://{tmp_path / 'mirror'}")
    request.getfixturevalue("endpoint")
    return open_objects(URL, PATIENT)


def test_a_condition_lets_one_writer_through(objects: Objects) -> None:
    first = objects.put("lake/t/d=1/manifest.json", b"one", replaces=None)
    with pytest.raises(Conflict):
        objects.put("lake/t/d=1/manifest.json", b"other", replaces=None)
    second = objects.put("lake/t/d=1/manifest.json", b"two", replaces=first)
    with pytest.raises(Conflict):
        objects.put("lake/t/d=1/manifest.json", b"three", replaces=first)
    with pytest.raises(Conflict):
        objects.put("lake/t/d=2/manifest.json", b"three", replaces=second)
    assert objects.read("lake/t/d=1/manifest.json") == (b"two", second)
    assert {key: one.version for key, one in objects.listed().items()} == {"lake/t/d=1/manifest.json": second}


def test_files_come_back_as_they_went_in_parts_too(objects: Objects, tmp_path: Path) -> None:
    content = bytes(range(256)) * (PART // 256) + b"and some"
    (tmp_path / "large").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    objects.upload("a/large", tmp_path / "large")
    objects.upload("a/empty", tmp_path / "empty")
    assert {key: one.bytes for key, one in objects.listed().items()} == {
        "a/empty": 0,
        "a/large": len(content),
    }
    digest = hashlib.sha256(content).hexdigest()
    assert objects.download("a/large", len(content), tmp_path / "back") == digest
    assert (tmp_path / "back").read_bytes() == content
    assert objects.download("a/empty", 0, None) == hashlib.sha256(b"").hexdigest()
    objects.delete(["a/large", "a/never-there", "a/empty"])
    objects.delete([])
    assert objects.listed() == {}
    assert objects.read("a/large") is None


def test_many_objects_are_listed_whole_and_in_order(s3: S3, endpoint: int) -> None:
    objects = open_objects(URL, PATIENT)
    s3.objects |= {f"home/n={number:04d}/x": b"." for number in range(120)} | {"elsewhere/x": b"."}
    assert list(objects.listed()) == [f"n={number:04d}/x" for number in range(120)]
    objects.delete(list(objects.listed()))
    assert list(s3.objects) == ["elsewhere/x"]


def hang(method: str, key: str) -> str | None:
    time.sleep(0.7)
    return None


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (hang, "does not answer in time (0.3 s a request, tried 2 times)"),
        (lambda method, key: "drop", "the connection broke (tried 2 times)"),
        (lambda method, key: "503", "answers with status 503 (tried 2 times)"),
        (lambda method, key: "403", "refuses the credentials of the environment"),
        (lambda method, key: "501", "status 501"),
    ],
    ids=["hangs", "breaks off", "overloaded", "forbidden", "unable"],
)
def test_a_bad_network_is_told_in_bounded_time(
    s3: S3, endpoint: int, tmp_path: Path, fault: Callable[[str, str], str | None], told: str
) -> None:
    objects = open_objects(URL, HASTY)
    s3.fault = fault
    (tmp_path / "file").write_bytes(b"rows")
    for action in (
        lambda: objects.read("mirror.json"),
        lambda: objects.upload("lake/x", tmp_path / "file"),
    ):
        began = time.monotonic()
        with pytest.raises(StoreError) as trouble:
            action()
        assert time.monotonic() - began < 10
        assert told in str(trouble.value)
        assert str(trouble.value).startswith(f"{URL}/")
        _tells_no_credentials(trouble.value)


def test_wrong_credentials_are_told_without_them(endpoint: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mistyped-secret")
    objects = open_objects(URL, PATIENT)
    for action in (
        objects.listed,
        lambda: objects.put("x", b"1", replaces=None),
        lambda: objects.delete(["x"]),
    ):
        with pytest.raises(StoreError, match="refuses the credentials") as trouble:
            action()
        _tells_no_credentials(trouble.value)
        assert "mistyped" not in str(trouble.value)


def _tells_no_credentials(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__suppress_context__
    for secret in (KEY, SECRET, "Signature"):
        assert secret not in str(error)


def test_a_server_that_is_away_and_a_bucket_that_is_not_there(
    endpoint: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = open_objects("s3://no-such-bucket/home", PATIENT)
    for action in (absent.listed, lambda: absent.read("mirror.json")):
        with pytest.raises(StoreError, match="there is no such bucket"):
            action()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot be reached"):
        open_objects(URL, PATIENT).listed()
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is a plain http address"):
        open_objects(URL, PATIENT)


@pytest.mark.parametrize(
    "url",
    [
        "", "/srv/mirror", "ftp://host/x", "s3://", "s3://key:hidden@bucket/x", "s3://bucket/x?secret=hidden",
        "s3://bucket/../x", "s3://bucket/.hidden", "gs://bucket/a b", "file://host/srv", "file://srv", "file:///",
        "https://bucket.s3.amazonaws.com/x",
    ],
)  # fmt: skip
def test_a_url_of_another_form_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="allowed: s3://, gs://, az://, file://") as trouble:
        open_objects(url)
    assert "hidden" not in str(trouble.value)


def test_a_place_has_one_name() -> None:
    assert place_of("s3://bucket/a/b/").name == "s3://bucket/a/b"
    assert place_of("gs://bucket").name == "gs://bucket"
    assert place_of("file:///srv/mirror/").name == "file:///srv/mirror"


def test_buckets_of_every_cloud_open_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for url in ("s3://bucket/x", "gs://bucket/x", "az://container/x"):
        assert open_objects(url).name == url


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreError, match=r"pip install 'exp-pipeline\[objects\]'"):
        open_objects(URL)


def test_keys_hold_nothing_that_could_lead_elsewhere() -> None:
    assert is_key("lake/events/event_date=2026-03-01/part-0000-ab.parquet")
    for key in ("", "/etc", "a//b", "../x", "a/../b", "a/.hidden", "a b", "a\nb", "a/", "x" * 201, "ä"):
        assert not is_key(key), key
    with pytest.raises(ValueError, match="plain names"):
        open_objects("file:///srv/mirror").put("../x", b"", replaces=Version(None))
