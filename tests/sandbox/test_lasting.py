"""Many calls, dying processes, greedy apps: the sandbox goes on."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox, child_process
from headrace.adapters.sandbox.workers import KEPT
from headrace.errors import NodeError
from tests.processes import children, eventually, until_gone, zombies
from tests.sandbox.test_service import BUSY, kill

CODE = "def main(a):\n    return {'r': a + 1}\n"


def descriptors(pid: int) -> Counter[str]:
    """What a process has open, by its kind."""
    counts: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            counts[os.readlink(entry).partition(":")[0]] += 1
        except OSError:
            continue  # closed meanwhile
    return counts


async def ready(sandbox: LocalSandbox) -> int:
    """The process of the zygote, once all that wait for a job are there."""
    zygote = sandbox._plain._zygote
    assert zygote is not None
    await eventually_async(lambda: len(zygote.ready) == KEPT and zygote.ordered == 0)
    return zygote.process.pid


async def eventually_async(condition: object) -> None:
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_five_hundred_calls_leave_nothing_behind() -> None:
    sandbox = LocalSandbox()
    try:
        await sandbox.run("python3", CODE, {"a": 1}, 10)
        zygote = await ready(sandbox)
        # the zygote has a socket of every child that is not confined yet, and one of its own
        await eventually(lambda: descriptors(zygote)["socket"] == 1)
        before = (descriptors(os.getpid()), descriptors(zygote), len(children()))
        for at in range(0, 504, 8):
            calls = (sandbox.run("python3", CODE, {"a": at + n}, 30) for n in range(8))
            assert await asyncio.gather(*calls) == [{"r": at + n + 1} for n in range(8)]
        for _ in range(20):
            with pytest.raises(NodeError):
                await sandbox.run("python3", "import os\ndef main():\n    os._exit(1)\n", {}, 10)
            call = asyncio.create_task(sandbox.run("python3", BUSY, {"word": ""}, 10))
            await asyncio.sleep(0.002)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert await ready(sandbox) == zygote

        def now() -> tuple[Counter[str], Counter[str], int]:
            return descriptors(os.getpid()), descriptors(zygote), len(children())

        await eventually(lambda: now() == before)
        assert zombies(zygote) == []
    finally:
        await sandbox.aclose()


async def test_waiting_processes_that_die_are_replaced_in_silence() -> None:
    before = children()
    sandbox = LocalSandbox()
    try:
        await sandbox.run("python3", CODE, {"a": 1}, 10)
        for _ in range(3):
            zygote = await ready(sandbox)
            waiting = children() - before - {zygote}
            assert len(waiting) == KEPT
            kill(waiting)
            await until_gone(waiting)
            assert await sandbox.run("python3", CODE, {"a": 1}, 10) == {"r": 2}
        assert await ready(sandbox) == zygote
    finally:
        await sandbox.aclose()


async def test_sleepers_of_one_app_do_not_keep_another_waiting() -> None:
    async def workspace_of(app: str) -> str:
        return "w"

    sandbox = LocalSandbox(concurrent=4, workspace_of=workspace_of)
    sleep = "import time\ndef main():\n    time.sleep(60)\n    return {}\n"
    try:
        await sandbox.start()
        apps = ["greedy", "as greedy", "no better"]
        sleepers = [asyncio.create_task(sandbox.run("python3", sleep, {}, 60, app)) for app in apps for _ in range(8)]
        await eventually_async(lambda: sandbox._slots.used >= 4)
        for a in range(10):
            async with asyncio.timeout(30):  # the sleepers take a minute
                assert await sandbox.run("python3", CODE, {"a": a}, 20, "small") == {"r": a + 1}
        assert not any(task.done() for task in sleepers)
        for task in sleepers:
            task.cancel()
        await asyncio.gather(*sleepers, return_exceptions=True)
        assert sandbox._slots.used == 0
    finally:
        await sandbox.aclose()


async def test_without_landlock_the_error_says_why_a_module_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = child_process.BOOT.strip().split("\n")
    patch = "import headrace.adapters.sandbox.landlock as landlock; landlock._CREATE = 9999"
    monkeypatch.setattr(child_process, "BOOT", "\n".join([*lines[:2], patch, *lines[2:]]))
    sandbox = LocalSandbox()
    try:
        with pytest.raises(NodeError, match=r"wave\.py'\nThis system has no Landlock, so that only modules"):
            await sandbox.run("python3", "import wave\ndef main():\n    return {}\n", {}, 10)
    finally:
        await sandbox.aclose()
