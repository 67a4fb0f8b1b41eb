"""The console's page of what runs cost: its figures are those of the API, as a chart, as bars and as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage, ended, submit
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def ran(server: Serve) -> dict[str, int]:
    """Apps by the tokens of their runs; each has had one at least."""
    for name in ("failing", "versions"):
        ended(server, name, submit(server, name, query="Oolong, 150 g"))
    tokens: dict[str, int] = {}
    for name, app in server.apps.items():
        headers = {"Authorization": f"Bearer {app['key']}"}
        stats = httpx.get(f"{server.url}/api/v1/stats?by=app", headers=headers, timeout=60).json()
        tokens[name] = stats["total"]["tokens"]
    assert tokens["failing"] > 0
    return tokens


async def test_figures_are_those_of_the_api(open_page: OpenPage, ran: dict[str, int]):
    async with open_page("/apps") as page:
        await page.locator("#main").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("c")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Cost")
        await expect(page.locator(".tiles")).to_contain_text("$0")
        # demo models cost nothing, so there is no column until another figure is chosen
        await expect(page.locator(".chart rect")).to_have_count(0)
        await page.get_by_text("Tokens", exact=True).and_(page.locator("label")).click()
        await expect(page.locator(".legend")).to_contain_text(f"failing {ran['failing']:,}")
        await expect(page.get_by_role("img", name="Tokens by day and app")).to_be_visible()
        await expect(page.locator(".chart rect").first).to_be_visible()
        apps = page.get_by_role("region", name="Apps", exact=True)
        await expect(apps.get_by_role("link", name="failing")).to_be_visible()
        await expect(apps).to_contain_text(f"{ran['failing']:,}")
        await expect(page.get_by_role("region", name="Users", exact=True)).to_contain_text("ann")
        await page.get_by_text("7 days").click()
        await expect(page.locator(".tiles")).to_contain_text(f"{sum(ran.values()):,}")
        await page.get_by_text("Figures by day").click()
        await expect(page.get_by_role("region", name="Figures by day").get_by_role("row")).to_have_count(8)
        assert "days=7" in page.url
        assert "show=tokens" in page.url

        async with page.expect_download() as started:
            await page.get_by_role("button", name="CSV").click()
        rows = _rows(await (await started.value).path())
        by_app = {row["label"]: int(row["tokens"]) for row in rows if row["by"] == "app"}
        assert by_app["failing"] == ran["failing"]
        assert sum(row["by"] == "day" for row in rows) == 7


def _rows(file: Path) -> list[dict[str, str]]:
    text = file.read_text("utf-8")
    assert text.startswith("\ufeff")  # else Excel reads it in the system's own encoding
    return list(csv.DictReader(text.removeprefix("\ufeff").splitlines()))


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_in_cost(open_page: OpenPage, context: dict[str, object]):
    async with open_page("/cost?show=tokens", bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.locator(".chart rect").first.wait_for()
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
