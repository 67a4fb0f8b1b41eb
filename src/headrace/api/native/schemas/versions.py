"""Versions of workflows: requests and responses."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.http.errors import ProblemBody
from headrace.api.http.schema import Media, Uuid
from headrace.api.native.schemas.common import Milliseconds, Seconds, one_of


class VersionContent(TypedDict):
    """A workflow file."""

    content: Annotated[str, Field(description="The file, YAML as text")]


class VersionBody(TypedDict):
    """A version of an app's workflow."""

    id: Uuid
    number: int
    digest: Annotated[str, Field(description="The SHA-256 of the content")]
    created_at: Seconds
    created_at_ms: Milliseconds
    current: Annotated[bool, Field(description="Calls run this version")]
    name: str


class PublishedVersion(VersionBody):
    """A version that was just published."""

    problems: list[ProblemBody]


class VersionDetail(VersionBody):
    """A version with its content."""

    content: str
    masked: Annotated[bool, Field(description="Values of secrets in the content are replaced by stars")]


class VersionPage(TypedDict):
    """Versions, newest first."""

    data: list[VersionBody]
    limit: int
    has_more: bool


FieldChange = TypedDict(
    "FieldChange",
    {
        "field": str,
        "change": Annotated[str, one_of("added", "removed", "changed")],
        "from": NotRequired[Any],
        "to": NotRequired[Any],
    },
)


class NodeDiff(TypedDict):
    """A node that was added, removed or changed."""

    id: str
    title: str
    type: str
    fields: NotRequired[list[FieldChange]]


class NodeDiffs(TypedDict):
    """What differs in the nodes."""

    added: list[NodeDiff]
    removed: list[NodeDiff]
    changed: list[NodeDiff]


class VariableDiff(TypedDict):
    """A variable that was added, removed or changed."""

    name: str
    fields: NotRequired[list[FieldChange]]


class VariableDiffs(TypedDict):
    """What differs in variables."""

    added: list[VariableDiff]
    removed: list[VariableDiff]
    changed: list[VariableDiff]


class EdgeBody(TypedDict):
    """An edge of the graph."""

    source: str
    source_handle: str
    target: str


class EdgeDiffs(TypedDict):
    """What differs in the edges."""

    added: list[EdgeBody]
    removed: list[EdgeBody]


class FileDiff(TypedDict):
    """What differs between two workflow files."""

    same: bool
    nodes: NodeDiffs
    edges: EdgeDiffs
    environment_variables: VariableDiffs
    conversation_variables: VariableDiffs
    features: list[FieldChange]
    app: list[FieldChange]


_ComparedVersions = TypedDict("_ComparedVersions", {"from": Uuid, "to": Uuid})


class VersionDiff(_ComparedVersions, FileDiff):
    """What differs between two versions."""


# ----------------------------------------------------------------------------------------------------------- examples

ID = "5f0e3a52-0d5b-5c2e-9d6f-4a8f4c1b7e21"
_OLD_ID = "0b6f4d0e-6c1d-5a43-8a77-1f2f5f3e9c10"
_VERSION: VersionBody = {
    "id": ID,
    "number": 3,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": 1795226714,
    "created_at_ms": 1795226714250,
    "current": True,
    "name": "support",
}
_PROBLEM: ProblemBody = {
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

CONTENT: list[Media[Any]] = [
    Media(None, _CONTENT, "application/yaml", {"type": "string"}),
    Media(None, None, "application/zip", {"type": "string", "format": "binary"}),
    Media(VersionContent, {"content": _CONTENT}),
]
VERSION = Media(VersionBody, _VERSION)
ROLLED_BACK = Media(VersionBody, {**_VERSION, "id": _OLD_ID, "number": 2})
VERSIONS = Media(VersionPage, {"data": [_VERSION], "limit": 20, "has_more": False})
PUBLISHED = Media(PublishedVersion, {**_VERSION, "problems": [_PROBLEM]})
KNOWN = Media(PublishedVersion, {**_VERSION, "number": 2, "problems": []})
DETAIL = Media(VersionDetail, {**_VERSION, "content": _CONTENT, "masked": False})
DIFF = Media(
    VersionDiff,
    {
        "from": _OLD_ID,
        "to": ID,
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
    },
)
