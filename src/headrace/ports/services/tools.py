"""Tools: what a tool node or an agent can call, and the messages in which a tool answers.

    tool = await ctx.resources.tools.find(reference)
    async for message in tool.call(arguments(tool.spec, inputs, settings), context):
        ...

An adapter (`adapters/tools`) provides the tools of one provider type: the built-in ones, those of an OpenAPI
description, served workflows, MCP servers. `tool_parameters` turns what a file or a model gives into arguments.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal, Protocol, TypeAlias

from headrace.frozen import frozen
from headrace.kernel.steps import NO_METADATA, RunStep, Step
from headrace.values import File, Value

ParameterType: TypeAlias = Literal[
    "string",
    "number",
    "boolean",
    "select",
    "secret-input",
    "checkbox",
    "dynamic-select",
    "file",
    "files",
    "system-files",
    "model-selector",
    "app-selector",
    "array",
    "array[tools]",
    "object",
    "any",
]
"""The types that Dify knows; see `tool_parameters.cast_value`."""

STRATEGY = "agent-strategy"
"""The provider type of agent strategies, which are called like tools."""

# ------------------------------------------------------------------------------------------------------- descriptions


@frozen
class ToolParameter:
    """A parameter of a tool.

    `form`: "llm" for one that a model fills in an agent, "form" for a setting that people fill in the editor. `options`
    are the values of a select. `description` is for the model. `input_schema` is the JSON Schema of the value if its
    type says too little (`array`, `object`); a model gets it unchanged.
    """

    name: str
    type: ParameterType = "string"
    form: Literal["llm", "form"] = "llm"
    required: bool = False
    default: Value = None
    options: Sequence[str] = ()
    label: str = ""
    description: str = ""
    input_schema: Mapping[str, Value] | None = None


@frozen
class ToolSpec:
    """What is known of a tool before it is called.

    `name` is its name within its provider; `label` is for people, `description` for the model. `output_schema` is the
    JSON Schema of the variables that it adds to the node's outputs; None if it declares none. `open`: it also takes
    parameters that it does not declare, as they are.
    """

    name: str
    label: str = ""
    description: str = ""
    parameters: Sequence[ToolParameter] = ()
    output_schema: Mapping[str, Value] | None = None
    open: bool = False


@frozen
class McpEndpoint:
    """An MCP server that a workflow file names by its URL. `type` is how it is called as the file has it, or ""."""

    url: str
    type: str = ""
    headers: Sequence[tuple[str, str]] = ()


@frozen
class ToolReference:
    """A tool as a workflow file names it.

    `provider_type` is builtin, plugin, api, workflow or mcp. Depending on it, the provider's id is a short name
    (`time`), a path (`langgenius/google/google`), a UUID, or the id of a server. `plugin` is the identifier of the
    plugin that the file was made with (`langgenius/google:0.0.9@...`), `credential` the id of the credential set that
    was chosen; both may be "". `app` is the id of the calling app, "" if the caller is not an app. `endpoint` is where
    the MCP server is, if the file says it. `model` is the setting of a tool that calls one, such as `openai#whisper-1`.
    """

    provider_type: str
    provider_id: str
    provider_name: str
    tool_name: str
    plugin: str = ""
    credential: str = ""
    app: str = ""
    endpoint: McpEndpoint | None = None
    model: str = ""

    @classmethod
    def of_node(
        cls,
        provider_type: str,
        provider_id: str,
        provider_name: str,
        tool_name: str,
        plugin: str,
        credential: str,
        model: object,
    ) -> ToolReference:
        """As a node names it: files may have the provider's id or its name only, which then stands for both. `model` is
        the value of the setting of that name, which may be anything."""
        either = (provider_id or provider_name, provider_name or provider_id)
        reference = model if isinstance(model, str) and "#" in model and "{{" not in model else ""
        return cls(provider_type, *either, tool_name, plugin, credential, model=reference)


@frozen
class ToolContext:
    """On whose behalf a tool is called.

    `run`, `app` and `user` are those of the calling run. `key` stays the same when a call is repeated after a crash,
    and differs from that of every other call: a tool with side effects passes it on as an idempotency key. `step`
    journals parts of the call (see `kernel.steps`); None where there is no run.
    """

    run: str
    app: str
    user: str
    key: str
    step: RunStep | None = field(default=None, compare=False)

    def within(self, name: str) -> ToolContext:
        """The context of a call that is the step `name` of this one."""
        outer = self.step

        async def step(
            inner: str,
            function: Callable[[], Awaitable[Value]],
            *,
            label: str = "",
            metadata: Mapping[str, Value] = NO_METADATA,
        ) -> Step:
            assert outer is not None
            return await outer(f"{name}/{inner}", function, label=label, metadata=metadata)

        return replace(self, key=f"{self.key}/{name}", step=step if outer else None)


# ----------------------------------------------------------------------------------------------------------- messages


@frozen
class TextMessage:
    """A piece of text. The pieces of a call are joined without anything between them."""

    text: str


@frozen
class JsonMessage:
    """A JSON object or list. `for_model`: whether an agent's model sees it too, not only the node's outputs."""

    value: Value
    for_model: bool = True


@frozen
class LinkMessage:
    """A URL for the user."""

    url: str


@frozen
class ImageMessage:
    """The URL of an image elsewhere, which the caller downloads and stores."""

    url: str


@frozen
class BlobMessage:
    """A file's content, which the caller stores. An empty `filename` means one that fits the type."""

    data: bytes
    mime_type: str = ""
    filename: str = ""


