"""variable-aggregator: outputs the first of several variables that exists, or the first of each group.

The outputs keep the origin of their value (`values.Variable`), through any number of aggregators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from headrace.node import SELECTOR, Config, Context, Node, OutputType, Result
from headrace.values import Value, Variable


class Group(Config):
    group_name: str
    variables: Annotated[list[list[str]], SELECTOR] = Field(default_factory=list[list[str]])


class AdvancedSettings(Config):
    group_enabled: bool = False
    groups: list[Group] = Field(default_factory=list[Group])


class VariableAggregatorConfig(Config):
    variables: Annotated[list[list[str]], SELECTOR] = Field(default_factory=list[list[str]])
    advanced_settings: AdvancedSettings | None = None


class VariableAggregator(Node[VariableAggregatorConfig]):
    type = "variable-aggregator"
    instant: ClassVar[bool] = True
    notes: ClassVar[str] = "with groups"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        settings = self.config.advanced_settings
        if settings is None or not settings.group_enabled:
            return {"output": OutputType(sources=[tuple(selector) for selector in self.config.variables])}
        return {group.group_name: OutputType("object", nullable=True) for group in settings.groups}

    async def run(self, ctx: Context) -> Result:
        outputs: dict[str, Value] = {}
        inputs: dict[str, Value] = {}
        settings = self.config.advanced_settings
        if settings is None or not settings.group_enabled:
            if value := _first(ctx, self.config.variables, inputs):
                outputs["output"] = value
        else:
            for group in settings.groups:
                if value := _first(ctx, group.variables, inputs):
                    outputs[group.group_name] = {"output": value}
        return Result(outputs, inputs)


class OldVariableAssigner(VariableAggregator):
    """The same node under its name in the first file format."""

    type = "variable-assigner"
    notes: ClassVar[str] = "the name of variable-aggregator in old files"


def _first(ctx: Context, selectors: Sequence[Sequence[str]], inputs: dict[str, Value]) -> Variable | None:
    """The first variable that exists (it may be None); it is added to the inputs."""
    for selector in selectors:
        if ctx.variables.find(selector)[0]:
            value = ctx.variables.with_origin(tuple(selector), ctx.new_id)
            inputs[".".join(selector[1:])] = value.value
            return value
    return None
