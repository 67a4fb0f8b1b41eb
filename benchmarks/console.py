"""The console in Chromium, beside a served database of 100,000 runs and one run of 100 nodes and 1,000 rounds.

Chromium, the server and the driver share the cores. A figure is the median of several loads, each in a browser context
of its own with an empty cache.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, CDPSession, Page

from benchmarks.history import fill
from benchmarks.peers import HERE
from benchmarks.service import RunningServer, serving
from benchmarks.table import Row, Target
from tests.browsers import CHROMIUM, chromium

STATIC = HERE.parent / "src" / "headrace" / "api" / "console" / "static"
NODES, ROUNDS = 100, 1000
RUNS, FEW_RUNS = 100_000, 10_000
LIST = "Console: the list of {runs:,} runs, in Chromium"
RUN = f"Console: a run of {NODES} nodes and {ROUNDS:,} rounds, in Chromium"
_SCROLLED = 300  # times 240 px, which is 2,000 rows
_FRAME = 1000 / 30  # ms: at 30 frames a second, scrolling looks smooth

# what the browser notes of itself: long tasks (50 ms and more), and the intervals of frames while `__frames` is a list
_OBSERVED = """
window.__tasks = [];
new PerformanceObserver((list) => window.__tasks.push(...list.getEntries().map((entry) => entry.duration)))
  .observe({ type: 'longtask', buffered: true });
const frame = (last) => requestAnimationFrame((now) => { window.__frames?.push(now - last); frame(now); });
frame(performance.now());
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
# the time from a click to the frame after the page shows what it leads to
_CLICKED = """([click, shown, text]) => new Promise((resolve) => {
  const began = performance.now();
  const look = () => document.querySelector(shown)?.textContent.includes(text)
    ? requestAnimationFrame(() => resolve(performance.now() - began))
    : requestAnimationFrame(look);
  document.querySelector(click).click();
  look();
})"""


def measure(quick: bool) -> list[Row]:
    if CHROMIUM is None:
        raise RuntimeError("there is no Chromium")
    if not (STATIC / "index.html").exists():
        raise RuntimeError("the console is not built: run `make console`")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.yml"
        file.write_text(json.dumps(_flow()))
        with serving(file) as server:
            runs = FEW_RUNS if quick else RUNS
            asyncio.run(fill(server.data / "headrace.db", server.app, runs))
            lists, run = asyncio.run(_measure(server, 3 if quick else 7))
            return [*_rows(LIST.format(runs=runs), lists), *_rows(RUN, run)]


