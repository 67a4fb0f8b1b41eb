"""What is wrong with a server, its namespace or the configuration is named when a process starts."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from datetime import timedelta

import pytest
from pydantic import ValidationError
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from headrace.adapters.temporal import TemporalDispatch, TemporalOptions
from headrace.errors import HeadraceError, StoreError
from headrace.ids import new_id
from headrace.ports import Priority, ReadyRun
from headrace.settings import Settings
from headrace.stores.memory import memory_storage
from tests.temporal_server import Server, free_port, program


def dispatch(address: str, namespace: str = "", **environ: str) -> TemporalDispatch:
    storage = memory_storage()
    return TemporalDispatch(TemporalOptions(address, namespace), environ, storage.leases, storage.claims)


@pytest.fixture
async def bare_namespace(temporal_server: Server) -> str:
    """One without search attributes."""
    client = await Client.connect(temporal_server.address)
    name = f"bare-{new_id()}"
    request = RegisterNamespaceRequest(namespace=name)
    request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await client.workflow_service.register_namespace(request)
    return name


async def test_missing_search_attributes_are_named_with_the_command_that_adds_them(
    temporal_server: Server, bare_namespace: str
) -> None:
    address = temporal_server.address
    with pytest.raises(HeadraceError) as error:
        await dispatch(address, bare_namespace).connection.open()
    assert not isinstance(error.value, StoreError)
    message, _, command = str(error.value).partition(" To add them: temporal ")
    assert message == (
        f"Temporal's namespace {bare_namespace} lacks the search attributes HeadraceRun, HeadraceApp, "
        "HeadraceWorkspace."
    )
    await asyncio.to_thread(subprocess.run, [program(), *shlex.split(command)], check=True, capture_output=True)
    await dispatch(address, bare_namespace).connection.open()


async def test_an_unknown_namespace_is_named(temporal_server: Server) -> None:
    with pytest.raises(HeadraceError, match="Namespace nowhere is not found") as error:
        await dispatch(temporal_server.address, "nowhere").connection.open()
    assert not isinstance(error.value, StoreError)


async def test_the_namespace_may_be_that_of_temporals_own_configuration(
    temporal_server: Server, bare_namespace: str
) -> None:
    with pytest.raises(HeadraceError, match=f"Temporal's namespace {bare_namespace} lacks"):
        await dispatch(temporal_server.address, TEMPORAL_NAMESPACE=bare_namespace).connection.open()
    await dispatch(temporal_server.address, "default", TEMPORAL_NAMESPACE=bare_namespace).connection.open()


async def test_a_process_starts_while_the_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    away = dispatch(f"127.0.0.1:{free_port()}")
    await away.connection.open()
    assert "runs are accepted, and wait: Temporal at 127.0.0.1:" in caplog.text
    await away.ready(ReadyRun("run", 1, "default", "app", Priority.API))  # returns at once
    with pytest.raises(StoreError, match="does not answer"):
        await away.start(ReadyRun("run", 1, "default", "app", Priority.API))
    with pytest.raises(StoreError, match="does not answer"):
        await away.backlog()
    await away.aclose()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TEMPORAL_CONFIG_FILE": "/nowhere/temporal.toml", "TEMPORAL_PROFILE": "p"}, "Temporal's own configuration"),
        ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "/nowhere.pem"}, "cannot be used"),
    ],
)
async def test_a_wrong_configuration_of_temporals_own_is_refused(
    temporal_server: Server, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(HeadraceError, match=message) as error:
        await dispatch(temporal_server.address, **environ).connection.open()
    assert not isinstance(error.value, StoreError)


@pytest.mark.parametrize("address", ["no port", "http://127.0.0.1:7233", "host:", "host:999999", "host:7233\n"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="temporal_address"):
        Settings(temporal_address=address)


async def test_an_unknown_host_does_not_answer() -> None:
    with pytest.raises(StoreError, match="does not answer"):
        await dispatch("nowhere.invalid:7233").connection.client()
