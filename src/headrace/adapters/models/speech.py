"""Speech through OpenAI's `/audio/transcriptions` and `/audio/speech`: implements `ports.services.Speech`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from headrace.adapters.models.endpoint import NOT_INITIALIZED, Endpoint
from headrace.adapters.models.failures import BAD_REQUEST, CONNECTION, Failure, message_of
from headrace.adapters.models.lazy_transport import LazyTransport
from headrace.adapters.models.providers import configured, last_part, resolve
from headrace.adapters.models.request import encode
from headrace.adapters.models.slots import Slot, unlimited
from headrace.content.filetypes import extension_of
from headrace.errors import NodeError

TRANSCRIPTION_MODEL = "whisper-1"
SPEECH_MODEL = "tts-1"
VOICE = "alloy"

_DEFAULTS = ("openai", "openai_api_compatible")
_PIECE = 4096  # characters; OpenAI's limit for one request
_MOST_PIECES = 32
_LARGEST = 64 * 1024 * 1024  # bytes of an answer
_MP3 = "audio/mpeg"
_MIME_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_SENTENCE_END = re.compile(r"[\n。！？；]|[.!?;]\s")


class SpeechClient:
    """Speech, with the same credentials in `environ` as `ModelClient`.

    `provider`, `transcription_model` and `speech_model` are the defaults; if `provider` is "", the default is openai or
    openai_api_compatible, whichever has credentials. Each call takes place within a `slot`. Times in seconds: `connect`
    to get a connection, `idle` until a response begins and between two pieces of it.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        provider: str = "",
        transcription_model: str = "",
        speech_model: str = "",
        slot: Slot = unlimited,
        connect: float = 10.0,
        idle: float = 120.0,
    ) -> None:
        self._environ = environ
        self._provider = last_part(provider)
        self._transcription_model = transcription_model or TRANSCRIPTION_MODEL
        self._speech_model = speech_model or SPEECH_MODEL
        self._slot = slot
        self._transport = LazyTransport(environ, connect, idle)

    def missing(self, provider: str = "") -> str | None:
        """See `Speech.missing`."""
        try:
            self._endpoint(provider)
        except NodeError as error:
            return str(error)
        return None

    async def transcribe(
        self, audio: bytes, *, filename: str, mime_type: str, provider: str = "", model: str = ""
    ) -> str:
        """See `Speech.transcribe`."""
        endpoint = self._endpoint(provider)
        transport = self._transport.open()
        from aiohttp import FormData

        form = FormData()
        model = model or self._transcription_model
        form.add_field("model", model)
        form.add_field("response_format", "json")
        mime_type = mime_type.partition(";")[0].strip().lower()
        mime_type = mime_type if _MIME_TYPE.fullmatch(mime_type) else _MP3
        if not extension_of(filename):  # by which providers detect the format
            filename = f"audio.{_ending(mime_type)}"
        form.add_field("file", audio, filename=filename, content_type=mime_type)
        name = endpoint.provider.name
        url = endpoint.url(model, "audio/transcriptions")
        try:
            async with self._slot(name, model):
                raw, _ = await transport.whole("POST", name, url, endpoint.headers, form, max_size=_LARGEST)
            return _words(raw, name)
        except Failure as failure:
            raise failure.node_error(endpoint.secrets) from None

    async def speak(self, text: str, *, voice: str = "", provider: str = "", model: str = "") -> tuple[bytes, str]:
        """See `Speech.speak`. A long text is spoken in pieces, cut between sentences; MP3 files may be concatenated."""
        endpoint = self._endpoint(provider)
        pieces = _pieces(text)
        if not pieces:
            raise NodeError("There is no text to speak.", BAD_REQUEST)
        if len(pieces) > _MOST_PIECES:
            raise NodeError(f"A text of {len(text)} characters is too long to be spoken.", BAD_REQUEST)
        transport = self._transport.open()
        name = endpoint.provider.name
        model = model or self._speech_model
        headers = {**endpoint.headers, "Content-Type": "application/json"}
        audio: list[bytes] = []
        mime_type = _MP3
        try:
            for piece in pieces:
                body = {"model": model, "input": piece, "voice": voice or VOICE, "response_format": "mp3"}
                url = endpoint.url(model, "audio/speech")
                async with self._slot(name, model):
                    raw, media_type = await transport.whole("POST", name, url, headers, encode(body), max_size=_LARGEST)
                mime_type = _audio(raw, media_type, name)
                audio.append(raw)
        except Failure as failure:
            raise failure.node_error(endpoint.secrets) from None
        return b"".join(audio), mime_type

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    def _endpoint(self, provider: str) -> Endpoint:
        name = last_part(provider) or self._provider
        if not name:
            name = next((provider_name for provider_name in _DEFAULTS if configured(self._environ, provider_name)), "")
        if not name:
            raise NodeError(
                "provider_not_initialize: speech has no provider. Set OPENAI_API_KEY, or for a server "
                "with OpenAI's audio protocol OPENAI_API_COMPATIBLE_BASE_URL, in the environment.",
                NOT_INITIALIZED,
            )
        endpoint = resolve(self._environ, name)
        if endpoint.protocol != "openai":
            raise NodeError(
                f"provider_not_initialize: {name} has no speech in OpenAI's protocol. Choose another provider for it.",
                NOT_INITIALIZED,
            )
        return endpoint


def _ending(mime_type: str) -> str:
    """The usual extension of an audio file: nearly always the MIME type's subtype."""
    subtype = mime_type.rpartition("/")[2].removeprefix("x-")
    return "mp3" if subtype == "mpeg" else subtype


def _words(raw: bytes, who: str) -> str:
    try:
        answer: Any = orjson.loads(raw)
        text = answer["text"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        text = None
    if not isinstance(text, str):
        raise Failure(f"{who} sent a response that is not a transcription.", CONNECTION)
    return text.strip()


def _audio(raw: bytes, content_type: str, who: str) -> str:
    """The MIME type of the speech; Failure if it is not audio."""
    if content_type == "application/json" or not raw:
        try:
            message = message_of(orjson.loads(raw))
        except orjson.JSONDecodeError:
            message = ""
        raise Failure(message or f"{who} sent no audio.", CONNECTION)
    return content_type if content_type.startswith("audio/") else _MP3


def _pieces(text: str) -> list[str]:
    """The text in pieces within the limit, cut after a sentence if possible, else at a space."""
    pieces: list[str] = []
    rest = text.strip()
    while len(rest) > _PIECE:
        window = rest[:_PIECE]
        cut = max((match.end() for match in _SENTENCE_END.finditer(window)), default=0) or window.rfind(" ") + 1
        cut = cut or _PIECE
        pieces.append(rest[:cut].strip())
        rest = rest[cut:].lstrip()
    return [piece for piece in (*pieces, rest) if piece]
