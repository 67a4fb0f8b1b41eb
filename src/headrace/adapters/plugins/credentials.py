"""The credentials of plugins: from the file that `HEADRACE_CREDENTIALS` names, the environment, and defaults.

tavily:                                  # the provider, or author/plugin/provider
  default: {tavily_api_key: tvly-...}
  7f3c2a10-...: {tavily_api_key: ${SECOND_TAVILY_KEY}}    # a set that workflow files name by its id
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from headrace.adapters.config_files import expand, read_yaml
from headrace.adapters.plugins.declarations import CredentialField
from headrace.adapters.plugins.fields import mapping_of
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.values import Value

DEFAULT_SET = "default"
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0", ""})

CredentialType: TypeAlias = Literal["api-key", "oauth2", "unauthorized"]


@frozen
class Credentials:
    """The values of a provider's credentials, `secrets` those that must not be shown, and `type` as Dify names it.
    `missing` says which variables to set; None if nothing required is missing."""

    values: Mapping[str, Value] = field(repr=False)
    secrets: frozenset[str] = field(repr=False)
    type: CredentialType = "api-key"
    missing: str | None = None


class CredentialStore:
    """Finds credentials. HeadraceError if the file cannot be read, or is malformed."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._providers = {} if path is None else _read(path)

    def of(
        self,
        plugin: str,
        provider: str,
        fields: Sequence[CredentialField],
        oauth: Sequence[CredentialField] = (),
        credentials_name: str = "",
    ) -> Credentials:
        """The credentials of a provider of the plugin `author/name`. `credentials_name` is the id of a set, "" for
        the default one. Those of an OAuth login are used if they are complete and the others are not."""
        entry = self._sets(plugin, provider)
        name = credentials_name if credentials_name in entry else DEFAULT_SET if DEFAULT_SET in entry else ""
        if not name and len(entry) == 1:
            name = next(iter(entry))
        if entry and not name:
            sets = ", ".join(entry)
            quoted_name = f"'{credentials_name}'" if credentials_name else f"'{DEFAULT_SET}'"
            return Credentials(
                {}, frozenset(), missing=f"{self._path} has no set {quoted_name} for {provider}, only {sets}."
            )
        unset: list[str] = []
        values = expand(entry.get(name, {}), self._environ, unset)
        if unset:
            return Credentials({}, frozenset(), missing=f"{self._path}, {provider}: set {' and '.join(unset)}.")
        if not fields and not oauth:
            return Credentials({}, frozenset(), "unauthorized")
        forms: list[tuple[CredentialType, Sequence[CredentialField]]] = [("api-key", fields), ("oauth2", oauth)]
        all_forms = [self.filled(type_, provider, form, values) for type_, form in forms if form]
        return next((credentials for credentials in all_forms if credentials.missing is None), all_forms[0])

    def is_set(self, plugin: str, provider: str, name: str) -> bool:
        """Whether the environment, or one of the provider's sets, has a value for a field."""
        values = (expand(entry.get(name), self._environ, []) for entry in self._sets(plugin, provider).values())
        return bool(self._environ.get(variable(provider, name))) or any(value not in (None, "") for value in values)

    def has_set(self, plugin: str, provider: str, name: str) -> bool:
        """Whether the file has a set of this name."""
        return name in self._sets(plugin, provider)

    def _sets(self, plugin: str, provider: str) -> Mapping[str, Mapping[str, Any]]:
        return self._providers.get(f"{plugin}/{provider}", self._providers.get(provider, {}))

    def filled(
        self,
        type_: CredentialType,
        provider: str,
        fields: Sequence[CredentialField],
        stored_values: Mapping[str, Value],
    ) -> Credentials:
        """The values of a form: those that are given, else those of the environment, else defaults."""
        values: dict[str, Value] = {}
        problems: list[str] = []
        unset: list[str] = []
        for credential in fields:
            if any(str(values.get(name, "")) != value for name, value in credential.show_on):
                continue
            name = variable(provider, credential.name)
            value: Value = stored_values.get(credential.name)
            if value in (None, ""):
                value = self._environ.get(name) or credential.default
            if value in (None, ""):
                if credential.required:
                    unset.append(name)
                continue
            try:
                values[credential.name] = _typed(credential, value)
            except ValueError as error:
                problems.append(f"{name} {error}.")
        if unset:
            problems.insert(0, f"The plugin's provider '{provider}' needs credentials: set {' and '.join(unset)}.")
        secrets = secrets_of(fields, values) if type_ == "api-key" else _texts(values.values())
        return Credentials(values, secrets, type_, " ".join(problems) or None)


def variable(provider: str, name: str) -> str:
    """The environment variable of a field: TAVILY_API_KEY for both `api_key` and `tavily_api_key` of tavily."""
    prefix, own = (text.replace("-", "_").replace(".", "_").upper() for text in (provider, name))
    return own if own.startswith(f"{prefix}_") else f"{prefix}_{own}"


def secrets_of(fields: Iterable[CredentialField], values: Mapping[str, Value]) -> frozenset[str]:
    """The texts among a form's values that must not be shown."""
    return _texts(values.get(credential.name) for credential in fields if credential.secret)


def _texts(values: Iterable[Value]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str) and value)


def _typed(form: CredentialField, value: Value) -> Value:
    """A value as the field's type wants it. ValueError, without the value, if it cannot be one."""
    match form.type:
        case "boolean":
            text = str(value).lower()
            if text not in _TRUE and text not in _FALSE:
                raise ValueError("must be true or false")
            return text in _TRUE
        case "select" | "radio":
            if form.options and str(value) not in form.options:
                raise ValueError(f"must be one of {', '.join(form.options)}")
            return str(value)
        case "text-input" | "secret-input" | "switch":
            return value if isinstance(value, str) else str(value)
        case "app-selector" if isinstance(value, str):
            return {"app_id": value}
        case _:
            return value


def _read(path: Path) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    providers: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for provider, content in read_yaml(path).items():
        sets = {str(name): values for name, values in mapping_of(content).items()}
        if not sets or any(not mapping_of(values) for values in sets.values()):
            raise HeadraceError(f"{path}: {provider} must have named sets, such as {DEFAULT_SET}, with fields in each")
        providers[provider] = sets
    return providers
