"""Whom a token stands for: its claims, turned into a workspace, permissions and apps."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from headrace.adapters.oidc import OidcIdentity, OidcOptions
from headrace.errors import HeadraceError
from headrace.factories import identity_of
from headrace.ports import Principal
from headrace.settings import Settings
from tests.oidc.issuing import AUDIENCE, Signer, authenticate, identifying, issuing, options

SIGNER = Signer()
APP, OTHER = "5b1e3f0a-7f3d-4a51-9d46-0f5f3b8f7c11", "0d6f7a42-52ad-4e0e-8b7e-0a8e6a9a5b22"


async def principal(claims: dict[str, Any], **more: Any) -> Principal | None:
    """Whom a token with these claims beside the usual ones stands for; None: it is refused."""
    async with issuing(SIGNER) as issuer, identifying(issuer.url, **more) as identity:
        caller = await authenticate(identity, SIGNER.token({**issuer.claims(scope=None), **claims}))
        return caller if isinstance(caller, Principal) else None


@pytest.mark.parametrize(
    ("claims", "permissions"),
    [
        ({}, ""),
        ({"scope": "openid headrace.run  headrace.read"}, "run read"),
        ({"scope": "headrace.runs HEADRACE.RUN headrace"}, ""),
        ({"scope": ["headrace.run"]}, "run"),
        ({"roles": ["admins", "headrace.read"]}, "manage read"),
        ({"roles": "admins"}, "manage"),
        ({"roles": [["admins"], {"admins": 1}, 7, None]}, ""),
        ({"roles": {"admins": True}}, ""),
        ({"roles": ["headrace.run headrace.read"]}, ""),
        ({"realm_access": {"roles": ["admins"]}}, "manage"),
        ({"realm_access.roles": ["admins"]}, "manage"),
        ({"realm_access": ["roles"]}, ""),
        ({"realm_access": None}, ""),
        ({"groups": ["admins"]}, ""),
        (
            {"scope": "headrace.run", "roles": ["admins"], "realm_access": {"roles": ["headrace.read"]}},
            "run read manage",
        ),
    ],
)
async def test_permissions_come_from_what_values_mean(claims: dict[str, Any], permissions: str):
    caller = await principal(claims)
    assert caller is not None
    assert caller.permissions == set(permissions.split())


async def test_a_value_may_mean_several_and_have_any_form():
    meaning = ["https://x.example/run=it=run", "Flow Admins=run+read+manage", "twice=run", "twice=read"]
    for value, permissions in (
        ("https://x.example/run=it", {"run"}),
        ("Flow Admins", {"run", "read", "manage"}),
        ("twice", {"run", "read"}),
    ):
        for received in (value, [value]):
            caller = await principal({"roles": received}, permissions=meaning)
            assert caller is not None
            assert caller.permissions == permissions


async def test_every_token_may_have_the_default_permissions():
    for claims, permissions in (({}, {"read"}), ({"scope": "headrace.run"}, {"read", "run"})):
        caller = await principal(claims, default_permissions=["read"])
        assert caller is not None
        assert caller.permissions == permissions


@pytest.mark.parametrize(
    ("claims", "workspace"),
    [
        ({"team": "blue"}, "blue"),
        ({"team": ["blue", "red"]}, "blue"),
        ({"team": "0f9d-a.b_c"}, "0f9d-a.b_c"),
        ({}, None),
        ({"team": None}, None),
        ({"team": ""}, None),
        ({"team": []}, None),
        ({"team": [["blue"]]}, None),
        ({"team": 7}, None),
        ({"team": "/blue"}, None),
        ({"team": "blue\n"}, None),
        ({"team": "bl ue"}, None),
        ({"team": "ｂｌｕｅ"}, None),
        ({"team": "x" * 101}, None),
        ({"team": {"blue": 1}}, None),
    ],
)
async def test_a_claim_names_the_workspace(claims: dict[str, Any], workspace: str | None):
    caller = await principal(claims, workspace_claim="team", workspace="")
    assert (caller and caller.workspace) == workspace


async def test_a_token_that_names_no_workspace_is_of_the_one_that_is_set():
    for claims, workspace in (({}, "acme"), ({"team": []}, "acme"), ({"team": "blue"}, "blue"), ({"team": 7}, None)):
        caller = await principal(claims, workspace_claim="team", workspace="acme")
        assert (caller and caller.workspace) == workspace
    named = {"https://x.example/team": "red", "my.client": {"team": {"name": "green"}}}
    for path, workspace in (("https://x.example/team", "red"), ("my.client.team.name", "green"), ("my.team", None)):
        caller = await principal(named, workspace_claim=path, workspace="")
        assert (caller and caller.workspace) == workspace


@pytest.mark.parametrize(
    ("claim", "apps"),
    [
        (None, set()),
        ([], set()),
        ("*", None),
        ([APP, "*"], None),
        (APP, {APP}),
        (f"{APP} {OTHER}", {APP, OTHER}),
        ([APP.upper(), OTHER], {APP, OTHER}),
        ([APP, "no app", 7, "\ud800", "../x"], {APP}),
        ({APP: 1}, set()),
    ],
)
async def test_a_claim_names_the_apps(claim: Any, apps: set[str] | None):
    caller = await principal({"apps": claim}, apps_claim="apps")
    assert caller is not None
    assert caller.apps == apps


async def test_without_such_a_claim_all_apps_are_open():
    caller = await principal({"apps": [APP]})
    assert caller is not None
    assert caller.apps is None


# ------------------------------------------------------------------------------------------------------------- settings


def settings(**more: Any) -> Settings:
    return Settings(**{"oidc_issuer": "https://id.example.com/", "oidc_audience": AUDIENCE, **more})


@pytest.mark.parametrize(
    "issuer",
    [
        "https://id.example.com",
        "https://id.example.com/realms/main",
        "https://tenant.eu.auth0.com/",
        "http://localhost:9400",
        "http://127.0.0.1:9400",
        "http://[::1]:9400",
    ],
)
def test_what_an_issuer_can_be(issuer: str):
    assert identity_of(settings(oidc_issuer=issuer)) is not None


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"oidc_audience": ""}, "HEADRACE_OIDC_AUDIENCE: must be set"),
        ({"oidc_issuer": "http://id.example.com"}, "HEADRACE_OIDC_ISSUER: must begin with https://"),
        ({"oidc_issuer": "http://localhost.example.com"}, "HEADRACE_OIDC_ISSUER: must begin with https://"),
        ({"oidc_issuer": "id.example.com"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://id.example.com?x=1"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://id.example.com#x"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://me:secret@id.example.com"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://id.example.com/a b"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://[::1"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_issuer": "https://id.example.com:99999"}, "HEADRACE_OIDC_ISSUER: must be a URL"),
        ({"oidc_algorithms": ""}, "HEADRACE_OIDC_ALGORITHMS: name some of RS256"),
        ({"oidc_algorithms": "RS256,none"}, "HEADRACE_OIDC_ALGORITHMS: name some of RS256"),
        ({"oidc_algorithms": "HS256"}, "HEADRACE_OIDC_ALGORITHMS: name some of RS256"),
        ({"oidc_permissions": "admins"}, "HEADRACE_OIDC_PERMISSIONS: 'admins' is not VALUE=PERMISSION"),
        ({"oidc_permissions": "=run"}, "HEADRACE_OIDC_PERMISSIONS: '=run' is not VALUE=PERMISSION"),
        ({"oidc_permissions": "admins=fly"}, "HEADRACE_OIDC_PERMISSIONS: 'fly' is none of run, read and manage"),
        ({"oidc_permissions": "admins="}, "HEADRACE_OIDC_PERMISSIONS: '' is none of run, read and manage"),
        ({"oidc_default_permissions": "all"}, "HEADRACE_OIDC_DEFAULT_PERMISSIONS: 'all' is none of"),
    ],
)
def test_settings_that_make_no_sense_are_reported_at_the_start(changed: dict[str, Any], problem: str):
    with pytest.raises(HeadraceError) as error:
        identity_of(settings(**changed))
    assert problem in str(error.value)
    assert "secret" not in str(error.value)


def test_an_issuer_may_be_reached_unencrypted_where_that_is_wanted():
    assert identity_of(settings(oidc_issuer="http://id.example.com", oidc_allow_http=True)) is not None


def test_without_an_issuer_there_is_no_single_sign_on():
    assert identity_of(settings(oidc_issuer="", oidc_audience="")) is None


def test_a_token_must_be_of_some_workspace():
    nowhere: OidcOptions = options("https://id.example.com", workspace="")
    with pytest.raises(HeadraceError, match="one must be set"):
        OidcIdentity(nowhere)


@pytest.mark.parametrize("missing", ["jwt.api_jwk", "cryptography"])
def test_what_is_not_installed_is_reported_at_the_start(missing: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(HeadraceError, match=r'pip install "headrace\[oidc\]"'):
        identity_of(settings())
