"""answer: the reply of a chat app, streamed as its parts become known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from headrace import values
from headrace.kernel.graph import Piece, Traits
from headrace.kernel.variables import pieces, selectors
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.values import File, Value


class AnswerConfig(Config):
    answer: str = ""

    _null = null_means_default("answer")


class Answer(Node[AnswerConfig]):
    type = "answer"
    traits: ClassVar[Traits] = Traits(response="answer")
    instant: ClassVar[bool] = True

    def response_template(self) -> Sequence[Piece]:
        return pieces(self.config.answer)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"answer": OutputType("string"), "files": OutputType("array[file]")}

    async def run(self, ctx: Context) -> Result:
        files: list[File] = []
        for selector in selectors(self.config.answer):
            files += values.files_in({"value": ctx.variables.get(selector)})
        outputs: dict[str, Value] = {
            "answer": ctx.variables.render(self.config.answer, values.markdown),
            "files": files,
        }
        return Result(outputs)
