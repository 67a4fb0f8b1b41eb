"""end: the outputs of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from headrace import values
from headrace.kernel.graph import Piece, Traits
from headrace.node import SELECTOR, Config, Context, Node, OutputType, Result, null_means_default

BETWEEN = "\n"  # between two outputs in a stream


class Output(Config):
    variable: str
    value_selector: Annotated[list[str], SELECTOR] = Field(default_factory=list[str])
    value_type: Any = None

    _null = null_means_default("value_selector")

    def output_type(self) -> OutputType:
        type_ = self.value_type if isinstance(self.value_type, str) else "any"  # missing in old files
        return OutputType(type_, sources=(tuple(self.value_selector),))


class EndConfig(Config):
    outputs: list[Output] = Field(default_factory=list[Output])

    _null = null_means_default("outputs")


class End(Node[EndConfig]):
    type = "end"
    traits: ClassVar[Traits] = Traits(response="outputs")
    instant: ClassVar[bool] = True

    def response_template(self) -> Sequence[Piece]:
        pieces: list[Piece] = []
        for output in self.config.outputs:
            if len(output.value_selector) > 1:
                pieces += [BETWEEN] if pieces else []
                pieces.append(tuple(output.value_selector))
        return pieces

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {output.variable: output.output_type() for output in self.config.outputs}

    async def run(self, ctx: Context) -> Result:
        # inputs show an aggregator's groups with the origin of their values; outputs do not
        inputs: dict[str, values.Value] = {}
        for output in self.config.outputs:
            _, value = ctx.variables.get_with_origin(output.value_selector)
            inputs[output.variable] = value.value if isinstance(value, values.Variable) else value
        return Result({name: values.unwrap(value) for name, value in inputs.items()}, inputs)
