"""Small segment cells cannot be had back from what is told: by sums, by differences, by shrunken numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from exp_pipeline.analysis.effects.suppression import withheld_values
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Segment
from exp_pipeline.model.readout import Readout
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

ARMS = ("control", "treatment")
SCORE = metric_of("score", type="mean", display="number")


def table(counts: dict[tuple[str, str, str], int]) -> pl.DataFrame:
    """Units by arm and two columns, so many of each combination."""
    rows = [key for key, n in counts.items() for _ in range(n)]
    return pl.DataFrame(rows, schema=["arm", "s", "t"], orient="row")


def attacked(frame: pl.DataFrame, hidden: frozenset[tuple[str, str]], arm: str, cell: tuple[str, str]) -> Any:
    """Between which counts does a cell lie, by linear programming over all combinations that there could be?

    Known: the arm's total and the sums of all told values. Which combinations exist at all is public.
    """
    atoms = frame.select("s", "t").unique().sort("s", "t").rows()
    own = frame.filter(pl.col("arm") == arm)
    known = [(np.ones(len(atoms)), own.height)]
    for place, column in enumerate(("s", "t")):
        for value in sorted(frame[column].unique().to_list()):
            if (column, value) not in hidden:
                row = np.array([float(atom[place] == value) for atom in atoms])
                known.append((row, own.filter(pl.col(column) == value).height))
    aim = np.array([float(atom[("s", "t").index(cell[0])] == cell[1]) for atom in atoms])
    matrix, sums = np.array([row for row, _ in known]), np.array([n for _, n in known])
    ends = [linprog(way * aim, A_eq=matrix, b_eq=sums, bounds=(0, None)).fun * way for way in (1.0, -1.0)]
    return float(ends[0]), float(ends[1])


cells = st.dictionaries(
    st.tuples(st.sampled_from(ARMS), st.sampled_from("abcd"), st.sampled_from("xyz")),
    st.integers(min_value=0, max_value=40),
    min_size=4,
    max_size=24,
)


@settings(max_examples=40, deadline=None)
@given(cells)
def test_no_small_cell_follows_from_told_sums_in_any_column(counts: dict[tuple[str, str, str], int]) -> None:
    frame = table(counts)
    if frame.is_empty():
        return
    minimum = 10
    hidden = withheld_values(frame, {"s": "s", "t": "t"}, ARMS, minimum)
    for column in ("s", "t"):
        for value in frame[column].unique().to_list():
            for arm in ARMS:
                n = frame.filter((pl.col("arm") == arm) & (pl.col(column) == value)).height
                if not 0 < n < minimum:
                    continue
                assert (column, value) in hidden
                everything = {(name, one) for name in ("s", "t") for one in frame[name].unique().to_list()}
                if hidden == everything:
                    continue  # only the total is told
                low, high = attacked(frame, hidden, arm, (column, value))
                assert high - low > 1e-6, (column, value, arm, n)


def test_nothing_small_hides_nothing_and_one_small_value_takes_another() -> None:
    fine = table({(arm, s, "x"): 20 for arm in ARMS for s in "abc"})
    assert withheld_values(fine, {"s": "s"}, ARMS, 10) == frozenset()
    small = table({("control", "a", "x"): 3, ("treatment", "a", "x"): 30} | {
        (arm, s, "x"): n for arm in ARMS for s, n in (("b", 12), ("c", 50))
    })  # fmt: skip
    assert withheld_values(small, {"s": "s"}, ARMS, 10) == {("s", "a"), ("s", "b")}


def test_a_small_class_is_not_given_away_by_its_school() -> None:
    # Classes within schools: each school's total is told, and all its classes but one would be.
    counts = {
        (arm, school, f"{school}{place}"): n
        for arm in ARMS
        for school, sizes in (("a", (4, 30, 40)), ("b", (5, 35, 45)))
        for place, n in enumerate(sizes)
    }
    hidden = withheld_values(table(counts), {"s": "s", "t": "t"}, ARMS, 10)
    # Hiding both small classes is enough within the column, but then each follows from its school.
    assert {("t", "a0"), ("t", "b0")} < hidden
    for arm in ARMS:
        for value in ("a0", "b0"):
            low, high = attacked(table(counts), hidden, arm, ("t", value))
            assert high - low > 1.0


def readout(seed: int, gone: float) -> Readout:
    """Four grades; the outcomes of the smallest grade, of three units an arm, are moved by `gone`."""
    rng = np.random.default_rng(seed)
    n = 600
    grades = rng.integers(0, 3, n)
    grades[:6] = 3
    arms = ["control", "treatment"] * (n // 2)
    score = rng.normal(size=n) + 0.3 * (np.array(arms) == "treatment") * grades
    moved = np.where(grades == 3, score + gone * (np.arange(n) % 3), score)
    mad = units_table(arms, score__num=moved, segment__grade=[f"g{one}" for one in grades])
    brief = brief_of(primary="score", segments=(Segment(column="grade"),))
    return read_out(inputs_of(brief, {"score": SCORE}, mad))


def test_what_is_shown_of_segments_does_not_move_with_a_withheld_cell() -> None:
    plain, moved = readout(7, 0.0), readout(7, 50.0)
    assert plain.estimates != moved.estimates
    for name in ("segments", "segment_differences", "shrunken"):
        assert getattr(plain, name) == getattr(moved, name)
    small = [row for row in plain.shrunken if row.suppressed]
    assert {row.value for row in small} > {"g3"}
    for row in (*small, *(one for one in plain.segments if one.suppressed)):
        held = row.model_dump(exclude={"segment", "value", "segment_value", "arm", "control"})
        numbers = [one for one in held.values() if isinstance(one, float)]
        assert set(numbers) <= {0.95}


def test_few_values_are_not_shrunken_and_say_why() -> None:
    rng = np.random.default_rng(3)
    arms = ["control", "treatment"] * 200
    mad = units_table(
        arms, score__num=rng.normal(size=400), segment__grade=[f"g{place // 2 % 2}" for place in range(400)]
    )
    brief = brief_of(primary="score", segments=(Segment(column="grade"),))
    found = read_out(inputs_of(brief, {"score": SCORE}, mad))
    assert [(row.raw is not None, row.shrunken, row.estimable) for row in found.shrunken] == [
        (True, None, False)
    ] * 2
    assert "too few" in found.shrunken[0].reason


def test_shrunken_effects_are_those_of_a_plain_integration() -> None:
    rng = np.random.default_rng(21)
    n = 1_600
    grades = rng.integers(0, 5, n)
    arms = ["control", "treatment"] * (n // 2)
    treated = np.array(arms) == "treatment"
    y = rng.normal(size=n) + treated * np.array([0.0, 0.1, 0.2, 0.6, 0.9])[grades]
    mad = units_table(arms, score__num=y, segment__grade=[f"g{one}" for one in grades])
    brief = brief_of(primary="score", segments=(Segment(column="grade"),))
    found = read_out(inputs_of(brief, {"score": SCORE}, mad)).shrunken
    effect, variance = [], []
    for grade in range(5):
        sides = [y[(grades == grade) & (treated == side)] for side in (False, True)]
        effect.append(sides[1].mean() - sides[0].mean())
        variance.append(sum(side.var(ddof=1) / side.size for side in sides))
    e, v = np.array(effect), np.array(variance)
    # A grid over the standard deviation between values, flat prior, the mean integrated out by hand.
    taus = np.linspace(1e-4, 6.0, 60_001)
    weight = 1.0 / (v[None] + taus[:, None] ** 2)
    centre = (weight * e).sum(axis=1) / weight.sum(axis=1)
    log = 0.5 * np.log(weight).sum(axis=1) - 0.5 * np.log(weight.sum(axis=1))
    log -= 0.5 * (weight * (e - centre[:, None]) ** 2).sum(axis=1)
    mass = np.exp(log - log.max())
    own = taus[:, None] ** 2 * weight
    means = own * e + (1.0 - own) * centre[:, None]
    expected = (mass[:, None] * means).sum(axis=0) / mass.sum()
    assert [row.shrunken for row in found] == pytest.approx(expected.tolist(), abs=2e-4)  # width of the grid
    assert [row.raw for row in found] == pytest.approx(effect)
