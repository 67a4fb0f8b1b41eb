"""Apps: responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.http.errors import ProblemBody
from headrace.api.http.schema import Media, Uuid, described
from headrace.api.native.schemas.common import (
    APP_ID,
    RUN_ID,
    WORKFLOW_ID,
    Duration,
    JsonObject,
    Milliseconds,
    Seconds,
    Status,
)
from headrace.api.native.schemas.versions import FileDiff


class AppVersion(TypedDict):
    """The version that calls run."""

    id: Uuid
    number: int
    created_at: Seconds
    created_at_ms: Milliseconds


class LastRun(TypedDict):
    """A run of an app, in short."""

    id: Uuid
    status: Status
    elapsed_time: Duration | None
    created_at: Seconds
    created_at_ms: Milliseconds


class AppCounts(TypedDict):
    """Runs of the last 24 hours."""

    runs_24h: int
    failed_24h: int


@described
class Lack(TypedDict):
    """A requirement of an app that this server does not have, such as a credential or a plugin."""

    kind: str
    """The type of the node that needs it."""
    name: str
    """The title of the first such node."""
    message: str


@described
class AppBody(TypedDict):
    """An app."""

    id: Uuid
    name: str
    mode: str
    description: str
    icon: str | None
    icon_background: str | None
    icon_type: str | None
    source: str
    """The name of the file that it was read from, or another name."""
    version: AppVersion
    last_runs: list[LastRun]
    """At most 20, the newest last."""
    counts: AppCounts
    last_error: str | None
    """The error of the newest of them that failed."""
    lacks: list[Lack]
    lacks_checked: bool
    """False where the current version can no longer be loaded."""


class AppList(TypedDict):
    """The apps that a key may call, oldest first."""

    data: list[AppBody]


class ServedApp(AppBody):
    """An app that is served now."""

    problems: list[ProblemBody]


class AppName(TypedDict):
    """A name that the app's file does not change."""

    name: Annotated[str, Field(min_length=1, max_length=100)]


class RemovedApp(TypedDict):
    """An app that is no longer served."""

    id: Uuid


class InspectedApp(TypedDict):
    """What a file has."""

    name: str
    mode: str
    nodes: int


class AppSource(TypedDict):
    """The file of a version."""

    version_id: Uuid
    content: str
    masked: Annotated[bool, Field(description="Values of secrets in the content are replaced by stars")]


class NodeModel(TypedDict):
    """The model that a node calls."""

    provider: str
    name: str


@described
class GraphNode(TypedDict):
    """A node as the file draws it; positions are absolute, and null where the file has none."""

    id: str
    type: str
    title: str
    parent_id: str | None
    """The container that it is in."""
    x: float | None
    y: float | None
    width: float | None
    height: float | None
    text: NotRequired[str]
    """Of a note."""
    model: NotRequired[NodeModel]


class GraphEdge(TypedDict):
    """An edge."""

    id: str
    source: str
    target: str
    source_handle: str


class AppGraph(TypedDict):
    """An app's graph, without what its nodes are configured with."""

    version_id: Uuid
    nodes: list[GraphNode]
    edges: list[GraphEdge]


@described
class Comparison(TypedDict):
    """What a file would change in an app."""

    graph: AppGraph
    """The graph of the file."""
    diff: FileDiff | None
    """From the app's current version; null where that can no longer be read."""
    new: bool
    """Whether the app has no version of this content yet."""


@described
class Inspection(TypedDict):
    """The problems of a file; `app` is null where it cannot be loaded."""

    problems: list[ProblemBody]
    app: InspectedApp | None
    comparison: NotRequired[Comparison]
    """With `compare`."""


class FormFile(TypedDict):
    """Which files an input accepts."""

    types: list[str]
    extensions: list[str]
    methods: list[str]
    max: int | None


class FormInput(TypedDict):
    """An input of the start node."""

    name: str
    label: str
    type: str
    required: bool
    default: Any
    max_length: int | None
    options: list[str]
    hint: str
    json_schema: JsonObject | None
    file: FormFile | None


class FormFeatures(TypedDict):
    """Features of the app; `file_upload` as the file has it, or null."""

    file_upload: Mapping[str, Any] | None
    speech_to_text: bool
    text_to_speech: bool
    citations: bool
    suggested_after_answer: bool
    feedback: bool


class AppForm(TypedDict):
    """What an app can be called with."""

    mode: str
    inputs: list[FormInput]
    opening_statement: str
    suggested_questions: list[str]
    features: FormFeatures


# ----------------------------------------------------------------------------------------------------------- examples

_APP: AppBody = {
    "id": APP_ID,
    "name": "product detail",
    "mode": "workflow",
    "description": "Writes the page of a product",
    "icon": "🤖",
    "icon_background": "#FFEAD5",
    "icon_type": "emoji",
    "source": "product-detail.yml",
    "version": {"id": WORKFLOW_ID, "number": 3, "created_at": 1795226714, "created_at_ms": 1795226714250},
    "last_runs": [
        {
            "id": RUN_ID,
            "status": "succeeded",
            "elapsed_time": 1.23,
            "created_at": 1795226714,
            "created_at_ms": 1795226714250,
        }
    ],
    "counts": {"runs_24h": 12, "failed_24h": 1},
    "last_error": None,
    "lacks": [{"kind": "llm", "name": "Write", "message": "OPENAI_API_KEY is not set"}],
    "lacks_checked": True,
}
_NODE: GraphNode = {
    "id": "1718000000001",
    "type": "llm",
    "title": "Write",
    "parent_id": None,
    "x": 380,
    "y": 282,
    "width": 244,
    "height": 90,
    "model": {"provider": "langgenius/openai/openai", "name": "gpt-4o"},
}
_EDGE: GraphEdge = {
    "id": "1718000000000-source-1718000000001-target",
    "source": "1718000000000",
    "target": "1718000000001",
    "source_handle": "source",
}
_INPUT: FormInput = {
    "name": "product_name",
    "label": "Product name",
    "type": "text-input",
    "required": True,
    "default": None,
    "max_length": 256,
    "options": [],
    "hint": "",
    "json_schema": None,
    "file": None,
}

_PROBLEM: ProblemBody = {
    "message": "nodes of type 'agent' are not run here",
    "line": 41,
    "node": "Research",
    "field": "type",
    "fatal": False,
}

APP = Media(AppBody, _APP)
NEW_APP = Media(ServedApp, {**_APP, "problems": [_PROBLEM]})
REMOVED = Media(RemovedApp, {"id": APP_ID})
NAME = Media(AppName, {"name": "product detail"})
INSPECTION = Media(
    Inspection, {"problems": [_PROBLEM], "app": {"name": "product detail", "mode": "workflow", "nodes": 7}}
)
SOURCE = Media(AppSource, {"version_id": WORKFLOW_ID, "content": "kind: app\n...", "masked": False})
APPS = Media(AppList, {"data": [_APP]})
GRAPH = Media(AppGraph, {"version_id": WORKFLOW_ID, "nodes": [_NODE], "edges": [_EDGE]})
FORM = Media(
    AppForm,
    {
        "mode": "workflow",
        "inputs": [_INPUT],
        "opening_statement": "",
        "suggested_questions": [],
        "features": {
            "file_upload": None,
            "speech_to_text": False,
            "text_to_speech": False,
            "citations": False,
            "suggested_after_answer": False,
            "feedback": False,
        },
    },
)
