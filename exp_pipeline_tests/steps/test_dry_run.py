"""The dry run: designs behave as promised, faults of a design are found, and no history is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.planning.readiness import Baseline, DurationPlan, power_plan
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.errors import ExpError
from exp_pipeline.simulate.units import UnitArm, UnitPlan, draw_units
from exp_pipeline.stats.clusters.intraclass import intraclass_correlation
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments import dry_run as steps
from exp_pipeline.steps.experiments.dry_run import DryRun, dry_run, write_dry_run
from exp_pipeline.steps.experiments.monte_carlo import ALARM, latent_icc, rate_of
from exp_pipeline.steps.experiments.planning import History, shares_of_strata
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import bench_in

SHARE = Baseline(mean=0.38)
ANSWERS = Baseline(mean=0.6, sd=0.3)


def brief(**changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "primary": "mastery_loop_completion",
        "mde": Size(absolute=0.1),
        "attrition": 0.03,
    }
    return brief_of(**(fields | changes))


Run = Callable[..., DryRun]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A dry run of a brief whose history has this baseline."""

    def found(
        design: Brief,
        baseline: Baseline | None,
        *,
        planned: Brief | None = None,
        strata: tuple[float, ...] = (),
        **more: Any,
    ) -> DryRun:
        def plan(bench: Workbench, name: str) -> tuple[History, DurationPlan | None]:
            history = History(14, 800, 55.0, baseline, {}, strata=strata)
            if baseline is None:
                return history, None
            metric = bench.catalog.metrics[design.primary]
            return history, power_plan(planned or design, metric, baseline, units_per_day=55.0)

        monkeypatch.setattr(steps, "plan_power", plan)
        with bench_in(tmp_path, [design]) as bench:
            return dry_run(bench, design.name, **more)

    return found


def held(found: DryRun) -> None:
    """Nothing is as bad as promised but for chance; more power than planned is no fault."""
    assert found.estimable
    assert found.size is not None
    assert found.sample_ratio is not None
    assert found.size.verdict == "within"
    assert found.sample_ratio.verdict == "within"
    for arm in found.arms:
        assert arm.coverage_without_effect.verdict == "within"
        assert arm.coverage_with_effect.verdict == "within"
        assert arm.power.verdict in ("within", "above")


def test_a_plain_design_behaves_as_promised_in_time(run: Run) -> None:
    started = time.process_time()
    found = run(brief(), SHARE)
    assert time.process_time() - started < 5.0
    held(found)
    assert 700 < found.units_total < 1000
    assert found.units_per_arm["control"] == pytest.approx(found.units_total / 2, abs=1)
    assert found.method.startswith("Difference of shares with Newcombe's interval")
    assert found.findings[0].startswith("size ")
    assert found.findings[0].endswith("(nominal 5 %), within Monte Carlo error")


def test_three_arms_and_covariates(run: Run) -> None:
    arms = (Arm(name="control", share=0.5), Arm(name="a", share=0.3), Arm(name="b", share=0.2))
    found = run(brief(arms=arms, variance_reduction={"method": "cuped"}), SHARE)
    held(found)
    assert [arm.arm for arm in found.arms] == ["a", "b"]
    assert "CUPED" in found.method
    assert sum(found.units_per_arm.values()) == pytest.approx(found.units_total, abs=2)


@pytest.mark.parametrize("by_class", [False, True])
def test_strata_of_the_history_are_held_fixed(run: Run, by_class: bool) -> None:
    changes: dict[str, Any] = {"randomisation_unit": "class", "icc": 0.05} if by_class else {}
    known = Baseline(0.38, cluster_size=20.0) if by_class else SHARE
    design = brief(strata=("platform",), **changes)
    found = run(design, known, strata=(0.55, 0.3, 0.1, 0.05))
    held(found)
    assert by_class or "within the strata of the draw" in found.method
    assert any("4 strata (platform)" in line for line in found.assumptions)
    untold = run(design, known, replications=20)
    assert any("does not tell strata (platform)" in line for line in untold.assumptions)


def test_shares_of_strata_are_counted_with_what_is_missing() -> None:
    mad = pl.DataFrame(
        {"segment__platform": ["ios", None, "web", "web"], "segment__locale": ["nl", "nl", "de", "nl"]}
    )
    assert shares_of_strata(brief(strata=("platform",)), mad) == (0.25, 0.25, 0.5)
    assert shares_of_strata(brief(strata=("platform", "locale")), mad) == (0.25,) * 4
    assert shares_of_strata(brief(strata=("grade",)), mad) == ()
    assert shares_of_strata(brief(), mad) == ()


@pytest.mark.parametrize("primary", ["answer_accuracy", "mastery_loop_completion"])
def test_classes_of_the_history_are_randomised_whole(run: Run, primary: str) -> None:
    design = brief(primary=primary, randomisation_unit="class", icc=0.05)
    mean, sd = (0.6, 0.3) if primary == "answer_accuracy" else (0.38, None)
    known = Baseline(mean, sd, cluster_size=20.0, cluster_size_cv=0.3)
    found = run(design, known)
    held(found)
    assert found.clusters == round(found.units_total / 20)
    assert "randomised cluster" in found.method


def test_a_metric_per_thousand_is_judged_in_its_own_unit(run: Run) -> None:
    design = brief(primary="safety_incidents_per_1000_sessions", mde=Size(relative=0.5))
    found = run(design, Baseline(mean=20.0, sd=60.0))
    held(found)
    # Fewer is better, so the planned effect is a fall.
    assert found.effect == pytest.approx(-10.0)


