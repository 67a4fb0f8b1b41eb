"""The built page in a real Chromium, before a real back end and a real workflow."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import FilePayload, Route, expect
from product_studio.pictures import LARGEST

from tests.product_studio.page import (
    AGAIN,
    CANCEL,
    GENERATE,
    SAVE,
    WEB,
    Opened,
    button,
    description,
    finished,
    generate,
    no_serious_fault,
    still,
)
from tests.product_studio.studio import NAME, Studio
from tests.product_studio.test_products import PNG
from tests.sdk_contract.fault_server import Faults

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIM = {"status": 401, "body": {"code": "unauthorized", "message": "secret detail", "status": 401}}


async def test_it_generates_and_shows_each_step_and_the_text_as_it_is_written(opened: Opened):
    async with opened("slow") as page:
        await generate(page)
        await expect(page.get_by_role("status").first).to_have_text("正在進行：撰寫介紹")
        await expect(button(page, "生成中…")).to_be_disabled()
        await expect(page.get_by_role("listitem").filter(has_text="檢查名稱")).to_contain_text("完成")
        await expect(description(page)).to_have_value(re.compile("^【示"))
        early = await description(page).input_value()
        await expect(description(page)).to_have_value(re.compile("沒有呼叫"))
        assert (await description(page).input_value()).startswith(early)
        await expect(page.get_by_role("listitem").filter(has_text="撰寫介紹")).to_contain_text("進行中")
        await button(page, CANCEL).click()
        await expect(page.get_by_text("已取消生成")).to_be_visible()
        await expect(page.get_by_role("listitem").filter(has_text="撰寫介紹")).to_contain_text("已停止")


async def test_what_was_generated_fills_the_form(opened: Opened):
    async with opened("quick") as page:
        await generate(page)
        await finished(page)
        await expect(description(page)).to_have_value(re.compile("^【示範模型】"))
        await expect(page.get_by_label("圖片編號")).to_have_value(re.compile("^[0-9a-f-]{36}$"))
        picture = page.get_by_role("img", name=f"「{NAME}」的圖片")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0
        await expect(description(page)).to_be_editable()
        assert await page.get_by_role("listitem").filter(has_text="完成").count() >= 8


async def test_cancelling_stops_the_run_on_the_server_and_gives_back_what_was_there(
    opened: Opened, pages: dict[str, Studio]
):
    async with opened("slow") as page:
        await description(page).fill("我自己寫的")
        await page.get_by_label("產品名稱").fill(NAME)
        async with page.expect_response(re.compile("/stream$")) as streaming:
            await button(page, GENERATE).click()
        await expect(description(page)).to_have_value(re.compile("^【示"))
        async with page.expect_response(re.compile("/stop$")) as stopping:
            await button(page, CANCEL).click()
        assert (await stopping.value).status == 200
        await expect(page.get_by_text("已取消生成")).to_be_visible()
        await expect(button(page, CANCEL)).to_have_count(0)
        await expect(button(page, GENERATE)).to_be_focused()
        await expect(description(page)).to_have_value("我自己寫的")
        assert (await streaming.value).status == 200
        assert await pages["slow"].standing(await pages["slow"].newest()) == "stopped"


async def test_leaving_the_page_stops_the_run(opened: Opened, pages: dict[str, Studio]):
    async with opened("slow") as page:
        await generate(page)
        await expect(description(page)).to_have_value(re.compile("^【示"))
        await page.goto("about:blank")
        assert await pages["slow"].standing(await pages["slow"].newest()) == "stopped"


async def test_an_error_is_told_in_words_and_can_be_tried_again(opened: Opened, faults: tuple[str, Faults]):
    async with opened("faulty") as page:
        faults[1].steps.append(DIM)
        await generate(page)
        alert = page.get_by_role("alert").filter(has_text="網站設定有誤")
        await expect(alert).to_be_visible()
        assert "secret detail" not in await page.content()
        await still(page)
        await no_serious_fault(page)
        await expect(page.get_by_label("產品名稱")).to_have_value(NAME)
        await button(page, AGAIN).click()
        await finished(page)
        await expect(alert).to_have_count(0)


async def test_a_step_that_fails_is_named(opened: Opened):
    async with opened("failing") as page:
        await generate(page)
        await expect(page.get_by_role("alert").filter(has_text="失敗的步驟：檢查名稱")).to_be_visible()
        await expect(page.get_by_role("listitem").filter(has_text="檢查名稱")).to_contain_text("失敗")
        await expect(description(page)).to_have_value("")


async def test_a_back_end_that_is_gone_is_told_of(opened: Opened):
    async with opened("quick", amiss="ERR_FAILED") as page:
        await page.route("**/stream", lambda route: route.abort())
        await generate(page)
        await expect(page.get_by_role("alert").filter(has_text="無法連線到服務")).to_be_visible()
        await page.route("**/api/products", lambda route: route.abort())
        await button(page, SAVE).click()
        await expect(page.get_by_role("alert").filter(has_text="無法儲存")).to_be_visible()
        await expect(page.get_by_label("產品名稱")).to_have_value(NAME)
        await page.unroute("**/api/products")
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()


async def test_a_picture_that_cannot_be_had_is_told_of(opened: Opened):
    async with opened("unseen") as page:
        await generate(page)
        await expect(page.get_by_text("但無法取得圖片")).to_be_visible()
        await expect(description(page)).to_have_value("Words.")


async def test_a_product_is_saved_and_listed(opened: Opened):
    title = "存起來的產品 <b>"
    async with opened("quick") as page:
        await generate(page, title)
        await finished(page)
        text = await description(page).input_value() + "改過"
        await description(page).fill(text)
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{title}」")).to_be_visible()
        await expect(page.get_by_label("產品名稱")).to_be_focused()
        await expect(page.get_by_label("產品名稱")).to_have_value("")
        await expect(page.get_by_label("圖片編號")).to_have_value("")
        await expect(page.get_by_text("產品資訊已生成")).to_have_count(0)
        await expect(page.get_by_text("進度")).to_have_count(0)
        for _ in range(2):  # and again after it is loaded anew
            listed = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=title))
            await expect(listed).to_have_count(1)
            await expect(listed).to_contain_text("改過")
            await expect(listed.get_by_role("img")).to_be_visible()
            await page.reload()


def file(content: bytes) -> FilePayload:
    return {"name": "a.png", "mimeType": "image/png", "buffer": content}


@pytest.mark.parametrize("content", [b"<svg/>", PNG + b"0" * LARGEST], ids=["no picture", "too large"])
async def test_a_file_that_will_not_do_is_refused_in_words(opened: Opened, content: bytes):
    async with opened("quick", amiss="415") as page:
        await page.get_by_label("選擇圖片").set_input_files(file(content))
        await expect(page.get_by_role("alert").filter(has_text="無法使用這張圖片")).to_be_visible()
        await expect(page.get_by_label("圖片編號")).to_have_value("")


async def test_a_picture_of_one_s_own(opened: Opened):
    async with opened("quick", amiss="ERR_FAILED") as page:
        await page.get_by_label("產品名稱").fill("我的產品")
        choose = page.get_by_label("選擇圖片")
        await page.route("**/api/pictures", lambda route: route.abort(), times=1)
        await choose.set_input_files(file(PNG))
        await expect(page.get_by_role("alert").filter(has_text="無法連線到服務")).to_be_visible()
        arrived: asyncio.Future[Route] = asyncio.get_running_loop().create_future()
        await page.route("**/api/pictures", lambda route: arrived.set_result(route), times=1)
        await choose.set_input_files(file(PNG))
        route = await arrived
        await expect(button(page, SAVE)).to_be_disabled()  # it would be saved without its picture
        await route.continue_()
        await expect(page.get_by_role("img", name="「我的產品」的圖片")).to_be_visible()
        await button(page, "移除圖片").click()
        await expect(page.get_by_text("還沒有圖片").first).to_be_visible()
        await expect(page.get_by_label("圖片編號")).to_have_value("")


@pytest.mark.parametrize(
    ("title", "count", "may"),
    [
        ("", "0", False),
        ("字" * 4, "4", False),
        ("字" * 5, "5", True),
        ("😀" * 4, "4", False),
        ("😀" * 30, "30", True),
        ("字" * 31, "31", False),
        ("  a   b  ", "3", False),
        ("a  b  c", "5", True),
    ],
)
async def test_the_button_waits_for_5_to_30_characters(opened: Opened, title: str, count: str, may: bool):
    async with opened("quick") as page:
        await page.get_by_label("產品名稱").fill(title)
        await expect(page.get_by_text(f"{count}／30 字")).to_be_visible()
        await expect(button(page, GENERATE)).to_be_enabled(enabled=may)


async def test_the_browser_gets_nothing_from_elsewhere_and_never_the_key(opened: Opened, pages: dict[str, Studio]):
    studio = pages["quick"]
    async with opened("quick") as page:
        answers: list[tuple[str, str, bytes]] = []

        async def note(route: Route) -> None:
            answer = await route.fetch()
            answers.append((answer.url, str(answer.headers), await answer.body()))
            await route.fulfill(response=answer)

        await page.route("**/*", note)
        await page.reload()
        await generate(page)
        await finished(page)
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()
        await expect(page.get_by_role("heading", level=3).first).to_have_text(NAME)
        assert len(answers) >= 7
        for url, headers, body in answers:
            assert url.startswith(studio.url)
            assert studio.key not in headers
            assert studio.key.encode() not in body
        assert studio.key not in json.dumps(await page.context.storage_state())
    for file in WEB.joinpath("dist").rglob("*.*"):
        text = file.read_text("utf-8")
        assert studio.key not in text
        assert "API_KEY" not in text
