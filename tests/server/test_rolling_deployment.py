"""The processes of a version are replaced by those of the next, one by one, while they have runs in progress."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from headrace.stores.sql.schema import REVISIONS
from headrace.stores.sql.snapshot import database_status
from tests.postgresql import Server
from tests.server.gated import Peer
from tests.server.test_two_processes import World, ended
from tests.stores import next_version


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: pathlib.Path, peer: Peer) -> Iterator[World]:
    database = ""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        database = server.new_database()
    with ExitStack() as stack:
        yield World(tmp_path, peer, stack, database)


def test_runs_in_progress_survive_a_rolling_deployment(world: World, tmp_path: pathlib.Path) -> None:
    first, second = world.serve(), world.serve()
    runs = world.waiting_runs(first)
    assert database_status(world.database, count=False).revision == REVISIONS[-1]
    new = world.serve({"PYTHONPATH": next_version.python_path(tmp_path / "next")})
    assert database_status(world.database, count=False).revision == next_version.REVISION
    first.process.send_signal(signal.SIGKILL)  # its runs continue in one of the others
    world.wait(len(runs))
    first.process.wait(60)
    again = world.serve()  # an old process that is started again works with the new schema
    world.peer.gate.set()
    for name, run in runs.items():
        for serve in (second, new, again):
            done = ended(serve, run)
            assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
    assert world.calls == {f"/{node}/{name}": 1 + (node == "second") for node in ("first", "second") for name in runs}
