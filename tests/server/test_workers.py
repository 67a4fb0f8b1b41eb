"""`headrace serve --workers N`: processes on one port and one database, and the parent that looks after them."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from headrace.telemetry.worker_metrics import merged
from tests import postgresql
from tests.certificates import Authority
from tests.cli.flows import Server, field, flow, headrace
from tests.server.gated import Peer
from tests.server.process import Serve
from tests.server.test_two_processes import World, ended

SECONDS = 60.0
CALLS = 24  # connections in a row, of which each worker gets some: all but 1 in 2**23 times


def children(pid: int) -> set[int]:
    return {int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_until_ended(*processes: int) -> None:
    """`processes` are descriptors of `os.pidfd_open`."""
    for process in processes:
        assert select.select([process], [], [], SECONDS)[0], "a process has not ended"
        os.close(process)


def said(server: Server, what: str) -> None:
    """Waits for a line of its log."""
    assert server.process.stderr is not None
    for line in server.process.stderr:
        server.said += line
        if what in line:
            return
    raise AssertionError(f"it did not say {what!r}:\n{server.said}")


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., Server]]:
    """Starts two workers, or another number of them; all have ended in the end."""
    with ExitStack() as stack:

        def begin(*arguments: str | pathlib.Path, **environ: str) -> Server:
            server = Server(*arguments, "--workers", "2", cwd=tmp_path, **environ)
            stack.callback(lambda: server.process.poll() is None and server.stop())
            return server

        yield begin


def echo(folder: pathlib.Path, **outputs: tuple[str, str]) -> pathlib.Path:
    return flow(folder / "echo.yml", variables=[field("query")], outputs=outputs or None)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_of_them(start: Callable[..., Server], tmp_path: pathlib.Path, how: signal.Signals) -> None:
    server = start(echo(tmp_path))
    workers = children(server.process.pid)
    assert len(workers) == 2
    ends = [os.pidfd_open(worker) for worker in workers]
    assert server.said.count("Headrace is ready") == 1
    assert server.stop(how) == 0
    wait_until_ended(*ends)
    assert "Traceback" not in server.said


def test_workers_end_with_their_parent(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start(echo(tmp_path))
    ends = [os.pidfd_open(worker) for worker in children(server.process.pid)]
    server.process.kill()
    wait_until_ended(*ends)
    server.stop()


def test_a_worker_that_dies_is_started_again(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start(echo(tmp_path))
    before = children(server.process.pid)
    os.kill(min(before), signal.SIGKILL)
    said(server, "has ended by signal 9; it is started again in")
    key = server.ready["apps"][0]["key"]
    for _ in range(CALLS):  # those that it had not yet accepted are lost with it; all others are served
        assert server.call(key, {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
    said(server, "is ready again")
    assert server.stop() == 0


def test_a_worker_that_dies_while_the_database_is_away_waits_for_it(
    start: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    with ExitStack() as stack:
        try:
            database = stack.enter_context(postgresql.serving())
        except OSError as error:
            pytest.skip(f"an outage was not tested: PostgreSQL cannot be started: {error}")
        server = start(echo(tmp_path), HEADRACE_DATABASE_URL=database.new_database())
        database.stop()
        worker = min(children(server.process.pid))
        os.kill(worker, signal.SIGKILL)
        said(server, "the database is tried again until it can be opened")
        database.start()
        said(server, "is ready again")
        key = server.ready["apps"][0]["key"]
        assert server.call(key, {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
        assert server.said.count("it is started again") == 1, "waiting is not a failed start"
        assert server.stop() == 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_runs_of_a_worker_that_dies_are_taken_up(
    database: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path, peer: Peer
) -> None:
    url = request.getfixturevalue("postgresql_url") if database == "postgresql" else ""
    with ExitStack() as stack:
        world = World(tmp_path, peer, stack, url)
        environ = {"HEADRACE_EGRESS_ALLOW": peer.address, "HEADRACE_DATABASE_URL": world.database}
        serve = stack.enter_context(Serve(tmp_path, [world.flow], environ, ["--workers", "2"]))
        runs = world.waiting_runs(serve)
        worker = max(children(serve.process.pid))
        dying = os.pidfd_open(worker)
        os.kill(worker, signal.SIGKILL)
        wait_until_ended(dying)  # until then, it gets connections
        peer.gate.set()
        for name, run in runs.items():
            done = ended(serve, run)
            assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
        assert set(world.calls) == {f"/{node}/{name}" for node in ("first", "second") for name in runs}
        until = time.monotonic() + SECONDS
        while not any("is ready again" in line for line in serve.said):
            assert time.monotonic() < until, "".join(serve.said)
            time.sleep(0.05)


def test_a_changed_file_is_served_by_all(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start(echo(tmp_path), "--watch")
    key = server.ready["apps"][0]["key"]
    echo(tmp_path, renamed=("start", "query"))
    said(server, "version 2 of echo is served")
    in_a_row = 0  # the other worker may know the version before for half a second
    for _ in range(10_000):
        outputs = server.call(key, {"query": "hi"})[1]["data"]["outputs"]
        in_a_row = in_a_row + 1 if outputs == {"renamed": "hi"} else 0
        if in_a_row == CALLS:
            break
    assert in_a_row == CALLS
    assert server.said.count("version 2 of echo is served") == 1
    assert server.stop() == 0


def test_a_worker_is_started_again_while_a_file_is_invalid(
    start: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    file = echo(tmp_path)
    server = start(file, "--watch")
    file.write_text("just words")
    said(server, "what was served before stays")
    os.kill(min(children(server.process.pid)), signal.SIGKILL)
    said(server, "has ended by signal 9; it is started again in")
    said(server, "what was served before stays")  # the new one watches the file
    key = server.ready["apps"][0]["key"]
    assert server.call(key, {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
    assert server.stop() == 0


def test_a_renewed_certificate_is_shown_by_all(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    server = start(echo(tmp_path), HEADRACE_TLS_CERTIFICATE=str(pair.both))
    renewed = authority.issue("renewed")
    os.replace(renewed.both, pair.both)
    for _ in range(2):
        said(server, "the renewed certificate is in use")
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=SECONDS, context=context) as response:
        assert response.status == 200
    assert server.stop() == 0


def test_any_of_them_has_the_metrics_of_all(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start(echo(tmp_path), HEADRACE_METRICS="on")
    key = server.ready["apps"][0]["key"]
    for _ in range(CALLS):
        server.call(key, {"query": "hi"})
    counts: dict[str, float] = {}
    lines: list[str] = []
    until = time.monotonic() + SECONDS
    while sum(counts.values()) < CALLS and time.monotonic() < until:  # a run is counted soon after its response
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=SECONDS) as response:
            lines = response.read().decode().splitlines()
        totals = [line for line in lines if line.startswith("headrace_runs_total{")]
        counts = {line.split('worker="')[1][0]: float(line.rpartition(" ")[2]) for line in totals}
    assert set(counts) == {"0", "1"}
    assert sum(counts.values()) == CALLS
    assert lines.count("# TYPE headrace_runs_total counter") == 1
    assert server.stop() == 0


def test_a_file_that_cannot_be_loaded_ends_all(tmp_path: pathlib.Path) -> None:
    (tmp_path / "words.yml").write_text("just words")
    done = headrace("serve", "words.yml", "--port", "0", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("words.yml: ") == 1
    assert "Traceback" not in done.stderr


def test_a_port_that_others_share_is_in_use(start: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    port = start(echo(tmp_path)).url.rpartition(":")[2]
    done = headrace("serve", "--port", port, "--workers", "2", "--data", "other", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the port is in use" in done.stderr


def test_samples_are_told_apart_by_worker() -> None:
    text = (
        '# HELP a_total What.\n# TYPE a_total counter\na_total{x="{1}"} %d.0\n# HELP b Else.\n# TYPE b gauge\nb 2.0\n'
    )
    assert merged([("0", text % 1), ("1", text % 3), ("2", "")]) == (
        "# HELP a_total What.\n# TYPE a_total counter\n"
        'a_total{worker="0",x="{1}"} 1.0\na_total{worker="1",x="{1}"} 3.0\n'
        '# HELP b Else.\n# TYPE b gauge\nb{worker="0"} 2.0\nb{worker="1"} 2.0\n'
    )
