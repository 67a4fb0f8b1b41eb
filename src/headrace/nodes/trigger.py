"""What triggers have in common: nodes at which a run begins that an event starts, instead of a caller."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, Result
from headrace.nodes.start import system_outputs

C = TypeVar("C", bound=Config)


class Trigger(Node[C]):
    """A trigger outputs what its run was started with."""

    kind: ClassVar[str]
    """Dify's name for what starts the runs."""
    traits: ClassVar[Traits] = Traits(starts_run=True, triggers_run=True)
    instant: ClassVar[bool] = True

    async def run(self, ctx: Context) -> Result:
        values = {**ctx.inputs, **system_outputs(ctx)}
        return Result(values, values)
