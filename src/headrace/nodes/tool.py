"""tool: calls a tool, and makes its messages the node's outputs.

Outputs `text`, `files`, `json` (a list of the objects that the tool sent), and the variables that the tool sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeGuard, cast

from pydantic import Field, field_validator, model_validator

from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Read, Result, null_means_default, reads_in
from headrace.nodes._model_call import reporting
from headrace.nodes._tool_messages import ToolOutputs, cited, tool_context
from headrace.ports.services import Resources, Tool, ToolReference, ToolSpec
from headrace.ports.services.tool_parameters import arguments
from headrace.values import Value, to_json

PARAMETER_ERROR = "ToolParameterError"
PLUGIN_ERROR = "PluginInvokeError"


class ToolInput(Config):
    """The value of a parameter: a text with references (`mixed`), a variable's selector, or a constant, in whose texts
    references count as well."""

    type: Literal["constant", "mixed", "variable"]
    value: Any

    @model_validator(mode="after")
    def _has_a_fitting_value(self) -> ToolInput:
        if self.type == "variable" and not _is_selector(self.value):
            raise ValueError("the value of a variable is to be a selector, a list of names")
        return self

    def reads(self) -> Iterator[Read]:
        return reads_in(self.value, ("value",), selector=self.type == "variable")

    def resolve(self, ctx: Context) -> tuple[bool, Value]:
        """(found, value). Numbers and truth values become text, as in Dify; the tool's declaration gives them their
        type back."""
        if self.type == "variable":
            return ctx.variables.find(self.value)
        is_text = not isinstance(self.value, dict | list)
        return True, ctx.variables.render_texts(str(self.value) if is_text else self.value)


class ToolConfig(Config):
    """A tool and its arguments. `tool_configurations` has the settings of the tool, each as a bare value (old files) or
    as an input; `output_schema` describes the variables that the tool sets."""

    provider_type: str
    provider_id: str = ""
    provider_name: str = ""
    tool_name: str
    plugin_unique_identifier: str = ""
    credential_id: str = ""
    tool_parameters: Mapping[str, ToolInput] = Field(default_factory=dict[str, ToolInput])
    tool_configurations: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    output_schema: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    _null = null_means_default(
        "provider_id",
        "provider_name",
        "plugin_unique_identifier",
        "credential_id",
        "tool_parameters",
        "tool_configurations",
        "output_schema",
    )

    @field_validator("tool_parameters", mode="before")
    @classmethod
    def _inputs(cls, value: object) -> object:
        """Without those that were never filled in; a bare value, which some generators write, is a constant."""
        if not isinstance(value, dict):
            return value
        inputs: dict[str, object] = {}
        for name, item in cast("dict[str, object]", value).items():
            if not _is_empty(item):
                inputs[name] = cast("object", item) if isinstance(item, dict) else _constant(item)
        return inputs

    @field_validator("tool_configurations", mode="before")
    @classmethod
    def _settings(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: item for name, item in cast("dict[str, object]", value).items() if not _is_empty(item)}

    @property
    def reference(self) -> ToolReference:
        return ToolReference.of_node(
            self.provider_type,
            self.provider_id,
            self.provider_name,
            self.tool_name,
            self.plugin_unique_identifier,
            self.credential_id,
            model.value if (model := self._model) else self.tool_configurations.get("model"),
        )

    @property
    def _model(self) -> ToolInput | None:
        """The model that the tool calls, if it is given as an input."""
        return self.tool_parameters.get("model") or self.setting("model")

    def setting(self, name: str) -> ToolInput | None:
        """A setting that is given as an input; None for a bare value."""
        value: object = self.tool_configurations.get(name)
        return ToolInput.model_validate(value) if _is_input(value) else None


class ToolNode(Node[ToolConfig]):
    """Fails with ToolNotFoundError (nothing provides the tool), ToolParameterError (its arguments), ToolInvokeError or
    what the tool itself fails with."""

    type = "tool"
    traits: ClassVar[Traits] = Traits(calls_service=True)
    partial: ClassVar[bool] = True
    notes: ClassVar[str] = (
        "the tools built into Dify, tools of installed plugins, custom tools (OpenAPI), tools of MCP servers, and "
        "workflows as tools"
    )

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        missing = resources.tools.missing(self.config.reference)
        return (missing,) if missing else ()

    def outputs_schema(self) -> Mapping[str, OutputType] | None:
        properties: Any = self.config.output_schema.get("properties")
        if not isinstance(properties, dict):
            if self.config.provider_type in ("mcp", "workflow"):  # these set variables that old files do not declare
                return None
            properties = {}
        types = {str(name): _output_type(schema) for name, schema in cast("dict[Any, Any]", properties).items()}
        own = {"text": OutputType("string"), "files": OutputType("array[file]"), "json": OutputType("array[object]")}
        return own | types

    def reads(self) -> Iterable[Read]:
        for name, parameter in self.config.tool_parameters.items():
            yield from ((selector, ("tool_parameters", name, *path)) for selector, path in parameter.reads())
        for name in self.config.tool_configurations:
            if setting := self.config.setting(name):
                yield from ((selector, ("tool_configurations", name, *path)) for selector, path in setting.reads())

    def metadata(self) -> Mapping[str, Value]:
        config = self.config
        return {
            "tool_info": {
                "provider_type": config.provider_type,
                "provider_id": config.provider_id,
                "plugin_unique_identifier": config.plugin_unique_identifier,
            }
        }

    async def run(self, ctx: Context) -> Result:
        tool = await self._find(ctx)
        inputs = self._inputs(tool.spec, ctx)
        outputs = ToolOutputs(ctx)
        with reporting(to_json(inputs)):
            parameters = arguments(tool.spec, inputs, self._settings(tool.spec, ctx))
            try:
                await outputs.add_all(tool.call(parameters, tool_context(ctx)))
            except NodeError as error:
                if error.kind == PLUGIN_ERROR:  # says itself whose error it is
                    raise
                name = self.config.reference.provider_name
                raise NodeError(f"Failed to invoke tool {name}: {error}", error.kind) from error
        process = cited(outputs.sources)
        if outputs.logs:
            process["logs"] = [log.body() for log in outputs.logs]
        return Result(outputs.outputs(), inputs, process, usage=outputs.usage())

    async def _find(self, ctx: Context) -> Tool:
        try:
            return await ctx.resources.tools.find(replace(self.config.reference, app=ctx.app))
        except NodeError as error:
            raise NodeError(f"Failed to get tool runtime: {error}", error.kind) from error

    def _inputs(self, spec: ToolSpec, ctx: Context) -> dict[str, Value]:
        """What the node gives, before it has the types that the tool declares."""
        parameters_by_name = {parameter.name: parameter for parameter in spec.parameters}
        inputs: dict[str, Value] = {}
        for name, parameter in self.config.tool_parameters.items():
            if name not in parameters_by_name and not spec.open:
                inputs[name] = None
                continue
            exists, value = parameter.resolve(ctx)
            if exists:
                inputs[name] = value
            elif name in parameters_by_name and parameters_by_name[name].required:
                raise NodeError(f"Variable {parameter.value} does not exist", PARAMETER_ERROR)
        return inputs

    def _settings(self, spec: ToolSpec, ctx: Context) -> dict[str, Value]:
        settings: dict[str, Value] = {}
        names = {parameter.name for parameter in spec.parameters if parameter.form == "form"}
        for name in self.config.tool_configurations:
            if name not in names and not spec.open:
                continue
            setting = self.config.setting(name)
            if setting is None:
                settings[name] = self.config.tool_configurations[name]
            elif name not in self.config.tool_parameters:  # an entry there wins over an input here
                exists, value = (True, setting.value) if setting.type == "constant" else setting.resolve(ctx)
                if not exists:
                    raise NodeError(f"Variable {setting.value} does not exist", PARAMETER_ERROR)
                settings[name] = value
        return settings


def _is_input(value: object) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(value, dict) or not {"type", "value"} <= value.keys():
        return False
    type_, setting = cast("dict[str, object]", value)["type"], cast("dict[str, object]", value)["value"]
    return type_ in ("constant", "mixed") or (type_ == "variable" and _is_selector(setting))


def _is_empty(value: object) -> bool:
    """Whether an input was never filled in."""
    if not isinstance(value, dict) or "type" not in value:
        return value is None
    item = cast("dict[str, object]", value)
    return item.get("value") is None or (item["type"] == "variable" and item["value"] in ("", []))


def _constant(value: object) -> dict[str, Any]:
    return {"type": "constant", "value": value}


def _is_selector(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in cast("list[object]", value))


def _output_type(schema: Any) -> OutputType:
    """The type of an output by its JSON Schema."""
    name = cast("dict[str, Any]", schema).get("type") if isinstance(schema, dict) else None
    if name == "array":
        items = cast("dict[str, Any]", schema).get("items")
        return OutputType(f"array[{_output_type(items).name}]" if items else "array[any]")
    return OutputType(name if name in ("string", "number", "integer", "boolean", "object", "file") else "any")
