"""A table is drawn once: the same list finds it again, another is refused, a list's faults are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.draws import DrawDesign
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.steps.assignment.assignment_table import assignment_table
from exp_pipeline.steps.assignment.drawn import TABLE, arms_by_id, draw_of, drawn_arms, partition_of
from exp_pipeline.steps.assignment.draws import Drawn, draw_table
from exp_pipeline.steps.assignment.fidelity import fidelity_of
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.people.erasure import erase
from exp_pipeline.store.unit_lists import read_unit_list
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.identity import identity_key
from exp_pipeline.transform.layers import eligible
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import assigned, bench_in, commit_rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = identity_key("a-key-for-tests-only-0123456789")
STRATIFIED = DrawDesign(strata=("school",))


def brief(**changes: Any) -> Brief:
    return brief_of(primary="mastery_loop_completion", assignment="table", **changes)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_in(tmp_path / "home", [brief()]) as found:
        yield replace(found, key=KEY)


def with_brief(bench: Workbench, **changes: Any) -> Workbench:
    one = brief(**changes)
    return replace(bench, catalog=replace(bench.catalog, briefs={one.name: one}))


def roster(tmp_path: Path, text: str = "", name: str = "units.csv") -> Path:
    path = tmp_path / name
    rows = "".join(f"learner-{n},s{n % 3},c{n % 20},{n % 20 * 1.5},{n % 7}\n" for n in range(100))
    path.write_text(text or "unit_id,school,class,score,age\n" + rows)
    return path


def drawn_from(bench: Workbench, path: Path, design: DrawDesign = STRATIFIED, **more: Any) -> Drawn:
    return draw_table(bench, "worked-example", read_unit_list(path), design, now=NOW, **more)


def test_a_draw_is_recorded_and_found_again(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    first = drawn_from(bench, path)
    again = draw_table(
        bench,
        "worked-example",
        read_unit_list(path),
        STRATIFIED,
        now=NOW + timedelta(days=9),
        seed=first.draw.seed,
    )
    assert (first.made_now, again.made_now) == (True, False)
    assert first.draw == again.draw == draw_of(bench.home, brief())
    assert first.rows.equals(again.rows)
    assert (first.draw.units, first.draw.drawn_at, first.draw.unit_type) == (100, NOW, "learner")
    arms = dict(first.rows.select("unit_id", "arm").iter_rows())
    assert arms_by_id(bench, brief(), ["learner-3", "nobody"]) == {"learner-3": arms["learner-3"]}
    stored = drawn_arms(bench, brief())
    assert stored is not None
    assert dict(stored.iter_rows()) == {KEY.pseudonym(unit): arm for unit, arm in arms.items()}


def test_the_order_of_the_list_and_its_format_do_not_matter(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    lines = path.read_text().splitlines()
    turned = roster(tmp_path, "\ufeff" + "\r\n".join([lines[0], *lines[:0:-1]]) + "\r\n", "turned.csv")
    parquet = tmp_path / "units.parquet"
    pl.read_csv(path).write_parquet(parquet)
    one = drawn_from(bench, path)
    for other in (turned, parquet):
        again = drawn_from(bench, other)
        assert not again.made_now
        assert again.rows.sort("unit_id").equals(one.rows.sort("unit_id"))


def test_the_same_seed_in_another_home_gives_the_same_bytes(tmp_path: Path) -> None:
    path = roster(tmp_path)
    contents = []
    for name in ("one", "two"):
        with bench_in(tmp_path / name, [brief()]) as found:
            bench = replace(found, key=KEY)
            drawn_from(bench, path, seed=7)
            manifest = bench.lake.manifest(TABLE, partition_of(brief()))
            assert manifest is not None
            contents.append([file.read_bytes() for file in bench.lake.paths([manifest])])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": "unit_id,school\nlearner-1,s1\n"}, "another list, design, layer or shares"),
        ({"design": DrawDesign()}, "another list, design, layer or shares"),
        ({"seed": 8}, "with seed 7, not 8"),
        ({"brief": {"contamination_limit": 0.2, "arms": [("control", 0.4), ("treatment", 0.6)]}}, "shares"),
        ({"layers": Layer(name="all", kind="holdout", share=0.01)}, "another list, design, layer or shares"),
        ({"key": identity_key("another-key-0123456789")}, "under another identity key"),
    ],
)
def test_a_table_is_drawn_once(bench: Workbench, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    before = drawn_from(bench, roster(tmp_path), seed=7)
    if "brief" in change:
        arms = [{"name": name, "share": share} for name, share in change["brief"].pop("arms")]
        bench = with_brief(bench, arms=arms, **change["brief"])
    if "layers" in change:
        bench = replace(bench, catalog=replace(bench.catalog, layers={"all": change["layers"]}))
    if "key" in change:
        bench = replace(bench, key=change["key"])
    path = roster(tmp_path, change.get("text", ""), "other.csv")
    with pytest.raises(ExpError, match=said):
        drawn_from(bench, path, change.get("design", STRATIFIED), seed=change.get("seed"))
    assert draw_of(bench.home, brief()) == before.draw


def test_a_new_version_draws_anew(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    first = drawn_from(bench, path)
    second = drawn_from(with_brief(bench, version=2), path)
    assert second.made_now
    assert first.draw.seed != second.draw.seed


def test_clusters_are_drawn_whole_with_their_balance(bench: Workbench, tmp_path: Path) -> None:
    by_class = with_brief(bench, randomisation_unit="class", icc=0.05)
    design = DrawDesign(method="matched", match=("score",), clusters="class")
    found = drawn_from(by_class, roster(tmp_path), design)
    assert (found.draw.units, found.draw.members, found.rows.height) == (20, 100, 20)
    assert [(one.stratum, one.arm, one.units) for one in found.draw.counts] == [
        (None, "control", 10), (None, "treatment", 10),
    ]  # fmt: skip
    assert found.rows["stratum"].n_unique() == 10
    arms = dict(found.rows.select("unit_id", "arm").iter_rows())
    means = {arm: [n * 1.5 for n in range(20) if arms[f"c{n}"] == arm] for arm in ("control", "treatment")}
    told = {(one.column, one.arm): one for one in found.draw.balance}
    for arm, values in means.items():
        assert told["score", arm].mean == pytest.approx(sum(values) / 10)
    gap = (sum(means["treatment"]) - sum(means["control"])) / 10
    sd = pl.Series([n * 1.5 for n in range(20)]).std()
    assert told["score", "treatment"].standardised_difference == pytest.approx(gap / sd)  # type: ignore[operator]
    assert abs(gap) <= 1.5
    assert ("age", "control") in told


def test_held_out_units_are_left_out_and_the_rest_is_balanced(bench: Workbench, tmp_path: Path) -> None:
    holdout = Layer(name="all", kind="holdout", share=0.3)
    limited = replace(bench, catalog=replace(bench.catalog, layers={"all": holdout}))
    found = drawn_from(limited, roster(tmp_path))
    units = found.rows["unit_id"].to_list()
    assert found.rows["outside"].to_list() == eligible(Limits(None, holdout), "worked-example", units)
    assert found.draw.left_out == {"held_out": found.rows["outside"].drop_nulls().len()}
    inside = found.rows.filter(pl.col("outside").is_null())
    assert abs(inside.filter(pl.col("arm") == "control").height - inside.height / 2) < 1
    assert found.rows.filter(pl.col("outside").is_not_null())["arm"].is_null().all()


def test_logged_arms_are_compared_with_the_table_and_late_units_with_the_hash(
    bench: Workbench, tmp_path: Path
) -> None:
    found = drawn_from(bench, roster(tmp_path))
    arms = dict(found.rows.select("unit_id", "arm").iter_rows())
    late = [f"new-{n}" for n in range(40)]
    rows = [
        assigned(brief(), KEY.pseudonym(unit), arm=arm, arm_bucket=None, traffic_bucket=None)
        for unit, arm in arms.items()
    ]
    other = {"control": "treatment", "treatment": "control"}
    rows[0] |= {"arm": other[rows[0]["arm"]]}
    for unit in late:
        rows.append(assigned(brief(), unit) | {"unit_id": KEY.pseudonym(unit)})
    rows[-1] |= {"arm": other[rows[-1]["arm"]]}
    commit_rows(bench, "assignments", [*rows[:20], *rows[25:]])
    table = assignment_table(bench, "worked-example")
    told = fidelity_of(brief(), table)
    assert told is not None
    assert (told.checked, told.faults) == (135, {"other_arm": 2})
    assert told.not_compared == {"never_logged": 5}
    unlogged = {row["unit_id"]: row["arm"] for row in rows[20:25]}
    silent = table.filter(pl.col("not_compared") == "never_logged")
    assert dict(silent.select("unit_id", "arm").iter_rows()) == unlogged
    assert silent["source"].unique().to_list() == ["computed"]
    assert silent["assigned_at"].null_count() == 5
    assert table["unit_id"].is_sorted()
    assert set(table.filter("late")["unit_id"]) == {KEY.pseudonym(unit) for unit in late}
    hashed = {KEY.pseudonym(unit): arm_of("worked-example", 1, unit, brief().shares()) for unit in late}
    assert dict(table.filter("late").select("unit_id", "hash_arm").iter_rows()) == hashed


def test_an_erased_person_leaves_the_table_and_does_not_come_back(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    first = drawn_from(bench, path)
    erase(bench, ["learner-5"], "privacy desk", at=NOW, connect=duckdb.connect)
    left = drawn_arms(bench, brief())
    assert left is not None
    assert KEY.pseudonym("learner-5") not in left["unit_id"].to_list()
    assert left.height == 99
    again = drawn_from(bench, path)
    assert again.draw == first.draw
    after = drawn_arms(bench, brief())
    assert after is not None
    assert after.height == 99


FAULTY = 'unit_id,school,score\na,s1,3\n\na,s1,4\n,s2,5\nb,,x\n c,s1,1\n"d\ne",s1,inf\n'


def test_every_fault_of_a_list_is_named_with_line_field_and_value(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path, FAULTY)
    with pytest.raises(ExpError) as caught:
        drawn_from(bench, path, DrawDesign(method="matched", match=("score",), strata=("school",)))
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "6 problems in the list:",
        "  units.csv:4: unit_id: stands on line 2 already (value: a)",
        "  units.csv:5: unit_id: is empty",
        "  units.csv:6: school: is empty; allowed: a stratum, such as (none)",
        "  units.csv:6: score: is not a number (value: x); allowed: a finite number",
        "  units.csv:7: unit_id: begins or ends with white space (value:  c)",
        "  units.csv:8: score: is not a number (value: inf); allowed: a finite number",
    ]
    assert draw_of(bench.home, brief()) is None


@pytest.mark.parametrize(
    ("text", "design", "said"),
    [
        ("id\na\n", STRATIFIED, "units.csv:1: has no column unit_id, school; its columns: id"),
        ("unit_id,school\n", STRATIFIED, "the list has no rows"),
        ("unit_id,school\na\n", STRATIFIED, "units.csv:2: has 1 fields, the header has 2"),
        ("unit_id,unit_id\na,b\n", STRATIFIED, "names a column twice: unit_id"),
        ('unit_id,school\n"a,b\n', STRATIFIED, "is no CSV"),
        ("unit_id,a,b\nx,1/2,3\n", DrawDesign(strata=("a", "b")), "units.csv:2: a: has a /"),
        ("unit_id,class\na,c1\n", DrawDesign(clusters="class"), "randomises by learner"),
        ("unit_id\na\n", DrawDesign(method="blocked", block=3), "units.csv: block of 3 cannot hold"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_drawn(
    bench: Workbench, tmp_path: Path, text: str, design: DrawDesign, said: str
) -> None:
    with pytest.raises(ExpError, match=said.replace("(", r"\(")):
        drawn_from(bench, roster(tmp_path, text), design)
    assert draw_of(bench.home, brief()) is None


def test_clusters_must_agree_on_stratum(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path, "class,school\nc1,s1\nc2,s2\nc1,s3\n")
    by_class = with_brief(bench, randomisation_unit="class", icc=0.05)
    with pytest.raises(
        ExpError, match=r"units.csv:4: school: differs within class c1: see line 2 \(value: s3\)"
    ):
        drawn_from(by_class, path, DrawDesign(strata=("school",), clusters="class"))


def test_bytes_that_are_no_text_are_found(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    path.write_bytes(b"unit_id\na\n\xffb\n")
    with pytest.raises(ExpError, match=r"units\.csv:3: is not UTF-8"):
        read_unit_list(path)
    with pytest.raises(ExpError, match="there is no such file"):
        read_unit_list(tmp_path / "none.csv")
    (tmp_path / "x.parquet").write_text("no table")
    with pytest.raises(ExpError, match="is no Parquet table"):
        read_unit_list(tmp_path / "x.parquet")


def test_what_a_draw_needs_is_said(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    with pytest.raises(ExpError, match="EXP_HMAC_KEY"):
        drawn_from(replace(bench, key=None), path)
    with pytest.raises(ExpError, match="says assignment: hash"):
        drawn_from(replace(bench, catalog=hashed(bench)), path)
    with pytest.raises(ExpError, match="has strata school, the draw has none: give each with --strata"):
        drawn_from(with_brief(bench, strata=("school",)), path, DrawDesign())
    with pytest.raises(ExpError, match="none was drawn"):
        arms_by_id(bench, brief(), ["learner-1"])


def hashed(bench: Workbench) -> Catalog:
    one = brief().model_copy(update={"assignment": "hash"})
    return replace(bench.catalog, briefs={one.name: one})


def test_a_lost_table_is_stored_again_from_the_same_list(bench: Workbench, tmp_path: Path) -> None:
    path = roster(tmp_path)
    drawn_from(bench, path)
    (manifest,) = bench.lake.folder(TABLE, partition_of(brief())).glob("*.json")
    manifest.unlink()
    with pytest.raises(ExpError, match="is missing; run `exp assign worked-example --units FILE`"):
        drawn_arms(bench, brief())
    assert not drawn_from(bench, path).made_now
    assert drawn_arms(bench, brief()) is not None
