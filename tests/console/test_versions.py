"""The console's versions of an app: what changed, drawn and by line, and the way back to an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browsers import no_fault
from tests.cli.flows import code, field, flow, llm
from tests.console.conftest import PHONE, WEB, OpenPage, publish
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _version(file: Path, prompt: str, *nodes: dict[str, Any]) -> Path:
    writes = {**llm(), "prompt_template": [{"role": "user", "text": prompt}]}
    return flow(file, writes, *nodes, variables=[field("query")])


@pytest.fixture
def tea(server: Serve, tmp_path: Path) -> str:
    """The address of the versions of a new app. From the first to the second, a line of a prompt changes, and one node
    takes the place of another."""
    old = {**code("def main():\n    return {'ok': 'x'}", ok="string"), "id": "old", "title": "浮水印"}
    new = {**code("def main():\n    return {'ok': 'x'}", ok="string"), "id": "new", "title": "Check"}
    first = _version(tmp_path / "first.yml", "You write about tea.\nAt most 100 words.\n{{#start.query#}}", old)
    second = _version(tmp_path / "second.yml", "You write about tea.\nFrom 60 to 100 words.\n{{#start.query#}}", new)
    for file in (first, second):
        publish(server, "versions", file)
    return f"/apps/{server.apps['versions']['app_id']}/versions"


async def test_what_changed_is_drawn_and_listed_and_can_be_undone(open_page: OpenPage, server: Serve, tea: str):
    async with open_page(tea) as page:
        bar = page.locator(".viewbar")
        for count in ("+ 1 added", "~ 1 changed", "− 1 removed"):
            await expect(bar).to_contain_text(count)
        await expect(page.locator(".canvas .e.add")).to_have_count(2)
        await expect(page.locator(".canvas .e.gone")).to_have_count(2)
        graph = page.get_by_role("group", name="Graph of both versions")
        await expect(graph.get_by_role("button", name="浮水印")).to_contain_text("removed")
        await graph.get_by_role("button", name="Write").press("Enter")
        lines = page.get_by_role("region", name="Changes of Write")
        await expect(lines).to_be_focused()
        await expect(lines.get_by_role("deletion")).to_have_text("At most 100 words.")
        await expect(lines.get_by_role("insertion")).to_have_text("From 60 to 100 words.")
        await expect(lines.get_by_role("insertion").locator("b")).to_have_text("From 60 to")

        listed = page.get_by_role("navigation", name="Versions, newest first").get_by_role("link")
        await expect(listed.filter(has_text="v3")).to_contain_text("current")
        await page.get_by_role("button", name="Roll back to v2").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("calls run v2. Runs that have begun continue in v3")
        await dialog.get_by_role("button", name="Roll back to v2").click()
        await expect(dialog).to_be_hidden()
        await expect(listed.filter(has_text="v2")).to_contain_text("current")
        assert _current(server, tea) == 2
        await page.get_by_role("button", name="Undo").click()
        await expect(listed.filter(has_text="v3")).to_contain_text("current")
        assert _current(server, tea) == 3


def _current(server: Serve, path: str) -> int:
    headers = {"Authorization": f"Bearer {server.apps['versions']['key']}"}
    versions = httpx.get(f"{server.url}/api/v1/workflows/{path.split('/')[2]}/versions", headers=headers, timeout=60)
    return next(version["number"] for version in versions.json()["data"] if version["current"])


async def test_a_refused_change_of_version_says_why(open_page: OpenPage, tea: str):
    async with open_page(tea, amiss="409") as page:
        refusal = {"code": "version_not_loadable", "message": "This version can no longer be loaded.", "status": 409}
        await page.route("**/pin", lambda route: route.fulfill(status=409, json=refusal))
        await page.get_by_role("button", name="Roll back to v2").click()
        await page.get_by_role("dialog").get_by_role("button", name="Roll back to v2").click()
        await expect(page.get_by_role("alert")).to_have_text("This version can no longer be loaded.")


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_in_versions(open_page: OpenPage, tea: str, context: dict[str, object]):
    async with open_page(tea, bypass_csp=True, reduced_motion="reduce", **context) as page:
        await _faultless(page)
        await page.get_by_role("button", name="Roll back to v2").click()
        await _faultless(page)


async def _faultless(page: Page) -> None:
    await page.locator(".change").first.wait_for()
    await no_fault(page, WEB)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
