"""Readouts as the analysis makes them, one for each kind of page.

`python -m exp_pipeline_tests.report.samples FOLDER` writes each memo in every form, and the index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from exp_pipeline.model.brief import (
    Arm,
    Effect,
    Guardrail,
    ValueModel,
)
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    Decision,
    LockState,
    PowerAchieved,
    Readout,
    RuleResult,
)
from exp_pipeline.report import educator_note, index_entry, index_html, render_memo
from exp_pipeline_tests.report.parts import (
    LAST,
    SHIP_RULES,
    START,
    brief,
    checks,
    days_of_counts,
    days_of_effects,
    effect,
    estimate,
    guardrail,
)
from exp_pipeline_tests.report.sample_full import entries as ramp_entries
from exp_pipeline_tests.report.sample_full import full
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms


def blinded() -> Readout:
    """Half way: guardrails and integrity only."""
    base = ship()
    return base.model_copy(
        update={
            "as_of": date(2026, 2, 11),
            "horizon_reached": False,
            "blinded": True,
            "blinding_reason": "The experiment runs until 2026-03-02 and no planned look has come.",
            "sample_ratio": base.sample_ratio[:10],
            "estimates": tuple(row for row in base.estimates if row.role == "guardrail"),
            "unadjusted": (),
            "segments": (),
            "cumulative": (),
            "robustness": (),
            "impact": (),
            "decision": Decision(
                outcome="extend",
                arm=None,
                summary="Keep it running until the planned look.",
                arms=(
                    ArmDecision(
                        arm="ladder",
                        outcome="extend",
                        because="The planned look has not come.",
                        rules=(
                            *SHIP_RULES[:2],
                            RuleResult(
                                rule="A planned look has come",
                                evidence="next: 2026-02-16",
                                verdict="cannot_tell",
                            ),
                        ),
                    ),
                ),
            ),
            "next_steps": ("Look again on the planned day.",),
        }
    )


def leaky_blinded() -> Readout:
    """A blinded readout that wrongly carries every effect: the room must hold them back."""
    full = ship()
    kept = {
        name: getattr(full, name)
        for name in ("estimates", "unadjusted", "segments", "cumulative", "robustness", "impact")
    }
    return blinded().model_copy(update=kept)


def mismatch() -> Readout:
    """A sample-ratio mismatch on one platform: investigate, and no effect is shown."""
    base = blinded()
    evidence = "4,312 against 3,791 units, p < 0.0001; android 5.1 carries it."
    return base.model_copy(
        update={
            "as_of": LAST,
            "horizon_reached": True,
            "blinding_reason": "The sample ratio does not fit the plan.",
            "sample_ratio": days_of_counts({"control": 4312, "ladder": 3791}, tilt=8.5),
            "counts": (
                ArmCount(
                    arm="control",
                    planned_share=0.5,
                    assigned=4312,
                    exposed=4290,
                    analysed=4290,
                    contaminated=0,
                ),
                ArmCount(
                    arm="ladder",
                    planned_share=0.5,
                    assigned=3791,
                    exposed=3702,
                    analysed=3702,
                    contaminated=12,
                ),
            ),
            "integrity": checks(
                sample_ratio=("fail", evidence),
                freshness=("cannot_tell", "No arrival times for 2026-02-14."),
                attrition=("warn", "3.1 % and 4.4 % of units left."),
            ),
            "decision": Decision(
                outcome="investigate",
                arm=None,
                summary="Find out why android 5.1 lost units of the ladder arm before any effect is read.",
                arms=(
                    ArmDecision(
                        arm="ladder",
                        outcome="investigate",
                        because="the sample ratio does not fit the plan",
                        rules=(RuleResult(rule="Integrity holds", evidence=evidence, verdict="fail"),),
                    ),
                ),
            ),
            "next_steps": ("Compare exposure logging of android 5.1 in both arms.",),
        }
    )


def by_class() -> Readout:
    """Randomised by class, no effect to be seen, in minutes."""
    base = ship()
    changed = brief(
        name="pacing-board",
        title="A pacing board on the teacher's dashboard",
        randomisation_unit="class",
        primary="minutes_active",
        secondary=(),
        arms=(Arm(name="usual", share=0.5), Arm(name="board", share=0.5)),
        control="usual",
        mde=Effect(relative=0.05),
        practical_threshold=None,
        ramp=(),
        segments=(),
        guardrails=(Guardrail(metric="latency_p95", margin=150),),
        value=ValueModel(),
        decision_asked="",
    )
    row = estimate(
        "minutes_active",
        "Active minutes per week",
        role="primary",
        display="minutes",
        arm="board",
        control="usual",
        method="CR2, Satterthwaite",
        clusters=64,
        n_control=812,
        n_treatment=798,
        **effect(0.04, 2.31, 41.3),
    )
    return base.model_copy(
        update={
            "experiment": "pacing-board",
            "brief": changed,
            "counts": (
                ArmCount(
                    arm="usual", planned_share=0.5, assigned=820, exposed=812, analysed=812, contaminated=0
                ),
                ArmCount(
                    arm="board", planned_share=0.5, assigned=805, exposed=798, analysed=798, contaminated=0
                ),
            ),
            "sample_ratio": days_of_counts({"usual": 820, "board": 805}),
            "estimates": (row,),
            "unadjusted": (),
            "segments": (),
            "guardrails": (
                guardrail(
                    "latency_p95", "Answer time, 95th percentile", arm="board", harm=-0.004, harm_bound=12.0
                ),
            ),
            "cumulative": days_of_effects("board", 0.04, 2.31, n=805),
            "robustness": (),
            "impact": (),
            "power": PowerAchieved(
                planned_mde=2.1,
                planned_units_per_arm=800,
                observed_units_per_arm=798,
                achieved_mde=6.47,
                note="64 classes carry less than 1,610 learners seem to: the ICC is 0.21, not 0.05.",
            ),
            "decision": Decision(
                outcome="stop",
                arm="board",
                summary="Stop: nothing suggests that the board changes active minutes.",
                arms=(ArmDecision(arm="board", outcome="stop", because="no effect", rules=SHIP_RULES[:2]),),
            ),
        }
    )


def empty() -> Readout:
    """An experiment on its first day: a brief, and nothing else."""
    base = blinded()
    return base.model_copy(
        update={
            "as_of": START,
            "blinding_reason": "No unit has been exposed yet.",
            "method": (),
            "lock": LockState(locked_digest=None, current_digest="77e0"),
            "counts": tuple(
                ArmCount(arm=a.name, planned_share=a.share, assigned=0, exposed=0, analysed=0, contaminated=0)
                for a in base.brief.arms
            ),
            "sample_ratio": (),
            "integrity": (),
            "estimates": (),
            "guardrails": (),
            "power": None,
            "exclusions": (),
            "limits": (),
            "next_steps": (),
            "decision": Decision(outcome="extend", arm=None, summary="", arms=()),
        }
    )


SAMPLES: dict[str, Callable[[], Readout]] = {
    "ship": ship,
    "two-arms": two_arms,
    "blinded": blinded,
    "mismatch": mismatch,
    "by-class": by_class,
    "empty": empty,
    "full": full,
}


def write_all(folder: Path) -> None:
    """Write every sample in every form, its note for teachers, and the index, to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, make in SAMPLES.items():
        memo = render_memo(make(), ramp_entries() if name == "full" else ())
        note = educator_note(make())
        for suffix, text in (("html", memo.html), ("md", memo.markdown), ("json", memo.json)):
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        (folder / f"note-{name}.html").write_text(note.html, encoding="utf-8")
        (folder / f"note-{name}.md").write_text(note.markdown, encoding="utf-8")
        listed.append(index_entry(make(), f"{name}.html"))
    (folder / "index.html").write_text(index_html(listed), encoding="utf-8")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
