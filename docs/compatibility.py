"""The tables of docs/compatibility.md: every endpoint, event, node type, app mode and feature, and how far it goes.

What there is follows from the code: the routes, the registry of node types, the modes that load. What lacks stands
here. tests/official holds the endpoints and events that are called done against Dify's official description.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.dsl.load import MODES, NOT_RUN
from headrace.kernel.graph import BODY_STARTS
from headrace.nodes import registry
from tests.official.described import ALL, Described
from tests.official.ours import ours

DONE, NOT = "done", "not"

# --------------------------------------------------------------------------------------------------------- endpoints

_PARTIAL_ENDPOINTS = {
    "POST /chat-messages": "an agent that uses tools is refused (501 `not_implemented`)",
    "GET /meta": "no icons: tools do not run here",
    "POST /apps/annotation-reply/{action}": "questions are compared by their words, not by embeddings",
}
_ENDPOINT_NOTES = {
    "GET /messages/{message_id}/suggested": "asks the app's own model: there is no workspace that has one",
    "POST /conversations/{conversation_id}/name": "`auto_generate` takes the first query, no model's title",
    "POST /audio-to-text": "through OpenAI's speech API, or one like it",
    "POST /text-to-audio": "through OpenAI's speech API, or one like it",
    "GET /info": "`author_name` and `tags` are empty",
    "GET /workflows/logs": "`created_by_account` is refused: accounts make no runs here",
    "GET /workflow/{workflow_run_id}/events": "goes on from `Last-Event-ID` or `last_event_id=`; chatflows, too",
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

_NO_AGENTS = "agents that use tools do not run here"
_NO_PAUSE = "no node type here pauses; a plugin's may"
_NO_MODERATION = "what is said is not moderated"
_NO_AUTOPLAY = "answers are not spoken as they come: ask `/v1/text-to-audio`"
_NOT_EVENTS = {
    "agent_log": _NO_AGENTS,
    "agent_thought": _NO_AGENTS,
    "human_input_form_filled": "human-input does not run here",
    "human_input_form_timeout": "human-input does not run here",
    "human_input_required": "human-input does not run here",
    "message_replace": _NO_MODERATION,
    "tts_message": _NO_AUTOPLAY,
    "tts_message_end": _NO_AUTOPLAY,
}
_EVENT_NOTES = {
    "agent_message": "of `agent-chat` apps",
    "message": "of chat and completion apps",
    "reasoning_chunk": "of llm nodes that separate their reasoning, as later versions than 1.12.1 send it",
    "text_chunk": "of workflows; chatflows tell `message` in its place",
    "workflow_paused": _NO_PAUSE,
}


def done_events() -> frozenset[str]:
    """The events that the page says there are."""
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

_PARTIAL_NODES = {
    "code": "Python, and JavaScript in Node.js (without one in part); packages and HTTP hosts where the operator lists "
    "them (`HEADRACE_CODE_PACKAGES`, `HEADRACE_CODE_EGRESS`), or in a dify-sandbox; Linux only",
    "document-extractor": "with the extra `documents` for PDF, Word, Excel and PowerPoint; reads no `.doc`, "
    "`.xls`, `.ppt` or `.msg` (the error says what to save them as), nor the `.odt` of later versions",
    "knowledge-retrieval": "asks a Dify, or a server of its external knowledge API; no search by image",
    "llm": "every provider that speaks OpenAI's chat protocol; Bedrock and Vertex AI only through a gateway that does",
}
_NODE_NOTES = {
    "answer": "",
    "assigner": "both versions, every operation",
    "http-request": "with files, retries and every kind of body",
    "if-else": "both forms of the file format",
    "iteration": "sequential and parallel, the three error modes, nested",
    "iteration-start": "",
    "list-operator": "",
    "loop": "break conditions, loop variables, nested",
    "loop-end": "",
    "loop-start": "",
    "parameter-extractor": "by a tool call or by a prompt",
    "question-classifier": "",
    "start": "every kind of input, files too",
    "end": "",
    "template-transform": "",
    "variable-aggregator": "with groups",
    "variable-assigner": "the name of variable-aggregator in old files",
}
_NOT_NODES = {
    "agent": "a strategy that uses tools",
    "agent (version 2)": "type `agent` with `agent_node_kind: dify_agent`: an agent of Dify 1.16 and later, out of the "
    "file's `agent_packages`",
    "datasource": "",
    "human-input": "",
    "knowledge-index": "",
    "tool": "",
    "trigger-plugin": "",
    "trigger-schedule": "",
    "trigger-webhook": "",
}


def nodes() -> str:
    """KeyError where a node type has been added, and what it does has not."""
    known = {*registry(()), *BODY_STARTS}
    rows = [(name, "partial", _PARTIAL_NODES[name]) for name in known & _PARTIAL_NODES.keys()]
    rows += [(name, DONE, _NODE_NOTES[name]) for name in known - _PARTIAL_NODES.keys()]
    rows += [(name, NOT, note) for name, note in _NOT_NODES.items() if name not in known]
    return _table("type", sorted(rows))


# ------------------------------------------------------------------------------------------------ modes and features

_MODES = {
    "workflow": (DONE, ""),
    "advanced-chat": (DONE, ""),
    "chat": (DONE, "its form, prompt, knowledge bases and model become a graph"),
    "completion": (DONE, "the same"),
    "agent-chat": ("partial", "answers without tools; one that has tools switched on is refused"),
}
_FEATURES: Mapping[str, tuple[str, str]] = {
    "opening_statement": (DONE, "with `suggested_questions`"),
    "suggested_questions_after_answer": (DONE, ""),
    "file_upload": (DONE, ""),
    "speech_to_text": (DONE, "through OpenAI's speech API, or one like it"),
    "text_to_speech": ("partial", _NO_AUTOPLAY),
    "retriever_resource": (DONE, "citations of knowledge-retrieval"),
    "annotation_reply": ("partial", "equal but for case, spacing and punctuation; no embeddings"),
    "sensitive_word_avoidance": (NOT, "told by `/v1/parameters`, and not applied"),
    "more_like_this": (NOT, "the Service API has no endpoint for it"),
    "external_data_tools": (NOT, "what one would find is asked of the caller as an input"),
}


def modes() -> str:
    assert _MODES.keys() == MODES
    rows = [(name, *status) for name, status in _MODES.items()]
    return _table("mode", [*rows, *((name, NOT, what) for name, what in NOT_RUN.items())])


def features() -> str:
    return _table("feature", ((name, *told) for name, told in _FEATURES.items()))


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
