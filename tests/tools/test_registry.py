"""Which source a tool comes from, and the error for one that has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from headrace.adapters.tools import ToolRegistry
from headrace.errors import NodeError
from headrace.ports.services import TextMessage, Tool, ToolContext, ToolMessage, ToolReference, ToolSpec
from headrace.values import Value


class Echo:
    spec = ToolSpec("echo")

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
        yield TextMessage(str(parameters))


class Source:
    def __init__(self, missing: str | None = None) -> None:
        self._missing = missing

    async def find(self, reference: ToolReference) -> Tool:
        return Echo()

    def missing(self, reference: ToolReference) -> str | None:
        return self._missing

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        return {"echo": [Echo.spec]}

    async def aclose(self) -> None: ...


def reference(provider_type: str, provider_id: str, plugin: str = "") -> ToolReference:
    return ToolReference(provider_type, provider_id, provider_id, "t", plugin)


TOOLS = ToolRegistry({"builtin": Source("built in"), "mcp": Source("server")}, owns=frozenset({"time"}))


@pytest.mark.parametrize(
    ("reference_", "missing"),
    [
        (reference("builtin", "time"), "built in"),
        (reference("builtin", "langgenius/time/time"), "built in"),
        (reference("mcp", "server"), "server"),
        (
            reference("builtin", "google"),
            "The plugin langgenius/google is needed: run `headrace plugins add langgenius/google`.",
        ),
        (
            reference("builtin", "jina"),
            "The plugin langgenius/jina_tool is needed: run `headrace plugins add langgenius/jina_tool`.",
        ),
        (reference("plugin", "a/b/c"), "The plugin a/b is needed: run `headrace plugins add a/b`."),
        (reference("builtin", "a/time/time"), "The plugin a/time is needed: run `headrace plugins add a/time`."),
        (
            reference("builtin", "a/b/c", f"a/b:0.0.1@{'0f' * 16}"),
            f"The plugin a/b:0.0.1@{'0f' * 16} is needed: run `headrace plugins add a/b:0.0.1@{'0f' * 16}`.",
        ),
        (reference("builtin", "builtin"), "Dify has no tool provider 'builtin': the tool 't' does not exist."),
        (reference("app", "1"), "Tools of the provider type 'app' do not run in Headrace."),
    ],
)
def test_the_source_of_a_tool(reference_: ToolReference, missing: str):
    assert TOOLS.missing(reference_) == missing


async def test_a_tool_without_a_source_is_not_found_for_the_same_reason():
    google = reference("builtin", "google")
    with pytest.raises(NodeError) as raised:
        await TOOLS.find(google)
    assert (str(raised.value), raised.value.kind) == (TOOLS.missing(google), "ToolNotFoundError")
    assert (await TOOLS.find(reference("builtin", "time"))).spec.name == "echo"


async def test_a_plugin_source_takes_what_is_not_built_in():
    tools = ToolRegistry({"builtin": Source("built in"), "plugin": Source("plugin")}, owns=frozenset({"time"}))
    assert tools.missing(reference("builtin", "google")) == "plugin"
    assert tools.missing(reference("builtin", "time")) == "built in"
