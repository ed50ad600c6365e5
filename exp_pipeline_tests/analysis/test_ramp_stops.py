"""Days on which a ramp had every unit in control, as the readout tells them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from exp_pipeline.model.ramps import Action, Phase, RampEntry, Stop, stops_of

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def entries(*taken: tuple[int, Action], phase: Phase = "ramp") -> list[RampEntry]:
    return [
        RampEntry(
            experiment="hint-ladder",
            version=1,
            sequence=place,
            at=START + timedelta(days=day),
            action=action,
            phase=phase,
            stage=1,
            stages=2,
            traffic=0.25,
            by="maths",
        )
        for place, (day, action) in enumerate(taken, 1)
    ]


def day(number: int) -> date:
    return (START + timedelta(days=number)).date()


def test_a_pause_ends_with_its_resumption_and_a_roll_back_never() -> None:
    log = entries((0, "advance"), (3, "pause"), (5, "resume"), (9, "roll_back"), (12, "close"))
    assert stops_of(log) == (Stop("pause", day(3), day(5)), Stop("roll_back", day(9)))
    assert stops_of(log[:2][::-1]) == (Stop("pause", day(3)),)
    assert stops_of(log[:1]) == ()


def test_a_pause_of_what_was_shipped_is_none_of_the_experiment() -> None:
    assert stops_of(entries((0, "ship"), (3, "pause"), phase="rollout")) == ()
