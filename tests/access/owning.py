"""A workspace that has something of everything, to see who else can see it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from headrace.access.keys import Rights
from headrace.apps.catalog import Release
from headrace.kernel.events import RunEnded
from headrace.node import Context, Result
from tests.api.chats import chatflow
from tests.api.serving import Gate, Scripted, Serving, workflow
from tests.human_input.flows import human_input
from tests.human_input.flows import workflow as workflow_of
from tests.triggers.world import triggered

MARK = "confidential-to-acme"
"""Stands in every text that the workspace has."""

USER = "ada"  # others have one of that name, too

FEATURES = {"suggested_questions_after_answer": {"enabled": True}}
SETTING = {"score_threshold": 0.9, "embedding_provider_name": MARK, "embedding_model_name": MARK}


@dataclass(frozen=True)
class Reply:
    """What came back: the whole body, also of a stream."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Holder:
    """Somebody with a key. `apps` are the ids of the apps that it may call."""

    server: Serving
    key: str
    apps: Sequence[str]

    async def call(self, method: str, path: str, app: str | None = None, **more: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        if app is not None:
            headers["Headrace-App"] = app
        async with self.server.session.request(method, self.server.url + path, headers=headers, **more) as answer:
            return Reply(answer.status, await answer.read())


@dataclass(frozen=True)
class Owner(Holder):
    """Has at least one of everything: `ids` of things by the name of the path parameter that they are given for."""

    ids: Mapping[str, Sequence[str]]
    running: Sequence[str]  # the ids of the run that is under way until the block is left, and of its task


async def key_of(server: Serving, rights: Rights) -> str:
    return (await server.apps.access.create(rights, "test", name=f"{rights.workspace}'s"))[1]


async def published(server: Serving, workspace: str, name: str) -> list[Release]:
    """An app of each kind, of that name."""
    variables = [
        {"variable": "q", "label": "Q", "type": "text-input", "required": False},
        {"variable": "doc", "label": "Doc", "type": "file", "required": False},
    ]
    plain = workflow(variables=variables, outputs={"q": ["start", "q"]}).replace("name: tiny", f"name: {name}")
    gated = workflow(["gate"], outputs={"text": ["gate", "text"]}).replace("name: tiny", f"name: {name}")
    talk = chatflow(f"{name} {{{{#sys.query#}}}}", name=name, features=FEATURES, conversation={"mood": name})
    files = {"plain": plain, "gated": gated, "chat": talk}
    return [await server.apps.publish(f"{name} {kind}.yml", file, workspace) for kind, file in files.items()]


@asynccontextmanager
async def owner(server: Serving, workspace: str = "acme") -> AsyncGenerator[Owner]:
    """A workspace whose key may do all, and all that can be had. Everything in it bears the MARK."""
    gate = Gate([MARK])

    async def held_once(ctx: Context) -> Result:
        return Result({"text": "through"}) if gate.reached.is_set() else await gate(ctx)

    Scripted.scripts["gate"] = held_once
    apps = await published(server, workspace, MARK)
    plain, gated, talk = (item.app.id for item in apps)
    hook = triggered({"type": "trigger-webhook", "title": MARK}).replace("name: triggered", f"name: {MARK} hook")
    hooked = (await server.apps.publish(f"{MARK} hook.yml", hook, workspace)).app.id
    review = workflow_of({"ask": human_input(title=MARK, form_content=MARK)}, ["s>ask", "ask:approve>e"])
    review = review.replace("name: review", f"name: {MARK}")
    asks = (await server.apps.publish(f"{MARK} asks.yml", review, workspace)).app.id
    holder = Holder(server, await key_of(server, Rights(workspace)), [plain, gated, talk, hooked, asks])

    async def succeed(method: str, path: str, app: str, **more: Any) -> Any:
        reply = await holder.call(method, path, app, **more)
        assert reply.status < 300, (path, reply)
        return reply.json

    request_body = {"inputs": {"q": MARK}, "user": USER}
    ran = await succeed("POST", "/v1/workflows/run", plain, json=request_body)
    fields = {**request_body, "callback_url": f"http://127.0.0.1:9/{MARK}"}
    polled = await succeed("POST", f"/api/v1/workflows/{plain}/run", plain, json=fields)
    for run in (polled["workflow_run_id"], ran["workflow_run_id"]):
        await succeed("GET", f"/api/v1/workflow-runs/{run}?wait=5", plain)
    again = f"/api/v1/workflows/{plain}/versions"
    version = await succeed(
        "POST",
        again,
        plain,
        data=apps[0].version.content.replace("title: Start", "title: Begin"),
        headers={"Content-Type": "application/yaml"},
    )
    form = aiohttp.FormData()
    form.add_field("file", MARK.encode(), filename=f"{MARK}.txt", content_type="text/plain")
    form.add_field("user", USER)
    file = await succeed("POST", "/v1/files/upload", plain, data=form)
    said = await succeed("POST", "/v1/chat-messages", talk, json={"inputs": {}, "query": MARK, "user": USER})
    talked = said["conversation_id"]
    variables = await succeed("GET", f"/v1/conversations/{talked}/variables?user={USER}", talk)
    await succeed("POST", f"/v1/messages/{said['message_id']}/feedbacks", talk, json={"user": USER, "rating": "like"})
    note = await succeed("POST", "/v1/apps/annotations", talk, json={"question": MARK, "answer": MARK})
    job = await succeed("POST", "/v1/apps/annotation-reply/enable", talk, json=SETTING)
    line = json.dumps({"inputs": {"q": MARK}})
    jsonl = {"Content-Type": "application/jsonl"}
    batch = await succeed("POST", f"/api/v1/workflows/{plain}/batch", plain, data=line, headers=jsonl)
    spare = await succeed("POST", "/api/v1/keys", plain, json={"name": MARK, "permissions": ["read"]})
    old = await succeed("POST", "/api/v1/keys", plain, json={"name": MARK, "permissions": ["read"]})
    under_way = await succeed("POST", f"/api/v1/workflows/{gated}/run", gated, json={"inputs": {}, "user": USER})
    await gate.reached.wait()
    summary = await server.store.runs.find_run(under_way["workflow_run_id"])
    assert summary is not None
    triggers = await succeed("GET", "/api/v1/triggers", hooked)
    wanted = {"provider": "acme/shop_trigger/shop", "name": MARK, "parameters": {"repository": MARK}}
    subscription = await succeed("POST", "/api/v1/trigger-subscriptions", plain, json=wanted)
    paused_run = await succeed("POST", "/v1/workflows/run", asks, json={"inputs": {}, "user": USER})
    callbacks = await succeed("GET", f"/api/v1/workflow-runs/{polled['workflow_run_id']}/callbacks", plain)
    ids = {
        "workflow_run_id": [ran["workflow_run_id"], polled["workflow_run_id"], summary.run],
        "response_id": [f"resp_{run}" for run in (ran["workflow_run_id"], polled["workflow_run_id"], summary.run)],
        "task_id": [ran["task_id"], said["task_id"], under_way["task_id"]],
        "workflow_id": [apps[0].version.id, plain],
        "app_id": [plain],
        "version_id": [apps[0].version.id, version["id"]],
        "file_id": [file["id"]],
        "name": [f"{file['id']}.txt"],
        "end_user_id": [str(summary.end_user), str(file["created_by"])],
        "conversation_id": [talked],
        "variable_id": [item["id"] for item in variables["data"]],
        "message_id": [said["message_id"]],
        "annotation_id": [note["id"]],
        "job_id": [job["job_id"]],
        "batch_id": [batch["batch_id"]],
        "trigger_id": [item["id"] for item in triggers["data"]],
        "subscription_id": [subscription["id"]],
        "callback_id": [item["id"] for item in callbacks["data"]],
        "model": [talk, MARK],
        "key_id": [spare["id"], old["id"]],
        "form_token": [paused_run["data"]["reasons"][0]["form_token"]],
    }
    assert all(ids.values())
    yield Owner(server, holder.key, holder.apps, ids, [summary.run, under_way["task_id"]])
    events = [record.event for record in await server.store.journal.read(summary.run)]
    assert not any(isinstance(event, RunEnded) for event in events), "nobody stops what is another's"
    gate.let(2)
