"""tool: every shape of its parameters and settings, and what a tool's messages become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, OutputType, Result
from headrace.nodes.tool import ToolConfig, ToolNode
from headrace.ports.services import (
    BlobChunkMessage,
    BlobMessage,
    FileMessage,
    HttpRequest,
    HttpResponse,
    ImageMessage,
    JsonMessage,
    Limits,
    LinkMessage,
    LogMessage,
    TextMessage,
    Tool,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolReference,
    ToolSpec,
    UsageMessage,
    VariableMessage,
)
from headrace.values import File, Value
from tests.resources import only

PARAMETERS = (
    ToolParameter("query", required=True),
    ToolParameter("limit", "number"),
    ToolParameter("attachment", "file"),
    ToolParameter("filter", "object"),
    ToolParameter("engine", "select", form="form", default="fast", options=("fast", "deep")),
    ToolParameter("depth", "number", form="form", default=1),
)
SCOPES = {"start": {"q": "tides", "n": 4, "file": File("document", "local_file", "a.txt"), "files": []}}


class Scripted:
    """Sends its messages, or fails; keeps what it was called with."""

    def __init__(self, *messages: ToolMessage | NodeError, open: bool = False) -> None:
        self.spec = ToolSpec("search", parameters=PARAMETERS, open=open)
        self._messages = messages
        self.calls: list[tuple[Mapping[str, Value], ToolContext]] = []

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
        self.calls.append((parameters, context))
        for message in self._messages:
            if isinstance(message, NodeError):
                raise message
            yield message


class OneTool:
    def __init__(self, tool: Tool | None) -> None:
        self._tool = tool
        self.reference: ToolReference | None = None

    async def find(self, reference: ToolReference) -> Tool:
        self.reference = reference
        if self._tool is None:
            raise NodeError("The plugin a/b is needed.", "ToolNotFoundError")
        return self._tool

    def missing(self, reference: ToolReference) -> str | None:
        return None if self._tool else f"nothing provides {reference.provider_id}"


class Files:
    def __init__(self) -> None:
        self.saved: list[tuple[bytes, str, str]] = []

    async def save(self, data: bytes, *, filename: str, mime_type: str, **_: Any) -> File:
        self.saved.append((data, filename, mime_type))
        kind = "image" if mime_type.startswith("image/") else "document"
        return File(kind, "tool_file", filename, mime_type=mime_type, related_id="f1", url="/files/tools/f1")


class Http:
    def __init__(self, answer: HttpResponse | NodeError) -> None:
        self._answer = answer

    async def send(self, request: HttpRequest) -> HttpResponse:
        if isinstance(self._answer, NodeError):
            raise self._answer
        return self._answer


def config(**data: Any) -> dict[str, Any]:
    return {
        "provider_type": "builtin",
        "provider_id": "a/b/c",
        "provider_name": "search engine",
        "tool_name": "search",
        "tool_parameters": {"query": {"type": "constant", "value": "q"}},
        **data,
    }


async def run(
    tool: Scripted | None, data: Mapping[str, Any], *, limits: Limits | None = None, **resources: Any
) -> tuple[Result, list[tuple[str, str]]]:
    """The node's result, and what it streamed."""
    streamed: list[tuple[str, str]] = []
    context = Context(
        run="r",
        app="app",
        user="ann",
        spec=NodeSpec("n", "tool"),
        variables=Variables(SCOPES),
        inputs={},
        resources=only(**{"tools": OneTool(tool), "files": Files(), **resources}),
        limits=limits or Limits(),
        emit=lambda name, text: streamed.append((name, text)),
        key="r/n/0",
        new_id=lambda: "id",
    )
    return await ToolNode(ToolConfig.model_validate(data)).run(context), streamed


async def arguments_of(tool_parameters: Any, tool_configurations: Any = None, **data: Any) -> Mapping[str, Value]:
    tool = Scripted()
    data |= {"tool_parameters": tool_parameters, "tool_configurations": tool_configurations}
    await run(tool, config(**data))
    return tool.calls[0][0]


# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "given", "argument"),
    [
        ("query", {"type": "mixed", "value": "about {{#start.q#}}"}, "about tides"),
        ("query", {"type": "constant", "value": "{{#start.q#}}!"}, "tides!"),
        ("query", {"type": "constant", "value": 3}, "3"),
        ("query", {"type": "variable", "value": ["start", "q"]}, "tides"),
        ("query", {"type": "variable", "value": ["start", "n"]}, "4"),
        ("query", "bare {{#start.q#}}", "bare tides"),
        ("limit", {"type": "variable", "value": ["start", "n"]}, 4),
        ("limit", {"type": "constant", "value": 3}, 3),
        ("limit", {"type": "mixed", "value": "{{#start.n#}}"}, 4),
        ("filter", {"type": "constant", "value": {"a": 1}}, {"a": 1}),
        ("filter", {"type": "constant", "value": {"a": ["{{#start.q#}}"], "b": 1}}, {"a": ["tides"], "b": 1}),
        ("filter", {"type": "mixed", "value": '{"q": "{{#start.q#}}"}'}, {"q": "tides"}),
        ("attachment", {"type": "variable", "value": ["start", "file"]}, SCOPES["start"]["file"]),
        ("unknown", {"type": "constant", "value": "x"}, None),
    ],
)
async def test_a_parameter_has_the_declared_type(name: str, given: Any, argument: Value):
    assert (await arguments_of({name: given}))[name] == argument


async def test_a_parameter_without_a_value_is_not_given():
    empty = [
        {"type": "mixed", "value": None},
        None,
        {"type": "variable", "value": ""},
        {"type": "variable", "value": []},
    ]
    for value in empty:
        assert await arguments_of({"query": value}, {"engine": value}) == {"engine": "fast", "depth": 1}


@pytest.mark.parametrize("absent", [None, {}])
async def test_parameters_and_settings_may_be_absent(absent: Any):
    assert await arguments_of(absent, absent) == {"engine": "fast", "depth": 1}


async def test_a_missing_variable_is_an_error_only_if_the_parameter_is_required():
    missing = {"type": "variable", "value": ["start", "nothing"]}
    assert "limit" not in await arguments_of({"limit": missing})
    with pytest.raises(NodeError, match=r"Variable \['start', 'nothing'\] does not exist") as raised:
        await arguments_of({"query": missing})
    assert raised.value.kind == "ToolParameterError"


@pytest.mark.parametrize("version", [{}, {"tool_node_version": "2"}, {"version": "2"}])
@pytest.mark.parametrize(
    ("settings", "engine", "depth"),
    [
        ({"engine": "deep", "depth": 3}, "deep", 3),
        ({"engine": "deep", "depth": "3"}, "deep", 3),
        ({"engine": None, "depth": None}, "fast", 1),
        ({"engine": "", "depth": 0}, "fast", 0),
        ({"engine": {"type": "constant", "value": "deep"}, "depth": {"type": "constant", "value": 3}}, "deep", 3),
        (
            {"engine": {"type": "mixed", "value": "deep"}, "depth": {"type": "mixed", "value": "{{#start.n#}}"}},
            "deep",
            4,
        ),
        ({"depth": {"type": "variable", "value": ["start", "n"]}}, "fast", 4),
        ({"depth": {"type": "constant", "value": None}}, "fast", 1),
        ({"another": "setting"}, "fast", 1),
    ],
)
async def test_settings_of_every_version_of_the_file(
    version: Mapping[str, Any], settings: Mapping[str, Any], engine: str, depth: int
):
    assert await arguments_of({}, settings, **version) == {"engine": engine, "depth": depth}


async def test_a_bare_setting_wins_over_a_parameter_of_its_name_and_an_input_does_not():
    parameters = {"depth": {"type": "constant", "value": 7}}
    assert (await arguments_of(parameters, {"depth": 3}))["depth"] == 3
    assert (await arguments_of(parameters, {"depth": {"type": "constant", "value": 3}}))["depth"] == 7
    assert (await arguments_of(parameters))["depth"] == 7


async def test_an_open_tool_gets_what_it_does_not_declare():
    tool = Scripted(open=True)
    data = {
        "tool_parameters": {"query": {"type": "constant", "value": "q"}, "extra": {"type": "mixed", "value": "x"}},
        "tool_configurations": {"voice#a#b": "nova"},
    }
    await run(tool, config(**data))
    parameters = {"query": "q", "extra": "x", "voice#a#b": "nova", "engine": "fast", "depth": 1}
    assert tool.calls[0][0] == parameters


@pytest.mark.parametrize("value", ["start.q", ["start", 1], {}])
def test_a_variable_is_a_selector(value: Any):
    with pytest.raises(ValueError, match="selector"):
        ToolConfig.model_validate(config(tool_parameters={"query": {"type": "variable", "value": value}}))


