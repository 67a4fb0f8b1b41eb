"""The console in a browser: what it shows of real runs, by keyboard, on a phone, and over the death of its server."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, STATIC, WEB, OpenPage, ended, link, submit
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGEST = 175_000  # bytes, compressed: all pages together, which nobody loads at once


@pytest.fixture(scope="module")
def failed(server: Serve) -> str:
    run = submit(server, "failing", query="Oolong, 150 g")
    ended(server, "failing", run)
    return run


async def test_the_list_is_searched_and_opened_by_keyboard(open_page: OpenPage, server: Serve, failed: str):
    async with open_page() as page:
        await page.keyboard.press("g")
        await page.keyboard.press("r")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
        row = page.locator(f'td a[href$="{failed}"]')
        await expect(row).to_have_text("Oolong, 150 g")
        later = submit(server, "failing", query="Green, 50 g")
        await expect(page.locator(f'td a[href$="{later}"]')).to_have_text("Green, 50 g")  # without a reload
        await page.keyboard.press("/")
        await page.keyboard.type(failed)
        await expect(page.locator("tr[data-row]")).to_have_count(1)
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        await expect(row).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Retry from the failed step")).to_be_visible()


async def test_the_list_shows_a_small_cost_and_a_long_time_in_full(open_page: OpenPage, failed: str):
    async def priced(route: Route) -> None:
        response = await route.fetch()
        runs = await response.json()
        for run in runs["data"]:
            run |= {"total_tokens": 123_456, "total_price": "0.00036", "currency": "USD", "elapsed_time": 754.0}
        await route.fulfill(response=response, json=runs)

    async with open_page() as page:
        await page.route(re.compile(r"/workflow-runs\?"), priced)
        await page.keyboard.press("g")
        await page.keyboard.press("r")
        numbers = page.locator("tr[data-row]", has=page.locator(f'a[href$="{failed}"]')).locator("td.num")
        await expect(numbers.last).to_have_text("$0.00036")
        cut = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.innerText)"
        assert await numbers.evaluate_all(cut) == []


async def test_without_the_link_the_console_asks_for_its_token(browser: Browser, server: Serve, failed: str):
    page = await browser.new_page(locale="zh-TW")
    await page.goto(f"{server.url}/console/runs/{failed}")
    await expect(page.get_by_role("heading", name="登入")).to_be_visible()
    await page.get_by_label("權杖").fill("wrong")
    await page.get_by_role("button", name="登入").click()
    await expect(page.get_by_role("alert")).to_contain_text("無效")
    await page.get_by_label("權杖").fill(link(server))
    await page.get_by_role("button", name="登入").click()
    await expect(page.get_by_role("heading", name="Oolong, 150 g")).to_be_visible()
    await page.close()


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_on_any_page(
    open_page: OpenPage, server: Serve, failed: str, context: dict[str, object]
):
    paths = (
        "/apps",
        "/runs",
        f"/runs/{failed}",
        f"/runs/{failed}?view=waterfall&step=llm",
        f"/runs/{failed}?view=text",
    )
    # the script of axe is not of this server
    async with open_page(bypass_csp=True, reduced_motion="reduce", **context) as page:
        for path in paths:
            await page.goto(re.sub(r"/console.*", f"/console{path}", page.url))
            await page.locator("table, .stream, form .main-b").first.wait_for()
            await no_fault(page, WEB)
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_a_chosen_step_stays_chosen_in_all_views(open_page: OpenPage, failed: str):
    async with open_page(f"/runs/{failed}") as page:
        panel = page.get_by_role("complementary", name="Chosen step")
        node = page.get_by_role("group", name=re.compile("Graph")).get_by_role("button", name=re.compile("Compute"))
        await node.focus()
        await page.keyboard.press("ArrowLeft")
        await expect(panel.get_by_role("heading", name="Write")).to_be_visible()
        await expect(panel.get_by_text("Oolong, 150 g").first).to_be_visible()
        assert "step=llm" in page.url
        await page.get_by_text("Waterfall", exact=True).click()
        await expect(panel.get_by_role("heading", name="Write")).to_be_visible()
        await page.reload()
        await expect(panel.get_by_role("heading", name="Write")).to_be_visible()


async def test_a_run_goes_on_in_the_page_when_its_server_is_killed(open_page: OpenPage, server: Serve):
    async with open_page(amiss="ERR_|Failed to load") as page:
        run = submit(server, "rounds")
        await page.goto(f"{server.url}/console/runs/{run}")
        container = page.get_by_role("button", name=re.compile("Each row"))
        await expect(container).to_contain_text(re.compile(r"(?:[5-9]|1\d) of 30"))
        server.kill()
        await expect(page.get_by_text("Reconnecting. Runs go on at the server.")).to_be_visible()
        await expect(container).to_be_visible()
        server.__enter__()
        await expect(page.locator(".runhead .st")).to_have_text("Succeeded")
        await expect(page.get_by_text("Reconnecting.")).to_have_count(0)
        await expect(container).to_contain_text("30 of 30")
        await _failed_round(page)


async def _failed_round(page: Page) -> None:
    """The round that failed is shown without a search for it."""
    await expect(page.get_by_role("group", name="Rounds of Each row")).to_contain_text("4 of 30")
    await page.get_by_role("region", name="Steps").get_by_role("link", name="Check the row").click()
    panel = page.get_by_role("complementary", name="Chosen step")
    await expect(panel.get_by_text("ValueError: row 3 is empty").first).to_be_visible()


def compressed(files: Iterable[Path]) -> int:
    """Bytes of all of them."""
    return sum(len(gzip.compress(file.read_bytes())) for file in files)


@pytest.mark.parametrize(("path", "most"), [("/apps", 60_000), ("/runs", 66_000), ("/knowledge", 66_000)])
async def test_a_page_loads_its_own_files_only(open_page: OpenPage, path: str, most: int):
    async with open_page("/waiting") as page:
        await page.goto(re.sub(r"/console.*", f"/console{path}", page.url))
        await page.locator("table, .empty").first.wait_for()
        loaded = await page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        names = {name.rpartition("/")[2] for name in loaded if "/assets/" in name}
        assert compressed(STATIC / "assets" / name for name in names) < most


async def test_all_pages_are_small(built: Path):
    files = [file for file in STATIC.rglob("*") if file.is_file()]
    assert compressed(files) < LARGEST
    assert sum(file.stat().st_size for file in files) < 500_000


async def test_rounds_of_a_container_in_a_container_are_chosen_one_by_one(open_page: OpenPage, server: Serve):
    run = submit(server, "nested")
    ended(server, "nested", run)
    async with open_page(f"/runs/{run}?step=cell", bypass_csp=True) as page:
        rows = page.get_by_role("group", name="Rounds of Each row")
        cells = page.get_by_role("group", name="Rounds of Each cell")
        await expect(rows).to_contain_text("3 of 3")
        await expect(cells).to_contain_text("2 of 2")
        panel = page.get_by_role("complementary", name="Chosen step")
        await expect(panel.get_by_role("group", name="Output")).to_contain_text("31")
        await rows.get_by_role("button", name="Round before").press("Enter")
        await expect(rows).to_contain_text("2 of 3")
        await expect(cells).to_contain_text("2 of 2")  # the one that failed
        await expect(panel.get_by_text("ValueError: cell 21 is empty").first).to_be_visible()
        await cells.get_by_role("button", name="Round before").press("Enter")
        await expect(panel.get_by_role("group", name="Output")).to_contain_text("20")
        assert "round=2.1" in page.url
        await page.reload()
        await expect(panel.get_by_role("group", name="Output")).to_contain_text("20")
        await page.get_by_role("region", name="Steps").get_by_role("link", name="Pair").click()
        await expect(cells).to_contain_text("1 of 2")
        legend = page.get_by_role("list", name="Legend of the graph")
        await expect(legend).to_contain_text("Done")
        await no_fault(page, WEB)
