"""Every provider of the table: tools are offered, and parallel calls arrive while they are streamed.

Providers with a protocol of their own have the same in `test_anthropic`, `test_gemini`, `test_bedrock` and
`test_vertex`.
"""

from __future__ import annotations

import pytest

from headrace.adapters.models import ModelClient
from headrace.adapters.models.providers import PROVIDERS, resolve
from headrace.ports.services import FunctionTool, ToolCall
from tests.models.server import ModelServer, ask, hear, piece, usage

OWN_PROTOCOL = {"anthropic", "gemini", "google"}
WEATHER = FunctionTool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def environ_of(name: str, url: str) -> dict[str, str]:
    return {f"{name.upper()}_API_KEY": "k", f"{name.upper()}_BASE_URL": f"{url}/v1"}


@pytest.mark.parametrize("provider", sorted(PROVIDERS.keys() - OWN_PROTOCOL))
async def test_parallel_calls(server: ModelServer, provider: str):
    def part(index: int, arguments: str, **first: object) -> dict[str, object]:
        return piece(tool_calls=[{"index": index, **first, "function": {"arguments": arguments, **first}}])

    server.say(
        piece("Let me look."),
        part(0, '{"city": ', id="a", name="weather"),
        part(0, '"Rome"}'),
        part(1, '{"city": "Oslo"}', id="b", name="weather"),
        piece(finish="tool_calls"),
        usage(10, 5),
    )
    client = ModelClient(environ_of(provider, server.url))
    chunks = await hear(client, ask(provider=f"langgenius/{provider}/{provider}", tools=[WEATHER]))
    await client.aclose()
    (request,) = server.requests
    assert [offer["function"]["name"] for offer in request.body["tools"]] == ["weather"]
    assert request.body["stream"] is True
    assert chunks[0].text == "Let me look."
    assert chunks[-1].tool_calls == (
        ToolCall("a", "weather", '{"city": "Rome"}'),
        ToolCall("b", "weather", '{"city": "Oslo"}'),
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_protocol(provider: str):
    url = "https://example.com" if provider in OWN_PROTOCOL else "https://example.com/v1"
    environ = {f"{provider.upper()}_API_KEY": "k", f"{provider.upper()}_BASE_URL": url}
    assert (resolve(environ, provider).protocol == "openai") == (provider not in OWN_PROTOCOL)