def test_too_few_units_are_found_out(run: Run) -> None:
    shy = run(brief(power=0.95), SHARE, planned=brief(power=0.6))
    assert shy.arms[0].power.verdict == "below"
    assert any("power" in line and "less than planned" in line for line in shy.findings)
    held(run(brief(power=0.6), SHARE, planned=brief(power=0.6)))


def test_ignoring_classes_is_found_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    design = brief(primary="answer_accuracy", randomisation_unit="class", icc=0.3)
    known = Baseline(0.6, 0.3, cluster_size=20.0)
    honest = compare
    monkeypatch.setattr(
        steps, "compare", lambda *args, **named: honest(*args, **(named | {"clustered": False}))
    )
    found = run(design, known)
    assert found.size is not None
    assert found.size.verdict == "above"
    assert found.size.value > 0.3
    assert "more false positives than promised" in found.findings[0]
    assert found.arms[0].coverage_with_effect.verdict == "below"


def test_a_sample_ratio_fault_is_found_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def tilted(plan: UnitPlan, seed: np.random.SeedSequence) -> Any:
        arms = tuple(
            UnitArm(name=arm.name, share=share, effect=arm.effect)
            for arm, share in zip(plan.arms, (0.6, 0.4), strict=True)
        )
        return draw_units(plan.model_copy(update={"arms": arms}), seed)

    monkeypatch.setattr(steps, "draw_units", tilted)
    found = run(brief(), SHARE)
    assert found.sample_ratio is not None
    assert found.sample_ratio.verdict == "above"
    assert found.sample_ratio.value > 0.9


def test_the_same_seed_gives_the_same_run(run: Run) -> None:
    one, same, other = (run(brief(), SHARE, replications=20, seed=seed) for seed in (5, 5, 6))
    assert one == same
    assert one != other
    assert one.replications == 20


def test_large_designs_are_drawn_less_often_and_huge_ones_not_at_all(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "MOST_UNITS_DRAWN", 50_000)
    found = run(brief(), SHARE)
    assert found.replications == 50_000 // (2 * found.units_total)
    huge = run(brief(mde=Size(absolute=0.0005)), SHARE)
    assert not huge.estimable
    assert "at most 500,000 are drawn" in huge.reason


def test_without_history_it_cannot_tell_and_says_so_on_disk(tmp_path: Path) -> None:
    with bench_in(tmp_path, [brief()]) as bench:
        found = dry_run(bench, "worked-example")
        path = write_dry_run(bench, "worked-example")
    assert not found.estimable
    assert "no history" in found.reason
    assert found.findings == (f"cannot tell: {found.reason}",)
    assert found.size is None
    assert path == tmp_path / "readouts" / "experiment=worked-example" / "dry_run.json"
    assert DryRun.model_validate(json.loads(path.read_text())) == found


def test_what_cannot_be_drawn_is_said(run: Run) -> None:
    assert "a quantile" in run(brief(primary="p95_latency_ms", mde=Size(absolute=50.0)), None).reason
    assert "too few units" in run(brief(), None).reason
    all_of_them = run(
        brief(mde=Size(absolute=0.1)), Baseline(mean=0.95), planned=brief(mde=Size(absolute=0.04))
    )
    assert all_of_them.estimable
    beyond = run(brief(), Baseline(mean=0.95))
    assert not beyond.estimable
    assert "no size" in beyond.reason


def test_callers_mistakes_are_named(tmp_path: Path) -> None:
    with bench_in(tmp_path, [brief()]) as bench:
        with pytest.raises(ValueError, match="replications must be at least 20, got 5"):
            dry_run(bench, "worked-example", replications=5)
        with pytest.raises(ExpError, match="nobody"):
            dry_run(bench, "nobody")


@pytest.mark.parametrize("share", [0.1, 0.38, 0.9])
@pytest.mark.parametrize("icc", [0.02, 0.1, 0.3])
def test_zeros_and_ones_get_the_icc_that_the_brief_states(share: float, icc: float) -> None:
    from scipy.stats import multivariate_normal

    latent = latent_icc(share, icc)
    cut = NormalDist().inv_cdf(share)
    both = multivariate_normal([0.0, 0.0], [[1.0, latent], [latent, 1.0]]).cdf([cut, cut])
    assert (both - share**2) / (share * (1 - share)) == pytest.approx(icc, abs=1e-6)
    plan = UnitPlan(
        units=200_000,
        arms=(UnitArm(name="a", share=0.5), UnitArm(name="b", share=0.5)),
        outcome="binary",
        mean=share,
        clusters=10_000,
        icc=latent,
        covariate_correlation=0.0,
    )
    drawn = draw_units(plan, 3)
    assert intraclass_correlation(drawn.outcome, drawn.cluster).icc == pytest.approx(icc, abs=0.02)
    assert latent_icc(share, 0.0) == 0.0


def test_rates_are_judged_by_the_exact_binomial() -> None:
    from scipy.stats import binom

    for trials, nominal in ((200, 0.05), (400, 0.001), (200, 0.8)):
        for count in range(trials + 1):
            verdict = rate_of(count, trials, nominal).verdict
            above = binom.sf(count - 1, trials, nominal) < ALARM
            below = binom.cdf(count, trials, nominal) < ALARM
            assert verdict == ("above" if above else "below" if below else "within")
    assert rate_of(0, 200, 0.05).error > 0
    with pytest.raises(ValueError, match="got 3 of 2"):
        rate_of(3, 2, 0.5)
