"""Two serving processes on one database: whichever is asked answers as if it did the run itself, each callback is sent
once, and a database that is away for a while loses nothing."""

from __future__ import annotations

import json
import pathlib
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headrace.webhooks import signature
from tests.cli.flows import headrace
from tests.server.gated import FINISHED, FLOW, Client, Event, Peer, read_until
from tests.server.process import Serve

CALLS = 30


class Hook(ThreadingHTTPServer):
    """Receives callbacks."""

    daemon_threads = True

    def __init__(self) -> None:
        self.posts: list[tuple[str, str, str, bytes]] = []  # id, time, signature, body
        self.came = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), _Take)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Take(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        self.server.posts.append((*(self.headers[name] for name in names), body))
        self.send_response(204)
        self.end_headers()
        self.server.came.release()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as exit_stack:
        yield exit_stack


def serve(stack: ExitStack, folder: pathlib.Path, peer: Peer, *hosts: str, **environ: str) -> Serve:
    flow = folder / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    allowed = {"HEADRACE_EGRESS_ALLOW": ",".join((peer.address, *hosts))}
    return stack.enter_context(Serve(folder, [flow], allowed | environ))


def begun(at: Serve, name: str, **more: str) -> str:
    """A run at one process, that waits for the gate."""
    fields = {"inputs": {"q": name}, "user": "u", **more}
    path = f"/api/v1/workflows/{at.apps['flow']['app_id']}/run"
    with Client(at).stream("POST", path, fields) as answer:
        body = json.loads(answer.read())
        assert answer.status == 202, body
    return body["workflow_run_id"]


def waiting(peer: Peer, calls: int = 1) -> None:
    for _ in range(calls):
        assert peer.waiting.acquire(timeout=60)


def test_a_poll_a_wait_and_a_stream_at_the_other_are_fresh(
    tmp_path: pathlib.Path, peer: Peer, stack: ExitStack
) -> None:
    mine, other = (serve(stack, tmp_path, peer) for _ in range(2))
    for n in range(5):
        peer.gate.clear()
        run = begun(mine, f"run{n}")
        waiting(peer)
        assert Client(other).get(f"/api/v1/workflow-runs/{run}")["status"] == "running"
        with ThreadPoolExecutor(3) as callers:
            fields = f"/api/v1/workflow-runs/{run}?wait=60"
            here, there = (callers.submit(Client(at).get, fields) for at in (mine, other))
            stream = stack.enter_context(
                Client(other).stream("GET", f"/v1/workflow/{run}/events?user=u", **{"Last-Event-ID": "0"})
            )
            events, _ = read_until(stream, ("node_started", "second"))
            peer.gate.set()
            rest, _ = read_until(stream, FINISHED)
            first, second = here.result(60), there.result(60)
        assert first == second
        assert (second["status"], second["outputs"]["two"]) == ("succeeded", f"/second/run{n}")
        assert [item["event"] for item in [*events, *rest]][:2] == ["workflow_started", "node_started"]


def test_a_stop_asked_for_at_the_other_ends_the_run_there_and_here(
    tmp_path: pathlib.Path, peer: Peer, stack: ExitStack
) -> None:
    mine, other = (serve(stack, tmp_path, peer) for _ in range(2))
    run = begun(mine, "run")
    waiting(peer)
    with ThreadPoolExecutor(1) as callers:
        waits = callers.submit(Client(mine).get, f"/api/v1/workflow-runs/{run}?wait=60")
        with Client(other).stream("POST", f"/api/v1/workflow-runs/{run}/stop", {"user": "u"}) as answer:
            assert answer.status < 300, answer.read()
        assert waits.result(60)["status"] == "stopped"
    assert Client(other).get(f"/api/v1/workflow-runs/{run}")["status"] == "stopped"


def test_one_process_sends_each_callback(tmp_path: pathlib.Path, peer: Peer, hook: Hook, stack: ExitStack) -> None:
    both = [serve(stack, tmp_path, peer, hook.address) for _ in range(2)]
    secrets = {Client(item).get("/api/v1/callbacks/secret")["secret"] for item in both}
    assert len(secrets) == 1
    runs = [begun(both[n % 2], f"run{n}", callback_url=f"http://{hook.address}/hook") for n in range(CALLS)]
    waiting(peer, CALLS)
    peer.gate.set()
    for _ in range(CALLS):
        assert hook.came.acquire(timeout=60)
    for run in runs:  # what is left to be sent would be pending
        sent = Client(both[0]).get(f"/api/v1/workflow-runs/{run}/callbacks")["data"]
        assert [(item["status"], item["attempts"]) for item in sent] == [("delivered", 1)]
    assert set(Counter(id_ for id_, *_ in hook.posts).values()) == {1}
    assert len(hook.posts) == CALLS
    (secret,) = secrets
    for id_, at, signed, body in hook.posts:
        assert signed == signature(secret, id_, int(at), body)


def test_another_data_folder_has_another_secret_and_is_refused(
    tmp_path: pathlib.Path, peer: Peer, stack: ExitStack
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    database = f"sqlite:///{first}/data/headrace.db"
    original = serve(stack, first, peer)
    with pytest.raises(AssertionError, match="is not the secret of this database") as refused:
        serve(stack, second, peer, HEADRACE_DATABASE_URL=database)
    assert "Copy the file `secret`" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    (second / "data" / "secret").write_bytes((first / "data" / "secret").read_bytes())
    copied = serve(stack, second, peer, HEADRACE_DATABASE_URL=database)
    fields = "/api/v1/callbacks/secret"
    copied.keys = original.keys  # of one app
    assert Client(copied).get(fields) == Client(original).get(fields)


def test_a_secret_that_is_lost_is_replaced_on_purpose(tmp_path: pathlib.Path, peer: Peer, stack: ExitStack) -> None:
    with ExitStack() as before:
        serve(before, tmp_path, peer)
    (tmp_path / "data" / "secret").unlink()
    with pytest.raises(AssertionError, match="adopt-secret"):
        serve(stack, tmp_path, peer)
    adopted = headrace("db", "adopt-secret", "--data", tmp_path / "data", cwd=tmp_path)
    assert "is the database's now" in adopted.stdout, adopted.stderr
    serve(stack, tmp_path, peer)


# ------------------------------------------------------------------------------------------- a database that is away


def answer_of(at: Serve, method: str, path: str, body: object = None) -> tuple[int, Any]:
    with Client(at).stream(method, path, body) as answer:
        return answer.status, json.loads(answer.read())


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Until another process's state is so, which nobody tells of."""
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends, "it has not come to that"
        time.sleep(0.1)


def lines_of(at: Serve) -> tuple[int, int, int]:
    """How many lines of log say that the database goes, and that it is back; and how many have a stack."""
    said = "".join(at.said)
    return said.count("is tried again until it can"), said.count("written again, after"), said.count("Traceback")


def unready(at: Serve) -> str | None:
    status, body = answer_of(at, "GET", "/readyz")
    assert status == (200 if body["status"] == "ready" else 503)
    return body.get("message")


def test_a_disk_that_is_full_for_a_while_loses_no_run_and_runs_nothing_twice(
    tmp_path: pathlib.Path, peer: Peer, stack: ExitStack
) -> None:
    at = serve(stack, tmp_path, peer)
    runs = [begun(at, f"run{n}") for n in range(5)]
    waiting(peer, 5)
    assert unready(at) is None
    callers = stack.enter_context(ThreadPoolExecutor(2 * len(runs)))
    watch = "/v1/workflow/{}/events?user=u"
    streams = [stack.enter_context(Client(at).stream("GET", watch.format(run))) for run in runs]
    streamed = [callers.submit(read_until, stream, FINISHED) for stream in streams]
    waits = [callers.submit(Client(at).get, f"/api/v1/workflow-runs/{run}?wait=60") for run in runs]
    hard = resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow any more
    until(lambda: unready(at) is not None)
    assert "The journal cannot be read or written: " in (unready(at) or "")
    status, body = answer_of(at, "POST", "/v1/workflows/run", {"inputs": {"q": "new"}, "user": "u"})
    assert (status, body["code"]) == (503, "service_unavailable")
    peer.gate.set()  # what the nodes put out cannot be written now
    for _ in range(20):
        assert answer_of(at, "POST", "/v1/workflows/run", {"inputs": {"q": "new"}, "user": "u"})[0] == 503
    time.sleep(2)  # let it try for some time
    resource.prlimit(at.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    for n, wait in enumerate(waits):
        ended: Event = wait.result(60)
        assert (ended["status"], ended["outputs"]["two"]) == ("succeeded", f"/second/run{n}")
    for stream in streamed:
        stream.result(60)  # it has come to the end
    until(lambda: unready(at) is None)
    assert lines_of(at) == (1, 1, 0), "".join(at.said)
    created = Counter(path for path, _ in peer.calls)
    assert {created[f"/{node}/run{n}"] for node in ("first", "second") for n in range(5)} == {1}, created


def test_a_database_that_another_holds_is_waited_for(tmp_path: pathlib.Path, peer: Peer, stack: ExitStack) -> None:
    mine, other = (serve(stack, tmp_path, peer) for _ in range(2))
    runs = [begun(at, f"run{n}") for n, at in enumerate((mine, other) * 2)]
    waiting(peer, 4)
    with closing(sqlite3.connect(tmp_path / "data" / "headrace.db", isolation_level=None, timeout=60)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        peer.gate.set()
        until(lambda: all(lines_of(at)[0] for at in (mine, other)), 60)
        assert all("locked" in (unready(at) or "") for at in (mine, other))
        holder.execute("ROLLBACK")
    for n, run in enumerate(runs):
        ended = Client(mine).get(f"/api/v1/workflow-runs/{run}?wait=60")
        assert (ended["status"], ended["outputs"]["two"]) == ("succeeded", f"/second/run{n}")
    for at in (mine, other):
        until(lambda at=at: unready(at) is None)
        assert lines_of(at) == (1, 1, 0), "".join(at.said)
    created = Counter(path for path, _ in peer.calls)
    assert {created[f"/{node}/run{n}"] for node in ("first", "second") for n in range(4)} == {1}, created
