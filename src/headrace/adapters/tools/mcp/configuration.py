"""The file of MCP servers that `HEADRACE_MCP_SERVERS` names, in the form that other clients of MCP read:

    {
      "mcpServers": {
        "time": {"command": "uvx", "args": ["mcp-server-time"]},
        "tickets": {"url": "https://mcp.example.com/mcp", "headers": {"Authorization": "Bearer ${TICKETS_KEY}"}}
      }
    }

`${NAME}` in a value is the environment variable of that name, `${NAME:-text}` the text where it is not set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.adapters.config_files import expand, read_yaml
from headrace.errors import HeadraceError

Transport: TypeAlias = Literal["stdio", "http", "sse"]

_TRANSPORTS: Mapping[str, Transport] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamablehttp": "http",
    "sse": "sse",
}


class ServerConfig(BaseModel):
    """A server: a command to run, or a URL. `timeout`: seconds that a call may take. Settings of other clients are
    ignored. `unset` are the environment variables that its values name and that do not exist."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict[str, str])
    cwd: Path | None = None
    url: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict[str, str])
    type: str = Field("", validation_alias=AliasChoices("type", "transport", "transportType"))
    timeout: float = Field(300, gt=0)
    disabled: bool = False
    unset: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_either(self) -> ServerConfig:
        if bool(self.command) == bool(self.url):
            raise ValueError("must have either a command or a url")
        if self.url and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError("the url must begin with http:// or https://")
        if self.type and self.type.lower() not in _TRANSPORTS:
            raise ValueError(f"the type must be one of {', '.join(_TRANSPORTS)}")
        if self.url and self.type.lower() == "stdio":
            raise ValueError("a server with a url cannot be of the type stdio")
        return self

    @property
    def transports(self) -> Sequence[Transport]:
        """How it may be reached, in the order to try: without a type, a URL may be one of an old server."""
        if self.command:
            return ("stdio",)
        if self.type:
            return (_TRANSPORTS[self.type.lower()],)
        return ("sse", "http") if "sse" in urlsplit(self.url).path.split("/") else ("http", "sse")


def read_servers(path: Path | None, environ: Mapping[str, str]) -> dict[str, ServerConfig]:
    """The servers in a file, by name; none without a file. HeadraceError if it cannot be read, or is malformed."""
    if path is None:
        return {}
    content = read_yaml(path)
    servers: Any = content.get("mcpServers", content.get("servers"))
    if not isinstance(servers, dict):
        raise HeadraceError(f"{path} has no object 'mcpServers'")
    servers_by_name = cast("dict[str, object]", servers)
    try:
        configs = {name: server_config(server, environ) for name, server in servers_by_name.items()}
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip() for problem in error.errors()
        )
        raise HeadraceError(f"{path}: {problems}") from None
    return {name: config for name, config in configs.items() if not config.disabled}


def server_config(server: object, environ: Mapping[str, str]) -> ServerConfig:
    """A server as the file has it. ValidationError if that is malformed."""
    unset: list[str] = []
    fields = expand(server, environ, unset)
    return ServerConfig.model_validate({**fields, "unset": tuple(unset)} if isinstance(fields, dict) else fields)
