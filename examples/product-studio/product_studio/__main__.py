"""python -m product_studio: serves the API and the page until Ctrl-C."""

from __future__ import annotations

import socket
import sys

import uvicorn

from product_studio import logs
from product_studio.app import create_app
from product_studio.settings import SettingsError, load


def main() -> int:
    try:
        settings = load()
    except SettingsError as error:
        print(f"Product Studio cannot start: {error}. See .env.example.", file=sys.stderr)
        return 2
    logs.configure(settings.log_levels, settings.environment)
    app = create_app(settings)
    # opened here, so that the address is known before the first request: the port may be 0
    try:
        listening = socket.create_server((settings.studio_host, settings.studio_port))
    except OSError as error:
        where = f"STUDIO_HOST {settings.studio_host}, STUDIO_PORT {settings.studio_port}"
        print(f"Product Studio cannot listen at {where}: {error.strerror}.", file=sys.stderr)
        return 2
    with listening:
        host, port = listening.getsockname()[:2]
        print(f"Product Studio is at http://{host}:{port}", flush=True)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
