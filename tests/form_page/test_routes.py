"""The page of a form, over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headrace.api.form_page import routes
from headrace.errors import TooManyRequests
from headrace.kernel.events import FormRequested, FormSubmitted
from headrace.node import Context, Result
from headrace.values import File, Value
from tests.api.serving import Client, Scripted, Serving, serving, workflow
from tests.form_page.forms import ACTIONS, COMMENT, LINK, PAGE, PICTURES, PRIORITY

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
TOKEN = "Jq3vPpXyZ0-aB_cD1eF2gH3iJ4kL5mN6oP7qR8sT9uV"
MAIL_TOKEN = "mail" + TOKEN[4:]


@dataclass
class Form:
    """A run that waits for an answer to a form with these inputs."""

    app: Client
    server: Serving
    run: str

    async def get(self, token: str = TOKEN, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        async with self.app.session.get(f"{self.app.url}/form/{token}", headers=headers) as response:
            return response.status, await response.text(), response.headers

    async def post(self, data: Any, token: str = TOKEN, **headers: str) -> tuple[int, str]:
        async with self.app.session.post(f"{self.app.url}/form/{token}", data=data, headers=headers) as response:
            return response.status, await response.text()

    async def outputs(self) -> Any:
        status, run = await self.app.call("GET", f"/api/v1/workflow-runs/{self.run}?wait=60")
        assert (status, run["status"]) == (200, "succeeded"), run
        return run["outputs"]["answer"]

    async def answer(self) -> FormSubmitted:
        records = await self.server.store.journal.read(self.run)
        (event,) = [record.event for record in records if isinstance(record.event, FormSubmitted)]
        return event


async def open_form(server: Serving, *inputs: dict[str, Value], seconds: int = 3600) -> Form:
    async def ask(ctx: Context) -> Any:
        if ctx.form is None:
            mail = {"type": "email", "recipients": [{"type": "external", "to": "ann@x.example", "token": MAIL_TOKEN}]}
            deliveries = [{"type": "webapp", "token": TOKEN}, mail]
            content = "**Right?** {{#$output.comment#}}"
            return FormRequested(ctx.path, "form-1", "Ask", content, inputs, ACTIONS, {}, seconds, deliveries)
        outcome = ctx.form.outcome
        assert isinstance(outcome, FormSubmitted)
        return Result({"answer": {"action": outcome.action, **outcome.data}})

    Scripted.scripts["ask"] = ask
    app = await server.add("ask.yml", workflow(["ask"], outputs={"answer": ["ask", "answer"]}))
    status, body = await app.run()
    assert (status, body["data"]["status"]) == (200, "paused"), body
    return Form(app, server, body["workflow_run_id"])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, public_url="https://flows.example.com/base") as server:
        yield server


async def test_the_page_is_private_and_in_the_readers_language(server: Serving) -> None:
    ask = await open_form(server, COMMENT)
    status, html, headers = await ask.get(**{"Accept-Language": "zh-TW"})
    assert status == 200
    assert '<html lang="zh-Hant">' in html
    assert "<strong>Right?</strong>" in html
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "img-src 'self' https://flows.example.com;" in policy
    async with server.session.get(f"{server.url}/openapi.json") as response:
        assert '"/form/{token}"' not in await response.text()


async def test_an_answer_continues_the_run_once(server: Serving) -> None:
    ask = await open_form(server, COMMENT, PRIORITY)
    answer = {"input-comment": "Fine.\r\nReally 👍", "input-priority": "<high>", "action": "approve", "other": "x"}
    responses = await asyncio.gather(*(ask.post(answer) for _ in range(5)))
    assert sorted(status for status, _ in responses) == [200, 410, 410, 410, 410]
    (thanks,) = [html for status, html in responses if status == 200]
    assert "Your answer has been sent." in thanks
    assert await ask.outputs() == {"action": "approve", "comment": "Fine.\nReally 👍", "priority": "<high>"}
    for status, html, _ in (await ask.get(), await ask.get(MAIL_TOKEN)):
        assert (status, "It has been answered already." in html, "<form" in html) == (410, True, False)


async def test_who_answered_is_known_by_the_token(server: Serving) -> None:
    ask = await open_form(server, COMMENT)
    assert (await ask.post({"input-comment": "", "action": "reject"}, MAIL_TOKEN))[0] == 200
    assert (await ask.outputs())["comment"] == ""
    assert (await ask.answer()).recipient == "ann@x.example"


async def test_a_refused_answer_keeps_what_was_typed_and_the_form_open(server: Serving) -> None:
    ask = await open_form(server, COMMENT, PRIORITY)
    for answer, message in (
        ({"input-comment": "typed <b>", "action": "approve"}, "Please fill in this field."),
        ({"input-comment": "typed <b>", "input-priority": "no such", "action": "approve"}, "Invalid value for select"),
        ({"input-comment": "typed <b>", "input-priority": "low", "action": "<nothing>"}, "Invalid action: &lt;nothing"),
        ({"input-comment": "typed <b>", "input-priority": "low"}, "Invalid action"),
    ):
        status, html = await ask.post(answer)
        assert (status, message in html) == (400, True), html
        assert "typed &lt;b&gt;</textarea>" in html
    assert (await ask.get())[0] == 200


async def test_files_are_stored_as_those_of_the_runs_user(server: Serving) -> None:
    ask = await open_form(server, PAGE, PICTURES, LINK)
    data = aiohttp.FormData(quote_fields=False)
    data.add_field("input-page", b"# notes", filename="notes äöü.md", content_type="text/markdown")
    for number in range(2):
        data.add_field("input-pictures", PNG, filename=f"{number}.png", content_type="image/png")
    data.add_field("input-link", "https://pictures.example.com/a.png")
    data.add_field("action", "approve")
    status, html = await ask.post(data)
    assert status == 200, html
    answer = (await ask.answer()).data
    page, (first, second), link = answer["page"], answer["pictures"], answer["link"]
    assert isinstance(page, File)
    assert (page.filename, page.type, page.transfer_method) == ("notes äöü.md", "document", "local_file")
    assert [file.filename for file in (first, second)] == ["0.png", "1.png"]
    assert (link.transfer_method, link.remote_url) == ("remote_url", "https://pictures.example.com/a.png")
    stored, path = await server.files.open(first.related_id)
    user = await server.apps.end_user(ask.app.release.app, "u1")
    assert (stored.app, stored.owner, path.read_bytes()) == (ask.app.release.app.id, user.id, PNG)


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("a.pdf", b"%PDF-", 400, "file is not allowed"),
        ("a.exe", b"MZ", 400, "file is not allowed"),
        ("a.png", b"x" * 3000, 400, "File size exceeded"),
        ("", b"", 400, "Please fill in this field."),
    ],
)
async def test_files_that_are_not_accepted(
    server: Serving, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, status: int, message: str
) -> None:
    ask = await open_form(server, COMMENT, PAGE)
    monkeypatch.setattr("headrace.api.auth.Api.upload_limit", lambda *_: 2000)
    data = aiohttp.FormData()
    data.add_field("input-comment", "typed")
    data.add_field("input-page", content, filename=name, content_type="application/octet-stream")
    data.add_field("action", "approve")
    refused, html = await ask.post(data)
    assert (refused, message in html) == (status, True), html
    assert ">\ntyped</textarea>" in html
    assert ("Please choose the files again." in html) == bool(name)


async def test_bodies_that_are_no_answers(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = await open_form(server, COMMENT)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    status, page = await ask.post(b'{"action": "approve"}', **{"Content-Type": "application/json"})
    assert (status, "The request is not an HTML form." in page) == (415, True)
    assert (await ask.post(b"--x\r\nContent-Disposition: nonsense", **form))[0] == 400
    assert (await ask.post(b"x", **{"Content-Type": "multipart/form-data"}))[0] == 400
    assert (await ask.post({f"field{number}": "x" for number in range(1001)}))[0] == 400
    monkeypatch.setattr(routes, "_OVERHEAD", 1000)
    assert (await ask.post({"input-comment": "x" * 2000, "action": "approve"}))[0] == 413
    assert (await ask.get())[0] == 200


async def test_forms_that_are_over_or_unknown(server: Serving) -> None:
    ask = await open_form(server, COMMENT, seconds=0)
    status, html, _ = await ask.get(**{"Accept-Language": "zh-CN"})
    assert (status, "回复期限已过。" in html) == (410, True)
    assert (await ask.post({"input-comment": "", "action": "approve"}))[0] == 410
    for token in ("unknown", "%00", "a" * 5000, "%F0%9F%91%8D"):
        status, html, _ = await ask.get(token)
        assert (status, "There is no such form" in html) == (404, True)


async def test_an_address_cannot_try_for_ever(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = await open_form(server, COMMENT)
    monkeypatch.setattr(routes, "_PER_MINUTE", 0)
    status, html, headers = await ask.get()
    assert (status, headers["Retry-After"]) == (429, "60")
    assert "Too many requests" in html


def test_requests_are_counted_by_address_and_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_PER_MINUTE", 2)
    rate = routes.Rate()
    for address, at in (("a", 60.0), ("a", 119.9), ("b", 119.9), ("a", 120.0), ("a", 121.0)):
        rate.check(address, at)
    with pytest.raises(TooManyRequests):
        rate.check("a", 179.0)
    rate.check("b", 179.0)


async def test_the_token_is_in_no_log(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    from headrace.telemetry.scrubbing import Scrubber

    scrubber = Scrubber()
    for path in (f"/form/{TOKEN}", f"/v1/form/human_input/{TOKEN}", f"https://h.example/base/form/{TOKEN}?x"):
        assert TOKEN not in scrubber.text(f"GET {path} 200")
        assert "/form/" in scrubber.text(path)
    caplog.set_level(logging.DEBUG)
    ask = await open_form(server, COMMENT)
    await ask.post({"action": "x"})
    assert not [record for record in caplog.records if TOKEN in scrubber.text(record.getMessage())]
