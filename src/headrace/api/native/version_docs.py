"""What `/docs` says of versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import error, operation, parameter, responses
from headrace.times import times

_TAG = "Versions"
_APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
_ID = "5f0e3a52-0d5b-5c2e-9d6f-4a8f4c1b7e21"
_OLD_ID = "0b6f4d0e-6c1d-5a43-8a77-1f2f5f3e9c10"
_VERSION: Mapping[str, Any] = {
    "id": _ID,
    "number": 3,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    **times(created_at=1795226714.25),
    "current": True,
    "name": "support",
}
_PROBLEM = {
    "message": "nodes of type 'agent' are not run here",
    "line": 41,
    "node": "Research",
    "field": "type",
    "fatal": False,
}
_CONTENT = """\
app: {mode: workflow, name: support}
kind: app
version: 0.5.0
workflow:
  graph:
    nodes:
    - {id: start, data: {type: start, title: Start, variables: []}}
    - {id: end, data: {type: end, title: End, outputs: []}}
    edges:
    - {source: start, sourceHandle: source, target: end}
"""
_DIFF: Mapping[str, Any] = {
    "from": _OLD_ID,
    "to": _ID,
    "same": False,
    "nodes": {
        "added": [{"id": "1718000000002", "title": "Check", "type": "if-else"}],
        "removed": [],
        "changed": [
            {
                "id": "llm",
                "title": "Write",
                "type": "llm",
                "fields": [{"field": "model.name", "change": "changed", "from": "gpt-4o", "to": "gpt-5"}],
            }
        ],
    },
    "edges": {"added": [{"source": "llm", "source_handle": "source", "target": "1718000000002"}], "removed": []},
    "environment_variables": {"added": [{"name": "API_KEY"}], "removed": [], "changed": []},
    "conversation_variables": {"added": [], "removed": [], "changed": []},
    "features": [],
    "app": [{"field": "app.description", "change": "changed", "from": "", "to": "Answers questions"}],
}

_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_APP = error("not_found", f"App not found with id: {_APP_ID}", 404)
_NO_VERSION = error("not_found", f"Workflow not found with id: {_ID}", 404)
_BAD_LIMIT = error("invalid_param", "limit: Input should be an integer from 1 to 100, not '1000'", 400)
_STALE = error(
    "version_not_loadable", "This version cannot be loaded any more: version 2: there is no `app` section", 409
)
_CONFLICT = error(
    "idempotency_conflict",
    "This Idempotency-Key came with another request before. Use a new key for a new request.",
    409,
)
_IN_PROGRESS = error(
    "idempotency_in_progress",
    "The first request with this Idempotency-Key is still being answered. Ask again later.",
    409,
)
_BAD_KEY = error("invalid_param", "Idempotency-Key must be 1 to 255 visible ASCII characters.", 400)
_INVALID = error("invalid_workflow", "The workflow cannot be loaded: there is no `workflow` section", 400) | {
    "details": [_PROBLEM | {"message": "there is no `workflow` section", "node": None, "fatal": True}]
}
_TOO_LARGE = error("request_entity_too_large", "The data value transmitted exceeds the capacity limit.", 413)
_WRONG_TYPE = error(
    "unsupported_media_type",
    'Send the workflow as application/yaml, or as application/json: {"content": "..."}.',
    415,
)

_UUID = {"type": "string", "format": "uuid"}
_APP = parameter("path", "app_id", "The app's id; the key must be one of its own", _UUID)
_WHICH = parameter("path", "version_id", "A version's id", _UUID)
_KEY = parameter(
    "header",
    "Idempotency-Key",
    "The first answer under this key is kept for 24 hours and given again to the same request",
    {"type": "string", "minLength": 1, "maxLength": 255},
)

LIST = operation(
    "listWorkflowVersions",
    _TAG,
    "List versions",
    "Newest first. `digest` is the SHA-256 of the content; `current` marks the one that calls run.",
    responses((_BAD_LIMIT, _NO_KEY, _NO_APP), json={"data": [_VERSION], "limit": 20, "has_more": False}),
    [
        _APP,
        parameter("query", "limit", "Versions a page", {"type": "integer", "minimum": 1, "maximum": 100}),
        parameter("query", "before", "Only versions with a smaller number", {"type": "integer", "minimum": 1}),
    ],
)
_published = responses(
    (_INVALID, _BAD_KEY, _NO_KEY, _NO_APP, _CONFLICT, _IN_PROGRESS, _TOO_LARGE, _WRONG_TYPE),
    201,
    json={**_VERSION, "problems": [_PROBLEM]},
)
_published[200] = {
    "description": "There was a version of this content already",
    "content": {
        "application/json": {"schema": {"type": "object"}, "example": {**_VERSION, "number": 2, "problems": []}}
    },
}
PUBLISH = operation(
    "publishWorkflowVersion",
    _TAG,
    "Publish a version",
    "Takes a workflow file as Dify exports it. A content that is a version already adds none (200). What cannot be "
    "loaded is refused with all its problems in `details`; those in the answer's `problems` do not keep it from "
    "running. The version is current from then on, unless `current=false`.",
    _published,
    [
        _APP,
        parameter("query", "current", "Make it the version that calls run", {"type": "boolean", "default": True}),
        _KEY,
    ],
    {
        "application/yaml": {"schema": {"type": "string"}, "example": _CONTENT},
        "application/zip": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["content"],
                "properties": {"content": {"type": "string", "description": "The file, YAML as text"}},
            },
            "example": {"content": _CONTENT},
        },
    },
)
PUBLISH["status_code"] = 201
DETAIL = operation(
    "getWorkflowVersion",
    _TAG,
    "Look at a version",
    "With its `content`. If the file has secret environment variables, their values are stars wherever they stand, "
    "the file is written anew (without its comments), and `masked` is true.",
    responses((_NO_KEY, _NO_VERSION, _STALE), json={**_VERSION, "content": _CONTENT, "masked": False}),
    [_APP, _WHICH],
)
DIFF = operation(
    "diffWorkflowVersions",
    _TAG,
    "Compare two versions",
    "What was done to `from` that made it `to`: nodes and their fields, edges, variables, features, and whatever else "
    "differs (`app`). Layout is no difference. Values of secrets are not told, only that they differ.",
    responses(
        (
            error("invalid_param", "from: the id of the version to compare with is required", 400),
            _NO_KEY,
            _NO_VERSION,
            _STALE,
        ),
        json=_DIFF,
    ),
    [
        _APP,
        parameter("query", "from", "A version's id", _UUID, required=True),
        parameter("query", "to", "Another one's; the current version if left out", _UUID),
    ],
)
PIN = operation(
    "pinWorkflowVersion",
    _TAG,
    "Make a version the current one",
    "Calls run it from then on; runs that have begun go on in theirs. To pin the current one changes nothing.",
    responses((_NO_KEY, _NO_VERSION, _STALE), json=_VERSION),
    [_APP, _WHICH],
)
ROLL_BACK = operation(
    "rollBackWorkflow",
    _TAG,
    "Go back one version",
    "Makes the version with the next smaller number the current one, and tells it. Done twice, it goes back two: give "
    "an Idempotency-Key where a request may be sent again, or pin the version that you mean.",
    responses(
        (
            _BAD_KEY,
            _NO_KEY,
            _NO_APP,
            error("no_earlier_version", "There is no version before the current one.", 409),
            _STALE,
            _CONFLICT,
            _IN_PROGRESS,
        ),
        json={**_VERSION, "id": _OLD_ID, "number": 2},
    ),
    [_APP, _KEY],
)
