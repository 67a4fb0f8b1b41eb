"""Node.js as a service lives with it: started late, kept ready, shared by many, recovering by itself, ended whole."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox, node, node_program
from headrace.adapters.sandbox.node import NodePool
from headrace.adapters.sandbox.workers import NoConfinement, WorkerFailed
from headrace.errors import NodeError
from tests.processes import children, eventually, until_gone, until_more_than, zombies
from tests.sandbox import node_programs

ADD = "function main({a}) { return {r: a + 1} }"
SLEEP = "async function main() { await new Promise((done) => setTimeout(done, 60000)); return {} }"


@pytest.fixture(autouse=True)
def _node() -> None:
    node_programs.any_program()


def nodes() -> list[int]:
    """The confined processes of Node.js below this one."""
    return [pid for pid in children() if command(pid).startswith(b"node\0--max")]


def command(pid: int) -> bytes:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def call(pool: NodePool, code: str = ADD, seconds: float = 20) -> object:
    return json.loads(await pool.run(code, {"a": 1}, seconds))


async def test_nothing_is_started_before_the_first_javascript() -> None:
    before = children()
    sandbox = LocalSandbox()
    try:
        assert await sandbox.run("python3", "def main():\n    return {}", {}, 20) == {}
        assert nodes() == []
        assert await sandbox.run("javascript", ADD, {"a": 1}, 20) == {"r": 2}
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
    finally:
        await sandbox.aclose()
    await until_gone(children() - before)


async def test_fewer_wait_once_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "BUSY_SECONDS", 0.2)
    pool = NodePool()
    try:
        await call(pool)
        await eventually(lambda: len(nodes()) == node.WAITING)
        assert await call(pool) == {"r": 2}
    finally:
        await pool.aclose()


async def test_many_at_once_get_their_own_answers() -> None:
    pool = NodePool()
    try:
        answers = await asyncio.gather(*(pool.run(ADD, {"a": n}, 60) for n in range(24)))
        assert [json.loads(answer) for answer in answers] == [{"r": n + 1} for n in range(24)]
    finally:
        await pool.aclose()


async def test_a_waiting_node_that_dies_is_passed_over() -> None:
    pool = NodePool()
    try:
        await call(pool)
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
        waiting = nodes()
        for pid in waiting[:2]:
            os.kill(pid, signal.SIGKILL)
        await until_gone(set(waiting[:2]))
        assert [await call(pool) for _ in range(3)] == [{"r": 2}] * 3
    finally:
        await pool.aclose()


async def test_a_keeper_that_is_killed_is_replaced() -> None:
    """And a call under way runs again: without the network it left no trace."""
    before = children()
    pool = NodePool()
    try:
        await call(pool)
        keeper = (await pool._keeper()).process.pid  # pyright: ignore[reportPrivateUsage]
        slow = asyncio.create_task(
            call(pool, "async function main() { await new Promise((d) => setTimeout(d, 500)); return {r: 7} }")
        )
        old = set(nodes())
        await asyncio.sleep(0)
        os.kill(keeper, signal.SIGKILL)
        await until_gone({keeper, *old})
        assert await slow == {"r": 7}
        assert await call(pool) == {"r": 2}
    finally:
        await pool.aclose()
    await until_gone(children() - before)


async def test_a_time_limit_holds_and_nothing_stays() -> None:
    pool = NodePool()
    try:
        await call(pool)
        with pytest.raises(WorkerFailed, match=r"ran longer than 0\.3 seconds"):
            await call(pool, SLEEP, 0.3)
        with pytest.raises(WorkerFailed, match=r"ran longer than 0\.3 seconds"):
            await call(pool, "function main() { for (;;); }", 0.3)
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
    finally:
        await pool.aclose()


async def test_a_cancelled_call_leaves_no_process() -> None:
    before = children()
    pool = NodePool()
    early = asyncio.create_task(call(pool))
    await asyncio.sleep(0)
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        await early
    await call(pool)
    late = asyncio.create_task(call(pool, SLEEP))
    await asyncio.sleep(0.05)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    await pool.aclose()
    await until_gone(children() - before)
    with pytest.raises(WorkerFailed, match="closed"):
        await call(pool)


async def test_when_the_service_dies_nothing_stays() -> None:
    script = (
        "import asyncio\n"
        "from headrace.adapters.sandbox.node import NodePool\n"
        "async def go():\n"
        "    pool = NodePool()\n"
        f"    await pool.run({ADD!r}, {{'a': 1}}, 20)\n"
        "    print('ready', flush=True)\n"
        f"    await pool.run({SLEEP!r}, {{}}, 60)\n"
        "asyncio.run(go())\n"
    )
    before = children()
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    assert await service.stdout.readline() == b"ready\n"
    below = await until_more_than(before | {service.pid}, 1)
    service.kill()
    await service.communicate()
    await until_gone(below - {service.pid})


async def test_many_calls_leave_no_process_and_no_descriptor() -> None:
    """HEADRACE_TEST_CALLS=1000 for longer."""
    pool = NodePool()
    try:
        await call(pool)
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
        keeper = (await pool._keeper()).process.pid  # pyright: ignore[reportPrivateUsage]
        ours, theirs = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{keeper}/fd"))
        for _ in range(int(os.environ.get("HEADRACE_TEST_CALLS", "40")) // 4):
            assert await asyncio.gather(*(call(pool, seconds=60) for _ in range(4))) == [{"r": 2}] * 4
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
        await eventually(lambda: len(os.listdir(f"/proc/{keeper}/fd")) <= theirs + 2)
        assert len(os.listdir("/proc/self/fd")) <= ours + 2
        await eventually(lambda: not zombies(keeper))
    finally:
        await pool.aclose()


async def test_closing_leaves_no_descriptor_of_a_process_that_just_failed_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, examined, closed = NodePool(), asyncio.Event(), threading.Event()
    without = len(os.listdir("/proc/self/fd"))
    loop = asyncio.get_running_loop()

    def has_died(_process: object) -> bool:
        loop.call_soon_threadsafe(examined.set)
        return not closed.wait(60)

    try:
        await call(pool)
        await eventually(lambda: len(nodes()) == node.WAITING_BUSY)
        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(node, "has_died", has_died)
        monkeypatch.setattr(node, "WAITING_BUSY", node.WAITING_BUSY + 1)
        monkeypatch.setattr(node, "_start_failure", failing_start)
        pool._refill()  # pyright: ignore[reportPrivateUsage]
        await examined.wait()
        assert len(os.listdir("/proc/self/fd")) == before + 1
    finally:
        await pool.aclose()
        closed.set()
    assert len(os.listdir("/proc/self/fd")) == without


async def failing_start(_connection: object) -> str:
    return "it ended"


async def test_the_environment_of_the_service_is_not_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NODE_EXTRA_CA_CERTS costs a start 70 ms, NODE_OPTIONS could do anything, and the rest is secret."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("NODE_OPTIONS", f"--require {tmp_path}/absent.js")
    monkeypatch.setenv("HEADRACE_TEST_SECRET", "hunter2")
    pool = NodePool()
    try:
        received = await call(
            pool, "function main() { return {names: Object.keys(process.env), o: process.execArgv.length} }"
        )
    finally:
        await pool.aclose()
    assert isinstance(received, dict)
    assert set(received["names"]) == {"TZ", "LANG", "UV_THREADPOOL_SIZE", "UV_USE_IO_URING", "OPENSSL_CONF"}


async def test_large_inputs_and_answers_pass() -> None:
    pool = NodePool()
    text = "宜" * 1_000_000
    try:
        body = json.loads(await pool.run("const main = ({t}) => ({r: t})", {"t": text}, 30))
        assert body == {"r": text}
        with pytest.raises(WorkerFailed, match="larger than 10485760 bytes"):
            await pool.run("const main = () => ({r: 'x'.repeat(11e6)})", {}, 30)
    finally:
        await pool.aclose()


# ----------------------------------------------------------------------------------------------- which Node.js, if any


async def test_the_log_says_what_runs_and_behind_what(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headrace.adapters.sandbox.node")
    for pool in (NodePool(), NodePool(leave_out="listener"), NodePool(find=node_programs.no_program)):
        await pool.missing()
        await pool.aclose()
    first, second, third = (record.getMessage() for record in caplog.records)
    assert "JavaScript runs in Node.js" in first
    assert "supervised" in first
    assert "Landlock only" in second
    assert "no Node.js on the PATH" in third


async def test_a_node_that_cannot_be_confined_is_not_used() -> None:
    """It says why, and the program runs in QuickJS, or says what it lacks there."""
    absent = node_program.NodeProgram("/bin/true", "99.0.0")
    sandbox = LocalSandbox(node=NodePool(find=lambda: absent))
    try:
        assert await sandbox.run("javascript", ADD, {"a": 1}, 20) == {"r": 2}
        with pytest.raises(
            NodeError, match=r"(?s)Buffer needs Node\.js.*99\.0\.0 cannot be confined here.*HEADRACE_SANDBOX_URL"
        ):
            await sandbox.run("javascript", "function main() { return {r: Buffer.from('x')} }", {}, 20)
    finally:
        await sandbox.aclose()


async def test_a_filter_that_does_not_hold_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial attacks; here it finds a filter that lets files be read."""
    from headrace.adapters.sandbox import node_keeper, seccomp
    from headrace.adapters.sandbox.node_wire import NodePlan
    from headrace.adapters.sandbox.seccomp import ALLOW

    rules = node_keeper.rules
    monkeypatch.setattr(node_keeper, "rules", lambda **how: rules(**how) | {"openat": ALLOW, "statx": ALLOW})
    with pytest.raises(seccomp.Unconfined, match="could read files"):
        await asyncio.to_thread(node_keeper.prepare, NodePlan(node_programs.any_program().path, leave_out="landlock"))


def shim(folder: Path, script: str) -> Path:
    path = folder / "node"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_program_behind_a_shim_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = node_programs.any_program()
    shim(tmp_path, f'exec {real.path} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert node_program.find_node() == real


def test_without_one_on_the_path_it_is_the_one_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extra = node_programs.program("extra")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert node_program.find_node() == extra
    shim(tmp_path, "echo /usr/bin/node; echo 18.19.0")  # too old
    assert node_program.find_node() == extra
    monkeypatch.setattr(node_program, "bundled", lambda: None)
    with pytest.raises(node_program.NoNode, match=r"does not say|18\.19\.0, which is too old"):
        node_program.find_node()
    shim(tmp_path, "exit 3")
    with pytest.raises(node_program.NoNode, match="does not start"):
        node_program.find_node()
    (tmp_path / "node").unlink()
    with pytest.raises(node_program.NoNode, match="there is no Node"):
        node_program.find_node()


def test_only_linux_confines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NoConfinement, match="darwin"):
        NodePool()._make()  # pyright: ignore[reportPrivateUsage]
