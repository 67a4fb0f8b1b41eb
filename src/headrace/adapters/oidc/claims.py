"""The claims of a token: whether it is valid here and now, and which principal it identifies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from headrace.adapters.oidc.token import Refused, brief
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.ids import canonical_id
from headrace.ports import WORKSPACE_NAME, Principal

PERMISSIONS = frozenset({"run", "read", "manage"})
EVERY_APP = "*"
_LONGEST_SUBJECT = 255  # characters; OpenID Connect allows no more
_LATEST = 2**53  # seconds since the epoch: beyond, numbers are not exact
_UNSUPPORTED = ("cnf", "events")  # claims of tokens that need further proof, or are not for authentication


@frozen
class OidcOptions:
    """The accepted issuer, and the meaning of claims.

    `issuer` is compared exactly, including a trailing slash. One of `audiences` must be in the token's `aud`. Claims
    are named by a path (`realm_access.roles`): `workspace_claim` (a text, or a list whose first item is used; "": every
    token is of `workspace`), `permission_claims` (texts of words, or lists) and `apps_claim` (ids of apps, `*` for all;
    "": every token may call all). `workspace` is for tokens without the claim; "" refuses them. `permissions` maps
    values, as `VALUE=run` or `VALUE=run+read`; every token has `default_permissions`. `leeway`: tolerated difference of
    clocks in seconds. `allow_http`: the issuer may be reached without TLS on other machines.
    """

    issuer: str
    audiences: Sequence[str]
    algorithms: Sequence[str]
    permission_claims: Sequence[str]
    permissions: Sequence[str]
    default_permissions: Sequence[str] = ()
    workspace_claim: str = ""
    workspace: str = ""
    apps_claim: str = ""
    leeway: float = 30
    allow_http: bool = False


class Claims:
    """Validates and maps claims. HeadraceError if the options are invalid."""

    def __init__(self, options: OidcOptions) -> None:
        if not options.audiences:
            raise HeadraceError("HEADRACE_OIDC_AUDIENCE: must be set to the audience of the issuer's tokens.")
        if not (options.workspace_claim or options.workspace):
            raise HeadraceError("HEADRACE_OIDC_WORKSPACE_CLAIM or HEADRACE_OIDC_WORKSPACE: one must be set.")
        self._options = options
        self._audiences = frozenset(options.audiences)
        self._meaning = _meaning(options.permissions)
        self._default = _permissions("HEADRACE_OIDC_DEFAULT_PERMISSIONS", options.default_permissions)

    def check(self, claims: Mapping[str, Any], now: float, audiences: frozenset[str] | None = None) -> float:
        """When a token with these claims expires (seconds since the epoch). Refused if it is not valid now, or not for
        one of these audiences, by default those of the options."""
        options = self._options
        if claims.get("iss") != options.issuer:
            raise Refused(f"its issuer is {brief(claims.get('iss'))}")
        if not (audiences or self._audiences).intersection(_audience(claims.get("aud"))):
            raise Refused(f"it is for {brief(claims.get('aud'))}")
        for name in _UNSUPPORTED:
            if name in claims:
                raise Refused(f"tokens with the claim {name} are not supported")
        expires = _time(claims, "exp")
        if expires is None:
            raise Refused("it does not say when it expires")
        if now >= expires + options.leeway:
            raise Refused(f"it expired {now - expires:.0f} seconds ago")
        for name in ("nbf", "iat"):
            begins = _time(claims, name)
            if begins is not None and now < begins - options.leeway:
                raise Refused(f"it is not valid yet: its {name} is {begins - now:.0f} seconds from now")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise Refused("it has no valid subject (sub)")
        return expires + options.leeway

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """The principal of valid claims. Refused if they have no valid workspace."""
        permissions = set(self._default)
        for path in self._options.permission_claims:
            for value in _values(_at(claims, path)):
                permissions |= self._meaning.get(value, frozenset())
        identity = f"{self._options.issuer}#{claims['sub']}"
        return Principal(identity, self._workspace(claims), frozenset(permissions), self._apps(claims))

    def _workspace(self, claims: Mapping[str, Any]) -> str:
        if not self._options.workspace_claim:
            return self._options.workspace
        value = _at(claims, self._options.workspace_claim)
        if isinstance(value, list):
            value = next(iter(cast("list[Any]", value)), None)
        if value is None and self._options.workspace:
            return self._options.workspace
        if not isinstance(value, str) or not re.fullmatch(WORKSPACE_NAME, value):
            raise Refused(f"its workspace ({self._options.workspace_claim}) is {brief(value)}")
        return value

    def _apps(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        if not self._options.apps_claim:
            return None
        app_ids = set(_values(_at(claims, self._options.apps_claim)))
        return None if EVERY_APP in app_ids else frozenset(id_ for app in app_ids if (id_ := canonical_id(app)))


def _audience(value: Any) -> Iterable[str]:
    audiences: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [audience for audience in audiences if isinstance(audience, str)]


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise Refused(f"its {name} is not a time: {brief(value)}")
    return value


def _at(claims: Any, path: str) -> Any:
    """The value at a path, whose names may contain dots, like URLs; None if there is none."""
    if not isinstance(claims, dict):
        return None
    inside = cast("dict[str, Any]", claims)
    if path in inside:
        return inside[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        if name in inside:
            return _at(inside[name], ".".join(parts[length:]))
    return None


def _values(value: Any) -> list[str]:
    """The texts in a list; for a text, itself and its words."""
    if isinstance(value, str):
        return [value, *value.split()]
    return [entry for entry in cast("list[Any]", value) if isinstance(entry, str)] if isinstance(value, list) else []


def _meaning(entries: Sequence[str]) -> dict[str, frozenset[str]]:
    """Parses `VALUE=run+read`; a value may occur more than once, and contain `=`."""
    meanings: dict[str, frozenset[str]] = {}
    for entry in entries:
        value, equals, names = (part.strip() for part in entry.rpartition("="))
        if not (equals and value):
            raise HeadraceError(f"HEADRACE_OIDC_PERMISSIONS: '{entry}' is not VALUE=PERMISSION.")
        permissions = _permissions("HEADRACE_OIDC_PERMISSIONS", names.split("+"))
        meanings[value] = meanings.get(value, frozenset()) | permissions
    return meanings


def _permissions(setting: str, names: Iterable[str]) -> frozenset[str]:
    permissions = frozenset(name.strip() for name in names)
    if unknown := permissions - PERMISSIONS:
        raise HeadraceError(f"{setting}: '{min(unknown)}' is none of run, read and manage.")
    return permissions
