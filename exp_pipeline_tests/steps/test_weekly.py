"""The weekly review of a small world: numbers as counted by hand, changes and incidents beside them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from html.parser import HTMLParser

import pytest

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.ramps import RampState
from exp_pipeline.steps.after import durability, weekly
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.steps.operating.ramp_log import Step, append
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.test_durability import BRIEF, DUE, END, LEARNERS, answers, world

NOW = datetime(2026, 3, 30, 6, tzinfo=UTC)


def mean_of_week(first: date) -> float:
    return sum(answers(one, first + DAY * step) for one in range(LEARNERS) for step in range(7)) / LEARNERS


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value or "" for name, value in attrs if name == "href"]


def test_a_week_is_reviewed_and_kept(bench: Workbench) -> None:
    with pytest.raises(ExpError, match="no day has been made"):
        weekly.weekly_review(bench, NOW)
    own = world(bench, DUE - DAY)
    log = state_log(own.home)
    step = Step("pause", "ramp", 1, 1, 0.0, "owners", ("over",))
    append(log, BRIEF, RampState(), step, datetime(2026, 3, 18, 9, tzinfo=UTC))
    failed = Finding(
        rule="freshness", subject="events", day=END, verdict="fail", evidence="late", owner="data-platform"
    )
    record_findings(log, [failed], datetime(2026, 3, 17, 8, tzinfo=UTC))
    durability.measure(own, BRIEF.name, NOW)

    # The week in which the experiment ended for everybody: half of the learners fall back.
    made = weekly.write_weekly(own, NOW, "2026-W12")
    (row,) = made.review.metrics
    assert made.review.first == END
    assert row.value == pytest.approx(mean_of_week(END))
    assert row.before == pytest.approx(mean_of_week(END - DAY * 7))
    assert row.units == row.units_before == LEARNERS
    assert row.moved
    assert row.good is False
    assert [(one.kind, one.by) for one in made.review.changes] == [("ramp", "owners")]
    assert [(one.rule, one.what) for one in made.review.incidents] == [("freshness", "opened")]
    assert [one.experiment for one in made.review.experiments] == ["fading"]
    text = made.html.read_text()
    assert "fading: pause" in text
    assert "no proof that one caused the other" in text
    assert json.loads(made.json.read_text())["week"] == "2026-W12"

    # The newest whole week, where nothing moves; the incident is still open, the other pages lead here.
    newest = weekly.write_weekly(own, NOW)
    assert newest.review.week == "2026-W13"
    (still,) = newest.review.metrics
    assert still.value == pytest.approx(mean_of_week(END + DAY * 7))
    assert [(one.rule, one.what) for one in newest.review.incidents] == [("freshness", "open")]
    for page in ("weekly.html", "weekly/2026-W13.html", "index.html"):
        path = own.home.readouts / page
        links = Links()
        links.feed(path.read_text())
        assert links.found
        for href in links.found:
            if not href.startswith("#"):
                assert (path.parent / href).is_file(), (page, href)
    assert "weekly.html" in (own.home.readouts / "index.html").read_text()
    # By arm nothing is told: the words of the arms do not stand in what was written.
    assert "control" not in made.json.read_text()

    with pytest.raises(ExpError, match="no day of 2026-W30"):
        weekly.weekly_review(own, NOW, "2026-W30")


def test_every_shipped_metric_has_a_line_or_a_reason(read_out: Workbench) -> None:
    review = weekly.weekly_review(read_out, NOW, "2026-W10")
    assert {one.metric for one in review.metrics} == set(read_out.catalog.metrics)
    # Eight learners are too few to be told of; nothing of them is.
    assert all(one.value is None and one.units == 0 and one.reason for one in review.metrics)
    assert any("fewer than 10 learners" in one.reason for one in review.metrics)
    assert review.metrics[0].kind == "north-star"
