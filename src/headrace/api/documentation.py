"""The API's own documentation: `/openapi.json`, and `/docs` (also `/redoc`), a page that shows it.

The page is plain HTML: it loads nothing and runs no script, so it works without Internet access.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from headrace.api.http.responses import encode
from headrace.api.middleware.request_context import ROOT
from headrace.api.openapi import document

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
summary { cursor: pointer; padding: .3rem 0 } details { border-bottom: 1px solid #ddd }
details > div { padding: 0 0 1rem 1.5rem } b { display: inline-block; min-width: 4rem }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto } td { padding-right: 1rem; vertical-align: top }
@media (prefers-color-scheme: dark) {
body { background: #181818; color: #ddd } a { color: #8bf } pre { background: #282828 } details { border-color: #444 } }
"""


class DocumentationRoutes:
    """`routes` are the API's; `public_url` is where clients reach it, if that is configured."""

    def __init__(self, routes: Sequence[BaseRoute], public_url: str = "") -> None:
        self._routes = routes
        self._public_url = public_url.rstrip("/")
        self._document: dict[str, Any] | None = None
        self._pages: dict[str, bytes] = {}  # by root path

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.describe, include_in_schema=False),
            Route("/docs", self.page, include_in_schema=False),
            Route("/redoc", self.page, include_in_schema=False),
        ]

    async def describe(self, request: Request) -> Response:
        url = self._public_url or request.scope.get(ROOT, "")
        body = self._pages.get(url)
        if body is None:
            description = self._described()
            body = encode({**description, "servers": [{"url": url}]} if url else description)
            if len(self._pages) < 100:  # a proxy may name any number of root paths
                self._pages[url] = body
        return Response(body, media_type="application/json")

    async def page(self, request: Request) -> Response:
        page = "".join(_page(self._described()))
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = document(self._routes)
        return self._document


def _page(description: Mapping[str, Any]) -> Iterator[str]:
    info = description["info"]
    title = f"{info['title']} {info['version']}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<h1>{escape(title)}</h1>{_prose(info['description'])}"
    yield '<p>For tools (Postman, Swagger UI, generators of clients): <a href="openapi.json">openapi.json</a></p>'
    by_tag: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append("".join(_operation(method, path, operation)))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"
    yield "<h2>Schemas</h2>"
    for name, schema in description["components"]["schemas"].items():
        yield f'<details id="{escape(name)}"><summary>{escape(name)}</summary><div>{_pre(schema)}</div></details>'


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details id="{escape(operation["operationId"])}">'
    yield f"<summary><b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
    yield f"<div>{_prose(operation['description'])}"
    if parameters := operation.get("parameters"):
        yield "<h4>Parameters</h4><table>"
        for parameter in parameters:
            required = "required" if parameter["required"] else ""
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}<td>{required}"
            yield f"<td>{_inline(parameter['description'])}<td><code>{escape(json.dumps(parameter['schema']))}</code>"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<h4>Request body</h4>{''.join(_contents(body.get('content', {})))}"
    for status, response in operation["responses"].items():
        yield f"<h4>{escape(status)} {escape(response['description'])}</h4>"
        yield from _contents(response.get("content", {}))
    yield "</div></details>"


def _contents(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for kind, content in contents.items():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        yield f'<p>{escape(kind)} <a href="#{escape(name)}">{escape(name)}</a></p>'
        yield from (_pre(example) for example in _examples(content))


def _examples(content: Mapping[str, Any]) -> Iterable[Any]:
    examples: Mapping[str, Any] = content.get("examples", {})
    return [content["example"]] if "example" in content else [example["value"] for example in examples.values()]


def _pre(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n"))


def _inline(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))
