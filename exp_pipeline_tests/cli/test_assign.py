"""`exp assign` tells a unit's arm by all of the brief's rules, and draws tables that the product can read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.layers import eligible
from exp_pipeline_tests.cli.test_light import call, refused

SHARES = {"control": 0.5, "treatment": 0.5}
LAYER = "name: hints\nexperiments:\n  - {experiment: my-experiment, buckets: [0, 6000]}\n"
HOLDOUT = "name: all\nkind: holdout\nshare: 0.1\n"


def change_brief(home: Path, line: str) -> None:
    path = home / "catalog" / "experiments" / "my-experiment.yaml"
    path.write_text(path.read_text().replace("\ncontrol: control\n", f"\ncontrol: control\n{line}\n", 1))


@pytest.fixture
def roster(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of units for a brief that takes its arms from a table."""
    monkeypatch.setenv("EXP_HMAC_KEY", "a-key-for-tests-only-0123456789")
    change_brief(home, "assignment: table")
    path = tmp_path / "units.csv"
    path.write_text("unit_id,school,score\n" + "".join(f"u{n},s{n % 3},{n * 7 % 50}\n" for n in range(90)))
    return path


def test_layers_and_holdout_are_told_with_the_reason(home: Path) -> None:
    change_brief(home, "layer: hints")
    layers = home / "catalog" / "layers"
    layers.mkdir()
    (layers / "hints.yaml").write_text(LAYER)
    (layers / "all.yaml").write_text(HOLDOUT)
    limits = Limits(
        Layer.model_validate(
            {"name": "hints", "experiments": [{"experiment": "my-experiment", "buckets": [0, 6000]}]}
        ),
        Layer(name="all", kind="holdout", share=0.1),
    )
    units = [f"u{n}" for n in range(60)]
    done = call("assign", "my-experiment", *units, "--home", home, "--json")
    found = {row["unit_id"]: row for row in json.loads(done.stdout)}
    for unit, why in zip(units, eligible(limits, "my-experiment", units), strict=True):
        arm = None if why else arm_of("my-experiment", 1, unit, SHARES)
        assert found[unit] == {"unit_id": unit, "arm": arm} | ({"outside": why} if why else {})
    assert {row.get("outside") for row in found.values()} == {None, "held_out", "outside_layer"}
    shown = call("assign", "my-experiment", *units, "--home", home).stdout
    assert "(held out)" in shown
    assert "(in another part of the layer)" in shown


def test_a_flagd_experiment_is_assigned_as_flagd_does(home: Path) -> None:
    change_brief(home, "hash_scheme: flagd")
    done = call("assign", "my-experiment", "u1", "u2", "u3", "--home", home, "--json")
    assert [row["arm"] for row in json.loads(done.stdout)] == [
        arm_of("my-experiment", 1, unit, SHARES, scheme="flagd") for unit in ("u1", "u2", "u3")
    ]


def test_a_table_is_drawn_written_and_asked(home: Path, roster: Path, tmp_path: Path) -> None:
    out = tmp_path / "arms.csv"
    first = call(
        "assign", "my-experiment", "--units", roster, "--strata", "school", "--out", out, "--home", home
    )
    assert first.exit_code == 0, first.output
    assert "drawn now" in first.stdout
    before = out.read_bytes()
    again = call(
        "assign", "my-experiment", "--units", roster, "--strata", "school", "--out", out, "--home", home
    )
    assert "found again" in again.stdout
    assert out.read_bytes() == before
    with out.open() as file:
        rows = {row["unit_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 90
    for school in ("s0", "s1", "s2"):
        assert sum(row["arm"] == "control" for row in rows.values() if row["stratum"] == school) == 15
    asked = call("assign", "my-experiment", "u5", "newcomer", "--home", home, "--json")
    assert json.loads(asked.stdout) == [
        {"unit_id": "u5", "arm": rows["u5"]["arm"], "late": False},
        {"unit_id": "newcomer", "arm": arm_of("my-experiment", 1, "newcomer", SHARES), "late": True},
    ]
    assert (
        "newcomer" in call("assign", "my-experiment", "newcomer", "--home", home).stdout.partition("(late")[0]
    )
    table = json.loads(
        call(
            "assign", "my-experiment", "--units", roster, "--strata", "school", "--home", home, "--json"
        ).stdout
    )
    assert (table["made_now"], table["draw"]["units"], len(table["units"])) == (False, 90, 90)
    as_json = tmp_path / "arms.json"
    call("assign", "my-experiment", "--units", roster, "--strata", "school", "--out", as_json, "--home", home)
    written = json.loads(as_json.read_text())
    assert written["table_digest"] == table["draw"]["table_digest"]
    assert {row["unit_id"]: row["arm"] for row in written["units"]} == {
        unit: row["arm"] for unit, row in rows.items()
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--blocks", "4", "--simple"), "--blocks and --simple are different designs"),
        (("--simple", "--strata", "school"), "--strata has no part in it"),
        (("--blocks", "1"), "--blocks 1: a block has 2 to 1000 units"),
        (("--blocks", "3"), "block of 3 cannot hold the planned shares"),
        (("--out", "arms.xlsx"), "a name that ends in .csv or .json"),
        (("--strata", "region"), "units.csv:1: has no column region; its columns: unit_id, school, score"),
        (("--clusters", "school"), "randomises by learner"),
        (("u1",), "do not go with it"),
        (("--version", "2"), "do not go with it"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    home: Path, roster: Path, options: tuple[str, ...], said: str
) -> None:
    told = refused(call("assign", "my-experiment", "--units", roster, *options, "--home", home))
    assert said in " ".join(told.split())


def test_designs_need_a_list(home: Path) -> None:
    assert "need --units FILE" in refused(
        call("assign", "my-experiment", "u1", "--blocks", "4", "--home", home)
    )


def test_an_undrawn_table_says_how_to_draw_it(home: Path, roster: Path) -> None:
    told = refused(call("assign", "my-experiment", "u1", "--home", home))
    assert "run `exp assign my-experiment --units FILE`" in told


def test_the_plan_of_an_undrawn_table_has_a_gap(home: Path, roster: Path) -> None:
    assert "the table of arms has not been drawn" in call("plan", "my-experiment", "--home", home).stdout
