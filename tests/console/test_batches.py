"""Batches in the console: from a file to the results, live, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, Page, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = '\ufeffquery,extra\r\n"tea, green",\r\n"two ""lines""\nof text",\r\n,,\r\n\r\n'


def _file(name: str, text: str, encoding: str = "utf-8") -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode(encoding)}


@pytest.fixture(scope="module")
def path(server: Serve) -> str:
    return f"/apps/{server.apps['words']['app_id']}/batches"


async def _start(page: Page, file: FilePayload) -> None:
    await page.locator("input[type=file]").set_input_files(file)
    await page.get_by_role("button", name="Start the batch").click()
    await page.get_by_role("region", name="Batch", exact=True).wait_for()


async def test_a_table_becomes_a_batch_whose_results_are_shown_and_saved(open_page: OpenPage, path: str):
    async with open_page(path) as page:
        await page.locator("input[type=file]").set_input_files(_file("teas.csv", TABLE))
        await expect(page.get_by_role("alert")).to_contain_text('The app has no input named "extra".')
        await _start(page, _file("teas.csv", TABLE.replace(",extra", "").replace(",\r", "\r")))
        lines = page.get_by_role("region", name="Lines of the batch")
        await expect(lines.get_by_role("row").nth(1)).to_contain_text("tea, greentea, green")
        await expect(lines.get_by_role("row").nth(2)).to_contain_text('two "lines" of texttwo "lines" of text')
        await expect(page.get_by_role("region", name="Batch", exact=True)).to_contain_text("Ended · 2 / 2")
        await expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download the results").click()
        assert _statuses(await (await waiting.value).path()) == ["succeeded", "succeeded"]
        await lines.get_by_role("link", name="Line 1").press("Enter")
        await expect(page.locator(".runhead .st")).to_have_text("Succeeded")


def _statuses(saved: Path) -> list[str]:
    return [json.loads(line)["status"] for line in saved.read_text("utf-8").splitlines()]


async def test_a_line_that_cannot_run_is_found_by_its_status(open_page: OpenPage, path: str):
    good, bad = json.dumps({"inputs": {"query": "tea"}}), "not JSON"
    async with open_page(path) as page:
        await _start(page, _file("teas.jsonl", "\n".join([good] * 120 + [bad])))
        await expect(page.get_by_role("region", name="Batch", exact=True)).to_contain_text("Ended · 121 / 121")
        await page.get_by_role("link", name="Next page").press("Enter")
        lines = page.get_by_role("region", name="Lines of the batch")
        await expect(lines.get_by_role("row")).to_have_count(22)
        await page.get_by_label("Only lines that failed").check()
        await expect(lines.get_by_role("row")).to_have_count(2)
        await expect(lines.get_by_role("row").last).to_contain_text("Line 121")


async def test_a_batch_is_stopped(open_page: OpenPage, server: Serve):
    async with open_page(f"/apps/{server.apps['rounds']['app_id']}/batches") as page:
        await page.locator("input[type=file]").set_input_files(_file("rounds.jsonl", '{"inputs": {}}\n' * 40))
        await page.get_by_label("Runs at a time").fill("1")
        await page.get_by_role("button", name="Start the batch").click()
        await page.get_by_role("button", name="Stop").click()
        batch = page.get_by_role("region", name="Batch", exact=True)
        await expect(batch).to_contain_text("Stopped · 40 / 40")
        await page.get_by_role("link", name="Batches").click()
        first = page.get_by_role("region", name="Batches, newest first").get_by_role("row").nth(1)
        await expect(first).to_contain_text("Stopped")


async def test_files_that_are_no_batch_say_why(open_page: OpenPage, path: str):
    async with open_page(path) as page:
        for text, problem in (
            ("", "The file has no lines."),
            ("query,query\na,b", 'The first row has "query" twice.'),
            ("query\na,b", "Row 2 has more cells than the first row."),
            ('query\n"a', "Row 2: a quotation mark is not closed."),
        ):
            await page.locator("input[type=file]").set_input_files(_file("wrong.csv", text))
            await expect(page.get_by_role("alert")).to_contain_text(problem)
            await expect(page.get_by_role("button", name="Start the batch")).to_have_count(0)
        for encoding in ("big5", "utf-16"):  # as spreadsheets save
            await page.locator("input[type=file]").set_input_files(_file("teas.csv", "query\n紅茶", encoding))
            await expect(page.get_by_role("alert")).to_contain_text("The file is not UTF-8.")


@pytest.mark.parametrize(
    "context",
    [{}, {"color_scheme": "dark"}, PHONE, {"viewport": {"width": 360, "height": 740}, "locale": "zh-CN"}],
    ids=["light", "dark", "phone", "small"],
)
async def test_axe_finds_nothing_in_batches(open_page: OpenPage, path: str, context: dict[str, object]):
    async with open_page(path, bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.locator("input[type=file]").set_input_files(_file("teas.jsonl", '{"inputs": {"query": "tea"}}\nx'))
        await page.locator("form .main-b").wait_for()
        await _faultless(page)
        await page.locator("form .main-b").click()
        await page.locator("tr[data-row] .err.bad").wait_for()  # of the second line
        await _faultless(page)


async def _faultless(page: Page) -> None:
    await no_fault(page, WEB)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
