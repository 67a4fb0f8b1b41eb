"""What `headrace doctor` says of the wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.doctor import Finding, Status, examine
from headrace.settings import Settings
from tests.wire.conftest import CarrierServer


async def examined(folder: Path, url: str, database: str = "") -> list[Finding]:
    settings = Settings(data=folder, wire_url=url, database_url=database)
    return [finding async for finding in examine(settings, ["wire"])]


async def test_a_wire_that_delivers(server: CarrierServer, tmp_path: Path) -> None:
    (finding,) = await examined(tmp_path, server.url)
    assert (finding.status, finding.message.endswith(" delivers messages")) == (Status.OK, True)


async def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    for url in ("redis://:hunter2@127.0.0.1:1", "postgresql://u:hunter2@127.0.0.1:1/db"):
        (finding,) = await examined(tmp_path, url)
        assert (finding.status, "hunter2" in finding.message) == (Status.FAILED, False)


async def test_a_server_that_swallows_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(url: str) -> str:
        raise TimeoutError

    monkeypatch.setattr("headrace.adapters.wire.probe", probe)
    (finding,) = await examined(tmp_path, "redis://127.0.0.1:1")
    assert (finding.status, "pooler" in finding.advice) == (Status.FAILED, True)


async def test_no_wire(tmp_path: Path) -> None:
    assert await examined(tmp_path, "") == []
    (finding,) = await examined(tmp_path, "off", "postgresql://127.0.0.1:1/db")
    assert finding.status == Status.WARNING
