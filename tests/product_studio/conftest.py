from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from playwright.async_api import Browser, ConsoleMessage, Page
from product_studio.settings import FOLDER

from tests.browsers import PATIENCE, build, chromium, require_browser
from tests.cli.flows import code, environ, field, flow, llm
from tests.product_studio import slow_model
from tests.product_studio.page import WEB, OpenPage
from tests.product_studio.studio import Studio
from tests.sdk_contract.fault_server import Faults
from tests.sdk_contract.serving import Running
from tests.server.process import Serve

ROOT = Path(__file__).parents[2]
WORKFLOW = FOLDER.parent / "product-detail" / "product-detail.yml"
WITH_APPROVAL = WORKFLOW.with_name("product-detail-approval.yml")


REFUSES = "def main(product_name):\n    raise ValueError('secret detail')"


@pytest.fixture(scope="package")
def built() -> Path:
    """The built page."""
    require_browser()
    build(WEB, WEB / "dist", ROOT / "web" / "ui")
    return WEB / "dist"


def changed_workflow(folder: Path, name: str, source: Path = WORKFLOW, **changes: object) -> Path:
    """The example's workflow as `name`, with its writer's settings changed."""
    document = yaml.safe_load(source.read_text("utf-8"))
    nodes = {node["id"]: node["data"] for node in document["workflow"]["graph"]["nodes"]}
    nodes["write"]["model"]["completion_params"] |= {"max_tokens": changes["words"]}
    nodes["write"]["model"] |= {"provider": changes.get("provider", nodes["write"]["model"]["provider"])}
    if "check" in changes:
        nodes["check"]["code"] = changes["check"]
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    return file


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A real server. `quick` and `slow` are the example, `failing` fails in its second step, `other` answers something
    else, `unseen` has no picture, `drawing` fails after its text, `approval` waits for somebody who approves it."""
    folder = tmp_path_factory.mktemp("served")
    name = field("product_name")
    outputs = {output: ("code", output) for output in ("description", "prompt_id", "image_url")}
    unseen = (
        "def main():\n    return {'description': 'Words.', 'prompt_id': 'p', 'image_url': 'http://127.0.0.1:9/x.png'}"
    )
    says = code(unseen, **dict.fromkeys(outputs, "string"))
    files = [
        changed_workflow(folder, "quick", words=12),
        changed_workflow(folder, "approval", WITH_APPROVAL, words=12),
        changed_workflow(folder, "slow", words=1_000_000, provider=slow_model.PROVIDER),
        changed_workflow(
            folder, "failing", words=1, check="def main(product_name):\n    raise ValueError('secret detail')"
        ),
        flow(folder / "other.yml", variables=[name]),
        flow(
            folder / "drawing.yml",
            {**llm(), "prompt_template": [{"role": "user", "text": "{{#start.product_name#}}"}]},
            code("def main():\n    raise ValueError('secret detail')", x="string"),
            variables=[name],
        ),
        flow(folder / "unseen.yml", says, variables=[name], outputs=outputs),
    ]
    with (
        slow_model.slow_model() as model,
        Serve(folder, files, environ(HEADRACE_DEMO_MODEL="true", **model.environ)) as server,
    ):
        yield server


@pytest.fixture(scope="package")
def faults(server: Serve) -> Iterator[tuple[str, Faults]]:
    """(address, script) of a server that does wrong as the script says, and else passes on to the real one."""
    script = Faults(server.url)
    with Running(script.app()) as running:
        yield running.url, script


@contextmanager
def started(server: Serve, faults: tuple[str, Faults], data: Path) -> Iterator[dict[str, Studio]]:
    """The back end before each workflow, by its name; `faulty` is before the server that does wrong."""
    fields = {
        name: (server.url, server.keys[name])
        for name in ("quick", "approval", "slow", "failing", "other", "unseen", "drawing")
    }
    fields["faulty"] = (faults[0], server.keys["quick"])
    running = {name: Studio(url, key, data / f"{name}.db") for name, (url, key) in fields.items()}
    for studio in running.values():
        studio.start()
    yield running
    for studio in running.values():
        studio.stop()


@pytest.fixture(scope="package")
def studios(
    server: Serve, faults: tuple[str, Faults], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Studio]]:
    """For the API; whether there is a page depends on what was built here before."""
    with started(server, faults, tmp_path_factory.mktemp("studios")) as running:
        yield running


@pytest.fixture(scope="package")
def pages(
    built: Path, server: Serve, faults: tuple[str, Faults], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Studio]]:
    """Started when the page is built: a back end that finds none at its start has none."""
    with started(server, faults, tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(built: Path) -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser, pages: dict[str, Studio]) -> OpenPage:
    """`async with opened("quick", **context) as page`: the page of that workflow, or of an address, in a browser of its
    own. Its console may have no errors but those that `expected` matches."""

    @asynccontextmanager
    async def open_page(name: str, expected: str | None = None, **context: Any) -> AsyncIterator[Page]:
        own = await browser.new_context(**{"viewport": {"width": 1000, "height": 900}, "locale": "zh-TW", **context})
        page = await own.new_page()
        problems: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                problems.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.set_default_timeout(PATIENCE)
        response = await page.goto(pages[name].url if name in pages else name)
        assert response is not None
        assert response.status == 200, await response.text()
        yield page
        await own.close()
        assert [text for text in problems if expected is None or not re.search(expected, text)] == []

    return open_page
