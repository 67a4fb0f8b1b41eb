"""Limits hold for two servers on one database together, under load, within 5 %."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.server.gated import FLOW, Peer, peer
from tests.server.process import Serve

__all__ = ["peer"]

CLIENTS = 8  # as many at each server
FIRST, AT_ONCE = 300, 20  # what the plan allows at first: requests a minute, runs at once


@pytest.fixture
def servers(tmp_path: Path, peer: Peer) -> Iterator[list[Serve]]:
    """Two, that serve the same app on the same data."""
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    plans(tmp_path, requests_per_minute=FIRST, concurrent_runs=AT_ONCE)
    with ExitStack() as stack:
        yield [stack.enter_context(Serve(tmp_path, [flow], environ_of(tmp_path, peer))) for _ in range(2)]


def environ_of(folder: Path, peer: Peer) -> dict[str, str]:
    return {"HEADRACE_EGRESS_ALLOW": peer.address, "HEADRACE_PLANS": str(folder / "plans.yml")}


def plans(folder: Path, **plan: int) -> None:
    (folder / "plans.yml").write_text(json.dumps({"plans": {"a": plan}, "default": "a"}))


class Answer(NamedTuple):
    status: int
    limit: str | None
    body: bytes


class Client:
    """A connection to one server, kept."""

    def __init__(self, serve: Serve) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(serve.url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {serve.keys['flow']}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.getheader("RateLimit-Limit"), answer.read())

    def run(self, name: str) -> Answer:
        return self.ask("POST", "/v1/workflows/run", {"inputs": {"q": name}, "user": "u"})

    def close(self) -> None:
        self._connection.close()


class Call(NamedTuple):
    """When a call was sent and answered, and how: the server decided at some time between the two."""

    sent: float
    answered: float
    status: int


def flood(servers: Sequence[Serve], enough: Callable[[Sequence[Call]], bool]) -> list[Call]:
    """The calls of many clients that ask as fast as they can, until there are enough of them."""
    calls: list[Call] = []
    over = threading.Event()

    def ask(serve: Serve) -> None:
        with closing(Client(serve)) as client:
            for n in range(20_000):
                sent = time.monotonic()
                status = client.ask("GET", "/v1/info").status
                calls.append(Call(sent, time.monotonic(), status))
                if over.is_set():
                    return
                if n % 10 == 9 and enough(calls):
                    over.set()

    with ThreadPoolExecutor(CLIENTS * len(servers)) as pool:
        for item in [pool.submit(ask, serve) for serve in servers for _ in range(CLIENTS)]:
            item.result()
    assert over.is_set(), Counter(call.status for call in calls)
    assert {call.status for call in calls} <= {200, 429}
    return calls


def of(calls: Sequence[Call], status: int) -> list[Call]:
    return [call for call in list(calls) if call.status == status]


def until_told(servers: Sequence[Serve], limit: int) -> None:
    """Waits until a changed plan holds everywhere."""
    for serve in servers:
        with closing(Client(serve)) as client:
            for _ in range(6000):
                if client.ask("GET", "/v1/info").limit == str(limit):
                    break
                time.sleep(0.01)
            else:
                raise AssertionError(f"the plan of {limit} does not hold")


def test_requests_a_minute(servers: list[Serve], tmp_path: Path) -> None:
    calls = flood(servers, lambda calls: len(of(calls, 429)) >= 50)
    passed, last = len(of(calls, 200)), max(of(calls, 429))
    # all at first, and what flows in until the last refusal. Nothing was left then
    least = FIRST + FIRST / 60 * (last.sent - min(call.answered for call in calls))
    most = FIRST + FIRST / 60 * (max(call.answered for call in calls) - min(calls).sent)
    assert 0.95 * least - 1 <= passed <= 1.05 * most + 1

    # from one refusal to another, what passes is what flows in: less than the servers can do, however busy they are
    limit = 1200
    plans(tmp_path, requests_per_minute=limit)
    until_told(servers, limit)

    def enough(calls: Sequence[Call]) -> bool:
        refused = of(calls, 429)
        return bool(refused) and sum(call.sent > refused[0].answered for call in of(calls, 200)) >= 50

    calls = flood(servers, enough)
    refused = of(calls, 429)
    first, last = min(refused), max(refused)
    after = [call for call in of(calls, 200) if call.answered >= first.sent]
    surely = [call for call in after if call.sent >= first.answered]
    least = limit / 60 * (last.sent - first.answered)
    most = limit / 60 * (max(call.answered for call in calls) - first.sent)
    assert 0.95 * least - 1 <= len(after)
    assert len(surely) <= 1.05 * most + 1


def test_runs_at_once(servers: list[Serve], tmp_path: Path, peer: Peer) -> None:
    peer.calls.clear()
    with ExitStack() as stack, ThreadPoolExecutor(3 * AT_ONCE) as pool:
        clients = [stack.enter_context(closing(Client(servers[n % 2]))) for n in range(3 * AT_ONCE)]
        fields = [pool.submit(entry.run, f"run{n}") for n, entry in enumerate(clients)]
        for _ in range(AT_ONCE):
            assert peer.waiting.acquire(timeout=60)
        while sum(item.done() for item in fields) < 2 * AT_ONCE:
            time.sleep(0.01)
        assert {item.result().status for item in fields if item.done()} == {429}
        assert len({path for path, _ in peer.calls if path.startswith("/second")}) == AT_ONCE
        for serve in servers:
            with closing(Client(serve)) as client:
                refused = client.run("one more")
                assert (refused.status, json.loads(refused.body)["code"]) == (429, "too_many_requests")
        peer.gate.set()
        assert sorted(item.result().status for item in fields) == [200] * AT_ONCE + [429] * 2 * AT_ONCE
        assert [client.run("after").status for client in clients[:2]] == [200, 200]


def test_the_runs_of_a_killed_server_hold_their_places_until_they_end(
    servers: list[Serve], tmp_path: Path, peer: Peer
) -> None:
    killed, other = servers
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        clients = [stack.enter_context(closing(Client(killed))) for _ in range(AT_ONCE)]
        fields = [pool.submit(entry.run, f"run{n}") for n, entry in enumerate(clients)]
        for _ in range(AT_ONCE):
            assert peer.waiting.acquire(timeout=60)
        killed.kill()
        assert all(item.exception(20) for item in fields)
        client = stack.enter_context(closing(Client(other)))
        assert client.run("early").status == 429
        peer.gate.set()
        with Serve(tmp_path, [tmp_path / "flow.yml"], environ_of(tmp_path, peer)):
            statuses: list[int] = []
            until = time.monotonic() + 60
            while 200 not in statuses and time.monotonic() < until:
                statuses.append(client.run("late").status)
            assert statuses[-1] == 200
