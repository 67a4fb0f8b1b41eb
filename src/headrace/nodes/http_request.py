"""http-request: sends an HTTP request; the response is text or a file.

Outputs: `status_code`, `body` (text; "" if the response is a file), `headers` (an object, names in lower case),
`files`.

A header `Idempotency-Key` without a value gets the key of this attempt, which stays the same after a crash: a server
that supports such keys acts only once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import ValidationInfo, field_validator

from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.node import Config, Context, Node, OutputType, Result, null_means_default
from headrace.nodes._http_request_body import Body, BodyItem, BodyType, build_body, key_values
from headrace.nodes._http_response import ResponseContent
from headrace.ports.services import HttpRequest, HttpResponse
from headrace.values import File, Value

# Status codes that fail the node, since Dify's client retries them.
_RETRIED = frozenset({429, 500, 502, 503, 504})
_IDEMPOTENCY_KEY = "idempotency-key"


class AuthorizationConfig(Config):
    """`type`: how `api_key` is sent. `header`: in which header; Authorization by default."""

    type: Literal["basic", "bearer", "custom"] | None = None
    api_key: str = ""
    header: str = ""

    _null = null_means_default("api_key", "header")


class Authorization(Config):
    type: Literal["no-auth", "api-key"] = "no-auth"
    config: AuthorizationConfig | None = None

    @field_validator("config", mode="before")
    @classmethod
    def _unused(cls, value: object, info: ValidationInfo) -> object:
        return None if info.data.get("type") == "no-auth" else value


class BodyConfig(Config):
    """`data` is a list of items, or in old files a text: the body, or `key:value` lines of a form."""

    type: BodyType = "none"
    data: Sequence[BodyItem] | str = ()

    @field_validator("data", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or ()


class Timeout(Config):
    """Seconds; None or 0 means the longest allowed."""

    connect: float | None = None
    read: float | None = None
    write: float | None = None


class HttpRequestConfig(Config):
    method: Literal["get", "post", "put", "patch", "delete", "head", "options"] = "get"
    url: str = ""
    authorization: Authorization = Authorization()
    headers: str = ""
    params: str = ""
    body: BodyConfig = BodyConfig()
    timeout: Timeout = Timeout()
    ssl_verify: bool = True

    @field_validator("method", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    _null = null_means_default("url", "headers", "params", "body", "timeout", "authorization", "ssl_verify")


class _Prepared(NamedTuple):
    """A request, and the text that the trace shows of it."""

    request: HttpRequest
    log: str


class HttpRequestNode(Node[HttpRequestConfig]):
    type = "http-request"
    traits: ClassVar[Traits] = Traits(calls_service=True)
    notes: ClassVar[str] = "with files, retries and every type of body"

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {
            "status_code": OutputType("integer"),
            "body": OutputType("string"),
            "headers": OutputType("object"),
            "files": OutputType("array[file]"),
        }

    async def run(self, ctx: Context) -> Result:
        request, log = await self._prepare(ctx)
        process = {"request": log}
        try:
            response = await ctx.resources.http.send(request)
            if response.status in _RETRIED:
                url = request.url.partition("?")[0]
                raise NodeError(
                    f"Reached maximum retries for URL {url}: it answered with status code {response.status}",
                    "HttpRequestNodeError",
                    outputs=await _outputs(response, ctx),
                )
            outputs = await _outputs(response, ctx)
        except NodeError as error:
            raise NodeError(str(error), error.kind, process=process, outputs=error.outputs) from error
        if not 200 <= response.status < 300 and (ctx.spec.strategy or ctx.spec.retry):
            # Without error handling the status code is just an output.
            message = f"Request failed with status code {response.status}"
            raise NodeError(message, "HTTPResponseCodeError", process=process, outputs=outputs)
        return Result(outputs, process=process)

    async def _prepare(self, ctx: Context) -> _Prepared:
        config, limits = self.config, ctx.limits
        api_key = self._api_key(ctx)
        url = ctx.variables.render(config.url)
        if not url:
            raise NodeError("url is required", "InvalidURLError")
        if not url.lower().startswith(("http://", "https://")):
            raise NodeError("url should start with http:// or https://", "InvalidURLError")
        params = [
            (ctx.variables.render(key), ctx.variables.render(value)) for key, value in key_values(config.params) if key
        ]
        headers = dict(key_values(ctx.variables.render(config.headers)))
        headers = {
            name: ctx.key if name.lower() == _IDEMPOTENCY_KEY and not value else value
            for name, value in headers.items()
        }
        secret = ""
        if api_key:
            secret, value = self._authorization(api_key)
            headers = {name: other for name, other in headers.items() if name.lower() != secret.lower()}
            headers[secret] = value
        body = await build_body(config.body.type, config.body.data, ctx)
        if body.parts:
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        elif body.content_type and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = body.content_type
        request = HttpRequest(
            method=config.method.upper(),
            url=_with_params(url, params),
            headers=list(headers.items()),
            content=body.content,
            parts=body.parts,
            connect_timeout=_capped(config.timeout.connect, limits.http_max_connect),
            read_timeout=_capped(config.timeout.read, limits.http_max_read),
            write_timeout=_capped(config.timeout.write, limits.http_max_write),
            verify=config.ssl_verify,
            max_size=max(limits.http_max_text, limits.http_max_binary),
        )
        return _Prepared(request, _log(request.method, url, params, headers, secret, body))

    def _api_key(self, ctx: Context) -> str:
        """The key to send; "" for none."""
        authorization = self.config.authorization
        if authorization.type == "no-auth":
            return ""
        if authorization.config is None:
            raise NodeError("authorization config is required", "AuthorizationConfigError")
        api_key = ctx.variables.render(authorization.config.api_key)
        if not api_key.strip():
            raise NodeError(
                "API key is required for authorization but was empty. Please provide a valid API key.",
                "AuthorizationConfigError",
            )
        return api_key

    def _authorization(self, api_key: str) -> tuple[str, str]:
        """(name, value) of the header with the key."""
        config = self.config.authorization.config or AuthorizationConfig()
        match config.type:
            case "bearer":
                value = f"Bearer {api_key}"
            case "basic":
                value = f"Basic {base64.b64encode(api_key.encode()).decode() if ':' in api_key else api_key}"
            case _:
                value = api_key
        return config.header or "Authorization", value


def _capped(seconds: float | None, most: float) -> float:
    return min(seconds, most) if seconds and seconds > 0 else most


def _with_params(url: str, params: Sequence[tuple[str, str]]) -> str:
    """The URL with the params in its query; they replace those of the same name."""
    if not params:
        return url
    base, _, fragment = url.partition("#")
    base, _, query = base.partition("?")
    names = {name for name, _ in params}
    remaining = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in names]
    whole = f"{base}?{urlencode([*remaining, *params], quote_via=quote, safe='', errors='replace')}"
    return f"{whole}#{fragment}" if fragment else whole


async def _outputs(response: HttpResponse, ctx: Context) -> dict[str, Value]:
    """The node's outputs. NodeError `ResponseSizeError` if the response is too large for its kind."""
    content = ResponseContent(response)
    content.check_size(ctx.limits.http_max_text, ctx.limits.http_max_binary)
    files: list[File] = []
    if content.is_file:
        files = [
            await ctx.resources.files.save(
                response.body,
                filename=f"{ctx.new_id().replace('-', '')}{content.extension}",  # a random name, as in Dify
                mime_type=content.mime_type,
                app=ctx.app,
                owner=ctx.user,
            )
        ]
    return {
        "status_code": response.status,
        "body": "" if files else content.text,
        "headers": content.headers,
        "files": files,
    }


def _log(
    method: str, url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str], secret: str, body: Body
) -> str:
    """The request as Dify shows it: about as it is sent, with the value of the header `secret` masked."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise NodeError(f"Invalid URL {url!r}: {error}", "InvalidURLError") from None
    query = urlencode(params, errors="replace") if params else parts.query
    lines = [f"{method} {parts.path or '/'}{'?' if query else ''}{query} HTTP/1.1"]
    lines.append(f"Host: {parts.netloc.rpartition('@')[2]}")
    headers_in_log = dict(headers)
    if body.parts:
        headers_in_log["Content-Type"] = body.content_type
    for name, value in headers_in_log.items():
        lines.append(f"{name}: {'*' * len(value) if name == secret else value}")
    if body.log:
        lines.append(f"Content-Length: {len(body.log)}")
    return "\r\n".join([*lines, "", body.log])
