"""A serving process dies while callers poll; the next one finishes the runs, and no key makes a second one."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from tests.server.gated import FLOW, Client, Peer, peer
from tests.server.process import Serve

__all__ = ["peer"]


def submit(client: Client, serve: Serve, name: str) -> dict[str, Any]:
    path = f"/api/v1/workflows/{serve.apps['flow']['app_id']}/run"
    fields = {"inputs": {"q": name}, "user": "u"}
    with client.stream("POST", path, fields, **{"Idempotency-Key": name}) as answer:
        assert answer.status == 202
        return json.loads(answer.read())


def test_killed_in_mid_run_and_polled_to_its_end(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    names = [f"run{n}" for n in range(3)]

    with Serve(tmp_path, [flow], environ) as serve:
        client = Client(serve)
        first = {name: submit(client, serve, name) for name in names}
        for _ in names:
            assert peer.waiting.acquire(timeout=60)
        for body in first.values():
            assert client.get(f"/api/v1/workflow-runs/{body['workflow_run_id']}")["status"] == "running"
        serve.kill()
    peer.gate.set()

    with Serve(tmp_path, [flow], environ) as serve:
        client = Client(serve)
        for name in names:
            assert submit(client, serve, name) == first[name]
            body = client.get(f"/api/v1/workflow-runs/{first[name]['workflow_run_id']}?wait=60")
            assert body["status"] == "succeeded"
            assert body["outputs"] == {"one": f"/first/{name}", "two": f"/second/{name}"}
        assert len(client.get("/api/v1/workflow-runs")["data"]) == len(names)
    assert sorted(path for path, _ in peer.calls if "first" in path) == [f"/first/{name}" for name in names]
