"""Anthropic's Messages protocol (https://platform.claude.com/docs/en/api/messages)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.adapters.models.blocks import (
    Block,
    BlockCall,
    BlockEvents,
    billed_tokens,
    end_of,
    piece_of,
    tokens_of,
    whole_number,
)
from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.request import schema_of, token_limit
from headrace.adapters.models.sse import Events
from headrace.ports.services import ChatRequest, FunctionTool, ToolCall
from headrace.values import to_json

_MAX_TOKENS = 4096  # the protocol requires a limit; this is the default of Dify's plugin
_LEAST_BUDGET = 1024  # tokens; less thinking is refused
# Models that decide themselves how much to think, and refuse a budget, temperature, top_p and top_k
_ADAPTIVE = re.compile(r"claude-(opus-4-[78]|[a-z]+-[5-9])(\b|-)")
_THINKS_BY_DEFAULT = re.compile(r"claude-(opus|sonnet)-[5-9](\b|-)")
_SAMPLING = ("temperature", "top_p", "top_k")
_CACHE = {"type": "ephemeral"}


class AnthropicCall(BlockCall):
    """A call of the Messages protocol."""

    def __init__(self, endpoint: Endpoint, request: ChatRequest) -> None:
        super().__init__(endpoint, request)
        self.model = request.model
        self.url = f"{endpoint.base_url.removesuffix('/v1')}/v1/messages"

    async def headers(self, body: bytes) -> Mapping[str, str]:
        if self.parameters.get("context_1m") is True and not _ADAPTIVE.search(self.request.model):
            return {**self.endpoint.headers, "anthropic-beta": "context-1m-2025-08-07"}
        return self.endpoint.headers

    def events(self) -> AnthropicEvents:
        return AnthropicEvents(self.endpoint.provider.name)

    def assemble(self, system: list[str], turns: list[Block], tools: Sequence[FunctionTool]) -> Block:
        request, parameters = self.request, self.parameters
        limit = whole_number("max_tokens", token_limit(parameters), _MAX_TOKENS)
        body: Block = {"model": request.model, "stream": True, "max_tokens": limit, "messages": turns}
        body |= claude_fields(request.model, parameters, limit)
        if system:
            body["system"] = self._system("\n".join(system))
        if self.stop:
            body["stop_sequences"] = self.stop
        if request.user:
            body["metadata"] = {"user_id": request.user}
        if tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": to_json(dict(tool.parameters))}
                for tool in tools
            ]
            if parameters.get("prompt_caching_tool_definitions"):
                body["tools"][-1]["cache_control"] = _CACHE
            if not request.tools:
                body["tool_choice"] = {"type": "none"}
        output: Block = {}
        if effort := parameters.get("effort"):
            # Claude Opus 5 refuses more effort than `high` without thinking
            capped = effort in ("xhigh", "max") and body.get("thinking", {}).get("type") == "disabled"
            output["effort"] = "high" if capped else effort
        if parameters.get("json_schema"):
            schema = schema_of(parameters["json_schema"])
            output["format"] = {"type": "json_schema", "schema": schema.get("schema", schema)}
        if output:
            body["output_config"] = output
        return body

    def _system(self, text: str) -> str | list[Block]:
        """The system prompt. Where the caching of prompts is enabled, the parts in <cache> tags are cached."""
        if not self.parameters.get("prompt_caching_system_message") or "<cache>" not in text:
            return text
        parts = re.split(r"<cache>(.*?)</cache>", text, flags=re.DOTALL)
        return [
            {"type": "text", "text": part} | ({"cache_control": _CACHE} if place % 2 else {})
            for place, part in enumerate(parts)
            if part.strip()
        ]

    def text(self, text: str) -> Block:
        return {"type": "text", "text": text}

    def media(self, kind: str, mime_type: str, data: str) -> Block:
        return {"type": kind, "source": {"type": "base64", "media_type": mime_type, "data": data}}

    def link(self, kind: str, url: str) -> Block:
        return {"type": kind, "source": {"type": "url", "url": url}}

    def tool_use(self, call: ToolCall, arguments: Block) -> Block:
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}

    def tool_result(self, call_id: str, text: str) -> Block:
        return {"type": "tool_result", "tool_use_id": call_id} | ({"content": text} if text.strip() else {})


def claude_fields(model: str, parameters: Mapping[str, Any], limit: int) -> Block:
    """`thinking` and the parameters of sampling, as the model accepts them."""
    # a switch, or in older files of Bedrock a word
    setting = parameters.get("thinking", parameters.get("reasoning_type"))
    thinking = {"enabled": True, "disabled": False}.get(setting) if isinstance(setting, str) else setting
    if _ADAPTIVE.search(model):
        if thinking is True:
            display = parameters.get("thinking_display")
            return {"thinking": {"type": "adaptive"} | ({"display": display} if display else {})}
        if thinking is False and _THINKS_BY_DEFAULT.search(model):
            return {"thinking": {"type": "disabled"}}
        return {}
    if thinking is True:
        budget = parameters.get("thinking_budget", parameters.get("reasoning_budget"))
        budget = whole_number("thinking_budget", budget, _LEAST_BUDGET)
        return {"thinking": {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET, min(budget, limit - 1))}}
    return {name: parameters[name] for name in _SAMPLING if name in parameters}


class AnthropicEvents(BlockEvents):
    """The events of a message. Its usage is in the first event and, completed, in the last."""

    def __init__(self, who: str) -> None:
        super().__init__(who, Events())
        self._usage: dict[str, Any] = {}
        self._kind = ""

    def piece(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        match event.get("type"):
            case "message_start":
                self._count(event["message"].get("usage"))
                return None
            case "content_block_start":
                return self._begin(event["content_block"])
            case "content_block_delta":
                return self._delta(event["delta"])
            case "content_block_stop":
                return self.end_call() if self._kind == "tool_use" else None
            case "message_delta":
                self._count(event.get("usage"))
                return end_of(event["delta"].get("stop_reason")) | {"usage": self._reported()}
            case "message_stop":
                self.done = True
                return None
            case _ if event.get("error"):  # also one of another protocol, of a gateway in between
                return dict(event)
            case _:  # pings, and events of the future
                return None

    def _begin(self, block: Mapping[str, Any]) -> dict[str, Any] | None:
        self._kind = block["type"]
        match self._kind:
            case "tool_use":
                return self.begin_call(block["id"], block["name"])
            case "thinking":
                self.reasoning.append({"type": "thinking", "thinking": "", "signature": ""})
            case "redacted_thinking":
                self.reasoning.append({"type": "redacted_thinking", "data": block["data"]})
            case _ if text := block.get("text"):
                return piece_of(content=text)
            case _:
                pass
        return None

    def _delta(self, delta: Mapping[str, Any]) -> dict[str, Any] | None:
        match delta["type"]:
            case "text_delta":
                return piece_of(content=delta["text"])
            case "input_json_delta" if self._kind == "tool_use":
                return self.arguments(delta["partial_json"])
            case "thinking_delta":
                self.reasoning[-1]["thinking"] += delta["thinking"]
                return piece_of(reasoning_content=delta["thinking"])
            case "signature_delta":
                self.reasoning[-1]["signature"] += delta["signature"]
                return None
            case _:
                return None

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage |= cast("dict[str, Any]", usage)

    def _reported(self) -> dict[str, int | None]:
        usage = self._usage
        input_tokens, completion = tokens_of(usage, "input_tokens"), tokens_of(usage, "output_tokens")
        cache_writes = tokens_of(usage, "cache_creation_input_tokens") or 0
        read = tokens_of(usage, "cache_read_input_tokens") or 0
        prompt = None if input_tokens is None else billed_tokens(input_tokens, cache_writes, read)
        return {"prompt_tokens": prompt, "completion_tokens": completion}
