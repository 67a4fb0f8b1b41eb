"""The HTTP endpoints of plugins: which are served, with which settings, and how a request reaches the plugin.

support:                                 # a name that cannot be guessed: POST .../e/support/slack/webhook
  plugin: langgenius/slack_bot
  settings: {bot_token: "${SLACK_BOT_TOKEN}", app: {app_id: support}}
  enabled: true
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from headrace.adapters.config_files import expand, read_yaml
from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.credentials import Credentials
from headrace.adapters.plugins.fields import mapping_of
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.runtime import Plugins
from headrace.cache import FileCache
from headrace.errors import HeadraceError, NotFound, RequestError
from headrace.frozen import frozen
from headrace.ids import new_id
from headrace.ports.plugins import EndpointRequest, EndpointResponse
from headrace.ports.services import ToolContext
from headrace.values import DEEPEST_INPUT, Value, nests_deeper

logger = logging.getLogger(__name__)

HOOK = re.compile(r"[A-Za-z0-9_-]{1,100}")
_KEYS = frozenset({"plugin", "settings", "enabled"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OF_CONNECTION = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection, which are not passed on, nor are those that `Connection` names."""
_NOT_SENT = _OF_CONNECTION | {
    "content-encoding",
    "cookie",
    "dify-hook-id",
    "dify-hook-url",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
}
"""Headers of requests that are not the plugin's: also the client's address, and the cookies of other pages of this
server."""
_NOT_RETURNED = _OF_CONNECTION | {
    "access-control-allow-origin",
    "alt-svc",
    "clear-site-data",
    "content-security-policy",
    "date",
    "nel",
    "server",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "x-accel-redirect",
    "x-sendfile",
}
"""Headers of responses that the server sends itself, that would concern its other pages, or that a proxy in front of it
would take for a request to send one of its own files."""


@frozen
class Hook:
    """A plugin whose endpoints are served. `settings` are as the file has them."""

    plugin: PluginId
    settings: Mapping[str, Value]
    enabled: bool


def read_hooks(path: Path) -> Mapping[str, Hook]:
    """The hooks of a file, by name. HeadraceError if it cannot be read, or is malformed."""
    return {name: _hook(path, name, content) for name, content in read_yaml(path).items()}


def _hook(path: Path, name: str, content: object) -> Hook:
    fields = mapping_of(content)
    reference = fields.get("plugin")
    plugin = PluginId.match(reference) if isinstance(reference, str) else None
    if not HOOK.fullmatch(name):
        raise HeadraceError(f"{path}: {name[:100]!r} must consist of letters, digits, _ and -")
    if plugin is None:
        raise HeadraceError(f"{path}: {name} must have a plugin, as author/name")
    if unknown := fields.keys() - _KEYS:
        raise HeadraceError(f"{path}: {name} has unknown fields: {', '.join(sorted(map(str, unknown)))}")
    enabled: Any = fields.get("enabled", True)
    settings: Any = fields.get("settings")
    if not isinstance(enabled, bool):
        raise HeadraceError(f"{path}: enabled of {name} must be true or false")
    if not isinstance(settings, dict | None) or nests_deeper(settings or {}, DEEPEST_INPUT):
        raise HeadraceError(f"{path}: settings of {name} must be an object, at most {DEEPEST_INPUT} levels deep")
    return Hook(plugin, mapping_of(fields.get("settings")), enabled)


