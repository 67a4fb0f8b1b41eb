"""Whether the console is served, and what signs people in to it."""

from __future__ import annotations

from headrace.access.console import ConsoleAccess
from headrace.adapters.urls import is_loopback
from headrace.factories import secret_of
from headrace.settings import Settings


async def console_access(settings: Settings) -> ConsoleAccess:
    """Signs people in, without a running service."""
    return ConsoleAccess(await secret_of(settings), settings.workspace)


def console_refusal(settings: Settings) -> str:
    """Why the console is not served, unless it was switched off; "" where it is."""
    private = is_loopback(settings.host) or settings.tls_certificate or settings.public_url.startswith("https:")
    if settings.console != "auto" or private or (settings.oidc_issuer and settings.oidc_client_id):
        return ""
    return (
        f"The console is not served on {settings.host}, because other machines could reach it, without TLS or single "
        "sign-on. With HEADRACE_CONSOLE=on it is served all the same."
    )
