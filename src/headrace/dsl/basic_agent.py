"""The agent of an app without a graph, as the configuration of a node.

Facts (Dify 1.12): a tool's entry has at least four keys; older ones ({"web_reader": {...}}) are ignored. Knowledge
bases are tools of an agent. Of `tool_parameters`, "" means that the model gives the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.dsl.check import mapping
from headrace.values import Value

_SHORTEST_TOOL = 4  # keys of a tool's entry
_REACT = frozenset({"react", "cot"})
_PLACES = (("{{instruction}}", "{instruction}"), ("{{tools}}", "{tools}"), ("{{tool_names}}", "{names}"))


def is_tool(entry: Mapping[str, Value] | None) -> bool:
    """Whether an entry of `agent_mode.tools` is a tool, and not a knowledge base or a tool of the first versions."""
    return bool(entry) and "dataset" not in entry and len(entry) >= _SHORTEST_TOOL


def agent(
    config: Mapping[str, Value],
    tools: Sequence[Mapping[str, Value]],
    retrieval: Mapping[str, Value] | None,
    *,
    instruction: str,
    vision: Mapping[str, Value],
) -> dict[str, Value]:
    """The data of the node. `retrieval` is that of a knowledge-retrieval node, if the app has knowledge bases."""
    settings = mapping(config.get("agent_mode")) or {}
    node: dict[str, Value] = {"model": config["model"]} if "model" in config else {}
    return node | {
        "instruction": instruction,
        "strategy": _strategy(settings.get("strategy"), mapping(config.get("model")) or {}),
        "max_iteration": settings.get("max_iteration"),
        "react_prompt": _react_prompt(mapping(settings.get("prompt")) or {}),
        "tools": [_tool(tool) for tool in tools],
        "knowledge": [{**retrieval, "dataset_ids": [id_]} for id_ in retrieval["dataset_ids"]] if retrieval else [],
        "vision": vision,
    }


def _strategy(name: Value, model: Mapping[str, Value]) -> str:
    if name == "function_call" or name in _REACT:
        return "react" if name in _REACT else "function_call"
    provider = str(model.get("provider") or "").rpartition("/")[2]
    return "function_call" if provider == "openai" else "react"


def _react_prompt(prompt: Mapping[str, Value]) -> str:
    text = prompt.get("first_prompt")
    if not isinstance(text, str):
        return ""
    for place, ours in _PLACES:
        text = text.replace(place, ours)
    return text


def _tool(entry: Mapping[str, Value]) -> dict[str, Value]:
    parameters = mapping(entry.get("tool_parameters")) or {}
    return {
        "type": entry.get("provider_type"),
        "provider_id": entry.get("provider_id"),
        "provider_name": entry.get("provider_name"),
        "tool_name": entry.get("tool_name"),
        "tool_label": entry.get("tool_label"),
        "plugin_unique_identifier": entry.get("plugin_unique_identifier"),
        "credential_id": entry.get("credential_id"),
        "settings": {name: {"value": value} for name, value in parameters.items() if value not in ("", None)},
    }
