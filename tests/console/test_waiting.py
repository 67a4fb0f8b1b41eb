"""The console's page of forms that wait, and a run that waits."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Route, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage, submit
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_form_is_found_answered_and_gone(open_page: OpenPage, server: Serve) -> None:
    run = submit(server, "asks", product="tea")
    async with open_page() as page:
        await page.get_by_role("heading", name="Apps").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("w")
        row = page.get_by_role("row").filter(has=page.locator(f'a[href*="{run}"]'))
        await expect(row).to_contain_text("Waiting")
        await expect(row).to_contain_text("asks")
        await expect(row).to_contain_text("1 d 23 h")

        await row.get_by_role("link", name="Approve the text", exact=True).click()
        panel = page.get_by_role("complementary")
        await expect(panel.get_by_role("heading", name="Approve the text")).to_be_visible()
        await expect(panel.get_by_text("Waiting")).to_be_visible()
        async with page.context.expect_page() as answering:
            await page.get_by_role("link", name="Answer").click()
        form = await answering.value
        await expect(form.get_by_text("Red tea")).to_be_visible()
        await form.get_by_label("comment").fill("Good.")
        await form.get_by_role("button", name="Approve").click()
        await expect(form.get_by_role("heading", name="Thank you")).to_be_visible()
        await form.close()

        await expect(page.get_by_role("link", name="Answer")).to_have_count(0)
        await expect(page.locator(".runhead").get_by_text("Succeeded")).to_be_visible()
        await page.goto(f"{server.url}/console/waiting")
        await expect(page.locator(f'a[href*="{run}"]')).to_have_count(0)


async def test_more_forms_than_a_page_of_the_api(open_page: OpenPage) -> None:
    def form(number: int) -> dict[str, object]:
        id_ = f"form-{number}"
        texts = {"workflow_run_id": id_, "app_name": "asks", "node_id": "ask", "node_title": f"Form {number}"}
        return {"id": id_, "form_token": None, "created_at": 1, "expires_at": 4_000_000_000, **texts}

    async def forms(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        first, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        numbers = range(first, min(120, first + limit))
        cursor = str(numbers.stop) if numbers.stop < 120 else None
        await route.fulfill(json={"data": [*map(form, numbers)], "next_cursor": cursor})

    async with open_page() as page:
        await page.route("**/api/v1/forms?*", forms)
        await page.keyboard.press("g")
        await page.keyboard.press("w")
        rows, more = page.locator("tr[data-row]"), page.get_by_role("button", name="Show more")
        for shown in (50, 100):
            await expect(rows).to_have_count(shown)
            await more.click()
        await expect(rows).to_have_count(120)
        await expect(more).to_have_count(0)


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing(open_page: OpenPage, server: Serve, context: dict[str, object]) -> None:
    run = submit(server, "asks", product="tea")
    async with open_page("/waiting", bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.locator(f'a[href*="{run}"]').wait_for()
        await no_fault(page, WEB)
        await page.goto(f"{server.url}/console/runs/{run}")
        await page.get_by_role("link", name="Answer").wait_for()
        await no_fault(page, WEB)
