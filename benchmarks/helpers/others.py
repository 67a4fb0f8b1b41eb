"""The services that flows call: a model with the OpenAI chat protocol, and a slow HTTP service. Prints its port.

POST /v1/chat/completions streams; the model's name is "TOKENS-EVERY_MS": "500-0" sends 500 tokens as fast as possible,
each as an event of its own. "TOKENS-EVERY_MS-CALLS-ROUNDS" asks for so many calls of the tool `current_time` before, in
each of so many rounds. GET /slow/SECONDS responds after that time.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

CHUNK = {
    "id": "chatcmpl-benchmark",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "benchmark",
    "system_fingerprint": "fp_benchmark",
}


def _event(choices: list[object], **more: object) -> bytes:
    data = b"data: " + json.dumps({**CHUNK, "choices": choices, **more}).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: dict[str, object], finish: str | None = None) -> list[object]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]


ROLE = _event(_choice({"role": "assistant", "content": ""}))
TOKEN = _event(_choice({"content": " token"}))
STOP = _event(_choice({}, "stop"))
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            path = line.split()[1].decode()
            if path.startswith("/slow/"):
                await asyncio.sleep(float(path.rsplit("/", 1)[1]))
                writer.write(SLOW)
            else:
                at = head.index(b"content-length:") + 15
                request = json.loads(await reader.readexactly(int(head[at : head.index(b"\r\n", at)])))
                tokens, every_ms, *tools = map(int, request["model"].split("-"))
                calls, rounds = tools or (0, 0)
                if sum(message["role"] == "assistant" for message in request["messages"]) < rounds:
                    writer.write(STREAM + _calls(calls) + DONE)
                else:
                    await _stream(writer, tokens, every_ms)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has gone
    finally:
        writer.close()


def _calls(count: int) -> bytes:
    function = {"name": "current_time", "arguments": "{}"}
    calls = [{"index": at, "id": f"call_{at}", "type": "function", "function": function} for at in range(count)]
    usage = {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": count + 10}
    return _event(_choice({"tool_calls": calls}, "tool_calls")) + _event([], usage=usage)


async def _stream(writer: asyncio.StreamWriter, tokens: int, every_ms: int) -> None:
    writer.write(STREAM + ROLE)
    for _ in range(tokens):
        writer.write(TOKEN)
        await writer.drain()
        await asyncio.sleep(every_ms / 1000)
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10}
    writer.write(STOP + _event([], usage=usage) + DONE)


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = await asyncio.start_server(serve, sock=listener, backlog=2048)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.platform == "win32":
        asyncio.run(main())
    else:
        import uvloop

        uvloop.run(main())
