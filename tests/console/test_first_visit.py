"""The first visit to the console: from the printed link to the failed node and its cost, and by single sign-on.

The screenshots of docs/console.md are taken on the way:

    SCREENSHOTS=docs/images uv run pytest -q -n0 tests/console/test_first_visit.py
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.cli.flows import code, environ, field, flow, llm
from tests.console.conftest import OpenPage
from tests.models.server import ModelServer, piece, usage
from tests.oidc.provider import Provider
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOTS = os.environ.get("SCREENSHOTS")
TEXT = "Oolong from the high mountains of Taiwan: floral, buttery, with a finish that stays."
STOCK = """def main(text):
    stock = {}
    return {'left': str(stock['oolong'])}
"""


def product_text(file: Path) -> Path:
    """Writes a text by a model that has a price, then fails."""
    model = {"provider": "openai", "name": "gpt-4o", "mode": "chat", "completion_params": {}}
    prompt = [{"role": "user", "text": "Write one sentence that sells {{#start.query#}}."}]
    write = {**llm(), "title": "Write the text", "model": model, "prompt_template": prompt}
    check = {**code(STOCK, {"text": ("llm", "text")}, left="string"), "title": "Check the stock"}
    product = field("query", required=True, label="Product")
    outputs = {"text": ("llm", "text"), "left": ("code", "left")}
    return flow(file, write, check, variables=[product], outputs=outputs, name="Product text")


async def shot(page: Page, name: str) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"console-{name}.png", animations="disabled")


async def tab_to(page: Page, target: Locator) -> None:
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("the focus does not get there")


async def test_from_the_printed_link_to_the_failed_node_and_its_cost_by_keyboard(open_page: OpenPage, tmp_path: Path):
    model = ModelServer()
    model.say(*(piece(f"{word} ") for word in TEXT.split()), piece(finish="stop"), usage(prompt=1200, completion=480))
    async with await asyncio.start_server(model.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        credentials = environ(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        with Serve(tmp_path, [product_text(tmp_path / "flow.yml")], credentials) as server:
            size = {"width": 1100, "height": 700}
            async with open_page(server=server, viewport=size, reduced_motion="reduce") as page:
                await _visit(page)


async def _visit(page: Page) -> None:
    assert "token" not in page.url
    app = page.get_by_role("link", name="Product text", exact=True)
    await app.wait_for()
    await shot(page, "apps")
    await page.keyboard.press("j")
    await expect(app).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Product", exact=True)).to_be_focused()
    await page.keyboard.type("Oolong, 150 g")
    await page.keyboard.press("Enter")
    result = page.get_by_role("region", name="Result")
    await expect(result.get_by_role("alert")).to_contain_text("KeyError: 'oolong'")
    await shot(page, "form")
    await tab_to(page, result.get_by_role("link", name="Open the run"))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Oolong, 150 g")).to_be_visible()
    panel = page.get_by_role("complementary", name="Chosen step")
    await expect(panel.get_by_role("heading", name="Check the stock")).to_be_visible()
    await expect(panel.get_by_text("KeyError: 'oolong'").first).to_be_visible()
    await expect(page.locator(".facts > div", has_text="Cost")).to_contain_text("$0.0078")
    steps = page.get_by_role("region", name="Steps")
    await expect(steps.get_by_role("row", name=re.compile("Write the text"))).to_contain_text("$0.0078")
    await shot(page, "run")


async def test_single_sign_on_leads_to_the_page_that_was_opened(built: Path, browser: Browser, tmp_path: Path):
    with Provider([{"sub": "ada"}]) as provider:
        settings = environ(
            HEADRACE_OIDC_ISSUER=provider.url,
            HEADRACE_OIDC_AUDIENCE="headrace",
            HEADRACE_OIDC_DEFAULT_PERMISSIONS="read",
            HEADRACE_OIDC_CLIENT_ID="console",
            HEADRACE_OIDC_CLIENT_SECRET="secret",
        )
        with Serve(tmp_path, [flow(tmp_path / "flow.yml")], settings) as server:
            page = await browser.new_page(locale="en-US")
            await page.route(re.compile(r"^https://"), lambda route: route.abort())  # the provider's style sheet
            await page.goto(f"{server.url}/console/runs?status=failed")
            button = page.get_by_role("link", name="Sign in with your organisation")
            await button.click()
            await page.get_by_role("button", name="Deny").click()
            await expect(page.get_by_role("alert")).to_contain_text("did not succeed")
            await button.click()
            await page.get_by_role("button", name="ada").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
            assert page.url == f"{server.url}/console/runs?status=failed"
            await page.keyboard.press("?")
            await page.get_by_role("button", name="Sign out").click()
            await expect(button).to_be_visible()
            await page.reload()
            await expect(button).to_be_visible()
            await page.close()
