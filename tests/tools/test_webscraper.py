"""The provider `webscraper`, on a real server of pages and with the real readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import docx
import pytest
from aiohttp import web

from headrace.adapters.documents import DocumentReader
from headrace.adapters.http import HttpClient
from headrace.adapters.tools.builtin.webscraper import WEBSCRAPER
from headrace.errors import NodeError
from headrace.ports.services import ChatChunk, ChatRequest, TextMessage, Usage, UsageMessage
from headrace.ports.services.tool_parameters import arguments
from tests.documents.making import saved
from tests.tools.calling import answer_of, builtin_tools, messages_of

ARTICLE = """<html><head><title>Tides</title><meta name="author" content="Ann Lee"></head><body>
<nav><a href="/">Home</a><a href="/x">Menu</a></nav><article><h1>Tides</h1>
<p>The sea rises and falls twice a day, because the moon pulls at the water, and at the earth,
   with different strength.</p>
<p>A second paragraph with a <a href="/y">link</a> and some <b>bold</b> words,
   long enough that nobody would take it for a menu, a footer or an advertisement.</p>
</article></body></html>"""
TEXT = [
    {"text": "Tides"},
    {
        "text": "The sea rises and falls twice a day, because the moon pulls at the water, and at the earth, with "
        "different strength."
    },
    {
        "text": "A second paragraph with a link and some bold words, long enough that nobody would take it for a "
        "menu, a footer or an advertisement."
    },
]
FULL = f"\nTITLE: Tides\nAUTHOR: Ann Lee\nTEXT: {TEXT}\n"

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def report() -> bytes:
    document = docx.Document()
    document.add_paragraph("A report")
    return saved(document)


REPORT = report()


class Site:
    """Answers by path; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path, request.headers["User-Agent"]))
        match request.path:
            case "/moved":
                raise web.HTTPFound("/page")
            case "/shy" if request.method == "HEAD":
                return web.Response(status=403)
            case "/page" | "/shy":
                return web.Response(text=ARTICLE, content_type="text/html")
            case "/latin":
                body = ARTICLE.replace("Ann Lee", "André").encode("latin-1")
                return web.Response(body=body, headers={"Content-Type": "text/html; charset=iso-8859-1"})
            case "/empty":
                return web.Response(text="<html><body></body></html>", content_type="text/html")
            case "/report":
                return web.Response(body=REPORT, content_type=WORD)
            case "/notes":
                return web.Response(text="some notes", content_type="text/plain")
            case "/attached":
                headers = {"Content-Type": "", "Content-Disposition": 'attachment; filename="notes.txt"'}
                return web.Response(body=b"some notes", headers=headers)
            case "/picture":
                return web.Response(body=b"png", content_type="image/png")
            case _:
                return web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, app = Site(), web.Application()
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(["127.0.0.1"])
    yield client
    await client.aclose()


async def scrape(http: HttpClient, url: str, **parameters: Any) -> str:
    tools = builtin_tools(http=http, documents=DocumentReader())
    return await answer_of(tools, "webscraper", "webscraper", {"url": url, **parameters})


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/page", FULL),
        ("/moved", FULL),
        ("/shy", FULL),
        ("/latin", FULL.replace("Ann Lee", "André")),
        ("/empty", ""),
        ("/notes", "some notes"),
        ("/attached", "some notes"),
        ("/report", "A report"),
        ("/picture", "Unsupported content-type [image/png] of URL."),
        ("/nowhere", "URL returned status code 404."),
    ],
)
async def test_what_is_at_a_url(site: Site, http: HttpClient, path: str, answer: str):
    assert await scrape(http, site.url + path) == answer


async def test_the_server_is_asked_first_and_told_of_the_browser(site: Site, http: HttpClient):
    await scrape(http, f"{site.url}/page", user_agent="Mine/1.0")
    assert site.requests == [("HEAD", "/page", "Mine/1.0"), ("GET", "/page", "Mine/1.0")]
    await scrape(http, f"{site.url}/page", **arguments(WEBSCRAPER, {}, {}))
    assert site.requests[-1][2].endswith("Chrome/100.0.1000.0 Safari/537.36")


async def test_without_a_url_it_asks_for_one(http: HttpClient):
    assert await scrape(http, "") == "Please input url"


async def test_private_addresses_are_refused(site: Site):
    client = HttpClient()
    with pytest.raises(NodeError) as raised:
        await scrape(client, f"{site.url}/page")
    await client.aclose()
    assert raised.value.kind == "EgressRefused"
    assert site.requests == []


class Summarizer:
    """Answers with the length of the text to summarize."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> AsyncIterator[ChatChunk]:
        self.requests.append(request)
        yield ChatChunk(f"{len(request.messages[1].text)} characters")
        yield ChatChunk(usage=Usage(prompt_tokens=1))


class Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    async def article(self, data: bytes, *, charset: str = "") -> str:
        return self._text


async def summary(
    http: HttpClient, site: Site, text: str, models: Summarizer, model: str = "openai/small"
) -> list[Any]:
    tools = builtin_tools(http=http, documents=Reader(text), models=models, summary_model=model)
    return await messages_of(tools, "webscraper", "webscraper", {"url": f"{site.url}/page", "generate_summary": True})


async def test_a_long_page_is_summarized_in_pieces(site: Site, http: HttpClient):
    models = Summarizer()
    answer = await summary(http, site, "word " * 6000, models)
    usage = UsageMessage(Usage(prompt_tokens=1).wire())
    assert answer == [TextMessage("11999 characters\n11999 characters\n5999 characters"), usage, usage, usage]
    assert {(request.provider, request.model, request.user) for request in models.requests} == {
        ("openai", "small", "user")
    }


async def test_a_short_page_is_its_own_summary(site: Site, http: HttpClient):
    assert await summary(http, site, "short", models := Summarizer()) == [TextMessage("short")]
    assert models.requests == []


async def test_a_summary_needs_a_model_and_an_end(site: Site, http: HttpClient):
    with pytest.raises(NodeError, match="set HEADRACE_SUMMARY_MODEL"):
        await summary(http, site, "word " * 6000, Summarizer(), "")
    with pytest.raises(NodeError, match="too long to be summarized"):
        await summary(http, site, "word " * 200_000, Summarizer())
