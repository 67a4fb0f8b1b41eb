"""An app whose version loaded once, and does not any more."""

from __future__ import annotations

from dataclasses import replace

from headrace.apps.catalog import Apps
from tests.api.serving import Serving, workflow


async def test_it_is_unavailable_and_says_so(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    known = app.release.version
    vars(server.store.catalog)["_versions"][known.id] = replace(known, content="nonsense: [")  # pyright: ignore[reportPrivateUsage]
    server.apps.__dict__.update(
        Apps(server.store.catalog, server.apps.registry, b"s" * 32).__dict__
    )  # as after a restart
    status, body = await app.call("GET", "/v1/info")
    assert (status, body["code"]) == (400, "app_unavailable")
