"""E-mails of a process that is killed while it sends them."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.human_input.flows import human_input, workflow
from tests.mail.smtp import mail_server
from tests.server.gated import Client
from tests.server.process import Serve

ANN, BOB = "ann@example.com", "bob@example.com"


def mailed() -> str:
    recipients = {"items": [{"type": "external", "email": address} for address in (ANN, BOB)]}
    delivery = {"type": "email", "enabled": True, "config": {"subject": "s", "body": "b", "recipients": recipients}}
    return workflow({"ask": human_input(delivery_methods=[delivery])}, ["s>ask", "ask:approve>e"])


@asynccontextmanager
async def running(serve: Serve) -> AsyncGenerator[Serve]:
    await asyncio.to_thread(serve.__enter__)
    try:
        yield serve
    finally:
        await asyncio.to_thread(serve.__exit__, None, None, None)


def paused(serve: Serve) -> str:
    fields = {"inputs": {"q": "Once"}, "user": "u", "response_mode": "blocking"}
    with Client(serve, "mailed").stream("POST", "/v1/workflows/run", fields) as answer:
        return json.load(answer)["workflow_run_id"]


async def delivered(serve: Serve, run: str, address: str) -> dict[str, Any]:
    """The delivery to an address, once it has succeeded."""
    async with asyncio.timeout(60):
        while True:
            listed = await asyncio.to_thread(Client(serve, "mailed").get, f"/api/v1/workflow-runs/{run}/callbacks")
            (item,) = (item for item in listed["data"] if item["url"] == f"mailto:{address}")
            if item["status"] == "delivered":
                return item


async def test_an_email_whose_acceptance_was_lost_is_sent_again(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mailed.yml"
    file.write_text(mailed(), "utf-8")
    async with mail_server() as server:
        accept, never = server.handle_DATA, asyncio.Event()

        async def accept_first_in_silence(*args: Any) -> str:
            answer = await accept(*args)
            if [message["To"] for message in server.messages].count(ANN) == 1 and server.messages[-1]["To"] == ANN:
                await never.wait()
            return answer

        server.handle_DATA = accept_first_in_silence
        environ = {
            "HEADRACE_SMTP_URL": f"smtp://127.0.0.1:{server.port}",
            "HEADRACE_SMTP_FROM": "h@example.com",
            "HEADRACE_PUBLIC_URL": "https://h.example.com",
        }
        async with running(Serve(tmp_path, [file], environ)) as serve:
            run = await asyncio.to_thread(paused, serve)
            await server.received(2)
            await delivered(serve, run, BOB)
            await asyncio.to_thread(serve.kill)
            await asyncio.to_thread(serve.__enter__)
            sent = {ANN: await delivered(serve, run, ANN), BOB: await delivered(serve, run, BOB)}
        never.set()
    assert {address: item["attempts"] for address, item in sent.items()} == {ANN: 1, BOB: 1}
    received = [(message["To"], message["Message-ID"]) for message in server.messages]
    assert sorted(to for to, _ in received) == [ANN, ANN, BOB]
    assert len({id_ for to, id_ in received if to == ANN}) == 1
