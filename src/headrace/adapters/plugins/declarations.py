"""What a plugin provides, read from the YAML files in its folder without starting it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, get_args

from headrace.adapters.config_files import read_yaml
from headrace.adapters.plugins.fields import items_of, mapping_of, text_of
from headrace.adapters.plugins.manifest import Kind, Manifest
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.ports.services import ParameterType, ToolParameter, ToolSpec
from headrace.values import Value

_TYPES: frozenset[str] = frozenset(get_args(ParameterType))
_LIKE: Mapping[str, ParameterType] = {"date": "string", "text-input": "string", "date-range": "object"}
_RUNTIME_PARAMETERS = b"def _get_runtime_parameters"


@frozen
class CredentialField:
    """A field of a provider's credentials, or of another form that people fill in (an endpoint's settings).

    `type` is secret-input, text-input, select, radio, switch, boolean or a selector. It is part of the form only if
    every variable in `show_on` has the value there. `url` is where people get the value.
    """

    name: str
    type: str
    required: bool = False
    default: Value = None
    options: Sequence[str] = ()
    label: str = ""
    url: str = ""
    show_on: Sequence[tuple[str, str]] = ()

    @property
    def secret(self) -> bool:
        return self.type == "secret-input"


@frozen
class ToolDeclaration:
    """A tool, an agent strategy, a datasource or an event of a trigger. `dynamic`: it may have further parameters,
    which only the running plugin knows (`get_tool_runtime_parameters`). `features` are those of a strategy."""

    spec: ToolSpec
    dynamic: bool = False
    features: Sequence[str] = ()


@frozen
class Provider:
    """A provider of tools, agent strategies, datasources or events (`kind`).

    `credentials` are the fields that people fill in, `oauth` those that an OAuth login results in. `type` is that of a
    datasource (website_crawl, online_document, online_drive). `subscription` are the properties that a subscription to
    a trigger keeps, `subscription_parameters` those of the request for one, if the plugin `can_subscribe`.
    """

    kind: Kind
    name: str
    label: str = ""
    description: str = ""
    credentials: Sequence[CredentialField] = ()
    oauth: Sequence[CredentialField] = ()
    tools: Mapping[str, ToolDeclaration] = field(default_factory=dict[str, ToolDeclaration])
    type: str = ""
    subscription: Sequence[CredentialField] = ()
    subscription_parameters: Sequence[ToolParameter] = ()
    can_subscribe: bool = False


@frozen
class ModelDeclaration:
    """A predefined model. `properties` has context_size, mode and the like; `rules` are its parameters as Dify
    describes them."""

    name: str
    type: str
    features: frozenset[str] = frozenset()
    properties: Mapping[str, Value] = field(default_factory=dict[str, Value])
    rules: Sequence[Mapping[str, Value]] = ()
    pricing: Mapping[str, Value] = field(default_factory=dict[str, Value])
    deprecated: bool = False


@frozen
class ModelProvider:
    """A provider of models. `credentials` are for all its models, `model_credentials` for one that people add by its
    name."""

    name: str
    label: str
    types: Sequence[str]
    credentials: Sequence[CredentialField]
    model_credentials: Sequence[CredentialField]
    models: Sequence[ModelDeclaration]


@frozen
class Endpoint:
    path: str
    method: str
    hidden: bool = False


@frozen
class Endpoints:
    """The HTTP endpoints of a plugin, and the settings that people fill in for them."""

    settings: Sequence[CredentialField]
    endpoints: Sequence[Endpoint]


Content: TypeAlias = Mapping[str, Any]


class Declarations:
    """What the files that a manifest names declare. They are read when they are first needed; HeadraceError if one is
    missing or malformed."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._files = manifest.files

    @cached_property
    def tools(self) -> Mapping[str, Provider]:
        return self._providers("tools", "tools")

    @cached_property
    def agent_strategies(self) -> Mapping[str, Provider]:
        return self._providers("agent_strategies", "strategies")

    @cached_property
    def datasources(self) -> Mapping[str, Provider]:
        return self._providers("datasources", "datasources")

    @cached_property
    def triggers(self) -> Mapping[str, Provider]:
        return self._providers("triggers", "events")

    @cached_property
    def endpoints(self) -> Sequence[Endpoints]:
        return [
            Endpoints(
                _fields(content.get("settings")),
                [
                    Endpoint(text_of(item.get("path")), text_of(item.get("method")).upper(), bool(item.get("hidden")))
                    for item in self._items(content.get("endpoints"))
                ],
            )
            for content in map(self._read, self._files["endpoints"])
        ]

    @cached_property
    def models(self) -> Mapping[str, ModelProvider]:
        return {provider.name: provider for provider in map(self._model_provider, self._files["models"])}

    @property
    def providers(self) -> Sequence[Provider]:
        """Those of all kinds but models."""
        kinds = (self.tools, self.agent_strategies, self.datasources, self.triggers)
        return [provider for providers in kinds for provider in providers.values()]

    def read(self) -> None:
        """Reads all of them, so that a package with a malformed file is refused before it is installed."""
        _ = self.providers, self.models, self.endpoints

    def _providers(self, kind: Kind, items: str) -> Mapping[str, Provider]:
        providers = [self._provider(kind, items, file) for file in self._files[kind]]
        return {provider.name: provider for provider in providers}

    def _provider(self, kind: Kind, items: str, file: str) -> Provider:
        content = self._read(file)
        identity = mapping_of(content.get("identity"))
        name = text_of(identity.get("name"))
        if not name:
            raise HeadraceError(f"{self._folder / file}: identity.name is missing")
        constructor = mapping_of(content.get("subscription_constructor"))
        forms = constructor if kind == "triggers" else content
        tools = [self._tool(item) for item in self._items(content.get(items))]
        return Provider(
            kind=kind,
            name=name,
            label=text_of(identity.get("label")) or name,
            description=text_of(identity.get("description")),
            credentials=_fields(forms.get("credentials_schema") or forms.get("credentials_for_provider")),
            oauth=_fields(mapping_of(forms.get("oauth_schema")).get("credentials_schema")),
            tools={tool.spec.name: tool for tool in tools},
            type=text_of(content.get("provider_type")),
            subscription=_fields(content.get("subscription_schema")),
            subscription_parameters=parameters_of(constructor.get("parameters")),
            can_subscribe=bool(constructor),
        )

    def _tool(self, content: Content) -> ToolDeclaration:
        identity, description = mapping_of(content.get("identity")), content.get("description")
        name = text_of(identity.get("name"))
        if not name:
            raise HeadraceError(f"{self._folder}: a tool has no identity.name")
        spec = ToolSpec(
            name=name,
            label=text_of(identity.get("label")) or name,
            description=text_of(mapping_of(description).get("llm")) or text_of(description),
            parameters=parameters_of(content.get("parameters")),
            output_schema=mapping_of(content.get("output_schema")) or None,
        )
        source = text_of(mapping_of(mapping_of(content.get("extra")).get("python")).get("source"))
        dynamic = bool(content.get("has_runtime_parameters")) or (
            bool(source) and _RUNTIME_PARAMETERS in self._path(source).read_bytes()
        )
        return ToolDeclaration(spec, dynamic, [text_of(feature) for feature in items_of(content.get("features"))])

    def _model_provider(self, file: str) -> ModelProvider:
        content = self._read(file)
        provider = mapping_of(content.get("provider_credential_schema"))
        model = mapping_of(content.get("model_credential_schema"))
        return ModelProvider(
            name=text_of(content.get("provider")),
            label=text_of(content.get("label")),
            types=[text_of(type_) for type_ in items_of(content.get("supported_model_types"))],
            credentials=_fields(provider.get("credential_form_schemas")),
            model_credentials=_fields(model.get("credential_form_schemas")),
            models=[_model(item) for item in self._model_files(content.get("models"))],
        )

    def _model_files(self, models: object) -> Iterator[Content]:
        """The files that match the patterns of a provider; a few packages list the models themselves."""
        yield from map(mapping_of, items_of(models))
        for group in mapping_of(models).values():
            for pattern in items_of(mapping_of(group).get("predefined")):
                for path in sorted(self._folder.glob(text_of(pattern))):
                    if not path.name.endswith("_position.yaml"):
                        yield read_yaml(self._path(str(path.relative_to(self._folder))))

    def _items(self, items: object) -> Iterator[Content]:
        """The content of files by their names; some packages have the content in place of a name."""
        for item in items_of(items):
            yield self._read(item) if isinstance(item, str) else mapping_of(item)

    def _read(self, file: str) -> Content:
        return read_yaml(self._path(file))

    def _path(self, file: str) -> Path:
        path = (self._folder / file).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise HeadraceError(f"{file!r} is outside of the plugin's folder")
        return path


