"""The tools of installed plugins. What a plugin declares is read from its files; it runs once a tool is called."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.plugins.identifiers import PluginId, plugin_of
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools.registry import NOT_FOUND, plugin_needed
from headrace.errors import HeadraceError, NodeError, NotFound
from headrace.frozen import frozen
from headrace.ports.services import (
    FileMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolReference,
    Tools,
    ToolSpec,
    UsageMessage,
)
from headrace.ports.services.tool_parameters import arguments
from headrace.values import File, Value

if TYPE_CHECKING:
    from headrace.adapters.plugins.backwards import Caller
    from headrace.adapters.plugins.credentials import Credentials
    from headrace.adapters.plugins.installed import InstalledPlugin, ProviderPath

INVOKE_ERROR = "ToolInvokeError"


class PluginTools:
    """Implements `ToolSource` for the provider type `plugin`."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`. A tool that has parameters which only the running plugin knows starts it."""
        path, problem = self._located(reference)
        if path is None:
            raise NodeError(problem, NOT_FOUND)
        credentials = self._credentials(path, reference.credential)
        if credentials.missing is not None:
            raise NodeError(credentials.missing, NOT_FOUND)
        declaration = path.provider.tools[reference.tool_name]
        tool = PluginTool(declaration.spec, path, credentials, reference.provider_name, self._plugins)
        return await tool.with_runtime_parameters(reference.app) if declaration.dynamic else tool

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        path, problem = self._located(reference)
        return problem if path is None else self._credentials(path, reference.credential).missing

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`."""
        newest: dict[str, InstalledPlugin] = {}
        for plugin in self._plugins.installed.all():
            newest.setdefault(plugin.id.plugin, plugin)
        return {
            f"{name}/{provider.name}": [tool.spec for tool in provider.tools.values()]
            for name, plugin in newest.items()
            for provider in plugin.declarations.tools.values()
        }

    async def aclose(self) -> None:
        """Nothing is open: the plugins are their owner's."""

    def _located(self, reference: ToolReference) -> tuple[ProviderPath | None, str]:
        """The provider that has the tool; if there is none, what is missing."""
        plugin = plugin_of(reference)
        try:
            path = self._plugins.installed.provider_of(reference)
        except HeadraceError as error:
            return None, str(error)
        if path is None:
            if self._plugins.installed.find(PluginId(plugin.author, plugin.name)):
                return None, f"The plugin {plugin.plugin} has no provider of the tools '{reference.provider_id}'."
            return None, plugin_needed(reference)
        if reference.tool_name not in path.provider.tools:
            names = ", ".join(path.provider.tools) or "none"
            return None, f"The plugin {path.plugin.id} has no tool '{reference.tool_name}'; its tools are: {names}."
        return path, ""

    def _credentials(self, path: ProviderPath, credentials_name: str) -> Credentials:
        provider = path.provider
        return self._plugins.credentials.of(
            path.plugin.id.plugin, provider.name, provider.credentials, provider.oauth, credentials_name
        )


@frozen
class PluginTool:
    """Implements `Tool`."""

    spec: ToolSpec
    path: ProviderPath
    credentials: Credentials
    provider_name: str
    plugins: Plugins

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """See `Tool.call`."""
        from headrace.adapters.plugins.backwards import Caller
        from headrace.adapters.tools.plugin_messages import file_id, tool_message

        usages: list[Mapping[str, Value]] = []
        async with (
            self.plugins.files.for_plugin(parameters) as plugin_parameters,
            aclosing(self._results(self._call(plugin_parameters), Caller(context, usages.append))) as results,
        ):
            async for result in results:
                if id_ := file_id(result):
                    yield FileMessage(await self._stored(id_, context), mentioned=result.get("type") == "link")
                elif (message := tool_message(result)) is not None:
                    yield message
        for usage in usages:
            yield UsageMessage(usage)

    async def _stored(self, id_: str, context: ToolContext) -> File:
        """A file of the calling app."""
        try:
            file, _ = await self.plugins.stored_files.open(id_)
        except NotFound:
            file = None
        if file is None or file.app != context.app:
            raise NodeError(f"tool file {id_} not found", "ToolFileError")
        return file.file

    def _call(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """The fields of the request for a call."""
        return {
            **self._tool,
            "action": "invoke_tool",
            "tool_parameters": parameters,
            "credential_type": self.credentials.type,
        }

    async def with_runtime_parameters(self, app: str) -> PluginTool:
        """The tool with the parameters that the running plugin adds. NodeError if it fails."""
        from headrace.adapters.plugins.backwards import Caller
        from headrace.adapters.plugins.declarations import parameters_of

        data: dict[str, Value] = {**self._tool, "action": "get_tool_runtime_parameters"}
        parameters = {parameter.name: parameter for parameter in self.spec.parameters}
        async with aclosing(self._results(data, Caller(ToolContext("", app, "", "")))) as results:
            async for result in results:
                parameters |= {parameter.name: parameter for parameter in parameters_of(result.get("parameters"))}
        return replace(self, spec=replace(self.spec, parameters=list(parameters.values())))

    @property
    def _tool(self) -> dict[str, Value]:
        """The fields that name the tool in a request."""
        credentials = self.credentials.values
        return {"type": "tool", "provider": self.path.provider.name, "tool": self.spec.name, "credentials": credentials}

    async def _results(self, data: Mapping[str, Value], caller: Caller) -> AsyncGenerator[Mapping[str, Value]]:
        from headrace.adapters.plugins.process import HOST_ERROR, PluginError
        from headrace.adapters.tools.plugin_messages import PLUGIN_ERROR

        request = {"user_id": caller.context.user, **data}
        secrets = self.credentials.secrets
        try:
            async with aclosing(self.plugins.host.call(self.path.plugin, request, caller, secrets)) as results:
                async for result in results:
                    yield result
        except PluginError as error:
            if error.error_type == HOST_ERROR:
                raise NodeError(str(error), INVOKE_ERROR) from error
            message = (
                f"An error occurred in the plugin, please contact the author of {self.provider_name} for help, "
                f"error type: {error.error_type}, error details: {error}"
            )
            raise NodeError(message, PLUGIN_ERROR) from error


class PluginStrategy(PluginTool):
    """An agent strategy of a plugin."""

    __slots__ = ()

    def _call(self, parameters: Mapping[str, Value]) -> dict[str, Value]:
        return {
            "type": "agent_strategy",
            "action": "invoke_agent_strategy",
            "agent_strategy_provider": self.path.provider.name,
            "agent_strategy": self.spec.name,
            "agent_strategy_params": parameters,
        }


class PluginStrategies(PluginTools):
    """Implements `ToolSource` for agent strategies, which are called like tools."""

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        path, problem = self._located(reference)
        if path is None:
            raise NodeError(problem, NOT_FOUND)
        spec = path.provider.tools[reference.tool_name].spec
        return PluginStrategy(spec, path, self._credentials(path, ""), reference.provider_name, self._plugins)

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """None: they are not tools."""
        return {}


class ToolCalls:
    """Answers what plugins call back for with the type `tool` (see `backwards.Handler`)."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        from headrace.adapters.tools.plugin_messages import sent_message

        type_, provider, name = (request.get(key) for key in ("tool_type", "provider", "tool"))
        tool_parameters: Any = request.get("tool_parameters") or {}
        if not (isinstance(type_, str) and isinstance(provider, str) and isinstance(name, str)):
            raise HeadraceError("tool_type, provider and tool must be texts")
        if not isinstance(tool_parameters, dict):
            raise HeadraceError("tool_parameters must be an object")
        credential = str(request.get("credential_id") or "")
        reference = ToolReference(type_, provider, provider, name, credential=credential, app=caller.context.app)
        tool = await self._tools.find(reference)
        parameters = arguments(tool.spec, cast("dict[str, Value]", tool_parameters), {})
        async with aclosing(tool.call(parameters, caller.context)) as messages:
            async for message in messages:
                if isinstance(message, UsageMessage):
                    caller.on_usage(message.usage)
                elif (message_of_tool := sent_message(message)) is not None:
                    yield message_of_tool
