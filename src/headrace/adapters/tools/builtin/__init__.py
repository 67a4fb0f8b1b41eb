"""The tools that are part of Dify itself, with its parameters, defaults and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from importlib.util import find_spec

from headrace.adapters.plugins.identifiers import plugin_path
from headrace.adapters.tools.builtin.audio import audio_tools
from headrace.adapters.tools.builtin.builtin_tool import BuiltinTool
from headrace.adapters.tools.builtin.code import code_tools
from headrace.adapters.tools.builtin.time import time_tools
from headrace.adapters.tools.builtin.webscraper import webscraper_tools
from headrace.adapters.tools.registry import NOT_FOUND
from headrace.errors import NodeError
from headrace.ports.services import Documents, Files, Http, Models, Sandbox, Speech, Tool, ToolReference, ToolSpec


class BuiltinTools:
    """Implements `ToolSource` for the providers of `PROVIDERS`. `summary_model` is PROVIDER/MODEL, which summarizes web
    pages; `now` is the time in a time zone."""

    PROVIDERS = frozenset({"audio", "code", "time", "webscraper"})

    def __init__(
        self,
        http: Http,
        sandbox: Sandbox,
        files: Files,
        documents: Documents,
        speech: Speech,
        models: Models,
        *,
        summary_model: str = "",
        now: Callable[[tzinfo], datetime] = datetime.now,
    ) -> None:
        self._sandbox, self._speech = sandbox, speech
        self._tools: Mapping[str, Sequence[BuiltinTool]] = {
            "audio": audio_tools(files, speech),
            "code": code_tools(sandbox),
            "time": time_tools(now),
            "webscraper": webscraper_tools(http, documents, models, summary_model),
        }

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        provider = plugin_path(reference.provider_id)[2]
        for tool in self._tools[provider]:
            if tool.spec.name == reference.tool_name:
                return tool
        raise NodeError(self._unknown(provider, reference.tool_name), NOT_FOUND)

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        provider, name = plugin_path(reference.provider_id)[2], reference.tool_name
        if all(tool.spec.name != name for tool in self._tools[provider]):
            return self._unknown(provider, name)
        if provider == "webscraper" and find_spec("readability") is None:
            return 'The tool webscraper needs a library: pip install "headrace[web]"'
        if provider == "audio" and reference.model:
            return self._speech.missing(reference.model.partition("#")[0])
        return self._sandbox.missing("python3", "") if provider == "code" else None

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`."""
        return {provider: [tool.spec for tool in tools] for provider, tools in self._tools.items()}

    async def aclose(self) -> None:
        """Nothing is open: the services are not its own."""

    def _unknown(self, provider: str, name: str) -> str:
        names = ", ".join(tool.spec.name for tool in self._tools[provider])
        return f"The provider '{provider}' has no tool '{name}', only: {names}."
