"""The sandbox as a service lives with it: started late, shared by many, recovering by itself, ended whole."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
import uvloop

from headrace.adapters.sandbox import LocalSandbox, RemoteSandbox, child_process, confine, open_sandbox
from headrace.errors import NodeError
from headrace.values import File
from tests.processes import children, until_gone, until_more_than, until_one_is_busy

CODE = "import re\ndef main(a):\n    return {'r': a + 1}\n"
BUSY = "def main(word):\n    while True:\n        pass\n"
SLEEP = "import os, time\ndef main(word):\n    time.sleep(30)\n    return {'r': 1}\n"


def kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_nothing_is_started_before_it_is_needed() -> None:
    before = children()
    sandbox = LocalSandbox()
    assert await sandbox.render("Hello {{ q }}", {"q": "x"}, 5) == "Hello x"
    assert children() == before
    assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    assert children() > before
    await sandbox.aclose()
    await until_gone(children() - before)


async def test_importing_it_imports_no_engine() -> None:
    code = (
        "import sys, headrace.adapters.sandbox as s; s.open_sandbox(); s.open_sandbox('http://x');"
        "print([m for m in ('jinja2', 'quickjs', '_quickjs', 'aiohttp') if m in sys.modules])"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


async def test_many_at_once_get_their_own_answers() -> None:
    sandbox = LocalSandbox(concurrent=4)
    try:
        answers = await asyncio.gather(*(sandbox.run("python3", CODE, {"a": n}, 60) for n in range(60)))
        assert answers == [{"r": n + 1} for n in range(60)]
        simple = "def main(a):\n    return {'r': a * 2}"
        answers = await asyncio.gather(*(sandbox.run("python3", simple, {"a": n}, 60) for n in range(60)))
        assert answers == [{"r": n * 2} for n in range(60)]
    finally:
        await sandbox.aclose()


async def test_a_cancelled_call_leaves_no_process() -> None:
    sandbox = LocalSandbox()
    try:
        await sandbox.start()
        before = children()
        call = asyncio.create_task(sandbox.run("python3", BUSY, {"word": "x"}, 30))
        started = await until_one_is_busy(before)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until_gone({started})
        assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    finally:
        await sandbox.aclose()


async def test_a_call_cancelled_before_the_start_is_over_leaves_none_either() -> None:
    before = children()
    sandbox = LocalSandbox()
    call = asyncio.create_task(sandbox.run("python3", CODE, {"a": 1}, 60))
    started = await until_more_than(before, 0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until_gone(started)
    assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    await sandbox.aclose()


async def test_it_recovers_when_its_processes_are_killed() -> None:
    sandbox = LocalSandbox()
    try:
        simple = "def main(a):\n    return {'r': a * 2}"
        for _ in range(2):
            before = children()
            assert await sandbox.run("python3", simple, {"a": 1}, 60) == {"r": 2}
            assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
            kill(children() - before)
        assert await sandbox.run("python3", simple, {"a": 1}, 60) == {"r": 2}
        assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    finally:
        await sandbox.aclose()


async def test_a_call_under_way_fails_when_its_process_is_killed() -> None:
    sandbox = LocalSandbox()
    try:
        await sandbox.start()
        call = asyncio.create_task(sandbox.run("python3", BUSY, {"word": "x"}, 30))
        kill({await until_one_is_busy(children())})
        with pytest.raises(NodeError, match="ended without an answer"):
            await call
        assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    finally:
        await sandbox.aclose()


async def test_closing_ends_what_still_runs() -> None:
    before = children()
    sandbox = LocalSandbox()
    await sandbox.start()
    call = asyncio.create_task(sandbox.run("python3", SLEEP, {"word": "x"}, 30))
    await until_more_than(before, 1)
    await sandbox.aclose()
    with pytest.raises(NodeError, match="closed"):
        await call
    await until_gone(children() - before)
    with pytest.raises(NodeError, match="closed"):
        await sandbox.run("python3", CODE, {"a": 1}, 60)


async def test_when_the_service_dies_nothing_stays() -> None:
    script = (
        "import asyncio, os\n"
        "from headrace.adapters.sandbox import LocalSandbox\n"
        f"code = {SLEEP!r}\n"
        "async def go():\n"
        "    sandbox = LocalSandbox()\n"
        "    await sandbox.start()\n"
        "    task = asyncio.create_task(sandbox.run('python3', code, {'word': 'x'}, 30))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print('ready', flush=True)\n"
        "    await task\n"
        "asyncio.run(go())\n"
    )
    before = children()
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    assert await service.stdout.readline() == b"ready\n"
    below = children() - before - {service.pid}
    assert len(below) >= 2
    service.kill()
    await service.communicate()
    await until_gone(below)


async def test_the_loop_goes_on_meanwhile() -> None:
    sandbox = LocalSandbox()
    try:
        await sandbox.run("python3", CODE, {"a": 1}, 60)
        await sandbox.run("python3", "def main(a):\n    return {'r': a}", {"a": 1}, 60)
        busy = "def main():\n    n = 0\n    while n < 10 ** 12:\n        n += 1\n    return {'n': n}\n"
        call = asyncio.create_task(sandbox.run("python3", busy, {}, 0.6))
        turns = 0
        while not call.done():
            await asyncio.sleep(0.001)
            turns += 1
        with pytest.raises(NodeError, match=r"stopped"):
            await call
        assert turns > 10
    finally:
        await sandbox.aclose()


async def test_the_time_limit_holds_over_both_engines() -> None:
    sandbox = LocalSandbox()
    try:
        await sandbox.run("python3", CODE, {"a": 1}, 60)
        began = time.monotonic()
        with pytest.raises(NodeError, match="stopped"):
            await sandbox.run("python3", "def main():\n    while True:\n        pass\n", {}, 0.4)
        assert time.monotonic() - began < 20
    finally:
        await sandbox.aclose()


async def test_files_are_passed_as_objects() -> None:
    sandbox = LocalSandbox()
    try:
        file = File("image", "remote_url", "a.png", ".png", "image/png", 3, "http://x/a.png", url="http://x/a.png")
        code = "def main(f, fs):\n    return {'url': f['url'], 'n': len(fs), 'name': fs[0]['filename']}"
        answer = await sandbox.run("python3", code, {"f": file, "fs": [file]}, 60)
        assert answer == {"url": "http://x/a.png", "n": 1, "name": "a.png"}
        assert await sandbox.render("{{ f.filename }} {{ fs[0].size }}", {"f": file, "fs": [file]}, 5) == "a.png 3"
    finally:
        await sandbox.aclose()


async def test_large_inputs_and_answers_pass() -> None:
    sandbox = LocalSandbox()
    try:
        text = "宜" * 1_000_000
        assert await sandbox.run("python3", CODE + "main = lambda t: {'r': t}", {"t": text}, 10) == {"r": text}
        assert await sandbox.run("python3", "def main(t):\n    return {'r': t}", {"t": text}, 10) == {"r": text}
        assert await sandbox.run("javascript", "const main = ({t}) => ({r: t})", {"t": text}, 10) == {"r": text}
        assert await sandbox.render("{{ t }}", {"t": text}, 10) == text
    finally:
        await sandbox.aclose()


def test_it_works_on_uvloop() -> None:
    async def go() -> None:
        sandbox = LocalSandbox()
        try:
            assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
            assert await sandbox.run("python3", "def main(a):\n    return {'r': a}", {"a": 1}, 60) == {"r": 1}
            with pytest.raises(NodeError, match="stopped"):
                await sandbox.run("python3", SLEEP, {"word": "x"}, 0.2)
            assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
        finally:
            await sandbox.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())


# ------------------------------------------------------------------------------------- where there is no confinement


async def test_where_code_cannot_be_confined_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = LocalSandbox()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NodeError, match=r"cannot be confined.*not run it unconfined.*HEADRACE_SANDBOX_URL") as failed:
        await sandbox.run("python3", CODE, {"a": 1}, 60)
    assert failed.value.kind == "CodeExecutionError"
    monkeypatch.undo()
    assert await sandbox.run("python3", CODE, {"a": 1}, 60) == {"r": 2}
    await sandbox.aclose()


@pytest.mark.parametrize(
    ("boot", "why"),
    [
        ('s.recv(65536); s.send(b\'{"verdict": "the kernel has no filters"}\')', "the kernel has no filters"),
        ("pass", "the process that prepares it died"),
    ],
)
async def test_the_reason_is_reported(monkeypatch: pytest.MonkeyPatch, boot: str, why: str) -> None:
    boot = f"import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); {boot}"
    monkeypatch.setattr(child_process, "BOOT", boot)
    sandbox = LocalSandbox()
    for _ in range(2):
        with pytest.raises(NodeError, match=why):
            await sandbox.run("python3", CODE, {"a": 1}, 60)
    await sandbox.aclose()


def test_unknown_machines_are_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(confine.Unconfined, match="vax"):
        confine.Lock()


def test_a_url_chooses_the_service() -> None:
    assert isinstance(open_sandbox(), LocalSandbox)
    assert isinstance(open_sandbox(""), LocalSandbox)
    assert isinstance(open_sandbox("http://127.0.0.1:8194"), RemoteSandbox)
