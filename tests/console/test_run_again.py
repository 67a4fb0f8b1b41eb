"""A run again: its inputs in another version, side by side, and from one of its steps on with changed values."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browsers import no_fault
from tests.cli.flows import code
from tests.console.conftest import PHONE, WEB, OpenPage, ended, publish, submit, words
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def finished(server: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of the first version of `words`. The current one adds another mark, and has a step more."""
    run = submit(server, "words", query="tea")
    ended(server, "words", run)
    check = {**code("def main():\n    return {'ok': 'x'}", ok="string"), "id": "check", "title": "Check"}
    publish(server, "words", words(tmp_path_factory.mktemp("second") / "words.yml", "?", check))
    return run


async def test_the_inputs_of_a_run_in_another_version_side_by_side(open_page: OpenPage, finished: str):
    async with open_page(f"/runs/{finished}") as page:
        await page.get_by_role("button", name="Run again").first.press("Enter")
        dialog = page.get_by_role("dialog", name="Run again")
        await expect(dialog.get_by_label("Version").locator("option:checked")).to_have_text("v2, current")
        await expect(dialog.get_by_label("query")).to_have_value("tea")
        await dialog.get_by_role("button", name="Run", exact=True).press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Compare runs")
        await expect(page.get_by_role("region", name="Run of v2").get_by_text("Succeeded").first).to_be_visible()
        row = page.locator("tr[data-pair]")
        await expect(row.filter(has_text="Double")).to_contain_text("equal")
        await expect(row.filter(has_text="Mark")).to_contain_text("differ")
        await expect(row.filter(has_text="Check")).to_contain_text("not in this version")
        changes = page.get_by_role("region", name="Changes of Outputs: Runs")
        await expect(changes.get_by_role("deletion")).to_have_text("text: teatea!")
        await expect(changes.get_by_role("insertion")).to_have_text("text: teatea?")
        await page.get_by_role("link", name="Double").press("Enter")
        await expect(page.get_by_text("Outputs: Double: no difference.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("Outputs: Double: no difference.")).to_be_visible()
        await page.get_by_role("region", name="Run of v2").get_by_role("link", name="Open the run").click()
        fact = page.locator(".facts > div", has_text="Replay of")
        await expect(fact).to_contain_text(finished[-8:])


async def test_a_run_from_a_step_on_with_another_result_of_the_step_before(open_page: OpenPage, finished: str):
    async with open_page(f"/runs/{finished}?step=mark") as page:
        await page.get_by_role("button", name="Run again from this step").press("Enter")
        dialog = page.get_by_role("dialog", name="Run again")
        await expect(dialog.get_by_role("definition").first).to_have_text("Start, Double")
        await expect(dialog.get_by_role("definition").nth(1)).to_have_text("Mark, End")
        await dialog.get_by_label("twice").fill("coffee")
        await dialog.get_by_role("button", name="Run", exact=True).click()
        fact = page.locator(".facts > div", has_text="Retry of")
        await expect(fact.get_by_role("link", name=finished[-8:])).to_be_visible()
        await expect(page.locator(".runhead .st")).to_have_text("Succeeded")
        await page.get_by_role("region", name="Steps").get_by_role("link", name="Double").click()
        await expect(page.get_by_text("Reused from the run that this one repeats.")).to_be_visible()
        await page.get_by_role("region", name="Steps").get_by_role("link", name="End").click()
        panel = page.get_by_role("complementary", name="Chosen step")
        await expect(panel.get_by_role("group", name="Output")).to_contain_text("coffee!")


async def test_a_value_that_is_not_json_is_not_sent(open_page: OpenPage, server: Serve):
    run = submit(server, "rounds")
    ended(server, "rounds", run)
    async with open_page(f"/runs/{run}?step=each") as page:
        await page.get_by_role("button", name="Run again from this step").click()
        dialog = page.get_by_role("dialog", name="Run again")
        await dialog.get_by_label("rows").fill("[1,")
        await expect(dialog.get_by_role("alert")).to_have_text("This is not valid JSON.")
        start = dialog.get_by_role("button", name="Run", exact=True)
        await expect(start).to_have_attribute("aria-disabled", "true")
        await dialog.get_by_label("rows").fill("[7]")
        await start.click()
        await expect(page.get_by_role("button", name="Each row")).to_contain_text("1 of 1")


@pytest.mark.parametrize(
    "context",
    [{}, {"color_scheme": "dark"}, PHONE, {"viewport": {"width": 360, "height": 740}, "locale": "zh-TW"}],
    ids=["light", "dark", "phone", "small"],
)
async def test_axe_finds_nothing_in_runs_again(
    open_page: OpenPage, server: Serve, finished: str, context: dict[str, object]
):
    other = submit(server, "words", query="tea")
    ended(server, "words", other)
    async with open_page(
        f"/runs/{finished}/compare?with={other}", bypass_csp=True, reduced_motion="reduce", **context
    ) as page:
        await page.locator(".change").first.wait_for()
        await _faultless(page)
        await page.goto(f"{server.url}/console/runs/{finished}")
        await page.locator(".runhead .b").first.click()
        await page.get_by_role("dialog").locator("textarea").wait_for()
        await _faultless(page)
        await page.get_by_role("dialog").locator("#again-from").select_option("mark")
        await page.get_by_role("dialog").locator("textarea").first.wait_for()
        await _faultless(page)


async def _faultless(page: Page) -> None:
    await no_fault(page, WEB)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
