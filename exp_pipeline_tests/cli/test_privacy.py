"""`erase`, `keys` and `debug`: what they print, where they take an id from, and that no id is printed."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline.cli.runs import open_bench
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog
from exp_pipeline.transform.identity import identity_key

OLD, NEW = "the-old-secret-0123456789", "the-new-secret-0123456789"
DAY = date(2026, 3, 10)


def call(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)


@pytest.fixture
def landed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one landed day of two learners."""
    monkeypatch.setenv("EXP_HMAC_KEY", OLD)
    folder = home / "landing" / f"received_date={DAY}"
    folder.mkdir(parents=True)
    lines = [
        {
            "event_id": f"e{number}", "event_name": "hint_requested", "schema_version": "1.0",
            "client_ts": f"{DAY}T10:00:00Z", "received_at": f"{DAY}T10:00:00Z", "learner_id": learner,
            "role": "student", "platform": "web", "app_version": "1.0",
        }
        for number, learner in enumerate(("raw-ada-1", "raw-bo-2", "raw-ada-1"))
    ]  # fmt: skip
    (folder / "a.ndjson").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with open_bench(Home(home)) as bench:
        land(bench, DAY)
    return home


def test_erase_takes_an_id_from_stdin_and_prints_none(landed: Path) -> None:
    done = call("erase", "--home", landed, "--by", "privacy desk", stdin="raw-ada-1\n")
    assert done.exit_code == 0, done.output
    assert "2 rows of landed" in done.stdout
    assert f"received_date={DAY}/a.ndjson (2 rows)" in done.stdout
    assert "raw-ada-1" not in done.output
    again = call("erase", "--home", landed, "--json", stdin="raw-ada-1\n")
    (receipt,) = json.loads(again.stdout)
    assert (receipt["new"], receipt["requested_by"], receipt["rows"]) == (
        False,
        "privacy desk",
        {"landed": 2},
    )
    assert "raw-ada-1" not in again.output


def test_erase_takes_a_pseudonym_too(landed: Path) -> None:
    done = call("erase", "--home", landed, "--pseudonym", identity_key(OLD).pseudonym("raw-bo-2"), "--json")
    (receipt,) = json.loads(done.stdout)
    assert receipt["rows"] == {"landed": 1}
    refused = call("erase", "--home", landed, "--pseudonym", "raw-bo-2")
    assert refused.exit_code == 2
    assert "32 hex digits" in refused.stderr
    assert "stdin was empty" in call("erase", "--home", landed, stdin="\n").stderr


def test_erase_by_id_needs_the_key(landed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXP_HMAC_KEY")
    refused = call("erase", "--home", landed, stdin="raw-ada-1\n")
    assert refused.exit_code == 2
    assert "EXP_HMAC_KEY" in refused.stderr
    assert "raw-ada-1" not in refused.output


def test_keys_shows_a_rotation_from_begin_to_end(landed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = identity_key(OLD).key_id, identity_key(NEW).key_id
    assert "needs two keys" in call("keys", "link", "--home", landed).stderr
    monkeypatch.setenv("EXP_HMAC_KEY", NEW)
    monkeypatch.setenv("EXP_HMAC_KEY_PREVIOUS", OLD)
    linked = call("keys", "link", "--home", landed)
    assert linked.exit_code == 0, linked.output
    assert "1 received days were landed again; 2 links are kept" in linked.stdout
    monkeypatch.delenv("EXP_HMAC_KEY_PREVIOUS")
    with open_bench(Home(landed)) as bench:
        land(bench, DAY)
    shown = json.loads(call("keys", "--home", landed, "--json").stdout)
    assert shown["environment"] == [new]
    assert {one["key_id"]: one["standing"] for one in shown["known"]} == {old: "retired", new: "in_force"}
    assert (shown["links"], shown["erased"]) == (2, 0)
    table = call("keys", "--home", landed)
    assert old in table.stdout
    assert "retired" in table.stdout
    assert not any(secret in table.output + linked.output for secret in (OLD, NEW))


def test_a_lost_key_is_told_by_name(landed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no key 'k0'" in call("keys", "lost", "k0", "--home", landed).stderr
    monkeypatch.setenv("EXP_HMAC_KEY", NEW)
    done = call("keys", "lost", identity_key(OLD).key_id, "--home", landed)
    assert done.exit_code == 0
    with open_bench(Home(landed)) as bench:
        land(bench, DAY)
    shown = json.loads(call("keys", "--home", landed, "--json").stdout)
    assert [one["standing"] for one in shown["known"]] == ["lost", "in_force"]


@pytest.fixture
def sampled(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that keeps a fifth of the texts, with two hundred turns that arrived today."""
    monkeypatch.setenv("EXP_HMAC_KEY", OLD)
    monkeypatch.setenv("EXP_DEBUG_ENVELOPE", str(tmp_path / "texts"))
    policies = home / "catalog" / "policies" / "default.yaml"
    policies.parent.mkdir(parents=True, exist_ok=True)
    policies.write_text("debug_envelope: {share: 0.2}\n")
    today = datetime.now(UTC).date()
    folder = home / "landing" / f"received_date={today}"
    folder.mkdir(parents=True)
    lines = [
        {
            "event_id": f"e{number}", "event_name": "tutor_turn_submitted", "schema_version": "1.0",
            "client_ts": f"{today}T10:00:00Z", "received_at": f"{today}T10:00:00Z", "turn_id": f"t{number}",
            "learner_id": f"raw-ada-{number}", "role": "student", "platform": "web", "app_version": "1.0",
            "prompt": f"I am raw-ada-{number}, a@b.example",
        }
        for number in range(200)
    ]  # fmt: skip
    (folder / "a.ndjson").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with open_bench(Home(home)) as bench:
        land(bench, today)
    return home


def test_debug_reads_with_a_warning_and_a_record(sampled: Path) -> None:
    listed = json.loads(call("debug", "list", "--home", sampled, "--json").stdout)
    (day,) = listed["days"]
    assert day["entries"] == day["turns"] > 10
    assert "I am" not in call("debug", "list", "--home", sampled).output
    shown = call("debug", "read", "--home", sampled, "--limit", 2)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("prompt: I am [id], [email]") == 2
    assert "texts of learners" in shown.stderr
    (entry,) = StateLog(sampled / "state" / "state.sqlite").entries("debug_envelope_read")
    assert entry.content["entries"] == 2
    assert entry.subject == getpass.getuser()
    found = json.loads(call("debug", "read", "--home", sampled, "--day", day["received"], "--json").stdout)
    assert len(found) == 20
    none = call("debug", "read", "--home", sampled, "--turn", "no such turn")
    assert "Nothing was found" in none.stdout


def test_debug_expire_deletes_what_the_policy_no_longer_allows(sampled: Path) -> None:
    assert "Nothing was past its day" in call("debug", "expire", "--home", sampled).stdout
    (sampled / "catalog" / "policies" / "default.yaml").write_text("debug_envelope: {share: 0}\n")
    assert "Deleted 1 files" in call("debug", "expire", "--home", sampled).stdout
    assert "is off" in call("debug", "list", "--home", sampled).stdout
    assert "holds nothing" in call("debug", "list", "--home", sampled).stdout


def test_debug_says_which_folder_is_missing(sampled: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").rename(tmp_path / "elsewhere")
    gone = call("debug", "expire", "--home", sampled)
    assert gone.exit_code == 2
    assert str(tmp_path / "texts") in gone.stderr