def test_what_it_reads():
    data = config(
        tool_parameters={
            "query": {"type": "mixed", "value": "{{#a.b#}}"},
            "file": {"type": "variable", "value": ["c", "d"]},
        },
        tool_configurations={"engine": {"type": "mixed", "value": "{{#e.f#}}"}, "bare": "{{#not.read#}}"},
    )
    assert list(ToolNode(ToolConfig.model_validate(data)).reads()) == [
        (("a", "b"), ("tool_parameters", "query", "value")),
        (("c", "d"), ("tool_parameters", "file", "value")),
        (("e", "f"), ("tool_configurations", "engine", "value")),
    ]


async def test_the_tool_learns_for_whom_it_is_called():
    tools = OneTool(tool := Scripted())
    await run(tool, config(plugin_unique_identifier="a/b:1@c", credential_id="x"), tools=tools)
    assert tool.calls[0][1] == ToolContext(run="r", app="app", user="ann", key="r/n/0")
    assert tools.reference == ToolReference("builtin", "a/b/c", "search engine", "search", "a/b:1@c", "x", "app")


# --------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("messages", "outputs"),
    [
        ([], {"text": "", "json": [{"data": []}]}),
        ([TextMessage("a"), TextMessage("b")], {"text": "ab"}),
        ([JsonMessage({"a": 1}), JsonMessage([2])], {"json": [{"a": 1}, [2]]}),
        ([JsonMessage({}), JsonMessage([])], {"json": [{"data": []}]}),
        ([LinkMessage("http://x")], {"text": "Link: http://x\n"}),
        ([VariableMessage("v", {"a": 1})], {"v": {"a": 1}}),
        ([VariableMessage("v", "a", stream=True), VariableMessage("v", "b", stream=True)], {"v": "ab"}),
        ([LogMessage("1", "step", "start")], {"text": ""}),
        ([VariableMessage(name, {"a": 1}) for name in ("text", "files", "json")], {"text": ""}),
        ([TextMessage("a"), VariableMessage("text", "b", stream=True)], {"text": "a"}),
    ],
)
async def test_messages_become_outputs(messages: Sequence[ToolMessage], outputs: Mapping[str, Value]):
    result, _ = await run(Scripted(*messages), config())
    assert result.outputs == {"text": "", "files": [], "json": [{"data": []}], **outputs}
    assert result.inputs == {"query": "q"}


async def test_text_and_variables_are_streamed():
    messages = [TextMessage("a"), LinkMessage("u"), VariableMessage("v", "x", stream=True), VariableMessage("w", "y")]
    _, streamed = await run(Scripted(*messages), config())
    assert streamed == [("text", "a"), ("text", "Link: u\n"), ("v", "x")]


async def test_blobs_are_stored():
    files = Files()
    messages = [
        BlobMessage(b"1", "image/png", "a.png"),
        BlobMessage(b"2"),
        BlobChunkMessage("c", b"3", 2, mime_type="text/plain"),
        BlobChunkMessage("d", b"5", 1, mime_type="text/plain"),
        BlobChunkMessage("c", b"4", 2, mime_type="text/plain"),
        BlobChunkMessage("d", b"", 1, end=True, mime_type="text/plain"),
        BlobChunkMessage("c", b"", 2, end=True, mime_type="text/plain"),
    ]
    result, _ = await run(Scripted(*messages), config(), files=files)
    assert files.saved == [
        (b"1", "a.png", "image/png"),
        (b"2", "", "application/octet-stream"),
        (b"5", "", "text/plain"),
        (b"34", "", "text/plain"),
    ]
    assert [file.type for file in result.outputs["files"]] == ["image", "document", "document", "document"]
    assert result.outputs["text"] == ""


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([BlobChunkMessage("c", b"12", 3, end=True)], "sent 2 bytes of a file of 3"),
        ([BlobChunkMessage("c", b"12", 2)], "only a part of a file"),
        ([BlobChunkMessage("c", b"0" * 16 * 1024 * 1024, 1)] * 2, "larger than"),
    ],
)
async def test_an_incomplete_or_large_blob_fails(chunks: Sequence[BlobChunkMessage], message: str):
    with pytest.raises(NodeError, match=message) as raised:
        await run(Scripted(*chunks), config())
    assert raised.value.kind == "ToolFileError"


async def test_files_are_passed_on_and_mentioned_if_the_tool_says_so():
    file = File("document", "tool_file", "a.txt", url="/files/tools/1.txt")
    result, _ = await run(Scripted(FileMessage(file), FileMessage(file, mentioned=True)), config())
    assert result.outputs["files"] == [file, file]
    assert result.outputs["text"] == "File: /files/tools/1.txt\n"


