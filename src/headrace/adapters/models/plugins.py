"""Models of installed plugins, for the providers that our own driver does not reach.

For a provider with settings in the environment (`OPENAI_API_KEY`) the driver is used (`ModelClient`): it costs no
process. For others it is the plugin, if one is installed that has all its credentials. What a plugin declares is read
from its files; it runs once a model is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from headrace.adapters.models.endpoint import NOT_INITIALIZED
from headrace.adapters.models.failures import CONNECTION, UNAVAILABLE
from headrace.adapters.models.providers import configured, last_part
from headrace.adapters.models.slots import Slot, unlimited
from headrace.adapters.models.speech import SpeechClient
from headrace.adapters.plugins.identifiers import plugin_of_models
from headrace.adapters.plugins.runtime import Plugins
from headrace.errors import HeadraceError, NodeError
from headrace.frozen import frozen
from headrace.ports.services import ChatChunk, ChatRequest, Files, ToolContext
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.plugins.credentials import Credentials
    from headrace.adapters.plugins.declarations import CredentialField, ModelDeclaration, ModelProvider
    from headrace.adapters.plugins.installed import InstalledPlugin
    from headrace.adapters.plugins.process import PluginError

PLUGIN_ERROR = "PluginInvokeError"
_KINDS = frozenset(
    {
        "InvokeConnectionError",
        "InvokeServerUnavailableError",
        "InvokeRateLimitError",
        "InvokeAuthorizationError",
        "InvokeBadRequestError",
    }
)
_MODEL_TYPE = "__model_type"  # the variable that fields of a model's credentials depend on
_MIME_TYPES: Mapping[str, str] = {"mp3": "audio/mpeg", "wav": "audio/wav", "opus": "audio/ogg", "pcm": "audio/pcm"}

ModelFields: TypeAlias = Mapping[str, Value]


@frozen
class PluginModel:
    """A model that a plugin can call. `declared` is what the plugin's files say of it; None for one that people add by
    its name."""

    plugin: InstalledPlugin
    provider: ModelProvider
    credentials: Credentials
    name: str
    declared: ModelDeclaration | None

    def property_text(self, name: str) -> str:
        value = self.declared.properties.get(name) if self.declared is not None else None
        return value if isinstance(value, str) else ""


class PluginModels:
    """Calls the models of plugins, by the type that Dify has for each. Each call takes place within a `slot`, except
    for chats, whose limits their caller keeps (`LimitedModels`)."""

    def __init__(self, plugins: Plugins, files: Files | None = None, slot: Slot = unlimited) -> None:
        self._slot = slot
        self._plugins = plugins
        self._files = files

    def missing(self, provider: str) -> str | None:
        """What is missing to call a provider's models through a plugin; None if nothing is."""
        location = self._located(provider)
        return self.needed(provider) if location is None else self._credentials(*location, "llm").missing

    def needed(self, provider: str) -> str:
        """A message that names the plugin of a provider."""
        plugin = plugin_of_models(provider)
        return f"The plugin {plugin} serves the provider '{last_part(provider)}': run `headrace plugins add {plugin}`."

    def has(self, provider: str) -> bool:
        """Whether a plugin is installed that has such a provider, with or without its credentials."""
        return self._located(provider) is not None

    async def find(self, provider: str, type_: str, name: str = "") -> PluginModel:
        """A model of a provider; without a name the first that the plugin declares of the type. NodeError if the plugin
        or its credentials are missing, or it has no such models."""
        return await asyncio.to_thread(self._find, provider, type_, name)  # a plugin may have hundreds of files

    def _find(self, provider: str, type_: str, name: str) -> PluginModel:
        location = self._located(provider)
        if location is None:
            raise NodeError(f"provider_not_initialize: {self.needed(provider)}", NOT_INITIALIZED)
        plugin, declaration = location
        if type_ not in declaration.types:
            message = f"The plugin {plugin.id.plugin} has no models of the type {type_}."
            raise NodeError(message, NOT_INITIALIZED)
        models = [model for model in declaration.models if model.type == type_]
        model_declaration = next((model for model in models if model.name == name or not name), None)
        if not name and model_declaration is None:
            raise NodeError(f"Name a model of the type {type_} for {plugin.id.plugin}.", NOT_INITIALIZED)
        credentials = self._credentials(plugin, declaration, type_, name, is_custom=model_declaration is None)
        if credentials.missing is not None:
            raise NodeError(f"provider_not_initialize: {credentials.missing}", NOT_INITIALIZED)
        return PluginModel(
            plugin,
            declaration,
            credentials,
            name or (model_declaration.name if model_declaration else ""),
            model_declaration,
        )

    async def invoke(
        self, model: PluginModel, type_: str, action: str, fields: ModelFields, user: str
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """What the plugin answers. NodeError as for `Models.chat`."""
        from headrace.adapters.plugins.backwards import Caller
        from headrace.adapters.plugins.process import PluginError

        request = {
            "type": "model",
            "action": action,
            "user_id": user,
            "provider": model.provider.name,
            "model_type": type_,
            "model": model.name,
            "credentials": model.credentials.values,
            **fields,
        }
        caller = Caller(ToolContext("", "", user, ""))
        results = self._plugins.host.call(model.plugin, request, caller, model.credentials.secrets)
        try:
            async with aclosing(results):
                async for result in results:
                    yield result
        except PluginError as error:
            raise _failure(error, model.plugin) from error

    async def result(self, model: PluginModel, type_: str, action: str, fields: ModelFields, user: str) -> ModelFields:
        """The answer of an action that has a single one. NodeError as for `Models.chat`."""
        answer: ModelFields | None = None
        slot = self._slot(model.provider.name, model.name)
        async with slot, aclosing(self.invoke(model, type_, action, fields, user)) as results:
            async for result in results:
                answer = answer or result
        if answer is None:
            raise NodeError(f"The plugin {model.plugin.id.plugin} sent no answer.", CONNECTION)
        return answer

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        """See `Models.chat`."""
        from headrace.adapters.models.plugin_messages import chat_payload, llm_request, priced
        from headrace.adapters.models.prices import Price
        from headrace.adapters.models.response import Answer

        model = await self.find(request.provider, "llm", request.model)
        fields = await llm_request(request, model.declared, self._files)
        if not fields["prompt_messages"]:
            raise NodeError(f"Nothing to send: {model.name} accepts no part of the prompt.", "InvokeBadRequestError")
        answer, usage = Answer(request, Price()), dict[str, Value]()
        async with aclosing(self.invoke(model, "llm", "invoke_llm", fields, request.user or "")) as chunks:
            async for chunk in chunks:
                try:
                    payload = await chat_payload(chunk, request, self._files)
                    piece = answer.add(payload)
                except (AttributeError, TypeError, ValueError, HeadraceError) as error:
                    message = f"The plugin {model.plugin.id.plugin} sent a chunk that is not part of an answer."
                    raise NodeError(message, CONNECTION) from error
                usage |= payload["usage"]
                if piece is not None:
                    yield piece
        last = answer.last()
        yield replace(last, usage=last.usage and priced(last.usage, usage))

    async def transcribe(self, audio: bytes, provider: str, name: str, user: str = "") -> str:
        """See `Speech.transcribe`."""
        model = await self.find(provider, "speech2text", name)
        answer = await self.result(model, "speech2text", "invoke_speech2text", {"file": audio.hex()}, user)
        return str(answer.get("result") or "").strip()

    async def speak(self, text: str, voice: str, provider: str, name: str, user: str = "") -> tuple[bytes, str]:
        """See `Speech.speak`."""
        model = await self.find(provider, "tts", name)
        fields = {"content_text": text, "voice": voice or model.property_text("default_voice"), "tenant_id": "headrace"}
        mime_type = _MIME_TYPES.get(model.property_text("audio_type"), "audio/mpeg")
        pieces: list[bytes] = []
        slot = self._slot(model.provider.name, model.name)
        async with slot, aclosing(self.invoke(model, "tts", "invoke_tts", fields, user)) as results:
            async for result in results:
                try:
                    pieces.append(bytes.fromhex(str(result.get("result"))))
                except ValueError as error:
                    raise NodeError("The plugin sent audio that is not in hexadecimal form.", CONNECTION) from error
                mime_type = str(result.get("mime_type") or mime_type)
        return b"".join(pieces), mime_type

    def _located(self, provider: str) -> tuple[InstalledPlugin, ModelProvider] | None:
        """The plugin that a provider's id names, in its newest version."""
        name = last_part(provider)
        for plugin in self._plugins.installed.versions(plugin_of_models(provider)):
            if declaration := plugin.declarations.models.get(name):
                return plugin, declaration
        return None

    def _credentials(
        self, plugin: InstalledPlugin, provider: ModelProvider, type_: str, model: str = "", *, is_custom: bool = False
    ) -> Credentials:
        """Those of the provider, or those of the model, whichever are complete; for a model that people add by its name
        those of the model go first. A set in the credentials file may have the model's name."""
        of = partial(self._plugins.credentials.of, plugin.id.plugin, provider.name, credentials_name=model)
        forms = [provider.credentials, _of_type(provider.model_credentials, type_)]
        candidates = [_with_protocol(of(fields)) for fields in (reversed(forms) if is_custom else forms) if fields]
        return next(
            (credentials for credentials in candidates if credentials.missing is None),
            candidates[0] if candidates else of(()),
        )


def _of_type(fields: Sequence[CredentialField], type_: str) -> list[CredentialField]:
    """The fields of the form for models of a type."""
    return [
        replace(field, show_on=[(name, value) for name, value in field.show_on if name != _MODEL_TYPE])
        for field in fields
        if all(name != _MODEL_TYPE or value == type_ for name, value in field.show_on)
    ]


def _with_protocol(credentials: Credentials) -> Credentials:
    """OpenAI's plugin uses the Responses protocol by default, which few other servers have."""
    base = str(credentials.values.get("openai_api_base") or "")
    if not base or "api_protocol" not in credentials.values or "api.openai.com" in base:
        return credentials
    return replace(credentials, values={**credentials.values, "api_protocol": "chat"})


def _failure(error: PluginError, plugin: InstalledPlugin) -> NodeError:
    from headrace.adapters.plugins.process import HOST_ERROR

    if error.error_type in _KINDS:
        return NodeError(str(error), error.error_type)
    if error.error_type == HOST_ERROR:
        return NodeError(str(error), UNAVAILABLE)
    message = (
        f"An error occurred in the {plugin.id.plugin}, please contact the author of it for help, "
        f"error type: {error.error_type}, error details: {error}"
    )
    return NodeError(message, PLUGIN_ERROR)


class SpeechWithPlugins:
    """Implements `Speech`: our own client, and plugins for the providers that it does not reach."""

    def __init__(self, client: SpeechClient, plugins: PluginModels, environ: Mapping[str, str], default: str) -> None:
        self._client = client
        self._plugins = plugins
        self._environ = environ
        self._default = default

    def missing(self, provider: str = "") -> str | None:
        """See `Speech.missing`."""
        if self._is_plugins(provider := provider or self._default):
            return self._plugins.missing(provider)
        return self._client.missing(provider)

    async def transcribe(
        self, audio: bytes, *, filename: str, mime_type: str, provider: str = "", model: str = ""
    ) -> str:
        """See `Speech.transcribe`."""
        if self._is_plugins(provider := provider or self._default):
            return await self._plugins.transcribe(audio, provider, model)
        return await self._client.transcribe(
            audio, filename=filename, mime_type=mime_type, provider=provider, model=model
        )

    async def speak(self, text: str, *, voice: str = "", provider: str = "", model: str = "") -> tuple[bytes, str]:
        """See `Speech.speak`."""
        if self._is_plugins(provider := provider or self._default):
            return await self._plugins.speak(text, voice, provider, model)
        return await self._client.speak(text, voice=voice, provider=provider, model=model)

    def _is_plugins(self, provider: str) -> bool:
        name = last_part(provider)
        if not name or not self._plugins.has(provider):
            return False
        return not configured(self._environ, name) or self._client.missing(provider) is not None
