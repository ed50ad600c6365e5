"""Rotation of the identity key: who stays one person, who does not, and which keys are refused."""

from __future__ import annotations

import hmac
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.opening import keys_from, workbench
from exp_pipeline.steps.people.identity import LINKS, identity_rows, pseudonyms_of
from exp_pipeline.steps.people.identity_keys import known_keys, note_key
from exp_pipeline.store.home import Home
from exp_pipeline.transform.identity import identity_key
from exp_pipeline_tests.steps.conftest import lake_bytes, rows_of, with_catalog

OLD, NEW, NEWEST = "the-old-secret-0123456789", "the-new-secret-0123456789", "the-newest-secret-012345"
DAY = date(2026, 3, 10)
DAYS = [DAY + timedelta(days=number) for number in range(6)]
SOURCE = Source(name="own", files="received_date=*/*.ndjson", format="ndjson", identity=True)
Turned = Callable[..., Workbench]


def pseudonym(secret: str, raw: str) -> str:
    return hmac.new(secret.encode(), raw.encode(), "sha256").hexdigest()[:32]


def line(number: int, day: date, learner: str, **more: object) -> dict[str, object]:
    at = f"{day}T10:00:{number:02d}Z"
    return {
        "event_id": f"{day}-{number}", "event_name": "hint_requested", "schema_version": "1.0",
        "client_ts": at, "received_at": at, "learner_id": learner, "role": "student",
        "platform": "web", "app_version": "1.0",
        **more,
    }  # fmt: skip


def put(home: Home, day: date, lines: Sequence[Mapping[str, object]], name: str = "a") -> None:
    path = home.landing / f"received_date={day}" / f"{name}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))


@pytest.fixture
def turned(tmp_path: Path, catalog: Catalog) -> Iterator[Turned]:
    """Opens the one home of a test with the given keys in the environment."""
    with ExitStack() as stack:

        def open_with(key: str, previous: str = "", **more: str) -> Workbench:
            connection = stack.enter_context(duckdb.connect())
            opened = stack.enter_context(
                workbench(
                    Home(tmp_path / "home"), connection, run_id="test", catalog=catalog, threads=1,
                    environment={"EXP_HMAC_KEY": key, "EXP_HMAC_KEY_PREVIOUS": previous, **more},
                )
            )  # fmt: skip
            return with_catalog(opened, sources=(SOURCE,))

        yield open_with


def learners(bench: Workbench, day: date) -> list[object]:
    """The learners of a received day in the order of the file."""
    land(bench, day)
    bench.read("of_day", "landed", bench.lake.manifests("landed", [f"received_date={day}"]))
    return [row[0] for row in bench.engine.connection.execute(
        "select learner_id from of_day order by row_number"
    ).fetchall()]  # fmt: skip


