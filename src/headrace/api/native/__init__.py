"""The asynchronous API: submit, poll, wait, call back, batch. A dialect of its own beside Dify's, under `/api/v1`.

Each subject has a class of `Routes`, and a module of `schemas` with their JSON.
"""

from __future__ import annotations

from headrace.api.native.services import NativeServices

__all__ = ["HEADERS", "PREFIXES", "NativeServices"]

PREFIXES = ("/api/v1", "/api")
"""The paths of the dialect; all but the first are undocumented aliases."""

HEADERS = {"Headrace-API-Version": "1"}
"""Sent with every response of the dialect, errors included."""
