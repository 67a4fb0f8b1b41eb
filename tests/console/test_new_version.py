"""A workflow file that is dropped on an app in the console: checked, compared on the graph, then served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browsers import no_fault
from tests.cli.flows import code
from tests.console.conftest import PHONE, WEB, OpenPage, words
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

_DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const target = document.querySelector('td a.t[href*="/apps/"]') ?? document.body;
  target.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
_CHECK: dict[str, Any] = {
    **code("def main():\n    return {'ok': 'x'}", ok="string"),
    "id": "check",
    "title": "Check",
}


@pytest.fixture(scope="module")
def path(server: Serve) -> str:
    return f"/apps/{server.apps['update']['app_id']}"


async def test_a_file_dropped_on_a_page_of_an_app_is_compared_and_served(
    open_page: OpenPage, path: str, tmp_path: Path
):
    changed = words(tmp_path / "changed.yml", "?", _CHECK)
    async with open_page(path) as page:
        await page.get_by_label("query").wait_for()
        await page.evaluate(_DROP, ["notes.txt", "no workflow"])
        await page.evaluate(_DROP, ["changed.yml", changed.read_text("utf-8")])
        await expect(page.get_by_text("No problems.")).to_be_visible()
        change = page.get_by_role("region", name="Changes from the current version")
        await expect(change).to_contain_text("+ 1 added")
        await expect(change).to_contain_text("~ 1 changed")
        await change.get_by_role("group", name="Graph of both versions").get_by_role("button", name="Check").click()
        await expect(page.get_by_role("region", name="Changes of Check")).to_be_focused()
        lines = page.get_by_role("region", name="Changes of Mark")
        await expect(lines.get_by_role("insertion")).to_contain_text("text + '?'")
        await page.get_by_role("button", name="Serve as a new version").press("Enter")
        versions = page.get_by_role("navigation", name="Versions, newest first").get_by_role("link")
        await expect(versions.filter(has_text="current")).to_contain_text("v2")
        await page.evaluate(_DROP, ["changed.yml", changed.read_text("utf-8")])
        await expect(page.get_by_text("The app has a version of this content already")).to_be_visible()


async def test_a_file_dropped_in_the_list_of_apps_is_for_that_app(open_page: OpenPage, server: Serve):
    async with open_page() as page:
        first = page.locator("td a.t").first
        address = await first.get_attribute("href")
        await page.evaluate(_DROP, ["broken.yml", "a: [1"])
        await expect(page.get_by_text("This file cannot be served")).to_be_visible()
        await expect(page.get_by_role("button", name="Serve as a new version")).to_have_count(0)
        assert page.url == f"{server.url}{address}/versions/new"


@pytest.mark.parametrize(
    "context",
    [{}, {"color_scheme": "dark"}, PHONE, {"viewport": {"width": 360, "height": 740}, "locale": "zh-TW"}],
    ids=["light", "dark", "phone", "small"],
)
async def test_axe_finds_nothing_in_a_new_version(
    open_page: OpenPage, path: str, tmp_path: Path, context: dict[str, object]
):
    file = words(tmp_path / "other.yml", "…", _CHECK)
    async with open_page(f"{path}/versions/new", bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.locator("input[type=file]").set_input_files(file)
        await page.locator(".change").first.wait_for()
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
