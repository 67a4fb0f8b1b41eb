"""What the pages look like where names are long, on a phone too, and where a step failed."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.console.conftest import PHONE, OpenPage, ended, submit
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "<b>\u202e\u7d05\u8336" + "W" * 10_000


async def _rename(page: Page) -> None:
    """Gives the first app of the list a hostile name."""

    async def renamed(route: Route) -> None:
        response = await route.fetch()
        body = await response.json()
        body["data"][0]["name"] = LONG
        await route.fulfill(response=response, json=body)

    await page.route(re.compile(r"/api/v1/apps(\?|$)"), renamed)


@pytest.mark.parametrize("context", [{}, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("path", ["/apps", "/runs"])
async def test_no_name_is_wider_than_the_page(open_page: OpenPage, path: str, context: dict[str, object]):
    async with open_page("/waiting", **context) as page:
        await _rename(page)
        await page.goto(page.url.replace("/waiting", path))
        await page.locator("option", has_text="<b>").first.wait_for(state="attached")
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_a_form_that_waits_is_answered_below_its_title_on_a_phone(open_page: OpenPage, server: Serve):
    run = submit(server, "asks", product="tea")
    async with open_page("/waiting", **PHONE) as page:
        row = page.get_by_role("row").filter(has=page.locator(f'a[href*="{run}"]'))
        title = await row.get_by_role("link", name="Approve the text", exact=True).bounding_box()
        answer = await row.get_by_role("link", name="Answer").bounding_box()
        assert title is not None
        assert answer is not None
        assert answer["y"] > title["y"]


async def test_the_legend_of_a_graph_shows_a_failure_as_the_list_does(open_page: OpenPage, server: Serve):
    run = submit(server, "failing", query="tea")
    ended(server, "failing", run)
    async with open_page(f"/runs/{run}") as page:
        mark = page.get_by_role("list", name="Legend of the graph").locator(".st.failed")
        await expect(mark).to_have_css("background-color", "rgba(0, 0, 0, 0)")
