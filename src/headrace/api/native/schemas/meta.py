"""The server: what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, described
from headrace.api.native.schemas.common import one_of


@described
class ServerMeta(TypedDict):
    """What the server is, and what it has."""

    version: str
    console: bool
    models: Annotated[str, one_of("demo", "configured")]
    """`demo`: models without credentials answer from the demo provider."""
    storage: str
    workers: int
    """Processes that drive runs, as far as this one knows."""
    features: list[str]
    limits: Mapping[str, int]
    """Bytes of a request's body and of a file; seconds that a run may take."""
    workspace: str
    """The caller's."""


META = Media(
    ServerMeta,
    {
        "version": "0.1.0",
        "console": True,
        "models": "configured",
        "storage": "sqlite",
        "workers": 1,
        "features": ["speech_to_text", "text_to_speech"],
        "limits": {"max_body": 10485760, "max_file": 15728640, "max_seconds": 1200},
        "workspace": "default",
    },
)
