"""The API in this process, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.world import api_of, apps_of

_STORE = memory_storage()
APP: Any = api_of(apps_of(_STORE), _STORE)
DESCRIPTION: Mapping[str, Any] = document(APP.routes)
