"""iteration: runs the nodes inside once per item of a list; `output` is the list of the results.

Rounds run one after the other or in parallel; the results have the order of the items in both cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, field_validator

from headrace.errors import NodeError
from headrace.kernel.containers import ContainerResult, ContainerRun
from headrace.kernel.graph import NodeId, Traits
from headrace.kernel.variables import Variables
from headrace.node import SELECTOR, Config, ContainerNode, Context, Node, OutputType, Result, null_means_default
from headrace.values import Value, kind

ITEMS = "iterator_selector"  # Dify's name for the list among the inputs
ERROR = "IterationNodeError"


class IterationConfig(Config):
    iterator_selector: Annotated[list[str], SELECTOR]
    output_selector: Annotated[list[str], SELECTOR] = Field(default_factory=list[str])
    is_parallel: bool = False
    parallel_nums: int = Field(default=10, ge=1)
    error_handle_mode: Literal["terminated", "continue-on-error", "remove-abnormal-output"] = "terminated"
    flatten_output: bool = True

    _null = null_means_default("output_selector", "is_parallel", "parallel_nums", "error_handle_mode", "flatten_output")

    @field_validator("error_handle_mode", mode="before")
    @classmethod
    def _old_name(cls, value: Any) -> Any:
        return {"continue_on_error": "continue-on-error", "remove_abnormal_output": "remove-abnormal-output"}.get(
            value, value
        )


class Iteration(ContainerNode[IterationConfig]):
    type = "iteration"
    notes: ClassVar[str] = "sequential and parallel, the three error modes, nested"

    @property
    def max_parallel(self) -> int:
        return self.config.parallel_nums if self.config.is_parallel else 1

    @property
    def continue_on_error(self) -> bool:
        return self.config.error_handle_mode != "terminated"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"output": OutputType("array[any]")}

    def prepare(self, node: NodeId, variables: Variables) -> Mapping[str, Value]:
        selector = self.config.iterator_selector
        exists, items = variables.find(selector)
        if not exists:
            raise NodeError(f"iterator variable {selector} not found", "IteratorVariableNotFoundError")
        if items is None:
            items = []
        if not isinstance(items, list):
            raise NodeError(
                f"invalid iterator value: {kind(items)}, please provide a list.", "InvalidIteratorValueError"
            )
        return {ITEMS: cast("list[Value]", items)}

    def max_rounds(self, inputs: Mapping[str, Value]) -> int:
        return len(_items(inputs))

    def shared_variables(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        return {}

    def round_variables(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]:
        return {"item": _items(inputs)[index], "index": index}

    def is_done(self, variables: Variables) -> bool:
        return False

    def round_result(self, run: ContainerRun, variables: Variables) -> Value:
        return variables.get(self.config.output_selector)

    def result(self, run: ContainerRun) -> ContainerResult:
        outputs: list[Value] = []
        for index in range(run.rounds_started):
            if index in run.results:
                outputs.append(run.results[index])
            elif self.config.error_handle_mode == "continue-on-error":
                outputs.append(None)
        return ContainerResult({"output": self._flat(outputs)}, {"steps": run.max_rounds})

    def failure_message(self, index: int, error: str) -> str:
        """With parallel rounds, the error names the item."""
        return f"Item {index}: {error}" if self.config.is_parallel else error

    def _flat(self, outputs: list[Value]) -> list[Value]:
        """The items of all lists, if every round that succeeded returned a list."""
        lists = [output for output in outputs if output is not None]
        if not self.config.flatten_output or not lists or not all(isinstance(items, list) for items in lists):
            return outputs
        return [item for items in lists for item in cast("list[Value]", items)]


class IterationStart(Node[Config]):
    """iteration-start: the start of the nodes inside."""

    type = "iteration-start"
    instant: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(starts_body=True)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {}

    async def run(self, ctx: Context) -> Result:
        return Result({})


def _items(inputs: Mapping[str, Value]) -> Sequence[Value]:
    return cast("Sequence[Value]", inputs[ITEMS])
