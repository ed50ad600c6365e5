"""Undeclared fields: what stays readable, what becomes an HMAC, and that no text slips through."""

from __future__ import annotations

import hmac
import json
import string

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from exp_pipeline.transform.identity import identity_key
from exp_pipeline.transform.reduction import reduced_extra

KEY = identity_key("a-key-for-tests-only-0123456789")
QUERY = reduced_extra(exp.column("extra"), ["mood"]).sql(dialect="duckdb")


def reduced(text: str) -> dict[str, object]:
    with duckdb.connect() as connection:
        row = connection.execute(
            f"select {QUERY} from (select $extra::varchar as extra)", {**KEY.pads(), "extra": text}
        ).fetchone()
    assert row is not None
    found = json.loads(row[0])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score", 12), ("share", 0.123456789), ("delta", -5), ("tiny", 1e-9), ("flag", True), ("gone", None),
        ("levels", [1, 2.5, None, True]), ("deep", {"a": {"b": [1, 2]}}), ("mood", "calm"),
        ("http.code", 200),
    ],
)  # fmt: skip
def test_plain_values_stay(key: str, value: object) -> None:
    assert reduced(json.dumps({key: value})) == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("note", "Quill", "Quill"), ("note", "名前", "名前"), ("note", "", ""),
        ("student_no", 1234567, "1234567"),
        ("user_id", 3, "3"), ("studentId", 12, "12"), ("phone", 4321, "4321"), ("born", 12345678, "12345678"),
        ("lat", 48.2, "48.2"), ("tags", ["ada"], '["ada"]'), ("by", {"who": "ada"}, '{"who":"ada"}'),
        ("seen", {"ada@x": 1}, '{"ada@x":1}'), ("big", 10**29, str(10**29)),
    ],
)  # fmt: skip
def test_texts_ids_and_long_numbers_become_an_hmac(key: str, value: object, said: str) -> None:
    digest = hmac.new(KEY.secret, f"{key}={said}".encode(), "sha256").hexdigest()[:32]
    expected = {key: {"hmac": digest, "chars": len(said)}}
    assert reduced(json.dumps({key: value}, separators=(",", ":"))) == expected


@pytest.mark.parametrize(
    "key", ["ada@example.org", "learner-7531", "two words", "名前", "", 'quo"te', "a/b~c"]
)
def test_a_key_that_is_no_plain_name_is_hidden(key: str) -> None:
    (found,) = reduced(json.dumps({key: 1}))
    assert found == "key-" + hmac.new(KEY.secret, f"key={key}".encode(), "sha256").hexdigest()[:12]


def test_a_key_given_twice_hides_the_whole_object() -> None:
    found = reduced('{"note":"Quill","note":"Brunswick"}')
    assert list(found) == ["extra"]
    assert "Quill" not in str(found)


LETTERS = st.text(alphabet=string.ascii_letters + " @.'\\\"{}[]:,0123456789é", min_size=4, max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    secret=LETTERS, key=st.sampled_from(["note", "a.b", "x"]), depth=st.integers(0, 3), listed=st.booleans()
)
def test_no_text_is_left_however_deep_it_stands(secret: str, key: str, depth: int, listed: bool) -> None:
    marked = f"SECRET{secret}"
    value: object = [marked] if listed else marked
    for _ in range(depth):
        value = {"in": value}
    assert "SECRET" not in json.dumps(reduced(json.dumps({key: value, "n": 1})))
    assert reduced(json.dumps({key: value, "n": 1}))["n"] == 1
