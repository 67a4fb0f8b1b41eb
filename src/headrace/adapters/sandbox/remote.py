"""A dify-sandbox service: it runs programs sent by HTTP, and returns their output."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.sandbox.local import FAILED, LANGUAGES, MOST_RENDERED, render_here, result_of
from headrace.errors import NodeError
from headrace.values import Value, to_json

if TYPE_CHECKING:
    import aiohttp

DEFAULT_KEY = "dify-sandbox"
_LONGEST = 64 * 1024 * 1024  # bytes of a response

# Code after the author's program, which comes first to keep its line numbers. Programs may use the names that Dify's
# own code imports.
_PYTHON = """

import base64 as _base64, json as _json
import json
from base64 import b64decode
_inputs = _json.loads(_base64.b64decode('{inputs}').decode('utf-8'))
print('{mark}' + _json.dumps(main(**_inputs)) + '{mark}')
"""
_JAVASCRIPT = """

Promise.resolve(main(JSON.parse(Buffer.from('{inputs}', 'base64').toString('utf-8'))))
  .then((value) => console.log('{mark}' + JSON.stringify(value === undefined ? null : value) + '{mark}'));
"""
_TEMPLATE = """
import base64, json, jinja2

def main(template, inputs):
    return {'text': jinja2.Template(template).render(**inputs)}
"""


class RemoteSandbox:
    """Implements `ports.services.Sandbox` by a dify-sandbox service at `url`."""

    def __init__(self, url: str, key: str = DEFAULT_KEY) -> None:
        self._url = url.rstrip("/") + "/v1/sandbox/run"
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def run(
        self, language: str, code: str, inputs: Mapping[str, Value], seconds: float, app: str = ""
    ) -> Mapping[str, Any]:
        """See `Sandbox.run`."""
        if language not in LANGUAGES:
            raise NodeError(f"The code is in '{language}'; it can be in python3 or javascript.", FAILED)
        wrapper = _PYTHON if language == "python3" else _JAVASCRIPT
        mark = f"<<{secrets.token_hex(16)}>>"  # which no program prints by accident
        arguments = base64.b64encode(json.dumps(to_json(dict(inputs))).encode()).decode()
        program = code + wrapper.replace("{inputs}", arguments).replace("{mark}", mark)
        printed = await self._post("python3" if language == "python3" else "nodejs", program, seconds)
        parts = printed.split(mark)
        if len(parts) < 3:
            raise NodeError("The code ended without a result.", FAILED)
        return result_of(parts[-2])

    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float, app: str = "") -> str:
        """See `Sandbox.render`."""
        arguments: dict[str, Any] = to_json(dict(inputs))
        if (text := await render_here(template, arguments)) is not None:
            return text
        rendered = await self.run("python3", _TEMPLATE, {"template": template, "inputs": arguments}, seconds)
        text = rendered.get("text")
        if not isinstance(text, str) or len(text) > MOST_RENDERED:
            raise NodeError(f"The template's output is longer than {MOST_RENDERED} characters.", FAILED)
        return text

    def missing(self, language: str, code: str) -> str | None:
        """None, because the packages of the service are unknown."""
        return None

    async def start(self) -> None:
        """There is nothing to start."""

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, language: str, code: str, seconds: float) -> str:
        """The program's output. NodeError if the service cannot be reached, refuses, or reports an error."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        body = {"language": language, "code": code, "preload": "", "enable_network": True}
        timeout = aiohttp.ClientTimeout(total=seconds + 5, connect=10)
        try:
            async with self._session.post(
                self._url, json=body, headers={"X-Api-Key": self._key}, timeout=timeout
            ) as response:
                status = response.status
                raw = await _whole(response.content) if status == 200 else b""
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise NodeError(f"The sandbox service at {self._url} did not respond: {why}", FAILED) from None
        if status == 401:
            raise NodeError("The sandbox service refused its API key; set HEADRACE_SANDBOX_API_KEY.", FAILED)
        if status != 200:
            raise NodeError(f"The sandbox service responded with HTTP status {status}.", FAILED)
        return _printed(raw)


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """The response's body. ValueError if it is too long."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > _LONGEST:
            raise ValueError(f"a response of more than {_LONGEST} bytes")
    return bytes(body)


def _printed(raw: bytes) -> str:
    try:
        answer: Any = json.loads(raw)
        code, message, data = answer["code"], answer.get("message"), cast("dict[str, Any]", answer.get("data") or {})
        error, printed = data.get("error"), data.get("stdout")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NodeError("The response is not that of a sandbox service.", FAILED) from None
    if code != 0:
        raise NodeError(f"The sandbox service refused the code: {message}", FAILED)
    if error:
        raise NodeError(str(error), FAILED)
    return str(printed or "")
