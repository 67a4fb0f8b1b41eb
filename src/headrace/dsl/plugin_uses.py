"""Finds the plugins that a workflow file names, in its list of dependencies and in its nodes.

Files before version 0.1.5 have no such list, and others an incomplete one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from headrace.dsl.yaml_reader import read
from headrace.ports.plugins import PluginUse
from headrace.values import Value

_IDENTIFIERS = (
    "marketplace_plugin_unique_identifier",
    "plugin_unique_identifier",
    "github_plugin_unique_identifier",
)
_PLUGIN_TYPES = ("builtin", "plugin")
_MODEL_KEYS = ("name", "model", "model_type")


def plugin_uses(content: str, source: str = "workflow") -> list[PluginUse]:
    """Each place once. LoadError if the file is not valid YAML."""
    document = read(content, source).value
    uses = [*_dependencies(document.pop("dependencies", None)), *_in_nodes(document)]
    return list(dict.fromkeys(uses))


def _dependencies(dependencies: Value) -> Iterator[PluginUse]:
    for dependency in cast("list[Value]", dependencies) if isinstance(dependencies, list) else ():
        value = _fields(_fields(dependency).get("value"))
        if identifier := next(filter(None, (_text(value, name) for name in _IDENTIFIERS)), ""):
            yield PluginUse("dependency", identifier=identifier)


def _in_nodes(document: Value) -> Iterator[PluginUse]:
    waiting: list[Value] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            fields = cast("Mapping[str, Value]", value)
            yield from _used_by(fields)
            waiting += fields.values()
        elif isinstance(value, list):
            waiting += cast("list[Value]", value)


def _used_by(fields: Mapping[str, Value]) -> Iterator[PluginUse]:
    identifier = _text(fields, "plugin_unique_identifier")
    tool = _text(fields, "tool_name")
    strategy = _text(fields, "agent_strategy_provider_name")
    if tool:
        provider = _text(fields, "provider_id") or _text(fields, "provider_name")
        if provider and (_text(fields, "provider_type") or _text(fields, "type")) in _PLUGIN_TYPES:
            yield PluginUse("tool", provider, identifier, tool)
    elif strategy:
        yield PluginUse("strategy", strategy, identifier)
    elif identifier:
        yield PluginUse("other", identifier=identifier)
    elif (provider := _text(fields, "provider")) and any(_text(fields, name) for name in _MODEL_KEYS):
        yield PluginUse("model", provider)


def _fields(value: Value) -> Mapping[str, Value]:
    return cast("Mapping[str, Value]", value) if isinstance(value, dict) else {}


def _text(fields: Mapping[str, Value], name: str) -> str:
    value: Value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""
