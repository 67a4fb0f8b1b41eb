"""The console's page of keys: a key is made, used, rotated and revoked."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def shown(page: Page, title: str) -> str:
    """The new key that the page shows."""
    note = page.get_by_role("region", name=title)
    await expect(note).to_be_focused()
    return await note.locator("code").inner_text()


def get(server: Serve, key: str, path: str) -> httpx.Response:
    return httpx.get(server.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def statuses(server: Serve, *keys: str) -> list[int]:
    return [get(server, key, "/api/v1/apps").status_code for key in keys]


async def test_a_key_is_made_rotated_and_revoked(open_page: OpenPage, server: Serve):
    async with open_page() as page:
        await page.get_by_role("heading", name="Apps").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("k")
        await page.get_by_role("button", name="Make a key").click()
        await page.keyboard.type("night shift 🌙")
        await page.get_by_label("Only these apps").check()
        await page.get_by_role("button", name="Make the key").click()
        await expect(page.get_by_role("alert")).to_have_text("Choose at least one app.")
        await page.get_by_label("rounds", exact=True).check()
        await page.get_by_role("button", name="Make the key").click()
        first = await shown(page, "Key “night shift 🌙” is ready.")
        apps = get(server, first, "/api/v1/apps").json()["data"]
        assert [app["name"] for app in apps] == ["rounds"]
        assert get(server, first, "/api/v1/keys").status_code == 403

        row = page.get_by_role("row", name="night shift 🌙")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("rounds")
        await row.get_by_role("button", name="Rotate").click()
        await page.get_by_label("The old key stays valid").select_option("for 1 h")
        await page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
        await expect(page.get_by_text(first)).to_have_count(0)
        second = await shown(page, "Key “night shift 🌙” is ready.")
        assert statuses(server, first, second) == [200, 200]

        rotated = row.filter(has_text="rotated")
        await rotated.get_by_role("button", name="Revoke").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name="Revoke")).to_be_disabled()
        await dialog.get_by_label("Type night shift 🌙 to revoke the key").fill("night shift 🌙")
        await dialog.get_by_role("button", name="Revoke").click()
        await expect(row.filter(has_text="revoked")).to_have_count(1)
        assert statuses(server, first, second) == [401, 200]

        log = page.get_by_role("region", name="What happened")
        for change in ("made", "rotated", "revoked"):
            await expect(log.get_by_text(f"console {change} night shift 🌙").first).to_be_visible()
        await page.reload()
        await expect(row).to_have_count(2)
        await expect(page.get_by_text(second)).to_have_count(0)


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_on_the_page_of_keys(open_page: OpenPage, context: dict[str, object]):
    async with open_page("/keys", bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.get_by_label("Name", exact=True).fill("axe")
        await page.get_by_role("button", name="Make the key").click()
        await shown(page, "Key “axe” is ready.")
        await no_fault(page, WEB)
        await page.get_by_role("row", name="axe").first.get_by_role("button", name="Revoke").click()
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
