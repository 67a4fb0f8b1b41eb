"""Both clients behind one interface, so that every contract test runs with both."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
from headrace_client import AsyncClient, Client, Pages, Stream


class Time:
    """A clock that advances only by sleeping. `delays`: the seconds of each sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delays: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class _AsAsync:
    """A synchronous client, stream or list of pages with the interface of an asynchronous one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._iterator: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, "close" if name == "aclose" else name)
        if name == "datasets":
            return _AsAsync(member)
        if not inspect.ismethod(member):
            return member
        if name == "pages":
            return lambda: _iterate_async(member())
        if name == "with_options":
            return lambda **options: _AsAsync(member(**options))

        def call(*args: Any, **named: Any) -> Any:
            if name.startswith(("stream_", "follow_", "list_")) and name != "list_node_executions":
                return _AsAsync(member(*args, **named))

            async def answer() -> Any:
                return member(*args, **named)

            return answer()

        return call

    def __repr__(self) -> str:
        return repr(self.inner)

    async def __aenter__(self) -> _AsAsync:
        self.inner.__enter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self.inner.__exit__(*raised)

    def __aiter__(self) -> AsyncIterator[Any]:
        assert isinstance(self.inner, (Stream, Pages))
        return _iterate_async(iter(self.inner)) if isinstance(self.inner, Pages) else self

    async def __anext__(self) -> Any:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None


async def _iterate_async(values: Iterator[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


class Maker:
    """Makes clients of one kind, and closes them. Waits take no time unless `real_time`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.time = Time()
        self._clients: list[Any] = []

    def __call__(self, key: str | None, url: str | None, *, real_time: bool = False, **options: Any) -> Any:
        if not real_time:
            sleep: Any = self.time.sleep if self.kind == "sync" else self.time.sleep_async
            options = {"clock": self.time.clock, "sleep": sleep, "chance": lambda: 0.0, **options}
        client: Any = Client(key, url, **options) if self.kind == "sync" else AsyncClient(key, url, **options)
        wrapped = _AsAsync(client) if self.kind == "sync" else client
        self._clients.append(wrapped)
        return wrapped

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await asyncio.sleep(0)  # lets the loop run its pending callbacks


class Fault:
    """A client of the fault server's script."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client()

    def script(self, *steps: dict[str, Any]) -> None:
        self._http.delete(f"{self.url}/_requests")
        self._http.post(f"{self.url}/_script", json=list(steps)).raise_for_status()

    @property
    def requests(self) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = self._http.get(f"{self.url}/_requests").json()
        return requests

    def calls(self) -> list[str]:
        return [f"{request['method']} {request['path']}" for request in self.requests]

    def bodies(self) -> list[Any]:
        return [json.loads(request["body"]) for request in self.requests if request["body"].startswith("{")]

    def close(self) -> None:
        self._http.close()


Call = Callable[..., Awaitable[Any]]


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]


def plain(event: Any) -> dict[str, Any]:
    """An event as it was sent."""
    return json.loads(event.model_dump_json(exclude_unset=True))
