"""template-transform: renders a Jinja2 template with some variables."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.errors import NodeError
from headrace.node import Config, Context, Node, OutputType, Result
from headrace.nodes.code import Input
from headrace.values import to_json


class TemplateTransformConfig(Config):
    variables: tuple[Input, ...] = ()
    template: str


class TemplateTransform(Node[TemplateTransformConfig]):
    """Fails with CodeExecutionError (the template), or TemplateTransformNodeError (the text is too long)."""

    type = "template-transform"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"output": OutputType("string")}

    async def run(self, ctx: Context) -> Result:
        inputs = {field.variable: to_json(ctx.variables.get(field.value_selector)) for field in self.config.variables}
        try:
            text = await ctx.resources.sandbox.render(self.config.template, inputs, ctx.limits.code_seconds, ctx.app)
        except NodeError as error:
            raise NodeError(str(error), error.kind, inputs=inputs) from None
        most = ctx.limits.template_max_output
        if len(text) > most:
            raise NodeError(f"Output length exceeds {most} characters", "TemplateTransformNodeError", inputs=inputs)
        return Result({"output": text}, inputs)
