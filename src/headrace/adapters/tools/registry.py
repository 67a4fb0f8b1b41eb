"""Finds the source that has the tools of a provider type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from headrace.adapters.plugins.identifiers import plugin_of, plugin_path
from headrace.errors import NodeError
from headrace.ports.services import STRATEGY, Tool, ToolReference, ToolSpec

NOT_FOUND = "ToolNotFoundError"


class ToolSource(Protocol):
    """Provides the tools of one provider type."""

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        ...

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        ...

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """The tools that it has, by the name of their provider."""
        ...

    async def aclose(self) -> None:
        """Closes connections and ends processes."""
        ...


@runtime_checkable
class ServerSource(Protocol):
    """Provides the tools of MCP servers."""

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        """See `Tools.of_server`."""
        ...


class ToolRegistry:
    """Implements `resources.Tools`. `sources` are the sources by provider type, as a workflow file names it.

    Dify moved most of its built-in tools to plugins, and their provider type is still `builtin`: `builtin` is for those
    that `owns` names by their provider, `plugin` for all others.
    """

    def __init__(self, sources: Mapping[str, ToolSource], owns: frozenset[str] = frozenset()) -> None:
        self.sources = sources
        self._owns = owns

    async def find(self, reference: ToolReference) -> Tool:
        """See `resources.Tools.find`."""
        source = self._source(reference)
        if source is None:
            raise NodeError(_no_source(reference), NOT_FOUND)
        return await source.find(reference)

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        """See `resources.Tools.of_server`."""
        source = self._source(reference)
        if not isinstance(source, ServerSource):
            raise NodeError(_no_source(reference), NOT_FOUND)
        return await source.of_server(reference)

    def missing(self, reference: ToolReference) -> str | None:
        """See `resources.Tools.missing`."""
        source = self._source(reference)
        return _no_source(reference) if source is None else source.missing(reference)

    async def specs(self) -> Mapping[str, Mapping[str, Sequence[ToolSpec]]]:
        """See `resources.Tools.specs`."""
        return {type_: await source.specs() for type_, source in self.sources.items()}

    async def aclose(self) -> None:
        for source in self.sources.values():
            await source.aclose()

    def _source(self, reference: ToolReference) -> ToolSource | None:
        type_ = reference.provider_type
        if type_ in ("builtin", "plugin"):
            organization, _, provider = plugin_path(reference.provider_id)
            type_ = "builtin" if organization == "langgenius" and provider in self._owns else "plugin"
        return self.sources.get(type_)


def _no_source(reference: ToolReference) -> str:
    if reference.provider_type not in ("builtin", "plugin", STRATEGY):
        return f"Tools of the provider type '{reference.provider_type}' do not run in Headrace."
    return plugin_needed(reference)


def plugin_needed(reference: ToolReference) -> str:
    """What to do about a plugin that is not installed."""
    if reference.provider_id in ("", "builtin"):
        return f"Dify has no tool provider '{reference.provider_id}': the tool '{reference.tool_name}' does not exist."
    plugin = plugin_of(reference)
    return f"The plugin {plugin} is needed: run `headrace plugins add {plugin}`."
