"""Which issuer's tokens `/mcp` accepts (RFC 9728), so that clients can let people sign in there. Only with single
sign-on: without it there are keys alone, which people give to clients by hand."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import ApiOptions
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes

PATH = "/.well-known/oauth-protected-resource/mcp"


class AuthorizationRoutes(Routes):
    """The metadata of `/mcp` as a protected resource, at `PATH`."""

    tag = "MCP"

    @Operation("GET", "")
    async def metadata(self, request: Request) -> Response:
        """The issuer that gives out tokens for `/mcp`."""
        options = self.api.options
        body = {
            "resource": f"{_base_url(request, options)}/mcp",
            "resource_name": "Headrace",
            "authorization_servers": [options.issuer],
            "bearer_methods_supported": ["header"],
        }
        return json_response(body)


def challenge(request: Request, options: ApiOptions) -> Mapping[str, str]:
    """The headers of a response to a request without valid credentials, if there is an issuer."""
    if not options.issuer:
        return {}
    return {"WWW-Authenticate": f'Bearer realm="api", resource_metadata="{_base_url(request, options)}{PATH}"'}


def _base_url(request: Request, options: ApiOptions) -> str:
    return (options.public_url or str(request.base_url)).rstrip("/")
