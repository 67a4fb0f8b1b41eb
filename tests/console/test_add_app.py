"""A workflow file that is dropped on the console: checked first, then served."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browsers import no_fault
from tests.cli.flows import field, flow, llm
from tests.console.conftest import PHONE, WEB, OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_a_file_is_checked_and_then_served(open_page: OpenPage, tmp_path: Path, context: dict[str, object]):
    good = flow(tmp_path / "綠茶.yml", llm(), variables=[field("query")])
    bad = flow(tmp_path / "bad.yml", {"id": "odd", "type": "no-such-type", "title": "Odd one"})
    async with open_page(bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.get_by_role("link", name="Add an app").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Add an app")
        serve = page.get_by_role("button", name="Serve")

        await page.locator("input[type=file]").set_input_files(
            {"name": "empty.yml", "mimeType": "application/yaml", "buffer": b"a: [1"}
        )
        await expect(page.get_by_text("This file cannot be served")).to_be_visible()
        await expect(serve).to_have_count(0)

        await page.locator("input[type=file]").set_input_files(bad)
        await expect(page.get_by_role("list", name="Problems")).to_contain_text("no-such-type")
        await no_fault(page, WEB)

        await page.locator("input[type=file]").set_input_files(good)
        await expect(page.get_by_text("No problems.")).to_be_visible()
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await serve.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("綠茶")
        await expect(page.get_by_label("query")).to_be_visible()
