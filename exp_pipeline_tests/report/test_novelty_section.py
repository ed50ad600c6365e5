"""The novelty section: the same numbers in every form, none while effects are hidden, no small cells."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from exp_pipeline.model.readout import NoveltyContrast, NoveltyPoint, Readout
from exp_pipeline.report import plots, render_memo
from exp_pipeline.report.pages import in_page
from exp_pipeline_tests.report.reading import Page, html_tables, json_tables, markdown_page
from exp_pipeline_tests.report.sample_full import full
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import blinded


def wearing_off(base: Readout, *, least: int = 200) -> Readout:
    """A readout whose effect halves by the week; later weeks hold fewer units, the last `least` an arm."""
    points, contrasts = [], []
    for arm in (arm.name for arm in base.brief.treatments()):
        for week, n in enumerate((4000, 3100, 1500, least)):
            value, reach = 0.1234 / 2**week, 1.2 / n**0.5
            points.append(
                NoveltyPoint(
                    week=week,
                    arm=arm,
                    n_control=n + 13,
                    n_treatment=n,
                    absolute=value,
                    ci_lower=value - reach,
                    ci_upper=value + reach,
                )
            )
        contrasts.append(
            NoveltyContrast(
                arm=arm,
                early_week=0,
                late_week=3,
                n_control=least + 13,
                n_treatment=least,
                early=0.1187,
                late=0.0154,
                absolute=-0.1033,
                ci_lower=-0.1711,
                ci_upper=-0.0355,
                p_value=0.0028,
            )
        )
    return base.model_copy(update={"novelty": tuple(points), "novelty_contrasts": tuple(contrasts)})


def tables(readout: Readout) -> dict[str, Any]:
    return {table["key"]: table for table in json.loads(render_memo(readout).json)["appendix"]}


@pytest.mark.parametrize("make", [ship, two_arms])
def test_every_form_holds_the_same_numbers(make: Any) -> None:
    readout = wearing_off(make())
    memo = render_memo(readout)
    page, markdown = html_tables(memo.html), markdown_page(memo.markdown).tables
    wanted = [
        table for table in json_tables(memo.json) if "Week" in table[0] or "Last less first" in table[0]
    ]
    assert len(wanted) == 2
    for table in wanted:
        assert table in page
        assert table in markdown
    found = tables(readout)
    for point, row in zip(readout.novelty, found["novelty"]["rows"], strict=True):
        assert (row["week"]["value"], row["arm"]["text"]) == (point.week, point.arm)
        assert row["absolute"]["value"] == point.absolute
        assert (row["interval"]["lower"], row["interval"]["upper"]) == (point.ci_lower, point.ci_upper)
        assert row["n_control"]["value"] == point.n_control
    for contrast, row in zip(readout.novelty_contrasts, found["novelty_contrasts"]["rows"], strict=True):
        assert row["absolute"]["value"] == contrast.absolute
        assert row["p_value"]["value"] == contrast.p_value


@pytest.mark.parametrize("width", [plots.WIDE, plots.NARROW])
def test_the_plot_draws_every_week_in_order_of_size(width: int) -> None:
    svg = plots.novelty(wearing_off(two_arms()), width=width)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', svg)]
    assert len(dots) == 8
    for panel in (dots[:4], dots[4:]):
        assert [x for x, _ in panel] == sorted(x for x, _ in panel)
        # The effect shrinks, so the dots sink.
        assert [y for _, y in panel] == sorted(y for _, y in panel)
        assert all(0 <= x <= width for x, _ in panel)
    words = Page(svg).text()
    assert all(f"week {week}" in words for week in range(4))
    assert in_page(svg) in render_memo(wearing_off(two_arms())).html


@pytest.mark.parametrize("width", [plots.WIDE, plots.NARROW])
def test_the_names_of_many_weeks_do_not_overlap(width: int) -> None:
    base = wearing_off(ship())
    many = tuple(base.novelty[0].model_copy(update={"week": week}) for week in range(26))
    svg = plots.novelty(base.model_copy(update={"novelty": many}), width=width)
    at = [float(x) for x in re.findall(r'<text x="([-\d.]+)"[^>]*>week \d+<', svg)]
    assert len(at) >= 4
    assert min(later - earlier for earlier, later in pairwise(at)) >= 50
    # Points would hide each other: one line runs through all of them.
    (line,) = [part for part in re.findall(r'<polyline points="([^"]+)"', svg) if part.count(",") == 26]
    assert line


def test_hidden_effects_have_no_weeks() -> None:
    leaky = wearing_off(blinded())
    assert render_memo(leaky) == render_memo(blinded())
    assert plots.novelty(leaky) == ""
    failed = ship().integrity[0].model_copy(update={"verdict": "fail"})
    broken = wearing_off(ship().model_copy(update={"integrity": (failed, *ship().integrity[1:])}))
    assert "novelty" not in tables(broken)
    assert plots.novelty(broken) == ""


def test_small_weeks_are_not_shown() -> None:
    readout = wearing_off(ship(), least=7)
    last = tables(readout)["novelty"]["rows"][-1]
    assert (last["n_treatment"]["text"], last["n_control"]["text"]) == ("< 10", "withheld")
    assert "value" not in last["absolute"]
    assert "value" not in last["n_control"]
    (contrast,) = tables(readout)["novelty_contrasts"]["rows"]
    assert set(contrast) == {"arm", "weeks", "n_control", "n_treatment", "note"}
    assert "-0.1033" not in render_memo(readout).json
    assert plots.novelty(readout).count("<circle") == 3


def test_what_cannot_be_told_is_said_without_a_plot() -> None:
    reason = "quantiles of a week cannot be had from daily sums"
    point = NoveltyPoint(
        week=0,
        arm="ladder",
        n_control=0,
        n_treatment=0,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        estimable=False,
        reason=reason,
    )
    readout = ship().model_copy(update={"novelty": (point,)})
    memo = render_memo(readout)
    assert plots.novelty(readout) == ""
    for text in (memo.html, memo.markdown, memo.json):
        assert reason in text


def test_without_weeks_there_is_no_section() -> None:
    assert "novelty" not in tables(ship())
    assert plots.novelty(ship()) == ""


def test_where_an_effect_settles_is_drawn_among_weeks_only() -> None:
    weeks, days = plots.novelty(full()), plots.novelty_days(full())
    # 0.85 of 1.1 and of 4.12 points.
    assert "settles at +0.93 pp" in weeks
    assert "settles at +3.5 pp" in weeks
    assert "settles" not in days
    figures = json.loads(render_memo(full()).json)["figures"]
    assert figures["novelty"]["description"].endswith("The dashed line is where the effect settles.")
    assert "as a band for each day" in figures["novelty_days"]["description"]


def test_many_days_are_a_line_with_its_band() -> None:
    svg = plots.novelty_days(full())
    assert "<circle" not in svg
    lines = re.findall(r'<polyline points="([^"]+)"', svg)
    assert [line.count(",") for line in lines] == [28, 28]
    assert [band.count(",") for band in re.findall(r'<polygon points="([^"]+)"', svg)] == [56, 56]
