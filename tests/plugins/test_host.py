"""The process of a plugin: many calls at once, and everything that a plugin can do wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from headrace.adapters.plugins import process as processes
from headrace.adapters.plugins.limits import PluginLimits
from headrace.adapters.plugins.process import PluginProcess
from headrace.adapters.tools.plugins import PluginTool
from headrace.errors import NodeError
from headrace.ports.services import TextMessage, Tool, ToolMessage
from tests.plugins.fakes import SECRET, answer, call, find, install, messages, processes_of, running
from tests.processes import alive, until_gone


@pytest.fixture
async def tool(tmp_path: Path) -> AsyncGenerator[Tool]:
    install(tmp_path)
    async with running(tmp_path) as (tools, _):
        yield await find(tools)


async def process_of(tool: Tool) -> dict[str, object]:
    return json.loads(await answer(tool, "process"))


def process_in(tool: Tool) -> PluginProcess:
    (runner,) = cast("PluginTool", tool).plugins.host.runners.values()
    assert runner.current is not None
    return runner.current


async def error_of(tool: Tool, do: str, **parameters: object) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await messages(tool, do, **parameters)
    return raised.value


async def first(calling: AsyncIterator[ToolMessage]) -> ToolMessage:
    return await anext(calling)


# ------------------------------------------------------------------------------------------------------------- in order


async def test_a_request_is_what_the_sdk_expects(tool: Tool) -> None:
    assert json.loads(await answer(tool, "request", number=1)) == {
        "type": "tool",
        "action": "invoke_tool",
        "user_id": "user",
        "provider": "fake",
        "tool": "act",
        "credentials": {"api_key": SECRET},
        "credential_type": "api-key",
        "tool_parameters": {"do": "request", "number": 1},
    }


async def test_nothing_runs_before_a_call_and_nothing_after_the_end(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path) as (tools, plugins):
        tool = await find(tools)
        assert "host" not in vars(plugins)
        pid = (await process_of(tool))["pid"]
        assert (await process_of(tool))["pid"] == pid
    await until_gone({cast("int", pid)})


async def test_a_folder_that_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    async with running(Path("data")) as (tools, _):
        assert json.loads(await answer(await find(tools), "process"))["folder"].startswith(str(tmp_path))


async def test_thousands_of_calls_at_once(tool: Tool) -> None:
    holding = [call(tool, "hold", number=number) for number in range(2000)]
    assert await asyncio.gather(*map(first, holding)) == [TextMessage("held")] * 2000
    assert await answer(tool, "release") == "2000"
    for waiting_call in holding:
        assert [message async for message in waiting_call] == [TextMessage("released")]
    answers = await asyncio.gather(*(answer(tool, number=number) for number in range(2000)))
    assert [json.loads(text)["number"] for text in answers] == list(range(2000))


async def test_text_and_lines_that_come_in_pieces(tool: Tool) -> None:
    assert await answer(tool, "parts") == "in pieces: é 漢 🎉"


async def test_a_large_request_and_a_large_result(tool: Tool) -> None:
    size = 8 * 1024 * 1024
    assert len(await answer(tool, padding="x" * size)) > size
    assert len(await answer(tool, "long", size=size)) == size


@pytest.mark.parametrize("value", [2**70, float("nan"), "\ud83d", {"a": [None, True]}])
async def test_every_value_can_be_sent(tool: Tool, value: object) -> None:
    assert "value" in json.loads(await answer(tool, value=value))


# -------------------------------------------------------------------------------------------------------- wrong output


async def test_garbage_is_logged_and_does_no_harm(tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "headrace.adapters.plugins.process"):
        assert await answer(tool, "garbage") == "after garbage"
        assert await answer(tool, "garbage") == "after garbage"
    logged = caplog.text
    for line in ("no JSON at all", "{broken", "printed", "from the logger", "a line I cannot parse"):
        assert f"plugin tests/fake: {line}" in logged
    assert "an event of an unknown type: news" in logged


async def test_a_line_that_is_too_long_fails_its_call_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LONGEST_LINE", 1000)
    install(tmp_path)
    async with running(tmp_path) as (tools, _):
        tool = await find(tools)
        waiting_call = call(tool, "hold")
        await first(waiting_call)
        assert "error type: PluginOutputError, error details: The plugin sent a line of" in str(
            await error_of(tool, "long", size=100_000)
        )
        await answer(tool, "release")
        assert [message async for message in waiting_call] == [TextMessage("released")]


async def test_a_result_that_is_too_large(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LARGEST_RESULT", 100_000)
    assert "is larger than 100000 bytes" in str(await error_of(tool, "many", count=20, size=10_000))
    assert await answer(tool, "many", count=5, size=10_000) == "x" * 50_000


@pytest.mark.parametrize(
    ("do", "parameters", "problem"),
    [
        ("unknown type", {}, "an event of an unknown type: 'sing'"),
        ("stream", {"data": [1]}, "a result that is not an object"),
        ("stream", {"data": {"type": "dance"}}, "a message of the type 'dance' that is not valid"),
        ("stream", {"data": {"type": "text", "message": {"text": 1}}}, "a message whose text is not a text"),
        ("stream", {"data": {"type": "blob", "message": {"blob": "?"}}}, "a file that is not valid base64"),
        ("stream", {"data": {"type": "log", "message": {"status": "odd"}}}, "of the type 'log' that is not valid"),
    ],
)
async def test_results_that_are_not_valid(tool: Tool, do: str, parameters: dict[str, object], problem: str) -> None:
    assert problem in str(await error_of(tool, do, **parameters))
    assert await answer(tool, "many", count=1) == "x"


async def test_an_error_of_the_plugin(tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "headrace.adapters.plugins.process"):
        error = await error_of(tool, "fail", message=f"bad key {SECRET}")
    assert str(error) == (
        "An error occurred in the plugin, please contact the author of Fake for help, error type: ValueError, "
        "error details: bad key ********************"
    )
    assert error.kind == "PluginInvokeError"
    assert "Traceback with" in caplog.text
    assert SECRET not in caplog.text


# ---------------------------------------------------------------------------------------------- a start that goes wrong


async def test_a_plugin_that_ends_before_it_is_ready_fails_at_once(tmp_path: Path) -> None:
    install(tmp_path, start="fail no module named requests")
    async with running(tmp_path) as (tools, _):
        error = await error_of(await find(tools), "")
    assert error.kind == "ToolInvokeError"
    assert str(error) == "The plugin tests/fake ended with exit code 1: ImportError: no module named requests"


async def test_a_plugin_without_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.3)
    install(tmp_path, start="hang")
    async with running(tmp_path) as (tools, _):
        assert "did not become ready within 0.3 s" in str(await error_of(await find(tools), ""))


async def test_an_interpreter_that_does_not_exist(tmp_path: Path) -> None:
    path = install(tmp_path)
    (path / "environment" / "bin" / "python").unlink()
    async with running(tmp_path) as (tools, _):
        error = str(await error_of(await find(tools), ""))
    plugin = f"tests/fake:0.0.1@{'0123456789abcdef' * 4}"
    assert error == f"The Python of the plugin {plugin} is missing: run `headrace plugins add {plugin}`."


async def test_two_failures_in_a_row_fail_calls_until_the_next_start_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, start="fail-times 2")
    async with running(tmp_path) as (tools, plugins):
        tool = await find(tools)
        assert "not this time" in str(await error_of(tool, ""))
        assert "not this time" in str(await error_of(tool, ""))  # after a pause
        starts = tmp_path / "plugin-data" / "tests" / "fake" / "home" / "starts"
        assert starts.read_text() == "xx"
        assert "not this time" in str(await error_of(tool, ""))
        assert starts.read_text() == "xx"  # without a start
        (runner,) = plugins.host.runners.values()
        runner._next_start = 0.0
        assert await answer(tool, "many", count=1) == "x"
        assert runner.failures == 0


# -------------------------------------------------------------------------------------------------------------- crashes


async def test_a_crash_fails_all_calls_and_the_next_is_served(tool: Tool, caplog: pytest.LogCaptureFixture) -> None:
    holding = [call(tool, "hold") for _ in range(50)]
    await asyncio.gather(*map(first, holding))
    pid = cast("int", (await process_of(tool))["pid"])
    os.kill(pid, signal.SIGKILL)
    for waiting_call in holding:
        with pytest.raises(NodeError, match=r"^The plugin tests/fake was ended by SIGKILL\.$"):
            await first(waiting_call)
    assert (await process_of(tool))["pid"] != pid
    assert caplog.text.count("The plugin tests/fake was ended by SIGKILL.") == 1


async def test_the_last_words_without_secrets(tool: Tool) -> None:
    error = str(await error_of(tool, "crash"))
    assert error.startswith("The plugin tests/fake ended with exit code 3: the last words")
    assert SECRET not in error


async def test_a_plugin_that_closes_its_output_is_ended(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    assert "was ended by SIGKILL" in str(await error_of(tool, "close stdout"))
    assert await answer(tool, "many", count=1) == "x"


async def test_a_plugin_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "HEARTBEAT_SECONDS", 0.5)
    install(tmp_path)
    async with running(tmp_path) as (tools, _):
        assert "has not sent a heartbeat for 0.5 s" in str(await error_of(await find(tools), "no end"))


# ------------------------------------------------------------------------------------------------------- stop, time-out


async def test_a_call_without_an_end_times_out(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path) as (tools, plugins):
        tool = await find(tools)
        plugins.host._limits = PluginLimits(seconds=0.2)
        assert "did not finish within 0.2 s" in str(await error_of(tool, "no end"))
        plugins.host._limits = PluginLimits()
        assert await answer(tool, "many", count=1) == "x"


async def test_a_stopped_call_that_does_not_end_takes_the_process_with_it_once_no_other_needs_it(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_DROPPED_SECONDS", 0.05)
    pid = cast("int", (await process_of(tool))["pid"])
    other = call(tool, "hold")
    await first(other)
    stopped = call(tool, "hold")
    await first(stopped)
    await cast("AsyncGenerator[ToolMessage]", stopped).aclose()
    assert (await process_of(tool))["pid"] == pid  # the other one needs it
    await cast("AsyncGenerator[ToolMessage]", other).aclose()
    await until_gone({pid})
    assert (await process_of(tool))["pid"] != pid


async def test_a_stopped_call_that_ends_leaves_the_process_alone(tool: Tool) -> None:
    async with aclosing(cast("AsyncGenerator[ToolMessage]", call(tool, "hold"))) as stopped:
        await first(stopped)
    process = process_in(tool)
    assert len(process.dropped) == 1
    await answer(tool, "release")
    assert process.dropped == set()


async def test_a_call_whose_end_is_not_read_leaves_the_process_alone(tool: Tool) -> None:
    await error_of(tool, "fail", message="no luck")
    await answer(tool)  # by now the end of the failed one has come
    assert process_in(tool).dropped == set()


async def test_a_cancelled_call_is_stopped(tool: Tool) -> None:
    pid = (await process_of(tool))["pid"]
    task = asyncio.create_task(messages(tool, "hold"))
    await answer(tool)  # was sent after that one
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await answer(tool, "release") == "1"
    assert (await process_of(tool))["pid"] == pid


async def test_an_idle_plugin_is_stopped_and_started_again(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path, idle=0.1) as (tools, _):
        tool = await find(tools)
        pid = cast("int", (await process_of(tool))["pid"])
        await until_gone({pid})
        assert (await process_of(tool))["pid"] != pid


async def test_closing_while_a_plugin_starts(tmp_path: Path) -> None:
    install(tmp_path, start="hang")
    async with running(tmp_path) as (tools, _):
        task = asyncio.create_task(messages(await find(tools)))
        while not processes_of(tmp_path / "plugins"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (pid,) = processes_of(tmp_path / "plugins")
    with pytest.raises((asyncio.CancelledError, NodeError)):
        await task
    await until_gone({pid})


# ------------------------------------------------------------------------------------------- what a plugin has started


@pytest.fixture
def started(tool: Tool) -> Callable[[], Awaitable[list[int]]]:
    """Has the plugin start a process in its own session, and one in another session; returns those."""

    async def start() -> list[int]:
        pids = [int(await answer(tool, "start", session=session)) for session in (False, True)]
        assert all(map(alive, pids))
        return pids

    return start


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that adopt orphans")
@pytest.mark.parametrize("end", ["stop", "kill", "crash", "leave"])
async def test_processes_end_with_the_plugin(tool: Tool, started: Callable[[], Awaitable[list[int]]], end: str) -> None:
    pids = await started()
    process = process_in(tool)
    match end:
        case "stop":
            await process.stop()
        case "kill":
            process.kill("is of no use")
        case "crash":
            await error_of(tool, "crash")
        case _:
            await error_of(tool, "crash", code=0)
    await process.ended.wait()
    await until_gone(set(pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that adopt orphans")
async def test_a_plugin_ends_whose_supervisor_is_killed(tool: Tool) -> None:
    pids = cast("dict[str, int]", await process_of(tool))
    process = process_in(tool)
    os.kill(pids["parent"], signal.SIGKILL)
    await process.ended.wait()
    await until_gone({pids["pid"]})
    assert (await process_of(tool))["pid"] != pids["pid"]


# --------------------------------------------------------------------------------------------------- the server's death

PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.plugins.fakes import find, messages, running, answer

async def main():
    async with running(Path(sys.argv[1])) as (tools, _):
        tool = await find(tools)
        print(await answer(tool, "process"), flush=True)
        print(await answer(tool, "start", session=True), flush=True)
        if sys.argv[2] == "wait":
            await asyncio.Event().wait()
        while int(await answer(tool, "checks")) < 3:
            pass
        print(await answer(tool, "process"), flush=True)

asyncio.run(main())
"""


async def start_server(folder: Path, how: str, *before: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *before, sys.executable, "-c", PROGRAM, str(folder), how, stdout=asyncio.subprocess.PIPE
    )


async def test_a_plugin_ends_when_the_server_is_killed(tmp_path: Path) -> None:
    install(tmp_path)
    server = await start_server(tmp_path, "wait")
    assert server.stdout is not None
    pids = [json.loads(await server.stdout.readline())["pid"], int(await server.stdout.readline())]
    assert all(map(alive, pids))
    server.kill()
    await server.wait()
    await until_gone(set(pids))


async def test_a_plugin_of_a_server_that_is_the_first_process_of_a_container(tmp_path: Path) -> None:
    unshare = ("unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
    try:
        trial = await asyncio.create_subprocess_exec(*unshare, "true", stderr=asyncio.subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if await trial.wait():
        pytest.skip("namespaces of processes are not allowed here")
    install(tmp_path)
    server = await start_server(tmp_path, "twice", *unshare)
    output, _ = await server.communicate()
    first_, _, second = map(json.loads, output.splitlines())
    assert first_["pid"] == second["pid"]  # it has looked for its parent three times, and not ended
    assert first_["parent"] != 1
