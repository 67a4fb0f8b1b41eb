"""A serving process dies while it delivers a callback; the next one delivers it, under the same id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.native.receivers import Post, receiver
from tests.runs.service import ECHO
from tests.server.process import Serve


@asynccontextmanager
async def process(folder: Path, flow: Path) -> AsyncGenerator[Serve]:
    """A serving process, killed at the end."""
    serve = Serve(folder, [flow], {"HEADRACE_EGRESS_ALLOW": "127.0.0.1"})
    await asyncio.to_thread(serve.__enter__)
    try:
        yield serve
    finally:
        await asyncio.to_thread(serve.kill)


async def call(serve: Serve, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {serve.keys['flow']}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{serve.url}/api/v1{path}", headers=headers, json=body) as answer,
    ):
        assert answer.ok, await answer.text()
        return await answer.json()


async def settled(serve: Serve, run: str) -> Any:
    """The run's one callback, once it is not pending any more."""
    async with asyncio.timeout(60):
        while True:
            (callback,) = (await call(serve, "GET", f"/workflow-runs/{run}/callbacks"))["data"]
            if callback["status"] != "pending":
                return callback
            await asyncio.sleep(0.01)  # a poller has nothing else to wait for


async def test_killed_in_mid_delivery_and_started_again(tmp_path: Path):
    flow = tmp_path / "flow.yml"
    flow.write_text(ECHO)

    async def silent_at_first(_: Post) -> int:
        if len(there.posts) < 3:
            await asyncio.Event().wait()
        return 200

    posts: list[Post] = []
    async with receiver(answer=silent_at_first) as there:
        async with process(tmp_path, flow) as serve:
            fields = {"inputs": {"q": "hi"}, "user": "u", "callback_url": there.url}
            queued = await call(serve, "POST", f"/workflows/{serve.apps['flow']['app_id']}/run", fields)
            run = queued["workflow_run_id"]
            secret = await call(serve, "GET", "/callbacks/secret")
            posts.append(await there.next())
        async with process(tmp_path, flow):
            posts.append(await there.next())
        async with process(tmp_path, flow) as serve:
            posts.append(await there.next())
            callback = await settled(serve, run)
            assert await call(serve, "GET", "/callbacks/secret") == secret
            resent = await call(serve, "POST", f"/callbacks/{callback['id']}/resend")
            assert (resent["id"], resent["status"]) == (callback["id"], "pending")
            posts.append(await there.next())

    assert (callback["status"], callback["attempts"], callback["last_status"]) == ("delivered", 1, 200)
    assert {post.id for post in posts} == {callback["id"]}
    assert len({post.body for post in posts}) == 1
    body = posts[0].json["data"]
    assert (body["id"], body["task_id"], body["outputs"]) == (run, queued["task_id"], {"q": "hi"})
    assert len(there.posts) == len(posts)
