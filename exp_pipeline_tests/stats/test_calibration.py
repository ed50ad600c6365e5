"""Do intervals cover as often as they say? Beside ours stand faulty methods that must be seen to fail.

Two thousand runs know a 5 % rate to 0.49 points, 800 to 0.77, 500 to 0.97; bands are four of those.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.calibration.cases import (
    Case,
    FaultyCase,
    FaultyRow,
    IntervalCase,
    IntervalRow,
    RateCase,
    RateRow,
    Row,
)
from bench.calibration.domains import DOMAINS
from bench.calibration.everything import all_cases, batches
from bench.calibration.page import page
from bench.calibration.programme_report import programmes_from_json, programmes_section
from bench.calibration.report import as_json, circumstances, faults, from_json, table
from bench.calibration.running import run
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions, newcombe_interval
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

ROOT = Path(__file__).resolve().parents[2]
Z = 1.959963984540054


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def misses(runs: int, draw: Callable[[], tuple[Effect, float, bool]]) -> tuple[float, float]:
    """In which share of runs does our interval miss the truth, and does the faulty method?"""
    ours = faulty = 0
    for _ in range(runs):
        effect, truth, wrong = draw()
        ours += not effect.ci_lower <= truth <= effect.ci_upper
        faulty += wrong
    return ours / runs, faulty / runs


def test_means_of_eight_units() -> None:
    rng = np.random.default_rng(1)

    def draw() -> tuple[Effect, float, bool]:
        rows = rng.normal(size=(2, 8))
        effect = estimated(
            difference_in_means(
                Moments.from_array(rows[0], ["y"]), Moments.from_array(rows[1], ["y"]), outcome="y"
            )
        )
        return effect, 0.0, abs(effect.absolute / effect.se) > Z

    ours, normal_reference = misses(2000, draw)
    assert 0.03 < ours < 0.07
    assert normal_reference > 0.065


def test_an_adjusted_effect_of_twelve_units_an_arm() -> None:
    rng = np.random.default_rng(2)
    names = ["y", "a", "b"]

    def draw() -> tuple[Effect, float, bool]:
        x = rng.normal(size=(24, 2))
        y = x @ [2.0, 1.0] + rng.normal(size=24)
        rows = np.column_stack([y, x])
        control, treatment = Moments.from_array(rows[:12], names), Moments.from_array(rows[12:], names)
        effect = estimated(adjusted_difference(control, treatment, outcome="y", covariates=["a", "b"]))
        # Faulty: residual variance as if the slopes were known, normal reference.
        slopes = np.linalg.lstsq(x - np.repeat([x[:12].mean(0), x[12:].mean(0)], 12, axis=0), y, rcond=None)[
            0
        ]
        left = y - x @ slopes
        known = math.sqrt(left[:12].var(ddof=1) / 12 + left[12:].var(ddof=1) / 12)
        return effect, 0.0, abs(effect.absolute) > Z * known

    ours, slopes_known = misses(1500, draw)
    assert 0.03 < ours < 0.073
    assert slopes_known > 0.07


def test_ratios_of_sixty_units_an_arm() -> None:
    rng = np.random.default_rng(3)
    names = ["taken", "shown"]

    def draw() -> tuple[Effect, float, bool]:
        arms = []
        for _ in range(2):
            shown = 1 + rng.poisson(8, 60)
            arms.append(np.column_stack([rng.binomial(shown, rng.beta(2, 2, 60)), shown]).astype(float))
        moments = [Moments.from_array(arm, names) for arm in arms]
        effect = estimated(difference_in_ratios(*moments, numerator="taken", denominator="shown"))
        # Faulty: every row of every unit taken for a unit.
        shares = [arm[:, 0].sum() / arm[:, 1].sum() for arm in arms]
        rows = math.sqrt(sum(p * (1 - p) / arm[:, 1].sum() for p, arm in zip(shares, arms, strict=True)))
        return effect, 0.0, abs(effect.absolute) > Z * rows

    ours, by_row = misses(1500, draw)
    assert 0.03 < ours < 0.073
    assert by_row > 0.15


def test_twenty_clusters_of_unequal_size() -> None:
    rng = np.random.default_rng(4)

    def draw() -> tuple[Effect, float, bool]:
        sizes = rng.integers(4, 40, 20)
        cluster = np.repeat(np.arange(20), sizes)
        y = rng.normal(0, 0.5, 20)[cluster] + rng.normal(size=cluster.size)
        effect = estimated(clustered_difference(y, cluster < 8, cluster))
        assert effect.method == "cr2"
        plain = estimated(clustered_difference(y, cluster < 8, cluster, method="cr1"))
        return effect, 0.0, abs(plain.absolute / plain.se) > Z

    ours, cr1_normal = misses(800, draw)
    assert 0.02 < ours < 0.08
    assert cr1_normal > 0.075


def test_quantiles_of_repeated_rows() -> None:
    rng = np.random.default_rng(5)

    def draw() -> tuple[Effect, float, bool]:
        arms = []
        for _ in range(2):
            unit = np.repeat(np.arange(150), 1 + rng.poisson(7, 150))
            arms += [np.exp(rng.normal(0, 0.6, 150)[unit] + rng.normal(0, 0.3, unit.size)), unit]
        effect = estimated(difference_in_quantiles(*arms, quantile=0.9))
        rows = estimated(
            difference_in_quantiles(
                arms[0], np.arange(arms[0].size), arms[2], np.arange(arms[2].size), quantile=0.9
            )
        )
        return effect, 0.0, rows.ci_lower > 0 or rows.ci_upper < 0

    ours, by_row = misses(500, draw)
    assert 0.015 < ours < 0.089
    assert by_row > 0.2


def test_relative_lift_of_a_small_conversion_test() -> None:
    rng = np.random.default_rng(6)
    runs, n, base, lift = 2000, 250, 0.12, 0.5
    low = high = naive = 0
    for a, b in zip(rng.binomial(n, base, runs), rng.binomial(n, base * (1 + lift), runs), strict=True):
        effect = estimated(difference_in_proportions(int(a), n, int(b), n))
        assert effect.relative_ci_lower is not None
        assert effect.relative_ci_upper is not None
        low += effect.relative_ci_lower > lift
        high += effect.relative_ci_upper < lift
        naive += not effect.ci_lower / (a / n) <= lift <= effect.ci_upper / (a / n)
    # Each tail, nominal 2.5 %: four standard errors of 2,000 runs are 1.4 points.
    assert 0.011 < low / runs < 0.039
    assert 0.011 < high / runs < 0.039
    assert naive / runs > 0.08, "dividing the absolute interval by the control mean was expected to fail"


def test_newcombe_covers_small_counts_where_wald_does_not() -> None:
    # No simulation: coverage is summed over every pair of counts.
    n, m, p, q = 30, 25, 0.05, 0.08
    chance = np.outer(stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(m + 1), m, q))
    newcombe = wald = 0.0
    for a in range(n + 1):
        for b in range(m + 1):
            low, high = newcombe_interval(a, n, b, m, Z)
            newcombe += chance[a, b] * (low <= q - p <= high)
            gap = b / m - a / n
            reach = Z * math.sqrt(a * (n - a) / n**3 + b * (m - b) / m**3)
            wald += chance[a, b] * (gap - reach <= q - p <= gap + reach)
    assert 0.93 < newcombe < 0.99
    assert wald < 0.93


def named(case: Case) -> str:
    return f"{case.rule if isinstance(case, RateCase) else case.method}, {case.world}"


def case_of(method: str, world: str) -> Case:
    """The first case of a method whose world begins so."""
    return next(case for case in all_cases() if named(case).startswith(f"{method}, {world}"))


# Of the large simulation, what is drawn quickly: thousands of runs of each, in a second or two together.
QUICK = [
    case_of("Welch, moments only", "normal, 8 + 8"),
    case_of("Welch, moments only", "exponential, 50 + 50"),
    case_of("Welch with third moments", "exponential, 40 + 360"),
    case_of("relative effect of means", "lognormal (1), mean 1.6, lift 20%, 400 + 400"),
    case_of("CUPED", "normal, 36 % explained, 30 + 30"),
    case_of("Lin (own slopes)", "slopes 3 times as steep in treatment, 360 + 40"),
    case_of("strata as fixed effects", "4 strata, 4 + 4"),
    case_of("shares (Newcombe)", "0.12 and 0.18, 250 + 250"),
    case_of("relative effect of shares", "0.12 and 0.18, 250 + 250"),
    case_of("ratios (delta)", "shares of answers, 60 + 60"),
    case_of("CR2", "6 + 6 classes"),
    case_of("complier effect (Anderson-Rubin)", "100 units, 15% take it up"),
    case_of("O'Brien-Fleming spending", "28 looks"),
    case_of("Pocock spending", "10 looks"),
    case_of("always valid", "10 looks to 400"),
    case_of("sequential SRM", "50% / 50%, 1,000 units a day"),
    case_of("Holm", "20 metrics, 5 with an effect"),
    case_of("guardrail", "normal, 12 + 12"),
]
MUST_FAIL = [
    "z in place of t",
    "variance from raw sums of squares",
    "cumulative alpha as each look's level",
    "daily chi-square for sample ratio",
    "plain delta method, relative",
    "sign by order of rows",
    "Welch over rows of classes",
]


def runs_for(case: Case, runs: int) -> float:
    return min(1.0, runs / case.runs)


@pytest.mark.parametrize("case", QUICK, ids=named)
def test_on_its_domain_a_method_keeps_its_promise(case: Case) -> None:
    assert not isinstance(case, FaultyCase)
    assert case.inside
    costly = isinstance(case, IntervalCase) and case.cells == 1 and "shares" not in case.method
    row = run(case, runs_for(case, 600 if costly else 3_000))
    # Out of bounds by more than two and a half standard errors of so few runs.
    assert row.problems() == ()


@pytest.mark.parametrize("method", MUST_FAIL)
def test_a_method_known_to_be_wrong_is_seen_to_fail(method: str) -> None:
    case = next(one for one in all_cases() if isinstance(one, FaultyCase) and one.method == method)
    row = run(case, runs_for(case, 1_000 if "classes" in method or "rows" in method else 4_000))
    assert isinstance(row, FaultyRow)
    assert row.problems() == ()
    assert row.rate > max(1.2 * row.nominal, row.our_rate)


def test_runs_repeat_and_do_not_depend_on_the_other_cases() -> None:
    case = case_of("Welch, moments only", "normal, 8 + 8")
    row = run(case, 0.01)
    assert run(case, 0.01) == row
    assert run(case, 0.01, seed=1) != row


def test_no_two_cases_share_a_seed_and_each_is_run_once() -> None:
    names = Counter(
        f"{named(case)}, {case.what}"
        if isinstance(case, RateCase)
        else f"{type(case).__name__} {named(case)}"
        for case in all_cases()
    )
    assert [name for name, count in names.items() if count > 1] == []
    assert sorted(place for batch in batches() for place in batch) == list(range(len(all_cases())))


INTERVAL = IntervalRow(
    "CR2", "a world", True, "df", "nominal", 40_000, 40_000, 0.025, 0.025, 0.05, 1.0, 0.8, 0.0
)
RATE = RateRow("Holm", "a world", "false finds", 0.05, "at most", True, 40_000, 0.05)
FAULTY = FaultyRow("a fault", "a world", "false alarms", 0.05, 0.08, 0.055, "ours", 40_000, 0.1, 0.05)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(INTERVAL, above=0.04, below=0.035), "covers 92.50%"),
        (replace(INTERVAL, above=0.015, below=0.015), "too wide"),
        (replace(INTERVAL, above=0.04, below=0.01), "one tail errs in 4.00%"),
        (replace(INTERVAL, above=0.03, below=0.01), "one tail errs in 1.00% only"),
        (replace(INTERVAL, answered=0), "no run was answered"),
        (replace(RATE, rate=0.06), "promised at most 5.0%"),
        (replace(RATE, promise="near", rate=0.04), "promised 5.0%"),
        (replace(RATE, promise="near", nominal=0.8, slack=0.01, rate=0.78), "promised 80.0%"),
        (replace(FAULTY, rate=0.079), "the faulty method passed"),
        (replace(FAULTY, our_rate=0.07), "ours failed too"),
    ],
)
def test_what_is_out_of_bounds_is_a_fault(row: Row, said: str) -> None:
    found = faults([INTERVAL, RATE, FAULTY, row])
    assert found
    assert all(row.world in fault for fault in found)
    assert any(said in fault for fault in found)


def test_outside_the_domain_it_is_a_limit_that_the_page_tells() -> None:
    limit = replace(INTERVAL, inside=False, above=0.1, world="a far world")
    wide = replace(INTERVAL, guarantee="at least", above=0.0, below=0.0)
    rows: list[Row] = [INTERVAL, limit, wide, RATE, FAULTY]
    assert faults(rows) == []
    about = circumstances()
    written, full = page(rows, about), table(rows, about)
    assert "| CR2 | a far world | df | 87.5% | 10.0% | 2.5% |" in written
    assert "limit: covers 87.50%" in full
    assert "fails, as it must" in full
    assert from_json(json.loads(json.dumps(as_json(rows, about)))) == (rows, about)


def test_the_page_states_the_domain_of_every_method() -> None:
    methods = {case.method for case in all_cases() if isinstance(case, IntervalCase)}
    assert methods == set(DOMAINS)
    inside = {case.method for case in all_cases() if isinstance(case, IntervalCase) and case.inside}
    # Its domain is not known, and the page says so.
    assert methods - inside == {"mean over segments"}


def test_the_committed_page_and_table_are_those_of_the_committed_numbers() -> None:
    stored = ROOT / "bench" / "results" / "calibration.json"
    rows, about = from_json(json.loads(stored.read_text(encoding="utf-8")))
    assert faults(rows) == []
    anew = "write them again: bench/calibrate.py --words"
    programmes = stored.with_name("programmes.json")
    section = programmes_section(*programmes_from_json(json.loads(programmes.read_text(encoding="utf-8"))))
    assert (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8") == page(rows, about, section), anew
    assert stored.with_suffix(".md").read_text(encoding="utf-8") == table(rows, about), anew
