"""An MCP server for tests, written with the official package: over stdin and stdout if it is run."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel

DATA = base64.b64encode(b"data").decode()


class Filter(BaseModel):
    field: str
    at_most: int = 10


class Sum(BaseModel):
    total: int
    terms: list[int]


def new_server() -> MCPServer:
    server = MCPServer("test")
    hanging = asyncio.Event()

    @server.tool()
    def add(a: int, b: int) -> Sum:
        """Adds two numbers."""
        return Sum(total=a + b, terms=[a, b])

    @server.tool(structured_output=False)
    def search(query: str, filters: list[Filter], limit: int | None = None, deep: bool = False) -> str:
        """Searches."""
        return f"{query} {[(item.field, item.at_most) for item in filters]} {limit} {deep}"

    @server.tool(structured_output=False)
    def process() -> str:
        return str(os.getpid())

    @server.tool(structured_output=False)
    def environment(name: str) -> str:
        return os.environ.get(name, "not set")

    @server.tool(structured_output=False)
    def fail(reason: str) -> str:
        raise ToolError(reason)

    @server.tool(structured_output=False)
    def die() -> str:
        os._exit(3)

    @server.tool(structured_output=False)
    async def hang() -> str:
        await hanging.wait()
        return "at last"

    @server.tool(structured_output=False)
    def let() -> str:
        hanging.set()
        return "let"

    @server.tool()
    def everything() -> CallToolResult:
        content: list[Any] = [
            TextContent(type="text", text="plain"),
            ImageContent(type="image", data=DATA, mime_type="image/png"),
            AudioContent(type="audio", data=DATA, mime_type="audio/wav"),
            ResourceLink(type="resource_link", uri="https://example.com/a.txt", name="a"),
            ResourceLink(type="resource_link", uri="file:///b.txt", name="b"),
            EmbeddedResource(type="resource", resource=TextResourceContents(uri="file:///c.txt", text="embedded")),
            EmbeddedResource(
                type="resource",
                resource=BlobResourceContents(uri="file:///folder/d.pdf", mime_type="application/pdf", blob=DATA),
            ),
        ]
        return CallToolResult(content=content)

    return server


if __name__ == "__main__":
    new_server().run()
