"""The page of a form in Chromium: for everybody, at every width, without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Route, expect

from headrace.api.form_page.page import Problem, form_page, message_page, policy
from tests.browsers import build, chromium, no_fault, require_browser
from tests.form_page.forms import form

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web" / "console"  # where axe is installed
URL = "https://flows.example.com/form/token"

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEMS = [Problem("Please fill in this field.", "tone_of_voice"), Problem("Please choose the files again.")]
PAGES = {
    "form": form_page(form(), "en", expires_at=1705494029),
    "refused": form_page(form(), "zh-Hant", texts={"comment": "x" * 400}, problems=PROBLEMS),
    "thanks": message_page("zh-Hans", "thanks", "sent"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    require_browser()
    build(WEB, ROOT / "src" / "headrace" / "api" / "console" / "static", ROOT / "web" / "ui")
    async with chromium() as browser:
        yield browser


async def messages_of(page: Page, html: str) -> list[str]:
    """Shows a page as the server sends it. The messages of the browser's console."""
    messages: list[str] = []

    def note(message: ConsoleMessage) -> None:
        messages.append(message.text)

    async def respond(route: Route) -> None:
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy()}
        await route.fulfill(body=html, headers=headers)

    page.on("console", note)
    await page.route(URL, respond)
    await page.goto(URL)
    return messages


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["form", "refused"])
async def test_axe_finds_nothing(browser: Browser, name: str, context: dict[str, str]) -> None:
    async with await browser.new_context(bypass_csp=True, **context) as browser_context:
        page = await browser_context.new_page()
        await messages_of(page, PAGES[name])
        await no_fault(page, WEB)


@pytest.mark.parametrize("name", PAGES)
async def test_it_fits_360_pixels_without_scripts(browser: Browser, name: str) -> None:
    async with await browser.new_context(viewport={"width": 360, "height": 640}) as browser_context:
        page = await browser_context.new_page()
        messages = await messages_of(page, PAGES[name])
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        for control in await page.locator("input, select, textarea, button").all():
            box = await control.bounding_box()
            assert box is not None
            assert (box["x"] >= 0, box["x"] + box["width"] <= 360, box["height"] >= 44) == (True, True, True)
        assert await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == "704px"
        assert messages == []  # the policy has let the style through, and had nothing else to stop


async def test_the_keyboard_reaches_everything_in_order(browser: Browser) -> None:
    async with await browser.new_context() as browser_context:
        page = await browser_context.new_page()
        await messages_of(page, PAGES["form"])
        names: list[str] = []
        for _ in range(10):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            names.append(await focused.evaluate("element => element.id || element.value"))
            assert await focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    inputs = ["comment", "priority", "tone_of_voice", "page", "pictures", "link"]
    assert names == [*(f"input-{name}" for name in inputs), "approve", "change", "later", "reject"]


async def test_the_browser_sends_the_button_and_the_values(browser: Browser) -> None:
    async with await browser.new_context(java_script_enabled=False) as browser_context:
        page = await browser_context.new_page()
        html = PAGES["form"].replace(" required", "")
        await messages_of(page, html)
        await page.get_by_label("comment").fill("Fine 👍")
        await page.get_by_label("priority").select_option("<high>")
        await page.get_by_label("page", exact=True).set_input_files(Path(__file__))
        async with page.expect_request(lambda request: request.method == "POST") as sent:
            await page.get_by_role("button", name="Ask for <changes>").click()
        body = (await sent.value).post_data_buffer or b""
        for name, value in {"input-comment": "Fine 👍", "input-priority": "<high>", "action": "change"}.items():
            assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in body
        assert b'filename="test_browser.py"' in body
        await expect(page.get_by_label("comment")).to_be_visible()
