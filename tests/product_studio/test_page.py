"""The built page in a real Chromium, before a real back end and a real workflow."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, FilePayload, Page, Route, async_playwright, expect
from product_studio.pictures import LARGEST

from tests.product_studio.conftest import WEB, started
from tests.product_studio.studio import NAME, Studio
from tests.product_studio.test_products import PNG
from tests.sdk_contract.fault_server import Faults
from tests.serve.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

Opened = Callable[..., Any]
DIM = {"status": 401, "body": {"code": "unauthorized", "message": "secret detail", "status": 401}}
PATIENCE = 30_000  # milliseconds: the machine may be busy, and nothing here is about speed
GENERATE, CANCEL, AGAIN, SAVE = "AI 自動生成產品資訊", "取消生成", "再試一次", "儲存產品"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield running
        await running.close()


@pytest.fixture(scope="module")
def studios(
    built: Path, served: Serve, faults: tuple[str, Faults], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Studio]]:
    """Started when the page is built: a back end that finds none at its start has none."""
    with started(served, faults, tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def opened(browser: Browser, studios: dict[str, Studio]) -> Opened:
    """`async with opened("quick", **context) as page`: a page in a browser of its own, and nothing may be amiss in its
    console but lines that `amiss` matches."""

    @asynccontextmanager
    async def open_page(name: str, amiss: str | None = None, **context: Any) -> AsyncIterator[Page]:
        own = await browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **context})
        page = await own.new_page()
        said: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                said.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.set_default_timeout(PATIENCE)
        answer = await page.goto(studios[name].url)
        assert answer is not None
        assert answer.status == 200, await answer.text()
        yield page
        await own.close()
        assert [each for each in said if amiss is None or not re.search(amiss, each)] == []

    return open_page


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
    opened: Opened, studios: dict[str, Studio]
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
        assert await studios["slow"].standing(await studios["slow"].newest()) == "stopped"


async def test_leaving_the_page_stops_the_run(opened: Opened, studios: dict[str, Studio]):
    async with opened("slow") as page:
        await generate(page)
        await expect(description(page)).to_have_value(re.compile("^【示"))
        await page.goto("about:blank")
        assert await studios["slow"].standing(await studios["slow"].newest()) == "stopped"


async def test_an_error_is_told_in_words_and_can_be_tried_again(opened: Opened, faults: tuple[str, Faults]):
    async with opened("faulty") as page:
        faults[1].steps.append(DIM)
        await generate(page)
        alert = page.get_by_role("alert").filter(has_text="網站的設定有誤")
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
        await expect(page.get_by_text("但拿不到圖片")).to_be_visible()
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
        await expect(page.get_by_role("alert").filter(has_text="這張圖片無法使用")).to_be_visible()
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
        await expect(page.get_by_text("The details are there")).to_be_visible()
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


async def test_the_browser_gets_nothing_from_elsewhere_and_never_the_key(opened: Opened, studios: dict[str, Studio]):
    studio = studios["quick"]
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
