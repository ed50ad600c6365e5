# ruff: noqa: RUF001
"""Plots draw the readout's numbers, where they are, and say them in words and in a table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import memo_html, memo_json, plots
from exp_pipeline.report.pages import in_page
from exp_pipeline.report.palette import DARK, LIGHT
from exp_pipeline.report.svg import Scale, domain, fit, ticks
from exp_pipeline_tests.report.reading import Page
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import SAMPLES, by_class, empty

DRAWN: dict[str, Callable[..., str]] = {
    "forest": plots.forest,
    "segments": plots.segments,
    "guardrails": plots.guardrails,
    "sample_ratio": plots.sample_ratio,
    "cumulative": plots.cumulative,
    "novelty": plots.novelty,
    "novelty_days": plots.novelty_days,
    "sample_ratio_groups": plots.sample_ratio_groups,
    "tradeoffs": plots.tradeoffs,
    "ramp": plots.ramp,
}
Make = Callable[[], Readout]


def circles(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', svg)]


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
def test_every_plot_is_labelled_tabled_and_drawn_twice(make: Make) -> None:
    html, facts = memo_html(make()), json.loads(memo_json(make()))
    page = Page(html)
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(pictures) == 2 * len(facts["figures"])
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in pictures)
    assert html.count("<details>") == len(facts["figures"])
    for key, figure in facts["figures"].items():
        svg = DRAWN[key](make())
        assert in_page(svg) in html
        assert in_page(DRAWN[key](make(), width=plots.NARROW)) in html
        assert figure["title"] in Page(svg).text()
        rows = [
            [row[c["key"]]["text"] for c in figure["table"]["columns"]] for row in figure["table"]["rows"]
        ]
        assert any(table[1:] == rows for table in page.tables)


def test_the_tables_of_plots_hold_the_readouts_numbers() -> None:
    readout = ship()
    figures = json.loads(memo_json(readout))["figures"]
    primary = next(e for e in readout.estimates if e.role == "primary")
    row = figures["forest"]["table"]["rows"][0]
    assert row["absolute"]["value"] == primary.absolute
    assert (row["interval"]["lower"], row["interval"]["upper"]) == (primary.ci_lower, primary.ci_upper)
    for point, cells in zip(readout.cumulative, figures["cumulative"]["table"]["rows"], strict=True):
        assert cells["absolute"]["value"] == point.absolute
        assert (cells["interval"]["lower"], cells["interval"]["upper"]) == (point.ci_lower, point.ci_upper)
        assert cells["always_valid"]["lower"] == point.always_valid_lower
    for day, cells in zip(readout.sample_ratio, figures["sample_ratio"]["table"]["rows"], strict=True):
        assert [cells["arm_0"]["value"], cells["arm_1"]["value"]] == [
            day.counts["control"],
            day.counts["ladder"],
        ]
        assert cells["p_value"]["value"] == day.p_value
    for result in readout.guardrails:
        cells = next(
            r for r in figures["guardrails"]["table"]["rows"] if r["guardrail"]["text"] == result.title
        )
        assert (cells["harm"]["value"], cells["bound"]["value"], cells["margin"]["value"]) == (
            result.harm,
            result.harm_bound,
            result.margin,
        )
    for estimate, cells in zip(readout.segments, figures["segments"]["table"]["rows"], strict=True):
        assert cells["absolute"]["value"] == estimate.absolute
        assert (
            cells["floor"]["value"] == -0.01
            if estimate.segment == "grade_band"
            else cells["floor"]["text"] == "–"
        )


def test_the_forests_dots_stand_at_the_effects() -> None:
    points = circles(plots.forest(two_arms()))
    values = [e.absolute for e in two_arms().estimates if e.role == "primary"]
    assert len(points) == len(values) == 2
    assert None not in values
    svg = plots.forest(two_arms())
    marks = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)"[^>]*>([+−]?\d+) pp</text>', svg)}
    per_point = (marks["+4"] - marks["0"]) / 4
    for (x, _), value in zip(points, values, strict=True):
        assert value is not None
        # Coordinates are written to a tenth of a pixel.
        assert x == pytest.approx(marks["0"] + 100 * value * per_point, abs=0.2)


def test_guardrail_dots_stand_at_their_part_of_the_margin() -> None:
    svg = plots.guardrails(ship())
    marks = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)"[^>]*>([+−]?\d+) %</text>', svg)}
    per_percent = (marks["100"] - marks["0"]) / 100
    found = sorted((x - marks["0"]) / per_percent for x, _ in circles(svg))
    wanted = sorted(100 * (g.harm or 0) / g.margin for g in ship().guardrails)
    assert found == pytest.approx(wanted, abs=0.3)


def test_there_is_no_plot_of_nothing() -> None:
    assert [draw(empty()) for draw in DRAWN.values()] == [""] * 9 + [plots.ramp(empty())]
    assert plots.segments(by_class()) == ""


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(palette: dict[str, str]) -> None:
    for ground in ("ground", "surface"):
        for ink in ("ink", "muted", "accent", "good", "warn", "bad", "calm"):
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    for tone in ("good", "warn", "bad", "calm"):
        assert contrast(palette[tone], palette[f"{tone}-soft"]) >= 4.5, tone
    assert contrast(palette["ink"], palette["calm-soft"]) >= 4.5
    # The edge of a table that goes on is shaded with the colour of rules, under words.
    for ink in ("ink", "muted"):
        assert contrast(palette[ink], palette["rule"]) >= 4.5, ink
    assert contrast(palette["bad"], palette["bad-soft"]) >= 4.5
    # Graphics and the edges of fields: WCAG 1.4.11 asks for 3. Marks lie on the red zone, on the band of an
    # interval, and on the band that chance allows.
    for mark in ("good", "warn", "calm"):
        assert contrast(palette[mark], palette["bad-soft"]) >= 3
    for mark in ("accent", "warn", "muted", "good"):
        assert contrast(palette[mark], palette["accent-soft"]) >= 3
    for mark in ("calm", "accent", "warn", "good", "bad"):
        assert contrast(palette[mark], palette["sunken"]) >= 3
        assert contrast(palette[mark], palette["surface"]) >= 3
    for edge in ("muted", "accent"):
        assert contrast(palette[edge], palette["ground"]) >= 3


@pytest.mark.parametrize("name", ["style.css.j2"])
def test_the_pages_name_no_colour_beside_the_palettes(name: str) -> None:
    text = (Path(plots.__file__).parent / "templates" / name).read_text(encoding="utf-8")
    # White paper is the only other one.
    assert set(re.findall(r"#[0-9a-fA-F]{3,6}\b", text)) <= {"#fff"}
    roles = set(re.findall(r"var\(--([a-z-]+)\)", text)) - {"tone", "tint"}
    assert roles <= set(LIGHT)
    assert set(LIGHT) == set(DARK)


def test_contrast_knows_the_published_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.5, 6.7), (0.0, 1e-6), (-1e9, 1e9), (3.0, 3.0), (-0.021, 0.004)]
)
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert len(found) <= 7
    assert all(low - 1e-9 * abs(high - low) <= tick <= high + 1e-9 * abs(high - low) for tick in found)


def test_axes_hold_what_they_show() -> None:
    assert domain([]) == (-1.0, 1.0)
    low, high = domain([2.0, 2.0, None, float("inf")])
    assert low < 2.0 < high
    scale = Scale(0, 10, 100, 200)
    assert (scale(5), scale(-3), scale(99)) == (150, 100, 200)
    assert not scale.holds(11)
    assert fit("a" * 50, 60).endswith("\N{HORIZONTAL ELLIPSIS}")


def contrast(one: str, two: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((luminance(one), luminance(two)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
