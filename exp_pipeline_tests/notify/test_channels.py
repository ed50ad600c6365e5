"""The file channel: each key once, whatever happens to its writers."""

from __future__ import annotations

import fcntl
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from exp_pipeline.model.incidents import Message
from exp_pipeline.notify.channels import ChannelError, FileChannel
from exp_pipeline.notify.page import message_of
from exp_pipeline.notify.transitions import Track, after_finding
from exp_pipeline_tests.notify.incident_samples import NOON, finding


def message(number: int = 0) -> Message:
    change = after_finding(Track(), finding(day=number), NOON + timedelta(hours=number))[1]
    assert change is not None
    return message_of(change)


def keys(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_a_key_is_written_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state" / "notifications.jsonl"
    with caplog.at_level(logging.INFO):
        FileChannel(path).send(message())
        channel = FileChannel(path)
        channel.send(message())
        channel.send(message(1))
        channel.send(message(1))
    assert keys(path) == [message().key, message(1).key]
    assert [record.getMessage() for record in caplog.records] == [message().text, message(1).text]
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert Message.model_validate_json(path.read_text().splitlines()[0]) == message()


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "notifications.jsonl"
    channel = FileChannel(path)
    channel.send(message())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    channel.send(message(1))
    assert keys(path) == [message().key, message(1).key]


def test_many_writers_write_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "notifications.jsonl"
    everything = [message(number) for number in range(10)]

    def write(_: int) -> None:
        channel = FileChannel(path)
        for one in everything:
            channel.send(one)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(keys(path)) == sorted(one.key for one in everything)


def test_a_writer_waits_for_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "notifications.jsonl"
    with path.open("ab") as other, ThreadPoolExecutor(max_workers=1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        sending = pool.submit(FileChannel(path).send, message())
        with pytest.raises(TimeoutError):
            sending.result(timeout=0.2)
        other.write(message().canonical_json().encode() + b"\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
        sending.result(timeout=10)
    assert keys(path) == [message().key]


def test_a_file_put_aside_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "notifications.jsonl"
    channel = FileChannel(path)
    channel.send(message())
    path.rename(tmp_path / "old.jsonl")
    channel.send(message(1))
    assert keys(path) == [message(1).key]


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b"{}\n"])
def test_a_foreign_file_is_not_taken_for_ours(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "notifications.jsonl"
    path.write_bytes(line)
    with pytest.raises(ChannelError, match="no message"):
        FileChannel(path).send(message())
    assert path.read_bytes() == line


def test_trouble_with_the_disk_is_a_channel_error(tmp_path: Path) -> None:
    (tmp_path / "notifications.jsonl").mkdir()
    with pytest.raises(ChannelError, match=r"notifications\.jsonl"):
        FileChannel(tmp_path / "notifications.jsonl").send(message())
