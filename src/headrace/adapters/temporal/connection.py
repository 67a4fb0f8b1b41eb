"""A connection to a server of Temporal.

Address and namespace may come from Headrace's settings; what else a connection needs (an API key, TLS, certificates) is
read from Temporal's own configuration: its environment variables `TEMPORAL_*` and its TOML file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TypeVar

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from headrace.errors import HeadraceError, StoreError
from headrace.frozen import frozen
from headrace.ports.timers import TimerKind

logger = logging.getLogger(__name__)

T = TypeVar("T")

DRIVE, TIMER = "HeadraceDrive", "HeadraceTimer"  # the types of the activities
RUN = SearchAttributeKey.for_keyword("HeadraceRun")
APP = SearchAttributeKey.for_keyword("HeadraceApp")
WORKSPACE = SearchAttributeKey.for_keyword("HeadraceWorkspace")

RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5))
_RPC_SECONDS = 10.0  # the SDK tries for about as long
_UNCHECKED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)  # a key may lack the right to list them


@frozen
class TemporalOptions:
    """`namespace`: empty for that of Temporal's own configuration. `heartbeat_seconds`: after so much silence of a
    worker its runs are another's. `drive_seconds`: what one drive of a run may take."""

    address: str
    namespace: str = ""
    task_queue: str = "headrace"
    heartbeat_seconds: float = 15.0
    drive_seconds: float = 86_400.0

    @property
    def beat_seconds(self) -> float:
        return self.heartbeat_seconds / 5

    @property
    def interactive_queue(self) -> str:
        return f"{self.task_queue}-interactive"

    def timer_queue(self, kind: TimerKind) -> str:
        return f"{self.task_queue}-{kind}"


class TemporalUnavailable(StoreError):
    """The server does not answer; the same may succeed later."""


class Connection:
    """Connects when that is first needed, so that a process starts while the server is away."""

    def __init__(self, options: TemporalOptions, environ: Mapping[str, str], worker: str) -> None:
        self.options = options
        self._worker = worker
        self._environ = environ
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._available = True  # as last logged

    async def open(self) -> None:
        """HeadraceError if the server answers, but cannot be used. One that does not answer may do so later."""
        try:
            await self.client()
        except TemporalUnavailable as error:
            self.log(error)

    async def client(self) -> Client:
        """TemporalUnavailable while the server cannot be reached."""
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self.options, self._environ, identity_of(self._worker))
            return self._client

    async def call(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Calls the server. HeadraceError if nothing was done; TemporalUnavailable: it may have been."""
        try:
            async with asyncio.timeout(_RPC_SECONDS):
                return await work(await self.client())
        except TimeoutError as error:
            raise TemporalUnavailable(f"Temporal at {self.options.address} does not answer") from error
        except RPCError as error:
            raise failure_of(error, self.options) from error

    def log(self, error: HeadraceError | None) -> None:
        """Logs the beginning and the end of an outage once."""
        if (error is None) is self._available:
            return
        self._available = error is None
        if error is None:
            logger.info("Temporal at %s answers again", self.options.address)
        else:
            logger.error("runs are accepted, and wait: %s", error)


def search_attributes(run: str = "", app: str = "", workspace: str = "") -> TypedSearchAttributes:
    """By what people find an activity."""
    pairs = ((RUN, run), (APP, app), (WORKSPACE, workspace))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs if value])


def identity_of(worker: str) -> str:
    """How Temporal names the process of a worker, to people and to `worker_of`."""
    return f"{os.getpid()}@{socket.gethostname()}/{worker}"


def worker_of(identity: str) -> str | None:
    """The id of the worker that Temporal names so; None if it is not one of Headrace."""
    return identity.rpartition("/")[2] if "/" in identity else None


async def connect(options: TemporalOptions, environ: Mapping[str, str], identity: str) -> Client:
    """TemporalUnavailable if the server does not answer, HeadraceError if the configuration is not usable."""
    try:
        config = ClientConfig.load_client_connect_config(override_env_vars=dict(environ))
    except (RuntimeError, ValueError, OSError) as error:
        raise HeadraceError(f"Temporal's own configuration cannot be used: {error}") from error
    config["target_host"] = options.address
    if options.namespace:
        config["namespace"] = options.namespace
    try:
        client = await Client.connect(**config, identity=identity)
        await _check(client, options)
    except (RuntimeError, RPCError) as error:
        raise failure_of(error, options) from error
    except ValueError as error:
        raise HeadraceError(f"HEADRACE_TEMPORAL_ADDRESS: {options.address!r}: {error}") from error
    return client


async def _check(client: Client, options: TemporalOptions) -> None:
    """HeadraceError unless the namespace has the search attributes by which runs are found."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        response = await client.operator_service.list_search_attributes(request)
    except RPCError as error:
        if error.status in _UNCHECKED:
            return
        raise
    missing = [key.name for key in (RUN, APP, WORKSPACE) if key.name not in response.custom_attributes]
    if missing:
        names = " ".join(f"--name {name}" for name in missing)
        types = " ".join("--type Keyword" for _ in missing)
        raise HeadraceError(
            f"Temporal's namespace {client.namespace} lacks the search attributes {', '.join(missing)}. To add them: "
            f"temporal operator search-attribute create --address {options.address} --namespace {client.namespace} "
            f"{names} {types}"
        )


def failure_of(error: RuntimeError | RPCError, options: TemporalOptions) -> HeadraceError:
    """What an error of the SDK means."""
    at = f"Temporal at {options.address}"
    if not isinstance(error, RPCError):
        return TemporalUnavailable(f"{at} does not answer: {error}")
    match error.status:
        case RPCStatusCode.INVALID_ARGUMENT | RPCStatusCode.NOT_FOUND | RPCStatusCode.FAILED_PRECONDITION:
            return HeadraceError(f"{at} refuses the request: {error.message}")
        case RPCStatusCode.UNAUTHENTICATED | RPCStatusCode.PERMISSION_DENIED:
            return HeadraceError(f"{at} refuses the credentials: {error.message}")
        case _:
            return TemporalUnavailable(f"{at} does not answer: {error.message}")
