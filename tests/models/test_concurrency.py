"""Calls of models beyond a limit wait: in turns, until they are cancelled, and never for what has no limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.adapters.models.concurrency import LimitedModels, ModelLimits
from headrace.adapters.models.embeddings import EmbeddingClient
from headrace.adapters.models.rerank import RerankClient
from headrace.adapters.models.speech import SpeechClient
from headrace.brokers import LocalWire
from headrace.errors import HeadraceError, NodeError, StoreError
from headrace.ports import Granted, ModelSlots, Signal
from headrace.ports.services import ChatChunk, ChatRequest
from headrace.stores.memory.model_slots import MemoryModelSlots
from tests.background import serving

ANSWERS = {
    "embeddings": b'{"data": [{"index": 0, "embedding": [1]}]}',
    "rerank": b'{"results": [{"index": 0, "relevance_score": 1}]}',
    "audio/transcriptions": b'{"text": "a"}',
}


class Gate:
    """Models whose calls are in progress until `end` is called."""

    def __init__(self) -> None:
        self.begun: list[str] = []  # the runs, in order
        self.ends: list[asyncio.Future[None]] = []
        self.changed = asyncio.Event()

    def missing(self, provider: str) -> str | None:
        return f"{provider} is missing"

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        end = asyncio.get_running_loop().create_future()
        self.begun.append(request.run)
        self.ends.append(end)
        self.changed.set()
        await end
        yield ChatChunk(request.run)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def limited(
    calls: Mapping[str, int], slots: ModelSlots | None = None
) -> AsyncIterator[tuple[ModelLimits, Gate, Callable[..., asyncio.Task[str]]]]:
    gate = Gate()
    limits = ModelLimits(calls, slots or MemoryModelSlots(), LocalWire(), 0.01)
    models = LimitedModels(gate, limits)
    tasks: list[asyncio.Task[str]] = []

    async def answer(request: ChatRequest) -> str:
        return "".join([chunk.text async for chunk in models.chat(request)])

    def call(run: str, provider: str = "openai", model: str = "gpt") -> asyncio.Task[str]:
        tasks.append(asyncio.create_task(answer(ChatRequest(provider, model, [], run=run))))
        return tasks[-1]

    yield limits, gate, call
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await limits.aclose()


async def settled() -> None:
    """Lets everything happen that does not wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_calls_beyond_the_limit_wait_until_others_end() -> None:
    async with limited({"openai": 2}) as (limits, gate, call):
        tasks = [call(str(number)) for number in range(5)]
        await gate.until(lambda: len(gate.begun) == 2)
        await settled()
        limit = limits.limits["openai"]
        assert (gate.begun, limit.active, limit.waiting) == (["0", "1"], 2, 3)
        for number in range(5):
            await gate.until(lambda number=number: len(gate.begun) > number)
            gate.ends[number].set_result(None)
            assert await tasks[number] == str(number)
        await settled()
        assert (gate.begun, limit.active, limit.waiting) == (["0", "1", "2", "3", "4"], 0, 0)


async def test_runs_take_turns() -> None:
    async with limited({"openai": 1}) as (_, gate, call):
        for _ in range(4):
            call("many")
        await gate.until(lambda: len(gate.begun) == 1)
        call("late")
        call("late")
        call("later")
        for number in range(7):
            await gate.until(lambda number=number: len(gate.begun) > number)
            gate.ends[number].set_result(None)
        assert gate.begun == ["many", "many", "late", "later", "many", "late", "many"]


async def test_limits_of_models_and_providers_hold_together() -> None:
    async with limited({"openai": 3, "openai/gpt": 1}) as (limits, gate, call):
        for run in ("a", "b", "c"):
            call(run, "langgenius/openai/openai")
        await gate.until(lambda: len(gate.begun) == 1)
        await settled()
        assert limits.limits["openai"].waiting == 0, "what waits for the model takes no slot of the provider"
        for run in ("d", "e", "f"):
            call(run, model="mini")
        await gate.until(lambda: len(gate.begun) == 3)
        await settled()
        assert gate.begun == ["a", "d", "e"]
        call("other", "anthropic")
        await gate.until(lambda: gate.begun[-1] == "other")


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_call_leaves_its_place(granted: bool) -> None:
    async with limited({"openai": 1}) as (limits, gate, call):
        first = call("1")
        await gate.until(lambda: len(gate.begun) == 1)
        second, _ = call("2"), call("3")
        await settled()
        if granted:
            gate.ends[0].set_result(None)
            await first
            (first if granted else second).cancel()
            await gate.until(lambda: len(gate.begun) == 2)
            second.cancel()
        else:
            second.cancel()
            await settled()
            gate.ends[0].set_result(None)
        await gate.until(lambda: gate.begun[-1] == "3")
        await settled()
        limit = limits.limits["openai"]
        assert (limit.active, limit.waiting) == (1, 0)


async def test_a_failed_call_frees_its_slot() -> None:
    async with limited({"openai": 1}) as (_, gate, call):
        first, second = call("1"), call("2")
        await gate.until(lambda: len(gate.begun) == 1)
        gate.ends[0].set_exception(NodeError("no", "InvokeBadRequestError"))
        with pytest.raises(NodeError, match="no"):
            await first
        await gate.until(lambda: len(gate.begun) == 2)
        gate.ends[1].set_result(None)
        assert await second == "2"


class Failing(MemoryModelSlots):
    """A database that fails at first."""

    def __init__(self) -> None:
        self.failures = 1

    async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
        if self.failures:
            self.failures -= 1
            raise StoreError("the database is away")
        return await super().request(name, limit, active, waiting)


