"""Calls of models whose answer is one JSON object: embeddings and reranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from headrace.adapters.models.endpoint import NOT_INITIALIZED, Endpoint
from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.adapters.models.lazy_transport import LazyTransport
from headrace.adapters.models.plugins import PluginModels
from headrace.adapters.models.providers import DEMO, configured, last_part, resolve
from headrace.adapters.models.request import encode
from headrace.adapters.models.slots import Slot, unlimited
from headrace.errors import NodeError

_LARGEST = 64 * 1024 * 1024  # bytes of an answer
_BASES = {"jina": "https://api.jina.ai/v1", "voyage": "https://api.voyageai.com/v1"}
"""Providers without chat models, which are not in the table of those."""


class JsonTasks:
    """Models of one task, with the same credentials in `environ` as `ModelClient`, and those of plugins. `bases` are
    base URLs of the task that differ from those of chats. `demo`: the demo model answers for providers that are not
    configured. Each call takes place within a `slot`. Times in seconds, as for `ModelClient`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        plugins: PluginModels | None = None,
        *,
        type_: str,
        bases: Mapping[str, str] | None = None,
        demo: bool = False,
        slot: Slot = unlimited,
        connect: float = 10.0,
        idle: float = 120.0,
    ) -> None:
        defaults = {f"{name.upper()}_BASE_URL": url for name, url in {**_BASES, **(bases or {})}.items()}
        self._environ = {**defaults, **{name: value for name, value in environ.items() if value.strip()}}
        self._configured = environ
        self._plugins = plugins
        self._type = type_
        self._demo = demo
        self._slot = slot
        self._transport = LazyTransport(self._environ, connect, idle)

    def missing(self, provider: str) -> str | None:
        """What is missing to call a provider; None if nothing is."""
        try:
            endpoint = self.endpoint(provider)
        except NodeError as error:
            return str(error)
        return endpoint.missing(provider) if isinstance(endpoint, PluginModels) else None

    def endpoint(self, provider: str) -> Endpoint | PluginModels | None:
        """Where a provider is reached, or the plugins if one of them serves it; None if the demo model answers for it.
        NodeError if it is not configured."""
        name = last_part(provider)
        is_configured = configured(self._configured, name)
        if not is_configured and self._plugins is not None and name != DEMO and self._plugins.has(provider):
            return self._plugins
        if self._demo and (name == DEMO or not is_configured):
            return None
        endpoint = resolve(self._environ, name)
        if endpoint.protocol != "openai":
            raise NodeError(
                f"provider_not_initialize: {name} has no {self._type} models in OpenAI's protocol. Set its base URL to "
                "a gateway that has them, install its plugin, or choose another provider.",
                NOT_INITIALIZED,
            )
        return endpoint

    async def post(self, endpoint: Endpoint, model: str, task: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer of a task. NodeError as for `Models.chat`."""
        name, headers = endpoint.provider.name, {**endpoint.headers, "Content-Type": "application/json"}
        url = endpoint.url(model, task)
        try:
            async with self._slot(name, model):
                raw, _ = await self._transport.open().whole("POST", name, url, headers, encode(body), max_size=_LARGEST)
            try:
                answer: Any = orjson.loads(raw)
            except orjson.JSONDecodeError:
                answer = None
            if not isinstance(answer, dict):
                raise Failure(f"{name} sent a response that is not a JSON object.", CONNECTION)
            return cast("Mapping[str, Any]", answer)
        except Failure as failure:
            raise failure.node_error(endpoint.secrets) from None

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()
