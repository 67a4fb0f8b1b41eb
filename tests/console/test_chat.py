"""The console's chat window: conversations, files, thoughts, stopping, and answers that survive reloads and crashes."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browsers import no_fault
from tests.console.conftest import PHONE, WEB, OpenPage
from tests.server.process import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


def address(server: Serve, name: str) -> str:
    return f"/apps/{server.apps[name]['app_id']}"


async def say(page: Page, text: str) -> None:
    field = page.get_by_label("Message", exact=True)
    await field.fill(text)
    await field.press("Enter")


async def answered(page: Page, count: int) -> None:
    await expect(page.get_by_role("button", name="Copy the answer")).to_have_count(count)


async def test_a_conversation_stays_when_the_page_is_loaded_again(open_page: OpenPage, server: Serve):
    async with open_page(address(server, "talk")) as page:
        await page.get_by_text("What shall we talk about?").wait_for()
        await page.get_by_role("button", name="How do I make good tea?").click()
        # the question waits for the input that the form requires
        await expect(page.get_by_label("Message", exact=True)).to_have_value("How do I make good tea?")
        await page.get_by_label("tone").fill("Calm")
        await page.locator("input[type=file]").set_input_files(
            {"name": "tea.txt", "mimeType": "text/plain", "buffer": b"Steep it for three minutes."}
        )
        await expect(page.get_by_role("button", name="Remove tea.txt")).to_be_visible()
        await page.get_by_role("button", name="Send").click()
        await answered(page, 1)
        turn = page.get_by_role("article")
        await expect(turn).to_contain_text("Calm: [Demo model]")
        await expect(turn).to_contain_text("tea.txt")
        await expect(turn.get_by_text("Let me see.")).to_be_hidden()
        await turn.get_by_text("Thoughts").click()
        await expect(turn.get_by_text("Let me see.")).to_be_visible()
        await turn.get_by_role("button", name="Good answer").click()
        await expect(turn.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
        await say(page, "<b>再說一次</b>\n謝謝")
        await answered(page, 2)

        await page.reload()
        await answered(page, 2)
        first, second = page.get_by_role("article").nth(0), page.get_by_role("article").nth(1)
        await expect(first.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
        await expect(first).to_contain_text("tea.txt")
        await expect(second.locator(".me")).to_have_text("You: <b>再說一次</b>\n謝謝")
        # the input of the first message goes with the others
        await expect(second).to_contain_text("Calm: 【示範模型】")

        await page.get_by_role("link", name="New conversation").click()
        await expect(page.get_by_text("What shall we talk about?")).to_be_visible()
        await expect(page.get_by_label("tone")).to_have_value("Calm")
        await page.get_by_role("navigation", name="Conversations").get_by_role("link", name="How do I make").click()
        await answered(page, 2)


async def test_an_answer_is_stopped_by_escape(open_page: OpenPage, server: Serve):
    async with open_page(address(server, "talk")) as page:
        await page.get_by_label("tone").fill("Calm")
        await say(page, "Think slowly")
        await expect(page.get_by_role("article")).to_contain_text("Look it up")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("article").locator(".st")).to_have_text("Stopped")
        await say(page, "And now?")
        await expect(page.get_by_role("article").nth(1)).to_contain_text('The prompt was: "')


async def test_an_answer_comes_though_its_server_is_killed(open_page: OpenPage, server: Serve):
    async with open_page(address(server, "talk"), amiss="ERR_|Failed to load") as page:
        await page.get_by_label("tone").fill("Calm")
        await say(page, "Think slowly")
        turn = page.get_by_role("article")
        await expect(turn).to_contain_text("Look it up")
        server.kill()
        await expect(page.get_by_text("Reconnecting. Runs go on at the server.")).to_be_visible()
        server.__enter__()
        await answered(page, 1)
        await expect(turn).to_contain_text("Calm: [Demo model]")
        await expect(page.get_by_text("Reconnecting.")).to_have_count(0)


async def test_a_message_that_is_refused_comes_back(open_page: OpenPage, server: Serve):
    async with open_page(address(server, "helper"), amiss="Failed to load") as page:
        await page.route(
            "**/run", lambda route: route.fulfill(status=429, json={"code": "busy", "message": "Too many."})
        )
        await say(page, "What year is it?")
        await expect(page.get_by_role("alert")).to_contain_text("The message was not sent. Too many.")
        await expect(page.get_by_label("Message", exact=True)).to_have_value("What year is it?")
        await expect(page.get_by_role("article")).to_have_count(0)


async def test_what_is_written_outlives_the_session(open_page: OpenPage, server: Serve):
    refusal = {"code": "unauthorized", "message": "The session has ended."}
    async with open_page(address(server, "helper"), amiss="Failed to load") as page:
        await page.route("**/run", lambda route: route.fulfill(status=401, json=refusal))
        await say(page, "What year is it?")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.unroute("**/run")
        await page.reload()  # signed in again
        await expect(page.get_by_label("Message", exact=True)).to_have_value("What year is it?")
        await page.get_by_role("button", name="Send").click()
        await answered(page, 1)
        await page.reload()
        await answered(page, 1)
        await expect(page.get_by_label("Message", exact=True)).to_have_value("")


async def test_a_message_whose_response_was_lost_is_not_sent_twice(open_page: OpenPage, server: Serve):
    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    async with open_page(address(server, "helper"), amiss="ERR_FAILED") as page:
        await page.route("**/run", lose, times=1)
        await say(page, "Only once")
        await expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
        await page.get_by_role("button", name="Send").click()
        await answered(page, 1)
        await page.reload()
        await answered(page, 1)
        conversations = page.get_by_role("navigation", name="Conversations")
        await expect(conversations.get_by_role("link", name="Only once")).to_have_count(1)


ANSWER = """# Green tea
**Steep** it for *three* minutes:
1. Water of `80 °C`
   - not more
