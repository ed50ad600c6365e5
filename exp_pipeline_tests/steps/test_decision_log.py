"""What readouts recommend and people decide is logged once, with what it rests on, and can be found again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.readout import Outcome, Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.decision_log import decisions, record_decision, record_recommendation
from exp_pipeline.steps.experiments.readouts import write_index
from exp_pipeline.store.marts import Marts
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import blinded

AT = datetime(2026, 4, 1, 12, tzinfo=UTC)


def keep(bench: Workbench, readout: Readout) -> None:
    """Put a readout where its step writes it, as the current one."""
    name, snapshot = readout.experiment, readout.provenance.snapshot
    marts = Marts(bench.home.marts)
    marts.add(name, snapshot, {}, lambda folder: None)
    marts.point(name, snapshot)
    path = bench.home.readouts / f"experiment={name}" / f"snapshot={snapshot}" / "readout.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(readout.model_dump_json(indent=1) + "\n")


def at_horizon(readout: Readout) -> Readout:
    """The readout with data up to the day before its horizon, and no change of its brief since the lock."""
    lock = readout.lock.model_copy(update={"changes": ()})
    return readout.model_copy(
        update={
            "as_of": readout.brief.end - timedelta(days=1),
            "horizon_reached": True,
            "lock": lock,
            "integrity": tuple(one for one in readout.integrity if one.verdict != "fail"),
        }
    )


def with_outcome(readout: Readout, outcome: Outcome, snapshot: str) -> Readout:
    of = readout.provenance.model_copy(update={"snapshot": snapshot})
    decision = readout.decision.model_copy(update={"outcome": outcome})
    return readout.model_copy(update={"decision": decision, "provenance": of})


def test_a_recommendation_at_the_horizon_is_logged_once_with_what_it_rests_on(bench: Workbench) -> None:
    readout = at_horizon(ship())
    row = record_recommendation(bench, readout, AT)
    assert row is not None
    assert record_recommendation(bench, readout, AT + timedelta(days=1)) is None
    assert decisions(bench.home) == (row,)
    assert (row.kind, row.by, row.at, row.planned, row.effects_hidden) == (
        "recommended", "rules", AT, True, False,
    )  # fmt: skip
    of = readout.provenance
    assert (row.snapshot, row.brief_digest, row.code_version) == (
        of.snapshot, of.brief_digest, of.code_version,
    )  # fmt: skip
    assert (row.outcome, row.because, row.as_of) == (
        readout.decision.outcome, readout.decision.summary, readout.as_of,
    )  # fmt: skip
    assert row.memo == f"readouts/experiment={row.experiment}/snapshot={row.snapshot}/memo.html"
    # Another outcome of the same snapshot, or another snapshot, is another row.
    assert record_recommendation(bench, with_outcome(readout, "iterate", of.snapshot), AT) is not None
    assert record_recommendation(bench, with_outcome(readout, "ship", "0123456789abcdef"), AT) is not None
    assert len(decisions(bench.home)) == 3


def test_before_a_planned_look_only_what_must_be_acted_on_is_logged_and_only_when_it_is_new(
    bench: Workbench,
) -> None:
    early = blinded()
    assert early.blinded
    assert record_recommendation(bench, early, AT) is None
    for outcome in ("extend", "investigate", "ship"):
        assert record_recommendation(bench, with_outcome(early, outcome, f"{outcome}-1"), AT) is None
    kill = record_recommendation(bench, with_outcome(early, "roll_back", "a1"), AT)
    assert kill is not None
    assert (kill.planned, kill.effects_hidden) == (False, True)
    assert record_recommendation(bench, with_outcome(early, "roll_back", "a2"), AT) is None
    assert record_recommendation(bench, with_outcome(early, "pause", "a3"), AT) is not None
    assert record_recommendation(bench, with_outcome(early, "roll_back", "a4"), AT) is not None


def test_an_end_moved_after_the_lock_is_no_horizon(bench: Workbench) -> None:
    from exp_pipeline.model.readout import BriefChange

    readout = at_horizon(ship())
    later = str(readout.brief.end + timedelta(days=14))
    moved = BriefChange(field="end", locked_value=later, current_value=str(readout.brief.end))
    shortened = readout.model_copy(
        update={"lock": readout.lock.model_copy(update={"changes": (moved,)}), "blinded": False}
    )
    assert record_recommendation(bench, shortened, AT) is None


def test_people_may_decide_otherwise_and_the_log_says_so(bench: Workbench) -> None:
    readout = ship()
    keep(bench, readout)
    row, new = record_decision(
        bench, readout.experiment, "iterate", by=" maths \n team", reason="The\ncost is too high.", at=AT
    )
    assert new
    assert (row.by, row.because, row.differs) == ("maths team", "The cost is too high.", True)
    assert row.recommended == readout.decision.outcome
    again = record_decision(
        bench, readout.experiment, "iterate", by="maths team", reason="The cost is too high.",
        at=AT + timedelta(hours=1),
    )  # fmt: skip
    assert not again[1]
    same, _ = record_decision(
        bench, readout.experiment, readout.decision.outcome, by="maths team", reason="As recommended.", at=AT
    )
    assert not same.differs
    assert decisions(bench.home, readout.experiment) == (row, same)
    assert decisions(bench.home, "other") == ()


def test_an_arm_is_decided_on_its_own_recommendation(bench: Workbench) -> None:
    readout = two_arms()
    keep(bench, readout)
    for arm in readout.decision.arms:
        row, _ = record_decision(
            bench, readout.experiment, arm.outcome, by="maths", reason="As recommended.", at=AT, arm=arm.arm
        )
        assert (row.arm, row.recommended, row.differs, row.rule) == (
            arm.arm, arm.outcome, False, arm.decided_by or row.rule,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"arm 'nobody' is not among the treatment arms: "):
        record_decision(bench, readout.experiment, "ship", by="a", reason="b", at=AT, arm="nobody")
    for missing in ({"by": " ", "reason": "b"}, {"by": "a", "reason": "\n"}):
        with pytest.raises(ValueError, match="is empty"):
            record_decision(bench, readout.experiment, "ship", at=AT, **missing)


def test_the_log_is_searched_by_every_word(bench: Workbench) -> None:
    keep(bench, ship())
    record_decision(bench, ship().experiment, "iterate", by="maths", reason="Costs rise.", at=AT)
    record_decision(bench, ship().experiment, "ship", by="reading", reason="Costs are fine.", at=AT)

    def found(search: str) -> list[str]:
        return [row.by for row in decisions(bench.home, search=search)]

    assert found("COSTS") == ["maths", "reading"]
    assert found("costs fine") == ["reading"]
    assert found("2026-04-01 maths") == ["maths"]
    assert found("differs") == ["maths"]
    assert found("nowhere") == []
    assert found(ship().provenance.snapshot[:8]) == ["maths", "reading"]


def test_the_pages_beside_the_index_show_the_log_and_who_waits_for_what(bench: Workbench) -> None:
    keep(bench, ship())
    record_decision(bench, ship().experiment, "iterate", by="maths", reason="<b>Costs</b> rise.", at=AT)
    folder = write_index(bench).parent
    pages = {name: (folder / f"{name}.html").read_text() for name in ("index", "decisions", "reviews")}
    for page in pages.values():
        for other in pages:
            assert f"{other}.html" in page
    assert "&lt;b&gt;Costs&lt;/b&gt; rise." in pages["decisions"]
    assert "<b>Costs</b>" not in pages["decisions"]
    for brief in bench.catalog.briefs.values():
        assert brief.name in pages["reviews"]


def test_people_who_decide_are_named() -> None:
    with pytest.raises(ValueError, match="names its team"):
        LoggedDecision(
            kind="decided", experiment="e", snapshot="s", as_of=date(2026, 4, 1), at=AT, outcome="ship",
            by=" ", because="b", planned=True, effects_hidden=False, brief_digest="d", code_version="c",
            memo="m",
        )  # fmt: skip
