"""`/triggers/...`: where the senders of webhooks call, at the paths that they have in Dify. They need no key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.api.http.errors import of_status
from headrace.api.http.request_body import Body
from headrace.api.http.responses import encode, json_response
from headrace.api.http.schema import JSON
from headrace.api.middleware.request_context import TRACE
from headrace.errors import RequestError
from headrace.nodes.trigger_webhook import BadWebhook
from headrace.ports.plugins import EndpointRequest
from headrace.triggers import PluginEvents, Upload, WebhookCall, Webhooks
from headrace.triggers.signatures import BadSignature

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FIELDS, _FILES = 1000, 100  # of a form
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


def routes(webhooks: Webhooks, max_body: int) -> list[Route]:
    async def call(request: Request) -> Response:
        webhook = await webhooks.find(request.path_params["webhook_id"])
        headers = _headers(request)
        try:
            webhooks.check_head(webhook, request.method, headers)
            body = await Body(request, max_body, _too_large(max_body)).whole()
            webhooks.verify(webhook, headers, body)
            form = await _form(headers, body)
            query = dict(reversed(request.query_params.multi_items()))  # of a name that is repeated the first counts
            status, answer = await webhooks.receive(
                webhook, WebhookCall(request.method, headers, query, body, form, TRACE.get())
            )
        except BadWebhook as error:
            return _refusal(400, "Bad Request", error)
        except BadSignature as error:
            return _refusal(401, "Unauthorized", error)
        content = b"" if answer is None else encode(answer)
        return Response(content, status, media_type=None if answer is None else JSON)

    return [Route("/triggers/webhook/{webhook_id}", call, methods=_METHODS, include_in_schema=False)]


def plugin_routes(events: PluginEvents, max_body: int) -> list[Route]:
    """The plugin authenticates the senders, and the name of a subscription cannot be guessed."""

    async def call(request: Request) -> Response:
        name = request.path_params["subscription"]
        await events.check(name)
        body = await Body(request, max_body, _too_large(max_body)).whole()
        query = request.scope["query_string"].decode("latin-1")
        endpoint_request = EndpointRequest(
            request.method, f"/?{query}" if query else "/", str(request.url), request.headers.items(), body
        )
        result = await events.receive(name, endpoint_request, TRACE.get())
        response = Response(b"" if result.status in (204, 304) else result.body, result.status)
        for name, value in result.headers:
            response.headers[name] = value
        return response

    return [Route("/triggers/plugin/{subscription}", call, methods=_METHODS, include_in_schema=False)]


def _refusal(status: int, error: str, reason: Exception) -> Response:
    """As Dify's webhooks have it."""
    return json_response({"error": error, "message": str(reason)}, status)


def _too_large(limit: int) -> RequestError:
    return of_status(413, f"Webhook request too large: it exceeds the maximum allowed size of {limit} bytes")


def _headers(request: Request) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _form(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], Mapping[str, Upload]] | None:
    """The fields and files of a form, the first of each name; None for another body. BadWebhook if it is malformed."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _URLENCODED:
        try:
            pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError as error:
            raise BadWebhook(f"Invalid form body: {error}") from None
        return dict(reversed(pairs)), {}
    return await _multipart(headers, body) if kind == _MULTIPART else None


async def _multipart(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], Mapping[str, Upload]]:
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def pieces() -> AsyncGenerator[bytes]:
        yield body

    class Parser(MultiPartParser):
        is_complete = not body

        def on_end(self) -> None:
            self.is_complete = True

    parser = Parser(Headers(headers), pieces(), max_files=_FILES, max_fields=_FIELDS, max_part_size=max(1, len(body)))
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadWebhook(f"Invalid form body: {error.message}") from None
    fields: dict[str, str] = {}
    files: dict[str, Upload] = {}
    try:
        if not parser.is_complete:
            raise BadWebhook("Invalid form body: it ends before the last boundary")
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields.setdefault(name, value)
            elif value.filename and name not in files:
                data = await value.read()
                files[name] = Upload(value.filename, value.content_type or "", data)
    finally:
        await form.close()
    return fields, files
