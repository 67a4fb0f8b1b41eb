"""Checks whether the Headrace of this container accepts requests: exits with 0, or with 1 and the reason.

If clients must present a certificate (HEADRACE_TLS_CLIENT_CA), this check has none, and only tests that the port is
open. Needs only Python.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys

SECONDS = 4.0


def main() -> str | None:
    """The problem, or None."""
    port = int(os.environ.get("HEADRACE_PORT", "8040"))
    host = os.environ.get("HEADRACE_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    secure = bool(os.environ.get("HEADRACE_TLS_CERTIFICATE"))
    required = os.environ.get("HEADRACE_TLS_CLIENT_REQUIRED", "true").lower() in ("1", "true", "yes", "on", "t", "y")
    try:
        if secure and os.environ.get("HEADRACE_TLS_CLIENT_CA") and required:
            socket.create_connection((host, port), SECONDS).close()
            return None
        if secure:
            # the certificate is for the public host, not for this one
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"no response from {host}:{port}: {error}"
    return None if status == 200 else f"{host}:{port} responds with {status}"


if __name__ == "__main__":
    sys.exit(main())
