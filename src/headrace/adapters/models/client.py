"""Language models of every provider: implements `ports.services.Models` over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from headrace.adapters.models.endpoint import NOT_INITIALIZED, Endpoint
from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.adapters.models.google_cloud import AccessTokens
from headrace.adapters.models.lazy_transport import LazyTransport
from headrace.adapters.models.prices import Price, Prices, load_prices, parse_prices
from headrace.adapters.models.providers import DEMO, PROVIDERS, configured, last_part, resolve
from headrace.adapters.models.request import build, encode
from headrace.adapters.models.response import Answer
from headrace.errors import LoadError, NodeError, Problem
from headrace.ports.services import ChatChunk, ChatRequest, Files

if TYPE_CHECKING:
    from headrace.adapters.models.blocks import BlockCall
    from headrace.adapters.models.plugins import PluginModels

_MAX_WAIT = 60.0  # seconds, even if the provider asks for more
_MAX_BACKOFF = 8.0


class ModelClient:
    """Models, with the credentials in `environ` (`<PROVIDER>_API_KEY`, `<PROVIDER>_BASE_URL`).

    `plugins` serve the providers that are not configured there and that an installed plugin has. `files` reads the
    files of prompts; without it they are passed by URL. `demo`: the built-in demo model answers for every provider that
    is not configured, with `demo_delay` seconds between words. `prices` adds to the price list (`{model: {input,
    output}}`, see `prices`); if it is None, the file of HEADRACE_PRICES does. Times in seconds: `connect` to get a
    connection, `idle` between two pieces of an answer, `backoff` before the second attempt. LoadError if the prices
    cannot be read.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        files: Files | None = None,
        *,
        plugins: PluginModels | None = None,
        demo: bool = False,
        prices: Mapping[str, Any] | None = None,
        connect: float = 10.0,
        idle: float = 300.0,
        tries: int = 3,
        backoff: float = 0.5,
        demo_delay: float = 0.02,
    ) -> None:
        self._environ = environ
        self._files = files
        self._plugins = plugins
        self._demo = demo
        self._demo_delay = demo_delay
        self._prices = Prices(_own_prices(environ, prices))
        self._tries = tries
        self._backoff = backoff
        self._transport = LazyTransport(environ, connect, idle)
        self._tokens: AccessTokens | None = None
        self._endpoints: dict[str, Endpoint | PluginModels | None] = {}

    def missing(self, provider: str) -> str | None:
        """See `Models.missing`."""
        try:
            endpoint = self._endpoint(provider)
        except NodeError as error:
            return str(error)
        return None if endpoint is None or isinstance(endpoint, Endpoint) else endpoint.missing(provider)

    def _endpoint(self, provider: str) -> Endpoint | PluginModels | None:
        """Where a provider is reached, or the plugins if one of them serves it; None if the demo model answers for it.
        NodeError if it is not configured."""
        if provider in self._endpoints:
            return self._endpoints[provider]
        endpoint = self._endpoints[provider] = self._resolved(provider)
        return endpoint

    def _resolved(self, provider: str) -> Endpoint | PluginModels | None:
        name = last_part(provider)
        plugins = self._plugins if name not in ("", DEMO) else None
        is_configured, has_plugin = configured(self._environ, name), plugins is not None and plugins.has(provider)
        if plugins and has_plugin and not is_configured and plugins.missing(provider) is None:
            return plugins
        if self._demo and (name == DEMO or not is_configured):
            return None
        if name == DEMO:
            raise NodeError(
                "provider_not_initialize: the demo model is not enabled; start with --demo-model.", NOT_INITIALIZED
            )
        try:
            return resolve(self._environ, name)
        except NodeError as error:
            if plugins is None or (not has_plugin and name in PROVIDERS):
                raise
            if has_plugin:
                return plugins
            raise NodeError(f"{error} {plugins.needed(provider)}", error.kind) from error

    def _block_call(self, endpoint: Endpoint, request: ChatRequest) -> BlockCall | None:
        """The call of a provider with a protocol of its own; None if it implements OpenAI's."""
        match endpoint.protocol:
            case "openai":
                return None
            case "anthropic":
                from headrace.adapters.models.anthropic import AnthropicCall

                return AnthropicCall(endpoint, request)
            case "converse":
                from headrace.adapters.models.converse import ConverseCall

                return ConverseCall(endpoint, request, self._environ)
            case "gemini":
                from headrace.adapters.models.gemini import GeminiCall

                return GeminiCall(endpoint, request)
            case "vertex":
                from headrace.adapters.models.vertex import vertex_call

                self._tokens = self._tokens or AccessTokens(self._environ)
                return vertex_call(endpoint, request, self._environ, self._tokens)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """See `Models.chat`. A call is retried (after 429, 5xx or a lost connection) unless part of the answer was
        passed on; closing the generator, or cancelling its reader, closes the connection at once."""
        endpoint = self._endpoint(request.provider)
        if not isinstance(endpoint, Endpoint):
            if endpoint is None:
                from headrace.adapters.models import demo

                source = demo.answer(request, self._demo_delay)
            else:
                source = endpoint.chat(request)
            async with aclosing(source) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        name = endpoint.provider.name
        call = self._block_call(endpoint, request)
        answer = Answer(request, self._prices.of(name, request.model if call is None else call.model))
        if call is None:
            body = await build(request, endpoint.provider, self._files)
            url = endpoint.url(request.model, "completions" if request.mode == "completion" else "chat/completions")
        else:
            body, url = await call.body(self._files), call.url
        schema_in_prompt = request.schema is not None and endpoint.provider.schema == "both"
        failures = 0
        while True:
            try:
                data = encode(body)
                headers = endpoint.headers if call is None else await call.headers(data)
                async with self._transport.open().post(name, url, headers, data, call and call.events()) as stream:
                    async for payloads in stream:
                        for payload in payloads:
                            chunk = _chunk_of(answer, payload, name)
                            if chunk is not None:
                                yield chunk
                        if answer.finished:
                            stream.hurry()
                    if not (answer.finished or stream.complete):
                        raise Failure(f"{name} broke off its answer.", CONNECTION, retry=True)
                    if not (answer.finished or answer.started):
                        raise Failure(f"{name} sent no answer.", CONNECTION, retry=True)
                break
            except Failure as failure:
                if answer.finished:
                    break  # only the usage is missing, which can be estimated
                if not answer.passed_on and (
                    call.simplified(body, failure) if call else _simplified(body, failure, schema_in_prompt)
                ):
                    continue
                failures += 1
                if answer.passed_on or not failure.retry or failures >= self._tries:
                    raise failure.node_error(call.secrets if call else endpoint.secrets) from None
                delay = self._delay(failures, failure)
            answer.restart()
            await asyncio.sleep(delay)
        yield answer.last()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    def _delay(self, failures: int, failure: Failure) -> float:
        """Seconds until the next attempt: as the provider asks, else exponential with jitter."""
        if failure.wait is not None:
            return min(failure.wait, _MAX_WAIT)
        return min(self._backoff * 2 ** (failures - 1), _MAX_BACKOFF) * random.uniform(0.5, 1.5)


def _own_prices(environ: Mapping[str, str], prices: Mapping[str, Any] | None) -> Mapping[str, Price]:
    if prices is not None:
        return parse_prices(prices)
    path = environ.get("HEADRACE_PRICES")
    try:
        return load_prices(path) if path else {}
    except LoadError as error:  # the source is the setting, so the file is named in each problem
        raise LoadError("HEADRACE_PRICES", [Problem(f"{path}: {problem}") for problem in error.problems]) from error


def _chunk_of(answer: Answer, payload: Mapping[str, Any], name: str) -> ChatChunk | None:
    """The next piece of an answer. Failure if the event does not have the protocol's structure."""
    try:
        return answer.add(payload)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Failure(f"{name} sent an event that is not part of a chat response.", CONNECTION) from error


def _simplified(body: dict[str, Any], failure: Failure, schema_in_prompt: bool) -> bool:
    """Removes the field that the provider refused from the body, if the call works without it; False if not."""
    if failure.status not in (400, 422):
        return False
    for name in ("stream_options", "response_format") if schema_in_prompt else ("stream_options",):
        if name in body and name in failure.message:
            del body[name]
            return True
    return False
