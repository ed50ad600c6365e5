"""What a person meets: the Dagster UI over a finished run, a backfill from it, and the memo in a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exp_pipeline_tests.browser.server import dagster_dev, graphql
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import environment_of, failures, instance_in, run_everything
from exp_pipeline_tests.test_definitions import ASSETS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is absent: no browser to look with"
)
# Dagster's own: it asks itself for the run by a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
GROUPS = {group for group, _ in ASSETS.values()}
SECONDS = 40.0
BACKFILL_SECONDS = 240.0


@dataclass(frozen=True)
class Shown:
    address: str
    home: Path
    pictures: Path


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    root = tmp_path_factory.mktemp("ui")
    pictures = root / "pictures"
    pictures.mkdir()
    home = small.make_home(root)
    with environment_of(home):
        with instance_in(root / "dagster") as instance:
            assert [failures(result) for result in run_everything(instance)] == [[]] * 4
        with dagster_dev(home, root / "dagster") as address:
            yield Shown(address, home, pictures)


@pytest.fixture(scope="module")
def browser(shown: Shown) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox needs rights that a container seldom has; only pages of this machine are opened.
    with (
        sync_playwright() as engine,
        engine.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"]) as found,
    ):
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1600, "height": 1000}) as context:
        made = context.new_page()
        made.set_default_timeout(SECONDS * 1000)
        yield made


def see(page: Page, *texts: str) -> None:
    """Wait until each text can be seen."""
    for text in texts:
        page.get_by_text(text, exact=False).first.wait_for(state="visible")


def picture_is_drawn(page: Page, title: str) -> bool:
    """Whether an image with this title has loaded and has a size."""
    image = page.locator(f'img[alt="{title}"]').first
    image.wait_for(state="visible")
    drawn: Any = image.evaluate("one => one.complete && one.naturalWidth > 100 && one.naturalHeight > 20")
    return bool(drawn)


@needs_browser
def test_the_asset_graph_shows_every_group(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/asset-groups")
    see(page, *sorted(GROUPS))
    page.screenshot(path=shown.pictures / "graph.png")


@needs_browser
def test_the_memo_asset_shows_its_summary_and_plots(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/assets/memo?view=partitions&partition=hint-ladder")
    see(page, "Learners who reached mastery", "Guardrail", "integrity check", "hint-ladder.html")
    assert picture_is_drawn(page, "Primary effects")
    page.screenshot(path=shown.pictures / "memo-asset.png")
    page.get_by_text("[Show Markdown]").first.click()
    assert picture_is_drawn(page, "Effects")
    page.screenshot(path=shown.pictures / "memo-plot.png")


@needs_browser
def test_integrity_shows_its_checks_and_their_evidence(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/assets/integrity?view=checks&checkDetail=srm")
    see(
        page,
        "srm",
        "exposure",
        "covariate_balance",
        "blocking",
        "Passed",
        "Sample ratio of assigned units",
        "p_value_limit",
    )
    page.screenshot(path=shown.pictures / "integrity-checks.png")


@needs_browser
def test_an_asset_tells_owner_grain_and_columns(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/assets/unit_days?view=overview")
    see(page, "Grain: ", "experimentation", "UBIGINT", "Row count", "daily_facts")
    page.screenshot(path=shown.pictures / "unit-days.png")


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("experiment", small.EXPERIMENTS)
def test_the_memo_reads_well_at_any_width(shown: Shown, page: Page, experiment: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((shown.home / "readouts" / f"{experiment}.html").as_uri())
    page.screenshot(path=shown.pictures / f"memo-{experiment}-{width}.png", full_page=True)
    facts = json.loads((shown.home / "readouts" / f"{experiment}.json").read_text())
    brief = yaml.safe_load((shown.home / "catalog" / "experiments" / f"{experiment}.yaml").read_text())
    verdict = page.locator("#decision .badge").first
    assert verdict.is_visible()
    assert verdict.inner_text().strip().casefold() == facts["decision"]["outcome"].replace("_", " ")
    assert page.get_by_role("heading", name=brief["title"], level=1).is_visible()
    for name in ("Result", "Guardrails", "Limits", "Next steps"):
        assert page.get_by_role("heading", name=name, level=2).is_visible(), name
    hero = page.locator(".hero").first
    assert hero.is_visible()
    assert "95 % interval" in hero.inner_text()
    drawn = page.locator("figure svg:visible").first.bounding_box()
    assert drawn is not None
    assert 200 < drawn["width"] <= width
    # A person never has to push the page sideways: wide tables scroll inside their own box.
    overflow: Any = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0


_LAUNCH = """mutation Launch($wanted: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $wanted) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_FOLLOW = """query Follow($backfill: String!) {
  partitionBackfillOrError(backfillId: $backfill) { ... on PartitionBackfill { status } }
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) { ... on Runs {
    results { status tags { key value } assetSelection { path } } } } }"""


def backfill(address: str, assets: list[str], days: list[str]) -> list[dict[str, Any]]:
    """Ask for a backfill as the UI does and wait for the daemon; returns the finished runs."""
    wanted = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": days}
    launched = graphql(address, _LAUNCH, wanted=wanted)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    limit = time.monotonic() + BACKFILL_SECONDS
    while time.monotonic() < limit:
        answer = graphql(address, _FOLLOW, backfill=launched["backfillId"])
        status = answer["partitionBackfillOrError"]["status"]
        runs: list[dict[str, Any]] = answer["runsOrError"]["results"]
        if runs and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs):
            return runs
        assert status in ("REQUESTED", "COMPLETED_SUCCESS"), status
        time.sleep(1)
    raise AssertionError(f"the backfill was {status} after {BACKFILL_SECONDS:g} s, with runs {runs}")


def test_a_backfill_of_five_days_is_one_run_and_changes_no_byte(shown: Shown) -> None:
    before = small.digests(shown.home)
    days = [(small.FIRST + timedelta(days=offset)).isoformat() for offset in range(2, 7)]
    assets = sorted(name for name, (_, partition) in ASSETS.items() if partition == "day")
    runs = backfill(shown.address, assets, days)
    assert [run["status"] for run in runs] == ["SUCCESS"]
    assert sorted(key["path"][0] for key in runs[0]["assetSelection"]) == assets
    tags = {tag["key"]: tag["value"] for tag in runs[0]["tags"]}
    assert tags["dagster/asset_partition_range_start"] == days[0]
    assert tags["dagster/asset_partition_range_end"] == days[-1]
    assert small.digests(shown.home) == before
