"""A server with only Dify's `/v1`, which replays recordings of a real one. A key names the recorded case.

python -m tests.sdk_contract.dify_server --ready-file PATH
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import yaml
from aiohttp import web

from tests.sdk_contract.dify_datasets import KNOWLEDGE_KEY, add_datasets
from tests.sdk_contract.serving import arguments, serve

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "data", _HERE.parent / "conformance" / "runs")
_FORMS = _HERE.parent / "data" / "apps"
_NOT_FOUND_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not "
    "found on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
)
_RUN_FIELDS = "id workflow_id status inputs outputs error total_steps total_tokens created_at finished_at elapsed_time"
_UNKNOWN_RUN: dict[str, Any] = dict.fromkeys(_RUN_FIELDS.split())
_LOG_COUNT = 45


def cases() -> dict[str, Path]:
    """Every recorded case by name."""
    folders = {path.name: path for folder in _FOLDERS for path in folder.iterdir() if path.is_dir()}
    return dict(sorted(folders.items()))


def key_of(case: str) -> str:
    return f"app-{case}"


def events_of(case: str) -> list[dict[str, Any]]:
    """The events of a recorded stream, without pings."""
    text = (cases()[case] / "response.stream.txt").read_text()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


class Dify:
    """`pause`: seconds after each of the first `pauses` events of a stream."""

    def __init__(self, pause: float = 0, pauses: int = sys.maxsize) -> None:
        self.pause = pause
        self.pauses = pauses
        self.cases = cases()
        self.closed: asyncio.Event = asyncio.Event()
        self.ratings: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.deleted: set[str] = set()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._envelope], client_max_size=64 * 1024 * 1024)
        add = app.router.add_route
        add("POST", "/v1/workflows/run", self._run)
        add("POST", "/v1/workflows/{id}/run", self._run)
        add("GET", "/v1/workflows/run/{id}", self._detail)
        add("GET", "/v1/workflow/{id}/events", self._events)
        add("POST", "/v1/workflows/tasks/{id}/stop", self._success)
        add("GET", "/v1/workflows/logs", self._logs)
        for path in ("chat-messages", "completion-messages"):
            add("POST", f"/v1/{path}", self._run)
            add("POST", f"/v1/{path}/{{id}}/stop", self._success)
        for name in ("info", "parameters", "meta", "site"):
            add("GET", f"/v1/{name}", getattr(self, f"_{name}"))
        add("POST", "/v1/files/upload", self._upload)
        add("GET", "/v1/messages", self._messages)
        add("GET", "/v1/messages/{id}/suggested", self._suggested)
        add("POST", "/v1/messages/{id}/feedbacks", self._feedback)
        add("GET", "/v1/app/feedbacks", self._feedbacks)
        add("GET", "/v1/conversations", self._conversations)
        add("POST", "/v1/conversations/{id}/name", self._rename)
        add("DELETE", "/v1/conversations/{id}", self._delete)
        add("GET", "/v1/conversations/{id}/variables", self._variables)
        add("PUT", "/v1/conversations/{id}/variables/{variable}", self._set_variable)
        add("POST", "/v1/audio-to-text", self._audio_to_text)
        add("POST", "/v1/text-to-audio", self._text_to_audio)
        add("GET", "/v1/form/human_input/{id}", self._form)
        add("POST", "/v1/form/human_input/{id}", self._submit)
        add_datasets(app)
        return app

    # --------------------------------------------------------------------------------------------------------- runs

    async def _run(self, request: web.Request) -> web.StreamResponse:
        case = self._case(request)
        body = await self._json(request)
        if not body.get("user"):
            raise RequestError(400, "invalid_param", "Arg user must be provided.")
        if "inputs" not in body:
            raise RequestError(400, "invalid_param", "inputs: Field required")
        recorded = json.loads((case / "request.json").read_text())
        if ("path" in recorded) and not request.path.endswith(recorded["path"].rpartition("/")[2]):
            raise RequestError(400, "not_workflow_app", "Please check if your app mode matches the right API route.")
        version = request.match_info.get("id")
        if version is not None:
            if not _is_uuid(version):
                raise RequestError(400, "bad_request", f"Invalid workflow_id format: '{version}'. ")
            if version != self._stream_of(case)[0]["data"]["workflow_id"]:
                raise RequestError(404, "not_found", f"Workflow not found with id: {version}")
        if body.get("response_mode") == "streaming":
            return await self._stream(request, case)
        recording = case / "response.blocking.json"
        failed = "32_" in case.name
        return web.Response(
            body=recording.read_bytes(), status=400 if failed else 200, content_type="application/json", charset="utf-8"
        )

    async def _stream(self, request: web.Request, case: Path) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        blocks = (case / "response.stream.txt").read_bytes().split(b"\n\n")
        try:
            for number, block in enumerate(blocks):
                if block.strip():
                    await response.write(block + b"\n\n")
                    await asyncio.sleep(self.pause if number < self.pauses else 0)
            await response.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            self.closed.set()
            raise
        return response

    async def _events(self, request: web.Request) -> web.Response:
        last = self._stream_of(self._case(request))[-1]
        if request.match_info["id"] != last["workflow_run_id"]:
            raise RequestError(404, "not_found", "Workflow run not found")
        return web.Response(text=f"data: {json.dumps(last)}\n\n", content_type="text/event-stream")

    async def _detail(self, request: web.Request) -> web.Response:
        case = self._case(request)
        name = request.match_info["id"]
        if not _is_uuid(name):
            raise RequestError(500, "unknown", "Internal Server Error")
        detail = json.loads((case / "run_detail.json").read_text())
        events = self._stream_of(case)
        ids = {detail["id"], events[0].get("workflow_run_id")}
        blocking = case / "response.blocking.json"
        if blocking.exists():
            ids.add(json.loads(blocking.read_text()).get("workflow_run_id"))
        return web.json_response({**detail, "id": name} if name in ids else _UNKNOWN_RUN)

    async def _logs(self, request: web.Request) -> web.Response:
        self._case(request)
        page, limit = int(request.query.get("page", 1)), int(request.query.get("limit", 20))
        first = (page - 1) * limit
        lines = [_log_line(number) for number in range(first, min(first + limit, _LOG_COUNT))]
        more = first + limit < _LOG_COUNT
        return web.json_response({"page": page, "limit": limit, "total": _LOG_COUNT, "has_more": more, "data": lines})

    # ---------------------------------------------------------------------------------------------------------- app

    async def _info(self, request: web.Request) -> web.Response:
        case = self._case(request)
        mode = "advanced-chat" if case.name.startswith("3") else "workflow"
        return web.json_response(
            {"name": case.name, "description": "", "tags": [], "mode": mode, "author_name": "peer"}
        )

    async def _parameters(self, request: web.Request) -> web.Response:
        case = self._case(request)
        form = [{"text-input": {"label": "query", "required": True, "type": "text-input", "variable": "query"}}]
        if case.name.startswith("18_"):
            nodes = yaml.safe_load((_FORMS / "inputs_all.yml").read_text())["workflow"]["graph"]["nodes"]
            start = next(node["data"] for node in nodes if node["data"]["type"] == "start")
            form = [{variable["type"]: variable} for variable in start["variables"]]
        return web.json_response(
            {
                "opening_statement": "",
                "suggested_questions": [],
                "user_input_form": form,
                "file_upload": {"enabled": False},
                "system_parameters": {"file_size_limit": 15, "workflow_file_upload_limit": 10},
            }
        )

    async def _meta(self, request: web.Request) -> web.Response:
        self._case(request)
        return web.json_response({"tool_icons": {}})

    async def _site(self, request: web.Request) -> web.Response:
        name = self._case(request).name
        return web.json_response({"title": name, "icon_type": "emoji", "icon": "🤖", "default_language": "en-US"})

    async def _upload(self, request: web.Request) -> web.Response:
        self._case(request)
        form = await request.post()
        file = form.get("file")
        if not isinstance(file, web.FileField):
            raise RequestError(400, "no_file_uploaded", "Please upload your file.")
        content = file.file.read()
        uploaded_file = {
            "id": str(uuid4()),
            "name": file.filename,
            "size": len(content),
            "extension": file.filename.rpartition(".")[2],
            "mime_type": file.content_type,
            "created_by": form.get("user"),
            "created_at": 1795226715,
        }
        return web.json_response(uploaded_file, status=201)

    # --------------------------------------------------------------------------------------------------------- chat

    async def _messages(self, request: web.Request) -> web.Response:
        case = self._case(request)
        recorded = case / "messages.json"
        if recorded.exists():
            messages = json.loads(recorded.read_text())["data"]
        else:
            events = [event for event in self._stream_of(case) if event["event"] == "message"]
            answer = "".join(event["answer"] for event in events)
            messages = [{"id": events[0]["message_id"], "query": "", "answer": answer, "status": "normal"}]
        first, limit = request.query.get("first_id"), int(request.query.get("limit", 20))
        if first:
            messages = messages[: next(place for place, event in enumerate(messages) if event["id"] == first)]
        page = messages[-limit:]
        return web.json_response({"limit": limit, "has_more": len(messages) > limit, "data": page})

    async def _suggested(self, request: web.Request) -> web.Response:
        self._case(request)
        return web.json_response({"result": "success", "data": ["And then?", "Why?"]})

    async def _feedback(self, request: web.Request) -> web.Response:
        self._case(request)
        self.ratings[request.match_info["id"]] = await self._json(request)
        return web.json_response({"result": "success"})

    async def _feedbacks(self, request: web.Request) -> web.Response:
        self._case(request)
        page, limit = int(request.query.get("page", 1)), int(request.query.get("limit", 20))
        feedbacks = [
            {"id": name, "message_id": name, "rating": rated["rating"]} for name, rated in self.ratings.items()
        ]
        return web.json_response({"data": feedbacks[(page - 1) * limit : page * limit]})

    async def _conversations(self, request: web.Request) -> web.Response:
        case = self._case(request)
        conversations = json.loads((case / "conversations.json").read_text())["data"]
        conversations = [conversation for conversation in conversations if conversation["id"] not in self.deleted]
        last, limit = request.query.get("last_id"), int(request.query.get("limit", 20))
        if last:
            conversations = conversations[
                next(place for place, conversation in enumerate(conversations) if conversation["id"] == last) + 1 :
            ]
        return web.json_response(
            {"limit": limit, "has_more": len(conversations) > limit, "data": conversations[:limit]}
        )

    async def _rename(self, request: web.Request) -> web.Response:
        self._case(request)
        body = await self._json(request)
        name = body.get("name") or "made up"
        return web.json_response({"id": request.match_info["id"], "name": name, "inputs": {}, "status": "normal"})

    async def _delete(self, request: web.Request) -> web.Response:
        self._case(request)
        self.deleted.add(request.match_info["id"])
        return web.Response(status=204)

    async def _variables(self, request: web.Request) -> web.Response:
        case = self._case(request)
        return web.json_response(json.loads((case / "variables.json").read_text()))

    async def _set_variable(self, request: web.Request) -> web.Response:
        self._case(request)
        body = await self._json(request)
        variable = {"id": request.match_info["variable"], "name": "count", "value_type": "number"}
        return web.json_response({**variable, "value": str(body["value"])})

    async def _audio_to_text(self, request: web.Request) -> web.Response:
        self._case(request)
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        return web.json_response({"text": f"heard {len(file.file.read())} bytes of {file.filename}"})

    async def _text_to_audio(self, request: web.Request) -> web.Response:
        self._case(request)
        body = await self._json(request)
        return web.Response(body=b"ID3" + str(body.get("text")).encode(), content_type="audio/mpeg")

    # --------------------------------------------------------------------------------------------------------- rest

    async def _form(self, request: web.Request) -> web.Response:
        self._case(request)
        if request.match_info["id"] == "gone":
            raise RequestError(412, "human_input_form_expired", "This form has expired.")
        actions = [{"id": "approve", "title": "Approve", "button_style": "primary"}]
        inputs = [
            {"type": "paragraph", "output_variable_name": "note", "default": None},
            {"type": "file-list", "output_variable_name": "pictures", "allowed_file_types": ["image"]},
            {"type": "file", "output_variable_name": "page", "allowed_file_types": ["document"]},
        ]
        return web.json_response(
            {"form_content": "Is this right?", "inputs": inputs, "user_actions": actions, "expiration_time": 1795999999}
        )

    async def _submit(self, request: web.Request) -> web.Response:
        self._case(request)
        body = await self._json(request)
        if body.get("action") != "approve":
            raise RequestError(400, "invalid_form_data", f"Invalid action: {body.get('action')}")
        return web.json_response({})

    async def _success(self, request: web.Request) -> web.Response:
        self._case(request)
        await self._json(request)
        return web.json_response({"result": "success"})

    # -------------------------------------------------------------------------------------------------------- parts

    def _case(self, request: web.Request) -> Path:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        case = self.cases.get(key.removeprefix("app-")) if scheme.lower() == "bearer" else None
        if case is None:
            raise RequestError(401, "unauthorized", "Access token is invalid")
        return case

    def _stream_of(self, case: Path) -> list[dict[str, Any]]:
        stream = case / "response.stream.txt"
        return events_of(case.name) if stream.exists() else [{}]

    async def _json(self, request: web.Request) -> dict[str, Any]:
        try:
            return await request.json()
        except ValueError:
            raise RequestError(400, "bad_request", "The browser (or proxy) sent a bad request.") from None

    @web.middleware
    async def _envelope(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            envelope = {"code": error.code, "message": error.message, "status": error.number}
            return web.json_response(envelope, status=error.number)
        except web.HTTPNotFound:
            return web.Response(text=_NOT_FOUND_PAGE, status=404, content_type="text/html")


class RequestError(Exception):
    def __init__(self, number: int, code: str, message: str) -> None:
        super().__init__(message)
        self.number, self.code, self.message = number, code, message


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _log_line(number: int) -> dict[str, Any]:
    run = {"id": str(UUID(int=number)), "status": "succeeded", "error": None, "elapsed_time": 0.1, "total_steps": 2}
    return {
        "id": f"log-{number}",
        "workflow_run": run,
        "created_from": "service-api",
        "created_at": 1795226715 - number,
    }


if __name__ == "__main__":
    chosen = arguments()
    keys = {case: key_of(case) for case in cases()} | {"knowledge": KNOWLEDGE_KEY}
    asyncio.run(serve(Dify().app(), chosen.ready_file, {"keys": keys}))
