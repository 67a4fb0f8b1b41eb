"""What the host adds to a call of a plugin's tool, and 200 calls at once.

    uv run python benchmarks/plugins.py
    uv run python benchmarks/plugins.py .headrace langgenius/regex/regex/regex_extract content=a1 'expression=\\d+'

Without arguments it measures the plugin of the tests; otherwise one that is installed in the data folder. What the
plugin itself takes is measured over pipes, without the host.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from headrace.adapters.plugins.protocol import request  # noqa: E402
from headrace.adapters.tools.plugins import PluginTool  # noqa: E402
from headrace.ports.services import ToolContext, ToolReference  # noqa: E402
from tests.plugins.fakes import install, running  # noqa: E402

CALLS, AT_ONCE, WARM_UP = 1000, 200, 50


def shown(name: str, seconds: list[float]) -> None:
    cuts = quantiles(seconds, n=100)
    print(f"{name:<24} p50 {cuts[49] * 1000:6.2f} ms   p99 {cuts[98] * 1000:6.2f} ms")


def bare(tool: PluginTool, parameters: Mapping[str, str]) -> list[float]:
    """The seconds of calls over the pipes of the plugin."""
    plugin = tool.path.plugin
    data = {
        "type": "tool",
        "action": "invoke_tool",
        "user_id": "u",
        "provider": tool.path.provider.name,
        "tool": tool.spec.name,
        "credentials": dict(tool.credentials.values),
        "credential_type": "api-key",
        "tool_parameters": dict(parameters),
    }
    with subprocess.Popen(
        [plugin.python, "-m", "main"],
        cwd=plugin.folder,
        env={"INSTALL_METHOD": "local", "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while b'"heartbeat"' not in process.stdout.readline():
            pass
        seconds = []
        for number in range(CALLS + WARM_UP):
            start = time.perf_counter()
            process.stdin.write(request(str(number), data))
            process.stdin.flush()
            while True:
                line = process.stdout.readline().strip()
                if line and (event := json.loads(line))["event"] == "session" and event["data"]["type"] == "end":
                    break
            seconds.append(time.perf_counter() - start)
        process.kill()
    return seconds[WARM_UP:]


async def measure(data: Path, name: str, parameters: Mapping[str, str]) -> None:
    provider, _, tool_name = name.rpartition("/")
    context = ToolContext("run", "app", "user", "key")
    async with running(data, os.environ | {"FAKE_API_KEY": "k"}) as (tools, _):
        tool = await tools.find(ToolReference("plugin", provider, provider, tool_name))
        assert isinstance(tool, PluginTool)

        async def call() -> float:
            start = time.perf_counter()
            async for _ in tool.call(parameters, context):
                pass
            return time.perf_counter() - start

        start = time.perf_counter()
        await call()
        print(f"{'first call':<24} {time.perf_counter() - start:6.2f} s")
        through_host = [await call() for _ in range(CALLS + WARM_UP)][WARM_UP:]
        start = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))
        at_once = time.perf_counter() - start
        shown("the plugin itself", bare(tool, parameters))
        shown("through the host", through_host)
        print(f"{AT_ONCE} at once{'':<13} {at_once:6.2f} s")


def main() -> None:
    match sys.argv[1:]:
        case []:
            with tempfile.TemporaryDirectory() as folder:
                install(Path(folder))
                asyncio.run(measure(Path(folder), "tests/fake/fake/act", {"do": ""}))
        case [data, tool, *parameters]:
            asyncio.run(measure(Path(data), tool, dict(parameter.split("=", 1) for parameter in parameters)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
