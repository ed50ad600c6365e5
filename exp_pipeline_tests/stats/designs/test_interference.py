from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.designs.exposure_mapping import (
    BOTH,
    NEIGHBOURS_ONLY,
    NEITHER,
    OWN_ONLY,
    ExposureContrast,
    exposure_contrast,
    own_and_neighbours,
)
from exp_pipeline.stats.designs.interference import (
    Difference,
    Spillover,
    cluster_advice,
    contacts,
    interference,
)
from exp_pipeline.stats.results import Effect, NotEstimable


def mapped(*args: Any, **named: Any) -> ExposureContrast:
    result = exposure_contrast(*args, **named)
    assert isinstance(result, ExposureContrast), result
    return result


def test_contacts_of_groups_are_those_of_all_their_pairs() -> None:
    rng = np.random.default_rng(901)
    groups = rng.integers(0, 15, 60)
    arm = rng.integers(0, 2, 60) == 1
    pairs = np.array([(j, i) for i in range(60) for j in range(i) if groups[i] == groups[j]])
    a, b = contacts(arm, groups=groups), contacts(arm, pairs=np.vstack([pairs, pairs[:, ::-1]]))
    assert (a.neighbours == b.neighbours).all()
    assert (a.treated_neighbours == b.treated_neighbours).all()
    # The same parts, whatever their numbers.
    assert np.unique(np.column_stack([a.part, b.part]), axis=0).shape[0] == np.unique(groups).size


def test_parts_of_long_chains_are_those_of_scipy() -> None:
    from scipy import sparse

    rng = np.random.default_rng(902)
    n = 400
    chain = np.column_stack([np.arange(0, 199), np.arange(1, 200)])
    pairs = np.vstack([chain, rng.integers(200, 400, (90, 2))])
    pairs = rng.permutation(pairs[pairs[:, 0] != pairs[:, 1]])
    ours = contacts(np.zeros(n, bool), pairs=pairs).part
    graph = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    number, theirs = sparse.csgraph.connected_components(graph, directed=False)
    assert np.unique(np.column_stack([ours, theirs]), axis=0).shape[0] == number