def _fields(schema: object) -> Sequence[CredentialField]:
    """The fields of a form: a list, or an object by their names."""
    named_items = [{"name": name, **mapping_of(item)} for name, item in mapping_of(schema).items()]
    fields = named_items or [mapping_of(item) for item in items_of(schema)]
    return tuple(
        CredentialField(
            name=text_of(item.get("name")) or text_of(item.get("variable")),
            type=text_of(item.get("type")) or "text-input",
            required=bool(item.get("required")),
            default=item.get("default"),
            options=_options(item.get("options")),
            label=text_of(item.get("label")),
            url=text_of(item.get("url")),
            show_on=tuple(
                (text_of(condition.get("variable")), text_of(condition.get("value")))
                for condition in map(mapping_of, items_of(item.get("show_on")))
            ),
        )
        for item in fields
    )


def parameters_of(parameters: object) -> Sequence[ToolParameter]:
    return tuple(
        ToolParameter(
            name=text_of(item.get("name")),
            type=_type(text_of(item.get("type"))),
            form="llm" if item.get("form", "llm") == "llm" else "form",
            required=bool(item.get("required")),
            default=item.get("default"),
            options=_options(item.get("options")),
            label=text_of(item.get("label")),
            description=text_of(item.get("llm_description") or item.get("description") or item.get("help")),
            input_schema=mapping_of(item.get("input_schema")) or None,
        )
        for item in map(mapping_of, items_of(parameters))
    )


def _type(name: str) -> ParameterType:
    """The type of a parameter; those that only agents and triggers have are passed as they are."""
    return _LIKE.get(name, name if name in _TYPES else "any")  # pyright: ignore[reportReturnType]


def _options(options: object) -> Sequence[str]:
    return tuple(text_of(item.get("value")) for item in map(mapping_of, items_of(options)))


def _model(content: Content) -> ModelDeclaration:
    return ModelDeclaration(
        name=text_of(content.get("model")),
        type=text_of(content.get("model_type")) or "llm",
        features=frozenset(text_of(feature) for feature in items_of(content.get("features"))),
        properties=mapping_of(content.get("model_properties")),
        rules=[mapping_of(rule) for rule in items_of(content.get("parameter_rules"))],
        pricing=mapping_of(content.get("pricing")),
        deprecated=bool(content.get("deprecated")),
    )