2. See [the book](https://example.com/tea) or https://example.com/water.

| tea | minutes |
|---|---|
| green | 3 |

```html
<b>not bold</b>
```
> Quoted
> twice

<img src=x onerror="alert(1)"> [no](javascript:alert(1)) ![picture](https://example.com/a.png)
- open **mark"""


async def test_an_answer_is_shown_as_markdown_and_never_as_html(open_page: OpenPage, server: Serve):
    async def with_answer(route: Route) -> None:
        response = await route.fetch()
        body = await response.json()
        for message in body.get("data", [body]):
            message["answer"] = ANSWER
            message["retriever_resources"] = [{"position": 1, "document_name": "Teas", "content": "About tea"}]
            if "message_files" in message:
                audio = {"filename": "said.mp3", "type": "audio", "url": f"{server.url}/said.mp3"}
                message["message_files"] = [{**audio, "belongs_to": "assistant"}]
        await route.fulfill(response=response, json=body)

    async with open_page(address(server, "helper"), amiss="404", bypass_csp=True) as page:
        await say(page, "How long?")
        await answered(page, 1)
        await page.route(re.compile(r"/v1/messages\?|/workflow-runs/[\w-]+$"), with_answer)
        await page.reload()
        text = page.locator(".md")
        await expect(text.get_by_role("heading", name="Green tea", level=2)).to_be_visible()
        await expect(text.locator("ol > li")).to_have_count(2)
        await expect(text.locator("ol ul > li")).to_have_text("not more")
        await expect(text.locator("strong")).to_have_text("Steep")
        await expect(text.get_by_role("cell", name="green")).to_be_visible()
        await expect(text.locator("pre")).to_have_text("<b>not bold</b>")
        await expect(text.locator("blockquote br")).to_have_count(1)
        links = await text.get_by_role("link").evaluate_all("links => links.map(link => link.href)")
        assert links == ["https://example.com/tea", "https://example.com/water", "https://example.com/a.png"]
        await expect(text.locator("img, script, b")).to_have_count(0)
        await expect(text).to_contain_text('<img src=x onerror="alert(1)"> [no](javascript:alert(1))')
        await expect(text).to_contain_text("open **mark")
        turn = page.get_by_role("article")
        await expect(turn.locator("audio")).to_have_attribute("src", f"{server.url}/said.mp3")
        await turn.get_by_text("1 source").click()
        await expect(turn.get_by_text("About tea")).to_be_visible()
        await no_fault(page, WEB)


async def test_a_conversation_is_renamed_and_deleted(open_page: OpenPage, server: Serve):
    async with open_page(address(server, "helper"), bypass_csp=True) as page:
        await say(page, "A first question")
        await answered(page, 1)
        listed = page.get_by_role("navigation", name="Conversations").get_by_role("listitem")
        await page.get_by_role("button", name="Rename the conversation").press("Enter")
        dialog = page.get_by_role("dialog", name="Rename the conversation")
        await dialog.get_by_role("button", name="Cancel").press("g")
        await page.keyboard.press("r")  # keys of the page below have no effect
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await page.keyboard.press("Enter")  # the focus is where it was
        await dialog.get_by_label("Name").fill("關於茶 🍵")
        await no_fault(page, WEB)
        await page.keyboard.press("Enter")
        await expect(listed.filter(has_text="關於茶 🍵")).to_have_count(1)
        other = await page.context.new_page()
        await other.goto(page.url)
        await answered(other, 1)
        await page.get_by_role("button", name="Delete the conversation").click()
        dialog = page.get_by_role("dialog", name="Delete the conversation")
        await expect(dialog).to_contain_text("關於茶 🍵")
        await dialog.get_by_role("button", name="Delete the conversation").click()
        await expect(listed.filter(has_text="關於茶 🍵")).to_have_count(0)
        await expect(page.get_by_role("article")).to_have_count(0)
        assert "conversation=" not in page.url
        await expect(other.get_by_role("article")).to_have_count(0)  # in the other tab, too
        await expect(other.get_by_text("關於茶 🍵")).to_have_count(0)
        await other.close()


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
async def test_axe_finds_nothing_in_the_chat_with_an_agent(
    open_page: OpenPage, server: Serve, context: dict[str, object]
):
    async with open_page(address(server, "helper"), bypass_csp=True, reduced_motion="reduce", **context) as page:
        await page.get_by_label("Message", exact=True).wait_for()
        await no_fault(page, WEB)
        await say(page, "What year is it?")
        await answered(page, 1)
        turn = page.get_by_role("article")
        await turn.get_by_text("Thoughts · 1 tool call").click()
        await expect(turn.get_by_role("group", name="current_time")).to_contain_text(re.compile(r"output.*20\d\d"))
        await no_fault(page, WEB)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
