"""The provider `webscraper`: the article of a web page, or the text of a document on the web."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.adapters.tools.builtin.builtin_tool import INVOKE_ERROR, BuiltinTool
from headrace.adapters.tools.builtin.summary import summarized
from headrace.content.disposition import parse_disposition
from headrace.content.filetypes import essence, guess_type
from headrace.errors import NodeError
from headrace.ports.services import (
    Documents,
    Http,
    HttpRequest,
    HttpResponse,
    Models,
    TextMessage,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolSpec,
)
from headrace.values import Value

_HTML = "text/html"
_DOCUMENTS = (
    "text/",
    "application/json",
    "application/pdf",
    "application/epub+zip",
    "application/vnd.openxmlformats-officedocument.",
    "message/rfc822",
)
_LARGEST = 20 * 1024 * 1024  # bytes
_BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
WEBSCRAPER = ToolSpec(
    "webscraper",
    "Web Scraper",
    "A tool for scraping webpages. Input should be a URL.",
    (
        ToolParameter("url", required=True, description="url for scraping"),
        ToolParameter("user_agent", form="form", default=f"{_BROWSER} Chrome/100.0.1000.0 Safari/537.36"),
        ToolParameter("generate_summary", "boolean", form="form", default="false"),
    ),
)


def webscraper_tools(http: Http, documents: Documents, models: Models, model: str) -> Sequence[BuiltinTool]:
    """The tools of the provider; `model` (PROVIDER/MODEL) summarizes."""

    async def webscraper(parameters: Mapping[str, Value], context: ToolContext) -> str | Iterable[ToolMessage]:
        url = str(parameters.get("url") or "").strip()
        if not url:
            return "Please input url"
        agent = str(parameters.get("user_agent") or f"{_BROWSER} Chrome/91.0.4472.124 Safari/537.36")
        text = await _read(url, agent, http, documents)
        if not parameters.get("generate_summary"):
            return text
        summary, usage = await summarized(text, models, model, context.user)
        return (TextMessage(summary), *usage)

    return (BuiltinTool(WEBSCRAPER, webscraper),)


async def _read(url: str, agent: str, http: Http, documents: Documents) -> str:
    """What is at a URL, or a sentence that says why it is not read."""
    headers = [("User-Agent", agent)]
    response = await http.send(HttpRequest("HEAD", url, headers, connect_timeout=5, read_timeout=10, max_size=_LARGEST))
    if response.status not in (200, 403):  # some servers refuse HEAD, or what is not a browser
        return f"URL returned status code {response.status}."
    kind = _HTML if response.status == 403 else _type(response)
    if not (kind and kind.startswith(_DOCUMENTS)):
        return f"Unsupported content-type [{kind}] of URL."
    if response.status == 403:
        headers += [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("Accept-Language", "en")]
    response = await http.send(
        HttpRequest("GET", url, headers, connect_timeout=120, read_timeout=300, max_size=_LARGEST)
    )
    if response.status != 200:
        return f"URL returned status code {response.status}."
    charset = _header(response, "content-type").lower().partition("charset=")[2].strip("\"' ")
    try:
        if kind == _HTML:
            return await documents.article(response.body, charset=charset)
        return await documents.text(response.body, extension="", mime_type=kind)
    except NodeError as error:
        raise NodeError(str(error), INVOKE_ERROR) from error


def _type(response: HttpResponse) -> str | None:
    """The type of what a response announces: by its header, else by the name of the file that it says it is."""
    if kind := essence(_header(response, "content-type")):
        return kind
    name = parse_disposition(_header(response, "content-disposition")).filename
    return guess_type(name) or None if name else None


def _header(response: HttpResponse, name: str) -> str:
    return next((value for key, value in response.headers if key.lower() == name), "")
