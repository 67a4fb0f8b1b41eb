"""Dify's API for forms: the guide of its documentation, step by step, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headrace.access.keys import Rights
from headrace.nodes import registry
from headrace.runs.forms import expire_forms
from tests.api.serving import Client, Event, Serving, serving

from .flows import APPROVE, OUTPUTS, PARAGRAPH, REJECT, REVIEW, human_input, workflow
from .world import HOUR, Clock

ATTACHMENTS = {
    "type": "file-list",
    "output_variable_name": "attachments",
    "allowed_file_types": ["image", "document"],
    "allowed_file_extensions": [],
    "allowed_file_upload_methods": ["local_file", "remote_url"],
    "number_limits": 5,
}
FEEDBACK = {
    **PARAGRAPH,
    "output_variable_name": "feedback",
    "default": {"type": "constant", "selector": [], "value": ""},
}
GUIDE = human_input(
    form_content="Please review the draft and confirm or request changes.",
    inputs=[FEEDBACK, ATTACHMENTS],
    user_actions=[APPROVE, {**REJECT, "title": "Request changes"}],
)
WITH_FILES = workflow(
    {"ask": GUIDE}, ["s>ask", "ask:approve>e"], {"feedback": ["ask", "feedback"], "files": ["ask", "attachments"]}
)
CHAT = workflow(
    {"ask": human_input(form_content="{{#sys.query#}}: {{#$output.comment#}}")},
    ["s>ask", "ask:approve>e", "ask:__timeout>e"],
    {"content": ["ask", "__rendered_content"]},
    mode="advanced-chat",
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(tmp_path: Path, clock: Clock) -> AsyncIterator[Serving]:
    async with serving(tmp_path, registry=registry(()), clock=clock) as running:
        yield running


async def paused(app: Client, **inputs: Any) -> Sequence[Event]:
    """The events of a new run until it pauses, which ends the stream."""
    async with app.stream(**inputs) as stream:
        return await stream.rest()


async def rest(app: Client, run: str, query: str = "") -> list[Event]:
    async with app.stream(f"/v1/workflow/{run}/events?user=u1{query}") as stream:
        return await stream.rest()


async def whole(app: Client, run: str) -> list[Event]:
    """All events of a run, from its first to its end."""
    path = f"/v1/workflow/{run}/events?user=u1&continue_on_pause=true"
    async with app.stream(path, {"Last-Event-ID": "0"}) as stream:
        return await stream.rest()


def names(events: Sequence[Event]) -> list[str]:
    return [event.name for event in events if event.name != "ping"]


async def submit(app: Client, token: str, action: str = "approve", **inputs: Any) -> tuple[int, Any]:
    body = {"inputs": inputs, "action": action, "user": "u1"}
    return await app.call("POST", f"/v1/form/human_input/{token}", json=body)


def upload(name: str, content: bytes, mime: str, user: str = "u1") -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name, content_type=mime)
    form.add_field("user", user)
    return form


async def test_the_guide_step_by_step(server: Serving) -> None:
    app = await server.add("review", WITH_FILES)

    # 1. start the app in streaming mode
    events = await paused(app)
    assert names(events)[-2:] == ["human_input_required", "workflow_paused"]
    required = events[-2].data
    token, run = required["form_token"], events[-2].body["workflow_run_id"]
    assert required["actions"] == [APPROVE, {**REJECT, "title": "Request changes"}]
    assert (required["node_id"], required["node_title"], required["display_in_ui"]) == ("ask", "Review", False)
    [reason] = events[-1].data["reasons"]
    public = {name: value for name, value in required.items() if name != "display_in_ui"}
    assert reason == {"TYPE": "human_input_required", **public}
    assert (events[-1].data["status"], events[-1].data["paused_nodes"]) == ("paused", ["ask"])

    # 2. get the form definition
    status, form = await app.call("GET", f"/v1/form/human_input/{token}")
    assert status == 200
    assert form == {
        "form_content": "Please review the draft and confirm or request changes.",
        "inputs": [FEEDBACK, ATTACHMENTS],
        "resolved_default_values": {},
        "user_actions": required["actions"],
        "expiration_time": required["expiration_time"],
    }

    # 3. upload local files
    status, file = await app.call("POST", "/v1/files/upload", data=upload("a.md", b"# Hi", "text/markdown"))
    assert status == 201

    # 4. submit the response
    attached = {"transfer_method": "local_file", "upload_file_id": file["id"]}
    elsewhere = {"transfer_method": "remote_url", "url": "http://example.com/a.png", "type": "image"}
    answer = {"feedback": "Looks good to ship", "attachments": [attached, elsewhere]}
    assert await submit(app, token, **answer) == (200, {})
    assert (await submit(app, token, **answer))[0] == 412

    # 5. resume listening to the workflow
    events = await whole(app, run)
    assert names(events)[-1] == "workflow_finished"
    resumed = [name for name in names(events)[names(events).index("workflow_paused") + 1 :] if name != "text_chunk"]
    assert resumed[:3] == ["workflow_started", "human_input_form_filled", "node_finished"]
    filled = next(event.data for event in events if event.name == "human_input_form_filled")
    assert (filled["action_id"], filled["action_text"]) == ("approve", "Approve")
    assert filled["submitted_data"]["feedback"] == "Looks good to ship"
    assert [item["type"] for item in filled["submitted_data"]["attachments"]] == ["document", "image"]
    assert events[-1].data["outputs"]["feedback"] == "Looks good to ship"
    assert [item["filename"] for item in events[-1].data["outputs"]["files"]] == ["a.md", "a.png"]
    assert names(await rest(app, run)) == ["workflow_finished"]


async def test_an_answer_has_files_of_its_own_people_only(server: Serving) -> None:
    app = await server.add("review", WITH_FILES)
    token = (await paused(app))[-2].data["form_token"]
    mappings: dict[str, Any] = {}
    for user in ("u1", "reviewer", "stranger"):
        _, file = await app.call("POST", "/v1/files/upload", data=upload("a.md", b"# Hi", "text/markdown", user))
        mappings[user] = {"transfer_method": "local_file", "upload_file_id": file["id"]}

    async def answered(*users: str) -> tuple[int, Any]:
        inputs = {"feedback": "", "attachments": [mappings[user] for user in users]}
        body = {"inputs": inputs, "action": "approve", "user": "reviewer"}
        return await app.call("POST", f"/v1/form/human_input/{token}", json=body)

    status, refusal = await answered("u1", "stranger")
    assert (status, refusal["code"]) == (400, "invalid_form_data")
    assert refusal["message"] == "Invalid value for file input 'attachments': Invalid upload file"
    assert await answered("u1", "reviewer") == (200, {})


async def test_a_paused_run_shows_what_it_has_done_so_far(server: Serving, clock: Clock) -> None:
    app = await server.add("review", REVIEW)
    events = await paused(app, q="Once")
    run, data = events[-1].body["workflow_run_id"], events[-1].data
    clock.now += HOUR / 2
    _, logs = await app.call("GET", "/v1/workflows/logs")
    _, detail = await app.call("GET", f"/v1/workflows/run/{run}")
    _, listed = await app.call("GET", "/api/v1/workflow-runs")
    _, native = await app.call("GET", f"/api/v1/workflow-runs/{run}")
    views = [logs["data"][0]["workflow_run"], detail, listed["data"][0], native]
    for view in views:
        assert (view["status"], view["finished_at"]) == ("paused", None)
        counts = (view["elapsed_time"], view["total_steps"], view["total_tokens"])
        assert counts == (data["elapsed_time"], data["total_steps"], data["total_tokens"])
    assert data["total_steps"] == 2
    assert data["elapsed_time"] < HOUR / 2
    assert (await submit(app, events[-2].data["form_token"], comment=""))[0] == 200
    assert (await whole(app, run))[-1].data["elapsed_time"] >= HOUR / 2


async def test_a_stream_can_go_past_pauses(server: Serving) -> None:
    second = human_input(title="Second", form_content="")
    nodes = {"ask": human_input(), "more": second}
    app = await server.add("two", workflow(nodes, ["s>ask", "ask:approve>more", "more:approve>e"], OUTPUTS))
    run = (await paused(app))[-1].body["workflow_run_id"]
    path = f"/v1/workflow/{run}/events?user=u1&include_state_snapshot=true"
    async with app.stream(f"{path}&continue_on_pause=true") as stream:
        for _ in range(2):
            required = (await stream.until("human_input_required"))[-1]
            await stream.until("workflow_paused")
            assert (await submit(app, required.data["form_token"], comment="x"))[0] == 200
        assert names(await stream.rest())[-1] == "workflow_finished"


async def test_a_snapshot_of_a_paused_run_ends_with_its_forms(server: Serving) -> None:
    app = await server.add("review", REVIEW)
    first = await paused(app, q="Once")
    run = first[-1].body["workflow_run_id"]
    again = await rest(app, run, "&include_state_snapshot=true")
    assert [(event.name, event.body) for event in again] == [(event.name, event.body) for event in first]
    async with app.session.get(
        f"{app.url}/v1/workflow/{run}/events?user=other", headers={"Authorization": f"Bearer {app.key}"}
    ) as response:
        assert response.status == 404


async def test_a_blocking_request_returns_when_the_run_pauses(server: Serving) -> None:
    app = await server.add("review", REVIEW)
    status, body = await app.run({"q": "Once"})
    assert (status, body["data"]["status"], body["data"]["finished_at"]) == (200, "paused", None)
    assert body["data"]["total_steps"] == 2
    token = body["data"]["reasons"][0]["form_token"]
    _, detail = await app.call("GET", f"/v1/workflows/run/{body['workflow_run_id']}")
    assert detail["status"] == "paused"
    _, form = await app.call("GET", f"/v1/form/human_input/{token}")
    assert form["form_content"] == "# Draft\nOnce\nComment: {{#$output.comment#}}"


async def test_a_timeout_is_an_event(server: Serving, clock: Clock) -> None:
    app = await server.add("review", REVIEW)
    events = await paused(app)
    run, expiration = events[-1].body["workflow_run_id"], events[-2].data["expiration_time"]
    clock.now += HOUR
    refusal = await submit(app, events[-2].data["form_token"], comment="x")
    form = events[-2].data["form_id"]
    expired = {"code": "human_input_form_expired", "message": f"This form has expired, form_id={form}", "status": 412}
    assert refusal == (412, expired)
    await expire_forms(server.run_service)
    events = await whole(app, run)
    timeout = next(event.data for event in events if event.name == "human_input_form_timeout")
    assert timeout == {"node_id": "ask", "node_title": "Review", "expiration_time": expiration}
    assert events[-1].data["outputs"]["action"] == ""


async def test_what_is_refused(server: Serving) -> None:
    app, other = await server.add("review", REVIEW), await server.add("other", REVIEW.replace("# Draft", "# Other"))
    required = (await paused(app))[-2].data
    token, path = required["form_token"], f"/v1/form/human_input/{required['form_token']}"
    not_found = {"code": "not_found", "message": "Form not found", "status": 404}
    for caller, secret in ((other, token), (app, "no-such-token"), (app, "%00")):
        assert await caller.call("GET", f"/v1/form/human_input/{secret}") == (404, not_found)
        assert (await submit(caller, secret, comment="x")) == (404, not_found)

    async def code(body: Mapping[str, Any]) -> tuple[int, str]:
        status, refusal = await app.call("POST", path, json=body)
        return status, refusal["code"]

    assert await code({"inputs": {}, "action": "approve"}) == (400, "invalid_param")
    assert (await code({"inputs": [], "action": "approve", "user": "u1"}))[0] == 400
    assert (await code({"inputs": {}, "user": "u1"}))[0] == 400
    assert await code({"inputs": {"comment": "x"}, "action": "ship", "user": "u1"}) == (400, "invalid_form_data")
    assert (await submit(app, token))[1] == {
        "code": "invalid_form_data",
        "message": "Missing required inputs: comment",
        "status": 400,
    }
    assert await submit(app, token, comment="", more="ignored") == (200, {})
    for method in ("GET", "POST"):
        body = {"inputs": {"comment": ""}, "action": "approve", "user": "another"}
        status, refusal = await app.call(method, path, json=body if method == "POST" else None)
        message = f"This form has already been submitted by another user, form_id={required['form_id']}"
        assert (status, refusal["code"], refusal["message"]) == (412, "human_input_form_submitted", message)


async def test_a_form_by_email_has_no_token_for_clients(server: Serving) -> None:
    config = {"subject": "s", "body": "b", "recipients": {"items": [{"type": "external", "email": "a@example.com"}]}}
    mail = {"type": "email", "enabled": True, "config": config}
    app = await server.add(
        "mail",
        workflow({"ask": human_input(delivery_methods=[mail])}, ["s>ask", "ask:approve>e"], OUTPUTS),
    )
    required = (await paused(app))[-2]
    assert required.data["form_token"] is None
    [request] = [
        record.event
        for record in await server.store.journal.read(required.body["workflow_run_id"])
        if type(record.event).__name__ == "FormRequested"
    ]
    token = request.deliveries[0]["recipients"][0]["token"]  # pyright: ignore[reportAttributeAccessIssue]
    assert (await app.call("GET", f"/v1/form/human_input/{token}"))[0] == 404


async def test_secrets_are_masked_in_forms(server: Serving) -> None:
    app = await server.add("secret", REVIEW.replace("# Draft", "# {{#env.KEY#}}"))
    events = await paused(app)
    assert events[-2].data["form_content"].startswith("# ****")
    assert events[-1].data["reasons"][0]["form_content"].startswith("# ****")
    _, form = await app.call("GET", f"/v1/form/human_input/{events[-2].data['form_token']}")
    assert form["form_content"].startswith("# ****")


async def test_messages_have_the_forms_of_their_run(server: Serving) -> None:
    app = await server.add("chat", CHAT)
    body = {"inputs": {}, "query": "Hello", "user": "u1", "response_mode": "blocking"}
    status, answer = await app.call("POST", "/v1/chat-messages", json=body)
    assert (status, answer["event"], answer["data"]["status"]) == (200, "workflow_paused", "paused")
    run, conversation = answer["workflow_run_id"], answer["conversation_id"]

    async def message() -> Mapping[str, Any]:
        _, page = await app.call("GET", f"/v1/messages?user=u1&conversation_id={conversation}")
        [item] = page["data"]
        return item

    waiting = await message()
    [content] = waiting["extra_contents"]
    assert waiting["status"] == "paused"
    assert (content["type"], content["workflow_run_id"], content["submitted"]) == ("human_input", run, False)
    definition = content["form_definition"]
    assert (definition["form_content"], content["form_submission_data"]) == ("Hello: {{#$output.comment#}}", None)
    assert (await submit(app, definition["form_token"], comment="hi"))[0] == 200
    events = await whole(app, run)
    assert "human_input_form_filled" in names(events)
    assert names(events)[-1] == "message_end"
    answered = await message()
    assert (answered["status"], answered["answer"]) == ("normal", "Hello: hi")
    [content] = answered["extra_contents"]
    assert (content["submitted"], content["form_definition"]) == (True, None)
    assert content["form_submission_data"] == {
        "node_id": "ask",
        "node_title": "Review",
        "rendered_content": "Hello: hi",
        "action_id": "approve",
        "action_text": "Approve",
    }


async def test_a_message_keeps_the_form_that_nobody_answered(server: Serving, clock: Clock) -> None:
    app = await server.add("chat", CHAT)
    body = {"inputs": {}, "query": "Hello", "user": "u1", "response_mode": "blocking"}
    _, answer = await app.call("POST", "/v1/chat-messages", json=body)
    clock.now += 2 * HOUR
    await expire_forms(server.run_service)
    await whole(app, answer["workflow_run_id"])
    _, page = await app.call("GET", f"/v1/messages?user=u1&conversation_id={answer['conversation_id']}")
    [content] = page["data"][0]["extra_contents"]
    assert (content["submitted"], content["form_submission_data"]) == (False, None)
    assert content["form_definition"]["expiration_time"] <= clock.now


async def test_a_key_that_only_reads_gets_no_token(server: Serving) -> None:
    app = await server.add("chat", CHAT)
    body = {"inputs": {}, "query": "Hello", "user": "u1", "response_mode": "blocking"}
    _, answer = await app.call("POST", "/v1/chat-messages", json=body)
    token = answer["data"]["reasons"][0]["form_token"]
    _, key = await server.apps.access.create(Rights("default", frozenset({"read"})), "reader")
    run = answer["workflow_run_id"]
    for path in (
        f"/v1/workflow/{run}/events?user=u1&include_state_snapshot=true",
        f"/api/v1/workflow-runs/{run}/events",
        f"/v1/messages?user=u1&conversation_id={answer['conversation_id']}",
    ):
        for bearer, visible in ((app.key, True), (key, False)):
            async with app.session.get(app.url + path, headers={"Authorization": f"Bearer {bearer}"}) as response:
                text = await response.text()
            assert (response.status, "Hello: " in text, token in text) == (200, True, visible), path


async def test_forms_that_wait_are_listed(server: Serving, clock: Clock) -> None:
    app = await server.add("review", REVIEW)
    other = await server.add("other", REVIEW.replace("timeout: 1\n", "timeout: 2\n"))
    runs = [(await paused(client))[-1].body["workflow_run_id"] for client in (other, app, app)]

    async def page(client: Client, query: str = "") -> Mapping[str, Any]:
        status, body = await client.call("GET", f"/api/v1/forms{query}")
        assert status == 200
        return body

    first = await page(app, "?limit=1")
    second = await page(app, f"?limit=1&cursor={first['next_cursor']}")
    assert second["next_cursor"] is None
    assert {form["workflow_run_id"] for form in (*first["data"], *second["data"])} == set(runs[1:])
    [form] = (await page(other))["data"]
    assert form["expires_at"] == int(clock.now) + 2 * HOUR
    assert (form["node_id"], form["node_title"], form["app_name"]) == ("ask", "Review", "review")
    assert (await submit(other, form["form_token"], comment="x"))[0] == 200
    assert (await page(other))["data"] == []