async def _measure(server: RunningServer, loads: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The figures of each load of the list, and of a run."""
    run = await asyncio.to_thread(_run, server)
    async with chromium() as browser:
        lists = [await _list(browser, server) for _ in range(loads)]
        return lists, [await _run_page(browser, server, run) for _ in range(loads)]


_TARGETS = {
    "first paint": ("ms", 300),
    "until the rows are shown": ("ms", 1000),
    "until the steps are shown": ("ms", 1000),
    "longest task while it loads": ("ms", 100),
    "longest task while scrolling": ("ms", 100),
    "interval of frames while scrolling, p95": ("ms", _FRAME),
    "processor time of a frame while scrolling": ("ms", 1000 / 60),
    "from a click on a node to its panel": ("ms", 100),
    "from a click to another round": ("ms", 200),
    "JavaScript memory": ("MB", 20),
    "JavaScript memory after 2,000 rows": ("MB", 20),
}


def _rows(group: str, loads: list[dict[str, float]]) -> list[Row]:
    return [
        Row(group, name, statistics.median(load[name] for load in loads), _TARGETS[name][0], Target(_TARGETS[name][1]))
        for name in loads[0]
    ]


@asynccontextmanager
async def _signed_in(browser: Browser, server: RunningServer) -> AsyncIterator[Page]:
    url = f"http://127.0.0.1:{server.port}"
    link = await asyncio.to_thread(_link, server, url)
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page = await context.new_page()
    await page.goto(link)
    await page.locator("table.apps").wait_for()
    session = await context.storage_state()
    await context.close()
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-US", base_url=f"{url}/console/", storage_state=session
    )
    await context.add_init_script(_OBSERVED)
    try:
        yield await context.new_page()
    finally:
        await context.close()


def _link(server: RunningServer, url: str) -> str:
    command = [sys.executable, "-m", "headrace", "console", "--data", str(server.data), "--url", url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def _list(browser: Browser, server: RunningServer) -> dict[str, float]:
    async with _signed_in(browser, server) as page:
        await page.goto("runs")
        await page.locator("tr[data-row]").first.wait_for()
        figures = {
            "first paint": await page.evaluate(_PAINT),
            "until the rows are shown": await page.evaluate("performance.now()"),
            "longest task while it loads": await _longest_task(page),
        }
        await page.evaluate("window.__frames = []")
        await page.mouse.move(600, 600)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        busy = await _busy(session)
        for _ in range(_SCROLLED):
            await page.mouse.wheel(0, 240)
            await page.evaluate("new Promise(requestAnimationFrame)")
        frames = await page.evaluate("window.__frames.splice(0)")
        figures["processor time of a frame while scrolling"] = (await _busy(session) - busy) / len(frames)
        figures["longest task while scrolling"] = await _longest_task(page)
        figures["interval of frames while scrolling, p95"] = statistics.quantiles(frames, n=20)[-1]
        figures["JavaScript memory after 2,000 rows"] = await _memory(page)
        return figures


async def _run_page(browser: Browser, server: RunningServer, run: str) -> dict[str, float]:
    async with _signed_in(browser, server) as page:
        await page.goto(f"runs/{run}")
        await page.locator(".stepper .rounds button").first.wait_for()
        await page.locator("[data-node=row]").wait_for()
        figures = {
            "first paint": await page.evaluate(_PAINT),
            "until the steps are shown": await page.evaluate("performance.now()"),
            "longest task while it loads": await _longest_task(page),
        }
        clicks = [
            await page.evaluate(_CLICKED, [f"[data-node=n{number}]", ".np h2", f"Step {number}"])
            for number in range(10, 60, 10)
        ]
        figures["from a click on a node to its panel"] = statistics.median(clicks)
        await page.evaluate(_CLICKED, ["[data-node=row]", ".np h2", "Check the row"])
        size = math.ceil(ROUNDS / await page.locator(".stepper .rounds button").count())  # rounds of a mark
        run_pages = [
            await page.evaluate(_CLICKED, [f".stepper .rounds :nth-child({mark + 1})", ".np", f"row {mark * size} is"])
            for mark in range(10, 60, 10)
        ]
        figures["from a click to another round"] = statistics.median(run_pages)
        figures["JavaScript memory"] = await _memory(page)
        return figures


async def _longest_task(page: Page) -> float:
    """Since the last call; a task of less than 50 ms counts as 0."""
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")  # the observer is called later
    return max(await page.evaluate("window.__tasks.splice(0)"), default=0.0)


async def _busy(session: CDPSession) -> float:
    """The milliseconds of processor time that the page's main thread has taken."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration") * 1000


async def _memory(page: Page) -> float:
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    return (await session.send("Runtime.getHeapUsage"))["usedSize"] / 1e6


def _run(server: RunningServer) -> str:
    """The id of a run of all nodes and rounds, which has ended."""
    body = json.dumps({"inputs": {}, "response_mode": "blocking", "user": "benchmark"}).encode()
    url = f"http://127.0.0.1:{server.port}/v1/workflows/run"
    with urllib.request.urlopen(urllib.request.Request(url, body, server.headers), timeout=300) as response:
        run = json.load(response)
    if run["data"]["status"] != "succeeded":
        raise RuntimeError(f"the run has not succeeded: {run['data']['error']}")
    return run["workflow_run_id"]


# ---------------------------------------------------------------------------------------------------------------- flow


def _flow() -> dict[str, Any]:
    """A chain in rows of ten, as people arrange one; an iteration in the middle has a node inside."""
    chain = ["start", "rows", "each", *(f"n{number}" for number in range(NODES - 6)), "end"]
    nodes = [_node(id_, at) for at, id_ in enumerate(chain)]
    nodes += [
        _placed("begin", {"type": "iteration-start", "title": ""}, 24, 68, parent="each"),
        _placed("row", _template("Check the row", ["each", "item"]), 128, 68, parent="each"),
    ]
    pairs = [*pairwise(chain), ("begin", "row")]
    edges = [{"id": f"{a}-{b}", "source": a, "sourceHandle": "source", "target": b} for a, b in pairs]
    return {
        "app": {"name": "many", "mode": "workflow", "description": ""},
        "kind": "app",
        "version": "0.5.0",
        "workflow": {"graph": {"nodes": nodes, "edges": edges}, "features": {}, "environment_variables": []},
    }


def _node(id_: str, at: int) -> dict[str, Any]:
    data: dict[str, Any]
    if id_ == "start":
        data = {"type": "start", "title": "Start", "variables": []}
    elif id_ == "end":
        data = {"type": "end", "title": "End", "outputs": [{"variable": "rows", "value_selector": ["each", "output"]}]}
    elif id_ == "rows":
        data = {
            "type": "code",
            "title": "List the rows",
            "code_language": "python3",
            "code": f"def main():\n    return {{'rows': list(range({ROUNDS}))}}",
            "variables": [],
            "outputs": {"rows": {"type": "array[number]", "children": None}},
        }
    elif id_ == "each":
        data = {
            "type": "iteration",
            "title": "Each row",
            "iterator_selector": ["rows", "rows"],
            "output_selector": ["row", "output"],
            "start_node_id": "begin",
            "is_parallel": True,
            "parallel_nums": 10,
        }
    else:
        data = _template(f"Step {id_[1:]}", ["rows", "rows"])
    return _placed(id_, data, 340 * (at % 10), 260 * (at // 10))


def _template(title: str, selector: list[str]) -> dict[str, Any]:
    return {
        "type": "template-transform",
        "title": title,
        "template": "row {{ row }} is checked",
        "variables": [{"variable": "row", "value_selector": selector}],
    }


def _placed(id_: str, data: dict[str, Any], x: int, y: int, parent: str | None = None) -> dict[str, Any]:
    width, height = (320, 178) if data["type"] == "iteration" else (150 if parent else 244, 90)
    node = {"id": id_, "position": {"x": x, "y": y}, "width": width, "height": height, "data": data}
    return node | ({"parentId": parent} if parent else {})
