"""Vertex AI's addresses and credentials.

The credentials are a service account's key, or those that Google's own tools find (application default credentials: a
file, a workload identity, the machine's account). google-auth (the extra `vertex`) turns them into access tokens.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from headrace.adapters.models.endpoint import NOT_INITIALIZED, Endpoint, Provider, first_set
from headrace.adapters.models.failures import AUTHORIZATION, CONNECTION, Failure
from headrace.adapters.urls import is_base_url
from headrace.errors import NodeError

VERTEX_AI = Provider("vertex_ai")

_KEY = "VERTEX_SERVICE_ACCOUNT_KEY"
_DEFAULT = "GOOGLE_APPLICATION_CREDENTIALS"
_PROJECTS = ("VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
_LOCATIONS = ("VERTEX_LOCATION", "GOOGLE_CLOUD_LOCATION")
_ADDRESS = "GOOGLE_VERTEX_BASE_URL"
_LOCATION = re.compile(r"[a-z][a-z0-9-]*")
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_SECONDS = 30  # for a token
# Models that only the global endpoint has, as Dify's plugin lists them
_GLOBAL = (
    "gemini-2.5-computer-use-preview-10-2025,gemini-2.5-flash-lite-preview-06-17,gemini-2.5-flash-lite-preview-09-2025,"
    "gemini-2.5-flash-preview-09-2025,gemini-2.5-pro-preview-06-05,gemini-3-flash-preview,gemini-3-pro-preview,"
    "gemini-3.1-flash-lite-preview,gemini-3.1-pro-preview,gemini-3.1-flash-image-preview,gemini-3.5-flash,"
    "gemini-3.5-flash-lite"
)


def is_configured(environ: Mapping[str, str]) -> bool:
    """Whether anything is set for Vertex AI. The credentials of the machine itself need no variable."""
    return bool(first_set(environ, (_KEY, _DEFAULT, *_PROJECTS))[1])


def resolve(environ: Mapping[str, str]) -> Endpoint:
    """Vertex AI's endpoint; without `GOOGLE_VERTEX_BASE_URL` its address depends on the location. NodeError with kind
    ProviderTokenNotInitError, which names what is missing or malformed."""
    key = _service_account(environ)
    if not project_of(environ):
        raise _not_initialized(f"model provider 'vertex_ai' is not configured. Set {_PROJECTS[0]} in the environment.")
    for model in ("", "claude"):
        location_of(environ, model)
    if not _is_installed():
        raise _not_initialized("model provider 'vertex_ai' needs an extra: pip install \"headrace[vertex]\"")
    base = environ.get(_ADDRESS, "").strip().rstrip("/")
    if base and not is_base_url(base):
        raise NodeError(f"{_ADDRESS} is not a valid base URL, such as https://example.com.", NOT_INITIALIZED)
    secrets = (environ.get(_KEY, "").strip(), str(key.get("private_key", "")))
    return Endpoint(VERTEX_AI, base, {}, tuple(secret for secret in secrets if secret), protocol="vertex")


def project_of(environ: Mapping[str, str]) -> str:
    return first_set(environ, _PROJECTS)[1] or str(_service_account(environ).get("project_id", ""))


def location_of(environ: Mapping[str, str], model: str) -> str:
    """The location of a model: the one that is set for its publisher, or for all; `global` without any."""
    names = ("VERTEX_ANTHROPIC_LOCATION", *_LOCATIONS) if "claude" in model else _LOCATIONS
    name, location = first_set(environ, names)
    if location and not _LOCATION.fullmatch(location):
        raise NodeError(f"{name} is not a location, such as us-central1 or global.", NOT_INITIALIZED)
    only_global = environ.get("VERTEX_GLOBAL_MODELS", "").strip() or _GLOBAL
    return location if location and model not in map(str.strip, only_global.split(",")) else "global"


def address_of(endpoint: Endpoint, location: str) -> str:
    match location:
        case _ if endpoint.base_url:
            return endpoint.base_url
        case "global":
            return "https://aiplatform.googleapis.com"
        case "us" | "eu":
            return f"https://aiplatform.{location}.rep.googleapis.com"
        case _:
            return f"https://{location}-aiplatform.googleapis.com"


class AccessTokens:
    """Access tokens, each used for as long as it is valid (an hour)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._credentials: Any = None
        self._lock = asyncio.Lock()

    async def current(self) -> str:
        """NodeError if there are no credentials; Failure if no token can be had for them."""
        async with self._lock:
            credentials = self._credentials
            if credentials is None or not credentials.valid:
                credentials = await asyncio.to_thread(self._refreshed)  # reads files and calls a service
            return str(credentials.token)

    def discard(self, token: str) -> None:
        """Takes a token out of use before its time: it was revoked."""
        if self._credentials is not None and self._credentials.token == token:
            self._credentials.token = None

    def _refreshed(self) -> Any:
        errors = _module("auth.exceptions")
        try:
            if self._credentials is None:
                self._credentials = _load(self._environ)
            request = functools.partial(_module("auth.transport.requests").Request(), timeout=_SECONDS)
            self._credentials.refresh(request)
            return self._credentials
        except errors.TransportError as error:
            raise Failure(f"vertex_ai: no access token: {error}", CONNECTION, retry=True) from error
        except errors.RefreshError as error:
            message = f"vertex_ai: the credentials are refused: {error.args[0] if error.args else error}"
            raise Failure(message, AUTHORIZATION, retry=bool(error.retryable)) from error
        except (errors.GoogleAuthError, ValueError) as error:
            raise NodeError(f"vertex_ai: there are no usable credentials: {error}", NOT_INITIALIZED) from error


def _load(environ: Mapping[str, str]) -> Any:
    if info := _service_account(environ):
        return _module("oauth2.service_account").Credentials.from_service_account_info(info, scopes=_SCOPES)
    return _module("auth").default(scopes=_SCOPES)[0]


def _service_account(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The service account's key, JSON or (as Dify stores it) that in base64; empty if it is not set."""
    text = environ.get(_KEY, "").strip()
    if not text:
        return {}
    try:
        key: Any = json.loads(text if text.startswith("{") else base64.b64decode(text, validate=True))
    except (ValueError, RecursionError):
        key = None
    if not isinstance(key, dict) or not {"client_email", "private_key", "token_uri"} <= key.keys():
        raise NodeError(f"{_KEY} is not the JSON key of a service account, or that in base64.", NOT_INITIALIZED)
    return cast("Mapping[str, Any]", key)


def _is_installed() -> bool:
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:  # no package of Google's is
        return False


def _module(name: str) -> Any:
    return cast("Any", import_module(f"google.{name}"))


def _not_initialized(message: str) -> NodeError:
    return NodeError(f"provider_not_initialize: {message}", NOT_INITIALIZED)
