"""An app of each mode that the official description is for, small and with something of everything that it tells of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml

MODEL = {"provider": "openai", "name": "m", "mode": "chat", "completion_params": {}}
QUERY = {"label": "query", "variable": "query", "type": "text-input", "required": False, "max_length": 400}
ON = {"enabled": True}
IMAGE = {"enabled": True, "number_limits": 3, "detail": "high", "transfer_methods": ["remote_url", "local_file"]}
FILES = {
    "enabled": True,
    "allowed_file_types": ["image", "document", "audio", "video", "custom"],
    "allowed_file_upload_methods": ["remote_url", "local_file"],
    "number_limits": 3,
    "image": IMAGE,
}
FEATURES: Mapping[str, Any] = {
    "opening_statement": "hello",
    "suggested_questions": ["why?"],
    "suggested_questions_after_answer": ON,
    "speech_to_text": ON,
    "text_to_speech": {"enabled": True, "voice": "nova", "language": "en-US", "autoPlay": "disabled"},
    "retriever_resource": ON,
    "sensitive_word_avoidance": {"enabled": False},
    "file_upload": FILES,
}


def workflow(url: str) -> str:
    received = [
        {"variable": "text", "value_selector": ["llm", "text"]},
        {"variable": "rounds", "value_selector": ["rounds", "output"]},
    ]
    return _file("workflow", [*_work(url), _node("end", "end", outputs=received)])


def chatflow(url: str, *, fails: bool = False) -> str:
    answer = _node("answer", "answer", answer="{{#llm.text#}} {{#conversation.count#}}")
    nodes = [_node("start", "start", variables=[QUERY]), _http(f"{url}/down", strategy=None)] if fails else _work(url)
    return _file("advanced-chat", [*nodes, answer])


def people() -> str:
    """A workflow that asks a person."""
    action = {"id": "approve", "title": "Approve", "button_style": "primary"}
    webapp = {"type": "webapp", "enabled": True, "config": {}}
    ask = _node("ask", "human-input", form_content="Fine?", user_actions=[action], delivery_methods=[webapp])
    return _file("workflow", [_node("start", "start", variables=[QUERY]), ask, _node("end", "end", outputs=[])])


def chat(mode: str = "chat") -> str:
    config = {
        **FEATURES,
        "model": MODEL,
        "prompt_type": "simple",
        "pre_prompt": "Answer: {{query}}",
        "user_input_form": [{"text-input": QUERY}],
        "file_upload": {"image": IMAGE},
    }
    return yaml.safe_dump({"app": _app(mode), "kind": "app", "version": "0.5.0", "model_config": config})


def _work(url: str) -> list[dict[str, Any]]:
    """Start, an iteration, a loop, a request that fails and is tried again, a model."""
    prompt = {"role": "user", "text": "{{#start.query#}} {{#sys.user_id#}}"}
    return [
        _node("start", "start", variables=[QUERY]),
        _node(
            "code",
            "code",
            code_language="python3",
            code="def main() -> dict:\n    return {'items': ['a', 'b']}",
            variables=[],
            outputs={"items": {"type": "array[string]", "children": None}},
        ),
        _node("rounds", "iteration", iterator_selector=["code", "items"], output_selector=["each", "output"]),
        _node("again", "loop", loop_count=2, loop_variables=[], break_conditions=[]),
        _http(f"{url}/down", strategy="default-value"),
        _node("llm", "llm", model=MODEL, prompt_template=[prompt], context={"enabled": False}, vision={}),
    ]


def _inside() -> list[dict[str, Any]]:
    """What is in the containers."""
    item = [{"variable": "item", "value_selector": ["rounds", "item"]}]
    return [
        _node("rounds-start", "iteration-start", "rounds"),
        _node("each", "template-transform", "rounds", template="{{ item }}!", variables=item),
        _node("again-start", "loop-start", "again"),
        _node("one", "template-transform", "again", template="x", variables=[]),
    ]


def _http(url: str, strategy: str | None) -> dict[str, Any]:
    return _node(
        "http",
        "http-request",
        method="get",
        url=url,
        headers="",
        params="",
        body={"type": "none", "data": []},
        authorization={"type": "no-auth", "config": None},
        error_strategy=strategy,
        default_value=[{"key": "body", "type": "string", "value": "nothing"}],
        retry_config={"retry_enabled": True, "max_retries": 1, "retry_interval": 0},
    )


def _node(id_: str, type_: str, inside: str | None = None, **data: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": id_, "data": {"type": type_, "title": id_, **data}}
    return fields if inside is None else {**fields, "parentId": inside}


def _file(mode: str, nodes: Sequence[dict[str, Any]]) -> str:
    chain = [(a["id"], b["id"]) for a, b in pairwise(nodes)]
    inside = _inside() if any(node["id"] == "rounds" for node in nodes) else []
    chain += [("rounds-start", "each"), ("again-start", "one")] if inside else []
    count = {"id": "count-id", "name": "count", "value": 1, "value_type": "number", "description": "how many"}
    workflow = {
        "environment_variables": [],
        "conversation_variables": [count] if mode == "advanced-chat" else [],
        "features": FEATURES,
        "graph": {
            "nodes": [*nodes, *inside],
            "edges": [{"source": a, "target": b, "sourceHandle": "source"} for a, b in chain],
        },
    }
    return yaml.safe_dump({"app": _app(mode), "kind": "app", "version": "0.5.0", "workflow": workflow})


def _app(mode: str) -> dict[str, Any]:
    return {"name": mode, "mode": mode, "description": "one", "icon": "🤖", "icon_background": "#FFEAD5"}
