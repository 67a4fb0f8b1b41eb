"""The data of a node of each type that asks a model, over the variables that are there already."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from oracle import values
from oracle.nodes import NodeDraft, Scope

MODEL = {"provider": "openai", "name": "stand-in", "mode": "chat", "completion_params": {}}


def llm(scope: Scope) -> NodeDraft:
    roles = ["system", *scope.draw(st.lists(st.sampled_from(["user", "assistant"]), max_size=2)), "user"]
    prompt: list[dict[str, Any]] = []
    for number, role in enumerate(roles):
        message = {"id": f"m{number}", "role": role, "text": scope.sentence()}
        if scope.draw(st.integers(0, 4)) == 0:
            message |= {"edition_type": "jinja2", "jinja2_text": "J {{ x }} {% if x %}y{% endif %}"}
        prompt.append(message)
    variables = [{"variable": "x", "value_selector": scope.selector()}]
    data: dict[str, Any] = {
        "type": "llm",
        "model": MODEL,
        "prompt_template": prompt,
        "prompt_config": {"jinja2_variables": variables},
        "context": {"enabled": False, "variable_selector": []},
        "vision": {"enabled": False},
    }
    if scope.draw(st.integers(0, 3)) == 0:
        data["context"] = {"enabled": True, "variable_selector": list(scope.one("string", "array[string]").selector)}
        prompt[0]["text"] += " {{#context#}}"
    if scope.draw(st.integers(0, 3)) == 0:
        fields = {"a": {"type": "string"}, "b": {"type": "number"}, "c": {"type": "array", "items": {"type": "string"}}}
        schema = {"type": "object", "properties": fields, "required": ["a"], "additionalProperties": False}
        data |= {"structured_output_enabled": True, "structured_output": {"schema": schema}}
        return NodeDraft(data, [("text", "string"), ("structured_output", "object")])
    if scope.draw(st.booleans()):
        data["reasoning_format"] = scope.draw(st.sampled_from(["tagged", "separated"]))
    return NodeDraft(data, [("text", "string")])


def extractor(scope: Scope) -> NodeDraft:
    kinds = ("string", "number", "boolean", "array[string]", "array[number]", "array[object]", "select")
    wanted_kinds = scope.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    parameters: list[dict[str, Any]] = []
    for number, kind in enumerate(wanted_kinds):
        parameter = {
            "name": f"p{number}",
            "type": kind,
            "required": scope.draw(st.booleans()),
            "description": f"The {kind}",
        }
        if kind == "select":
            parameter |= {"options": ["one", "two"]}
        parameters.append(parameter)
    data = {
        "type": "parameter-extractor",
        "model": MODEL,
        "query": scope.selector("string"),
        "parameters": parameters,
        "instruction": scope.sentence(),
        "reasoning_mode": scope.draw(st.sampled_from(["prompt", "function_call"])),
        "vision": {"enabled": False},
    }
    types = [(f"p{number}", "string" if kind == "select" else kind) for number, kind in enumerate(wanted_kinds)]
    return NodeDraft(data, [*types, ("__is_success", "number"), ("__reason", "string")])


def classifier(scope: Scope) -> NodeDraft:
    classes = [{"id": f"{number}", "name": scope.draw(values.texts) or "class"} for number in range(2)]
    data = {
        "type": "question-classifier",
        "model": MODEL,
        "query_variable_selector": scope.selector("string"),
        "classes": classes,
        "instruction": scope.sentence(),
        "vision": {"enabled": False},
        "topics": [],
    }
    return NodeDraft(data, [("class_name", "string")], [item["id"] for item in classes])
