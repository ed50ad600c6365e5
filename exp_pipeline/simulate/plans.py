"""The worlds that come with the pipeline: the demo's, and the benchmark's."""

from __future__ import annotations

from datetime import date, timedelta

from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan

LADDER_MASTERY = 0.95


def demo_plan() -> SimulationPlan:
    """Which world is bundled as sample data? Two experiments over 37 days, about 150,000 events.

    `hint-ladder` draws learners: `ladder` helps, `ladder-fast` helps as much and slows every answer by 60 %.
    `class-pacing` draws 24 classes of the first four schools and changes nothing.
    """
    start, end = date(2026, 3, 9), date(2026, 3, 30)
    hint_ladder = SimulatedExperiment(
        name="hint-ladder",
        start=start,
        end=end,
        arms=(
            ArmTruth(name="control", share=0.34, prompt_version="tutor-7"),
            ArmTruth(
                name="ladder",
                share=0.33,
                prompt_version="tutor-8-ladder",
                mastery_log_odds=LADDER_MASTERY,
                accuracy_log_odds=0.1,
                giveaway_multiplier=0.6,
            ),
            ArmTruth(
                name="ladder-fast",
                share=0.33,
                prompt_version="tutor-8-ladder-fast",
                latency_multiplier=1.6,
                cost_multiplier=0.8,
                mastery_log_odds=LADDER_MASTERY,
                accuracy_log_odds=0.1,
                giveaway_multiplier=0.6,
            ),
        ),
    )
    class_pacing = SimulatedExperiment(
        name="class-pacing",
        unit="class",
        start=start,
        end=end,
        arms=(ArmTruth(name="control", share=0.5), ArmTruth(name="paced", share=0.5)),
        schools=(0, 1, 2, 3),
        surface="lesson_plan",
    )
    return SimulationPlan(
        name="demo",
        seed=20260328,
        start=date(2026, 2, 23),
        days=37,
        schools=8,
        classes_per_school=6,
        learners=1_200,
        staff_accounts=4,
        test_accounts=4,
        sessions_per_learner_day=0.21,
        mastery_intercept=-2.15,
        ability_on_mastery=2.3,
        turns_per_session=4.0,
        experiments=(hint_ladder, class_pacing),
        contaminated_units=3,
        id_hex_digits=10,
        faults=Faults(
            retry_share=0.005,
            late_share=0.01,
            conflicting_duplicates=8,
            too_late=6,
            clock_skewed=6,
            clock_year_ahead=1,
            not_json=2,
            not_utf8=2,
            truncated=2,
            contract_breaks=4,
        ),
    )


def bench_plan(events: int = 10_000_000, days: int = 28) -> SimulationPlan:
    """Which world does the benchmark measure? About `events` events, 100 to a learner.

    One experiment, by learner, starts on day 8. Raises ValueError below 10,000 events or 14 days.
    """
    if events < 10_000:
        raise ValueError(f"events must be at least 10000, got {events}")
    if days < 14:
        raise ValueError(f"days must be at least 14, got {days}")
    learners = max(events // 100, 200)
    schools = max(learners // 250, 1)
    start = date(2026, 2, 23)
    experiment = SimulatedExperiment(
        name="hint-ladder",
        start=start + timedelta(days=8),
        end=start + timedelta(days=days),
        arms=(
            ArmTruth(name="control", share=0.5, prompt_version="tutor-7"),
            ArmTruth(name="ladder", share=0.5, prompt_version="tutor-8-ladder", mastery_log_odds=0.3),
        ),
    )
    return SimulationPlan(
        name="bench",
        seed=28,
        start=start,
        days=days,
        schools=schools,
        classes_per_school=10,
        learners=learners,
        staff_accounts=learners // 2_000,
        sessions_per_learner_day=0.2,
        experiments=(experiment,),
        contaminated_units=learners // 2_000,
        faults=Faults(
            retry_share=0.005,
            late_share=0.01,
            conflicting_duplicates=events // 100_000,
            too_late=events // 20_000,
            clock_skewed=events // 20_000,
            clock_year_ahead=events // 1_000_000,
        ),
    )


PLANS: dict[str, SimulationPlan] = {"demo": demo_plan(), "bench": bench_plan()}
