"""Thinking of models that separate it from their text, as later versions of Dify than 1.12 tell it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.kernel.events import REASONING
from headrace.node import Context, Result
from tests.api.chats import chatflow, saying
from tests.api.serving import Event, Scripted, Serving, workflow


async def think(ctx: Context) -> Result:
    """As an llm node with `reasoning_format: separated` does."""
    for name, text in ((REASONING, "Hm"), (REASONING, "m."), ("text", "Hel"), ("text", "lo")):
        ctx.emit(name, text)
    return Result({"text": "Hello", "reasoning_content": "Hmm."})


def reasoning(events: Sequence[Event]) -> list[tuple[str, bool]]:
    return [(item.data["reasoning"], item.data["is_final"]) for item in events if item.name == "reasoning_chunk"]


async def test_thinking_is_told_beside_the_answer(server: Serving) -> None:
    Scripted.scripts["think"] = think
    app = await server.add("chat.yml", chatflow("{{#think.text#}}!", ["think"]))
    async with saying(app) as stream:
        events = await stream.rest()
    thoughts = [item.body for item in events if item.name == "reasoning_chunk"]
    assert list(thoughts[0]) == ["event", "conversation_id", "message_id", "created_at", "task_id", "data"]
    assert list(thoughts[0]["data"]) == ["message_id", "reasoning", "node_id", "is_final"]
    assert {(thought["data"]["message_id"], thought["data"]["node_id"]) for thought in thoughts} == {
        (thoughts[0]["message_id"], "think")
    }
    sent = reasoning(events)
    assert "".join(text for text, _ in sent) == "Hmm."
    assert [final for _, final in sent] == [False] * (len(sent) - 1) + [True]
    assert "".join(item.body["answer"] for item in events if item.name == "message") == "Hello!"
    names = [item.name for item in events]
    assert (
        names.index("reasoning_chunk") < names.index("message") < names.index("node_finished", names.index("message"))
    )


async def test_thinking_of_a_workflow(server: Serving) -> None:
    Scripted.scripts["think"] = think
    app = await server.add("tiny.yml", workflow(["think"], outputs={"out": ("think", "text")}))
    async with app.stream() as stream:
        events = await stream.rest()
    (first, *_) = [item.body for item in events if item.name == "reasoning_chunk"]
    assert list(first) == ["event", "workflow_run_id", "task_id", "data"]
    assert "".join(text for text, _ in reasoning(events)) == "Hmm."


async def test_thinking_that_no_response_shows_is_not_told(server: Serving) -> None:
    Scripted.scripts["think"] = think
    app = await server.add("chat.yml", chatflow("{{#sys.query#}}", ["think"]))
    async with saying(app) as stream:
        assert reasoning(await stream.rest()) == []
    basic = await server.add("basic.yml", chatflow("{{#think.text#}}", ["think"], mode="chat", name="basic"))
    async with saying(basic) as stream:
        assert reasoning(await stream.rest()) == [], "of such apps only the answer is told"


async def test_thinking_goes_on_from_any_place(server: Serving) -> None:
    Scripted.scripts["think"] = think
    app = await server.add("chat.yml", chatflow("{{#think.text#}}!", ["think"]))
    async with saying(app) as stream:
        events = await stream.rest()
    run = events[0].body["message_id"]
    for place, event in enumerate(events[:-1]):
        headers = {"Last-Event-ID": event.id or ""}
        async with app.stream(f"/v1/workflow/{run}/events?user=u1", headers) as again:
            rest = await again.rest()
        sent = "".join(text for text, _ in reasoning(events[: place + 1])), "".join(t for t, _ in reasoning(rest))
        assert "".join(sent) == "Hmm.", (event.name, event.id)
        assert sum(final for _, final in [*reasoning(events[: place + 1]), *reasoning(rest)]) == 1, event.id