async def test_an_image_elsewhere_is_downloaded():
    files, http = Files(), Http(HttpResponse(200, [("Content-Type", "image/png")], b"png", "http://x/pics/a.png?b=1"))
    result, _ = await run(Scripted(ImageMessage("http://x/a")), config(), files=files, http=http)
    assert files.saved == [(b"png", "a.png", "image/png")]
    assert [file.type for file in result.outputs["files"]] == ["image"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HttpResponse(404, [], b"", "http://x/a"), "HTTP status 404"),
        (NodeError("refused", "EgressRefused"), "refused"),
    ],
)
async def test_an_image_that_cannot_be_downloaded_becomes_text(answer: HttpResponse | NodeError, reason: str):
    result, _ = await run(Scripted(ImageMessage("http://x/a")), config(), http=Http(answer))
    assert result.outputs["text"].startswith(f"Failed to download image: http://x/a: {reason}")
    assert result.outputs["files"] == []


async def test_usage_counts_as_the_nodes_and_logs_are_kept():
    usage = {"total_tokens": 3, "total_price": "0.1", "currency": "USD"}
    log = LogMessage("1", "step", "success", data={"a": 1})
    result, _ = await run(Scripted(UsageMessage(usage), log), config())
    assert result.usage == usage
    assert result.process["logs"] == [log.body()]
    result, _ = await run(Scripted(UsageMessage(usage), UsageMessage(usage)), config())
    assert result.usage is not None
    assert (result.usage["total_tokens"], result.usage["total_price"], result.usage["currency"]) == (6, "0.2", "USD")


# --------------------------------------------------------------------------------------------------------- failures


async def test_a_tool_that_cannot_be_found_fails_the_node():
    with pytest.raises(NodeError) as raised:
        await run(None, config())
    assert str(raised.value) == "Failed to get tool runtime: The plugin a/b is needed."
    assert raised.value.kind == "ToolNotFoundError"


async def test_a_tool_that_fails_fails_the_node_with_its_words():
    tool = Scripted(TextMessage("half"), NodeError("no quota", "ToolInvokeError"))
    with pytest.raises(NodeError) as raised:
        await run(tool, config())
    assert str(raised.value) == "Failed to invoke tool search engine: no quota"
    assert raised.value.kind == "ToolInvokeError"
    assert raised.value.inputs == {"query": "q"}


async def test_streamed_variables_are_text_and_text_is_limited():
    with pytest.raises(NodeError, match="must be a string"):
        await run(Scripted(VariableMessage("v", 1, stream=True)), config())
    with pytest.raises(NodeError, match="longer than 3 characters"):
        await run(Scripted(TextMessage("ab"), TextMessage("cd")), config(), limits=Limits(max_text=3))


# ---------------------------------------------------------------------------------------------- what it says of itself


def test_it_says_once_what_a_tool_lacks():
    node = ToolNode(ToolConfig.model_validate(config()))
    assert list(node.missing_requirements(only(tools=OneTool(None)))) == ["nothing provides a/b/c"]
    assert list(node.missing_requirements(only(tools=OneTool(Scripted())))) == []


def test_its_metadata_names_the_tool():
    node = ToolNode(ToolConfig.model_validate(config(plugin_unique_identifier=None)))
    info = {"provider_type": "builtin", "provider_id": "a/b/c", "plugin_unique_identifier": ""}
    assert node.metadata() == {"tool_info": info}


OWN = {"text": OutputType("string"), "files": OutputType("array[file]"), "json": OutputType("array[object]")}


@pytest.mark.parametrize(
    ("data", "schema"),
    [
        ({}, OWN),
        ({"output_schema": None}, OWN),
        ({"provider_type": "workflow"}, None),
        (
            {
                "provider_type": "mcp",
                "output_schema": {
                    "properties": {
                        "count": {"type": "integer"},
                        "items": {"type": "array", "items": {"type": "object"}},
                        "any": {"type": "array"},
                        "odd": {"type": ["string", "null"]},
                    }
                },
            },
            {
                **OWN,
                "count": OutputType("integer"),
                "items": OutputType("array[object]"),
                "any": OutputType("array[any]"),
                "odd": OutputType("any"),
            },
        ),
    ],
)
def test_its_outputs(data: Mapping[str, Any], schema: Mapping[str, OutputType] | None):
    assert ToolNode(ToolConfig.model_validate(config(**data))).outputs_schema() == schema
