"""The console's page of triggers: they are listed, paused, resumed and started by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.browsers import no_fault
from tests.cli.flows import environ
from tests.console.conftest import PHONE, WEB, OpenPage
from tests.server.process import Serve
from tests.triggers.world import cron, triggered, webhook

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBSCRIPTION = {
    "id": "9a1c7c56-6f0e-4f43-8b8e-55a1f6f0e7d2",
    "name": "shop",
    "provider": "acme/shop_trigger/shop",
    "url": "https://headrace.example/triggers/plugin/Vn3kQm2xT9aLw8Rz1bYc5dEf",
    "manual": False,
    "status": "failing",
    "error": "Bad credentials",
    "created_at": 1_795_226_714,
    "expires_at": 4_000_000_000,
    "refresh_at": 3_999_996_400,
}


@pytest.fixture(scope="module")
def hooks(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server with an app that has triggers of each kind but a plugin's."""
    folder = tmp_path_factory.mktemp("hooks")
    file = folder / "hooks.yml"
    daily = cron("30 9 * * *", "Asia/Shanghai", title="Every morning")
    file.write_text(triggered(webhook(title="Order received"), daily, cron("nonsense", title="Never")))
    with Serve(folder, [file], environ()) as server:
        yield server


async def subscribed(page: Page, status: int = 200, body: Any = None) -> None:
    """The server's answer about subscriptions."""

    async def answer(route: Route) -> None:
        content = body if body is not None else {"data": [SUBSCRIPTION]}
        await route.fulfill(status=status, content_type="application/json", body=json.dumps(content))

    await page.route("**/api/v1/trigger-subscriptions", answer)


async def test_a_trigger_is_paused_resumed_and_started(open_page: OpenPage, hooks: Serve) -> None:
    async with open_page(server=hooks, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.get_by_role("heading", name="Apps").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("t")
        row = page.get_by_role("row").filter(has_text="Order received")
        await expect(row).to_contain_text("Webhook")
        await expect(row).to_contain_text("active")
        await row.get_by_role("button", name="Copy URL: Order received").click()
        assert f"{hooks.url}/triggers/webhook/" in await page.evaluate("navigator.clipboard.readText()")

        schedule = page.get_by_role("row").filter(has_text="Every morning")
        await expect(schedule).to_contain_text("09:30 Asia/Shanghai")
        await expect(page.get_by_role("row").filter(has_text="Never")).to_contain_text("never due")
        await schedule.get_by_role("button", name="Pause: Every morning").press("Enter")
        await expect(schedule).to_contain_text("paused")
        await expect(schedule).to_contain_text("30 9 * * *")
        await schedule.get_by_role("button", name="Resume: Every morning").click()
        await expect(schedule).to_contain_text("09:30 Asia/Shanghai")

        await row.get_by_role("button", name="Run now: Order received").click()
        await expect(page.locator(".runhead").get_by_text("Succeeded")).to_be_visible()
        await page.get_by_role("link", name="Triggers").first.click()
        await expect(row.get_by_role("link")).to_contain_text("Succeeded")


async def test_subscriptions_and_what_is_wrong_with_them(open_page: OpenPage, hooks: Serve) -> None:
    async with open_page(server=hooks, amiss="403") as page:
        await subscribed(page)
        await page.route(
            f"**/api/v1/trigger-subscriptions/{SUBSCRIPTION['id']}/refresh",
            lambda route: route.fulfill(
                status=403, content_type="application/json", body='{"code": "forbidden", "message": "Not yours."}'
            ),
        )
        await page.get_by_role("link", name="Triggers").first.click()
        row = page.get_by_role("row").filter(has_text="acme/shop_trigger/shop")
        await expect(row).to_contain_text("failing")
        await expect(row).to_contain_text("Bad credentials")
        await row.get_by_role("button", name="Renew: shop").click()
        await expect(page.get_by_text("Not yours.")).to_be_visible()


async def test_a_zone_that_the_browser_does_not_know(open_page: OpenPage, hooks: Serve) -> None:
    async def answer(route: Route) -> None:
        content = await (await route.fetch()).text()
        await route.fulfill(
            content_type="application/json", body=content.replace("Asia/Shanghai", "posix/Asia/Shanghai")
        )

    async with open_page(server=hooks) as page:
        await page.route("**/api/v1/triggers", answer)
        await page.goto(f"{hooks.url}/console/triggers")
        await expect(page.get_by_role("row").filter(has_text="Every morning")).to_contain_text("01:30 UTC")


async def test_somebody_with_some_apps_sees_their_triggers(open_page: OpenPage, hooks: Serve) -> None:
    async with open_page(server=hooks, amiss="403") as page:
        await subscribed(page, 403, {"code": "forbidden", "message": "Use a key for all of them."})
        await page.get_by_role("link", name="Triggers").first.click()
        await expect(page.get_by_role("row").filter(has_text="Order received")).to_be_visible()
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_no_triggers_and_no_answer(open_page: OpenPage, server: Serve) -> None:
    async with open_page("/triggers", amiss="500") as page:
        await expect(page.get_by_text("No app has triggers.")).to_be_visible()
        await subscribed(page, 500, {"code": "internal_server_error", "message": "The database is away."})
        await page.reload()
        await expect(page.get_by_role("alert")).to_contain_text("The database is away.")


@pytest.mark.parametrize(("locale", "title"), [("zh-TW", "觸發器"), ("zh-CN", "触发器")])
async def test_in_chinese(open_page: OpenPage, hooks: Serve, locale: str, title: str) -> None:
    async with open_page("/triggers", server=hooks, locale=locale) as page:
        await expect(page.get_by_role("heading", name=title)).to_be_visible()


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing(open_page: OpenPage, hooks: Serve, context: dict[str, object]) -> None:
    async with open_page(server=hooks, bypass_csp=True, reduced_motion="reduce", **context) as page:
        await subscribed(page)
        await page.goto(f"{hooks.url}/console/triggers")
        await page.get_by_role("row").filter(has_text="acme/shop_trigger/shop").wait_for()
        await no_fault(page, WEB)
