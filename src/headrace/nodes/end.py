"""end: what the run puts out, under the names that the file gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from headrace import values
from headrace.kernel.graph import Piece
from headrace.node import Config, Context, Node, Result

BETWEEN = "\n"  # a stream tells each output, with this between two


class Output(Config):
    variable: str
    value_selector: list[str] = Field(default_factory=list[str])

    @field_validator("value_selector", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return [] if value is None else value


class EndConfig(Config):
    outputs: list[Output] = Field(default_factory=list[Output])

    @field_validator("outputs", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return [] if value is None else value


class End(Node[EndConfig]):
    type = "end"
    Config = EndConfig
    instant: ClassVar[bool] = True

    def response(self) -> Sequence[Piece]:
        pieces: list[Piece] = []
        for output in self.config.outputs:
            if len(output.value_selector) > 1:
                pieces += [BETWEEN] if pieces else []
                pieces.append(tuple(output.value_selector))
        return pieces

    async def run(self, ctx: Context) -> Result:
        # a node's report of its inputs shows an aggregator's groups with where their values are from; outputs do not
        inputs = {
            output.variable: values.held(ctx.variables.raw(output.value_selector)[1]) for output in self.config.outputs
        }
        return Result({name: values.unwrap(value) for name, value in inputs.items()}, inputs)
