"""The page of runs: days and versions as filters, the file of what is shown, and a page that is left open."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage, ended, submit
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST = 2000  # as run-list.ts has it


@pytest.fixture(scope="module")
def line(server: Serve) -> dict[str, Any]:
    """A failed run, as the list of the API has it."""
    run = submit(server, "failing", query="Sencha, =1+1")
    ended(server, "failing", run)
    headers = {"Authorization": f"Bearer {server.apps['failing']['key']}"}
    url = f"{server.url}/api/v1/workflow-runs?keyword={run}&include=app,version,cost,error_node,input"
    [listed] = httpx.get(url, headers=headers, timeout=60).json()["data"]
    return listed


async def test_a_day_is_a_filter(open_page: OpenPage, line: dict[str, Any]):
    day = datetime.fromtimestamp(line["created_at"], UTC).date().isoformat()
    async with open_page(f"/runs?app={line['app_id']}&time=24h") as page:
        column = page.get_by_role("navigation", name="Runs by day").get_by_role("link", name=day)
        await expect(column).to_have_accessible_name(re.compile(r": [1-9]\d* ended, [1-9]\d* failed"))
        await column.click()
        await expect(column).to_have_attribute("aria-current", "true")
        assert f"day={day}" in page.url
        assert "time=" not in page.url
        await expect(page.locator(f'a[href$="{line["id"]}"]')).to_be_visible()
        await column.focus()
        for key in ("ArrowLeft", "ArrowLeft", "Enter"):  # the day before may have runs of other tests, at midnight
            await page.keyboard.press(key)
        await expect(page.get_by_text("No run matches")).to_be_visible()
        await page.get_by_label("Time").select_option("")
        await expect(page.locator(f'a[href$="{line["id"]}"]')).to_be_visible()
        assert "day=" not in page.url


async def test_a_version_is_a_filter(open_page: OpenPage, line: dict[str, Any]):
    async def two(route: Route) -> None:
        versions = [{"id": line["app_id"], "number": 2}, {"id": line["workflow_id"], "number": 1}]
        await route.fulfill(json={"data": versions, "has_more": False})

    async with open_page(f"/runs?app={line['app_id']}") as page:
        await page.route(re.compile(r"/versions\?"), two)
        await page.reload()
        row = page.locator(f'a[href$="{line["id"]}"]')
        await expect(row).to_be_visible()
        version = page.get_by_role("combobox", name=re.compile("^Version"))
        await version.select_option("v2")
        await expect(page.get_by_text("No run matches")).to_be_visible()
        await version.select_option("v1")
        await expect(row).to_be_visible()
        assert f"version={line['workflow_id']}" in page.url


async def test_what_is_shown_is_exported(open_page: OpenPage, line: dict[str, Any]):
    async with open_page(f"/runs?q={line['id']}") as page:
        async with page.expect_download() as started:
            await page.get_by_role("button", name="CSV").click()
        saved = _lines(await (await started.value).path())
        assert saved[0].startswith("\ufeffid,")  # else Excel reads it in the system's own encoding
        [row] = csv.DictReader([saved[0].removeprefix("\ufeff"), *saved[1:]])
        assert (row["id"], row["status"], row["input"]) == (line["id"], "failed", "Sencha, =1+1")
        assert row["error_node_title"] == "Compute"
        async with page.expect_download() as started:
            await page.get_by_role("button", name="JSONL").click()
        [text] = _lines(await (await started.value).path())
        assert json.loads(text) == line


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines()


async def test_a_list_that_is_left_open_is_read_again(open_page: OpenPage, line: dict[str, Any]):
    """Else it would grow for ever."""
    at = line["created_at_ms"]
    runs = [{**line, "id": f"run-{number}", "created_at_ms": at + number} for number in range(1, MOST + 2)]
    news = "".join(f"event: run\nid: f.{number}\ndata: {json.dumps(run)}\n\n" for number, run in enumerate(runs))
    is_listed = asyncio.Event()

    async def many(route: Route) -> None:
        if is_listed.is_set():
            await route.continue_()
        else:
            await is_listed.wait()
            await route.fulfill(content_type="text/event-stream", body=news)

    async with open_page("/apps", amiss="Failed to load") as page:
        await page.route(re.compile(r"/workflow-runs/events"), many)
        await page.keyboard.press("g")
        await page.keyboard.press("r")
        row = page.locator(f'a[href$="{line["id"]}"]')
        await expect(row).to_be_visible()
        async with page.expect_response(re.compile(r"/workflow-runs\?")):
            is_listed.set()
        await expect(row).to_be_visible()


async def test_apps_show_what_ran_today(open_page: OpenPage, line: dict[str, Any]):
    async def today(route: Route) -> None:
        group = {
            "key": line["app_id"],
            "label": "failing",
            "runs": 1234,
            "failed": 56,
            "tokens": 7,
            "p50": 1,
            "p95": 2.5,
        }
        stats = {"data": [{**group, "price": "0.125", "currency": "USD"}], "total": group}
        await route.fulfill(json=stats)

    async with open_page("/runs") as page:
        await page.route(re.compile(r"/stats\?"), today)
        await page.keyboard.press("g")
        await page.keyboard.press("a")
        row = page.get_by_role("row", name=re.compile("failing"))
        for text in ("1,234", "56", "2.5 s", "$0.13"):
            await expect(row.get_by_role("cell", name=text, exact=True)).to_be_visible()


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_in_days(open_page: OpenPage, line: dict[str, Any], context: dict[str, object]):
    day = datetime.fromtimestamp(line["created_at"], UTC).date().isoformat()
    async with open_page(f"/runs?day={day}", bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.locator(".days a").first.wait_for()
        await page.locator("tr[data-row]").first.wait_for()
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
