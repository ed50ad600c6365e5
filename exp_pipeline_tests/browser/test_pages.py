"""Memos, the note for teachers and the pages about all experiments, in a real browser: seen, read, used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from exp_pipeline.report import decision_log_html, educator_note, index_entry, index_html, review_board_html
from exp_pipeline.report.memo import render_memo
from exp_pipeline_tests.report.sample_full import entries as ramp_entries
from exp_pipeline_tests.report.sample_full import full
from exp_pipeline_tests.report.samples import blinded, mismatch
from exp_pipeline_tests.report.test_overview import entries, logged, reviews

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is absent: no browser to look with"
)
WIDTHS = (1280, 768, 390)
NAMES = ("full", "blinded", "mismatch", "note", "index", "decisions", "reviews")
LISTS = ("index", "decisions", "reviews")

# Every text that can be seen, with its colour and the first ground behind it that is not transparent.
CONTRASTS = """() => {
  const light = text => { const c = text.match(/[\\d.]+/g).map(Number); return c; };
  const luminance = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = node => { for (let one = node; one; one = one.parentElement) {
      const c = light(getComputedStyle(one).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c; }
    return [255, 255, 255]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode, node = text.parentElement;
    const unread = ["style", "script", "title", "desc"].includes(node.tagName.toLowerCase());
    if (unread || !text.textContent.trim()) continue;
    if (!node.checkVisibility()) continue;
    const style = getComputedStyle(node), drawn = node instanceof SVGElement;
    const ink = light(drawn ? style.fill : style.color);
    const behind = drawn ? light(getComputedStyle(node.closest("svg").querySelector("rect")).fill)
      : ground(node);
    const [a, b] = [luminance(ink), luminance(behind)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 600;
    const large = size >= 24 || (bold && size >= 18.66);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push([text.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return found; }"""
# Words of a plot that leave it, and plots that are as good as empty.
CUT = """() => [...document.querySelectorAll("svg[role=img]")].filter(svg => svg.checkVisibility())
  .flatMap(svg => { const box = svg.viewBox.baseVal; return [...svg.querySelectorAll("text")]
    .filter(text => { const b = text.getBBox(); return b.x < -2 || b.y < -2 || b.x + b.width > box.width + 2
      || b.y + b.height > box.height + 2; })
    .map(text => [svg.querySelector("title").textContent, text.textContent]); })"""
OVERLAPS = """() => [...document.querySelectorAll("svg[role=img]")].filter(svg => svg.checkVisibility())
  .flatMap(svg => { const all = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBBox()]);
    const found = [];
    all.forEach(([a, p], i) => all.slice(i + 1).forEach(([b, q]) => {
      const w = Math.min(p.x + p.width, q.x + q.width) - Math.max(p.x, q.x);
      const h = Math.min(p.y + p.height, q.y + q.height) - Math.max(p.y, q.y);
      if (w > 2 && h > 4) found.push([svg.querySelector("title").textContent, a, b]); }));
    return found; })"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    texts = {
        "full": render_memo(full(), ramp_entries(), "index.html").html,
        "blinded": render_memo(blinded()).html,
        "mismatch": render_memo(mismatch()).html,
        "note": educator_note(full()).html,
        "index": index_html([*entries(), index_entry(full(), "full.html")]),
        "decisions": decision_log_html(
            [
                logged(),
                logged(outcome="stop", arm=None),
                logged(experiment="other", by="Board", kind="decided"),
            ]
        ),
        "reviews": review_board_html(reviews()),
    }
    for name, text in texts.items():
        (made / f"{name}.html").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox needs rights that a container seldom has; only pages of this machine are opened.
    with (
        sync_playwright() as engine,
        engine.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"]) as found,
    ):
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context.new_page()


def opened(page: Page, folder: Path, name: str) -> Page:
    page.goto((folder / f"{name}.html").as_uri())
    return page


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_the_network_for_nothing_and_breaks_no_rule(page: Page, folder: Path, name: str) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    opened(page, folder, name)
    assert asked == [(folder / f"{name}.html").as_uri()]
    assert said == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_at_any_width(page: Page, folder: Path, name: str) -> None:
    opened(page, folder, name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, width
        assert page.evaluate(CUT) == [], width
        assert page.evaluate(OVERLAPS) == [], width


@pytest.mark.parametrize("name", NAMES)
def test_every_word_stands_out_from_its_ground(page: Page, folder: Path, name: str) -> None:
    opened(page, folder, name)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    grounds = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRASTS) == [], scheme
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2


def test_the_check_of_contrast_sees_what_is_too_faint(page: Page) -> None:
    page.set_content(
        "<body style='background:#fff'><p style='color:#888'>faint</p><p style='color:#000'>x</p>"
    )
    assert [text for text, _ in page.evaluate(CONTRASTS)] == ["faint"]


@pytest.mark.parametrize("name", NAMES)
def test_who_does_not_see_is_told_everything(page: Page, folder: Path, name: str) -> None:
    opened(page, folder, name)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node)
        for node in tree
        if not node.get("ignored") and "role" in node
    ]
    for role in ("image", "img", "table", "region", "navigation", "searchbox", "combobox", "link", "heading"):
        assert all(label.strip() for found, label, _ in nodes if found == role), role
    assert [role for role, _, _ in nodes].count("main") == 1
    regions = [label for role, label, _ in nodes if role == "region"]
    assert len(regions) == len(set(regions))
    levels = [
        part["value"]["value"]
        for role, _, node in nodes
        if role == "heading"
        for part in node["properties"]
        if part["name"] == "level"
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("[...document.querySelectorAll('th')].every(one => one.scope)")
    assert page.evaluate("[...document.querySelectorAll('table')].every(one => one.caption)")
    if name in ("full", "blinded", "mismatch"):
        pictures = page.locator("svg[role=img]:visible").count()
        assert pictures == page.locator("figure").count() == page.locator("figure details").count() > 2


@pytest.mark.parametrize("name", NAMES)
def test_the_keyboard_shows_where_it_is_and_skips(page: Page, folder: Path, name: str) -> None:
    opened(page, folder, name)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    box = page.locator(".skip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "#" in url)
    for _ in range(6):
        page.keyboard.press("Tab")
        look = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement);"
            " return [document.activeElement.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
        )
        assert look[0] == "BODY" or (look[1] == "solid" and look[2] >= 2), look