async def test_calls_wait_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with limited({"openai": 1}, Failing()) as (_, gate, call):
        first = call("1")
        await gate.until(lambda: len(gate.begun) == 1)
        gate.ends[0].set_result(None)
        assert await first == "1"
    assert "slots of openai failed: the database is away" in caplog.text


class Elsewhere:
    """Slots that another process has at first."""

    def __init__(self) -> None:
        self.requests = 0

    async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
        self.requests += 1
        return Granted(min(waiting, int(self.requests > 3)), others_wait=False)


async def test_slots_of_other_processes_are_looked_for() -> None:
    slots = Elsewhere()
    async with limited({"openai": 1}, slots) as (_, gate, call):
        call("1")
        await gate.until(lambda: len(gate.begun) == 1)
        await settled()
        assert slots.requests == 4


async def test_a_freed_slot_is_announced_to_processes_that_wait() -> None:
    group: list[LocalWire] = []
    mine, other = LocalWire(group), LocalWire(group)
    signals: list[str] = []

    class Shared(MemoryModelSlots):
        async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
            return (await super().request(name, limit, active, waiting))._replace(others_wait=True)

    gate = Gate()
    limits = ModelLimits({"openai": 1}, Shared(), mine, 60.0)
    models = LimitedModels(gate, limits)
    other.on_signal(Signal.MODEL_SLOT, signals.append)

    async def call() -> None:
        async for _ in models.chat(ChatRequest("openai", "gpt", [])):
            pass

    task = asyncio.create_task(call())
    await gate.until(lambda: len(gate.begun) == 1)
    await settled()
    assert signals == []
    gate.ends[0].set_result(None)
    await task
    await settled()
    assert signals == ["openai"]
    await limits.aclose()


async def test_cancelled_calls_are_forgotten_although_no_slot_becomes_free() -> None:
    async with limited({"openai": 1}) as (limits, gate, call):
        call("a")
        await gate.until(lambda: gate.begun == ["a"])
        calls = [call("b") for _ in range(200)]
        await settled()
        for waiting in calls:
            waiting.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        last = call("c")
        await settled()
        assert len(limits.limits["openai"]._queue) < 50
        gate.ends[0].set_result(None)
        await gate.until(lambda: gate.begun == ["a", "c"])
        gate.ends[1].set_result(None)
        assert await last == "c"


@pytest.mark.parametrize(
    ("name", "provider", "model", "holds"),
    [
        ("openai", "openai", "gpt", True),
        ("openai", "langgenius/openai/openai", "gpt", True),
        ("langgenius/openai/openai", "langgenius/openai/openai", "gpt", True),
        ("langgenius/openai/openai", "openai", "gpt", True),
        ("langgenius/openai/openai/gpt", "openai", "gpt", True),
        ("langgenius/openai/openai/gpt", "openai", "mini", False),
        (
            "langgenius/ollama/ollama/Qwen/Qwen3",
            "langgenius/ollama/ollama",
            "Qwen/Qwen3",
            True,
        ),
        ("openrouter/deepseek/deepseek", "openrouter", "deepseek/deepseek", True),
        ("openrouter/deepseek/deepseek", "deepseek", "chat", False),
        ("of_a_plugin/Qwen/Qwen3", "author/plugin/of_a_plugin", "Qwen/Qwen3", True),
        ("openai/gpt", "azure_openai", "gpt", False),
    ],
)
def test_names_of_limits(name: str, provider: str, model: str, holds: bool) -> None:
    limits = ModelLimits({name: 1}, MemoryModelSlots(), LocalWire(), 60.0)
    assert limits.of(provider, model) == ([limits.limits[name]] if holds else [])


def test_a_limit_that_is_named_in_two_ways_is_refused() -> None:
    with pytest.raises(HeadraceError, match="name openai twice, also as langgenius/openai/openai"):
        ModelLimits({"openai": 5, "langgenius/openai/openai": 3}, MemoryModelSlots(), LocalWire(), 60.0)


async def test_embeddings_reranking_and_speech_take_a_slot_of_the_same_limit() -> None:
    """A caller of them waits while another call of the provider is in progress."""
    begun: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            begun.append(self.path.removeprefix("/v1/"))
            self.rfile.read(int(self.headers["Content-Length"]))
            audio = self.path == "/v1/audio/speech"
            self.send_response(200)
            self.send_header("Content-Type", "audio/mpeg" if audio else "application/json")
            self.end_headers()
            self.wfile.write(b"ID3" if audio else ANSWERS[self.path.removeprefix("/v1/")])

        def log_message(self, format: str, *args: object) -> None: ...

    async with limited({"langgenius/openai/openai": 1}) as (limits, gate, call):
        with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server, serving(server):
            environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1"}
            embeddings = EmbeddingClient(environ, slot=limits.slot)
            reranker = RerankClient(environ, slot=limits.slot)
            speech = SpeechClient(environ, slot=limits.slot)
            call("a")
            await gate.until(lambda: gate.begun == ["a"])
            work = [
                asyncio.ensure_future(item)
                for item in (
                    embeddings.embed(["a"], provider="openai", model="small"),
                    reranker.rerank("a", ["a"], provider="openai", model="r"),
                    speech.transcribe(b"a", filename="a.mp3", mime_type="audio/mpeg"),
                    speech.speak("a"),
                )
            ]
            await settled()
            limit = limits.limits["langgenius/openai/openai"]
            assert (begun, limit.active, limit.waiting) == ([], 1, 4)
            gate.ends[0].set_result(None)
            async with asyncio.timeout(60):
                await asyncio.gather(*work)
            assert sorted(begun) == sorted([*ANSWERS, "audio/speech"])
            for client in (embeddings, reranker, speech):
                await client.aclose()
    assert (limit.active, limit.waiting) == (0, 0)
