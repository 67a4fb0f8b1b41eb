"""The loop of an agent: asks the model, calls the tools that it wants, and asks again with what they answered.

Every answer and every call is a step of the node, inside a step for the round:

    round[1]            {text, said, calls, usage, final}
    round[1]/model      {text, said, calls, usage}
    round[1]/call[0]    {id, name, input, text, files, ...}

After a crash the steps that have ended are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.kernel.summary import UsageTotal
from headrace.node import Context
from headrace.nodes._model_call import ModelConfig, complete, request_of
from headrace.nodes.agent import prompts
from headrace.nodes.agent.records import Call, CallResult, ModelAnswer, Round, RoundResult, round_of
from headrace.nodes.agent.strategies import Strategy
from headrace.ports.services import Usage
from headrace.values import File, Value


@frozen
class Dialect:
    """How Dify's two kinds of agents differ.

    `answers_at_limit`: there is one more round than the limit, in which no tools are offered, and a call there is an
    error. Otherwise the strategy says what becomes of the calls in the last round. `json_text` is how the model reads
    a JSON object of a tool, `react` the prompt of the ReAct strategy, `error` the kind of the node's own errors.
    """

    answers_at_limit: bool
    json_text: str
    react: str
    error: str
    max_iterations: int


NODE = Dialect(False, prompts.TOOL_JSON, prompts.REACT_NODE, "AgentNodeError", 500)
CHAT = Dialect(True, "{json}", prompts.REACT_CHAT, "AgentMaxIterationError", 99)


@frozen
class Outcome:
    """What an agent did. `usage` is the sum of what its models and tools used (`Usage.wire`)."""

    rounds: Sequence[Round]

    @property
    def text(self) -> str:
        return "".join(round_["said"] for round_ in self.rounds)

    @property
    def results(self) -> list[CallResult]:
        return [result for round_ in self.rounds for result in round_["results"]]

    @property
    def files(self) -> list[File]:
        return [file for result in self.results for file in result["files"]]

    @property
    def sources(self) -> list[Mapping[str, Value]]:
        return [source for result in self.results for source in result["sources"]]

    @property
    def usage(self) -> dict[str, Value]:
        total = UsageTotal()
        for usage in (*(result["usage"] for result in self.results), *(round_["usage"] for round_ in self.rounds)):
            total.add(usage or {})
        return {**Usage().wire(), **total.wire()}


class Loop:
    """Runs one agent once. The user's text is streamed as the output `text`."""

    def __init__(self, ctx: Context, model: ModelConfig, strategy: Strategy, dialect: Dialect, limit: int) -> None:
        self._ctx = ctx
        self._model = model
        self._strategy = strategy
        self._dialect = dialect
        self._limit = max(1, min(limit, dialect.max_iterations)) + dialect.answers_at_limit

    async def run(self) -> Outcome:
        rounds: list[Round] = []
        while not rounds or not rounds[-1]["final"]:
            number = len(rounds) + 1
            step = await self._ctx.step(
                f"round[{number}]", lambda number=number: self._round(number, rounds), label=f"ROUND {number}"
            )
            rounds.append(round_of(step))
        return Outcome(rounds)

    async def _round(self, number: int, rounds: Sequence[Round]) -> RoundResult:
        step = await self._ctx.step(
            f"round[{number}]/model",
            lambda: self._ask(number, rounds),
            label=f"{self._model.name} Thought",
            metadata={"provider": self._model.provider},
        )
        answer = cast("ModelAnswer", step.result)
        calls, last = answer["calls"], number >= self._limit
        if calls and last and self._dialect.answers_at_limit:
            message = f"The agent has not come to an answer in {self._limit - 1} iterations."
            raise NodeError(message, self._dialect.error)
        refuse = last and not self._calls_at_limit
        results = [await self._call(number, place, call, refuse=refuse) for place, call in enumerate(calls)]
        rest = self._after(answer, results, last=last) if calls else ""
        if rest:
            self._ctx.emit("text", rest)
        return {
            "text": answer["text"],
            "said": answer["said"] + rest,
            "calls": calls,
            "usage": answer["usage"],
            "final": last or not calls,
        }

    async def _ask(self, number: int, rounds: Sequence[Round]) -> ModelAnswer:
        last = number >= self._limit
        strategy = self._strategy
        has_tools = not (last and self._dialect.answers_at_limit)
        messages = strategy.messages(rounds, has_tools=has_tools)
        request = request_of(self._ctx, self._model, messages, tools=strategy.offers() if has_tools else ())
        request = replace(request, stop=[*request.stop, *strategy.stop_words()])
        reader = strategy.reader(number)
        texts: list[str] = []

        def say(text: str) -> None:
            if text:
                texts.append(text)
                self._ctx.emit("text", text)

        answer = await complete(
            self._ctx,
            request,
            on_text=lambda text: say(reader.feed(text)),
            reasoning_format=strategy.reasoning,
            kind=self._dialect.error,
        )
        rest, calls = reader.end(answer.tool_calls)
        say(rest)
        return {
            "text": reader.text(answer.text),
            "said": "".join(texts),
            "calls": calls,
            "usage": answer.usage.wire(),
        }

    async def _call(self, number: int, place: int, call: Call, *, refuse: bool) -> CallResult:
        name = f"round[{number}]/call[{place}]"
        toolbox = self._strategy.toolbox

        async def answer() -> CallResult:
            return _refused(call) if refuse else await toolbox.call(call, self._ctx, name)

        step = await self._ctx.step(
            name,
            answer,
            label=f"CALL {call['name']}",
            metadata={"provider": toolbox.provider(call["name"])},
        )
        return cast("CallResult", step.result)

    @property
    def _calls_at_limit(self) -> bool:
        return self._strategy.calls_in_only_round and self._limit == 1

    def _after(self, answer: ModelAnswer, results: Sequence[CallResult], *, last: bool) -> str:
        """What the user gets after the calls of a round."""
        separated = answer["said"] or not self._dialect.answers_at_limit
        text = "\n" if separated and self._strategy.separates_rounds else ""
        if not last:
            return text
        if self._calls_at_limit:
            return text + "".join(result["text"] for result in results)
        return text + self._strategy.limit_answer.format(limit=self._limit)


def _refused(call: Call) -> CallResult:
    return {
        "id": call["id"],
        "name": call["name"],
        "input": call["arguments"],
        "text": prompts.LIMIT_REACHED.format(name=call["name"]),
        "failed": True,
        "files": [],
        "sources": [],
        "usage": None,
    }
