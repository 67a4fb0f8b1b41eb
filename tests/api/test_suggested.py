"""Questions suggested after a message, thought up by the app's own model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from headrace.errors import NodeError
from headrace.nodes.llm import LLM
from headrace.ports.services import ChatChunk, ChatRequest, Usage
from tests.api.chats import chatflow, refused, say
from tests.api.serving import REGISTRY, Client, Serving, serving

NOBODY = str(uuid4())
NO_MESSAGE = (404, "not_found", "Message Not Exists.")


ON = {"suggested_questions_after_answer": {"enabled": True}}
MODEL = {"provider": "langgenius/openai/openai", "name": "gpt-4o", "mode": "chat", "completion_params": {}}


@dataclass
class Model:
    """Answers what it is told to, and remembers what it was asked."""

    says: str | NodeError = "Hello!"
    requests: list[ChatRequest] = field(default_factory=list)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        self.requests.append(request)
        if isinstance(self.says, NodeError):
            raise self.says
        for word in self.says.split(" "):
            yield ChatChunk(word + " ")
        yield ChatChunk(usage=Usage())

    def missing(self, provider: str) -> str | None:
        return None


def thinking(features: Any = ON, scripts: Sequence[str] = (), model: Any = MODEL) -> str:
    """A chat app whose answer a model gives."""
    file: Any = yaml.safe_load(chatflow("{{#llm.text#}}", [*scripts, "llm"], features=features))
    prompt = [{"role": "user", "text": "{{#sys.query#}}"}]
    data = {"type": "llm", "title": "LLM", "model": model, "prompt_template": prompt}
    file["workflow"]["graph"]["nodes"][-2]["data"] = data
    return yaml.safe_dump(file)


@pytest.fixture
async def model() -> Model:
    return Model()


@pytest.fixture
async def thinker(tmp_path: Path, model: Model) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, models=model, registry={**REGISTRY, "llm": LLM}) as running:
        yield running


async def suggest(app: Client, message: str, user: str = "u1") -> Any:
    status, body = await app.call("GET", f"/v1/messages/{message}/suggested?user={user}")
    assert status == 200, body
    assert body["result"] == "success"
    return body["data"]


async def test_questions_are_suggested_by_the_apps_own_model(thinker: Serving, model: Model) -> None:
    app = await thinker.add("chat.yml", thinking())
    conversation = (await say(app, "zero"))[1]["conversation_id"]
    for query in ("one", "two"):
        await say(app, query, conversation)
    message = (await say(app, "three", conversation))[1]["message_id"]
    await say(app, "later", conversation)
    model.says = 'Sure!\n```json\n["What [else]?", " Who\\nare you? ", 5, "", "Why?", "How?"]\n```'
    assert await suggest(app, message) == ["What [else]?", "Who are you?", "Why?"]
    fields = model.requests[-1]
    assert (fields.provider, fields.model, fields.mode) == (MODEL["provider"], "gpt-4o", "chat")
    body = fields.messages[0].text
    assert body.index("User: one\nAssistant: Hello!") < body.index("User: two") < body.index("User: three")
    assert "zero" not in body
    assert "later" not in body


@pytest.mark.parametrize(
    "says",
    [
        "I have no idea.",
        "[",
        "[1, 2]",
        '{"questions": 3}',
        "",
        '<think>maybe ["this?"]</think>',
        "[" * 30_000,
        "[" * 3000 + "]" * 3000,
        "] what? [",
        NodeError("no credentials", "ProviderTokenNotInitError"),
    ],
)
async def test_a_model_that_fails_suggests_nothing(thinker: Serving, model: Model, says: str | NodeError) -> None:
    app = await thinker.add("chat.yml", thinking())
    message = (await say(app))[1]["message_id"]
    model.says = says
    assert await suggest(app, message) == []


async def test_the_feature_may_name_a_model_of_its_own(thinker: Serving, model: Model) -> None:
    own = {"provider": "openai", "name": "tiny", "mode": "chat"}
    app = await thinker.add("chat.yml", thinking({"suggested_questions_after_answer": {"enabled": True, "model": own}}))
    message = (await say(app))[1]["message_id"]
    model.says = '["Why?"]'
    assert await suggest(app, message) == ["Why?"]
    assert model.requests[-1].model == "tiny"


async def test_an_app_without_a_model_suggests_nothing(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(features=ON))
    assert await suggest(app, (await say(app))[1]["message_id"]) == []


async def test_a_model_that_rambles_is_cut_off(thinker: Serving, model: Model) -> None:
    app = await thinker.add("chat.yml", thinking())
    message = (await say(app))[1]["message_id"]
    model.says = "well " * 20_000 + '["Why?"]'
    assert await suggest(app, message) == []


async def test_suggestions_that_are_refused(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    said = (await say(app))[1]
    path = f"/v1/messages/{said['message_id']}/suggested"
    off = (400, "bad_request", "Suggested Questions Is Disabled.")
    assert await refused(app, "GET", f"{path}?user=u1") == off
    assert await refused(app, "GET", path) == (400, "invalid_param", "Arg user must be provided.")
    assert await refused(app, "GET", f"{path}?user=u2") == NO_MESSAGE
    assert await refused(app, "GET", f"/v1/messages/{NOBODY}/suggested?user=u1") == NO_MESSAGE
    assert await refused(app, "GET", "/v1/messages/nope/suggested?user=u1") == NO_MESSAGE
    other = await server.add("other.yml", chatflow(name="other", features=ON))
    assert await refused(other, "GET", f"{path}?user=u1") == NO_MESSAGE


async def test_a_deleted_conversation_suggests_nothing(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(features=ON))
    said = (await say(app))[1]
    headers = {"Authorization": f"Bearer {app.key}"}
    deleted = f"{app.url}/v1/conversations/{said['conversation_id']}"
    async with app.session.delete(deleted, headers=headers, json={"user": "u1"}) as answer:
        assert answer.status == 204
    error = await refused(app, "GET", f"/v1/messages/{said['message_id']}/suggested?user=u1")
    assert error == (404, "not_found", "Conversation Not Exists.")
