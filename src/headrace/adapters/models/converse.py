"""Converse, the protocol of Amazon Bedrock's models
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html).

The answer is a stream in AWS's binary event encoding, which botocore decodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from json import JSONDecodeError
from typing import Any, cast
from urllib.parse import quote

from headrace.adapters.models import aws
from headrace.adapters.models.anthropic import claude_fields
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
from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.adapters.models.request import schema_of, token_limit
from headrace.content.python_json import load_json
from headrace.ports.services import ChatRequest, FunctionTool, ToolCall
from headrace.values import to_json

_MAX_TOKENS = 4096
_CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
_STATUS = {
    "validationException": "400",
    "throttlingException": "429",
    "serviceUnavailableException": "503",
    "internalServerException": "500",
    "modelStreamErrorException": "500",
}


class ConverseCall(BlockCall):
    """A call of Converse."""

    def __init__(self, endpoint: Endpoint, request: ChatRequest, environ: Mapping[str, str]) -> None:
        super().__init__(endpoint, request)
        self._environ = environ
        self.model = aws.model_id(request.model, self.parameters, aws.region_of(environ))
        self.url = f"{endpoint.base_url}/model/{quote(self.model, safe='')}/converse-stream"

    async def headers(self, body: bytes) -> Mapping[str, str]:
        return self.endpoint.headers or await aws.signed(self._environ, self.url, body)

    def events(self) -> ConverseEvents:
        return ConverseEvents(self.endpoint.provider.name, claude="anthropic.claude" in self.model)

    def assemble(self, system: list[str], turns: list[Block], tools: Sequence[FunctionTool]) -> Block:
        parameters = self.parameters
        body: Block = {"messages": turns, "system": [self.text(text) for text in system]}
        sampling, fields = self._fields()
        body["inferenceConfig"] = sampling | ({"stopSequences": self.stop} if self.stop else {})
        if beta := parameters.get("anthropic_beta"):
            fields["anthropic_beta"] = [name.strip() for name in str(beta).split(",")]
        if fields:
            body["additionalModelRequestFields"] = fields
        if tools:
            specs = [
                {
                    "name": tool.name,
                    "description": tool.description or tool.name,
                    "inputSchema": {"json": to_json(dict(tool.parameters))},
                }
                for tool in tools
            ]
            body["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs]}
        if parameters.get("json_schema"):
            schema = schema_of(parameters["json_schema"])
            text = json.dumps(schema.get("schema", schema), ensure_ascii=False)
            structure = {"jsonSchema": {"schema": text, "name": str(schema.get("name") or "response")}}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        if parameters.get("system_cache_checkpoint") and body["system"] and self._caches:
            body["system"].append(_CACHE_POINT)
        if parameters.get("latest_two_messages_cache_checkpoint") and self._caches:
            for turn in [turn for turn in turns if turn["role"] == "user"][-2:]:
                turn["content"].append(_CACHE_POINT)
        return body

    @property
    def _caches(self) -> bool:
        return "anthropic.claude" in self.model or "amazon.nova" in self.model

    def _fields(self) -> tuple[Block, Block]:
        """(`inferenceConfig`, the model's own fields)."""
        parameters = self.parameters
        limit = token_limit(parameters) or parameters.get("max_new_tokens")
        config: Block = {}
        if limit is not None:
            config["maxTokens"] = whole_number("max_tokens", limit, _MAX_TOKENS)
        if "anthropic.claude" in self.model:
            fields = claude_fields(self.model, parameters, config.get("maxTokens", _MAX_TOKENS))
        else:
            fields = {name: parameters[name] for name in ("temperature", "top_p", "top_k") if name in parameters}
        for name, own in (("temperature", "temperature"), ("top_p", "topP")):
            if name in fields:
                config[own] = fields.pop(name)
        if not fields.get("top_k", True):  # Dify's default of 0 means: not set
            del fields["top_k"]
        return config, fields

    def text(self, text: str) -> Block:
        return {"text": text}

    def media(self, kind: str, mime_type: str, data: str) -> Block:
        block: Block = {"format": mime_type.rpartition("/")[2], "source": {"bytes": data}}
        return {kind: block | ({"name": "document"} if kind == "document" else {})}

    def link(self, kind: str, url: str) -> None:
        return None

    def tool_use(self, call: ToolCall, arguments: Block) -> Block:
        return {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments}}

    def tool_result(self, call_id: str, text: str) -> Block:
        return {"toolResult": {"toolUseId": call_id, "content": [{"text": text or " "}]}}


