"""The built page in every language, light and dark, on a phone, by keyboard, and with a screen reader."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.product_studio.page import (
    CANCEL,
    GENERATE,
    SAVE,
    Opened,
    button,
    description,
    finished,
    generate,
    no_serious_fault,
)
from tests.product_studio.studio import NAME

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_three_languages_that_are_remembered(opened: Opened):
    async with opened("quick") as page:
        html = page.locator("html")
        await expect(html).to_have_attribute("lang", "zh-Hant")
        for language, heading, choice in (
            ("zh-Hans", "新增一个产品", "语言"),
            ("en", "Add a product", "Language"),
        ):
            await page.get_by_role("combobox").first.select_option(language)
            await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
            await expect(page.get_by_label(choice)).to_have_value(language)
            await expect(html).to_have_attribute("lang", language)
            await expect(page).to_have_title(heading)
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Add a product")
        await page.get_by_label("Title").fill("A product")
        await button(page, "Generate product details with AI").click()
        await expect(page.get_by_text("Done. Please review the details")).to_be_visible()
        assert not re.search("[\u4e00-\u9fff]", await page.get_by_role("button").first.inner_text())


async def test_it_fits_a_phone(opened: Opened):
    async with opened("quick", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
        await page.get_by_label("產品名稱").fill("W" * 30)
        await button(page, GENERATE).tap()
        await finished(page)
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        for name in (GENERATE, SAVE):
            box = await button(page, name).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            assert box["height"] >= 44
        await no_serious_fault(page)


async def background(page: Page) -> int:
    """How light the page is, from 0 to 765."""
    colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


async def test_dark_follows_the_system_or_a_choice_that_is_remembered(opened: Opened):
    async with opened("quick", color_scheme="dark") as page:
        assert await background(page) < 150
        await page.get_by_label("外觀").select_option("light")
        assert await background(page) > 600
        await page.reload()
        await expect(page.get_by_label("外觀")).to_have_value("light")
        assert await background(page) > 600
        await page.get_by_label("外觀").select_option("auto")
        assert await background(page) < 150
        await page.emulate_media(color_scheme="light")
        assert await background(page) > 600
        await page.get_by_label("外觀").select_option("dark")
        assert await background(page) < 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(opened: Opened, scheme: str):
    async with opened("quick", color_scheme=scheme, reduced_motion="reduce") as page:
        await expect(page.get_by_text("還沒有圖片").first).to_be_visible()
        await no_serious_fault(page)
        await generate(page)
        await finished(page)
        await no_serious_fault(page)
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()
        await no_serious_fault(page)


async def test_axe_finds_nothing_serious_while_it_generates(opened: Opened):
    async with opened("slow", reduced_motion="reduce") as page:
        await generate(page)
        await expect(description(page)).to_have_value(re.compile("^【示"))
        await no_serious_fault(page)
        await button(page, CANCEL).click()


async def test_all_of_it_by_keyboard(opened: Opened):
    async with opened("slow") as page:
        keys = page.keyboard

        async def to(target: Any) -> None:
            for _ in range(12):
                if await target.evaluate("element => element === document.activeElement"):
                    break
                await keys.press("Tab")
            await expect(target).to_be_focused()
            shown = "element => [element, element.nextElementSibling].some("
            shown += "each => each && getComputedStyle(each).outlineStyle !== 'none')"
            assert await target.evaluate(shown)

        await to(page.get_by_label("產品名稱"))
        await keys.insert_text(NAME)
        await to(button(page, GENERATE))
        await keys.press("Enter")
        await expect(button(page, CANCEL)).to_be_focused()
        await expect(description(page)).to_have_value(re.compile("^【示"))
        await keys.press("Space")
        await expect(button(page, GENERATE)).to_be_focused()
        await to(description(page))
        await keys.insert_text("介紹")
        await to(page.get_by_label("選擇圖片"))
        await to(button(page, SAVE))
        await keys.press("Enter")
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()
        await expect(page.get_by_label("產品名稱")).to_be_focused()
