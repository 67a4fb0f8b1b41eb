"""The provider `audio`: speech to text and text to speech, by the provider and model that a setting names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.adapters.tools.builtin.builtin_tool import INVOKE_ERROR, BuiltinTool
from headrace.errors import NodeError
from headrace.ports.services import (
    BlobMessage,
    Files,
    Speech,
    TextMessage,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolSpec,
)
from headrace.values import File, Value

_MODEL = ToolParameter("model", "select", form="form", required=True, label="Model")
ASR = ToolSpec(
    "asr",
    "Speech To Text",
    "Converts speech to text.",
    (ToolParameter("audio_file", "file", required=True, description="The audio file"), _MODEL),
)
TTS = ToolSpec(
    "tts",
    "Text To Speech",
    "Converts text to speech.",
    (ToolParameter("text", required=True, description="The text to speak"), _MODEL),
    open=True,  # the voices are in a setting for each model, `voice#provider#model`
)


def audio_tools(files: Files, speech: Speech) -> Sequence[BuiltinTool]:
    """The tools of the provider."""

    async def asr(parameters: Mapping[str, Value], context: ToolContext) -> str:
        file = parameters.get("audio_file")
        if not isinstance(file, File) or file.type != "audio":
            return "not a valid audio file"
        provider, model = _model(parameters)
        audio = await files.read(file)
        return await speech.transcribe(
            audio, filename=file.filename or "", mime_type=file.mime_type or "", provider=provider, model=model
        )

    async def tts(parameters: Mapping[str, Value], context: ToolContext) -> Iterable[ToolMessage]:
        provider, model = _model(parameters)
        voice = parameters.get(f"voice#{provider}#{model}") or ""
        audio, mime_type = await speech.speak(
            str(parameters.get("text") or ""), voice=str(voice), provider=provider, model=model
        )
        return TextMessage("Audio generated successfully"), BlobMessage(audio, mime_type)

    return BuiltinTool(ASR, asr), BuiltinTool(TTS, tts)


def _model(parameters: Mapping[str, Value]) -> tuple[str, str]:
    """(provider, model) of the setting."""
    provider, separator, model = str(parameters.get("model") or "").partition("#")
    if not (provider and separator and model):
        raise NodeError(f"The parameter 'model' must be PROVIDER#MODEL, not '{provider}'.", INVOKE_ERROR)
    return provider, model