class ConverseEvents(BlockEvents):
    """The events of an answer; the last one has its usage."""

    def __init__(self, who: str, *, claude: bool) -> None:
        super().__init__(who, _Frames(who))
        self._claude = claude
        self._in_call = False

    def piece(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        kind, data = event["kind"], event["data"]
        match kind:
            case "contentBlockStart":
                call = data["start"].get("toolUse")
                self._in_call = bool(call)
                return self.begin_call(call["toolUseId"], call["name"]) if call else None
            case "contentBlockDelta":
                return self._delta(data["delta"])
            case "contentBlockStop":
                ended, self._in_call = self._in_call, False
                return self.end_call() if ended else None
            case "messageStop":
                return end_of(data["stopReason"])
            case "metadata":
                self.done = True
                return {"usage": self._usage(data.get("usage"))}
            case _ if event["exception"]:
                return {"error": {"code": _STATUS.get(kind, "500"), "message": data.get("message") or kind}}
            case _:  # the start of a message, and events of the future
                return None

    def _delta(self, delta: Mapping[str, Any]) -> dict[str, Any] | None:
        if "text" in delta:
            return piece_of(content=delta["text"])
        if "toolUse" in delta:
            return self.arguments(delta["toolUse"]["input"])
        if "reasoningContent" in delta:
            return self._reason(delta["reasoningContent"])
        return None

    def _reason(self, delta: Mapping[str, Any]) -> dict[str, Any] | None:
        if "redactedContent" in delta:
            self.reasoning.append({"reasoningContent": {"redactedContent": delta["redactedContent"]}})
            return None
        block = self.reasoning[-1]["reasoningContent"].get("reasoningText") if self.reasoning else None
        if block is None or ("text" in delta and "signature" in block):
            block = {"text": ""}
            self.reasoning.append({"reasoningContent": {"reasoningText": block}})
        if "signature" in delta:
            block["signature"] = block.get("signature", "") + delta["signature"]
            return None
        block["text"] += delta["text"]
        return piece_of(reasoning_content=delta["text"])

    def _usage(self, usage: Any) -> dict[str, int | None]:
        input_tokens, completion = tokens_of(usage, "inputTokens"), tokens_of(usage, "outputTokens")
        cache_writes, cache_reads = (
            tokens_of(usage, "cacheWriteInputTokens") or 0,
            tokens_of(usage, "cacheReadInputTokens") or 0,
        )
        if input_tokens is not None:
            input_tokens = (
                billed_tokens(input_tokens, cache_writes, cache_reads)
                if self._claude
                else input_tokens + cache_writes + cache_reads
            )
        return {"prompt_tokens": input_tokens, "completion_tokens": completion}


class _Frames:
    """Decodes AWS's event stream: frames with headers, a JSON payload, and checksums."""

    def __init__(self, who: str) -> None:
        self.done = False
        self._who = who
        self._eventstream = cast("Any", import_module("botocore.eventstream"))
        self._buffer = self._eventstream.EventStreamBuffer()

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        self._buffer.add_data(chunk)
        return list(self._events())

    def end(self) -> list[dict[str, Any]]:
        return []

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            for frame in self._buffer:
                headers: Mapping[str, str] = frame.headers
                exception = headers.get(":message-type") in ("exception", "error")
                kind = headers.get(":exception-type") or headers.get(":event-type") or headers.get(":error-code", "")
                data: Any = load_json(frame.payload, mended=False) if frame.payload else {}
                if exception and ":error-message" in headers:
                    data = {"message": headers[":error-message"]}
                yield {"kind": kind, "exception": exception, "data": data}
        except (self._eventstream.ParserError, JSONDecodeError) as error:
            raise Failure(f"{self._who} sent a malformed event stream: {error}", CONNECTION) from error
