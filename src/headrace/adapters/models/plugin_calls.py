"""What plugins call back for that needs a model: see `plugins.backwards.Handler`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.models.plugin_messages import chat_request, sent_chunk
from headrace.adapters.models.plugins import PluginModels
from headrace.adapters.plugins.fields import items_of
from headrace.content import lenient_json
from headrace.errors import HeadraceError
from headrace.ports.services import ChatChunk, ChatRequest, Files, Models, Speech
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.plugins.backwards import Caller, Handler
    from headrace.adapters.plugins.installed import InstalledPlugin

_Request = Mapping[str, Value]
_Answers = AsyncGenerator[Mapping[str, Value]]
_LONGEST_ANSWER = 16 * 1024 * 1024  # characters


class ModelCalls:
    """Answers calls of models. `models` and `speech` are those of every provider; embeddings, reranking and moderation
    are those of plugins only. `summary_model` is PROVIDER/MODEL."""

    def __init__(self, models: Models, speech: Speech, plugins: PluginModels, files: Files, summary_model: str) -> None:
        self._models = models
        self._speech = speech
        self._plugins = plugins
        self._files = files
        self._summary_model = summary_model

    @property
    def handlers(self) -> dict[str, Handler]:
        return {
            "llm": self.llm,
            "llm_structured_output": self.llm_structured_output,
            "system_summary": self.system_summary,
            "text_embedding": self.text_embedding,
            "multimodal_embedding": self.multimodal_embedding,
            "rerank": self.rerank,
            "multimodal_rerank": self.multimodal_rerank,
            "moderation": self.moderation,
            "speech2text": self.speech2text,
            "tts": self.tts,
        }

    async def llm(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        chat = await self._chat_request(request, caller)
        index = 0
        async with aclosing(self._answer(chat, caller)) as pieces:
            async for text, chunk in pieces:
                yield sent_chunk(chat.model, index, text, chunk)
                index += 1

    async def llm_structured_output(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        chat = await self._chat_request(request, caller)
        if chat.schema is None:
            raise HeadraceError("structured_output_schema must be a JSON schema")
        texts: list[str] = []
        index = 0
        async with aclosing(self._answer(chat, caller)) as pieces:
            async for text, chunk in pieces:
                texts.append(chunk.text)
                body = sent_chunk(chat.model, index, text, chunk)
                if chunk.usage is not None:
                    body["structured_output"] = await _object_in("".join(texts))
                yield body
                index += 1

    async def system_summary(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        from headrace.adapters.tools.builtin.summary import summarized

        text, instruction = _text(request, "text"), str(request.get("instruction") or "")
        summary, usages = await summarized(text, self._models, self._summary_model, caller.context.user, instruction)
        for message in usages:
            caller.on_usage(message.usage)
        yield {"summary": summary}

    async def text_embedding(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        fields = {"texts": _texts(request, "texts"), "input_type": request.get("input_type") or "query"}
        yield await self._embedding("invoke_text_embedding", fields, request, caller)

    async def multimodal_embedding(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        fields = {"documents": request.get("documents"), "input_type": request.get("input_type") or "document"}
        yield await self._embedding("invoke_multimodal_embedding", fields, request, caller)

    async def rerank(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        fields = {"query": _text(request, "query"), "docs": _texts(request, "docs")}
        yield await self._of_plugin("rerank", "invoke_rerank", fields | _limits(request), request, caller)

    async def multimodal_rerank(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        fields = {"query": request.get("query"), "docs": request.get("docs"), **_limits(request)}
        yield await self._of_plugin("rerank", "invoke_multimodal_rerank", fields, request, caller)

    async def moderation(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        yield await self._of_plugin(
            "moderation", "invoke_moderation", {"text": _text(request, "text")}, request, caller
        )

    async def speech2text(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        try:
            audio = bytes.fromhex(_text(request, "file"))
        except ValueError as error:
            raise HeadraceError("file must be in hexadecimal form") from error
        provider, model = _text(request, "provider"), _text(request, "model")
        text = await self._speech.transcribe(audio, filename="", mime_type="", provider=provider, model=model)
        yield {"result": text}

    async def tts(self, plugin: InstalledPlugin, request: _Request, caller: Caller) -> _Answers:
        provider, model = _text(request, "provider"), _text(request, "model")
        voice = str(request.get("voice") or "")
        audio, _ = await self._speech.speak(_text(request, "content_text"), voice=voice, provider=provider, model=model)
        yield {"result": audio.hex()}

    async def _chat_request(self, request: _Request, caller: Caller) -> ChatRequest:
        return await chat_request(request, caller.context, self._files)

    async def _answer(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[tuple[str, ChatChunk]]:
        """The answer in pieces, each with its text, which has the reasoning between tags, as plugins expect it."""
        is_open, size = False, 0
        async with aclosing(self._models.chat(request)) as chunks:
            async for chunk in chunks:
                text = ""
                if chunk.reasoning:
                    text = chunk.reasoning if is_open else f"<think>\n{chunk.reasoning}"
                    is_open = True
                if is_open and (chunk.text or chunk.usage is not None):
                    text += "\n</think>"
                    is_open = False
                text += chunk.text
                size += len(text)
                if size > _LONGEST_ANSWER:
                    raise HeadraceError(f"the answer is longer than {_LONGEST_ANSWER} characters")
                if chunk.usage is not None:
                    caller.on_usage(chunk.usage.wire())
                yield text, chunk

    async def _embedding(self, action: str, fields: dict[str, Value], request: _Request, caller: Caller) -> _Request:
        answer = await self._of_plugin("text-embedding", action, fields, request, caller)
        usage: Any = answer.get("usage")
        if isinstance(usage, dict):
            caller.on_usage(_embedding_usage(cast("dict[str, Any]", usage)))
        return answer

    async def _of_plugin(
        self, type_: str, action: str, fields: dict[str, Value], request: _Request, caller: Caller
    ) -> _Request:
        model = await self._plugins.find(_text(request, "provider"), type_, _text(request, "model"))
        return await self._plugins.result(model, type_, action, fields, caller.context.user)


async def _object_in(text: str) -> Value:
    value = await lenient_json.object_in(text)
    if value is None:
        raise HeadraceError(f"Failed to parse structured output: {text[:500]}")
    return value


def _text(request: _Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise HeadraceError(f"{name} must be a text")
    return value


def _texts(request: _Request, name: str) -> list[str]:
    texts = items_of(request.get(name))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise HeadraceError(f"{name} must be a list of texts")
    return list(texts)


def _limits(request: _Request) -> dict[str, Value]:
    return {"score_threshold": request.get("score_threshold"), "top_n": request.get("top_n")}


def _embedding_usage(usage: Mapping[str, Any]) -> dict[str, Value]:
    """The usage of embeddings as that of a model which answers nothing."""
    tokens, price = usage.get("total_tokens") or usage.get("tokens") or 0, str(usage.get("total_price") or 0)
    return {
        "prompt_tokens": tokens,
        "prompt_price": price,
        "completion_tokens": 0,
        "completion_price": "0",
        "total_tokens": tokens,
        "total_price": price,
        "currency": str(usage.get("currency") or "USD"),
        "latency": usage.get("latency") or 0.0,
    }
