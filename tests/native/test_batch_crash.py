"""A serving process dies in the middle of a batch; the next one goes on with it."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.native.counting import counting
from tests.server.process import Serve

LINES, BEFORE = 300, 120


def call(serve: Serve, path: str, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {serve.keys['flow']}", "Content-Type": "application/jsonl"}
    with urllib.request.urlopen(urllib.request.Request(serve.url + path, body, headers), timeout=60) as answer:
        return answer.read()


def results(serve: Serve, batch: str) -> list[Any]:
    return [json.loads(line) for line in call(serve, f"/api/v1/batches/{batch}/results?only=ended").splitlines()]


def test_killed_in_the_middle_of_a_batch_and_started_again(tmp_path: Path) -> None:
    fields = b"".join(b'{"inputs": {"n": %d}}\n' % n for n in range(LINES))
    with counting(BEFORE) as peer:
        flow = peer.workflow(tmp_path / "flow.yml")
        environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
        with Serve(tmp_path, [flow], environ) as serve:
            path = f"/api/v1/workflows/{serve.apps['flow']['app_id']}/batch?concurrency=10"
            batch = json.loads(call(serve, path, fields))["batch_id"]
            assert peer.call_waiting.wait(60)
            before = results(serve, batch)
            serve.kill()
        assert BEFORE - 10 <= len(before) < LINES
        peer.gate.set()
        with Serve(tmp_path, [flow], environ) as serve:
            deadline = time.monotonic() + 60
            while (body := json.loads(call(serve, f"/api/v1/batches/{batch}")))["ended_at"] is None:
                assert time.monotonic() < deadline, body
                time.sleep(0.02)
            assert (body["status"], body["succeeded"]) == ("ended", LINES)
            after = results(serve, batch)
    assert [item["index"] for item in after] == list(range(LINES))
    assert [item["outputs"] for item in after] == [{"n": str(n)} for n in range(LINES)]
    known = {item["index"]: item for item in before}
    assert [known.get(item["index"], item) for item in after] == after, "what was told stays true"
    assert all(peer.hits[str(index)] == 1 for index in known), "a line that had ended is not run again"
    assert sum(peer.hits.values()) <= LINES + 10, "only what was under way is done again"
