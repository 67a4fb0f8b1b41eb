"""What `/docs` and `/openapi.json` say of each endpoint.

The endpoints read their requests by themselves, so nothing of this is derived; `tests/api/test_openapi.py` holds it
against the routes and against real answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import IDS, STARTING_POINT, error, operation, parameter, responses

DESCRIPTION = """Workflows exported from Dify, served through Dify's Service API.

Every call carries `Authorization: Bearer KEY`: an app's own key (`app-...`), a workspace's (`ws-...`), or a token of
an identity provider. Errors are always `{"code": ..., "message": ..., "status": ...}`."""

_RUN_ID = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
_TASK_ID = "c3800678-a077-43df-a102-53f23ed20b88"
_WORKFLOW_ID = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
_FILE_ID = "a1b2c3d4-5678-90ab-cdef-1234567890ab"
_USER_ID = "f1e2d3c4-b5a6-7890-abcd-ef1234567890"
_USER = "user-123"
_APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"


_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_USER = error("invalid_param", "Arg user must be provided.", 400)
_WRONG_MODE = error("not_workflow_app", "Please check if your app mode matches the right API route.", 400)
_MISSING_INPUT = error("invalid_param", "query is required in input form", 400)
_BAD_JSON = error("bad_request", "The browser (or proxy) sent a request that this server could not understand.", 400)
_NO_JSON = error("unsupported_media_type", "The request's Content-Type is not 'application/json'.", 415)
_BUSY = error("too_many_requests", "Too many requests. Please try again later.", 429)
_NO_RUN = error("not_found", "Workflow run not found", 404)
_NO_FILE = error("file_not_found", "The requested file was not found.", 404)


_TEXT = {"type": "string"}
_UUID = {"type": "string", "format": "uuid"}
_BOOL = {"type": "boolean", "default": False}
_TIME = {"type": "string", "format": "date-time"}


# ------------------------------------------------------------------------------------------------------------ runs

_FILE_INPUT = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/image.jpg"}
_RUN_BODY: Mapping[str, Any] = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["inputs", "user"],
            "properties": {
                "inputs": {"type": "object", "description": "The start node's variables by name."},
                "user": {"type": "string", "description": "Your name for whoever the run is made for."},
                "response_mode": {"type": "string", "enum": ["blocking", "streaming"], "default": "blocking"},
                "files": {"type": "array", "items": {"type": "object"}, "description": "What `sys.files` holds."},
            },
        },
        "examples": {
            "blocking": {"value": {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": _USER}},
            "streaming": {"value": {"inputs": {"query": "hello"}, "response_mode": "streaming", "user": _USER}},
            "file": {"value": {"inputs": {"picture": _FILE_INPUT}, "response_mode": "blocking", "user": _USER}},
        },
    }
}
_RESULT = {
    "id": _RUN_ID,
    "workflow_id": _WORKFLOW_ID,
    "status": "succeeded",
    "outputs": {"text": "Hello!"},
    "error": None,
    "elapsed_time": 1.23,
    "total_tokens": 150,
    "total_steps": 3,
    "created_at": 1795226714,
    "finished_at": 1795226715,
}
_STREAM = (
    f'data: {{"event":"workflow_started","workflow_run_id":"{_RUN_ID}","task_id":"{_TASK_ID}",'
    f'"data":{{"id":"{_RUN_ID}","workflow_id":"{_WORKFLOW_ID}","inputs":{{"query":"hello"}},'
    '"created_at":1795226714,"reason":"initial"}}\n\nevent: ping\n\n'
    f'data: {{"event":"text_chunk","workflow_run_id":"{_RUN_ID}","task_id":"{_TASK_ID}",'
    '"data":{"text":"Hello!","from_variable_selector":["llm","text"]}}\n\n'
)
_BLOCKING = {"task_id": _TASK_ID, "workflow_run_id": _RUN_ID, "data": _RESULT}
_RUN_ERRORS = (_BAD_JSON, _NO_USER, _MISSING_INPUT, _WRONG_MODE, _NO_KEY, _NO_JSON, _BUSY)

RUN = operation(
    "runWorkflow",
    "Runs",
    "Run the workflow",
    "Runs the app's current version. A run that fails is HTTP 200 with the status `failed`. A streamed run that was "
    "cut off is taken up again by GET /v1/workflow/{workflow_run_id}/events. " + IDS,
    responses(_RUN_ERRORS, json=_BLOCKING, stream=_STREAM),
    body=_RUN_BODY,
)
RUN_VERSION = operation(
    "runWorkflowVersion",
    "Runs",
    "Run one version of the workflow",
    "As POST /v1/workflows/run, for the version that `workflow_id` names.",
    responses(
        (*_RUN_ERRORS, error("not_found", f"Workflow not found with id: {_WORKFLOW_ID}", 404)),
        json=_BLOCKING,
        stream=_STREAM,
    ),
    [parameter("path", "workflow_id", "A version's id", _UUID)],
    _RUN_BODY,
)
RUN_DETAIL = operation(
    "getWorkflowRun",
    "Runs",
    "Look at a run",
    "A run as it stands. `inputs` and `outputs` are JSON in a string.",
    responses((_NO_RUN, _NO_KEY), json=_RESULT | {"inputs": '{"query": "hello"}', "outputs": '{"text": "Hello!"}'}),
    [parameter("path", "workflow_run_id", "A run's id", _UUID)],
)
EVENTS = operation(
    "followWorkflowRun",
    "Runs",
    "Follow a run",
    "The run's events as a stream: from now on; or all that there were and will be (`include_state_snapshot`); or "
    "those after a starting point, without a gap and without telling anything twice. Of a run that has ended only its "
    "workflow_finished is told, unless a starting point says what is missing. " + IDS,
    responses((_NO_USER, _NO_RUN, _NO_KEY), stream=_STREAM),
    [
        parameter("path", "workflow_run_id", "A run's id", _UUID),
        parameter("query", "user", "The `user` that the run was asked for with", _TEXT, required=True),
        parameter("query", "include_state_snapshot", "Tell what has happened so far, too", _BOOL),
        parameter("query", "continue_on_pause", "Do not end at a pause", _BOOL),
        *STARTING_POINT,
    ],
)
STOP = operation(
    "stopWorkflowTask",
    "Runs",
    "Stop a run",
    "Cancels the nodes under way. A task that is unknown or has ended is no error.",
    responses((_NO_USER, _WRONG_MODE, _NO_KEY, _NO_JSON), json={"result": "success"}),
    [parameter("path", "task_id", "A run's task id", _TEXT)],
    {"application/json": {"schema": {"type": "object", "required": ["user"]}, "example": {"user": _USER}}},
)
LOGS = operation(
    "listWorkflowLogs",
    "Runs",
    "List runs",
    "The app's runs, newest first.",
    responses(
        (error("invalid_param", "limit: Input should be an integer from 1 to 100, not '1000'", 400), _NO_KEY),
        json={"page": 1, "limit": 20, "total": 0, "has_more": False, "data": []},
    ),
    [
        parameter("query", "keyword", "Found in the inputs, the outputs or the id", _TEXT),
        parameter("query", "status", "Runs of this status", _TEXT | {"enum": ["succeeded", "failed", "stopped"]}),
        parameter("query", "created_at__before", "ISO 8601", _TIME),
        parameter("query", "created_at__after", "ISO 8601", _TIME),
        parameter("query", "created_by_end_user_session_id", "The `user` of the runs", _TEXT),
        parameter("query", "created_by_account", "Refused: accounts make no runs here", _TEXT),
        parameter("query", "page", "From 1", {"type": "integer", "default": 1, "minimum": 1, "maximum": 99999}),
        parameter("query", "limit", "Runs a page", {"type": "integer", "default": 20, "minimum": 1, "maximum": 100}),
    ],
)

# ----------------------------------------------------------------------------------------------------------- files

UPLOAD = operation(
    "uploadFile",
    "Files",
    "Upload a file",
    "Its `id` is then given to a run as `upload_file_id`, with the `transfer_method` local_file.",
    responses(
        (
            error("no_file_uploaded", "Please upload your file.", 400),
            error("filename_not_exists_error", "The specified filename does not exist.", 400),
            error("file_too_large", "File size exceeded: this kind of file may have 15 MB at most.", 413),
            error("unsupported_file_type", "File type not allowed.", 415),
            _NO_KEY,
        ),
        201,
        json={
            "id": _FILE_ID,
            "name": "notes.txt",
            "size": 11,
            "extension": "txt",
            "mime_type": "text/plain",
            "created_by": _USER_ID,
            "created_at": 1795226715,
            "preview_url": None,
            "source_url": f"http://127.0.0.1:8040/files/{_FILE_ID}/file-preview?timestamp=...&nonce=...&sign=...",
            "original_url": None,
            "user_id": None,
            "tenant_id": None,
            "conversation_id": None,
            "file_key": None,
            "reference": None,
        },
    ),
    body={
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}, "user": _TEXT},
            }
        }
    },
)
_AS_ATTACHMENT = parameter("query", "as_attachment", "To be saved, not shown", _BOOL)
_SIGNATURE = [
    parameter("query", name, "From the URL as it was given", _TEXT) for name in ("timestamp", "nonce", "sign")
]
PREVIEW = operation(
    "previewFile",
    "Files",
    "Download a file",
    "The bytes of an uploaded file, or a range of them. What a browser could run is sent as an attachment.",
    responses((_NO_FILE, _NO_KEY), binary="..."),
    [
        parameter("path", "file_id", "A file's id", _UUID),
        _AS_ATTACHMENT,
        parameter("query", "user", "Taken, and of no effect", _TEXT),
    ],
)
SIGNED = operation(
    "signedFile",
    "Files",
    "Download a file by its signed URL",
    "Needs no key: the URL proves itself.",
    responses((error("not_found", "File not found or signature is invalid", 404),), binary="..."),
    [parameter("path", "file_id", "A file's id", _UUID), *_SIGNATURE, _AS_ATTACHMENT],
)
SIGNED_TOOL = operation(
    "signedToolFile",
    "Files",
    "Download a node's file by its signed URL",
    "Needs no key: the URL proves itself.",
    responses((error("forbidden", "Invalid request.", 403), _NO_FILE), binary="..."),
    [parameter("path", "name", "A file's id and extension", _TEXT), *_SIGNATURE, _AS_ATTACHMENT],
)
END_USER = operation(
    "getEndUser",
    "Files",
    "Look up an end user",
    "Whoever an id such as `created_by` stands for.",
    responses(
        (error("end_user_not_found", "End user not found.", 404), _NO_KEY),
        json={
            "id": _USER_ID,
            "tenant_id": None,
            "app_id": _APP_ID,
            "type": "service-api",
            "external_user_id": _USER,
            "name": None,
            "is_anonymous": False,
            "session_id": _USER,
            "created_at": "2026-11-21T02:05:14Z",
            "updated_at": "2026-11-21T02:05:14Z",
        },
    ),
    [parameter("path", "end_user_id", "An end user's id", _UUID)],
)

# ------------------------------------------------------------------------------------------------------------- app

_INPUT_FORM = [{"text-input": {"label": "query", "variable": "query", "required": True, "type": "text-input"}}]
INDEX = operation(
    "getIndex",
    "App",
    "Which API this is",
    "Needs no key. `server_version` is the version of Dify whose API this is.",
    responses((), json={"welcome": "Dify OpenAPI", "api_version": "v1", "server_version": "1.12.1"}),
)
INFO = operation(
    "getInfo",
    "App",
    "Name and mode of the app",
    "The app that the key opens.",
    responses((_NO_KEY,), json={"name": "echo", "description": "", "tags": [], "mode": "workflow", "author_name": ""}),
)
PARAMETERS = operation(
    "getParameters",
    "App",
    "What the app takes",
    "The start node's variables, the features that are on, and how large files may be.",
    responses(
        (_NO_KEY,),
        json={"user_input_form": _INPUT_FORM, "system_parameters": {"file_size_limit": 15}},
    ),
)
META = operation(
    "getMeta", "App", "Icons of the app's tools", "None here.", responses((_NO_KEY,), json={"tool_icons": {}})
)
SITE = operation(
    "getSite",
    "App",
    "How the app is presented",
    "Title and icon, as the file has them.",
    responses((_NO_KEY,), json={"title": "echo", "icon_type": "emoji", "icon": "🤖", "icon_background": "#FFEAD5"}),
)

# ---------------------------------------------------------------------------------------------------------- health

HEALTH = operation(
    "healthz", "Health", "Is the process alive?", "Asks nothing of its storage.", responses((), json={"status": "ok"})
)
_READY = responses((), json={"status": "ready"})
_READY[503] = {
    "description": "Not yet, or not now",
    "content": {
        "application/json": {
            "example": {
                "code": "service_unavailable",
                "message": "The journal cannot be read or written: database or disk is full",
                "status": "not ready",
            }
        }
    },
}
READY = operation("readyz", "Health", "Is it to be sent requests?", "Reads and writes the journal.", _READY)
