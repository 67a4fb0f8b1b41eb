"""Protocols whose messages consist of blocks (Anthropic's, Converse of Amazon Bedrock, Gemini's): what they share.

A request in such a protocol is a `BlockCall`. Its answer arrives as blocks, too: `BlockEvents` turns their events into
pieces of OpenAI's protocol, which is what `response.Answer` reads.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.adapters.models.request import encoded, instruct, state_schema, stop_words
from headrace.errors import NodeError
from headrace.ports.services import MOST_TOKENS, ChatRequest, Files, FunctionTool, Message, ToolCall
from headrace.values import File, Value, to_json

if TYPE_CHECKING:
    from headrace.adapters.models.transport import Decoder

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_TAGGED_REASONING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)

Block = dict[str, Any]


class BlockCall(ABC):
    """A call in such a protocol. `url` is where it goes, `model` the id of the model, `kinds` the types of files that
    it may have."""

    url: str
    model: str
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "document"})

    def __init__(self, endpoint: Endpoint, request: ChatRequest) -> None:
        self.endpoint = endpoint
        self.request = request
        self.parameters: Mapping[str, Any] = {
            name: to_json(value) for name, value in request.parameters.items() if value is not None and value != ""
        }
        # a stop word of white space is refused
        self.stop = [word for word in stop_words(request) if word.strip()]

    async def body(self, files: Files | None) -> Block:
        """The JSON body. NodeError if a parameter is malformed or a file no longer exists."""
        messages = self._messages()
        system = [text for message in messages if message.role == "system" and (text := message.text.strip())]
        turns: list[Block] = []
        for message in messages:
            if message.role == "system" or not (blocks := await self._blocks(message, files)):
                continue
            role = "assistant" if message.role == "assistant" else "user"
            if turns and turns[-1]["role"] == role:  # all results of a turn's calls belong in one turn
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
        if not turns and system:  # these protocols require a turn of the user
            system, turns = [], [{"role": "user", "content": [self.text(text) for text in system]}]
        if not turns:
            name = self.endpoint.provider.name
            raise NodeError(f"Nothing to send: {name} accepts no part of the prompt.", "InvokeBadRequestError")
        return self.assemble(system, turns, self._tools())

    @abstractmethod
    def assemble(self, system: list[str], turns: list[Block], tools: Sequence[FunctionTool]) -> Block:
        """The body of these parts."""

    @abstractmethod
    async def headers(self, body: bytes) -> Mapping[str, str]:
        """The headers for an encoded body."""

    @abstractmethod
    def events(self) -> BlockEvents:
        """A decoder of one response."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may contain."""
        return self.endpoint.secrets

    def simplified(self, body: Block, failure: Failure) -> bool:
        """Removes what the provider refused from the body, if the call works without it; False if not."""
        return False

    def accepts(self, kind: str, mime_type: str) -> bool:
        """Whether files of that type and MIME type are sent."""
        return mime_type in (_IMAGES if kind == "image" else (_PDF,))

    @abstractmethod
    def text(self, text: str) -> Block: ...

    @abstractmethod
    def media(self, kind: str, mime_type: str, data: str) -> Block:
        """A file, whose content is in base64."""

    @abstractmethod
    def link(self, kind: str, url: str) -> Block | None:
        """A file at a URL; None if the protocol has no links."""

    @abstractmethod
    def tool_use(self, call: ToolCall, arguments: Block) -> Block: ...

    @abstractmethod
    def tool_result(self, call_id: str, text: str) -> Block: ...

    def _messages(self) -> list[Message]:
        request = self.request
        messages = list(request.messages)
        if request.mode == "completion":
            messages = [Message("user", "\n\n".join(message.text for message in messages if message.text))]
        response_format = str(self.parameters.get("response_format", "")).lower()
        if request.schema is not None:
            state_schema(messages, cast("Mapping[str, Value]", to_json(dict(request.schema))))
        elif response_format in ("json", "json_object", "xml"):
            form = "XML" if response_format == "xml" else "JSON"
            instruct(messages, f"Answer with valid {form} and nothing else: no explanation, no code fence.")
        return messages

    async def _blocks(self, message: Message, files: Files | None) -> list[Block]:
        if message.tool_call is not None:
            return [self.tool_result(message.tool_call, message.text)]
        blocks = [block for file in message.files if (block := await self._file(file, files))]
        text = message.text.rstrip() if message.role == "assistant" else message.text
        if any(call.extra_content for call in message.tool_calls):  # the reasoning is sent as blocks
            text = _TAGGED_REASONING.sub("", text)
        texts = [self.text(text)] if text.strip() else []
        if not message.tool_calls:
            return blocks + texts
        for place, call in enumerate(message.tool_calls):
            blocks += reasoning_of(call)
            if place == 0:
                blocks += texts
            blocks.append(self.tool_use(call, _arguments(call)))
        return blocks

    async def _file(self, file: File, files: Files | None) -> Block | None:
        """A file as a block; types that the protocol does not have are left out, as in Dify."""
        if file.type not in self.kinds:
            return None
        if files is None:
            url = file.remote_url or file.url
            return self.link(file.type, url) if url else None
        mime_type, data = await encoded(file, files)
        if not self.accepts(file.type, mime_type):
            return None
        return self.media(file.type, mime_type, data)

    def _tools(self) -> Sequence[FunctionTool]:
        """The tools, or else those of earlier calls: a conversation with calls requires tools to be declared."""
        if self.request.tools:
            return self.request.tools
        names = dict.fromkeys(call.name for message in self.request.messages for call in message.tool_calls)
        return [FunctionTool(name, "No longer available.", {"type": "object", "properties": {}}) for name in names]


