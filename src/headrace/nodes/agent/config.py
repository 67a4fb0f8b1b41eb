"""The configuration of agents, as files have it: which tools, how they are set, who fills their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import Field, model_validator

from headrace.errors import NodeError
from headrace.node import Config, Context, Read, null_means_default, reads_in
from headrace.ports.services import ToolReference, ToolSpec
from headrace.values import Value

_INPUT_TYPES = ("constant", "mixed", "variable")


class AgentInput(Config):
    """A parameter of the strategy: a constant, a text with references (`mixed`), or a variable's selector. References
    in the texts of a constant count as well."""

    type: str = "constant"
    value: Any = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        """A value alone is a constant."""
        return value if is_input(value) else {"type": "constant", "value": value}

    def reads(self, path: tuple[str | int, ...]) -> Iterator[Read]:
        return reads_of({"type": self.type, "value": self.value}, path)

    def resolve(self, ctx: Context) -> Value:
        """Its value; None for a variable that does not exist."""
        if self.type == "variable":
            selector = cast("list[str]", self.value) if isinstance(self.value, list) else str(self.value).split(".")
            return ctx.variables.get(selector)
        return ctx.variables.render_texts(self.value)


def is_input(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    fields = cast("dict[str, Any]", value)
    return fields.get("type") in _INPUT_TYPES and "value" in fields


def reads_of(value: object, path: tuple[str | int, ...]) -> Iterator[Read]:
    """The variables that a parameter reads, wherever in its value an input stands."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if is_input(fields) and fields["type"] == "variable":
            yield from reads_in(fields["value"], (*path, "value"), selector=True)
            return
        for name, item in fields.items():
            yield from reads_of(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from reads_of(item, (*path, index))
    else:
        yield from reads_in(value, path, selector=False)


class ManualParameter(Config):
    """Who fills a parameter: the model (`auto: 1`, or a value that is null), or the person who made the app."""

    auto: int = 1
    value: Any = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return cast("object", value) if isinstance(value, dict) else {"auto": 0, "value": value}

    def resolve(self, ctx: Context) -> Value:
        """NodeError for a variable that does not exist: the model must not choose the value instead."""
        parameter = AgentInput.model_validate(self.value)
        value = parameter.resolve(ctx)
        if value is None and parameter.type == "variable":
            raise NodeError(f"Variable {parameter.value} does not exist", "AgentVariableNotFoundError")
        return value


class ToolExtra(Config):
    description: str = ""

    _null = null_means_default("description")


class AgentTool(Config):
    """A tool of an agent. `settings` are values of the tool's form; `parameters` says who fills the others;
    `extra.description` is what the model reads instead of the tool's own description."""

    enabled: bool = True
    type: str = "builtin"
    provider_name: str = ""
    provider_id: str = ""
    tool_name: str
    tool_label: str = ""
    plugin_unique_identifier: str = ""
    credential_id: str = ""
    settings: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    parameters: Mapping[str, ManualParameter] = Field(default_factory=dict[str, ManualParameter])
    extra: ToolExtra = Field(default_factory=ToolExtra)

    _null = null_means_default(
        "enabled",
        "type",
        "provider_name",
        "provider_id",
        "tool_label",
        "plugin_unique_identifier",
        "credential_id",
        "settings",
        "parameters",
        "extra",
    )

    @property
    def reference(self) -> ToolReference:
        return ToolReference.of_node(
            self.type,
            self.provider_id,
            self.provider_name,
            self.tool_name,
            self.plugin_unique_identifier,
            self.credential_id,
            AgentInput.model_validate(_unwrapped(self.settings.get("model"))).value,
        )

    def given(self, ctx: Context, spec: ToolSpec) -> dict[str, Value]:
        """The values that the model does not choose: settings of the tool's form, and parameters filled by hand."""
        values: dict[str, Value] = {}
        form = {parameter.name for parameter in spec.parameters if parameter.form == "form"}
        for name, setting in self.settings.items():
            if name not in form and not spec.open:
                continue
            values[name] = AgentInput.model_validate(_unwrapped(setting)).resolve(ctx)
        for name, parameter in self.parameters.items():
            if not parameter.auto and parameter.value is not None:
                values[name] = parameter.resolve(ctx)
        return {name: value for name, value in values.items() if value is not None}


def _unwrapped(setting: object) -> object:
    """A setting without the object around it: {value: {type, value}} in new files, {value: ...} in old ones."""
    if not isinstance(setting, dict) or is_input(cast("object", setting)):
        return cast("object", setting)
    return cast("dict[str, object]", setting).get("value")


def parse_tools(value: Value) -> list[AgentTool]:
    """The tools of an agent that are enabled. NodeError if the list is malformed."""
    if value in (None, ""):
        return []
    if not isinstance(value, list):
        raise NodeError("The tools of an agent are a list.", "AgentNodeError")
    try:
        tools = [AgentTool.model_validate(item) for item in cast("list[Any]", value)]
    except ValueError as error:
        raise NodeError(f"A tool of the agent is malformed: {error}", "AgentNodeError") from error
    return [tool for tool in tools if tool.enabled]
