"""A tool that is a function of its parameters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

from headrace.frozen import frozen
from headrace.ports.services import TextMessage, ToolContext, ToolMessage, ToolSpec
from headrace.values import Value

INVOKE_ERROR = "ToolInvokeError"


@frozen
class BuiltinTool:
    """Implements `Tool`. The messages that `function` returns are sent together; a text is one of them."""

    spec: ToolSpec
    function: Callable[[Mapping[str, Value], ToolContext], Awaitable[str | Iterable[ToolMessage]]]

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """See `Tool.call`."""
        result = await self.function(parameters, context)
        for message in (TextMessage(result),) if isinstance(result, str) else result:
            yield message
