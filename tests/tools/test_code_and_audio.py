"""The providers `code` and `audio`: programs in a real sandbox, and speech through the service that speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.adapters.sandbox.local import LocalSandbox
from headrace.adapters.tools import BuiltinTools
from headrace.adapters.tools.builtin.audio import ASR
from headrace.errors import NodeError
from headrace.ports.services import BlobMessage, TextMessage
from headrace.ports.services.tool_parameters import arguments
from headrace.values import File
from tests.tools.calling import answer_of, builtin_tools, messages_of


@pytest.fixture
async def coding() -> AsyncIterator[BuiltinTools]:
    sandbox = LocalSandbox()
    yield builtin_tools(sandbox=sandbox)
    await sandbox.aclose()


@pytest.mark.parametrize(
    ("language", "code", "output"),
    [
        ("python3", "print('a', 1)\nprint(2)", "a 1\n2\n"),
        ("python3", "import json\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(10))", "55\n"),
        ("python3", "if __name__ == '__main__':\n    print('main')", "main\n"),
        ("python3", "x = 1", ""),
        ("javascript", "console.log('a', 1); console.log([2])", "a 1\n[ 2 ]\n"),
        ("javascript", "const x = await Promise.resolve(3); console.log(x)", "3\n"),
        ("javascript", "function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) }\nconsole.log(f(10))", "55\n"),
    ],
)
async def test_a_program_answers_with_what_it_prints(coding: BuiltinTools, language: str, code: str, output: str):
    assert await answer_of(coding, "code", "simple_code", {"language": language, "code": code}) == output


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("ruby", "puts 1", "Only python3 and javascript are supported, not ruby"),
        ("python3", "print(", "SyntaxError"),
        ("python3", "1 / 0", "ZeroDivisionError"),
        ("javascript", "throw new Error('no')", "no"),
    ],
)
async def test_a_program_that_fails_fails_the_tool(coding: BuiltinTools, language: str, code: str, message: str):
    with pytest.raises(NodeError, match=message):
        await answer_of(coding, "code", "simple_code", {"language": language, "code": code})


class Recorder:
    """Files and speech; keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def read(self, file: File, max_size: int = 0) -> bytes:
        return b"sound"

    async def transcribe(self, audio: bytes, **parameters: str) -> str:
        self.calls.append((audio, parameters))
        return "the words"

    async def speak(self, text: str, **parameters: str) -> tuple[bytes, str]:
        self.calls.append((text, parameters))
        return b"sound", "audio/mpeg"


def speaking(recorder: Recorder) -> BuiltinTools:
    return builtin_tools(files=recorder, speech=recorder)


SOUND = File("audio", "local_file", "a.mp3", mime_type="audio/mpeg")


async def test_speech_to_text():
    recorder = Recorder()
    parameters = {"audio_file": SOUND, "model": "langgenius/openai/openai#whisper-1"}
    assert await answer_of(speaking(recorder), "audio", "asr", parameters) == "the words"
    model = {"provider": "langgenius/openai/openai", "model": "whisper-1"}
    assert recorder.calls == [(b"sound", {"filename": "a.mp3", "mime_type": "audio/mpeg", **model})]


@pytest.mark.parametrize("file", [File("image", "local_file", "a.png"), None, "a.mp3"])
async def test_what_is_not_audio_is_answered_with_a_text(file: Any):
    parameters = {"audio_file": file, "model": "openai#whisper-1"}
    assert await answer_of(speaking(Recorder()), "audio", "asr", parameters) == "not a valid audio file"


async def test_text_to_speech():
    recorder = Recorder()
    parameters = {"text": "hello", "model": "openai#tts-1", "voice#openai#tts-1": "nova", "voice#x#y": "other"}
    answer = await messages_of(speaking(recorder), "audio", "tts", parameters)
    assert answer == [TextMessage("Audio generated successfully"), BlobMessage(b"sound", "audio/mpeg")]
    assert recorder.calls == [("hello", {"voice": "nova", "provider": "openai", "model": "tts-1"})]


@pytest.mark.parametrize("model", ["", "openai", "openai#", "#tts-1"])
@pytest.mark.parametrize("name", ["asr", "tts"])
async def test_an_empty_or_incomplete_model_is_named(name: str, model: str):
    with pytest.raises(NodeError, match="The parameter 'model'"):
        await answer_of(speaking(Recorder()), "audio", name, {"audio_file": SOUND, "text": "x", "model": model})


def test_a_model_must_be_set():
    with pytest.raises(NodeError, match="tool parameter model not found in tool config"):
        arguments(ASR, {"audio_file": SOUND}, {})
    assert arguments(ASR, {"model": "a#b"}, {}) == {"model": "a#b"}
