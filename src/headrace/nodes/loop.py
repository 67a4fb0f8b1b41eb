"""loop: repeats the nodes inside until a condition holds, a loop-end node is reached, or all rounds are done.

Loop variables last for the whole loop; assigner nodes inside can change them. `loop_round` is the number of rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, field_validator

from headrace.content.python_json import load_json
from headrace.errors import NodeError
from headrace.kernel.conditions import decide
from headrace.kernel.containers import ContainerResult, ContainerRun
from headrace.kernel.graph import NodeId, Traits
from headrace.kernel.variables import Variables
from headrace.node import Config, ContainerNode, Context, Node, OutputType, Read, Result, null_means_default, reads_in
from headrace.nodes.if_else import ConditionConfig, Junction
from headrace.nodes.iteration import IterationStart
from headrace.values import Value, is_of_type

COUNT = "loop_count"
ERROR = "LoopNodeError"
_SCALARS = ("string", "number", "integer", "float", "boolean", "object")
_TYPES = frozenset({*_SCALARS, *(f"array[{scalar}]" for scalar in (*_SCALARS, "any"))})


class LoopVariable(Config):
    label: str
    var_type: str = "string"
    value_type: Literal["variable", "constant"] = "constant"
    value: Any = None

    def start(self, variables: Variables) -> Value:
        """The initial value. NodeError if it is missing, or not of the declared type."""
        if self.value_type == "variable":
            selector = cast("list[str]", self.value) if isinstance(self.value, list) else []
            exists, value = variables.find(selector)
            if not exists:
                raise self._invalid()
            return value
        return self._constant()

    def _constant(self) -> Value:
        value: Value = self.value
        listed = self.var_type.startswith("array")
        if listed and not value:
            return []
        type_ = self.var_type if self.var_type in _TYPES else "array[any]" if listed else "any"
        if isinstance(value, str) and type_ not in ("string", "any"):
            try:
                value = load_json(value)
            except (ValueError, RecursionError):
                raise self._invalid() from None
        if not is_of_type(value, type_):
            raise self._invalid()
        return value

    def _invalid(self) -> NodeError:
        return NodeError(f"Invalid value for loop variable {self.label}", ERROR)


class LoopConfig(Config):
    loop_count: int = Field(ge=1)
    break_conditions: list[ConditionConfig] = Field(default_factory=list[ConditionConfig])
    logical_operator: Junction = "and"
    loop_variables: list[LoopVariable] = Field(default_factory=list[LoopVariable])

    _null = null_means_default("break_conditions", "logical_operator", "loop_variables")

    @field_validator("loop_count", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class Loop(ContainerNode[LoopConfig]):
    type = "loop"
    traits: ClassVar[Traits] = Traits(loop=True)
    notes: ClassVar[str] = "break conditions, loop variables, nested"

    def __init__(self, config: LoopConfig) -> None:
        super().__init__(config)
        self._conditions = [condition.condition() for condition in config.break_conditions]

    @property
    def max_parallel(self) -> int:
        return 1

    @property
    def continue_on_error(self) -> bool:
        return False

    @property
    def shares_scopes(self) -> bool:
        return True

    def declares(self) -> Mapping[str, str]:
        variables = self.config.loop_variables
        return {variable.label: variable.var_type for variable in variables if "var_type" in variable.model_fields_set}

    def reads(self) -> Iterable[Read]:
        yield from super().reads()
        for index, variable in enumerate(self.config.loop_variables):
            path, selector = ("loop_variables", index, "value"), variable.value_type == "variable"
            yield from reads_in(variable.value, path, selector=selector)

    def outputs_schema(self) -> Mapping[str, OutputType]:
        types = {
            variable.label: OutputType(variable.var_type, nullable=True) for variable in self.config.loop_variables
        }
        return types | {"loop_round": OutputType("integer", nullable=True)}

    def prepare(self, node: NodeId, variables: Variables) -> Mapping[str, Value]:
        initial: dict[str, Value] = {}
        scope = variables.with_scope(node, initial)  # a variable may start with the value of an earlier one
        for variable in self.config.loop_variables:
            initial[variable.label] = variable.start(scope)
        return {COUNT: self.config.loop_count} | initial

    def max_rounds(self, inputs: Mapping[str, Value]) -> int:
        return self.config.loop_count  # not from the inputs: a variable may have that name

    def shared_variables(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        return {variable.label: inputs[variable.label] for variable in self.config.loop_variables}

    def round_variables(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]:
        return {}

    def is_done(self, variables: Variables) -> bool:
        """A condition that cannot be evaluated yet does not hold."""
        if not self._conditions:
            return False
        try:
            return decide(self._conditions, variables, every=self.config.logical_operator == "and").holds
        except (ValueError, TypeError):
            return False

    def round_result(self, run: ContainerRun, variables: Variables) -> dict[str, Value]:
        """The loop variables at the end of the round."""
        scope = run.shared_variables()
        return {variable.label: scope.get(variable.label) for variable in self.config.loop_variables}

    def result(self, run: ContainerRun) -> ContainerResult:
        condition_held = run.is_done and not run.loop_ended
        process: dict[str, Value] = {
            "steps": run.max_rounds if run.rounds_started else 0,
            "completed_reason": "loop_break" if condition_held else "loop_completed",
            "exhausted": not run.is_done,
            "loop_variable_map": {str(index): result for index, result in run.results.items()},
        }
        if run.failure is not None:
            return ContainerResult({}, process | {"completed_reason": "error", "exhausted": False})
        outputs = (
            {**run.results[run.rounds_started - 1], "loop_round": run.rounds_started} if run.rounds_started else {}
        )
        return ContainerResult(outputs, process)

    def failure_message(self, index: int, error: str) -> str:
        return error


class LoopStart(IterationStart):
    """loop-start: the start of the nodes inside."""

    type = "loop-start"


class LoopEnd(Node[Config]):
    """loop-end: ends the loop after this round."""

    type = "loop-end"
    traits: ClassVar[Traits] = Traits(ends_loop=True)
    instant: ClassVar[bool] = True

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {}

    async def run(self, ctx: Context) -> Result:
        return Result({})
