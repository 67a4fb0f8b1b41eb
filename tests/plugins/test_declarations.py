"""Plugins' identifiers, manifests and declarations, as far as real packages differ from each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.plugins.declarations import CredentialField, Declarations
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.manifest import Manifest
from headrace.errors import HeadraceError
from headrace.ports.services import ToolParameter
from tests.plugins.building import MANIFEST, PROVIDER, TOOL, files, write

SUM = "a0" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"langgenius/tavily:0.1.2@{SUM}", PluginId("langgenius", "tavily", "0.1.2", SUM)),
        (f"langgenius/tavily:0.1.2@{SUM.upper()}", PluginId("langgenius", "tavily", "0.1.2", SUM)),
        ("langgenius/tavily:0.1.2", PluginId("langgenius", "tavily", "0.1.2")),
        ("langgenius/tavily@0.1.2", PluginId("langgenius", "tavily", "0.1.2")),
        (" acme/x_y-z ", PluginId("acme", "x_y-z")),
        ("acme/x:1.0.0-beta", PluginId("acme", "x", "1.0.0-beta")),
        ("tavily", PluginId("langgenius", "tavily")),
    ],
)
def test_identifiers(text: str, expected: PluginId):
    assert PluginId.parse(text) == expected
    assert PluginId.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "a/b/c", "../x", "acme/x:one", "acme/x:0.1.2@xyz", "acme/x:0.1.2@" + "a" * 65, "ä/x", "acme/x:١.٢"]
)
def test_what_is_not_an_identifier(text: str):
    assert PluginId.match(text) is None
    with pytest.raises(HeadraceError, match=r"is not a valid plugin; expected AUTHOR/NAME"):
        PluginId.parse(text)


def test_the_order_of_versions():
    versions = ["0.9.1", "0.10.0-beta", "0.10.0", "0.10.0.1", "1.0.0"]
    ids = [PluginId("acme", "x", version) for version in reversed(versions)]
    assert [id_.version for id_ in sorted(ids, key=lambda id_: id_.precedence)] == versions


def test_a_manifest(tmp_path: Path):
    manifest = Manifest.read(write(tmp_path, files()))
    assert manifest.id(SUM) == PluginId("acme", "weather", "0.1.2", SUM)
    assert (manifest.label, manifest.description) == ("Weather", "The weather of today")
    assert str(manifest.permissions) == "model.llm, storage (4096 bytes)"
    assert (manifest.entrypoint, manifest.minimum_dify_version) == ("main", "1.1.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "bundle"}, "describes a 'bundle', not a plugin"),
        ({"version": None}, "author 'acme', name 'weather' or version '' is not valid"),
        ({"name": "../../etc"}, "name '../../etc'"),
        ({"author": ["x"]}, "author ''"),
    ],
)
def test_what_is_not_a_manifest(change: dict[str, Any], message: str):
    with pytest.raises(HeadraceError, match=re.escape(message)):
        Manifest.of({**MANIFEST, **change})


def test_a_manifest_with_parts_of_wrong_types():
    manifest = Manifest.of({**MANIFEST, "resource": "much", "meta": None, "plugins": {"tools": "x", "models": [1]}})
    assert str(manifest.permissions) == "none"
    assert (manifest.entrypoint, manifest.files["models"]) == ("main", [])


def declared(tmp_path: Path, plugins: dict[str, Any], **more: Any) -> Declarations:
    folder = write(tmp_path, files({"plugins": plugins}, **more))
    return Declarations(folder, Manifest.read(folder))


def test_tools(tmp_path: Path):
    provider = declared(tmp_path, {"tools": ["provider/weather.yaml"]}).tools["weather"]
    assert provider.credentials == (
        CredentialField("weather_api_key", "secret-input", True, label="Key", url="https://x.test"),
        CredentialField("units", "select", default="metric", options=("metric", "imperial")),
    )
    tool = provider.tools["today"]
    assert (tool.spec.label, tool.spec.description, tool.dynamic) == ("Today", "For the model", False)
    assert tool.spec.output_schema == TOOL["output_schema"]
    assert tool.spec.parameters == (
        ToolParameter("city", required=True, description="A city"),
        ToolParameter("day", "string", label="Day"),
        ToolParameter("days", "select", "form", default=1, options=("1", "7")),
        ToolParameter("odd", "any", "form"),
    )


def test_a_tool_whose_parameters_only_its_program_knows(tmp_path: Path):
    source = b"class Today:\n    def _get_runtime_parameters(self): ...\n"
    declarations = declared(tmp_path, {"tools": ["provider/weather.yaml"]}, **{"tools/today.py": source})
    assert declarations.tools["weather"].tools["today"].dynamic


def test_a_tool_within_its_provider_and_credentials_as_a_list(tmp_path: Path):
    provider = {**PROVIDER, "tools": [TOOL], "credentials_for_provider": [{"name": "key", "type": "secret-input"}]}
    own = declared(tmp_path, {"tools": ["provider/weather.yaml"]}, **{"provider/weather.yaml": provider}).tools[
        "weather"
    ]
    assert list(own.tools) == ["today"]
    assert own.credentials == (CredentialField("key", "secret-input"),)


def test_models(tmp_path: Path):
    provider = {
        "provider": "acme",
        "label": {"en_US": "Acme"},
        "supported_model_types": ["llm"],
        "configurate_methods": ["predefined-model"],
        "provider_credential_schema": {
            "credential_form_schemas": [
                {"variable": "mode", "type": "radio", "options": [{"value": "a"}]},
                {"variable": "key", "type": "secret-input", "show_on": [{"variable": "mode", "value": "a"}]},
            ]
        },
        "models": {"llm": {"predefined": ["models/llm/*.yaml"], "position": "models/llm/_position.yaml"}},
    }
    model = {
        "model": "a-1",
        "model_type": "llm",
        "features": ["vision"],
        "model_properties": {"mode": "chat", "context_size": 8000},
        "parameter_rules": [{"name": "temperature", "use_template": "temperature"}],
        "pricing": {"input": "0.1", "unit": "0.000001"},
    }
    more = {"acme.yaml": provider, "models/llm/a.yaml": model, "models/llm/_position.yaml": ["a-1"]}
    own = declared(tmp_path, {"models": ["acme.yaml"]}, **more).models["acme"]
    assert own.credentials[1].show_on == (("mode", "a"),)
    [declaration] = own.models
    assert (declaration.name, declaration.features, declaration.deprecated) == ("a-1", {"vision"}, False)
    assert declaration.properties["context_size"] == 8000


def test_strategies_datasources_triggers_and_endpoints(tmp_path: Path):
    identity = {"identity": {"name": "acme", "label": {"en_US": "Acme"}}}
    item = {"identity": {"name": "one"}, "description": {"en_US": "One"}, "features": ["history-messages"]}
    key = {"name": "key", "type": "secret-input"}
    constructor = {"credentials_schema": {"token": {"type": "secret-input"}}, "parameters": [{"name": "repository"}]}
    more = {
        "agent.yaml": {**identity, "strategies": ["one.yaml"]},
        "source.yaml": {
            **identity,
            "provider_type": "website_crawl",
            "credentials_schema": [key],
            "datasources": [item],
        },
        "trigger.yaml": {
            **identity,
            "events": [item],
            "subscription_schema": [{"name": "secret", "type": "secret-input"}],
            "subscription_constructor": constructor,
        },
        "endpoints.yaml": {"settings": [key], "endpoints": ["end.yaml"]},
        "end.yaml": {"path": "/x/<id>", "method": "get"},
        "one.yaml": item,
    }
    plugins = {
        "agent_strategies": ["agent.yaml"],
        "datasources": ["source.yaml"],
        "triggers": ["trigger.yaml"],
        "endpoints": ["endpoints.yaml"],
    }
    declarations = declared(tmp_path, plugins, **more)
    assert [provider.kind for provider in declarations.providers] == ["agent_strategies", "datasources", "triggers"]
    strategy = declarations.agent_strategies["acme"].tools["one"]
    assert (strategy.spec.description, strategy.features) == ("One", ["history-messages"])
    assert declarations.datasources["acme"].type == "website_crawl"
    trigger = declarations.triggers["acme"]
    assert [credential.name for credential in (*trigger.credentials, *trigger.subscription)] == ["token", "secret"]
    assert trigger.subscription_parameters[0].name == "repository"
    [endpoints] = declarations.endpoints
    assert (endpoints.settings[0].name, endpoints.endpoints[0].method) == ("key", "GET")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"provider/weather.yaml": None}, "provider/weather.yaml cannot be read: No such file"),
        ({"provider/weather.yaml": b"a: ["}, "provider/weather.yaml is not valid YAML"),
        ({"provider/weather.yaml": b"- 1"}, "provider/weather.yaml does not contain an object"),
        ({"provider/weather.yaml": {"identity": {}}}, "identity.name is missing"),
        ({"provider/weather.yaml": {**PROVIDER, "tools": ["../../x.yaml"]}}, "'../../x.yaml' is outside"),
        ({"tools/today.yaml": {}}, "a tool has no identity.name"),
    ],
)
def test_files_that_are_missing_or_malformed(tmp_path: Path, more: dict[str, Any], message: str):
    with pytest.raises(HeadraceError, match=re.escape(message)):
        _ = declared(tmp_path, {"tools": ["provider/weather.yaml"]}, **more).tools