def village(
    rng: np.random.Generator, groups: int, spill: float, direct: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of 2 to 6; units randomised one by one; controls and treated gain by treated classmates."""
    sizes = rng.integers(1, 7, groups)
    group = np.repeat(np.arange(groups), sizes)
    arm = rng.random(group.size) < 0.5
    share = contacts(arm, groups=group).share_treated
    level = rng.normal(size=groups)[group] * 0.5
    y = direct * arm + spill * share + level + rng.normal(size=group.size)
    return y, arm, group


def test_planted_contamination_is_recovered() -> None:
    rng = np.random.default_rng(903)
    y, arm, group = village(rng, 3000, 0.6)
    found = interference(y, arm, contacts(arm, groups=group))
    assert isinstance(found.spillover, Spillover)
    for ours, truth in (
        (found.spillover.on_control, 0.6),
        (found.spillover.on_treatment, 0.6),
        (found.spillover.direct, 1.0),
        (found.spillover.total, 1.6),
    ):
        assert ours.ci_lower < truth < ours.ci_upper
        assert ours.ci_upper - ours.ci_lower < 0.35
    assert found.spillover.on_control.p_value < 1e-6
    # Of everybody the difference of arms says 1.0: a launch, to everybody, gains 1.6.
    assert isinstance(found.all_units, Effect)
    assert found.all_units.ci_upper < 1.3
    assert found.share_of_controls_exposed == pytest.approx(
        np.mean([(arm[group == group[i]].sum() > 0) for i in np.flatnonzero(~arm)]), abs=1e-12
    )
    # Units who touch nobody of the other arm: alone, or in a class all of one arm (1 + 0.6 in the latter).
    assert isinstance(found.without_shared, Effect)
    assert isinstance(found.moved, Difference)
    assert found.moved.absolute == pytest.approx(found.without_shared.absolute - found.all_units.absolute)
    assert found.moved.p_value < 0.01
    assert not isinstance(found.by_dose, NotEstimable)
    assert [dose.upper for dose in found.by_dose] == [0.0, 1 / 3, 2 / 3, 1.0]
    for dose in found.by_dose:
        assert dose.effect.ci_lower - 0.3 < 1.0 < dose.effect.ci_upper + 0.3


def test_without_contamination_the_sensitivity_stays_near_zero() -> None:
    hits = 0
    trials = 200
    rng = np.random.default_rng(904)
    for _ in range(trials):
        y, arm, group = village(rng, 120, 0.0)
        found = interference(y, arm, contacts(arm, groups=group))
        assert isinstance(found.moved, Difference)
        hits += found.moved.p_value < 0.05
    # Monte Carlo error 1.5 points.
    assert hits / trials < 0.10


def test_spillover_equals_least_squares_and_its_cluster_jackknife() -> None:
    rng = np.random.default_rng(905)
    y, arm, group = village(rng, 150, 0.8)
    touched = contacts(arm, groups=group)
    whole = interference(y, arm, touched)
    kept = np.array([not (arm[group == g] != a).any() for g, a in zip(group, arm, strict=True)])
    moves = []
    for g in range(150):
        some = group != g
        parts = [y[some & k & (arm == a)].mean() for k in (kept, kept | True) for a in (True, False)]
        moves.append(parts[0] - parts[1] - parts[2] + parts[3])
    assert isinstance(whole.moved, Difference)
    spread = math.sqrt(149 / 150 * np.sum((np.array(moves) - np.mean(moves)) ** 2))
    # Some fifty units are left without the other arm: the jackknife of so few is a little larger.
    assert whole.moved.se == pytest.approx(spread, rel=0.1)
    found = whole.spillover
    assert isinstance(found, Spillover)
    number = touched.neighbours.astype(float)
    share = touched.share_treated
    inside = number > 0
    x = np.column_stack([np.ones(y.size), arm, share, arm * share, number]).astype(float)
    x, y, group = x[inside], y[inside], group[inside]
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    assert found.on_control.absolute == pytest.approx(beta[2], rel=1e-9)
    assert found.total.absolute == pytest.approx(beta[1] + beta[2] + beta[3], rel=1e-9)
    left = []
    classes = np.unique(group)
    for g in classes:
        kept = group != g
        part = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0]
        left.append(part[1] + part[2] + part[3])
    jackknife = math.sqrt((1 - 1 / classes.size) * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert found.total.se == pytest.approx(jackknife, rel=0.08)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20), st.floats(-50, 50))
def test_scale_shift_and_swap(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    y, arm, group = village(rng, 60, 0.5)
    order = rng.permutation(y.size)
    first = interference(y, arm, contacts(arm, groups=group))
    second = interference((scale * y + shift)[order], ~arm[order], contacts(~arm[order], groups=group[order]))
    assert (second.controls_exposed, second.treated_exposed) == (
        first.treated_exposed,
        first.controls_exposed,
    )
    assert isinstance(first.moved, Difference)
    assert isinstance(second.moved, Difference)
    assert second.moved.absolute == pytest.approx(-scale * first.moved.absolute, rel=1e-6, abs=1e-8 * scale)
    assert isinstance(first.spillover, Spillover)
    assert isinstance(second.spillover, Spillover)
    # Everybody treated against nobody is its own mirror; what treated neighbours do to the other arm swaps.
    assert second.spillover.total.absolute == pytest.approx(
        -scale * first.spillover.total.absolute, rel=1e-5, abs=1e-6 * scale
    )
    assert second.spillover.on_control.absolute == pytest.approx(
        -scale * first.spillover.on_treatment.absolute, rel=1e-5, abs=1e-6 * scale
    )


def test_what_cannot_be_told_says_why() -> None:
    rng = np.random.default_rng(906)
    y, arm = rng.normal(size=40), np.arange(40) % 2 == 1
    alone = interference(y, arm, contacts(arm, pairs=np.zeros((0, 2), dtype=int)))
    assert isinstance(alone.moved, NotEstimable)
    assert isinstance(alone.spillover, NotEstimable)
    assert isinstance(alone.by_dose, NotEstimable)
    assert alone.share_of_controls_exposed == 0.0
    assert alone.all_units == clustered_difference(y, arm, np.arange(40))
    for bad, word in (
        ({"groups": np.zeros(40), "pairs": [[0, 1]]}, "exactly one"),
        ({"pairs": [[0, 0]]}, "two different"),
        ({"pairs": [[0, 40]]}, "from 0 to 39"),
    ):
        with pytest.raises(ValueError, match=word):
            contacts(arm, **bad)
    with pytest.raises(ValueError, match="doses"):
        interference(y, arm, contacts(arm, groups=np.arange(40)), doses=(0.0, 0.0))


def test_horvitz_and_thompson_over_every_assignment() -> None:
    # Eight units in three groups, each treated with chance 1/2: 256 assignments, all of them counted.
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    every = np.array(list(itertools.product([False, True], repeat=8)))
    codes = own_and_neighbours(every, groups)
    rng = np.random.default_rng(907)
    outcomes = rng.normal(3, 1, size=8)[:, None] + np.array([0.0, 0.5, 1.0, 1.8])[None, :]
    estimates, variances = [], []
    for row in codes:
        y = outcomes[np.arange(8), row]
        answer = exposure_contrast(y, row, codes, exposed=BOTH, reference=NEITHER, method="horvitz-thompson")
        # Assignments where an exposure is rare still have an estimate: made here by hand, for the average.
        weight = {code: (codes == code).mean(axis=0) for code in (BOTH, NEITHER)}
        by_hand = sum(y[row == BOTH] / weight[BOTH][row == BOTH]) / 8
        by_hand -= sum(y[row == NEITHER] / weight[NEITHER][row == NEITHER]) / 8
        estimates.append(by_hand)
        if isinstance(answer, ExposureContrast):
            assert answer.absolute == pytest.approx(by_hand, rel=1e-10)
            variances.append(answer.se**2)
        else:
            variances.append(math.nan)
    # Unbiased to the last digit over the whole design.
    assert np.mean(estimates) == pytest.approx(1.8, rel=1e-12)


def test_the_variance_is_never_too_small_over_every_assignment() -> None:
    from exp_pipeline.stats.designs.exposure_mapping import _variance

    groups = np.array([0, 0, 1, 1, 1, 2, 2])
    n = groups.size
    every = np.array(list(itertools.product([False, True], repeat=n)))
    codes = own_and_neighbours(every, groups)
    rng = np.random.default_rng(908)
    for spread in (0.0, 1.0):
        base = rng.normal(2, 1, size=n)
        outcomes = base[:, None] + np.array([0.0, 0.4, 1.0, 1.5])[None, :] * (
            1 + spread * rng.normal(size=(n, 1))
        )
        for exposed, reference in ((BOTH, NEITHER), (NEIGHBOURS_ONLY, NEITHER), (OWN_ONLY, NEITHER)):
            chance = np.vstack([(codes == c).mean(axis=0) for c in (exposed, reference)])
            estimates, variances = [], []
            for row in codes:
                y = outcomes[np.arange(n), row]
                had = np.vstack([row == exposed, row == reference])
                weighted = np.where(had, y / chance, 0.0).sum(axis=1)
                estimates.append(weighted[0] - weighted[1])
                variances.append(_variance(np.vstack([y, y]), had, chance, codes, (exposed, reference)))
            assert np.mean(variances) >= np.var(estimates) * (1 - 1e-9)
            # Bounded, and not out of all proportion.
            assert np.mean(variances) < 4.0 * np.var(estimates)


def test_one_exposure_alone_has_an_unbiased_variance() -> None:
    # Bernoulli units without groups: every pair can be seen, so the variance of a total is estimated exactly.
    n = 7
    every = np.array(list(itertools.product([False, True], repeat=n)))
    from exp_pipeline.stats.designs.exposure_mapping import _variance

    y = np.arange(1.0, n + 1.0)
    chance = np.full((2, n), 0.5)
    totals, variances = [], []
    for row in every:
        had = np.vstack([row, np.zeros(n, bool)])
        totals.append(float((y[row] / 0.5).sum()))
        variances.append(_variance(np.vstack([y, np.zeros(n)]), had, chance, every.astype(np.int64), (1, 0)))
    # What the second exposure adds is the bound for the outcomes that no assignment shows together.
    bound = float(np.sum(y**2))
    assert np.mean(variances) - bound == pytest.approx(np.var(totals), rel=1e-9)


def test_outcomes_never_seen_together_cost_what_the_paper_says() -> None:
    # Two members of a group cannot both be the only one treated. Aronow and Samii (2017, proposition 5.2):
    # the variance of a total is then too large by the sum over such pairs of (y_i + y_j)^2 / 2.
    from exp_pipeline.stats.designs.exposure_mapping import _variance

    groups = np.array([0, 0, 0, 1, 1])
    every = np.array(list(itertools.product([False, True], repeat=5)))
    codes = own_and_neighbours(every, groups)
    y = np.array([1.0, 2.0, -0.5, 3.0, 1.5])
    chance = np.vstack([(codes == OWN_ONLY).mean(axis=0), np.full(5, 0.5)])
    nobody = np.zeros(5, bool)
    totals, variances = [], []
    for row in codes:
        had = np.vstack([row == OWN_ONLY, nobody])
        totals.append(float((y[had[0]] / chance[0][had[0]]).sum()))
        variances.append(_variance(np.vstack([y, 0 * y]), had, chance, codes, (OWN_ONLY, -1)))
    apart = [(i, j) for i in range(5) for j in range(5) if i != j and groups[i] == groups[j]]
    excess = sum((y[i] + y[j]) ** 2 / 2.0 for i, j in apart)
    # No unit ever has the second exposure: each pair with it is unseen, five for each unit.
    unseen = 5.0 * float(np.sum(y**2))
    assert np.mean(variances) - unseen == pytest.approx(np.var(totals) + excess, rel=1e-9)


def test_hajek_does_not_care_where_zero_is() -> None:
    rng = np.random.default_rng(912)
    groups = np.repeat(np.arange(20), 3)
    draws = own_and_neighbours(rng.random((500, 60)) < 0.5, groups)
    row, y = draws[0], rng.normal(size=60)
    first = mapped(y, row, draws, exposed=BOTH, reference=NEIGHBOURS_ONLY, blocks=groups)
    second = mapped(y + 1000.0, row, draws, exposed=BOTH, reference=NEIGHBOURS_ONLY, blocks=groups)
    assert second.absolute == pytest.approx(first.absolute, abs=1e-9)
    assert second.se == pytest.approx(first.se, rel=1e-8)


def test_blocks_give_the_same_and_hajek_covers() -> None:
    rng = np.random.default_rng(909)
    groups = np.repeat(np.arange(80), 3)
    draws = own_and_neighbours(rng.random((2000, 240)) < 0.5, groups)
    covered = 0
    trials = 120
    level = rng.normal(size=80)[groups]
    for _ in range(trials):
        arm = rng.random(240) < 0.5
        row = own_and_neighbours(arm, groups)
        y = 2 + level + np.array([0.0, 0.5, 1.0, 1.5])[row] + rng.normal(size=240) * 0.5
        ours = exposure_contrast(y, row, draws, exposed=BOTH, reference=NEITHER, blocks=groups)
        assert isinstance(ours, ExposureContrast)
        covered += ours.ci_lower <= 1.5 <= ours.ci_upper
    # Conservative by design; few units have exposure 0, and a normal reference is used.
    assert covered / trials > 0.9
    whole = mapped(y, row, draws, exposed=BOTH, reference=OWN_ONLY)
    part = mapped(y, row, draws, exposed=BOTH, reference=OWN_ONLY, blocks=groups)
    assert whole.absolute == part.absolute
    assert whole.se == pytest.approx(part.se, rel=0.5)


def test_two_level_designs_and_refusals() -> None:
    rng = np.random.default_rng(910)
    groups = np.repeat(np.arange(30), 5)

    def two_level(number: int) -> np.ndarray:
        share = np.where(rng.random((number, 30)) < 0.5, 0.2, 0.8)
        return rng.random((number, 150)) < share[:, groups]

    draws = own_and_neighbours(two_level(4000), groups)
    row = own_and_neighbours(two_level(1)[0], groups)
    y = rng.normal(size=150) + 0.8 * (row >= 2) + 0.5 * (row % 2)
    ours = mapped(y, row, draws, exposed=NEIGHBOURS_ONLY, reference=NEITHER, blocks=groups)
    assert ours.n == 150
    assert ours.ci_lower < 0.5 < ours.ci_upper
    none = exposure_contrast(y, np.full(150, BOTH), draws, exposed=BOTH, reference=NEITHER)
    assert isinstance(none, NotEstimable)
    lonely = np.arange(150)
    alone = own_and_neighbours(two_level(50), lonely)
    with pytest.raises(ValueError, match="no draw gives it"):
        exposure_contrast(y, np.full(150, BOTH), alone, exposed=BOTH, reference=NEITHER)
    with pytest.raises(ValueError, match="must differ"):
        exposure_contrast(y, row, draws, exposed=BOTH, reference=BOTH)


def test_advice_is_what_a_simulation_says() -> None:
    rng = np.random.default_rng(911)
    clusters, size, icc, spill = 40, 10, 0.1, 0.35
    n = clusters * size
    advice = cluster_advice(n=n, sd=1.0, spillover=spill, contacts_within=1.0, icc=icc, mean_size=size)
    errors: dict[str, list[float]] = {"units": [], "clusters": []}
    group = np.repeat(np.arange(clusters), size)
    for _ in range(1500):
        level = rng.normal(size=clusters)[group] * math.sqrt(icc)
        noise = rng.normal(size=n) * math.sqrt(1 - icc)
        for name in errors:
            if name == "units":
                arm = rng.permutation(np.arange(n) % 2 == 1)
            else:
                arm = rng.permutation(np.arange(clusters) % 2 == 1)[group]
            held = np.bincount(group, weights=arm)[group]
            y = arm * 1.0 + spill * (held - arm) / (size - 1) + level + noise
            errors[name].append(float(y[arm].mean() - y[~arm].mean()) - (1.0 + spill))
    rmse = {name: math.sqrt(np.mean(np.square(values))) for name, values in errors.items()}
    # The tenth of a class that a unit is itself makes the bias a tenth larger than in large classes.
    assert advice.unit_rmse == pytest.approx(rmse["units"], rel=0.12)
    assert advice.cluster_rmse == pytest.approx(rmse["clusters"], rel=0.06)
    assert advice.better == "clusters"
    assert advice.break_even_n is not None
    few = cluster_advice(
        n=advice.break_even_n - 10, sd=1.0, spillover=spill, contacts_within=1.0, icc=icc, mean_size=size
    )
    assert few.better == "units"
    never = cluster_advice(n=100, sd=1.0, spillover=0.0, contacts_within=0.5, icc=0.1, mean_size=9)
    assert never.break_even_n is None
    with pytest.raises(ValueError, match="contacts_within"):
        cluster_advice(n=100, sd=1.0, spillover=0.1, contacts_within=1.5, icc=0.1, mean_size=9)
