"""The built page in a real Chromium, before a real back end and a real workflow."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from playwright.async_api import FilePayload, Page, Route, expect
from product_studio.pictures import LARGEST

from tests.product_studio.page import (
    AGAIN,
    ANYWAY,
    CONTINUE,
    GENERATE,
    SAVE,
    STOP,
    WEB,
    OpenPage,
    button,
    description,
    finished,
    generate,
    main_button,
    news,
    picture_id,
    product,
    step,
    title,
    writing,
)
from tests.product_studio.studio import NAME, Studio
from tests.product_studio.test_products import PNG
from tests.sdk_contract.fault_server import Faults

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = {"status": 401, "body": {"code": "unauthorized", "message": "secret detail", "status": 401}}


async def test_enter_generates_in_three_steps_and_shows_the_text_as_it_is_written(open_page: OpenPage):
    async with open_page("slow") as page:
        assert await main_button(page) == GENERATE
        await generate(page)
        await writing(page)
        await expect(news(page)).to_contain_text("正在撰寫敘述")
        assert await main_button(page) is None
        await expect(step(page, "檢查標題")).to_contain_text("完成")
        await expect(step(page, "撰寫敘述")).to_contain_text("進行中")
        await expect(step(page, "製作圖片")).to_contain_text("未開始")
        await expect(page.locator(".pic .sk")).to_be_visible()
        early = await description(page).input_value()
        await expect(description(page)).to_have_value(re.compile("沒有呼叫"))
        assert (await description(page).input_value()).startswith(early)
        await expect(title(page)).not_to_be_editable()
        await button(page, STOP).click()
        await expect(news(page)).to_contain_text("已停止")
        await expect(step(page, "撰寫敘述")).to_contain_text("已停止")


async def test_the_end_of_the_text_stays_in_view_unless_the_reader_scrolls(open_page: OpenPage):
    distance = "field => field.scrollHeight - field.clientHeight - field.scrollTop"
    async with open_page("slow", viewport={"width": 1000, "height": 500}) as page:
        await generate(page)
        await expect(description(page)).to_have_value(re.compile("(很長的提示。){45}"))
        assert await description(page).evaluate("field => field.scrollTop") > 60
        assert await description(page).evaluate(distance) < 40
        assert await description(page).evaluate("field => field.clientHeight") >= 215
        await description(page).evaluate("field => field.scrollTo(0, 0)")
        await expect(description(page)).to_have_value(re.compile("(很長的提示。){60}"))
        assert await description(page).evaluate("field => field.scrollTop") == 0
        await page.keyboard.press("Escape")
        await expect(news(page)).to_contain_text("已停止")


async def test_what_was_generated_fills_the_form(open_page: OpenPage):
    async with open_page("quick") as page:
        await generate(page)
        await finished(page)
        await expect(description(page)).to_have_value(re.compile("^【示範模型】"))
        await expect(picture_id(page)).to_have_value(re.compile("^[0-9a-f-]{36}$"))
        picture = page.get_by_role("img", name=f"「{NAME}」的圖片")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0
        await expect(page.get_by_text(f"為「{NAME}」製作")).to_be_visible()
        await expect(description(page)).to_be_editable()
        assert await main_button(page) == SAVE


async def test_enter_neither_saves_nor_repeats_nor_breaks_into_an_input_method(open_page: OpenPage):
    async with open_page("quick") as page:
        calls: list[str] = []
        page.on("request", lambda request: calls.append(f"{request.method} {request.url}"))
        await title(page).fill(NAME)
        composing = "field => field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true}))"
        await title(page).evaluate(composing)
        await title(page).fill("茶")
        await title(page).press("Enter")
        await expect(page.get_by_text("至少要 5 個字")).to_be_visible()
        assert [call for call in calls if call.startswith("POST")] == []
        await generate(page)
        await finished(page)
        await title(page).press("Enter")
        await picture_id(page).press("Enter")
        await finished(page)
        assert len([call for call in calls if call.startswith("POST")]) == 1


async def test_stopping_stops_the_run_and_keeps_what_was_written_and_what_was_there(
    open_page: OpenPage, pages: dict[str, Studio]
):
    async with open_page("slow") as page:
        await description(page).fill("我自己寫的")
        await title(page).fill(NAME)
        await button(page, AGAIN).click()
        await writing(page)
        async with page.expect_response(re.compile("/stop$")) as stopping:
            await page.keyboard.press("Enter")  # the button that has become Stop has the focus
        assert (await stopping.value).status == 200
        await expect(news(page)).to_contain_text("已停止")
        await expect(button(page, AGAIN)).to_be_focused()
        await writing(page)
        await button(page, "上一版").click()
        await expect(description(page)).to_have_value("我自己寫的")
        await button(page, "上一版").click()
        await writing(page)
        assert await pages["slow"].status(await pages["slow"].newest()) == "stopped"


async def test_a_run_is_followed_again_after_the_page_is_loaded_again(open_page: OpenPage, pages: dict[str, Studio]):
    async with open_page("slow") as page:
        await generate(page)
        await writing(page)
        run = await pages["slow"].newest()
        await page.goto("about:blank")
        assert await pages["slow"].status(run, wait=0) == "running"
        await page.goto(pages["slow"].url)
        await expect(title(page)).to_have_value(NAME)
        await expect(title(page)).not_to_be_editable()
        await expect(news(page)).to_contain_text("正在撰寫敘述")
        await expect(step(page, "檢查標題")).to_contain_text("完成")
        await button(page, STOP).click()
        await expect(news(page)).to_contain_text("已停止")
        assert await pages["slow"].status(run) == "stopped"
        await page.reload()
        await expect(news(page)).to_contain_text("大約十秒")
        await writing(page)


async def test_a_draft_survives_a_reload_and_bad_storage_does_no_harm(open_page: OpenPage):
    async with open_page("quick") as page:
        await title(page).fill("草稿的標題")
        await description(page).fill("草稿")
        await page.reload()
        await expect(title(page)).to_have_value("草稿的標題")
        await expect(description(page)).to_have_value("草稿")
        for value in ("{", "null", '{"title": 1}', '{"runId": "a", "taskId": 1, "title": "b"}'):
            await page.evaluate(
                "value => [sessionStorage, localStorage].forEach(storage =>"
                " ['studio-draft', 'studio-draft-aside', 'studio-run'].forEach(key => storage.setItem(key, value)))",
                value,
            )
            await page.reload()
            await expect(title(page)).to_have_value("")
            await expect(button(page, GENERATE)).to_be_visible()


async def test_each_tab_has_a_draft_of_its_own_and_one_outlives_them(open_page: OpenPage, pages: dict[str, Studio]):
    async with open_page("quick") as first:
        await title(first).fill("第一個分頁的標題")
        second = await first.context.new_page()
        await second.goto(pages["quick"].url)
        await expect(title(second)).to_have_value("")
        await title(second).fill("第二個分頁的標題")
        for page, text in ((first, "第一個分頁的標題"), (second, "第二個分頁的標題")):
            await page.reload()
            await expect(title(page)).to_have_value(text)
        await first.close()
        await second.evaluate("navigator.locks.request('studio', () => null)")  # once the first tab has left it
        third = await second.context.new_page()
        await third.goto(pages["quick"].url)
        await expect(title(third)).to_have_value("第一個分頁的標題")


async def test_a_changed_title_is_noticed(open_page: OpenPage):
    changed = "宜蘭礁溪三日遊"
    async with open_page("quick") as page:
        await generate(page)
        await finished(page)
        await title(page).fill(changed)
        await expect(news(page)).to_contain_text(f"標題改過了。敘述和圖片屬於舊標題「{NAME}」")
        assert await main_button(page) == AGAIN
        await expect(button(page, SAVE)).to_have_count(0)
        await expect(button(page, ANYWAY)).to_be_enabled()
        await button(page, "改回").click()
        await expect(title(page)).to_have_value(NAME)
        await finished(page)
        await generate(page, changed)
        await expect(page.get_by_role("img", name=f"「{changed}」的圖片")).to_be_visible()
        await finished(page)
        await expect(page.get_by_text(f"為「{changed}」製作")).to_be_visible()


async def test_a_failure_is_explained_and_can_be_tried_again(open_page: OpenPage, faults: tuple[str, Faults]):
    async with open_page("faulty", "Generation failed: configuration") as page:
        faults[1].steps.append(REFUSED)
        async with page.expect_console_message(lambda message: message.type == "error"):
            await generate(page)
        await expect(news(page)).to_contain_text("請管理員檢查工作流程的網址和金鑰")
        assert "secret detail" not in await page.content()
        await expect(title(page)).to_have_value(NAME)
        assert await main_button(page) == GENERATE
        await button(page, GENERATE).click()
        await finished(page)


async def test_a_title_that_the_workflow_refuses(open_page: OpenPage):
    async with open_page("failing", "Generation failed: title") as page:
        await generate(page)
        await expect(news(page)).to_contain_text("這個標題不能用")
        await expect(step(page, "檢查標題")).to_contain_text("失敗")
        await expect(description(page)).to_have_value("")
        assert await main_button(page) == CONTINUE
        await title(page).fill(f"另一個{NAME}")
        assert await main_button(page) == GENERATE


async def test_trying_again_continues_the_run_at_the_step_that_failed(open_page: OpenPage, pages: dict[str, Studio]):
    studio = pages["drawing"]
    async with open_page("drawing", "Generation failed: picture") as page:
        await description(page).fill("我自己寫的")
        await title(page).fill(NAME)
        await button(page, AGAIN).click()
        await expect(news(page)).to_contain_text("圖片沒有做成")
        failed = await studio.newest()
        written = await description(page).input_value()
        await button(page, CONTINUE).click()
        async with asyncio.timeout(60):
            while (again := await studio.newest()) == failed:
                pass
        assert await studio.status(again) == "failed"
        await expect(news(page)).to_contain_text("圖片沒有做成")
        run = await studio.run(again)
        assert (run["retry_of"], run["total_tokens"]) == (failed, 0)  # the text is neither written nor paid again
        await expect(description(page)).to_have_value(written)
        await button(page, "上一版").click()
        await expect(description(page)).to_have_value("我自己寫的")


async def test_a_back_end_that_is_gone(open_page: OpenPage):
    async with open_page("quick", "ERR_FAILED|offline|could not be saved") as page:
        await page.route("**/stream", lambda route: route.abort())
        await generate(page)
        await expect(news(page)).to_contain_text("連不上這個網站")
        await page.route("**/api/products", lambda route: route.abort())
        await description(page).fill("介紹")
        await button(page, SAVE).click()
        await expect(news(page)).to_contain_text("產品沒有存成")
        await expect(title(page)).to_have_value(NAME)
        await page.unroute("**/api/products")
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()


async def test_a_picture_that_cannot_be_fetched(open_page: OpenPage):
    async with open_page("unseen") as page:
        await generate(page)
        await expect(news(page)).to_contain_text("但無法取得圖片")
        await expect(description(page)).to_have_value("Words.")


async def save(page: Page, name: str, text: str) -> None:
    await title(page).fill(name)
    await description(page).fill(text)
    await button(page, SAVE).click()
    await expect(page.get_by_text(f"已儲存「{name}」")).to_be_visible()


async def test_a_product_is_saved_and_listed(open_page: OpenPage):
    name = "存起來的產品 <b>"
    async with open_page("quick") as page:
        await generate(page, name)
        await finished(page)
        await description(page).fill(await description(page).input_value() + "改過")
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{name}」")).to_be_visible()
        await expect(title(page)).to_be_focused()
        await expect(title(page)).to_have_value("")
        await expect(picture_id(page)).to_have_value("")
        await expect(news(page)).to_contain_text("大約十秒")
        for _ in range(2):  # and again after a reload
            await expect(product(page, name)).to_have_count(1)
            await expect(product(page, name)).to_contain_text("改過")
            await expect(product(page, name).get_by_role("img")).to_be_visible()
            await page.reload()


async def test_a_product_is_edited_and_a_draft_waits_for_that(open_page: OpenPage):
    async with open_page("quick") as page:
        await save(page, "要改的產品", "從前")
        await title(page).fill("還沒寫完的草稿")
        await button(page, "編輯「要改的產品」").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("修改產品")
        await expect(news(page)).to_contain_text("正在修改今天")
        await expect(title(page)).to_have_value("要改的產品")
        assert await main_button(page) == "儲存修改"
        await description(page).fill("現在")
        await page.reload()
        await expect(description(page)).to_have_value("現在")
        await button(page, "儲存修改").click()
        await expect(product(page, "要改的產品")).to_contain_text("現在")
        await expect(page.get_by_role("heading", level=1)).to_have_text("新增一個產品")
        await expect(title(page)).to_have_value("還沒寫完的草稿")
        await button(page, "復原").click()
        await expect(product(page, "要改的產品")).to_contain_text("從前")
        await button(page, "編輯「要改的產品」").click()
        await description(page).fill("不要")
        await button(page, "取消").click()
        await expect(title(page)).to_have_value("還沒寫完的草稿")
        await expect(product(page, "要改的產品")).to_contain_text("從前")


async def test_a_product_is_deleted_at_once_and_can_be_restored(open_page: OpenPage):
    name = "要刪的產品"
    async with open_page("quick", "ERR_FAILED|could not be deleted") as page:
        await save(page, name, "還在")
        await page.route("**/api/products/*", lambda route: route.abort(), times=1)
        await button(page, f"刪除「{name}」").click()
        await expect(page.get_by_text(f"無法刪除「{name}」")).to_be_visible()
        await expect(product(page, name)).to_have_count(1)
        await button(page, f"刪除「{name}」").click()
        await expect(product(page, name)).to_have_count(0)
        await expect(page.get_by_role("heading", name="已儲存的產品")).to_be_focused()
        await button(page, "復原").click()
        await expect(product(page, name)).to_contain_text("還在")
        await expect(page.get_by_role("heading", level=3).first).to_have_text(name)
        await button(page, f"刪除「{name}」").click()
        await expect(page.get_by_text(f"已刪除「{name}」")).to_be_visible()
        await page.reload()
        await expect(button(page, GENERATE)).to_be_visible()
        await expect(page.get_by_role("region", name="已儲存的產品")).to_have_attribute("aria-busy", "false")
        await expect(product(page, name)).to_have_count(0)


async def test_the_id_of_a_picture_can_be_typed(open_page: OpenPage):
    async with open_page("quick", "404|could not be loaded") as page:
        await generate(page)
        await finished(page)
        known = await picture_id(page).input_value()
        await picture_id(page).fill("nobody")
        await picture_id(page).press("Enter")
        await expect(page.get_by_text("沒有這個編號的圖片")).to_be_visible()
        await expect(button(page, SAVE)).to_be_disabled()
        await picture_id(page).fill(f" {known} ")
        await description(page).focus()
        await expect(page.get_by_role("img", name=f"「{NAME}」的圖片")).to_be_visible()
        await expect(button(page, SAVE)).to_be_enabled()
        await picture_id(page).fill("")
        await description(page).focus()
        await expect(page.get_by_text("圖片會出現在這裡")).to_be_visible()


def file(content: bytes) -> FilePayload:
    return {"name": "a.png", "mimeType": "image/png", "buffer": content}


@pytest.mark.parametrize("content", [b"<svg/>", PNG + b"0" * LARGEST], ids=["not a picture", "too large"])
async def test_a_file_that_cannot_be_used_is_refused_in_words(open_page: OpenPage, content: bytes):
    async with open_page("quick", "415|could not be uploaded") as page:
        await page.get_by_label("上傳圖片").set_input_files(file(content))
        await expect(page.get_by_role("alert").filter(has_text="不能用這個檔案")).to_be_visible()
        await expect(picture_id(page)).to_have_value("")


async def test_a_picture_of_one_s_own(open_page: OpenPage):
    async with open_page("quick", "ERR_FAILED|could not be uploaded") as page:
        await title(page).fill("我的產品")
        await description(page).fill("介紹")
        choose = page.locator("#picture-file")
        await page.route("**/api/pictures", lambda route: route.abort(), times=1)
        await choose.set_input_files(file(PNG))
        await expect(page.get_by_role("alert").filter(has_text="圖片沒有傳成")).to_be_visible()
        arrived: asyncio.Future[Route] = asyncio.get_running_loop().create_future()
        await page.route("**/api/pictures", lambda route: arrived.set_result(route), times=1)
        await choose.set_input_files(file(PNG))
        route = await arrived
        await expect(button(page, SAVE)).to_be_disabled()  # it would be saved without its picture
        await route.continue_()
        await expect(page.get_by_role("img", name="「我的產品」的圖片")).to_be_visible()
        await button(page, "移除圖片").click()
        await expect(page.get_by_text("圖片會出現在這裡")).to_be_visible()
        await expect(picture_id(page)).to_have_value("")


async def test_titles_of_5_to_30_characters_can_be_generated_for(open_page: OpenPage):
    cases: list[Any] = [
        ("字" * 4, "4", False),
        ("字" * 5, "5", True),
        ("😀" * 4, "4", False),
        ("😀" * 30, "30", True),
        ("字" * 31, "31", False),
        ("  a   b  ", "3", False),
        ("a  b  c", "5", True),
        ("", "0", False),
    ]
    async with open_page("quick") as page:
        for text, count, can in cases:
            await title(page).fill(text)
            await expect(page.get_by_text(f"{count} / 30")).to_be_visible()
            await expect(button(page, GENERATE)).to_be_enabled(enabled=can)


async def test_the_browser_gets_nothing_from_elsewhere_and_never_the_key(open_page: OpenPage, pages: dict[str, Studio]):
    studio = pages["quick"]
    async with open_page("quick") as page:
        responses: list[tuple[str, str, bytes]] = []

        async def note(route: Route) -> None:
            response = await route.fetch()
            responses.append((response.url, str(response.headers), await response.body()))
            await route.fulfill(response=response)

        await page.route("**/*", note)
        await page.reload()
        await generate(page)
        await finished(page)
        await button(page, SAVE).click()
        await expect(page.get_by_text(f"已儲存「{NAME}」")).to_be_visible()
        await expect(page.get_by_role("heading", level=3).first).to_have_text(NAME)
        assert len(responses) >= 7
        for url, headers, body in responses:
            assert url.startswith(studio.url)
            assert studio.key not in headers
            assert studio.key.encode() not in body
        assert studio.key not in json.dumps(await page.context.storage_state())
    for built in WEB.joinpath("dist").rglob("*.*"):
        text = built.read_text("utf-8")
        assert studio.key not in text
        assert "API_KEY" not in text