@frozen
class BlobChunkMessage:
    """A part of a blob. The parts of one `id` come in order; `end` marks the last one, which may be empty."""

    id: str
    data: bytes
    total_length: int
    end: bool = False
    mime_type: str = ""
    filename: str = ""


@frozen
class FileMessage:
    """A file that is stored already, or that exists elsewhere. `mentioned`: its URL is also part of the text."""

    file: File
    mentioned: bool = False


@frozen
class VariableMessage:
    """An output of the node. If `stream`, the value is text that is appended to the output, and streamed."""

    name: str
    value: Value
    stream: bool = False


@frozen
class LogMessage:
    """A step of what the tool does, for people: sent when it starts, and again with the same `id` when it ends."""

    id: str
    label: str
    status: Literal["start", "success", "error"]
    parent: str | None = None
    error: str | None = None
    data: Mapping[str, Value] = field(default_factory=dict[str, Value])
    metadata: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def body(self) -> dict[str, Value]:
        """The fields that Dify shows of a step."""
        return {
            "id": self.id,
            "parent_id": self.parent,
            "label": self.label,
            "status": self.status,
            "error": self.error,
            "data": self.data,
            "metadata": self.metadata,
        }


@frozen
class SourcesMessage:
    """Passages that the answer rests on, as `retriever_resources` of a message has them."""

    sources: Sequence[Mapping[str, Value]]


@frozen
class UsageMessage:
    """Tokens and price of models that the tool called (`Usage.wire`), which count as the caller's."""

    usage: Mapping[str, Value]


ToolMessage: TypeAlias = (
    TextMessage
    | JsonMessage
    | LinkMessage
    | ImageMessage
    | BlobMessage
    | BlobChunkMessage
    | FileMessage
    | VariableMessage
    | LogMessage
    | SourcesMessage
    | UsageMessage
)

# ------------------------------------------------------------------------------------------------------------- calling


class Tool(Protocol):
    """A tool that is ready to be called, any number of times and at once."""

    @property
    def spec(self) -> ToolSpec: ...

    def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """Calls the tool; its messages come as they are made. `parameters` are of the declared types (`arguments`).
        Whoever stops iterating closes the iterator, which cancels the call. NodeError with kind `ToolInvokeError` (or a
        more specific one) if the tool fails; many tools answer wrong input with a text instead."""
        ...


class Tools(Protocol):
    """The tools that can be called here."""

    async def find(self, reference: ToolReference) -> Tool:
        """The tool that a reference names. NodeError with kind `ToolNotFoundError`, and a message that says what is
        missing, as far as possible the one of `missing`."""
        ...

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        """All tools of the MCP server that a reference names, by the name of the server or its URL (`provider_id`,
        `endpoint`). NodeError as `find`, or if the server does not answer."""
        ...

    def missing(self, reference: ToolReference) -> str | None:
        """What to install or set before this tool can be called, as far as that is known without calling anybody; None
        if nothing is missing. The message is the same for all tools that lack the same."""
        ...

    async def specs(self) -> Mapping[str, Mapping[str, Sequence[ToolSpec]]]:
        """The tools that are known, by provider type and by the name of their provider. NodeError if somebody who
        provides tools does not answer."""
        ...
