"""A wire by the channels of Redis, or of Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from headrace.adapters.wire.connection import without_secrets

_REDIS: Any = Redis  # whose methods are typed in part


class RedisCarrier:
    """The server of a URL: redis://, rediss:// (with TLS), or unix://; also with valkey in place of redis."""

    max_bytes = 64 * 1024

    def __init__(self, url: str) -> None:
        self._url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
        self.name = without_secrets(url)
        self._client()  # ValueError if the URL is not valid

    def _client(self) -> Any:
        # a lost connection is replaced by the caller, who then asks the other hosts for what it has missed
        return _REDIS.from_url(self._url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=10)

    @asynccontextmanager
    async def connect(self, channels: Sequence[str]) -> AsyncGenerator[RedisConnection]:
        try:
            async with self._client() as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(*channels)
                yield RedisConnection(client, subscription)
        except RedisError as error:
            raise ConnectionError(str(error)) from error


class RedisConnection:
    def __init__(self, client: Any, subscription: Any) -> None:
        self._client = client
        self._subscription = subscription

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for channel, payload in messages:
                    pipeline.publish(channel, payload)
                await pipeline.execute()
        except RedisError as error:
            raise ConnectionError(str(error)) from error
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # which a pipeline may swallow

    async def receive(self) -> AsyncIterator[bytes]:
        try:
            async for message in self._subscription.listen():
                yield message["data"]
        except RedisError as error:
            raise ConnectionError(str(error)) from error
