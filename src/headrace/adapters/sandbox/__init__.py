"""Sandboxes for users' code: `open_sandbox` returns a `ports.services.Sandbox`.

Names are imported lazily, because the processes that run programs import this package, too, and need none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.adapters.sandbox.egress_proxy import EgressProxy
    from headrace.adapters.sandbox.local import LocalSandbox
    from headrace.adapters.sandbox.packages import Packages
    from headrace.adapters.sandbox.remote import RemoteSandbox

__all__ = ["EgressProxy", "LocalSandbox", "Packages", "RemoteSandbox", "open_sandbox"]

_MODULES = {"EgressProxy": "egress_proxy", "LocalSandbox": "local", "Packages": "packages", "RemoteSandbox": "remote"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def open_sandbox(url: str | None = None, key: str | None = None) -> LocalSandbox | RemoteSandbox:
    """The dify-sandbox service at `url`, else the sandbox of this machine. It does not start anything yet."""
    from headrace.adapters.sandbox.local import LocalSandbox
    from headrace.adapters.sandbox.remote import DEFAULT_KEY, RemoteSandbox

    return RemoteSandbox(url, key or DEFAULT_KEY) if url else LocalSandbox()
