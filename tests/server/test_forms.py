"""Forms of processes that are killed, and answers that reach two processes at once."""

from __future__ import annotations

import json
import pathlib
import sqlite3
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.human_input.flows import REVIEW
from tests.server.process import Serve

USER = "u1"


def call(serve: Serve, method: str, path: str, body: object = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        serve.url + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {serve.keys['review']}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def paused(serve: Serve) -> tuple[str, str]:
    """(run, token) of a new run that waits."""
    status, body = call(serve, "POST", "/v1/workflows/run", {"inputs": {"q": "Once"}, "user": USER})
    assert (status, body["data"]["status"]) == (200, "paused")
    return body["workflow_run_id"], body["data"]["reasons"][0]["form_token"]


def submit(serve: Serve, token: str, comment: str) -> tuple[int, Any]:
    body = {"inputs": {"comment": comment}, "action": "approve", "user": USER}
    return call(serve, "POST", f"/v1/form/human_input/{token}", body)


def ended(serve: Serve, run: str) -> Any:
    _, body = call(serve, "GET", f"/api/v1/workflow-runs/{run}?wait=60")
    return body


def test_forms_outlive_a_process_that_is_killed(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "review.yml"
    file.write_text(REVIEW, "utf-8")
    server = Serve(tmp_path, [file])
    with server as serve:
        answered, token = paused(serve)
        overdue, late = paused(serve)
        serve.kill()
        with sqlite3.connect(tmp_path / "data" / "headrace.db") as database:  # an hour has passed for one of them
            database.execute("UPDATE forms SET expires_at = 1 WHERE run = ?", (overdue,))
        serve.__enter__()
        assert ended(serve, overdue)["outputs"]["action"] == ""
        status, refusal = submit(serve, late, "too late")
        assert (status, refusal["code"]) == (412, "human_input_form_expired")
        assert submit(serve, token, "in time") == (200, {})
        assert ended(serve, answered)["outputs"]["comment"] == "in time"


def test_of_ten_answers_to_two_processes_one_is_accepted(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "review.yml"
    file.write_text(REVIEW, "utf-8")
    with Serve(tmp_path, [file]) as one, Serve(tmp_path, [file]) as two, ThreadPoolExecutor(10) as people:
        run, token = paused(one)
        answers = [*people.map(lambda n: submit((one, two)[n % 2], token, str(n)), range(10))]
        assert Counter(status for status, _ in answers) == {200: 1, 412: 9}
        assert {body["code"] for status, body in answers if status == 412} == {"human_input_form_submitted"}
        accepted = [status for status, _ in answers].index(200)
        done = ended(two, run)
        assert (done["status"], done["outputs"]["comment"]) == ("succeeded", str(accepted))
