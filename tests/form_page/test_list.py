"""The list of forms that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.kernel.events import FormRequested
from headrace.node import Context, Result
from tests.api.serving import Client, Scripted, Serving, serving, workflow
from tests.form_page.forms import ACTIONS


async def ask(ctx: Context) -> Any:
    """A form whose time is the run's input; without a page if that is odd."""
    if ctx.form is not None:
        return Result({})
    seconds = int(ctx.variables.get(("start", "seconds")))
    token = {"type": "webapp", "token": f"token-{seconds}-{ctx.run}"}
    mail = {"type": "email", "recipients": [{"type": "external", "to": "ann@x.example", "token": ctx.run}]}
    delivery = mail if seconds % 2 else token
    return FormRequested(ctx.path, ctx.new_id(), f"Ask {seconds}", "", [], ACTIONS, {}, seconds, [delivery])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    Scripted.scripts["ask"] = ask
    async with serving(tmp_path) as server:
        yield server


async def app(server: Serving, name: str) -> Client:
    variable = {"variable": "seconds", "label": "seconds", "type": "number", "required": True}
    return await server.add(name, workflow(["ask"], variables=[variable]))


async def wait(app: Client, seconds: int) -> str:
    """A run that waits for so long."""
    status, body = await app.run({"seconds": seconds})
    assert (status, body["data"]["status"]) == (200, "paused")
    return body["workflow_run_id"]


async def forms(app: Client, query: str = "") -> Any:
    status, body = await app.call("GET", f"/api/v1/forms{query}")
    assert status == 200, body
    return body


async def test_the_first_due_is_the_first(server: Serving) -> None:
    first, other = await app(server, "a.yml"), await app(server, "b.yml")
    runs = {seconds: await wait(first, seconds) for seconds in (5000, 3000, 4001)}
    await wait(other, 2000)
    body = await forms(first)
    assert [form["node_title"] for form in body["data"]] == ["Ask 3000", "Ask 4001", "Ask 5000"]
    assert body["next_cursor"] is None
    due, by_mail, _ = body["data"]
    assert (due["workflow_run_id"], due["app_id"], due["app_name"]) == (runs[3000], first.release.app.id, "tiny")
    assert (due["node_id"], due["form_token"]) == ("ask", f"token-3000-{runs[3000]}")
    assert due["expires_at"] - due["created_at"] == 3000
    assert by_mail["form_token"] is None


async def test_page_after_page(server: Serving) -> None:
    client = await app(server, "a.yml")
    for seconds in (5000, 3000, 4000):
        await wait(client, seconds)
    titles, query = [], "?limit=1"
    while True:
        body = await forms(client, query)
        titles += [form["node_title"] for form in body["data"]]
        if body["next_cursor"] is None:
            break
        query = f"?limit=1&cursor={body['next_cursor']}"
    assert titles == ["Ask 3000", "Ask 4000", "Ask 5000"]


async def test_those_of_one_run_until_they_are_answered(server: Serving) -> None:
    client, other = await app(server, "a.yml"), await app(server, "b.yml")
    run = await wait(client, 3000)
    await wait(client, 4000)
    (form,) = (await forms(client, f"?workflow_run_id={run}"))["data"]
    assert form["workflow_run_id"] == run
    assert (await forms(other, f"?workflow_run_id={run}"))["data"] == []
    async with server.session.post(f"{server.url}/form/{form['form_token']}", data={"action": "approve"}) as response:
        assert response.status == 200
    assert (await forms(client, f"?workflow_run_id={run}"))["data"] == []
    assert [form["node_title"] for form in (await forms(client))["data"]] == ["Ask 4000"]


@pytest.mark.parametrize("query", ["?limit=0", "?cursor=x", "?workflow_run_id=x"])
async def test_parameters_that_are_not_valid(server: Serving, query: str) -> None:
    status, body = await (await app(server, "a.yml")).call("GET", f"/api/v1/forms{query}")
    assert (status, body["code"]) == (400, "invalid_param")
