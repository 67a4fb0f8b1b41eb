"""Speech in and out, through a provider's own API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from headrace.adapters.models.speech import SpeechClient
from tests.api.chats import chatflow, say
from tests.api.serving import Client, Serving, serving, workflow
from tests.http.servers import serve

LISTENS = {"speech_to_text": {"enabled": True}}
SPEAKS = {"text_to_speech": {"enabled": True, "voice": "nova", "language": "en-US"}}
NOBODY = "0b8f6c0e-7a5d-4b43-9d0e-2f5b7b2a9e11"


@dataclass
class Provider:
    """Writes down what it is asked, and answers."""

    status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def transcribe(self, request: web.Request) -> web.Response:
        file = (await request.post())["file"]
        assert isinstance(file, web.FileField)
        self.requests.append({"name": file.filename, "type": file.content_type, "audio": file.file.read()})
        return self._answer(b'{"text": "Hello there."}', "application/json")

    async def speak(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return self._answer(b"ID3 audio", "audio/mpeg")

    def _answer(self, body: bytes, content_type: str) -> web.Response:
        if self.status == 200:
            return web.Response(body=body, content_type=content_type)
        return web.json_response({"error": {"message": "no such voice"}}, status=self.status)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def server(tmp_path: Path, provider: Provider) -> AsyncGenerator[Serving]:
    routes = {"/v1/audio/transcriptions": provider.transcribe, "/v1/audio/speech": provider.speak}
    async with serve(routes) as url, speaking(url) as speech, serving(tmp_path, speech=speech) as running:
        yield running


@asynccontextmanager
async def speaking(url: str) -> AsyncGenerator[SpeechClient]:
    environ = {"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": url} if url else {}
    async with aclosing(SpeechClient(environ)) as client:
        yield client


async def send(
    app: Client,
    audio: bytes | None = b"RIFF",
    *,
    name: str | None = "hi.wav",
    mime_type: str = "audio/wav",
    user: str = "u1",
) -> tuple[int, Any]:
    form = aiohttp.FormData({"user": user}, default_to_multipart=True)
    if audio is not None:
        form.add_field("file", BytesIO(audio), filename=name, content_type=mime_type)
    return await app.call("POST", "/v1/audio-to-text", data=form)


async def speak(app: Client, **fields: Any) -> tuple[int, str, bytes]:
    headers = {"Authorization": f"Bearer {app.key}"}
    async with app.session.post(f"{app.url}/v1/text-to-audio", headers=headers, json=fields) as answer:
        return answer.status, answer.content_type, await answer.read()


async def unspoken(app: Client, **fields: Any) -> tuple[int, str, str]:
    status, content_type, body = await speak(app, **fields)
    assert content_type == "application/json"
    error = json.loads(body)
    return status, error["code"], error["message"]


# ---------------------------------------------------------------------------------------------------- audio to text


@pytest.mark.parametrize("mode", ["advanced-chat", "completion"])
async def test_what_was_said_comes_back_as_text(server: Serving, provider: Provider, mode: str) -> None:
    app = await server.add("chat.yml", chatflow(features=LISTENS, mode=mode))
    assert await send(app, b"RIFF") == (200, {"text": "Hello there."})
    assert provider.requests == [{"name": "hi.wav", "type": "audio/wav", "audio": b"RIFF"}]


@pytest.mark.parametrize(
    ("name", "mime_type", "sent_as"),
    [
        ("blob", "audio/webm;codecs=opus", "blob.webm"),
        ("a.mp3", "audio/mp3", "a.mp3"),
        ("voice", "audio/mpeg", "voice.mp3"),
        ("", "AUDIO/M4A", "audio.m4a"),
    ],
)
async def test_every_usual_type_is_taken(
    server: Serving, provider: Provider, name: str, mime_type: str, sent_as: str
) -> None:
    app = await server.add("chat.yml", chatflow(features=LISTENS))
    assert (await send(app, name=name, mime_type=mime_type))[0] == 200
    assert provider.requests[0]["name"] == sent_as


async def test_audio_that_is_refused(server: Serving, provider: Provider) -> None:
    app = await server.add("chat.yml", chatflow(features=LISTENS))
    deaf = await server.add("deaf.yml", chatflow(name="deaf"))

    async def refused(case: tuple[int, Any]) -> tuple[int, str, str]:
        assert case[0] == case[1]["status"]
        return case[0], case[1]["code"], case[1]["message"]

    off = (400, "invalid_param", "Speech to text is not enabled")
    missing = (400, "no_audio_uploaded", "Please upload your audio.")
    wrong = (415, "unsupported_audio_type", "Audio type not allowed.")
    assert await refused(await send(deaf)) == off
    assert await refused(await send(app, None)) == missing
    assert await refused(await app.call("POST", "/v1/audio-to-text", json={"user": "u1"})) == missing
    assert await refused(await send(app, mime_type="text/plain")) == wrong
    assert await refused(await send(app, mime_type="audio/midi")) == wrong
    assert (await refused(await send(app, user="u" * 256)))[:2] == (400, "invalid_param")
    broken = {"data": b"--x\r\nnothing", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    assert (await refused(await app.call("POST", "/v1/audio-to-text", **broken)))[:2] == (400, "bad_request")
    assert provider.requests == []


@pytest.mark.parametrize("beyond", [1, 2 * 1024 * 1024])
async def test_audio_too_large(server: Serving, provider: Provider, beyond: int) -> None:
    app = await server.add("chat.yml", chatflow(features=LISTENS))
    status, body = await send(app, b"\0" * (30 * 1024 * 1024 + beyond))
    assert (status, body["code"], body["message"]) == (413, "audio_too_large", "Audio size larger than 30 mb")
    assert provider.requests == []
    assert (await send(app))[0] == 200


async def test_a_provider_that_fails(server: Serving, provider: Provider) -> None:
    app = await server.add("chat.yml", chatflow(features={**LISTENS, **SPEAKS}))
    provider.status = 400
    status, body = await send(app)
    assert (status, body["code"]) == (400, "completion_request_error")
    status, code, message = await unspoken(app, text="hello", user="u1")
    assert (status, code) == (400, "completion_request_error")
    assert "no such voice" in message


@pytest.mark.parametrize("there", [True, False])
async def test_speech_without_credentials(tmp_path: Path, there: bool) -> None:
    async with speaking("") as speech, serving(tmp_path, speech=speech if there else None) as server:
        app = await server.add("chat.yml", chatflow(features={**LISTENS, **SPEAKS}))
        status, body = await send(app)
        assert (status, body["code"]) == (400, "provider_not_initialize")
        assert (await unspoken(app, text="hello"))[:2] == (400, "provider_not_initialize")


# ---------------------------------------------------------------------------------------------------- text to audio


async def test_a_text_is_spoken(server: Serving, provider: Provider) -> None:
    app = await server.add("chat.yml", chatflow(features=SPEAKS))
    assert await speak(app, text="Hello, 漢字", user="u1", streaming=True) == (200, "audio/mpeg", b"ID3 audio")
    await speak(app, text="Hello", voice="echo")
    await speak(app, text="Hello", voice="", message_id="")
    said = [(item["input"], item["voice"]) for item in provider.requests]
    assert said == [("Hello, 漢字", "nova"), ("Hello", "echo"), ("Hello", "alloy")]


async def test_workflow_apps_speak_too(server: Serving) -> None:
    file: Any = yaml.safe_load(workflow())
    file["workflow"]["features"] = SPEAKS
    app = await server.add("flow.yml", yaml.safe_dump(file))
    assert (await speak(app, text="Hello"))[0] == 200


async def test_an_answer_is_spoken(server: Serving, provider: Provider) -> None:
    app = await server.add("chat.yml", chatflow(features=SPEAKS))
    message = (await say(app, "hey"))[1]["message_id"]
    for more in ({"user": "u1"}, {}, {"user": "u1", "text": "not this"}):
        assert (await speak(app, message_id=message, **more))[0] == 200
    assert [item["input"] for item in provider.requests] == ["You said: hey"] * 3


async def test_what_cannot_be_spoken(server: Serving, provider: Provider) -> None:
    app = await server.add("chat.yml", chatflow(features=SPEAKS))
    dumb = await server.add("dumb.yml", chatflow(name="dumb"))
    silent = await server.add("silent.yml", chatflow("", features=SPEAKS, name="silent"))
    message = (await say(app, "hey"))[1]["message_id"]
    off, missing = (400, "invalid_param", "TTS is not enabled"), (400, "invalid_param", "Text is required")
    unknown = (404, "not_found", "Message Not Exists.")
    assert await unspoken(dumb, text="hello") == off
    assert await unspoken(app, user="u1") == missing
    assert await unspoken(app, text="") == missing
    assert await unspoken(app, message_id=NOBODY) == unknown
    assert await unspoken(app, message_id="nope") == unknown
    assert await unspoken(app, message_id=message, user="u2") == unknown
    assert await unspoken(silent, message_id=message) == unknown
    nothing = (await say(silent, "hey"))[1]["message_id"]
    assert (await unspoken(silent, message_id=nothing))[:2] == (400, "invalid_param")
    for wrong in ({"text": 5}, {"text": "x", "voice": ["nova"]}, {"message_id": 1}):
        assert (await unspoken(app, **wrong))[:2] == (400, "invalid_param")
    assert (await app.call("POST", "/v1/text-to-audio", data=b"x"))[0] == 415
    assert provider.requests == []
