"""Knowledge bases as tools of an agent-chat app."""

from __future__ import annotations

from typing import Any

from headrace.adapters.models import ModelClient
from headrace.nodes.knowledge_retrieval import retriever_resources
from tests.models.server import ModelServer
from tests.nodes.agent.world import agent_world, by_round, calls, chat_file, drive, loaded, says
from tests.nodes.test_knowledge_retrieval import Base, passage


def bases(*ids: str, **more: Any) -> dict[str, Any]:
    datasets = [{"dataset": {"enabled": True, "id": id_}} for id_ in ids]
    return {"dataset_configs": {"retrieval_model": "multiple", "datasets": {"datasets": datasets}, **more}}


async def test_each_base_is_a_tool(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(("dataset_a_1", {"query": "cats?"})), says("Cats purr.")))
    base = Base({"a-1": [passage("Cats purr.", 0.9), passage("Cats eat.", 0.8)], "b": []})
    flow = loaded(chat_file("weather", config=bases("a-1", "b", top_k=2)))
    ran = await drive(flow, client, knowledge=base)
    offers = [offer["function"] for offer in server.requests[0].body["tools"]]
    assert [offer["name"] for offer in offers] == ["weather", "dataset_a_1", "dataset_b"]
    assert [*offers[1]["parameters"]["properties"]] == offers[1]["parameters"]["required"] == ["query"]
    assert [(request.dataset, request.query, request.top_k) for request in base.requests] == [("a-1", "cats?", 2)]
    assert server.requests[1].body["messages"][3]["content"] == "Cats purr.\nCats eat."
    cited = retriever_resources(ran.outputs)
    assert [(source["content"], source["position"]) for source in cited] == [("Cats purr.", 1), ("Cats eat.", 2)]


async def test_a_base_alone_makes_an_agent(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(("dataset_b", {"query": "dogs?"})), says("Nothing.")))
    ran = await drive(loaded(chat_file(config=bases("b"))), client, knowledge=Base({"b": []}))
    assert server.requests[1].body["messages"][3]["content"] == ""
    assert ran.outputs["text"] == "Nothing."
    assert ran.outputs["sources"] == []


async def test_a_base_that_fails_is_told_to_the_model(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(("dataset_gone", {"query": "x"}), ("dataset_gone", {})), says("Sorry.")))
    ran = await drive(loaded(chat_file(config=bases("gone"))), client, knowledge=Base({}))
    first, second = server.requests[1].body["messages"][3:]
    assert first["content"] == "tool invoke error: Knowledge base 'gone': gone"
    assert second["content"] == ""  # no query, no passages
    assert ran.outputs["text"] == "Sorry."


async def test_a_base_that_is_not_configured_is_named(client: ModelClient):
    flow = loaded(chat_file(config=bases("gone", "here")))
    resources = agent_world(client, knowledge=Base({"here": []})).resources
    assert [*flow.nodes["llm"].missing_requirements(resources)] == ["set HEADRACE_KNOWLEDGE_URL"]
