"""Speech through a provider's API: words out of audio, audio out of words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from headrace.adapters.models.speech import SpeechClient
from headrace.errors import NodeError
from tests.http.servers import serve


@dataclass
class Provider:
    url: str = ""
    answer: bytes = b'{"text": " Hello. "}'
    status: int = 200
    content_type: str = "application/json"
    requests: list[dict[str, Any]] = field(default_factory=list)

    def says(self, answer: bytes, content_type: str = "application/json", status: int = 200) -> None:
        self.answer, self.content_type, self.status = answer, content_type, status

    async def transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        self.requests.append(
            {
                "key": request.headers.get("Authorization"),
                "model": form["model"],
                "file": (file.filename, file.content_type, file.file.read()),
            }
        )
        return self.reply()

    async def speak(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return self.reply()

    def reply(self) -> web.Response:
        return web.Response(body=self.answer, status=self.status, content_type=self.content_type)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    created = Provider()
    async with serve(
        {"/v1/audio/transcriptions": created.transcribe, "/v1/audio/speech": created.speak}
    ) as created.url:
        yield created


@asynccontextmanager
async def speech(server: Provider, name: str = "OPENAI", **more: Any) -> AsyncIterator[SpeechClient]:
    environ = {f"{name}_BASE_URL": server.url, f"{name}_API_KEY": "sk-very-secret"}
    created = SpeechClient(environ, **more)
    try:
        yield created
    finally:
        await created.aclose()


async def failure(provider: Provider, text: str | None = None) -> NodeError:
    async with speech(provider) as client:
        asking = (
            client.transcribe(b"x", filename="a.wav", mime_type="audio/wav") if text is None else client.speak(text)
        )
        with pytest.raises(NodeError) as raised:
            await asking
    return raised.value


async def test_audio_becomes_words(provider: Provider) -> None:
    async with speech(provider) as client:
        assert await client.transcribe(b"RIFF", filename="a.wav", mime_type="audio/wav") == "Hello."
        await client.transcribe(b"RIFF", filename="a", mime_type="audio/x-webm; codecs=opus")
        await client.transcribe(b"RIFF", filename="", mime_type="audio/wav\r\nX-Hostile: 1")
    assert provider.requests == [
        {"key": "Bearer sk-very-secret", "model": "whisper-1", "file": ("a.wav", "audio/wav", b"RIFF")},
        {"key": "Bearer sk-very-secret", "model": "whisper-1", "file": ("audio.webm", "audio/x-webm", b"RIFF")},
        {"key": "Bearer sk-very-secret", "model": "whisper-1", "file": ("audio.mp3", "audio/mpeg", b"RIFF")},
    ]


async def test_words_become_audio(provider: Provider) -> None:
    provider.says(b"ID3", "audio/mpeg")
    async with speech(provider) as client:
        assert await client.speak(" Hello \ud800") == (b"ID3", "audio/mpeg")
    assert provider.requests[0] | {"input": ""} == {
        "model": "tts-1",
        "input": "",
        "voice": "alloy",
        "response_format": "mp3",
    }


async def test_another_provider_model_and_voice(provider: Provider) -> None:
    provider.says(b"RIFF", "audio/wav")
    async with speech(provider, "KOKORO", provider="kokoro", speech_model="k-1", transcription_model="w-9") as client:
        assert await client.speak("Hi", voice="af_sky") == (b"RIFF", "audio/wav")
        await client.speak("Hi", provider="x/y/kokoro", model="k-2")
        provider.says(b'{"text": ""}')
        assert await client.transcribe(b"x", filename="", mime_type="") == ""
    assert [(request["model"], request.get("voice")) for request in provider.requests] == [
        ("k-1", "af_sky"),
        ("k-2", "alloy"),
        ("w-9", None),
    ]


async def test_the_default_provider_is_one_with_credentials(provider: Provider) -> None:
    async with speech(provider, "OPENAI_API_COMPATIBLE") as client:
        assert client.missing() is None
        assert await client.transcribe(b"x", filename="a.mp3", mime_type="audio/mpeg") == "Hello."


async def test_without_credentials_it_says_what_to_set() -> None:
    client = SpeechClient({})
    message = client.missing()
    assert message is not None
    assert "Set OPENAI_API_KEY" in message
    with pytest.raises(NodeError) as raised:
        await client.speak("x")
    assert (str(raised.value), raised.value.kind) == (message, "ProviderTokenNotInitError")
    assert "GROQ_API_KEY" in (client.missing("groq") or "")


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_a_provider_with_another_protocol_has_no_speech(provider: str):
    client = SpeechClient({"ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"})
    assert f"{provider} has no speech" in (client.missing(provider) or "")


async def test_a_long_text_is_spoken_sentence_by_sentence(provider: Provider) -> None:
    provider.says(b"mp3.", "audio/mpeg")
    sentence = "This is a sentence of some forty letters. "
    async with speech(provider) as client:
        assert await client.speak(sentence * 300) == (b"mp3." * 4, "audio/mpeg")
        texts = [request["input"] for request in provider.requests]
        assert all(len(text) <= 4096 and text.endswith(".") for text in texts)
        assert " ".join(texts) == (sentence * 300).strip()
        provider.requests.clear()
        await client.speak("x" * 5000)
        assert [len(request["input"]) for request in provider.requests] == [4096, 904]


@pytest.mark.parametrize(
    ("text", "why"), [("", "There is no text"), (" \n", "There is no text"), ("x" * 200_000, "too long to be spoken")]
)
async def test_text_that_cannot_be_spoken(provider: Provider, text: str, why: str) -> None:
    error = await failure(provider, text)
    assert why in str(error)
    assert error.kind == "InvokeBadRequestError"
    assert provider.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "InvokeBadRequestError"),
        (401, "InvokeAuthorizationError"),
        (429, "InvokeRateLimitError"),
        (500, "InvokeServerUnavailableError"),
    ],
)
async def test_a_refusal_has_its_kind_and_no_secret(provider: Provider, status: int, kind: str) -> None:
    provider.says(json.dumps({"error": {"message": "no: sk-very-secret"}}).encode(), status=status)
    for text in (None, "Hi"):
        error = await failure(provider, text)
        assert (str(error), error.kind) == ("no: ***", kind)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"text": 1}', b"{", b'"x"'])
async def test_an_answer_that_is_no_transcription(provider: Provider, answer: bytes) -> None:
    provider.says(answer)
    error = await failure(provider)
    assert (str(error), error.kind) == ("openai sent a response that is not a transcription.", "InvokeConnectionError")


@pytest.mark.parametrize(
    ("answer", "content_type", "message"),
    [(b"", "audio/mpeg", "openai sent no audio."), (b'{"error": "busy"}', "application/json", "busy")],
)
async def test_an_answer_that_is_no_audio(provider: Provider, answer: bytes, content_type: str, message: str) -> None:
    provider.says(answer, content_type)
    assert str(await failure(provider, "Hi")) == message


async def test_a_provider_that_is_not_there() -> None:
    error = await failure(Provider(url="http://127.0.0.1:1"))
    assert "openai (127.0.0.1:1) could not be reached" in str(error)
    assert error.kind == "InvokeConnectionError"
