"""Counts the modules and functions of `headrace` that one streaming run (start, llm, end) over HTTP touches.

    python benchmarks/touched.py [--list]

The server runs in this process, with SQLite and the demo model. It is warm: what is loaded and cached once is not
counted, only the request and its run. Functions that an idle server calls, too, such as those of its background tasks,
are left out, and what only some of several runs touch: on a busy machine a timer may run out in the middle of one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = str(ROOT / "src" / "headrace") + os.sep
sys.path.insert(0, str(ROOT))

from headrace.server.serve import serve  # noqa: E402
from headrace.server.workflow_files import WorkflowFile  # noqa: E402
from headrace.settings import Settings  # noqa: E402

WARM_UP, RUNS = 5, 6
IDLE_SECONDS = 6.0  # longer than the interval of any frequent background task
TAIL_SECONDS = 0.5  # after the response, until the run's last records are stored


class Profile:
    """Collects the functions of `headrace` that are called in all threads, in `called` if it is set."""

    def __init__(self) -> None:
        self.idle: set[CodeType] = set()
        self.runs: list[set[CodeType]] = []
        self.called: set[CodeType] | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.called is not None and event == "call":
            self.called.add(frame.f_code)

    def functions(self) -> set[tuple[str, str]]:
        """(module, function); comprehensions and lambdas are part of the function around them."""
        return {
            (_module(code.co_filename), code.co_qualname)
            for code in set.intersection(*self.runs) - self.idle
            if code.co_filename.startswith(SOURCE) and not code.co_name.startswith("<")
        }


def _module(file: str) -> str:
    return file.removeprefix(SOURCE).removesuffix(".py").removesuffix("/__init__").replace(os.sep, ".")


def measure() -> set[tuple[str, str]]:
    """What a run touches."""
    profile = Profile()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_serve(Path(folder), None))  # loads and caches what is loaded and cached once
        threading.setprofile(profile)
        sys.setprofile(profile)
        asyncio.run(_serve(Path(folder), profile))
    sys.setprofile(None)
    return profile.functions()


async def _serve(folder: Path, profile: Profile | None) -> None:
    ready: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    settings = Settings(data=folder, host="127.0.0.1", port=0, demo_model=True)
    flow = ROOT / "benchmarks" / "flows" / "model.yml"
    server = asyncio.create_task(
        serve(settings, [WorkflowFile(flow)], on_ready=lambda _, url, server: ready.set_result((url, server[0][2])))
    )
    url, key = await ready
    for _ in range(WARM_UP):
        await asyncio.to_thread(_run, url, key)
    if profile is not None:
        await asyncio.sleep(TAIL_SECONDS)
        profile.called = profile.idle
        await asyncio.sleep(IDLE_SECONDS)
        for _ in range(RUNS):
            profile.called = set()
            profile.runs.append(profile.called)
            await asyncio.to_thread(_run, url, key)
            await asyncio.sleep(TAIL_SECONDS)
        profile.called = None
    server.cancel()
    await asyncio.wait([server])


def _run(url: str, key: str) -> None:
    body = json.dumps({"inputs": {"query": "hello"}, "response_mode": "streaming", "user": "touched"}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/workflows/run", body, headers)) as response:
        text = response.read().decode()
    if '"status":"succeeded"' not in text:
        raise RuntimeError(f"the run did not succeed: {text[-500:]}")


def main() -> None:
    functions = measure()
    modules = {module for module, _ in functions}
    print(f"{len(modules)} modules and {len(functions)} functions")
    packages = Counter(module.partition(".")[0] for module, _ in functions)
    for package, count in packages.most_common():
        inside = sum(module.partition(".")[0] == package for module in modules)
        print(f"{package:16}{inside:4} modules {count:4} functions")
    if "--list" in sys.argv:
        for module, function in sorted(functions):
            print(f"{module:40} {function}")


if __name__ == "__main__":
    main()
