"""Speech to text, and text or an answer to speech, by the provider's API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import PurePath
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, named_user
from headrace.api.dify import examples
from headrace.api.dify.chat_responses import code_of, enabled
from headrace.api.dify.message_responses import Messages
from headrace.api.dify.schemas import conversations as schemas
from headrace.api.http.multipart import Form, form_of
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import BINARY, UPLOAD, Media
from headrace.apps.catalog import Release
from headrace.errors import InvalidParam, NodeError, NotFound, RequestError
from headrace.ports.services import Speech

_LARGEST = 30 * 1024 * 1024
# Dify 1.12 accepts only mp3, m4a, wav, amr and mpga, by these names. What browsers record (webm, ogg) and the usual
# names of the same types (audio/mpeg) are accepted here, too.
_EXTENSIONS: Mapping[str, str] = {
    "audio/amr": "amr",
    "audio/flac": "flac",
    "audio/m4a": "m4a",
    "audio/mp3": "mp3",
    "audio/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/mpga": "mpga",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/webm": "webm",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
}


_PROVIDER_ERRORS = (
    RequestError("speech has no provider.", "provider_not_initialize", 400),
    RequestError("The provider refused the request.", "completion_request_error", 400),
)


_no_audio = partial(RequestError, "Please upload your audio.", "no_audio_uploaded", 400)
_unsupported = partial(RequestError, "Audio type not allowed.", "unsupported_audio_type", 415)


def _too_large(most: int) -> RequestError:
    return RequestError(f"Audio size larger than {most / 1024 / 1024:g} mb", "audio_too_large", 413)


class AudioRoutes(Routes):
    """`/v1/audio-to-text` and `/v1/text-to-audio`."""

    tag = "Speech"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.messages = Messages(api.run_service)

    # -------------------------------------------------------------------------------------------------- transcribe

    @Operation(
        "POST",
        "/audio-to-text",
        Media(schemas.Transcript, {"text": "Hello!"}),
        body=UPLOAD,
        errors=(
            _no_audio(),
            InvalidParam("Speech to text is not enabled"),
            _too_large(_LARGEST),
            _unsupported(),
            *_PROVIDER_ERRORS,
        ),
    )
    async def audio_to_text(self, request: Request) -> Response:
        """Speech to text.

        At most 30 MB, of the type audio/mp3, mpeg, mpga, m4a, mp4, wav, webm, ogg, flac or amr.
        """
        release = await self.api.authenticate(request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise _no_audio()
        most = self.api.upload_limit("", _LARGEST)
        form = await form_of(request, most, _too_large(most), lambda _, size: _too_large(most) if size > most else None)
        with form.file:
            await self.api.caller(release.app, form.fields.get("user"))
            if form.filename is None:
                raise _no_audio()
            if not enabled(release.flow, "speech_to_text"):
                raise InvalidParam("Speech to text is not enabled")
            mime_type = form.content_type.partition(";")[0].strip().lower()
            if mime_type not in _EXTENSIONS:
                raise _unsupported()
            audio = await asyncio.to_thread(form.file.read)
        try:
            text = await self._speech().transcribe(audio, filename=_filename(form, mime_type), mime_type=mime_type)
        except NodeError as error:
            raise _refused(error) from error
        transcript: schemas.Transcript = {"text": text}
        return json_response(transcript)

    # ------------------------------------------------------------------------------------------------------- speak

    @Operation(
        "POST",
        "/text-to-audio",
        Media(None, "...", "audio/mpeg", BINARY),
        body=Media(schemas.SpeechRequest, {"text": "Hello!", "user": examples.USER, "voice": "alloy"}),
        errors=(InvalidParam("TTS is not enabled"), NotFound("Message Not Exists."), *_PROVIDER_ERRORS),
    )
    async def text_to_audio(self, request: Request) -> Response:
        """Text to speech.

        Speaks a message's answer (`message_id`), or `text`; with the app's voice by default.
        """
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        user = named_user(body.get("user"))
        end_user = await self.api.caller(release.app, user)
        fields = parse(schemas.SpeechRequest, body)
        text, voice = fields.get("text"), fields.get("voice")
        if message := fields.get("message_id"):
            text = await self._answer(release, message, end_user.id if user else None)
        elif not text:
            raise InvalidParam("Text is required")
        if not enabled(release.flow, "text_to_speech"):
            raise InvalidParam("TTS is not enabled")
        try:
            audio, mime_type = await self._speech().speak(text, voice=_voice(release) if voice is None else voice)
        except NodeError as error:
            raise _refused(error) from error
        return Response(audio, media_type=mime_type)

    async def _answer(self, release: Release, message: str, end_user: str | None) -> str:
        """The answer to a message; only to one of this end user, if the request names one."""
        id_ = as_uuid(message, NotFound("Message Not Exists."))
        view = await self.messages.show(release, await self.messages.find(release.app.id, end_user, id_))
        answer = view.message.answer
        if not answer.strip():
            raise InvalidParam("message_id: the message has no answer to speak")
        return answer

    def _speech(self) -> Speech:
        if self.api.speech is None:
            raise RequestError("Speech is not set up here.", "provider_not_initialize", 400)
        return self.api.speech


def _voice(release: Release) -> str:
    """The app's own voice; empty where it has none."""
    feature = release.flow.features.get("text_to_speech")
    voice = cast("dict[str, object]", feature).get("voice") if isinstance(feature, dict) else None
    return voice if isinstance(voice, str) else ""


def _filename(form: Form, mime_type: str) -> str:
    """With an extension, which providers go by."""
    name = form.filename or "audio"
    return name if PurePath(name).suffix else f"{name}.{_EXTENSIONS[mime_type]}"


def _refused(error: NodeError) -> RequestError:
    return RequestError(str(error), code_of(error.kind), 400)
