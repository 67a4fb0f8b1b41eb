"""if-else: takes the branch of the first case whose conditions hold, else the branch `false`.

Dify's editor writes `cases`; up to version 0.1.3 of the file format there was one group of `conditions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headrace.errors import NodeError
from headrace.kernel.conditions import Condition, SubCondition, decide
from headrace.node import SELECTOR, Config, Context, Node, OutputType, Result
from headrace.values import Value

OTHERWISE = "false"

Operator = Literal[
    "contains",
    "not contains",
    "start with",
    "end with",
    "is",
    "is not",
    "empty",
    "not empty",
    "in",
    "not in",
    "all of",
    "=",
    "≠",
    ">",
    "<",
    "≥",
    "≤",
    "null",
    "not null",
    "exists",
    "not exists",
]
Junction = Literal["and", "or"]


class SubConditionConfig(Config):
    key: str
    comparison_operator: Operator
    value: str | list[str] | bool | None = None


class SubVariableConfig(Config):
    logical_operator: Junction
    conditions: list[SubConditionConfig] = Field(default_factory=list[SubConditionConfig])


class ConditionConfig(Config):
    variable_selector: Annotated[list[str], SELECTOR]
    comparison_operator: Operator
    value: str | list[str] | bool | list[bool] | None = None
    sub_variable_condition: SubVariableConfig | None = None

    def condition(self) -> Condition:
        sub = self.sub_variable_condition
        parts = (
            [SubCondition(part.key, part.comparison_operator, part.value) for part in sub.conditions] if sub else None
        )
        every = sub is None or sub.logical_operator == "and"
        return Condition(tuple(self.variable_selector), self.comparison_operator, self.value, parts, every)


class CaseConfig(Config):
    case_id: str
    logical_operator: Junction = "and"
    conditions: list[ConditionConfig]


class IfElseConfig(Config):
    cases: list[CaseConfig] | None = None
    logical_operator: Junction | None = "and"
    conditions: list[ConditionConfig] | None = None


class IfElse(Node[IfElseConfig]):
    type = "if-else"
    instant: ClassVar[bool] = True
    branching: ClassVar[bool] = True
    notes: ClassVar[str] = "both forms of the file format"

    def __init__(self, config: IfElseConfig) -> None:
        super().__init__(config)
        self._named = config.cases is not None
        cases = config.cases
        if cases is None:
            junction = config.logical_operator or "and"
            cases = [CaseConfig(case_id="true", logical_operator=junction, conditions=config.conditions or [])]
        # each case with its trace and its conditions, which are the same for every run
        self._cases = [
            (case, self._trace(case), [condition.condition() for condition in case.conditions]) for case in cases
        ]

    def branches(self) -> Iterable[str]:
        return [*(case.case_id for case, _, _ in self._cases), OTHERWISE]

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"result": OutputType("boolean"), "selected_case_id": OutputType("string")}

    async def run(self, ctx: Context) -> Result:
        handle, holds = OTHERWISE, False
        values: Sequence[Value] = []
        results: list[Value] = []
        for case, trace, conditions in self._cases:
            try:
                verdict = decide(conditions, ctx.variables, every=case.logical_operator == "and")
            except (ValueError, TypeError) as error:
                raise NodeError(
                    str(error),
                    type(error).__name__,
                    inputs={"conditions": values},
                    process={"condition_results": results},
                ) from error
            values = verdict.compared
            results.append({"group": trace, "results": list(verdict.results), "final_result": verdict.holds})
            if verdict.holds:
                handle, holds = case.case_id, True  # a case may have the id `false`, too
                break
        return Result(
            {"result": holds, "selected_case_id": handle},
            {"conditions": list(values)},
            {"condition_results": results},
            handle=handle or OTHERWISE,
        )

    def _trace(self, case: CaseConfig) -> Value:
        return case.model_dump() if self._named else "default"
