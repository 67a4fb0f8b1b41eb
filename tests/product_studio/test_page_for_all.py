"""The built page in every language, light and dark, on a phone, by keyboard, and with a screen reader."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browsers import no_fault
from tests.product_studio.page import (
    AGAIN,
    GENERATE,
    SAVE,
    STOP,
    WEB,
    OpenPage,
    button,
    description,
    finished,
    generate,
    news,
    picture_id,
    title,
    writing,
)
from tests.product_studio.studio import NAME
from tests.sdk_contract.fault_server import Faults

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("locale", "lang", "heading"),
    [
        ("zh-HK", "zh-Hant", "新增一個產品"),
        ("zh-CN", "zh-Hans", "新增一个产品"),
        ("en-GB", "en", "Add a product"),
        ("fr", "en", "Add a product"),
    ],
)
async def test_the_first_visit_is_in_the_browser_s_language(open_page: OpenPage, locale: str, lang: str, heading: str):
    async with open_page("quick", locale=locale) as page:
        await expect(page.locator("html")).to_have_attribute("lang", lang)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await expect(page).to_have_title(f"{heading} · Product Studio")


async def test_a_chosen_language_is_remembered(open_page: OpenPage):
    async with open_page("quick") as page:
        await page.get_by_role("combobox", name="語言：繁體中文").select_option("en")
        await expect(page.get_by_role("combobox", name="Language: English")).to_have_value("en")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Add a product")
        assert not re.search("[\u4e00-\u9fff]", await page.locator("form").inner_text())
        await page.get_by_label("Product title").fill("A product")
        await page.keyboard.press("Enter")
        await expect(news(page)).to_contain_text("Description and picture are ready. Have a look")


async def test_the_labels_and_placeholders_are_those_of_the_tutorial(open_page: OpenPage):
    async with open_page("quick") as page:
        for field, placeholder in (
            (title(page), "Enter product title"),
            (description(page), "Enter product description"),
            (picture_id(page), "Enter product image Id"),
        ):
            await expect(field).to_have_attribute("placeholder", placeholder)
        await expect(button(page, "dify 自動生成產品資訊")).to_be_visible()


@pytest.mark.parametrize("width", [320, 390])
async def test_it_fits_a_phone(open_page: OpenPage, width: int):
    async with open_page("quick", viewport={"width": width, "height": 844}, has_touch=True, is_mobile=True) as page:
        await title(page).fill("W" * 30)
        await button(page, GENERATE).tap()
        await finished(page)
        for name in (AGAIN, SAVE):
            box = await button(page, name).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 844  # in view without scrolling
            assert box["height"] >= 44
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        await no_fault(page, WEB)


async def places(page: Page) -> list[float]:
    """How far down the parts of the form are."""
    parts = [page.locator(part) for part in (".go", ".three", ".say", "#description", ".pic >> nth=0", ".acts")]
    boxes = [await part.bounding_box() for part in parts]
    return [box["y"] for box in boxes if box is not None]


@pytest.mark.parametrize("width", [1200, 390])
async def test_nothing_jumps(open_page: OpenPage, faults: tuple[str, Faults], width: int):
    refused = {"status": 401, "body": {"code": "unauthorized", "message": "no", "status": 401}}
    async with open_page("faulty", "Generation failed", viewport={"width": width, "height": 1200}) as page:
        before = await places(page)
        assert len(before) == 6
        await title(page).fill("字" * 31)
        assert await places(page) == before
        faults[1].steps.append(refused)
        await generate(page)
        await expect(news(page)).to_contain_text("請管理員檢查")
        assert await places(page) == before
        await button(page, GENERATE).click()
        await expect(button(page, STOP)).to_be_visible()
        assert await places(page) == before
        await finished(page)
        assert await places(page) == before
        await title(page).fill("另一個標題")
        await expect(news(page)).to_contain_text("標題改過了")
        assert await places(page) == before


async def lightness(page: Page) -> int:
    """How light the page is, from 0 to 765."""
    colour = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


async def test_dark_follows_the_system_or_a_choice_that_is_remembered(open_page: OpenPage):
    async with open_page("quick", color_scheme="dark") as page:
        appearance = page.get_by_role("combobox", name="外觀")
        assert await lightness(page) < 150
        await appearance.select_option("light")
        assert await lightness(page) > 600
        await page.reload()
        await expect(appearance).to_have_value("light")
        assert await lightness(page) > 600
        await appearance.select_option("system")
        assert await lightness(page) < 150
        await page.emulate_media(color_scheme="light")
        assert await lightness(page) > 600
        await appearance.select_option("dark")
        assert await lightness(page) < 150


async def test_forced_colours_leave_every_control_its_border(open_page: OpenPage):
    async with open_page("quick", forced_colors="active") as page:
        assert await page.evaluate("matchMedia('(forced-colors: active)').matches")
        await generate(page)
        await finished(page)
        borders = await page.locator("button, input:not(.sr), textarea, .card").evaluate_all(
            "parts => parts.map(part => [part.outerHTML, getComputedStyle(part)]).map(([html, style]) =>"
            " [html, style.borderTopStyle, parseFloat(style.borderTopWidth)])"
        )
        assert len(borders) >= 7
        assert [border for border in borders if border[1] == "none" or border[2] < 1] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(open_page: OpenPage, scheme: str):
    async with open_page("quick", color_scheme=scheme, reduced_motion="reduce") as page:
        await no_fault(page, WEB)
        await generate(page)
        await finished(page)
        await no_fault(page, WEB)
        await title(page).fill("另一個標題")
        await expect(news(page)).to_contain_text("標題改過了")
        await no_fault(page, WEB)
        await button(page, "照樣儲存").click()
        await expect(page.get_by_text("已儲存「另一個標題」")).to_be_visible()
        await no_fault(page, WEB)
        await button(page, "編輯「另一個標題」").first.click()
        await expect(news(page)).to_contain_text("正在修改")
        await no_fault(page, WEB)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_while_it_generates_and_after_it_failed(
    open_page: OpenPage, faults: tuple[str, Faults], scheme: str
):
    async with open_page("slow", color_scheme=scheme, reduced_motion="reduce") as page:
        await generate(page)
        await writing(page)
        await no_fault(page, WEB)
        await button(page, STOP).click()
        await expect(news(page)).to_contain_text("已停止")
        await no_fault(page, WEB)
    async with open_page("failing", "Generation failed", color_scheme=scheme, reduced_motion="reduce") as page:
        await generate(page)
        await expect(news(page)).to_contain_text("這個標題不能用")
        await no_fault(page, WEB)


async def test_all_of_it_by_keyboard(open_page: OpenPage):
    async with open_page("slow") as page:
        keys = page.keyboard

        async def to(target: Locator) -> None:
            for _ in range(12):
                if await target.evaluate("element => element === document.activeElement"):
                    break
                await keys.press("Tab")
            await expect(target).to_be_focused()
            outlined: Any = "element => [element, element.parentElement, element.nextElementSibling].some("
            outlined += "part => part && getComputedStyle(part).outlineStyle !== 'none')"
            assert await target.evaluate(outlined)

        skip = page.get_by_role("link", name="跳到內容")
        await skip.wait_for(state="attached")  # the page is made after it has loaded
        await keys.press("Tab")
        await expect(skip).to_be_focused()
        await to(page.get_by_role("combobox", name="語言"))
        await to(title(page))
        await keys.insert_text(NAME)
        await keys.press("Enter")
        await expect(button(page, STOP)).to_be_focused()
        await writing(page)
        await keys.press("Escape")
        await expect(news(page)).to_contain_text("已停止")
        await to(description(page))
        await keys.press("ControlOrMeta+A")
        await keys.insert_text("介紹")
        await to(picture_id(page))
        await to(page.locator("#picture-file"))
        await to(button(page, SAVE))
        await keys.press("Enter")
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()
        await expect(title(page)).to_be_focused()
