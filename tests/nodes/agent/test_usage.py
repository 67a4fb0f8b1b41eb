"""What an agent used: its models, and the models of its tools."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.kernel.summary import UsageTotal
from headrace.ports.services import TextMessage, ToolSpec, Usage, UsageMessage
from headrace.values import Value
from tests.models.server import ModelServer
from tests.nodes.agent.world import TOOLS, agent_file, by_round, calls, drive, loaded, says, tool

PRICED = Usage(1000, 500, Decimal("2"), Decimal("4"), latency=0.5).wire()


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    added = dict(TOOLS)
    monkeypatch.setattr("tests.nodes.agent.world.TOOLS", added)
    return added


async def test_models_of_tools_count(server: ModelServer, client: ModelClient, tools: dict[str, Any]):
    answer = [UsageMessage(PRICED), TextMessage("A poem."), UsageMessage(PRICED)]
    tools["poet"] = (lambda: answer, ToolSpec("poet", "Poet", "Writes poems."))
    server.answer(by_round(calls(("poet", {})), says("There.")))
    ran = await drive(loaded(agent_file(tool("poet"))), client)
    usage = ran.outputs["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (2030, 1012, 3042)
    assert (Decimal(usage["total_price"]), Decimal(usage["prompt_price"])) == (8, 4)
    assert usage.keys() == PRICED.keys()
    call = next(entry for entry in ran.outputs["json"] if entry["label"] == "CALL poet")
    assert (call["metadata"]["total_tokens"], Decimal(call["metadata"]["total_price"])) == (3000, 8)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"total_tokens": "many", "total_price": "x", "latency": None},
        {"total_tokens": -5, "total_price": "NaN", "latency": "1"},
        {"total_tokens": True, "prompt_price": [], "latency": float("inf")},
        {"total_price": None, "currency": None},
    ],
)
async def test_a_usage_that_is_not_valid_counts_as_nothing(
    server: ModelServer, client: ModelClient, tools: dict[str, Any], usage: dict[str, Value]
):
    tools["poet"] = (lambda: [UsageMessage(usage)], ToolSpec("poet", "Poet", "Writes poems."))
    server.answer(by_round(calls(("poet", {})), says("There.")))
    ran = await drive(loaded(agent_file(tool("poet"))), client)
    assert ran.outputs["usage"]["total_tokens"] == 42
    assert ran.outputs["usage"]["currency"] == "USD"


def test_prices_in_several_currencies_have_no_sum():
    total = UsageTotal()
    total.add(PRICED)
    total.add({**PRICED, "currency": "RMB"})
    assert total.wire() | {"total_price": "0", "prompt_price": "0", "currency": "USD"} == total.wire()
    assert total.wire()["total_tokens"] == 3000
