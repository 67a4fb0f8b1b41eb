"""Whether the Headrace of this container takes requests: exit 0, or 1 and why. Needs nothing but Python.

Where callers must show a certificate (HEADRACE_TLS_CLIENT_CA) it has none to show, and is content if somebody listens.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys

SECONDS = 4.0


def main() -> str | None:
    """What is wrong; None where nothing is."""
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
            # it names the public host, not this one
            anybody = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=anybody)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {host}:{port}: {error}"
    return None if status == 200 else f"{host}:{port} answers {status}"


if __name__ == "__main__":
    sys.exit(main())
