"""Two servers on one database: what is done to a key on one of them holds on the other."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from headrace.access.keys import Access, Rights
from headrace.stores.sql import SqlStorage
from tests.api.serving import workflow
from tests.server.process import Serve

KEYS = "/api/v1/keys"


@dataclass(frozen=True)
class Pair:
    """Two servers of one workflow, the key that manages keys, and all keys that were made."""

    urls: Sequence[str]
    app: str
    key: str
    created_keys: list[str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    flow = folder / "flow.yml"
    flow.write_text(workflow())
    url = f"sqlite:///{folder}/headrace.db"

    async def manager() -> str:
        store = await SqlStorage.open(url)
        _, key = await Access(store.catalog).create(Rights(), "test", name="manager")
        await store.aclose()
        return key

    key = asyncio.run(manager())
    with ExitStack() as stack:
        served: list[Serve] = []
        for name in ("one", "two"):
            (folder / name / "data").mkdir(parents=True)
            if served:  # all processes on one database have one secret
                shutil.copy(folder / "one" / "data" / "secret", folder / name / "data" / "secret")
            environ = {"HEADRACE_DATABASE_URL": url, "HEADRACE_LOG_LEVEL": "DEBUG"}
            served.append(stack.enter_context(Serve(folder / name, [flow], environ)))
        assert served[0].apps["flow"]["app_id"] == served[1].apps["flow"]["app_id"]
        created = [key, *(item.keys["flow"] for item in served)]
        yield Pair([item.url for item in served], served[0].apps["flow"]["app_id"], key, created)
    # an app's first key is shown to who starts the server: in lines that begin with spaces, as no line of a log does
    said = "".join(line for item in served for line in item.said if not line.startswith("  "))
    stored = b"".join(file.read_bytes() for file in folder.glob("headrace.db*"))
    assert len(created) > 5
    for item in created:
        assert item not in said, "no key is logged"
        assert item.encode() not in stored, "no key is stored"


@dataclass(frozen=True)
class Calls:
    """A client of both servers; keys are managed on the first."""

    session: aiohttp.ClientSession
    pair: Pair

    async def manage(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.pair.key}"}
        async with self.session.request(method, self.pair.urls[0] + KEYS + path, headers=headers, **more) as answer:
            body = await answer.json()
        assert answer.status < 300, body
        if "key" in body:
            self.pair.created_keys.append(body["key"])
        return body

    async def create(self, **fields: Any) -> Any:
        return await self.manage("POST", "", json={"name": "x", **fields})

    async def look(self, key: str, server: int) -> int:
        """The status of a call that reads."""
        url = f"{self.pair.urls[server]}/v1/info"
        async with self.session.get(url, headers={"Authorization": f"Bearer {key}"}) as answer:
            return answer.status

    async def run(self, key: str, server: int) -> Any:
        """What a run answers."""
        url = f"{self.pair.urls[server]}/v1/workflows/run"
        fields = {"inputs": {}, "user": "u1"}
        async with self.session.post(url, headers={"Authorization": f"Bearer {key}"}, json=fields) as answer:
            return await answer.json()

    async def good_until(self, key: str, server: int, since: float) -> float:
        """For how long a key that is in use on a server was still good there: when the last call was sent that it let
        in, in seconds. (When the first one is refused would tell how busy the machine is, too.)"""
        last = since
        while True:
            sent = time.monotonic()
            if await self.look(key, server) != 200:
                return last - since
            last = sent
            assert last < since + 60
            await asyncio.sleep(0.01)  # as often as a difference matters


@pytest.fixture
async def calls(pair: Pair) -> AsyncGenerator[Calls]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        yield Calls(session, pair)


@pytest.mark.parametrize("kind", ["a workspace's", "an app's own"])
async def test_a_revoked_key_is_refused_everywhere_within_a_second(calls: Calls, kind: str):
    for _ in range(2):
        fields: Any = {"permissions": ["read"]} if kind == "a workspace's" else {"app": calls.pair.app}
        created = await calls.create(**fields)
        until = time.monotonic() + 0.3  # in use on both, at any point of what they remember
        while time.monotonic() < until:
            assert [await calls.look(created["key"], server) for server in (0, 1)] == [200, 200]
        await calls.manage("DELETE", f"/{created['id']}")
        since = time.monotonic()
        assert await calls.look(created["key"], 0) == 401, "at once where it was revoked"
        assert await calls.good_until(created["key"], 1, since) < 1
        assert await calls.look(created["key"], 1) == 401


async def test_a_key_ends_everywhere_when_its_time_is_over(calls: Calls):
    created = await calls.create(permissions=["read"], expires_in=4)
    since = time.monotonic()
    good = await asyncio.gather(*(calls.good_until(created["key"], server, since) for server in (0, 1)))
    assert all(0 < item < 4 for item in good), "no longer, whatever is remembered of it"


async def test_rotating_with_overlap_loses_no_request_under_load(calls: Calls):
    created = await calls.create(permissions=["run", "read"])
    current, over = created["key"], asyncio.Event()
    answered = asyncio.Queue[None]()

    async def use(server: int) -> None:
        while not over.is_set():
            body = await calls.run(current, server)
            assert body.get("data", {}).get("status") == "succeeded", body
            answered.put_nowait(None)

    async with asyncio.TaskGroup() as load:
        for n in range(6):
            load.create_task(use(n % 2))
        for _ in range(4):
            new = await calls.manage("POST", f"/{created['id']}/rotate", json={"overlap": 5})
            for _ in range(30):  # some of these still come with the old one
                await answered.get()
            created, current = new, new["key"]  # from the next request on
        over.set()


async def test_a_rotated_key_ends_everywhere_with_the_overlap(calls: Calls):
    created = await calls.create(permissions=["read"])
    assert [await calls.look(created["key"], server) for server in (0, 1)] == [200, 200]
    new = await calls.manage("POST", f"/{created['id']}/rotate", json={"overlap": 4})
    since = time.monotonic()
    good = await asyncio.gather(*(calls.good_until(created["key"], server, since) for server in (0, 1)))
    assert all(0 < item < 4.5 for item in good), good
    assert [await calls.look(new["key"], server) for server in (0, 1)] == [200, 200]
