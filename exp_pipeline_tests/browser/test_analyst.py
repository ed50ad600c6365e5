"""What an analyst meets who has never seen the code: the Dagster UI, a readout made from it, and the memo.

One world and one server serve all of it: three experiments, one of which lost the assignments of one arm on
one platform.
"""

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
from exp_pipeline_tests.defs.everything import BROKEN, LOST_PLATFORM, run_once
from exp_pipeline_tests.defs.worlds import environment_of, failed_checks, instance_in, run_job
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
READOUT_SECONDS = 240.0


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
    ran = run_once(tmp_path_factory, root)
    assert ran.failures == [[]] * 4
    home = ran.home
    with environment_of(home):
        with instance_in(ran.history) as instance:
            instance.add_dynamic_partitions("experiment", [BROKEN])
            broken = run_job(instance, "experiment_readout", partition=BROKEN)
            assert "srm" in failed_checks(broken)
        with dagster_dev(home, ran.history) as address:
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


def row(page: Page, name: str) -> Any:
    """One line of the metadata that the UI lists."""
    return page.locator("tr", has=page.get_by_role("cell", name=name, exact=True)).first


def plot_opens(page: Page, name: str, title: str) -> bool:
    """Whether the plot under a name is drawn when one asks for it."""
    row(page, name).get_by_text("[Show Markdown]").click()
    drawn = picture_is_drawn(page, title)
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Close", exact=True).wait_for(state="hidden")
    return drawn


def of_partition(page: Page, shown: Shown, asset: str, experiment: str) -> None:
    """From the start page: catalog, asset, partitions, experiment, as one clicks."""
    size = page.viewport_size
    assert size is not None
    # The list of assets draws only what fits the window.
    page.set_viewport_size({"width": size["width"], "height": 3000})
    page.goto(shown.address)
    page.get_by_role("link", name="Catalog").click()
    page.locator(f'a[href$="/assets/{asset}"]').first.click()
    page.get_by_text("Partitions", exact=True).first.click()
    page.set_viewport_size(size)
    page.get_by_text(experiment, exact=True).first.click()


@needs_browser
def test_a_failed_check_is_seen_with_its_causes(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/assets/integrity?view=checks")
    page.get_by_text("srm", exact=True).first.click()
    see(page, "Failed", "blocking", "causes", f"platform {LOST_PLATFORM}", "Sample ratio of assigned units")
    page.screenshot(path=shown.pictures / "failed-check.png")


@needs_browser
def test_an_experiment_that_failed_says_where_to_look(shown: Shown, page: Page) -> None:
    page.set_viewport_size({"width": 1400, "height": 1500})
    of_partition(page, shown, "integrity", BROKEN)
    see(page, "fails: Sample ratio", "causes", f"platform {LOST_PLATFORM}", "Brief as locked")
    page.screenshot(path=shown.pictures / "integrity-broken.png")
    assert plot_opens(page, "sample_ratio_by_day", "Units by arm against plan")
    of_partition(page, shown, "decision", BROKEN)
    see(page, "investigate", "Integrity fails, so no effect is interpreted", f"platform {LOST_PLATFORM}")
    assert page.locator('img[alt="Primary effects"]').count() == 0
    page.screenshot(path=shown.pictures / "decision-broken.png")


@needs_browser
def test_a_readout_is_made_with_a_few_clicks(shown: Shown, page: Page) -> None:
    page.goto(shown.address)
    page.get_by_role("link", name="Jobs").click()
    page.get_by_text("experiment_readout", exact=True).first.click()
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text("hint-ladder", exact=True).first.click()
    page.keyboard.press("Escape")
    page.screenshot(path=shown.pictures / "materialize.png")
    page.get_by_role("button", name="Launch 1 run").click()
    see(page, "Launched run")
    page.get_by_role("button", name="View", exact=True).or_(
        page.get_by_role("link", name="View")
    ).first.click()
    page.wait_for_url("**/runs/*")
    run = page.url.rpartition("/")[2].partition("?")[0]
    assert ended(shown.address, run) == "SUCCESS"
    of_partition(page, shown, "memo", "hint-ladder")
    page.locator(f'a[href*="{run}"]').first.wait_for(state="visible")


@needs_browser
def test_decision_plots_and_tables_are_read_in_the_ui(shown: Shown, page: Page) -> None:
    page.set_viewport_size({"width": 1400, "height": 1300})
    of_partition(page, shown, "decision", "hint-ladder")
    see(page, "outcome", "Guardrails shown to hold", "Lasting effect", "Brief as locked")
    assert picture_is_drawn(page, "Primary effects")
    page.screenshot(path=shown.pictures / "decision.png")
    page.goto(f"{shown.address}/assets/memo?view=partitions&partition=hint-ladder")
    see(page, "Learners who reached mastery", "Guardrail", "Integrity checks", "hint-ladder.html")
    assert picture_is_drawn(page, "Primary effects")
    page.screenshot(path=shown.pictures / "memo-asset.png")
    assert plot_opens(page, "forest_plot", "Effects")
    page.goto(f"{shown.address}/assets/estimates?view=partitions&partition=hint-ladder")
    see(page, "95 % interval", "units", " pp", " ms", "secondary", "guardrail", "counter")
    page.screenshot(path=shown.pictures / "estimates.png")
    for name, title in (
        ("forest_plot", "Primary effects against zero and threshold"),
        ("guardrail_margins", "Guardrails against their margins"),
        ("cumulative_effect", "Cumulative effect by day"),
    ):
        assert plot_opens(page, name, title), name
    for asset, text in (("segments", "segment value"), ("novelty", "week"), ("robustness", "unadjusted")):
        page.goto(f"{shown.address}/assets/{asset}?view=partitions&partition=hint-ladder")
        see(page, text, "interval", "units in arm" if asset != "robustness" else "variant")
        page.screenshot(path=shown.pictures / f"{asset}.png")


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


_STATUS = """query Status($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"""


def ended(address: str, run: str) -> str:
    """How a run ended, waited for."""
    limit = time.monotonic() + READOUT_SECONDS
    while time.monotonic() < limit:
        status = str(graphql(address, _STATUS, run=run)["runOrError"]["status"])
        if status in ("SUCCESS", "FAILURE", "CANCELED"):
            return status
        time.sleep(1)
    raise AssertionError(f"run {run} was {status} after {READOUT_SECONDS:g} s")


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
