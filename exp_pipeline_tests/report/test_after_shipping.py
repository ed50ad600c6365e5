"""What is drawn and said after shipping: the worst first, against its line, with unit, sign and interval."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from exp_pipeline.model.after import DriftFinding, DurabilityRow
from exp_pipeline.report.after import (
    drift_figure,
    drift_plot,
    durability_figure,
    durability_plot,
    kept_share,
)

MINUS = "\N{MINUS SIGN}"


def finding(subject: str, **changes: Any) -> DriftFinding:
    fields: dict[str, Any] = {
        "day": date(2026, 4, 1), "subject": subject, "kind": "number", "title": subject.replace("_", " "),
        "value": 1.2, "usual": 1.0, "change": 0.2, "threshold": 0.5, "verdict": "pass", "evidence": "seen",
    }  # fmt: skip
    return DriftFinding(**(fields | changes))


def look(**changes: Any) -> DurabilityRow:
    fields: dict[str, Any] = {
        "experiment": "ladder", "version": 1, "snapshot": "s", "metric": "mastery", "title": "Mastery",
        "arm": "short", "against": "control", "days_after_end": 14, "due": date(2026, 4, 14), "days": 14,
        "n_control": 1200, "n_treatment": 1100, "gain": 0.08, "later": 0.02, "change": -0.06,
        "ci_lower": -0.09, "ci_upper": -0.03, "p_value": 0.001, "decayed": True,
    }  # fmt: skip
    return DurabilityRow(**(fields | changes))


FINDINGS = (
    finding("steady"),
    finding("flags", kind="share", change=-0.12, threshold=0.1, value=0.01, usual=0.13, verdict="fail"),
    finding("slow", change=1.5, threshold=0.5, verdict="fail"),
    finding("new", value=None, usual=None, change=None, threshold=None, verdict="cannot_tell", evidence=""),
)


def centres(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]


def test_drift_is_told_worst_first_in_the_unit_of_each_thing() -> None:
    rows = [{key: cell.text for key, cell in row.items()} for row in drift_figure(FINDINGS).table.rows]
    assert [row["what"] for row in rows] == ["slow", "flags", "steady", "new"]
    assert (rows[0]["change"], rows[0]["line"]) == ("+150.0 %", "50.0 %")
    assert (rows[1]["change"], rows[1]["line"], rows[1]["today"]) == (f"{MINUS}12.0 pp", "10.0 pp", "1.0 %")
    assert (rows[3]["says"], rows[3]["change"]) == ("cannot tell", "\N{EN DASH}")


def test_a_change_stands_where_its_line_says() -> None:
    figure = drift_figure(FINDINGS)
    slow, flags, steady = centres(drift_plot(figure, 800))
    uprights = sorted(
        float(x) for x in re.findall(r'<line x1="([\d.]+)"[^>]*stroke-dasharray', drift_plot(figure, 800))
    )
    below, above = uprights
    unit = (above - below) / 2
    middle = (above + below) / 2
    assert [(x - middle) / unit for x in (slow, flags, steady)] == pytest.approx([3.0, -1.2, 0.4], abs=0.01)


def test_what_may_be_chance_is_drawn_and_said() -> None:
    title = "share of responses of prompt 7"
    wide = finding(
        "prompt", kind="version", title=title, change=0.6, threshold=0.1, noise=0.9,
        evidence=f"{title} 100 %, usual 40 %",
    )  # fmt: skip
    halved = finding("cost", change=-0.4, threshold=0.5, noise=1.0)
    rows = {row["what"].text: row for row in drift_figure((wide, halved)).table.rows}
    assert rows[title]["seen"].text == "100 %, usual 40 %; chance alone may move it by 90.0 pp"
    assert (rows[title]["change"].lower, rows[title]["change"].upper) == pytest.approx((-3.0, 15.0))
    # On the log scale: as far down to 0.3 as up to 1.2, in lines of a half.
    assert (rows["cost"]["change"].lower, rows["cost"]["change"].upper) == pytest.approx((-1.4, 0.4))
    assert rows["cost"]["seen"].text == "seen"


def test_nothing_to_draw_is_nothing() -> None:
    assert drift_plot(drift_figure(FINDINGS[-1:]), 800) == ""
    assert drift_plot(drift_figure(()), 800) == ""
    assert drift_figure(()).table.rows == ()
    assert durability_plot(durability_figure((), "share"), "share", 800) == ""


def test_an_effect_that_fades_is_said_in_its_unit_with_what_is_left() -> None:
    hidden = look(
        arm="long", estimable=False, gain=None, later=None, change=None, ci_lower=None, ci_upper=None,
        decayed=False, reason="effects are hidden",
    )  # fmt: skip
    figure = durability_figure((look(), hidden), "share")
    row, none = ({key: cell.text for key, cell in row.items()} for row in figure.table.rows)
    assert (row["look"], row["says"], row["then"], row["now"]) == ("2", "decays", "+8.0 pp", "+2.0 pp")
    assert (row["change"], row["interval"], row["kept"]) == (
        f"{MINUS}6.0 pp",
        f"{MINUS}9.0 to {MINUS}3.0",
        "25 %",
    )
    assert (none["says"], none["kept"], none["note"]) == ("cannot tell", "\N{EN DASH}", "effects are hidden")
    svg = durability_plot(figure, "share", 800)
    assert len(centres(svg)) == 1
    assert "short, 2 weeks after" in svg


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (look(), 0.25),
        (look(gain=-0.08, later=-0.02), 0.25),
        (look(gain=0.0), None),
        (look(estimable=False), None),
        (look(later=None), None),
    ],
)
def test_what_is_left_of_an_effect(row: DurabilityRow, left: float | None) -> None:
    assert kept_share(row) == (None if left is None else pytest.approx(left))
