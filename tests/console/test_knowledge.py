"""The console's pages of knowledge bases: from an empty list to the chunks that a test query finds.

Pictures of docs/console.md are taken on the way; see test_first_visit.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage
from tests.console.library import Library, library
from tests.console.test_first_visit import shot
from tests.oidc.provider import Provider

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUMP = "The pump starts when the valve is open.\nThe valve opens at two bar.\nOil the motor once a year."
LONG = "<b>\u202e\u6cf5" + "W" * 240


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shelf(built: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Library]:
    async with library(tmp_path_factory.mktemp("knowledge")) as open_page:
        yield open_page


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


async def ready(page: Page, name: str) -> None:
    await expect(row(page, name)).to_contain_text("Ready")


async def test_from_an_empty_list_to_what_a_query_finds(open_page: OpenPage, shelf: Library, tmp_path: Path):
    size = {"width": 1100, "height": 700}
    async with open_page(server=shelf.server, viewport=size, reduced_motion="reduce", amiss="415") as page:
        await page.get_by_role("heading", name="Apps").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("b")
        await expect(page.get_by_text("There is no knowledge base yet.")).to_be_visible()
        await page.get_by_role("button", name="New knowledge base").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
        await page.keyboard.type("Manuals")
        await dialog.get_by_label("Description").fill("Pumps and motors")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("There are no documents yet.")).to_be_visible()

        await page.get_by_role("button", name="Paste a text").click()
        await page.get_by_text("Splitting: automatic").click()
        await page.get_by_label("Splitting").select_option("by these rules")
        await page.get_by_label("Split at").fill("\\n")
        await page.get_by_label("Name", exact=True).fill("pump.md")
        await page.get_by_label("Text", exact=True).fill(PUMP)
        await page.get_by_role("button", name="Add the text").click()
        await ready(page, "pump.md")
        await page.get_by_text("Splitting:").click()

        files = [tmp_path / name for name in ("motor.txt", "valves.md", "tool.exe")]
        for file in files:
            file.write_text(f"All about the {file.stem}.\nAnd more.")
        await page.locator("input[type=file]").set_input_files(files)
        await expect(page.get_by_role("alert")).to_contain_text("tool.exe")
        await expect(page.get_by_text("3 of 3 sent")).to_be_visible()
        for file in files[:2]:
            await ready(page, file.name)
        await expect(row(page, "pump.md").get_by_role("cell").nth(3)).to_have_text("3")
        await expect(page.get_by_text("tool.exe")).to_have_count(1)  # it is not a document
        await shot(page, "documents")

        await page.get_by_role("navigation", name="Knowledge base").get_by_role("link", name="Test query").click()
        await expect(page.get_by_label("Query", exact=True)).to_be_focused()
        await page.keyboard.type("When does the pump start?")
        await page.get_by_label("Results at most").fill("3")
        await page.get_by_label("Query", exact=True).press("Enter")
        first = page.get_by_role("listitem", name="Result 1")
        await expect(first).to_contain_text("The pump starts when the valve is open.")
        await expect(page.get_by_role("listitem", name=re.compile("Result"))).to_have_count(3)
        scores = [float(text.split()[-1]) for text in await page.locator(".nowrap:has(.sr)").all_inner_texts()]
        assert scores == sorted(scores, reverse=True)
        assert 0 < scores[0] < 1
        await shot(page, "search")

        await page.get_by_label("Score at least").first.check()
        await page.get_by_role("spinbutton", name="Score at least").fill("0.99")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.get_by_text("Nothing was found.")).to_be_visible()
        await page.get_by_label("Score at least").first.uncheck()
        await page.get_by_label("Search", exact=True).select_option("Full text")
        await page.get_by_label("Query", exact=True).fill("oil the motor")
        await page.get_by_label("Query", exact=True).press("Enter")
        await expect(first).to_contain_text("Oil the motor once a year.")

        past = page.get_by_role("region", name="Queries in this browser")
        await expect(past.get_by_role("listitem")).to_have_count(2)
        await page.get_by_role("button", name="Keep these settings").click()
        await expect(page.get_by_text("search with these settings now")).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("Search", exact=True)).to_have_value("full_text_search")
        await past.get_by_role("button", name="oil the motor").click()
        await first.get_by_role("link", name="pump.md #3").click()
        await expect(page.get_by_role("heading", name="pump.md")).to_be_visible()
        await expect(page.get_by_role("listitem", name="Chunk 3")).to_contain_text("Oil the motor once a year.")
        await expect(page.get_by_role("listitem", name=re.compile("Chunk"))).to_have_count(1)
        await page.get_by_role("link", name="All chunks of the document").click()
        await expect(page.get_by_role("listitem", name=re.compile("Chunk"))).to_have_count(3)

        await page.get_by_role("link", name="Knowledge", exact=True).first.click()
        await expect(row(page, "Manuals")).to_contain_text("Ready")
        await expect(row(page, "Manuals").locator("td.num").first).to_have_text("3")


async def test_indexing_is_followed_paused_and_taken_up_again(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Slow", "high_quality")
    shelf.model.is_open.clear()
    try:
        async with open_page(f"/knowledge/{base}", server=shelf.server) as page:
            await shelf.write(base, "held.md", "red tea\ngreen tea\nblack tea")
            await page.reload()
            held = row(page, "held.md")
            await expect(held).to_contain_text("0 of 3")
            await held.get_by_role("button", name="Pause: held.md").press("Enter")
            await expect(held).to_contain_text("Paused")
            shelf.model.is_open.set()
            await held.get_by_role("button", name="Resume: held.md").press("Enter")
            await expect(held).to_contain_text("Ready")

            shelf.model.is_failing = True
            await shelf.write(base, "bad.md", "white tea")
            await page.reload()
            bad = row(page, "bad.md")
            await expect(bad).to_contain_text("The key has expired.")
            await page.get_by_label("State").select_option("Failed")
            await expect(page.locator("tr[data-row]")).to_have_count(1)
            shelf.model.is_failing = False
            await bad.get_by_role("button", name="Retry: bad.md").click()
            await expect(page.get_by_text("Nothing matches.")).to_be_visible()
            await page.get_by_label("State").select_option("all")
            await ready(page, "bad.md")
    finally:
        shelf.model.is_failing = False
        shelf.model.is_open.set()


async def test_documents_are_renamed_disabled_archived_and_deleted(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Shelf")
    for number in (1, 2, 3):
        await shelf.write(base, f"note {number}.md", "tea")
    async with open_page(f"/knowledge/{base}", server=shelf.server) as page:
        for number in (1, 2, 3):
            await ready(page, f"note {number}.md")
        await page.get_by_role("button", name="Rename: note 1.md").click()
        field = page.get_by_role("dialog").get_by_label("Name")
        await expect(field).to_be_focused()
        await field.fill("Sencha 🍵 <i>")
        await field.press("Enter")
        await expect(row(page, "Sencha 🍵 <i>")).to_contain_text("Ready")

        for name, action, state in (("note 2.md", "Disable", "Disabled"), ("note 3.md", "Archive", "Archived")):
            await page.get_by_role("checkbox", name=name).check()
            await page.get_by_role("button", name=action, exact=True).click()
            await expect(row(page, name)).to_contain_text(state)
            await page.get_by_role("checkbox", name=name).uncheck()
        await expect(page.get_by_role("button", name="Delete: note 3.md")).to_be_disabled()
        await page.get_by_role("checkbox", name="Choose all on this page").check()
        await expect(page.get_by_text("3 chosen")).to_be_visible()
        await page.get_by_role("button", name="Unarchive").click()
        await ready(page, "note 3.md")

        await page.get_by_role("button", name="Delete: note 2.md").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(row(page, "note 2.md")).to_have_count(1)
        await page.get_by_role("button", name="Delete: note 2.md").click()
        await dialog.get_by_role("button", name="Delete").click()
        await expect(row(page, "note 2.md")).to_have_count(0)
        await page.keyboard.press("/")
        await page.keyboard.type("note")
        await expect(page.locator("tr[data-row]")).to_have_count(1)

        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download: note 3.md").click()
        assert (await (await download.value).path()).read_text() == "tea"


async def test_a_base_is_changed_and_deleted_once_its_name_is_typed(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Old name")
    await shelf.write(base, "a.md", "tea")
    async with open_page(f"/knowledge/{base}", server=shelf.server, amiss="400") as page:
        await ready(page, "a.md")
        await page.get_by_role("button", name="Edit", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name", exact=True).fill("Shelf of tea")
        await dialog.get_by_label(re.compile("^Meaning")).check()
        await expect(dialog.get_by_text("All documents are indexed again.")).to_be_visible()
        model = dialog.get_by_role("textbox", name="Embedding model")
        await model.fill("nobody/unknown")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_role("alert")).to_be_visible()
        await model.fill("openai/words")
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shelf of tea")
        await ready(page, "a.md")
        changed = await shelf.call("GET", f"/datasets/{base}")
        assert (changed["indexing_technique"], changed["embedding_model"]) == ("high_quality", "words")

        await page.get_by_role("button", name="Delete", exact=True).first.click()
        await expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
        await dialog.get_by_label("Type Shelf of tea to delete it").fill("Shelf of tea")
        await dialog.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Knowledge")
        await expect(row(page, "Shelf of tea")).to_have_count(0)


async def test_chunks_are_written_changed_disabled_and_deleted(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Chunks", "high_quality")
    document = await shelf.write(base, "tea.md", "\n".join(f"Tea number {number}." for number in range(1, 31)))
    async with open_page(f"/knowledge/{base}", server=shelf.server) as page:
        await ready(page, "tea.md")
        await page.get_by_role("link", name="tea.md").click()
        chunk = page.get_by_role("listitem", name="Chunk 2", exact=True)
        await chunk.get_by_role("button", name="Edit: Chunk 2").click()
        await chunk.get_by_label("Text", exact=True).fill("Matcha is ground tea.")
        await chunk.get_by_label("Keywords").fill("matcha, powder，粉")
        await chunk.get_by_role("button", name="Save").click()
        await expect(chunk).to_contain_text("Matcha is ground tea.")
        await expect(chunk.locator(".tag")).to_have_text(["matcha", "powder", "粉"])
        found = await shelf.call("POST", f"/datasets/{base}/retrieve", {"query": "matcha"})
        assert found["records"][0]["segment"]["content"] == "Matcha is ground tea."

        await chunk.get_by_role("button", name="Disable: Chunk 2").click()
        await expect(chunk).to_contain_text("Disabled")
        await expect(chunk.get_by_role("button", name="Edit: Chunk 2")).to_be_disabled()
        found = await shelf.call("POST", f"/datasets/{base}/retrieve", {"query": "matcha"})
        assert "Matcha is ground tea." not in [record["segment"]["content"] for record in found["records"]]
        await chunk.get_by_role("button", name="Enable: Chunk 2").click()
        await expect(chunk.get_by_role("button", name="Edit: Chunk 2")).to_be_enabled()

        await page.get_by_role("button", name="Add a chunk").click()
        await page.get_by_label("Text", exact=True).fill("Pu-erh is aged.")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("link", name="Next").click()
        await expect(page.get_by_role("listitem", name="Chunk 31")).to_contain_text("Pu-erh is aged.")
        await expect(page.get_by_text("Page 2 of 2")).to_be_visible()
        await page.get_by_role("button", name="Delete: Chunk 31").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("listitem", name="Chunk 31")).to_have_count(0)

        await page.keyboard.press("/")
        await page.keyboard.type("matcha")
        await expect(page.get_by_role("listitem", name=re.compile("^Chunk"))).to_have_count(1)
        assert document in page.url


async def test_child_chunks_are_shown_where_they_match_and_can_be_changed(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Parents", "high_quality")
    async with open_page(f"/knowledge/{base}", server=shelf.server) as page:
        await page.get_by_role("button", name="Paste a text").click()
        await page.get_by_text("Splitting: automatic").click()
        await page.get_by_label("Kind of chunks").select_option("Parents and children")
        await page.get_by_label("Name", exact=True).fill("parents.md")
        await page.get_by_label("Text", exact=True).fill("Oolong is blue.\nSencha is green.\n\nAssam is black.")
        await page.get_by_role("button", name="Add the text").click()
        await ready(page, "parents.md")
        await page.get_by_role("link", name="Test query").click()
        await page.get_by_label("Query", exact=True).fill("sencha green")
        await page.get_by_label("Query", exact=True).press("Enter")
        first = page.get_by_role("listitem", name="Result 1")
        await expect(first).to_contain_text("Oolong is blue.")
        await expect(first.locator(".kb-children li").first).to_contain_text("Sencha is green.")

        await first.get_by_role("link", name="parents.md #1").click()
        chunk = page.get_by_role("listitem", name="Chunk 1")
        await chunk.get_by_role("button", name="Edit child chunk 2").click()
        await chunk.get_by_label("Text of the child chunk").fill("Gyokuro is shaded.")
        await chunk.get_by_role("button", name="Save").click()
        await expect(chunk.locator(".kb-children")).to_contain_text("Gyokuro is shaded.")
        await chunk.get_by_role("button", name="Delete child chunk 1").click()
        await expect(chunk.get_by_text("1 child chunk", exact=True)).to_be_visible()
        await chunk.get_by_role("button", name="Add a child chunk").click()
        await chunk.get_by_label("Text of the child chunk").fill("Hojicha is roasted.")
        await chunk.get_by_role("button", name="Save").click()
        await expect(chunk.get_by_text("2 child chunks")).to_be_visible()


async def test_a_long_list_has_pages(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Many")
    for number in range(60):
        await shelf.write(base, f"note {number:02}.md", f"text {number}")
    async with open_page(f"/knowledge/{base}", server=shelf.server) as page:
        await expect(page.locator("tr[data-row]")).to_have_count(50)
        await page.get_by_role("link", name="Next").click()
        await expect(page.locator("tr[data-row]")).to_have_count(10)
        await expect(row(page, "note 00.md")).to_be_visible()
        await page.get_by_role("link", name="Previous").click()
        await expect(page.locator("tr[data-row]")).to_have_count(50)


async def test_a_reader_sees_all_and_changes_nothing(built: Path, browser: Browser, tmp_path: Path):
    with Provider([{"sub": "ada"}]) as provider:
        sign_on = {
            "HEADRACE_OIDC_ISSUER": provider.url,
            "HEADRACE_OIDC_AUDIENCE": "headrace",
            "HEADRACE_OIDC_DEFAULT_PERMISSIONS": "read",
            "HEADRACE_OIDC_CLIENT_ID": "console",
            "HEADRACE_OIDC_CLIENT_SECRET": "secret",
        }
        async with library(tmp_path, **sign_on) as shelf:
            base = await shelf.base("Manuals")
            await shelf.write(base, "pump.md", PUMP)
            page = await browser.new_page(locale="en-US")
            await page.route(re.compile(r"^https://"), lambda route: route.abort())  # the provider's style sheet
            await page.goto(f"{shelf.server.url}/console/knowledge/{base}")
            await page.get_by_role("link", name="Sign in with your organisation").click()
            await page.get_by_role("button", name="ada").click()
            await ready(page, "pump.md")
            labels = re.compile("Edit|Delete|Rename|Choose files|Paste|Disable|Pause")
            await expect(page.get_by_role("main").get_by_role("button", name=labels)).to_have_count(0)
            await expect(page.get_by_role("checkbox")).to_have_count(0)
            await page.get_by_role("link", name="pump.md").click()
            await expect(page.get_by_role("listitem", name="Chunk 3")).to_contain_text("Oil the motor")
            await expect(page.get_by_role("button", name=re.compile("Edit|Disable|Delete|Add"))).to_have_count(0)
            await page.goto(f"{shelf.server.url}/console/knowledge/{base}/search")
            await expect(page.get_by_text("Searching needs the permission to run.")).to_be_visible()
            await expect(page.get_by_role("button", name="Search", exact=True)).to_be_disabled()
            await page.goto(f"{shelf.server.url}/console/knowledge")
            await expect(row(page, "Manuals")).to_be_visible()
            await expect(page.get_by_role("button", name="New knowledge base")).to_have_count(0)
            await page.close()


async def test_a_knowledge_key_is_made_on_the_page_of_keys(open_page: OpenPage, shelf: Library):
    await shelf.base("Named by the key")
    async with open_page("/keys", server=shelf.server) as page:
        await page.get_by_label("Name", exact=True).fill("search")
        await page.get_by_label("Knowledge bases").check()
        await expect(page.get_by_label("Only these apps")).to_have_count(0)
        await page.get_by_role("button", name="Make the key").click()
        note = page.get_by_role("region", name="Key “search” is ready.")
        key = await note.locator("code").inner_text()
        assert key.startswith("dataset-")
        names = [base["name"] for base in (await replace(shelf, key=key).call("GET", "/datasets"))["data"]]
        assert "Named by the key" in names
        await expect(page.get_by_role("row", name="search")).to_contain_text("knowledge")


async def test_what_is_not_there_is_said(open_page: OpenPage, shelf: Library):
    base = await shelf.base("Nothing")
    missing = "6f1d2c3b-4a59-4687-b7c8-d9e0f1a2b3c4"
    async with open_page(server=shelf.server, amiss="404") as page:
        for path, message in (
            (f"/{missing}", "Dataset not found."),
            (f"/{missing}/search", "Dataset not found."),
            (f"/{base}/documents/{missing}", "Document not found."),
            ("/nonsense", "not found"),
        ):
            await page.goto(f"{shelf.server.url}/console/knowledge{path}")
            await expect(page.get_by_role("alert")).to_contain_text(message)


@pytest.mark.parametrize(("locale", "title"), [("zh-TW", "知識庫"), ("zh-CN", "知识库")])
async def test_in_chinese(open_page: OpenPage, shelf: Library, locale: str, title: str):
    async with open_page("/knowledge", server=shelf.server, locale=locale) as page:
        await expect(page.get_by_role("heading", name=title)).to_be_visible()


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_and_no_name_is_wider_than_the_page(
    open_page: OpenPage, shelf: Library, context: dict[str, object]
):
    base = await shelf.base(LONG[: 40 - len(str(context)) % 7], "high_quality")
    document = await shelf.write(base, LONG, f"{LONG * 20}\nshort", doc_form="text_model")
    async with open_page(
        f"/knowledge/{base}", server=shelf.server, bypass_csp=True, reduced_motion="reduce", **context
    ) as page:
        await ready(page, "WWW")
        await page.get_by_role("button", name="Paste a text").click()
        await page.get_by_text(re.compile("^Splitting:")).click()
        await page.get_by_label("Splitting").select_option("by these rules")
        await _is_sound(page)
        await page.get_by_role("button", name="Edit", exact=True).click()
        await page.get_by_role("dialog").get_by_label("Search").select_option("Both")
        await page.get_by_role("dialog").get_by_label("Order by").select_option("weights of meaning and words")
        await _is_sound(page)
        await page.goto(f"{shelf.server.url}/console/knowledge/{base}/documents/{document}")
        await page.get_by_role("listitem", name="Chunk 1", exact=True).wait_for()
        await page.get_by_role("button", name="Add a chunk").click()
        await _is_sound(page)
        await page.goto(f"{shelf.server.url}/console/knowledge/{base}/search")
        await page.get_by_label("Query", exact=True).fill("short")
        await page.get_by_label("Query", exact=True).press("Enter")
        await page.get_by_role("listitem", name="Result 1").wait_for()
        await _is_sound(page)
        await page.goto(f"{shelf.server.url}/console/knowledge")
        await page.locator("tr[data-row]").first.wait_for()
        await _is_sound(page)


async def _is_sound(page: Page) -> None:
    await no_fault(page, WEB)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
