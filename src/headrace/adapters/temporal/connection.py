"""A connection to a server of Temporal.

Address and namespace may come from Headrace's settings; what else a connection needs (an API key, TLS, certificates) is
read from Temporal's own configuration: its environment variables `TEMPORAL_*` and its TOML file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from headrace.errors import HeadraceError, StoreError

RUN = SearchAttributeKey.for_keyword("HeadraceRun")
APP = SearchAttributeKey.for_keyword("HeadraceApp")
WORKSPACE = SearchAttributeKey.for_keyword("HeadraceWorkspace")

_UNCHECKED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)  # a key may lack the right to list them


@dataclass(frozen=True, slots=True)
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


class TemporalUnavailable(StoreError):
    """The server does not answer; the same may succeed later."""


async def connect(options: TemporalOptions, environ: Mapping[str, str]) -> Client:
    """TemporalUnavailable if the server does not answer, HeadraceError if the configuration is not usable."""
    try:
        config = ClientConfig.load_client_connect_config(override_env_vars=dict(environ))
    except (RuntimeError, ValueError, OSError) as error:
        raise HeadraceError(f"Temporal's own configuration cannot be used: {error}") from error
    config["target_host"] = options.address
    if options.namespace:
        config["namespace"] = options.namespace
    try:
        client = await Client.connect(**config)
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
