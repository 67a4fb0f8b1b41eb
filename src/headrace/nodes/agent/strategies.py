"""The two ways in which a model is asked to use tools: its own tool calls, or a text format (ReAct)."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from headrace.frozen import frozen
from headrace.nodes.agent import prompts
from headrace.nodes.agent.react_parser import Action, ReactParser
from headrace.nodes.agent.records import Call, Round, call_input
from headrace.nodes.agent.toolbox import Toolbox
from headrace.ports.services import FunctionTool, Message, ToolCall


@frozen
class Prompt:
    """What the model is asked: the instruction, the messages before, and the user's query with its files."""

    instruction: str
    history: Sequence[Message]
    query: Message
    keeps_images: bool = True
    """Whether images are sent in every round, and not only in the first."""

    def messages(self, instruction: str, number: int) -> list[Message]:
        """The messages before the first answer."""
        turns = [*self.history, self.query]
        if number > 1 and not self.keeps_images:
            turns = [without_images(message) for message in turns]
        return [Message("system", instruction), *turns]


def without_images(message: Message) -> Message:
    marks = ["[image]" for _ in message.files]
    return replace(message, text="\n".join([*marks, message.text]), files=()) if marks else message


class Reader(ABC):
    """Reads one answer of the model as it comes."""

    @abstractmethod
    def feed(self, text: str) -> str:
        """What a piece adds to what the user gets."""

    @abstractmethod
    def end(self, calls: Sequence[ToolCall]) -> tuple[str, list[Call]]:
        """(what the user gets besides, the calls of tools) once the answer is complete. `calls` are those that the
        model made in its own way."""

    def text(self, answer: str) -> str:
        """What is kept of a complete answer for the rounds that follow."""
        return answer


class Strategy(ABC):
    """`reasoning` is how thinking is told apart from text: kept in it (tagged) or taken out (nested).

    `separates_rounds`: a line break follows the calls of a round. `calls_in_only_round`: if one round is all there may
    be, its calls are executed, and what they answer is the text. `limit_answer`: what the user gets when calls of the
    last round were not executed.
    """

    reasoning: str = "tagged"
    separates_rounds: bool = False
    calls_in_only_round: bool = False
    limit_answer: str = ""

    def __init__(self, prompt: Prompt, toolbox: Toolbox) -> None:
        self.prompt = prompt
        self.toolbox = toolbox

    @staticmethod
    @abstractmethod
    def replay(rounds: Sequence[Round]) -> list[Message]:
        """Rounds as the messages of a conversation."""

    @abstractmethod
    def messages(self, rounds: Sequence[Round], *, has_tools: bool) -> list[Message]:
        """The messages that ask for the next answer, in which tools may be called if `has_tools`."""

    def offers(self) -> Sequence[FunctionTool]:
        return ()

    def stop_words(self) -> Sequence[str]:
        return ()

    @abstractmethod
    def reader(self, number: int) -> Reader:
        """A reader of the answer of this round."""


class FunctionCalling(Strategy):
    separates_rounds = True
    calls_in_only_round = True

    def __init__(self, prompt: Prompt, toolbox: Toolbox) -> None:
        super().__init__(prompt, toolbox)
        self._past_messages: list[Message] = []  # of the rounds so far
        self._rounds = 0

    def messages(self, rounds: Sequence[Round], *, has_tools: bool) -> list[Message]:
        self._past_messages += self.replay(rounds[self._rounds :])
        self._rounds = len(rounds)
        return [*self.prompt.messages(self.prompt.instruction, len(rounds) + 1), *self._past_messages]

    @staticmethod
    def replay(rounds: Sequence[Round]) -> list[Message]:
        messages: list[Message] = []
        for round_ in rounds:
            messages.append(Message("assistant", round_["text"], tool_calls=[*map(_call_again, round_["calls"])]))
            messages += [Message("tool", result["text"], tool_call=result["id"]) for result in round_["results"]]
        return messages

    def offers(self) -> Sequence[FunctionTool]:
        return self.toolbox.offers

    def reader(self, number: int) -> Reader:
        return _Verbatim()


