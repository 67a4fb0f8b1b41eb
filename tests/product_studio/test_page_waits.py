"""The page while a run waits for somebody who approves its text."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browsers import no_fault
from tests.product_studio.page import WEB, OpenPage, description, generate, news, step, writing

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def answering(page: Page, link: str) -> Page:
    """The page of the form, opened by keyboard."""
    await page.get_by_role("link", name=link).focus()
    async with page.context.expect_page() as opening:
        await page.keyboard.press("Enter")
    return await opening.value


@pytest.mark.parametrize(
    ("locale", "waits", "link", "approve", "done"),
    [
        ("zh-TW", "等待核可。", "開啟表單", "採用", "敘述和圖片都好了。"),
        ("zh-CN", "等待审批。", "打开表单", "採用", "描述和图片都好了。"),
        ("en", "Waiting for approval.", "Open the form", "採用", "Description and picture are ready."),
    ],
)
async def test_the_page_goes_on_by_itself(
    open_page: OpenPage, locale: str, waits: str, link: str, approve: str, done: str
) -> None:
    async with open_page("approval", locale=locale, bypass_csp=True) as page:
        await page.locator("#title").fill("礁溪溫泉蔬菜")
        await page.keyboard.press("Enter")
        await expect(news(page)).to_contain_text(waits)
        await no_fault(page, WEB)
        await page.reload()
        await expect(news(page)).to_contain_text(waits)
        form = await answering(page, link)
        await form.get_by_role("textbox").fill("手寫的介紹。")
        await form.get_by_role("button", name=approve).press("Enter")
        await expect(news(page)).to_contain_text(done)
        await expect(page.locator("#description")).to_have_value("手寫的介紹。")
        await expect(page.get_by_role("link", name=link)).to_have_count(0)


async def test_a_text_that_is_sent_back_is_kept(open_page: OpenPage) -> None:
    async with open_page("approval", "Generation failed: rejected") as page:
        await generate(page)
        await writing(page)
        await expect(news(page)).to_contain_text("等待核可。")
        await expect(step(page, "撰寫")).to_contain_text("完成")
        form = await answering(page, "開啟表單")
        await form.get_by_role("button", name="退回").press("Enter")
        await expect(news(page)).to_contain_text("這段敘述沒有獲得核可。")
        await writing(page)
        await expect(description(page)).to_be_editable()


async def test_a_run_that_waits_is_stopped_by_escape(open_page: OpenPage) -> None:
    async with open_page("approval") as page:
        await generate(page)
        await expect(news(page)).to_contain_text("等待核可。")
        await page.keyboard.press("Escape")
        await expect(news(page)).to_contain_text("已停止。")