def reasoning_of(call: ToolCall) -> list[Block]:
    """The signed reasoning before a call, which has to be sent back with it."""
    blocks: Any = to_json((call.extra_content or {}).get("reasoning"))
    return cast("list[Block]", blocks) if isinstance(blocks, list) else []


def whole_number(name: str, value: Any, default: int) -> int:
    """A parameter that is a number of tokens. NodeError if it is not a number."""
    try:
        return int(value or default)
    except (TypeError, ValueError) as error:
        raise NodeError(f"completion parameter {name} is not a number: {value!r}", "InvokeBadRequestError") from error


def _arguments(call: ToolCall) -> Block:
    """The arguments as an object; a text that is not one is the only field of one."""
    try:
        arguments: Any = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return cast("Block", arguments) if isinstance(arguments, dict) else {"arguments": call.arguments}


class BlockEvents(ABC):
    """Turns the events of a streamed answer into pieces of OpenAI's protocol. `done`: the answer is complete."""

    def __init__(self, who: str, decoder: Decoder) -> None:
        self.done = False
        self._who = who
        self._decoder = decoder
        self._calls = 0
        self._arguments = False  # of the current call some have arrived
        self.reasoning: list[Block] = []
        """The reasoning since the last call, as blocks to send back with the next one."""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The pieces that are complete now. Failure if an event is malformed."""
        return self._translated(self._decoder.feed(chunk))

    def end(self) -> list[dict[str, Any]]:
        """The rest, once the stream has ended."""
        return self._translated(self._decoder.end())

    @abstractmethod
    def piece(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """The piece for an event; None if it has nothing of the answer."""

    def begin_call(self, call_id: str, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": self._calls, "id": call_id, "function": {"name": name}}
        if self.reasoning:
            entry["extra_content"] = {"reasoning": self.reasoning}
            self.reasoning = []
        self._calls += 1
        self._arguments = False
        return piece_of(tool_calls=[entry])

    def arguments(self, text: str) -> dict[str, Any]:
        self._arguments = self._arguments or bool(text)
        return piece_of(tool_calls=[{"index": self._calls - 1, "function": {"arguments": text}}])

    def end_call(self) -> dict[str, Any] | None:
        """A call without arguments has an empty object."""
        return None if self._arguments else self.arguments("{}")

    def _translated(self, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        try:
            return [piece for event in events if (piece := self.piece(event)) is not None]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise Failure(f"{self._who} sent an event that is not part of its protocol.", CONNECTION) from error


def piece_of(**delta: Any) -> dict[str, Any]:
    """A piece of an answer in OpenAI's protocol."""
    return {"choices": [{"index": 0, "delta": delta}]}


def end_of(reason: str | None) -> dict[str, Any]:
    """The last piece. The finish reason is the provider's own, as in Dify."""
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def tokens_of(usage: Any, *names: str) -> int | None:
    """The sum of these counts; None if none of them is valid."""
    if not isinstance(usage, dict):
        return None
    usage = cast("dict[str, Any]", usage)
    counts = [min(count, MOST_TOKENS) for name in names if type(count := usage.get(name)) is int and count >= 0]
    return sum(counts) if counts else None


def billed_tokens(input_tokens: int, cache_writes: int, cache_reads: int) -> int:
    """Tokens of a prompt at the price of ones that are not cached: writing to Claude's cache costs a quarter more,
    reading from it a tenth. Dify counts a prompt like this."""
    return input_tokens + int(cache_writes * 1.25) + int(cache_reads * 0.1)