def _call_again(call: Call) -> ToolCall:
    """A call as it is sent back to the model. Some servers refuse arguments that are not a JSON object."""
    call_arguments = call_input(call)
    arguments = json.dumps(call_arguments, ensure_ascii=False) if isinstance(call_arguments, dict) else "{}"
    return ToolCall(call["id"], call["name"], arguments, call.get("extra_content"))


class _Verbatim(Reader):
    """Everything the model writes is for the user."""

    def feed(self, text: str) -> str:
        return text

    def end(self, calls: Sequence[ToolCall]) -> tuple[str, list[Call]]:
        ids: set[str] = set()
        parsed_calls: list[Call] = []
        for place, call in enumerate(calls):
            id_ = call.id if call.id not in ids else f"{call.id}_{place}"
            ids.add(id_)
            parsed_calls.append({"id": id_, "name": call.name, "arguments": call.arguments})
            if call.extra_content:
                parsed_calls[-1]["extra_content"] = call.extra_content
        return "", parsed_calls


_PLACE = re.compile(r"\{(instruction|tools|names)\}")


class React(Strategy):
    """`template` has places for the instruction, the tools and their names."""

    reasoning = "nested"
    limit_answer = prompts.LIMIT_ANSWER

    def __init__(self, prompt: Prompt, toolbox: Toolbox, template: str) -> None:
        super().__init__(prompt, toolbox)
        self._template = template

    def messages(self, rounds: Sequence[Round], *, has_tools: bool) -> list[Message]:
        offers = self.toolbox.offers if has_tools else []
        tools = [{"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in offers]
        places = {
            "instruction": self.prompt.instruction,
            "tools": json.dumps(tools, ensure_ascii=False),
            "names": ", ".join(f'"{tool.name}"' for tool in offers),
        }
        # at once: the instruction may have braces of its own
        instruction = _PLACE.sub(lambda place: places[place[1]], self._template)
        messages = self.prompt.messages(instruction, len(rounds) + 1)
        if rounds:
            messages += [*self.replay(rounds), Message("user", prompts.CONTINUE)]
        return messages

    @staticmethod
    def replay(rounds: Sequence[Round]) -> list[Message]:
        return [Message("assistant", "".join(map(_scratch, rounds)))]

    def stop_words(self) -> Sequence[str]:
        return (prompts.STOP_WORD,)

    def reader(self, number: int) -> Reader:
        return _ReactReader(number, self.toolbox)


def _scratch(round_: Round) -> str:
    """A round as the model wrote it, with the answers of the tools."""
    if not round_["calls"]:
        return f"Final Answer: {round_['said']}"
    text = f"Thought: {round_['text']}\n\n"
    for call, result in zip(round_["calls"], round_["results"], strict=True):
        action = json.dumps({"action": call["name"], "action_input": call_input(call)}, ensure_ascii=False)
        text += f"Action: {action}\n\nObservation: {result['text']}\n\n"
    return text


class _ReactReader(Reader):
    def __init__(self, number: int, toolbox: Toolbox) -> None:
        self._number = number
        self._toolbox = toolbox
        self._parser = ReactParser()
        self._said = False

    def text(self, answer: str) -> str:
        return self._parser.thought

    def feed(self, text: str) -> str:
        return self._say(self._parser.feed(text))

    def end(self, calls: Sequence[ToolCall]) -> tuple[str, list[Call]]:
        rest = self._say(self._parser.end())
        action = self._parser.action
        if self._parser.has_answer:
            return rest, []
        if action is None:
            return self._parser.thought, []
        if action.is_final:
            return _text(action.input), []
        return "", [{"id": f"call_{self._number}", "name": action.name, "arguments": self._arguments(action)}]

    def _say(self, answer: str) -> str:
        """The answer without the space after its marker."""
        if not self._said:
            answer = answer.lstrip()
            self._said = bool(answer)
        return answer

    def _arguments(self, action: Action) -> str:
        """The input as JSON. A text that is not JSON is the value of the only parameter, if there is just one."""
        if not isinstance(action.input, str):
            return _text(action.input)
        try:
            if isinstance(json.loads(action.input, strict=False), dict):
                return action.input
        except (ValueError, RecursionError):
            pass
        only = self._toolbox.only_parameter(action.name)
        return json.dumps({only: action.input}, ensure_ascii=False) if only else action.input


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
