"""Writes the Postman collection, the .http files and the curl scripts, from the OpenAPI description of the API.

    python examples/collection/generate.py           write them
    python examples/collection/generate.py --check   exit with 1 if they are not as they would be written

What the description cannot say stands in plan.py.
"""

from __future__ import annotations

import asyncio
import io
import pathlib
import sys
import tempfile
import wave
from typing import Any

from calls import calls_of
from writers import curl_files, http_files, postman

from headrace.api.app import Knowledge, create_app
from headrace.api.native import NativeServices
from headrace.api.openapi import document
from headrace.main import service
from headrace.settings import Settings

HERE = pathlib.Path(__file__).resolve().parent
MADE = ("*.postman_*.json", "curl/*", "http/*", "files/*")


async def description() -> dict[str, Any]:
    """The OpenAPI description of everything that a server answers."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as data:
        async with service(Settings(data=pathlib.Path(data)), {}, work=False) as running:
            parts = NativeServices(
                running.storage.idempotency, running.webhook_sender, running.batch_runner, running.subscriptions
            )
            bases = running.knowledge
            assert bases is not None
            knowledge = Knowledge(lambda: bases.service, lambda: bases.retriever)
            app = create_app(
                running.apps,
                running.run_service,
                running.files,
                None,
                parts,
                speech=running.speech,
                knowledge=knowledge,
            )
            return document(app.routes)


def generated() -> dict[str, bytes]:
    """Every file by its name, as it should be."""
    calls = calls_of(asyncio.run(description()))
    texts = {**postman(calls), **http_files(calls), **curl_files(calls), "files/hello.txt": "Hello from Headrace.\n"}
    return {**{name: text.encode() for name, text in texts.items()}, "files/silence.wav": silence()}


def silence() -> bytes:
    """A tenth of a second of it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    return buffer.getvalue()


def main(check: bool) -> int:
    files = generated()
    there = {path.relative_to(HERE).as_posix() for pattern in MADE for path in HERE.glob(pattern)}
    stale = sorted(there - files.keys())
    stale += [name for name, text in files.items() if name not in there or (HERE / name).read_bytes() != text]
    if check:
        for name in stale:
            print(f"{name} is out of date: python examples/collection/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for name in there - files.keys():
        (HERE / name).unlink()
    for name, text in files.items():
        path = HERE / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        if path.suffix == ".sh" and path.stem != "common":
            path.chmod(0o755)
    return 0


if __name__ == "__main__":
    raise SystemExit(main("--check" in sys.argv[1:]))
