"""The page as a user finds it: by labels, names and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect
from product_studio.settings import FOLDER

from tests.product_studio.studio import NAME

WEB = FOLDER / "web"
Opened = Callable[..., Any]
PATIENCE = 120_000  # milliseconds: the machine may be busy, and nothing here is about speed
GENERATE, CANCEL, AGAIN, SAVE = "AI 自動生成產品資訊", "取消生成", "再試一次", "儲存產品"


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name)


def description(page: Page) -> Any:
    return page.get_by_label("產品介紹")


async def generate(page: Page, title: str = NAME) -> None:
    await page.get_by_label("產品名稱").fill(title)
    await button(page, GENERATE).click()


async def finished(page: Page) -> None:
    await expect(page.get_by_text("產品資訊已生成")).to_be_visible()


async def no_serious_fault(page: Page) -> None:
    """What axe finds amiss on the page as it stands."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(WEB.joinpath("node_modules", "axe-core", "axe.min.js").read_text("utf-8"))
    found = await page.evaluate("axe.run()")
    assert [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ] == []
    assert len(found["passes"]) > 15


async def still(page: Page) -> None:
    """The page without its pulse, so that colours are what they are."""
    await page.emulate_media(reduced_motion="reduce")
