"""A whole Headrace in the test's process with an app of every mode, each used a little; models are over loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from headrace.adapters.files import limit_for
from headrace.api.app import ApiOptions, create_app
from headrace.main import Service, service
from headrace.settings import Settings
from tests.conformance.peers import PNG
from tests.http.servers import serve
from tests.native.calling import Caller
from tests.official import apps

USER = "u1"
BOUNDARY = "headrace-official"


@dataclass
class App:
    """One app, a caller with its key, and the ids of what there is in it, by the names of path parameters."""

    mode: str
    call: Caller
    ids: dict[str, str] = field(default_factory=dict[str, str])

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.call("POST", f"/v1{path}", json={"user": USER, **body})
        assert answer.status in (200, 201), answer.body
        return answer.json

    async def say(self, query: str = "hello", conversation: str = "") -> Any:
        return await self.post("/chat-messages", inputs={}, query=query, conversation_id=conversation)

    async def upload(self) -> Any:
        body, headers = multipart({"user": USER}, ("x.png", "image/png", PNG))
        answer = await self.call("POST", "/v1/files/upload", body=body, headers=headers)
        assert answer.status == 201, answer.body
        return answer.json


@dataclass
class World:
    """`url`: where the models and remote files are."""

    url: str
    apps: Mapping[str, App]

    async def renew(self, app: App, path: str) -> Mapping[str, str]:
        """Makes anew what an operation is going to take away; the ids there are then."""
        if path.startswith("/conversations"):
            app.ids["conversation_id"] = (await app.say())["conversation_id"]
        elif path.startswith("/apps/annotations"):
            app.ids["annotation_id"] = (await app.post("/apps/annotations", question="q?", answer="a"))["id"]
        elif path.startswith("/form/"):
            ran = await app.post("/workflows/run", inputs={})
            app.ids["form_token"] = ran["data"]["reasons"][0]["form_token"]
        return app.ids


@asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[World]:
    routes = {
        "/v1/chat/completions": _answer,
        "/v1/audio/transcriptions": _transcribe,
        "/v1/audio/speech": _speak,
        "/down": _down,
        "/x.png": _picture,
    }
    async with serve(routes) as url:
        allowed = [urlsplit(url).netloc]
        settings = Settings(data=folder, egress_allow=allowed)
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{url}/v1"}
        async with service(settings, environ, memory=True) as running:
            api = create_app(
                running.apps,
                running.run_service,
                running.files,
                ApiOptions(limit_for=limit_for, ping_seconds=0.001),
                speech=running.speech,
            )
            files = {
                "workflow": apps.workflow(url),
                "advanced-chat": apps.chatflow(url),
                "chat": apps.chat(),
                "agent-chat": apps.chat("agent-chat"),
                "completion": apps.chat("completion"),
                "failing": apps.chatflow(url, fails=True),
                "people": apps.people(),
            }
            used_apps = {name: await _used(running, api, name, text) for name, text in files.items()}
            yield World(url, used_apps)


async def _used(running: Service, api: Any, name: str, text: str) -> App:
    release = await running.apps.publish(f"{name}.yml", text)
    app = App(release.app.mode, Caller(api, await running.apps.working_key(release.app)))
    uploaded = await app.upload()
    ids = app.ids
    ids |= {"file_id": uploaded["id"], "end_user_id": uploaded["created_by"], "workflow_id": release.version.id}
    annotation = await app.post("/apps/annotations", question="who?", answer="me")
    ids["annotation_id"] = annotation["id"]
    setting = {"score_threshold": 0.9, "embedding_provider_name": "openai", "embedding_model_name": "e"}
    if name == "failing":
        return app
    if name == "people":
        ids["form_token"] = ""  # each request gets a form of its own
        return app
    if name == "workflow":
        ran = await app.post("/workflows/run", inputs={})
        ids |= {"workflow_run_id": ran["workflow_run_id"], "task_id": ran["task_id"]}
        return app
    ids["job_id"] = (await app.post("/apps/annotation-reply/enable", **setting))["job_id"]
    if name == "completion":
        said = await app.post("/completion-messages", inputs={"query": "hello"})
    else:
        said = await app.say()
        ids["conversation_id"] = said["conversation_id"]
        await app.say("more", said["conversation_id"])
        await app.say("who?", said["conversation_id"])
    if name == "advanced-chat":
        path = f"/v1/conversations/{said['conversation_id']}/variables?user={USER}"
        ids["variable_id"] = (await app.call("GET", path)).json["data"][0]["id"]
    ids |= {"message_id": said["message_id"], "task_id": said["task_id"], "workflow_run_id": said["message_id"]}
    await app.post(f"/messages/{said['message_id']}/feedbacks", rating="like", content="good")
    return app


def multipart(fields: Mapping[str, str], file: tuple[str, str, bytes] | None) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a form; `file`: name, content type, bytes."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    if file is not None:
        name, kind, content = file
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        parts.append(head.encode() + content)
    body = b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part) for part in parts)
    return body + f"--{BOUNDARY}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def events_of(stream: bytes) -> Sequence[Any]:
    """The events of a stream, as a client of Dify reads them: by their data, pings by their name."""
    events: list[Any] = []
    for block in stream.decode().split("\n\n"):
        name, _, value = block.partition(": ")
        if name == "data":
            events.append(json.loads(value))
        elif name == "event":
            events.append({"event": value})
    return events


async def _answer(request: web.Request) -> web.Response:
    await asyncio.sleep(0.01)  # long enough for a ping
    said = '["What?", "Who?", "Why?"]' if "JSON array" in await request.text() else "Hello there."
    pieces = [{"choices": [{"delta": {"content": word}}]} for word in said.split(" ")]
    pieces.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
    return web.Response(text=f"{body}data: [DONE]\n\n", content_type="text/event-stream")


async def _transcribe(request: web.Request) -> web.Response:
    return web.json_response({"text": "Hello there."})


async def _speak(request: web.Request) -> web.Response:
    return web.Response(body=b"ID3 audio", content_type="audio/mpeg")


async def _down(request: web.Request) -> web.Response:
    return web.Response(status=503)


async def _picture(request: web.Request) -> web.Response:
    return web.Response(body=PNG, content_type="image/png")
