"""What a chat says from inside of iterations and loops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.node import Config, Context, Node, Result
from tests.api.chats import say, saying
from tests.api.serving import serving
from tests.engine.nests import REGISTRY, adds, iteration, loop, node, source, variable


class Talk(Node[Config]):
    """Says what it is asked, letter by letter, as a model does."""

    type = "talk"

    async def run(self, ctx: Context) -> Result:
        text = ctx.variables.get(["sys", "query"])
        for letter in text:
            ctx.emit("text", letter)
            await asyncio.sleep(0)
        return Result({"text": text})


class Letters(Node[Config]):
    type = "letters"

    async def run(self, ctx: Context) -> Result:
        return Result({"r": list("abc")})


TALKING = {**REGISTRY, "talk": Talk, "letters": Letters}


def chat(nodes: list[Any], edges: str) -> str:
    file = yaml.safe_load(source(nodes, edges, {}))
    file["app"]["mode"] = "advanced-chat"
    end = file["workflow"]["graph"]["nodes"][-1]
    end["data"] = {"type": "answer", "title": "End", "answer": "!"}
    return yaml.safe_dump(file)


def each_letter(**data: Any) -> str:
    return chat(
        [
            node("split", "letters"),
            iteration("it", ["split", "r"], ["talk", "text"], **data),
            node("talk", "talk", "it"),
            node("say", "answer", "it", answer="{{#it.index#}}<{{#talk.text#}}>"),
        ],
        "start>split split>it it-start>talk talk>say it>end",
    )


@pytest.mark.parametrize("parallel", [False, True])
async def test_rounds_speak_one_after_another_before_what_follows(tmp_path: Path, parallel: bool) -> None:
    async with serving(tmp_path, registry=TALKING) as server:
        app = await server.add("chat.yml", each_letter(is_parallel=parallel))
        _, body = await say(app, "hey")
        async with saying(app, "hey") as stream:
            events = await stream.rest()
    assert body["answer"] == "0<hey>1<hey>2<hey>!"
    assert "".join(event.body["answer"] for event in events if event.name == "message") == body["answer"]
    ended = next(event for event in events if event.name == "workflow_finished")
    assert ended.data["outputs"]["answer"] == body["answer"]
    names = [event.body["answer"] if event.name == "message" else event.name for event in events]
    assert names.index("iteration_completed") < names.index("!")
    assert names.count("h") == 3, "a model's text comes as it is said"


async def test_the_rounds_of_a_loop_speak(tmp_path: Path) -> None:
    created = chat(
        [
            loop("lp", 3, loop_variables=[variable("n", 0)]),
            adds("add", ["lp", "n"], 1, "lp"),
            node("say", "answer", "lp", answer="{{#lp.n#}},"),
        ],
        "start>lp lp-start>add add>say lp>end",
    )
    async with serving(tmp_path, registry=TALKING) as server:
        app = await server.add("chat.yml", created)
        assert (await say(app))[1]["answer"] == "1,2,3,!"
