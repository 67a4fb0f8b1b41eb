"""The tables of docs/compatibility.md: every endpoint, event, node type, app mode and feature, and its support.

What is supported follows from the code: the routes, the registry of node types, the modes that load. What is missing is
listed here. tests/official tests the endpoints and events called done against Dify's official description.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.dsl.load import MODES, NOT_RUN
from headrace.nodes import registry
from tests.official.described import ALL, Described
from tests.official.ours import ours

DONE, NOT = "done", "not"

# --------------------------------------------------------------------------------------------------------- endpoints

_PARTIAL_ENDPOINTS = {
    "GET /meta": "no icons: tools do not run here",
    "POST /apps/annotation-reply/{action}": "questions are compared by their words, not by embeddings",
    "GET /workspaces/current/models/model-types/{model_type}": "only the models that knowledge bases use",
    **dict.fromkeys(
        (
            "GET /datasets/{dataset_id}/pipeline/datasource-plugins",
            "POST /datasets/{dataset_id}/pipeline/datasource/nodes/{node_id}/run",
            "POST /datasets/{dataset_id}/pipeline/run",
        ),
        "each knowledge base has a pipeline of local files, whose documents are indexed with its settings; no drafts, "
        "and no datasources of plugins (400)",
    ),
}
_ENDPOINT_NOTES = {
    "GET /messages/{message_id}/suggested": "calls the app's own model, because workspaces have none",
    "POST /conversations/{conversation_id}/name": "`auto_generate` uses the first query, not a title from a model",
    "POST /audio-to-text": "through OpenAI's speech API, a compatible one, or a plugin",
    "POST /text-to-audio": "through OpenAI's speech API, a compatible one, or a plugin",
    "GET /info": "`author_name` and `tags` are empty",
    "GET /workflows/logs": "`created_by_account` is refused: there are no accounts",
    "GET /workflow/{workflow_run_id}/events": "resumes from `Last-Event-ID` or `last_event_id=`; chatflows, too",
}
_KNOWLEDGE = ("/datasets", "/workspaces")


def endpoints() -> str:
    return _endpoints(each for each in ALL if not each.path.startswith(_KNOWLEDGE))


def knowledge() -> str:
    return _endpoints(each for each in ALL if each.path.startswith(_KNOWLEDGE))


def _endpoints(operations: Iterable[Described]) -> str:
    return _table("endpoint", ((f"{each.method} /v1{each.path}", *_endpoint(each)) for each in operations))


def _endpoint(operation: Described) -> tuple[str, str]:
    if ours(operation) is None:
        return NOT, ""
    lacks = _PARTIAL_ENDPOINTS.get(operation.name)
    return "partial" if lacks else DONE, lacks or _ENDPOINT_NOTES.get(operation.name, "")


# ------------------------------------------------------------------------------------------------------------ events

_NO_MODERATION = "texts are not moderated"
_NO_AUTOPLAY = "answers are not spoken while they stream: use `/v1/text-to-audio`"
_NOT_EVENTS = {
    "message_replace": _NO_MODERATION,
    "tts_message": _NO_AUTOPLAY,
    "tts_message_end": _NO_AUTOPLAY,
}
_EVENT_NOTES = {
    "agent_log": "of [agents](agents.md), and of other nodes with steps",
    "agent_message": "of `agent-chat` apps",
    "agent_thought": "of `agent-chat` apps that use tools",
    "message": "of chat and completion apps",
    "reasoning_chunk": "of llm nodes that separate their reasoning, as in versions after 1.12.1",
    "text_chunk": "of workflows; chatflows send `message` instead",
}


def done_events() -> frozenset[str]:
    """The events that the page calls supported."""
    return frozenset(_all_events() - _NOT_EVENTS.keys())


def events() -> str:
    return _table(
        "event",
        (
            (name, NOT, _NOT_EVENTS[name]) if name in _NOT_EVENTS else (name, DONE, _EVENT_NOTES.get(name, ""))
            for name in sorted(_all_events())
        ),
    )


def _all_events() -> set[str]:
    return {name for operation in ALL for name in operation.events()}


# -------------------------------------------------------------------------------------------------------- node types

_NOT_NODES = {
    "agent (version 2)": "type `agent` with `agent_node_kind: dify_agent`: an agent of Dify 1.16 and later, from the "
    "file's `agent_packages`",
    "datasource": "",
    "knowledge-index": "",
}


def nodes() -> str:
    known = registry(())
    rows = [(name, "partial" if cls.partial else DONE, cls.notes) for name, cls in known.items()]
    rows += [(name, NOT, note) for name, note in _NOT_NODES.items() if name not in known]
    return _table("type", sorted(rows))


# ------------------------------------------------------------------------------------------------ modes and features

_MODES = {
    "workflow": (DONE, ""),
    "advanced-chat": (DONE, ""),
    "chat": (DONE, "its form, prompt, knowledge bases and model are converted to a graph"),
    "completion": (DONE, "the same"),
    "agent-chat": (DONE, "see [agents](agents.md); blocking requests are answered, too"),
}
_FEATURES: Mapping[str, tuple[str, str]] = {
    "opening_statement": (DONE, "with `suggested_questions`"),
    "suggested_questions_after_answer": (DONE, ""),
    "file_upload": (DONE, ""),
    "speech_to_text": (DONE, "through OpenAI's speech API, a compatible one, or a plugin"),
    "text_to_speech": ("partial", _NO_AUTOPLAY),
    "retriever_resource": (DONE, "citations of knowledge-retrieval"),
    "annotation_reply": ("partial", "by words, ignoring case, spacing and punctuation; no embeddings"),
    "sensitive_word_avoidance": (NOT, "reported by `/v1/parameters`, but not applied"),
    "more_like_this": (NOT, "the Service API has no endpoint for it"),
    "external_data_tools": (NOT, "the client must send the value as an input"),
}


def modes() -> str:
    assert _MODES.keys() == MODES
    rows = [(name, *status) for name, status in _MODES.items()]
    return _table("mode", [*rows, *((name, NOT, what) for name, what in NOT_RUN.items())])


def features() -> str:
    return _table("feature", ((name, *status) for name, status in _FEATURES.items()))


# ------------------------------------------------------------------------------------------------------------ tables

TABLES = {
    "endpoints": endpoints,
    "knowledge": knowledge,
    "events": events,
    "nodes": nodes,
    "modes": modes,
    "features": features,
}


def _table(what: str, rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"| {what} | | |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {state} | {note} |" for name, state, note in rows)])
