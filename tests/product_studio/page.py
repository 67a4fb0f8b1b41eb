"""The page as a user finds it: by labels, names and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.async_api import Locator, Page, expect
from product_studio.settings import FOLDER

from tests.product_studio.studio import NAME

WEB = FOLDER / "web"
OpenPage = Callable[..., Any]
GENERATE, AGAIN, CONTINUE = "dify 自動生成產品資訊", "重新生成", "再試一次"
STOP, SAVE, ANYWAY = "停止", "儲存產品", "照樣儲存"


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def title(page: Page) -> Locator:
    return page.get_by_label("產品標題")


def description(page: Page) -> Locator:
    return page.get_by_label("產品敘述")


def picture_id(page: Page) -> Locator:
    return page.get_by_label("產品圖", exact=True)


def news(page: Page) -> Locator:
    """The line that says what happens."""
    return page.locator(".say")


def step(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name="進度").get_by_role("listitem").filter(has_text=name)


def product(page: Page, name: str) -> Locator:
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))


async def generate(page: Page, name: str = NAME) -> None:
    await title(page).fill(name)
    await title(page).press("Enter")


async def writing(page: Page) -> None:
    await expect(description(page)).to_have_value(re.compile("^【示"))


async def finished(page: Page) -> None:
    await expect(news(page)).to_contain_text("敘述和圖片都好了")


async def main_button(page: Page) -> str | None:
    """The label of the one main button; None where there is none."""
    names = await page.locator(".main-b").all_inner_texts()
    assert len(names) <= 1
    return names[0].strip() if names else None
