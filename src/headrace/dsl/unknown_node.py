"""The stand-in for a node of an unknown type."""

from __future__ import annotations

from headrace.errors import NodeError
from headrace.node import Config, Context, Node, Result


class UnknownNode(Node[Config]):
    """Stands for a node of an unknown type: the file loads, and a run that reaches the node fails."""

    type = ""

    def __init__(self, kind: str, title: str) -> None:
        super().__init__(Config())
        self.kind = kind
        self.title = title

    async def run(self, ctx: Context) -> Result:
        raise NodeError(
            f"Node '{self.title}' ({ctx.spec.id}) is of type '{self.kind}', which Headrace does not run.",
            "UnknownNodeType",
        )
