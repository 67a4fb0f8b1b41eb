"""Gemini's own protocol, generateContent (https://ai.google.dev/api/generate-content), which Vertex AI has, too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast
from urllib.parse import quote

from headrace.adapters.models.blocks import Block, BlockCall, BlockEvents, tokens_of, whole_number
from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.failures import Failure
from headrace.adapters.models.request import schema_of, stop_words, token_limit
from headrace.adapters.models.sse import Events
from headrace.ports.services import ChatRequest, FunctionTool, ToolCall
from headrace.values import to_json

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_REFUSES_SAMPLING = re.compile(r"gemini-3\.(5-flash-lite|[6-9])")  # and a budget for thinking
_THINKS_BY_BUDGET = re.compile(r"gemini-[12]\b")  # later models take a level
_LEVELS = frozenset({"MINIMAL", "LOW", "MEDIUM", "HIGH"})  # of thinking, and of the resolution of media
_TOOLS = {  # that Google executes
    "grounding": "googleSearch",
    "grounding_search": "googleSearch",
    "url_context": "urlContext",
    "code_execution": "codeExecution",
}
# What Google documents for a call that has no signature, such as one of another model; it is in base64
_NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
_BLOCKED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "NO_IMAGE",
    }
)
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "OTHER", "IMAGE_OTHER"})


class GeminiCall(BlockCall):
    """A call of streamGenerateContent."""

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "document", "audio", "video"})

    def __init__(self, endpoint: Endpoint, request: ChatRequest) -> None:
        super().__init__(endpoint, request)
        self.model = request.model.removeprefix("models/")
        self.stop = stop_words(request)
        base = endpoint.base_url
        versioned_base = base if re.search(r"/v1(alpha|beta)\d*$", base) else f"{base}/v1beta"
        self.url = f"{versioned_base}/models/{quote(self.model, safe='')}:streamGenerateContent?alt=sse"
        self._functions: dict[str, Block] = {}  # what names the function of an earlier call, by the id of the call

    async def headers(self, body: bytes) -> Mapping[str, str]:
        return self.endpoint.headers

    def events(self) -> GeminiEvents:
        return GeminiEvents(self.endpoint.provider.name)

    def assemble(self, system: list[str], turns: list[Block], tools: Sequence[FunctionTool]) -> Block:
        body: Block = {
            "contents": [
                {"role": "model" if turn["role"] == "assistant" else "user", "parts": turn["content"]} for turn in turns
            ]
        }
        if system:
            body["systemInstruction"] = {"parts": [self.text(text) for text in system]}
        if config := self._config():
            body["generationConfig"] = config
        # those of earlier calls need no declaration
        if self.request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in tools]}]
        elif tools_of_google := dict.fromkeys(own for name, own in _TOOLS.items() if self.parameters.get(name) is True):
            body["tools"] = [{own: {}} for own in tools_of_google]
        tier = "flex" if self.parameters.get("flex_inference") is True else self.parameters.get("service_tier")
        if tier:
            body["serviceTier"] = str(tier).lower()
        return body

    def simplified(self, body: Block, failure: Failure) -> bool:
        """Not every JSON schema is accepted; a schema of a structured answer is in the prompt as well."""
        config = body.get("generationConfig", {})
        if self.request.schema is None or "schema" not in failure.message.lower():
            return False
        return failure.status == 400 and config.pop("responseJsonSchema", None) is not None

    def _config(self) -> Block:
        parameters = self.parameters
        config: Block = {own: parameters[name] for name, own in _SAMPLING.items() if name in parameters}
        if plain := _REFUSES_SAMPLING.match(self.model):
            for name in ("temperature", "topP", "topK"):
                config.pop(name, None)
        if (limit := token_limit(parameters)) is not None:
            config["maxOutputTokens"] = whole_number("max_output_tokens", limit, 1)
        if self.stop:
            config["stopSequences"] = self.stop
        config |= self._format()
        if thinking := self._thinking(budget=not plain):
            config["thinkingConfig"] = thinking
        resolution = str(parameters.get("media_resolution", "")).upper()
        if resolution in _LEVELS:
            config["mediaResolution"] = f"MEDIA_RESOLUTION_{resolution}"
        return config

    def _format(self) -> Block:
        """JSON, and its schema."""
        own = self.parameters.get("json_schema") or self.parameters.get("response_schema")
        if own:
            schema = schema_of(own)
            return {"responseMimeType": "application/json", "responseJsonSchema": schema.get("schema", schema)}
        if self.request.tools:  # models before Gemini 3 refuse both together
            return {}
        if self.request.schema is not None:
            schema = to_json(dict(self.request.schema))
            return {"responseMimeType": "application/json", "responseJsonSchema": schema}
        format_name = str(self.parameters.get("response_format", "")).lower()
        return {"responseMimeType": "application/json"} if format_name in ("json", "json_object") else {}

    def _thinking(self, *, budget: bool) -> Block:
        parameters = self.parameters
        config: Block = {"includeThoughts": True} if parameters.get("include_thoughts") is True else {}
        level = str(parameters.get("thinking_level", "")).upper()
        if level in _LEVELS and not _THINKS_BY_BUDGET.match(self.model):
            return config | {"thinkingLevel": level}
        mode, tokens = parameters.get("thinking_mode"), parameters.get("thinking_budget")
        if mode is False:
            tokens = 0
        elif tokens == 0 or (mode is True and tokens is None):
            tokens = -1  # as many as the model wants
        if tokens is not None and budget:
            config["thinkingBudget"] = whole_number("thinking_budget", tokens, 0)
        return config

    def accepts(self, kind: str, mime_type: str) -> bool:
        return mime_type == "application/pdf" or mime_type.partition("/")[0] in ("text", "image", "audio", "video")

    def text(self, text: str) -> Block:
        return {"text": text}

    def media(self, kind: str, mime_type: str, data: str) -> Block:
        return {"inlineData": {"mimeType": mime_type, "data": data}}

    def link(self, kind: str, url: str) -> None:
        return None

    def tool_use(self, call: ToolCall, arguments: Block) -> Block:
        extra: Any = to_json((call.extra_content or {}).get("google"))
        google = cast("Mapping[str, Any]", extra) if isinstance(extra, dict) else None
        function: Block = {"name": call.name}
        if google and google.get("id"):
            function["id"] = google["id"]
        self._functions[call.id] = function
        signature = _NO_SIGNATURE if google is None else google.get("thought_signature")
        return {"functionCall": function | {"args": arguments}} | ({"thoughtSignature": signature} if signature else {})

    def tool_result(self, call_id: str, text: str) -> Block:
        function = self._functions.get(call_id, {"name": call_id})
        return {"functionResponse": function | {"response": {"output": text}}}


def _declaration(tool: FunctionTool) -> Block:
    declaration: Block = {"name": tool.name, "description": tool.description}
    if tool.parameters.get("properties"):  # an object without properties is refused
        declaration["parametersJsonSchema"] = to_json(dict(tool.parameters))
    return declaration


class GeminiEvents(BlockEvents):
    """The events of an answer: each has parts of it, and the usage until then."""

    def __init__(self, who: str) -> None:
        super().__init__(who, Events())

    def piece(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        if event.get("error"):
            return dict(event)
        feedback: Mapping[str, Any] = event.get("promptFeedback") or {}
        if reason := feedback.get("blockReason"):
            return _error("content_filter", f"{self._who} blocked the prompt: {reason}.")
        candidates: Sequence[Mapping[str, Any]] = event.get("candidates") or ({},)
        candidate = candidates[0]
        reason = candidate.get("finishReason")
        if reason in _BLOCKED or reason in _BROKEN:
            message = candidate.get("finishMessage") or f"{self._who} stopped its answer: {reason}."
            return _error("content_filter" if reason in _BLOCKED else "500", message)
        content: Mapping[str, Any] = candidate.get("content") or {}
        choice: Block = {"index": 0, "delta": self._delta(content.get("parts") or ())}
        if reason != "FINISH_REASON_UNSPECIFIED":
            choice["finish_reason"] = reason
        piece: Block = {"choices": [choice]}
        if usage := event.get("usageMetadata"):
            piece["usage"] = {
                "prompt_tokens": tokens_of(usage, "promptTokenCount"),
                "completion_tokens": tokens_of(usage, "candidatesTokenCount", "thoughtsTokenCount"),
            }
        return piece

    def _delta(self, parts: Sequence[Mapping[str, Any]]) -> Block:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Block] = []
        for part in parts:
            if isinstance(text := part.get("text"), str):
                (thoughts if part.get("thought") else texts).append(text)
            if call := part.get("functionCall"):
                calls.append(self._call(call, part.get("thoughtSignature")))
            if code := part.get("executableCode"):
                texts.append(f"\n```{str(code.get('language', '')).lower()}\n{code['code']}\n```\n")
            if result := part.get("codeExecutionResult"):
                texts.append(f"\n```\n{result.get('output') or ''}\n```\n")
        return {"content": "".join(texts), "reasoning_content": "".join(thoughts)} | (
            {"tool_calls": calls} if calls else {}
        )

    def _call(self, call: Mapping[str, Any], signature: str | None) -> Block:
        """A call, which comes whole. Its signature and its id, which older models do not send, go back with it."""
        arguments: Any = call.get("args") or {}
        if not isinstance(arguments, dict):
            raise TypeError("a call's arguments are not an object")
        google = {name: value for name, value in (("id", call.get("id")), ("thought_signature", signature)) if value}
        self._calls += 1
        return {
            "index": self._calls - 1,
            "id": call.get("id"),
            "function": {"name": call["name"], "arguments": json.dumps(cast("Block", arguments), ensure_ascii=False)},
            "extra_content": {"google": google},
        }


def _error(code: str, message: str) -> Block:
    return {"error": {"code": code, "message": message}}