class PluginEndpoints:
    """Calls the endpoints of plugins. The file is read again when it changes; if that fails, it is logged and the old
    hooks remain. HeadraceError if it is not valid at first."""

    def __init__(self, plugins: Plugins, path: Path, environ: Mapping[str, str]) -> None:
        self._plugins = plugins
        self._path = path
        self._environ = environ
        self._hooks = FileCache(path, read_hooks)

    async def call(self, hook: str, request: EndpointRequest) -> EndpointResponse:
        """The response of the plugin that a hook names. NotFound if there is none, or it is disabled; RequestError if
        the plugin fails before it responds."""
        self._reload()
        target = self._hooks.value.get(hook)
        if target is None or not target.enabled:
            raise NotFound("endpoint not found")
        plugin = self._plugins.installed.nearest(target.plugin)
        try:
            if plugin is None:
                raise PluginError(f"The plugin {target.plugin} is needed: run `headrace plugins add {target.plugin}`.")
            results = self._results(plugin, self._settings(plugin, target.settings), hook, request)
            return await _response(results)
        except HeadraceError as error:
            logger.warning("endpoint of %s: %s", target.plugin, error)  # the hook must not be in the log
            raise RequestError(str(error), "internal_server_error", 500) from error

    def _settings(self, plugin: InstalledPlugin, settings: Mapping[str, Value]) -> Credentials:
        """The settings, filled in like credentials. HeadraceError if one is missing or not valid, or the plugin may not
        have endpoints."""
        groups = plugin.declarations.endpoints
        if not groups or not plugin.manifest.permissions.endpoint:
            raise HeadraceError(f"the plugin {plugin.id.plugin} has no endpoints, or not the permission for them")
        unset: list[str] = []
        values = expand(settings, self._environ, unset)
        if unset:
            raise HeadraceError(f"{self._path}, {plugin.id.plugin}: set {' and '.join(unset)}")
        fields = [field for group in groups for field in group.settings]
        credentials = self._plugins.credentials.filled("api-key", plugin.id.name, fields, values)
        if credentials.missing is not None:
            raise HeadraceError(credentials.missing)
        return credentials

    async def _results(
        self, plugin: InstalledPlugin, settings: Credentials, hook: str, request: EndpointRequest
    ) -> AsyncGenerator[Mapping[str, Value]]:
        data: dict[str, Value] = {
            "type": "endpoint",
            "action": "invoke_endpoint",
            "user_id": "",
            "settings": settings.values,
            "raw_http_request": raw_request(hook, request).hex(),
        }
        caller = Caller(ToolContext("", "", "", new_id()))
        async with aclosing(self._plugins.host.call(plugin, data, caller, settings.secrets)) as results:
            async for result in results:
                yield result

    def _reload(self) -> None:
        try:
            self._hooks.refresh()
        except HeadraceError as error:
            logger.error("the previous endpoints remain: %s", error)


def raw_request(hook: str, request: EndpointRequest) -> bytes:
    """A request as a plugin gets it, with the headers that Dify adds."""
    excluded_names = _NOT_SENT | _named_by_connection(request.headers)
    headers = [  # the SDK refuses names with an underscore
        (name, value) for name, value in request.headers if name.lower() not in excluded_names and "_" not in name
    ]
    headers += [("Dify-Hook-Id", hook), ("Dify-Hook-Url", request.url), ("Content-Length", str(len(request.body)))]
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def _response(results: AsyncGenerator[Mapping[str, Value]]) -> EndpointResponse:
    """The response that begins with the first result. PluginError if there is none, or it is malformed."""
    try:
        first = await anext(results, None)
        if first is None:
            raise PluginError("The plugin sent no response.")
        status: Any = first.get("status")
        if not isinstance(status, int) or not 200 <= status < 600:
            raise PluginError(f"The plugin sent a response with the status {str(status)[:20]}.")
        return EndpointResponse(status, returned_headers(mapping_of(first.get("headers"))), _body(first, results))
    except BaseException:
        await results.aclose()
        raise


def _named_by_connection(headers: Iterable[tuple[str, Any]]) -> set[str]:
    """The names in lower case of the headers that the header `Connection` declares as its own."""
    values = [str(value) for name, value in headers if name.lower() == "connection"]
    return {token.strip().lower() for value in values for token in value.split(",")}


def returned_headers(headers: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    excluded_names = _NOT_RETURNED | _named_by_connection(headers.items())
    remaining = [(name, str(value)) for name, value in headers.items() if name.lower() not in excluded_names]
    for name, value in remaining:
        if not _TOKEN.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise PluginError(f"The plugin sent a header that is not valid: {name[:50]!r}")
    return remaining


async def _body(first: Mapping[str, Value], results: AsyncGenerator[Mapping[str, Value]]) -> AsyncGenerator[bytes]:
    async with aclosing(results):
        yield _piece(first)
        async for result in results:
            yield _piece(result)


def _piece(result: Mapping[str, Value]) -> bytes:
    try:
        return bytes.fromhex(result.get("result") or "")
    except (TypeError, ValueError):
        raise PluginError("The plugin sent a body that is not in hexadecimal form.") from None