def test_people_met_while_both_keys_are_set_keep_their_first_pseudonym(
    turned: Turned, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    for place, people in enumerate((["ada", "bo"], ["ada", "cy"], ["ada", "bo", "cy", "di"])):
        put(home, DAYS[place], [line(at, DAYS[place], who) for at, who in enumerate(people)])
    old = {who: pseudonym(OLD, who) for who in ("ada", "bo", "cy")}
    assert learners(turned(OLD), DAYS[0]) == [old["ada"], old["bo"]]
    assert learners(turned(NEW, OLD), DAYS[1]) == [old["ada"], old["cy"]]
    after = turned(NEW)
    # bo was not met in the overlap, di is new: both are made with the new key.
    assert learners(after, DAYS[2]) == [old["ada"], pseudonym(NEW, "bo"), old["cy"], pseudonym(NEW, "di")]
    keys = {one.standing: one.key_id for one in known_keys(home).values()}
    assert keys == {"in_force": identity_key(NEW).key_id, "retired": identity_key(OLD).key_id}
    links = identity_rows(after, LINKS)
    assert {(row["pseudonym"], row["first_pseudonym"], row["received_date"]) for row in links.to_dicts()} == {
        (pseudonym(NEW, who), old[who], DAYS[1]) for who in ("ada", "cy")
    }
    assert set(links["first_key_id"]) == {keys["retired"]}
    assert set(links["key_id"]) == {keys["in_force"]}


def test_a_second_rotation_still_leads_to_the_first_pseudonym(turned: Turned, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for day in DAYS:
        put(home, day, [line(0, day, "ada")])
    settings = [(OLD, ""), (NEW, OLD), (NEW, ""), (NEWEST, NEW), (NEWEST, "")]
    found = [learners(turned(*keys), day) for keys, day in zip(settings, DAYS, strict=False)]
    assert found == [[pseudonym(OLD, "ada")]] * 5
    # Three keys at once are the same person too.
    assert pseudonyms_of(turned(NEWEST), ["ada"]) == sorted(
        pseudonym(one, "ada") for one in (OLD, NEW, NEWEST)
    )


def test_landing_again_gives_the_same_bytes_and_the_same_people(turned: Turned, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    rows = [line(0, DAY, "ada", class_id="7b"), line(1, DAY, "bo", device_id="tablet-3")]
    put(home, DAY, rows)
    put(home, DAYS[1], [line(0, DAYS[1], "ada", class_id="7b")])
    land(turned(OLD), DAY)
    before = lake_bytes(home)
    both = turned(NEW, OLD)
    land(both, DAY)
    assert lake_bytes(home) == before
    land(both, DAYS[1])
    after = turned(NEW)
    land(after, DAY)
    columns = "learner_id, class_id, device_id"
    assert rows_of(after, "landed", columns, "event_date, row_number") == [
        (pseudonym(OLD, "ada"), pseudonym(OLD, "7b"), None),
        (pseudonym(OLD, "bo"), None, pseudonym(OLD, "tablet-3")),
        (pseudonym(OLD, "ada"), pseudonym(OLD, "7b"), None),
    ]
    again = lake_bytes(home)
    land(turned(NEW), DAY)
    assert {name: data for name, data in lake_bytes(home).items() if name in again} == again


def test_the_days_of_an_overlap_may_land_in_any_order(turned: Turned, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    people = {DAYS[1]: ["ada", "bo"], DAYS[2]: ["bo", "cy"], DAYS[3]: ["ada"]}
    for day, names in people.items():
        put(home, day, [line(at, day, who) for at, who in enumerate(names)])
    found = []
    for order in (list(people), list(reversed(people))):
        both = turned(NEW, OLD)
        for day in order:
            land(both, day)
        found.append(identity_rows(both, LINKS).to_dicts())
        shutil.rmtree(home.state)
        shutil.rmtree(home.lake)
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_key_that_nobody_announced_is_refused(turned: Turned, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for day in DAYS:
        put(home, day, [line(0, day, "ada")])
    land(turned(OLD), DAY)
    name = turned(OLD).key
    wrong = turned(NEW)
    assert name is not None
    assert wrong.key is not None
    before = lake_bytes(home)
    with pytest.raises(ExpError, match="never set together") as refused:
        land(wrong, DAYS[1])
    assert name.key_id in str(refused.value)
    assert wrong.key.key_id in str(refused.value)
    assert NEW not in str(refused.value)
    assert lake_bytes(home) == before
    # The state is gone, the rows still know their key.
    shutil.rmtree(home.state)
    with pytest.raises(ExpError, match="never set together"):
        land(wrong, DAYS[1])
    land(turned(OLD), DAYS[1])
    note_key(home, name.key_id, name.fingerprint, "lost")
    assert learners(turned(NEW), DAYS[2]) == [pseudonym(NEW, "ada")]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"key": OLD, "previous": NEW}, "never used here"),
        ({"key": NEW, "EXP_HMAC_KEY_ID": "first"}, "is not the one that had this name"),
        ({"key": OLD, "EXP_HMAC_KEY_ID": "second"}, "is known here as first"),
    ],
)
def test_mixed_up_keys_are_refused(turned: Turned, tmp_path: Path, keys: dict[str, str], said: str) -> None:
    for day in DAYS[:2]:
        put(Home(tmp_path / "home"), day, [line(0, day, "ada")])
    land(turned(OLD, EXP_HMAC_KEY_ID="first"), DAY)
    with pytest.raises(ExpError, match=said):
        land(turned(**keys), DAYS[1])
    # Without a name the secret is known again by its fingerprint.
    assert learners(turned(NEW, OLD), DAYS[1]) == [pseudonym(OLD, "ada")]
    assert set(known_keys(Home(tmp_path / "home"))) == {"first", identity_key(NEW).key_id}


def test_a_retired_key_comes_back_for_everybody_or_not_at_all(turned: Turned, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for place, people in enumerate((["ada", "bo"], ["ada"], ["bo"])):
        put(home, DAYS[place], [line(at, DAYS[place], who) for at, who in enumerate(people)])
    land(turned(OLD), DAYS[0])
    land(turned(NEW, OLD), DAYS[1])
    after = turned(NEW)
    assert learners(after, DAYS[2]) == [pseudonym(NEW, "bo")]
    with pytest.raises(ExpError, match="not met while both keys were set"):
        land(after, DAYS[0])
    back = turned(NEW, OLD)
    with pytest.raises(ExpError, match="exp keys link"):
        land(back, DAYS[2])
    assert back.key is not None
    note_key(home, back.key.key_id, back.key.fingerprint, "in_force")
    assert [learners(back, day) for day in DAYS[:3]] == [
        [pseudonym(OLD, "ada"), pseudonym(OLD, "bo")],
        [pseudonym(OLD, "ada")],
        [pseudonym(OLD, "bo")],
    ]
    # All are linked now: the old key may go, and every day may land again.
    assert learners(turned(NEW), DAYS[0]) == [pseudonym(OLD, "ada"), pseudonym(OLD, "bo")]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"EXP_HMAC_KEY": "short"}, "16 bytes"),
        ({"EXP_HMAC_KEY_PREVIOUS": OLD}, "EXP_HMAC_KEY is not"),
        ({"EXP_HMAC_KEY": OLD, "EXP_HMAC_KEY_PREVIOUS": OLD}, "same secret"),
        ({"EXP_HMAC_KEY": OLD, "EXP_HMAC_KEY_ID": "a b"}, "not shown"),
        (
            {"EXP_HMAC_KEY": NEW, "EXP_HMAC_KEY_ID": "k", "EXP_HMAC_KEY_PREVIOUS": OLD,
             "EXP_HMAC_KEY_PREVIOUS_ID": "k"},
            "one name",
        ),
    ],
)  # fmt: skip
def test_a_bad_setting_says_which_and_shows_no_secret(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        keys_from(environment)
    assert not any(secret in str(refused.value) for secret in (OLD, NEW, "a b"))


def test_the_oldest_key_is_in_force_and_no_name_tells_the_secret() -> None:
    keys = keys_from({"EXP_HMAC_KEY": NEWEST, "EXP_HMAC_KEY_PREVIOUS": NEW, "EXP_HMAC_KEY_PREVIOUS_2": OLD})
    assert [key.secret.decode() for key in keys] == [OLD, NEW, NEWEST]
    assert all(key.key_id == "k" + key.fingerprint[:8] for key in keys)
    assert all(key.secret.decode() not in repr(key) for key in keys)
