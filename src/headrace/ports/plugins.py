"""The plugins that a workflow file names, and what is known of plugins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from headrace.frozen import frozen
from headrace.ports.services import ToolContext
from headrace.ports.triggers import PluginSubscription
from headrace.values import Value

UseKind: TypeAlias = Literal["dependency", "tool", "strategy", "model", "other"]


@frozen
class PluginUse:
    """A place where a file names a plugin: its list of dependencies, or a node, by what it uses of the plugin.

    `provider` is the id of the provider (`author/plugin/provider`, in old files its name alone) and `identifier` the
    exact version of the plugin; at least one of them is not empty. `tool` is the name of a tool.
    """

    kind: UseKind
    provider: str = ""
    identifier: str = ""
    tool: str = ""


@frozen
class PluginNeed:
    """A plugin that a file names.

    `replaced` says what Headrace has in its place, "" if nothing. `installed` is the identifier of the version that is
    used, "" if there is none, and `exact` whether it is the one that the file names. `lacks` are the tools that the
    file uses and the installed version does not have.
    """

    plugin: str
    replaced: str = ""
    installed: str = ""
    exact: bool = False
    lacks: Sequence[str] = ()


@frozen
class CredentialVariable:
    """A field of a plugin's credentials, by its environment variable. `is_set`: that variable, or the file of named
    sets, has a value for it; `oauth`: it results from an OAuth login."""

    name: str
    required: bool
    is_set: bool
    label: str
    url: str
    oauth: bool


@frozen
class PluginDescription:
    """A plugin for people. `signer` is "" if no known key signed it. `python` and `folder` are "" for a package that is
    not installed. `provides` has (kind, provider, names)."""

    plugin: str
    label: str
    description: str
    author: str
    signer: str
    permissions: str
    minimum_dify_version: str
    provides: Sequence[tuple[str, str, Sequence[str]]]
    credentials: Sequence[CredentialVariable]
    python: str = ""
    folder: str = ""
    note: str = ""


@frozen
class EndpointRequest:
    """A request to an endpoint of a plugin. `target` is the path within the endpoint, with the query; `url` is the
    address of the request."""

    method: str
    target: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@frozen
class EndpointResponse:
    """What the endpoint responds. Closing `body` stops the plugin's work on it."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: AsyncGenerator[bytes]


class Endpoints(Protocol):
    """The endpoints of plugins, by the hooks in their paths."""

    async def call(self, hook: str, request: EndpointRequest) -> EndpointResponse:
        """NotFound for an unknown hook, RequestError if the plugin fails before it responds."""
        ...


@frozen
class TriggerEvents:
    """The events of a provider that a request to a subscription is about, and the response that the plugin has for the
    sender. `context` is for `TriggerSubscriptions.variables`."""

    provider: str
    workspace: str
    events: Sequence[str]
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    context: Any


class TriggerSubscriptions(Protocol):
    """The subscriptions of triggers of plugins, by the names in their paths."""

    async def check(self, name: str) -> None:
        """NotFound for an unknown subscription."""
        ...

    async def dispatch(self, name: str, request: EndpointRequest) -> TriggerEvents:
        """NotFound for an unknown subscription, RequestError if the plugin refuses the request, or fails."""
        ...

    async def variables(
        self, events: TriggerEvents, event: str, parameters: Mapping[str, Value]
    ) -> Mapping[str, Value] | None:
        """The variables of an event; None if the plugin ignores it, because of its parameters. HeadraceError if the
        plugin fails."""
        ...


class TriggerPlugins(Protocol):
    """Subscribes to services by means of the plugins that know them. `provider` is `author/plugin/provider`, and
    `credentials` the name of a set, "" for the default one.

    RequestError for what the caller can mend, or the service refuses: then nothing has changed there. Another
    HeadraceError for what leaves that open, such as a plugin that ends or does not answer.
    """

    def check(self, provider: str, parameters: Mapping[str, Value], credentials: str) -> Mapping[str, Value]:
        """The parameters with their defaults."""
        ...

    def check_manual(self, provider: str, properties: Mapping[str, Value]) -> None:
        """Checks the properties of a subscription that was made by hand."""
        ...

    async def subscribe(
        self, provider: str, endpoint: str, parameters: Mapping[str, Value], credentials: str
    ) -> PluginSubscription: ...

    async def unsubscribe(self, provider: str, subscription: PluginSubscription, credentials: str) -> None: ...

    async def refresh(
        self, provider: str, subscription: PluginSubscription, credentials: str
    ) -> PluginSubscription: ...


class PluginCaller(Protocol):
    """On whose behalf a plugin calls back. `on_usage` receives what the models used."""

    @property
    def context(self) -> ToolContext: ...

    @property
    def on_usage(self) -> Callable[[Mapping[str, Value]], None]: ...
