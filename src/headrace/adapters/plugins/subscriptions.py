"""The subscriptions of triggers of plugins: which are served, and how a request reaches the plugin. They are stored, or
in a file:

Vn3kQm2xT9a:                             # a name that cannot be guessed: POST .../triggers/plugin/Vn3kQm2xT9a
  provider: langgenius/github_trigger/github
  properties: {webhook_secret: "${GITHUB_WEBHOOK_SECRET}"}
  parameters: {repository: acme/shop}
  workspace: default
  enabled: true
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.adapters.config_files import expand, read_yaml
from headrace.adapters.plugins.endpoints import HOOK, raw_request, returned_headers
from headrace.adapters.plugins.fields import mapping_of
from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.triggers import PluginTriggers
from headrace.cache import FileCache
from headrace.errors import HeadraceError, NotFound, RequestError
from headrace.frozen import frozen
from headrace.ports import PluginSubscription, TriggerSubscription
from headrace.ports.plugins import EndpointRequest, TriggerEvents
from headrace.values import DEEPEST_INPUT, Value, nests_deeper

logger = logging.getLogger(__name__)

_PROVIDER = re.compile(r"[^/\s]+/[^/\s]+/[^/\s]+")
_KEYS = frozenset({"provider", "properties", "parameters", "workspace", "enabled"})
_INVALID = "TriggerValidationError"


@frozen
class _Entry:
    """A subscription, as the file has it."""

    provider: str
    properties: Mapping[str, Value]
    parameters: Mapping[str, Value]
    workspace: str
    enabled: bool


def _entry(path: Path, name: str, content: object) -> _Entry:
    fields = mapping_of(content)
    provider, workspace, enabled = fields.get("provider"), fields.get("workspace", ""), fields.get("enabled", True)
    if not HOOK.fullmatch(name):
        raise HeadraceError(f"{path}: {name[:100]!r} must consist of letters, digits, _ and -")
    if not isinstance(provider, str) or not _PROVIDER.fullmatch(provider):
        raise HeadraceError(f"{path}: {name} must have a provider, as author/plugin/provider")
    if unknown := fields.keys() - _KEYS:
        raise HeadraceError(f"{path}: {name} has unknown fields: {', '.join(sorted(map(str, unknown)))}")
    if not isinstance(enabled, bool) or not isinstance(workspace, str):
        raise HeadraceError(f"{path}: enabled of {name} must be true or false, and workspace a text")
    for part in ("properties", "parameters"):
        value: Any = fields.get(part)
        if not isinstance(value, dict | None) or nests_deeper(value or {}, DEEPEST_INPUT):
            raise HeadraceError(f"{path}: {part} of {name} must be an object, at most {DEEPEST_INPUT} levels deep")
    return _Entry(
        provider, mapping_of(fields.get("properties")), mapping_of(fields.get("parameters")), workspace, enabled
    )


class PluginSubscriptions:
    """Implements TriggerSubscriptions. `stored` returns a stored subscription by the last part of its URL. The file is
    read again when it changes; if that fails, it is logged and the old subscriptions remain. HeadraceError if it is not
    valid at first. `workspace` is that of those that name none."""

    def __init__(
        self,
        triggers: PluginTriggers,
        find_subscription: Callable[[str], Awaitable[TriggerSubscription | None]],
        path: Path | None,
        environ: Mapping[str, str],
        workspace: str,
    ) -> None:
        self._triggers = triggers
        self._find_subscription = find_subscription
        self._path = path
        self._environ = environ
        self._workspace = workspace

        def read(path: Path) -> Mapping[str, _Entry]:
            return {name: _entry(path, name, content) for name, content in read_yaml(path).items()}

        self._entries = None if path is None else FileCache(path, read)

    async def check(self, name: str) -> None:
        """See `TriggerSubscriptions.check`."""
        await self._find(name)

    async def _find(self, name: str) -> _Entry | TriggerSubscription:
        entry = self._entry_of(name) or await self._find_subscription(name)
        if entry is None:
            raise NotFound("subscription not found")
        return entry

    def _entry_of(self, name: str) -> _Entry | None:
        if self._entries is None:
            return None
        try:
            self._entries.refresh()
        except HeadraceError as error:
            logger.error("the previous subscriptions remain: %s", error)
        entry = self._entries.value.get(name)
        return entry if entry is not None and entry.enabled else None

    async def dispatch(self, name: str, request: EndpointRequest) -> TriggerEvents:
        """See `TriggerSubscriptions.dispatch`."""
        entry = await self._find(name)
        try:
            subscription, credentials = self._subscription(entry, request.url.partition("?")[0])
            raw = raw_request(name, request)
            dispatch = await self._triggers.dispatch(entry.provider, subscription, raw, credentials)
            status, headers, body = _response(dispatch.response)
        except HeadraceError as error:
            refused = isinstance(error, PluginError) and error.error_type == _INVALID
            logger.warning("subscription to %s: %s", entry.provider, error)  # its name must not be in the log
            if refused:
                raise RequestError(str(error), "bad_request", 400) from error
            # the sender need not know which file or variable is at fault
            raise RequestError("The subscription does not work.", "internal_server_error", 500) from error
        # of one that is being made the plugin has no secret yet to verify events with, but services check its URL
        is_active = isinstance(entry, _Entry) or entry.active
        events = dispatch.events if is_active else ()
        context = (entry.provider, subscription, credentials, raw, dispatch.payload)
        return TriggerEvents(entry.provider, entry.workspace or self._workspace, events, status, headers, body, context)

    async def variables(
        self, events: TriggerEvents, event: str, parameters: Mapping[str, Value]
    ) -> Mapping[str, Value] | None:
        """See `TriggerSubscriptions.variables`."""
        provider, subscription, credentials, raw, payload = events.context
        return await self._triggers.variables(provider, event, subscription, raw, parameters, payload, credentials)

    def _subscription(self, entry: _Entry | TriggerSubscription, url: str) -> tuple[PluginSubscription, str]:
        """A subscription as its plugin sees it, and the set of its credentials."""
        if isinstance(entry, TriggerSubscription):
            return entry.for_plugin(), entry.credentials
        unset: list[str] = []
        properties = expand(entry.properties, self._environ, unset)
        parameters = expand(entry.parameters, self._environ, unset)
        if unset:
            raise HeadraceError(f"{self._path}, {entry.provider}: set {' and '.join(unset)}")
        return PluginSubscription(url, parameters, properties), ""


def _response(raw: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """A raw HTTP response in its parts; 200 without a body if there is none. PluginError if it is malformed."""
    if not raw:
        return 200, [], b""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/[0-9.]+ ([2-5][0-9][0-9])(?!\S)", first)
    if status is None:
        raise PluginError("The plugin sent a response that is not valid HTTP.")
    pairs = [line.partition(":") for line in lines]
    headers = returned_headers({name.strip(): value.strip() for name, _, value in pairs})
    return int(status[1]), list(headers), body
