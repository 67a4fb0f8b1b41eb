"""A backup is made while runs are under way; restored elsewhere, every one of them ends there, once."""

from __future__ import annotations

import json
import pathlib
import sqlite3
import subprocess
import threading
import time
import urllib.request
from contextlib import closing
from typing import Any

from headrace.kernel.events import RunEnded
from headrace.stores.encoding import unpack
from tests.cli.flows import headrace
from tests.server.gated import FLOW, Client, Peer
from tests.server.process import Serve

RUNS = 100


def db(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    return headrace("db", *arguments, cwd=pathlib.Path.cwd())


def posted(client: Client, path: str, body: object, **headers: str) -> Any:
    with client.stream("POST", path, body, **headers) as answer:
        detail = answer.read()
        assert answer.status < 300, detail
        return json.loads(detail)


def begin(serve: Serve, name: str) -> str:
    """The id of a run that is asked for, and taken in."""
    body = {"inputs": {"q": name}, "user": "u"}
    path = f"/api/v1/workflows/{serve.apps['flow']['app_id']}/run"
    return posted(Client(serve), path, body)["workflow_run_id"]


def uploaded(serve: Serve, content: bytes) -> str:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"'
    parts = [
        head % b"user" + b"\r\n\r\nu\r\n",
        head % b"file" + b'; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n' + content + b"\r\n--x--\r\n",
    ]
    headers = {
        "Authorization": f"Bearer {serve.keys['flow']}",
        "Content-Type": "multipart/form-data; boundary=x",
    }
    request = urllib.request.Request(f"{serve.url}/v1/files/upload", b"".join(parts), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["id"]


def ended(database: pathlib.Path) -> dict[str, list[str]]:
    """How each run ended, by the journal: once, if all is well."""
    with closing(sqlite3.connect(database)) as connection:
        detail: dict[str, list[str]] = {run: [] for (run,) in connection.execute("SELECT run FROM runs")}
        for row in connection.execute("SELECT run, seq, at, type, body, more FROM events"):
            for record in unpack(row):
                if isinstance(record.event, RunEnded):
                    detail[record.run].append(record.event.status)
        return detail


def workers(database: pathlib.Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM workers").fetchone()[0]


def test_every_run_ends_once_where_the_backup_is_restored(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    body = {"HEADRACE_EGRESS_ALLOW": peer.address, "HEADRACE_MAX_SECONDS": "600"}
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    archive = tmp_path / "backup.tar.gz"

    with Serve(here, [flow], body) as serve:
        key = serve.keys["flow"]
        file = uploaded(serve, b"to be kept")
        runs = [begin(serve, f"run{n}") for n in range(RUNS)]
        for _ in runs:
            assert peer.waiting.acquire(timeout=60)
        # the database is written to all the while that it is copied
        more: list[str] = []
        backed_up = threading.Event()

        def go_on() -> None:
            while not backed_up.is_set():
                more.append(begin(serve, f"more{len(more)}"))

        writing = threading.Thread(target=go_on, daemon=True)
        writing.start()
        try:
            done = db("backup", archive, "--data", here / "data")
        finally:
            backed_up.set()
            writing.join(60)
        assert (done.returncode, done.stderr) == (0, "")
        assert more, "runs were taken in meanwhile"
        assert workers(here / "data" / "headrace.db") == 1
        serve.kill()

    assert archive.stat().st_mode & 0o777 == 0o600
    done = db("restore", archive, "--data", there / "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert (there / "data" / "secret").stat().st_mode & 0o777 == 0o600
    before = ended(there / "data" / "headrace.db")
    assert workers(there / "data" / "headrace.db") == 0, "nobody has the runs any more: whoever starts goes on at once"
    assert set(runs) <= before.keys() <= {*runs, *more}
    assert all(status == [] for status in before.values()), "they were all under way"
    peer.gate.set()

    with Serve(there, [flow], body) as serve:
        assert serve.keys["flow"] == key, "callers go on with their keys"
        client = Client(serve)
        until = time.monotonic() + 300
        while any(client.get(f"/v1/workflows/run/{run}")["status"] == "running" for run in before):
            assert time.monotonic() < until, "a run does not end"
        for n, run in enumerate(runs):
            detail = client.get(f"/v1/workflows/run/{run}")
            outputs = detail["outputs"] if isinstance(detail["outputs"], dict) else json.loads(detail["outputs"])
            assert (detail["status"], outputs) == ("succeeded", {"one": f"/first/run{n}", "two": f"/second/run{n}"})
        with client.stream("GET", f"/v1/files/{file}/preview") as answer:
            assert (answer.status, answer.read()) == (200, b"to be kept")

    after = ended(there / "data" / "headrace.db")
    assert after.keys() == before.keys(), "none is lost, and none is new"
    assert set(map(tuple, after.values())) == {("succeeded",)}, "each ended once"
    for n in range(RUNS):
        calls = [path for path, _ in peer.calls if path == f"/first/run{n}"]
        assert len(calls) == 1, "what a run had done before is not done again"
        assert len({key for path, key in peer.calls if path == f"/second/run{n}"}) == 1, "and else with the same key"
