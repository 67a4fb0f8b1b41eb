from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request

from tests.browsers import PATIENCE, build, chromium, require_browser
from tests.cli.flows import code, environ, field, flow, llm
from tests.console.chats import agent, talk
from tests.console.rounds import nested, rounds
from tests.server.process import Serve

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web" / "console"
STATIC = ROOT / "src" / "headrace" / "api" / "console" / "static"

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

OpenPage = Callable[..., AbstractAsyncContextManager[Page]]


@pytest.fixture(scope="package")
def built() -> Path:
    """The built pages."""
    require_browser()
    build(WEB, STATIC, ROOT / "web" / "ui")
    return STATIC


def words(file: Path, mark: str = "!", *more: dict[str, Any]) -> Path:
    """Doubles its query, then adds a mark to the words."""
    double = code("def main(text):\n    return {'twice': text * 2}", {"text": ("start", "query")}, twice="string")
    add = code(f"def main(text):\n    return {{'text': text + '{mark}'}}", {"text": ("double", "twice")}, text="string")
    nodes = [{**double, "id": "double", "title": "Double"}, {**add, "id": "mark", "title": "Mark"}, *more]
    return flow(file, *nodes, variables=[field("query")], outputs={"text": ("mark", "text")})


def _asks(file: Path) -> Path:
    """Waits for the approval of a text."""
    ask = {
        "id": "approve",
        "type": "human-input",
        "title": "Approve the text",
        "delivery_methods": [{"id": "page", "type": "webapp", "enabled": True, "config": {}}],
        "form_content": "*Red tea* from Yilan.\n\n{{#$output.comment#}}",
        "inputs": [{"type": "paragraph", "output_variable_name": "comment", "default": None}],
        "user_actions": [{"id": "approve", "title": "Approve", "button_style": "primary"}],
        "timeout": 2,
        "timeout_unit": "day",
    }
    return flow(file, ask, variables=[field("product")])


@pytest.fixture(scope="package")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A real server with the built pages. `failing` fails after its model has written, `rounds` takes some seconds,
    `talk` and `helper` are chats, `asks` waits for a person, and tests publish to `versions` and `update`."""
    folder = tmp_path_factory.mktemp("console")
    fails = code("def main():\n    raise ValueError('the shelf is empty')", ok="string")
    files = [
        flow(folder / "failing.yml", llm(), fails, variables=[field("query")], icon="🍵"),
        rounds(folder / "rounds.yml"),
        nested(folder / "nested.yml"),
        talk(folder / "talk.yml"),
        agent(folder / "helper.yml"),
        _asks(folder / "asks.yml"),
        flow(folder / "versions.yml"),
        words(folder / "words.yml"),
        words(folder / "update.yml"),
    ]
    with Serve(folder, files, environ(HEADRACE_DEMO_MODEL="true")) as server:
        yield server


def publish(server: Serve, name: str, file: Path) -> None:
    """Makes a file the current version of an app."""
    app = server.apps[name]
    headers = {"Authorization": f"Bearer {app['key']}", "Content-Type": "application/yaml"}
    url = f"{server.url}/api/v1/workflows/{app['app_id']}/versions"
    response = httpx.post(url, headers=headers, content=file.read_bytes(), timeout=60)
    assert response.status_code in (200, 201), response.text


def submit(server: Serve, name: str, **inputs: str) -> str:
    """The id of a new run."""
    app = server.apps[name]
    response = httpx.post(
        f"{server.url}/api/v1/workflows/{app['app_id']}/run",
        headers={"Authorization": f"Bearer {app['key']}"},
        json={"inputs": inputs, "user": "ann"},
        timeout=60,
    )
    assert response.status_code == 202, response.text
    return response.json()["workflow_run_id"]


def ended(server: Serve, name: str, run: str) -> None:
    """Waits for the end of a run."""
    headers = {"Authorization": f"Bearer {server.apps[name]['key']}"}
    url = f"{server.url}/api/v1/workflow-runs/{run}?wait=60"
    assert httpx.get(url, headers=headers, timeout=120).json()["finished_at"] is not None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(built: Path) -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser, server: Serve) -> OpenPage:
    """`async with open_page(path, **context) as page`: signed in by the printed link, in a browser of its own. Nothing
    may be amiss in its console but lines that `amiss` matches, and no request may leave the machine."""

    @asynccontextmanager
    async def open_page(
        path: str = "/apps", amiss: str | None = None, server: Serve = server, **context: Any
    ) -> AsyncIterator[Page]:
        own = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **context})
        page = await own.new_page()
        lines: list[str] = []
        hosts: set[str | None] = set()

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                lines.append(message.text)

        def note_request(request: Request) -> None:
            hosts.add(urlsplit(request.url).netloc or None)

        page.on("console", note)
        page.on("pageerror", lambda error: lines.append(str(error)))
        page.on("request", note_request)
        page.set_default_timeout(PATIENCE)
        await page.goto(link(server))
        await page.locator("#main").wait_for()
        if path != "/apps":
            await page.goto(f"{server.url}/console{path}")
        yield page
        await own.close()
        assert hosts <= {urlsplit(server.url).netloc, None}
        assert [line for line in lines if amiss is None or not re.search(amiss, line)] == []

    return open_page


def link(server: Serve) -> str:
    """What the server has printed when it started."""
    url = re.search(r"http\S+/console#token=\S+", "".join(server.said))
    assert url is not None
    return url[0]
