"""Where the credentials of plugins come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.adapters.plugins.credentials import CredentialStore, variable
from headrace.adapters.plugins.declarations import CredentialField
from headrace.errors import HeadraceError

KEY = CredentialField("tavily_api_key", "secret-input", required=True)
UNITS = CredentialField("units", "select", options=["metric", "imperial"], default="metric")
PLUGIN = "langgenius/tavily"


def store(tmp_path: Path, text: str = "", **environ: str) -> CredentialStore:
    if not text:
        return CredentialStore(None, environ)
    file = tmp_path / "credentials.yaml"
    file.write_text(text)
    return CredentialStore(file, environ)


def test_names_of_variables():
    assert variable("tavily", "tavily_api_key") == variable("tavily", "api_key") == "TAVILY_API_KEY"
    assert variable("google-search", "serp.key") == "GOOGLE_SEARCH_SERP_KEY"


def test_from_the_environment_and_defaults(tmp_path: Path):
    credentials = store(tmp_path, TAVILY_API_KEY="tvly-1").of(PLUGIN, "tavily", [KEY, UNITS])
    assert credentials.values == {"tavily_api_key": "tvly-1", "units": "metric"}
    assert (credentials.secrets, credentials.type, credentials.missing) == ({"tvly-1"}, "api-key", None)
    assert "tvly-1" not in repr(credentials)


def test_the_file_goes_before_the_environment(tmp_path: Path):
    text = "tavily: {default: {tavily_api_key: one}, '7f3c': {tavily_api_key: '${SECOND}', units: imperial}}"
    credential_store = store(tmp_path, text, TAVILY_API_KEY="three", SECOND="two")
    assert credential_store.of(PLUGIN, "tavily", [KEY]).values == {"tavily_api_key": "one"}
    assert credential_store.of(PLUGIN, "tavily", [KEY], credentials_name="unknown").values == {"tavily_api_key": "one"}
    assert credential_store.of(PLUGIN, "tavily", [KEY, UNITS], credentials_name="7f3c").values["units"] == "imperial"
    assert credential_store.of(PLUGIN, "tavily", [KEY], credentials_name="7f3c").values == {"tavily_api_key": "two"}


def test_a_plugin_of_another_author_with_the_same_provider(tmp_path: Path):
    text = "tavily: {default: {tavily_api_key: one}}\nacme/tavily/tavily: {default: {tavily_api_key: two}}"
    credential_store = store(tmp_path, text)
    assert credential_store.of("acme/tavily", "tavily", [KEY]).values == {"tavily_api_key": "two"}
    assert credential_store.of(PLUGIN, "tavily", [KEY]).values == {"tavily_api_key": "one"}


def test_what_is_missing_is_named(tmp_path: Path):
    secret = CredentialField("secret", "secret-input", required=True)
    credentials = store(tmp_path).of(PLUGIN, "tavily", [KEY, secret])
    assert (
        credentials.missing == "The plugin's provider 'tavily' needs credentials: set TAVILY_API_KEY and TAVILY_SECRET."
    )


def test_a_set_that_the_file_lacks(tmp_path: Path):
    credential_store = store(tmp_path, "tavily: {a: {tavily_api_key: one}, b: {tavily_api_key: two}}")
    missing = credential_store.of(PLUGIN, "tavily", [KEY], credentials_name="c").missing
    assert missing == f"{tmp_path}/credentials.yaml has no set 'c' for tavily, only a, b."


def test_a_variable_of_the_file_that_is_not_set(tmp_path: Path):
    credentials = store(tmp_path, "tavily: {default: {tavily_api_key: '${NOT_SET}'}}").of(PLUGIN, "tavily", [KEY])
    assert credentials.missing == f"{tmp_path}/credentials.yaml, tavily: set NOT_SET."


def test_values_get_the_types_of_their_fields(tmp_path: Path):
    flag = CredentialField("verify", "boolean")
    credential_store = store(tmp_path, "tavily: {default: {port: 80}}", TAVILY_VERIFY="True")
    assert credential_store.of(PLUGIN, "tavily", [flag, CredentialField("port", "text-input")]).values == {
        "verify": True,
        "port": "80",
    }
    wrong = store(tmp_path, TAVILY_VERIFY="perhaps", TAVILY_UNITS="feet").of(PLUGIN, "tavily", [flag, UNITS])
    assert wrong.missing == "TAVILY_VERIFY must be true or false. TAVILY_UNITS must be one of metric, imperial."


def test_a_field_that_another_one_hides(tmp_path: Path):
    mode = CredentialField("mode", "radio", default="key", options=["key", "role"])
    role = CredentialField("role", "text-input", required=True, show_on=[("mode", "role")])
    assert store(tmp_path).of(PLUGIN, "aws", [mode, role]).missing is None
    missing = store(tmp_path, AWS_MODE="role").of(PLUGIN, "aws", [mode, role]).missing
    assert missing == "The plugin's provider 'aws' needs credentials: set AWS_ROLE."


def test_oauth(tmp_path: Path):
    token = CredentialField("access_token", "secret-input", required=True)
    credentials = store(tmp_path, GMAIL_ACCESS_TOKEN="ya29").of("langgenius/gmail", "gmail", [], [token])
    assert (credentials.type, credentials.values, credentials.secrets) == ("oauth2", {"access_token": "ya29"}, {"ya29"})
    either = store(tmp_path, GMAIL_ACCESS_TOKEN="ya29").of("langgenius/gmail", "gmail", [KEY], [token])
    assert either.type == "oauth2"


def test_a_provider_without_credentials(tmp_path: Path):
    credentials = store(tmp_path).of("langgenius/regex", "regex", [])
    assert (credentials.values, credentials.type, credentials.missing) == ({}, "unauthorized", None)


@pytest.mark.parametrize("text", ["tavily: {tavily_api_key: one}", "tavily: []", "tavily: {default: 1}"])
def test_a_malformed_file(tmp_path: Path, text: str):
    with pytest.raises(HeadraceError, match=re.escape("tavily must have named sets, such as default")):
        store(tmp_path, text)