def shown(page: Page) -> list[str]:
    return [
        text.split("\n")[0] for text in page.locator("#rows > tr:visible > :first-child").all_inner_texts()
    ]


def test_the_index_is_searched_narrowed_and_ordered(page: Page, folder: Path) -> None:
    opened(page, folder, "index")
    assert len(shown(page)) == 4
    page.get_by_label("Find", exact=True).fill("voice coach")
    assert page.locator("#found").inner_text() == "2 of 4 shown"
    page.get_by_label("Find", exact=True).fill("nobody wrote this")
    assert shown(page) == []
    assert page.locator("#none").is_visible()
    page.get_by_label("Find", exact=True).fill("")
    page.get_by_label("Decision", exact=True).select_option("Roll back")
    page.get_by_label("Owner", exact=True).select_option("Tutor Platform")
    assert shown(page) == ["Hint ladder, alone or in the coach's voice"]
    page.get_by_label("Owner", exact=True).select_option("")
    page.get_by_label("Decision", exact=True).select_option("")
    page.get_by_label("Order", exact=True).select_option(label="Risk, highest first")
    assert shown(page)[0] == "Hint ladder, alone or in the coach's voice"
    page.get_by_label("Order", exact=True).select_option(label="Oldest data first")
    days = page.locator("#rows > tr > :last-child").all_inner_texts()
    assert days == sorted(days)


def test_the_index_needs_no_mouse(page: Page, folder: Path) -> None:
    opened(page, folder, "index")
    page.get_by_label("Find", exact=True).focus()
    page.keyboard.type("voice")
    assert len(shown(page)) == 2
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert len(shown(page)) < 2 or page.get_by_label("Decision", exact=True).input_value() != ""
    page.get_by_label("Decision", exact=True).select_option("")
    page.get_by_role("link", name="Hint ladder, alone or in the coach's voice").last.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/full.html")
    assert page.locator("h1").inner_text() == "Hint ladder, alone or in the coach's voice"
    page.get_by_role("link", name="All experiments").click()
    page.wait_for_url("**/index.html")
    page.get_by_role("link", name="Decision log").click()
    page.wait_for_url("**/decisions.html")


def test_the_board_is_narrowed_by_the_review_it_waits_for(page: Page, folder: Path) -> None:
    opened(page, folder, "reviews")
    page.get_by_label("Waiting for", exact=True).select_option("privacy")
    assert shown(page) == ["An exit ticket", "quiet-mode"]
    page.get_by_label("Waiting for", exact=True).select_option("statistics")
    assert shown(page) == ["An exit ticket"]


def test_the_log_is_found_by_a_digest_that_is_not_shown_whole(page: Page, folder: Path) -> None:
    opened(page, folder, "decisions")
    page.get_by_label("Find", exact=True).fill("f1b1b0f4a59f0ac2de41 board")
    assert page.locator("#found").inner_text() == "1 of 3 shown"


@pytest.mark.parametrize("name", LISTS)
def test_without_a_script_everything_can_be_read(browser: Browser, folder: Path, name: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = opened(context.new_page(), folder, name)
        assert page.locator("#rows > tr:visible").count() == page.locator("#rows > tr").count() >= 3
        assert not page.locator(".controls").is_visible()
        assert not page.locator("#none").is_visible()


def test_on_paper_the_controls_are_gone_and_plots_are_whole(page: Page, folder: Path) -> None:
    page.emulate_media(media="print")
    opened(page, folder, "full")
    assert page.locator("summary:visible").count() == 0
    assert page.locator("nav:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
    highest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.appendix figure .broad svg')]"
        ".map(one => one.getBoundingClientRect().height))"
    )
    # 140 mm of the 182 mm that a landscape page leaves.
    assert highest <= 140 / 25.4 * 96 + 1
    opened(page, folder, "index")
    assert page.locator(".controls:visible").count() == 0
